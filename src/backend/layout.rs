//! Values moved and picked, none computed.

use super::{Tensor, Transfer};
use crate::error::Result;

/// Moving values.
pub trait Layout: Transfer {
    /// Axis i of the result is axis `axes[i]` of x.
    fn permute(&self, x: &Tensor<Self>, axes: &[usize]) -> Result<Tensor<Self>>;
    /// `len` entries from `start` on along `axis`.
    fn slice(&self, x: &Tensor<Self>, axis: usize, start: usize, len: usize) -> Result<Tensor<Self>>;
    /// The tensors one after another along `axis`.
    fn concat(&self, parts: &[&Tensor<Self>], axis: usize) -> Result<Tensor<Self>>;
    /// The entries along `axis` in reverse order.
    fn flip(&self, x: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>>;
    /// Rows of `table` (V, H) for `tokens` (batch, length), as (batch, H, length).
    fn embed(&self, table: &Tensor<Self>, tokens: &[u32], batch: usize) -> Result<Tensor<Self>>;
    /// The gradient of `table` with `rows` rows.
    fn embed_grad(&self, rows: usize, tokens: &[u32], g: &Tensor<Self>) -> Result<Tensor<Self>>;
}
