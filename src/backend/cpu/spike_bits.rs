//! Spikes as bits: a sixteenth of a word each, in the order in which the convolution and the mixer look at them.

use super::transposed_rows::{CHUNK, Panel, ROWS};
use crate::backend::Real;
use crate::backend::host::simd::{Isa, dispatch};
use crate::backend::host::threads::for_each_piece;

/// Spikes (B, H, L): bit l of word t of tile i is that of channel 16 i + l at step t. Channels beyond H never spike.
#[derive(Clone, Debug)]
pub struct Packed {
    words: Vec<u16>,
    shape: [usize; 3],
}

impl Packed {
    /// No spikes.
    pub fn silent(shape: [usize; 3]) -> Self {
        let [batch, channels, length] = shape;
        Packed { words: vec![0; batch * tiles(channels) * length], shape }
    }

    /// B, H, L.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// L words for sixteen channels of one sequence.
    pub fn tile(&self, batch: usize, tile: usize) -> &[u16] {
        let [_, channels, length] = self.shape;
        &self.words[(batch * tiles(channels) + tile) * length..][..length]
    }

    /// All tiles, sequence after sequence.
    pub fn tiles_mut(&mut self) -> impl Iterator<Item = &mut [u16]> {
        self.words.chunks_exact_mut(self.shape[2])
    }

    /// The number of spikes.
    pub fn count(&self) -> u64 {
        count(&self.words)
    }

    /// Zeros and ones, (B, H, L).
    pub fn expand<E: Real>(&self, out: &mut [E]) {
        let [_, channels, length] = self.shape;
        for_each_piece(out, length, |row, out| {
            let (b, h) = (row / channels, row % channels);
            let words = self.tile(b, h / ROWS);
            out.iter_mut().zip(words).for_each(|(out, word)| *out = bit(*word, h % ROWS));
        });
    }
}

dispatch! {
    /// The number of bits.
    pub fn count(words: &[u16]) -> u64 = count_body;
}

/// In blocks whose counts fit narrow lanes.
#[inline(always)]
fn count_body<I: Isa>(words: &[u16]) -> u64 {
    let block = |words: &[u16]| words.iter().map(|word| word.count_ones() as u16).sum::<u16>();
    words.chunks(ROWS * 128).map(|words| u64::from(block(words))).sum()
}

/// Tiles that hold this many channels.
pub fn tiles(channels: usize) -> usize {
    channels.div_ceil(ROWS)
}

#[inline(always)]
fn bit<E: Real>(word: u16, lane: usize) -> E {
    if word >> lane & 1 == 1 { E::one() } else { E::zero() }
}

/// Bytes as eight numbers each.
pub struct Spread<E>(Vec<[E; 8]>);

impl<E: Real> Spread<E> {
    /// The table of all bytes.
    pub fn new() -> Self {
        Spread((0..256u16).map(|byte| std::array::from_fn(|lane| bit(byte, lane))).collect())
    }

    /// A word as sixteen zeros and ones.
    #[inline(always)]
    pub fn word(&self, word: u16, lanes: &mut [E; ROWS]) {
        let [low, high] = word.to_le_bytes().map(usize::from);
        lanes[..8].copy_from_slice(&self.0[low]);
        lanes[8..].copy_from_slice(&self.0[high]);
    }

    /// Words to a panel; entries beyond the words are zero.
    pub fn panel(&self, words: &[u16], panel: &mut Panel<E>) {
        let (body, tail) = panel.split_at_mut(words.len());
        body.iter_mut().zip(words).for_each(|(lanes, &word)| self.word(word, lanes));
        tail.fill([E::zero(); ROWS]);
    }
}

/// Bit l of word t: y > u in lane l of entry t, for the lanes in `lanes`; at most [`CHUNK`] words.
pub fn compare<E: Real>(y: &[E], u: &[E], lanes: u16, words: &mut [u16]) {
    let mut spikes = [0; CHUNK * ROWS];
    exceeds(y, u, &mut spikes);
    for (word, [low, high]) in words.iter_mut().zip(spikes.as_chunks::<8>().0.as_chunks::<2>().0) {
        *word = u16::from_le_bytes([bits(low), bits(high)]) & lanes;
    }
}

