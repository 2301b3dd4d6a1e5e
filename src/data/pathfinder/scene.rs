//! What a picture shows: two long lines, shorter ones, and two discs.

use super::Rules;
use super::snake::{Bar, Field, direction, moved};
use crate::data::random::{Purpose, below, fraction, stream};
use crate::error::{Error, Result};
use rand_pcg::Pcg32;
use std::f64::consts::TAU;

/// How many bars may be tried for a picture before the rules are taken to leave no room: less than a second, and hundreds of times what a
/// picture of the official rules takes.
const PATIENCE: u64 = 1 << 21;

/// How often two lines that have no room go back before the picture is started anew, and by how many bars.
const BACKTRACKS: usize = 20;
const BACK: usize = 2;

/// How many beginnings are drawn for a short line before the picture is started anew.
const BEGINNINGS: usize = 1_000;

/// What a picture shows, before it is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// The two long lines, each from its beginning to its end. One disc sits on a beginning, the other on an end.
    pub targets: [Vec<Bar>; 2],
    /// The short lines.
    pub distractors: Vec<Vec<Bar>>,
    /// The middles of the two discs, in pixels.
    pub markers: [[f64; 2]; 2],
    /// The margin of this picture's bars, in pixels.
    pub margin: f64,
    /// 1 where the discs sit on one line, 0 where they sit on two.
    pub label: usize,
}

impl Scene {
    /// Picture `number` of `rules` and `seed`: the label is the last bit of the number, all else comes from the number's own random
    /// stream. The lines are drawn before the label is looked at, so they tell nothing of it.
    ///
    /// # Errors
    /// `Config` where a rule makes no sense, `Value` where the rules leave no room for all that they want.
    pub fn new(rules: &Rules, seed: u64, number: usize) -> Result<Self> {
        rules.check()?;
        let mut rng = stream(seed, Purpose::Pathfinder, number as u64);
        // Drawn once, not with every attempt: large margins fail more often, and would become rare.
        let margin = rules.paddle_margins[below(&mut rng, rules.paddle_margins.len() as u64) as usize];
        let mut field = Field::new(rules, margin);
        while field.tries() < PATIENCE {
            if let Some(scene) = Self::attempt(rules, label(number), &mut field, &mut rng) {
                return Ok(scene);
            }
        }
        let help = "make lines fewer or shorter, margins or padding smaller, or the side larger";
        Err(Error::value("pathfinder::generate", format!("{PATIENCE} bars were tried, and no picture had room for all: {help}")))
    }

    /// A picture, if it does not run out of room.
    fn attempt(rules: &Rules, label: usize, field: &mut Field, rng: &mut Pcg32) -> Option<Self> {
        field.forget(0);
        let targets = targets(field, rules, rng)?;
        let [[from_a, to_a], [from_b, to_b]] = [tips(&targets[0])?, tips(&targets[1])?];
        let markers = match (below(rng, 2) == 0, label == 1) {
            (true, true) => [from_a, to_a],
            (true, false) => [from_a, to_b],
            (false, true) => [from_b, to_b],
            (false, false) => [from_b, to_a],
        };
        // All four pairs, not only the one that the label chose: else the label would have a say in which lines are kept.
        let apart = [[from_a, to_a], [from_a, to_b], [from_b, to_b], [from_b, to_a]].iter().all(|&[a, b]| separate(rules, a, b));
        if !apart {
            return None;
        }
        let mut distractors = Vec::with_capacity(rules.distractors);
        for _ in 0..rules.distractors {
            distractors.push(distractor(field, rules, rng)?);
        }
        Some(Scene { targets, distractors, markers, margin: field.margin, label })
    }
}

/// The label of picture `number`.
pub(super) fn label(number: usize) -> usize {
    number % super::CLASSES
}

/// The two ends of a line.
fn tips(line: &[Bar]) -> Option<[[f64; 2]; 2]> {
    Some([line.first()?.from, line.last()?.to])
}

/// The two long lines, which grow in turns. Where one of them has no room, both go some bars back and on from there.
fn targets(field: &mut Field, rules: &Rules, rng: &mut Pcg32) -> Option<[Vec<Bar>; 2]> {
    // Far from the edge, so that there is room for the second one in every direction.
    let edge = 2.0 * rules.seed_distance;
    let free = rules.side as f64 - 2.0 * edge;
    let from = [edge + free * fraction(rng), edge + free * fraction(rng)];
    let second = moved(from, direction(TAU * fraction(rng)), rules.seed_distance);
    let mut snakes = [field.seed(from, rng)?, field.seed(second, rng)?];
    for _ in 0..BACKTRACKS {
        while snakes[1].len() < rules.contour_length && snakes.iter_mut().all(|snake| field.extend(snake, rng)) {}
        if snakes[1].len() == rules.contour_length {
            return Some(snakes.each_ref().map(|snake| field.line(snake)));
        }
        let kept = snakes[1].len().saturating_sub(BACK).max(1);
        field.forget(2 * kept);
        snakes.iter_mut().for_each(|snake| snake.forget(2 * kept));
    }
    None
}

/// A short line, anywhere.
fn distractor(field: &mut Field, rules: &Rules, rng: &mut Pcg32) -> Option<Vec<Bar>> {
    let len = field.len();
    let side = rules.side as f64;
    for _ in 0..BEGINNINGS {
        let from = [side * fraction(rng), side * fraction(rng)];
        if let Some(mut snake) = field.seed(from, rng)
            && (1..rules.distractor_length).all(|_| field.extend(&mut snake, rng))
        {
            return Some(field.line(&snake));
        }
        field.forget(len);
    }
    None
}

/// Whether discs at these two places have a pixel between them.
fn separate(rules: &Rules, a: [f64; 2], b: [f64; 2]) -> bool {
    let (x, y, least) = (a[0] - b[0], a[1] - b[1], 2.0 * rules.marker_radius + 1.0);
    x * x + y * y >= least * least
}
