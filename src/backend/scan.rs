//! Linear recurrences along the last axis: what S5, LRU, Mamba and a trained state that is handed over stand on.

use super::{Elementwise, Layout, Tensor, Transfer, composed, shape};
use crate::error::Result;

/// Linear recurrences, real or complex, whose coefficients may vary in time.
pub trait Scan: Elementwise + Layout {
    /// Every state h of the recurrence, in b's shape.
    ///
    /// # Errors
    /// What [`LinearScan::check`] refuses.
    fn scan(&self, scan: LinearScan<'_, Self>) -> Result<Tensor<Self>> {
        composed::scan::scan(self, scan)
    }
    /// Gradients of a, b and the initial state, from the states `h` that [`Scan::scan`] answered and their gradient `g`. The third is
    /// `None` where there was no initial state.
    ///
    /// # Errors
    /// What [`LinearScan::check`] refuses; [`Error::Shape`](crate::Error::Shape) where `h` or `g` has not b's shape.
    fn scan_grad(
        &self,
        scan: LinearScan<'_, Self>,
        h: &Tensor<Self>,
        g: &Tensor<Self>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<Self>>; 3]> {
        composed::scan::scan_grad(self, scan, h, g, needs)
    }
}

/// A linear scan's operands: `h[t] = a[t] h[t - 1] + b[t]` along the last axis, from the initial state `h[-1]`, or from zero.
///
/// Complex values are planar: a leading axis of 2, the real plane first. It takes no part in broadcasting.
#[derive(Debug)]
pub struct LinearScan<'a, B: Transfer> {
    /// a, which broadcasts to b: with fewer axes, or axes of 1, time among them.
    pub a: &'a Tensor<B>,
    /// b, (.., L), or (2, .., L) of complex values.
    pub b: &'a Tensor<B>,
    /// The state before the first step: b's shape without time.
    pub initial: Option<&'a Tensor<B>>,
    /// Whether the values are complex.
    pub complex: bool,
    /// Whether time runs backwards: `h[t] = a[t] h[t + 1] + b[t]`, from the initial state `h[L]`.
    pub reverse: bool,
}

// By hand: derived implementations would require `B: Clone` and `B: Copy`, and only references to tensors are copied.
impl<B: Transfer> Clone for LinearScan<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Transfer> Copy for LinearScan<'_, B> {}

impl<B: Transfer> LinearScan<'_, B> {
    /// Whether the operands fit each other.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where a does not broadcast to b or the initial state is not b without its last axis;
    /// [`Error::Value`](crate::Error::Value) where b is empty or has no axis of time, or complex values are not planar.
    pub fn check(&self, op: &'static str) -> Result<()> {
        self.sizes(op).map(drop)
    }

    /// The same, with the sizes.
    pub(in crate::backend) fn sizes(&self, op: &'static str) -> Result<shape::Scan> {
        shape::scan(op, self.a.shape(), self.b.shape(), self.initial.map(Tensor::shape), self.complex)
    }

    /// The same, for states `h` and their gradient `g`.
    pub(in crate::backend) fn sizes_grad(&self, op: &'static str, h: &Tensor<B>, g: &Tensor<B>) -> Result<shape::Scan> {
        let sizes = self.sizes(op)?;
        shape::exactly(op, "the states", self.b.shape(), h.shape())?;
        shape::gradient(op, self.b.shape(), g.shape())?;
        Ok(sizes)
    }
}
