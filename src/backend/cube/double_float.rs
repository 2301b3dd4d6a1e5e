//! Numbers carried as the sum of two, for values that are raised to high powers or subtracted from nearly equal ones.
//!
//! In f32 the first part keeps 12 bits, so that a product of two first parts is exact, and the second part what is left: 35 bits together.
//! The first part is cut off by masking its bits and not by adding and subtracting a large number: a device's compiler may see through
//! the latter, and it may contract a product and a sum into one operation, but it cannot reason about masked bits. In f64 the first part
//! is the number itself.

use cubecl::prelude::*;

/// hi + lo.
#[derive(CubeType, Clone, Copy)]
pub(super) struct DoubleFloat<F: Float> {
    pub(super) hi: F,
    pub(super) lo: F,
}

/// A complex number in pairs.
#[derive(CubeType, Clone, Copy)]
pub(super) struct ComplexDoubleFloat<F: Float> {
    pub(super) re: DoubleFloat<F>,
    pub(super) im: DoubleFloat<F>,
}

/// The leading bits of `x`.
#[cube]
fn head<F: Float>(x: F) -> F {
    let bytes = F::type_size();
    if comptime!(bytes == 4) { F::reinterpret(u32::reinterpret(x) & 0xFFFF_F000u32) } else { x }
}

/// `large + small` as a pair, where `small` is at most about the size of `large`.
#[cube]
fn normalize<F: Float>(large: F, small: F) -> DoubleFloat<F> {
    let hi = head::<F>(large + small);
    DoubleFloat::<F> { hi, lo: (large - hi) + small }
}

/// `x` itself.
#[cube]
pub(super) fn pair<F: Float>(x: F) -> DoubleFloat<F> {
    let hi = head::<F>(x);
    DoubleFloat::<F> { hi, lo: x - hi }
}

/// The leading bits of a constant in f64.
fn constant_head(x: f64) -> f64 {
    f64::from(f32::from_bits((x as f32).to_bits() & 0xFFFF_F000))
}

/// `x` as a pair, on the host.
pub(super) fn split(x: f64) -> [f64; 2] {
    [constant_head(x), x - constant_head(x)]
}

/// A constant, which `pair` must not get: CUDA C++ has no bits of a literal.
#[cube]
pub(super) fn constant<F: Float>(#[comptime] x: f64) -> DoubleFloat<F> {
    let bytes = F::type_size();
    if comptime!(bytes == 4) {
        DoubleFloat::<F> { hi: F::new(comptime!(constant_head(x) as f32)), lo: F::new(comptime!((x - constant_head(x)) as f32)) }
    } else {
        DoubleFloat::<F> { hi: F::cast_from(x), lo: F::new(0.0) }
    }
}

/// The nearest single number.
#[cube]
pub(super) fn value<F: Float>(x: DoubleFloat<F>) -> F {
    x.hi + x.lo
}

#[cube]
pub(super) fn negative<F: Float>(x: DoubleFloat<F>) -> DoubleFloat<F> {
    DoubleFloat::<F> { hi: -x.hi, lo: -x.lo }
}

/// x times a power of two.
#[cube]
pub(super) fn scaled<F: Float>(x: DoubleFloat<F>, power_of_two: F) -> DoubleFloat<F> {
    DoubleFloat::<F> { hi: x.hi * power_of_two, lo: x.lo * power_of_two }
}

#[cube]
pub(super) fn sum<F: Float>(x: DoubleFloat<F>, y: DoubleFloat<F>) -> DoubleFloat<F> {
    // The rounding error of the sum of the high parts is exact when computed from the larger one.
    let swap = y.hi.abs() > x.hi.abs();
    let large = select(swap, y.hi, x.hi);
    let small = select(swap, x.hi, y.hi);
    let hi = head::<F>(large + small);
    normalize::<F>(hi, ((large - hi) + small) + (x.lo + y.lo))
}

#[cube]
pub(super) fn product<F: Float>(x: DoubleFloat<F>, y: DoubleFloat<F>) -> DoubleFloat<F> {
    normalize::<F>(x.hi * y.hi, (x.hi * y.lo + x.lo * y.hi) + x.lo * y.lo)
}

