//! The family [`Transfer`]: host values are a tensor's values already.

use super::storage::Storage;
use super::{Cpu, values};
use crate::backend::host::threads::threads;
use crate::backend::{Real, Tensor, Transfer, shape};
use crate::error::Result;

/// Bytes of a tensor for every thread: twice the cache of a core, as tried out (benches/NOTES.md).
const CACHED: usize = 4 << 20;

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

    fn lean(&self, x: &Tensor<Self>) -> Tensor<Self> {
        Tensor::from_storage(x.storage().lean(&self.pool), x.shape())
    }

    fn cached_bytes(&self) -> Option<usize> {
        Some(threads() * CACHED)
    }

    fn full(&self, shape: &[usize], value: f64) -> Result<Tensor<Self>> {
        shape::countable("full", shape)?;
        Ok(self.make(shape, |out| out.fill(E::of(value))))
    }
}
