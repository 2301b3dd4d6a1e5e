//! Affine maps and normalisation, of sums and products.

use super::{Grads, add, channel_sums, mul, over_channels, scaled, sub, when};
use crate::backend::{Elementwise, NormAxes, Normalization, Normalized, Tensor, Unary, shape};
use crate::error::Result;

/// The mean over the axes that `shape` has at 1.
fn mean<B: Elementwise>(backend: &B, x: &Tensor<B>, shape: &[usize]) -> Result<Tensor<B>> {
    let count = x.numel() as f64 / shape.iter().product::<usize>() as f64;
    scaled(backend, 1.0 / count, &backend.sum_to(x, shape)?)
}

/// `scale[h] x + shift[h]`.
pub fn affine<B: Normalization>(backend: &B, x: &Tensor<B>, scale: &Tensor<B>, shift: &Tensor<B>) -> Result<Tensor<B>> {
    shape::affine("affine", x.shape(), scale.shape(), shift.shape())?;
    add(backend, &mul(backend, x, &over_channels(x, scale)?)?, &over_channels(x, shift)?)
}

/// Gradients of x, scale, shift.
pub fn affine_grad<B: Normalization>(
    backend: &B,
    x: &Tensor<B>,
    scale: &Tensor<B>,
    g: &Tensor<B>,
    needs: [bool; 3],
) -> Result<Grads<B, 3>> {
    shape::affine("affine_grad", x.shape(), scale.shape(), scale.shape())?;
    shape::gradient("affine_grad", x.shape(), g.shape())?;
    Ok([
        when(needs[0], || mul(backend, g, &over_channels(x, scale)?))?,
        when(needs[1], || channel_sums(backend, &mul(backend, g, x)?))?,
        when(needs[2], || channel_sums(backend, g))?,
    ])
}

/// The shape of the statistics of x, as it broadcasts over x.
fn statistics_shape(axes: NormAxes, x: &[usize]) -> [usize; 3] {
    match axes {
        NormAxes::Batch => [1, x[1], 1],
        NormAxes::Layer => [x[0], 1, x[2]],
    }
}

/// Mean and biased variance, in the shape of [`statistics_shape`].
fn statistics<B: Normalization>(backend: &B, axes: NormAxes, x: &Tensor<B>) -> Result<[Tensor<B>; 2]> {
    let shape = statistics_shape(axes, x.shape());
    let center = mean(backend, x, &shape)?;
    let deviation = sub(backend, x, &center)?;
    let var = mean(backend, &backend.unary(Unary::Square, &deviation)?, &shape)?;
    Ok([center, var])
}

/// Mean and biased variance of every channel: (2, H).
pub fn moments<B: Normalization>(backend: &B, x: &Tensor<B>) -> Result<Tensor<B>> {
    let [_, channels, _] = shape::sequence("moments", "x", x.shape())?;
    let [mean, var] = statistics(backend, NormAxes::Batch, x)?;
    backend.concat(&[&mean.reshape(&[1, channels])?, &var.reshape(&[1, channels])?], 0)
}

/// The gradient of x: `(g_mean + 2 g_var (x - mean)) / n`.
pub fn moments_grad<B: Normalization>(backend: &B, x: &Tensor<B>, moments: &Tensor<B>, g: &Tensor<B>) -> Result<Tensor<B>> {
    let [batch, channels, length] = shape::moments_grad("moments_grad", x.shape(), moments.shape(), g.shape())?;
    let row = |of: &Tensor<B>, row| backend.slice(of, 0, row, 1)?.reshape(&[1, channels, 1]);
    let slope = mul(backend, &sub(backend, x, &row(moments, 0)?)?, &scaled(backend, 2.0, &row(g, 1)?)?)?;
    scaled(backend, 1.0 / (batch * length) as f64, &add(backend, &slope, &row(g, 0)?)?)
}

/// (x - mean) / sqrt(var + eps), and 1 / sqrt(var + eps).
fn standardized<B: Elementwise>(backend: &B, x: &Tensor<B>, mean: &Tensor<B>, var: &Tensor<B>, eps: f64) -> Result<[Tensor<B>; 2]> {
    let gain = backend.unary(Unary::Recip, &backend.unary(Unary::Sqrt, &backend.unary(Unary::Linear(1.0, eps), var)?)?)?;
    Ok([mul(backend, &sub(backend, x, mean)?, &gain)?, gain])
}

/// BatchNorm or LayerNorm.
pub fn normalize<B: Normalization>(
    backend: &B,
    axes: NormAxes,
    x: &Tensor<B>,
    gamma: &Tensor<B>,
    beta: &Tensor<B>,
    eps: f64,
) -> Result<Normalized<B>> {
    let shape = axes.check(x.shape(), gamma.shape(), beta.shape(), eps)?;
    let [mean, var] = statistics(backend, axes, x)?;
    let [standard, _] = standardized(backend, x, &mean, &var, eps)?;
    let output = affine(backend, &standard, gamma, beta)?;
    Ok(Normalized { output, mean: mean.reshape(&shape)?, var: var.reshape(&shape)? })
}

/// Gradients of x, gamma, beta, through the statistics.
pub fn normalize_grad<B: Normalization>(
    backend: &B,
    axes: NormAxes,
    x: &Tensor<B>,
    gamma: &Tensor<B>,
    (center, var): (&Tensor<B>, &Tensor<B>),
    eps: f64,
    g: &Tensor<B>,
) -> Result<[Tensor<B>; 3]> {
    axes.check_grad(x.shape(), gamma.shape(), [center.shape(), var.shape()], eps, g.shape())?;
    let shape = statistics_shape(axes, x.shape());
    let [standard, gain] = standardized(backend, x, &center.reshape(&shape)?, &var.reshape(&shape)?, eps)?;
    let inner = mul(backend, g, &over_channels(x, gamma)?)?;
    // What remains of the gradient once it may move neither mean nor variance.
    let by_mean = mean(backend, &inner, &shape)?;
    let by_var = mul(backend, &standard, &mean(backend, &mul(backend, &inner, &standard)?, &shape)?)?;
    let x_grad = mul(backend, &gain, &sub(backend, &sub(backend, &inner, &by_mean)?, &by_var)?)?;
    Ok([x_grad, channel_sums(backend, &mul(backend, g, &standard)?)?, channel_sums(backend, g)?])
}
