//! The family [`Products`]: matrix products by the `gemm` crates, Fourier transforms by `realfft`.

pub mod fft;
mod matmul;

use super::{Cpu, values};
use crate::backend::{Products, Real, Tensor, shape};
use crate::error::Result;

impl<E: Real> Products for Cpu<E> {
    fn matmul(&self, x: &Tensor<Self>, transpose_x: bool, y: &Tensor<Self>, transpose_y: bool) -> Result<Tensor<Self>> {
        let product = shape::product(x.shape(), transpose_x, y.shape(), transpose_y)?;
        let shape = [product.batch.as_slice(), &[product.m, product.n]].concat();
        let operand = |t: &'_ Tensor<Self>, transposed| -> (Vec<usize>, bool) { (t.shape()[..t.rank() - 2].to_vec(), transposed) };
        let ((x_batch, tx), (y_batch, ty)) = (operand(x, transpose_x), operand(y, transpose_y));
        Ok(self.make(&shape, |out| {
            let left = matmul::Operand { values: values(x), batch: &x_batch, transposed: tx };
            let right = matmul::Operand { values: values(y), batch: &y_batch, transposed: ty };
            matmul::matmul(left, right, &product, out);
        }))
    }

    fn rfft(&self, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        let shape = shape::spectrum_of("rfft", x.shape())?;
        let plan = self.plans.get(x.shape()[x.rank() - 1]);
        Ok(self.make(&shape, |out| fft::rfft(&plan, values(x), out)))
    }

    fn irfft(&self, x: &Tensor<Self>, n: usize) -> Result<Tensor<Self>> {
        let shape = shape::spectrum("irfft", x.shape(), n)?;
        let plan = self.plans.get(n);
        Ok(self.make(&shape, |out| fft::irfft(&plan, values(x), out)))
    }
}
