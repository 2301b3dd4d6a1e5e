//! SpikeSampler on rows: the affine, the draw and the surrogate gradient in one pass; and the leaky integrate-and-fire neuron.

use crate::backend::cpu::elementwise::{dot, sigmoid, sum};
use crate::backend::cpu::random::uniform_at;
use crate::backend::cpu::spike_bits::{Packed, tiles};
use crate::backend::cpu::transposed_rows::ROWS;
use crate::backend::host::simd::{Isa, dispatch};
use crate::backend::host::threads::{for_each_chunk_with, for_each_with};
use crate::backend::{Key, Lif, Real, SpikeMode, Surrogate};

/// Where the uniform numbers of a draw come from, as plain values.
#[derive(Clone, Copy)]
pub enum Uniform<'a, E> {
    /// A stream.
    Stream(Key),
    /// Given values.
    Given(&'a [E]),
}

impl<E: Real> Uniform<'_, E> {
    /// Elements `offset..` into `row`.
    fn fill(&self, offset: usize, row: &mut [E]) {
        match self {
            Uniform::Stream(key) => uniform_at(*key, offset as u64, row),
            Uniform::Given(values) => row.copy_from_slice(&values[offset..][..row.len()]),
        }
    }
}

/// A draw on plain values.
#[derive(Clone, Copy)]
pub struct Draw<'a, E> {
    /// The uniform numbers.
    pub uniform: Uniform<'a, E>,
    /// Spikes or expectation.
    pub mode: SpikeMode,
    /// The surrogate of sampled spikes.
    pub surrogate: Surrogate,
    /// scale and shift, (H) each: y = scale x + shift.
    pub affine: Option<(&'a [E], &'a [E])>,
    /// Elements of a row: one (batch, channel).
    pub row: usize,
}

impl<E: Real> Draw<'_, E> {
    /// scale and shift of row `row`.
    fn affine(&self, row: usize) -> (E, E) {
        self.affine.map_or((E::one(), E::zero()), |(scale, shift)| (scale[row % scale.len()], shift[row % shift.len()]))
    }

    /// Whether backward looks at the uniform numbers.
    fn noisy_gradient(&self) -> bool {
        self.mode == SpikeMode::Sampled && self.surrogate != Surrogate::Clamp
    }
}

/// Spikes, or their expectation.
pub fn spike<E: Real>(draw: Draw<'_, E>, x: &[E], out: &mut [E]) {
    for_each_chunk_with(
        out,
        draw.row,
        || vec![E::zero(); draw.row],
        |u, i, out| {
            let x = &x[i * draw.row..][..out.len()];
            let (scale, shift) = draw.affine(i);
            match draw.mode {
                SpikeMode::Expected => expected_row(x, scale, shift, out),
                SpikeMode::Sampled => {
                    let u = &mut u[..out.len()];
                    draw.uniform.fill(i * draw.row, u);
                    spike_row(x, scale, shift, u, out);
                }
            }
        },
    );
}

/// Spikes of (B, H, L) potentials as bits.
pub fn pack<E: Real>(draw: Draw<'_, E>, x: &[E], packed: &mut Packed) {
    let [_, channels, length] = packed.shape();
    let work: Vec<&mut [u16]> = packed.tiles_mut().collect();
    for_each_with(
        work,
        || vec![E::zero(); length],
        |u, i, words| {
            let (b, first) = (i / tiles(channels), i % tiles(channels) * ROWS);
            for lane in 0..ROWS.min(channels - first) {
                let row = b * channels + first + lane;
                let (scale, shift) = draw.affine(row);
                draw.uniform.fill(row * length, u);
                pack_row(&x[row * length..][..length], scale, shift, u, lane as u32, words);
            }
        },
    );
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
pub struct Wanted<'a, E> {
    /// Of x's shape.
    pub x: Option<&'a mut [E]>,
    /// (H).
    pub scale: Option<&'a mut [E]>,
    /// (H).
    pub shift: Option<&'a mut [E]>,
}

/// One channel's rows of the gradient of x, and its sums.
struct Channel<'a, E> {
    rows: Vec<&'a mut [E]>,
    scale: f64,
    shift: f64,
}

