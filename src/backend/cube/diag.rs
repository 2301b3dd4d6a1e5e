//! stub
#![allow(unused)]
use cubecl::prelude::*;
use super::{Cube, Scalar};
use crate::backend::{*, Tensor};
use crate::error::{Error, Result};

pub(super) fn kernel<R: Runtime, E: Scalar>(cube: &Cube<R, E>, ssm: &SsmParams<Cube<R, E>>, disc: Discretisation, len: usize) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}

pub(super) fn kernel_grad<R: Runtime, E: Scalar>(cube: &Cube<R, E>, ssm: &SsmParams<Cube<R, E>>, disc: Discretisation, g: &Tensor<Cube<R, E>>) -> Result<SsmParams<Cube<R, E>>> {
    unimplemented!()
}
