//! Lines of bars, placed one bar after another where there is room.

use super::Rules;
use crate::data::random::fraction;
use rand_pcg::Pcg32;
use std::f64::consts::{FRAC_PI_2, TAU};

/// How many turns are drawn for a bar before it is taken to have no room.
const TURNS: usize = 32;

/// By how much less than two margins lines may be apart, in pixels. The official generator keeps its margins as masks of whole pixels, and
/// takes one that is covered in part for free; without this, a picture of 32 x 32 has no room for all that belongs into it.
const RASTER: f64 = 0.5;

/// A bar by the two ends of its middle line, as (x, y) in pixels from the upper left corner: the middle of the first pixel is (0.5, 0.5).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// Where its line enters it.
    pub from: [f64; 2],
    /// Where its line leaves it.
    pub to: [f64; 2],
}

impl Bar {
    /// The square of the distance between the middle lines of two bars.
    fn distance_squared(&self, other: &Bar) -> f64 {
        if self.crosses(other) {
            return 0.0;
        }
        // Of two segments that do not cross, an end is among the nearest points.
        let ends = [self.squared_to(other.from), self.squared_to(other.to), other.squared_to(self.from), other.squared_to(self.to)];
        ends.into_iter().fold(f64::INFINITY, f64::min)
    }

    /// The square of the distance from the middle line to a point.
    pub(super) fn squared_to(&self, [x, y]: [f64; 2]) -> f64 {
        let (along_x, along_y) = (self.to[0] - self.from[0], self.to[1] - self.from[1]);
        let (to_x, to_y) = (x - self.from[0], y - self.from[1]);
        let share = (to_x * along_x + to_y * along_y) / (along_x * along_x + along_y * along_y);
        let share = share.clamp(0.0, 1.0);
        let (off_x, off_y) = (to_x - share * along_x, to_y - share * along_y);
        off_x * off_x + off_y * off_y
    }

    fn crosses(&self, other: &Bar) -> bool {
        let parts = |bar: &Bar, other: &Bar| bar.side(other.from) * bar.side(other.to) < 0.0;
        parts(self, other) && parts(other, self)
    }

    /// Positive for a point on one side of the middle line, negative on the other.
    fn side(&self, [x, y]: [f64; 2]) -> f64 {
        (self.to[0] - self.from[0]) * (y - self.from[1]) - (self.to[1] - self.from[1]) * (x - self.from[0])
    }
}

/// A line that grows: the places of its bars in their field.
pub(super) struct Snake(Vec<usize>);

/// A picture that fills up with bars.
pub(super) struct Field<'a> {
    rules: &'a Rules,
    /// The room around every bar.
    pub margin: f64,
    /// All bars, of whatever line, in the order in which they were placed.
    bars: Vec<Bar>,
    /// How many bars were tried so far.
    tries: u64,
}

impl<'a> Field<'a> {
    /// Nothing yet, and this margin around every bar.
    pub fn new(rules: &'a Rules, margin: f64) -> Self {
        Field { rules, margin, bars: Vec::new(), tries: 0 }
    }

    /// How many bars were tried since it was made.
    pub fn tries(&self) -> u64 {
        self.tries
    }

    /// The number of bars.
    pub fn len(&self) -> usize {
        self.bars.len()
    }

    /// Takes away all bars but the first `len`; lines that were seeded before must [`forget`](Snake::forget) as many.
    pub fn forget(&mut self, len: usize) {
        self.bars.truncate(len);
    }

    /// The bars of a line.
    pub fn line(&self, snake: &Snake) -> Vec<Bar> {
        snake.0.iter().map(|&place| self.bars[place]).collect()
    }

    /// A line of one bar, which starts at `from` in any direction, if there is room for it.
    pub fn seed(&mut self, from: [f64; 2], rng: &mut Pcg32) -> Option<Snake> {
        let bar = Bar { from, to: moved(from, direction(TAU * fraction(rng)), self.rules.paddle_length) };
        self.fits(&bar, None).then(|| {
            self.bars.push(bar);
            Snake(vec![self.bars.len() - 1])
        })
    }

    /// Adds a bar to the end of a line; says whether there was room.
    pub fn extend(&mut self, snake: &mut Snake, rng: &mut Pcg32) -> bool {
        let Rules { paddle_length, continuity, .. } = *self.rules;
        let Some(&last) = snake.0.last() else { return false };
        let Bar { from, to } = self.bars[last];
        let heading = [(to[0] - from[0]) / paddle_length, (to[1] - from[1]) / paddle_length];
        // Half of the gap belongs to either bar, and the line turns between the halves.
        let pivot = moved(to, heading, self.margin);
        for _ in 0..TURNS {
            let heading = turned(heading, direction(turn(continuity, rng)));
            let from = moved(pivot, heading, self.margin);
            let bar = Bar { from, to: moved(from, heading, paddle_length) };
            if self.fits(&bar, Some(last)) {
                snake.0.push(self.bars.len());
                self.bars.push(bar);
                return true;
            }
        }
        false
    }

    /// Whether a bar with its margin is clear of the edge and of all other bars with theirs, but the one that it comes `after`.
    fn fits(&mut self, bar: &Bar, after: Option<usize>) -> bool {
        self.tries += 1;
        let (margin, thickness) = (self.margin, self.rules.paddle_thickness);
        let least = self.rules.padding + margin + thickness / 2.0 - RASTER;
        let inside = least..=self.rules.side as f64 - least;
        if ![bar.from, bar.to].iter().flatten().all(|place| inside.contains(place)) {
            return false;
        }
        let clear = 2.0 * margin + thickness - RASTER;
        // Bars whose ends are as far apart as this need no closer look: whatever is nearest of them is farther than `clear`.
        let far = clear + 2.0 * self.rules.paddle_length;
        let near = |other: &Bar| {
            let (x, y) = (other.from[0] - bar.from[0], other.from[1] - bar.from[1]);
            x * x + y * y < far * far && other.distance_squared(bar) < clear * clear
        };
        !self.bars.iter().enumerate().any(|(index, other)| Some(index) != after && near(other))
    }
}

impl Snake {
    /// The number of bars.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes away the bars that are not among the first `len` of the field.
    pub fn forget(&mut self, len: usize) {
        self.0.retain(|&place| place < len);
    }
}

/// The unit vector at an angle.
pub(super) fn direction(angle: f64) -> [f64; 2] {
    // Not the standard library's sine: its last bit hangs on the machine.
    [libm::cos(angle), libm::sin(angle)]
}

/// The point at this distance in a direction.
pub(super) fn moved([x, y]: [f64; 2], direction: [f64; 2], distance: f64) -> [f64; 2] {
    [x + distance * direction[0], y + distance * direction[1]]
}

/// A direction turned by the angle that `by` is the direction of.
fn turned([x, y]: [f64; 2], by: [f64; 2]) -> [f64; 2] {
    [x * by[0] - y * by[1], x * by[1] + y * by[0]]
}

/// An angle t with a density proportional to cos²(continuity t), out to where that is 0.
fn turn(continuity: f64, rng: &mut Pcg32) -> f64 {
    loop {
        // Every second draw is taken.
        let angle = FRAC_PI_2 * (2.0 * fraction(rng) - 1.0);
        let cosine = libm::cos(angle);
        if fraction(rng) < cosine * cosine {
            return angle / continuity;
        }
    }
}
