//! Random numbers: PCG-XSH-RR 64/32, addressed, so that a draw does not depend on threads, blocks, batches, lengths or backend.
//!
//! A [`Key`] names a linear congruential generator: an increment, and a state to start from. There are two ways to draw from it.
//!
//! - Flat, for initial values: element i is made of word i (or words 2i and 2i + 1 for a normal).
//! - By rows, for noise: a [`Draw`] gives every (sample, channel) a row of words of its own, one a time step. The number of
//!   (sample, channel, t) depends on these three and the key alone: not on the sequence's length, on where in a batch the sample is, or
//!   on how many other samples and channels there are.
//!
//! All rows of a key share its increment, so that vectors of lanes add one constant, and differ in where on the generator's one cycle
//! of 2^64 states they start: at a hash of (key, sample, channel). R rows of L words are R stretches at random places of that cycle.
//! The chance that any two of them touch is about R^2 L / 2^64, one in four million for 2^14 rows of 2^14 words; and then two rows share
//! some of their words, at different time steps.
//!
//! A generator jumps ahead in O(log n), so any block of a draw can be computed by itself. On the host the words are those of
//! `rand_pcg::Pcg32`; [`Words`] computes the same ones, several at a time, so that the compiler can use wide vectors.

use rand_pcg::Pcg32;

use super::Real;
use super::host::pcg::{self, MULTIPLIER, States, WORDS, output, step};
use super::host::simd::{Isa, dispatch};
use crate::error::{Error, Result};

/// What SplitMix64 adds at every step.
pub(in crate::backend) const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// The factors of its finaliser.
pub(in crate::backend) const MIX: [u64; 2] = [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB];

/// Words that are computed side by side: enough for several vectors on their way at once, a multiplication being slow to finish.
pub const LANES: usize = 64;

/// The address of one random stream. Keys are values: derive a new one for every draw with [`Key::fold`].
///
/// ```
/// use pspikessm::backend::Key;
/// let key = Key::new(7);
/// assert_eq!(key.fold(1), key.fold(1));
/// assert_ne!(key.fold(1), key.fold(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    state: u64,
    stream: u64,
}

impl Key {
    /// The root key of a run.
    pub fn new(seed: u64) -> Self {
        Key { state: mix(seed), stream: mix(seed ^ 0xA5A5_5A5A_0F0F_F0F0) }
    }

    /// The `index`-th key below this one: independent streams for steps, layers and draws.
    pub fn fold(self, index: u64) -> Self {
        let state = mix(self.state ^ mix(index.wrapping_add(GAMMA)));
        Key { state, stream: mix(self.stream.rotate_left(23) ^ state) }
    }

    /// The stream as a generator of `rand_pcg`, for sequential use on the host.
    pub fn generator(self) -> Pcg32 {
        Pcg32::new(self.state, self.stream)
    }

    /// The stream's words from position `offset` on.
    #[doc(hidden)]
    pub fn words(self, offset: u64) -> Words {
        let (multiply, add) = jump(offset, self.increment());
        Words::new(&[step(self.start(), multiply, add)], self.increment())
    }

    /// The two numbers that a key is, for a file.
    pub(crate) fn parts(self) -> [u64; 2] {
        [self.state, self.stream]
    }

    /// The key of these [parts](Key::parts).
    pub(crate) fn of_parts([state, stream]: [u64; 2]) -> Self {
        Key { state, stream }
    }

    /// The state before the first word.
    pub(in crate::backend) fn start(self) -> u64 {
        let (multiply, add) = seeding(self.increment());
        step(self.state, multiply, add)
    }

    /// What every step adds.
    pub(crate) fn increment(self) -> u64 {
        (self.stream << 1) | 1
    }
}

/// How `rand_pcg` makes a state of a seed: add the increment, then take one step.
fn seeding(increment: u64) -> (u64, u64) {
    (MULTIPLIER, step(increment, MULTIPLIER, increment))
}

