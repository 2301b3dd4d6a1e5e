//! What axes are reduced to: extremes and products, the places of maxima, running sums, and the softmax.

use super::{Elementwise, Tensor, composed, shape};
use crate::error::Result;

/// Reductions over axes beside the sum ([`Elementwise::sum_to`]), and what runs along one axis.
///
/// Every method has a default: `reduce`, `argmax` and `cumsum` go through the host, the softmax is made of elementwise functions and sums.
pub trait Reductions: Elementwise {
    /// x reduced over `axes`, which stay with length 1. No axes: x itself.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where an axis does not exist or is named twice, and for an extreme where there is nothing to
    /// take it of.
    fn reduce(&self, kind: Reduction, x: &Tensor<Self>, axes: &[usize]) -> Result<Tensor<Self>> {
        composed::reductions::reduce(self, kind, x, axes)
    }
    /// The place of the largest value along `axis`, which stays with length 1: the first of equal ones, or of the NaN if there are any.
    /// In f32 a place beyond 2^24 is the nearest number that there is.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where the axis does not exist or has length 0.
    fn argmax(&self, x: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        composed::reductions::argmax(self, x, axis)
    }
    /// The sum of all entries along `axis` up to each one, itself included; where `reverse`, from each one on. One is the other's adjoint.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where the axis does not exist.
    fn cumsum(&self, x: &Tensor<Self>, axis: usize, reverse: bool) -> Result<Tensor<Self>> {
        composed::reductions::cumsum(self, x, axis, reverse)
    }
    /// e^x divided by its sum along `axis`, without overflow. Entries of -infinity have exactly 0; all are NaN where one is NaN or infinite,
    /// or all are -infinity.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where the axis does not exist.
    fn softmax(&self, x: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        composed::reductions::softmax(self, x, axis)
    }
    /// The gradient of x for the softmax `y` of it: y (g - sum(g y)).
    ///
    /// # Errors
    /// As [`Reductions::softmax`]; [`Error::Shape`](crate::Error::Shape) where `g` has not y's shape.
    fn softmax_grad(&self, y: &Tensor<Self>, g: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        composed::reductions::softmax_grad(self, y, g, axis)
    }
    /// The logarithm of the softmax along `axis`: x - ln(sum(e^x)), without overflow and accurate where the softmax is near 1.
    ///
    /// # Errors
    /// As [`Reductions::softmax`].
    fn log_softmax(&self, x: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        composed::reductions::log_softmax(self, x, axis)
    }
    /// The gradient of x for the logarithm `y` of its softmax: g - e^y sum(g).
    ///
    /// # Errors
    /// As [`Reductions::softmax`]; [`Error::Shape`](crate::Error::Shape) where `g` has not y's shape.
    fn log_softmax_grad(&self, y: &Tensor<Self>, g: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        composed::reductions::log_softmax_grad(self, y, g, axis)
    }
}

listed! {
    /// What many numbers are reduced to.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Reduction {
        /// The largest; NaN where one is NaN.
        Max,
        /// The smallest; NaN where one is NaN.
        Min,
        /// The product; 1 of nothing.
        Prod,
    }
}

impl Reduction {
    /// What error messages call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Reduction::Max => "max",
            Reduction::Min => "min",
            Reduction::Prod => "prod",
        }
    }

    /// The shape of x reduced over `axes`, which stay with length 1.
    pub(crate) fn check(self, x: &[usize], axes: &[usize]) -> Result<Vec<usize>> {
        let least = if self == Reduction::Prod { 0 } else { 1 };
        shape::reduced_of(self.name(), x, axes, least)
    }
}
