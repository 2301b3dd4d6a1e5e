//! Sums over what spiked: rows of a matrix over the neurons that did, for every step; rows over the steps, for every neuron.
//!
//! Four bits have sixteen sums, which are added up once and looked up from then on ("the method of the four Russians": Arlazarov, Dinic,
//! Kronrod, Faradzhev 1970): a quarter of the additions that a matrix product takes, whatever spiked, and nothing branches on a spike. The
//! table of some neurons (or steps) and of a strip of output channels lies in the nearest cache while all steps (or neurons) go by. Matrices
//! are cut into strips of sixteen columns, one after another.

use pulp::{Simd, WithSimd};

use crate::backend::Real;
use crate::backend::cpu::spike_bits::by_channel;
use crate::backend::cpu::transposed_rows::{ROWS, gather, panel_mut};
use crate::backend::host::vectors::Vectors;

/// Output channels of a block.
pub const WIDTH: usize = 8 * ROWS;

/// The most steps of a stretch of the product: for each a table is made anew.
pub const STEPS: usize = 1024;

/// Steps whose gradients are in one table: the bits of a mask.
pub const NEAR: usize = 64;

/// Fewer steps are not worth a table.
const FEW: usize = 8;

/// Bytes of a table, which leave room for other things in the nearest cache.
const NEAREST: usize = 32 << 10;

/// Numbers in a table.
pub const fn table<E>() -> usize {
    NEAREST / size_of::<E>()
}

/// Bits that are looked up together, and their sums.
const BITS: usize = 4;
const SUMS: usize = 1 << BITS;

/// Tables of a word.
const TABLES: usize = ROWS / BITS;

/// Steps whose words lie in one of 64 bits.
const QUAD: usize = 4;

/// The words of tiles at steps `from..to`, four steps in one, the first of them lowest: (steps / 4, tiles), zero behind the last step.
pub fn quads(words: &[&[u16]], from: usize, to: usize, out: &mut Vec<u64>) {
    let tiles = words.len();
    out.clear();
    out.resize((to - from).div_ceil(QUAD) * tiles, 0);
    for (tile, words) in words.iter().enumerate() {
        let quads = words[from..to].chunks(QUAD).map(|four| four.iter().rev().fold(0, |quad, &word| quad << 16 | u64::from(word)));
        out[tile..].iter_mut().step_by(tiles).zip(quads).for_each(|(out, quad)| *out = quad);
    }
}

/// `G` times sixteen numbers, of `P` vectors each.
type Strip<S, E, const P: usize, const G: usize> = [[<E as Vectors>::Vector<S>; P]; G];

/// Runs `op` for strips of the block, from sixteen `first` on: of sixteen channels each, or, of vectors that hold as many, of two where they
/// are there; for so many rows at a time that no addition waits for the one before.
macro_rules! for_each_strip {
    ($op:expr, $s:expr, $width:expr) => {{
        let (mut op, sixteens) = ($op, $width / ROWS);
        let mut first = 0;
        while first < sixteens {
            match E::count::<S>() {
                16 if first + 1 < sixteens => op.strip::<S, 1, 2, 4>($s, first),
                16 => op.strip::<S, 1, 1, 4>($s, first),
                8 => op.strip::<S, 2, 1, 4>($s, first),
                4 => op.strip::<S, 4, 1, 2>($s, first),
                2 => op.strip::<S, 8, 1, 1>($s, first),
                _ => op.strip::<S, 16, 1, 1>($s, first),
            }
            first += if E::count::<S>() == 16 { 2 } else { 1 };
        }
    }};
}

/// For every step, the sum of the rows of the neurons that spiked.
pub struct AddRows<'a, E> {
    /// (width / 16, padded channels, 16).
    pub weights: &'a [E],
    /// What the sums start from, (width), sixteens of at most [`WIDTH`] channels.
    pub start: &'a [E],
    /// The words of every tile, as [`quads`] puts them.
    pub words: &'a [u64],
    /// How many tiles and steps there are.
    pub sizes: [usize; 2],
    /// (width / 16, steps, 16).
    pub sums: &'a mut [E],
    /// Room for [`table`] numbers.
    pub table: &'a mut [E],
}

impl<E: Real> WithSimd for AddRows<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let width = self.start.len();
        for_each_strip!(self, s, width);
    }
}

