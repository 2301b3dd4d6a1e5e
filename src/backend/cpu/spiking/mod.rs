//! The family [`Spiking`]; three axes of drawn spikes are kept as bits.

mod plif;
pub mod spike;

use super::spike_bits::Packed;
use super::storage::Storage;
use super::{Cpu, values};
use crate::backend::spiking::check_earlier;
use crate::backend::{Lif, Plif, Real, Spike, SpikeMode, Spiking, Tensor, shape};
use crate::error::{Error, Result};

/// scale and shift of a SpikeSampler.
type Affine<'a, B> = Option<(&'a Tensor<B>, &'a Tensor<B>)>;

/// The potentials of a draw: rows as [`shape::rows`] says.
fn potentials<'a, E: Real>(spike: &'a Spike<&'a [E]>, x: &'a Tensor<Cpu<E>>, affine: Affine<'a, Cpu<E>>) -> spike::Potentials<'a, E> {
    let affine = affine.map(|(scale, shift)| (values(scale), values(shift)));
    let shape = shape::rows(x.shape());
    let x = match x.storage().normal() {
        Some(normal) if normal.shape == shape => spike::Rows::Normalized(normal),
        _ => spike::Rows::Given(values(x)),
    };
    spike::Potentials { spike, x, affine, shape }
}

impl<E: Real> Spiking for Cpu<E> {
    fn sample(&self, spike: &Spike<Tensor<Self>>, y: &Tensor<Self>) -> Result<Tensor<Self>> {
        spike.as_ref().check("sample", y.shape())?;
        self.spike(spike, y, None)
    }

    fn sample_grad(&self, spike: &Spike<Tensor<Self>>, y: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>> {
        spike.as_ref().check("sample_grad", y.shape())?;
        shape::gradient("sample_grad", y.shape(), g.shape())?;
        let [y_grad, ..] = self.spike_grad(spike, y, None, g, [true, false, false])?;
        y_grad.ok_or_else(|| Error::value("sample_grad", "the gradient that was asked for did not come"))
    }

    fn spike(&self, spike: &Spike<Tensor<Self>>, x: &Tensor<Self>, affine: Option<(&Tensor<Self>, &Tensor<Self>)>) -> Result<Tensor<Self>> {
        spike.as_ref().check_affine("spike", x, affine)?;
        let spike = spike.as_ref().map(values);
        let potentials = potentials(&spike, x, affine);
        if let (SpikeMode::Sampled, &[batch, channels, length]) = (spike.mode, x.shape()) {
            let mut packed = Packed::silent([batch, channels, length]);
            spike::pack(potentials, &mut packed);
            return Ok(Tensor::from_storage(Storage::spikes(packed, &self.pool), x.shape()));
        }
        Ok(self.make(x.shape(), |out| spike::spike(potentials, out)))
    }

    fn spike_grad(
        &self,
        spike: &Spike<Tensor<Self>>,
        x: &Tensor<Self>,
        affine: Option<(&Tensor<Self>, &Tensor<Self>)>,
        g: &Tensor<Self>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<Self>>; 3]> {
        self.spike_grad_onto(spike, x, affine, (g.clone(), None), needs)
    }

    fn spike_grad_onto(
        &self,
        spike: &Spike<Tensor<Self>>,
        x: &Tensor<Self>,
        affine: Option<(&Tensor<Self>, &Tensor<Self>)>,
        (g, earlier): (Tensor<Self>, Option<Tensor<Self>>),
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<Self>>; 3]> {
        spike.as_ref().check_affine("spike_grad", x, affine)?;
        shape::gradient("spike_grad", x.shape(), g.shape())?;
        check_earlier(x, earlier.as_ref())?;
        let channels = affine.map_or(0, |(scale, _)| scale.numel());
        let sums = needs.map(|need| need && affine.is_some());
        let earlier = earlier.filter(|_| needs[0]).map(|earlier| self.given(earlier));
        let add = earlier.is_some();
        let (g, mut x_grad) = match earlier {
            Some(earlier) => (Some(g), Some(earlier)),
            None => self.over(g, needs[0]),
        };
        let (mut scale, mut shift) = (self.buffer_if(sums[1], channels), self.buffer_if(sums[2], channels));
        let wanted = spike::SpikeGrads { x: x_grad.as_deref_mut(), add, scale: scale.as_deref_mut(), shift: shift.as_deref_mut() };
        spike::spike_grad(potentials(&spike.as_ref().map(values), x, affine), g.as_ref().map(values), wanted);
        Ok([self.wrap_if(x_grad, x.shape()), self.wrap_if(scale, &[channels]), self.wrap_if(shift, &[channels])])
    }

    fn lif(&self, lif: &Lif, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        lif.check("lif", x.shape())?;
        let length = x.shape()[x.rank() - 1];
        Ok(self.make(x.shape(), |out| spike::lif(lif, values(x), length, out)))
    }

    fn lif_grad(&self, lif: &Lif, x: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>> {
        lif.check("lif_grad", x.shape())?;
        shape::gradient("lif_grad", x.shape(), g.shape())?;
        let length = x.shape()[x.rank() - 1];
        Ok(self.make(x.shape(), |out| spike::lif_grad(lif, values(x), values(g), length, out)))
    }

    fn plif(&self, plif: &Plif, x: &Tensor<Self>, decay: &Tensor<Self>, threshold: &Tensor<Self>) -> Result<Tensor<Self>> {
        let shape = plif.check_on("plif", x.shape(), decay.shape(), threshold.shape())?;
        let neurons = plif::Neurons { plif, decay: values(decay), threshold: values(threshold), shape };
        Ok(self.make(x.shape(), |out| plif::spikes(&neurons, values(x), out)))
    }

    fn plif_grad(
        &self,
        plif: &Plif,
        x: &Tensor<Self>,
        decay: &Tensor<Self>,
        threshold: &Tensor<Self>,
        g: &Tensor<Self>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<Self>>; 3]> {
        let shape @ [_, channels, _] = plif.check_on("plif_grad", x.shape(), decay.shape(), threshold.shape())?;
        shape::gradient("plif_grad", x.shape(), g.shape())?;
        let neurons = plif::Neurons { plif, decay: values(decay), threshold: values(threshold), shape };
        let mut x_grad = needs[0].then(|| self.pool.dirty(x.numel()));
        let (mut decays, mut thresholds) = (self.buffer_if(needs[1], channels), self.buffer_if(needs[2], channels));
        let sums = [decays.as_deref_mut(), thresholds.as_deref_mut()];
        plif::grads(&neurons, values(x), values(g), x_grad.as_deref_mut(), sums);
        Ok([self.wrap_if(x_grad, x.shape()), self.wrap_if(decays, &[channels]), self.wrap_if(thresholds, &[channels])])
    }
}
