//! Functions of numbers as kernels compute them: those that devices lack or round badly, and special values kept.

use std::f64::consts::{FRAC_2_SQRT_PI, FRAC_PI_2, FRAC_PI_4, PI, SQRT_2};

use cubecl::prelude::*;

use crate::backend::cube::launch::constant;

/// x Phi(x), and its limit 0 where Phi(x) is 0, down to -infinity.
#[cube]
pub(crate) fn gelu<F: Float>(x: F) -> F {
    let cdf = normal_cdf::<F>(x);
    select(cdf == F::new(0.0), F::new(0.0), x * cdf)
}

/// Phi(x) + x phi(x), and its limit Phi(x) where phi(x) is 0, out to the infinities.
#[cube]
pub(crate) fn gelu_slope<F: Float>(x: F) -> F {
    let pdf = normal_pdf::<F>(x);
    let cdf = normal_cdf::<F>(x);
    select(pdf == F::new(0.0), cdf, cdf + x * pdf)
}

/// -1, 0 or 1, NaN for NaN.
#[cube]
pub(crate) fn sign<F: Float>(x: F) -> F {
    select(x > F::new(0.0), F::new(1.0), select(x < F::new(0.0), F::new(-1.0), x))
}

/// The nearest whole number, of two as near the even one.
#[cube]
pub(crate) fn nearest_even<F: Float>(x: F) -> F {
    let below = x.floor();
    let above = below + F::new(1.0);
    let past = x - below;
    let half = F::new(0.5);
    // Half of an even number is whole.
    let even = select((below * half).floor() == below * half, below, above);
    select(past < half, below, select(past > half, above, even))
}

/// ln(1 + x), accurate for small x. In f32 near 0 by ln((1 + s) / (1 - s)) = 2 (s + s^3 / 3 + ..) with s = x / (2 + x): a device's own may
/// round 1 + x first. In f64 the device's.
#[cube]
pub(crate) fn log1p<F: Float>(x: F) -> F {
    let size = F::type_size();
    if comptime!(size == 4) {
        let s = x / (F::new(2.0) + x);
        let y = s * s;
        let high = F::new(0.111_111_11) + y * (F::new(0.090_909_09) + y * (F::new(0.076_923_08) + y * F::new(0.066_666_67)));
        let series = F::new(0.333_333_34) + y * (F::new(0.2) + y * (F::new(0.142_857_15) + y * high));
        let zero = F::new(0.0);
        let far = select(x < F::new(-1.0), zero / (x * zero), (F::new(1.0) + x).ln());
        select(x.abs() < F::new(0.5), F::new(2.0) * s * (F::new(1.0) + y * series), far)
    } else {
        x.log1p()
    }
}

/// e^x - 1, accurate for small x.
#[cube]
pub(crate) fn expm1<F: Float>(x: F) -> F {
    let half = tanh::<F>(x * F::new(0.5));
    // e^x - 1 = 2 t / (1 - t) with t = tanh(x / 2).
    select(x.abs() < F::new(1.0), F::new(2.0) * half / (F::new(1.0) - half), x.exp() - F::new(1.0))
}

/// The error function. In f32 near 0 its series, else from Phi; in f64 the device's.
#[cube]
pub(crate) fn erf<F: Float>(x: F) -> F {
    let size = F::type_size();
    if comptime!(size == 4) {
        let y = x * x;
        let inner = F::new(0.1) - y * (F::new(0.023_809_524) - y * (F::new(0.004_629_63) - y * F::new(0.000_757_576)));
        let series = constant::<F>(FRAC_2_SQRT_PI) * x * (F::new(1.0) - y * (F::new(0.333_333_34) - y * inner));
        let far = F::new(1.0) - F::new(2.0) * normal_cdf::<F>(-x.abs() * constant::<F>(SQRT_2));
        select(x.abs() < F::new(0.4), series, select(x < F::new(0.0), -far, far))
    } else {
        x.erf()
    }
}

/// x / (1 + e^-x), and its limit 0 where the sigmoid is 0, down to -infinity.
#[cube]
pub(crate) fn silu<F: Float>(x: F) -> F {
    let s = sigmoid::<F>(x);
    select(s == F::new(0.0), F::new(0.0), x * s)
}

#[cube]
pub(crate) fn silu_slope<F: Float>(x: F) -> F {
    let s = sigmoid::<F>(x);
    let curve = s * sigmoid::<F>(-x);
    select(curve == F::new(0.0), s, s + x * curve)
}

/// x^p, also for x below 0 where p is a whole number.
#[cube]
pub(crate) fn power<F: Float>(x: F, p: F) -> F {
    let zero = F::new(0.0);
    let one = F::new(1.0);
    let size = power_of_size::<F>(x.abs(), p);
    let half = p * F::new(0.5);
    let whole = p.floor() == p;
    let odd = half.floor() != half;
    let below = select(whole, select(odd, -size, size), zero / (x * zero));
    let usual = select(x < zero, below, size);
    let known = select(bool::cast_from(x.is_nan()), x, select(bool::cast_from(p.is_nan()), p, usual));
    select(p == zero || x == one, one, known)
}

