//! stub
#![allow(unused)]
use cubecl::prelude::*;
use super::{Cube, Scalar};
use crate::backend::{*, Tensor};
use crate::error::{Error, Result};

pub(super) fn uniform<R: Runtime, E: Scalar>(cube: &Cube<R, E>, key: Key, shape: &[usize]) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}

pub(super) fn normal<R: Runtime, E: Scalar>(cube: &Cube<R, E>, key: Key, shape: &[usize]) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}
