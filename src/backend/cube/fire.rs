//! stub
#![allow(unused)]
use cubecl::prelude::*;
use super::{Cube, Scalar};
use crate::backend::{*, Tensor};
use crate::error::{Error, Result};

pub(super) fn fire<R: Runtime, E: Scalar>(cube: &Cube<R, E>, conv: LongConv<'_, Cube<R, E>>, firing: Firing<'_, Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
    unimplemented!()
}

pub(super) fn fire_grad<R: Runtime, E: Scalar>(cube: &Cube<R, E>, conv: LongConv<'_, Cube<R, E>>,
        firing: Firing<'_, Cube<R, E>>,
        g: &Tensor<Cube<R, E>>,
        needs: [bool; 5]) -> Result<[Option<Tensor<Cube<R, E>>>; 5]> {
    unimplemented!()
}
