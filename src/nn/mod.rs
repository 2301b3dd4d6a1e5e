//! Layers, losses and optimisers, built from ops and generic over the backend.
//!
//! Sequences are (batch, d_model, length). A layer's `forward` takes a [`Context`]: the tape, whether this is training, and the key
//! from which all of its random numbers come.

#[macro_use]
mod setters;

mod activation;
mod attention;
mod average;
mod batch_statistics;
mod block;
mod clamp_fuse;
mod context;
mod conv1d;
mod custom_surrogate;
mod dropout;
mod embedding;
pub mod hippo;
mod linear;
mod loss;
mod model;
mod module;
mod norm;
mod observed;
pub mod official;
mod optim;
mod parts;
mod plif;
mod recurrent;
mod rms_norm;
mod schedule;
mod spike_meter;
mod spike_mixer;
mod spike_sampler;
pub mod ssm;
pub mod store;
mod stream;
mod time_steps;

pub use activation::Activation;
pub use attention::MultiHeadAttention;
pub use average::Ema;
pub use batch_statistics::BatchStatistics;
pub use block::{Block, BlockConfig};
pub use clamp_fuse::ClampFuse;
pub use context::Context;
pub use conv1d::Conv1d;
pub use custom_surrogate::CustomSurrogate;
pub use dropout::{dropout, dropout_tied};
pub use embedding::Embedding;
pub use linear::Linear;
pub use loss::{CrossEntropy, LossReduction, bce_with_logits, huber_loss, l1_loss, mse_loss};
pub use model::{Carry, Encoder, Input, Model, ModelConfig, Pooling};
pub use module::{Module, Names, Param, ParamOptions};
pub use norm::{Norm, NormKind};
pub use observed::Observed;
#[cfg(feature = "train")]
pub(crate) use observed::check_rate;
pub use optim::{AdamConfig, AdamWConfig, LionConfig, Moved, Moving, Optimizer, OptimizerConfig, ParamState, SgdConfig, Step, UpdateRule};
pub use parts::Parts;
pub use plif::PlifConfig;
pub use recurrent::{Gru, Lstm, LstmState};
pub use rms_norm::RmsNorm;
pub use schedule::{Cosine, LinearDecay, OneCycle, Plateau, RateSchedule, StepDecay};
pub use spike_meter::{Site, SpikeMeter};
pub use spike_mixer::SpikeMixer;
pub use spike_sampler::{SpikeSampler, SpikeSource};
pub use ssm::{Ssm, SsmConfig, SsmInit};
pub use stream::{Signal, Stream, StreamConfig};
