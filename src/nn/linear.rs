//! Linear: an affine map of the channels.

use super::{Context, Module, Names, Param, ParamOptions};
use crate::autodiff::Var;
use crate::backend::{Backend, Key, Unary};
use crate::error::{Error, Result};

/// y = W x + b over the channel axis, W (d_output, d_input).
#[derive(Clone, Debug)]
pub struct Linear<B: Backend> {
    /// W.
    pub weight: Param<B>,
    /// b.
    pub bias: Param<B>,
}

/// Values uniform in [-1/sqrt(fan_in), 1/sqrt(fan_in)).
pub(super) fn fan_in_uniform<B: Backend>(backend: &B, key: Key, shape: &[usize], fan_in: usize, options: ParamOptions) -> Result<Param<B>> {
    let bound = 1.0 / (fan_in as f64).sqrt();
    let unit = backend.uniform(key, shape)?;
    Ok(Param::new(backend.unary(Unary::Linear(2.0 * bound, -bound), &unit)?, options))
}

impl<B: Backend> Linear<B> {
    /// Weights and biases uniform in +-1/sqrt(d_input), as PyTorch; both with the recipe's weight decay (as encoder and decoder have).
    ///
    /// # Errors
    /// [`Error::Config`] where a size is 0.
    pub fn new(backend: &B, key: Key, d_input: usize, d_output: usize) -> Result<Self> {
        if d_input == 0 || d_output == 0 {
            return Err(Error::config("Linear", format!("{d_input} -> {d_output}"), "both sizes must be at least 1"));
        }
        let options = ParamOptions::DECAYED;
        Ok(Linear {
            weight: fan_in_uniform(backend, key.fold(0), &[d_output, d_input], d_input, options)?,
            bias: fan_in_uniform(backend, key.fold(1), &[d_output], d_input, options)?,
        })
    }

    /// (B, d_input, L) to (B, d_output, L), or (B, d_input) to (B, d_output).
    ///
    /// # Errors
    /// [`Error::Shape`] where x has another number of axes or channels.
    pub fn forward(&self, cx: &Context<'_, B>, x: &Var<B>) -> Result<Var<B>> {
        let (weight, bias) = (cx.var(&self.weight), cx.var(&self.bias));
        if x.shape().len() != 2 {
            return Var::mix(&[x], &weight, &bias);
        }
        let shape = x.shape();
        let y = Var::mix(&[&x.reshape(&[shape[0], shape[1], 1])?], &weight, &bias)?;
        y.reshape(&y.shape()[..2])
    }
}

impl<B: Backend> Module<B> for Linear<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        names.param("weight", &self.weight);
        names.param("bias", &self.bias);
    }
}
