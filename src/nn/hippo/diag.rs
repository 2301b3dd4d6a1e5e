//! Initial values of diagonal state space models (S4D).

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{CLIP_B, Complex64, Measure, check_d_state, nplr};
use crate::error::{Error, Result};

listed! {
    /// Where the eigenvalues of a diagonal model start.
    ///
    /// Parses from `lin`, `inv`, `real`, `legs`, in any case and with or without the `diag-` of configuration files.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    #[non_exhaustive]
    pub enum DiagInit {
        /// `lin`, S4D-Lin: -1/2 - i pi n, the frequencies of a Fourier basis.
        #[default]
        Lin,
        /// `inv`, S4D-Inv: -1/2 - i (N / pi) (N / (2n + 1) - 1), close to those of LegS.
        Inv,
        /// `real`, S4D-Real: -(n + 1), no oscillation.
        Real,
        /// `legs`, S4D-LegS: the diagonal of HiPPO-LegS in its normal-plus-low-rank form.
        #[serde(rename = "legs")]
        LegS,
    }
}

impl fmt::Display for DiagInit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DiagInit::Lin => "lin",
            DiagInit::Inv => "inv",
            DiagInit::Real => "real",
            DiagInit::LegS => "legs",
        })
    }
}

impl FromStr for DiagInit {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let lower = name.to_ascii_lowercase();
        match lower.strip_prefix("diag-").unwrap_or(&lower) {
            "lin" => Ok(DiagInit::Lin),
            "inv" => Ok(DiagInit::Inv),
            "real" => Ok(DiagInit::Real),
            "legs" => Ok(DiagInit::LegS),
            _ => Err(Error::config("init", name, "choose one of lin, inv, real, legs")),
        }
    }
}

/// Lambda (M) and B (M) of a diagonal model with N = `d_state` states, M = N / 2 of them stored (S4D, section 4).
///
/// B is one, except for LegS, whose B is that of [`nplr`] with the official code's [`CLIP_B`].
///
/// # Errors
///
/// `d_state` is 0, odd, or above [`MAX_D_STATE`](super::MAX_D_STATE).
pub fn s4d(init: DiagInit, d_state: usize) -> Result<(Vec<Complex64>, Vec<Complex64>)> {
    check_d_state(d_state)?;
    let states = d_state as f64;
    let lambda = |n: usize| match init {
        DiagInit::Inv => Complex64::new(-0.5, -(states / PI) * (states / (2 * n + 1) as f64 - 1.0)),
        DiagInit::Real => Complex64::new(-(n as f64 + 1.0), 0.0),
        DiagInit::Lin | DiagInit::LegS => Complex64::new(-0.5, -PI * n as f64),
    };
    match init {
        DiagInit::LegS => nplr(Measure::LegS, d_state, Some(CLIP_B)).map(|legs| (legs.lambda, legs.b)),
        _ => Ok(((0..d_state / 2).map(lambda).collect(), vec![Complex64::ONE; d_state / 2])),
    }
}
