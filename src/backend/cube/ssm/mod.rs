//! The family [`SsmKernels`].

mod diag;
mod dplr;
mod dplr_spectra;
mod system;

use cubecl::prelude::Runtime;

use super::{Cube, Scalar};
use crate::backend::{Discretisation, SsmKernels, SsmParams, Tensor};
use crate::error::Result;

impl<R: Runtime, E: Scalar> SsmKernels for Cube<R, E> {
    fn dplr_kernel(&self, ssm: &SsmParams<Tensor<Self>>, len: usize, take: usize) -> Result<Tensor<Self>> {
        dplr::kernel(self, ssm, len, take)
    }

    fn dplr_kernel_grad(&self, ssm: &SsmParams<Tensor<Self>>, len: usize, g: &Tensor<Self>) -> Result<SsmParams<Tensor<Self>>> {
        dplr::kernel_grad(self, ssm, len, g)
    }

    fn diag_kernel(&self, ssm: &SsmParams<Tensor<Self>>, disc: Discretisation, len: usize) -> Result<Tensor<Self>> {
        diag::kernel(self, ssm, disc, len)
    }

    fn diag_kernel_grad(&self, ssm: &SsmParams<Tensor<Self>>, disc: Discretisation, g: &Tensor<Self>) -> Result<SsmParams<Tensor<Self>>> {
        diag::kernel_grad(self, ssm, disc, g)
    }
}
