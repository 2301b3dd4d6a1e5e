//! `PlifOp`: leaky integrate-and-fire neurons with a decay and a threshold a channel, with surrogate gradients of both.

use crate::autodiff::gradcheck::Generate;
use crate::autodiff::{Array, Case, Grads, Needs, Op, Oracle, Var, operands};
use crate::backend::{Adaptation, Backend, Noise, Plif, Spike, SpikeMode, Surrogate, Tensor};
use crate::error::Result;

/// Spikes of [`Plif`] neurons; inputs x (B, H, L), decay (H), threshold (H).
///
/// PLIF neurons (Fang et al. 2021, [arXiv:2007.05785](https://arxiv.org/abs/2007.05785)) learn their decay; adaptive thresholds are those of
/// Bellec et al. (2018, [arXiv:1803.09574](https://arxiv.org/abs/1803.09574)). As of [`LifOp`](super::lif::LifOp) the surrogate of
/// v - theta stands for the derivative of a spike, and spikes carry no gradient into reset and adaptation; the threshold carries one into
/// a soft reset.
#[derive(Clone, Copy, Debug)]
pub struct PlifOp {
    /// What all channels have in common.
    pub plif: Plif,
}

impl<B: Backend> Op<B> for PlifOp {
    const NAME: &'static str = "plif";
    /// x, decay, threshold.
    type Saved = [Tensor<B>; 3];

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x, decay, threshold] = operands("plif", inputs)?;
        Ok((backend.plif(&self.plif, x, decay, threshold)?, [backend.lean(x), decay.clone(), threshold.clone()]))
    }

    fn backward(&self, backend: &B, [x, decay, threshold]: Self::Saved, grad: &Tensor<B>, needs: Needs) -> Result<Grads<B>> {
        Ok(backend.plif_grad(&self.plif, &x, &decay, &threshold, grad, needs.flags())?.into())
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Composition(step_by_step)
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let alpha = generate.pick(&[0.5, 2.0, 5.0]);
        let mut cases = Vec::new();
        for surrogate in Surrogate::ALL.map(|surrogate| surrogate.with_alpha(alpha)) {
            for soft_reset in [false, true] {
                for adapts in [false, true] {
                    let adaptation =
                        adapts.then(|| Adaptation { strength: generate.value(0.1, 0.8), fading: generate.pick(&[0.0, 0.5, 0.9]) });
                    let op = PlifOp { plif: Plif { soft_reset, adaptation, surrogate } };
                    let shape = [generate.size(1..=3), generate.size(1..=4), generate.size(1..=20)];
                    cases.push(Case::new(op, neurons(generate, &shape)));
                    cases.push(Case::new(op, neurons(generate, &[3, 17, 9])));
                    cases.push(Case::new(op, neurons(generate, &[1, 1, 1])));
                }
            }
        }
        cases
    }
}

/// Drives around the thresholds, so that neurons spike now and then.
fn neurons(generate: &mut Generate, shape: &[usize; 3]) -> [Array; 3] {
    let channels = &shape[1..2];
    [generate.values(shape, -0.5, 1.5), generate.values(channels, 0.0, 1.0), generate.values(channels, 0.3, 1.0)]
}

/// What one time step leaves to the next.
struct State<B: Backend> {
    v: Var<B>,
    /// Without a gradient.
    spikes: Var<B>,
    theta: Var<B>,
    /// The adaptation's a.
    raised: Var<B>,
}

/// The same recurrence, one step at a time, from spikes with given noise.
fn step_by_step<B: Backend>(op: &PlifOp, inputs: &[Var<B>]) -> Result<Var<B>> {
    let [x, decay, threshold] = inputs else { return Err(crate::Error::value("plif", "takes x, decay and threshold")) };
    let Plif { soft_reset, adaptation, surrogate } = op.plif;
    let channels = x.shape()[1];
    let (decay, threshold) = (decay.reshape(&[channels, 1])?, threshold.reshape(&[channels, 1])?);
    let mut state: Option<State<B>> = None;
    let mut spikes = Vec::new();
    for t in 0..x.shape()[2] {
        let drive = x.slice(2, t, 1)?;
        let zeros = x.tape().constant(&x.tape().backend().full(drive.shape(), 0.0)?);
        let (v, raised) = match state {
            // What decays at first is nothing, but it is the decay's.
            None => (zeros.mul(&decay)?.add(&drive)?, zeros),
            Some(State { v, spikes: s, theta, raised }) => {
                let fading = adaptation.map_or(0.0, |adaptation| adaptation.fading);
                let rest = if soft_reset { v.clone() } else { v.mul(&s.linear_map(-1.0, 1.0)?)? };
                let reset = if soft_reset { theta.mul(&s)? } else { zeros };
                (decay.mul(&rest)?.sub(&reset)?.add(&drive)?, raised.scale(fading)?.add(&s)?)
            }
        };
        let strength = adaptation.map_or(0.0, |adaptation| adaptation.strength);
        let theta = threshold.add(&raised.scale(strength)?)?;
        let y = v.sub(&theta)?.linear_map(1.0, 0.5)?;
        let noise = Noise::Given(x.tape().backend().full(y.shape(), 0.5)?);
        let s = y.spike(Spike { noise, mode: SpikeMode::Sampled, surrogate })?;
        state = Some(State { v, spikes: s.detach(), theta, raised });
        spikes.push(s);
    }
    Var::concat(&spikes.iter().collect::<Vec<_>>(), 2)
}

impl<B: Backend> Var<B> {
    /// Spikes of leaky integrate-and-fire neurons driven by x (B, H, L), with a decay (H) in [0, 1] and a threshold (H) a channel, which have
    /// gradients; of x's shape, 0 or 1.
    ///
    /// ```
    /// use pspikessm::{autodiff::Tape, backend::*};
    /// # fn main() -> pspikessm::Result<()> {
    /// let cpu = Cpu::<f64>::new();
    /// let tape = Tape::new(&cpu);
    /// let (x, decay) = (tape.leaf(&cpu.full(&[1, 1, 6], 0.75)?), tape.leaf(&cpu.full(&[1], 0.5)?));
    /// let threshold = tape.leaf(&cpu.full(&[1], 1.0)?);
    /// let plain = Plif { soft_reset: false, adaptation: None, surrogate: Surrogate::Clamp };
    /// assert_eq!(x.plif(&decay, &threshold, plain)?.to_vec()?, [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
    /// // A threshold that a spike raises lets the neuron fall silent for a while.
    /// let tired = Plif { adaptation: Some(Adaptation { strength: 0.5, fading: 0.75 }), ..plain };
    /// assert_eq!(x.plif(&decay, &threshold, tired)?.to_vec()?, [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Spiking::plif`](crate::backend::Spiking::plif).
    pub fn plif(&self, decay: &Var<B>, threshold: &Var<B>, plif: Plif) -> Result<Var<B>> {
        self.tape().apply(PlifOp { plif }, &[self, decay, threshold])
    }
}
