//! Sums over what spiked: rows of a matrix over the neurons that did, for every step; rows over the steps, for every neuron.
//!
//! Sums of a block of output channels stay in registers while the spikes go by; silence costs nothing.

use pulp::{Simd, WithSimd};

use crate::backend::Real;
use crate::backend::cpu::spike_bits::by_channel;
use crate::backend::cpu::transposed_rows::{ROWS, gather};

/// The most output channels of a block, in sixteens: as many as the registers hold sums for.
pub const WIDEST: usize = 8;

/// Output channels of a block: a multiple of sixteen for which the blocks cost least together. To go through the spikes costs as much
/// as one and a half sixteens of sums.
pub fn width(d_out: usize) -> usize {
    let cost = |sixteens: &usize| d_out.div_ceil(sixteens * ROWS) * (2 * sixteens + 3);
    (1..=WIDEST).min_by_key(cost).unwrap_or(WIDEST) * ROWS
}

/// Steps of a block of the product, and of the weight's gradient.
pub const STEPS: usize = 256;

/// Steps whose gradients are added from the nearest cache: the bits of a mask.
pub const NEAR: usize = 64;

/// Bytes of rows that are added from the nearest cache, to the sums of all steps, before the next ones are.
const NEAREST: usize = 24 << 10;

/// Runs `op` with the block's number of sixteens as a constant.
macro_rules! with_sums {
    ($sixteens:expr, $op:expr, $s:expr) => {
        match $sixteens {
            1 => $op.run::<S, 1>($s),
            2 => $op.run::<S, 2>($s),
            3 => $op.run::<S, 3>($s),
            4 => $op.run::<S, 4>($s),
            5 => $op.run::<S, 5>($s),
            6 => $op.run::<S, 6>($s),
            7 => $op.run::<S, 7>($s),
            _ => $op.run::<S, WIDEST>($s),
        }
    };
}

/// For every step, the sum of the rows of the neurons that spiked.
pub struct AddRows<'a, E> {
    /// (padded channels, width).
    pub weights: &'a [E],
    /// What the sums start from, (width).
    pub start: &'a [E],
    /// The words of every tile.
    pub words: &'a [&'a [u16]],
    /// (width / 16, STEPS, 16).
    pub sums: &'a mut [E],
}

impl<E: Real> WithSimd for AddRows<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        with_sums!(self.start.len() / ROWS, self, s)
    }
}

impl<E: Real> AddRows<'_, E> {
    /// With `SUMS` sums in registers at a time: as many as the block has sixteens.
    #[inline(always)]
    fn run<S: Simd, const SUMS: usize>(self, s: S) {
        let lanes = E::count::<S>();
        let groups = ROWS / lanes;
        let rows = E::vectors::<S>(self.weights).as_chunks::<SUMS>().0;
        let start = E::vectors::<S>(self.start).as_chunks::<SUMS>().0;
        let sums = E::vectors_mut::<S>(self.sums);
        let tiles = (NEAREST / (ROWS * SUMS * ROWS * size_of::<E>())).max(1);
        let mut spiked = vec![0u32; tiles * ROWS + 8];
        for (chunk, words) in self.words.chunks(tiles).enumerate() {
            let rows = &rows[chunk * tiles * ROWS * groups..];
            for t in 0..words[0].len() {
                let spiked = collect(words, t, &mut spiked);
                for (group, &start) in start.iter().enumerate() {
                    let place = |i: usize| {
                        let lane = (group * SUMS + i) * lanes;
                        ((lane / ROWS * STEPS + t) * ROWS + lane % ROWS) / lanes
                    };
                    let mut sum = start;
                    if chunk > 0 {
                        for i in 0..SUMS {
                            sum[i] = sums[place(i)];
                        }
                    }
                    for &k in spiked {
                        let row = &rows[k as usize * groups + group];
                        for i in 0..SUMS {
                            sum[i] = E::plus(s, sum[i], row[i]);
                        }
                    }
                    for i in 0..SUMS {
                        sums[place(i)] = sum[i];
                    }
                }
            }
        }
    }
}

/// Of every byte the places of its ones in order, and zeros behind them.
const PLACES: [[u8; 8]; 256] = {
    let mut places = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bits, mut n) = (byte, 0);
        while bits != 0 {
            places[byte][n] = bits.trailing_zeros() as u8;
            bits &= bits - 1;
            n += 1;
        }
        byte += 1;
    }
    places
};

/// The channels that spiked at step t; `out` has room for all, and for eight more. Nothing here depends on the bits but through a table: to
/// branch at each of them took as long as the sums.
#[inline(always)]
fn collect<'a>(words: &[&[u16]], t: usize, out: &'a mut [u32]) -> &'a [u32] {
    let mut n = 0;
    for (tile, words) in words.iter().enumerate() {
        for (half, byte) in words[t].to_le_bytes().into_iter().enumerate() {
            let first = (tile * ROWS + half * 8) as u32;
            if let Some(next) = out[n..].first_chunk_mut::<8>() {
                *next = PLACES[usize::from(byte)].map(|place| first + u32::from(place));
            }
            n += byte.count_ones() as usize;
        }
    }
    &out[..n]
}

/// `count` steps of rows from `start` on, as (count, width).
pub fn time_major<E: Real>(rows: &[E], length: usize, start: usize, out: &mut [E], width: usize, count: usize) {
    let mut lanes = [[E::zero(); ROWS]; NEAR];
    for (i, rows) in rows.chunks(ROWS * length).enumerate() {
        gather(rows, length, start, count, &mut lanes);
        for (out, lanes) in out.chunks_exact_mut(width).zip(&lanes[..count]) {
            out[i * ROWS..][..ROWS].copy_from_slice(lanes);
        }
    }
}

/// For every neuron, the sum of g over the steps at which it spiked, added to `sums`.
pub struct AddSteps<'a, E> {
    /// (NEAR, width): g.
    pub near: &'a [E],
    /// Output channels of the block.
    pub width: usize,
    /// The words of every tile, at most NEAR.
    pub words: &'a [&'a [u16]],
    /// (padded channels, width).
    pub sums: &'a mut [E],
}

impl<E: Real> WithSimd for AddSteps<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        with_sums!(self.width / ROWS, self, s)
    }
}

impl<E: Real> AddSteps<'_, E> {
    /// As [`AddRows::run`].
    #[inline(always)]
    fn run<S: Simd, const SUMS: usize>(self, s: S) {
        let groups = ROWS / E::count::<S>();
        let g = E::vectors::<S>(self.near).as_chunks::<SUMS>().0;
        let sums = E::vectors_mut::<S>(self.sums).as_chunks_mut::<SUMS>().0;
        for (words, sums) in self.words.iter().zip(sums.chunks_exact_mut(ROWS * groups)) {
            let mut all = [0; NEAR];
            all[..words.len()].copy_from_slice(words);
            for (mask, sums) in by_channel(&all).into_iter().zip(sums.chunks_exact_mut(groups)) {
                if mask == 0 {
                    continue;
                }
                for (group, total) in sums.iter_mut().enumerate() {
                    let (mut sum, mut bits) = (*total, mask);
                    while bits != 0 {
                        let row = &g[bits.trailing_zeros() as usize * groups + group];
                        bits &= bits - 1;
                        for i in 0..SUMS {
                            sum[i] = E::plus(s, sum[i], row[i]);
                        }
                    }
                    *total = sum;
                }
            }
        }
    }
}
