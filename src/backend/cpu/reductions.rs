//! Extremes, products, places of maxima, running sums, and the softmax in one pass a row.

use std::ops::Range;

use super::elementwise::{COLUMNS, dot, for_each_columns, multiply, over_axes, sum, sum_axis};
use super::{Cpu, values};
use crate::backend::host::simd::{Isa, dispatch};
use crate::backend::host::threads::{PIECE, for_each_piece};
use crate::backend::{Real, Reduction, Reductions, Tensor, shape};
use crate::error::Result;

/// x (of this shape) reduced over `axes`.
pub fn reduce<E: Real>(kind: Reduction, x: &[E], shape: &[usize], axes: &[usize]) -> Vec<E> {
    let is_reduced = |axis| axes.contains(&axis);
    match kind {
        Reduction::Max => over_axes(x, shape, is_reduced, |x, sizes| extremes::<E, true>(x, sizes)),
        Reduction::Min => over_axes(x, shape, is_reduced, |x, sizes| extremes::<E, false>(x, sizes)),
        Reduction::Prod => over_axes(x, shape, is_reduced, products),
    }
}

/// The largest or the smallest values over the middle axis of (outer, len, inner).
fn extremes<E: Real, const LARGEST: bool>(x: &[E], [outer, len, inner]: [usize; 3]) -> Vec<E> {
    let mut out = vec![E::zero(); outer * inner];
    if x.is_empty() {
        return out;
    }
    if inner == 1 {
        for_each_row(&mut out, x, len, |row, out| *out = extreme::<E, LARGEST>(row));
        return out;
    }
    for_each_columns(x, [len, inner], &mut out, |rows, out| {
        out.fill(if LARGEST { E::neg_infinity() } else { E::infinity() });
        rows.for_each(|row| if LARGEST { keep_largest(row, out) } else { keep_smallest(row, out) });
    });
    out
}

/// Calls `f(row, out)` for every row of `len` values and the element of `out` that it is reduced to.
fn for_each_row<E: Real>(out: &mut [E], x: &[E], len: usize, f: impl Fn(&[E], &mut E) + Sync + Send) {
    let rows = PIECE.div_ceil(len);
    for_each_piece(out, rows, |i, out| {
        out.iter_mut().zip(x[i * rows * len..].chunks_exact(len)).for_each(|(out, row)| f(row, out));
    });
}

/// The more extreme one; NaN where either is NaN.
#[inline(always)]
fn more<E: Real, const LARGEST: bool>(so_far: E, v: E) -> E {
    let beyond = if LARGEST { v > so_far } else { v < so_far };
    if beyond || v.is_nan() { v } else { so_far }
}

/// The extreme of a row that is not empty.
fn extreme<E: Real, const LARGEST: bool>(row: &[E]) -> E {
    if LARGEST { largest(row) } else { smallest(row) }
}

dispatch! { fn largest<E: Real>(row: &[E]) -> E = largest_body; }
dispatch! { fn smallest<E: Real>(row: &[E]) -> E = smallest_body; }

#[inline(always)]
fn largest_body<I: Isa, E: Real>(row: &[E]) -> E {
    extreme_in_lanes::<E, true>(row)
}

#[inline(always)]
fn smallest_body<I: Isa, E: Real>(row: &[E]) -> E {
    extreme_in_lanes::<E, false>(row)
}

const LANES: usize = 32;

#[inline(always)]
fn extreme_in_lanes<E: Real, const LARGEST: bool>(row: &[E]) -> E {
    let start = if LARGEST { E::neg_infinity() } else { E::infinity() };
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut lanes = [start; LANES];
    for chunk in whole {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane = more::<E, LARGEST>(*lane, v);
        }
    }
    lanes.iter().chain(rest).fold(start, |so_far, &v| more::<E, LARGEST>(so_far, v))
}

dispatch! { fn keep_largest<E: Real>(row: &[E], out: &mut [E]) = keep_largest_body; }
dispatch! { fn keep_smallest<E: Real>(row: &[E], out: &mut [E]) = keep_smallest_body; }

#[inline(always)]
fn keep_largest_body<I: Isa, E: Real>(row: &[E], out: &mut [E]) {
    out.iter_mut().zip(row).for_each(|(out, &v)| *out = more::<E, true>(*out, v));
}

#[inline(always)]
fn keep_smallest_body<I: Isa, E: Real>(row: &[E], out: &mut [E]) {
    out.iter_mut().zip(row).for_each(|(out, &v)| *out = more::<E, false>(*out, v));
}

/// Products over the middle axis of (outer, len, inner), in f64.
fn products<E: Real>(x: &[E], [outer, len, inner]: [usize; 3]) -> Vec<E> {
    let mut out = vec![E::one(); outer * inner];
    if x.is_empty() {
        return out;
    }
    if inner == 1 {
        for_each_row(&mut out, x, len, |row, out| *out = E::of(row.iter().map(|v| v.f64()).product()));
        return out;
    }
    for_each_columns(x, [len, inner], &mut out, |rows, out| {
        let mut totals = [1.0f64; COLUMNS];
        let totals = &mut totals[..out.len()];
        rows.for_each(|row| totals.iter_mut().zip(row).for_each(|(total, v)| *total *= v.f64()));
        out.iter_mut().zip(totals).for_each(|(out, total)| *out = E::of(*total));
    });
    out
}

