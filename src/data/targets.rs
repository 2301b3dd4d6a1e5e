//! Numbers to find instead of classes, and the scale they are learnt on.

use crate::error::{Error, Result};

/// The mean and the standard deviation of a training set's numbers: a number y is learnt as (y - mean) / deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TargetScale {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, above 0.
    pub deviation: f64,
}

impl TargetScale {
    /// That of these numbers, of which there is one at least. Where all are the same, the deviation is 1.
    pub fn of(numbers: &[f64]) -> Self {
        let count = numbers.len().max(1) as f64;
        let mean = numbers.iter().sum::<f64>() / count;
        let deviation = (numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / count).sqrt();
        TargetScale { mean, deviation: if deviation > 0.0 { deviation } else { 1.0 } }
    }

    /// A number as it is learnt.
    pub fn learnt(self, number: f64) -> f64 {
        (number - self.mean) / self.deviation
    }

    /// The number that was learnt as this.
    pub fn number(self, learnt: f64) -> f64 {
        self.mean + self.deviation * learnt
    }

    pub(super) fn check(self) -> Result<()> {
        let TargetScale { mean, deviation } = self;
        if mean.is_finite() && deviation.is_finite() && deviation > 0.0 {
            return Ok(());
        }
        Err(Error::config("scale", format!("mean {mean}, deviation {deviation}"), "both must be finite, the deviation above 0"))
    }
}
