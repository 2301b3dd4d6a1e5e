//! A sheet to draw on, which becomes an SVG.

use plotters::coord::Shift;
use plotters::element::Text;
use plotters::prelude::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea, IntoFont, RGBColor, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, TextStyle};

use super::markup::escape;
use crate::error::{Error, Result};

/// plotters counts in whole units: this many make a point of the drawing.
pub(super) const UNITS: i32 = 4;

/// Points of small text.
pub(super) const SMALL: f64 = 13.0;

/// Where plotters draws.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What plotters answers.
pub(super) type Outcome<T = ()> = std::result::Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// The SVG of what `draw` draws on a sheet of this size in points; `label` is the text for screen readers. What `draw` returns is put on
/// top as it is.
pub(super) fn svg(label: &str, (width, height): (i32, i32), draw: impl FnOnce(&Area<'_>) -> Outcome<String>) -> Result<String> {
    let size = ((width * UNITS) as u32, (height * UNITS) as u32);
    let mut drawn = String::new();
    let area = SVGBackend::with_string(&mut drawn, size).into_drawing_area();
    let extra = draw(&area).and_then(|extra| area.present().map(|()| extra));
    drop(area);
    let extra = extra.map_err(|error| Error::value("report", format!("{label} cannot be drawn: {error}")))?;
    // plotters' own first tag says a size in units.
    let body = drawn.split_once('>').map_or("", |(_, body)| body.trim()).trim_end_matches("</svg>");
    let (w, h) = size;
    let label = escape(label);
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
         aria-label=\"{label}\">{body}{extra}</svg>"
    ))
}

/// A style of text; `size` in points.
pub(super) fn text(size: f64, colour: RGBColor, (h, v): (HPos, VPos)) -> TextStyle<'static> {
    // plotters divides sizes by 1.24.
    ("sans-serif", size * f64::from(UNITS) * 1.24).into_font().color(&colour).pos(Pos::new(h, v))
}

/// A heading at this place in units, its top left corner.
pub(super) fn heading(area: &Area<'_>, words: &str, at: (i32, i32), size: f64, colour: RGBColor) -> Outcome {
    let style = text(size, colour, (HPos::Left, VPos::Top));
    area.draw(&Text::new(words.to_string(), at, TextStyle { font: style.font.clone().style(FontStyle::Bold), ..style }))
}

/// A line of small text.
pub(super) fn note(area: &Area<'_>, words: &str, at: (i32, i32), colour: RGBColor) -> Outcome {
    area.draw(&Text::new(words.to_string(), at, text(SMALL, colour, (HPos::Left, VPos::Top))))
}
