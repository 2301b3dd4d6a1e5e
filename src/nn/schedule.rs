//! Learning-rate schedules: factors that multiply every group's own rate.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What every learning rate is multiplied by, step after step. A closure of the step is one, too.
///
/// ```
/// use pspikessm::nn::*;
/// # fn main() -> pspikessm::Result<()> {
/// let mut schedules: [Box<dyn RateSchedule>; 3] =
///     [Box::new(Cosine::new(10, 100)?), Box::new(Plateau::new(0.5, 0)?), Box::new(|step| 1.0 / (1.0 + step as f64).sqrt())];
/// for accuracy in [0.6, 0.5] {
///     schedules.iter_mut().for_each(|schedule| schedule.observe(accuracy));
/// }
/// assert_eq!(schedules.map(|schedule| schedule.factor(3)), [0.3, 0.5, 0.5]);
/// # Ok(()) }
/// ```
pub trait RateSchedule {
    /// The factor of step `step`, from 0.
    fn factor(&self, step: u64) -> f64;

    /// Takes note of the validation accuracy at the end of an epoch; most schedules go by the step alone.
    fn observe(&mut self, accuracy: f64) {
        let _ = accuracy;
    }
}

impl<F: Fn(u64) -> f64> RateSchedule for F {
    fn factor(&self, step: u64) -> f64 {
        self(step)
    }
}

/// The share of a rise from 0 to 1 over `warmup` steps; `None` after it.
fn warming(step: u64, warmup: u64) -> Option<f64> {
    (step < warmup).then(|| step as f64 / warmup as f64)
}

/// Refuses a warm-up that is longer than the whole, and a whole of nothing.
fn check_warmup(warmup: u64, total: u64) -> Result<()> {
    if total == 0 || warmup > total {
        return Err(Error::config("warmup", warmup, format!("must be at most the total of {total} steps, and the total at least 1")));
    }
    Ok(())
}

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
        check_warmup(warmup, total)?;
        Ok(Cosine { warmup, total })
    }

    /// The factor of step `step`, from 0.
    pub fn factor(&self, step: u64) -> f64 {
        if let Some(rise) = warming(step, self.warmup) {
            return rise;
        }
        let progress = (step - self.warmup) as f64 / (self.total - self.warmup).max(1) as f64;
        0.5 * (1.0 + (PI * progress.min(1.0)).cos())
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

impl RateSchedule for Cosine {
    fn factor(&self, step: u64) -> f64 {
        self.factor(step)
    }
}

impl RateSchedule for Plateau {
    fn factor(&self, _: u64) -> f64 {
        self.factor
    }

    fn observe(&mut self, accuracy: f64) {
        self.observe(accuracy);
    }
}

/// Linear warm-up from 0, then a straight line down to `last`, where it stays.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearDecay {
    /// Steps of warm-up.
    pub warmup: u64,
    /// Steps until the last factor.
    pub total: u64,
    /// The last factor.
    #[serde(default)]
    pub last: f64,
}

impl LinearDecay {
    /// A schedule over `total` steps, `warmup` of them rising, down to the factor `last`.
    ///
    /// # Errors
    /// [`Error::Config`] where the warm-up is longer than the whole, nothing is left, or `last` is negative or not finite.
    pub fn new(warmup: u64, total: u64, last: f64) -> Result<Self> {
        check_warmup(warmup, total)?;
        if !(last >= 0.0 && last.is_finite()) {
            return Err(Error::config("last", last, "must be finite and at least 0"));
        }
        Ok(LinearDecay { warmup, total, last })
    }
}

impl RateSchedule for LinearDecay {
    fn factor(&self, step: u64) -> f64 {
        warming(step, self.warmup).unwrap_or_else(|| {
            let progress = (step - self.warmup) as f64 / (self.total - self.warmup).max(1) as f64;
            1.0 + (self.last - 1.0) * progress.min(1.0)
        })
    }
}

/// Multiplies the rate by `decay` after every `every` steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepDecay {
    /// Steps between two multiplications.
    pub every: u64,
    /// What the rate is multiplied by.
    pub decay: f64,
}

impl StepDecay {
    /// # Errors
    /// [`Error::Config`] where `every` is 0 or `decay` is outside (0, 1].
    pub fn new(every: u64, decay: f64) -> Result<Self> {
        if every == 0 {
            return Err(Error::config("every", every, "must be at least 1"));
        }
        if !(decay > 0.0 && decay <= 1.0) {
            return Err(Error::config("decay", decay, "must lie in (0, 1]"));
        }
        Ok(StepDecay { every, decay })
    }
}

