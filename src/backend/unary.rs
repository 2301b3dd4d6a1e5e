//! The functions of one number: their names, where they are smooth, and their values and derivatives on the host.

use super::Real;
use crate::error::{Error, Result};

listed! {
    /// A function of one number.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Unary {
        /// -x.
        Neg,
        /// e^x.
        Exp,
        /// ln x.
        Ln,
        /// The square root.
        Sqrt,
        /// 1 / x.
        Recip,
        /// x^2.
        Square,
        /// tanh x.
        Tanh,
        /// 1 / (1 + e^-x).
        Sigmoid,
        /// ln(1 + e^x).
        Softplus,
        /// max(x, 0); derivative 0 at 0, as PyTorch.
        Relu,
        /// x Phi(x), with the error function (no tanh approximation).
        Gelu,
        /// x limited to [low, high]; derivative 1 inside, both ends included.
        Clamp(f64, f64) = (-0.5, 0.75),
        /// scale * x + shift.
        Linear(f64, f64) = (1.75, -0.25),
        /// sin x, in radians.
        Sin,
        /// cos x, in radians.
        Cos,
        /// tan x, in radians.
        Tan,
        /// |x|; derivative 0 at 0, as PyTorch.
        Abs,
        /// -1, 0 or 1 by the sign of x, NaN for NaN; derivative 0.
        Sign,
        /// The largest whole number that is not above x; derivative 0.
        Floor,
        /// The smallest whole number that is not below x; derivative 0.
        Ceil,
        /// The nearest whole number, of two as near the even one; derivative 0.
        Round,
        /// ln(1 + x), accurate for small x.
        Log1p,
        /// e^x - 1, accurate for small x.
        Expm1,
        /// 1 / sqrt(x).
        Rsqrt,
        /// The error function, 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x.
        Erf,
        /// x / (1 + e^-x), also called swish.
        Silu,
        /// x^p for a real p, which is fixed: NaN below 0 unless p is a whole number. Derivative p x^(p - 1), and 0 everywhere where p is 0.
        Powf(f64) = (1.75),
        /// x^n for a whole n, which is fixed. Derivative n x^(n - 1), and 0 everywhere where n is 0.
        Powi(i32) = (3),
        /// x above 0, slope * x elsewhere; derivative `slope` at 0, as PyTorch.
        LeakyRelu(f64) = (0.125),
        /// x above 0, alpha (e^x - 1) elsewhere; derivative `alpha` at 0, as PyTorch.
        Elu(f64) = (1.25),
    }
}

/// Where the derivative of a function is held against difference quotients.
pub(crate) struct Domain {
    /// Stretches in which it is smooth but for the kinks.
    pub stretches: Vec<[f64; 2]>,
    /// Points at which it has no derivative.
    pub kinks: Vec<f64>,
}

impl Unary {
    /// Whether the function's own numbers make sense.
    ///
    /// # Errors
    /// [`Error::Config`] where the lower end of a clamp lies above the upper, or one is NaN; where an exponent, a slope or an alpha is not
    /// finite.
    pub fn check(self) -> Result<()> {
        match self {
            Unary::Clamp(low, high) if low.is_nan() || high.is_nan() || low > high => {
                Err(Error::config("clamp", format!("[{low}, {high}]"), "the lower end must not lie above the upper"))
            }
            Unary::Powf(p) if !p.is_finite() => Err(Error::config("powf", p, "the exponent must be finite")),
            Unary::LeakyRelu(slope) if !slope.is_finite() => {
                Err(Error::config("leaky_relu", slope, "the slope must be finite: 0.01 is usual"))
            }
            Unary::Elu(alpha) if !alpha.is_finite() => Err(Error::config("elu", alpha, "alpha must be finite: 1 is usual")),
            _ => Ok(()),
        }
    }

