//! Mean and variance of channels and positions, normalisation by them, and affine maps.

use super::{Elementwise, Layout, Tensor, Transfer, composed, shape};
use crate::error::{Error, Result};

/// Affine maps and normalisation of sequences.
pub trait Normalization: Elementwise + Layout {
    /// `scale[h] x + shift[h]` for x (B, H, L) or (B, H), with scale (H) and shift (H).
    ///
    /// # Errors
    /// [`Error::Shape`] where x has neither two nor three axes or the others are not (H); [`Error::Value`] where x is empty.
    fn affine(&self, x: &Tensor<Self>, scale: &Tensor<Self>, shift: &Tensor<Self>) -> Result<Tensor<Self>> {
        composed::normalization::affine(self, x, scale, shift)
    }
    /// Gradients of x, scale, shift.
    ///
    /// # Errors
    /// As [`Normalization::affine`]; [`Error::Shape`] where `g` has not x's shape.
    fn affine_grad(&self, x: &Tensor<Self>, scale: &Tensor<Self>, g: &Tensor<Self>, needs: [bool; 3]) -> Result<[Option<Tensor<Self>>; 3]> {
        composed::normalization::affine_grad(self, x, scale, g, needs)
    }
    /// Mean and biased variance of every channel of x (B, H, L): (2, H).
    ///
    /// # Errors
    /// [`Error::Value`] where x has not three axes, or one is empty.
    fn moments(&self, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        composed::normalization::moments(self, x)
    }
    /// The gradient of x, for `moments` as computed from it.
    ///
    /// # Errors
    /// As [`Normalization::moments`]; [`Error::Shape`] where `moments` or `g` is not (2, H).
    fn moments_grad(&self, x: &Tensor<Self>, moments: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>> {
        composed::normalization::moments_grad(self, x, moments, g)
    }
    /// The same, added to a gradient of x's shape that is given away: where nobody else shares its storage, the sum may take it.
    ///
    /// # Errors
    /// As [`Normalization::moments_grad`]; [`Error::Shape`] where `earlier` has not x's shape.
    fn add_moments_grad(&self, x: &Tensor<Self>, moments: &Tensor<Self>, g: &Tensor<Self>, earlier: Tensor<Self>) -> Result<Tensor<Self>> {
        shape::exactly("add_moments_grad", "the gradient so far", x.shape(), earlier.shape())?;
        self.accumulate(earlier, self.moments_grad(x, moments, g)?)
    }
    /// BatchNorm or LayerNorm of x (B, H, L) with gamma and beta (H).
    ///
    /// # Errors
    /// [`Error::Value`] where x has not three axes, or one is empty; [`Error::Shape`] where gamma or beta is not (H); [`Error::Config`]
    /// where eps is not positive and finite.
    fn normalize(&self, axes: NormAxes, x: &Tensor<Self>, gamma: &Tensor<Self>, beta: &Tensor<Self>, eps: f64) -> Result<Normalized<Self>> {
        composed::normalization::normalize(self, axes, x, gamma, beta, eps)
    }
    /// Gradients of x, gamma, beta, through the statistics: mean and variance as [`Normalized`] holds them.
    ///
    /// # Errors
    /// As [`Normalization::normalize`]; [`Error::Shape`] where the statistics or `g` have another shape than there.
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

listed! {
    /// Over what a normalisation takes its statistics, for a (batch, channels, length) tensor.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum NormAxes {
        /// Over batch and length, for every channel: BatchNorm.
        Batch,
        /// Over channels, for every position: LayerNorm.
        Layer,
    }
}

impl NormAxes {
    /// What error messages call such a normalisation.
    pub(crate) fn name(self) -> &'static str {
        match self {
            NormAxes::Batch => "batch_norm",
            NormAxes::Layer => "layer_norm",
        }
    }

    /// The shape of the statistics of x, where it can be normalised over these axes.
    pub(in crate::backend) fn check(self, x: &[usize], gamma: &[usize], beta: &[usize], eps: f64) -> Result<Vec<usize>> {
        let op = self.name();
        if !(eps > 0.0 && eps.is_finite()) {
            return Err(Error::config("eps", eps, "must be positive and finite: 1e-5 is usual"));
        }
        let [batch, channels, length] = shape::sequence(op, "x", x)?;
        shape::exactly(op, "gamma", &[channels], gamma)?;
        shape::exactly(op, "beta", &[channels], beta)?;
        Ok(match self {
            NormAxes::Batch => vec![channels],
            NormAxes::Layer => vec![batch, length],
        })
    }

    /// The same, for the statistics of x and a gradient `g` of what it was normalised to.
    pub(in crate::backend) fn check_grad(
        self,
        x: &[usize],
        gamma: &[usize],
        [mean, var]: [&[usize]; 2],
        eps: f64,
        g: &[usize],
    ) -> Result<()> {
        let statistics = self.check(x, gamma, gamma, eps)?;
        shape::exactly(self.name(), "the mean", &statistics, mean)?;
        shape::exactly(self.name(), "the variance", &statistics, var)?;
        shape::gradient(self.name(), x, g)
    }
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
