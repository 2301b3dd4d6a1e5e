//! The family [`Transfer`].

use cubecl::prelude::Runtime;

use super::elementwise::functions;
use super::{Buffer, Cube, Scalar};
use crate::backend::{Tensor, Transfer, shape};
use crate::error::Result;

impl<R: Runtime, E: Scalar> Transfer for Cube<R, E> {
    type Elem = E;
    type Storage = Buffer;

    fn name(&self) -> String {
        format!("{}-{}", self.shared.runtime, E::NAME)
    }

    fn from_vec(&self, values: Vec<E>, shape: &[usize]) -> Result<Tensor<Self>> {
        self.upload("from_vec", &values, shape)
    }

    fn to_vec(&self, x: &Tensor<Self>) -> Result<Vec<E>> {
        self.read("to_vec", x)
    }

    fn to_vecs(&self, tensors: &[&Tensor<Self>]) -> Result<Vec<Vec<E>>> {
        self.read_all("to_vecs", tensors)
    }

    fn is_asynchronous(&self) -> bool {
        true
    }

    fn full(&self, shape: &[usize], value: f64) -> Result<Tensor<Self>> {
        shape::countable("full", shape)?;
        functions::full(self, shape, value)
    }
}
