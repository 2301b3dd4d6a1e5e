//! Spikes of an affine potential; neurons with a decay and a threshold a channel, step after step; the masks of dropout.

use super::normalization::{affine, affine_grad};
use super::{Grads, add, channel_sums, mul, over_channels, scaled, sub, when};
use crate::backend::{Draw, Noise, Plif, Spike, SpikeMode, Spiking, Surrogate, Tensor, Unary, shape};
use crate::error::Result;

/// scale and shift of a SpikeSampler.
type Affine<'a, B> = Option<(&'a Tensor<B>, &'a Tensor<B>)>;

/// Spikes of `scale[h] x + shift[h]`, or of x.
pub fn spike<B: Spiking>(backend: &B, spike: &Spike<Tensor<B>>, x: &Tensor<B>, affine_of: Affine<'_, B>) -> Result<Tensor<B>> {
    spike.as_ref().check_affine("spike", x, affine_of)?;
    backend.sample(spike, &potential(backend, x, affine_of)?)
}

/// Surrogate gradients of x, scale, shift.
pub fn spike_grad<B: Spiking>(
    backend: &B,
    spike: &Spike<Tensor<B>>,
    x: &Tensor<B>,
    affine_of: Affine<'_, B>,
    g: &Tensor<B>,
    needs: [bool; 3],
) -> Result<Grads<B, 3>> {
    spike.as_ref().check_affine("spike_grad", x, affine_of)?;
    shape::gradient("spike_grad", x.shape(), g.shape())?;
    let y_grad = backend.sample_grad(spike, &potential(backend, x, affine_of)?, g)?;
    match affine_of {
        Some((scale, _)) => affine_grad(backend, x, scale, &y_grad, needs),
        None => Ok([Some(y_grad), None, None]),
    }
}

/// `scale[h] x + shift[h]`, or x.
fn potential<B: Spiking>(backend: &B, x: &Tensor<B>, affine_of: Affine<'_, B>) -> Result<Tensor<B>> {
    affine_of.map_or_else(|| Ok(x.clone()), |(scale, shift)| affine(backend, x, scale, shift))
}

/// 1 / (1 - p) with probability 1 - p, else 0, of this shape.
pub(super) fn dropout_mask<B: Spiking>(backend: &B, draw: Draw, p: f64, shape: &[usize]) -> Result<Tensor<B>> {
    let spike = Spike { noise: Noise::Stream(draw), mode: SpikeMode::Sampled, surrogate: Surrogate::Clamp };
    scaled(backend, 1.0 / (1.0 - p), &backend.sample(&spike, &backend.full(shape, 1.0 - p)?)?)
}

/// What one time step of [`Plif`] neurons leaves, (B, H, 1) each.
struct Step<B: Spiking> {
    /// The potential before the reset.
    v: Tensor<B>,
    /// What of the potential before it the decay multiplied.
    kept: Option<Tensor<B>>,
    spikes: Tensor<B>,
    theta: Tensor<B>,
    /// The adaptation's a.
    raised: Option<Tensor<B>>,
}

/// Runs the neurons over x (B, H, L).
fn plif_steps<B: Spiking>(backend: &B, plif: &Plif, [x, decay, threshold]: [&Tensor<B>; 3]) -> Result<Vec<Step<B>>> {
    let (decay, threshold) = (over_channels(x, decay)?, over_channels(x, threshold)?);
    let at_rest = backend.full(&[x.shape()[0], x.shape()[1], 1], 0.0)?;
    let threshold = add(backend, &at_rest, &threshold)?;
    let mut steps: Vec<Step<B>> = Vec::new();
    for t in 0..x.shape()[2] {
        let mut v = backend.slice(x, 2, t, 1)?;
        let (mut kept, mut raised, mut theta) = (None, plif.adaptation.map(|_| at_rest.clone()), threshold.clone());
        if let Some(before) = steps.last() {
            let rest = if plif.soft_reset { before.v.clone() } else { mul(backend, &before.v, &silence(backend, &before.spikes)?)? };
            v = add(backend, &mul(backend, &decay, &rest)?, &v)?;
            if plif.soft_reset {
                v = sub(backend, &v, &mul(backend, &before.theta, &before.spikes)?)?;
            }
            kept = Some(rest);
            if let (Some(adaptation), Some(earlier)) = (plif.adaptation, &before.raised) {
                let now = add(backend, &scaled(backend, adaptation.fading, earlier)?, &before.spikes)?;
                theta = add(backend, &threshold, &scaled(backend, adaptation.strength, &now)?)?;
                raised = Some(now);
            }
        }
        let above = Spike { noise: Noise::Given(theta.clone()), mode: SpikeMode::Sampled, surrogate: plif.surrogate };
        let spikes = backend.sample(&above, &v)?;
        steps.push(Step { v, kept, spikes, theta, raised });
    }
    Ok(steps)
}

