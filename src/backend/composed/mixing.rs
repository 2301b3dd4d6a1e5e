//! The channel mix by stacking, a matrix product, and one operation after another.

use super::spiking::dropout_mask;
use super::{add, channel_sums, mul, over_channels, when};
use crate::backend::{ChannelMixing, Mixing, Tensor};
use crate::error::Result;

/// All parts stacked, and W times that plus bias.
fn mixed<B: ChannelMixing>(backend: &B, mixing: Mixing<'_, B>) -> Result<[Tensor<B>; 2]> {
    let stacked = backend.concat(mixing.parts, 1)?;
    let product = backend.matmul(mixing.weight, false, &stacked, false)?;
    let product = add(backend, &product, &over_channels(&stacked, mixing.bias)?)?;
    Ok([stacked, product])
}

/// The mask of a mix's tied dropout, for an output of this shape.
fn mix_mask<B: ChannelMixing>(backend: &B, mixing: Mixing<'_, B>, shape: &[usize]) -> Result<Option<Tensor<B>>> {
    mixing.dropout.map(|(p, draw)| dropout_mask(backend, draw, p, &[shape[0], shape[1], 1])).transpose()
}

/// One matrix over the channels of several sequences, with what follows.
pub fn mix<B: ChannelMixing>(backend: &B, mixing: Mixing<'_, B>) -> Result<Tensor<B>> {
    mixing.check()?;
    let [_, mut y] = mixed(backend, mixing)?;
    if let Some(activation) = mixing.activation {
        y = backend.unary(activation, &y)?;
    }
    if let Some(mask) = mix_mask(backend, mixing, y.shape())? {
        y = mul(backend, &y, &mask)?;
    }
    mixing.residual.map_or(Ok(y.clone()), |residual| add(backend, residual, &y))
}

/// Gradients of every part, of weight and bias.
pub fn mix_grad<B: ChannelMixing>(backend: &B, mixing: Mixing<'_, B>, g: &Tensor<B>, needs: &[bool]) -> Result<Vec<Option<Tensor<B>>>> {
    mixing.check_grad(g, needs)?;
    let [stacked, product] = mixed(backend, mixing)?;
    let mut inner = g.clone();
    if let Some(mask) = mix_mask(backend, mixing, g.shape())? {
        inner = mul(backend, &inner, &mask)?;
    }
    if let Some(activation) = mixing.activation {
        inner = backend.unary_grad(activation, &product, &inner)?;
    }
    let stacked_grad = backend.matmul(mixing.weight, true, &inner, false)?;
    let mut grads = Vec::with_capacity(needs.len());
    let mut at = 0;
    for (part, &need) in mixing.parts.iter().zip(needs) {
        let channels = part.shape()[1];
        grads.push(when(need, || backend.slice(&stacked_grad, 1, at, channels))?);
        at += channels;
    }
    let weight = mixing.weight.shape();
    let by_sequence = || backend.matmul(&inner, false, &stacked, true);
    grads.push(when(needs[mixing.parts.len()], || backend.sum_to(&by_sequence()?, &[1, weight[0], weight[1]])?.reshape(weight))?);
    grads.push(when(needs[mixing.parts.len() + 1], || channel_sums(backend, &inner))?);
    Ok(grads)
}
