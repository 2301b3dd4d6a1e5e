//! The whole model: encoder, blocks, decoder.

mod carry;
mod config;
mod file;
mod input;
mod slices;

pub use carry::Carry;
pub use config::{Encoder, ModelConfig, Pooling};
pub use input::Input;

use self::input::Content;
use super::{Block, Context, CustomSurrogate, Embedding, Linear, Module, Names, Norm};
use crate::autodiff::Var;
use crate::backend::{Backend, Key, Real, Tensor, shape};
use crate::error::{Error, Result};

#[derive(Debug)]
pub(in crate::nn) enum EncoderLayer<B: Backend> {
    Tokens(Embedding<B>),
    Values(Linear<B>),
}

#[derive(Debug)]
pub(in crate::nn) enum Head<B: Backend> {
    Classes(Linear<B>),
    Retrieval(Linear<B>, Linear<B>),
}

/// A P-SpikeSSM classifier.
///
/// A forward pass writes nothing but a BatchNorm's running statistics, and these in training alone: any number of threads evaluate one
/// model at the same time, each on a tape of its own.
///
/// ```
/// use pspikessm::autodiff::Tape;
/// use pspikessm::backend::{Cpu, Key};
/// use pspikessm::nn::{BlockConfig, Context, Encoder, Input, Model, ModelConfig, SsmConfig};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f32>::new();
/// let block = BlockConfig::new(SsmConfig::new(8, 4));
/// let model = Model::new(&cpu, Key::new(0), &ModelConfig::new(Encoder::Tokens(18), block, 10).layers(2))?;
/// // Training needs kernels that are long enough before it records; where l_max is configured they are.
/// model.prepare(&cpu, 3)?;
/// let tape = Tape::new(&cpu);
/// let cx = Context::training(&tape, Key::new(1));
/// let logits = model.forward(&cx, Input::tokens(&[3, 1, 4, 1, 5, 9], 2).lengths(&[3, 2]))?;
/// assert_eq!(logits.shape(), [2, 10]);
/// let gradients = logits.cross_entropy(&[7, 0])?.backward()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Model<B: Backend> {
    pub(in crate::nn) encoder: EncoderLayer<B>,
    blocks: Vec<Block<B>>,
    pub(in crate::nn) norm: Option<Norm<B>>,
    pub(in crate::nn) head: Head<B>,
    config: ModelConfig,
}

/// Whom messages name.
const OP: &str = "Model";

