//! Functions of every element by itself, with broadcasting, and the sums that undo broadcasting.

use super::{Tensor, Transfer, Unary, composed};
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
    /// x + y, both of one shape and given away: where nobody else shares the storage of one of them, the sum may take it.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the shapes do not broadcast.
    fn accumulate(&self, x: Tensor<Self>, y: Tensor<Self>) -> Result<Tensor<Self>> {
        self.binary(Binary::Add, &x, &y)
    }
    /// `a` where `mask` is not 0, `b` where it is, of the shape that all three broadcast to. What is not picked leaves no trace, be it NaN;
    /// a NaN in the mask is not 0.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the shapes do not broadcast.
    fn select(&self, mask: &Tensor<Self>, a: &Tensor<Self>, b: &Tensor<Self>) -> Result<Tensor<Self>> {
        composed::elementwise::select(self, mask, a, b)
    }
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
    /// The same without a transfer: one number, of shape (), 1 more than that place, or 0 where everything is finite.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) where the device failed.
    fn place_not_finite(&self, tensors: &[&Tensor<Self>]) -> Result<Tensor<Self>> {
        let place = self.first_not_finite(tensors)?;
        self.full(&[], place.map_or(0.0, |place| place as f64 + 1.0))
    }
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
        /// The smaller one; NaN where either is NaN.
        Min,
        /// The larger one; NaN where either is NaN.
        Max,
        /// x^y; NaN where x is below 0 and y no whole number.
        Pow,
        /// The angle of the point (y, x), that is of y to the right and x upwards, in (-pi, pi]: atan2(x, y).
        Atan2,
        /// 1 where x = y, else 0. A comparison with NaN is 0, but for `Ne`.
        Eq,
        /// 1 where x and y differ, else 0.
        Ne,
        /// 1 where x < y, else 0.
        Lt,
        /// 1 where x <= y, else 0.
        Le,
        /// 1 where x > y, else 0.
        Gt,
        /// 1 where x >= y, else 0.
        Ge,
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
            Binary::Min => "minimum",
            Binary::Max => "maximum",
            Binary::Pow => "pow",
            Binary::Atan2 => "atan2",
            Binary::Eq => "eq",
            Binary::Ne => "ne",
            Binary::Lt => "lt",
            Binary::Le => "le",
            Binary::Gt => "gt",
            Binary::Ge => "ge",
        }
    }

    /// Whether it says yes or no, 1 or 0, and so has no gradient.
    pub fn is_comparison(self) -> bool {
        matches!(self, Binary::Eq | Binary::Ne | Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge)
    }
}
