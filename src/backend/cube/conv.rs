//! stub
#![allow(unused)]
use cubecl::prelude::*;
use super::{Cube, Scalar};
use crate::backend::{*, Tensor};
use crate::error::{Error, Result};

pub(super) fn long_conv<R: Runtime, E: Scalar>(cube: &Cube<R, E>, conv: LongConv<'_, Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}

pub(super) fn long_conv_grad<R: Runtime, E: Scalar>(cube: &Cube<R, E>, conv: LongConv<'_, Cube<R, E>>, g: &Tensor<Cube<R, E>>, needs: [bool; 3]) -> Result<[Option<Tensor<Cube<R, E>>>; 3]> {
    unimplemented!()
}
