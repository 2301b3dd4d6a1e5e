//! stub
#![allow(unused)]
use cubecl::prelude::*;
use super::{Cube, Scalar};
use crate::backend::{*, Tensor};
use crate::error::{Error, Result};

pub(super) fn spike<R: Runtime, E: Scalar>(cube: &Cube<R, E>, spike: &Spike<Cube<R, E>>, x: &Tensor<Cube<R, E>>, affine: Option<(&Tensor<Cube<R, E>>, &Tensor<Cube<R, E>>)>) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}

pub(super) fn spike_grad<R: Runtime, E: Scalar>(cube: &Cube<R, E>, spike: &Spike<Cube<R, E>>,
        x: &Tensor<Cube<R, E>>,
        affine: Option<(&Tensor<Cube<R, E>>, &Tensor<Cube<R, E>>)>,
        g: &Tensor<Cube<R, E>>,
        needs: [bool; 3]) -> Result<[Option<Tensor<Cube<R, E>>>; 3]> {
    unimplemented!()
}

pub(super) fn lif<R: Runtime, E: Scalar>(cube: &Cube<R, E>, lif: &Lif, x: &Tensor<Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}

pub(super) fn lif_grad<R: Runtime, E: Scalar>(cube: &Cube<R, E>, lif: &Lif, x: &Tensor<Cube<R, E>>, g: &Tensor<Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}
