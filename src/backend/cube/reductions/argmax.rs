//! The places of the largest values along an axis.

use cubecl::prelude::*;

use super::lines::{Lines, Plan};
use crate::backend::Tensor;
use crate::backend::cube::storage::arg;
use crate::backend::cube::{Cube, Scalar};
use crate::error::Result;

/// Whether `value` at `place` comes before `best` at `best_place`: NaN before all, then the larger, of equal ones the first.
#[cube]
fn beats<F: Float>(value: F, place: u32, best: F, best_place: u32) -> bool {
    let nan = bool::cast_from(value.is_nan());
    let best_nan = bool::cast_from(best.is_nan());
    let level = value == best || (nan && best_nan);
    value > best || (nan && !best_nan) || (level && place < best_place)
}

#[cube(launch)]
fn argmax_kernel<F: Float>(x: &Array<F>, out: &mut Array<F>, lines: &Lines, #[comptime] across: usize, #[comptime] lanes: usize) {
    let mut values = SharedMemory::<F>::new(across * lanes);
    let mut places = SharedMemory::<u32>::new(across * lanes);
    let mine = lines.share(across);
    let step = comptime!(lanes as u32).runtime();
    let apart = comptime!(across as u32).runtime();
    // The line's first number is every unit's first candidate.
    let mut best = x[mine.base as usize];
    let mut place = 0u32;
    let mut k = mine.first;
    while k < mine.end {
        let value = x[(mine.base + k * mine.stride) as usize];
        if beats::<F>(value, k, best, place) {
            best = value;
            place = k;
        }
        k += step;
    }
    let own = UNIT_POS as usize;
    values[own] = best;
    places[own] = place;
    sync_cube();
    let mut width = step / 2;
    while width > 0 {
        if mine.first < width {
            let other = (UNIT_POS + width * apart) as usize;
            if beats::<F>(values[other], places[other], values[own], places[own]) {
                values[own] = values[other];
                places[own] = places[other];
            }
        }
        sync_cube();
        width /= 2;
    }
    if mine.first == 0 && mine.end > 0 {
        out[mine.line as usize] = F::cast_from(places[own]);
    }
}

/// Of x, (outer, length, inner), in the shape `kept`.
pub(super) fn argmax<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    x: &Tensor<Cube<R, E>>,
    sizes: [usize; 3],
    kept: &[usize],
) -> Result<Tensor<Cube<R, E>>> {
    let out = cube.alloc("argmax", kept)?;
    if out.numel() > 0 {
        let plan = Plan::new(cube, sizes);
        let (cubes, units) = plan.grid(cube);
        argmax_kernel::launch::<E, R>(cube.client(), cubes, units, arg(x), arg(&out), plan.launch(), plan.across, plan.lanes);
    }
    Ok(out)
}