impl<B: Backend> Model<B> {
    /// A model with random initial parameters, all from `key`. Where l_max is configured it is ready to be trained.
    ///
    /// # Errors
    /// [`Error::Config`] for what [`ModelConfig::check`] refuses.
    pub fn new(backend: &B, key: Key, config: &ModelConfig) -> Result<Self> {
        config.check()?;
        config.check_room(size_of::<B::Elem>())?;
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

    /// The same with this surrogate for all its spikes. It is no part of the [configuration](Model::config), and no file holds it.
    ///
    /// # Errors
    /// As [`SpikeSampler::with_surrogate`](super::SpikeSampler::with_surrogate).
    pub fn with_surrogate(self, surrogate: &CustomSurrogate<B>) -> Result<Self> {
        let blocks = self.blocks.into_iter().map(|block| block.with_surrogate(surrogate)).collect::<Result<_>>()?;
        Ok(Model { blocks, ..self })
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The blocks.
    pub fn blocks(&self) -> &[Block<B>] {
        &self.blocks
    }

    /// Makes the kernels' C~ for sequences up to `length`, where it does not suffice: what a recorded pass needs first. It changes
    /// parameters, once; see [`SsmKernel::prepare`](super::ssm::SsmKernel::prepare).
    ///
    /// # Errors
    /// As `SsmKernel::prepare`.
    pub fn prepare(&self, backend: &B, length: usize) -> Result<()> {
        self.blocks.iter().try_for_each(|block| block.prepare(backend, length))
    }

    /// Logits (batch, classes); for retrieval (batch / 2, classes).
    ///
    /// # Errors
    /// [`Error::Value`] for an empty batch, a token out of range, a value that is NaN or infinite, or too little given noise;
    /// [`Error::Shape`] where sizes do not fit; [`Error::NotDifferentiable`] on a tape that records, where the model is not
    /// [prepared](Model::prepare) for the length.
    pub fn forward(&self, cx: &Context<'_, B>, input: Input<'_, B>) -> Result<Var<B>> {
        let cx = &self.in_samples(cx, input.batch)?;
        let pooled = match self.slice_size(cx, &input) {
            // What is refused, is refused again in terms of the whole batch.
            Some(size) => self.pooled_in_slices(cx, &input, size).or_else(|_| self.pooled(cx, input))?,
            None => self.pooled(cx, input)?,
        };
        self.decode(cx, &pooled)
    }

    /// What the blocks and the last norm make of the input, pooled: (batch, d_model).
    fn pooled(&self, cx: &Context<'_, B>, input: Input<'_, B>) -> Result<Var<B>> {
        let lengths = input.lengths;
        let x = self.through_blocks(cx, input)?;
        match &self.norm {
            Some(norm) => self.normalized_and_pooled(cx, norm, &x, lengths),
            None => self.pool(cx, &x, lengths),
        }
    }

    /// What the blocks make of the input, (batch, d_model, length): before pooling and head.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn features(&self, cx: &Context<'_, B>, input: Input<'_, B>) -> Result<Var<B>> {
        let cx = &self.in_samples(cx, input.batch)?;
        self.normalized(cx, self.through_blocks(cx, input)?)
    }

    fn through_blocks(&self, cx: &Context<'_, B>, input: Input<'_, B>) -> Result<Var<B>> {
        let (lengths, batch) = (input.lengths, input.batch);
        let mut x = self.encode(cx, input)?;
        shape::lengths(OP, lengths, batch, x.shape()[2])?;
        let draws = self.config.block.draws();
        cx.check_given(OP, self.blocks.len() * draws)?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = through(block, &cx.layer(i, draws), &x, lengths)?;
        }
        Ok(x)
    }

    /// What the last norm, if there is one, makes of it.
    fn normalized(&self, cx: &Context<'_, B>, x: Var<B>) -> Result<Var<B>> {
        match &self.norm {
            Some(norm) => norm.forward(cx, &x),
            None => Ok(x),
        }
    }

    /// The head's logits for every time step, (batch, classes, length), in the place of those of the pooled sequence.
    ///
    /// # Errors
    /// As [`Model::forward`]; [`Error::Config`] for retrieval, whose head compares whole documents.
    pub fn forward_each_step(&self, cx: &Context<'_, B>, input: Input<'_, B>) -> Result<Var<B>> {
        match &self.head {
            Head::Classes(linear) => linear.forward(cx, &self.features(cx, input)?),
            Head::Retrieval(..) => {
                Err(Error::config("retrieval", true, "this head compares whole documents: there are no logits of a time step"))
            }
        }
    }

