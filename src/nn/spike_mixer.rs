//! SpikeMixer: lets the neurons of a layer talk.

use super::linear::fan_in_uniform;
use super::{Context, Module, Names, Param, ParamOptions};
use crate::autodiff::Var;
use crate::backend::{Backend, Key};
use crate::error::{Error, Result};

/// The non-linearity after the mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Activation {
    /// x Phi(x).
    #[default]
    Gelu,
    /// max(x, 0).
    Relu,
}

impl Activation {
    /// The function applied to every element.
    pub fn apply<B: Backend>(self, x: &Var<B>) -> Result<Var<B>> {
        match self {
            Activation::Gelu => x.gelu(),
            Activation::Relu => x.relu(),
        }
    }
}

/// activation(W z + b), where z stacks the spikes of all branches over the channels.
#[derive(Debug)]
pub struct SpikeMixer<B: Backend> {
    /// W, (d_model, branches x d_model).
    pub weight: Param<B>,
    /// b, (d_model); no weight decay.
    pub bias: Param<B>,
    /// The non-linearity.
    pub activation: Activation,
}

impl<B: Backend> SpikeMixer<B> {
    /// Weights and biases uniform in +-1/sqrt(branches x d_model).
    pub fn new(backend: &B, key: Key, d_model: usize, branches: usize, activation: Activation) -> Result<Self> {
        if d_model == 0 || branches == 0 {
            return Err(Error::config("SpikeMixer", format!("{branches} branches of {d_model}"), "both sizes must be at least 1"));
        }
        let d_input = branches * d_model;
        Ok(SpikeMixer {
            weight: fan_in_uniform(backend, key.fold(0), &[d_model, d_input], d_input, ParamOptions::DECAYED)?,
            bias: fan_in_uniform(backend, key.fold(1), &[d_model], d_input, ParamOptions::PLAIN)?,
            activation,
        })
    }

    /// The spikes of every branch, (B, H, L) each, to (B, H, L).
    pub fn forward(&self, cx: &Context<'_, B>, branches: &[&Var<B>]) -> Result<Var<B>> {
        self.activation.apply(&Var::mix(branches, &cx.var(&self.weight), &cx.var(&self.bias))?)
    }
}

impl<B: Backend> Module<B> for SpikeMixer<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        names.param("weight", &self.weight);
        names.param("bias", &self.bias);
    }
}
