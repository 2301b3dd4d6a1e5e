//! A drawing of many small panels under one heading, which stands on its own as a file.

use super::sheet::{Area, Outcome, UNITS, heading, note, svg};
use super::theme::{INK, MUTED, PAPER, drawing_style};
use crate::error::Result;

/// A panel's size in points, and the room above all of them.
const SIZE: (i32, i32) = (480, 210);
const TOP: i32 = 54;
/// Panels beside each other.
const ACROSS: i32 = 2;

/// Draws a panel for each item with `draw`, which may return some SVG to put on top.
pub(super) fn panels<T>(title: &str, explanation: &str, items: &[T], draw: impl Fn(&Area<'_>, &T) -> Outcome<String>) -> Result<String> {
    let down = (items.len() as i32 + ACROSS - 1) / ACROSS;
    svg(title, (SIZE.0 * ACROSS, TOP + SIZE.1 * down), |area| {
        area.fill(&PAPER)?;
        heading(area, title, (8 * UNITS, 8 * UNITS), 16.0, INK)?;
        note(area, explanation, (8 * UNITS, 31 * UNITS), MUTED)?;
        let mut extra = format!("<style>{}</style>", drawing_style());
        for (number, item) in (0..).zip(items) {
            let corner = (number % ACROSS * SIZE.0 * UNITS, (TOP + number / ACROSS * SIZE.1) * UNITS);
            let area = area.clone().shrink(corner, (SIZE.0 * UNITS, SIZE.1 * UNITS));
            extra += &draw(&area, item)?;
        }
        Ok(extra)
    })
}

/// Writes a panel's title.
pub(super) fn title(area: &Area<'_>, words: &str) -> Outcome {
    heading(area, words, (8 * UNITS, 4 * UNITS), 13.0, INK)
}
