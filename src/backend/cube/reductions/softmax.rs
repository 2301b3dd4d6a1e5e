//! The softmax along an axis and its logarithm, and their gradients: a line stays with its cube.

use cubecl::prelude::*;

use super::lines::{Lines, Plan};
use crate::backend::cube::elementwise::functions::join;
use crate::backend::cube::elementwise::reduce::fold_lanes;
use crate::backend::cube::storage::arg;
use crate::backend::cube::{Cube, Scalar};
use crate::backend::{Binary, Tensor};
use crate::error::Result;

/// e^x over its sum, or x - ln(sum(e^x)).
#[cube(launch)]
fn softmax_kernel<F: Float>(
    x: &Array<F>,
    out: &mut Array<F>,
    lines: &Lines,
    #[comptime] log: bool,
    #[comptime] across: usize,
    #[comptime] lanes: usize,
) {
    let mut scratch = SharedMemory::<F>::new(across * lanes);
    let mine = lines.share(across);
    let step = comptime!(lanes as u32).runtime();
    let apart = comptime!(across as u32).runtime();
    let mut top = x[mine.base as usize];
    let mut k = mine.first;
    while k < mine.end {
        top = join::<F>(top, x[(mine.base + k * mine.stride) as usize], Binary::Max);
        k += step;
    }
    let top = fold_lanes::<F>(top, step, apart, &mut scratch, Binary::Max);
    let mut total = F::new(0.0);
    k = mine.first;
    while k < mine.end {
        total += (x[(mine.base + k * mine.stride) as usize] - top).exp();
        k += step;
    }
    let total = fold_lanes::<F>(total, step, apart, &mut scratch, Binary::Add);
    let log_total = total.ln();
    k = mine.first;
    while k < mine.end {
        let at = (mine.base + k * mine.stride) as usize;
        let lowered = x[at] - top;
        out[at] = if comptime!(log) { lowered - log_total } else { lowered.exp() / total };
        k += step;
    }
}

/// y (g - sum(g y)), or g - e^y sum(g).
#[cube(launch)]
fn softmax_grad_kernel<F: Float>(
    y: &Array<F>,
    g: &Array<F>,
    out: &mut Array<F>,
    lines: &Lines,
    #[comptime] log: bool,
    #[comptime] across: usize,
    #[comptime] lanes: usize,
) {
    let mut scratch = SharedMemory::<F>::new(across * lanes);
    let mine = lines.share(across);
    let step = comptime!(lanes as u32).runtime();
    let apart = comptime!(across as u32).runtime();
    let mut common = F::new(0.0);
    let mut k = mine.first;
    while k < mine.end {
        let at = (mine.base + k * mine.stride) as usize;
        let term = if comptime!(log) { g[at] } else { g[at] * y[at] };
        common += term;
        k += step;
    }
    let common = fold_lanes::<F>(common, step, apart, &mut scratch, Binary::Add);
    k = mine.first;
    while k < mine.end {
        let at = (mine.base + k * mine.stride) as usize;
        out[at] = if comptime!(log) { g[at] - y[at].exp() * common } else { y[at] * (g[at] - common) };
        k += step;
    }
}

pub(super) fn softmax<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    x: &Tensor<Cube<R, E>>,
    sizes: [usize; 3],
    log: bool,
) -> Result<Tensor<Cube<R, E>>> {
    let out = cube.alloc("softmax", x.shape())?;
    if out.numel() > 0 {
        let plan = Plan::new(cube, sizes);
        let (cubes, units) = plan.grid(cube);
        softmax_kernel::launch::<E, R>(cube.client(), cubes, units, arg(x), arg(&out), plan.launch(), log, plan.across, plan.lanes);
    }
    Ok(out)
}

pub(super) fn softmax_grad<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    y: &Tensor<Cube<R, E>>,
    g: &Tensor<Cube<R, E>>,
    sizes: [usize; 3],
    log: bool,
) -> Result<Tensor<Cube<R, E>>> {
    let out = cube.alloc("softmax_grad", y.shape())?;
    if out.numel() > 0 {
        let plan = Plan::new(cube, sizes);
        let (cubes, units) = plan.grid(cube);
        let [y, g, out] = [y, g, &out].map(arg);
        softmax_grad_kernel::launch::<E, R>(cube.client(), cubes, units, y, g, out, plan.launch(), log, plan.across, plan.lanes);
    }
    Ok(out)
}
