//! Fused operations and their adjoints composed of elementary ones: what a backend has before it writes a kernel of its own.
//!
//! The files have the families' names. Each function is the default implementation of the method with its name, and has that method's
//! shapes and errors.

pub mod convolution;
pub mod elementwise;
pub mod layout;
pub mod learning;
pub mod mixing;
pub mod normalization;
pub mod reductions;
pub mod scan;
pub mod spiking;

use super::tensor::Grads;
use super::{Binary, Elementwise, Tensor, Transfer, Unary};
use crate::error::Result;

/// `f()` where it is asked for.
fn when<T>(need: bool, f: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    need.then(f).transpose()
}

fn mul<B: Elementwise>(backend: &B, x: &Tensor<B>, y: &Tensor<B>) -> Result<Tensor<B>> {
    backend.binary(Binary::Mul, x, y)
}

fn add<B: Elementwise>(backend: &B, x: &Tensor<B>, y: &Tensor<B>) -> Result<Tensor<B>> {
    backend.binary(Binary::Add, x, y)
}

fn sub<B: Elementwise>(backend: &B, x: &Tensor<B>, y: &Tensor<B>) -> Result<Tensor<B>> {
    backend.binary(Binary::Sub, x, y)
}

fn scaled<B: Elementwise>(backend: &B, factor: f64, x: &Tensor<B>) -> Result<Tensor<B>> {
    backend.unary(Unary::Linear(factor, 0.0), x)
}

/// A tensor (H) in the shape that broadcasts over the channels of x, (B, H) or (B, H, L).
fn over_channels<B: Transfer>(x: &Tensor<B>, values: &Tensor<B>) -> Result<Tensor<B>> {
    values.reshape(&[&[values.numel()][..], &vec![1; x.rank() - 2]].concat())
}

/// The sum of x, (B, H) or (B, H, L), over everything but the channels: (H).
fn channel_sums<B: Elementwise>(backend: &B, x: &Tensor<B>) -> Result<Tensor<B>> {
    let channels = x.shape()[1];
    backend.sum_to(x, &[&[channels][..], &vec![1; x.rank() - 2]].concat())?.reshape(&[channels])
}
