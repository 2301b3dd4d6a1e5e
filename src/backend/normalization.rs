//! Statistics of channels and positions, and what is made of them.

use super::{Elementwise, Layout, Tensor, Transfer, composed};
use crate::error::Result;

/// Affine maps and normalisation of sequences.
pub trait Normalization: Elementwise + Layout {
    /// `scale[h] x + shift[h]` for x (B, H, L) or (B, H).
    fn affine(&self, x: &Tensor<Self>, scale: &Tensor<Self>, shift: &Tensor<Self>) -> Result<Tensor<Self>> {
        composed::normalization::affine(self, x, scale, shift)
    }
    /// Gradients of x, scale, shift.
    fn affine_grad(&self, x: &Tensor<Self>, scale: &Tensor<Self>, g: &Tensor<Self>, needs: [bool; 3]) -> Result<[Option<Tensor<Self>>; 3]> {
        composed::normalization::affine_grad(self, x, scale, g, needs)
    }
    /// Mean and biased variance of every channel of x (B, H, L): (2, H).
    fn moments(&self, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        composed::normalization::moments(self, x)
    }
    /// The gradient of x, for `moments` as computed from it.
    fn moments_grad(&self, x: &Tensor<Self>, moments: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>> {
        composed::normalization::moments_grad(self, x, moments, g)
    }
    /// BatchNorm or LayerNorm of x (B, H, L) with gamma and beta (H).
    fn normalize(&self, axes: NormAxes, x: &Tensor<Self>, gamma: &Tensor<Self>, beta: &Tensor<Self>, eps: f64) -> Result<Normalized<Self>> {
        composed::normalization::normalize(self, axes, x, gamma, beta, eps)
    }
    /// Gradients of x, gamma, beta, through the statistics.
    fn normalize_grad(
        &self,
        axes: NormAxes,
        x: &Tensor<Self>,
        gamma: &Tensor<Self>,
        statistics: (&Tensor<Self>, &Tensor<Self>),
        eps: f64,
        g: &Tensor<Self>,
    ) -> Result<[Tensor<Self>; 3]> {
        composed::normalization::normalize_grad(self, axes, x, gamma, statistics, eps, g)
    }
}

/// Over what a normalisation takes its statistics, for a (batch, channels, length) tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormAxes {
    /// Over batch and length, for every channel: BatchNorm.
    Batch,
    /// Over channels, for every position: LayerNorm.
    Layer,
}

/// What comes out of a normalisation.
#[derive(Clone, Debug)]
pub struct Normalized<B: Transfer> {
    /// gamma (x - mean) / sqrt(var + eps) + beta, of x's shape.
    pub output: Tensor<B>,
    /// Mean: (channels) for Batch, (batch, length) for Layer.
    pub mean: Tensor<B>,
    /// Biased variance, of the mean's shape.
    pub var: Tensor<B>,
}
