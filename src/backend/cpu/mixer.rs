//! The SpikeMixer's product of a matrix with spikes: rows of W^T are added where a neuron spiked, or, where many did, the spikes are
//! spread to numbers for a matrix product. Which of the two is decided block by block, by counting.
//!
//! Work is cut into blocks of [`WIDTH`] output channels and fixed stretches of time, whatever the number of threads.

use pulp::{Simd, WithSimd};

use super::gemm::{Matrix, MixShape, gemm};
use super::lanes::at_level;
use super::packed::{Packed, Spread, by_channel, count, tiles};
use super::panel::{Aligned, ROWS, gather, scatter};
use super::threads::{for_each_chunk_with, for_each_with};
use crate::backend::Real;

/// Output channels of a block: as many as the registers hold sums for.
const WIDTH: usize = 128;

/// Steps of a block of the product, and of the weight's gradient.
const STEPS: usize = 256;

/// Vectors of sums that stay in registers.
const SUMS: usize = 8;

/// The share of spikes from which on a matrix product is faster (benches/NOTES.md).
const DENSE: f64 = 0.3;

/// The share from which on it is faster for the weight's gradient.
const DENSE_GRADIENT: f64 = 0.3;

/// The spikes of all parts, tile after tile.
struct Spikes<'a> {
    parts: Vec<&'a Packed>,
}

impl<'a> Spikes<'a> {
    /// For every padded channel that is one: its column of W.
    fn columns(&self) -> Vec<Option<usize>> {
        let mut at = 0;
        let mut columns = Vec::new();
        for part in &self.parts {
            let channels = part.shape()[1];
            columns.extend((0..tiles(channels) * ROWS).map(|k| (k < channels).then_some(at + k)));
            at += channels;
        }
        columns
    }

    /// The words of every tile of one sequence.
    fn words(&self, batch: usize) -> Vec<&'a [u16]> {
        self.parts.iter().flat_map(|part| (0..tiles(part.shape()[1])).map(move |tile| part.tile(batch, tile))).collect()
    }
}

/// Steps `from..to` of some tiles.
fn stretch<'a>(words: &[&'a [u16]], from: usize, to: usize) -> Vec<&'a [u16]> {
    words.iter().map(|words| &words[from..to]).collect()
}

/// The share of ones.
fn density(words: &[&[u16]]) -> f64 {
    let total: usize = words.iter().map(|words| words.len() * ROWS).sum();
    words.iter().map(|words| count(words)).sum::<u64>() as f64 / total as f64
}

/// Time-major zeros and ones, (steps, padded channels).
fn spread_out<E: Real>(spread: &Spread<E>, words: &[&[u16]], out: &mut [E]) {
    let lanes = out.as_chunks_mut::<ROWS>().0;
    for (t, lanes) in lanes.chunks_exact_mut(words.len()).enumerate().take(words[0].len()) {
        lanes.iter_mut().zip(words).for_each(|(lanes, words)| spread.word(words[t], lanes));
    }
}

/// W^T in blocks of [`WIDTH`] columns: (blocks, padded channels, WIDTH), zero where there is no channel.
fn transposed<E: Real>(weight: &[E], shape: MixShape, columns: &[Option<usize>]) -> Aligned<E> {
    let blocks = shape.d_out.div_ceil(WIDTH);
    let mut out = Aligned::zeros(blocks * columns.len() * WIDTH);
    for (block, out) in out.chunks_exact_mut(columns.len() * WIDTH).enumerate() {
        for (row, column) in out.chunks_exact_mut(WIDTH).zip(columns) {
            let Some(column) = column else { continue };
            let rows = weight.iter().skip(block * WIDTH * shape.d_in + column).step_by(shape.d_in);
            row.iter_mut().zip(rows).for_each(|(out, &w)| *out = w);
        }
    }
    out
}

