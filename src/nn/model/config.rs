//! What a model is made of: its configuration.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::BlockConfig;

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
}

setters! {
    ModelConfig { encoder: Encoder, block: BlockConfig, layers: usize, pooling: Pooling, classes: usize, retrieval: bool }
}
