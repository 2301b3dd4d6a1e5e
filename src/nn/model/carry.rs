//! A model over a long recording, piece by piece, in training too: truncated back-propagation through time.

use super::{Head, Model, OP, Pooling};
use crate::autodiff::{Tape, Var};
use crate::backend::{Backend, shape};
use crate::error::{Error, Result};
use crate::nn::{Context, Input};

/// What a model carries from one piece of a recording to the next: the states of its SSMs, and what is pooled so far.
///
/// It is made of variables: gradients of a later piece reach the earlier ones, as long as both are on one tape. [`Carry::onto`] takes the
/// values to another tape, which truncates the back-propagation.
///
/// ```
/// use pspikessm::prelude::*;
/// # fn main() -> Result<()> {
/// let cpu = Cpu::<f32>::new();
/// let block = BlockConfig::new(SsmConfig::new(8, 4).l_max(16)).norm(NormKind::Layer);
/// let model = Model::new(&cpu, Key::new(0), &ModelConfig::new(Encoder::Values(1), block, 2).layers(1).causal())?;
/// let mut optimizer = Optimizer::new(AdamWConfig::new(1e-2, 0.0))?;
/// let recording: Vec<f32> = (0..64).map(|t| (0.3 * t as f32).sin()).collect();
/// let (mut carry, mut tape) = (None, Tape::new(&cpu));
/// for piece in recording.chunks(16) {
///     let cx = Context::training(&tape, Key::new(1));
///     let (logits, next) = model.forward_from(&cx, Input::values(piece, 1), carry.as_ref())?;
///     optimizer.update(&cpu, &model, &logits.cross_entropy(&[1])?.backward()?, 1.0)?;
///     tape = Tape::new(&cpu);
///     carry = Some(next.onto(&tape));
/// }
/// assert_eq!(carry.map(|carry| carry.heard()), Some(64));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Carry<B: Backend> {
    heard: u64,
    /// Of every block, a state (B, H, N) of every branch.
    states: Vec<Vec<Var<B>>>,
    /// The sum over the features so far, or the last ones: (B, H).
    pooled: Var<B>,
}

impl<B: Backend> Carry<B> {
    /// How many time steps came before.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// The states of block number `layer`, (batch, d_model, d_state), one for each of its branches; none where there is no such block.
    pub fn states(&self, layer: usize) -> &[Var<B>] {
        self.states.get(layer).map_or(&[], Vec::as_slice)
    }

    /// The same values as constants of another tape: no gradient goes further back.
    pub fn onto(&self, tape: &Tape<B>) -> Self {
        let constant = |x: &Var<B>| tape.constant(x.value());
        let states = self.states.iter().map(|states| states.iter().map(constant).collect()).collect();
        Carry { heard: self.heard, states, pooled: constant(&self.pooled) }
    }
}

impl<B: Backend> Model<B> {
    /// Logits (batch, classes) of everything up to the end of a piece of a recording, and what the next piece needs; `carry` is what the
    /// piece before gave, `None` for the first one. Pieces one after the other give what [`Model::forward`] gives of the whole, noise and
    /// gradients included, but that a BatchNorm in training normalises each piece by itself.
    ///
    /// # Errors
    /// As [`Model::forward`]; [`Error::Config`] for a model that is not causal, for neurons that integrate, whose potential is not carried,
    /// and for a head that compares documents; [`Error::Value`] where true lengths are given, the batch differs from the last piece's, or a
    /// piece is longer than l_max.
    pub fn forward_from(&self, cx: &Context<'_, B>, input: Input<'_, B>, carry: Option<&Carry<B>>) -> Result<(Var<B>, Carry<B>)> {
        if let Head::Retrieval(..) = self.head {
            return Err(Error::config("retrieval", true, "this head compares whole documents: a piece has no logits"));
        }
        if input.lengths.is_some() {
            return Err(Error::value(OP, "pieces have no true lengths: give recordings that go on in a batch of their own"));
        }
        let heard = carry.map_or(0, |carry| carry.heard);
        let cx = &cx.clone().first_step(heard);
        let mut x = self.encode(cx, input)?;
        if let Some(carry) = carry {
            shape::exactly(OP, "what is carried, like the encoded input,", &[x.shape()[0], x.shape()[1]], carry.pooled.shape())?;
        }
        let draws = self.config.block.draws();
        cx.check_given(OP, self.blocks.len() * draws)?;
        let mut states = Vec::with_capacity(self.blocks.len());
        for (i, block) in self.blocks.iter().enumerate() {
            let (next, own) = block.forward_from(&cx.layer(i, draws), &x, carry.map(|carry| carry.states(i)))?;
            x = next;
            states.push(own);
        }
        let x = self.norm.as_ref().map_or(Ok(x.clone()), |norm| norm.forward(cx, &x))?;
        let [batch, channels, length] = shape::sequence(OP, "the sequence", x.shape())?;
        let heard = heard + length as u64;
        let (pooled, mean) = match self.config.pooling {
            Pooling::Last => {
                let last = x.slice(2, length - 1, 1)?.reshape(&[batch, channels])?;
                (last.clone(), last)
            }
            Pooling::Mean => {
                let piece = x.sum_axes(&[2])?;
                let sum = carry.map_or_else(|| Ok(piece.clone()), |carry| carry.pooled.add(&piece))?;
                (sum.clone(), sum.scale(1.0 / heard as f64)?)
            }
        };
        Ok((self.decode(cx, &mean)?, Carry { heard, states, pooled }))
    }
}
