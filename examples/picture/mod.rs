//! Small drawings for the examples, legible on white and on dark pages: each is written into the file that the program's first argument
//! names, as in `cargo run --release --example two_moons -- moons.svg`, or into a given one. Without an argument nothing is drawn.

// Each example uses its own part of this.
#![allow(dead_code)]

use std::ffi::OsString;

use pspikessm::{Error, Result};

/// Of the drawing, and of the field inside it.
const SIZE: [f64; 2] = [480.0, 300.0];
const FIELD: [f64; 4] = [44.0, 44.0, 420.0, 232.0];

const COLOURS: [&str; 4] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"];
/// From little to much.
const SHADES: [&str; 8] = ["#24145A", "#3B3A8C", "#3A649E", "#3788A0", "#41AB97", "#79C97C", "#C2DF5E", "#F7EA5A"];

const STYLE: &str = "<style>text{font:13px sans-serif;fill:#1f2328}.paper{fill:#fff}.edge{fill:none;stroke:#8b949e}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.paper{fill:#0d1117}}</style>";

/// A curve: its name, how wide it is drawn, and its values at even distances.
pub type Line<'a> = (&'a str, f64, &'a [f64]);

/// Draws curves over each other; the x axis goes from `x[0]` to `x[1]`.
pub fn lines(title: &str, x: [f64; 2], lines: &[Line<'_>]) -> Result<()> {
    argument().map_or(Ok(()), |path| lines_into(path, title, x, lines))
}

/// The same into this file.
pub fn lines_into(path: OsString, title: &str, x: [f64; 2], lines: &[Line<'_>]) -> Result<()> {
    let all = || lines.iter().flat_map(|line| line.2).copied().filter(|value| value.is_finite());
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    let [left, top, width, height] = FIELD;
    let mut body = frame([&x[0].to_string(), &x[1].to_string()], [&format!("{low:.2}"), &format!("{high:.2}")]);
    for (number, (name, thick, values)) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let steps = (values.len() - 1).max(1) as f64;
        let point = |(at, value): (usize, &f64)| {
            format!("{:.1},{:.1} ", left + width * at as f64 / steps, top + height * (high - value) / (high - low).max(1e-12))
        };
        let points: String = values.iter().enumerate().map(point).collect();
        let opacity = if *thick > 3.0 { 0.4 } else { 1.0 };
        body +=
            &format!("<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{thick}\" opacity=\"{opacity}\"/>");
        let place = left + width / lines.len() as f64 * number as f64;
        body += &format!("<text x=\"{place:.0}\" y=\"38\" style=\"fill:{colour}\">{name}</text>");
    }
    write(path, title, &body)
}

/// Draws values in rows of `columns`, the first row at the bottom, by their colour; and points in units of the field, each of a class.
pub fn map(title: &str, columns: usize, values: &[f64], points: &[([f64; 2], usize)]) -> Result<()> {
    argument().map_or(Ok(()), |path| map_into(path, title, columns, values, points))
}

/// The same into this file.
pub fn map_into(path: OsString, title: &str, columns: usize, values: &[f64], points: &[([f64; 2], usize)]) -> Result<()> {
    let (low, high) = (values.iter().copied().fold(f64::INFINITY, f64::min), values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    let shade = |value: f64| (((value - low) / (high - low).max(1e-12) * SHADES.len() as f64) as usize).min(SHADES.len() - 1);
    let [left, top, width, height] = FIELD;
    let rows = values.len() / columns;
    let scale = format!("translate({left} {}) scale({:.3} {:.3})", top + height, width / columns as f64, -height / rows as f64);
    let mut body = format!("<g transform=\"{scale}\" stroke-width=\"1.03\" fill=\"none\" shape-rendering=\"crispEdges\">");
    for (number, colour) in SHADES.iter().enumerate() {
        let mut path = String::new();
        for (row, values) in values.chunks(columns).enumerate() {
            let mut column = 0;
            for run in values.chunk_by(|a, b| shade(*a) == shade(*b)) {
                if shade(run[0]) == number {
                    path += &format!("M{column} {row}.5h{}", run.len());
                }
                column += run.len();
            }
        }
        body += &format!("<path stroke=\"{colour}\" d=\"{path}\"/>");
    }
    body += "</g>";
    for ([x, y], class) in points {
        let (x, y, colour) = (left + width * x, top + height * (1.0 - y), ["#ffffff", "#D55E00"][class % 2]);
        body += &format!("<circle cx=\"{x:.0}\" cy=\"{y:.0}\" r=\"3\" fill=\"{colour}\" stroke=\"#1f2328\"/>");
    }
    write(path, title, &body)
}

/// Draws spikes, a row for each of `rows`, and over them a curve in [0, 1].
pub fn raster(title: &str, rows: &[Vec<f32>], curve: (&str, &[f64])) -> Result<()> {
    let Some(file) = argument() else { return Ok(()) };
    let [left, top, width, height] = FIELD;
    let (across, down) = (width / rows[0].len() as f64, height / rows.len() as f64);
    let mut path = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (at, _) in row.iter().enumerate().filter(|(_, spike)| **spike != 0.0) {
            path += &format!("M{:.1} {:.1}v{:.1}", left + across * (at as f64 + 0.5), top + down * number as f64 + 1.0, down - 2.0);
        }
    }
    let point = |(at, value): (usize, &f64)| format!("{:.1},{:.1} ", left + across * (at as f64 + 0.5), top + height * (1.0 - value));
    let points: String = curve.1.iter().enumerate().map(point).collect();
    let mut body = frame(["0", &rows[0].len().to_string()], ["0", "1"]);
    body += &format!("<path d=\"{path}\" stroke=\"{}\" stroke-width=\"2\"/>", COLOURS[0]);
    body += &format!("<polyline points=\"{points}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2.5\"/>", COLOURS[1]);
    body += &format!("<text x=\"{left}\" y=\"38\" style=\"fill:{}\">{}</text>", COLOURS[1], curve.0);
    write(file, title, &body)
}

/// The edge of the field, and where its axes begin and end.
fn frame([x0, x1]: [&str; 2], [y0, y1]: [&str; 2]) -> String {
    let [left, top, width, height] = FIELD;
    let text = |x: f64, y: f64, end: &str, words: &str| format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"{end}\">{words}</text>");
    let (right, bottom) = (left + width, top + height);
    format!("<rect class=\"edge\" x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\"/>")
        + &[text(left, bottom + 16.0, "middle", x0), text(right, bottom + 16.0, "end", x1)].concat()
        + &[text(left - 4.0, bottom, "end", y0), text(left - 4.0, top + 10.0, "end", y1)].concat()
}

/// The file that the command line names.
fn argument() -> Option<OsString> {
    std::env::args_os().nth(1)
}

fn write(path: OsString, title: &str, body: &str) -> Result<()> {
    let [width, height] = SIZE;
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">\
         {STYLE}<rect class=\"paper\" width=\"{width}\" height=\"{height}\"/><text x=\"8\" y=\"18\" font-weight=\"bold\">{title}</text>{body}</svg>\n"
    );
    std::fs::write(&path, svg).map_err(|error| Error::io("write", &path, error))
}
