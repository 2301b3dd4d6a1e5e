//! The right-angle convolution: how rows and kernels become points of a transform, and results points again.
//!
//! A row is a polynomial modulo X^n - i, with n the power of two from L on. Evaluated at zeta w^k with zeta^n = i, such polynomials
//! multiply point by point. A term that wraps around comes back with the factor i, in the imaginary part, and disturbs nothing: n points
//! suffice where a zero-padded convolution needs 2 n. The anticausal lag -(m + 1) is the power n - 1 - m with the factor -i, so one row
//! holds both kernels: the causal one in its real parts, the anticausal one in its imaginary parts. D is added to the causal entry of lag
//! 0. Conjugating a spectrum reverses the lags, which is what the adjoint needs.
//!
//! `twist` (2, n) holds zeta^i.

#![allow(clippy::too_many_arguments, reason = "kernels take their arrays and sizes one by one")]

use cubecl::prelude::*;

use crate::backend::cube::complex::Complex;

/// Coefficient `i` of a real row before the transform: x zeta^i.
#[cube]
pub(crate) fn lift<F: Float>(x: F, twist: &Array<F>, i: usize, #[comptime] n: usize) -> Complex<F> {
    Complex::<F> { re: x * twist[i], im: x * twist[n + i] }
}

/// The real part of coefficient `i`, after an inverse transform without its division by n.
#[cube]
pub(crate) fn lower<F: Float>(z: Complex<F>, twist: &Array<F>, i: usize, #[comptime] n: usize) -> F {
    (z.re * twist[i] + z.im * twist[n + i]) * F::new(comptime!(1.0 / n as f32))
}

/// The imaginary part of coefficient `i`, likewise.
#[cube]
pub(crate) fn lower_imaginary<F: Float>(z: Complex<F>, twist: &Array<F>, i: usize, #[comptime] n: usize) -> F {
    (z.im * twist[i] - z.re * twist[n + i]) * F::new(comptime!(1.0 / n as f32))
}

/// Coefficient `i` of channel h's kernels before the transform; `sizes` says how many entries of each kernel count.
#[cube]
pub(crate) fn kernel_point<F: Float>(
    kernel: &Array<F>,
    skip: &ComptimeOption<Array<F>>,
    twist: &Array<F>,
    h: usize,
    i: usize,
    sizes: KernelSizes,
    #[comptime] kernels: usize,
    #[comptime] n: usize,
) -> Complex<F> {
    let len = sizes.len as usize;
    let mut causal = F::new(0.0);
    if i < sizes.causal as usize {
        causal = kernel[h * len + i];
    }
    #[comptime]
    match skip {
        ComptimeOption::Some(skip) => {
            if i == 0 {
                causal += skip[h];
            }
        }
        ComptimeOption::None => {}
    }
    let mut anticausal = F::new(0.0);
    if comptime!(kernels == 2) {
        let m = n - 1 - i;
        if m < sizes.anticausal as usize {
            anticausal = kernel[(sizes.channels as usize + h) * len + m];
        }
    }
    // (causal - i anticausal) zeta^i
    let c_re = twist[i];
    let c_im = twist[n + i];
    Complex::<F> { re: causal * c_re + anticausal * c_im, im: causal * c_im - anticausal * c_re }
}

/// The sizes of kernels (c, channels, len), and how many entries of the causal and of the anticausal one count: no lag is longer than a
/// row.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct KernelSizes {
    pub channels: u32,
    pub len: u32,
    pub causal: u32,
    pub anticausal: u32,
}

/// The sizes of rows (B, H, L); `first` is the sequence that a chunk of the batch begins with.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct RowSizes {
    pub batch: u32,
    pub channels: u32,
    pub length: u32,
    pub first: u32,
}

/// u[b, h, t], 0 from the sequence's true length on.
#[cube]
pub(crate) fn masked<F: Float>(u: &Array<F>, row: usize, t: usize, length: usize, valid: usize) -> F {
    let mut x = F::new(0.0);
    if t < valid {
        x = u[row * length + t];
    }
    x
}

/// The coefficients that hold entry m of the causal kernel and of the anticausal one: m, and n - 1 - m.
#[derive(CubeType)]
pub(crate) struct Ends<F: Float> {
    pub front: Complex<F>,
    pub back: Complex<F>,
}

/// Writes entry m of the gradients of channel h's kernels, 0 where it does not count; that of D is the causal one of lag 0.
#[cube]
pub(crate) fn put_kernel_grads<F: Float>(
    out: &mut Array<F>,
    skip: &mut ComptimeOption<Array<F>>,
    twist: &Array<F>,
    ends: &Ends<F>,
    h: usize,
    m: usize,
    sizes: KernelSizes,
    #[comptime] kernels: usize,
    #[comptime] n: usize,
) {
    let len = sizes.len as usize;
    let i = min(m, n - 1);
    let causal = select(m < sizes.causal as usize, lower::<F>(ends.front, twist, i, n), F::new(0.0));
    out[h * len + m] = causal;
    #[comptime]
    match skip {
        ComptimeOption::Some(skip) => {
            if m == 0 {
                skip[h] = causal;
            }
        }
        ComptimeOption::None => {}
    }
    if comptime!(kernels == 2) {
        let anticausal = -lower_imaginary::<F>(ends.back, twist, n - 1 - i, n);
        out[(sizes.channels as usize + h) * len + m] = select(m < sizes.anticausal as usize, anticausal, F::new(0.0));
    }
}
