//! The long convolution: sixteen channels at a time as products in a [`NegacyclicFft`], the kernels' spectra shared by the batch.
//!
//! With N >= L points, 2N >= 2L - 1: lags 0..L-1 of the causal kernel lie at the polynomial's start, lags 1..L-1 of the anticausal
//! one at its end with the ring's sign, without overlap.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::negacyclic_fft::{NegacyclicFft, correlate};
use crate::backend::Real;
use crate::backend::cpu::buffer::{Buffer, Pool};
use crate::backend::cpu::derived::{Derived, Form, Kept, derived};
use crate::backend::cpu::elementwise::add_products;
use crate::backend::cpu::spike_bits::{Packed, Spread, tiles};
use crate::backend::cpu::transposed_rows::{Panel, ROWS, fold, gather, panel, panel_mut, repeated, scatter};
use crate::backend::host::threads::{for_each, for_each_with, map_with};

/// The rings of a device, by the length they serve, and where buffers come from.
pub struct NegacyclicFfts<E> {
    rings: Mutex<HashMap<usize, Arc<NegacyclicFft<E>>>>,
    pool: Arc<Pool<E>>,
}

impl<E: Real> NegacyclicFfts<E> {
    /// None yet.
    pub fn new(pool: &Arc<Pool<E>>) -> Self {
        NegacyclicFfts { rings: Mutex::default(), pool: pool.clone() }
    }

    fn get(&self, length: usize) -> Arc<NegacyclicFft<E>> {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        rings.entry(length).or_insert_with(|| Arc::new(NegacyclicFft::new(length))).clone()
    }
}

/// What a convolution reads: (B, H, L).
#[derive(Clone, Copy)]
pub enum Source<'a, E> {
    /// Any numbers.
    Rows(&'a [E]),
    /// Spikes.
    Spikes(&'a Packed),
}

/// A convolution's operands as plain rows.
#[derive(Clone, Copy)]
pub struct Operands<'a, E: Real> {
    /// u.
    pub input: Source<'a, E>,
    /// (c, H, Lk).
    pub kernel: &'a [E],
    /// Where the kernels' spectra are kept.
    pub kept: Option<&'a Kept<E>>,
    /// (H).
    pub skip: Option<&'a [E]>,
    /// True lengths.
    pub lengths: Option<&'a [usize]>,
    /// B, H, L.
    pub shape: [usize; 3],
    /// c and Lk.
    pub kernels: [usize; 2],
}

/// What one thread works in: panels of L entries and tiles.
pub struct Scratch<E: Real> {
    /// u.
    pub input: Buffer<E>,
    /// y, or its gradient.
    pub output: Buffer<E>,
    /// The spectrum of u.
    spectrum: Buffer<E>,
    work: Buffer<E>,
}

/// A convolution made ready.
pub struct Prepared<'a, E: Real> {
    operands: Operands<'a, E>,
    ring: Arc<NegacyclicFft<E>>,
    pool: Arc<Pool<E>>,
    /// Of every tile's kernels, divided by N.
    spectra: Derived<'a, E>,
    spread: Spread<E>,
}

impl<'a, E: Real> Prepared<'a, E> {
    /// Transforms the kernels, unless that was done before.
    pub fn new(rings: &NegacyclicFfts<E>, operands: Operands<'a, E>) -> Self {
        let ring = rings.get(operands.shape[2]);
        let pool = rings.pool.clone();
        let transformed = || {
            let init = || [(); 2].map(|()| pool.dirty(ROWS * ring.points()));
            map_with(tiles(operands.shape[1]), init, |[re, im], tile| {
                kernel_panels(&operands, tile, panel_mut(re), panel_mut(im));
                let mut spectrum = pool.dirty(ring.tile_len());
                ring.forward_complex(panel(re), panel(im), E::one() / E::of(ring.points() as f64), &mut spectrum);
                spectrum
            })
        };
        let ([_, channels, length], [sides, len]) = (operands.shape, operands.kernels);
        let spectra = derived(operands.kept, Form::Spectra { kernels: [sides, channels, len], length }, transformed);
        Prepared { operands, ring, pool, spectra, spread: Spread::new() }
    }

    /// Scratch for one thread.
    pub fn scratch(&self) -> Scratch<E> {
        let [input, output] = [(); 2].map(|()| self.pool.dirty(ROWS * self.operands.shape[2]));
        let [spectrum, work] = [(); 2].map(|()| self.pool.dirty(self.ring.tile_len()));
        Scratch { input, output, spectrum, work }
    }

