//! Sums over axes, and the search for values that are not finite. Sums are added in a fixed order: the same bits every time.

use cubecl::prelude::*;

use crate::backend::Tensor;
use crate::backend::cube::launch::UNITS;
use crate::backend::cube::storage::arg;
use crate::backend::cube::{Cube, Scalar};
use crate::error::Result;

/// Terms that one cube sums.
const PIECE: usize = 1 << 14;

/// The sum of `mine` over all units of the cube, for all of them; `scratch` holds one number for every unit, a power of two of them.
#[cube]
pub(crate) fn sum_cube<F: Float>(mine: F, scratch: &mut SharedMemory<F>) -> F {
    sum_lanes::<F>(mine, CUBE_DIM, scratch)
}

/// The sum of `mine` over every `lanes` neighbouring units, a power of two, for all of them.
#[cube]
pub(crate) fn sum_lanes<F: Float>(mine: F, lanes: u32, scratch: &mut SharedMemory<F>) -> F {
    scratch[UNIT_POS as usize] = mine;
    sync_cube();
    let lane = UNIT_POS % lanes;
    let mut width = lanes / 2;
    while width > 0 {
        if lane < width {
            scratch[UNIT_POS as usize] = scratch[UNIT_POS as usize] + scratch[(UNIT_POS + width) as usize];
        }
        sync_cube();
        width /= 2;
    }
    let sum = scratch[(UNIT_POS - lane) as usize];
    // No unit may write the scratch again before all have read it.
    sync_cube();
    sum
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

/// One cube for every piece of every output: the sum of the terms `piece * PIECE..` of output `out`, into `out * pieces + piece`.
///
/// `axes` holds the axes that stay, then those that are summed.
#[cube(launch)]
fn sum_pieces<F: Float>(
    x: &Array<F>,
    out: &mut Array<F>,
    axes: &Array<u32>,
    terms: u32,
    pieces: u32,
    #[comptime] kept: usize,
    #[comptime] summed: usize,
    #[comptime] units: usize,
    #[comptime] piece: usize,
) {
    let mut scratch = SharedMemory::<F>::new(units);
    let cube = CUBE_POS as u32;
    if (cube as usize) < out.len() {
        let base = offset(axes, 0usize, kept, cube / pieces);
        let start = (cube % pieces) * comptime!(piece as u32);
        let end = min(start + comptime!(piece as u32), terms);
        let mut sum = F::new(0.0);
        let mut i = start + UNIT_POS;
        while i < end {
            sum += x[(base + offset(axes, comptime!(2 * kept), summed, i)) as usize];
            i += CUBE_DIM;
        }
        let sum = sum_cube::<F>(sum, &mut scratch);
        if UNIT_POS == 0 {
            out[cube as usize] = sum;
        }
    }
}

/// One unit for every output, for sums of few terms.
#[cube(launch)]
fn sum_few<F: Float>(x: &Array<F>, out: &mut Array<F>, axes: &Array<u32>, terms: u32, #[comptime] kept: usize, #[comptime] summed: usize) {
    if ABSOLUTE_POS < out.len() {
        let base = offset(axes, 0usize, kept, ABSOLUTE_POS as u32);
        let mut sum = F::new(0.0);
        for i in 0..terms {
            sum += x[(base + offset(axes, comptime!(2 * kept), summed, i)) as usize];
        }
        out[ABSOLUTE_POS] = sum;
    }
}

/// Whether a cube's piece of x holds a number that is not finite, into the flags from `first` on.
#[cube(launch)]
fn bad_pieces<F: Float>(x: &Array<F>, bad: &mut Array<u32>, first: u32, pieces: u32, #[comptime] units: usize, #[comptime] piece: usize) {
    let mut scratch = SharedMemory::<u32>::new(units);
    if CUBE_POS < pieces as usize {
        let start = CUBE_POS * piece;
        let end = min(start + piece, x.len());
        let mut found = 0u32;
        let mut i = start + UNIT_POS as usize;
        while i < end {
            if bool::cast_from(x[i].is_nan()) || bool::cast_from(x[i].is_inf()) {
                found = 1u32;
            }
            i += CUBE_DIM as usize;
        }
        scratch[UNIT_POS as usize] = found;
        sync_cube();
        if UNIT_POS == 0 {
            let mut any = 0u32;
            for unit in 0..units {
                any |= scratch[unit];
            }
            bad[first as usize + CUBE_POS] = any;
        }
    }
}

/// The axes of `shape` that stay and those that are summed on the way to `target`, as (length, stride) pairs, last first, with neighbours
/// of one kind joined.
fn split(shape: &[usize], target: &[usize]) -> [Vec<usize>; 2] {
    let missing = shape.len() - target.len();
    let mut axes: [Vec<usize>; 2] = [Vec::new(), Vec::new()];
    let mut stride = 1;
    let mut last = None;
    for (axis, &len) in shape.iter().enumerate().rev() {
        let summed = usize::from(axis < missing || target[axis - missing] != len);
        if len == 1 {
            continue;
        }
        let list = &mut axes[summed];
        if last == Some(summed) {
            let at = list.len() - 2;
            list[at] *= len;
        } else {
            list.extend([len, stride]);
        }
        last = Some(summed);
        stride *= len;
    }
    axes
}

pub(crate) fn sum_to<R: Runtime, E: Scalar>(cube: &Cube<R, E>, x: &Tensor<Cube<R, E>>, shape: &[usize]) -> Result<Tensor<Cube<R, E>>> {
    if shape == x.shape() {
        return Ok(x.clone());
    }
    let outputs: usize = shape.iter().product();
    if x.numel() == outputs {
        return x.reshape(shape);
    }
    if x.numel() == 0 {
        return super::functions::full(cube, shape, 0.0);
    }
    let [kept, summed] = split(x.shape(), shape);
    let out = sum(cube, x, [&kept, &summed], outputs, x.numel() / outputs)?;
    out.reshape(shape)
}

/// Sums of `terms` terms each.
fn sum<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    x: &Tensor<Cube<R, E>>,
    axes: [&[usize]; 2],
    outputs: usize,
    terms: usize,
) -> Result<Tensor<Cube<R, E>>> {
    let ranks = axes.map(|axes| axes.len() / 2);
    let table = cube.sizes(&axes.concat())?;
    if terms < 32 {
        let out = cube.alloc("sum_to", &[outputs])?;
        let (cubes, units) = cube.units(outputs);
        sum_few::launch::<E, R>(cube.client(), cubes, units, arg(x), arg(&out), table.arg(), terms as u32, ranks[0], ranks[1]);
        return Ok(out);
    }
    let pieces = terms.div_ceil(PIECE);
    let out = cube.alloc("sum_to", &[outputs, pieces])?;
    let units = cube.limits().units_up_to(UNITS);
    sum_pieces::launch::<E, R>(
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
    );
    if pieces == 1 { out.reshape(&[outputs]) } else { sum(cube, &out, [&[outputs, pieces], &[pieces, 1]], outputs, pieces) }
}

pub(crate) fn first_not_finite<R: Runtime, E: Scalar>(cube: &Cube<R, E>, tensors: &[&Tensor<Cube<R, E>>]) -> Result<Option<usize>> {
    let pieces: Vec<usize> = tensors.iter().map(|x| x.numel().div_ceil(PIECE)).collect();
    let total = pieces.iter().sum();
    if total == 0 {
        return Ok(None);
    }
    let bad = cube.buffer("first_not_finite", total, size_of::<u32>())?;
    let dim = CubeDim::new_1d(cube.limits().units_up_to(UNITS) as u32);
    let mut first = 0;
    for (x, &pieces) in tensors.iter().zip(&pieces).filter(|(_, pieces)| **pieces > 0) {
        let (cubes, units) = (cube.cubes(pieces), dim.x as usize);
        bad_pieces::launch::<E, R>(cube.client(), cubes, dim, arg(x), bad.arg(), first as u32, pieces as u32, units, PIECE);
        first += pieces;
    }
    let flags = cube.read_words("first_not_finite", &bad)?;
    let mut rest = flags.as_slice();
    Ok(pieces.iter().position(|&pieces| rest.split_off(..pieces).is_some_and(|own| own.contains(&1))))
}