/// Eight bytes of 0 or 1 as the bits of one: the product moves byte i to bit 56 + i, without carries.
fn bits(bytes: &[u8; 8]) -> u8 {
    (u64::from_le_bytes(*bytes).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}

/// Bit t of mask l: bit l of word t.
pub fn by_channel(words: &[u16; 64]) -> [u64; ROWS] {
    let mut masks = [0; ROWS];
    for (i, words) in words.as_chunks::<8>().0.iter().enumerate() {
        let halves = [0, 8].map(|shift| transpose_bits(u64::from_le_bytes(words.map(|word| (word >> shift) as u8))));
        for (mask, byte) in masks.iter_mut().zip(halves.into_iter().flat_map(u64::to_le_bytes)) {
            *mask |= u64::from(byte) << (8 * i);
        }
    }
    masks
}

/// Bit i of byte j to bit j of byte i, by exchanging ever larger blocks across the diagonal.
fn transpose_bits(mut x: u64) -> u64 {
    for (mask, shift) in [(0x00AA_00AA_00AA_00AA, 7), (0x0000_CCCC_0000_CCCC, 14), (0x0000_0000_F0F0_F0F0, 28)] {
        let t = (x ^ (x >> shift)) & mask;
        x ^= t ^ (t << shift);
    }
    x
}

dispatch! { fn exceeds<E: Real>(y: &[E], u: &[E], out: &mut [u8]) = exceeds_body; }

#[inline(always)]
fn exceeds_body<I: Isa, E: Real>(y: &[E], u: &[E], out: &mut [u8]) {
    for ((out, y), u) in out.iter_mut().zip(y).zip(u) {
        *out = u8::from(y > u);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_by_channel_are_those_of_the_words() {
        let words: [u16; 64] = std::array::from_fn(|t| (t as u16).wrapping_mul(40_503) ^ 0x5A5A);
        for (lane, mask) in by_channel(&words).into_iter().enumerate() {
            assert!((0..64).all(|t| (mask >> t & 1) as u16 == words[t] >> lane & 1), "lane {lane}");
        }
    }

    #[test]
    fn spikes_survive_packing() {
        for (batch, channels, length) in [(1, 1, 1), (2, 16, 5), (3, 19, 33), (2, 40, 70)] {
            let spike = |b: usize, h: usize, t: usize| (b * 31 + h * 7 + t * 13) % 5 < 2;
            let mut packed = Packed::silent([batch, channels, length]);
            for (i, words) in packed.tiles_mut().enumerate() {
                let (b, tile) = (i / tiles(channels), i % tiles(channels));
                let y: Vec<[f32; ROWS]> =
                    (0..length).map(|t| std::array::from_fn(|lane| f32::from(u8::from(spike(b, tile * ROWS + lane, t))))).collect();
                let lanes = ((1u32 << (channels - tile * ROWS).min(ROWS)) - 1) as u16;
                for (words, y) in words.chunks_mut(CHUNK).zip(y.chunks(CHUNK)) {
                    compare(y.as_flattened(), &[0.5; CHUNK * ROWS], lanes, words);
                }
            }
            let mut dense = vec![f32::NAN; batch * channels * length];
            packed.expand(&mut dense);
            for (i, &v) in dense.iter().enumerate() {
                let want = spike(i / length / channels, i / length % channels, i % length);
                assert_eq!(v, f32::from(u8::from(want)));
            }
            assert_eq!(packed.count() as f32, dense.iter().sum::<f32>());
            let mut panel = vec![[9.0f32; ROWS]; length + 2];
            Spread::new().panel(packed.tile(batch - 1, 0), &mut panel);
            assert!(panel[length..].iter().flatten().all(|&v| v == 0.0));
            assert!((0..length).all(|t| panel[t][0] == f32::from(u8::from(spike(batch - 1, 0, t)))));
        }
    }
}
