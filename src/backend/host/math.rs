//! Special functions in f32, branch-free so that loops over them vectorise.

/// c[0] + x (c[1] + x (c[2] + ..)).
#[inline(always)]
fn polynomial<const N: usize>(fma: impl Fn(f32, f32, f32) -> f32, x: f32, c: [f32; N]) -> f32 {
    let mut sum = c[N - 1];
    for i in (0..N - 1).rev() {
        sum = fma(sum, x, c[i]);
    }
    sum
}

/// e^x for x <= 0 (results below 2^-126 come out as 2^-126); relative error 2e-7. The caller handles NaN.
#[inline(always)]
fn exp_negative_f32(x: f32, fma: impl Fn(f32, f32, f32) -> f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the nearest integer in the low bits of the mantissa
    let x = x.max(-87.3);
    let shifted = fma(x, std::f32::consts::LOG2_E, ROUND);
    let k = shifted - ROUND;
    let r = fma(k, 2.121_944_4e-4, fma(k, -0.693_359_4, x)); // ln 2 in two parts: k * 0.693_359_4 is exact
    let p = polynomial(fma, r, [1.0, 1.0, 0.5, 0.166_666_66, 0.041_666_46, 0.008_333_45, 0.001_393_32]);
    // The exponent field is added in integers: k is at least -126, so the sum stays a normal number.
    let k = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    f32::from_bits((p.to_bits() as i32).wrapping_add(k << 23) as u32)
}

/// e^x, over the largest number infinity, below the smallest 0; relative error 2e-7. NaN stays NaN.
#[inline(always)]
pub fn exp_f32(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    // Beyond these the result is infinite, or 0. Comparisons, so that NaN passes.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (x - k * 0.693_359_4) + k * 2.121_944_4e-4;
    let p = 1.0 + r * (1.0 + r * (0.5 + r * (0.166_666_66 + r * (0.041_666_46 + r * (0.008_333_45 + r * 0.001_393_32)))));
    // 2^k by its halves: alone it need not be a normal number.
    let k = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let power = |k: i32| f32::from_bits((k.wrapping_add(127) << 23) as u32);
    let half = k >> 1;
    p * power(half) * power(k.wrapping_sub(half))
}

/// tanh x; relative error 3e-7. NaN stays NaN.
#[inline(always)]
pub fn tanh_f32(x: f32) -> f32 {
    let e = exp_f32(-2.0 * x.abs());
    let large = ((1.0 - e) / (1.0 + e)).copysign(x);
    // 1 - e cancels for small x: those take the series.
    let y = x * x;
    let series = 0.133_333_33 - y * (0.053_968_254 - y * (0.021_869_488 - y * 0.008_863_236));
    let small = x * (1.0 - y * (0.333_333_34 - y * series));
    if x.abs() < 0.35 { small } else { large }
}

/// Phi(x) and phi(x) of the standard normal distribution; `fma(a, b, c)` is a b + c.
///
/// For t = |x| / sqrt 2, erfc(t) = e^(-t^2) g(1 / (1 + t / 2)) with a polynomial g of degree 9 fitted to the scaled complementary
/// error function (relative error 4e-8 before rounding), so the small tail keeps its relative accuracy: 5e-7 above -2, 1.3e-6 at -6,
/// where x^2 is rounded.
#[inline(always)]
pub fn normal_cdf_pdf_f32(x: f32, fma: impl Fn(f32, f32, f32) -> f32 + Copy) -> (f32, f32) {
    /// g(s) / s.
    const G: [f32; 9] =
        [0.282_087_98, 0.282_348, 0.243_300_23, 0.201_916_53, -0.024_819_149, 0.275_462_36, -0.484_936_33, 0.283_487_35, -0.058_847_044];
    let s = 1.0 / fma(0.5 * std::f32::consts::FRAC_1_SQRT_2, x.abs(), 1.0);
    let g = s * polynomial(fma, s, G);
    // For |x| above 13.2, e^(-x^2 / 2) is below the smallest normal number. It must be exactly 0 there: callers multiply it by x, which
    // may be infinite.
    let e = if x.abs() > 13.2 { 0.0 } else { exp_negative_f32(-0.5 * x * x, fma) };
    let tail = 0.5 * g * e;
    (if x > 0.0 { 1.0 - tail } else { tail }, e * 0.398_942_3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Real;

    #[test]
    fn exponentials_agree_with_libm_from_overflow_to_underflow() {
        let mut x = -110.0f32;
        while x < 95.0 {
            let (got, want) = (f64::from(exp_f32(x)), f64::from(x).exp());
            // Of a subnormal number the last place counts.
            let near = (got - want).abs() <= 2.5e-7 * want + 1.5e-45;
            assert!(near || want > f64::from(f32::MAX) && got == f64::INFINITY, "exp({x}) = {got}, not {want}");
            let (got, want) = (f64::from(tanh_f32(x / 8.0)), f64::from(x / 8.0).tanh());
            assert!((got - want).abs() <= 3e-7 * want.abs(), "tanh({}) = {got}, not {want}", x / 8.0);
            x += 0.003_7;
        }
        assert_eq!((exp_f32(f32::NEG_INFINITY), exp_f32(f32::INFINITY), exp_f32(0.0)), (0.0, f32::INFINITY, 1.0));
        assert_eq!((tanh_f32(f32::NEG_INFINITY), tanh_f32(f32::INFINITY), tanh_f32(1e-30)), (-1.0, 1.0, 1e-30));
        assert!(exp_f32(f32::NAN).is_nan() && tanh_f32(f32::NAN).is_nan());
        assert!(tanh_f32(-0.0).is_sign_negative());
    }

    #[test]
    fn normal_distribution_agrees_with_libm_whether_fused_or_not() {
        let two_roundings = |x: f32| normal_cdf_pdf_f32(x, |a, b, c| a * b + c);
        let one = |x: f32| normal_cdf_pdf_f32(x, f32::mul_add);
        let mut x = -12.0f64;
        while x < 12.0 {
            for (cdf, pdf) in [two_roundings(x as f32), one(x as f32)] {
                let (want_cdf, want_pdf) = f64::from(x as f32).normal_cdf_pdf();
                // In the exponent, x^2 / 2 is rounded.
                let off = 5e-7 + x * x * 3.3e-8;
                assert!((f64::from(cdf) / want_cdf - 1.0).abs() < off, "Phi({x}) = {cdf}, not {want_cdf}");
                assert!((f64::from(pdf) / want_pdf - 1.0).abs() < off, "phi({x}) = {pdf}, not {want_pdf}");
                assert!((f64::from(cdf) - want_cdf).abs() < 3e-7);
            }
            x += 0.001_37;
        }
        for far in [two_roundings as fn(f32) -> (f32, f32), one] {
            assert_eq!(far(-40.0).0 * 0.0, 0.0);
            assert_eq!(far(40.0).0, 1.0);
        }
    }
}
