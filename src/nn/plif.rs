//! Leaky integrate-and-fire neurons whose decay and threshold are learnt, one of each a channel.

use serde::{Deserialize, Serialize};

use super::{Context, Module, Names, Param, ParamOptions};
use crate::autodiff::Var;
use crate::backend::{Adaptation, Backend, Plif, Surrogate};
use crate::error::{Error, Result};

/// PLIF neurons (Fang et al. 2021), whose threshold may adapt (Bellec et al. 2018), as they are before training; in a recipe
/// `source = { plif = { decay = 0.5 } }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PlifConfig {
    /// The share of the membrane potential that a step keeps, at first and in every channel: in (0, 1). It stays there, because its logit
    /// is what is trained.
    pub decay: f64,
    /// The potential above which a neuron spikes, at first and in every channel.
    #[serde(default = "threshold")]
    pub threshold: f64,
    /// Subtract the threshold instead of setting the potential to zero.
    #[serde(default)]
    pub soft_reset: bool,
    /// How a neuron's own spikes raise its threshold, if they do.
    pub adaptation: Option<Adaptation>,
    /// As of [`Lif`](crate::backend::Lif).
    #[serde(default)]
    pub surrogate: Surrogate,
}

/// What a file gets that leaves the threshold out.
fn threshold() -> f64 {
    1.0
}

setters! {
    PlifConfig { threshold: f64, soft_reset: bool, adaptation: impl Into<Option<Adaptation>>, surrogate: Surrogate }
}

impl PlifConfig {
    /// Neurons of this decay, threshold 1, hard reset and no adaptation.
    pub fn new(decay: f64) -> Self {
        PlifConfig { decay, threshold: threshold(), soft_reset: false, adaptation: None, surrogate: Surrogate::Clamp }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`] where decay is outside (0, 1) or the threshold not finite; what [`Plif::check`] refuses.
    pub fn check(&self) -> Result<()> {
        if !(self.decay > 0.0 && self.decay < 1.0) {
            return Err(Error::config("decay", self.decay, "must lie in (0, 1), the ends excluded: its logit is trained"));
        }
        if !self.threshold.is_finite() {
            return Err(Error::config("threshold", self.threshold, "must be finite"));
        }
        self.neuron().check()
    }

    /// What all channels have in common.
    pub fn neuron(&self) -> Plif {
        Plif { soft_reset: self.soft_reset, adaptation: self.adaptation, surrogate: self.surrogate }
    }
}

/// The neurons of a layer.
#[derive(Clone, Debug)]
pub(super) struct PlifNeurons<B: Backend> {
    /// ln(decay / (1 - decay)), (d_model); no weight decay.
    pub(super) decay: Param<B>,
    /// (d_model); no weight decay.
    pub(super) threshold: Param<B>,
    /// What they began as.
    pub config: PlifConfig,
}

impl<B: Backend> PlifNeurons<B> {
    /// Neurons for `d_model` channels.
    pub fn new(backend: &B, d_model: usize, config: PlifConfig) -> Result<Self> {
        config.check()?;
        let full = |value| Param::full(backend, &[d_model], value, ParamOptions::PLAIN);
        Ok(PlifNeurons { decay: full((config.decay / (1.0 - config.decay)).ln())?, threshold: full(config.threshold)?, config })
    }

    /// Spikes of the drive x, (B, H, L).
    pub fn forward(&self, cx: &Context<'_, B>, x: &Var<B>) -> Result<Var<B>> {
        x.plif(&cx.var(&self.decay).sigmoid()?, &cx.var(&self.threshold), self.config.neuron())
    }
}

impl<B: Backend> Module<B> for PlifNeurons<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        names.param("decay_logit", &self.decay);
        names.param("threshold", &self.threshold);
    }
}
