//! A chart: lines over steps, with axes.

use std::ops::Range;

use plotters::chart::{ChartBuilder, ChartContext, LabelAreaPosition};
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::types::RangedCoordf64;
use plotters::element::{Circle, PathElement, Text};
use plotters::prelude::{RGBColor, SVGBackend};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, ShapeStyle};

use super::markup::tick;
use super::sheet::{Area, Outcome, SMALL, UNITS, note, svg, text};
use super::theme::{GRID, MUTED};
use super::thin::{Point, bulk};
use crate::error::Result;

/// In points; what is written in it is still readable where a phone makes it narrower.
pub(super) const SIZE: (i32, i32) = (440, 280);

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Drawn thin and pale, as noise; outliers do not stretch the axis.
    Raw,
    /// A line.
    Line,
    /// A line through dots.
    Dots,
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub colour: RGBColor,
    pub look: Look,
    pub points: Vec<Point>,
}

/// Axes with room for lines.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    /// What is drawn, for those who cannot see it.
    pub label: String,
    /// What y is, and its unit.
    pub y: &'static str,
    /// Where x ends.
    pub last: f64,
    /// Beyond which y makes no sense.
    pub bounds: (f64, f64),
    pub lines: Vec<Line>,
}

/// Axes of numbers.
pub(super) type Plot<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

impl Chart {
    /// The chart as an SVG; `None` where no line has a point.
    pub fn svg(&self) -> Result<Option<String>> {
        let Some(y) = self.range() else { return Ok(None) };
        svg(&self.label, SIZE, |area| self.draw(area, &y).map(|()| String::new())).map(Some)
    }

    /// Draws the chart with this range of y on an area of [`SIZE`].
    pub fn draw(&self, area: &Area<'_>, y: &Range<f64>) -> Outcome {
        let x = 0.0..self.last.max(1.0);
        let mut plot = axes(area, (x, y.clone()), [60, 24], (8, 6), true)?;
        note(area, self.y, (8 * UNITS, 4 * UNITS), MUTED)?;
        let (right, bottom) = ((SIZE.0 - 6) * UNITS, (SIZE.1 - 2) * UNITS);
        area.draw(&Text::new("step", (right, bottom), text(SMALL, MUTED, (HPos::Right, VPos::Bottom))))?;
        self.lines.iter().try_for_each(|line| draw(&mut plot, line, y))
    }

    /// What the y axis shows; `None` where no line has a point.
    pub fn range(&self) -> Option<Range<f64>> {
        let ranges = self.lines.iter().filter_map(|line| {
            let outside = if line.look == Look::Raw { 0.005 } else { 0.0 };
            bulk(line.points.iter().map(|point| point.1), outside)
        });
        let (low, high) = ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        let (low, high) = (low.max(self.bounds.0), high.min(self.bounds.1));
        // What hardly changes is not blown up.
        let room = 0.05 * (high - low).max(0.2 * high.abs()).max(1e-9);
        Some((low - room).max(self.bounds.0)..(high + room).min(self.bounds.1).max(low + room))
    }
}

/// Draws axes with labels on the left and at the bottom, so many points wide and high, and at most so many ticks.
pub(super) fn axes<'a, 'b>(
    area: &'a Area<'b>,
    (x, y): (Range<f64>, Range<f64>),
    labels: [i32; 2],
    ticks: (usize, usize),
    grid: bool,
) -> Outcome<Plot<'a, 'b>> {
    let top = |range: &Range<f64>| range.start.abs().max(range.end.abs());
    let (x_top, y_top) = (top(&x), top(&y));
    let mut plot = ChartBuilder::on(area)
        .set_label_area_size(LabelAreaPosition::Left, labels[0] * UNITS)
        .set_label_area_size(LabelAreaPosition::Bottom, labels[1] * UNITS)
        .margin_top(26 * UNITS)
        .margin_right(22 * UNITS)
        .margin_bottom(16 * UNITS)
        .build_cartesian_2d(x, y)?;
    let mut mesh = plot.configure_mesh();
    mesh.disable_x_mesh().max_light_lines(0).bold_line_style(GRID.stroke_width(UNITS as u32)).axis_style(MUTED.stroke_width(UNITS as u32));
    if !grid {
        mesh.disable_y_mesh();
    }
    mesh.x_labels(ticks.0).y_labels(ticks.1).set_all_tick_mark_size(4 * UNITS);
    mesh.label_style(text(SMALL, MUTED, (HPos::Left, VPos::Top)));
    mesh.x_label_formatter(&|value| tick(*value, x_top)).y_label_formatter(&|value| tick(*value, y_top)).draw()?;
    Ok(plot)
}

fn draw(plot: &mut Plot<'_, '_>, line: &Line, y: &Range<f64>) -> Outcome {
    let points: Vec<Point> = line.points.iter().map(|&(x, value)| (x, value.clamp(y.start, y.end))).collect();
    let (width, opacity) = match line.look {
        Look::Raw => (1.0, 0.4),
        Look::Line | Look::Dots => (2.0, 1.0),
    };
    let style = ShapeStyle { color: line.colour.mix(opacity), filled: false, stroke_width: (width * f64::from(UNITS)) as u32 };
    // So many dots would be a thick line.
    let dots = match line.look {
        Look::Dots if points.len() <= 60 => points.clone(),
        _ if points.len() == 1 => points.clone(),
        _ => Vec::new(),
    };
    if points.len() > 1 {
        plot.draw_series([PathElement::new(points, style)])?;
    }
    plot.draw_series(dots.into_iter().map(|point| Circle::new(point, 3 * UNITS, line.colour.filled())))?;
    Ok(())
}
