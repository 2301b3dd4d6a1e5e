//! The family [`Transfer`]: host values are a tensor's values already.

use super::storage::Storage;
use super::{Cpu, values};
use crate::backend::{Real, Tensor, Transfer, shape};
use crate::error::Result;

impl<E: Real> Transfer for Cpu<E> {
    type Elem = E;
    type Storage = Storage<E>;

    fn name(&self) -> String {
        format!("cpu-{}", E::NAME)
    }

    fn from_vec(&self, values: Vec<E>, shape: &[usize]) -> Result<Tensor<Self>> {
        shape::same_numel("from_vec", &[values.len()], shape)?;
        Ok(self.own(values, shape))
    }

    fn to_vec(&self, x: &Tensor<Self>) -> Result<Vec<E>> {
        Ok(values(x).to_vec())
    }

    fn full(&self, shape: &[usize], value: f64) -> Result<Tensor<Self>> {
        shape::countable("full", shape)?;
        Ok(self.make(shape, |out| out.fill(E::of(value))))
    }
}
