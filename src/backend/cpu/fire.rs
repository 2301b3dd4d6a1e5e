//! From a convolution straight to the next spikes: skip, dropout, GELU, affine and draw, while the sixteen rows are in the cache.
//!
//! Nothing but spikes comes out, and nothing is kept for the gradient: the potentials are computed again, which costs one inverse
//! transform, less than writing them to memory and reading them back.

use super::conv::{Convolution, Operands, Rings, Scratch, Sums, Unit, all_units, tasks};
use super::elementwise::gelu;
use super::packed::{Packed, compare, tiles};
use super::panel::{Panel, ROWS, gather, scatter};
use super::random::uniform_next;
use super::simd::{Isa, dispatch};
use super::spike::{Uniform, potential, slope};
use super::threads::for_each_with;
use crate::backend::{Key, Real, SpikeMode, Surrogate, Words};

/// Entries that go through all steps before the next ones do.
const CHUNK: usize = 64;

/// What stands between y and the spikes, on plain values.
#[derive(Clone, Copy)]
pub struct Fire<'a, E> {
    /// Apply GELU.
    pub gelu: bool,
    /// The probability to drop, and the draws for elements and for channels.
    pub dropout: Option<(f64, Key, Key)>,
    /// scale and shift, (H).
    pub affine: Option<(&'a [E], &'a [E])>,
    /// The uniform numbers of the spikes.
    pub uniform: Uniform<'a, E>,
    /// Spikes or expectation.
    pub mode: SpikeMode,
    /// The surrogate of sampled spikes.
    pub surrogate: Surrogate,
}

/// A [`Fire`] for the sixteen rows of one unit.
struct Lanes<'a, E> {
    fire: &'a Fire<'a, E>,
    shape: [usize; 3],
    /// Of the first row's first element.
    first: usize,
    /// Lanes with a channel.
    count: usize,
    scale: [E; ROWS],
    shift: [E; ROWS],
    /// What tied dropout multiplies with.
    tied: [E; ROWS],
}

/// 0, or 1 / keep.
fn mask<E: Real>(keep: f64, u: E) -> E {
    if E::of(keep) > u { E::of(1.0 / keep) } else { E::zero() }
}

impl<'a, E: Real> Lanes<'a, E> {
    fn new(fire: &'a Fire<'a, E>, conv: &Convolution<'_, E>, shape: [usize; 3], batch: usize, tile: usize) -> Self {
        let own = conv.channels(tile);
        let row = batch * shape[1] + own.start;
        let (scale, shift) = match fire.affine {
            Some((scale, shift)) => (conv.lanes(scale, tile), conv.lanes(shift, tile)),
            None => ([E::one(); ROWS], [E::zero(); ROWS]),
        };
        let mut tied = [E::one(); ROWS];
        if let Some((p, _, channels)) = fire.dropout {
            let words = channels.words(row as u64).next_lanes();
            tied.iter_mut().zip(words).for_each(|(tied, word)| *tied = mask(1.0 - p, E::unit(word)));
        }
        Lanes { fire, shape, first: row * shape[2], count: own.len(), scale, shift, tied }
    }

    /// The stream's words of these rows.
    fn words(&self, key: Key) -> Words {
        key.interleaved(self.first as u64, self.shape[2] as u64, ROWS)
    }

    /// The words that decide which elements are dropped.
    fn dropping(&self) -> Option<Words> {
        self.fire.dropout.map(|(_, elements, _)| self.words(elements))
    }

    /// The masks of the next entries: ones, without dropout.
    fn masks(&self, words: &mut Option<Words>, out: &mut Panel<E>) {
        let Some((words, (p, _, _))) = words.as_mut().zip(self.fire.dropout) else { return out.fill([E::one(); ROWS]) };
        uniform_next(words, out.as_flattened_mut());
        out.as_flattened_mut().iter_mut().for_each(|u| *u = mask(1.0 - p, *u));
    }

    fn noise(&self) -> Noise<'a, E> {
        match self.fire.uniform {
            Uniform::Stream(key) => Noise::Stream(self.words(key)),
            Uniform::Given(values) => Noise::Given { rows: &values[self.first..][..self.count * self.shape[2]], length: self.shape[2], at: 0 },
        }
    }

    /// The lanes that hold a channel, as bits.
    fn bits(&self) -> u16 {
        ((1u32 << self.count) - 1) as u16
    }
}

/// The uniform numbers of sixteen rows, entry after entry.
enum Noise<'a, E> {
    Stream(Words),
    Given { rows: &'a [E], length: usize, at: usize },
}

