//! From potentials to spikes: the probabilistic draw and the leaky integrate-and-fire neuron.

use serde::{Deserialize, Serialize};

use super::{Draw, Normalization, Tensor, composed};
use crate::error::Result;

/// Spikes, with the gradients that stand in for theirs.
pub trait Spiking: Normalization {
    /// Spikes of potentials y of any shape: `y > u`, strict.
    fn sample(&self, spike: &Spike<Tensor<Self>>, y: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// The surrogate gradient of y.
    fn sample_grad(&self, spike: &Spike<Tensor<Self>>, y: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// Spikes of `y = scale[h] x + shift[h]` (or y = x): `y > u`, strict.
    fn spike(&self, spike: &Spike<Tensor<Self>>, x: &Tensor<Self>, affine: Option<(&Tensor<Self>, &Tensor<Self>)>) -> Result<Tensor<Self>> {
        composed::spiking::spike(self, spike, x, affine)
    }
    /// Surrogate gradients of x, scale, shift.
    fn spike_grad(
        &self,
        spike: &Spike<Tensor<Self>>,
        x: &Tensor<Self>,
        affine: Option<(&Tensor<Self>, &Tensor<Self>)>,
        g: &Tensor<Self>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<Self>>; 3]> {
        composed::spiking::spike_grad(self, spike, x, affine, g, needs)
    }
    /// Spikes of a leaky integrate-and-fire neuron along the last axis.
    fn lif(&self, lif: &Lif, x: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// Its surrogate gradient, back through time.
    fn lif_grad(&self, lif: &Lif, x: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>>;
}

/// Where the uniform numbers of a spike draw come from. `T` holds values: a tensor, a reference to one, a slice.
#[derive(Clone, Copy, Debug)]
pub enum Noise<T> {
    /// The number of (sample, channel, t) of this draw decides the spike there.
    Stream(Draw),
    /// Drawn by the caller, uniform in [0, 1), of the potential's shape.
    Given(T),
}

impl<T> Noise<T> {
    /// The same by reference.
    pub fn as_ref(&self) -> Noise<&T> {
        match self {
            Noise::Stream(draw) => Noise::Stream(*draw),
            Noise::Given(values) => Noise::Given(values),
        }
    }

    /// The same with `f` of the values.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Noise<U> {
        match self {
            Noise::Stream(draw) => Noise::Stream(draw),
            Noise::Given(values) => Noise::Given(f(values)),
        }
    }
}

/// The derivative that stands in for the derivative of a spike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Surrogate {
    /// 1 where 0 <= y <= 1, else 0: the derivative of the expected spike clamp(y, 0, 1). The official code's.
    #[default]
    Clamp,
    /// The derivative of sigmoid(alpha (y - u)).
    Sigmoid {
        /// Steepness, above 0.
        alpha: f64,
    },
    /// The derivative of atan(pi alpha (y - u) / 2) / pi + 1/2.
    Atan {
        /// Steepness, above 0.
        alpha: f64,
    },
    /// 1 / (1 + alpha |y - u|)^2, as in SuperSpike.
    FastSigmoid {
        /// Steepness, above 0.
        alpha: f64,
    },
}

/// What a SpikeSampler puts out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpikeMode {
    /// Spikes: 1 where y > u, else 0.
    Sampled,
    /// Their expectation clamp(y, 0, 1), with its own derivative; no noise is drawn.
    Expected,
}

/// How potentials become spikes. `T` holds values, as in [`Noise`].
#[derive(Clone, Copy, Debug)]
pub struct Spike<T> {
    /// The uniform numbers.
    pub noise: Noise<T>,
    /// Spikes or their expectation.
    pub mode: SpikeMode,
    /// The derivative used for sampled spikes.
    pub surrogate: Surrogate,
}

impl<T> Spike<T> {
    /// The same by reference.
    pub fn as_ref(&self) -> Spike<&T> {
        Spike { noise: self.noise.as_ref(), mode: self.mode, surrogate: self.surrogate }
    }

    /// The same with `f` of the values.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Spike<U> {
        Spike { noise: self.noise.map(f), mode: self.mode, surrogate: self.surrogate }
    }

    /// Whether the gradient looks at the uniform numbers: that of an expectation and the clamp surrogate do not.
    pub(in crate::backend) fn has_noisy_gradient(&self) -> bool {
        self.mode == SpikeMode::Sampled && self.surrogate != Surrogate::Clamp
    }
}

/// A leaky integrate-and-fire neuron: `v[t] = decay v[t-1] (1 - s[t-1]) + y[t]` (hard reset) or
/// `v[t] = decay v[t-1] - threshold s[t-1] + y[t]` (soft reset), `s[t] = v[t] > threshold`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lif {
    /// The share of the membrane potential that a step keeps, in [0, 1].
    pub decay: f64,
    /// The potential above which the neuron spikes.
    #[serde(default = "threshold")]
    pub threshold: f64,
    /// Subtract the threshold instead of setting the potential to zero.
    #[serde(default)]
    pub soft_reset: bool,
    /// The derivative of a spike by v - threshold, as if u were the threshold; `Clamp` stands for a window of one around it.
    /// The reset itself carries no gradient, as is usual.
    #[serde(default)]
    pub surrogate: Surrogate,
}

/// What a file gets that leaves the threshold out.
fn threshold() -> f64 {
    1.0
}
