//! stub
#![allow(unused)]
use cubecl::prelude::*;
use super::{Cube, Scalar};
use crate::backend::{*, Tensor};
use crate::error::{Error, Result};

pub(super) fn mix<R: Runtime, E: Scalar>(cube: &Cube<R, E>, mixing: Mixing<'_, Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}

pub(super) fn mix_grad<R: Runtime, E: Scalar>(cube: &Cube<R, E>, mixing: Mixing<'_, Cube<R, E>>, g: &Tensor<Cube<R, E>>, needs: &[bool]) -> Result<Vec<Option<Tensor<Cube<R, E>>>>> {
    unimplemented!()
}
