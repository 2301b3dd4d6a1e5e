//! Work split into pieces of fixed size, on all cores with feature `parallel`, one after another without it.
//!
//! What a piece computes never depends on which thread runs it or on how many there are, so neither does any result. Where there is one thread
//! the caller does the work: to wake that thread and to sleep meanwhile takes longer than many a piece.

#[cfg(feature = "parallel")]
use rayon::prelude::*;

/// Elements of a piece of elementwise work: large enough to hide the cost of a task, small enough to share evenly.
pub const PIECE: usize = 1 << 14;

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

// Below what is done is behind a pointer, so that rayon's part is compiled once for a type and not for every operation.

fn each<T: Send>(items: Vec<T>, f: &(dyn Fn(usize, T) + Sync)) {
    #[cfg(feature = "parallel")]
    if shared() {
        return items.into_par_iter().enumerate().for_each(|(i, item)| f(i, item));
    }
    items.into_iter().enumerate().for_each(|(i, item)| f(i, item));
}

fn each_with<T: Send, S>(items: Vec<T>, init: &(dyn Fn() -> S + Sync), f: &(dyn Fn(&mut S, usize, T) + Sync)) {
    #[cfg(feature = "parallel")]
    if shared() {
        return items.into_par_iter().enumerate().for_each_init(init, |scratch, (i, item)| f(scratch, i, item));
    }
    let mut scratch = init();
    items.into_iter().enumerate().for_each(|(i, item)| f(&mut scratch, i, item));
}

fn piece<E: Send>(out: &mut [E], size: usize, f: &(dyn Fn(usize, &mut [E]) + Sync)) {
    #[cfg(feature = "parallel")]
    if shared() {
        return out.par_chunks_mut(size).enumerate().for_each(|(i, piece)| f(i, piece));
    }
    out.chunks_mut(size).enumerate().for_each(|(i, piece)| f(i, piece));
}

fn piece_with<E: Send, S>(out: &mut [E], size: usize, init: &(dyn Fn() -> S + Sync), f: &(dyn Fn(&mut S, usize, &mut [E]) + Sync)) {
    #[cfg(feature = "parallel")]
    if shared() {
        return out.par_chunks_mut(size).enumerate().for_each_init(init, |scratch, (i, piece)| f(scratch, i, piece));
    }
    let mut scratch = init();
    out.chunks_mut(size).enumerate().for_each(|(i, piece)| f(&mut scratch, i, piece));
}

fn map<T: Send, S>(count: usize, init: &(dyn Fn() -> S + Sync), f: &(dyn Fn(&mut S, usize) -> T + Sync)) -> Vec<T> {
    #[cfg(feature = "parallel")]
    if shared() {
        return (0..count).into_par_iter().map_init(init, f).collect();
    }
    let mut scratch = init();
    (0..count).map(|i| f(&mut scratch, i)).collect()
}
