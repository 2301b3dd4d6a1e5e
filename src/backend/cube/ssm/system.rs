//! What the DPLR and the diagonal kernel share: the step size, and the sum of the channels' gradients into those of the parameters.

#![allow(clippy::too_many_arguments, reason = "kernels take their arrays and sizes one by one")]

use cubecl::prelude::*;

use crate::backend::cube::double_float::{self, DoubleFloat};
use crate::backend::cube::elementwise::math::sigmoid;
use crate::backend::cube::elementwise::reduce::sum_strided;
use crate::backend::cube::storage::arg;
use crate::backend::cube::{Cube, Scalar};
use crate::backend::{SsmParams, Tensor, shape::Ssm};
use crate::error::Result;

/// dt = softplus(x), or e^x.
#[cube]
pub(crate) fn step_size<F: Float>(x: F, #[comptime] softplus: bool) -> DoubleFloat<F> {
    if comptime!(!softplus) {
        double_float::exp::<F>(double_float::pair::<F>(x))
    } else {
        let e = double_float::exp::<F>(double_float::pair::<F>(-x.abs()));
        sum_positive::<F>(x, log_one_plus::<F>(e))
    }
}

/// max(x, 0) + y.
#[cube]
fn sum_positive<F: Float>(x: F, y: DoubleFloat<F>) -> DoubleFloat<F> {
    double_float::sum::<F>(double_float::pair::<F>(select(x < F::new(0.0), F::new(0.0), x)), y)
}

/// ln(1 + e) for e in [0, 1]: a guess and, in f32, one step of Newton's method for e^y - 1 = e.
#[cube]
fn log_one_plus<F: Float>(e: DoubleFloat<F>) -> DoubleFloat<F> {
    let x = double_float::value::<F>(e);
    let bytes = F::type_size();
    if comptime!(bytes == 4) {
        let series = x * (F::new(1.0) - x * (F::new(0.5) - x * F::new(0.333_333_34)));
        let guess = double_float::pair::<F>(select(x > F::new(0.02), (F::new(1.0) + x).ln(), series));
        let miss = double_float::sum::<F>(e, double_float::negative::<F>(double_float::exp_minus_one::<F>(guess)));
        double_float::sum::<F>(guess, double_float::pair::<F>(double_float::value::<F>(miss) / (F::new(1.0) + x)))
    } else {
        double_float::pair::<F>(x.log1p())
    }
}

/// The derivative of the step size `dt` by x.
#[cube]
pub(crate) fn step_slope<F: Float>(x: F, dt: F, #[comptime] softplus: bool) -> F {
    if comptime!(softplus) { sigmoid::<F>(x) } else { dt }
}

/// Gradients by channel, before those of tied copies are added up: planes (H, M) for a_real, a_imag, b (2), p (2 R) and inv_dt, in this
/// order, and the finished gradient of C.
pub(crate) struct SystemGrads<R: Runtime, E: Scalar> {
    pub(crate) planes: Tensor<Cube<R, E>>,
    pub(crate) c: Tensor<Cube<R, E>>,
}

/// Planes of [`SystemGrads`].
pub(crate) fn grad_planes(rank: usize) -> usize {
    5 + 2 * rank
}

/// The most tied copies that are summed side by side.
const COPIES: usize = 64;

/// First a cube for every stored mode (s, n): it sums the channels h = s, s + S, .. of every plane. Then a cube for every channel: it sums
/// the modes' parts of the gradient of inv_dt.
#[cube(launch)]
fn gather_kernel<F: Float>(
    planes: &Array<F>,
    inv_dt: &mut Array<F>,
    a_real: &mut Array<F>,
    a_imag: &mut Array<F>,
    b: &mut Array<F>,
    p: &mut Array<F>,
    d_model: u32,
    n_ssm: u32,
    half: u32,
    #[comptime] rank: usize,
    #[comptime] units: usize,
) {
    let mut scratch = SharedMemory::<F>::new(units);
    let cube = CUBE_POS as u32;
    let stored = n_ssm * half;
    let plane = d_model * half;
    if cube < stored {
        #[unroll]
        for q in 0..comptime!(4 + 2 * rank) {
            let sum = sum_strided::<F>(planes, comptime!(q as u32) * plane + cube, d_model / n_ssm, stored, &mut scratch);
            if UNIT_POS == 0 {
                if comptime!(q == 0) {
                    a_real[cube as usize] = sum;
                } else if comptime!(q == 1) {
                    a_imag[cube as usize] = sum;
                } else if comptime!(q < 4) {
                    b[(comptime!(q as u32 - 2) * stored + cube) as usize] = sum;
                } else {
                    p[(comptime!(q as u32 - 4) * stored + cube) as usize] = sum;
                }
            }
        }
    } else if cube < stored + d_model {
        let h = cube - stored;
        let sum = sum_strided::<F>(planes, comptime!(4 + 2 * rank as u32) * plane + h * half, half, 1u32, &mut scratch);
        if UNIT_POS == 0 {
            inv_dt[h as usize] = sum;
        }
    }
}

/// The gradients of what is stored.
pub(crate) fn gather<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    ssm: &SsmParams<Tensor<Cube<R, E>>>,
    sizes: Ssm,
    grads: SystemGrads<R, E>,
) -> Result<SsmParams<Tensor<Cube<R, E>>>> {
    const OP: &str = "the gradient of an SSM kernel";
    let Ssm { d_model, n_ssm, half_state, rank, .. } = sizes;
    let like = |x: &Tensor<Cube<R, E>>| cube.alloc(OP, x.shape());
    let [inv_dt, a_real, a_imag, b] = [like(&ssm.inv_dt)?, like(&ssm.a_real)?, like(&ssm.a_imag)?, like(&ssm.b)?];
    let p = ssm.p.as_ref().map(like).transpose()?;
    // The kernel takes an array in any case.
    let unused = cube.buffer(OP, 1, size_of::<E>())?;
    let units = cube.limits().units_up_to((d_model / n_ssm).max(half_state).next_power_of_two().min(COPIES));
    gather_kernel::launch::<E, R>(
        cube.client(),
        cube.cubes(n_ssm * half_state + d_model),
        CubeDim::new_1d(units as u32),
        arg(&grads.planes),
        arg(&inv_dt),
        arg(&a_real),
        arg(&a_imag),
        arg(&b),
        p.as_ref().map_or_else(|| unused.arg(), arg),
        d_model as u32,
        n_ssm as u32,
        half_state as u32,
        rank,
        COPIES,
    );
    Ok(SsmParams { inv_dt, a_real, a_imag, b, c: grads.c, p, dt: ssm.dt })
}