impl<E: Real> Noise<'_, E> {
    fn next(&mut self, out: &mut Panel<E>) {
        match self {
            Noise::Stream(words) => uniform_next(words, out.as_flattened_mut()),
            Noise::Given { rows, length, at } => {
                for (t, lanes) in out.iter_mut().enumerate() {
                    let column = rows[*at + t..].iter().step_by(*length);
                    lanes.iter_mut().zip(column).for_each(|(lane, &v)| *lane = v);
                }
                *at += out.len();
            }
        }
    }
}

/// Where spikes, or their expectation, go.
enum Out<'a, E> {
    Bits(&'a mut [u16]),
    Rows(&'a mut [E]),
}

/// Spikes as bits.
pub fn spikes<E: Real>(rings: &Rings<E>, operands: Operands<'_, E>, fire: Fire<'_, E>, packed: &mut Packed) {
    let count = tiles(operands.shape[1]);
    let units = packed.tiles_mut().enumerate().map(|(i, out)| Unit { tile: i % count, batch: i / count, out: Out::Bits(out) });
    let mut units: Vec<_> = units.collect();
    units.sort_by_key(|unit| (unit.tile, unit.batch));
    forward(&Convolution::new(rings, operands), operands.shape, &fire, units);
}

/// Expected spikes, (B, H, L).
pub fn expected<E: Real>(rings: &Rings<E>, operands: Operands<'_, E>, fire: Fire<'_, E>, out: &mut [E]) {
    let conv = Convolution::new(rings, operands);
    let units = conv.units(out).into_iter().map(|u| Unit { tile: u.tile, batch: u.batch, out: Out::Rows(u.out) }).collect();
    forward(&conv, operands.shape, &fire, units);
}

fn forward<E: Real>(conv: &Convolution<'_, E>, shape: [usize; 3], fire: &Fire<'_, E>, units: Vec<Unit<Out<'_, E>>>) {
    for_each_with(units, || conv.scratch(), |scratch, _, Unit { tile, batch, mut out }| {
        conv.apply(scratch, batch, tile, false);
        let lanes = Lanes::new(fire, conv, shape, batch, tile);
        let (mut noise, mut dropping) = (lanes.noise(), lanes.dropping());
        let mut other = [[E::zero(); ROWS]; CHUNK];
        for (i, y) in scratch.output.panel_mut().chunks_mut(CHUNK).enumerate() {
            let other = &mut other[..y.len()];
            if dropping.is_some() {
                lanes.masks(&mut dropping, other);
                multiply(y.as_flattened_mut(), other.as_flattened());
            }
            activate(fire.gelu, y.as_flattened_mut());
            potentials(y, &lanes.tied, &lanes.scale, &lanes.shift);
            if let Out::Bits(words) = &mut out {
                noise.next(other);
                compare(y, other, lanes.bits(), &mut words[i * CHUNK..][..y.len()]);
            }
        }
        if let Out::Rows(rows) = out {
            let one = |v: &mut E| *v = if *v < E::zero() { E::zero() } else if *v > E::one() { E::one() } else { *v };
            scratch.output.iter_mut().for_each(one);
            scatter(scratch.output.panel(), shape[2], rows);
        }
    });
}

/// The gradients, each where it is wanted.
pub struct Wanted<'a, E> {
    /// (B, H, L).
    pub input: Option<&'a mut [E]>,
    /// (c, H, Lk), zero on entry.
    pub kernel: Option<&'a mut [E]>,
    /// (H).
    pub skip: Option<&'a mut [E]>,
    /// (H).
    pub scale: Option<&'a mut [E]>,
    /// (H).
    pub shift: Option<&'a mut [E]>,
}

/// One task's sums over batch entries.
struct Gradients<E> {
    conv: Sums<E>,
    scale: [f64; ROWS],
    shift: [f64; ROWS],
}

