//! Sums, products and extremes over axes, and the search for values that are not finite. All in a fixed order: the same bits every time.

use cubecl::prelude::*;

use super::functions::join;
use crate::backend::cube::double_float::lost_in_product;
use crate::backend::cube::launch::UNITS;
use crate::backend::cube::storage::arg;
use crate::backend::cube::{Cube, Scalar};
use crate::backend::{Binary, Tensor};
use crate::error::Result;

/// Terms that one cube folds.
const PIECE: usize = 1 << 14;

/// The sum of `mine` over all units of the cube, for all of them; `scratch` holds one number for every unit, a power of two of them.
#[cube]
pub(crate) fn sum_cube<F: Float>(mine: F, scratch: &mut SharedMemory<F>) -> F {
    sum_lanes::<F>(mine, CUBE_DIM, scratch)
}

/// The sum of `mine` over every `lanes` neighbouring units, a power of two, for all of them.
#[cube]
pub(crate) fn sum_lanes<F: Float>(mine: F, lanes: u32, scratch: &mut SharedMemory<F>) -> F {
    fold_lanes::<F>(mine, lanes, 1u32, scratch, Binary::Add)
}

/// `mine` of every `lanes` units that are `step` apart, a power of two of them, joined by `f`, for all of them.
#[cube]
pub(crate) fn fold_lanes<F: Float>(mine: F, lanes: u32, step: u32, scratch: &mut SharedMemory<F>, #[comptime] f: Binary) -> F {
    scratch[UNIT_POS as usize] = mine;
    sync_cube();
    let lane = UNIT_POS / step % lanes;
    let mut width = lanes / 2;
    while width > 0 {
        if lane < width {
            let other = scratch[(UNIT_POS + width * step) as usize];
            scratch[UNIT_POS as usize] = join::<F>(scratch[UNIT_POS as usize], other, f);
        }
        sync_cube();
        width /= 2;
    }
    let all = scratch[(UNIT_POS - lane * step) as usize];
    // No unit may write the scratch again before all have read it.
    sync_cube();
    all
}

/// What joining numbers by `f` begins with, where `any` is one of them.
#[cube]
fn beginning<F: Float>(any: F, #[comptime] f: Binary) -> F {
    if comptime!(f == Binary::Add) {
        F::new(0.0)
    } else if comptime!(f == Binary::Mul) {
        F::new(1.0)
    } else {
        // An extreme, which may count a number twice.
        any
    }
}

/// The sum of `count` entries from `from` on, `stride` apart, for all units of the cube.
#[cube]
pub(crate) fn sum_strided<F: Float>(x: &Array<F>, from: u32, count: u32, stride: u32, scratch: &mut SharedMemory<F>) -> F {
    let mut sum = F::new(0.0);
    let mut i = UNIT_POS;
    while i < count {
        sum += x[(from + i * stride) as usize];
        i += CUBE_DIM;
    }
    sum_cube::<F>(sum, scratch)
}

/// Sums both numbers over the cube's units, into entry `at` of the halves of `parts`.
#[cube]
pub(crate) fn put_sums<F: Float>(first: F, second: F, parts: &mut Array<F>, at: usize, scratch: &mut SharedMemory<F>) {
    let first = sum_cube::<F>(first, scratch);
    let second = sum_cube::<F>(second, scratch);
    if UNIT_POS == 0 {
        parts[at] = first;
        parts[parts.len() / 2 + at] = second;
    }
}

/// The offset of entry `i` of axes given as (length, stride) pairs, the last axis first.
#[cube]
pub(crate) fn offset(axes: &Array<u32>, #[comptime] from: usize, #[comptime] rank: usize, i: u32) -> u32 {
    let mut rest = i;
    let mut at = 0u32;
    #[unroll]
    for axis in 0..rank {
        let len = axes[from + 2 * axis];
        at += (rest % len) * axes[from + 2 * axis + 1];
        rest /= len;
    }
    at
}

/// One cube for every piece of every output: the terms `piece * PIECE..` of output `out` joined by `f`, into `out * pieces + piece`.
///
/// `axes` holds the axes that stay, then those that are folded.
#[cube(launch)]
fn fold_pieces<F: Float>(
    x: &Array<F>,
    out: &mut Array<F>,
    axes: &Array<u32>,
    terms: u32,
    pieces: u32,
    #[comptime] kept: usize,
    #[comptime] folded: usize,
    #[comptime] units: usize,
    #[comptime] piece: usize,
    #[comptime] f: Binary,
) {
    let mut scratch = SharedMemory::<F>::new(units);
    let cube = CUBE_POS as u32;
    if (cube as usize) < out.len() {
        let base = offset(axes, 0usize, kept, cube / pieces);
        let start = (cube % pieces) * comptime!(piece as u32);
        let end = min(start + comptime!(piece as u32), terms);
        let mut so_far = beginning::<F>(x[(base + offset(axes, comptime!(2 * kept), folded, start)) as usize], f);
        // What rounding took from a product, as a share of it.
        let mut lost = F::new(0.0);
        let mut i = start + UNIT_POS;
        while i < end {
            let term = x[(base + offset(axes, comptime!(2 * kept), folded, i)) as usize];
            let next = join::<F>(so_far, term, f);
            if comptime!(f == Binary::Mul) {
                lost += lost_in_product::<F>(so_far, term, next) / next;
            }
            so_far = next;
            i += CUBE_DIM;
        }
        // A product that is 0, infinite or NaN has lost nothing.
        if comptime!(f == Binary::Mul) {
            let none = bool::cast_from(lost.is_nan()) || bool::cast_from(lost.is_inf());
            so_far = select(none, so_far, so_far + so_far * lost);
        }
        let all = fold_lanes::<F>(so_far, CUBE_DIM, 1u32, &mut scratch, f);
        if UNIT_POS == 0 {
            out[cube as usize] = all;
        }
    }
}