    /// Where its gradient is checked. The match has no arm for all others: a new function is checked, or does not compile.
    pub(crate) fn domain(self) -> Domain {
        let smooth = |from: f64, to: f64| Domain { stretches: vec![[from, to]], kinks: vec![] };
        // On both sides of 0, where the function has a pole.
        let around_pole = || Domain { stretches: vec![[0.3, 3.0], [-3.0, -0.3]], kinks: vec![] };
        let steps = |first: f64| (0..7).map(|i| first + f64::from(i)).collect();
        match self {
            Unary::Neg | Unary::Exp | Unary::Square | Unary::Linear(..) => smooth(-3.0, 3.0),
            Unary::Ln | Unary::Sqrt | Unary::Rsqrt => smooth(0.2, 5.0),
            Unary::Recip => around_pole(),
            Unary::Tanh => smooth(-4.0, 4.0),
            Unary::Sigmoid | Unary::Softplus => smooth(-30.0, 30.0),
            Unary::Relu => Domain { kinks: vec![0.0], ..smooth(-3.0, 3.0) },
            Unary::Gelu => smooth(-6.0, 6.0),
            Unary::Clamp(low, high) => Domain { kinks: vec![low, high], ..smooth(low - 1.0, high + 1.0) },
            Unary::Sin | Unary::Cos => smooth(-6.0, 6.0),
            Unary::Tan => smooth(-1.2, 1.2),
            Unary::Abs | Unary::Sign | Unary::LeakyRelu(_) | Unary::Elu(_) => Domain { kinks: vec![0.0], ..smooth(-3.0, 3.0) },
            Unary::Floor | Unary::Ceil => Domain { kinks: steps(-3.0), ..smooth(-3.0, 3.0) },
            Unary::Round => Domain { kinks: steps(-3.5), ..smooth(-3.0, 3.0) },
            Unary::Log1p => smooth(-0.8, 4.0),
            Unary::Expm1 | Unary::Erf => smooth(-3.0, 3.0),
            Unary::Silu => smooth(-8.0, 8.0),
            Unary::Powf(_) => smooth(0.2, 4.0),
            Unary::Powi(n) if n < 0 => around_pole(),
            Unary::Powi(_) => smooth(-2.0, 2.0),
        }
    }
}

