//! What a device can do: storage, arithmetic, and the domain kernels with their adjoints. No gradients, no layers.
//!
//! Sequences are (batch, channels, length): a channel's time series is contiguous, as FFTs and recurrences want it. Complex values
//! are planar: a leading axis of 2 holds the real and the imaginary plane, so that gradients are plain real gradients.
//!
//! A device's methods come in families, a trait each, in the file of its name: [`Transfer`], [`Elementwise`], [`Reductions`],
//! [`Products`], [`Layout`], [`Scan`], [`Random`], [`Normalization`], [`Spiking`], [`Convolution`], [`ChannelMixing`], [`SsmKernels`] and
//! [`Learning`]. Generic code asks for a [`Backend`], which is all of them; code that calls a device by its type has the families from
//! [`prelude`](crate::prelude), or from `use pspikessm::backend::*`.
//!
//! A new backend writes the elementary methods: transfer, elementwise, products, layout, random numbers, the draw of spikes, SSM kernels
//! and the loss. Indexing, scans, softmax, normalisation, convolution, channel mixes, spikes of an affine potential and the optimiser's step
//! are composed of those, gradients included, until it has kernels of its own, while `select`, `reduce`, `argmax` and `cumsum` go through the
//! host until then. The conformance suite runs all of these, too.

mod composed;
mod convolution;
mod cpu;
#[cfg(feature = "cube")]
pub(crate) mod cube;
pub(crate) mod device;
mod devices;
mod elementwise;
pub(crate) mod host;
mod layout;
mod learning;
mod mixing;
mod normalization;
mod products;
mod random;
mod real;
mod reductions;
pub(crate) mod rng;
mod scan;
pub(crate) mod shape;
mod spiking;
pub(crate) mod ssm;
mod surrogate;
mod tensor;
mod transfer;
pub(crate) mod unary;

pub use convolution::{Convolution, Firing, FiringDropout, LongConv};
pub use cpu::Cpu;
#[cfg(feature = "cuda")]
pub use cube::cuda::Cuda;
#[cfg(feature = "wgpu")]
pub use cube::wgpu::Wgpu;
pub use device::{Device, Driver};
pub use devices::devices;
pub use elementwise::{Binary, Elementwise};
pub use layout::Layout;
pub use learning::{AdamW, AdamWParam, Learning};
pub use mixing::{ChannelMixing, Mixing};
pub use normalization::{NormAxes, Normalization, Normalized};
pub use products::Products;
pub use random::Random;
pub use real::Real;
pub use reductions::{Reduction, Reductions};
pub use rng::{Draw, Key, Samples};
pub(crate) use rng::{LANES, Words, normal_f64};
pub use scan::{LinearScan, Scan};
pub use spiking::{Adaptation, Lif, Noise, Plif, Spike, SpikeMode, Spiking};
pub use ssm::{Discretization, DtTransform, SsmKernels, SsmParams};
pub use surrogate::Surrogate;
pub use tensor::Tensor;
pub use transfer::Transfer;
pub use unary::Unary;

/// A device that computes in `Elem`: all families together.
///
/// A method checks its operands first (shapes, indices, numbers out of range) and answers what does not fit with an `Err` that names the
/// method and says what to do; it also answers `Err` where the device fails. Results are deterministic: the same bits for the same
/// arguments, whatever the number of threads. A `*_grad` method is the adjoint of the method it is named after: from the gradient `g` of
/// its output it makes the gradients of its inputs, in the order of the arguments; `needs` says which of them are wanted, the others may
/// be `None`.
pub trait Backend:
    Transfer
    + Elementwise
    + Reductions
    + Products
    + Layout
    + Scan
    + Random
    + Normalization
    + Spiking
    + Convolution
    + ChannelMixing
    + SsmKernels
    + Learning
{
}

impl<B> Backend for B where
    B: Transfer
        + Elementwise
        + Reductions
        + Products
        + Layout
        + Scan
        + Random
        + Normalization
        + Spiking
        + Convolution
        + ChannelMixing
        + SsmKernels
        + Learning
{
}
