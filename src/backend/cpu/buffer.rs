//! Host storage that is used again: a freed buffer waits in its device's pool for the next tensor of about its size.
//!
//! Training allocates the same large tensors every step. Handing them back to the system each time costs a page fault for every
//! 4 KiB when they come again, which is more than most elementwise work on them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::Real;

/// Buffers below this many elements are left to the allocator.
const SMALL: usize = 4096;

/// The free buffers of one device, by capacity.
#[derive(Debug)]
pub struct Pool<E> {
    state: Mutex<State<E>>,
}

#[derive(Debug)]
struct State<E> {
    free: BTreeMap<usize, Vec<Vec<E>>>,
    /// Elements waiting in `free`, elements in use, and the most that were ever in use.
    pooled: usize,
    live: usize,
    peak: usize,
}

impl<E> Default for Pool<E> {
    fn default() -> Self {
        Pool { state: Mutex::new(State { free: BTreeMap::new(), pooled: 0, live: 0, peak: 0 }) }
    }
}

impl<E: Real> Pool<E> {
    /// A buffer of `len` elements with any finite or stale content: the caller overwrites all of it.
    pub fn dirty(self: &Arc<Self>, len: usize) -> Buffer<E> {
        if len < SMALL {
            return Buffer { values: vec![E::zero(); len], pool: None };
        }
        let class = size_class(len);
        let mut state = self.lock();
        state.live += class;
        state.peak = state.peak.max(state.live);
        let reused = state.take(class);
        if reused.is_none() {
            state.make_room();
        }
        drop(state);
        let mut values = reused.unwrap_or_else(|| {
            let mut fresh = vec![E::zero(); class];
            fresh.truncate(len);
            fresh
        });
        values.resize(len, E::zero());
        Buffer { values, pool: Some(self.clone()) }
    }

    /// A buffer of `len` zeros.
    pub fn zeros(self: &Arc<Self>, len: usize) -> Buffer<E> {
        self.filled(len, E::zero())
    }

    /// A buffer of `len` equal values.
    pub fn filled(self: &Arc<Self>, len: usize, value: E) -> Buffer<E> {
        let mut buffer = self.dirty(len);
        buffer.values.fill(value);
        buffer
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E> State<E> {
    fn take(&mut self, class: usize) -> Option<Vec<E>> {
        let list = self.free.get_mut(&class)?;
        let buffer = list.pop();
        if list.is_empty() {
            self.free.remove(&class);
        }
        self.pooled -= buffer.as_ref().map_or(0, |_| class);
        buffer
    }

    /// Gives the largest waiting buffers back to the system until no more is held than was ever in use at once.
    fn make_room(&mut self) {
        while self.pooled > 0 && self.pooled + self.live > self.peak {
            let Some(&largest) = self.free.keys().next_back() else { return };
            drop(self.take(largest));
        }
    }
}

/// `len` rounded up to one of eight sizes per octave.
fn size_class(len: usize) -> usize {
    let granule = (len.next_power_of_two() / 16).max(1);
    len.div_ceil(granule) * granule
}

/// Values on the host, handed back to their pool when the last tensor that shares them goes.
#[derive(Debug)]
pub struct Buffer<E: Real> {
    values: Vec<E>,
    pool: Option<Arc<Pool<E>>>,
}

impl<E: Real> Buffer<E> {
    /// A buffer around values that came from elsewhere.
    pub fn owned(values: Vec<E>) -> Self {
        Buffer { values, pool: None }
    }
}

impl<E: Real> std::ops::Deref for Buffer<E> {
    type Target = [E];
    fn deref(&self) -> &[E] {
        &self.values
    }
}

impl<E: Real> std::ops::DerefMut for Buffer<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        &mut self.values
    }
}

impl<E: Real> Drop for Buffer<E> {
    fn drop(&mut self) {
        let Some(pool) = self.pool.take() else { return };
        let values = std::mem::take(&mut self.values);
        let class = size_class(values.len());
        let mut state = pool.lock();
        state.live -= class;
        state.pooled += class;
        state.free.entry(class).or_default().push(values);
        state.make_room();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_the_pool_never_exceeds_the_peak() {
        let pool = Arc::new(Pool::<f32>::default());
        let first = pool.dirty(10_000);
        let address = first.as_ptr();
        drop(first);
        assert_eq!(pool.dirty(10_100).as_ptr(), address, "about the same size: the same buffer");
        for len in [20_000usize, 5_000, 40_000, 4_096, 12_345] {
            assert!(pool.zeros(len).iter().all(|&v| v == 0.0));
            let state = pool.lock();
            assert!(state.pooled + state.live <= state.peak, "{state:?}");
        }
    }

    #[test]
    fn size_classes_waste_at_most_an_eighth() {
        for len in 4096..70_000 {
            let class = size_class(len);
            assert!(class >= len && class * 8 <= len * 9, "{len} {class}");
            assert_eq!(size_class(class), class);
        }
    }
}