/// Which samples the rows of a batch are: row b of B is sample number `(first + b % (B / sides)) sides + b / (B / sides)`.
///
/// With two sides a batch of pairs holds all first members and then all second ones; cut anywhere, each pair keeps its numbers.
///
/// ```
/// use pspikessm::backend::*;
/// # fn main() -> pspikessm::Result<()> {
/// let (cpu, draw) = (Cpu::<f32>::new(), Draw::new(Key::new(7)));
/// let pairs = |first, batch| cpu.draw_uniform(draw.with_samples(Samples { first, sides: 2 }), &[batch, 1, 1]).and_then(|u|
/// cpu.to_vec(&u)); let (all, last) = (pairs(0, 6)?, pairs(2, 2)?); assert_eq!(last, [all[2], all[5]]);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Samples {
    /// The number of the batch's first sample (with several sides: of the first pair) in the global batch.
    pub first: u64,
    /// Sequences that make up one sample: 2 in retrieval, else 1. It divides the batch.
    pub sides: usize,
}

impl Default for Samples {
    /// Row b is sample b.
    fn default() -> Self {
        Samples { first: 0, sides: 1 }
    }
}

/// Where the numbers of a draw lie: which key's, from which sample and which time step on.
///
/// A tensor's axes are (sample, channel, time): all between the first and the last count as channels, two axes are one time step, one axis
/// is the time steps of one channel of one sample.
///
/// ```
/// use pspikessm::backend::*;
/// # fn main() -> pspikessm::Result<()> {
/// let (cpu, draw) = (Cpu::<f32>::new(), Draw::new(Key::new(7)));
/// let whole = cpu.to_vec(&cpu.draw_uniform(draw, &[4, 1, 3])?)?;
/// let later = draw.with_samples(Samples { first: 2, sides: 1 }).from_step(1);
/// assert_eq!(cpu.to_vec(&cpu.draw_uniform(later, &[1, 1, 2])?)?, whole[7..9]);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Draw {
    /// Identifies this draw among all others.
    pub key: Key,
    /// Which samples the batch's rows are.
    pub samples: Samples,
    /// The number of the first time step: a stream of single steps draws what the whole sequence does.
    pub step: u64,
}

impl Draw {
    /// From sample 0 and step 0 on.
    pub fn new(key: Key) -> Self {
        Draw { key, samples: Samples::default(), step: 0 }
    }

    /// The same draw for these samples.
    #[must_use]
    pub fn with_samples(self, samples: Samples) -> Self {
        Draw { samples, ..self }
    }

    /// The same draw from time step `step` on.
    #[must_use]
    pub fn from_step(self, step: u64) -> Self {
        Draw { step, ..self }
    }

    /// Whether a batch of `batch` rows is whole samples.
    ///
    /// # Errors
    /// [`Error::Value`] where there are no sides, or their number does not divide the batch.
    pub fn check(&self, op: &'static str, batch: usize) -> Result<()> {
        let sides = self.samples.sides;
        if sides > 0 && batch.is_multiple_of(sides) {
            return Ok(());
        }
        Err(Error::value(
            op,
            format!("a batch of {batch} rows is not made of samples of {sides} sides: sides must be at least 1 and divide it"),
        ))
    }

    /// The row of one (sample number, channel) as a generator of `rand_pcg`, at this draw's first step, for sequential use on the host.
    pub fn generator(&self, sample: u64, channel: u64) -> Pcg32 {
        let seed = split_mix(split_mix(self.key.state, sample), channel);
        let mut generator = Pcg32::new(seed, self.key.stream);
        generator.advance(self.step);
        generator
    }

    /// The generators of the channels of sample number `sample`, each before the word of this draw's first step; for [`next_units`].
    pub(crate) fn states(&self, sample: u64, channels: usize) -> impl Iterator<Item = u64> + use<> {
        let samples = Samples { first: sample, sides: 1 };
        self.with_samples(samples).rows(1, channels).starts(0).take(channels)
    }

