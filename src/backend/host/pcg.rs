//! PCG-XSH-RR 64/32, sixteen words at a time, by the vectors of every level.
//!
//! A compiler left alone takes words of 32 bits out of states of 64 by narrowing, two vectors to one for the bits and for the turns, in as
//! many instructions as the rest. Here the states of even lanes leave their words in the low halves of vectors, those of odd lanes in the high ones.

#[cfg(target_arch = "x86_64")]
use super::simd::{Level, level};

/// The generator's factor.
pub const MULTIPLIER: u64 = 6_364_136_223_846_793_005;

/// Words that [`fill`] makes at once.
pub const WORDS: usize = 16;

/// The states of [`WORDS`] words: those of even lanes, those of odd ones.
pub type States = [[u64; WORDS / 2]; 2];

/// The state after `state` where every step multiplies and adds these.
#[inline(always)]
pub fn step(state: u64, multiply: u64, add: u64) -> u64 {
    state.wrapping_mul(multiply).wrapping_add(add)
}

/// The word of a state.
#[inline(always)]
pub fn output(state: u64) -> u32 {
    ((((state >> 18) ^ state) >> 27) as u32).rotate_right((state >> 59) as u32)
}

/// The next words of these states, side by side and made numbers by `of`, [`WORDS`] from every entry of `states` in turn; the step is (multiply, add).
///
/// Where `out` ends between two entries, `states` then begins with the entry whose turn is next.
pub fn fill<T, const N: usize>(states: &mut [States; N], step: (u64, u64), out: &mut [T], of: impl Fn(u32) -> T + Copy) {
    #[cfg(target_arch = "x86_64")]
    match level() {
        Level::Avx512(simd) => {
            return simd.vectorize(
                #[inline(always)]
                || fill_by(simd, states, step, out, of),
            );
        }
        Level::Avx2(simd) => {
            return simd.vectorize(
                #[inline(always)]
                || fill_by(simd, states, step, out, of),
            );
        }
        Level::Portable => (),
    }
    fill_by(OneByOne, states, step, out, of);
}

#[inline(always)]
fn fill_by<S: Step, T, const N: usize>(s: S, states: &mut [States; N], (multiply, add): (u64, u64), out: &mut [T], of: impl Fn(u32) -> T) {
    let mut rounds = out.chunks_exact_mut(N * WORDS);
    for round in &mut rounds {
        for (states, out) in states.iter_mut().zip(round.as_chunks_mut::<WORDS>().0) {
            let words = s.next(states, multiply, add);
            for (out, word) in out.iter_mut().zip(words) {
                *out = of(word);
            }
        }
    }
    let rest = rounds.into_remainder();
    for (states, out) in states.iter_mut().zip(rest.chunks_mut(WORDS)) {
        let words = s.next(states, multiply, add);
        for (out, word) in out.iter_mut().zip(words) {
            *out = of(word);
        }
    }
    states.rotate_left(rest.len().div_ceil(WORDS));
}

/// A level's way to take the words of states and to move these on.
trait Step: Copy {
    fn next(self, states: &mut States, multiply: u64, add: u64) -> [u32; WORDS];
}

/// What every machine can do.
#[derive(Clone, Copy)]
struct OneByOne;

impl Step for OneByOne {
    #[inline(always)]
    fn next(self, states: &mut States, multiply: u64, add: u64) -> [u32; WORDS] {
        let mut words = [0; WORDS];
        for (parity, states) in states.iter_mut().enumerate() {
            for (word, state) in words[parity..].iter_mut().step_by(2).zip(states) {
                *word = output(*state);
                *state = step(*state, multiply, add);
            }
        }
        words
    }
}