/// W [s_1; s_2; ..] + bias.
pub fn forward<E: Real>(parts: &[&Packed], weight: &[E], bias: &[E], shape: MixShape, out: &mut [E]) {
    let MixShape { d_out, d_in, length, .. } = shape;
    let spikes = Spikes { parts: parts.to_vec() };
    let columns = spikes.columns();
    let by_neuron = transposed(weight, shape, &columns);
    let spread = Spread::new();
    let blocks: Vec<(usize, &mut [E])> = (0..).zip(out.chunks_mut(d_out * length)).flat_map(|(b, out)| {
        out.chunks_mut(WIDTH * length).map(move |out| (b, out))
    }).collect();
    let per_entry = d_out.div_ceil(WIDTH);
    let init = || (Aligned::zeros(STEPS * columns.len()), Aligned::zeros(STEPS * WIDTH));
    for_each_with(blocks, init, |(dense, sums), i, (b, out)| {
        let first = i % per_entry * WIDTH;
        let rows = out.len() / length;
        let words = spikes.words(b);
        for from in (0..length).step_by(STEPS) {
            let steps = STEPS.min(length - from);
            let words = stretch(&words, from, from + steps);
            if density(&words) < DENSE {
                let weights = &by_neuron[first * columns.len()..][..columns.len() * WIDTH];
                let mut start = [E::zero(); WIDTH];
                start[..rows].copy_from_slice(&bias[first..first + rows]);
                at_level(AddRows { weights, start: &start, words: &words, sums });
                for (panel, out) in sums.panel().chunks_exact(STEPS).zip(out.chunks_mut(ROWS * length)) {
                    scatter(&panel[..steps], length, from, out);
                }
            } else {
                spread_out(&spread, &words, dense);
                out.chunks_exact_mut(length).zip(&bias[first..]).for_each(|(row, &bias)| row[from..from + steps].fill(bias));
                let mut at = 0;
                let mut column = 0;
                for part in parts {
                    let channels = part.shape()[1];
                    let weight = Matrix::new(&weight[first * d_in..][..rows * d_in], rows, d_in).columns(column, channels);
                    let spikes = Matrix::new(&dense[..steps * columns.len()], steps, columns.len()).columns(at, channels).transposed();
                    gemm(weight, spikes, &mut out[from..], length, true);
                    at += tiles(channels) * ROWS;
                    column += channels;
                }
            }
        }
    });
}

/// For every step, the sum of the rows of the neurons that spiked.
struct AddRows<'a, E> {
    /// (padded channels, WIDTH).
    weights: &'a [E],
    /// What the sums start from.
    start: &'a [E; WIDTH],
    /// The words of every tile.
    words: &'a [&'a [u16]],
    /// (WIDTH / 16, STEPS, 16).
    sums: &'a mut [E],
}

impl<E: Real> WithSimd for AddRows<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let lanes = E::count::<S>();
        let groups = WIDTH / lanes / SUMS;
        let rows = E::vectors::<S>(self.weights).as_chunks::<SUMS>().0;
        let start = E::vectors::<S>(self.start).as_chunks::<SUMS>().0;
        let sums = E::vectors_mut::<S>(self.sums);
        let mut spiked = vec![0u32; self.words.len() * ROWS];
        for t in 0..self.words[0].len() {
            let spiked = collect(self.words, t, &mut spiked);
            for (group, &start) in start.iter().enumerate() {
                let mut sum = start;
                for &k in spiked {
                    let row = &rows[k as usize * groups + group];
                    for i in 0..SUMS {
                        sum[i] = E::plus(s, sum[i], row[i]);
                    }
                }
                for (i, sum) in sum.into_iter().enumerate() {
                    let lane = (group * SUMS + i) * lanes;
                    sums[((lane / ROWS * STEPS + t) * ROWS + lane % ROWS) / lanes] = sum;
                }
            }
        }
    }
}

/// The channels that spiked at step t, four tiles at a time.
#[inline(always)]
fn collect<'a>(words: &[&[u16]], t: usize, out: &'a mut [u32]) -> &'a [u32] {
    let mut n = 0;
    for (i, words) in words.chunks(4).enumerate() {
        let mut bits = words.iter().rev().fold(0u64, |bits, words| bits << ROWS | u64::from(words[t]));
        while bits != 0 {
            out[n] = (i * 4 * ROWS) as u32 + bits.trailing_zeros();
            n += 1;
            bits &= bits - 1;
        }
    }
    &out[..n]
}

