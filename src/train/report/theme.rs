//! Colours that colour-blind people tell apart, on white and on black.

use plotters::style::RGBColor;

/// The ground.
pub(super) const PAPER: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);
/// Text.
pub(super) const INK: RGBColor = RGBColor(0x1F, 0x23, 0x28);
/// Axes and their numbers.
pub(super) const MUTED: RGBColor = RGBColor(0x59, 0x63, 0x6E);
/// Lines behind the data.
pub(super) const GRID: RGBColor = RGBColor(0xDD, 0xE2, 0xE7);

/// Blue.
pub(super) const TRAIN: RGBColor = SERIES[0];
/// Vermillion.
pub(super) const VALIDATION: RGBColor = SERIES[1];
/// Green.
pub(super) const TEST: RGBColor = SERIES[2];

/// Okabe and Ito's palette ("Color Universal Design", 2008), its yellow darker for the white ground, and grey in the place of black.
const SERIES: [RGBColor; 8] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
    RGBColor(0x6E, 0x6E, 0x6E),
    RGBColor(0xB8, 0xA9, 0x00),
];

/// What stands for each colour on a dark ground.
const DARK: [(RGBColor, &str); 9] = [
    (PAPER, "#0D1117"),
    (INK, "#E6EDF3"),
    (MUTED, "#9198A1"),
    (GRID, "#2B313A"),
    (SERIES[0], "#3A9BDC"),
    (SERIES[1], "#F0803C"),
    (SERIES[2], "#1DB992"),
    (SERIES[6], "#A0A0A0"),
    (SERIES[7], "#F0E442"),
];

/// The colour of a series of several.
pub(super) fn series(index: usize) -> RGBColor {
    SERIES[index % SERIES.len()]
}

/// A colour as a drawing has it.
pub(super) fn hex(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// The style sheet for readers who prefer a dark page; the drawings' own colours are for a white ground.
pub(super) fn drawing_style() -> String {
    let rule = |(light, dark): &(RGBColor, &str)| {
        let light = hex(*light);
        format!("[fill=\"{light}\"]{{fill:{dark}}}[stroke=\"{light}\"]{{stroke:{dark}}}")
    };
    format!("@media(prefers-color-scheme:dark){{{}}}", DARK.iter().map(rule).collect::<String>())
}