/// The places of the largest values along the middle axis.
pub fn argmax<E: Real>(x: &[E], [_, len, inner]: [usize; 3], out: &mut [E]) {
    if inner == 1 {
        return for_each_row(out, x, len, |row, out| *out = E::of(place_of_largest(row) as f64));
    }
    for_each_piece(out, inner, |outer, places| {
        let x = &x[outer * len * inner..][..len * inner];
        let mut best = x[..inner].to_vec();
        places.fill(E::zero());
        for (place, row) in x.chunks_exact(inner).enumerate() {
            let place = E::of(place as f64);
            for ((best, out), &v) in best.iter_mut().zip(&mut *places).zip(row) {
                if v > *best || v.is_nan() && !best.is_nan() {
                    (*best, *out) = (v, place);
                }
            }
        }
    });
}

/// The place of the first of the largest values of a row, or of its first NaN.
fn place_of_largest<E: Real>(row: &[E]) -> usize {
    let top = extreme::<E, true>(row);
    row.iter().position(|&v| v == top || v.is_nan()).unwrap_or(0)
}

/// Running sums along the middle axis, in f64.
pub fn cumsum<E: Real>(x: &[E], [_, len, inner]: [usize; 3], reverse: bool, out: &mut [E]) {
    for_each_piece(out, len * inner, |outer, out| {
        let x = &x[outer * len * inner..][..len * inner];
        let mut totals = vec![0.0f64; inner];
        for step in 0..len {
            let row = if reverse { len - 1 - step } else { step } * inner;
            for ((out, total), v) in out[row..][..inner].iter_mut().zip(&mut totals).zip(&x[row..]) {
                *total += v.f64();
                *out = E::of(*total);
            }
        }
    });
}

/// Calls `f(at, row)` for every row of `width` values of `out`, the first of which stands at `at`.
fn for_each_row_of<E: Real>(width: usize, out: &mut [E], f: impl Fn(usize, &mut [E]) + Sync + Send) {
    if out.is_empty() {
        return;
    }
    let size = PIECE.div_ceil(width) * width;
    for_each_piece(out, size, |i, piece| {
        piece.chunks_exact_mut(width).enumerate().for_each(|(j, row)| f(i * size + j * width, row));
    });
}

/// What the row of (.., len, inner) that begins at `at` has to do with a tensor (.., 1, inner): its range there.
fn beside(at: usize, [_, len, inner]: [usize; 3]) -> Range<usize> {
    let first = at / (len * inner) * inner;
    first..first + inner
}

/// e^x over its sum along the middle axis.
pub fn softmax<E: Real>(x: &[E], sizes @ [_, len, inner]: [usize; 3], out: &mut [E]) {
    if inner == 1 {
        return for_each_row_of(len, out, |at, out| {
            let x = &x[at..][..len];
            powers(x, largest(x), out);
            scale(E::one() / E::of(sum(out)), out);
        });
    }
    let top = extremes::<E, true>(x, sizes);
    for_each_row_of(inner, out, |at, out| powers_each(&x[at..][..inner], &top[beside(at, sizes)], out));
    let total = sum_axis(out, sizes);
    for_each_row_of(inner, out, |at, out| out.iter_mut().zip(&total[beside(at, sizes)]).for_each(|(out, &total)| *out /= total));
}

/// y (g - sum(g y)) along the middle axis.
pub fn softmax_grad<E: Real>(y: &[E], g: &[E], sizes @ [_, len, inner]: [usize; 3], out: &mut [E]) {
    if inner == 1 {
        return for_each_row_of(len, out, |at, out| {
            let (y, g) = (&y[at..][..len], &g[at..][..len]);
            softmax_slopes(y, g, E::of(dot(g, y)), out);
        });
    }
    for_each_row_of(inner, out, |at, out| {
        out.copy_from_slice(&g[at..][..inner]);
        multiply(out, &y[at..][..inner]);
    });
    let common = sum_axis(out, sizes);
    for_each_row_of(inner, out, |at, out| {
        for (((out, &y), &g), &common) in out.iter_mut().zip(&y[at..]).zip(&g[at..]).zip(&common[beside(at, sizes)]) {
            *out = y * (g - common);
        }
    });
}

/// x - ln(sum(e^x)) along the middle axis.
pub fn log_softmax<E: Real>(x: &[E], sizes @ [_, len, inner]: [usize; 3], out: &mut [E]) {
    if inner == 1 {
        return for_each_row_of(len, out, |at, out| {
            let (x, top) = (&x[at..][..len], largest(&x[at..][..len]));
            powers(x, top, out);
            let log = E::of(sum(out).ln());
            out.iter_mut().zip(x).for_each(|(out, &x)| *out = x - top - log);
        });
    }
    let top = extremes::<E, true>(x, sizes);
    for_each_row_of(inner, out, |at, out| powers_each(&x[at..][..inner], &top[beside(at, sizes)], out));
    let total = sum_axis(out, sizes);
    for_each_row_of(inner, out, |at, out| {
        let beside = beside(at, sizes);
        for (((out, &x), &top), &total) in out.iter_mut().zip(&x[at..]).zip(&top[beside.clone()]).zip(&total[beside]) {
            *out = x - top - total.ln();
        }
    });
}