/// The gradient of one part, whose columns of W start at `at`: a product with all of W^T, the surrogate's mask being open for half of
/// the potentials.
pub fn part_gradient<E: Real>(weight: &[E], g: &[E], at: usize, channels: usize, shape: MixShape, out: &mut [E]) {
    let MixShape { d_out, d_in, length, .. } = shape;
    let weight = Matrix::new(weight, d_out, d_in);
    let blocks: Vec<(usize, usize, &mut [E])> = (0..).zip(out.chunks_mut(channels * length)).flat_map(|(b, out)| {
        out.chunks_mut(WIDTH * length).enumerate().map(move |(block, out)| (b, block * WIDTH, out))
    }).collect();
    for_each_with(blocks, || (), |(), _, (b, first, out)| {
        let rows = out.len() / length;
        let g = Matrix::new(&g[b * d_out * length..][..d_out * length], d_out, length);
        gemm(weight.columns(at + first, rows).transposed(), g, out, length, false);
    });
}

/// Steps whose gradients are added from the nearest cache: the bits of a mask.
const NEAR: usize = 64;

/// Shares of a batch whose weight gradients are summed by themselves, then added in order: fixed, whatever the number of threads.
const SHARES: usize = 8;

/// The gradient of W.
pub fn weight_gradient<E: Real>(parts: &[&Packed], g: &[E], shape: MixShape, out: &mut [E]) {
    let MixShape { batch, d_out, d_in, length } = shape;
    let spikes = Spikes { parts: parts.to_vec() };
    let columns = spikes.columns();
    let (blocks, entries) = (d_out.div_ceil(WIDTH), batch.div_ceil(SHARES));
    let size = columns.len() * WIDTH;
    let spread = Spread::new();
    // (shares, blocks, padded channels, WIDTH), as W^T in `forward`.
    let mut partial = Aligned::zeros(batch.div_ceil(entries) * blocks * size);
    let init = || (Aligned::zeros(STEPS * columns.len()), Aligned::zeros(NEAR * WIDTH));
    for_each_chunk_with(&mut partial, size, init, |(dense, near), i, sums| {
        let (share, first) = (i / blocks, i % blocks * WIDTH);
        let rows = WIDTH.min(d_out - first);
        for b in share * entries..((share + 1) * entries).min(batch) {
            let words = spikes.words(b);
            let g = &g[(b * d_out + first) * length..][..rows * length];
            for from in (0..length).step_by(STEPS) {
                let steps = STEPS.min(length - from);
                let words = stretch(&words, from, from + steps);
                if density(&words) < DENSE_GRADIENT {
                    for at in (0..steps).step_by(NEAR) {
                        let count = NEAR.min(steps - at);
                        for (panel, rows) in near.panel_mut().chunks_exact_mut(NEAR).zip(g.chunks(ROWS * length)) {
                            gather(rows, length, from + at, count, panel);
                        }
                        at_level(AddSteps { near, words: &stretch(&words, at, at + count), sums });
                    }
                } else {
                    spread_out(&spread, &words, dense);
                    let spikes = Matrix::new(&dense[..steps * columns.len()], steps, columns.len()).transposed();
                    let g = Matrix::new(g, rows, length).columns(from, steps).transposed();
                    gemm(spikes, g, sums, WIDTH, true);
                }
            }
        }
    });
    for (h, row) in out.chunks_exact_mut(d_in).enumerate() {
        row.fill(E::zero());
        for share in partial.chunks_exact(blocks * size) {
            let block = &share[h / WIDTH * size..][..size];
            for (k, column) in columns.iter().enumerate() {
                if let Some(column) = column {
                    row[*column] += block[k * WIDTH + h % WIDTH];
                }
            }
        }
    }
}

/// For every neuron, the sum of g over the steps at which it spiked, added to `sums`.
struct AddSteps<'a, E> {
    /// (WIDTH / 16, NEAR, 16): g.
    near: &'a [E],
    /// The words of every tile, at most NEAR.
    words: &'a [&'a [u16]],
    /// (padded channels, WIDTH).
    sums: &'a mut [E],
}

