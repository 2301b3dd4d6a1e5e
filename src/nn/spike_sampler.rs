//! SpikeSampler: from potentials to spikes, through a per-channel affine map.

use serde::{Deserialize, Serialize};

use super::{Context, Module, Names, Norm, Param, ParamOptions};
use crate::autodiff::Var;
use crate::backend::{Backend, Lif, Noise, Spike, Surrogate, Tensor};
use crate::error::Result;

/// How potentials become spikes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SpikeSource {
    /// Each y is the probability of its own spike: all time steps at once.
    Probability(Surrogate),
    /// A leaky integrate-and-fire neuron, step after step: what the paper compares with. It draws no random numbers.
    Lif(Lif),
}

impl Default for SpikeSource {
    fn default() -> Self {
        SpikeSource::Probability(Surrogate::Clamp)
    }
}

/// Draws spikes with probability clamp(a x + b, 0, 1), a and b per channel, for all time steps in parallel.
///
/// Source: the paper's SpikeSampler; the official code's `inp_*`, `inp2_*` and `out_*`.
#[derive(Debug)]
pub struct SpikeSampler<B: Backend> {
    /// a and b, (d_model) each.
    pub(super) affine: Option<(Param<B>, Param<B>)>,
    source: SpikeSource,
}

/// The variables of a and b.
pub(super) type AffineVars<B> = (Var<B>, Var<B>);

/// A draw, with the affine map before it.
pub(super) type AffineDraw<B> = (Spike<Tensor<B>>, Option<AffineVars<B>>);

impl<B: Backend> SpikeSampler<B> {
    /// a = 1 and b = 0 for `d_model` channels, to be trained: spikes with probability clamp(x, 0, 1) at first.
    ///
    /// # Errors
    /// What the device answers.
    pub fn new(backend: &B, d_model: usize, source: SpikeSource) -> Result<Self> {
        let full = |value| Param::full(backend, &[d_model], value, ParamOptions::DECAYED);
        Ok(SpikeSampler { affine: Some((full(1.0)?, full(0.0)?)), source })
    }

    /// Spikes of the potential itself, without an affine map: nothing to train.
    pub fn without_affine(source: SpikeSource) -> Self {
        SpikeSampler { affine: None, source }
    }

    /// How potentials become spikes.
    pub fn source(&self) -> SpikeSource {
        self.source
    }

    /// Spikes, 0 or 1, of x (B, H, L), with the uniform numbers of `noise`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where x has another number of channels or given noise another shape; [`crate::Error::Config`] for a
    /// surrogate or a neuron that makes no sense.
    pub fn forward(&self, cx: &Context<'_, B>, x: &Var<B>, noise: Noise<Tensor<B>>) -> Result<Var<B>> {
        self.through(cx, x, self.affine(cx), noise)
    }

    /// Spikes of the normalised potential: `norm(scale x + shift)`.
    ///
    /// # Errors
    /// As [`SpikeSampler::forward`] and [`Norm::forward`].
    pub fn normalized(&self, cx: &Context<'_, B>, norm: &Norm<B>, x: &Var<B>, noise: Noise<Tensor<B>>) -> Result<Var<B>> {
        let Some((scale, shift)) = self.affine(cx) else { return self.through(cx, &norm.forward(cx, x)?, None, noise) };
        match norm.folded(cx, x, &scale, &shift)? {
            Some(folded) => self.through(cx, x, Some(folded), noise),
            None => self.through(cx, &norm.forward(cx, &x.affine(&scale, &shift)?)?, None, noise),
        }
    }

    /// The draw, for an operation that draws where it computes the potential; `None` where neurons integrate step after step, which only
    /// [`SpikeSampler::forward`] does.
    pub(super) fn draw(&self, cx: &Context<'_, B>, noise: &Noise<Tensor<B>>) -> Option<AffineDraw<B>> {
        match self.source {
            SpikeSource::Probability(surrogate) => Some((Spike { noise: noise.clone(), mode: cx.mode, surrogate }, self.affine(cx))),
            SpikeSource::Lif(_) => None,
        }
    }

    fn affine(&self, cx: &Context<'_, B>) -> Option<AffineVars<B>> {
        self.affine.as_ref().map(|(scale, shift)| (cx.var(scale), cx.var(shift)))
    }

    fn through(&self, cx: &Context<'_, B>, x: &Var<B>, affine: Option<AffineVars<B>>, noise: Noise<Tensor<B>>) -> Result<Var<B>> {
        let spikes = match (self.source, affine) {
            (SpikeSource::Lif(lif), None) => x.lif(lif)?,
            (SpikeSource::Lif(lif), Some((scale, shift))) => x.affine(&scale, &shift)?.lif(lif)?,
            (SpikeSource::Probability(surrogate), affine) => {
                let spike = Spike { noise, mode: cx.mode, surrogate };
                affine.map_or_else(|| x.spike(spike.clone()), |(scale, shift)| x.spike_affine(&scale, &shift, spike.clone()))?
            }
        };
        cx.count(&spikes)?;
        Ok(spikes)
    }
}

impl<B: Backend> Module<B> for SpikeSampler<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        if let Some((scale, shift)) = &self.affine {
            names.param("scale", scale);
            names.param("shift", shift);
        }
    }
}
