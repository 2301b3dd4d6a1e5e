//! The random streams of the data sets, and the order in which an epoch visits one.

use rand_core::Rng;
use rand_pcg::Pcg32;

/// What a stream is for: the same seed gives unrelated numbers for different purposes.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Order = 1,
    ListOps = 2,
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
    let mut rng = stream(seed, Purpose::Order, epoch);
    let mut order: Vec<usize> = (0..len).collect();
    for last in (1..len).rev() {
        order.swap(last, below(&mut rng, last as u64 + 1) as usize);
    }
    order
}
