//! A model's weights as its streams read them, and which models have streams.

use super::block::StepBlock;
use super::digest;
use super::ends::{StepEncoder, StepHead};
use super::norm::StepNorm;
use crate::backend::{Backend, Real};
use crate::error::{Error, Result};
use crate::nn::model::Head;
use crate::nn::{Model, ModelConfig, StreamConfig};

/// Everything that a step reads and none writes: shared by all streams of a model.
#[derive(Debug)]
pub struct Weights<E> {
    pub encoder: StepEncoder<E>,
    pub blocks: Vec<StepBlock<E>>,
    pub norm: Option<StepNorm<E>>,
    pub head: StepHead<E>,
    pub channels: usize,
    /// Of the model that they were made of.
    pub digest: u64,
}

impl<E: Real> Weights<E> {
    pub fn new<B: Backend<Elem = E>>(backend: &B, model: &Model<B>, stream: StreamConfig) -> Result<Self> {
        let config = model.config();
        check(config)?;
        let Head::Classes(head) = &model.head else { return Err(pairs()) };
        Ok(Weights {
            digest: digest::of(backend, model)?,
            encoder: StepEncoder::new(backend, &model.encoder, config.encoder)?,
            blocks: model.blocks().iter().map(|block| StepBlock::new(backend, block, stream)).collect::<Result<_>>()?,
            norm: model.norm.as_ref().map(|norm| StepNorm::new(backend, norm)).transpose()?,
            head: StepHead::new(backend, head, config.pooling)?,
            channels: config.block.ssm.d_model,
        })
    }

    /// Bytes.
    pub fn bytes(&self) -> usize {
        let norm = self.norm.as_ref().map_or(0, StepNorm::len) * size_of::<E>();
        self.encoder.bytes() + self.blocks.iter().map(StepBlock::bytes).sum::<usize>() + norm + self.head.bytes()
    }
}

/// Whether a model can be streamed.
fn check(config: &ModelConfig) -> Result<()> {
    let causal = "make the model of ModelConfig::causal(), in a recipe model.causal = true, and train it so";
    if config.block.ssm.bidirectional {
        let help = format!("the anticausal kernel reads the future, so the model has no stream: {causal}");
        return Err(Error::config("block.ssm.bidirectional", true, help));
    }
    if config.block.bidirectional && config.block.flip_reverse {
        let help = format!("the second branch runs backwards in time, so the model has no stream: leave the flip out, or {causal}");
        return Err(Error::config("block.flip_reverse", true, help));
    }
    if config.retrieval { Err(pairs()) } else { Ok(()) }
}

fn pairs() -> Error {
    Error::config("retrieval", true, "this model compares whole documents, and has no stream: configure retrieval = false")
}
