//! `Real`: the scalars that a backend computes in, f32 and f64.

use std::fmt::{Debug, Display};
use std::iter::Sum;

use num_traits::{Float, FloatConst, NumAssign};

use super::host::{gemm::Gemm, math, vectors::Vectors};

/// A real scalar: `f32` or `f64`.
pub trait Real:
    Gemm + Vectors + Float + FloatConst + NumAssign + realfft::FftNum + Default + Sum + Debug + Display + Send + Sync + 'static
{
    /// The name of the type, `"f32"` or `"f64"`.
    const NAME: &'static str;

    /// The nearest value to `x`.
    fn of(x: f64) -> Self;

    /// The value in f64, exact.
    fn f64(self) -> f64;

    /// The uniform number in [0, 1) that a random word stands for: its upper 24 bits, so that every type draws the same numbers.
    #[doc(hidden)]
    fn unit(word: u32) -> Self;

    /// The standard normal's distribution function Phi(x) and density phi(x): what GELU(x) = x Phi(x) and its derivative are made of.
    ///
    /// Relative error below 1e-6 in f32 (tails included), below 1e-14 in f64. Branch-free in f32, so that loops over it vectorise.
    fn normal_cdf_pdf(self) -> (Self, Self) {
        self.normal_cdf_pdf_by(|a, b, c| a * b + c)
    }

    /// The same; `fma(a, b, c)` is a b + c, in one rounding where the machine has it.
    #[doc(hidden)]
    fn normal_cdf_pdf_by(self, fma: impl Fn(Self, Self, Self) -> Self + Copy) -> (Self, Self);

    /// x Phi(x), by the same `fma`.
    #[doc(hidden)]
    fn gelu_by(self, fma: impl Fn(Self, Self, Self) -> Self + Copy) -> Self;

    /// The error function, within a few units in the last place.
    fn erf(self) -> Self;

    /// The nearest whole number, of two as near the even one.
    fn nearest_even(self) -> Self;

    /// e^x; in f32 with a relative error of 2.5e-7, branch-free, so that loops over it vectorise.
    #[doc(hidden)]
    fn vector_exp(self) -> Self;

    /// tanh x; in f32 with a relative error of 3e-7, branch-free, so that loops over it vectorise.
    #[doc(hidden)]
    fn vector_tanh(self) -> Self;

    /// The little-endian bytes of `values`.
    #[doc(hidden)]
    fn bytes_of(values: &[Self]) -> Vec<u8>;

    /// The values in little-endian `bytes`.
    #[doc(hidden)]
    fn values_of(bytes: &[u8]) -> Vec<Self>;
}

impl Real for f32 {
    const NAME: &'static str = "f32";

    #[inline(always)]
    fn of(x: f64) -> f32 {
        x as f32
    }

    #[inline(always)]
    fn f64(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn unit(word: u32) -> f32 {
        // Signed, because that conversion is one instruction everywhere.
        (word >> 8) as i32 as f32 * (1.0 / 16_777_216.0)
    }

    #[inline(always)]
    fn normal_cdf_pdf_by(self, fma: impl Fn(f32, f32, f32) -> f32 + Copy) -> (f32, f32) {
        math::normal_cdf_pdf_f32(self, fma)
    }

    #[inline(always)]
    fn gelu_by(self, fma: impl Fn(f32, f32, f32) -> f32 + Copy) -> f32 {
        math::gelu_f32(self, fma)
    }

    #[inline]
    fn erf(self) -> f32 {
        libm::erff(self)
    }

    #[inline(always)]
    fn nearest_even(self) -> f32 {
        self.round_ties_even()
    }

    #[inline(always)]
    fn vector_exp(self) -> f32 {
        math::exp_f32(self)
    }

    #[inline(always)]
    fn vector_tanh(self) -> f32 {
        math::tanh_f32(self)
    }

    fn bytes_of(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn values_of(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }
}

impl Real for f64 {
    const NAME: &'static str = "f64";

    #[inline(always)]
    fn of(x: f64) -> f64 {
        x
    }

    #[inline(always)]
    fn f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn unit(word: u32) -> f64 {
        f64::from(f32::unit(word))
    }

    #[inline]
    fn normal_cdf_pdf_by(self, _: impl Fn(f64, f64, f64) -> f64 + Copy) -> (f64, f64) {
        use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};
        /// What 1 / sqrt 2 has beyond its nearest number.
        const REST: f64 = -4.833_646_656_726_457e-17;
        let density = (-0.5 * self * self).exp() * (0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2);
        let t = -self * FRAC_1_SQRT_2;
        // What t lacks of -x / sqrt 2: far out, where erfc is steep, it is most of the error.
        let lacking = (-self).mul_add(FRAC_1_SQRT_2, -t) - self * REST;
        // At an infinity nothing is lacking, and NaN would be.
        let correction = if density == 0.0 { 0.0 } else { lacking * SQRT_2 * density };
        (0.5 * libm::erfc(t) - correction, density)
    }

    #[inline]
    fn gelu_by(self, fma: impl Fn(f64, f64, f64) -> f64 + Copy) -> f64 {
        // Where Phi is 0, so is its product with x, which may be infinite.
        match self.normal_cdf_pdf_by(fma).0 {
            0.0 => 0.0,
            cdf => self * cdf,
        }
    }

    #[inline]
    fn erf(self) -> f64 {
        libm::erf(self)
    }

    #[inline(always)]
    fn nearest_even(self) -> f64 {
        self.round_ties_even()
    }

    #[inline(always)]
    fn vector_exp(self) -> f64 {
        self.exp()
    }

    #[inline(always)]
    fn vector_tanh(self) -> f64 {
        self.tanh()
    }

    fn bytes_of(values: &[f64]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn values_of(bytes: &[u8]) -> Vec<f64> {
        bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
    }
}
