//! Sixteen rows side by side: panels, and the way to them from rows and back.

use crate::backend::Real;
use crate::backend::host::simd::{Isa, dispatch};
pub use crate::backend::host::vectors::ROWS;

/// Entry t holds element t of sixteen rows.
pub type Panel<E> = [[E; ROWS]];

/// Entries that go through several steps before the next ones do: a few panels of them fit in the nearest cache.
pub const CHUNK: usize = 64;

/// One value a lane, for `CHUNK` entries. Loops over panels run over flat slices beside such a table: the compiler turns a loop over
/// sixteen lanes inside one over entries inside out, and gathers.
pub fn repeated<E: Real>(lanes: [E; ROWS]) -> Vec<E> {
    vec![lanes; CHUNK].into_flattened()
}

/// The sums of every lane of a table.
pub fn fold<E: Real>(table: &[E]) -> [f64; ROWS] {
    let mut sums = [0.0; ROWS];
    for lanes in table.as_chunks::<ROWS>().0 {
        sums.iter_mut().zip(lanes).for_each(|(sum, v)| *sum += v.f64());
    }
    sums
}

/// A slice as a panel.
pub fn panel<E>(values: &[E]) -> &Panel<E> {
    values.as_chunks().0
}

/// A slice as a panel, mutable.
pub fn panel_mut<E>(values: &mut [E]) -> &mut Panel<E> {
    values.as_chunks_mut().0
}

/// Elements `start..start + count` of rows of `length`, at most sixteen, one after another, to a panel of at least `count` entries;
/// lanes without a row, and entries from `count` on, are zero.
pub fn gather<E: Real>(rows: &[E], length: usize, start: usize, count: usize, panel: &mut Panel<E>) {
    gather_lanes(rows, length, start, count, panel);
}

/// A panel to elements `start..` of as many rows of `length` as `rows` holds.
pub fn scatter<E: Real>(panel: &Panel<E>, length: usize, start: usize, rows: &mut [E]) {
    scatter_lanes(panel, length, start, rows);
}

dispatch! { fn gather_lanes<E: Real>(rows: &[E], length: usize, start: usize, count: usize, panel: &mut Panel<E>) = gather_body; }
dispatch! { fn scatter_lanes<E: Real>(panel: &Panel<E>, length: usize, start: usize, rows: &mut [E]) = scatter_body; }

#[inline(always)]
fn gather_body<I: Isa, E: Real>(rows: &[E], length: usize, start: usize, count: usize, panel: &mut Panel<E>) {
    let (body, tail) = panel.split_at_mut(count);
    tail.fill([E::zero(); ROWS]);
    let whole = if rows.len() == ROWS * length { count / ROWS * ROWS } else { 0 };
    for (block, t) in body[..whole].as_chunks_mut::<ROWS>().0.iter_mut().zip((start..).step_by(ROWS)) {
        for (row, values) in block.iter_mut().enumerate() {
            values.copy_from_slice(&rows[row * length + t..][..ROWS]);
        }
        E::transpose(block);
    }
    for (t, lanes) in body.iter_mut().enumerate().skip(whole) {
        for (row, lane) in lanes.iter_mut().enumerate() {
            *lane = rows.get(row * length + start + t).copied().unwrap_or(E::zero());
        }
    }
}

#[inline(always)]
fn scatter_body<I: Isa, E: Real>(panel: &Panel<E>, length: usize, start: usize, rows: &mut [E]) {
    let whole = if rows.len() == ROWS * length { panel.len() / ROWS * ROWS } else { 0 };
    for (block, t) in panel[..whole].as_chunks::<ROWS>().0.iter().zip((start..).step_by(ROWS)) {
        let mut square = *block;
        E::transpose(&mut square);
        for (row, values) in square.iter().enumerate() {
            rows[row * length + t..][..ROWS].copy_from_slice(values);
        }
    }
    for (row, out) in rows.chunks_exact_mut(length).enumerate() {
        for (out, lanes) in out[start..].iter_mut().zip(panel).skip(whole) {
            *out = lanes[row];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_to_lanes_and_come_back() {
        for (rows, length) in [(16, 1), (16, 16), (16, 37), (16, 64), (5, 37), (1, 3)] {
            let values: Vec<f32> = (0..rows * length).map(|i| i as f32 + 1.0).collect();
            let mut panel = vec![[-1.0f32; ROWS]; length + 3];
            gather(&values, length, 0, length, &mut panel);
            for (t, lanes) in panel.iter().enumerate() {
                for (row, &v) in lanes.iter().enumerate() {
                    let want = if t < length && row < rows { values[row * length + t] } else { 0.0 };
                    assert_eq!(v, want, "{rows} rows of {length}: row {row} at {t}");
                }
            }
            let mut back = vec![0.0; values.len()];
            scatter(&panel[..length], length, 0, &mut back);
            assert_eq!(back, values);
            let start = length - length / 2;
            gather(&values, length, start, length / 2, &mut panel);
            assert!((0..length / 2).all(|t| panel[t][0] == values[start + t]));
            assert!(panel[length / 2..].iter().all(|lanes| lanes.iter().all(|&v| v == 0.0)));
        }
    }
}