    /// The rows of a batch that [`Draw::check`] allows, with `channels` channels.
    pub(in crate::backend) fn rows(&self, batch: usize, channels: usize) -> Rows {
        let increment = self.key.increment();
        let (seed_multiply, seed_add) = seeding(increment);
        let (multiply, add) = jump(self.step, increment);
        let seed_to_state = (seed_multiply.wrapping_mul(multiply), step(seed_add, multiply, add));
        let Samples { first, sides } = self.samples;
        let seeds = self.key.state.wrapping_add(first.wrapping_mul(sides as u64).wrapping_mul(GAMMA));
        Rows { increment, seeds, seed_to_state, side: batch / sides, sides, channels }
    }
}

impl From<Key> for Draw {
    fn from(key: Key) -> Self {
        Draw::new(key)
    }
}

/// Output `n` of the SplitMix64 generator that starts at `state`: of a key's state the seed of sample n, of that the seed of channel n.
fn split_mix(state: u64, n: u64) -> u64 {
    mix(state.wrapping_add(n.wrapping_mul(GAMMA)))
}

/// The rows of a draw for a batch of known size, row b H + h being channel h of the batch's row b.
#[derive(Clone, Copy, Debug)]
pub(in crate::backend) struct Rows {
    /// What every step of the generator adds.
    increment: u64,
    /// The state of the SplitMix64 generator whose outputs are the seeds of the batch's samples.
    pub seeds: u64,
    /// The factor and the summand that turn a row's seed into the state of its first word.
    pub seed_to_state: (u64, u64),
    /// Rows of the batch on one side.
    pub side: usize,
    pub sides: usize,
    pub channels: usize,
}

impl Rows {
    /// The states of the first words of row `row` and of the channels after it, of the same sample.
    fn starts(&self, row: usize) -> impl Iterator<Item = u64> + use<> {
        let (b, first) = (row / self.channels, row % self.channels);
        let seed = split_mix(self.seeds, (b % self.side * self.sides + b / self.side) as u64);
        let (multiply, add) = self.seed_to_state;
        (first as u64..).map(move |channel| step(split_mix(seed, channel), multiply, add))
    }

    /// The first word of row `row` and of the channels after it, of the same sample.
    pub fn first_words(&self, row: usize) -> impl Iterator<Item = u32> + use<> {
        self.starts(row).map(output)
    }

    /// The words of one row, one at a time: for short rows.
    pub fn row(&self, row: usize) -> impl Iterator<Item = u32> + use<> {
        let increment = self.increment;
        std::iter::successors(self.starts(row).next(), move |&state| Some(step(state, MULTIPLIER, increment))).map(output)
    }

    /// The words of `R` channels of one sample side by side, from row `row` on; R divides [`WORDS`]. Lane j is word j / R of channel
    /// j % R.
    pub fn side_by_side<const R: usize>(&self, row: usize) -> Words {
        let mut starts = [0; R];
        starts.iter_mut().zip(self.starts(row)).for_each(|(own, start)| *own = start);
        Words::new(&starts, self.increment)
    }
}

/// Consecutive words of a stream, or of several side by side.
#[derive(Clone)]
pub struct Words {
    states: [States; LANES / WORDS],
    multiply: u64,
    add: u64,
}

impl Words {
    /// The words of several stretches side by side: one stretch a starting state, whose number divides [`WORDS`].
    fn new(starts: &[u64], increment: u64) -> Self {
        // All words that are known give as many more, twice as far away each time: no chain of multiplications.
        let (mut known, mut multiply, mut add) = (starts.len(), MULTIPLIER, increment);
        let twice = |multiply: u64, add: u64| (multiply.wrapping_mul(multiply), step(add, multiply, add));
        let mut first = [0; WORDS];
        first[..known].copy_from_slice(starts);
        while known < WORDS {
            let (from, to) = first.split_at_mut(known);
            to.iter_mut().zip(from).for_each(|(to, &mut from)| *to = step(from, multiply, add));
            (multiply, add) = twice(multiply, add);
            known *= 2;
        }
        let mut states = [[[0; WORDS / 2]; 2]; LANES / WORDS];
        states[0] = [0, 1].map(|parity| std::array::from_fn(|lane| first[2 * lane + parity]));
        let mut known = 1;
        while known < states.len() {
            let (from, to) = states.split_at_mut(known);
            for (to, from) in to.as_flattened_mut().as_flattened_mut().iter_mut().zip(from.as_flattened().as_flattened()) {
                *to = step(*from, multiply, add);
            }
            (multiply, add) = twice(multiply, add);
            known *= 2;
        }
        Words { states, multiply, add }
    }