impl<E: Real> WithSimd for AddSteps<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let lanes = E::count::<S>();
        let groups = WIDTH / lanes / SUMS;
        let g = E::vectors::<S>(self.near);
        let sums = E::vectors_mut::<S>(self.sums).as_chunks_mut::<SUMS>().0;
        for (words, sums) in self.words.iter().zip(sums.chunks_exact_mut(ROWS * groups)) {
            let mut all = [0; NEAR];
            all[..words.len()].copy_from_slice(words);
            for (mask, sums) in by_channel(&all).into_iter().zip(sums.chunks_exact_mut(groups)) {
                if mask == 0 {
                    continue;
                }
                for (group, sum) in sums.iter_mut().enumerate() {
                    let mut bits = mask;
                    while bits != 0 {
                        let t = bits.trailing_zeros() as usize;
                        bits &= bits - 1;
                        for (i, sum) in sum.iter_mut().enumerate() {
                            let lane = (group * SUMS + i) * lanes;
                            *sum = E::plus(s, *sum, g[((lane / ROWS * NEAR + t) * ROWS + lane % ROWS) / lanes]);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Key;

    /// Spikes of a share of about `rate`.
    fn spikes(seed: u64, shape: [usize; 3], rate: f64) -> Packed {
        let mut packed = Packed::silent(shape);
        let channels = shape[1];
        let mut words = Key::new(seed).words(0);
        let mut draws = std::iter::repeat_with(move || words.next_lanes()).flatten().map(|word| f64::unit(word) < rate);
        for (i, tile) in packed.tiles_mut().enumerate() {
            let own = (channels - i % tiles(channels) * ROWS).min(ROWS);
            for word in tile {
                *word = (0..own).fold(0, |word, lane| word | u16::from(draws.next().unwrap_or(false)) << lane);
            }
        }
        packed
    }

    fn values(seed: u64, count: usize) -> Vec<f64> {
        let mut words = Key::new(seed).words(0);
        std::iter::repeat_with(|| words.next_lanes()).flatten().take(count).map(|word| f64::unit(word) - 0.5).collect()
    }

    fn dense(packed: &Packed) -> Vec<f64> {
        let mut out = vec![0.0; packed.shape().iter().product()];
        packed.expand(&mut out);
        out
    }

    #[test]
    fn sparse_and_dense_blocks_agree_with_the_sums_that_they_stand_for() {
        let cases = [
            (1, &[1][..], 1, 1),
            (2, &[16, 16], 16, 64),
            (3, &[5, 20], 7, 300),
            (9, &[33], 130, 65),
            (1, &[70, 3], 260, 257),
        ];
        for (batch, channels, d_out, length) in cases {
            for rate in [0.0, 0.1, 0.9] {
                let d_in = channels.iter().sum();
                let shape = MixShape { batch, d_out, d_in, length };
                let parts: Vec<Packed> = (0..).zip(channels).map(|(i, &h)| spikes(i, [batch, h, length], rate)).collect();
                let parts: Vec<&Packed> = parts.iter().collect();
                let numbers: Vec<Vec<f64>> = parts.iter().map(|part| dense(part)).collect();
                let input = |b: usize, mut k: usize, t: usize| {
                    for (part, &h) in numbers.iter().zip(channels) {
                        if k < h {
                            return part[(b * h + k) * length + t];
                        }
                        k -= h;
                    }
                    0.0
                };
                let (weight, bias) = (values(7, d_out * d_in), values(8, d_out));
                let g = values(9, batch * d_out * length);
                let mut out = vec![f64::NAN; g.len()];
                forward(&parts, &weight, &bias, shape, &mut out);
                let mut gradient = vec![f64::NAN; weight.len()];
                weight_gradient(&parts, &g, shape, &mut gradient);
                for (i, &v) in out.iter().enumerate().step_by(1 + out.len() / 500) {
                    let (b, h, t) = (i / length / d_out, i / length % d_out, i % length);
                    let want: f64 = bias[h] + (0..d_in).map(|k| weight[h * d_in + k] * input(b, k, t)).sum::<f64>();
                    assert!((v - want).abs() < 1e-12, "{shape:?} at {rate}: {v}, not {want}");
                }
                for (i, &v) in gradient.iter().enumerate().step_by(1 + gradient.len() / 200) {
                    let (h, k) = (i / d_in, i % d_in);
                    let step = |b: usize, t: usize| g[(b * d_out + h) * length + t] * input(b, k, t);
                    let want: f64 = (0..batch).map(|b| (0..length).map(|t| step(b, t)).sum::<f64>()).sum();
                    assert!((v - want).abs() < 1e-11, "{shape:?} at {rate}: {v}, not {want}");
                }
            }
        }
    }
}