impl<E: Real> AddRows<'_, E> {
    /// The sums of `G` sixteens from `first` on, `T` steps at a time.
    #[inline(always)]
    fn strip<S: Simd, const P: usize, const G: usize, const T: usize>(&mut self, s: S, first: usize) {
        let [tiles, steps] = self.sizes;
        let padded = tiles * ROWS;
        let rows = &E::vectors::<S>(self.weights).as_chunks::<P>().0[first * padded..];
        let table = E::vectors_mut::<S>(self.table).as_chunks_mut::<P>().0.as_chunks_mut::<G>().0;
        let sums = &mut E::vectors_mut::<S>(self.sums).as_chunks_mut::<P>().0[first * steps..][..G * steps];
        for (g, &start) in E::vectors::<S>(self.start).as_chunks::<P>().0[first..][..G].iter().enumerate() {
            sums[g * steps..][..steps].fill(start);
        }
        let at_once = table.len() / (TABLES * SUMS);
        for first in (0..tiles).step_by(at_once) {
            let (rows, count) = (&rows[first * ROWS..], at_once.min(tiles - first));
            let words = |t: usize| &self.words[t / QUAD * tiles + first..][..count];
            if steps < FEW {
                (0..steps).for_each(|t| add_one_by_one::<S, E, P, G>(s, rows, padded, words(t), sums, t));
                continue;
            }
            for (i, table) in table.as_chunks_mut::<SUMS>().0.iter_mut().take(count * TABLES).enumerate() {
                fill::<S, E, P, G>(s, &rows[i * BITS..], padded, table);
            }
            let (table, whole) = (table.as_chunks().0, steps / T * T);
            for t in (0..whole).step_by(T) {
                add_looked_up::<S, E, P, G, T>(s, table, words(t), sums, t);
            }
            for t in whole..steps {
                add_looked_up::<S, E, P, G, 1>(s, table, words(t), sums, t);
            }
        }
    }
}

/// All sums of the first four rows of `G` strips, which lie `stride` apart: entry e is that of the rows of e's bits.
#[inline(always)]
fn fill<S: Simd, E: Real, const P: usize, const G: usize>(
    s: S,
    rows: &[[E::Vector<S>; P]],
    stride: usize,
    sums: &mut [Strip<S, E, P, G>; SUMS],
) {
    sums[0] = [[E::splat(s, E::zero()); P]; G];
    for bit in 0..BITS {
        for g in 0..G {
            let row = rows[g * stride + bit];
            for rest in 0..1 << bit {
                for p in 0..P {
                    sums[(1 << bit) + rest][g][p] = E::plus(s, row[p], sums[rest][g][p]);
                }
            }
        }
    }
}

/// The sums of `T` rows from `at` on, out of (G, rows).
#[inline(always)]
fn take<S: Simd, E: Real, const P: usize, const G: usize, const T: usize>(
    s: S,
    sums: &[[E::Vector<S>; P]],
    at: usize,
) -> [Strip<S, E, P, G>; T] {
    let mut own = [[[E::splat(s, E::zero()); P]; G]; T];
    for j in 0..T {
        for g in 0..G {
            own[j][g] = sums[g * (sums.len() / G) + at + j];
        }
    }
    own
}

/// Back to where [`take`] had them from.
#[inline(always)]
fn put<S: Simd, E: Real, const P: usize, const G: usize, const T: usize>(
    own: &[Strip<S, E, P, G>; T],
    sums: &mut [[E::Vector<S>; P]],
    at: usize,
) {
    let rows = sums.len() / G;
    for j in 0..T {
        for g in 0..G {
            sums[g * rows + at + j] = own[j][g];
        }
    }
}

#[inline(always)]
fn add<S: Simd, E: Real, const P: usize, const G: usize>(s: S, row: &Strip<S, E, P, G>, sum: &mut Strip<S, E, P, G>) {
    for g in 0..G {
        for p in 0..P {
            sum[g][p] = E::plus(s, sum[g][p], row[g][p]);
        }
    }
}

/// Adds to the sums, (G, rows), of `T` rows from `t` on, all of one quad, what the tables have for their words.
#[inline(always)]
fn add_looked_up<S: Simd, E: Real, const P: usize, const G: usize, const T: usize>(
    s: S,
    tables: &[[Strip<S, E, P, G>; TABLES * SUMS]],
    words: &[u64],
    sums: &mut [[E::Vector<S>; P]],
    t: usize,
) {
    let mut own: [Strip<S, E, P, G>; T] = take::<S, E, P, G, T>(s, sums, t);
    for (table, words) in tables.iter().zip(words) {
        let words = words >> (t % QUAD * 16);
        for group in 0..TABLES {
            for j in 0..T {
                let row = &table[group * SUMS + (words >> (16 * j + group * BITS)) as usize % SUMS];
                add::<S, E, P, G>(s, row, &mut own[j]);
            }
        }
    }
    put::<S, E, P, G, T>(&own, sums, t);
}

