//! The family [`Spiking`]; three axes of drawn spikes are kept as bits.

pub mod spike;

use super::spike_bits::Packed;
use super::storage::Storage;
use super::{Cpu, sequence, values};
use crate::backend::host::threads;
use crate::backend::{Lif, Noise, Real, Spike, SpikeMode, Spiking, Tensor};
use crate::error::Result;

/// scale and shift of a SpikeSampler.
type Affine<'a, B> = Option<(&'a Tensor<B>, &'a Tensor<B>)>;

/// Where a draw gets its uniform numbers.
pub fn uniform<E: Real>(noise: &Noise<Cpu<E>>) -> spike::Uniform<'_, E> {
    match noise {
        Noise::Stream(key) => spike::Uniform::Stream(*key),
        Noise::Given(noise) => spike::Uniform::Given(values(noise)),
    }
}

fn draw<'a, E: Real>(spike: &'a Spike<Cpu<E>>, x: &Tensor<Cpu<E>>, affine: Affine<'a, Cpu<E>>) -> spike::Draw<'a, E> {
    // Without an affine, rows mean nothing: pieces of a fixed size serve any shape.
    let row = if affine.is_some() { sequence(x)[2] } else { threads::CHUNK };
    spike::Draw {
        uniform: uniform(&spike.noise),
        mode: spike.mode,
        surrogate: spike.surrogate,
        affine: affine.map(|(a, b)| (values(a), values(b))),
        row,
    }
}

impl<E: Real> Spiking for Cpu<E> {
    fn spike(&self, spike: &Spike<Self>, x: &Tensor<Self>, affine: Option<(&Tensor<Self>, &Tensor<Self>)>) -> Result<Tensor<Self>> {
        if let (SpikeMode::Sampled, &[batch, channels, length]) = (spike.mode, x.shape()) {
            let mut packed = Packed::silent([batch, channels, length]);
            let draw = spike::Draw { row: length, ..draw(spike, x, affine) };
            spike::pack(draw, values(x), &mut packed);
            return Ok(Tensor::from_storage(Storage::spikes(packed, &self.pool), x.shape()));
        }
        Ok(self.make(x.shape(), |out| spike::spike(draw(spike, x, affine), values(x), out)))
    }

    fn spike_grad(
        &self,
        spike: &Spike<Self>,
        x: &Tensor<Self>,
        affine: Option<(&Tensor<Self>, &Tensor<Self>)>,
        g: &Tensor<Self>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<Self>>; 3]> {
        let channels = affine.map_or(0, |(scale, _)| scale.numel());
        let sums = needs.map(|need| need && affine.is_some());
        let mut x_grad = needs[0].then(|| self.pool.dirty(x.numel()));
        let (mut scale, mut shift) = (self.buffer_if(sums[1], channels), self.buffer_if(sums[2], channels));
        let wanted = spike::Wanted { x: x_grad.as_deref_mut(), scale: scale.as_deref_mut(), shift: shift.as_deref_mut() };
        spike::spike_grad(draw(spike, x, affine), values(x), values(g), wanted);
        Ok([self.wrap_if(x_grad, x.shape()), self.wrap_if(scale, &[channels]), self.wrap_if(shift, &[channels])])
    }

    fn lif(&self, lif: &Lif, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        let length = x.shape().last().copied().unwrap_or(1);
        Ok(self.make(x.shape(), |out| spike::lif(lif, values(x), length, out)))
    }

    fn lif_grad(&self, lif: &Lif, x: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>> {
        let length = x.shape().last().copied().unwrap_or(1);
        Ok(self.make(x.shape(), |out| spike::lif_grad(lif, values(x), values(g), length, out)))
    }
}
