//! stub
#![allow(unused)]
use cubecl::prelude::*;
use super::{Cube, Scalar};
use crate::backend::{*, Tensor};
use crate::error::{Error, Result};

pub(super) fn permute<R: Runtime, E: Scalar>(cube: &Cube<R, E>, x: &Tensor<Cube<R, E>>, axes: &[usize]) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}

pub(super) fn slice<R: Runtime, E: Scalar>(cube: &Cube<R, E>, x: &Tensor<Cube<R, E>>, axis: usize, start: usize, len: usize) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}

pub(super) fn concat<R: Runtime, E: Scalar>(cube: &Cube<R, E>, parts: &[&Tensor<Cube<R, E>>], axis: usize) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}

pub(super) fn flip<R: Runtime, E: Scalar>(cube: &Cube<R, E>, x: &Tensor<Cube<R, E>>, axis: usize) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}

pub(super) fn embed<R: Runtime, E: Scalar>(cube: &Cube<R, E>, table: &Tensor<Cube<R, E>>, tokens: &[u32], batch: usize) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}

pub(super) fn embed_grad<R: Runtime, E: Scalar>(cube: &Cube<R, E>, rows: usize, tokens: &[u32], g: &Tensor<Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}
