//! Work split into pieces of fixed size, on all cores with feature `parallel`, one after another without it.
//!
//! What a piece computes never depends on which thread runs it or on how many there are, so neither does any result. Where there is one thread
//! the caller does the work: to wake that thread and to sleep meanwhile takes longer than many a piece.

/// Elements of a piece of elementwise work: large enough to hide the cost of a task, small enough to share evenly.
pub const PIECE: usize = 1 << 14;

/// Elements that a thread fills at a time, which reads and computes nothing: help takes as long as many of them.
const FILLED: usize = 1 << 17;

/// How many threads share the caller's work.
pub fn threads() -> usize {
    #[cfg(feature = "parallel")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "parallel"))]
    1
}

/// Whether pieces are shared with other threads, which are kept awake for them then.
#[cfg(feature = "parallel")]
fn shared() -> bool {
    let threads = threads();
    if threads > 1 {
        lookout::post(threads);
    }
    threads > 1
}

/// Threads that look out for work: for a while they do not fall asleep between one operation and the next, because to be woken takes as long
/// as many an operation.
#[cfg(feature = "parallel")]
mod lookout {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    /// How long a thread looks for work in vain, and how long in all: it may be one that waits for others to be done with its own work, and goes
    /// back to that.
    const PATIENCE: Duration = Duration::from_micros(200);
    const AT_MOST: Duration = Duration::from_millis(1);

    /// How many look out, in whatever pool.
    static POSTED: AtomicUsize = AtomicUsize::new(0);

    /// Has the other threads of the caller's pool look out, if none does.
    pub fn post(threads: usize) {
        let Some(own) = rayon::current_thread_index() else { return };
        if POSTED.load(Ordering::Relaxed) > 0 || POSTED.compare_exchange(0, threads - 1, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        rayon::spawn_broadcast(move |context| {
            if context.index() != own {
                look();
                POSTED.fetch_sub(1, Ordering::Relaxed);
            }
        });
    }

    fn look() {
        let begun = Instant::now();
        let mut found = begun;
        while found.elapsed() < PATIENCE && begun.elapsed() < AT_MOST {
            match rayon::yield_now() {
                Some(rayon::Yield::Executed) => found = Instant::now(),
                // Whoever else wants this processor goes first.
                _ => std::thread::yield_now(),
            }
        }
    }
}

/// Calls `f(index, item)` for every item.
pub fn for_each<T: Send>(items: Vec<T>, f: impl Fn(usize, T) + Sync + Send) {
    each(items, &f);
}

/// Calls `f(scratch, index, item)` for every item, with one scratch made by `init` for each run of items on a thread.
pub fn for_each_with<T: Send, S>(items: Vec<T>, init: impl Fn() -> S + Sync + Send, f: impl Fn(&mut S, usize, T) + Sync + Send) {
    each_with(items, &init, &f);
}

/// Calls `f(index, piece)` for every `size` elements of `out` (the last piece may be shorter).
pub fn for_each_piece<E: Send>(out: &mut [E], size: usize, f: impl Fn(usize, &mut [E]) + Sync + Send) {
    piece(out, size.max(1), &f);
}

/// Like [`for_each_piece`], with scratch made by `init`.
pub fn for_each_piece_with<E: Send, S>(
    out: &mut [E],
    size: usize,
    init: impl Fn() -> S + Sync + Send,
    f: impl Fn(&mut S, usize, &mut [E]) + Sync + Send,
) {
    piece_with(out, size.max(1), &init, &f);
}

/// `[f(scratch, 0), f(scratch, 1), ..]` with scratch made by `init`, in order.
pub fn map_with<T: Send, S>(count: usize, init: impl Fn() -> S + Sync + Send, f: impl Fn(&mut S, usize) -> T + Sync + Send) -> Vec<T> {
    map(count, &init, &f)
}

/// Writes the same value everywhere.
pub fn fill<E: Copy + Send + Sync>(out: &mut [E], value: E) {
    for_each_piece(out, FILLED, |_, piece| piece.fill(value));
}

/// `count` times the same value.
pub fn filled<E: Copy + Send + Sync>(value: E, count: usize) -> Vec<E> {
    #[cfg(feature = "parallel")]
    if count > FILLED && shared() {
        use rayon::iter::{IndexedParallelIterator, ParallelIterator, repeat_n};
        return repeat_n(value, count).with_min_len(FILLED).collect();
    }
    vec![value; count]
}

// Below what is done is behind a pointer, so that what shares it out is compiled once for a type and not for every operation.

fn each<T: Send>(items: Vec<T>, f: &(dyn Fn(usize, T) + Sync)) {
    each_with(items, &|| (), &|(), i, item| f(i, item));
}

fn each_with<T: Send, S>(items: Vec<T>, init: &(dyn Fn() -> S + Sync), f: &(dyn Fn(&mut S, usize, T) + Sync)) {
    #[cfg(feature = "parallel")]
    if shared() && items.len() > 1 {
        let bounds = shares::bounds(items.len());
        let mut items = items.into_iter();
        let shares = bounds.map(|share| (share.start, items.by_ref().take(share.len()).collect::<Vec<_>>().into_iter()));
        return shares::work_off(shares.collect(), init, f);
    }
    let mut scratch = init();
    items.into_iter().enumerate().for_each(|(i, item)| f(&mut scratch, i, item));
}

fn piece<E: Send>(out: &mut [E], size: usize, f: &(dyn Fn(usize, &mut [E]) + Sync)) {
    piece_with(out, size, &|| (), &|(), i, piece| f(i, piece));
}

fn piece_with<E: Send, S>(out: &mut [E], size: usize, init: &(dyn Fn() -> S + Sync), f: &(dyn Fn(&mut S, usize, &mut [E]) + Sync)) {
    #[cfg(feature = "parallel")]
    if shared() && out.len() > size {
        let bounds = shares::bounds(out.len().div_ceil(size));
        let mut rest = out;
        let shares = bounds.map(|share| {
            let own = rest.split_off_mut(..(share.len() * size).min(rest.len())).unwrap_or_default();
            (share.start, own.chunks_mut(size))
        });
        return shares::work_off(shares.collect(), init, f);
    }
    let mut scratch = init();
    out.chunks_mut(size).enumerate().for_each(|(i, piece)| f(&mut scratch, i, piece));
}

fn map<T: Send, S>(count: usize, init: &(dyn Fn() -> S + Sync), f: &(dyn Fn(&mut S, usize) -> T + Sync)) -> Vec<T> {
    let mut found: Vec<Option<T>> = (0..count).map(|_| None).collect();
    each_with(found.iter_mut().collect(), init, &|scratch, i, found| *found = Some(f(scratch, i)));
    found.into_iter().flatten().collect()
}

/// Contiguous shares of work, one for each thread.
///
/// The first thread always begins with the first share, and so on: what one operation has written lies in the cache of the thread that reads it
/// in the next one. Who is done with the own share helps with the others.
#[cfg(feature = "parallel")]
mod shares {
    use std::ops::Range;
    use std::sync::{Mutex, PoisonError};