impl RateSchedule for StepDecay {
    fn factor(&self, step: u64) -> f64 {
        self.decay.powf((step / self.every) as f64)
    }
}

/// Half a cosine up from `first` to 1, and another down to `last`, where it stays: the 1cycle policy (Smith and Topin 2018,
/// [arXiv:1708.07120](https://arxiv.org/abs/1708.07120)), with PyTorch's phases.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct OneCycle {
    /// Steps of the whole.
    pub total: u64,
    /// The share of the steps that rise.
    pub rise: f64,
    /// The first factor.
    pub first: f64,
    /// The last factor.
    pub last: f64,
}

impl OneCycle {
    /// A cycle over `total` steps: three tenths of them rise, from 1 / 25, and it ends at a ten thousandth of that.
    ///
    /// # Errors
    /// As [`OneCycle::check`].
    pub fn new(total: u64) -> Result<Self> {
        let cycle = OneCycle { total, rise: 0.3, first: 1.0 / 25.0, last: 1e-4 / 25.0 };
        cycle.check().map(|()| cycle)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`] where fewer than 2 steps rise, or fall, or a factor is outside [0, 1].
    pub fn check(&self) -> Result<()> {
        if !(self.rise > 0.0 && self.rise < 1.0 && self.top() > 0.0 && self.top() < self.total as f64 - 1.0) {
            return Err(Error::config("rise", self.rise, format!("some of the {} steps must rise and some fall", self.total)));
        }
        match [("first", self.first), ("last", self.last)].into_iter().find(|(_, factor)| !(0.0..=1.0).contains(factor)) {
            Some((name, factor)) => Err(Error::config(name, factor, "must lie in [0, 1]")),
            None => Ok(()),
        }
    }

    /// Where the factor is 1: a point in time, not always a whole step.
    fn top(&self) -> f64 {
        self.rise * self.total as f64 - 1.0
    }
}

setters! {
    OneCycle { rise: f64, first: f64, last: f64 }
}

impl RateSchedule for OneCycle {
    fn factor(&self, step: u64) -> f64 {
        let (step, top, end) = (step as f64, self.top(), self.total as f64 - 1.0);
        let between = |from: f64, to: f64, progress: f64| to + (from - to) / 2.0 * (1.0 + (PI * progress.min(1.0)).cos());
        match step <= top {
            true => between(self.first, 1.0, step / top),
            false => between(1.0, self.last, (step - top) / (end - top)),
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
    fn lines_steps_and_cycles_have_the_values_of_their_formulas() {
        let line = LinearDecay::new(2, 10, 0.2).unwrap();
        let found: Vec<f64> = [0, 1, 2, 6, 10, 99].map(|step| line.factor(step)).into();
        assert!(found.iter().zip([0.0, 0.5, 1.0, 0.6, 0.2, 0.2]).all(|(found, want)| (found - want).abs() < 1e-15), "{found:?}");
        assert!(LinearDecay::new(3, 2, 0.0).is_err() && LinearDecay::new(0, 1, f64::NAN).is_err());

        let steps = StepDecay::new(3, 0.5).unwrap();
        assert_eq!([0, 2, 3, 5, 6, 600].map(|step| steps.factor(step)), [1.0, 1.0, 0.5, 0.5, 0.25, 0.5f64.powi(200)]);
        assert!(StepDecay::new(0, 0.5).is_err() && StepDecay::new(1, 0.0).is_err() && StepDecay::new(1, 1.5).is_err());

        // torch.optim.lr_scheduler.OneCycleLR(max_lr=1, total_steps=11): its phases end at 2.3 and 10.
        let cycle = OneCycle::new(11).unwrap();
        let fall = |step: f64| 4e-6 + (1.0 - 4e-6) / 2.0 * (1.0 + (PI * (step - 2.3) / 7.7).cos());
        let rise = |step: f64| 1.0 + (0.04 - 1.0) / 2.0 * (1.0 + (PI * step / 2.3).cos());
        for (step, want) in [(0, 0.04), (1, rise(1.0)), (2, rise(2.0)), (3, fall(3.0)), (7, fall(7.0)), (10, 4e-6), (500, 4e-6)] {
            assert!((cycle.factor(step) - want).abs() < 1e-15, "step {step}: {} and not {want}", cycle.factor(step));
        }
        assert!(OneCycle::new(3).is_err() && OneCycle::new(100).unwrap().first(2.0).check().is_err());
        assert!(OneCycle::new(100).unwrap().rise(f64::NAN).check().is_err());
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
