//! Work split into pieces of fixed size, on all cores with feature `parallel`, one after another without it.
//!
//! What a piece computes never depends on which thread runs it or on how many there are, so neither does any result.

#[cfg(feature = "parallel")]
use rayon::prelude::*;

/// Elements of a piece of elementwise work: large enough to hide the cost of a task, small enough to share evenly.
pub const PIECE: usize = 1 << 14;

/// Calls `f(index, item)` for every item.
pub fn for_each<T: Send>(items: Vec<T>, f: impl Fn(usize, T) + Sync + Send) {
    #[cfg(feature = "parallel")]
    items.into_par_iter().enumerate().for_each(|(i, item)| f(i, item));
    #[cfg(not(feature = "parallel"))]
    items.into_iter().enumerate().for_each(|(i, item)| f(i, item));
}

/// Calls `f(scratch, index, item)` for every item, with one scratch made by `init` for each run of items on a thread.
pub fn for_each_with<T: Send, S>(items: Vec<T>, init: impl Fn() -> S + Sync + Send, f: impl Fn(&mut S, usize, T) + Sync + Send) {
    #[cfg(feature = "parallel")]
    items.into_par_iter().enumerate().for_each_init(init, |scratch, (i, item)| f(scratch, i, item));
    #[cfg(not(feature = "parallel"))]
    {
        let mut scratch = init();
        items.into_iter().enumerate().for_each(|(i, item)| f(&mut scratch, i, item));
    }
}

/// Calls `f(index, piece)` for every `size` elements of `out` (the last piece may be shorter).
pub fn for_each_piece<E: Send>(out: &mut [E], size: usize, f: impl Fn(usize, &mut [E]) + Sync + Send) {
    #[cfg(feature = "parallel")]
    out.par_chunks_mut(size.max(1)).enumerate().for_each(|(i, piece)| f(i, piece));
    #[cfg(not(feature = "parallel"))]
    out.chunks_mut(size.max(1)).enumerate().for_each(|(i, piece)| f(i, piece));
}

/// Like [`for_each_piece`], with scratch made by `init`.
pub fn for_each_piece_with<E: Send, S>(
    out: &mut [E],
    size: usize,
    init: impl Fn() -> S + Sync + Send,
    f: impl Fn(&mut S, usize, &mut [E]) + Sync + Send,
) {
    #[cfg(feature = "parallel")]
    out.par_chunks_mut(size.max(1)).enumerate().for_each_init(init, |scratch, (i, piece)| f(scratch, i, piece));
    #[cfg(not(feature = "parallel"))]
    {
        let mut scratch = init();
        out.chunks_mut(size.max(1)).enumerate().for_each(|(i, piece)| f(&mut scratch, i, piece));
    }
}

/// `[f(scratch, 0), f(scratch, 1), ..]` with scratch made by `init`, in order.
pub fn map_with<T: Send, S>(count: usize, init: impl Fn() -> S + Sync + Send, f: impl Fn(&mut S, usize) -> T + Sync + Send) -> Vec<T> {
    #[cfg(feature = "parallel")]
    return (0..count).into_par_iter().map_init(init, f).collect();
    #[cfg(not(feature = "parallel"))]
    {
        let mut scratch = init();
        (0..count).map(|i| f(&mut scratch, i)).collect()
    }
}
