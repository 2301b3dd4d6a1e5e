//! Batches made in the background while the device works.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Scope};

use crate::error::{Error, Result};

/// Finished items in the order of their numbers; each thread is at most two ahead of what was taken.
#[derive(Debug)]
pub(super) struct Feeder<T> {
    /// Thread k of n makes the items k, k + n, k + 2 n and so on.
    queues: Vec<Receiver<T>>,
    taken: usize,
}

impl<T: Send> Feeder<T> {
    /// The items `make(first)`, `make(first + 1)`, .. up to the first `None`, made by `threads` threads that end with the feeder.
    pub fn spawn(first: u64, threads: usize, make: impl FnMut(u64) -> Option<T> + Clone + Send + 'static) -> Result<Self>
    where
        T: 'static,
    {
        Self::with(threads, |thread, queue| {
            let make = make.clone();
            let work = move || work(first + thread, threads, make, queue);
            thread::Builder::new().name("batches".into()).spawn(work).map(drop)
        })
    }

    /// The same with threads of a scope, which may borrow; the feeder must be dropped within it.
    pub fn scoped<'scope>(
        scope: &'scope Scope<'scope, '_>,
        threads: usize,
        make: impl FnMut(u64) -> Option<T> + Clone + Send + 'scope,
    ) -> Result<Self>
    where
        T: 'scope,
    {
        Self::with(threads, |thread, queue| {
            let make = make.clone();
            thread::Builder::new().name("batches".into()).spawn_scoped(scope, move || work(thread, threads, make, queue)).map(drop)
        })
    }

    fn with(threads: usize, mut start: impl FnMut(u64, SyncSender<T>) -> std::io::Result<()>) -> Result<Self> {
        let mut queues = Vec::with_capacity(threads);
        for thread in 0..threads {
            let (sender, receiver) = sync_channel(1);
            start(thread as u64, sender).map_err(|error| Error::value("Feeder", format!("no thread can be started: {error}")))?;
            queues.push(receiver);
        }
        Ok(Feeder { queues, taken: 0 })
    }

    /// The next item; `None` behind the last.
    pub fn next(&mut self) -> Option<T> {
        let queue = self.queues.get(self.taken % self.queues.len().max(1))?;
        self.taken += 1;
        queue.recv().ok()
    }
}

fn work<T>(first: u64, stride: usize, make: impl FnMut(u64) -> Option<T>, queue: SyncSender<T>) {
    let mut items = (first..).step_by(stride).map_while(make);
    // Where nobody listens any more, the feeder is gone.
    while items.next().is_some_and(|item| queue.send(item).is_ok()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_order_from_any_number_of_threads_and_end() {
        for threads in 1..5 {
            let mut feeder = Feeder::spawn(3, threads, |i| (i < 20).then_some(i)).unwrap();
            let items: Vec<u64> = std::iter::from_fn(|| feeder.next()).collect();
            assert_eq!(items, (3..20).collect::<Vec<_>>(), "{threads} threads");
        }
    }

    #[test]
    fn a_scope_ends_although_items_are_left() {
        let words = [1u64, 2, 3];
        let first = thread::scope(|scope| {
            let mut feeder = Feeder::scoped(scope, 2, |i| words.get(i as usize % 3).copied()).unwrap();
            [feeder.next(), feeder.next()]
        });
        assert_eq!(first, [Some(1), Some(2)]);
    }
}
