//! The random stream: PCG-XSH-RR 64/32, addressed by position, so that a draw does not depend on threads, blocks or backend.
//!
//! A [`Key`] names a stream of 32-bit words; element i of a draw is made of word i (or words 2i and 2i + 1 for a normal). A linear
//! congruential generator jumps ahead in O(log n), so any block of a draw can be computed by itself. On the host the words are
//! those of `rand_pcg::Pcg32`; [`Words`] computes the same ones, several at a time, so that the compiler can use wide vectors.

use rand_pcg::Pcg32;

const MULTIPLIER: u64 = 6_364_136_223_846_793_005;

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
        let state = mix(self.state ^ mix(index.wrapping_add(0x9E37_79B9_7F4A_7C15)));
        Key { state, stream: mix(self.stream.rotate_left(23) ^ state) }
    }

    /// The stream as a generator of `rand_pcg`, for sequential use on the host.
    pub fn generator(self) -> Pcg32 {
        Pcg32::new(self.state, self.stream)
    }

    /// The stream's words from position `offset` on.
    pub fn words(self, offset: u64) -> Words {
        self.lanes(offset, 1, LANES, LANES)
    }

    /// The words of several stretches at once: `rows` of them, a divisor of [`LANES`], from `first`, `first + stride`, .. on. Lane j
    /// is element j / rows of row j % rows.
    pub fn interleaved(self, first: u64, stride: u64, rows: usize) -> Words {
        self.lanes(first, stride, rows, LANES / rows)
    }

    /// The state before the first word, and the increment: where a device takes the stream up.
    #[cfg(feature = "cube")]
    pub(in crate::backend) fn start(self) -> (u64, u64) {
        let increment = (self.stream << 1) | 1;
        (step(self.state.wrapping_add(increment), MULTIPLIER, increment), increment)
    }

    /// Lanes as in [`Key::interleaved`]; every lane then moves on by `ahead`.
    fn lanes(self, first: u64, stride: u64, rows: usize, ahead: usize) -> Words {
        let increment = (self.stream << 1) | 1;
        // As rand_pcg seeds: add the increment, then take one step.
        let start = step(self.state.wrapping_add(increment), MULTIPLIER, increment);
        let (multiply, add) = jump(first, increment);
        let mut state = [step(start, multiply, add); LANES];
        let (multiply, add) = jump(stride, increment);
        for lane in 1..rows {
            state[lane] = step(state[lane - 1], multiply, add);
        }
        for lane in rows..LANES {
            state[lane] = step(state[lane - rows], MULTIPLIER, increment);
        }
        let (multiply, add) = jump(ahead as u64, increment);
        Words { state, multiply, add }
    }
}

/// Consecutive words of a stream, [`LANES`] at a time.
#[derive(Clone)]
pub struct Words {
    state: [u64; LANES],
    multiply: u64,
    add: u64,
}

impl Words {
    /// The next [`LANES`] words.
    #[inline(always)]
    pub fn next_lanes(&mut self) -> [u32; LANES] {
        let mut words = [0; LANES];
        for (word, state) in words.iter_mut().zip(&mut self.state) {
            *word = output(*state);
            *state = step(*state, self.multiply, self.add);
        }
        words
    }
}

#[inline(always)]
fn step(state: u64, multiply: u64, add: u64) -> u64 {
    state.wrapping_mul(multiply).wrapping_add(add)
}

#[inline(always)]
fn output(state: u64) -> u32 {
    ((((state >> 18) ^ state) >> 27) as u32).rotate_right((state >> 59) as u32)
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

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input reaches every bit of the output.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
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

    #[test]
    fn interleaved_rows_are_stretches_of_the_stream() {
        let key = Key::new(8).fold(1);
        for (first, stride, rows) in [(0u64, 100u64, 16usize), (77, 2048, 16), (5, 1 << 33, 4), (3, 7, 1), (0, 2, LANES)] {
            let mut words = key.interleaved(first, stride, rows);
            let drawn: Vec<u32> = (0..3).flat_map(|_| words.next_lanes()).collect();
            for row in 0..rows {
                let mut reference = key.words(first + row as u64 * stride);
                let want = reference.next_lanes();
                let got: Vec<u32> = drawn.iter().skip(row).step_by(rows).copied().collect();
                let common = got.len().min(LANES);
                assert_eq!(got[..common], want[..common], "row {row} of {rows}");
            }
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
