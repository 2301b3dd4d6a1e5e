//! MultiHeadAttention: every position looks at the others of its sequence.

use super::linear::fan_in_uniform;
use super::{Context, Module, Names, Param, ParamOptions};
use crate::autodiff::Var;
use crate::backend::{Backend, Key, Real, Tensor, Unary, shape};
use crate::error::{Error, Result};

/// Self-attention of several heads (Vaswani et al. 2017): `softmax(q^T k / sqrt(d)) v` in each, of d = d_model / heads channels.
///
/// ```
/// use pspikessm::{autodiff::Tape, backend::*, nn::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let attention = MultiHeadAttention::new(&cpu, Key::new(0), 8, 2)?.causal(true);
/// let tape = Tape::off(&cpu);
/// let cx = Context::evaluation(&tape, Key::new(1));
/// let x = tape.constant(&cpu.normal(Key::new(2), &[1, 8, 6])?);
/// // Nothing that comes later is seen.
/// let (whole, beginning) = (attention.forward(&cx, &x, None)?, attention.forward(&cx, &x.slice(2, 0, 4)?, None)?);
/// let whole = whole.slice(2, 0, 4)?.to_vec()?;
/// assert!(whole.iter().zip(beginning.to_vec()?).all(|(a, b)| (a - b).abs() < 1e-14));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct MultiHeadAttention<B: Backend> {
    /// Of q, k and v, one below the other: (3 d_model, d_model).
    pub input_weight: Param<B>,
    /// (3 d_model); no weight decay.
    pub input_bias: Param<B>,
    /// (d_model, d_model).
    pub output_weight: Param<B>,
    /// (d_model); no weight decay.
    pub output_bias: Param<B>,
    heads: usize,
    causal: bool,
}

const OP: &str = "MultiHeadAttention";

impl<B: Backend> MultiHeadAttention<B> {
    /// As PyTorch: input weights uniform in +-sqrt(6 / (4 d_model)), output weights in +-1/sqrt(d_model), biases 0. Every position sees all.
    ///
    /// # Errors
    /// [`Error::Config`] where d_model is 0, or the heads do not divide it.
    pub fn new(backend: &B, key: Key, d_model: usize, heads: usize) -> Result<Self> {
        if d_model == 0 || heads == 0 || !d_model.is_multiple_of(heads) {
            return Err(Error::config("heads", heads, format!("must divide d_model, which is {d_model}, and both be at least 1")));
        }
        let bound = (6.0 / (4 * d_model) as f64).sqrt();
        let unit = backend.uniform(key.fold(0), &[3 * d_model, d_model])?;
        let zeros = |size| Param::full(backend, &[size], 0.0, ParamOptions::PLAIN);
        Ok(MultiHeadAttention {
            input_weight: Param::new(backend.unary(Unary::Linear(2.0 * bound, -bound), &unit)?, ParamOptions::DECAYED),
            input_bias: zeros(3 * d_model)?,
            output_weight: fan_in_uniform(backend, key.fold(1), &[d_model, d_model], d_model, ParamOptions::DECAYED)?,
            output_bias: zeros(d_model)?,
            heads,
            causal: false,
        })
    }

    /// The same, where a position sees itself and earlier ones alone, or again all of them.
    pub fn causal(self, causal: bool) -> Self {
        MultiHeadAttention { causal, ..self }
    }

    /// (B, d_model, L) to (B, d_model, L); positions behind a sequence's true length are seen by none.
    ///
    /// # Errors
    /// [`Error::Shape`] where x has another number of axes or channels; [`Error::Value`] where x is empty, or a true length is not
    /// in 1 to L.
    pub fn forward(&self, cx: &Context<'_, B>, x: &Var<B>, lengths: Option<&[usize]>) -> Result<Var<B>> {
        let [batch, _, length] = shape::sequence(OP, "the input", x.shape())?;
        let d_model = self.output_bias.value().numel();
        shape::exactly(OP, "the input", &[batch, d_model, length], x.shape())?;
        shape::lengths(OP, lengths, batch, length)?;
        let all = Var::mix(&[x], &cx.var(&self.input_weight), &cx.var(&self.input_bias))?;
        let size = d_model / self.heads;
        let part = |at: usize| all.slice(1, at * d_model, d_model)?.reshape(&[batch, self.heads, size, length]);
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let mut scores = q.matmul_transposed(&k, true, false)?.scale(1.0 / (size as f64).sqrt())?;
        if let Some(hidden) = self.hidden(cx.backend(), lengths, batch, length)? {
            scores = scores.add(&cx.tape().constant(&hidden))?;
        }
        let seen = v.matmul_transposed(&scores.softmax(3)?, false, true)?.reshape(&[batch, d_model, length])?;
        Var::mix(&[&seen], &cx.var(&self.output_weight), &cx.var(&self.output_bias))
    }

    /// (B or 1, 1, L, L): -infinity where position t (row) must not see position s (column), else 0; `None` where all see all.
    fn hidden(&self, backend: &B, lengths: Option<&[usize]>, batch: usize, length: usize) -> Result<Option<Tensor<B>>> {
        if !self.causal && lengths.is_none() {
            return Ok(None);
        }
        let (full, rows) = ([length], lengths.map_or(1, |_| batch));
        let lengths = lengths.unwrap_or(&full);
        let seen = |n: usize, t: usize, s: usize| s < n && !(self.causal && s > t);
        let value = |n, t, s| B::Elem::of(if seen(n, t, s) { 0.0 } else { f64::NEG_INFINITY });
        let of_sequence = |&n: &usize| (0..length * length).map(move |i| value(n, i / length, i % length)).collect::<Vec<_>>();
        backend.from_vec(lengths.iter().flat_map(of_sequence).collect(), &[rows, 1, length, length]).map(Some)
    }
}

impl<B: Backend> Module<B> for MultiHeadAttention<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        names.param("in_proj_weight", &self.input_weight);
        names.param("in_proj_bias", &self.input_bias);
        names.param("out_proj.weight", &self.output_weight);
        names.param("out_proj.bias", &self.output_bias);
    }
}
