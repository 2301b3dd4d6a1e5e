//! The storage of a tensor's values: a buffer, or, for spikes, bits that are expanded into numbers only when numbers are asked for.

use std::sync::{Arc, OnceLock};

use super::buffer::{Buffer, Pool};
use super::derived::Kept;
use super::spike_bits::Packed;
use crate::backend::Real;

/// Values of a tensor; a clone shares them.
#[derive(Clone)]
pub struct Storage<E: Real>(Arc<Values<E>>);

enum Values<E: Real> {
    Dense(Buffer<E>, Kept<E>),
    Spikes { packed: Packed, dense: OnceLock<Buffer<E>>, pool: Arc<Pool<E>> },
}

impl<E: Real> Storage<E> {
    /// Numbers.
    pub fn dense(buffer: Buffer<E>) -> Self {
        Storage(Arc::new(Values::Dense(buffer, Kept::default())))
    }

    /// Spikes, and where the buffer comes from if they are ever asked for as numbers.
    pub fn spikes(packed: Packed, pool: &Arc<Pool<E>>) -> Self {
        Storage(Arc::new(Values::Spikes { packed, dense: OnceLock::new(), pool: pool.clone() }))
    }

    /// The values, row-major.
    pub fn values(&self) -> &[E] {
        match &*self.0 {
            Values::Dense(buffer, _) => buffer,
            Values::Spikes { packed, dense, pool } => {
                if dense.get().is_none() {
                    // Outside of the lock: a thread that waits for its part of the work may take up somebody else's, which asks for the same.
                    let mut buffer = pool.dirty(packed.shape().iter().product());
                    packed.expand(&mut buffer);
                    // Whoever was first has the same numbers.
                    drop(dense.set(buffer));
                }
                dense.get().map_or(&[], |buffer| buffer)
            }
        }
    }

    /// The values, where nobody else shares them and they are numbers.
    pub fn own_values(&mut self) -> Option<&mut [E]> {
        match Arc::get_mut(&mut self.0)? {
            Values::Dense(buffer, kept) => {
                kept.clear();
                Some(buffer)
            }
            Values::Spikes { .. } => None,
        }
    }

    /// Where something that is made of the values is kept with them, unless they are spikes.
    pub fn kept(&self) -> Option<&Kept<E>> {
        match &*self.0 {
            Values::Dense(_, kept) => Some(kept),
            Values::Spikes { .. } => None,
        }
    }

    /// The bits, where the values are spikes.
    pub fn packed(&self) -> Option<&Packed> {
        match &*self.0 {
            Values::Dense(..) => None,
            Values::Spikes { packed, .. } => Some(packed),
        }
    }
}
