//! `Generate`: shapes and values for gradient checks, all drawn from one seed.

use std::ops::RangeInclusive;

use rand_core::Rng;
use rand_pcg::Pcg32;

use crate::autodiff::Array;
use crate::backend::{Key, normal_f64};

/// A source of shapes and values: the same seed gives the same draws, in the order in which they are asked for.
///
/// ```
/// use pspikessm::autodiff::Generate;
/// let (mut a, mut b) = (Generate::new(3), Generate::new(3));
/// let shape = a.shape(1..=3, 1..=4);
/// assert_eq!(shape, b.shape(1..=3, 1..=4));
/// assert_eq!(a.values(&shape, -1.0, 1.0), b.values(&shape, -1.0, 1.0));
/// ```
#[derive(Clone, Debug)]
pub struct Generate {
    random: Pcg32,
}

impl Generate {
    /// The source for this seed.
    pub fn new(seed: u64) -> Self {
        Generate { random: Key::new(seed).generator() }
    }

    /// A number from `range`; its start where the range is empty.
    pub fn size(&mut self, range: RangeInclusive<usize>) -> usize {
        let span = (range.end().saturating_sub(*range.start()) as u64).saturating_add(1);
        range.start() + (self.seed() % span) as usize
    }

    /// A fair coin.
    pub fn flag(&mut self) -> bool {
        self.random.next_u32() >> 31 == 1
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// Where there are none.
    pub fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.size(0..=choices.len().saturating_sub(1))].clone()
    }

    /// A shape with a number of axes from `rank`, each of a length from `size`.
    pub fn shape(&mut self, rank: RangeInclusive<usize>, size: RangeInclusive<usize>) -> Vec<usize> {
        (0..self.size(rank)).map(|_| self.size(size.clone())).collect()
    }

    /// 64 random bits: a seed for something else.
    pub fn seed(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// A number between `low` and `high`.
    pub fn value(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * ((self.seed() >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// Uniform values between `low` and `high`.
    pub fn values(&mut self, shape: &[usize], low: f64, high: f64) -> Array {
        let values = (0..shape.iter().product()).map(|_| self.value(low, high)).collect();
        Array { values, shape: shape.into() }
    }

    /// As [`Generate::values`], but none closer than `margin` to a point of `kinks`, where central differences mean nothing.
    pub fn values_off(&mut self, shape: &[usize], low: f64, high: f64, kinks: &[f64], margin: f64) -> Array {
        let mut array = self.values(shape, low, high);
        for value in &mut array.values {
            if let Some(kink) = kinks.iter().find(|kink| (*value - **kink).abs() < margin) {
                *value = kink + margin.copysign(*value - kink);
            }
        }
        array
    }

    /// Standard normal values.
    pub fn normal(&mut self, shape: &[usize]) -> Array {
        let values = (0..shape.iter().product()).map(|_| normal_f64(self.random.next_u32(), self.random.next_u32())).collect();
        Array { values, shape: shape.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_in_their_ranges_and_reach_both_ends() {
        let mut generate = Generate::new(1);
        let sizes: Vec<usize> = (0..200).map(|_| generate.size(2..=4)).collect();
        assert!(sizes.iter().all(|s| (2..=4).contains(s)) && (2..=4).all(|s| sizes.contains(&s)));
        assert_eq!(generate.size(5..=5), 5);
        let values = generate.values(&[100], -0.5, 2.0).values;
        assert!(values.iter().all(|v| (-0.5..=2.0).contains(v)) && values.iter().any(|v| *v < 0.0) && values.iter().any(|v| *v > 1.5));
        let off = generate.values_off(&[400], -1.0, 1.0, &[0.0, 0.5], 0.1).values;
        assert!(off.iter().all(|v| v.abs() > 0.0999 && (v - 0.5).abs() > 0.0999));
        assert_eq!(generate.normal(&[]).values.len(), 1);
        assert!(generate.shape(0..=0, 1..=9).is_empty());
    }
}
