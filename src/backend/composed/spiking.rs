//! Spikes of an affine potential, of that potential's spikes; the masks of dropout.

use super::normalization::{affine, affine_grad};
use super::{Grads, scaled};
use crate::backend::{Draw, Noise, Spike, SpikeMode, Spiking, Surrogate, Tensor, shape};
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