/// 1 - s.
fn silence<B: Spiking>(backend: &B, spikes: &Tensor<B>) -> Result<Tensor<B>> {
    backend.unary(Unary::Linear(-1.0, 1.0), spikes)
}

/// Spikes of neurons with a decay and a threshold a channel.
pub fn plif<B: Spiking>(backend: &B, plif: &Plif, x: &Tensor<B>, decay: &Tensor<B>, threshold: &Tensor<B>) -> Result<Tensor<B>> {
    plif.check_on("plif", x.shape(), decay.shape(), threshold.shape())?;
    let steps = plif_steps(backend, plif, [x, decay, threshold])?;
    backend.concat(&steps.iter().map(|step| &step.spikes).collect::<Vec<_>>(), 2)
}

/// Gradients of x, decay and threshold.
pub fn plif_grad<B: Spiking>(
    backend: &B,
    plif: &Plif,
    [x, decay, threshold]: [&Tensor<B>; 3],
    g: &Tensor<B>,
    needs: [bool; 3],
) -> Result<Grads<B, 3>> {
    plif.check_on("plif_grad", x.shape(), decay.shape(), threshold.shape())?;
    shape::gradient("plif_grad", x.shape(), g.shape())?;
    let steps = plif_steps(backend, plif, [x, decay, threshold])?;
    let per_channel = over_channels(x, decay)?;
    let nothing = backend.full(steps[0].v.shape(), 0.0)?;
    let (mut decay_grad, mut threshold_grad, mut x_grads) = (nothing.clone(), nothing.clone(), Vec::new());
    // The gradient of v[t + 1], where the next step is.
    let mut next: Option<Tensor<B>> = None;
    for (t, step) in steps.iter().enumerate().rev() {
        let direct = slope_times(backend, plif.surrogate, step, &backend.slice(g, 2, t, 1)?)?;
        threshold_grad = sub(backend, &threshold_grad, &direct)?;
        let mut v_grad = direct;
        if let Some(next) = &next {
            let mut through = mul(backend, &per_channel, next)?;
            if plif.soft_reset {
                threshold_grad = sub(backend, &threshold_grad, &mul(backend, &step.spikes, next)?)?;
            } else {
                through = mul(backend, &through, &silence(backend, &step.spikes)?)?;
            }
            v_grad = add(backend, &v_grad, &through)?;
        }
        if let Some(kept) = &step.kept {
            decay_grad = add(backend, &decay_grad, &mul(backend, &v_grad, kept)?)?;
        }
        x_grads.push(v_grad.clone());
        next = Some(v_grad);
    }
    x_grads.reverse();
    Ok([
        when(needs[0], || backend.concat(&x_grads.iter().collect::<Vec<_>>(), 2))?,
        when(needs[1], || channel_sums(backend, &decay_grad))?,
        when(needs[2], || channel_sums(backend, &threshold_grad))?,
    ])
}

/// g times the surrogate's slope at v - theta.
fn slope_times<B: Spiking>(backend: &B, surrogate: Surrogate, step: &Step<B>, g: &Tensor<B>) -> Result<Tensor<B>> {
    // Of y = v - theta + 1/2 and u = 1/2, so that the window 0 <= y <= 1 of `Clamp` stands around the threshold.
    let y = backend.unary(Unary::Linear(1.0, 0.5), &sub(backend, &step.v, &step.theta)?)?;
    let noise = Noise::Given(backend.full(y.shape(), 0.5)?);
    backend.sample_grad(&Spike { noise, mode: SpikeMode::Sampled, surrogate }, &y, g)
}