/// The surrogate gradients for the spikes' gradient `g`, (B, H, L).
pub fn backward<E: Real>(rings: &Rings<E>, operands: Operands<'_, E>, fire: Fire<'_, E>, g: &[E], wanted: Wanted<'_, E>) {
    let conv = Convolution::new(rings, operands);
    let [_, channels, length] = operands.shape;
    let (input, kernel, skip) = (wanted.input.is_some(), wanted.kernel.is_some(), wanted.skip.is_some());
    let units = match wanted.input {
        Some(out) => conv.units(out).into_iter().map(|u| Unit { tile: u.tile, batch: u.batch, out: Some(u.out) }).collect(),
        None => all_units(operands.shape),
    };
    let tasks = tasks(units);
    let empty = || Gradients { conv: conv.sums(kernel, skip), scale: [0.0; ROWS], shift: [0.0; ROWS] };
    let mut sums: Vec<_> = tasks.iter().map(|task| (task[0].tile, empty())).collect();
    let init = || (conv.scratch(), Chunk::new());
    for_each_with(tasks.into_iter().zip(&mut sums).collect(), init, |(scratch, chunk), _, (task, (_, sums))| {
        for Unit { tile, batch, out } in task {
            conv.apply(scratch, batch, tile, kernel);
            let lanes = Lanes::new(&fire, &conv, operands.shape, batch, tile);
            chunk.potential_gradient(&lanes, &g[lanes.first..][..lanes.count * length], scratch, sums);
            conv.adjoint(scratch, batch, tile, &mut sums.conv, input);
            if let Some(out) = out {
                scatter(scratch.output.panel(), length, out);
            }
        }
    });
    for (out, pick) in [(wanted.scale, (|g| g.scale) as fn(&Gradients<E>) -> [f64; ROWS]), (wanted.shift, |g| g.shift)] {
        let Some(out) = out else { continue };
        let mut totals = vec![0.0; tiles(channels) * ROWS];
        for (tile, sums) in &sums {
            totals[tile * ROWS..].iter_mut().zip(pick(sums)).for_each(|(total, v)| *total += v);
        }
        out.iter_mut().zip(totals).for_each(|(out, total)| *out = E::of(total));
    }
    conv.finish(sums.into_iter().map(|(tile, sums)| (tile, sums.conv)), wanted.kernel, wanted.skip);
}

/// The intermediate values of a few entries.
struct Chunk<E> {
    /// The spikes' gradient, then the potential's.
    g: Vec<[E; ROWS]>,
    /// Masks, then the uniform numbers.
    noise: Vec<[E; ROWS]>,
    /// What the affine is applied to.
    activation: Vec<[E; ROWS]>,
    /// Its derivative by y.
    derivative: Vec<[E; ROWS]>,
}

impl<E: Real> Chunk<E> {
    fn new() -> Self {
        let panel = || vec![[E::zero(); ROWS]; CHUNK];
        Chunk { g: panel(), noise: panel(), activation: panel(), derivative: panel() }
    }

    /// Replaces y in `scratch.output` by its gradient.
    fn potential_gradient(&mut self, lanes: &Lanes<'_, E>, g: &[E], scratch: &mut Scratch<E>, sums: &mut Gradients<E>) {
        let fire = lanes.fire;
        let length = lanes.shape[2];
        let noisy = fire.mode == SpikeMode::Sampled && fire.surrogate != Surrogate::Clamp;
        let (mut noise, mut dropping) = (lanes.noise(), lanes.dropping());
        for (i, y) in scratch.output.panel_mut().chunks_mut(CHUNK).enumerate() {
            let n = y.len();
            gather(g, length, i * CHUNK, n, &mut self.g[..n]);
            lanes.masks(&mut dropping, &mut self.noise[..n]);
            let operands = (&*y, &self.noise[..n], &lanes.tied);
            if fire.gelu {
                gelu_with_derivative(operands.0, operands.1, operands.2, &mut self.activation[..n], &mut self.derivative[..n]);
            } else {
                identity_with_derivative(operands.0, operands.1, operands.2, &mut self.activation[..n], &mut self.derivative[..n]);
            }
            if noisy {
                noise.next(&mut self.noise[..n]);
                self.noisy_slopes(lanes, n);
            } else {
                clamp_slopes(&self.activation[..n], &lanes.scale, &lanes.shift, &mut self.g[..n]);
            }
            sums.add(&self.g[..n], &self.activation[..n]);
            chain(&self.g[..n], &self.derivative[..n], &lanes.scale, y);
        }
    }

    fn noisy_slopes(&mut self, lanes: &Lanes<'_, E>, n: usize) {
        for t in 0..n {
            for lane in 0..ROWS {
                let y = potential(self.activation[t][lane], lanes.scale[lane], lanes.shift[lane]);
                self.g[t][lane] *= slope(lanes.fire.surrogate, y - self.noise[t][lane]);
            }
        }
    }
}

impl<E: Real> Gradients<E> {
    fn add(&mut self, g: &Panel<E>, activation: &Panel<E>) {
        let (with, alone) = chunk_sums(g, activation);
        for lane in 0..ROWS {
            self.scale[lane] += with[lane].f64();
            self.shift[lane] += alone[lane].f64();
        }
    }
}

