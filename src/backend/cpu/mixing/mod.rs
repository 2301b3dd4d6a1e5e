//! The family [`ChannelMixing`].

mod mixer;
mod spike_sums;

use std::sync::Arc;

use super::buffer::Pool;
use super::spike_bits::Packed;
use super::{Cpu, packed, values};
use crate::backend::{ChannelMixing, Mixing, Real, Tensor};
use crate::error::Result;

/// The operands of a mix whose output has this shape.
fn mixer<'a, E: Real>(pool: &'a Arc<Pool<E>>, mixing: &Mixing<'a, Cpu<E>>, [batch, d_out, length]: [usize; 3]) -> mixer::Mixer<'a, E> {
    let d_in = mixing.weight.shape()[1];
    // Spikes only where all parts are.
    let spikes: Option<Vec<&Packed>> = mixing.parts.iter().map(|part| packed(part)).collect();
    mixer::Mixer {
        pool,
        parts: match spikes {
            Some(parts) => mixer::Parts::Spikes(parts),
            None => mixer::Parts::Rows(mixing.parts.iter().map(|part| (values(part), part.shape()[1])).collect()),
        },
        weight: values(mixing.weight),
        bias: values(mixing.bias),
        activation: mixing.activation,
        dropout: mixing.dropout,
        residual: mixing.residual.map(values),
        shape: mixer::Shape { batch, d_out, d_in, length },
    }
}

impl<E: Real> ChannelMixing for Cpu<E> {
    fn mix(&self, mixing: Mixing<'_, Self>) -> Result<Tensor<Self>> {
        let shape = mixing.check()?;
        Ok(self.make(&shape, |out| mixer(&self.scratch, &mixing, shape).forward(out)))
    }

    fn mix_grad(&self, mixing: Mixing<'_, Self>, g: &Tensor<Self>, needs: &[bool]) -> Result<Vec<Option<Tensor<Self>>>> {
        let shape = mixing.check_grad(g, needs)?;
        let mixer = mixer(&self.scratch, &mixing, shape);
        let mut sums = vec![0.0; shape[0] * shape[1]];
        let inner = if mixer.is_plain() { g.clone() } else { self.make(g.shape(), |out| mixer.product_grad(values(g), out, &mut sums)) };
        let g = values(&inner);
        let mut grads = Vec::with_capacity(mixing.parts.len() + 2);
        let mut at = 0;
        for (part, &need) in mixing.parts.iter().zip(needs) {
            let channels = part.shape()[1];
            grads.push(need.then(|| self.make(part.shape(), |out| mixer.part_grad(g, at, channels, out))));
            at += channels;
        }
        let [weight, bias] = [mixing.weight, mixing.bias].map(|t| t.shape());
        grads.push(needs[mixing.parts.len()].then(|| self.make(weight, |out| mixer.weight_grad(g, out))));
        let needs_bias = needs[mixing.parts.len() + 1];
        if needs_bias && mixer.is_plain() {
            sums = mixer.row_sums(g);
        }
        grads.push(needs_bias.then(|| self.make(bias, |out| mixer.bias_grad(&sums, out))));
        Ok(grads)
    }
}
