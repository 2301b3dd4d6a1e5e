//! SpikeSampler: from potentials to spikes, through a per-channel affine map.

use serde::{Deserialize, Serialize};

use super::plif::PlifNeurons;
use super::{Context, CustomSurrogate, Module, Names, Norm, Param, ParamOptions, PlifConfig};
use crate::autodiff::Var;
use crate::backend::{Backend, Lif, Noise, Spike, SpikeMode, Surrogate, Tensor};
use crate::error::{Error, Result};

/// How potentials become spikes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SpikeSource {
    /// Each y is the probability of its own spike: all time steps at once.
    Probability(Surrogate),
    /// A leaky integrate-and-fire neuron, step after step: what the paper compares with. It draws no random numbers.
    Lif(Lif),
    /// The same with a learnt decay and a learnt threshold a channel, which may adapt.
    Plif(PlifConfig),
}

impl Default for SpikeSource {
    fn default() -> Self {
        SpikeSource::Probability(Surrogate::Clamp)
    }
}

/// Draws spikes with probability clamp(a x + b, 0, 1), a and b per channel, for all time steps in parallel.
///
/// Source: the paper's SpikeSampler; the official code's `inp_*`, `inp2_*` and `out_*`.
#[derive(Clone, Debug)]
pub struct SpikeSampler<B: Backend> {
    /// a and b, (d_model) each.
    pub(super) affine: Option<(Param<B>, Param<B>)>,
    source: Source<B>,
}

/// A [`SpikeSource`] with what belongs to it.
#[derive(Clone, Debug)]
enum Source<B: Backend> {
    /// With a surrogate that stands in the place of the built-in one.
    Probability(Surrogate, Option<CustomSurrogate<B>>),
    Lif(Lif),
    Plif(PlifNeurons<B>),
}

/// The variables of a and b.
pub(super) type AffineVars<B> = (Var<B>, Var<B>);

/// A draw, with the affine map before it.
pub(super) type AffineDraw<B> = (Spike<Tensor<B>>, Option<AffineVars<B>>);

impl<B: Backend> SpikeSampler<B> {
    /// a = 1 and b = 0 for `d_model` channels, to be trained: spikes with probability clamp(x, 0, 1) at first.
    ///
    /// # Errors
    /// What [`PlifConfig::check`] refuses; what the device answers.
    pub fn new(backend: &B, d_model: usize, source: SpikeSource) -> Result<Self> {
        let full = |value| Param::full(backend, &[d_model], value, ParamOptions::DECAYED);
        Ok(SpikeSampler { affine: Some((full(1.0)?, full(0.0)?)), ..Self::without_affine(backend, d_model, source)? })
    }

    /// Spikes of the potential itself, without an affine map: nothing to train, but for the neurons of [`SpikeSource::Plif`].
    ///
    /// # Errors
    /// What [`PlifConfig::check`] refuses.
    pub fn without_affine(backend: &B, d_model: usize, source: SpikeSource) -> Result<Self> {
        let source = match source {
            SpikeSource::Probability(surrogate) => Source::Probability(surrogate, None),
            SpikeSource::Lif(lif) => Source::Lif(lif),
            SpikeSource::Plif(config) => Source::Plif(PlifNeurons::new(backend, d_model, config)?),
        };
        Ok(SpikeSampler { affine: None, source })
    }

    /// The same with this surrogate in the place of the source's. It stands for the derivative of drawn spikes; the expected ones have
    /// their own.
    ///
    /// # Errors
    /// [`Error::Config`] where the source is not [`SpikeSource::Probability`]: the other neurons take one of [`Surrogate`].
    pub fn with_surrogate(self, surrogate: CustomSurrogate<B>) -> Result<Self> {
        match self.source {
            Source::Probability(builtin, _) => Ok(SpikeSampler { source: Source::Probability(builtin, Some(surrogate)), ..self }),
            Source::Lif(_) | Source::Plif(_) => {
                let help = "a custom surrogate is for spikes that are drawn by probability: leave it out, or choose that source";
                Err(Error::config("source", format!("{:?}", self.source()), help))
            }
        }
    }

    /// Whether there is a surrogate that no configuration describes.
    pub(super) fn has_custom_surrogate(&self) -> bool {
        matches!(self.source, Source::Probability(_, Some(_)))
    }

    /// The neurons of [`SpikeSource::Plif`].
    pub(super) fn plif(&self) -> Option<&PlifNeurons<B>> {
        if let Source::Plif(neurons) = &self.source { Some(neurons) } else { None }
    }

    /// How potentials become spikes.
    pub fn source(&self) -> SpikeSource {
        match &self.source {
            Source::Probability(surrogate, _) => SpikeSource::Probability(*surrogate),
            Source::Lif(lif) => SpikeSource::Lif(*lif),
            Source::Plif(neurons) => SpikeSource::Plif(neurons.config),
        }
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

    /// The draw, for an operation that draws where it computes the potential; `None` where only [`SpikeSampler::forward`] draws: neurons that
    /// integrate step after step, and a custom surrogate.
    pub(super) fn draw(&self, cx: &Context<'_, B>, noise: &Noise<Tensor<B>>) -> Option<AffineDraw<B>> {
        match self.source {
            Source::Probability(surrogate, None) => Some((Spike { noise: noise.clone(), mode: cx.mode, surrogate }, self.affine(cx))),
            _ => None,
        }
    }

    fn affine(&self, cx: &Context<'_, B>) -> Option<AffineVars<B>> {
        self.affine.as_ref().map(|(scale, shift)| (cx.var(scale), cx.var(shift)))
    }

    fn through(&self, cx: &Context<'_, B>, x: &Var<B>, affine: Option<AffineVars<B>>, noise: Noise<Tensor<B>>) -> Result<Var<B>> {
        let spikes = match (&self.source, affine) {
            (Source::Probability(_, Some(custom)), affine) if cx.mode == SpikeMode::Sampled => {
                custom.spikes(&potential(x, affine.as_ref())?, noise)?
            }
            (Source::Probability(surrogate, _), affine) => {
                let spike = Spike { noise, mode: cx.mode, surrogate: *surrogate };
                affine.map_or_else(|| x.spike(spike.clone()), |(scale, shift)| x.spike_affine(&scale, &shift, spike.clone()))?
            }
            (Source::Lif(lif), affine) => potential(x, affine.as_ref())?.lif(*lif)?,
            (Source::Plif(neurons), affine) => neurons.forward(cx, &potential(x, affine.as_ref())?)?,
        };
        cx.count(&spikes)?;
        Ok(spikes)
    }
}

/// `scale x + shift`, or x.
fn potential<B: Backend>(x: &Var<B>, affine: Option<&AffineVars<B>>) -> Result<Var<B>> {
    affine.map_or_else(|| Ok(x.clone()), |(scale, shift)| x.affine(scale, shift))
}

impl<B: Backend> Module<B> for SpikeSampler<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        if let Some((scale, shift)) = &self.affine {
            names.param("scale", scale);
            names.param("shift", shift);
        }
        if let Source::Plif(neurons) = &self.source {
            names.module("neurons", neurons);
        }
    }
}
