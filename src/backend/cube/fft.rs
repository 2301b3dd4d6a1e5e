//! stub
#![allow(unused)]
use cubecl::prelude::*;
use super::{Cube, Scalar};
use crate::backend::{*, Tensor};
use crate::error::{Error, Result};

pub(super) fn rfft<R: Runtime, E: Scalar>(cube: &Cube<R, E>, x: &Tensor<Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}

pub(super) fn irfft<R: Runtime, E: Scalar>(cube: &Cube<R, E>, x: &Tensor<Cube<R, E>>, n: usize) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}
