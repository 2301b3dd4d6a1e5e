//! The whole model: encoder, blocks, decoder.

use serde::{Deserialize, Serialize};

use super::{Block, BlockConfig, BlockNoise, Context, Embedding, Linear, Module, Names, Norm};
use crate::autodiff::Var;
use crate::backend::{Backend, Key, Real, Tensor, shape};
use crate::error::{Error, Result};

/// How an input becomes a (batch, d_model, length) sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoder {
    /// An embedding of tokens out of a vocabulary of this size.
    Tokens(usize),
    /// A linear map of this many values at every position.
    Values(usize),
}

/// How a sequence becomes one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean over the true length.
    #[default]
    Mean,
    /// The last position of the true length.
    Last,
}

/// The configuration of a model.
#[derive(Clone, Debug, PartialEq)]
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

/// One batch of inputs, of equal (padded) length.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// (batch, length), row-major.
    Tokens(&'a [u32]),
    /// (batch, length, d_input), row-major.
    Values(&'a [f32]),
}

/// The uniform numbers of a whole forward pass.
#[derive(Clone, Debug)]
pub enum Noises<B: Backend> {
    /// Streams below the context's key.
    Stream,
    /// Drawn by the caller, (B, H, L) each, in order: those of block 0, those of block 1, ..
    Given(Vec<Tensor<B>>),
}

#[derive(Debug)]
enum EncoderLayer<B: Backend> {
    Tokens(Embedding<B>),
    Values(Linear<B>),
}

#[derive(Debug)]
enum Head<B: Backend> {
    Classes(Linear<B>),
    Retrieval(Linear<B>, Linear<B>),
}

/// A P-SpikeSSM classifier.
///
/// ```
/// use pspikessm::autodiff::Tape;
/// use pspikessm::backend::{Cpu, Key};
/// use pspikessm::nn::{BlockConfig, Context, Encoder, Input, Model, ModelConfig, Noises, Pooling, SsmConfig};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f32>::new();
/// let block = BlockConfig::new(SsmConfig::new(8, 4));
/// let config =
///     ModelConfig { encoder: Encoder::Tokens(18), block, layers: 2, pooling: Pooling::Mean, classes: 10, retrieval: false };
/// let model = Model::new(&cpu, Key::new(0), &config)?;
/// let tape = Tape::new(&cpu);
/// let cx = Context::training(&tape, Key::new(1));
/// let logits = model.forward(&cx, Input::Tokens(&[3, 1, 4, 1, 5, 9]), 2, Some(&[3, 2]), &Noises::Stream)?;
/// assert_eq!(logits.shape(), [2, 10]);
/// let gradients = logits.cross_entropy(&[7, 0])?.backward()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Model<B: Backend> {
    encoder: EncoderLayer<B>,
    blocks: Vec<Block<B>>,
    norm: Option<Norm<B>>,
    head: Head<B>,
    config: ModelConfig,
}

