//! The SpikeMixer and what follows it: the product of a matrix with spikes or numbers, activation, dropout, residual.
//!
//! Of spikes, rows of W^T are added where a neuron spiked, by tables of sums. Work is cut into blocks of [`WIDTH`] output channels and
//! stretches of time, whatever the number of threads; what follows the product is done while a block is in the cache. The gradient computes
//! the product again: that costs less than to store it. It takes some sequences at a time, whose product's gradient then lies in the caches
//! for all that is made of it.

use std::ops::Range;
use std::sync::Arc;

use super::spike_sums::{AddRows, STEPS, WIDTH, quads, table};
use crate::backend::cpu::buffer::{Buffer, Pool};
use crate::backend::cpu::derived::{Form, Kept, derived};
use crate::backend::cpu::elementwise::{add, mask, sum, unary_grad_in_place, unary_in_place};
use crate::backend::cpu::spike_bits::{Packed, tiles};
use crate::backend::cpu::transposed_rows::{ROWS, gather, panel, panel_mut, scatter};
use crate::backend::host::gemm::{Matrix, gemm};
use crate::backend::host::threads::{for_each_piece, for_each_with, threads};
use crate::backend::host::vectors::at_level;
use crate::backend::{Draw, Real, Unary};

/// The spikes of all parts, tile after tile.
#[derive(Clone)]
pub struct Spikes<'a> {
    /// (B, K_i, L) each.
    pub parts: Vec<&'a Packed>,
}

impl<'a> Spikes<'a> {
    /// Input channels, with those that fill up the parts' last tiles.
    pub fn padded(&self) -> usize {
        self.parts.iter().map(|part| tiles(part.shape()[1]) * ROWS).sum()
    }

    /// Of every part the first padded channel, the first column of W, and the number of channels.
    pub fn places(&self) -> impl Iterator<Item = [usize; 3]> {
        self.parts.iter().scan([0, 0], |[at, column], part| {
            let place = [*at, *column, part.shape()[1]];
            (*at, *column) = (*at + tiles(place[2]) * ROWS, *column + place[2]);
            Some(place)
        })
    }

    /// The words of every tile of one sequence.
    pub fn words(&self, batch: usize) -> Vec<&'a [u16]> {
        self.parts.iter().flat_map(|part| (0..tiles(part.shape()[1])).map(move |tile| part.tile(batch, tile))).collect()
    }
}

/// Steps in the fewest even parts of at most [`STEPS`].
fn stretches(length: usize) -> impl Iterator<Item = Range<usize>> {
    let size = length.div_ceil(length.div_ceil(STEPS).max(1)).max(1);
    (0..length).step_by(size).map(move |from| from..length.min(from + size))
}

/// Steps `from..to` of some tiles.
pub fn stretch<'a>(words: &[&'a [u16]], from: usize, to: usize) -> Vec<&'a [u16]> {
    words.iter().map(|words| &words[from..to]).collect()
}

/// W^T in strips of sixteen columns: (strips, padded channels, 16), zero where there is no channel.
fn transposed<E: Real>(weight: &[E], shape: Shape, spikes: &Spikes<'_>, pool: &Arc<Pool<E>>) -> Buffer<E> {
    let padded = spikes.padded();
    let mut out = pool.dirty(shape.d_out.next_multiple_of(ROWS) * padded);
    for_each_piece(&mut out, padded * ROWS, |i, out| {
        out.fill(E::zero());
        let rows = &weight[i * ROWS * shape.d_in..];
        let rows = &rows[..rows.len().min(ROWS * shape.d_in)];
        for [at, column, count] in spikes.places() {
            gather(rows, shape.d_in, column, count, &mut panel_mut(out)[at..at + count]);
        }
    });
    out
}

