//! SpikeSampler on rows: the affine, the draw and the surrogate gradient in one pass; and the leaky integrate-and-fire neuron.

use crate::backend::cpu::elementwise::{dot, sum};
use crate::backend::cpu::normalized::Normal;
use crate::backend::cpu::random::Uniform;
use crate::backend::cpu::spike_bits::{Packed, tiles};
use crate::backend::cpu::transposed_rows::ROWS;
use crate::backend::host::simd::{Isa, dispatch};
use crate::backend::host::threads::{PIECE, for_each_piece_with, for_each_with};
use crate::backend::{Lif, Real, Spike, SpikeMode};

/// The rows of x.
#[derive(Clone, Copy)]
pub enum Rows<'a, E> {
    /// As they lie in memory.
    Given(&'a [E]),
    /// Each made when it is its turn.
    Normalized(Normal<'a, E>),
}

/// Potentials y = scale x + shift, and what makes spikes of them.
#[derive(Clone, Copy)]
pub struct Potentials<'a, E> {
    /// The draw.
    pub spike: &'a Spike<&'a [E]>,
    /// x, (B, H, L).
    pub x: Rows<'a, E>,
    /// scale and shift, (H) each.
    pub affine: Option<(&'a [E], &'a [E])>,
    /// B, H, L.
    pub shape: [usize; 3],
}

impl<'a, E: Real> Potentials<'a, E> {
    fn uniform(&self) -> Uniform<'a, E> {
        Uniform::new(self.spike.noise, self.shape)
    }

    /// scale and shift of row `row`.
    fn affine(&self, row: usize) -> (E, E) {
        let h = row % self.shape[1];
        self.affine.map_or((E::one(), E::zero()), |(scale, shift)| (scale[h], shift[h]))
    }

    /// x of row `row`, where it must be made in `made`.
    fn row<'b>(&'b self, row: usize, made: &'b mut Vec<E>) -> &'b [E] {
        let length = self.shape[2];
        match &self.x {
            Rows::Given(x) => &x[row * length..][..length],
            Rows::Normalized(normal) => {
                made.resize(length, E::zero());
                normal.row(row, made);
                made
            }
        }
    }
}

/// Spikes, or their expectation.
pub fn spike<E: Real>(potentials: Potentials<'_, E>, out: &mut [E]) {
    let (uniform, length) = (potentials.uniform(), potentials.shape[2]);
    // Whole rows, and enough of them to be worth a task.
    let count = PIECE.div_ceil(length.max(1));
    for_each_piece_with(out, count * length, Vec::new, |made, i, out| {
        for (row, out) in (i * count..).zip(out.chunks_mut(length)) {
            let (x, (scale, shift)) = (potentials.row(row, made), potentials.affine(row));
            if potentials.spike.mode == SpikeMode::Expected {
                expected_row(x, scale, shift, out);
            } else {
                uniform.each_piece(row, length, |at, u| spike_row(&x[at.clone()], scale, shift, u, &mut out[at]));
            }
        }
    });
}

/// Spikes as bits.
pub fn pack<E: Real>(potentials: Potentials<'_, E>, packed: &mut Packed) {
    let [_, channels, length] = potentials.shape;
    let uniform = potentials.uniform();
    let work: Vec<&mut [u16]> = packed.tiles_mut().collect();
    for_each_with(work, Vec::new, |made, i, words| {
        let (b, first) = (i / tiles(channels), i % tiles(channels) * ROWS);
        for lane in 0..ROWS.min(channels - first) {
            let row = b * channels + first + lane;
            let (x, (scale, shift)) = (potentials.row(row, made), potentials.affine(row));
            uniform.each_piece(row, length, |at, u| pack_row(&x[at.clone()], scale, shift, u, lane as u32, &mut words[at]));
        }
    });
}

dispatch! { fn pack_row<E: Real>(x: &[E], scale: E, shift: E, u: &[E], lane: u32, words: &mut [u16]) = pack_body; }

