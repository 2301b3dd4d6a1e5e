//! Elementwise functions, broadcasting, and its adjoint, the sum over broadcast axes.

use std::ops::Range;

use super::{Cpu, packed, values};
use crate::backend::host::simd::{Isa, dispatch};
use crate::backend::host::threads::{PIECE, for_each, for_each_piece};
use crate::backend::unary::with_function;
use crate::backend::{Binary, Elementwise, Real, Tensor, Transfer, Unary, shape};
use crate::error::Result;

/// f(x).
pub fn unary<E: Real>(f: Unary, x: &[E], out: &mut [E]) {
    for_each_piece(out, PIECE, |i, out| unary_chunk(f, &x[i * PIECE..][..out.len()], out));
}

/// f'(x) g.
pub fn unary_grad<E: Real>(f: Unary, x: &[E], g: &[E], out: &mut [E]) {
    for_each_piece(out, PIECE, |i, out| {
        let range = i * PIECE..i * PIECE + out.len();
        unary_grad_chunk(f, &x[range.clone()], &g[range], out);
    });
}

dispatch! { fn unary_chunk<E: Real>(f: Unary, x: &[E], out: &mut [E]) = unary_body; }
dispatch! { fn unary_grad_chunk<E: Real>(f: Unary, x: &[E], g: &[E], out: &mut [E]) = unary_grad_body; }
dispatch! {
    /// x = f(x), on one thread.
    pub fn unary_in_place<E: Real>(f: Unary, x: &mut [E]) = in_place_body;
}
dispatch! {
    /// x = f'(x) g, on one thread.
    pub fn unary_grad_in_place<E: Real>(f: Unary, g: &[E], x: &mut [E]) = grad_in_place_body;
}

#[inline(always)]
fn map<E: Real>(x: &[E], out: &mut [E], f: impl Fn(E) -> E) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = f(x);
    }
}

#[inline(always)]
fn map2<E: Real>(x: &[E], y: &[E], out: &mut [E], f: impl Fn(E, E) -> E) {
    for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
        *out = f(x, y);
    }
}

#[inline(always)]
fn unary_body<I: Isa, E: Real>(f: Unary, x: &[E], out: &mut [E]) {
    with_function!(f, I, E, |f| map(x, out, |x| f(x).0()));
}

#[inline(always)]
fn unary_grad_body<I: Isa, E: Real>(f: Unary, x: &[E], g: &[E], out: &mut [E]) {
    with_function!(f, I, E, |f| map2(x, g, out, |x, g| f(x).1(g)));
}

#[inline(always)]
fn in_place_body<I: Isa, E: Real>(f: Unary, x: &mut [E]) {
    with_function!(f, I, E, |f| x.iter_mut().for_each(|x| *x = f(*x).0()));
}

#[inline(always)]
fn grad_in_place_body<I: Isa, E: Real>(f: Unary, g: &[E], x: &mut [E]) {
    with_function!(f, I, E, |f| x.iter_mut().zip(g).for_each(|(x, &g)| *x = f(*x).1(g)));
}

/// 0, or 1 / keep with probability `keep`.
#[inline(always)]
pub fn mask<E: Real>(keep: f64, u: E) -> E {
    if E::of(keep) > u { E::of(1.0 / keep) } else { E::zero() }
}

dispatch! {
    /// Uniform numbers to 0, or 1 / keep with probability `keep`.
    pub fn to_masks<E: Real>(keep: f64, u: &mut [E]) = masks_body;
}
dispatch! {
    /// x *= by.
    pub fn multiply<E: Real>(x: &mut [E], by: &[E]) = multiply_body;
}
dispatch! {
    /// out += x.
    pub fn add<E: Real>(x: &[E], out: &mut [E]) = add_body;
}
dispatch! {
    /// out += x y.
    pub fn add_products<E: Real>(x: &[E], y: &[E], out: &mut [E]) = add_products_body;
}

#[inline(always)]
fn masks_body<I: Isa, E: Real>(keep: f64, u: &mut [E]) {
    u.iter_mut().for_each(|u| *u = mask(keep, *u));
}

#[inline(always)]
fn multiply_body<I: Isa, E: Real>(x: &mut [E], by: &[E]) {
    x.iter_mut().zip(by).for_each(|(x, &by)| *x *= by);
}