/// What rounding took from `xy`, the product of x and y in single numbers.
#[cube]
pub(super) fn lost_in_product<F: Float>(x: F, y: F, xy: F) -> F {
    let bytes = F::type_size();
    if comptime!(bytes == 4) {
        let x = pair::<F>(x);
        let y = pair::<F>(y);
        ((x.hi * y.hi - xy) + (x.hi * y.lo + x.lo * y.hi)) + x.lo * y.lo
    } else {
        fma(x, y, -xy)
    }
}

/// x over a small whole number.
#[cube]
fn over<F: Float>(x: DoubleFloat<F>, whole: F) -> DoubleFloat<F> {
    let hi = head::<F>(x.hi / whole);
    DoubleFloat::<F> { hi, lo: ((x.hi - hi * whole) + x.lo) / whole }
}

#[cube]
pub(super) fn complex_product<F: Float>(x: ComplexDoubleFloat<F>, y: ComplexDoubleFloat<F>) -> ComplexDoubleFloat<F> {
    let re = sum::<F>(product::<F>(x.re, y.re), negative::<F>(product::<F>(x.im, y.im)));
    let im = sum::<F>(product::<F>(x.re, y.im), product::<F>(x.im, y.re));
    ComplexDoubleFloat::<F> { re, im }
}

/// 1 / x for real x.
#[cube]
pub(super) fn reciprocal<F: Float>(x: DoubleFloat<F>) -> DoubleFloat<F> {
    let guess = pair::<F>(F::new(1.0) / value::<F>(x));
    let rest = sum::<F>(constant::<F>(1.0), negative::<F>(product::<F>(guess, x)));
    sum::<F>(guess, product::<F>(guess, rest))
}

/// x - k y for the nearest whole k, and k.
#[derive(CubeType, Clone, Copy)]
struct Remainder<F: Float> {
    rest: DoubleFloat<F>,
    quotient: F,
}

#[cube]
fn remainder<F: Float>(x: DoubleFloat<F>, #[comptime] y: f64) -> Remainder<F> {
    let quotient = (x.hi * F::new(comptime!((1.0 / y) as f32))).round();
    let multiple = product::<F>(pair::<F>(quotient), constant::<F>(y));
    Remainder::<F> { rest: sum::<F>(x, negative::<F>(multiple)), quotient }
}

/// e^x - 1 for |x| below 0.7, by its series.
#[cube]
pub(super) fn exp_minus_one<F: Float>(x: DoubleFloat<F>) -> DoubleFloat<F> {
    let one = constant::<F>(1.0);
    let mut p = constant::<F>(1.0);
    for i in 0..12u32 {
        let next = sum::<F>(one, product::<F>(over::<F>(x, F::cast_from(13u32 - i)), p));
        p.hi = next.hi;
        p.lo = next.lo;
    }
    product::<F>(x, p)
}

/// e^x.
#[cube]
pub(super) fn exp<F: Float>(x: DoubleFloat<F>) -> DoubleFloat<F> {
    let bytes = F::type_size();
    if comptime!(bytes == 4) {
        // Below e^-87 the result is 0, above e^88 infinite; NaN stays NaN.
        let low = F::new(-87.0);
        let high = F::new(89.0);
        let kept = DoubleFloat::<F> {
            hi: select(x.hi < low, low, select(x.hi > high, high, x.hi)),
            lo: select(x.hi < low || x.hi > high, F::new(0.0), x.lo),
        };
        let r = remainder::<F>(kept, comptime!(std::f64::consts::LN_2));
        let power = F::reinterpret(u32::cast_from(i32::cast_from(r.quotient) + 127) << 23u32);
        let mantissa = sum::<F>(constant::<F>(1.0), exp_minus_one::<F>(r.rest));
        let gone = select(x.hi < low, F::new(0.0), power);
        scaled::<F>(mantissa, gone)
    } else {
        DoubleFloat::<F> { hi: value::<F>(x).exp(), lo: F::new(0.0) }
    }
}

