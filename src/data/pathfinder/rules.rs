//! By which rules pictures are drawn.

use crate::error::{Error, Result};
use std::ops::RangeInclusive;

/// The largest side of a picture: a million pixels and more.
const LARGEST: usize = 1024;

/// The largest number of samples in a part: the labels of more would not fit into the memory of every machine.
const MOST_SAMPLES: usize = 1 << 28;

/// What pictures look like, and how many are wanted. Lengths are in pixels.
///
/// A line is a chain of bars with gaps between them. Two long lines start `seed_distance` apart and grow in turns; then come short
/// ones, to distract. The names are those of the official generator, which calls a bar a paddle.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Pixels in a row, and rows.
    pub side: usize,
    /// The width of the edge that stays empty.
    pub padding: f64,
    /// The length of a bar.
    pub paddle_length: f64,
    /// The thickness of a bar.
    pub paddle_thickness: f64,
    /// How much room there is around every bar, at least half a pixel. The next bar of a line is two margins away, with the turn in the
    /// middle; bars that do not follow each other keep two margins less half a pixel between them; the edge keeps one, less half a pixel.
    /// Of several values every picture draws one.
    pub paddle_margins: Vec<f64>,
    /// How straight lines are: from one bar to the next a line turns by an angle t with a probability density proportional to
    /// cos²(continuity · t), and never by more than 90°/continuity.
    pub continuity: f64,
    /// Bars in each of the two long lines.
    pub contour_length: usize,
    /// Bars in a short line.
    pub distractor_length: usize,
    /// The number of short lines.
    pub distractors: usize,
    /// The distance between the beginnings of the two long lines; the first begins at least twice as far from the edge.
    pub seed_distance: f64,
    /// The radius of the two discs.
    pub marker_radius: f64,
    /// The brightness of a pixel that a bar covers, or that one of a thickness below 1 crosses along its middle. A disc has 1, the ground
    /// 0.
    pub contrast: f64,
    /// The number of training samples.
    pub train: usize,
    /// The number of validation samples.
    pub val: usize,
    /// The number of test samples.
    pub test: usize,
}

impl Rules {
    /// Pathfinder of the Long Range Arena, at its highest difficulty: 32 x 32 pixels, lines of 14 bars; 160,000, 20,000 and 20,000
    /// samples.
    pub fn pathfinder32() -> Self {
        Rules {
            side: 32,
            padding: 1.0,
            paddle_length: 2.0,
            paddle_thickness: 0.5,
            paddle_margins: vec![1.0],
            continuity: 1.0,
            contour_length: 14,
            distractor_length: 4,
            distractors: 5,
            seed_distance: 7.0,
            marker_radius: 1.5,
            contrast: 0.75,
            train: 160_000,
            val: 20_000,
            test: 20_000,
        }
    }

    /// An easier Pathfinder, which a small model learns in minutes: 16 x 16 pixels, lines of 3 bars and no others; 40,000, 1,000 and 2,000
    /// samples.
    pub fn pathfinder16() -> Self {
        Rules {
            side: 16,
            contour_length: 3,
            distractors: 0,
            seed_distance: 4.0,
            train: 40_000,
            val: 1_000,
            test: 2_000,
            ..Rules::pathfinder32()
        }
    }

    /// Path-X: 128 x 128 pixels, lines of 14 longer bars.
    ///
    /// The official configuration wants 35 bars in distractors of a third of 14, which is 8 lines of 4. Bars of length 5 are the
    /// official generator's default; margins of 2 and 3 and a contrast of 0.9 are from the configuration.
    pub fn path_x() -> Self {
        Rules {
            side: 128,
            paddle_length: 5.0,
            paddle_thickness: 1.5,
            paddle_margins: vec![2.0, 3.0],
            continuity: 1.8,
            distractors: 8,
            seed_distance: 20.0,
            marker_radius: 3.0,
            contrast: 0.9,
            ..Rules::pathfinder32()
        }
    }

    /// Refuses what makes no sense; whether there is room for all that is wanted only drawing can tell.
    pub(super) fn check(&self) -> Result<()> {
        let counts = [
            ("side", self.side, 1..=LARGEST),
            ("contour_length", self.contour_length, 1..=LARGEST),
            ("distractor_length", self.distractor_length, 1..=LARGEST),
            ("distractors", self.distractors, 0..=LARGEST),
            ("train", self.train, 1..=MOST_SAMPLES),
            ("val", self.val, 1..=MOST_SAMPLES),
            ("test", self.test, 1..=MOST_SAMPLES),
        ];
        counts.into_iter().try_for_each(|(name, value, range)| inside(name, value, range))?;
        let side = self.side as f64;
        let lengths = [
            ("padding", self.padding, 0.0..=side),
            ("paddle_length", self.paddle_length, 0.1..=side),
            ("paddle_thickness", self.paddle_thickness, 0.1..=side),
            // Below a half the largest turn would be more than a half turn.
            ("continuity", self.continuity, 0.5..=100.0),
            ("seed_distance", self.seed_distance, 0.0..=side / 4.0),
            ("marker_radius", self.marker_radius, 0.1..=side),
            ("contrast", self.contrast, 0.0..=1.0),
        ];
        lengths.into_iter().try_for_each(|(name, value, range)| inside(name, value, range))?;
        if self.paddle_margins.is_empty() {
            return Err(Error::config("paddle_margins", "none", "give at least one"));
        }
        self.paddle_margins.iter().try_for_each(|&margin| inside("paddle_margins", margin, 0.5..=side))
    }
}

/// Refuses a value outside its range; NaN is inside none.
fn inside<T: PartialOrd + std::fmt::Display>(name: &'static str, value: T, range: RangeInclusive<T>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::config(name, value, format!("must be from {} to {}", range.start(), range.end())))
}
