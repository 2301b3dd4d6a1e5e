//! What a model is made of: its configuration.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::{BlockConfig, SsmInit};

/// How an input becomes a (batch, d_model, length) sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Encoder {
    /// An embedding of tokens out of a vocabulary of this size.
    Tokens(usize),
    /// A linear map of this many values at every position.
    Values(usize),
}

listed! {
    /// How a sequence becomes one vector.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[non_exhaustive]
    pub enum Pooling {
        /// The mean over the true length.
        #[default]
        Mean,
        /// The last position of the true length.
        Last,
    }
}

/// The configuration of a model. [`ModelConfig::new`] gives the recipes' common values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelConfig {
    /// The encoder.
    pub encoder: Encoder,
    /// Every block.
    pub block: BlockConfig,
    /// How many blocks.
    pub layers: usize,
    /// What the decoder reads.
    pub pooling: Pooling,
    /// Classes.
    pub classes: usize,
    /// Compare two documents: the batch holds all first ones, then all second ones, and the head sees [a, b, a-b, a*b].
    pub retrieval: bool,
}

impl ModelConfig {
    /// Four blocks, the mean over the true length, one document a sample.
    pub fn new(encoder: Encoder, block: BlockConfig, classes: usize) -> Self {
        ModelConfig { encoder, block, layers: 4, pooling: Pooling::Mean, classes, retrieval: false }
    }

    /// The same with causal blocks ([`BlockConfig::causal`]): the model never looks ahead in time, and [streams](crate::nn::Stream).
    pub fn causal(mut self) -> Self {
        self.block = self.block.causal();
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`]: what [`BlockConfig::check`] refuses, an encoder of nothing, no classes.
    pub fn check(&self) -> Result<()> {
        let (Encoder::Tokens(size) | Encoder::Values(size)) = self.encoder;
        for (name, value) in [("encoder", size), ("classes", self.classes)] {
            if value == 0 {
                return Err(Error::config(name, 0, "must be at least 1"));
            }
        }
        self.block.check()
    }

    /// Refuses sizes that this process could not be given memory for, of numbers of `bytes` each. It asks for the memory and gives it back
    /// untouched: a model would ask part by part, and an allocation that fails ends a program.
    pub(crate) fn check_room(&self, bytes: usize) -> Result<()> {
        let needed = self.least_values() * bytes as f64;
        if needed <= isize::MAX as f64 && Vec::<u8>::new().try_reserve_exact(needed as usize).is_ok() {
            return Ok(());
        }
        let help = format!(
            "with {} layers the model takes {:.0} GB at least, which this system does not give: choose less",
            self.layers,
            needed / 1e9
        );
        Err(Error::config("d_model", self.block.ssm.d_model, help))
    }

    /// Of how many numbers a model of these sizes consists at the least. It is no whole number, so that no size makes it overflow.
    pub(crate) fn least_values(&self) -> f64 {
        let BlockConfig { ssm, bidirectional, norm, .. } = &self.block;
        let (Encoder::Tokens(read) | Encoder::Values(read)) = self.encoder;
        let one_or_two = |two: bool| if two { 2.0 } else { 1.0 };
        let (channels, states, copies) = (ssm.d_model as f64, ssm.d_state as f64, ssm.n_ssm as f64);
        // Complex, of half the states: A, B and perhaps a P of one row, for every copy, and C.
        let shared = if let SsmInit::Dplr(_) = ssm.init { 3.0 } else { 2.0 };
        let ssm = 2.0 * channels + copies * shared * states + one_or_two(ssm.bidirectional) * channels * states;
        let (branches, norm) = (one_or_two(*bidirectional), if norm.is_some() { 2.0 } else { 0.0 });
        let block = branches * (2.0 * channels + ssm) + (3.0 + norm) * channels + branches * channels * channels;
        let compared = if self.retrieval { 4.0 * channels * channels } else { 0.0 };
        self.layers as f64 * block + (read as f64 + self.classes as f64) * channels + compared
    }
}

setters! {
    ModelConfig { encoder: Encoder, block: BlockConfig, layers: usize, pooling: Pooling, classes: usize, retrieval: bool }
}