/// The same for step `t` without tables, in the same order.
#[inline(always)]
fn add_one_by_one<S: Simd, E: Real, const P: usize, const G: usize>(
    s: S,
    rows: &[[E::Vector<S>; P]],
    stride: usize,
    words: &[u64],
    sums: &mut [[E::Vector<S>; P]],
    t: usize,
) {
    let steps = sums.len() / G;
    for (tile, words) in words.iter().enumerate() {
        for group in 0..TABLES {
            let mut bits = words >> (t % QUAD * 16 + group * BITS) & (SUMS as u64 - 1);
            let mut four = [[E::splat(s, E::zero()); P]; G];
            while bits != 0 {
                let k = tile * ROWS + group * BITS + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                for g in 0..G {
                    for p in 0..P {
                        four[g][p] = E::plus(s, rows[g * stride + k][p], four[g][p]);
                    }
                }
            }
            for g in 0..G {
                for p in 0..P {
                    sums[g * steps + t][p] = E::plus(s, sums[g * steps + t][p], four[g][p]);
                }
            }
        }
    }
}

/// `count` steps of rows from `start` on, as (rows / 16, NEAR, 16).
pub fn time_major<E: Real>(rows: &[E], length: usize, start: usize, count: usize, out: &mut [E]) {
    for (rows, out) in rows.chunks(ROWS * length).zip(panel_mut(out).chunks_exact_mut(NEAR)) {
        gather(rows, length, start, count, out);
    }
}

/// At which of at most [`NEAR`] steps four neurons spiked: for every sixteen steps a word of each neuron, as in [`quads`].
pub type Mask = [u64; NEAR / 16];

/// How many masks there are for so many channels.
pub const fn mask_count(padded: usize) -> usize {
    padded / QUAD
}

/// The masks of all neurons of the tiles.
pub fn masks<'a>(words: &'a [&[u16]]) -> impl Iterator<Item = Mask> + 'a {
    words.iter().flat_map(|words| {
        let mut all = [0; NEAR];
        all[..words.len()].copy_from_slice(words);
        let steps = by_channel(&all);
        std::array::from_fn::<Mask, { ROWS / QUAD }, _>(|i| {
            let four = &steps[i * QUAD..][..QUAD];
            std::array::from_fn(|q| four.iter().rev().fold(0, |quad, &steps| quad << 16 | u64::from((steps >> (16 * q)) as u16)))
        })
    })
}

/// For every neuron, the sum of g over the steps at which it spiked, added to `sums`.
pub struct AddSteps<'a, E> {
    /// (width / 16, NEAR, 16): g.
    pub near: &'a [E],
    /// Output channels of the block.
    pub width: usize,
    /// How many of the NEAR steps there are.
    pub count: usize,
    /// Of all padded channels.
    pub masks: &'a [Mask],
    /// (width / 16, padded channels, 16).
    pub sums: &'a mut [E],
    /// Room for [`table`] numbers.
    pub table: &'a mut [E],
}

impl<E: Real> WithSimd for AddSteps<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let width = self.width;
        for_each_strip!(self, s, width);
    }
}

impl<E: Real> AddSteps<'_, E> {
    /// The sums of `G` sixteens from `first` on, of `T` neurons at a time.
    #[inline(always)]
    fn strip<S: Simd, const P: usize, const G: usize, const T: usize>(&mut self, s: S, first: usize) {
        let padded = self.masks.len() * QUAD;
        let near = &E::vectors::<S>(self.near).as_chunks::<P>().0[first * NEAR..];
        let sums = &mut E::vectors_mut::<S>(self.sums).as_chunks_mut::<P>().0[first * padded..][..G * padded];
        let table = E::vectors_mut::<S>(self.table).as_chunks_mut::<P>().0.as_chunks_mut::<G>().0;
        let words = self.count.div_ceil(ROWS);
        for (i, table) in table.as_chunks_mut::<SUMS>().0.iter_mut().take(words * TABLES).enumerate() {
            fill::<S, E, P, G>(s, &near[i * BITS..], NEAR, table);
        }
        let tables = &table.as_chunks().0[..words];
        for (i, mask) in self.masks.iter().enumerate().filter(|(_, mask)| **mask != Mask::default()) {
            for k in (i * QUAD..(i + 1) * QUAD).step_by(T) {
                add_looked_up::<S, E, P, G, T>(s, tables, &mask[..words], sums, k);
            }
        }
    }
}