/// One unit for every output, for few terms.
#[cube(launch)]
fn fold_few<F: Float>(
    x: &Array<F>,
    out: &mut Array<F>,
    axes: &Array<u32>,
    terms: u32,
    #[comptime] kept: usize,
    #[comptime] folded: usize,
    #[comptime] f: Binary,
) {
    if ABSOLUTE_POS < out.len() {
        let base = offset(axes, 0usize, kept, ABSOLUTE_POS as u32);
        let mut so_far = beginning::<F>(x[base as usize], f);
        for i in 0..terms {
            so_far = join::<F>(so_far, x[(base + offset(axes, comptime!(2 * kept), folded, i)) as usize], f);
        }
        out[ABSOLUTE_POS] = so_far;
    }
}

/// Whether a cube's piece of one of the arrays holds a number that is not finite, 1 or 0, into the flags from `first` on: the pieces of an
/// array stand behind those of the one before.
#[cube(launch)]
fn bad_pieces<F: Float>(xs: &Sequence<Array<F>>, bad: &mut Array<u32>, first: u32, #[comptime] units: usize, #[comptime] piece: usize) {
    let mut scratch = SharedMemory::<u32>::new(units);
    let mut found = 1u32;
    let mut before = 0usize;
    #[unroll]
    for k in 0..xs.len() {
        let x = xs.index(k);
        let pieces = x.len().div_ceil(piece);
        if CUBE_POS >= before && CUBE_POS < before + pieces {
            let start = (CUBE_POS - before) * piece;
            let end = min(start + piece, x.len());
            let mut i = start + UNIT_POS as usize;
            while i < end {
                if bool::cast_from(x[i].is_nan()) || bool::cast_from(x[i].is_inf()) {
                    found = 0u32;
                }
                i += CUBE_DIM as usize;
            }
        }
        before += pieces;
    }
    if CUBE_POS < before {
        let least = least_of_cube(found, &mut scratch);
        if UNIT_POS == 0 {
            bad[first as usize + CUBE_POS] = 1u32 - least;
        }
    }
}

/// The smallest `mine` of all units of the cube, a power of two of them, for the first one.
#[cube]
fn least_of_cube(mine: u32, scratch: &mut SharedMemory<u32>) -> u32 {
    scratch[UNIT_POS as usize] = mine;
    sync_cube();
    let mut width = CUBE_DIM / 2;
    while width > 0 {
        if UNIT_POS < width {
            let other = scratch[(UNIT_POS + width) as usize];
            scratch[UNIT_POS as usize] = min(scratch[UNIT_POS as usize], other);
        }
        sync_cube();
        width /= 2;
    }
    scratch[0]
}

/// The least of the `places`, which count from 1, whose flag is set, or 0: one cube.
#[cube(launch)]
fn first_bad<F: Float>(bad: &Array<u32>, places: &Array<u32>, out: &mut Array<F>, #[comptime] units: usize) {
    let mut scratch = SharedMemory::<u32>::new(units);
    let none = u32::MAX.runtime();
    let mut first = none;
    let mut i = UNIT_POS as usize;
    while i < bad.len() {
        if bad[i] == 1u32 {
            first = min(first, places[i]);
        }
        i += CUBE_DIM as usize;
    }
    let first = least_of_cube(first, &mut scratch);
    if UNIT_POS == 0 {
        out[0] = select(first == none, F::new(0.0), F::cast_from(first));
    }
}

/// The axes of `shape` that stay and those that are folded on the way to `target`, as (length, stride) pairs, last first, with neighbours
/// of one kind joined.
fn split(shape: &[usize], target: &[usize]) -> [Vec<usize>; 2] {
    let missing = shape.len() - target.len();
    let mut axes: [Vec<usize>; 2] = [Vec::new(), Vec::new()];
    let mut stride = 1;
    let mut last = None;
    for (axis, &len) in shape.iter().enumerate().rev() {
        let folded = usize::from(axis < missing || target[axis - missing] != len);
        if len == 1 {
            continue;
        }
        let list = &mut axes[folded];
        if last == Some(folded) {
            let at = list.len() - 2;
            list[at] *= len;
        } else {
            list.extend([len, stride]);
        }
        last = Some(folded);
        stride *= len;
    }
    axes
}