#[inline(always)]
fn add_body<I: Isa, E: Real>(x: &[E], out: &mut [E]) {
    out.iter_mut().zip(x).for_each(|(out, &x)| *out += x);
}

#[inline(always)]
fn add_products_body<I: Isa, E: Real>(x: &[E], y: &[E], out: &mut [E]) {
    for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
        *out = I::fma(x, y, *out);
    }
}

/// sum += x.
fn add_to_all<E: Real>(sum: &mut [E], x: &[E]) {
    for_each_piece(sum, PIECE, |i, sum| add(&x[i * PIECE..][..sum.len()], sum));
}

/// f(x, y), broadcast to `shape`.
pub fn binary<E: Real>(f: Binary, x: (&[E], &[usize]), y: (&[E], &[usize]), shape: &[usize], out: &mut [E]) {
    let axes = collapse(shape, [x.1, y.1]);
    for_each_piece(out, PIECE, |i, out| binary_piece(f, x.0, y.0, (&axes, i * PIECE), out));
}

/// `a` where `mask` is not 0, else `b`, broadcast to `shape`.
pub fn select<E: Real>(mask: (&[E], &[usize]), a: (&[E], &[usize]), b: (&[E], &[usize]), shape: &[usize], out: &mut [E]) {
    let axes = collapse(shape, [mask.1, a.1, b.1]);
    for_each_piece(out, PIECE, |i, out| {
        for ([mask_run, a_run, b_run], out) in runs(&axes, i * PIECE, out) {
            select_run(&mask.0[mask_run], &a.0[a_run], &b.0[b_run], out);
        }
    });
}

/// One axis of a broadcast: its length and how far a step along it moves in each operand (0 where that is stretched).
#[derive(Clone, Copy)]
struct Axis<const N: usize> {
    len: usize,
    strides: [usize; N],
}

/// The fewest axes that describe how shapes broadcast; the last one is the innermost.
fn collapse<const N: usize>(shape: &[usize], operands: [&[usize]; N]) -> Vec<Axis<N>> {
    let strides = |from: &[usize]| {
        let mut stride = 1;
        let mut strides = vec![0; shape.len()];
        for axis in (0..from.len()).rev() {
            strides[axis + shape.len() - from.len()] = if from[axis] == 1 { 0 } else { stride };
            stride *= from[axis];
        }
        strides
    };
    let strides = operands.map(strides);
    let mut axes: Vec<Axis<N>> = Vec::new();
    for (i, &len) in shape.iter().enumerate().filter(|&(_, &len)| len != 1) {
        let own = std::array::from_fn(|n| strides[n][i]);
        match axes.last_mut() {
            Some(last) if last.strides == own.map(|stride| len * stride) => *last = Axis { len: last.len * len, strides: own },
            _ => axes.push(Axis { len, strides: own }),
        }
    }
    if axes.is_empty() {
        axes.push(Axis { len: 1, strides: [0; N] });
    }
    axes
}

/// One run along the innermost axis after another of the elements from `start` on, and where it lies in each operand: as many elements, or
/// one where the operand is stretched. (An iterator: what is done with a run belongs into the caller, at the caller's level of vectors.)
fn runs<'a, const N: usize, E>(
    axes: &'a [Axis<N>],
    start: usize,
    mut rest: &'a mut [E],
) -> impl Iterator<Item = ([Range<usize>; N], &'a mut [E])> {
    let (outer, inner) = (&axes[..axes.len() - 1], axes[axes.len() - 1]);
    let (mut run_number, mut at) = (start / inner.len, start % inner.len);
    // The place of the run along every outer axis, and in every operand.
    let (mut indices, mut places) = (vec![0; outer.len()], [0; N]);
    for (index, axis) in indices.iter_mut().zip(outer).rev() {
        *index = run_number % axis.len;
        run_number /= axis.len;
        places.iter_mut().zip(axis.strides).for_each(|(place, stride)| *place += *index * stride);
    }
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let run = rest.split_off_mut(..(inner.len - at).min(rest.len()))?;
        let ranges = std::array::from_fn(|n| {
            let place = places[n] + at * inner.strides[n];
            place..place + if inner.strides[n] == 0 { 1 } else { run.len() }
        });
        at = 0;
        // As an odometer: no division for every run.
        for (index, axis) in indices.iter_mut().zip(outer).rev() {
            *index += 1;
            places.iter_mut().zip(axis.strides).for_each(|(place, stride)| *place += stride);
            if *index < axis.len {
                break;
            }
            *index = 0;
            places.iter_mut().zip(axis.strides).for_each(|(place, stride)| *place -= axis.len * stride);
        }
        Some((ranges, run))
    })
}

