//! The random streams of the data sets, and the order in which an epoch visits one.

use crate::error::{Error, Result};
use rand_core::Rng;
use rand_pcg::Pcg32;

/// What a stream is for: the same seed gives unrelated numbers for different purposes.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Order = 1,
    ListOps = 2,
    HoldOut = 3,
    Pathfinder = 4,
    Subjects = 5,
    #[cfg(feature = "data")]
    Words = 6,
    #[cfg(feature = "data")]
    OwnSplit = 7,
}

/// The stream number `index` for `purpose` under `seed`.
pub(crate) fn stream(seed: u64, purpose: Purpose, index: u64) -> Pcg32 {
    // PCG streams that differ in a few bits are correlated, so state and stream number both come out of a mixer.
    let state = mix(mix(mix(seed) ^ purpose as u64) ^ index);
    Pcg32::new(state, mix(state))
}

/// A number below `n`, each with the same probability. `n` must not be 0.
pub(crate) fn below(rng: &mut Pcg32, n: u64) -> u64 {
    // Lemire's method: the high word of a product, redrawn where the low word falls into the uneven rest.
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(n);
        let low = product as u64;
        if low >= n || low >= n.wrapping_neg() % n {
            return (product >> 64) as u64;
        }
    }
}

/// A number from 0 on, below 1, in steps of 2⁻⁵³.
pub(crate) fn fraction(rng: &mut Pcg32) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A bijection of the 64-bit numbers in which every bit of the result hangs on every bit of `word` (the mixer of SplitMix64).
pub(crate) fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// The order in which epoch number `epoch` visits the samples `0..len` of a data set: a uniformly random permutation, the same
/// for the same three numbers on every machine.
pub fn order(len: usize, seed: u64, epoch: u64) -> Vec<usize> {
    permutation(&mut stream(seed, Purpose::Order, epoch), len)
}

/// Draws which of `len` samples are held out, `held` of them: the kept ones and the held ones, each in rising order; the same for the
/// same three numbers on every machine.
///
/// # Errors
/// `Config` where nothing would be kept or held.
pub fn hold_out(len: usize, held: usize, seed: u64) -> Result<(Vec<usize>, Vec<usize>)> {
    if held == 0 || held >= len {
        return Err(Error::config("samples held out", held, format!("of {len} samples at least one must be held out, and one kept")));
    }
    let mut held_out = permutation(&mut stream(seed, Purpose::HoldOut, 0), len);
    let mut kept = held_out.split_off(held);
    kept.sort_unstable();
    held_out.sort_unstable();
    Ok((kept, held_out))
}

/// Fisher and Yates.
pub(super) fn permutation(rng: &mut Pcg32, len: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    for last in (1..len).rev() {
        order.swap(last, below(rng, last as u64 + 1) as usize);
    }
    order
}
