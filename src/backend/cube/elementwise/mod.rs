//! The family [`Elementwise`].

pub(super) mod functions;
pub(super) mod math;
pub(super) mod reduce;

use cubecl::prelude::Runtime;

use super::{Cube, Scalar};
use crate::backend::{Binary, Elementwise, Tensor, Unary, shape};
use crate::error::Result;

impl<R: Runtime, E: Scalar> Elementwise for Cube<R, E> {
    fn unary(&self, f: Unary, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        f.check()?;
        functions::unary(self, f, x)
    }

    fn unary_grad(&self, f: Unary, x: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>> {
        f.check()?;
        shape::gradient("unary_grad", x.shape(), g.shape())?;
        functions::unary_grad(self, f, x, g)
    }

    fn binary(&self, f: Binary, x: &Tensor<Self>, y: &Tensor<Self>) -> Result<Tensor<Self>> {
        functions::binary(self, f, x, y)
    }

    fn select(&self, mask: &Tensor<Self>, a: &Tensor<Self>, b: &Tensor<Self>) -> Result<Tensor<Self>> {
        functions::pick(self, mask, a, b)
    }

    fn sum_to(&self, x: &Tensor<Self>, shape: &[usize]) -> Result<Tensor<Self>> {
        shape::broadcasts_to("sum", shape, x.shape())?;
        reduce::fold_to(self, Binary::Add, x, shape)
    }

    fn first_not_finite(&self, tensors: &[&Tensor<Self>]) -> Result<Option<usize>> {
        reduce::first_not_finite(self, tensors)
    }

    fn place_not_finite(&self, tensors: &[&Tensor<Self>]) -> Result<Tensor<Self>> {
        reduce::place_not_finite(self, tensors)
    }
}
