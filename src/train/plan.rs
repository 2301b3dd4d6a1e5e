//! Plan: how a trainer goes through its data and changes the parameters, whatever it trains.

use serde::{Deserialize, Serialize};

use crate::backend::Cpu;
use crate::error::{Error, Result};
use crate::nn::{Cosine, LinearDecay, OneCycle, OptimizerConfig, Plateau, RateSchedule, StepDecay, UpdateRule, check_rate};

/// The part of a [`Recipe`](super::Recipe) that does not depend on what is trained: its tables `run`, `optimizer` and `schedule`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Plan {
    /// How the data are gone through.
    pub run: RunConfig,
    /// What moves the parameters: AdamW unless another rule is named.
    pub optimizer: OptimizerConfig,
    /// How the learning rates change.
    pub schedule: Schedule,
}

impl Plan {
    /// Batches of this size, a run of this length, seed 0, and learning rates that stay.
    pub fn new(batch: usize, length: Length, optimizer: impl Into<OptimizerConfig>) -> Self {
        Plan { run: RunConfig::new(batch, length), optimizer: optimizer.into(), schedule: Schedule::Constant }
    }

    /// The same from another seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.run.seed = seed;
        self
    }

    /// The same with rates that change.
    pub fn schedule(self, schedule: Schedule) -> Self {
        Plan { schedule, ..self }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`] with its name.
    pub fn check(&self) -> Result<()> {
        self.run.check()?;
        self.schedule.check()?;
        UpdateRule::<Cpu<f32>>::check(&self.optimizer)
    }

    /// Batches in an epoch of `samples` samples. The last one may be smaller; a single sample that is left over is left out, because
    /// its gradient would count as much as a whole batch's.
    pub fn steps_per_epoch(&self, samples: usize) -> u64 {
        self.run.steps_per_epoch(samples)
    }

    /// The steps of a run on `samples` training samples. It ends where a cosine, or a line, has reached 0, since nothing is learnt from there
    /// on.
    pub fn steps(&self, samples: usize) -> u64 {
        self.run.steps(self.schedule, samples)
    }
}

/// How the data are gone through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RunConfig {
    /// From which every random number of the run comes.
    pub seed: u64,
    /// Samples a step.
    pub batch: usize,
    /// The most parts, micro-batches, in which a batch is computed: one after another, to save memory, or by several processes at once, with
    /// the same bits. The step is that of the whole batch, its random numbers too; what a BatchNorm sees of it says
    /// [`batch_norm`](Self::batch_norm).
    #[serde(default = "default::accumulate")]
    pub accumulate: usize,
    /// What a BatchNorm normalises over where there are several micro-batches.
    #[serde(default)]
    pub batch_norm: BatchNorms,
    /// How long the run is.
    pub length: Length,
    /// Epochs without a new best validation accuracy after which the run ends.
    pub early_stop: Option<u64>,
    /// The largest L2 norm of all gradients together; a larger one is scaled down to it.
    pub clip: Option<f64>,
    /// The decay of an exponential average of the weights over the steps, as 0.999; `None` keeps none. Evaluations, pictures and whoever uses
    /// a checkpoint take the average; the training goes on from the weights themselves.
    pub ema: Option<f64>,
    /// Keep the inputs of blocks alone, and run these again for their gradients: the same bits in less memory and more time. With a spike
    /// penalty everything is kept.
    #[serde(default)]
    pub recompute: bool,
    /// What is added to the loss for spikes that are too many or too few; the loss that is reported is without it.
    pub spike_penalty: Option<SpikePenalty>,
    /// What stands for spikes in training.
    #[serde(default)]
    pub spikes: TrainingSpikes,
    /// Parameters that are not trained, as [`Module::freeze`](crate::nn::Module::freeze) takes them: `["blocks.*.output"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
}

/// What stands for spikes in training; an evaluation has its own say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TrainingSpikes {
    /// Spikes that are drawn, with their surrogate gradient.
    #[default]
    Sampled,
    /// The expectation of every spike: no noise, and the exact gradient.
    Expected,
    /// Steps on expectations give way to steps on drawn spikes, whose share grows evenly from none to all over so many steps.
    Annealed(u64),
}

