//! stub
#![allow(unused)]
use cubecl::prelude::*;
use super::{Cube, Scalar};
use crate::backend::{*, Tensor};
use crate::error::{Error, Result};

pub(super) fn matmul<R: Runtime, E: Scalar>(cube: &Cube<R, E>, x: &Tensor<Cube<R, E>>, transpose_x: bool, y: &Tensor<Cube<R, E>>, transpose_y: bool) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}
