//! State space models: their kernels as a family of the backend, and the mathematics that its implementations and the step form share.
//!
//! The mathematics runs on the host, in f64: `params` names what is stored, `system` reads a channel's system out of it and puts
//! gradients back, `discretization` turns a diagonal system into steps of time, `recurrence` a diagonal-plus-low-rank one, `cayley` too,
//! for many channels side by side.

pub(crate) mod cayley;
pub(crate) mod discretization;
mod params;
pub(crate) mod recurrence;
pub(crate) mod system;

pub use params::{DtTransform, SsmParams};
pub use recurrence::dplr_advance;

use serde::{Deserialize, Serialize};

use super::{Tensor, Transfer};
use crate::error::Result;

/// The convolution kernels of SSMs, generated from the stored parameters.
pub trait SsmKernels: Transfer {
    /// The first `take` entries of the DPLR kernels of length `len`: (c, H, take).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), [`Error::Config`](crate::Error::Config) or [`Error::Value`](crate::Error::Value) where the
    /// parameters' shapes do not fit each other, P is missing, `len` or `take` is 0, or `take` exceeds `len`.
    fn dplr_kernel(&self, ssm: &SsmParams<Tensor<Self>>, len: usize, take: usize) -> Result<Tensor<Self>>;
    /// Gradients of every parameter (`dt` is carried over), for the gradient `g` of the first entries of the kernels.
    ///
    /// # Errors
    /// As [`SsmKernels::dplr_kernel`], and where `g` is not (c, H, take) with a `take` of 1 to `len`.
    fn dplr_kernel_grad(&self, ssm: &SsmParams<Tensor<Self>>, len: usize, g: &Tensor<Self>) -> Result<SsmParams<Tensor<Self>>>;
    /// The diagonal kernels: (c, H, len).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), [`Error::Config`](crate::Error::Config) or [`Error::Value`](crate::Error::Value) where the
    /// parameters' shapes do not fit each other, `len` is 0, or P is given, which a diagonal system does not have.
    fn diag_kernel(&self, ssm: &SsmParams<Tensor<Self>>, disc: Discretization, len: usize) -> Result<Tensor<Self>>;
    /// Gradients of every parameter (`dt` is carried over), for the gradient `g` of the kernels.
    ///
    /// # Errors
    /// As [`SsmKernels::diag_kernel`], and where `g` is not (c, H, len).
    fn diag_kernel_grad(&self, ssm: &SsmParams<Tensor<Self>>, disc: Discretization, g: &Tensor<Self>) -> Result<SsmParams<Tensor<Self>>>;
}

listed! {
    /// How a continuous diagonal system becomes a discrete one.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Discretization {
        /// Zero-order hold.
        Zoh,
        /// Bilinear (Tustin).
        Bilinear,
    }
}
