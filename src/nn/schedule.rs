//! Learning-rate schedules: factors that multiply every group's own rate.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Linear warm-up from 0, then half a cosine down to 0, where it stays (the official one rises again after the total).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cosine {
    /// Steps of warm-up.
    pub warmup: u64,
    /// Steps until 0.
    pub total: u64,
}

impl Cosine {
    /// A schedule over `total` steps, `warmup` of them rising.
    ///
    /// # Errors
    /// [`Error::Config`] where the warm-up is longer than the whole, or nothing is left.
    pub fn new(warmup: u64, total: u64) -> Result<Self> {
        if total == 0 || warmup > total {
            return Err(Error::config("warmup", warmup, format!("must be at most the total of {total} steps, and the total at least 1")));
        }
        Ok(Cosine { warmup, total })
    }

    /// The factor of step `step`, from 0.
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warmup {
            return step as f64 / self.warmup as f64;
        }
        let progress = (step - self.warmup) as f64 / (self.total - self.warmup).max(1) as f64;
        0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())
    }
}

/// Multiplies the rate by `decay` when the validation accuracy has not risen for `patience` epochs in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Plateau {
    /// What the rate is multiplied by.
    pub decay: f64,
    /// Epochs without a new best that are tolerated.
    pub patience: u64,
    /// The present factor.
    pub factor: f64,
    /// The best accuracy so far.
    pub best: f64,
    /// Epochs since.
    pub waited: u64,
}

impl Plateau {
    /// The recipes' schedule is `Plateau::new(0.2, 20)`.
    ///
    /// # Errors
    /// [`Error::Config`] where `decay` is outside (0, 1).
    pub fn new(decay: f64, patience: u64) -> Result<Self> {
        if !(decay > 0.0 && decay < 1.0) {
            return Err(Error::config("decay", decay, "must lie in (0, 1)"));
        }
        Ok(Plateau { decay, patience, factor: 1.0, best: f64::NEG_INFINITY, waited: 0 })
    }

    /// Takes note of an epoch's accuracy. A rise below a share of 1e-4 of the best counts as none, as in PyTorch.
    pub fn observe(&mut self, accuracy: f64) {
        // Of a negative one, as of an error with its sign changed, a rise goes towards 0.
        if self.best == f64::NEG_INFINITY || accuracy > self.best * (1.0 + 1e-4 * self.best.signum()) {
            (self.best, self.waited) = (accuracy, 0);
            return;
        }
        self.waited += 1;
        if self.waited > self.patience {
            self.factor *= self.decay;
            self.waited = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_rises_falls_and_stays_at_zero() {
        let schedule = Cosine::new(10, 110).unwrap();
        assert_eq!(schedule.factor(0), 0.0);
        assert_eq!(schedule.factor(5), 0.5);
        assert_eq!(schedule.factor(10), 1.0);
        assert!((schedule.factor(60) - 0.5).abs() < 1e-15);
        assert!(schedule.factor(110).abs() < 1e-15 && schedule.factor(500).abs() < 1e-15);
        assert!(Cosine::new(5, 4).is_err() && Cosine::new(0, 0).is_err());
        assert_eq!(Cosine::new(3, 3).unwrap().factor(2), 2.0 / 3.0);
    }

    #[test]
    fn plateau_waits_then_drops() {
        let mut schedule = Plateau::new(0.2, 2).unwrap();
        for accuracy in [0.5, 0.6, 0.6, 0.59] {
            schedule.observe(accuracy);
        }
        assert_eq!(schedule.factor, 1.0);
        schedule.observe(0.6);
        assert_eq!(schedule.factor, 0.2);
        schedule.observe(0.7);
        assert_eq!((schedule.best, schedule.waited), (0.7, 0));
        assert!(Plateau::new(1.0, 3).is_err());
    }
}