impl<B: Backend> Model<B> {
    /// A model with random initial parameters, all from `key`.
    ///
    /// # Errors
    /// [`Error::Config`] where a value of the configuration makes no sense.
    pub fn new(backend: &B, key: Key, config: &ModelConfig) -> Result<Self> {
        config.block.check()?;
        if config.classes == 0 {
            return Err(Error::config("classes", 0, "must be at least 1"));
        }
        let d_model = config.block.ssm.d_model;
        let encoder = match config.encoder {
            Encoder::Tokens(vocabulary) => EncoderLayer::Tokens(Embedding::new(backend, key.fold(0), vocabulary, d_model)?),
            Encoder::Values(d_input) => EncoderLayer::Values(Linear::new(backend, key.fold(0), d_input, d_model)?),
        };
        let blocks = (0..config.layers).map(|i| Block::new(backend, key.fold(8 + i as u64), &config.block)).collect::<Result<_>>()?;
        let final_norm = config.block.norm.filter(|_| config.block.prenorm);
        let head = if config.retrieval {
            Head::Retrieval(
                Linear::new(backend, key.fold(1), 4 * d_model, d_model)?,
                Linear::new(backend, key.fold(2), d_model, config.classes)?,
            )
        } else {
            Head::Classes(Linear::new(backend, key.fold(1), d_model, config.classes)?)
        };
        let norm = final_norm.map(|kind| Norm::new(backend, kind, d_model)).transpose()?;
        Ok(Model { encoder, blocks, norm, head, config: config.clone() })
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The blocks.
    pub fn blocks(&self) -> &[Block<B>] {
        &self.blocks
    }

    /// Logits (batch, classes); for retrieval (batch / 2, classes).
    ///
    /// # Errors
    /// [`Error::Value`] for an empty batch, a token out of range or a value that is NaN or infinite; [`Error::Shape`] where sizes do not fit.
    pub fn forward(
        &self,
        cx: &Context<'_, B>,
        input: Input<'_>,
        batch: usize,
        lengths: Option<&[usize]>,
        noises: &Noises<B>,
    ) -> Result<Var<B>> {
        let mut x = self.encode(cx, input, batch)?;
        shape::lengths("Model", lengths, batch, x.shape()[2])?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&cx.layer(i), &x, lengths, &self.block_noise(noises, i)?)?;
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(cx, &x)?;
        }
        self.decode(cx, &self.pool(cx, &x, lengths)?)
    }

    fn block_noise(&self, noises: &Noises<B>, block: usize) -> Result<BlockNoise<B>> {
        let Noises::Given(draws) = noises else { return Ok(BlockNoise::Stream) };
        let per_block = self.config.block.draws();
        match draws.get(block * per_block..(block + 1) * per_block) {
            Some(draws) => Ok(BlockNoise::Given(draws.to_vec())),
            None => {
                let help = format!("{} draws of noise were given, {} are needed", draws.len(), self.blocks.len() * per_block);
                Err(Error::value("Model", help))
            }
        }
    }

    fn encode(&self, cx: &Context<'_, B>, input: Input<'_>, batch: usize) -> Result<Var<B>> {
        const OP: &str = "Model";
        if batch == 0 {
            return Err(Error::value(OP, "the batch is empty: give at least one sequence"));
        }
        match (&self.encoder, input) {
            (EncoderLayer::Tokens(embedding), Input::Tokens(tokens)) => embedding.forward(cx, tokens, batch),
            (EncoderLayer::Values(linear), Input::Values(values)) => {
                let d_input = linear.weight.value().shape()[1];
                let length = values.len() / (batch * d_input);
                if length == 0 || values.len() != batch * length * d_input {
                    let help =
                        format!("{} values are not {batch} sequences of equal length with {d_input} values a position", values.len());
                    return Err(Error::value(OP, help));
                }
                if let Some(i) = values.iter().position(|v| !v.is_finite()) {
                    let (b, t) = (i / (length * d_input), i / d_input % length);
                    return Err(Error::value(OP, format!("input value {} of sequence {b} at position {t} is not finite", values[i])));
                }
                let host = values.iter().map(|&v| B::Elem::of(f64::from(v))).collect();
                let x = cx.tape().constant(&cx.backend().from_vec(host, &[batch, length, d_input])?);
                linear.forward(cx, &x.permute(&[0, 2, 1])?)
            }
            (EncoderLayer::Tokens(_), _) => Err(Error::value(OP, "this model reads tokens, but values were given")),
            (EncoderLayer::Values(_), _) => Err(Error::value(OP, "this model reads values, but tokens were given")),
        }
    }

    /// (B, H, L) to (B, H): a product with the weights of the positions.
    fn pool(&self, cx: &Context<'_, B>, x: &Var<B>, lengths: Option<&[usize]>) -> Result<Var<B>> {
        let [batch, channels, length] = shape::sequence("Model", "the sequence", x.shape())?;
        let full = vec![length; batch];
        let lengths = lengths.unwrap_or(&full);
        let weights: Vec<B::Elem> = match self.config.pooling {
            Pooling::Mean => {
                let weight = |t, n| if t < n { B::Elem::of(1.0) / B::Elem::of(n as f64) } else { B::Elem::of(0.0) };
                lengths.iter().flat_map(|&n| (0..length).map(move |t| weight(t, n))).collect()
            }
            Pooling::Last => lengths.iter().flat_map(|&n| (0..length).map(move |t| B::Elem::of(f64::from(u8::from(t + 1 == n))))).collect(),
        };
        let weights = cx.tape().constant(&cx.backend().from_vec(weights, &[batch, length, 1])?);
        x.matmul(&weights)?.reshape(&[batch, channels])
    }

    fn decode(&self, cx: &Context<'_, B>, pooled: &Var<B>) -> Result<Var<B>> {
        match &self.head {
            Head::Classes(linear) => linear.forward(cx, pooled),
            Head::Retrieval(first, second) => {
                let rows = pooled.shape()[0];
                if !rows.is_multiple_of(2) {
                    return Err(Error::value(
                        "Model",
                        format!("{rows} documents are not pairs: give all first ones, then all second ones"),
                    ));
                }
                let (a, b) = (pooled.slice(0, 0, rows / 2)?, pooled.slice(0, rows / 2, rows / 2)?);
                let features = Var::concat(&[&a, &b, &a.sub(&b)?, &a.mul(&b)?], 1)?;
                second.forward(cx, &first.forward(cx, &features)?.gelu()?)
            }
        }
    }
}

impl<B: Backend> Module<B> for Model<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        match &self.encoder {
            EncoderLayer::Tokens(embedding) => names.module("encoder", embedding),
            EncoderLayer::Values(linear) => names.module("encoder", linear),
        }
        for (i, block) in self.blocks.iter().enumerate() {
            names.module(format!("blocks.{i}"), block);
        }
        if let Some(norm) = &self.norm {
            names.module("norm", norm);
        }
        match &self.head {
            Head::Classes(linear) => names.module("decoder", linear),
            Head::Retrieval(first, second) => {
                names.module("decoder.0", first);
                names.module("decoder.1", second);
            }
        }
    }
}
