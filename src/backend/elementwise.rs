//! Functions of every element by itself, with broadcasting, and the sums that undo broadcasting.

use super::{Tensor, Transfer, Unary};
use crate::error::Result;

/// Elementwise arithmetic, with broadcasting.
pub trait Elementwise: Transfer {
    /// f(x).
    ///
    /// # Errors
    /// What [`Unary::check`] refuses.
    fn unary(&self, f: Unary, x: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// f'(x) g.
    ///
    /// # Errors
    /// What [`Unary::check`] refuses; [`Error::Shape`](crate::Error::Shape) where `g` has not x's shape.
    fn unary_grad(&self, f: Unary, x: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// f(x, y) of the broadcast shape.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the shapes do not broadcast.
    fn binary(&self, f: Binary, x: &Tensor<Self>, y: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// The sum of x over the axes along which `shape` broadcasts to x's shape: the adjoint of broadcasting.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where `shape` does not broadcast to x's.
    fn sum_to(&self, x: &Tensor<Self>, shape: &[usize]) -> Result<Tensor<Self>>;
    /// The place of the first of several tensors that holds a NaN or an infinity, by a single transfer from the device for all of them.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) where the device failed in this or an earlier call.
    fn first_not_finite(&self, tensors: &[&Tensor<Self>]) -> Result<Option<usize>>;
}

listed! {
    /// A function of two numbers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Binary {
        /// x + y.
        Add,
        /// x - y.
        Sub,
        /// x * y.
        Mul,
        /// x / y.
        Div,
    }
}

impl Binary {
    /// What error messages call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
        }
    }
}
