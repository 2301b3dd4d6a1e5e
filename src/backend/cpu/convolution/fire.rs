//! From a convolution straight to the next spikes: skip, dropout, activation, affine and draw, while the sixteen rows are in the cache.
//!
//! Nothing but spikes comes out, and nothing is kept for the gradient: the potentials are computed again, which costs one inverse
//! transform, less than writing them to memory and reading them back.

use super::long_conv::{NegacyclicFfts, Operands, Prepared, Scratch, Sums, Unit, all_units, tasks};
use crate::backend::cpu::elementwise::{add, add_products, mask, multiply, to_masks, unary_in_place};
use crate::backend::cpu::random::uniform_next;
use crate::backend::cpu::spike_bits::{Packed, compare, tiles};
use crate::backend::cpu::spiking::spike::potential;
use crate::backend::cpu::transposed_rows::{CHUNK, ROWS, fold, gather, panel, repeated, scatter};
use crate::backend::host::simd::{Isa, dispatch};
use crate::backend::host::threads::for_each_with;
use crate::backend::unary::with_function;
use crate::backend::{Draw, Firing, Noise, Real, Surrogate, Unary, Words};

/// A firing for the sixteen rows of one unit.
struct Lanes<'a, E> {
    firing: &'a Firing<&'a [E]>,
    shape: [usize; 3],
    /// The first row.
    row: usize,
    /// Lanes with a channel.
    count: usize,
    /// For a chunk of entries: the affine, and what tied dropout multiplies with.
    scale: Vec<E>,
    shift: Vec<E>,
    tied: Vec<E>,
}

impl<'a, E: Real> Lanes<'a, E> {
    fn new(firing: &'a Firing<&'a [E]>, conv: &Prepared<'_, E>, shape: [usize; 3], batch: usize, tile: usize) -> Self {
        let own = conv.channels(tile);
        let row = batch * shape[1] + own.start;
        let (scale, shift) = match firing.affine {
            Some((scale, shift)) => (conv.lanes(scale, tile), conv.lanes(shift, tile)),
            None => ([E::one(); ROWS], [E::zero(); ROWS]),
        };
        let mut tied = [E::one(); ROWS];
        if let Some(dropout) = firing.dropout {
            let words = dropout.channels.rows(shape[0], shape[1]).first_words(row);
            tied.iter_mut().zip(words).for_each(|(tied, word)| *tied = mask(1.0 - dropout.p, E::unit(word)));
        }
        Lanes { firing, shape, row, count: own.len(), scale: repeated(scale), shift: repeated(shift), tied: repeated(tied) }
    }

    /// These rows of values (B, H, L).
    fn rows<'b>(&self, values: &'b [E]) -> &'b [E] {
        let length = self.shape[2];
        &values[self.row * length..][..self.count * length]
    }

    /// These rows of a draw.
    fn words(&self, draw: Draw) -> Words {
        draw.rows(self.shape[0], self.shape[1]).side_by_side::<ROWS>(self.row)
    }

    /// The words that decide which elements are dropped.
    fn dropping(&self) -> Option<Words> {
        self.firing.dropout.map(|dropout| self.words(dropout.elements))
    }

    /// The masks of the next entries: ones, without dropout.
    fn masks(&self, words: &mut Option<Words>, out: &mut [E]) {
        let Some((words, dropout)) = words.as_mut().zip(self.firing.dropout) else { return out.fill(E::one()) };
        uniform_next(words, out);
        to_masks(1.0 - dropout.p, out);
    }

    fn noise(&self) -> Entries<'a, E> {
        match self.firing.spike.noise {
            Noise::Stream(draw) => Entries::Drawn(self.words(draw)),
            Noise::Given(values) => Entries::Given { rows: self.rows(values), length: self.shape[2], at: 0 },
        }
    }

    /// The lanes that hold a channel, as bits.
    fn bits(&self) -> u16 {
        ((1u32 << self.count) - 1) as u16
    }
}

/// The uniform numbers of sixteen rows, entry after entry.
#[allow(clippy::large_enum_variant, reason = "one on the stack for each unit of work")]
enum Entries<'a, E> {
    Drawn(Words),
    Given { rows: &'a [E], length: usize, at: usize },
}

