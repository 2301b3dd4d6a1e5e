//! Recipe: every number that a training run is made of, apart from its data.

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::nn::{AdamWConfig, BlockConfig, Cosine, Encoder, ModelConfig, Plateau, Pooling};

/// How the learning rates of all parameter groups change together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// Not at all.
    Constant,
    /// Warm-up and half a cosine, stepped with every batch.
    Cosine(Cosine),
    /// Down when the validation accuracy has not risen for some epochs.
    Plateau {
        /// What the rates are multiplied by.
        decay: f64,
        /// Epochs without a new best that are tolerated.
        patience: u64,
    },
}

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Optimiser steps.
    Steps(u64),
    /// Passes over the training set.
    Epochs(u64),
}

/// What a training run is made of, apart from its data.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Every block of the model, and in it the SSM.
    pub block: BlockConfig,
    /// Blocks.
    pub layers: usize,
    /// What the decoder reads.
    pub pooling: Pooling,
    /// Whether a sample is two documents that are compared.
    pub retrieval: bool,
    /// Samples a step.
    pub batch: usize,
    /// Learning rate, weight decay and the rest of AdamW.
    pub optimizer: AdamWConfig,
    /// How the learning rates change.
    pub schedule: Schedule,
    /// How long the run is.
    pub length: Length,
    /// From which every random number of the run comes.
    pub seed: u64,
}

impl Recipe {
    /// The same over `steps` steps. A cosine gets this length too, a tenth of it warm-up.
    pub fn with_steps(mut self, steps: u64) -> Self {
        self.length = Length::Steps(steps);
        if let Schedule::Cosine(_) = self.schedule {
            self.schedule = Schedule::Cosine(Cosine { warmup: steps / 10, total: steps });
        }
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`] with the name of the value: a batch, a length or a number of layers of 0, and what the block, the optimiser
    /// and the schedule refuse.
    pub fn check(&self) -> Result<()> {
        let (Length::Steps(length) | Length::Epochs(length)) = self.length;
        for (name, value) in [("batch", self.batch as u64), ("length", length), ("layers", self.layers as u64)] {
            if value == 0 {
                return Err(Error::config(name, 0, "must be at least 1"));
            }
        }
        match self.schedule {
            Schedule::Constant => {}
            Schedule::Cosine(Cosine { warmup, total }) => drop(Cosine::new(warmup, total)?),
            Schedule::Plateau { decay, patience } => drop(Plateau::new(decay, patience)?),
        }
        self.block.check()
    }

    /// The model for samples as in `set`.
    pub fn model(&self, set: &Dataset) -> ModelConfig {
        let encoder = match (set.vocabulary(), set.d_input()) {
            (Some(vocabulary), _) => Encoder::Tokens(vocabulary.len()),
            (None, d_input) => Encoder::Values(d_input.unwrap_or(0)),
        };
        ModelConfig {
            encoder,
            block: self.block.clone(),
            layers: self.layers,
            pooling: self.pooling,
            classes: set.classes(),
            retrieval: self.retrieval,
        }
    }

    /// Batches in an epoch of `samples` samples. The last one may be smaller; a single sample that is left over is left out, because
    /// its gradient would count as much as a whole batch's.
    pub fn steps_per_epoch(&self, samples: usize) -> u64 {
        let (whole, rest) = (samples / self.batch, samples % self.batch);
        whole as u64 + u64::from(rest > 1 || (rest == 1 && whole == 0))
    }

    /// The steps of a run on `samples` training samples. It ends where a cosine has reached 0, since nothing is learnt from there on.
    pub fn steps(&self, samples: usize) -> u64 {
        let steps = match self.length {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => epochs.saturating_mul(self.steps_per_epoch(samples)),
        };
        match self.schedule {
            Schedule::Cosine(cosine) => steps.min(cosine.total),
            _ => steps,
        }
    }

    /// What a checkpoint must agree with, by the names that are shown where it does not. The length is in it only where the schedule
    /// depends on it: otherwise a longer run is the continuation of a shorter one.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("seed", self.seed.to_string()), ("batch", self.batch.to_string())];
        if let Schedule::Cosine(cosine) = self.schedule {
            fields.push(("steps", cosine.total.to_string()));
        }
        fields.extend([
            ("schedule", format!("{:?}", self.schedule)),
            ("optimizer", format!("{:?}", self.optimizer)),
            ("layers", self.layers.to_string()),
            ("pooling", format!("{:?}", self.pooling)),
            ("retrieval", self.retrieval.to_string()),
            ("block", format!("{:?}", self.block)),
        ]);
        fields
    }
}
