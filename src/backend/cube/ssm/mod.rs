//! The family [`SsmKernels`].

mod diag;
mod dplr;
mod dplr_spectra;
mod system;

use cubecl::prelude::Runtime;

use super::{Cube, Scalar};
use crate::backend::{Discretization, SsmKernels, SsmParams, Tensor};
use crate::error::Result;

impl<R: Runtime, E: Scalar> SsmKernels for Cube<R, E> {
    fn dplr_kernel(&self, ssm: &SsmParams<Tensor<Self>>, len: usize, take: usize) -> Result<Tensor<Self>> {
        ssm.dplr("dplr_kernel", len, take)?;
        dplr::kernel(self, ssm, len, take)
    }

    fn dplr_kernel_grad(&self, ssm: &SsmParams<Tensor<Self>>, len: usize, g: &Tensor<Self>) -> Result<SsmParams<Tensor<Self>>> {
        ssm.dplr_grad("dplr_kernel_grad", len, g)?;
        dplr::kernel_grad(self, ssm, len, g)
    }

    fn diag_kernel(&self, ssm: &SsmParams<Tensor<Self>>, disc: Discretization, len: usize) -> Result<Tensor<Self>> {
        ssm.diag("diag_kernel", len)?;
        diag::kernel(self, ssm, disc, len)
    }

    fn diag_kernel_grad(&self, ssm: &SsmParams<Tensor<Self>>, disc: Discretization, g: &Tensor<Self>) -> Result<SsmParams<Tensor<Self>>> {
        ssm.diag_grad("diag_kernel_grad", g)?;
        diag::kernel_grad(self, ssm, disc, g)
    }
}
