//! Curves of many points, thinned out to what a drawing can show.

/// x, which rises along a curve, and y.
pub(super) type Point = (f64, f64);

/// The lowest and the highest point of each of so many columns, in their order; all points where they are not more than that.
pub(super) fn extremes(points: &[Point], columns: usize) -> Vec<Point> {
    if points.len() <= 2 * columns {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(2 * columns);
    for column in by_column(points, columns) {
        let pick =
            |better: fn(f64, f64) -> bool| (1..column.len()).fold(0, |best, i| if better(column[i].1, column[best].1) { i } else { best });
        let (low, high) = (pick(|new, best| new < best), pick(|new, best| new > best));
        kept.push(column[low.min(high)]);
        if low != high {
            kept.push(column[low.max(high)]);
        }
    }
    kept
}

/// The moving mean over about `share` of all points, as many on either side as there are, at one point of each of so many columns.
pub(super) fn smooth(points: &[Point], columns: usize, share: f64) -> Vec<Point> {
    let reach = (points.len() as f64 * share / 2.0).round() as usize;
    let mut sums = vec![0.0];
    for (_, y) in points {
        sums.push(sums[sums.len() - 1] + y);
    }
    let mean = |at: usize| {
        let (start, end) = (at.saturating_sub(reach), points.len().min(at + reach + 1));
        (points[at].0, (sums[end] - sums[start]) / (end - start) as f64)
    };
    let every = points.len().div_ceil(columns.max(1)).max(1);
    let last = points.len().checked_sub(1).filter(|last| !last.is_multiple_of(every));
    (0..points.len()).step_by(every).chain(last).map(mean).collect()
}

/// Runs of points that fall into the same of so many columns of equal width.
fn by_column(points: &[Point], columns: usize) -> impl Iterator<Item = &[Point]> {
    let (start, end) = (points.first().map_or(0.0, |p| p.0), points.last().map_or(0.0, |p| p.0));
    let width = ((end - start) / columns.max(1) as f64).max(f64::MIN_POSITIVE);
    let column = move |point: &Point| (((point.0 - start) / width) as usize).min(columns.saturating_sub(1));
    points.chunk_by(move |a, b| column(a) == column(b))
}

/// The values below and above which a share `outside` of all lies; `None` where there are none.
pub(super) fn bulk(values: impl Iterator<Item = f64>, outside: f64) -> Option<(f64, f64)> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let at = |share: f64| sorted[(share * last as f64).round() as usize];
    Some((at(outside), at(1.0 - outside)))
}
