//! Tensors of random numbers, addressed by position.

use super::{Key, Tensor, Transfer};
use crate::error::Result;

/// Random numbers, addressed by position.
pub trait Random: Transfer {
    /// Uniform in [0, 1), multiples of 2^-24.
    fn uniform(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>>;
    /// Standard normal.
    fn normal(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>>;
}
