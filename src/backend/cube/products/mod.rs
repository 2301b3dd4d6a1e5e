//! The family [`Products`].

pub(super) mod fft;
pub(super) mod matmul;

use cubecl::prelude::Runtime;

use super::{Cube, Scalar};
use crate::backend::{Products, Tensor, shape};
use crate::error::Result;

impl<R: Runtime, E: Scalar> Products for Cube<R, E> {
    fn matmul(&self, x: &Tensor<Self>, transpose_x: bool, y: &Tensor<Self>, transpose_y: bool) -> Result<Tensor<Self>> {
        matmul::matmul(self, x, transpose_x, y, transpose_y)
    }

    fn rfft(&self, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        shape::spectrum_of("rfft", x.shape())?;
        fft::rfft(self, x)
    }

    fn irfft(&self, x: &Tensor<Self>, n: usize) -> Result<Tensor<Self>> {
        shape::spectrum("irfft", x.shape(), n)?;
        fft::irfft(self, x, n)
    }
}
