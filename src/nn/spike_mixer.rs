//! SpikeMixer: lets the neurons of a layer talk.

use super::linear::fan_in_uniform;
use super::{Activation, Context, Module, Names, Param, ParamOptions};
use crate::autodiff::Var;
use crate::autodiff::ops::mix::Mix;
use crate::backend::{Backend, Draw, Key};
use crate::error::{Error, Result};

/// activation(W z + b), where z stacks the spikes of all branches over the channels.
#[derive(Clone, Debug)]
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
    ///
    /// # Errors
    /// [`Error::Config`] where a size is 0.
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
    ///
    /// # Errors
    /// [`Error::Shape`] where the branches are not as many, or not of the shape, that W is for.
    pub fn forward(&self, cx: &Context<'_, B>, branches: &[&Var<B>]) -> Result<Var<B>> {
        self.mix(cx, branches, None, None)
    }

    /// [`SpikeMixer::forward`] with dropout tied over the length, added to a residual (B, H, L), in one operation.
    pub(super) fn onto(
        &self,
        cx: &Context<'_, B>,
        branches: &[&Var<B>],
        residual: &Var<B>,
        dropout: Option<(f64, Draw)>,
    ) -> Result<Var<B>> {
        self.mix(cx, branches, Some(residual), dropout)
    }

    fn mix(&self, cx: &Context<'_, B>, branches: &[&Var<B>], residual: Option<&Var<B>>, dropout: Option<(f64, Draw)>) -> Result<Var<B>> {
        let mix = Mix { activation: self.activation.function(), dropout, residual: residual.is_some() };
        Var::mix_with(branches, &cx.var(&self.weight), &cx.var(&self.bias), residual, mix)
    }
}

impl<B: Backend> Module<B> for SpikeMixer<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        names.param("weight", &self.weight);
        names.param("bias", &self.bias);
    }
}