dispatch! { fn multiply<E: Real>(x: &mut [E], by: &[E]) = multiply_body; }
dispatch! { fn activate<E: Real>(gelu: bool, x: &mut [E]) = activate_body; }
dispatch! { fn potentials<E: Real>(x: &mut Panel<E>, tied: &[E; ROWS], scale: &[E; ROWS], shift: &[E; ROWS]) = potentials_body; }
dispatch! {
    fn gelu_with_derivative<E: Real>(y: &Panel<E>, mask: &Panel<E>, tied: &[E; ROWS], a: &mut Panel<E>, d: &mut Panel<E>) = gelu_body;
}
dispatch! {
    fn identity_with_derivative<E: Real>(y: &Panel<E>, mask: &Panel<E>, tied: &[E; ROWS], a: &mut Panel<E>, d: &mut Panel<E>) = identity_body;
}
dispatch! { fn clamp_slopes<E: Real>(a: &Panel<E>, scale: &[E; ROWS], shift: &[E; ROWS], g: &mut Panel<E>) = clamp_body; }
dispatch! { fn chunk_sums<E: Real>(g: &Panel<E>, a: &Panel<E>) -> ([E; ROWS], [E; ROWS]) = chunk_sums_body; }
dispatch! { fn chain<E: Real>(g: &Panel<E>, d: &Panel<E>, scale: &[E; ROWS], out: &mut Panel<E>) = chain_body; }

#[inline(always)]
fn multiply_body<I: Isa, E: Real>(x: &mut [E], by: &[E]) {
    x.iter_mut().zip(by).for_each(|(x, &by)| *x *= by);
}

#[inline(always)]
fn activate_body<I: Isa, E: Real>(apply: bool, x: &mut [E]) {
    if apply {
        x.iter_mut().for_each(|x| *x = gelu(*x));
    }
}

#[inline(always)]
fn potentials_body<I: Isa, E: Real>(x: &mut Panel<E>, tied: &[E; ROWS], scale: &[E; ROWS], shift: &[E; ROWS]) {
    for x in x {
        for lane in 0..ROWS {
            x[lane] = potential(x[lane] * tied[lane], scale[lane], shift[lane]);
        }
    }
}

/// a = tied gelu(mask y), d = da/dy.
#[inline(always)]
fn gelu_body<I: Isa, E: Real>(y: &Panel<E>, mask: &Panel<E>, tied: &[E; ROWS], a: &mut Panel<E>, d: &mut Panel<E>) {
    for (((y, mask), a), d) in y.iter().zip(mask).zip(a).zip(d) {
        for lane in 0..ROWS {
            let x = y[lane] * mask[lane];
            let (cdf, pdf) = x.normal_cdf_pdf();
            a[lane] = x * cdf * tied[lane];
            d[lane] = (cdf + x * pdf) * (mask[lane] * tied[lane]);
        }
    }
}

/// a = tied mask y, d = da/dy.
#[inline(always)]
fn identity_body<I: Isa, E: Real>(y: &Panel<E>, mask: &Panel<E>, tied: &[E; ROWS], a: &mut Panel<E>, d: &mut Panel<E>) {
    for (((y, mask), a), d) in y.iter().zip(mask).zip(a).zip(d) {
        for lane in 0..ROWS {
            a[lane] = y[lane] * mask[lane] * tied[lane];
            d[lane] = mask[lane] * tied[lane];
        }
    }
}

/// g where 0 <= scale a + shift <= 1, else 0.
#[inline(always)]
fn clamp_body<I: Isa, E: Real>(a: &Panel<E>, scale: &[E; ROWS], shift: &[E; ROWS], g: &mut Panel<E>) {
    for (a, g) in a.iter().zip(g) {
        for lane in 0..ROWS {
            let y = potential(a[lane], scale[lane], shift[lane]);
            g[lane] = if y >= E::zero() && y <= E::one() { g[lane] } else { E::zero() };
        }
    }
}

/// Lane by lane, the sums of g a and of g.
#[inline(always)]
fn chunk_sums_body<I: Isa, E: Real>(g: &Panel<E>, a: &Panel<E>) -> ([E; ROWS], [E; ROWS]) {
    let (mut with, mut alone) = ([E::zero(); ROWS], [E::zero(); ROWS]);
    for (g, a) in g.iter().zip(a) {
        for lane in 0..ROWS {
            with[lane] = I::fma(g[lane], a[lane], with[lane]);
            alone[lane] += g[lane];
        }
    }
    (with, alone)
}

#[inline(always)]
fn chain_body<I: Isa, E: Real>(g: &Panel<E>, d: &Panel<E>, scale: &[E; ROWS], out: &mut Panel<E>) {
    for ((out, g), d) in out.iter_mut().zip(g).zip(d) {
        for lane in 0..ROWS {
            out[lane] = g[lane] * scale[lane] * d[lane];
        }
    }
}
