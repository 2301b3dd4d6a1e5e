//! The family [`Convolution`]: products of polynomials, by a negacyclic FFT of sixteen channels at a time.

mod butterfly;
mod fire;
pub mod long_conv;
mod negacyclic_fft;

use super::spike_bits::Packed;
use super::storage::Storage;
use super::{Cpu, kept, packed, sequence, values};
use crate::backend::{Convolution, Firing, LongConv, Real, SpikeMode, Tensor};
use crate::error::Result;

/// A sequence as a convolution or a mixer reads it.
fn source<E: Real>(x: &Tensor<Cpu<E>>) -> long_conv::Source<'_, E> {
    packed(x).map_or_else(|| long_conv::Source::Rows(values(x)), long_conv::Source::Spikes)
}

fn operands<'a, E: Real>(conv: &LongConv<'a, Cpu<E>>) -> long_conv::Operands<'a, E> {
    let kernel = conv.kernel.shape();
    long_conv::Operands {
        input: source(conv.input),
        kernel: values(conv.kernel),
        kept: kept(conv.kernel),
        skip: conv.skip.map(values),
        lengths: conv.lengths,
        shape: sequence(conv.input),
        kernels: [kernel[0], kernel[2]],
    }
}

impl<E: Real> Convolution for Cpu<E> {
    fn long_conv(&self, conv: LongConv<'_, Self>) -> Result<Tensor<Self>> {
        let shape = conv.check()?;
        Ok(self.make(&shape, |out| long_conv::long_conv(&self.rings, operands(&conv), out)))
    }

    fn long_conv_grad(&self, conv: LongConv<'_, Self>, g: &Tensor<Self>, needs: [bool; 3]) -> Result<[Option<Tensor<Self>>; 3]> {
        let [_, channels, _] = conv.check_grad("long_conv_grad", g)?;
        let mut input = needs[0].then(|| self.pool.dirty(conv.input.numel()));
        let mut kernel = self.buffer_if(needs[1], conv.kernel.numel());
        let mut skip = self.buffer_if(needs[2] && conv.skip.is_some(), channels);
        let wanted = long_conv::LongConvGrads { input: input.as_deref_mut(), kernel: kernel.as_deref_mut(), skip: skip.as_deref_mut() };
        long_conv::long_conv_grad(&self.rings, operands(&conv), values(g), wanted);
        Ok([self.wrap_if(input, conv.input.shape()), self.wrap_if(kernel, conv.kernel.shape()), self.wrap_if(skip, &[channels])])
    }

    fn fire(&self, conv: LongConv<'_, Self>, firing: Firing<&Tensor<Self>>) -> Result<Tensor<Self>> {
        let shape = conv.check()?;
        firing.check("fire", shape)?;
        if firing.spike.mode == SpikeMode::Expected {
            return Ok(self.make(&shape, |out| fire::expected(&self.rings, operands(&conv), firing.map(values), out)));
        }
        let mut packed = Packed::silent(shape);
        fire::spikes(&self.rings, operands(&conv), firing.map(values), &mut packed);
        Ok(Tensor::from_storage(Storage::spikes(packed, &self.pool), &shape))
    }

    fn fire_grad(
        &self,
        conv: LongConv<'_, Self>,
        firing: Firing<&Tensor<Self>>,
        g: &Tensor<Self>,
        needs: [bool; 5],
    ) -> Result<[Option<Tensor<Self>>; 5]> {
        self.fire_grad_over(conv, firing, g.clone(), needs)
    }

    fn fire_grad_over(
        &self,
        conv: LongConv<'_, Self>,
        firing: Firing<&Tensor<Self>>,
        g: Tensor<Self>,
        needs: [bool; 5],
    ) -> Result<[Option<Tensor<Self>>; 5]> {
        let shape @ [_, channels, _] = conv.check_grad("fire_grad", &g)?;
        firing.check("fire_grad", shape)?;
        let (g, mut input) = self.over(g, needs[0]);
        let mut kernel = self.buffer_if(needs[1], conv.kernel.numel());
        let mut small = [needs[2] && conv.skip.is_some(), needs[3] && firing.affine.is_some(), needs[4] && firing.affine.is_some()]
            .map(|wanted| self.buffer_if(wanted, channels));
        let [skip, scale, shift] = small.each_mut().map(|buffer| buffer.as_deref_mut());
        let wanted = fire::FireGrads { input: input.as_deref_mut(), kernel: kernel.as_deref_mut(), skip, scale, shift };
        fire::fire_grad(&self.rings, operands(&conv), firing.map(values), g.as_ref().map(values), wanted);
        let [skip, scale, shift] = small.map(|buffer| self.wrap_if(buffer, &[channels]));
        Ok([self.wrap_if(input, conv.input.shape()), self.wrap_if(kernel, conv.kernel.shape()), skip, scale, shift])
    }
}
