//! The functions of one number: their names, where they are smooth, and their values and derivatives on the host.

use num_traits::Float;

use super::Real;
use super::host::simd::Isa;
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

/// What is done with a function of one number and its derivative.
pub(crate) trait Each<E> {
    /// `f(x)` gives a value, f(x), and what makes f'(x) g of g; neither is worked out before it is called.
    fn each<V: FnOnce() -> E, G: FnOnce(E) -> E>(self, f: impl Fn(E) -> (V, G));
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

    /// Its value and derivative, for `what` is to be done with them: one loop for every function, which the compiler makes vectors of.
    #[inline(always)]
    pub(crate) fn apply<I: Isa, E: Real>(self, what: impl Each<E>) {
        let (zero, one, two) = (E::zero(), E::one(), E::of(2.0));
        match self {
            Unary::Neg => what.each(|x| (move || -x, |g: E| -g)),
            Unary::Exp => what.each(|x| (move || x.exp(), move |g| x.exp() * g)),
            Unary::Ln => what.each(|x| (move || x.ln(), move |g| g / x)),
            Unary::Sqrt => what.each(|x| (move || x.sqrt(), move |g| g / (two * x.sqrt()))),
            Unary::Recip => what.each(|x| (move || one / x, move |g: E| -g / (x * x))),
            Unary::Square => what.each(|x| (move || x * x, move |g| two * x * g)),
            Unary::Tanh => what.each(|x| (move || x.tanh(), move |g| (one - x.tanh() * x.tanh()) * g)),
            Unary::Sigmoid => what.each(|x| (move || sigmoid(x), move |g| sigmoid(x) * sigmoid(-x) * g)),
            // The value does not overflow.
            Unary::Softplus => what.each(|x| (move || x.max(zero) + (-Float::abs(x)).exp().ln_1p(), move |g| sigmoid(x) * g)),
            // Comparisons, not max and min, so that NaN stays NaN.
            Unary::Relu => what.each(|x| (move || if x < zero { zero } else { x }, move |g| if x > zero { g } else { zero })),
            Unary::Gelu => what.each(|x| {
                let (cdf, pdf) = x.normal_cdf_pdf();
                // Where Phi or phi is 0, so is its product with x, which may be infinite.
                let times = move |factor: E| if factor == zero { factor } else { x * factor };
                (move || times(cdf), move |g| (cdf + times(pdf)) * g)
            }),
            Unary::Clamp(low, high) => {
                let (low, high) = (E::of(low), E::of(high));
                let value = move |x: E| if x > high { high } else { x };
                what.each(|x| (move || if x < low { low } else { value(x) }, move |g| if x >= low && x <= high { g } else { zero }));
            }
            Unary::Linear(scale, shift) => {
                let (scale, shift) = (E::of(scale), E::of(shift));
                what.each(|x| (move || I::fma(scale, x, shift), move |g| scale * g));
            }
        }
    }
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid<E: Real>(x: E) -> E {
    E::one() / (E::one() + (-x).exp())
}
