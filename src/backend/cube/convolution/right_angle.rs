//! The ring that long convolutions are taken in, point by point.
//!
//! Rows are polynomials modulo X^n - i (n a power of two, at least L): on the points zeta w^k, zeta^n = i, a product is pointwise, and what
//! wraps around lands in the imaginary part, so that n points do where padding to 2 L would need 2 n. A lag of -(m + 1) is the power
//! n - 1 - m with the factor -i, so that the anticausal kernel lives in the imaginary parts of the same row. D is one more entry of lag 0.
//! Real rows on the unit circle: reversing the lags is conjugating the spectrum.
//!
//! `twist` (2, n) holds zeta^i.

use cubecl::prelude::*;

use crate::backend::cube::complex::Complex;

/// Point `i` of a real row as the ring holds it: x zeta^i.
#[cube]
pub(crate) fn lift<F: Float>(x: F, twist: &Array<F>, i: usize, #[comptime] n: usize) -> Complex<F> {
    Complex::<F> { re: x * twist[i], im: x * twist[n + i] }
}

/// The real part of the ring's coefficient `i`, from an inverse transform that was not divided by n.
#[cube]
pub(crate) fn lower<F: Float>(z: Complex<F>, twist: &Array<F>, i: usize, #[comptime] n: usize) -> F {
    (z.re * twist[i] + z.im * twist[n + i]) * F::new(comptime!(1.0 / n as f32))
}

/// Its imaginary part.
#[cube]
pub(crate) fn lower_imaginary<F: Float>(z: Complex<F>, twist: &Array<F>, i: usize, #[comptime] n: usize) -> F {
    (z.im * twist[i] - z.re * twist[n + i]) * F::new(comptime!(1.0 / n as f32))
}

/// Coefficient `i` of channel h's kernels as the ring holds it; `taken` entries of each count.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's parameters are what they are")]
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

/// The sizes of kernels (c, channels, len), and how many entries of each reach from one end of a row to the other.
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

/// The gradient of D is that of the entry of lag 0.
#[cube]
pub(crate) fn put_skip<F: Float>(skip: &mut ComptimeOption<Array<F>>, x: F, h: usize, m: usize) {
    #[comptime]
    match skip {
        ComptimeOption::Some(skip) => {
            if m == 0 {
                skip[h] = x;
            }
        }
        ComptimeOption::None => {}
    }
}
