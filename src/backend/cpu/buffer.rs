//! Host storage that is used again: a freed buffer waits in its device's pool for the next tensor of about its size.
//!
//! Training allocates the same large tensors every step. Handing them back to the system each time costs a page fault for every
//! 4 KiB when they come again, which is more than most elementwise work on them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::Real;
use crate::backend::host::threads::{fill, filled};

/// Buffers below this many elements are left to the allocator.
const SMALL: usize = 4096;

/// Bytes from which on allocators take memory from the system, cleared, and pages that are never written cost nothing.
const MAPPED: usize = 32 << 20;

/// The free buffers of one device, by capacity.
#[derive(Debug)]
pub struct Pool<E> {
    state: Mutex<State<E>>,
    /// What may be held beyond the most that was in use at once, as a part of it: one over this.
    slack: usize,
}

#[derive(Debug)]
struct State<E> {
    free: BTreeMap<usize, Vec<Vec<E>>>,
    /// Elements waiting in `free`, elements in use, and the most that were ever in use.
    pooled: usize,
    live: usize,
    peak: usize,
}

impl<E> Pool<E> {
    /// For tensors, large and of ever other sizes where sequences are: hardly more is held than was ever in use at once.
    pub fn for_tensors() -> Self {
        Self::new(16)
    }

    /// For what operations need while they run, small beside tensors and asked for all the time: as much again may wait.
    pub fn for_scratch() -> Self {
        Self::new(1)
    }

    fn new(slack: usize) -> Self {
        Pool { state: Mutex::new(State { free: BTreeMap::new(), pooled: 0, live: 0, peak: 0 }), slack }
    }
}

/// Bytes of a cache line. Buffers start on one: vectors of half a kilobit that straddle two lines cost twice.
const LINE: usize = 64;

impl<E: Real> Pool<E> {
    /// A buffer of `len` elements with any finite or stale content: the caller overwrites all of it.
    pub fn dirty(self: &Arc<Self>, len: usize) -> Buffer<E> {
        if len < SMALL {
            return Buffer::zeros(len);
        }
        let values = self.reused(size_class(len)).unwrap_or_else(|| new_zeros(size_class(len)));
        Buffer::aligned(values, len, Some(self.clone()))
    }

    /// A buffer of `len` zeros.
    pub fn zeros(self: &Arc<Self>, len: usize) -> Buffer<E> {
        let mut buffer = self.dirty(len);
        fill(&mut buffer, E::zero());
        buffer
    }

    /// A buffer of this class that waits, if one does; in either case it is in use from now on.
    fn reused(&self, class: usize) -> Option<Vec<E>> {
        let mut state = self.lock();
        state.live += class;
        state.peak = state.peak.max(state.live);
        let reused = state.take(class);
        if reused.is_none() {
            state.make_room(self.slack);
        }
        reused
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

    /// Gives the largest waiting buffers back to the system until hardly more is held than was ever in use at once. The little more keeps a
    /// large buffer from going for the sake of a small one, to be needed a moment later.
    fn make_room(&mut self, slack: usize) {
        while self.pooled > 0 && self.pooled + self.live > self.peak + self.peak / slack {
            let Some(&largest) = self.free.keys().next_back() else { return };
            drop(self.take(largest));
        }
    }
}

/// Room for so many elements from a cache line on, all zero.
fn new_zeros<E: Real>(len: usize) -> Vec<E> {
    let len = len + LINE / size_of::<E>();
    if len * size_of::<E>() < MAPPED { filled(E::zero(), len) } else { vec![E::zero(); len] }
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
    start: usize,
    len: usize,
    pool: Option<Arc<Pool<E>>>,
}

impl<E: Real> Buffer<E> {
    /// A buffer around values that came from elsewhere.
    pub fn owned(values: Vec<E>) -> Self {
        Buffer { start: 0, len: values.len(), values, pool: None }
    }

    /// `len` zeros that belong to no pool.
    pub fn zeros(len: usize) -> Self {
        Buffer::aligned(vec![E::zero(); len + LINE / size_of::<E>()], len, None)
    }

    /// `len` of the values, from the first cache line on.
    fn aligned(values: Vec<E>, len: usize, pool: Option<Arc<Pool<E>>>) -> Self {
        Buffer { start: values.as_ptr().align_offset(LINE), len, values, pool }
    }
}

impl<E: Real> std::ops::Deref for Buffer<E> {
    type Target = [E];
    fn deref(&self) -> &[E] {
        &self.values[self.start..][..self.len]
    }
}

impl<E: Real> std::ops::DerefMut for Buffer<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        &mut self.values[self.start..][..self.len]
    }
}

impl<E: Real> Drop for Buffer<E> {
    fn drop(&mut self) {
        let Some(pool) = self.pool.take() else { return };
        let values = std::mem::take(&mut self.values);
        let class = size_class(self.len);
        let mut state = pool.lock();
        state.live -= class;
        state.pooled += class;
        state.free.entry(class).or_default().push(values);
        state.make_room(pool.slack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_the_pool_hardly_exceeds_the_peak() {
        for pool in [Pool::<f32>::for_tensors(), Pool::for_scratch()].map(Arc::new) {
            let first = pool.dirty(10_000);
            let address = first.as_ptr();
            drop(first);
            assert_eq!(pool.dirty(10_100).as_ptr(), address, "about the same size: the same buffer");
            for len in [20_000usize, 5_000, 40_000, 4_096, 12_345] {
                assert!(pool.zeros(len).iter().all(|&v| v == 0.0));
                assert!(pool.dirty(len).as_ptr().addr().is_multiple_of(LINE) && pool.dirty(7).as_ptr().addr().is_multiple_of(LINE));
                let state = pool.lock();
                assert!(state.pooled + state.live <= state.peak + state.peak / pool.slack, "{state:?}");
            }
        }
    }

    #[test]
    fn scratch_of_two_sizes_in_turn_is_kept() {
        let (tensors, scratch) = (Arc::new(Pool::<f32>::for_tensors()), Arc::new(Pool::<f32>::for_scratch()));
        for pool in [&tensors, &scratch] {
            [40_000, 10_000].into_iter().for_each(|len| drop(pool.dirty(len)));
        }
        assert_eq!(tensors.lock().pooled, size_class(10_000), "the larger one went for it");
        assert_eq!(scratch.lock().pooled, size_class(40_000) + size_class(10_000));
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