dispatch! { fn binary_piece<E: Real>(f: Binary, x: &[E], y: &[E], at: (&[Axis<2>], usize), out: &mut [E]) = binary_piece_body; }

/// Runs may be short: the level of vectors is found out once for all of them.
#[inline(always)]
fn binary_piece_body<I: Isa, E: Real>(f: Binary, x: &[E], y: &[E], (axes, start): (&[Axis<2>], usize), out: &mut [E]) {
    for ([x_run, y_run], out) in runs(axes, start, out) {
        binary_body::<I, E>(f, &x[x_run], &y[y_run], out);
    }
}

#[inline(always)]
fn binary_body<I: Isa, E: Real>(f: Binary, x: &[E], y: &[E], out: &mut [E]) {
    match f {
        Binary::Add => run2(x, y, out, |x, y| x + y),
        Binary::Sub => run2(x, y, out, |x, y| x - y),
        Binary::Mul => run2(x, y, out, |x, y| x * y),
        Binary::Div => run2(x, y, out, |x, y| x / y),
        Binary::Min => run2(x, y, out, |x, y| if x < y || x.is_nan() { x } else { y }),
        Binary::Max => run2(x, y, out, |x, y| if x > y || x.is_nan() { x } else { y }),
        Binary::Pow => run2(x, y, out, |x, y| x.powf(y)),
        Binary::Atan2 => run2(x, y, out, |x, y| x.atan2(y)),
        Binary::Eq => run2(x, y, out, |x, y| one_if(x == y)),
        Binary::Ne => run2(x, y, out, |x, y| one_if(x != y)),
        Binary::Lt => run2(x, y, out, |x, y| one_if(x < y)),
        Binary::Le => run2(x, y, out, |x, y| one_if(x <= y)),
        Binary::Gt => run2(x, y, out, |x, y| one_if(x > y)),
        Binary::Ge => run2(x, y, out, |x, y| one_if(x >= y)),
    }
}

#[inline(always)]
fn one_if<E: Real>(yes: bool) -> E {
    if yes { E::one() } else { E::zero() }
}

dispatch! { fn select_run<E: Real>(mask: &[E], a: &[E], b: &[E], out: &mut [E]) = select_body; }

/// An operand of one element is repeated.
#[inline(always)]
fn select_body<I: Isa, E: Real>(mask: &[E], a: &[E], b: &[E], out: &mut [E]) {
    let pick = |mask: E, a: E, b: E| if mask != E::zero() { a } else { b };
    match (mask, a, b) {
        ([mask], a, b) => {
            let picked = if *mask != E::zero() { a } else { b };
            if let [value] = picked { out.fill(*value) } else { out.copy_from_slice(picked) }
        }
        (mask, [a], [b]) => map(mask, out, |mask| pick(mask, *a, *b)),
        (mask, [a], b) => map2(mask, b, out, |mask, b| pick(mask, *a, b)),
        (mask, a, [b]) => map2(mask, a, out, |mask, a| pick(mask, a, *b)),
        (mask, a, b) => {
            for (((out, &mask), &a), &b) in out.iter_mut().zip(mask).zip(a).zip(b) {
                *out = pick(mask, a, b);
            }
        }
    }
}

/// An operand of one element is repeated.
#[inline(always)]
fn run2<E: Real>(x: &[E], y: &[E], out: &mut [E], f: impl Fn(E, E) -> E) {
    match (x, y) {
        (x, y) if x.len() == out.len() && y.len() == out.len() => map2(x, y, out, f),
        (x, [y]) => map(x, out, |x| f(x, *y)),
        ([x], y) => map(y, out, |y| f(*x, y)),
        _ => {}
    }
}

/// The sum of x (of shape `from`) over the axes along which `to` is stretched.
pub fn sum_to<E: Real>(x: &[E], from: &[usize], to: &[usize]) -> Vec<E> {
    let target = |axis: usize| (axis + to.len()).checked_sub(from.len()).map_or(1, |i| to[i]);
    over_axes(x, from, |axis| target(axis) == 1, sum_axis)
}