/// The surrogate gradients for the spikes' gradient `g`.
pub fn spike_grad<E: Real>(draw: Draw<'_, E>, x: &[E], g: &[E], wanted: Wanted<'_, E>) {
    let channels = draw.affine.map_or(x.len().div_ceil(draw.row.max(1)), |(scale, _)| scale.len());
    let mut work: Vec<Channel<'_, E>> = (0..channels).map(|_| Channel { rows: Vec::new(), scale: 0.0, shift: 0.0 }).collect();
    for (i, row) in wanted.x.into_iter().flat_map(|g| g.chunks_mut(draw.row)).enumerate() {
        work[i % channels].rows.push(row);
    }
    let sums = wanted.scale.is_some() || wanted.shift.is_some();
    let init = || (vec![E::zero(); draw.row], vec![E::zero(); draw.row]);
    for_each_with(work.iter_mut().collect(), init, |(u, gy), h, channel| {
        let rows = x.len().div_ceil(draw.row);
        for (b, i) in (h..rows).step_by(channels).enumerate() {
            let range = i * draw.row..((i + 1) * draw.row).min(x.len());
            let (x, g) = (&x[range.clone()], &g[range.clone()]);
            let (u, gy) = (&mut u[..x.len()], &mut gy[..x.len()]);
            let (scale, shift) = draw.affine(i);
            if draw.noisy_gradient() {
                draw.uniform.fill(range.start, u);
            }
            surrogate_row(draw.mode, draw.surrogate, x, scale, shift, u, g, gy);
            if sums {
                channel.scale += dot(gy, x);
                channel.shift += sum(gy);
            }
            if let Some(out) = channel.rows.get_mut(b) {
                out.iter_mut().zip(&*gy).for_each(|(out, &gy)| *out = gy * scale);
            }
        }
    });
    for (out, channel) in wanted.scale.into_iter().flatten().zip(&work) {
        *out = E::of(channel.scale);
    }
    for (out, channel) in wanted.shift.into_iter().flatten().zip(&work) {
        *out = E::of(channel.shift);
    }
}

/// The gradient of y, row by row.
#[allow(clippy::too_many_arguments)]
fn surrogate_row<E: Real>(mode: SpikeMode, surrogate: Surrogate, x: &[E], scale: E, shift: E, u: &[E], g: &[E], out: &mut [E]) {
    if mode == SpikeMode::Expected || surrogate == Surrogate::Clamp {
        return clamp_gradient(x, scale, shift, g, out);
    }
    for (((out, &x), &u), &g) in out.iter_mut().zip(x).zip(u).zip(g) {
        *out = g * slope(surrogate, potential(x, scale, shift) - u);
    }
}

dispatch! { fn clamp_gradient<E: Real>(x: &[E], scale: E, shift: E, g: &[E], out: &mut [E]) = clamp_gradient_body; }

#[inline(always)]
fn clamp_gradient_body<I: Isa, E: Real>(x: &[E], scale: E, shift: E, g: &[E], out: &mut [E]) {
    for ((out, &x), &g) in out.iter_mut().zip(x).zip(g) {
        let y = potential(x, scale, shift);
        *out = if y >= E::zero() && y <= E::one() { g } else { E::zero() };
    }
}

/// The surrogate's derivative at `d` = y - u (for [`Surrogate::Clamp`]: a window of one around 0).
pub fn slope<E: Real>(surrogate: Surrogate, d: E) -> E {
    match surrogate {
        Surrogate::Clamp => {
            if d >= E::of(-0.5) && d <= E::of(0.5) {
                E::one()
            } else {
                E::zero()
            }
        }
        Surrogate::Sigmoid { alpha } => {
            let z = E::of(alpha) * d;
            E::of(alpha) * sigmoid(z) * sigmoid(-z)
        }
        Surrogate::Atan { alpha } => {
            let z = E::of(std::f64::consts::FRAC_PI_2 * alpha) * d;
            E::of(0.5 * alpha) / (E::one() + z * z)
        }
        Surrogate::FastSigmoid { alpha } => {
            let z = E::one() + E::of(alpha) * d.abs();
            E::one() / (z * z)
        }
    }
}

/// Spikes of a leaky integrate-and-fire neuron along rows.
pub fn lif<E: Real>(lif: &Lif, x: &[E], length: usize, out: &mut [E]) {
    for_each_chunk_with(
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
    for_each_chunk_with(
        out,
        length,
        || (vec![E::zero(); length], vec![E::zero(); length]),
        |(slopes, keeps), i, out| {
            let (x, g) = (&x[i * length..][..length], &g[i * length..][..length]);
            run_lif(lif, x, |t, v, _, keep| {
                slopes[t] = slope(lif.surrogate, v - E::of(lif.threshold));
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