/// What is mixed: (B, K_i, L) each.
pub enum Parts<'a, E> {
    /// Spikes.
    Spikes(Spikes<'a>),
    /// Any numbers, with K_i.
    Rows(Vec<(&'a [E], usize)>),
}

/// The sizes of a mix.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// B.
    pub batch: usize,
    /// Rows of W: output channels.
    pub d_out: usize,
    /// Columns of W: input channels of all parts.
    pub d_in: usize,
    /// L.
    pub length: usize,
}

/// `r + drop(f(W [x_1; x_2; ..] + bias))` on plain values.
pub struct Mixer<'a, E: Real> {
    /// Where buffers come from.
    pub pool: &'a Arc<Pool<E>>,
    /// x_1, x_2, ..
    pub parts: Parts<'a, E>,
    /// W.
    pub weight: &'a [E],
    /// (H).
    pub bias: &'a [E],
    /// f.
    pub activation: Option<Unary>,
    /// The probability to drop a channel, and the draw.
    pub dropout: Option<(f64, Draw)>,
    /// r, (B, H, L).
    pub residual: Option<&'a [E]>,
    /// Sizes.
    pub shape: Shape,
    /// Where W^T is kept, as [`transposed`] makes it.
    pub kept: Option<&'a Kept<E>>,
}

/// A block of the product: output channels `first..first + rows` of one sequence.
struct Block<'a> {
    batch: usize,
    first: usize,
    rows: usize,
    /// Room for a sum a row, where sums are wanted.
    sums: &'a mut [f64],
}

impl<'a, E: Real> Mixer<'a, E> {
    /// Whether nothing follows the product but, perhaps, the residual.
    pub fn is_plain(&self) -> bool {
        self.activation.is_none() && self.dropout.is_none()
    }

    /// The output, (B, H, L).
    pub fn forward(&self, out: &mut [E]) {
        self.run(0..self.shape.batch, out, &mut [], |block, from, steps, out| {
            let masks = self.masks(block);
            for (row, out) in out.chunks_mut(self.shape.length).enumerate() {
                let out = &mut out[from..from + steps];
                if let Some(f) = self.activation {
                    unary_in_place(f, out);
                }
                if self.dropout.is_some() {
                    out.iter_mut().for_each(|v| *v *= masks[row]);
                }
                if let Some(residual) = self.residual {
                    add(&residual[self.row(block, row) + from..][..steps], out);
                }
            }
        });
    }

    /// The sequences of which the gradient is made together: few, so that the product's gradient stays in caches of so many bytes, but enough
    /// for all threads, each of which has the same share of them in every step.
    pub fn slices(&self, cached_bytes: usize) -> impl Iterator<Item = Range<usize>> + use<E> {
        let Shape { batch, d_out, length, .. } = self.shape;
        let (threads, blocks) = (threads(), d_out.div_ceil(WIDTH).max(1));
        let fitting = cached_bytes / (d_out * length * size_of::<E>()).max(1) / threads * threads;
        let size = fitting.max((2 * threads).div_ceil(blocks));
        (0..batch).step_by(size).map(move |from| from..batch.min(from + size))
    }

    /// The gradient of the product of some sequences, for the output's gradient `g`, (B, H, L) of all; and the sums of its rows, which were
    /// 0, where there is room for them.
    pub fn product_grad(&self, sequences: Range<usize>, g: &[E], out: &mut [E], sums: &mut [f64]) {
        self.run(sequences, out, sums, |block, from, steps, out| {
            let masks = self.masks(block);
            for (row, out) in out.chunks_mut(self.shape.length).enumerate() {
                let (out, g) = (&mut out[from..from + steps], &g[self.row(block, row) + from..][..steps]);
                match self.activation {
                    Some(f) => unary_grad_in_place(f, g, out),
                    None => out.copy_from_slice(g),
                }
                if self.dropout.is_some() {
                    out.iter_mut().for_each(|v| *v *= masks[row]);
                }
                if let Some(total) = block.sums.get_mut(row) {
                    *total += sum(out);
                }
            }
        });
    }

    /// Where row `row` of the block starts.
    fn row(&self, block: &Block<'_>, row: usize) -> usize {
        (block.batch * self.shape.d_out + block.first + row) * self.shape.length
    }

    /// 0 or 1 / (1 - p) for every row of the block.
    fn masks(&self, block: &Block<'_>) -> Vec<E> {
        let Some((p, draw)) = self.dropout else { return Vec::new() };
        let Shape { batch, d_out, .. } = self.shape;
        let words = draw.rows(batch, d_out).first_words(block.batch * d_out + block.first);
        words.take(block.rows).map(|word| mask(1.0 - p, E::unit(word))).collect()
    }