    /// The channels of a tile.
    pub fn channels(&self, tile: usize) -> std::ops::Range<usize> {
        tile * ROWS..((tile + 1) * ROWS).min(self.operands.shape[1])
    }

    /// The values of the tile's channels, zero in lanes without a channel.
    pub fn lanes(&self, values: &[E], tile: usize) -> [E; ROWS] {
        let values = &values[self.channels(tile)];
        std::array::from_fn(|lane| values.get(lane).copied().unwrap_or(E::zero()))
    }

    fn skip(&self, tile: usize) -> Option<[E; ROWS]> {
        self.operands.skip.map(|skip| self.lanes(skip, tile))
    }

    fn true_length(&self, batch: usize) -> usize {
        self.operands.lengths.map_or(self.operands.shape[2], |lengths| lengths[batch])
    }

    /// u to `scratch.input`, zero behind the true length.
    fn read(&self, scratch: &mut Scratch<E>, batch: usize, tile: usize) {
        let [_, channels, length] = self.operands.shape;
        let count = self.true_length(batch);
        let out = panel_mut(&mut scratch.input);
        match self.operands.input {
            Source::Rows(rows) => {
                let own = self.channels(tile);
                gather(&rows[(batch * channels + own.start) * length..][..own.len() * length], length, 0, count, out);
            }
            Source::Spikes(packed) => self.spread.panel(&packed.tile(batch, tile)[..count], out),
        }
    }

    /// y to `scratch.output`; u stays in `scratch.input`, and its spectrum if it is to be `kept`.
    pub fn apply(&self, scratch: &mut Scratch<E>, batch: usize, tile: usize, kept: bool) {
        self.read(scratch, batch, tile);
        let Scratch { input, output, spectrum, work } = scratch;
        let kernel = &self.spectra[tile];
        if kept {
            self.ring.forward(panel(input), spectrum);
            self.ring.multiply_back(spectrum, kernel, false, work, panel_mut(output));
        } else {
            self.ring.convolve(panel(input), kernel, false, work, panel_mut(output));
        }
        if let Some(skip) = self.skip(tile) {
            add_scaled(input, skip, output);
        }
    }

    /// The spectrum of u alone, for [`Prepared::grad`].
    pub fn transform(&self, scratch: &mut Scratch<E>, batch: usize, tile: usize) {
        self.read(scratch, batch, tile);
        self.ring.forward(panel(&scratch.input), &mut scratch.spectrum);
    }

    /// With y's gradient in `scratch.output` and u with its spectrum as left by `apply` or `transform`: adds to the kernels' and the
    /// skip's gradients, and replaces y's gradient by u's, where they are wanted.
    pub fn grad(&self, scratch: &mut Scratch<E>, batch: usize, tile: usize, sums: &mut Sums<E>, input: bool) {
        let count = self.true_length(batch);
        let Scratch { input: u, output: g, spectrum, work } = scratch;
        if let Some(sum) = &mut sums.skip {
            let products = dot(g, u);
            sum.iter_mut().zip(products).for_each(|(sum, v)| *sum += v);
        }
        if sums.kernel.is_none() && !input {
            return;
        }
        let kernel = &self.spectra[tile];
        // u's panel and spectrum are not needed any more once they are used: they take u's gradient.
        if let Some(sum) = &mut sums.kernel {
            self.ring.forward(panel(g), work);
            correlate(sum, work, spectrum);
            if input {
                self.ring.multiply_back(work, kernel, true, spectrum, panel_mut(u));
            }
        } else {
            self.ring.convolve(panel(g), kernel, true, work, panel_mut(u));
        }
        if !input {
            return;
        }
        if let Some(skip) = self.skip(tile) {
            add_scaled(g, skip, u);
        }
        panel_mut(u)[count..].fill([E::zero(); ROWS]);
        std::mem::swap(u, g);
    }

