//! From potentials to spikes: the probabilistic draw and the leaky integrate-and-fire neurons.

use serde::{Deserialize, Serialize};

use super::{Draw, Normalization, Surrogate, Tensor, Transfer, composed, shape};
use crate::error::{Error, Result};

/// Spikes, with the gradients that stand in for theirs.
pub trait Spiking: Normalization {
    /// Spikes of potentials y of any shape: `y > u`, strict.
    ///
    /// # Errors
    /// What [`Spike::check`] refuses.
    fn sample(&self, spike: &Spike<Tensor<Self>>, y: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// The surrogate gradient of y.
    ///
    /// # Errors
    /// What [`Spike::check`] refuses; [`Error::Shape`] where `g` has not y's shape.
    fn sample_grad(&self, spike: &Spike<Tensor<Self>>, y: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// Spikes of `y = scale[h] x + shift[h]` (or y = x): `y > u`, strict.
    ///
    /// # Errors
    /// What [`Spike::check`] and, with scale and shift, [`Normalization::affine`] refuse.
    fn spike(&self, spike: &Spike<Tensor<Self>>, x: &Tensor<Self>, affine: Option<(&Tensor<Self>, &Tensor<Self>)>) -> Result<Tensor<Self>> {
        composed::spiking::spike(self, spike, x, affine)
    }
    /// Surrogate gradients of x, scale, shift.
    ///
    /// # Errors
    /// As [`Spiking::spike`]; [`Error::Shape`] where `g` has not x's shape.
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
    /// The same for gradients that are given away: the spikes', and one that x has already, to which its own is added where that is wanted.
    /// Either storage may be written over where nobody else shares it.
    ///
    /// # Errors
    /// As [`Spiking::spike_grad`]; [`Error::Shape`] where `earlier` has not x's shape.
    fn spike_grad_onto(
        &self,
        spike: &Spike<Tensor<Self>>,
        x: &Tensor<Self>,
        affine: Option<(&Tensor<Self>, &Tensor<Self>)>,
        (g, earlier): (Tensor<Self>, Option<Tensor<Self>>),
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<Self>>; 3]> {
        check_earlier(x, earlier.as_ref())?;
        let [x_grad, scale, shift] = self.spike_grad(spike, x, affine, &g, needs)?;
        let x_grad = match (x_grad, earlier) {
            (Some(x_grad), Some(earlier)) => Some(self.accumulate(earlier, x_grad)?),
            (x_grad, _) => x_grad,
        };
        Ok([x_grad, scale, shift])
    }
    /// Spikes of a leaky integrate-and-fire neuron along the last axis.
    ///
    /// # Errors
    /// What [`Lif::check`] refuses.
    fn lif(&self, lif: &Lif, x: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// The surrogate gradient of [`Spiking::lif`], back through time.
    ///
    /// # Errors
    /// What [`Lif::check`] refuses; [`Error::Shape`] where `g` has not x's shape.
    fn lif_grad(&self, lif: &Lif, x: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// Spikes of leaky integrate-and-fire neurons along the last axis of x (B, H, L), with a decay and a threshold (H) a channel.
    ///
    /// # Errors
    /// What [`Plif::check`] refuses; [`Error::Value`] where x is no sequence, or empty; [`Error::Shape`] where decay and threshold are not one
    /// number a channel.
    fn plif(&self, plif: &Plif, x: &Tensor<Self>, decay: &Tensor<Self>, threshold: &Tensor<Self>) -> Result<Tensor<Self>> {
        composed::spiking::plif(self, plif, x, decay, threshold)
    }
    /// The surrogate gradients of x, decay and threshold, back through time.
    ///
    /// # Errors
    /// As [`Spiking::plif`]; [`Error::Shape`] where `g` has not x's shape.
    fn plif_grad(
        &self,
        plif: &Plif,
        x: &Tensor<Self>,
        decay: &Tensor<Self>,
        threshold: &Tensor<Self>,
        g: &Tensor<Self>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<Self>>; 3]> {
        composed::spiking::plif_grad(self, plif, [x, decay, threshold], g, needs)
    }
}

/// Whether a gradient that x has already has x's shape.
pub(in crate::backend) fn check_earlier<B: Transfer>(x: &Tensor<B>, earlier: Option<&Tensor<B>>) -> Result<()> {
    earlier.map_or(Ok(()), |earlier| shape::exactly("spike_grad", "the gradient so far", x.shape(), earlier.shape()))
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

listed! {
    /// What a SpikeSampler puts out.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum SpikeMode {
        /// Spikes: 1 where y > u, else 0.
        Sampled,
        /// Their expectation clamp(y, 0, 1), with its own derivative; no noise is drawn.
        Expected,
    }
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

    /// Whether the gradient depends on the uniform numbers: not for an expectation, and not with the clamp surrogate.
    pub(in crate::backend) fn has_noisy_grad(&self) -> bool {
        self.mode == SpikeMode::Sampled && self.surrogate != Surrogate::Clamp
    }
}

impl<B: Transfer> Spike<&Tensor<B>> {
    /// Whether potentials of this shape can become spikes in this way; `op` is the caller's name, for the message.
    ///
    /// # Errors
    /// [`Error::Config`] where a surrogate's alpha is not positive; [`Error::Value`] where the potentials are empty or the draw's sides
    /// do not divide the batch; [`Error::Shape`] where given noise has another shape.
    pub fn check(&self, op: &'static str, potentials: &[usize]) -> Result<()> {
        self.surrogate.check()?;
        shape::filled(op, "the potentials", potentials)?;
        match &self.noise {
            Noise::Stream(draw) => draw.check(op, shape::rows(potentials)[0]),
            Noise::Given(noise) => shape::exactly(op, "the given noise, like the potentials,", potentials, noise.shape()),
        }
    }

    /// The same for potentials `scale[h] x + shift[h]`, or x.
    pub(in crate::backend) fn check_affine(&self, op: &'static str, x: &Tensor<B>, affine: Option<(&Tensor<B>, &Tensor<B>)>) -> Result<()> {
        if let Some((scale, shift)) = affine {
            shape::affine(op, x.shape(), scale.shape(), shift.shape())?;
        }
        self.check(op, x.shape())
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

impl Lif {
    /// Whether such neurons can be driven by x of this shape, (.., L).
    ///
    /// # Errors
    /// [`Error::Config`] where decay is outside [0, 1], the threshold is not finite, or a surrogate's alpha is not positive;
    /// [`Error::Value`] where x has no time step.
    pub fn check(&self, op: &'static str, x: &[usize]) -> Result<()> {
        let Lif { decay, threshold, surrogate, .. } = *self;
        if !(0.0..=1.0).contains(&decay) {
            return Err(Error::config("decay", decay, "must lie in [0, 1]"));
        }
        if !threshold.is_finite() {
            return Err(Error::config("threshold", threshold, "must be finite"));
        }
        surrogate.check()?;
        match x {
            [.., length] if *length > 0 => Ok(()),
            _ => Err(Error::value(op, format!("x has shape {x:?}: the last axis is time and must hold at least one step"))),
        }
    }
}

/// What a file gets that leaves the threshold out.
fn threshold() -> f64 {
    1.0
}

/// Leaky integrate-and-fire neurons with a decay and a threshold a channel, as far as all channels are alike. With the threshold at time t
/// `theta[t] = threshold + strength a[t]`, where `a[t] = fading a[t-1] + s[t-1]` adapts it, and `s[t] = v[t] > theta[t]`:
/// `v[t] = decay v[t-1] (1 - s[t-1]) + y[t]` (hard reset) or `v[t] = decay v[t-1] - theta[t-1] s[t-1] + y[t]` (soft reset).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plif {
    /// Subtract the threshold instead of setting the potential to zero.
    pub soft_reset: bool,
    /// How spikes raise the threshold, if they do.
    pub adaptation: Option<Adaptation>,
    /// The derivative of a spike by v - theta, as of [`Lif`]. Spikes carry no gradient into reset and adaptation.
    pub surrogate: Surrogate,
}

/// How a neuron's own spikes raise its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adaptation {
    /// How much a spike adds to the threshold.
    pub strength: f64,
    /// The share of that which a step keeps, in [0, 1].
    pub fading: f64,
}

impl Plif {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`] where an adaptation's fading is outside [0, 1] or its strength not finite, or a surrogate's alpha is not positive.
    pub fn check(&self) -> Result<()> {
        if let Some(Adaptation { strength, fading }) = self.adaptation {
            if !(0.0..=1.0).contains(&fading) {
                return Err(Error::config("fading", fading, "must lie in [0, 1]"));
            }
            if !strength.is_finite() {
                return Err(Error::config("strength", strength, "must be finite"));
            }
        }
        self.surrogate.check()
    }

    /// Whether such neurons can be driven by x of this shape, with decays and thresholds of these; B, H, L.
    pub(in crate::backend) fn check_on(&self, op: &'static str, x: &[usize], decay: &[usize], threshold: &[usize]) -> Result<[usize; 3]> {
        self.check()?;
        let sizes @ [_, channels, _] = shape::sequence(op, "x", x)?;
        for (what, given) in [("the decays, one a channel,", decay), ("the thresholds, one a channel,", threshold)] {
            shape::exactly(op, what, &[channels], given)?;
        }
        Ok(sizes)
    }
}
