//! The family [`SsmKernels`]: channels in parallel, a channel's scalars in f64.

mod diag;
mod dplr;
mod dplr_spectra;

use self::diag::DiagDims;
use self::dplr::DplrDims;
use super::{Cpu, values};
use crate::backend::{Discretization, Real, SsmKernels, SsmParams, Tensor};
use crate::error::Result;

impl<E: Real> Cpu<E> {
    /// The gradients of `ssm` as tensors of the same shapes.
    fn own_grads(&self, ssm: &SsmParams<Tensor<Self>>, grads: SsmParams<Vec<E>>) -> SsmParams<Tensor<Self>> {
        let mut like = ssm.as_ref().in_order();
        grads.map(|values| self.own(values, like.next().expect("as many gradients as parameters").shape()))
    }
}

impl<E: Real> SsmKernels for Cpu<E> {
    fn dplr_kernel(&self, ssm: &SsmParams<Tensor<Self>>, len: usize, take: usize) -> Result<Tensor<Self>> {
        let dims = DplrDims { sizes: ssm.dplr("dplr_kernel", len, take)?, len, take };
        let shape = [dims.sizes.channels, dims.sizes.d_model, take];
        Ok(self.make(&shape, |out| dplr::kernel(&self.plans, &dims, ssm.as_ref().map(values), out)))
    }

    fn dplr_kernel_grad(&self, ssm: &SsmParams<Tensor<Self>>, len: usize, g: &Tensor<Self>) -> Result<SsmParams<Tensor<Self>>> {
        let dims = DplrDims { sizes: ssm.dplr_grad("dplr_kernel_grad", len, g)?, len, take: g.shape()[2] };
        Ok(self.own_grads(ssm, dplr::kernel_grad(&self.plans, &dims, ssm.as_ref().map(values), values(g))))
    }

    fn diag_kernel(&self, ssm: &SsmParams<Tensor<Self>>, disc: Discretization, len: usize) -> Result<Tensor<Self>> {
        let dims = DiagDims { sizes: ssm.diag("diag_kernel", len)?, disc, len };
        Ok(self.make(&[dims.sizes.channels, dims.sizes.d_model, len], |out| diag::kernel(&dims, ssm.as_ref().map(values), out)))
    }

    fn diag_kernel_grad(&self, ssm: &SsmParams<Tensor<Self>>, disc: Discretization, g: &Tensor<Self>) -> Result<SsmParams<Tensor<Self>>> {
        let dims = DiagDims { sizes: ssm.diag_grad("diag_kernel_grad", g)?, disc, len: g.shape()[2] };
        Ok(self.own_grads(ssm, diag::kernel_grad(&dims, ssm.as_ref().map(values), values(g))))
    }
}

/// The sum of the lanes, a power of two of them, halves first.
#[inline(always)]
fn sum_lanes<E: Real, const T: usize>(mut lanes: [E; T]) -> f64 {
    let mut width = T / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0].f64()
}
