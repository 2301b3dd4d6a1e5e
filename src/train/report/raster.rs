//! A raster of spikes: which neurons spiked when, a panel for each layer and place.

use std::fmt::Write;

use super::chart::axes;
use super::markup::share;
use super::panels::{panels, title};
use super::sheet::{Area, Outcome};
use super::theme::{TRAIN, hex};
use crate::error::{Error, Result};

/// The spikes of one layer at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Panel {
    /// Which layer and place.
    pub title: String,
    /// For each neuron the time steps at which it spiked, in their order.
    pub rows: Vec<Vec<u32>>,
}

/// The spikes of one sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raster {
    /// What is shown.
    pub title: String,
    /// Time steps.
    pub length: usize,
    /// One after the other.
    pub panels: Vec<Panel>,
}

/// Neurons that a panel shows at most.
const NEURONS: usize = 64;
/// The most neurons that all panels show together, to bound the size of the file; very many panels show more.
const MOST_ROWS: usize = 320;
/// Columns of time that a panel shows at most.
const COLUMNS: usize = 320;
/// Shades of a column in which several time steps are merged.
const SHADES: usize = 3;

/// Draws spikes as an SVG: time to the right, neurons upwards, a panel for each layer and place.
///
/// Of more than 64 neurons as many are shown, evenly chosen (fewer where there are many panels). In sequences of more than 320 time steps
/// several steps make a column, which is the darker the more spikes are in it.
///
/// # Errors
/// [`Error::Value`] where a spike comes after the end of the sequence.
pub fn raster_svg(raster: &Raster) -> Result<String> {
    for panel in &raster.panels {
        if let Some(step) = panel.rows.iter().flatten().find(|&&step| step as usize >= raster.length) {
            let (title, length) = (&panel.title, raster.length);
            return Err(Error::value("raster_svg", format!("{title}: a spike at step {step}, but the sequence has {length} steps")));
        }
    }
    let most = (MOST_ROWS / raster.panels.len().max(1)).clamp(8, NEURONS);
    let merged = match raster.length.div_ceil(COLUMNS) {
        0 | 1 => String::new(),
        steps => format!(", {steps} in a column: the darker, the more of them with a spike"),
    };
    let explanation = format!("time steps to the right{merged}; neurons upwards, {most} of a layer at most");
    panels(&raster.title, &explanation, &raster.panels, |area, panel| draw(area, panel, raster.length, most))
}

/// Draws a panel's axes, and returns its spikes.
fn draw(area: &Area<'_>, panel: &Panel, length: usize, most: usize) -> Outcome<String> {
    let neurons = panel.rows.len();
    let spikes: usize = panel.rows.iter().map(Vec::len).sum();
    let rate = match neurons * length {
        0 => "nothing".into(),
        cells => format!("spike rate {}", share(spikes as f64 / cells as f64)),
    };
    title(area, &format!("{}: {rate}", panel.title))?;
    let ranges = (0.0..length.max(1) as f64, 0.0..neurons.max(1) as f64);
    let plot = axes(area, ranges, [44, 24], (8, 4), false)?;
    let (x, y) = plot.plotting_area().get_pixel_range();
    let rows: Vec<&[u32]> = evenly(neurons, most).map(|neuron| &panel.rows[neuron][..]).collect();
    let steps = length.div_ceil(COLUMNS).max(1);
    let columns = length.div_ceil(steps).max(1);
    let place = format!(
        "transform=\"translate({} {}) scale({:.4} {:.4})\"",
        x.start,
        y.end,
        f64::from(x.end - x.start) / columns as f64,
        -f64::from(y.end - y.start) / rows.len().max(1) as f64,
    );
    // Each path starts its dashes anew: neighbours stay dots.
    let dots = if steps == 1 { " stroke-dasharray=\".85 .15\"" } else { "" };
    let (colour, paths) = (hex(TRAIN), paths(&rows, steps, columns));
    Ok(format!("<g {place} stroke=\"{colour}\" stroke-width=\".8\"{dots} fill=\"none\">{paths}</g>"))
}

/// A path for each shade, in units of columns of so many steps and of rows.
fn paths(rows: &[&[u32]], steps: usize, columns: usize) -> String {
    let counts: Vec<Vec<usize>> = rows.iter().map(|row| counted(row, steps, columns)).collect();
    let top = counts.iter().flatten().copied().max().unwrap_or(0).max(1);
    let shades = top.min(SHADES);
    let path = |shade: usize| {
        let mut path = String::new();
        for (row, counts) in counts.iter().enumerate() {
            runs(&mut path, row, counts.iter().map(|count| (count * shades).div_ceil(top) == shade));
        }
        format!("<path opacity=\"{:.2}\" d=\"{path}\"/>", shade as f64 / shades as f64)
    };
    (1..=shades).map(path).collect()
}

/// Spikes in each column of so many steps.
fn counted(row: &[u32], steps: usize, columns: usize) -> Vec<usize> {
    let mut counts = vec![0; columns];
    for &step in row {
        counts[step as usize / steps] += 1;
    }
    counts
}

/// Adds a dash for every run of set cells in a row.
fn runs(path: &mut String, row: usize, cells: impl Iterator<Item = bool>) {
    let (mut pen, mut run) = (None, None::<usize>);
    for (column, set) in cells.chain([false]).enumerate() {
        match (set, run) {
            (true, None) => run = Some(column),
            (false, Some(start)) => {
                let _ = match pen {
                    None => write!(path, "M{start} {row}.5h{}", column - start),
                    Some(end) => write!(path, "m{} 0h{}", start - end, column - start),
                };
                (pen, run) = (Some(column), None);
            }
            _ => {}
        }
    }
}

/// At most `most` of `count` indices, evenly spaced from the first on.
pub(super) fn evenly(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let taken = count.min(most);
    (0..taken).map(move |index| index * count / taken)
}