impl<E: Real> Entries<'_, E> {
    fn next(&mut self, out: &mut [E]) {
        match self {
            Entries::Drawn(words) => uniform_next(words, out),
            Entries::Given { rows, length, at } => {
                let out = out.as_chunks_mut::<ROWS>().0;
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
pub fn spikes<E: Real>(rings: &NegacyclicFfts<E>, operands: Operands<'_, E>, firing: Firing<&[E]>, packed: &mut Packed) {
    let count = tiles(operands.shape[1]);
    let units = packed.tiles_mut().enumerate().map(|(i, out)| Unit { tile: i % count, batch: i / count, out: Out::Bits(out) });
    let mut units: Vec<_> = units.collect();
    units.sort_by_key(|unit| (unit.tile, unit.batch));
    forward(&Prepared::new(rings, operands), operands.shape, &firing, units);
}

/// Expected spikes, (B, H, L).
pub fn expected<E: Real>(rings: &NegacyclicFfts<E>, operands: Operands<'_, E>, firing: Firing<&[E]>, out: &mut [E]) {
    let conv = Prepared::new(rings, operands);
    let units = conv.units(out).into_iter().map(|u| Unit { tile: u.tile, batch: u.batch, out: Out::Rows(u.out) }).collect();
    forward(&conv, operands.shape, &firing, units);
}

fn forward<E: Real>(conv: &Prepared<'_, E>, shape: [usize; 3], firing: &Firing<&[E]>, units: Vec<Unit<Out<'_, E>>>) {
    for_each_with(
        units,
        || conv.scratch(),
        |scratch, _, Unit { tile, batch, mut out }| {
            conv.apply(scratch, batch, tile, false);
            let lanes = Lanes::new(firing, conv, shape, batch, tile);
            let (mut noise, mut dropping) = (lanes.noise(), lanes.dropping());
            let mut other = [E::zero(); CHUNK * ROWS];
            for (i, y) in scratch.output.chunks_mut(CHUNK * ROWS).enumerate() {
                let other = &mut other[..y.len()];
                if dropping.is_some() {
                    lanes.masks(&mut dropping, other);
                    multiply(y, other);
                }
                if let Some(f) = firing.activation {
                    unary_in_place(f, y);
                }
                potentials(y, &lanes.tied, &lanes.scale, &lanes.shift);
                if let Out::Bits(words) = &mut out {
                    noise.next(other);
                    compare(y, other, lanes.bits(), &mut words[i * CHUNK..][..y.len() / ROWS]);
                }
            }
            if let Out::Rows(rows) = out {
                let one = |v: &mut E| {
                    *v = if *v < E::zero() {
                        E::zero()
                    } else if *v > E::one() {
                        E::one()
                    } else {
                        *v
                    }
                };
                scratch.output.iter_mut().for_each(one);
                scatter(panel(&scratch.output), shape[2], 0, rows);
            }
        },
    );
}

/// The gradients, each where it is wanted.
pub struct FireGrads<'a, E> {
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
struct Gradients<E: Real> {
    conv: Sums<E>,
    scale: [f64; ROWS],
    shift: [f64; ROWS],
}

/// The surrogate gradients for the spikes' gradient `g`, (B, H, L); `None` where that of the input is written over it.
pub fn fire_grad<E: Real>(
    rings: &NegacyclicFfts<E>,
    operands: Operands<'_, E>,
    firing: Firing<&[E]>,
    g: Option<&[E]>,
    wanted: FireGrads<'_, E>,
) {
    let conv = Prepared::new(rings, operands);
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
            let lanes = Lanes::new(&firing, &conv, operands.shape, batch, tile);
            let g = g.map_or(out.as_deref().unwrap_or(&[]), |g| lanes.rows(g));
            chunk.potential_grad(&lanes, g, scratch, sums);
            conv.grad(scratch, batch, tile, &mut sums.conv, input);
            if let Some(out) = out {
                scatter(panel(&scratch.output), length, 0, out);
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
    g: Vec<E>,
    /// Masks, then the uniform numbers.
    noise: Vec<E>,
    /// What the affine is applied to.
    activation: Vec<E>,
    /// Its derivative by y.
    derivative: Vec<E>,
    /// Partial sums of the affine's gradients.
    scale: Vec<E>,
    shift: Vec<E>,
}

impl<E: Real> Chunk<E> {
    fn new() -> Self {
        let [g, noise, activation, derivative, scale, shift] = [(); 6].map(|()| repeated([E::zero(); ROWS]));
        Chunk { g, noise, activation, derivative, scale, shift }
    }

    /// Replaces y in `scratch.output` by its gradient.
    fn potential_grad(&mut self, lanes: &Lanes<'_, E>, g: &[E], scratch: &mut Scratch<E>, sums: &mut Gradients<E>) {
        let Firing { activation, spike, .. } = lanes.firing;
        let (mut noise, mut dropping) = (lanes.noise(), lanes.dropping());
        self.scale.fill(E::zero());
        self.shift.fill(E::zero());
        for (i, y) in scratch.output.chunks_mut(CHUNK * ROWS).enumerate() {
            let n = y.len();
            let (own, a, d) = (&mut self.g[..n], &mut self.activation[..n], &mut self.derivative[..n]);
            gather(g, lanes.shape[2], i * CHUNK, n / ROWS, own.as_chunks_mut().0);
            lanes.masks(&mut dropping, &mut self.noise[..n]);
            match *activation {
                Some(f) => activation_with_derivative(f, y, &self.noise[..n], &lanes.tied, a, d),
                None => identity_with_derivative(y, &self.noise[..n], &lanes.tied, a, d),
            }
            if spike.has_noisy_grad() {
                noise.next(&mut self.noise[..n]);
                noisy_slopes(spike.surrogate, (a, &self.noise[..n]), (&lanes.scale, &lanes.shift), own);
            } else {
                clamp_slopes(a, &lanes.scale, &lanes.shift, own);
            }
            add_products(own, a, &mut self.scale);
            add(own, &mut self.shift);
            chain(own, d, &lanes.scale, y);
        }
        sums.scale.iter_mut().zip(fold(&self.scale)).for_each(|(sum, v)| *sum += v);
        sums.shift.iter_mut().zip(fold(&self.shift)).for_each(|(sum, v)| *sum += v);
    }
}

fn noisy_slopes<E: Real>(surrogate: Surrogate, (a, u): (&[E], &[E]), (scale, shift): (&[E], &[E]), g: &mut [E]) {
    for ((((g, &a), &u), &scale), &shift) in g.iter_mut().zip(a).zip(u).zip(scale).zip(shift) {
        *g *= surrogate.slope(potential(a, scale, shift) - u);
    }
}

dispatch! { fn potentials<E: Real>(x: &mut [E], tied: &[E], scale: &[E], shift: &[E]) = potentials_body; }
dispatch! {
    fn activation_with_derivative<E: Real>(f: Unary, y: &[E], mask: &[E], tied: &[E], a: &mut [E], d: &mut [E]) = activation_body;
}
dispatch! { fn identity_with_derivative<E: Real>(y: &[E], mask: &[E], tied: &[E], a: &mut [E], d: &mut [E]) = identity_body; }
dispatch! { fn clamp_slopes<E: Real>(a: &[E], scale: &[E], shift: &[E], g: &mut [E]) = clamp_body; }
dispatch! { fn chain<E: Real>(g: &[E], d: &[E], scale: &[E], out: &mut [E]) = chain_body; }

#[inline(always)]
fn potentials_body<I: Isa, E: Real>(x: &mut [E], tied: &[E], scale: &[E], shift: &[E]) {
    for (((x, &tied), &scale), &shift) in x.iter_mut().zip(tied).zip(scale).zip(shift) {
        *x = potential(*x * tied, scale, shift);
    }
}

/// a = tied f(mask y), d = da/dy.
#[inline(always)]
fn activation_body<I: Isa, E: Real>(f: Unary, y: &[E], mask: &[E], tied: &[E], a: &mut [E], d: &mut [E]) {
    with_function!(f, I, E, |f| {
        for ((((&y, &mask), &tied), a), d) in y.iter().zip(mask).zip(tied).zip(a).zip(d) {
            let (value, grad) = f(y * mask);
            *a = value() * tied;
            *d = grad(mask * tied);
        }
    });
}

/// a = tied mask y, d = da/dy.
#[inline(always)]
fn identity_body<I: Isa, E: Real>(y: &[E], mask: &[E], tied: &[E], a: &mut [E], d: &mut [E]) {
    for ((((&y, &mask), &tied), a), d) in y.iter().zip(mask).zip(tied).zip(a).zip(d) {
        *a = y * mask * tied;
        *d = mask * tied;
    }
}

/// g where 0 <= scale a + shift <= 1, else 0.
#[inline(always)]
fn clamp_body<I: Isa, E: Real>(a: &[E], scale: &[E], shift: &[E], g: &mut [E]) {
    for (((g, &a), &scale), &shift) in g.iter_mut().zip(a).zip(scale).zip(shift) {
        let y = potential(a, scale, shift);
        *g = if y >= E::zero() && y <= E::one() { *g } else { E::zero() };
    }
}

#[inline(always)]
fn chain_body<I: Isa, E: Real>(g: &[E], d: &[E], scale: &[E], out: &mut [E]) {
    for (((out, &g), &d), &scale) in out.iter_mut().zip(g).zip(d).zip(scale) {
        *out = g * scale * d;
    }
}
