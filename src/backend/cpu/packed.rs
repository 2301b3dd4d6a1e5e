//! Spikes as bits: a sixteenth of a word each, in the order in which the convolution and the mixer look at them.

use super::panel::{Panel, ROWS};
use super::simd::{Isa, dispatch};
use super::threads::for_each_chunk;
use crate::backend::Real;

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
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Zeros and ones, (B, H, L).
    pub fn expand<E: Real>(&self, out: &mut [E]) {
        let [_, channels, length] = self.shape;
        for_each_chunk(out, length, |row, out| {
            let (b, h) = (row / channels, row % channels);
            let words = self.tile(b, h / ROWS);
            out.iter_mut().zip(words).for_each(|(out, word)| *out = bit(*word, h % ROWS));
        });
    }
}

/// Tiles that hold this many channels.
pub fn tiles(channels: usize) -> usize {
    channels.div_ceil(ROWS)
}

#[inline(always)]
fn bit<E: Real>(word: u16, lane: usize) -> E {
    if word >> lane & 1 == 1 { E::one() } else { E::zero() }
}

dispatch! {
    /// Words to a panel of zeros and ones; entries beyond the words are zero.
    pub fn spread<E: Real>(words: &[u16], panel: &mut Panel<E>) = spread_body;
}

#[inline(always)]
fn spread_body<I: Isa, E: Real>(words: &[u16], panel: &mut Panel<E>) {
    let (body, tail) = panel.split_at_mut(words.len());
    tail.fill([E::zero(); ROWS]);
    for (lanes, &word) in body.iter_mut().zip(words) {
        for (lane, v) in lanes.iter_mut().enumerate() {
            *v = bit(word, lane);
        }
    }
}

dispatch! {
    /// Bit l of word t: y > u in lane l, for the lanes in `lanes`.
    pub fn compare<E: Real>(y: &Panel<E>, u: &Panel<E>, lanes: u16, words: &mut [u16]) = compare_body;
}

#[inline(always)]
fn compare_body<I: Isa, E: Real>(y: &Panel<E>, u: &Panel<E>, lanes: u16, words: &mut [u16]) {
    for ((word, y), u) in words.iter_mut().zip(y).zip(u) {
        let mut bits = 0;
        for lane in 0..ROWS {
            bits |= u16::from(y[lane] > u[lane]) << lane;
        }
        *word = bits & lanes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spikes_survive_packing() {
        for (batch, channels, length) in [(1, 1, 1), (2, 16, 5), (3, 19, 33), (2, 40, 70)] {
            let spike = |b: usize, h: usize, t: usize| (b * 31 + h * 7 + t * 13) % 5 < 2;
            let mut packed = Packed::silent([batch, channels, length]);
            for (i, words) in packed.tiles_mut().enumerate() {
                let (b, tile) = (i / tiles(channels), i % tiles(channels));
                let y: Vec<[f32; ROWS]> = (0..length)
                    .map(|t| std::array::from_fn(|lane| f32::from(u8::from(spike(b, tile * ROWS + lane, t)))))
                    .collect();
                let lanes = ((1u32 << (channels - tile * ROWS).min(ROWS)) - 1) as u16;
                compare(&y, &vec![[0.5; ROWS]; length], lanes, words);
            }
            let mut dense = vec![f32::NAN; batch * channels * length];
            packed.expand(&mut dense);
            for (i, &v) in dense.iter().enumerate() {
                let want = spike(i / length / channels, i / length % channels, i % length);
                assert_eq!(v, f32::from(u8::from(want)));
            }
            assert_eq!(packed.count() as f32, dense.iter().sum::<f32>());
            let mut panel = vec![[9.0f32; ROWS]; length + 2];
            spread(packed.tile(batch - 1, 0), &mut panel);
            assert!(panel[length..].iter().flatten().all(|&v| v == 0.0));
            assert!((0..length).all(|t| panel[t][0] == f32::from(u8::from(spike(batch - 1, 0, t)))));
        }
    }
}
