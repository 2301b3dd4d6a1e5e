//! SpikeSampler: from potentials to spikes, through a per-channel affine map.

use serde::{Deserialize, Serialize};

use super::{Context, Module, Names, Norm, Param, ParamOptions};
use crate::autodiff::Var;
use crate::backend::{Backend, Lif, Noise, Spike, Surrogate};
use crate::error::Result;

/// How potentials become spikes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl SpikeSource {
    /// Spikes of the potentials `y`.
    pub fn spikes<B: Backend>(&self, cx: &Context<'_, B>, y: &Var<B>, noise: Noise<B>) -> Result<Var<B>> {
        let spikes = match self {
            SpikeSource::Probability(surrogate) => y.spike(Spike { noise, mode: cx.mode, surrogate: *surrogate })?,
            SpikeSource::Lif(lif) => y.lif(*lif)?,
        };
        cx.count(&spikes)?;
        Ok(spikes)
    }
}

/// Draws spikes with probability clamp(a x + b, 0, 1), a and b per channel, for all time steps in parallel.
///
/// Source: the paper's SpikeSampler; the official code's `inp_*`, `inp2_*` and `out_*`.
#[derive(Debug)]
pub struct SpikeSampler<B: Backend> {
    /// a, (d_model), initially 1.
    pub scale: Param<B>,
    /// b, (d_model), initially 0.
    pub shift: Param<B>,
    /// How potentials become spikes.
    pub source: SpikeSource,
}

impl<B: Backend> SpikeSampler<B> {
    /// The identity's affine: spikes with probability clamp(x, 0, 1).
    pub fn new(backend: &B, d_model: usize, source: SpikeSource) -> Result<Self> {
        let full = |value| Param::full(backend, &[d_model], value, ParamOptions::DECAYED);
        Ok(SpikeSampler { scale: full(1.0)?, shift: full(0.0)?, source })
    }

    /// a x + b without a draw, for what stands between (a norm).
    pub fn potential(&self, cx: &Context<'_, B>, x: &Var<B>) -> Result<Var<B>> {
        x.affine(&cx.var(&self.scale), &cx.var(&self.shift))
    }

    /// Spikes, 0 or 1, of x (B, H, L), with the uniform numbers of `noise`.
    pub fn forward(&self, cx: &Context<'_, B>, x: &Var<B>, noise: Noise<B>) -> Result<Var<B>> {
        self.through(cx, x, (&cx.var(&self.scale), &cx.var(&self.shift)), noise)
    }

    /// Spikes of the normalised potential: `norm(scale x + shift)`.
    pub fn normalized(&self, cx: &Context<'_, B>, norm: &Norm<B>, x: &Var<B>, noise: Noise<B>) -> Result<Var<B>> {
        match norm.folded(cx, x, &cx.var(&self.scale), &cx.var(&self.shift))? {
            Some((scale, shift)) => self.through(cx, x, (&scale, &shift), noise),
            None => self.source.spikes(cx, &norm.forward(cx, &self.potential(cx, x)?)?, noise),
        }
    }

    fn through(&self, cx: &Context<'_, B>, x: &Var<B>, (scale, shift): (&Var<B>, &Var<B>), noise: Noise<B>) -> Result<Var<B>> {
        let SpikeSource::Probability(surrogate) = self.source else {
            return self.source.spikes(cx, &x.affine(scale, shift)?, noise);
        };
        let spikes = x.spike_affine(scale, shift, Spike { noise, mode: cx.mode, surrogate })?;
        cx.count(&spikes)?;
        Ok(spikes)
    }
}

/// What makes spikes of a potential: a layer with an affine map, or a source alone.
#[derive(Debug)]
pub enum Sampler<'a, B: Backend> {
    /// With its affine map.
    Layer(&'a SpikeSampler<B>),
    /// Of the potential itself.
    Source(SpikeSource),
}

impl<'a, B: Backend> Sampler<'a, B> {
    /// How potentials become spikes.
    pub fn source(&self) -> SpikeSource {
        match self {
            Sampler::Layer(layer) => layer.source,
            Sampler::Source(source) => *source,
        }
    }

    /// The layer with the affine map.
    pub fn affine(&self) -> Option<&'a SpikeSampler<B>> {
        match self {
            Sampler::Layer(layer) => Some(layer),
            Sampler::Source(_) => None,
        }
    }

    /// Spikes of x, (B, H, L).
    pub fn spikes(&self, cx: &Context<'_, B>, x: &Var<B>, noise: Noise<B>) -> Result<Var<B>> {
        match self {
            Sampler::Layer(layer) => layer.forward(cx, x, noise),
            Sampler::Source(source) => source.spikes(cx, x, noise),
        }
    }
}

impl<B: Backend> Module<B> for SpikeSampler<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        names.param("scale", &self.scale);
        names.param("shift", &self.shift);
    }
}