    /// The surroundings in which both documents of a pair are one sample.
    fn in_samples<'a>(&self, cx: &Context<'a, B>, batch: usize) -> Result<Context<'a, B>> {
        match &self.head {
            Head::Classes(_) => Ok(cx.clone()),
            Head::Retrieval(..) if batch.is_multiple_of(2) => Ok(cx.clone().sides(2)),
            Head::Retrieval(..) => {
                Err(Error::value(OP, format!("{batch} documents are not pairs: give all first ones, then all second ones")))
            }
        }
    }

    fn encode(&self, cx: &Context<'_, B>, input: Input<'_, B>) -> Result<Var<B>> {
        if input.batch == 0 {
            return Err(Error::value(OP, "the batch is empty: give at least one sequence"));
        }
        match (&self.encoder, input.content) {
            (_, Content::Encoded(x)) => {
                let [batch, _, length] = shape::sequence(OP, "the encoded input", x.shape())?;
                shape::exactly(OP, "the encoded input", &[batch, self.config.block.ssm.d_model, length], x.shape())?;
                Ok(x)
            }
            (EncoderLayer::Tokens(embedding), Content::Tokens(tokens)) => embedding.forward(cx, tokens, input.batch),
            (EncoderLayer::Values(linear), Content::Sequence(x)) => {
                shape::sequence(OP, "the input", x.shape())?;
                linear.forward(cx, &x)
            }
            (EncoderLayer::Values(linear), Content::Values(values)) => {
                let x = host_values(cx.backend(), values, input.batch, linear.weight.value().shape()[1])?;
                linear.forward(cx, &cx.tape().constant(&x).permute(&[0, 2, 1])?)
            }
            (EncoderLayer::Tokens(_), _) => Err(Error::value(OP, "this model reads tokens, but values were given")),
            (EncoderLayer::Values(_), _) => Err(Error::value(OP, "this model reads values, but tokens were given")),
        }
    }

    /// What the last norm makes of x, pooled. The weights of the positions add up to 1, so that a norm which is an affine map may as well be
    /// applied to what is pooled, which is less.
    fn normalized_and_pooled(&self, cx: &Context<'_, B>, norm: &Norm<B>, x: &Var<B>, lengths: Option<&[usize]>) -> Result<Var<B>> {
        let Some((scale, shift)) = norm.affine(cx, x)? else { return self.pool(cx, &norm.forward(cx, x)?, lengths) };
        let pooled = self.pool(cx, x, lengths)?;
        let sizes = [pooled.shape()[0], pooled.shape()[1]];
        pooled.reshape(&[sizes[0], sizes[1], 1])?.affine(&scale, &shift)?.reshape(&sizes)
    }

    /// (B, H, L) to (B, H): a product with the weights of the positions.
    fn pool(&self, cx: &Context<'_, B>, x: &Var<B>, lengths: Option<&[usize]>) -> Result<Var<B>> {
        let [batch, channels, length] = shape::sequence(OP, "the sequence", x.shape())?;
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
                let pairs = pooled.shape()[0] / 2;
                let (a, b) = (pooled.slice(0, 0, pairs)?, pooled.slice(0, pairs, pairs)?);
                let features = Var::concat(&[&a, &b, &a.sub(&b)?, &a.mul(&b)?], 1)?;
                second.forward(cx, &first.forward(cx, &features)?.gelu()?)
            }
        }
    }
}

/// What a block makes of x; where the context says so, as a segment that is run again.
fn through<B: Backend>(block: &Block<B>, cx: &Context<'_, B>, x: &Var<B>, lengths: Option<&[usize]>) -> Result<Var<B>> {
    if !cx.recomputes() {
        return block.forward(cx, x, lengths);
    }
    let (block, kept, lengths) = (block.clone(), cx.kept(), lengths.map(<[usize]>::to_vec));
    cx.tape().checkpoint(&[x], move |tape, inputs| block.forward(&kept.on(tape), &inputs[0], lengths.as_deref()))
}

/// (batch, length, d_input) on the device, of values that are checked.
fn host_values<B: Backend>(backend: &B, values: &[f32], batch: usize, d_input: usize) -> Result<Tensor<B>> {
    let length = values.len() / batch.saturating_mul(d_input);
    if length == 0 || values.len() != batch * length * d_input {
        let help = format!("{} values are not {batch} sequences of equal length with {d_input} values a position", values.len());
        return Err(Error::value(OP, help));
    }
    if let Some(i) = values.iter().position(|v| !v.is_finite()) {
        let (b, t) = (i / (length * d_input), i / d_input % length);
        return Err(Error::value(OP, format!("input value {} of sequence {b} at position {t} is not finite", values[i])));
    }
    backend.from_vec(values.iter().map(|&v| B::Elem::of(f64::from(v))).collect(), &[batch, length, d_input])
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
