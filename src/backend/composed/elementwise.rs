//! The choice between two tensors, on the host: arithmetic would let a NaN of the branch that is not taken through.

use crate::backend::{Elementwise, Real, Tensor, shape};
use crate::error::Result;

/// `a` where `mask` is not 0, else `b`.
pub fn select<B: Elementwise>(backend: &B, mask: &Tensor<B>, a: &Tensor<B>, b: &Tensor<B>) -> Result<Tensor<B>> {
    let shape = shape::select(mask.shape(), a.shape(), b.shape())?;
    let (masks, of_a, of_b) = (backend.to_vec(mask)?, backend.to_vec(a)?, backend.to_vec(b)?);
    let pick = |position| {
        let place = |x: &Tensor<B>| shape::offset(position, &shape, x.shape());
        if masks[place(mask)].f64() != 0.0 { of_a[place(a)] } else { of_b[place(b)] }
    };
    backend.from_vec((0..shape.iter().product()).map(pick).collect(), &shape)
}