    /// The product of some sequences, block by block; `then(block, from, steps, rows)` is called for every stretch of it, with room for the
    /// sums of the block's rows where there is any, (B, H).
    fn run(
        &self,
        sequences: Range<usize>,
        out: &mut [E],
        sums: &mut [f64],
        then: impl Fn(&mut Block<'_>, usize, usize, &mut [E]) + Sync + Send,
    ) {
        let blocks = self.blocks(sequences, out, sums);
        match &self.parts {
            Parts::Spikes(spikes) => self.run_spikes(spikes, blocks, then),
            Parts::Rows(parts) => self.run_rows(parts, blocks, then),
        }
    }

    /// The output's blocks.
    fn blocks<'b>(&self, sequences: Range<usize>, out: &'b mut [E], sums: &'b mut [f64]) -> Vec<(Block<'b>, &'b mut [E])> {
        let Shape { d_out, length, .. } = self.shape;
        let mut sums = sums.chunks_mut(d_out);
        let blocks = sequences.zip(out.chunks_mut(d_out * length)).flat_map(|(batch, out)| {
            let mut sums = sums.next().unwrap_or_default().chunks_mut(WIDTH);
            let blocks = out.chunks_mut(WIDTH * length).enumerate();
            blocks.map(move |(i, out)| {
                let (first, rows) = (i * WIDTH, out.len() / length);
                (Block { batch, first, rows, sums: sums.next().unwrap_or_default() }, out)
            })
        });
        blocks.collect()
    }

