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
    /// [`Error::Config`] where the lower end of a clamp lies above the upper, or one is NaN.
    pub fn check(self) -> Result<()> {
        match self {
            Unary::Clamp(low, high) if low.is_nan() || high.is_nan() || low > high => {
                Err(Error::config("clamp", format!("[{low}, {high}]"), "the lower end must not lie above the upper"))
            }
            _ => Ok(()),
        }
    }

    /// Where its gradient is checked. The match has no arm for all others: a new function is checked, or does not compile.
    pub(crate) fn domain(self) -> Domain {
        let smooth = |from: f64, to: f64| Domain { stretches: vec![[from, to]], kinks: vec![] };
        match self {
            Unary::Neg | Unary::Exp | Unary::Square | Unary::Linear(..) => smooth(-3.0, 3.0),
            Unary::Ln | Unary::Sqrt => smooth(0.2, 5.0),
            Unary::Recip => Domain { stretches: vec![[0.3, 3.0], [-3.0, -0.3]], kinks: vec![] },
            Unary::Tanh => smooth(-4.0, 4.0),
            Unary::Sigmoid | Unary::Softplus => smooth(-30.0, 30.0),
            Unary::Relu => Domain { kinks: vec![0.0], ..smooth(-3.0, 3.0) },
            Unary::Gelu => smooth(-6.0, 6.0),
            Unary::Clamp(low, high) => Domain { kinks: vec![low, high], ..smooth(low - 1.0, high + 1.0) },
        }
    }
}

/// Runs `$loop` for the function `$unary`, called `$f` in it: `$f(x)` is a pair of closures, one for f(x) and one that makes f'(x) g of g.
/// Neither is worked out before it is called. There is a loop for each function, so that the compiler can make vectors of it.
macro_rules! with_function {
    ($unary:expr, $isa:ty, $real:ty, |$f:ident| $loop:expr) => {{
        use $crate::backend::unary::{Unary, sigmoid};
        let (zero, one, two) = (<$real>::zero(), <$real>::one(), <$real>::of(2.0));
        match $unary {
            Unary::Neg => {
                let $f = |x: $real| (move || -x, |g: $real| -g);
                $loop
            }
            Unary::Exp => {
                let $f = |x: $real| (move || x.exp(), move |g: $real| x.exp() * g);
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
                let $f = |x: $real| (move || x.tanh(), move |g: $real| (one - x.tanh() * x.tanh()) * g);
                $loop
            }
            Unary::Sigmoid => {
                let $f = |x: $real| (move || sigmoid(x), move |g: $real| sigmoid(x) * sigmoid(-x) * g);
                $loop
            }
            Unary::Softplus => {
                // Without overflow.
                let value = |x: $real| x.max(zero) + (-num_traits::Float::abs(x)).exp().ln_1p();
                let $f = |x: $real| (move || value(x), move |g: $real| sigmoid(x) * g);
                $loop
            }
            Unary::Relu => {
                // Comparisons, not max and min, so that NaN stays NaN.
                let $f = |x: $real| (move || if x < zero { zero } else { x }, move |g: $real| if x > zero { g } else { zero });
                $loop
            }
            Unary::Gelu => {
                let $f = |x: $real| {
                    let (cdf, pdf) = x.normal_cdf_pdf();
                    // Where Phi or phi is 0, so is its product with x, which may be infinite.
                    let times = move |factor: $real| if factor == zero { factor } else { x * factor };
                    (move || times(cdf), move |g: $real| (cdf + times(pdf)) * g)
                };
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
        }
    }};
}
pub(crate) use with_function;

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid<E: Real>(x: E) -> E {
    E::one() / (E::one() + (-x).exp())
}