#[cfg(target_arch = "x86_64")]
impl Step for pulp::x86::V4 {
    #[inline(always)]
    fn next(self, states: &mut States, multiply: u64, add: u64) -> [u32; WORDS] {
        const HIGH: u16 = 0xAAAA;
        let (f, dq) = (self.avx512f, self.avx512dq);
        let [even, odd] = states.map(pulp::cast);
        let bits = f._mm512_srli_epi64::<27>(f._mm512_xor_si512(f._mm512_srli_epi64::<18>(even), even));
        let bits = f._mm512_mask_xor_epi32(bits, HIGH, f._mm512_slli_epi64::<5>(odd), f._mm512_srli_epi64::<13>(odd));
        let turns = f._mm512_mask_srli_epi32::<27>(f._mm512_srli_epi64::<59>(even), HIGH, odd);
        let (multiply, add) = (f._mm512_set1_epi64(multiply as i64), f._mm512_set1_epi64(add as i64));
        *states = [even, odd].map(|half| pulp::cast(f._mm512_add_epi64(dq._mm512_mullo_epi64(half, multiply), add)));
        pulp::cast(f._mm512_rorv_epi32(bits, turns))
    }
}

#[cfg(target_arch = "x86_64")]
impl Step for pulp::x86::V3 {
    #[inline(always)]
    fn next(self, states: &mut States, multiply: u64, add: u64) -> [u32; WORDS] {
        const HIGH: i32 = 0xAA;
        let simd = self.avx2;
        let mut words = [0; WORDS];
        let [evens, odds] = states.each_mut().map(|half| half.as_chunks_mut::<4>().0);
        for ((even, odd), words) in evens.iter_mut().zip(odds).zip(words.as_chunks_mut::<8>().0) {
            let (e, o) = (pulp::cast(*even), pulp::cast(*odd));
            let low = simd._mm256_srli_epi64::<27>(simd._mm256_xor_si256(simd._mm256_srli_epi64::<18>(e), e));
            let high = simd._mm256_xor_si256(simd._mm256_slli_epi64::<5>(o), simd._mm256_srli_epi64::<13>(o));
            let bits: [u32; 8] = pulp::cast(simd._mm256_blend_epi32::<HIGH>(low, high));
            let turns: [u32; 8] =
                pulp::cast(simd._mm256_blend_epi32::<HIGH>(simd._mm256_srli_epi64::<59>(e), simd._mm256_srli_epi32::<27>(o)));
            // What has no instruction, the compiler puts together best.
            for ((word, bits), turns) in words.iter_mut().zip(bits).zip(turns) {
                *word = bits.rotate_right(turns);
            }
            for (even, odd) in even.iter_mut().zip(odd) {
                (*even, *odd) = (step(*even, multiply, add), step(*odd, multiply, add));
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_takes_the_words_one_by_one() {
        let start: [States; 3] =
            std::array::from_fn(|k| std::array::from_fn(|p| std::array::from_fn(|j| !0 / (1 + 100 * k + 10 * j + p) as u64)));
        // Also numbers whose halves carry, and turns of none and of 31.
        for add in [1, 0xFFFF_FFFF, u64::MAX, 0x1234_5678_9ABC_DEF1] {
            for length in [0, 1, 15, 16, 17, 32, 47, 48, 49, 96, 200] {
                let (mut wanted, mut states) = (start, start);
                let (mut want, mut got) = (vec![0; length], vec![0; length]);
                fill_by(OneByOne, &mut wanted, (MULTIPLIER, add), &mut want, |word| word);
                fill(&mut states, (MULTIPLIER, add), &mut got, |word| word);
                assert_eq!((got, states), (want, wanted), "{length} words");
            }
        }
    }

    #[test]
    fn a_row_goes_on_where_it_stopped() {
        let start: [States; 4] =
            std::array::from_fn(|k| std::array::from_fn(|p| std::array::from_fn(|j| (7 + 100 * k + 10 * j + p) as u64)));
        let (mut whole, mut parts) = (vec![0; 160], vec![0; 160]);
        fill(&mut start.clone(), (MULTIPLIER, 5), &mut whole, |word| word);
        let mut states = start;
        for part in [0..32, 32..48, 48..144, 144..160] {
            fill(&mut states, (MULTIPLIER, 5), &mut parts[part], |word| word);
        }
        assert_eq!(whole, parts);
    }
}
