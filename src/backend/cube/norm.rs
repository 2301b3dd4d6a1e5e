//! stub
#![allow(unused)]
use cubecl::prelude::*;
use super::{Cube, Scalar};
use crate::backend::{*, Tensor};
use crate::error::{Error, Result};

pub(super) fn affine<R: Runtime, E: Scalar>(cube: &Cube<R, E>, x: &Tensor<Cube<R, E>>, scale: &Tensor<Cube<R, E>>, shift: &Tensor<Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}

pub(super) fn affine_grad<R: Runtime, E: Scalar>(cube: &Cube<R, E>, x: &Tensor<Cube<R, E>>, scale: &Tensor<Cube<R, E>>, g: &Tensor<Cube<R, E>>, needs: [bool; 3]) -> Result<[Option<Tensor<Cube<R, E>>>; 3]> {
    unimplemented!()
}

pub(super) fn moments<R: Runtime, E: Scalar>(cube: &Cube<R, E>, x: &Tensor<Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}

pub(super) fn moments_grad<R: Runtime, E: Scalar>(cube: &Cube<R, E>, x: &Tensor<Cube<R, E>>, moments: &Tensor<Cube<R, E>>, g: &Tensor<Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}

pub(super) fn normalize<R: Runtime, E: Scalar>(cube: &Cube<R, E>, axes: NormAxes, x: &Tensor<Cube<R, E>>, gamma: &Tensor<Cube<R, E>>, beta: &Tensor<Cube<R, E>>, eps: f64) -> Result<Normalized<Cube<R, E>>> {
    unimplemented!()
}

pub(super) fn normalize_grad<R: Runtime, E: Scalar>(cube: &Cube<R, E>, axes: NormAxes,
        x: &Tensor<Cube<R, E>>,
        gamma: &Tensor<Cube<R, E>>,
        statistics: (&Tensor<Cube<R, E>>, &Tensor<Cube<R, E>>),
        eps: f64,
        g: &Tensor<Cube<R, E>>) -> Result<[Tensor<Cube<R, E>>; 3]> {
    unimplemented!()
}