#[inline(always)]
fn pack_body<I: Isa, E: Real>(x: &[E], scale: E, shift: E, u: &[E], lane: u32, words: &mut [u16]) {
    for ((word, &x), &u) in words.iter_mut().zip(x).zip(u) {
        *word |= u16::from(potential(x, scale, shift) > u) << lane;
    }
}

dispatch! { fn spike_row<E: Real>(x: &[E], scale: E, shift: E, u: &[E], out: &mut [E]) = spike_body; }
dispatch! { fn expected_row<E: Real>(x: &[E], scale: E, shift: E, out: &mut [E]) = expected_body; }

/// scale x + shift in two roundings, on every machine alike: whether y exceeds u must not depend on the vector width.
#[inline(always)]
pub fn potential<E: Real>(x: E, scale: E, shift: E) -> E {
    scale * x + shift
}

#[inline(always)]
fn spike_body<I: Isa, E: Real>(x: &[E], scale: E, shift: E, u: &[E], out: &mut [E]) {
    for ((out, &x), &u) in out.iter_mut().zip(x).zip(u) {
        *out = if potential(x, scale, shift) > u { E::one() } else { E::zero() };
    }
}

#[inline(always)]
fn expected_body<I: Isa, E: Real>(x: &[E], scale: E, shift: E, out: &mut [E]) {
    for (out, &x) in out.iter_mut().zip(x) {
        let y = potential(x, scale, shift);
        *out = if y < E::zero() {
            E::zero()
        } else if y > E::one() {
            E::one()
        } else {
            y
        };
    }
}

/// The gradients of a draw, each where it is wanted.
pub struct SpikeGrads<'a, E> {
    /// Of x's shape.
    pub x: Option<&'a mut [E]>,
    /// Whether x's is added to what is there.
    pub add: bool,
    /// (H).
    pub scale: Option<&'a mut [E]>,
    /// (H).
    pub shift: Option<&'a mut [E]>,
}

/// The surrogate gradients for the spikes' gradient `g`; `None` where that of x is written over it.
pub fn spike_grad<E: Real>(potentials: Potentials<'_, E>, g: Option<&[E]>, mut wanted: SpikeGrads<'_, E>) {
    let [batch, channels, length] = potentials.shape;
    let (spike, uniform) = (potentials.spike, potentials.uniform());
    let summed = wanted.scale.is_some() || wanted.shift.is_some();
    // Of every row the sum of gy x, and of gy. Rows are taken as they lie in memory, and added up channel by channel afterwards.
    let mut sums = vec![(0.0, 0.0); batch * channels];
    let count = PIECE.div_ceil(length.max(1));
    let mut gx = wanted.x.take().map(|gx| gx.chunks_mut((count * length).max(1)));
    let work = sums.chunks_mut(count).map(|sums| (sums, gx.as_mut().and_then(Iterator::next))).collect();
    let init = || (vec![E::zero(); length], vec![E::zero(); length], Vec::new());
    for_each_with(work, init, |(u, gy, made), i, (sums, mut gx)| {
        for (j, sums) in sums.iter_mut().enumerate() {
            let row = i * count + j;
            let x = potentials.row(row, made);
            let over = gx.as_deref().map_or(&[][..], |gx| &gx[j * length..][..length]);
            let g = g.map_or(over, |g| &g[row * length..][..length]);
            let (scale, shift) = potentials.affine(row);
            if spike.has_noisy_grad() {
                uniform.row(row, u);
            }
            surrogate_row(spike, x, scale, shift, u, g, gy);
            if summed {
                *sums = (dot(gy, x), sum(gy));
            }
            if let Some(gx) = &mut gx {
                let gx = &mut gx[j * length..][..length];
                if wanted.add { add_scaled_row(gy, scale, gx) } else { scaled_row(gy, scale, gx) }
            }
        }
    });
    let of_channel =
        |h: usize, pick: fn(&(f64, f64)) -> f64| E::of(sums.iter().skip(h).step_by(channels).map(pick).fold(0.0, std::ops::Add::add));
    if let Some(scale) = wanted.scale {
        scale.iter_mut().enumerate().for_each(|(h, out)| *out = of_channel(h, |sums| sums.0));
    }
    if let Some(shift) = wanted.shift {
        shift.iter_mut().enumerate().for_each(|(h, out)| *out = of_channel(h, |sums| sums.1));
    }
}

