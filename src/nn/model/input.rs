//! What goes into a model: content, batch, true lengths.

use crate::autodiff::Var;
use crate::backend::Backend;

/// A batch of sequences of equal (padded) length.
///
/// ```
/// use pspikessm::autodiff::Tape;
/// use pspikessm::backend::*;
/// use pspikessm::nn::{BlockConfig, Context, Encoder, Input, Model, ModelConfig, SsmConfig};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let block = BlockConfig::new(SsmConfig::new(8, 4).l_max(5));
/// let model = Model::new(&cpu, Key::new(0), &ModelConfig::new(Encoder::Values(2), block, 3).layers(1))?;
/// // Two sequences of two channels and five steps, as a variable: what the model makes of them has a gradient.
/// let tape = Tape::new(&cpu);
/// let x = tape.leaf(&cpu.normal(Key::new(1), &[2, 2, 5])?);
/// let cx = Context::evaluation(&tape, Key::new(2)).expected();
/// let logits = model.forward(&cx, Input::sequence(&x).lengths(&[5, 3]))?;
/// let saliency = logits.cross_entropy(&[2, 0])?.backward()?;
/// assert_eq!(saliency.of(&x)?.shape(), [2, 2, 5]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Input<'a, B: Backend> {
    pub(super) content: Content<'a, B>,
    pub(super) batch: usize,
    pub(super) lengths: Option<&'a [usize]>,
}

/// What an input holds.
#[derive(Clone, Debug)]
pub(super) enum Content<'a, B: Backend> {
    Tokens(&'a [u32]),
    Values(&'a [f32]),
    Sequence(Var<B>),
    Encoded(Var<B>),
}

impl<'a, B: Backend> Input<'a, B> {
    /// Tokens (batch, length), row-major.
    pub fn tokens(tokens: &'a [u32], batch: usize) -> Self {
        Input { content: Content::Tokens(tokens), batch, lengths: None }
    }

    /// Values (batch, length, d_input), row-major.
    pub fn values(values: &'a [f32], batch: usize) -> Self {
        Input { content: Content::Values(values), batch, lengths: None }
    }

    /// Values as a variable (batch, d_input, length): the output of a front-end, or a leaf whose gradient is wanted. They are not searched
    /// for numbers that are not finite.
    pub fn sequence(x: &Var<B>) -> Self {
        let batch = x.shape().first().copied().unwrap_or(0);
        Input { content: Content::Sequence(x.clone()), batch, lengths: None }
    }

    /// What goes into the first block, (batch, d_model, length), past the model's encoder.
    pub fn encoded(x: &Var<B>) -> Self {
        Input { content: Content::Encoded(x.clone()), ..Self::sequence(x) }
    }

    /// `count` of the sequences, from `first` on, of tokens or values that the batch shares evenly.
    pub(super) fn slice(&self, first: usize, count: usize) -> Self {
        fn share<T>(all: &[T], batch: usize, first: usize, count: usize) -> &[T] {
            let each = all.len() / batch;
            &all[first * each..][..count * each]
        }
        let content = match &self.content {
            Content::Tokens(tokens) => Content::Tokens(share(tokens, self.batch, first, count)),
            Content::Values(values) => Content::Values(share(values, self.batch, first, count)),
            other => other.clone(),
        };
        Input { content, batch: count, lengths: self.lengths.map(|lengths| share(lengths, self.batch, first, count)) }
    }

    /// The same with the true length of every sequence; what lies behind it is padding.
    pub fn lengths(self, lengths: &'a [usize]) -> Self {
        Input { lengths: Some(lengths), ..self }
    }
}
