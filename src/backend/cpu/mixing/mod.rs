//! The family [`ChannelMixing`].

mod mix_grad;
mod mixer;
mod spike_sums;
mod weight_grad;

use std::sync::Arc;

use self::mix_grad::MixGrad;
use super::buffer::Pool;
use super::spike_bits::Packed;
use super::{Cpu, kept, packed, values};
use crate::backend::{ChannelMixing, Mixing, Real, Tensor, Transfer};
use crate::error::Result;

/// The operands of a mix whose output has this shape.
fn mixer<'a, E: Real>(pool: &'a Arc<Pool<E>>, mixing: &Mixing<'a, Cpu<E>>, [batch, d_out, length]: [usize; 3]) -> mixer::Mixer<'a, E> {
    let d_in = mixing.weight.shape()[1];
    // Spikes only where all parts are.
    let spikes: Option<Vec<&Packed>> = mixing.parts.iter().map(|part| packed(part)).collect();
    mixer::Mixer {
        pool,
        parts: match spikes {
            Some(parts) => mixer::Parts::Spikes(mixer::Spikes { parts }),
            None => mixer::Parts::Rows(mixing.parts.iter().map(|part| (values(part), part.shape()[1])).collect()),
        },
        weight: values(mixing.weight),
        bias: values(mixing.bias),
        activation: mixing.activation,
        dropout: mixing.dropout,
        residual: mixing.residual.map(values),
        shape: mixer::Shape { batch, d_out, d_in, length },
        kept: kept(mixing.weight),
    }
}

impl<E: Real> ChannelMixing for Cpu<E> {
    fn mix(&self, mixing: Mixing<'_, Self>) -> Result<Tensor<Self>> {
        let shape = mixing.check()?;
        Ok(self.make(&shape, |out| mixer(&self.scratch, &mixing, shape).forward(out)))
    }

    fn mix_grad(&self, mixing: Mixing<'_, Self>, g: &Tensor<Self>, needs: &[bool]) -> Result<Vec<Option<Tensor<Self>>>> {
        let mixer = mixer(&self.scratch, &mixing, mixing.check_grad(g, needs)?);
        let parts: Vec<_> = mixing.parts.iter().zip(needs).map(|(part, &need)| (part.shape()[1], need)).collect();
        let [weight, bias] = [0, 1].map(|i| needs[parts.len() + i]);
        let mut grads = MixGrad::new(&mixer, &self.pool, &parts, weight, bias);
        for sequences in mixer.slices(self.cached_bytes().unwrap_or(usize::MAX)) {
            grads.add(sequences, values(g));
        }
        let weight = weight.then(|| self.make(mixing.weight.shape(), |out| grads.weight(out)));
        let bias = bias.then(|| self.make(mixing.bias.shape(), |out| grads.bias(out)));
        let parts = mixing.parts.iter().zip(grads.parts).map(|(part, (_, out))| out.map(|out| self.wrap(out, part.shape())));
        Ok(parts.chain([weight, bias]).collect())
    }
}
