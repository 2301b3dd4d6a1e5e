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

/// From here on e^(-x^2 / 2) is below the smallest normal number, and taken as 0.
const FAR: f32 = 13.2;

/// e^(-a^2 / 2) for a from 0 to [`FAR`], relative error 2e-7 beside the rounding of a^2. The caller handles NaN.
#[inline(always)]
fn gaussian_f32(a: f32, fma: impl Fn(f32, f32, f32) -> f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the nearest integer in the low bits of the mantissa
    /// e^(-z / 2) where |z| is at most ln 2; relative error 8e-8.
    const E: [f32; 6] = [1.0, -0.499_999_85, 0.124_997_23, -0.020_834_47, 0.002_619_726_8, -0.000_259_300_6];
    let square = a * a;
    let shifted = fma(square, -0.5 * std::f32::consts::LOG2_E, ROUND);
    let k = shifted - ROUND;
    let z = fma(k, -4.243_888_8e-4, fma(k, 1.386_718_8, square)); // 2 ln 2 in two parts: k * 1.386_718_8 is exact
    // The exponent field is added in integers: k is at least -126, so the sum stays a normal number. ROUND's own bits are shifted out.
    f32::from_bits(polynomial(fma, z, E).to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// Phi(-a), phi(a) sqrt(2 pi) of the standard normal distribution, and a itself, for a = |x| or [`FAR`], if that is less. Both are exactly 0
/// there: callers multiply them by x, which may be infinite.
///
/// Phi(-a) = e^(-a^2 / 2) g(1 / (1 + c a)) with a polynomial g of degree 8 fitted to the scaled complementary error function (relative
/// error 3e-8 before rounding), so the small tail keeps its relative accuracy: 5e-7 above -2, 1.3e-6 at -6, where x^2 is rounded.
#[inline(always)]
fn normal_tail_f32(x: f32, fma: impl Fn(f32, f32, f32) -> f32 + Copy) -> (f32, f32, f32) {
    const C: f32 = 0.295;
    const G: [f32; 9] =
        [1.812_971_3e-5, 0.117_268_58, 0.121_860_44, 0.084_059_9, 0.168_037_13, -0.119_817_93, 0.273_616_55, -0.184_764_58, 0.039_721_813];
    let a = if x.abs() > FAR { FAR } else { x.abs() };
    let e = if a == FAR { 0.0 } else { gaussian_f32(a, fma) };
    (e * polynomial(fma, 1.0 / fma(C, a, 1.0), G), e, a)
}

/// Phi(x) and phi(x) of the standard normal distribution; `fma(a, b, c)` is a b + c.
#[inline(always)]
pub fn normal_cdf_pdf_f32(x: f32, fma: impl Fn(f32, f32, f32) -> f32 + Copy) -> (f32, f32) {
    let (tail, e, _) = normal_tail_f32(x, fma);
    (if x > 0.0 { 1.0 - tail } else { tail }, e * 0.398_942_3)
}

/// x Phi(x) = max(x, 0) - |x| Phi(-|x|), as accurate as Phi; 0 at minus infinity.
#[inline(always)]
pub fn gelu_f32(x: f32, fma: impl Fn(f32, f32, f32) -> f32 + Copy) -> f32 {
    let (tail, _, a) = normal_tail_f32(x, fma);
    fma(-a, tail, if x < 0.0 { 0.0 } else { x })
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
        let two_roundings = |x: f32| (normal_cdf_pdf_f32(x, |a, b, c| a * b + c), gelu_f32(x, |a, b, c| a * b + c));
        let one = |x: f32| (normal_cdf_pdf_f32(x, f32::mul_add), gelu_f32(x, f32::mul_add));
        let mut x = -12.0f64;
        while x < 12.0 {
            for ((cdf, pdf), gelu) in [two_roundings(x as f32), one(x as f32)] {
                let (want_cdf, want_pdf) = f64::from(x as f32).normal_cdf_pdf();
                // In the exponent, x^2 / 2 is rounded.
                let off = 5e-7 + x * x * 3.3e-8;
                assert!((f64::from(cdf) / want_cdf - 1.0).abs() < off, "Phi({x}) = {cdf}, not {want_cdf}");
                assert!((f64::from(pdf) / want_pdf - 1.0).abs() < off, "phi({x}) = {pdf}, not {want_pdf}");
                assert!((f64::from(cdf) - want_cdf).abs() < 3e-7);
                let want = f64::from(x as f32) * want_cdf;
                assert!((f64::from(gelu) - want).abs() <= off * want.abs(), "GELU({x}) = {gelu}, not {want}");
            }
            x += 0.001_37;
        }
        for far in [two_roundings as fn(f32) -> ((f32, f32), f32), one] {
            assert_eq!((far(-40.0), far(40.0)), (((0.0, 0.0), 0.0), ((1.0, 0.0), 40.0)));
            assert_eq!((far(f32::NEG_INFINITY).1, far(f32::INFINITY).1), (0.0, f32::INFINITY));
            let ((cdf, _), gelu) = far(f32::NAN);
            assert!(cdf.is_nan() && gelu.is_nan());
        }
    }
}
