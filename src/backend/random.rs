//! Tensors of random numbers, addressed by position.

use super::{Draw, Key, Tensor, Transfer};
use crate::error::Result;

/// Random numbers, addressed by position.
pub trait Random: Transfer {
    /// Uniform in [0, 1), multiples of 2^-24: element i from word i.
    fn uniform(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>>;
    /// Uniform in [0, 1), multiples of 2^-24: element (sample, channel, t) from that word of the draw ([`shape::rows`](super::shape::rows)).
    ///
    /// # Errors
    /// What [`Draw::check`] refuses.
    fn draw_uniform(&self, draw: Draw, shape: &[usize]) -> Result<Tensor<Self>>;
    /// Standard normal.
    fn normal(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>>;
}
