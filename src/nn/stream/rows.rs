//! Loops over the channels of one row, a time step of one stream, padded with zeros to whole tiles.

use crate::backend::host::simd::{Isa, dispatch};
use crate::backend::host::vectors::ROWS;
use crate::backend::unary::with_function;
use crate::backend::{Adaptation, Lif, Plif, Real, Unary};

dispatch! {
    /// out = scale x + shift, in two roundings as in the parallel pass.
    pub fn affine<E: Real>(x: &[E], scale: &[E], shift: &[E], out: &mut [E]) = affine_body;
}
dispatch! {
    /// x = f(x).
    pub fn apply<E: Real>(f: Unary, x: &mut [E]) = apply_body;
}
dispatch! {
    /// x += by.
    pub fn add<E: Real>(x: &mut [E], by: &[E]) = add_body;
}
dispatch! {
    /// x += factor by.
    pub fn add_times<E: Real>(x: &mut [E], factor: E, by: &[E]) = add_times_body;
}
dispatch! {
    /// The product of two rows.
    pub fn dot<E: Real>(x: &[E], y: &[E]) -> E = dot_body;
}
dispatch! {
    /// y > u as 0 or 1.
    pub fn exceed<E: Real>(y: &[E], u: &[E], out: &mut [E]) = exceed_body;
}
dispatch! {
    /// One step of leaky integrate-and-fire neurons: `carry` is what is left of their potentials, first of the step before, then of this.
    pub fn integrate<E: Real>(lif: &Lif, y: &[E], carry: &mut [E], out: &mut [E]) = integrate_body;
}
dispatch! {
    /// One step of neurons with a decay and a threshold each. Of each `carry` has what the decay multiplies, what the reset takes away, and
    /// how far the threshold is raised: (3, channels).
    pub fn integrate_each<E: Real>(neuron: &Plif, decay: &[E], threshold: &[E], y: &[E], carry: &mut [E], out: &mut [E]) = each_body;
}
dispatch! {
    /// Zeros and ones as bytes.
    fn to_bytes<E: Real>(lanes: &[E], out: &mut [u8]) = bytes_body;
}

#[inline(always)]
fn affine_body<I: Isa, E: Real>(x: &[E], scale: &[E], shift: &[E], out: &mut [E]) {
    for (((out, &x), &scale), &shift) in out.iter_mut().zip(x).zip(scale).zip(shift) {
        *out = scale * x + shift;
    }
}

#[inline(always)]
fn apply_body<I: Isa, E: Real>(f: Unary, x: &mut [E]) {
    with_function!(f, I, E, |f| x.iter_mut().for_each(|x| *x = f(*x).0()));
}

#[inline(always)]
fn add_body<I: Isa, E: Real>(x: &mut [E], by: &[E]) {
    x.iter_mut().zip(by).for_each(|(x, &by)| *x += by);
}

#[inline(always)]
fn add_times_body<I: Isa, E: Real>(x: &mut [E], factor: E, by: &[E]) {
    x.iter_mut().zip(by).for_each(|(x, &by)| *x = I::fma(factor, by, *x));
}

#[inline(always)]
fn dot_body<I: Isa, E: Real>(x: &[E], y: &[E]) -> E {
    let mut sums = [E::zero(); ROWS];
    for (x, y) in x.as_chunks::<ROWS>().0.iter().zip(y.as_chunks::<ROWS>().0) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum = I::fma(x[lane], y[lane], *sum);
        }
    }
    sums.into_iter().sum()
}

#[inline(always)]
fn exceed_body<I: Isa, E: Real>(y: &[E], u: &[E], out: &mut [E]) {
    for ((out, y), u) in out.iter_mut().zip(y).zip(u) {
        *out = if y > u { E::one() } else { E::zero() };
    }
}

#[inline(always)]
fn integrate_body<I: Isa, E: Real>(lif: &Lif, y: &[E], carry: &mut [E], out: &mut [E]) {
    let (decay, threshold) = (E::of(lif.decay), E::of(lif.threshold));
    // After a spike: a hard reset keeps nothing, a soft one all but the threshold.
    let (kept, taken) = if lif.soft_reset { (decay, threshold) } else { (E::zero(), E::zero()) };
    for ((out, carry), &y) in out.iter_mut().zip(carry).zip(y) {
        let v = *carry + y;
        let spike = v > threshold;
        *carry = if spike { kept * v - taken } else { decay * v };
        *out = if spike { E::one() } else { E::zero() };
    }
}

#[inline(always)]
fn each_body<I: Isa, E: Real>(neuron: &Plif, decay: &[E], threshold: &[E], y: &[E], carry: &mut [E], out: &mut [E]) {
    let Adaptation { strength, fading } = neuron.adaptation.unwrap_or(Adaptation { strength: 0.0, fading: 0.0 });
    let (strength, fading) = (E::of(strength), E::of(fading));
    let (kept, rest) = carry.split_at_mut(y.len());
    let (reset, raised) = rest.split_at_mut(y.len());
    for (h, ((out, kept), (reset, raised))) in out.iter_mut().zip(kept).zip(reset.iter_mut().zip(raised)).enumerate() {
        let theta = if neuron.adaptation.is_some() { threshold[h] + strength * *raised } else { threshold[h] };
        let v = decay[h] * *kept + y[h] - *reset;
        let spike = v > theta;
        *out = if spike { E::one() } else { E::zero() };
        *kept = if spike && !neuron.soft_reset { E::zero() } else { v };
        *reset = if spike && neuron.soft_reset { theta } else { E::zero() };
        *raised = fading * *raised + *out;
    }
}

#[inline(always)]
fn bytes_body<I: Isa, E: Real>(lanes: &[E], out: &mut [u8]) {
    out.iter_mut().zip(lanes).for_each(|(byte, &lane)| *byte = u8::from(lane > E::zero()));
}

/// A tile's zeros and ones as the bits of a word. In two loops: in one, the compiler takes a lane of sixteen words at a time.
pub fn to_bits<E: Real>(lanes: &[E], out: &mut [u16]) {
    let mut bytes = [0; 16 * ROWS];
    for (lanes, words) in lanes.chunks(bytes.len()).zip(out.chunks_mut(16)) {
        to_bytes(lanes, &mut bytes);
        for (word, [low, high]) in words.iter_mut().zip(bytes.as_chunks::<8>().0.as_chunks::<2>().0) {
            *word = u16::from_le_bytes([bits(low), bits(high)]);
        }
    }
}

/// Eight bytes of 0 or 1 as the bits of one: the product moves byte i to bit 56 + i, without carries.
fn bits(bytes: &[u8; 8]) -> u8 {
    (u64::from_le_bytes(*bytes).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}

/// Zeros and ones of a word's bits.
pub fn from_bits<E: Real>(words: &[u16], lanes: &mut [E]) {
    for (&word, lanes) in words.iter().zip(lanes.as_chunks_mut::<ROWS>().0) {
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane = if word >> i & 1 == 1 { E::one() } else { E::zero() };
        }
    }
}

/// The numbers of the bits that are set.
pub fn ones(words: &[u16]) -> impl Iterator<Item = usize> {
    let of = |(tile, &word): (usize, &u16)| {
        let mut left = word;
        std::iter::from_fn(move || {
            let lane = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(tile * ROWS + lane)
        })
    };
    words.iter().enumerate().flat_map(of)
}

/// A list, with zeros up to whole tiles.
pub fn padded<E: Real>(values: &[E]) -> Vec<E> {
    let mut padded = values.to_vec();
    padded.resize(values.len().next_multiple_of(ROWS), E::zero());
    padded
}