/// x (of shape `from`) reduced over the axes that `is_reduced`, by passes over the middle axis of (outer, len, inner).
pub fn over_axes<E: Real>(
    x: &[E],
    from: &[usize],
    is_reduced: impl Fn(usize) -> bool,
    pass: impl Fn(&[E], [usize; 3]) -> Vec<E>,
) -> Vec<E> {
    // Neighbouring axes that are both reduced or both kept are treated as one axis.
    let mut axes: Vec<(usize, bool)> = Vec::new();
    for (axis, &len) in from.iter().enumerate().filter(|&(_, &len)| len != 1) {
        let reduced = is_reduced(axis);
        match axes.last_mut() {
            Some((last, both)) if *both == reduced => *last *= len,
            _ => axes.push((len, reduced)),
        }
    }
    let mut values: Option<Vec<E>> = None;
    // From the innermost reduced axis outwards, so that later passes are over less.
    while let Some(at) = axes.iter().rposition(|&(_, reduced)| reduced) {
        let (len, _) = axes.remove(at);
        let sizes = |axes: &[(usize, bool)]| axes.iter().map(|a| a.0).product();
        values = Some(pass(values.as_deref().unwrap_or(x), [sizes(&axes[..at]), len, sizes(&axes[at..])]));
    }
    values.unwrap_or_else(|| x.to_vec())
}

/// (outer, len, inner) summed over its middle axis.
pub fn sum_axis<E: Real>(x: &[E], [outer, len, inner]: [usize; 3]) -> Vec<E> {
    let mut out = vec![E::zero(); outer * inner];
    if x.is_empty() {
        return out;
    }
    if inner == 1 {
        for_each_piece(&mut out, PIECE.div_ceil(len), |i, out| {
            sum_rows(&x[i * PIECE.div_ceil(len) * len..], len, out);
        });
        return out;
    }
    for_each_columns(x, [len, inner], &mut out, |rows, out| {
        let mut totals = [0.0f64; COLUMNS];
        let totals = &mut totals[..out.len()];
        rows.for_each(|row| add_to_totals(row, totals));
        out.iter_mut().zip(totals).for_each(|(out, total)| *out = E::of(*total));
    });
    out
}

dispatch! { fn add_to_totals<E: Real>(row: &[E], totals: &mut [f64]) = totals_body; }

#[inline(always)]
fn totals_body<I: Isa, E: Real>(row: &[E], totals: &mut [f64]) {
    totals.iter_mut().zip(row).for_each(|(total, v)| *total += v.f64());
}

/// Columns that are reduced side by side at most: their running values fit into the fastest cache.
pub const COLUMNS: usize = 512;

/// Calls `f(rows, out)` for every block of columns of every matrix of x (outer, len, inner): with the rows, cut to these columns, and with the
/// place of what each column is reduced to.
pub fn for_each_columns<E: Real>(
    x: &[E],
    [len, inner]: [usize; 2],
    out: &mut [E],
    f: impl Fn(&mut dyn Iterator<Item = &[E]>, &mut [E]) + Sync + Send,
) {
    let matrices = x.chunks_exact(len * inner).zip(out.chunks_exact_mut(inner));
    let blocks = matrices.flat_map(|(x, out)| out.chunks_mut(COLUMNS).enumerate().map(move |(i, out)| (x, i * COLUMNS, out)));
    for_each(blocks.collect(), |_, (x, first, out)| {
        let columns = first..first + out.len();
        f(&mut x.chunks_exact(inner).map(|row| &row[columns.clone()]), out);
    });
}

/// Values that are added in their own precision before the partial sum joins a total in f64.
const BLOCK: usize = 1024;

/// The sum of all values: lanes within blocks, blocks in f64.
pub fn sum<E: Real>(x: &[E]) -> f64 {
    x.chunks(BLOCK).map(|block| sum_block(block).f64()).sum()
}

/// The sum of all products: lanes within blocks, blocks in f64.
pub fn dot<E: Real>(x: &[E], y: &[E]) -> f64 {
    x.chunks(BLOCK).zip(y.chunks(BLOCK)).map(|(x, y)| dot_block(x, y).f64()).sum()
}

dispatch! { fn sum_block<E: Real>(x: &[E]) -> E = sum_block_body; }
dispatch! { fn sum_rows<E: Real>(x: &[E], len: usize, out: &mut [E]) = sum_rows_body; }
dispatch! { fn dot_block<E: Real>(x: &[E], y: &[E]) -> E = dot_block_body; }

