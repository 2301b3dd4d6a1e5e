//! The SSM layer: a long convolution with a generated kernel, and its step form.

mod carry;
mod init;
pub(in crate::nn) mod kept;
mod kernel;
mod step;

pub use init::{SsmConfig, SsmInit};
pub use kernel::SsmKernel;
pub use step::Stepper;

use std::rc::Rc;

use super::{Context, Module, Names, Param, ParamOptions, SpikeSampler, dropout, dropout_tied};
use crate::autodiff::Var;
use crate::autodiff::ops::fire::Fire;
use crate::backend::{Backend, FiringDropout, Key, Noise, Tensor};
use crate::error::Result;

/// dropout_tied(activation(dropout(conv(u * mask)))), channel by channel.
#[derive(Clone, Debug)]
pub struct Ssm<B: Backend> {
    /// Generates the convolution kernels.
    pub kernel: SsmKernel<B>,
    /// D, the skip, (d_model).
    pub skip: Param<B>,
    config: SsmConfig,
}

impl<B: Backend> Ssm<B> {
    /// A layer as configured; D is standard normal.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for what [`SsmConfig::check`] refuses.
    pub fn new(backend: &B, key: Key, config: &SsmConfig) -> Result<Self> {
        config.check()?;
        Ok(Ssm {
            kernel: SsmKernel::new(backend, key.fold(0), config)?,
            skip: Param::new(backend.normal(key.fold(1), &[config.d_model])?, ParamOptions::DECAYED),
            config: config.clone(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &SsmConfig {
        &self.config
    }

    /// The convolution alone, of u (B, H, L) with true lengths: y = k * u + D u.
    ///
    /// # Errors
    /// As [`Ssm::forward`].
    pub fn convolve(&self, cx: &Context<'_, B>, u: &Var<B>, lengths: Option<&[usize]>) -> Result<Var<B>> {
        u.long_conv(&self.kernel(cx, u)?, Some(&cx.var(&self.skip)), lengths)
    }

    /// (B, H, L) to (B, H, L).
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where u has another number of channels; as [`SsmKernel::forward`].
    pub fn forward(&self, cx: &Context<'_, B>, u: &Var<B>, lengths: Option<&[usize]>) -> Result<Var<B>> {
        self.finish(cx, self.convolve(cx, u, lengths)?)
    }

    /// What follows the convolution.
    fn finish(&self, cx: &Context<'_, B>, y: Var<B>) -> Result<Var<B>> {
        let y = dropout(&cx.part(0), y, self.config.dropout)?;
        let y = self.config.activation.function().map_or_else(|| Ok(y.clone()), |f| y.unary(f))?;
        dropout_tied(&cx.part(1), y, self.config.dropout)
    }

    /// The spikes that `sampler` draws of this layer's output. The same draws as [`Ssm::forward`] and the sampler's, but the potentials
    /// are never stored.
    ///
    /// # Errors
    /// As [`Ssm::forward`] and [`SpikeSampler::forward`].
    pub fn fire(
        &self,
        cx: &Context<'_, B>,
        u: &Var<B>,
        lengths: Option<&[usize]>,
        sampler: &SpikeSampler<B>,
        noise: Noise<Tensor<B>>,
    ) -> Result<Var<B>> {
        let Some((spike, affine)) = sampler.draw(cx, &noise) else {
            return sampler.forward(cx, &self.forward(cx, u, lengths)?, noise);
        };
        let (elements, channels) = (cx.part(0).dropout(self.config.dropout), cx.part(1).tied_dropout(self.config.dropout));
        let dropout = elements.zip(channels).map(|((p, elements), (_, channels))| FiringDropout { p, elements, channels });
        let op = Fire { lengths: lengths.map(Rc::from), activation: self.config.activation.function(), dropout, spike };
        let affine = affine.as_ref().map(|(scale, shift)| (scale, shift));
        let spikes = u.fire(&self.kernel(cx, u)?, &cx.var(&self.skip), affine, op)?;
        cx.count(&spikes)?;
        Ok(spikes)
    }

    /// Makes C~ for sequences up to `length`: see [`SsmKernel::prepare`].
    ///
    /// # Errors
    /// As [`SsmKernel::prepare`].
    pub fn prepare(&self, backend: &B, length: usize) -> Result<()> {
        self.kernel.prepare(backend, self.cut(length))
    }

    /// The length of the kernels for sequences of `length`.
    fn cut(&self, length: usize) -> usize {
        self.config.l_max.map_or(length, |l_max| length.min(l_max))
    }

    /// The kernels for u's length.
    fn kernel(&self, cx: &Context<'_, B>, u: &Var<B>) -> Result<Var<B>> {
        let [_, _, length] = crate::backend::shape::sequence("Ssm", "the input", u.shape())?;
        self.kernels(cx, length)
    }

    /// The convolution kernels (directions, H, min(length, l_max)): the causal one, and in a bidirectional layer the anticausal one.
    ///
    /// # Errors
    /// As [`SsmKernel::forward`].
    pub fn kernels(&self, cx: &Context<'_, B>, length: usize) -> Result<Var<B>> {
        self.kernel.forward(cx, self.cut(length))
    }

    /// The convolution as a recurrence, one time step at a time, for one sequence.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for a bidirectional layer: its anticausal kernel looks into the future.
    pub fn stepper(&self, backend: &B) -> Result<Stepper> {
        Stepper::new(self, backend)
    }
}

impl<B: Backend> Module<B> for Ssm<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        names.param("D", &self.skip);
        names.module("kernel", &self.kernel);
    }
}
