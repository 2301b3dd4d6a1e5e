//! The family [`Reductions`].

mod argmax;
mod lines;
mod softmax;

use cubecl::prelude::Runtime;

use super::elementwise::reduce::fold_to;
use super::{Cube, Scalar, scan};
use crate::backend::{Binary, Reduction, Reductions, Tensor, shape};
use crate::error::Result;

impl<R: Runtime, E: Scalar> Reductions for Cube<R, E> {
    fn reduce(&self, kind: Reduction, x: &Tensor<Self>, axes: &[usize]) -> Result<Tensor<Self>> {
        let kept = kind.check(x.shape(), axes)?;
        let f = match kind {
            Reduction::Max => Binary::Max,
            Reduction::Min => Binary::Min,
            Reduction::Prod => Binary::Mul,
        };
        fold_to(self, f, x, &kept)
    }

    fn argmax(&self, x: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        let sizes = shape::argmax(x.shape(), axis)?;
        argmax::argmax(self, x, sizes, &shape::reduced("argmax", x.shape(), &[axis])?)
    }

    fn cumsum(&self, x: &Tensor<Self>, axis: usize, reverse: bool) -> Result<Tensor<Self>> {
        let sizes = shape::around("cumsum", x.shape(), axis)?;
        scan::running_sums(self, x, sizes, reverse)
    }

    fn softmax(&self, x: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        softmax::softmax(self, x, shape::around("softmax", x.shape(), axis)?, false)
    }

    fn softmax_grad(&self, y: &Tensor<Self>, g: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        let sizes = shape::around("softmax_grad", y.shape(), axis)?;
        shape::gradient("softmax_grad", y.shape(), g.shape())?;
        softmax::softmax_grad(self, y, g, sizes, false)
    }

    fn log_softmax(&self, x: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        softmax::softmax(self, x, shape::around("log_softmax", x.shape(), axis)?, true)
    }

    fn log_softmax_grad(&self, y: &Tensor<Self>, g: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        let sizes = shape::around("log_softmax_grad", y.shape(), axis)?;
        shape::gradient("log_softmax_grad", y.shape(), g.shape())?;
        softmax::softmax_grad(self, y, g, sizes, true)
    }
}