/// x with its entries joined by `f`, which is a sum, a product or an extreme, along the axes over which `shape` broadcasts to x's. An extreme
/// has something to be taken of.
pub(crate) fn fold_to<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    f: Binary,
    x: &Tensor<Cube<R, E>>,
    shape: &[usize],
) -> Result<Tensor<Cube<R, E>>> {
    if shape == x.shape() {
        return Ok(x.clone());
    }
    let outputs: usize = shape.iter().product();
    if x.numel() == outputs {
        return x.reshape(shape);
    }
    if x.numel() == 0 {
        return super::functions::full(cube, shape, if f == Binary::Mul { 1.0 } else { 0.0 });
    }
    let [kept, folded] = split(x.shape(), shape);
    let out = fold(cube, f, x, [&kept, &folded], outputs, x.numel() / outputs)?;
    out.reshape(shape)
}

/// Every output of `terms` terms.
fn fold<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    f: Binary,
    x: &Tensor<Cube<R, E>>,
    axes: [&[usize]; 2],
    outputs: usize,
    terms: usize,
) -> Result<Tensor<Cube<R, E>>> {
    let method = if f == Binary::Add { "sum_to" } else { "reduce" };
    let ranks = axes.map(|axes| axes.len() / 2);
    let table = cube.sizes(&axes.concat())?;
    if terms < 32 {
        let out = cube.alloc(method, &[outputs])?;
        let (cubes, units) = cube.units(outputs);
        fold_few::launch::<E, R>(cube.client(), cubes, units, arg(x), arg(&out), table.arg(), terms as u32, ranks[0], ranks[1], f);
        return Ok(out);
    }
    let pieces = terms.div_ceil(PIECE);
    let out = cube.alloc(method, &[outputs, pieces])?;
    let units = cube.limits().units_up_to(UNITS);
    fold_pieces::launch::<E, R>(
        cube.client(),
        cube.cubes(outputs * pieces),
        CubeDim::new_1d(units as u32),
        arg(x),
        arg(&out),
        table.arg(),
        terms as u32,
        pieces as u32,
        ranks[0],
        ranks[1],
        units,
        PIECE,
        f,
    );
    if pieces == 1 { out.reshape(&[outputs]) } else { fold(cube, f, &out, [&[outputs, pieces], &[pieces, 1]], outputs, pieces) }
}

/// Arrays that a launch looks through, at most.
const TOGETHER: usize = 16;

pub(crate) fn place_not_finite<R: Runtime, E: Scalar>(cube: &Cube<R, E>, tensors: &[&Tensor<Cube<R, E>>]) -> Result<Tensor<Cube<R, E>>> {
    const METHOD: &str = "place_not_finite";
    let filled: Vec<(usize, &Tensor<_>)> = tensors.iter().copied().enumerate().filter(|(_, x)| x.numel() > 0).collect();
    if filled.is_empty() {
        return super::functions::full(cube, &[], 0.0);
    }
    let pieces = |x: &Tensor<_>| x.numel().div_ceil(PIECE);
    let sizes: Vec<usize> = filled.iter().flat_map(|&(place, x)| [place, pieces(x)]).collect();
    let places =
        cube.words("places of pieces", &sizes, || sizes.chunks(2).flat_map(|of| std::iter::repeat_n(of[0] as u32 + 1, of[1])).collect())?;
    let bad = cube.buffer(METHOD, filled.iter().map(|(_, x)| pieces(x)).sum(), size_of::<u32>())?;
    let units = cube.limits().units_up_to(UNITS);
    let dim = CubeDim::new_1d(units as u32);
    // Beside the arrays, the flags and the sizes are bound.
    let together = TOGETHER.min(cube.limits().bindings.saturating_sub(2)).max(1);
    let mut first = 0;
    for chunk in filled.chunks(together) {
        let own: usize = chunk.iter().map(|(_, x)| pieces(x)).sum();
        let xs = chunk.iter().map(|(_, x)| arg(x)).collect();
        bad_pieces::launch::<E, R>(cube.client(), cube.cubes(own), dim, xs, bad.arg(), first as u32, units, PIECE);
        first += own;
    }
    let out = cube.alloc(METHOD, &[])?;
    first_bad::launch::<E, R>(cube.client(), cube.cubes(1), dim, bad.arg(), places.arg(), arg(&out), units);
    Ok(out)
}

pub(crate) fn first_not_finite<R: Runtime, E: Scalar>(cube: &Cube<R, E>, tensors: &[&Tensor<Cube<R, E>>]) -> Result<Option<usize>> {
    if tensors.iter().all(|x| x.numel() == 0) {
        return Ok(None);
    }
    let found = cube.read("first_not_finite", &place_not_finite(cube, tensors)?)?;
    Ok((found[0].f64() as usize).checked_sub(1))
}