impl TrainingSpikes {
    /// Whether step `step`, from 0, is on expectations.
    pub(super) fn expected_at(self, step: u64) -> bool {
        match self {
            TrainingSpikes::Sampled => false,
            TrainingSpikes::Expected => true,
            // Of the first n steps n^2 / 2 over the length are drawn ones: a step is one where that number reaches the next integer.
            TrainingSpikes::Annealed(over) => {
                let drawn = |steps: u64| u128::from(steps) * u128::from(steps) / (2 * u128::from(over.max(1)));
                step < over && drawn(step + 1) == drawn(step)
            }
        }
    }
}

listed! {
    /// What a BatchNorm normalises over in training.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[non_exhaustive]
    pub enum BatchNorms {
        /// A micro-batch.
        #[default]
        Micro,
        /// The whole batch, padding of its micro-batches included. All micro-batches are then computed at the same time, so that they save no
        /// memory on one process, and the processes talk at every BatchNorm, forwards and backwards.
        Synchronised,
    }
}

/// What is added to the loss: `weight` times the mean of `(spike rate - rate)^2` over all layers and sites.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpikePenalty {
    /// The factor, at least 0.
    pub weight: f64,
    /// The rate that is wanted, in [0, 1].
    #[serde(default)]
    pub rate: f64,
}

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Length {
    /// Optimiser steps.
    Steps(u64),
    /// Passes over the training set.
    Epochs(u64),
}

/// How the learning rates of all parameter groups change together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Schedule {
    /// Not at all.
    Constant,
    /// Warm-up and half a cosine, stepped with every batch.
    Cosine(Cosine),
    /// Warm-up and a straight line down, stepped with every batch.
    Linear(LinearDecay),
    /// Down by a factor after every so many steps.
    Step(StepDecay),
    /// Up and down once, stepped with every batch.
    OneCycle(OneCycle),
    /// Down when the validation accuracy has not risen for some epochs.
    Plateau {
        /// What the rates are multiplied by.
        #[serde(default = "default::decay")]
        decay: f64,
        /// Epochs without a new best that are tolerated.
        #[serde(default = "default::patience")]
        patience: u64,
    },
}

/// What a file that leaves a field out gets. An optional one is then `None`.
mod default {
    pub(super) fn accumulate() -> usize {
        1
    }
    pub(super) fn decay() -> f64 {
        0.2
    }
    pub(super) fn patience() -> u64 {
        20
    }
}

impl RunConfig {
    /// Batches of this size and a run of this length, from seed 0; the rest as in a file that leaves it out.
    pub fn new(batch: usize, length: Length) -> Self {
        RunConfig {
            seed: 0,
            batch,
            accumulate: default::accumulate(),
            batch_norm: BatchNorms::default(),
            length,
            early_stop: None,
            clip: None,
            ema: None,
            recompute: false,
            spike_penalty: None,
            spikes: TrainingSpikes::default(),
            freeze: Vec::new(),
        }
    }

    /// Samples of a micro-batch; the last one may have fewer.
    pub(super) fn micro_batch(&self) -> usize {
        self.batch.div_ceil(self.accumulate)
    }

    /// Batches in an epoch of `samples` samples.
    pub(super) fn steps_per_epoch(&self, samples: usize) -> u64 {
        let (whole, rest) = (samples / self.batch, samples % self.batch);
        whole as u64 + u64::from(rest > 1 || (rest == 1 && whole == 0))
    }

    /// The steps of a run on `samples` training samples.
    pub(super) fn steps(&self, schedule: Schedule, samples: usize) -> u64 {
        let steps = match self.length {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => epochs.saturating_mul(self.steps_per_epoch(samples)),
        };
        schedule.end().map_or(steps, |end| steps.min(end))
    }