dispatch! { fn scaled_row<E: Real>(x: &[E], scale: E, out: &mut [E]) = scaled_body; }

#[inline(always)]
fn scaled_body<I: Isa, E: Real>(x: &[E], scale: E, out: &mut [E]) {
    out.iter_mut().zip(x).for_each(|(out, &x)| *out = x * scale);
}

dispatch! { fn add_scaled_row<E: Real>(x: &[E], scale: E, out: &mut [E]) = add_scaled_body; }

/// In two roundings, like a sum of two gradients that were made one after the other.
#[inline(always)]
fn add_scaled_body<I: Isa, E: Real>(x: &[E], scale: E, out: &mut [E]) {
    out.iter_mut().zip(x).for_each(|(out, &x)| *out += x * scale);
}

/// The gradient of y, row by row.
fn surrogate_row<E: Real>(spike: &Spike<&[E]>, x: &[E], scale: E, shift: E, u: &[E], g: &[E], out: &mut [E]) {
    if !spike.has_noisy_grad() {
        return clamp_grad(x, scale, shift, g, out);
    }
    for (((out, &x), &u), &g) in out.iter_mut().zip(x).zip(u).zip(g) {
        *out = g * spike.surrogate.slope(potential(x, scale, shift) - u);
    }
}

dispatch! { fn clamp_grad<E: Real>(x: &[E], scale: E, shift: E, g: &[E], out: &mut [E]) = clamp_grad_body; }

#[inline(always)]
fn clamp_grad_body<I: Isa, E: Real>(x: &[E], scale: E, shift: E, g: &[E], out: &mut [E]) {
    for ((out, &x), &g) in out.iter_mut().zip(x).zip(g) {
        let y = potential(x, scale, shift);
        *out = if y >= E::zero() && y <= E::one() { g } else { E::zero() };
    }
}

/// Spikes of a leaky integrate-and-fire neuron along rows.
pub fn lif<E: Real>(lif: &Lif, x: &[E], length: usize, out: &mut [E]) {
    for_each_piece_with(
        out,
        length,
        || (),
        |(), i, out| {
            let x = &x[i * length..][..length];
            run_lif(lif, x, |t, _, spike, _| out[t] = if spike { E::one() } else { E::zero() });
        },
    );
}

/// Its surrogate gradient: the reset carries none, so the potential's gradient decays back through the steps without a spike.
pub fn lif_grad<E: Real>(lif: &Lif, x: &[E], g: &[E], length: usize, out: &mut [E]) {
    for_each_piece_with(
        out,
        length,
        || (vec![E::zero(); length], vec![E::zero(); length]),
        |(slopes, keeps), i, out| {
            let (x, g) = (&x[i * length..][..length], &g[i * length..][..length]);
            run_lif(lif, x, |t, v, _, keep| {
                slopes[t] = lif.surrogate.slope(v - E::of(lif.threshold));
                keeps[t] = keep;
            });
            let mut later = E::zero();
            for t in (0..length).rev() {
                out[t] = g[t] * slopes[t] + later;
                later = keeps[t] * out[t];
            }
        },
    );
}

/// Runs the recurrence; `see(t, v, spike, keep)` gets the potential before the reset and how much of v[t-1] v[t] kept.
fn run_lif<E: Real>(lif: &Lif, x: &[E], mut see: impl FnMut(usize, E, bool, E)) {
    let (decay, threshold) = (E::of(lif.decay), E::of(lif.threshold));
    let (mut v, mut spike) = (E::zero(), false);
    for (t, &y) in x.iter().enumerate() {
        let keep = if spike && !lif.soft_reset { E::zero() } else { decay };
        let reset = if spike && lif.soft_reset { threshold } else { E::zero() };
        v = keep * v - reset + y;
        spike = v > threshold;
        see(t, v, spike, keep);
    }
}