/// g - e^y sum(g) along the middle axis.
pub fn log_softmax_grad<E: Real>(y: &[E], g: &[E], sizes @ [_, len, inner]: [usize; 3], out: &mut [E]) {
    if inner == 1 {
        return for_each_row_of(len, out, |at, out| {
            let (y, g) = (&y[at..][..len], &g[at..][..len]);
            log_softmax_slopes(y, g, E::of(sum(g)), out);
        });
    }
    let common = sum_axis(g, sizes);
    for_each_row_of(inner, out, |at, out| {
        for (((out, &y), &g), &common) in out.iter_mut().zip(&y[at..]).zip(&g[at..]).zip(&common[beside(at, sizes)]) {
            *out = g - y.vector_exp() * common;
        }
    });
}

dispatch! {
    /// e^(x - top).
    fn powers<E: Real>(x: &[E], top: E, out: &mut [E]) = powers_body;
}
dispatch! { fn powers_each<E: Real>(x: &[E], top: &[E], out: &mut [E]) = powers_each_body; }
dispatch! { fn scale<E: Real>(factor: E, out: &mut [E]) = scale_body; }
dispatch! { fn softmax_slopes<E: Real>(y: &[E], g: &[E], common: E, out: &mut [E]) = softmax_slopes_body; }
dispatch! { fn log_softmax_slopes<E: Real>(y: &[E], g: &[E], common: E, out: &mut [E]) = log_softmax_slopes_body; }

#[inline(always)]
fn powers_body<I: Isa, E: Real>(x: &[E], top: E, out: &mut [E]) {
    out.iter_mut().zip(x).for_each(|(out, &x)| *out = (x - top).vector_exp());
}

#[inline(always)]
fn powers_each_body<I: Isa, E: Real>(x: &[E], top: &[E], out: &mut [E]) {
    out.iter_mut().zip(x).zip(top).for_each(|((out, &x), &top)| *out = (x - top).vector_exp());
}

#[inline(always)]
fn scale_body<I: Isa, E: Real>(factor: E, out: &mut [E]) {
    out.iter_mut().for_each(|out| *out *= factor);
}

#[inline(always)]
fn softmax_slopes_body<I: Isa, E: Real>(y: &[E], g: &[E], common: E, out: &mut [E]) {
    out.iter_mut().zip(y).zip(g).for_each(|((out, &y), &g)| *out = y * (g - common));
}

#[inline(always)]
fn log_softmax_slopes_body<I: Isa, E: Real>(y: &[E], g: &[E], common: E, out: &mut [E]) {
    out.iter_mut().zip(y).zip(g).for_each(|((out, &y), &g)| *out = g - y.vector_exp() * common);
}

impl<E: Real> Reductions for Cpu<E> {
    fn reduce(&self, kind: Reduction, x: &Tensor<Self>, axes: &[usize]) -> Result<Tensor<Self>> {
        let kept = kind.check(x.shape(), axes)?;
        if kept == x.shape() {
            return Ok(x.clone());
        }
        Ok(self.own(reduce(kind, values(x), x.shape(), axes), &kept))
    }

    fn argmax(&self, x: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        let sizes = shape::argmax(x.shape(), axis)?;
        let kept = shape::reduced("argmax", x.shape(), &[axis])?;
        Ok(self.make(&kept, |out| argmax(values(x), sizes, out)))
    }

    fn cumsum(&self, x: &Tensor<Self>, axis: usize, reverse: bool) -> Result<Tensor<Self>> {
        let sizes = shape::around("cumsum", x.shape(), axis)?;
        Ok(self.make(x.shape(), |out| cumsum(values(x), sizes, reverse, out)))
    }

    fn softmax(&self, x: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        let sizes = shape::around("softmax", x.shape(), axis)?;
        Ok(self.make(x.shape(), |out| softmax(values(x), sizes, out)))
    }

    fn softmax_grad(&self, y: &Tensor<Self>, g: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        let sizes = shape::around("softmax_grad", y.shape(), axis)?;
        shape::gradient("softmax_grad", y.shape(), g.shape())?;
        Ok(self.make(y.shape(), |out| softmax_grad(values(y), values(g), sizes, out)))
    }

    fn log_softmax(&self, x: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        let sizes = shape::around("log_softmax", x.shape(), axis)?;
        Ok(self.make(x.shape(), |out| log_softmax(values(x), sizes, out)))
    }

    fn log_softmax_grad(&self, y: &Tensor<Self>, g: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        let sizes = shape::around("log_softmax_grad", y.shape(), axis)?;
        shape::gradient("log_softmax_grad", y.shape(), g.shape())?;
        Ok(self.make(y.shape(), |out| log_softmax_grad(values(y), values(g), sizes, out)))
    }
}