    fn run_rows(
        &self,
        parts: &[(&[E], usize)],
        blocks: Vec<(Block<'_>, &mut [E])>,
        then: impl Fn(&mut Block<'_>, usize, usize, &mut [E]) + Sync + Send,
    ) {
        let Shape { d_in, length, .. } = self.shape;
        for_each_with(
            blocks,
            || (),
            |(), _, (mut block, out)| {
                out.chunks_exact_mut(length).zip(&self.bias[block.first..]).for_each(|(row, &bias)| row.fill(bias));
                let mut at = 0;
                for &(part, channels) in parts {
                    let x = Matrix::new(&part[block.batch * channels * length..][..channels * length], channels, length);
                    gemm(self.rows(&block, d_in).columns(at, channels), x, out, length, true);
                    at += channels;
                }
                then(&mut block, 0, length, out);
            },
        );
    }

    /// The rows of W that a block needs.
    fn rows(&self, block: &Block<'_>, d_in: usize) -> Matrix<'a, E> {
        Matrix::new(&self.weight[block.first * d_in..][..block.rows * d_in], block.rows, d_in)
    }

    fn run_spikes(
        &self,
        spikes: &Spikes<'_>,
        blocks: Vec<(Block<'_>, &mut [E])>,
        then: impl Fn(&mut Block<'_>, usize, usize, &mut [E]) + Sync + Send,
    ) {
        let length = self.shape.length;
        let padded = spikes.padded();
        let form = Form::Strips { shape: [self.shape.d_out, self.shape.d_in], places: spikes.places().collect() };
        let by_neuron = derived(self.kept, form, || vec![transposed(self.weight, self.shape, spikes, self.pool)]);
        let most = self.shape.d_out.next_multiple_of(ROWS).min(WIDTH) * length.min(STEPS);
        let init = || (self.pool.dirty(most), self.pool.dirty(table::<E>()), Vec::new());
        for_each_with(blocks, init, |(sums, table, by_fours), _, (mut block, out)| {
            let width = block.rows.next_multiple_of(ROWS);
            let mut start = [E::zero(); WIDTH];
            start[..block.rows].copy_from_slice(&self.bias[block.first..][..block.rows]);
            let (start, weights) = (&start[..width], &by_neuron[0][block.first * padded..][..padded * width]);
            let words = spikes.words(block.batch);
            for Range { start: from, end } in stretches(length) {
                let steps = end - from;
                let sums = &mut sums[..steps * width];
                quads(&words, from, end, by_fours);
                at_level(AddRows { weights, start, words: by_fours, sizes: [words.len(), steps], sums, table });
                for (sums, out) in panel(sums).chunks_exact(steps).zip(out.chunks_mut(ROWS * length)) {
                    scatter(sums, length, from, out);
                }
                then(&mut block, from, steps, out);
            }
        });
    }

    /// The gradient of one part, whose columns of W start at `at`, from the product's of as many sequences: with all of W^T, the surrogate's
    /// mask being open for half of the potentials.
    pub fn part_grad(&self, g: &[E], at: usize, channels: usize, out: &mut [E]) {
        let Shape { d_out, d_in, length, .. } = self.shape;
        let weight = Matrix::new(self.weight, d_out, d_in);
        let entries = out.chunks_mut(channels * length).enumerate();
        let blocks = entries.flat_map(|(b, out)| out.chunks_mut(WIDTH * length).enumerate().map(move |(i, out)| (b, i * WIDTH, out)));
        for_each_with(
            blocks.collect(),
            || (),
            |(), _, (b, first, out)| {
                let rows = out.len() / length;
                let g = Matrix::new(&g[b * d_out * length..][..d_out * length], d_out, length);
                gemm(weight.columns(at + first, rows).transposed(), g, out, length, false);
            },
        );
    }

    /// The sums of the rows of the product's gradient.
    pub fn row_sums(&self, g: &[E], sums: &mut [f64]) {
        let length = self.shape.length;
        for_each_piece(sums, 1, |row, out| out[0] = sum(&g[row * length..][..length]));
    }
}

#[cfg(test)]
mod tests {
    use super::super::weight_grad::WeightGrad;
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

    /// A product of spikes, after which nothing follows.
    fn mixer<'a>(pool: &'a Arc<Pool<f64>>, parts: Vec<&'a Packed>, (weight, bias): (&'a [f64], &'a [f64]), shape: Shape) -> Mixer<'a, f64> {
        let parts = Parts::Spikes(Spikes { parts });
        Mixer { pool, parts, weight, bias, activation: None, dropout: None, residual: None, shape, kept: None }
    }

    fn dense(packed: &Packed) -> Vec<f64> {
        let mut out = vec![0.0; packed.shape().iter().product()];
        packed.expand(&mut out);
        out
    }

    #[test]
    fn spikes_of_every_rate_agree_with_the_sums_that_they_stand_for() {
        let cases = [
            (1, &[1][..], 1, 1),
            (2, &[16, 16], 16, 64),
            (3, &[5, 20], 7, 300),
            (9, &[33], 130, 65),
            (1, &[70, 3], 260, 257),
            (1, &[40], 20, 1030),
        ];
        for (batch, channels, d_out, length) in cases.into_iter().filter(|case| !cfg!(miri) || case.2 * case.3 <= 1024) {
            for rate in [0.0, 0.1, 0.9] {
                let d_in = channels.iter().sum();
                let shape = Shape { batch, d_out, d_in, length };
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
                let pool = Arc::new(Pool::for_scratch());
                let mixer = mixer(&pool, parts, (&weight, &bias), shape);
                mixer.forward(&mut out);
                let (mut gradient, mut sums) = (vec![f64::NAN; weight.len()], WeightGrad::new(&mixer));
                for sequences in [0..batch / 2, batch / 2..batch] {
                    sums.add(&mixer, sequences.clone(), &g[sequences.start * d_out * length..]);
                }
                sums.finish(&mixer, &mut gradient);
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

    #[test]
    fn a_step_alone_has_the_bits_of_a_step_among_others() {
        let (channels, d_out, length) = if cfg!(miri) { (20, 18, 9) } else { (70, 50, 37) };
        let together = spikes(3, [1, channels, length], 0.4);
        let mut alone = Packed::silent([length, channels, 1]);
        for (i, word) in alone.tiles_mut().enumerate() {
            word[0] = together.tile(0, i % tiles(channels))[i / tiles(channels)];
        }
        let (weight, bias) = (values(1, d_out * channels), values(2, d_out));
        let product = |packed: &Packed| {
            let [batch, d_in, length] = packed.shape();
            let mut out = vec![f64::NAN; batch * d_out * length];
            mixer(&Arc::new(Pool::for_scratch()), vec![packed], (&weight, &bias), Shape { batch, d_out, d_in, length }).forward(&mut out);
            out
        };
        let (together, alone) = (product(&together), product(&alone));
        for (i, v) in together.iter().enumerate() {
            assert_eq!(*v, alone[i % length * d_out + i / length]);
        }
    }
}
