//! The storage of a tensor's values: a buffer, or, for spikes, bits that are expanded into numbers only when numbers are asked for.

use std::sync::{Arc, OnceLock};

use super::buffer::{Buffer, Pool};
use super::spike_bits::Packed;
use crate::backend::Real;

/// Values of a tensor; a clone shares them.
#[derive(Clone)]
pub struct Storage<E: Real>(Arc<Values<E>>);

enum Values<E: Real> {
    Dense(Buffer<E>),
    Spikes { packed: Packed, dense: OnceLock<Buffer<E>>, pool: Arc<Pool<E>> },
}

impl<E: Real> Storage<E> {
    /// Numbers.
    pub fn dense(buffer: Buffer<E>) -> Self {
        Storage(Arc::new(Values::Dense(buffer)))
    }

    /// Spikes, and where the buffer comes from if they are ever asked for as numbers.
    pub fn spikes(packed: Packed, pool: &Arc<Pool<E>>) -> Self {
        Storage(Arc::new(Values::Spikes { packed, dense: OnceLock::new(), pool: pool.clone() }))
    }

    /// The values, row-major.
    pub fn values(&self) -> &[E] {
        match &*self.0 {
            Values::Dense(buffer) => buffer,
            Values::Spikes { packed, dense, pool } => dense.get_or_init(|| {
                let mut buffer = pool.dirty(packed.shape().iter().product());
                packed.expand(&mut buffer);
                buffer
            }),
        }
    }

    /// The values, where nobody else shares them and they are numbers.
    pub fn own_values(&mut self) -> Option<&mut [E]> {
        match Arc::get_mut(&mut self.0)? {
            Values::Dense(buffer) => Some(buffer),
            Values::Spikes { .. } => None,
        }
    }

    /// The bits, where the values are spikes.
    pub fn packed(&self) -> Option<&Packed> {
        match &*self.0 {
            Values::Dense(_) => None,
            Values::Spikes { packed, .. } => Some(packed),
        }
    }
}