    /// Work for every (tile, batch entry), tile after tile, with the tile's rows of `values`, (B, H, L).
    pub fn units<'b>(&self, values: &'b mut [E]) -> Vec<Unit<&'b mut [E]>> {
        let [batch, channels, length] = self.operands.shape;
        let mut units = Vec::with_capacity(batch * tiles(channels));
        for (b, rows) in values.chunks_exact_mut(channels * length).enumerate() {
            units.extend(rows.chunks_mut(ROWS * length).enumerate().map(|(tile, out)| Unit { tile, batch: b, out }));
        }
        units.sort_by_key(|unit| (unit.tile, unit.batch));
        units
    }

    /// Sums of gradients that are wanted.
    pub fn sums(&self, kernel: bool, skip: bool) -> Sums<E> {
        Sums { kernel: kernel.then(|| self.pool.zeros(self.ring.tile_len())), skip: skip.then_some([0.0; ROWS]) }
    }

    /// The gradients of kernels (zero on entry) and skip from the sums of all tasks, in order.
    pub fn finish(&self, work: impl IntoIterator<Item = (usize, Sums<E>)>, kernel: Option<&mut [E]>, skip: Option<&mut [E]>) {
        let mut parts: Vec<Vec<Sums<E>>> = Vec::new();
        parts.resize_with(tiles(self.operands.shape[1]), Vec::new);
        work.into_iter().for_each(|(tile, sums)| parts[tile].push(sums));
        let mut by_tile: Vec<Option<Sums<E>>> = parts.iter().map(|_| None).collect();
        for_each(by_tile.iter_mut().zip(parts).collect(), |_, (total, parts)| {
            *total = parts.into_iter().reduce(|mut sum, part| {
                sum.add(&part);
                sum
            });
        });
        if let Some(skip) = skip {
            for (tile, sums) in by_tile.iter().enumerate() {
                let Some(Sums { skip: Some(sum), .. }) = sums else { continue };
                skip[self.channels(tile)].iter_mut().zip(sum).for_each(|(out, &v)| *out = E::of(v));
            }
        }
        if let Some(kernel) = kernel {
            let totals: Vec<_> = by_tile.into_iter().map(|sums| sums.and_then(|sums| sums.kernel)).collect();
            self.kernel_grad(totals, kernel);
        }
    }

    /// From the sums of spectra to the kernels' rows.
    fn kernel_grad(&self, totals: Vec<Option<Buffer<E>>>, out: &mut [E]) {
        let channels = self.operands.shape[1];
        let len = self.operands.kernels[1];
        let (causal, anticausal) = taps(&self.operands);
        let mut rows: Vec<Vec<&mut [E]>> = totals.iter().map(|_| Vec::new()).collect();
        out.chunks_exact_mut(len).enumerate().for_each(|(i, row)| rows[i % channels / ROWS].push(row));
        let points = self.ring.points();
        let init = || [(); 2].map(|()| self.pool.dirty(ROWS * points));
        let scale = E::one() / E::of(points as f64);
        for_each_with(totals.into_iter().zip(rows).collect(), init, |[re, im], _, (total, mut rows)| {
            let Some(mut total) = total else { return };
            self.ring.inverse_complex(&mut total, panel_mut(re), panel_mut(im));
            let own = rows.len() / self.operands.kernels[0];
            for (row, out) in rows.iter_mut().enumerate() {
                let lane = row % own;
                if row < own {
                    out[..causal].iter_mut().zip(panel(re)).for_each(|(out, lanes)| *out = lanes[lane] * scale);
                } else {
                    out[..anticausal].iter_mut().zip(panel(im).iter().rev()).for_each(|(out, lanes)| *out = -lanes[lane] * scale);
                }
            }
        });
    }
}

/// One (tile, batch entry) with the buffers that it writes.
pub struct Unit<T> {
    /// The tile.
    pub tile: usize,
    /// The batch entry.
    pub batch: usize,
    /// Its part of the output.
    pub out: T,
}

/// Batch entries of one tile that share their sums: a fixed number, so that the result does not depend on the number of threads.
const ENTRIES: usize = 16;

/// Units of one tile that one task runs through, in order.
pub fn tasks<T>(units: Vec<Unit<T>>) -> Vec<Vec<Unit<T>>> {
    let mut tasks: Vec<Vec<Unit<T>>> = Vec::new();
    for unit in units {
        match tasks.last_mut() {
            Some(task) if task.len() < ENTRIES && task[0].tile == unit.tile => task.push(unit),
            _ => tasks.push(vec![unit]),
        }
    }
    tasks
}

/// One tile's sums over batch entries.
pub struct Sums<E: Real> {
    /// Of the kernels' gradient, as a spectrum.
    pub kernel: Option<Buffer<E>>,
    /// Of the skip's.
    pub skip: Option<[f64; ROWS]>,
}

impl<E: Real> Sums<E> {
    fn add(&mut self, other: &Sums<E>) {
        if let (Some(sum), Some(other)) = (&mut self.kernel, &other.kernel) {
            sum.iter_mut().zip(&**other).for_each(|(sum, &v)| *sum += v);
        }
        if let (Some(sum), Some(other)) = (&mut self.skip, &other.skip) {
            sum.iter_mut().zip(other).for_each(|(sum, v)| *sum += v);
        }
    }
}

