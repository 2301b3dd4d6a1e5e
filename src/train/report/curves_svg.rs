//! Loss and accuracy over steps as a drawing that stands on its own as a file.

use plotters::element::{Circle, PathElement};
use plotters::style::Color;

use super::chart::{Chart, Look, SIZE};
use super::curves::learnt;
use super::history::History;
use super::sheet::{Area, Outcome, UNITS, heading, note, svg};
use super::theme::{INK, MUTED, PAPER, drawing_style};
use crate::error::Result;

/// Points above the charts: the title, and what the lines are.
const TOP: i32 = 56;
/// Points for a letter of a name, at the most.
const LETTER: i32 = 7;

/// The charts of a run that have a point; `None` where none has.
pub(super) fn curves_svg(history: &History) -> Result<Option<String>> {
    let charts: Vec<_> = learnt(history).into_iter().filter_map(|(_, chart, names)| Some((chart.range()?, chart, names))).collect();
    let Some((_, first, names)) = charts.first() else { return Ok(None) };
    let title = format!("{}: loss and accuracy over steps", history.title());
    let size = (SIZE.0 * charts.len() as i32, TOP + SIZE.1);
    svg(&title, size, |area| {
        area.fill(&PAPER)?;
        heading(area, &title, (8 * UNITS, 8 * UNITS), 16.0, INK)?;
        legend(area, first, names)?;
        for (number, (range, chart, _)) in (0..).zip(&charts) {
            let corner = (number * SIZE.0 * UNITS, TOP * UNITS);
            chart.draw(&area.clone().shrink(corner, (SIZE.0 * UNITS, SIZE.1 * UNITS)), range)?;
        }
        Ok(format!("<style>{}</style>", drawing_style()))
    })
    .map(Some)
}

/// A piece of every line that is there, and its name.
fn legend(area: &Area<'_>, chart: &Chart, names: &[String]) -> Outcome {
    // What is drawn pale is the noise around the line of the same colour, whose name comes next.
    let lines = chart.lines.iter().zip(names).filter(|(line, _)| line.look != Look::Raw && !line.points.is_empty());
    let (mut left, middle) = (8 * UNITS, 40 * UNITS);
    for (line, name) in lines {
        area.draw(&PathElement::new([(left, middle), (left + 22 * UNITS, middle)], line.colour.stroke_width(2 * UNITS as u32)))?;
        if line.look == Look::Dots {
            area.draw(&Circle::new((left + 11 * UNITS, middle), 3 * UNITS, line.colour.filled()))?;
        }
        note(area, name, (left + 28 * UNITS, 33 * UNITS), MUTED)?;
        left += (44 + LETTER * name.chars().count() as i32) * UNITS;
    }
    Ok(())
}
