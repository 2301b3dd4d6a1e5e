//! Functions of every element by itself, with broadcasting, and the sums that undo broadcasting.

use super::{Tensor, Transfer};
use crate::error::Result;

/// Elementwise arithmetic, with broadcasting.
pub trait Elementwise: Transfer {
    /// f(x).
    fn unary(&self, f: Unary, x: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// f'(x) g.
    fn unary_grad(&self, f: Unary, x: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// f(x, y) of the broadcast shape.
    fn binary(&self, f: Binary, x: &Tensor<Self>, y: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// The sum of x over the axes along which `shape` broadcasts to x's shape: the adjoint of broadcasting.
    fn sum_to(&self, x: &Tensor<Self>, shape: &[usize]) -> Result<Tensor<Self>>;
    /// The place of the first of several tensors that holds a NaN or an infinity: one answer of the device for all of them.
    fn first_not_finite(&self, tensors: &[&Tensor<Self>]) -> Result<Option<usize>>;
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// -x.
    Neg,
    /// e^x.
    Exp,
    /// ln x.
    Ln,
    /// The square root.
    Sqrt,
    /// 1 / x.
    Recip,
    /// x^2.
    Square,
    /// tanh x.
    Tanh,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// ln(1 + e^x).
    Softplus,
    /// max(x, 0); derivative 0 at 0, as PyTorch.
    Relu,
    /// x Phi(x), with the error function (no tanh approximation).
    Gelu,
    /// x limited to [low, high]; derivative 1 inside, both ends included.
    Clamp(f64, f64),
    /// scale * x + shift.
    Linear(f64, f64),
}

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