/// The lags of the causal and of the anticausal kernel that reach an output.
fn taps<E: Real>(operands: &Operands<'_, E>) -> (usize, usize) {
    let [sides, len] = operands.kernels;
    let length = operands.shape[2];
    (len.min(length), if sides == 2 { len.min(length - 1) } else { 0 })
}

/// The tile's kernels as polynomials: causal lag m at m, anticausal lag m + 1 at 2N - 1 - m, negated.
fn kernel_panels<E: Real>(operands: &Operands<'_, E>, tile: usize, re: &mut Panel<E>, im: &mut Panel<E>) {
    let [_, channels, _] = operands.shape;
    let len = operands.kernels[1];
    let (causal, anticausal) = taps(operands);
    let own = tile * ROWS..((tile + 1) * ROWS).min(channels);
    gather(&operands.kernel[own.start * len..own.end * len], len, 0, causal, re);
    im.fill([E::zero(); ROWS]);
    if anticausal > 0 {
        gather(&operands.kernel[(channels + own.start) * len..(channels + own.end) * len], len, 0, anticausal, im);
        im.reverse();
        im.as_flattened_mut().iter_mut().for_each(|v| *v = -*v);
    }
}

/// y, (B, H, L).
pub fn long_conv<E: Real>(rings: &NegacyclicFfts<E>, operands: Operands<'_, E>, out: &mut [E]) {
    let conv = Prepared::new(rings, operands);
    for_each_with(
        conv.units(out),
        || conv.scratch(),
        |scratch, _, Unit { tile, batch, out }| {
            conv.apply(scratch, batch, tile, false);
            scatter(panel(&scratch.output), operands.shape[2], 0, out);
        },
    );
}

/// The gradients of a convolution, each where it is wanted.
pub struct LongConvGrads<'a, E> {
    /// (B, H, L).
    pub input: Option<&'a mut [E]>,
    /// (c, H, Lk), zero on entry.
    pub kernel: Option<&'a mut [E]>,
    /// (H).
    pub skip: Option<&'a mut [E]>,
}

/// The gradients for the output's gradient `g`, (B, H, L).
pub fn long_conv_grad<E: Real>(rings: &NegacyclicFfts<E>, operands: Operands<'_, E>, g: &[E], wanted: LongConvGrads<'_, E>) {
    let conv = Prepared::new(rings, operands);
    let length = operands.shape[2];
    let input = wanted.input.is_some();
    let units = match wanted.input {
        Some(out) => conv.units(out).into_iter().map(|u| Unit { tile: u.tile, batch: u.batch, out: Some(u.out) }).collect(),
        None => all_units(operands.shape),
    };
    let tasks = tasks(units);
    let (kernel, skip) = (wanted.kernel.is_some(), wanted.skip.is_some());
    let mut sums: Vec<_> = tasks.iter().map(|task| (task[0].tile, conv.sums(kernel, skip))).collect();
    for_each_with(
        tasks.into_iter().zip(&mut sums).collect(),
        || conv.scratch(),
        |scratch, _, (task, (_, sums))| {
            for Unit { tile, batch, out } in task {
                if kernel {
                    conv.transform(scratch, batch, tile);
                } else if skip {
                    conv.read(scratch, batch, tile);
                }
                let own = conv.channels(tile);
                let rows = &g[(batch * operands.shape[1] + own.start) * length..][..own.len() * length];
                gather(rows, length, 0, length, panel_mut(&mut scratch.output));
                conv.grad(scratch, batch, tile, sums, input);
                if let Some(out) = out {
                    scatter(panel(&scratch.output), length, 0, out);
                }
            }
        },
    );
    conv.finish(sums, wanted.kernel, wanted.skip);
}

/// Units that write nothing.
pub fn all_units<T>([batch, channels, _]: [usize; 3]) -> Vec<Unit<Option<T>>> {
    (0..tiles(channels)).flat_map(|tile| (0..batch).map(move |batch| Unit { tile, batch, out: None })).collect()
}

/// out += scale x, lane by lane.
fn add_scaled<E: Real>(x: &[E], scale: [E; ROWS], out: &mut [E]) {
    let table = repeated(scale);
    out.chunks_mut(table.len()).zip(x.chunks(table.len())).for_each(|(out, x)| add_products(x, &table, out));
}

/// The sums of the products, lane by lane: a table of partial sums in their own precision, joined in f64.
fn dot<E: Real>(x: &[E], y: &[E]) -> [f64; ROWS] {
    let mut sums = repeated([E::zero(); ROWS]);
    let size = sums.len();
    x.chunks(size).zip(y.chunks(size)).for_each(|(x, y)| add_products(x, y, &mut sums[..x.len()]));
    fold(&sums)
}