const LANES: usize = 32;

#[inline(always)]
fn sum_block_body<I: Isa, E: Real>(x: &[E]) -> E {
    let mut lanes = [E::zero(); LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += v;
        }
    }
    // Of a short row all lanes are zeros.
    let sum = if whole.is_empty() { E::zero() } else { fold_lanes(&lanes) };
    sum + rest.iter().copied().sum::<E>()
}

/// The [`sum`] of each row.
#[inline(always)]
fn sum_rows_body<I: Isa, E: Real>(x: &[E], len: usize, out: &mut [E]) {
    for (row, out) in x.chunks_exact(len).zip(out) {
        // A loop: what `Iterator::sum` calls is compiled without wide vectors where it is not inlined.
        let mut total = 0.0;
        for block in row.chunks(BLOCK) {
            total += sum_block_body::<I, E>(block).f64();
        }
        *out = E::of(total);
    }
}

#[inline(always)]
fn dot_block_body<I: Isa, E: Real>(x: &[E], y: &[E]) -> E {
    let mut lanes = [E::zero(); LANES];
    let ((x_whole, x_rest), (y_whole, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x_whole.iter().zip(y_whole) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane = I::fma(x, y, *lane);
        }
    }
    let sum = if x_whole.is_empty() { E::zero() } else { fold_lanes(&lanes) };
    sum + x_rest.iter().zip(y_rest).map(|(&x, &y)| x * y).sum::<E>()
}

/// The sum of the lanes, by halves. Not inlined: the last halves are pairs, and the compiler would make the whole loop before it one of pairs.
#[inline(never)]
fn fold_lanes<E: Real>(lanes: &[E; LANES]) -> E {
    let sixteen: [E; 16] = std::array::from_fn(|i| lanes[i] + lanes[i + 16]);
    let eight: [E; 8] = std::array::from_fn(|i| sixteen[i] + sixteen[i + 8]);
    let four: [E; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

impl<E: Real> Elementwise for Cpu<E> {
    fn unary(&self, f: Unary, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        f.check()?;
        Ok(self.make(x.shape(), |out| unary(f, values(x), out)))
    }

    fn unary_grad(&self, f: Unary, x: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>> {
        f.check()?;
        shape::gradient("unary_grad", x.shape(), g.shape())?;
        Ok(self.make(x.shape(), |out| unary_grad(f, values(x), values(g), out)))
    }

    fn binary(&self, f: Binary, x: &Tensor<Self>, y: &Tensor<Self>) -> Result<Tensor<Self>> {
        let shape = shape::broadcast(f.name(), x.shape(), y.shape())?;
        Ok(self.make(&shape, |out| binary(f, (values(x), x.shape()), (values(y), y.shape()), &shape, out)))
    }

    fn accumulate(&self, mut x: Tensor<Self>, mut y: Tensor<Self>) -> Result<Tensor<Self>> {
        if x.shape() == y.shape() {
            // x + y has the bits of y + x.
            if let Some(sum) = x.storage_mut().own_values() {
                add_to_all(sum, values(&y));
                return Ok(x);
            }
            if let Some(sum) = y.storage_mut().own_values() {
                add_to_all(sum, values(&x));
                return Ok(y);
            }
        }
        self.binary(Binary::Add, &x, &y)
    }

    fn select(&self, mask: &Tensor<Self>, a: &Tensor<Self>, b: &Tensor<Self>) -> Result<Tensor<Self>> {
        let shape = shape::select(mask.shape(), a.shape(), b.shape())?;
        Ok(self.make(&shape, |out| {
            select((values(mask), mask.shape()), (values(a), a.shape()), (values(b), b.shape()), &shape, out);
        }))
    }

    fn sum_to(&self, x: &Tensor<Self>, shape: &[usize]) -> Result<Tensor<Self>> {
        if shape == x.shape() {
            return Ok(x.clone());
        }
        shape::broadcasts_to("sum", shape, x.shape())?;
        if let (Some(packed), 1) = (packed(x), shape.iter().product::<usize>()) {
            return self.full(shape, packed.count() as f64);
        }
        Ok(self.own(sum_to(values(x), x.shape(), shape), shape))
    }

    fn first_not_finite(&self, tensors: &[&Tensor<Self>]) -> Result<Option<usize>> {
        Ok(tensors.iter().position(|x| !values(x).iter().all(|v| v.is_finite())))
    }
}