    /// The next words, each made a number by `of`; where `out` ends within [`WORDS`] words, the rest of these is lost.
    pub fn fill<T>(&mut self, out: &mut [T], of: impl Fn(u32) -> T + Copy) {
        pcg::fill(&mut self.states, (self.multiply, self.add), out, of);
    }

    /// The next [`LANES`] words.
    pub fn next_lanes(&mut self) -> [u32; LANES] {
        let mut words = [0; LANES];
        self.fill(&mut words, |word| word);
        words
    }
}

dispatch! {
    /// The uniform numbers of one time step from generators of keys with this increment, which move on by one.
    pub(crate) fn next_units<E: Real>(states: &mut [u64], increment: u64, out: &mut [E]) = next_units_body;
}

#[inline(always)]
fn next_units_body<I: Isa, E: Real>(states: &mut [u64], increment: u64, out: &mut [E]) {
    for (out, state) in out.iter_mut().zip(states) {
        *out = E::unit(output(*state));
        *state = step(*state, MULTIPLIER, increment);
    }
}

/// The affine map of `distance` steps at once: by squaring, since maps compose.
pub(in crate::backend) fn jump(mut distance: u64, increment: u64) -> (u64, u64) {
    let (mut multiply, mut add) = (1u64, 0u64);
    let (mut square_multiply, mut square_add) = (MULTIPLIER, increment);
    while distance > 0 {
        if distance & 1 == 1 {
            multiply = multiply.wrapping_mul(square_multiply);
            add = add.wrapping_mul(square_multiply).wrapping_add(square_add);
        }
        square_add = square_multiply.wrapping_add(1).wrapping_mul(square_add);
        square_multiply = square_multiply.wrapping_mul(square_multiply);
        distance >>= 1;
    }
    (multiply, add)
}

/// The step and the finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input reaches every bit of the output.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(GAMMA);
    let x = (x ^ (x >> 30)).wrapping_mul(MIX[0]);
    let x = (x ^ (x >> 27)).wrapping_mul(MIX[1]);
    x ^ (x >> 31)
}

