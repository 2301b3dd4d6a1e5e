//! The derivatives that stand in for the derivative of a spike: their names, and their values on the host.

use std::f64::consts::{FRAC_PI_2, PI};

use serde::{Deserialize, Serialize};

use super::Real;
use super::unary::sigmoid;
use crate::error::{Error, Result};

listed! {
    /// The derivative that stands in for the derivative of a spike.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case", deny_unknown_fields)]
    pub enum Surrogate {
        /// 1 where 0 <= y <= 1, else 0: the derivative of the expected spike clamp(y, 0, 1). The official code's.
        #[default]
        Clamp,
        /// The derivative of sigmoid(alpha (y - u)).
        Sigmoid {
            /// Steepness, above 0.
            alpha: f64,
        } = { alpha: 4.0 },
        /// The derivative of atan(pi alpha (y - u) / 2) / pi + 1/2.
        Atan {
            /// Steepness, above 0.
            alpha: f64,
        } = { alpha: 2.0 },
        /// 1 / (1 + alpha |y - u|)^2, as in SuperSpike.
        FastSigmoid {
            /// Steepness, above 0.
            alpha: f64,
        } = { alpha: 10.0 },
    }
}

impl Surrogate {
    /// Whether the steepness makes sense.
    ///
    /// # Errors
    /// [`Error::Config`] where alpha is not positive and finite.
    pub fn check(self) -> Result<()> {
        match self.alpha() {
            Some(alpha) if !(alpha > 0.0 && alpha.is_finite()) => {
                Err(Error::config("alpha", alpha, "the steepness of a surrogate must be positive and finite"))
            }
            _ => Ok(()),
        }
    }

    /// The steepness, where there is one.
    pub fn alpha(mut self) -> Option<f64> {
        self.alpha_mut().copied()
    }

    /// The same with this steepness, where there is one.
    #[must_use]
    pub fn with_alpha(mut self, alpha: f64) -> Self {
        self.alpha_mut().into_iter().for_each(|old| *old = alpha);
        self
    }

    fn alpha_mut(&mut self) -> Option<&mut f64> {
        match self {
            Surrogate::Clamp => None,
            Surrogate::Sigmoid { alpha } | Surrogate::Atan { alpha } | Surrogate::FastSigmoid { alpha } => Some(alpha),
        }
    }

    /// The derivative at `d` = y - u; for [`Surrogate::Clamp`] a window of one around 0.
    #[inline]
    pub(crate) fn slope<E: Real>(self, d: E) -> E {
        match self {
            Surrogate::Clamp => {
                if d >= E::of(-0.5) && d <= E::of(0.5) {
                    E::one()
                } else {
                    E::zero()
                }
            }
            Surrogate::Sigmoid { alpha } => {
                let z = E::of(alpha) * d;
                E::of(alpha) * sigmoid(z) * sigmoid(-z)
            }
            Surrogate::Atan { alpha } => {
                let z = E::of(FRAC_PI_2 * alpha) * d;
                E::of(0.5 * alpha) / (E::one() + z * z)
            }
            Surrogate::FastSigmoid { alpha } => {
                let z = E::one() + E::of(alpha) * d.abs();
                E::one() / (z * z)
            }
        }
    }

    /// A function whose derivative is [`Surrogate::slope`]: the gradient check holds that against this one's difference quotients.
    pub(crate) fn primitive(self, d: f64) -> f64 {
        match self {
            Surrogate::Clamp => d.clamp(-0.5, 0.5),
            Surrogate::Sigmoid { alpha } => 1.0 / (1.0 + (-alpha * d).exp()),
            Surrogate::Atan { alpha } => (FRAC_PI_2 * alpha * d).atan() / PI + 0.5,
            Surrogate::FastSigmoid { alpha } => d / (1.0 + alpha * d.abs()),
        }
    }
}
