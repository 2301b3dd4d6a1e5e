//! The learnt kernels: how strongly a channel responds to a spike, by the distance in time steps.

use plotters::element::PathElement;
use plotters::style::Color;

use super::chart::axes;
use super::panels::{panels, title};
use super::raster::evenly;
use super::sheet::{Area, Outcome, UNITS};
use super::theme::series;
use super::thin::{Point, bulk, extremes};
use crate::error::Result;

/// The kernels of one layer, branch and direction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kernel {
    /// Which layer, branch and direction.
    pub title: String,
    /// (channels, lags): for each channel its response to a spike so many time steps away.
    pub values: Vec<Vec<f32>>,
}

/// Channels that a panel shows at most.
const CHANNELS: usize = 8;
/// Columns that a kernel is thinned out to.
const COLUMNS: usize = 100;

/// Draws kernels as an SVG, a panel for each of `kernels`: the lag in time steps to the right, the response upwards.
///
/// Of more than eight channels eight are shown, evenly chosen. Of long kernels the lowest and the highest value of every piece of time are
/// drawn. What is not finite is left out.
///
/// # Errors
/// [`Error::Value`](crate::Error::Value) where the drawing fails.
pub fn kernels_svg(kernels: &[Kernel]) -> Result<String> {
    let explanation = format!("the response (upwards) to a spike so many time steps away (to the right), of {CHANNELS} channels at most");
    panels("Kernels", &explanation, kernels, draw)
}

fn draw(area: &Area<'_>, kernel: &Kernel) -> Outcome<String> {
    let channels = kernel.values.len();
    let of = match channels {
        0..=CHANNELS => String::new(),
        _ => format!(", {CHANNELS} of {channels} channels"),
    };
    title(area, &format!("{}{of}", kernel.title))?;
    let length = kernel.values.iter().map(Vec::len).max().unwrap_or(0);
    let curves: Vec<Vec<Point>> = evenly(channels, CHANNELS).map(|channel| curve(&kernel.values[channel])).collect();
    let (low, high) = bulk(curves.iter().flatten().map(|point| point.1), 0.0).unwrap_or((0.0, 1.0));
    let room = 0.05 * (high - low).max(0.2 * high.abs().max(low.abs())).max(f64::from(f32::MIN_POSITIVE));
    let mut plot = axes(area, (0.0..length.max(2) as f64 - 1.0, low - room..high + room), [60, 24], (8, 5), true)?;
    for (number, points) in curves.into_iter().enumerate().filter(|(_, points)| points.len() > 1) {
        plot.draw_series([PathElement::new(points, series(number).stroke_width(3 * UNITS as u32 / 2))])?;
    }
    Ok(String::new())
}

fn curve(values: &[f32]) -> Vec<Point> {
    let finite = values.iter().enumerate().filter(|(_, value)| value.is_finite());
    extremes(&finite.map(|(lag, &value)| (lag as f64, f64::from(value))).collect::<Vec<_>>(), COLUMNS)
}