/// e^(i x).
#[cube]
pub(super) fn turn<F: Float>(x: DoubleFloat<F>) -> ComplexDoubleFloat<F> {
    let bytes = F::type_size();
    if comptime!(bytes == 4) {
        let r = remainder::<F>(x, comptime!(std::f64::consts::FRAC_PI_2));
        let square = negative::<F>(product::<F>(r.rest, r.rest));
        let one = constant::<F>(1.0);
        let mut cosine = constant::<F>(1.0);
        let mut sine = constant::<F>(1.0);
        for i in 0..7u32 {
            let even = F::cast_from(14u32 - 2u32 * i);
            let next = sum::<F>(one, product::<F>(over::<F>(square, even * (even - F::new(1.0))), cosine));
            cosine.hi = next.hi;
            cosine.lo = next.lo;
            let next = sum::<F>(one, product::<F>(over::<F>(square, even * (even + F::new(1.0))), sine));
            sine.hi = next.hi;
            sine.lo = next.lo;
        }
        let sine = product::<F>(r.rest, sine);
        // The quarter decides which of the two is which, and their signs.
        let quarter = u32::cast_from(i32::cast_from(r.quotient)) & 3u32;
        let odd = quarter % 2u32 == 1u32;
        let re_sign = select(quarter == 1u32 || quarter == 2u32, F::new(-1.0), F::new(1.0));
        let im_sign = select(quarter >= 2u32, F::new(-1.0), F::new(1.0));
        let re = DoubleFloat::<F> { hi: select(odd, sine.hi, cosine.hi), lo: select(odd, sine.lo, cosine.lo) };
        let im = DoubleFloat::<F> { hi: select(odd, cosine.hi, sine.hi), lo: select(odd, cosine.lo, sine.lo) };
        ComplexDoubleFloat::<F> { re: scaled::<F>(re, re_sign), im: scaled::<F>(im, im_sign) }
    } else {
        let angle = value::<F>(x);
        ComplexDoubleFloat::<F> { re: pair::<F>(angle.cos()), im: pair::<F>(angle.sin()) }
    }
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use super::*;
    use crate::backend::cube::storage::arg;
    use crate::backend::*;

    #[cube]
    fn put<F: Float>(out: &mut Array<F>, row: usize, len: usize, x: DoubleFloat<F>) {
        out[2 * row * len + ABSOLUTE_POS] = x.hi;
        out[(2 * row + 1) * len + ABSOLUTE_POS] = x.lo;
    }

    #[cube(launch)]
    fn functions<F: Float>(x: &Array<F>, out: &mut Array<F>) {
        if ABSOLUTE_POS < x.len() {
            let p = pair::<F>(x[ABSOLUTE_POS]);
            let turn = turn::<F>(p);
            let square = product::<F>(p, p);
            put::<F>(out, 0usize, x.len(), exp::<F>(p));
            put::<F>(out, 1usize, x.len(), turn.re);
            put::<F>(out, 2usize, x.len(), turn.im);
            put::<F>(out, 3usize, x.len(), square);
            put::<F>(out, 4usize, x.len(), reciprocal::<F>(sum::<F>(constant::<F>(1.0), square)));
        }
    }

    #[test]
    fn functions_keep_more_than_single_precision() {
        let cube = Wgpu::new().expect("a device");
        let x: Vec<f32> = (0..100).map(|i| 0.187 * i as f32 - 9.0).collect();
        let n = x.len();
        let (given, out) = (cube.from_vec(x.clone(), &[n]).unwrap(), cube.alloc("functions", &[5, 2, n]).unwrap());
        let (cubes, units) = cube.units(n);
        functions::launch::<f32, _>(cube.client(), cubes, units, arg(&given), arg(&out));
        let got = cube.to_vec(&out).unwrap();
        // Errors of cosine and sine are relative to 1, the others to the value.
        let want: [fn(f64) -> [f64; 2]; 5] =
            [|x| [x.exp(); 2], |x| [x.cos(), 1.0], |x| [x.sin(), 1.0], |x| [x * x; 2], |x| [1.0 / (1.0 + x * x); 2]];
        for (pairs, want) in got.chunks_exact(2 * n).zip(want) {
            for i in 0..n {
                let [want, scale] = want(f64::from(x[i]));
                let got = f64::from(pairs[i]) + f64::from(pairs[n + i]);
                assert!((got - want).abs() <= 3e-10 * scale, "{} for {}: {got} and not {want}", want, x[i]);
            }
        }
    }
}