    pub(super) fn check(&self) -> Result<()> {
        let length = match self.length {
            Length::Steps(steps) => ("steps", steps),
            Length::Epochs(epochs) => ("epochs", epochs),
        };
        let counts = [("batch", self.batch as u64), ("accumulate", self.accumulate as u64), length];
        counts.into_iter().try_for_each(|(name, count)| at_least_one(name, count))?;
        if let Some((name, value)) = [length, ("seed", self.seed)].into_iter().find(|&(_, value)| value > i64::MAX as u64) {
            return Err(Error::config(name, value, "must be below 2^63"));
        }
        if self.accumulate > self.batch {
            return Err(Error::config("accumulate", self.accumulate, format!("a batch of {} has no more parts than samples", self.batch)));
        }
        if self.spikes == TrainingSpikes::Annealed(0) {
            return Err(Error::config("annealed", 0, "must be at least 1 step, or spikes = \"sampled\""));
        }
        if self.early_stop == Some(0) {
            return Err(Error::config("early_stop", 0, "must be at least 1, or left out"));
        }
        if let Some(SpikePenalty { weight, rate }) = self.spike_penalty {
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(Error::config("weight", weight, "must be finite and at least 0, or spike_penalty left out"));
            }
            check_rate(rate)?;
        }
        if let Some(decay) = self.ema
            && !(0.0..1.0).contains(&decay)
        {
            return Err(Error::config("ema", decay, "must lie in [0, 1), or be left out"));
        }
        match self.clip {
            Some(clip) if !(clip > 0.0 && clip.is_finite()) => Err(Error::config("clip", clip, "must be above 0 and finite, or left out")),
            _ => Ok(()),
        }
    }
}

impl Schedule {
    /// The factor of step `step`, from 0, as far as it goes by the step.
    pub(super) fn factor(self, step: u64) -> f64 {
        match self {
            Schedule::Constant | Schedule::Plateau { .. } => 1.0,
            Schedule::Cosine(cosine) => cosine.factor(step),
            Schedule::Linear(line) => line.factor(step),
            Schedule::Step(decay) => decay.factor(step),
            Schedule::OneCycle(cycle) => cycle.factor(step),
        }
    }

    /// The step from which on nothing is learnt, because the factor stays 0.
    fn end(self) -> Option<u64> {
        match self {
            Schedule::Cosine(Cosine { total, .. }) => Some(total),
            Schedule::Linear(LinearDecay { total, last: 0.0, .. }) => Some(total),
            _ => None,
        }
    }

    /// The same over `steps` steps, a tenth of them warm-up, where it has a length.
    pub(super) fn over(self, steps: u64) -> Self {
        match self {
            Schedule::Cosine(_) => Schedule::Cosine(Cosine { warmup: steps / 10, total: steps }),
            Schedule::Linear(line) => Schedule::Linear(LinearDecay { warmup: steps / 10, total: steps, ..line }),
            Schedule::OneCycle(mut cycle) => {
                cycle.total = steps;
                Schedule::OneCycle(cycle)
            }
            Schedule::Constant | Schedule::Step(_) | Schedule::Plateau { .. } => self,
        }
    }

    pub(super) fn check(self) -> Result<()> {
        match self {
            Schedule::Constant => Ok(()),
            Schedule::Cosine(Cosine { warmup, total }) => Cosine::new(warmup, total).map(drop),
            Schedule::Linear(LinearDecay { warmup, total, last }) => LinearDecay::new(warmup, total, last).map(drop),
            Schedule::Step(StepDecay { every, decay }) => StepDecay::new(every, decay).map(drop),
            Schedule::OneCycle(cycle) => cycle.check(),
            Schedule::Plateau { decay, patience } => Plateau::new(decay, patience).map(drop),
        }
    }
}

pub(super) fn at_least_one(name: &'static str, count: u64) -> Result<()> {
    if count == 0 { Err(Error::config(name, 0, "must be at least 1")) } else { Ok(()) }
}
