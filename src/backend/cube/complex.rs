//! Complex numbers inside kernels; in memory they are planes.

use cubecl::prelude::*;

use super::double_float::{ComplexDoubleFloat, value};

#[derive(CubeType, Clone, Copy)]
pub(super) struct Complex<F: Float> {
    pub(super) re: F,
    pub(super) im: F,
}

#[cube]
pub(super) fn complex<F: Float>(re: F, im: F) -> Complex<F> {
    Complex::<F> { re, im }
}

#[cube]
pub(super) fn rounded<F: Float>(z: ComplexDoubleFloat<F>) -> Complex<F> {
    Complex::<F> { re: value::<F>(z.re), im: value::<F>(z.im) }
}

#[cube]
pub(super) fn add<F: Float>(x: Complex<F>, y: Complex<F>) -> Complex<F> {
    Complex::<F> { re: x.re + y.re, im: x.im + y.im }
}

#[cube]
pub(super) fn sub<F: Float>(x: Complex<F>, y: Complex<F>) -> Complex<F> {
    Complex::<F> { re: x.re - y.re, im: x.im - y.im }
}

#[cube]
pub(super) fn mul<F: Float>(x: Complex<F>, y: Complex<F>) -> Complex<F> {
    Complex::<F> { re: x.re * y.re - x.im * y.im, im: x.re * y.im + x.im * y.re }
}

#[cube]
pub(super) fn scale<F: Float>(x: Complex<F>, by: F) -> Complex<F> {
    Complex::<F> { re: x.re * by, im: x.im * by }
}

#[cube]
pub(super) fn conj<F: Float>(x: Complex<F>) -> Complex<F> {
    Complex::<F> { re: x.re, im: -x.im }
}

/// 1 / x.
#[cube]
pub(super) fn recip<F: Float>(x: Complex<F>) -> Complex<F> {
    let r = F::new(1.0) / (x.re * x.re + x.im * x.im);
    Complex::<F> { re: x.re * r, im: -(x.im * r) }
}

/// 1 / x, where the square of |x| may be too small for a number.
#[cube]
pub(super) fn recip_small<F: Float>(x: Complex<F>) -> Complex<F> {
    let size = F::new(1.0) / max(x.re.abs(), x.im.abs());
    scale::<F>(recip::<F>(scale::<F>(x, size)), size)
}

/// Entry `at` of a plane and of the plane `gap` entries further on.
#[cube]
pub(super) fn load<F: Float>(x: &Array<F>, at: u32, gap: u32) -> Complex<F> {
    Complex::<F> { re: x[at as usize], im: x[(at + gap) as usize] }
}

#[cube]
pub(super) fn store<F: Float>(x: &mut Array<F>, at: u32, gap: u32, z: Complex<F>) {
    x[at as usize] = z.re;
    x[(at + gap) as usize] = z.im;
}