/// Runs `$loop` for the function `$unary`, called `$f` in it: `$f(x)` is a pair of closures, one for f(x) and one that makes f'(x) g of g.
/// Neither is worked out before it is called. There is a loop for each function, so that the compiler can make vectors of it.
macro_rules! with_function {
    ($unary:expr, $isa:ty, $real:ty, |$f:ident| $loop:expr) => {{
        use $crate::backend::unary::{Unary, sigmoid, sign};
        let (zero, one, two) = (<$real>::zero(), <$real>::one(), <$real>::of(2.0));
        match $unary {
            Unary::Neg => {
                let $f = |x: $real| (move || -x, |g: $real| -g);
                $loop
            }
            Unary::Exp => {
                let $f = |x: $real| (move || x.vector_exp(), move |g: $real| x.vector_exp() * g);
                $loop
            }
            Unary::Ln => {
                let $f = |x: $real| (move || x.ln(), move |g: $real| g / x);
                $loop
            }
            Unary::Sqrt => {
                let $f = |x: $real| (move || x.sqrt(), move |g: $real| g / (two * x.sqrt()));
                $loop
            }
            Unary::Recip => {
                let $f = |x: $real| (move || one / x, move |g: $real| -g / (x * x));
                $loop
            }
            Unary::Square => {
                let $f = |x: $real| (move || x * x, move |g: $real| two * x * g);
                $loop
            }
            Unary::Tanh => {
                let $f = |x: $real| (move || x.vector_tanh(), move |g: $real| (one - x.vector_tanh() * x.vector_tanh()) * g);
                $loop
            }
            Unary::Sigmoid => {
                let $f = |x: $real| (move || sigmoid(x), move |g: $real| sigmoid(x) * sigmoid(-x) * g);
                $loop
            }
            Unary::Softplus => {
                // Without overflow.
                let value = |x: $real| x.max(zero) + (-num_traits::Float::abs(x)).vector_exp().ln_1p();
                let $f = |x: $real| (move || value(x), move |g: $real| sigmoid(x) * g);
                $loop
            }
            Unary::Relu => {
                // Comparisons, not max and min, so that NaN stays NaN.
                let $f = |x: $real| (move || if x < zero { zero } else { x }, move |g: $real| if x > zero { g } else { zero });
                $loop
            }
            Unary::Gelu => {
                let fma = <$isa as $crate::backend::host::simd::Isa>::fma::<$real>;
                let slope = move |x: $real| {
                    let (cdf, pdf) = x.normal_cdf_pdf_by(fma);
                    // Where phi is 0, so is its product with x, which may be infinite.
                    if pdf == zero { cdf } else { fma(x, pdf, cdf) }
                };
                let $f = |x: $real| (move || x.gelu_by(fma), move |g: $real| slope(x) * g);
                $loop
            }
            Unary::Clamp(low, high) => {
                let (low, high) = (<$real>::of(low), <$real>::of(high));
                let value = move |x: $real| {
                    if x < low {
                        low
                    } else if x > high {
                        high
                    } else {
                        x
                    }
                };
                let $f = |x: $real| (move || value(x), move |g: $real| if x >= low && x <= high { g } else { zero });
                $loop
            }
            Unary::Linear(scale, shift) => {
                let (scale, shift) = (<$real>::of(scale), <$real>::of(shift));
                let $f = |x: $real| (move || <$isa>::fma(scale, x, shift), move |g: $real| scale * g);
                $loop
            }
            Unary::Sin => {
                let $f = |x: $real| (move || x.sin(), move |g: $real| x.cos() * g);
                $loop
            }
            Unary::Cos => {
                let $f = |x: $real| (move || x.cos(), move |g: $real| -x.sin() * g);
                $loop
            }
            Unary::Tan => {
                let slope = |tan: $real| one + tan * tan;
                let $f = |x: $real| (move || x.tan(), move |g: $real| slope(x.tan()) * g);
                $loop
            }
            Unary::Abs => {
                let $f = |x: $real| (move || num_traits::Float::abs(x), move |g: $real| sign(x) * g);
                $loop
            }
            Unary::Sign => {
                let $f = |x: $real| (move || sign(x), move |_: $real| zero);
                $loop
            }
            Unary::Floor => {
                let $f = |x: $real| (move || x.floor(), move |_: $real| zero);
                $loop
            }
            Unary::Ceil => {
                let $f = |x: $real| (move || x.ceil(), move |_: $real| zero);
                $loop
            }
            Unary::Round => {
                let $f = |x: $real| (move || x.nearest_even(), move |_: $real| zero);
                $loop
            }
            Unary::Log1p => {
                let $f = |x: $real| (move || x.ln_1p(), move |g: $real| g / (one + x));
                $loop
            }
            Unary::Expm1 => {
                let $f = |x: $real| (move || x.exp_m1(), move |g: $real| x.exp() * g);
                $loop
            }
            Unary::Rsqrt => {
                let $f = |x: $real| (move || one / x.sqrt(), move |g: $real| -g / (two * x * x.sqrt()));
                $loop
            }
            Unary::Erf => {
                let factor = <$real>::of(std::f64::consts::FRAC_2_SQRT_PI);
                let $f = |x: $real| (move || x.erf(), move |g: $real| factor * (-x * x).vector_exp() * g);
                $loop
            }
            Unary::Silu => {
                let $f = |x: $real| {
                    // Where a factor is 0, so is its product with x, which may be infinite.
                    let times = move |factor: $real| if factor == zero { factor } else { x * factor };
                    (move || times(sigmoid(x)), move |g: $real| (sigmoid(x) + times(sigmoid(x) * sigmoid(-x))) * g)
                };
                $loop
            }
            Unary::Powf(p) => {
                let (p, less) = (<$real>::of(p), <$real>::of(p - 1.0));
                let slope = move |x: $real| if p == zero { zero } else { p * x.powf(less) };
                let $f = |x: $real| (move || x.powf(p), move |g: $real| slope(x) * g);
                $loop
            }
            Unary::Powi(n) => {
                let (factor, less) = (<$real>::of(f64::from(n)), n.saturating_sub(1));
                let slope = move |x: $real| if n == 0 { zero } else { factor * x.powi(less) };
                let $f = |x: $real| (move || x.powi(n), move |g: $real| slope(x) * g);
                $loop
            }
            Unary::LeakyRelu(slope) => {
                let slope = <$real>::of(slope);
                let $f = |x: $real| {
                    let factor = move || if x > zero { one } else { slope };
                    (move || factor() * x, move |g: $real| factor() * g)
                };
                $loop
            }
            Unary::Elu(alpha) => {
                let alpha = <$real>::of(alpha);
                let $f = |x: $real| {
                    let value = move || if x > zero { x } else { alpha * x.exp_m1() };
                    (value, move |g: $real| if x > zero { g } else { alpha * x.vector_exp() * g })
                };
                $loop
            }
        }
    }};
}
pub(crate) use with_function;

/// -1, 0 or 1, NaN for NaN.
#[inline(always)]
pub(crate) fn sign<E: Real>(x: E) -> E {
    if x > E::zero() {
        E::one()
    } else if x < E::zero() {
        -E::one()
    } else {
        x
    }
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid<E: Real>(x: E) -> E {
    E::one() / (E::one() + (-x).vector_exp())
}
