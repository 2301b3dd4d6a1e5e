//! Random numbers: flat ones by blocks, those of a draw by rows.

use std::ops::Range;

use super::Cpu;
use crate::backend::host::threads::{PIECE, for_each_piece};
use crate::backend::rng::Rows;
use crate::backend::{Draw, Key, LANES, Noise, Random, Real, Tensor, Words, normal_f64, shape};
use crate::error::Result;

/// Uniform in [0, 1): element i from word i.
pub fn uniform<E: Real>(key: Key, out: &mut [E]) {
    for_each_piece(out, PIECE, |i, out| uniform_next(&mut key.words((i * PIECE) as u64), out));
}

/// The uniform numbers of a draw, (B, H, L).
pub fn draw_uniform<E: Real>(draw: Draw, [batch, channels, length]: [usize; 3], out: &mut [E]) {
    let rows = draw.rows(batch, channels);
    let count = PIECE.div_ceil(length.max(1));
    for_each_piece(out, count * length, |i, out| {
        out.chunks_mut(length).enumerate().for_each(|(j, out)| uniform_row(&rows, i * count + j, out));
    });
}

/// The uniform numbers of one row.
fn uniform_row<E: Real>(rows: &Rows, row: usize, out: &mut [E]) {
    if out.len() < LANES {
        out.iter_mut().zip(rows.row(row)).for_each(|(out, word)| *out = E::unit(word));
    } else {
        uniform_next(&mut rows.side_by_side::<1>(row), out);
    }
}

/// The uniform numbers of spikes (B, H, L), row by row.
pub enum Uniform<'a, E> {
    /// Those of a draw.
    Stream(Rows),
    /// Given ones.
    Given(&'a [E]),
}

impl<'a, E: Real> Uniform<'a, E> {
    /// Made ready for rows of this shape.
    pub fn new(noise: Noise<&'a [E]>, [batch, channels, _]: [usize; 3]) -> Self {
        match noise {
            Noise::Stream(draw) => Uniform::Stream(draw.rows(batch, channels)),
            Noise::Given(values) => Uniform::Given(values),
        }
    }

    /// Those of row `row`, of `length` entries, a piece at a time with the entries that it is for.
    ///
    /// What they are compared with comes from memory, which fetches ahead while the next piece is drawn.
    pub fn each_piece(&self, row: usize, length: usize, mut each: impl FnMut(Range<usize>, &[E])) {
        const ENTRIES: usize = 512;
        match self {
            Uniform::Given(values) => each(0..length, &values[row * length..][..length]),
            Uniform::Stream(rows) if length < LANES => {
                let mut u = [E::zero(); LANES];
                uniform_row(rows, row, &mut u[..length]);
                each(0..length, &u[..length]);
            }
            Uniform::Stream(rows) => {
                let (mut words, mut u) = (rows.side_by_side::<1>(row), [E::zero(); ENTRIES]);
                for start in (0..length).step_by(ENTRIES) {
                    let u = &mut u[..ENTRIES.min(length - start)];
                    uniform_next(&mut words, u);
                    each(start..start + u.len(), u);
                }
            }
        }
    }

    /// Those of row `row` into `out`, as long as the row is.
    pub fn row(&self, row: usize, out: &mut [E]) {
        match self {
            Uniform::Stream(rows) => uniform_row(rows, row, out),
            Uniform::Given(values) => out.copy_from_slice(&values[row * out.len()..][..out.len()]),
        }
    }
}

/// The next words of a stream as uniform numbers.
pub fn uniform_next<E: Real>(words: &mut Words, out: &mut [E]) {
    words.fill(out, E::unit);
}

/// Standard normal: element i from words 2i and 2i + 1.
pub fn normal<E: Real>(key: Key, out: &mut [E]) {
    for_each_piece(out, PIECE, |i, out| {
        let mut words = key.words(2 * (i * PIECE) as u64);
        for out in out.chunks_mut(LANES / 2) {
            let lanes = words.next_lanes();
            out.iter_mut().zip(lanes.as_chunks::<2>().0).for_each(|(out, pair)| *out = E::of(normal_f64(pair[0], pair[1])));
        }
    });
}

impl<E: Real> Random for Cpu<E> {
    fn uniform(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>> {
        shape::countable("uniform", shape)?;
        Ok(self.make(shape, |out| uniform(key, out)))
    }

    fn draw_uniform(&self, draw: Draw, shape: &[usize]) -> Result<Tensor<Self>> {
        shape::countable("draw_uniform", shape)?;
        let rows = shape::rows(shape);
        draw.check("draw_uniform", rows[0])?;
        Ok(self.make(shape, |out| draw_uniform(draw, rows, out)))
    }

    fn normal(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>> {
        shape::countable("normal", shape)?;
        Ok(self.make(shape, |out| normal(key, out)))
    }
}
