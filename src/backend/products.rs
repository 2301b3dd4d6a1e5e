//! Matrix products and Fourier transforms.

use super::{Tensor, Transfer};
use crate::error::Result;

/// Products and transforms.
pub trait Products: Transfer {
    /// x (.., m, k) times y (.., k, n), each optionally stored transposed; batch axes broadcast.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where an operand has fewer than two axes, the summed axes differ, or the batch axes do not
    /// broadcast.
    fn matmul(&self, x: &Tensor<Self>, transpose_x: bool, y: &Tensor<Self>, transpose_y: bool) -> Result<Tensor<Self>>;
    /// Real (.., n) to planar complex (2, .., n/2 + 1), unnormalised; any n of 1 or more.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where there is no last axis, or it is empty.
    fn rfft(&self, x: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// The inverse of `rfft`, divided by n. Imaginary parts of the first and (n even) last bin are ignored.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where x is not the spectrum of signals of length `n`.
    fn irfft(&self, x: &Tensor<Self>, n: usize) -> Result<Tensor<Self>>;
}