    /// The items of each share, of `count` in all.
    pub fn bounds(count: usize) -> impl Iterator<Item = Range<usize>> {
        let shares = super::threads().min(count);
        (0..shares).map(move |i| count * i / shares..count * (i + 1) / shares)
    }

    /// The most items that are taken from a share at a time, and the part of what is left: towards the end they are single ones.
    const AT_ONCE: usize = 16;
    const PART: usize = 8;

    /// Calls `f(scratch, index, item)` for every item of the shares, each of which is given with the index of its first item.
    pub fn work_off<I: ExactSizeIterator<Item: Send> + Send, S>(
        shares: Vec<(usize, I)>,
        init: &(dyn Fn() -> S + Sync),
        f: &(dyn Fn(&mut S, usize, I::Item) + Sync),
    ) {
        let shares: Vec<_> = shares.into_iter().map(Mutex::new).collect();
        let work = || {
            let (own, mut scratch, mut taken) = (rayon::current_thread_index().unwrap_or_default(), None, Vec::new());
            for i in 0..shares.len() {
                while let Some(first) = take(&shares[(own + i) % shares.len()], &mut taken) {
                    let scratch = scratch.get_or_insert_with(init);
                    taken.drain(..).enumerate().for_each(|(i, item)| f(scratch, first + i, item));
                }
            }
        };
        rayon::scope(|scope| {
            (1..shares.len()).for_each(|_| scope.spawn(|_| work()));
            work();
        });
    }

    /// Takes the next items from a share, and says which is the first of them.
    fn take<I: ExactSizeIterator>(share: &Mutex<(usize, I)>, taken: &mut Vec<I::Item>) -> Option<usize> {
        let (index, items) = &mut *share.lock().unwrap_or_else(PoisonError::into_inner);
        let first = *index;
        taken.extend(items.take((items.len() / PART).clamp(1, AT_ONCE)));
        *index += taken.len();
        (*index > first).then_some(first)
    }
}

#[cfg(all(test, feature = "parallel"))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn in_pools(f: impl Fn() + Sync) {
        for threads in [1, 2, 3, 8] {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads").install(&f);
        }
    }

    #[test]
    fn every_item_is_met_once_with_its_index() {
        in_pools(|| {
            for count in [0, 1, 2, 7, 64, 1001] {
                let mut met = vec![0; count];
                for_each(met.iter_mut().collect(), |i, met| *met += i + 1);
                for_each_with(met.iter_mut().collect(), || 1, |one, i, met| *met += *one * (i + 1));
                assert_eq!(met, (0..count).map(|i| 2 * (i + 1)).collect::<Vec<_>>());
                for size in [0, 1, 3, 64, 2000] {
                    let mut met = vec![0; count];
                    for_each_piece(&mut met, size, |i, piece| {
                        let first = i * size.max(1);
                        piece.iter_mut().enumerate().for_each(|(j, met)| *met += first + j + 1);
                    });
                    assert_eq!(met, (1..=count).collect::<Vec<_>>(), "pieces of {size}");
                }
                assert_eq!(map_with(count, || 3, |three, i| i * *three), (0..count).map(|i| 3 * i).collect::<Vec<_>>());
            }
        });
    }

    #[test]
    fn memory_is_filled_to_its_end() {
        in_pools(|| {
            for count in [FILLED, FILLED + 1, 3 * FILLED - 1] {
                let mut values = filled(1u8, count);
                assert_eq!((values.len(), values.iter().all(|&v| v == 1)), (count, true));
                fill(&mut values, 2);
                assert!(values.iter().all(|&v| v == 2));
            }
        });
    }

    #[test]
    fn work_within_work_is_done_and_a_panic_is_passed_on() {
        in_pools(|| {
            let sums = map_with(20, || (), |(), i| map_with(i, || (), |(), j| j).into_iter().sum::<usize>());
            assert_eq!(sums, (0..20).map(|i: usize| i * i.saturating_sub(1) / 2).collect::<Vec<_>>());
            let mut numbers = [0; 50];
            let panics = || for_each_piece(&mut numbers, 1, |i, _| assert!(i != 33, "thirty-three"));
            assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        });
    }
}