/// x^p for x from 0 on. In f32 a device's own is that of a logarithm, which knows neither 0 nor infinity, and rounds small whole powers: these
/// come from squares. In f64 the device's.
#[cube]
fn power_of_size<F: Float>(x: F, p: F) -> F {
    let size = F::type_size();
    if comptime!(size == 4) {
        let zero = F::new(0.0);
        let one = F::new(1.0);
        let whole = p.floor() == p && p.abs() <= F::new(16.0);
        let mut rest = u32::cast_from(select(whole, p.abs(), zero));
        let mut square = x;
        let mut product = F::new(1.0);
        #[unroll]
        for _ in 0..5u32 {
            product = select(rest % 2u32 == 1u32, product * square, product);
            square = square * square;
            rest /= 2u32;
        }
        let by_squares = select(p < zero, one / product, product);
        let usual = select(whole, by_squares, x.powf(p));
        let at_an_end = x == zero || bool::cast_from(x.is_inf());
        select(at_an_end, select(p < zero, one / x, x), usual)
    } else {
        x.powf(p)
    }
}

/// The angle of the point (x, y) in (-pi, pi]. In f32 by the series of the arc tangent, its argument brought below tan(pi / 8): a device's
/// own may be off by 4e-6, and answer NaN with a number. In f64 the device's.
#[cube]
pub(crate) fn angle<F: Float>(y: F, x: F) -> F {
    let size = F::type_size();
    if comptime!(size == 4) {
        let zero = F::new(0.0);
        let one = F::new(1.0);
        let across = x.abs();
        let up = y.abs();
        let large = max(across, up);
        // Both may be 0, or infinite.
        let ratio = select(large == zero, zero, select(across == up, one, min(across, up) / large));
        let steep = ratio > F::new(0.414_213_57);
        let t = select(steep, (ratio - one) / (ratio + one), ratio);
        let z = t * t;
        let high = F::new(0.090_909_09) - z * (F::new(0.076_923_08) - z * (F::new(0.066_666_67) - z * F::new(0.058_823_53)));
        let series = F::new(0.333_333_34) - z * (F::new(0.2) - z * (F::new(0.142_857_15) - z * (F::new(0.111_111_11) - z * high)));
        let octant = select(steep, constant::<F>(FRAC_PI_4), zero) + (t - t * z * series);
        let quadrant = select(up > across, constant::<F>(FRAC_PI_2) - octant, octant);
        let half = select(is_negative::<F>(x), constant::<F>(PI) - quadrant, quadrant);
        let whole = select(is_negative::<F>(y), -half, half);
        select(bool::cast_from(x.is_nan()), x, select(bool::cast_from(y.is_nan()), y, whole))
    } else {
        y.atan2(x)
    }
}

/// Whether x has a minus sign, be it -0.
#[cube]
fn is_negative<F: Float>(x: F) -> bool {
    let zero = F::new(0.0);
    x < zero || (x == zero && F::new(1.0) / x < zero)
}

/// 1, but NaN for NaN.
#[cube]
pub(crate) fn one_or_nan<F: Float>(x: F) -> F {
    select(bool::cast_from(x.is_nan()), x, F::new(1.0))
}

/// max(x, 0), NaN for NaN.
#[cube]
pub(crate) fn positive<F: Float>(x: F) -> F {
    select(x < F::new(0.0), F::new(0.0), x)
}

#[cube]
pub(crate) fn sigmoid<F: Float>(x: F) -> F {
    // From e^-|x|, which cannot overflow.
    let e = (-x.abs()).exp();
    let one = F::new(1.0);
    select(x < F::new(0.0), e / (one + e), one / (one + e))
}

/// In f32 near 0 the series, where 1 - e^-2|x| would cancel; in f64 the device's.
#[cube]
pub(crate) fn tanh<F: Float>(x: F) -> F {
    let size = F::type_size();
    if comptime!(size == 4) {
        let e = (F::new(-2.0) * x.abs()).exp();
        let large = (F::new(1.0) - e) / (F::new(1.0) + e);
        let y = x * x;
        let series = F::new(0.133_333_33) - y * (F::new(0.053_968_254) - y * F::new(0.021_869_488));
        let small = x - x * y * (F::new(0.333_333_34) - y * series);
        select(x.abs() < F::new(0.125), small, select(x < F::new(0.0), -large, large))
    } else {
        x.tanh()
    }
}

/// Phi(x) of the standard normal distribution. In f32 the polynomial of the CPU backend (`host/math.rs`), in f64 the device's erf.
#[cube]
pub(crate) fn normal_cdf<F: Float>(x: F) -> F {
    let size = F::type_size();
    if comptime!(size == 4) {
        let s = F::new(1.0) / (F::new(1.0) + F::new(0.212_132_03) * x.abs());
        let high = F::new(0.544_967_2) + s * (F::new(-0.509_772_7) + s * (F::new(0.484_301_85) - s * F::new(0.129_253_24)));
        let low = F::new(0.148_521_24) + s * (F::new(0.214_181_49) + s * (F::new(-0.092_826_21) + s * high));
        let g = s * (F::new(0.169_189_35) + s * (F::new(0.170_690_93) + s * low));
        let tail = F::new(0.5) * g * (F::new(-0.5) * x * x).exp();
        select(x > F::new(0.0), F::new(1.0) - tail, tail)
    } else {
        F::new(0.5) * (F::new(1.0) + (x / F::new(2.0).sqrt()).erf())
    }
}

/// phi(x) of the standard normal distribution.
#[cube]
pub(crate) fn normal_pdf<F: Float>(x: F) -> F {
    let density = (F::new(-0.5) * x * x).exp();
    let size = F::type_size();
    if comptime!(size == 4) {
        density * F::new(0.398_942_3)
    } else {
        // 1 / sqrt(2 pi) in full precision, with pi = acos(-1): kernels have no f64 literals.
        density / (F::new(2.0) * F::new(-1.0).acos()).sqrt()
    }
}
