//! Tensors of random numbers, addressed by position.

use super::{Draw, Key, Tensor, Transfer};
use crate::error::Result;

/// Random numbers, addressed by position.
pub trait Random: Transfer {
    /// Uniform in [0, 1), multiples of 2^-24: element i from word i.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where no memory holds such a shape.
    fn uniform(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>>;
    /// Uniform in [0, 1), multiples of 2^-24: element (sample, channel, t) from that word of the draw.
    ///
    /// The first axis counts samples, the last one time steps, and what is between them channels; (batch, channels) is one step, and one
    /// axis is the steps of one channel of one sample.
    ///
    /// # Errors
    /// What [`Draw::check`] refuses; [`Error::Value`](crate::Error::Value) where no memory holds such a shape.
    fn draw_uniform(&self, draw: Draw, shape: &[usize]) -> Result<Tensor<Self>>;
    /// Standard normal: element i from words 2i and 2i + 1.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where no memory holds such a shape.
    fn normal(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>>;
}
