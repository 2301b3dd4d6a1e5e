//! RmsNorm: every position divided by the root of its mean square.

use super::{Context, Module, Names, Param, ParamOptions};
use crate::autodiff::Var;
use crate::backend::{Backend, shape};
use crate::error::{Error, Result};

/// `gain[h] x / sqrt(mean(x^2) + eps)`, the mean over the channels of a position (Zhang and Sennrich 2019,
/// [arXiv:1910.07467](https://arxiv.org/abs/1910.07467)): a LayerNorm that subtracts no mean.
#[derive(Debug)]
pub struct RmsNorm<B: Backend> {
    /// The gain, (d_model); no weight decay.
    pub weight: Param<B>,
    /// What keeps a position of zeros from being divided by 0.
    pub eps: f64,
}

impl<B: Backend> RmsNorm<B> {
    /// Gain 1, eps 1e-5.
    ///
    /// # Errors
    /// [`Error::Config`] where d_model is 0.
    pub fn new(backend: &B, d_model: usize) -> Result<Self> {
        if d_model == 0 {
            return Err(Error::config("d_model", d_model, "must be at least 1"));
        }
        Ok(RmsNorm { weight: Param::full(backend, &[d_model], 1.0, ParamOptions::PLAIN)?, eps: 1e-5 })
    }

    /// (B, d_model, L) normalised.
    ///
    /// # Errors
    /// [`Error::Shape`] where x has another number of axes or channels; [`Error::Config`] where eps is negative or not finite.
    pub fn forward(&self, cx: &Context<'_, B>, x: &Var<B>) -> Result<Var<B>> {
        let [batch, _, length] = shape::sequence("RmsNorm", "the input", x.shape())?;
        let channels = self.weight.value().numel();
        shape::exactly("RmsNorm", "the input", &[batch, channels, length], x.shape())?;
        if !(self.eps >= 0.0 && self.eps.is_finite()) {
            return Err(Error::config("eps", self.eps, "must be finite and at least 0"));
        }
        let gain = cx.var(&self.weight).reshape(&[channels, 1])?;
        x.mul(&x.square()?.mean_keep(&[1])?.linear_map(1.0, self.eps)?.sqrt()?.recip()?)?.mul(&gain)
    }
}

impl<B: Backend> Module<B> for RmsNorm<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        names.param("weight", &self.weight);
    }
}
