//! Values moved and picked, none computed (but the sums of what meets at one place).

use super::{Tensor, Transfer, composed};
use crate::error::Result;

/// Moving values.
pub trait Layout: Transfer {
    /// Axis i of the result is axis `axes[i]` of x.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where `axes` does not name every axis once.
    fn permute(&self, x: &Tensor<Self>, axes: &[usize]) -> Result<Tensor<Self>>;
    /// `len` entries from `start` on along `axis`.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where the axis does not exist, `len` is 0, or the entries go beyond the axis.
    fn slice(&self, x: &Tensor<Self>, axis: usize, start: usize, len: usize) -> Result<Tensor<Self>>;
    /// The tensors one after another along `axis`.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where there are no parts or the axis does not exist;
    /// [`Error::Shape`](crate::Error::Shape) where the parts differ in another axis.
    fn concat(&self, parts: &[&Tensor<Self>], axis: usize) -> Result<Tensor<Self>>;
    /// The entries along `axis` in reverse order.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where the axis does not exist.
    fn flip(&self, x: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>>;
    /// Rows of `table` (V, H) for `tokens` (batch, length), as (batch, H, length).
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where `table` has not two axes, a token is not below V, or the tokens do not make `batch`
    /// sequences of one length, which is at least 1.
    fn embed(&self, table: &Tensor<Self>, tokens: &[u32], batch: usize) -> Result<Tensor<Self>>;
    /// The gradient (rows, H) of a table with `rows` rows, for the gradient `g` (batch, H, length) of what was looked up in it.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where a token is not below `rows` or `g` is empty;
    /// [`Error::Shape`](crate::Error::Shape) where there is not one token for every sequence and step of `g`.
    fn embed_grad(&self, rows: usize, tokens: &[u32], g: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// The entries `index` of `axis` in that order, each as often as it is named.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where the axis does not exist, `index` is empty, an index is not below the axis's length, or no
    /// memory holds the result.
    fn index_select(&self, x: &Tensor<Self>, axis: usize, index: &[u32]) -> Result<Tensor<Self>> {
        composed::layout::index_select(self, x, axis, index)
    }
    /// Zeros with `len` entries along `axis`, to which entry i of `g` is added at `index[i]`: the adjoint of [`Layout::index_select`]. What
    /// meets at one place is added in the order of `index`.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where the axis does not exist, `index` is empty, an index is not below `len`, or no memory
    /// holds the result; [`Error::Shape`](crate::Error::Shape) where there is not one index for every entry of the axis.
    fn index_add(&self, g: &Tensor<Self>, axis: usize, index: &[u32], len: usize) -> Result<Tensor<Self>> {
        composed::layout::index_add(self, g, axis, index, len)
    }
}