/// Two words to one standard normal number (Box and Muller), in f64.
pub fn normal_f64(first: u32, second: u32) -> f64 {
    let radius = (-2.0 * ((f64::from(first) + 0.5) / 4_294_967_296.0).ln()).sqrt();
    radius * (std::f64::consts::TAU * (f64::from(second) / 4_294_967_296.0)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Real;
    use rand_core::Rng;

    #[test]
    fn words_are_those_of_rand_pcg_from_any_position() {
        for (seed, offset) in [(0u64, 0u64), (1, 5), (u64::MAX, 1_000_003), (42, (1 << 40) + 17)] {
            let key = Key::new(seed).fold(3);
            let mut reference = key.generator();
            reference.advance(offset);
            let mut words = key.words(offset);
            for _ in 0..5 {
                let want: Vec<u32> = (0..LANES).map(|_| reference.next_u32()).collect();
                assert_eq!(words.next_lanes().to_vec(), want);
            }
        }
    }

    /// SplitMix64 as published: its output after `n` others.
    fn splitmix(state: u64, n: u64) -> u64 {
        let mut z = state.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    #[test]
    fn the_finaliser_is_that_of_splitmix64() {
        // The first outputs for seed 1234567, from the reference implementation.
        let want = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([0, 1, 2].map(|n| splitmix(1_234_567, n)), want);
        assert_eq!(mix(1_234_567), want[0]);
    }

    #[test]
    fn a_row_is_a_generator_of_rand_pcg() {
        let key = Key::new(8).fold(1);
        for (sample, channel, t) in [(0u64, 0u64, 0u64), (3, 1, 70), (1 << 33, 511, 1 << 35), (u64::MAX, 5, 1)] {
            let mut want = Pcg32::new(splitmix(splitmix(key.state, sample), channel), key.stream);
            want.advance(t);
            let mut got = Draw::new(key).from_step(t).generator(sample, channel);
            assert_eq!([(); 5].map(|()| got.next_u32()), [(); 5].map(|()| want.next_u32()));
        }
    }

    #[test]
    fn rows_are_those_of_the_generators() {
        for (first, sides, batch, channels, from) in
            [(0u64, 1usize, 3usize, 20usize, 0u64), (u64::MAX - 1, 2, 6, 17, 9), (1 << 40, 3, 3, 1, 1 << 40)]
        {
            let draw = Draw::new(Key::new(8)).with_samples(Samples { first, sides }).from_step(from);
            let rows = draw.rows(batch, channels);
            for row in 0..batch * channels {
                let (b, channel) = (row / channels, row % channels);
                let pairs = batch / sides;
                let sample = first.wrapping_add((b % pairs) as u64).wrapping_mul(sides as u64).wrapping_add((b / pairs) as u64);
                let want = |channel: usize, count: usize| {
                    let mut generator = draw.generator(sample, channel as u64);
                    (0..count).map(|_| generator.next_u32()).collect::<Vec<_>>()
                };
                assert_eq!(rows.row(row).take(9).collect::<Vec<_>>(), want(channel, 9));
                assert_eq!(rows.side_by_side::<1>(row).next_lanes().to_vec(), want(channel, LANES));
                let mut states: Vec<u64> = draw.states(sample, channels).collect();
                for t in 0..3 {
                    let mut units = vec![0f32; channels];
                    next_units(&mut states, draw.key.increment(), &mut units);
                    assert_eq!(units[channel], f32::unit(want(channel, 3)[t]));
                }
                let firsts: Vec<u32> = (0..16).map(|lane| want(channel + lane, 1)[0]).collect();
                assert_eq!(rows.first_words(row).take(16).collect::<Vec<_>>(), firsts);
                let mut words = rows.side_by_side::<16>(row);
                let drawn: Vec<u32> = (0..3).flat_map(|_| words.next_lanes()).collect();
                for lane in 0..16 {
                    let got: Vec<u32> = drawn.iter().skip(lane).step_by(16).copied().collect();
                    assert_eq!(got, want(channel + lane, 12), "lane {lane} of row {row}");
                }
            }
        }
    }

    #[test]
    fn a_batch_that_is_not_whole_samples_is_refused() {
        let draw = |sides| Draw::new(Key::new(1)).with_samples(Samples { first: 0, sides });
        assert!(draw(2).check("spike", 4).is_ok() && draw(1).check("spike", 0).is_ok());
        for (sides, batch) in [(0, 4), (2, 3), (3, 1)] {
            let message = draw(sides).check("spike", batch).unwrap_err().to_string();
            assert!(message.contains("spike") && message.contains(&format!("{batch} rows")), "{message}");
        }
    }

    #[test]
    fn unit_stays_below_one_and_normals_have_unit_variance() {
        assert!(f32::unit(u32::MAX) < 1.0);
        assert_eq!(f32::unit(0), 0.0);
        assert_eq!(f64::unit(0x8000_01FF), 0.5 + 1.0 / 16_777_216.0);
        let mut words = Key::new(5).words(0);
        let normals: Vec<f64> = (0..4000)
            .flat_map(|_| words.next_lanes().as_chunks::<2>().0.iter().map(|w| normal_f64(w[0], w[1])).collect::<Vec<_>>())
            .collect();
        let mean = normals.iter().sum::<f64>() / normals.len() as f64;
        let variance = normals.iter().map(|x| x * x).sum::<f64>() / normals.len() as f64;
        assert!(mean.abs() < 4.0 / (normals.len() as f64).sqrt() && (variance - 1.0).abs() < 0.04);
    }
}
