//! The HiPPO matrices as the papers write them: real A, B and the low rank that makes A normal.

use std::cmp::Ordering;
use std::f64::consts::{FRAC_1_SQRT_2, PI, SQRT_2};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::check_d_state;
use crate::error::{Error, Result};

listed! {
    /// What a HiPPO state remembers: the basis, and how it weighs the past.
    ///
    /// Parses from the names that the field and its configuration files use, in any case; prints the first of them.
    ///
    /// ```
    /// use pspikessm::nn::hippo::Measure;
    ///
    /// assert_eq!("legs".parse::<Measure>()?, Measure::LegS);
    /// assert_eq!("fout".parse::<Measure>()?.to_string(), "fourier");
    /// # Ok::<(), pspikessm::error::Error>(())
    /// ```
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[non_exhaustive]
    pub enum Measure {
        /// `legs`: scaled Legendre, all of the past evenly. Rank 1. What the recipes use.
        #[default]
        #[serde(rename = "legs")]
        LegS,
        /// `legt`: translated Legendre, a sliding window (the Legendre memory unit, scaled). Rank 2.
        #[serde(rename = "legt")]
        LegT,
        /// `lagt`: translated Laguerre, a past that fades exponentially. Rank 1.
        #[serde(rename = "lagt")]
        LagT,
        /// `fourier` or `fout`: a truncated Fourier basis on a sliding window. Rank 1.
        Fourier,
        /// `foud` or `fourier_diag`: the Fourier basis with an exponential decay. Already normal: its P is one row of zeros.
        FourierDecay,
    }
}

impl Measure {
    /// The real part that all eigenvalues of A + P^T P share: the mean of its diagonal, known exactly.
    pub(super) fn real_part(self) -> f64 {
        match self {
            Measure::LegS | Measure::FourierDecay => -0.5,
            Measure::LegT | Measure::LagT | Measure::Fourier => 0.0,
        }
    }

    /// Whether A + P^T P is block diagonal already, a rotation of the coordinates (2k, 2k + 1) for every k.
    pub(super) fn is_rotations(self) -> bool {
        matches!(self, Measure::Fourier | Measure::FourierDecay)
    }

    /// A[i][j].
    fn state(self, i: usize, j: usize) -> f64 {
        let scale = ((2 * i + 1) as f64 * (2 * j + 1) as f64).sqrt();
        match (self, i.cmp(&j)) {
            (Measure::LegS, Ordering::Greater) => -scale,
            (Measure::LegS, Ordering::Equal) => -(i as f64 + 1.0),
            (Measure::LegT, Ordering::Less) if (j - i) % 2 == 1 => 0.5 * scale,
            (Measure::LegT, _) => -0.5 * scale,
            (Measure::LagT, Ordering::Greater) => -1.0,
            (Measure::LagT, Ordering::Equal) => -0.5,
            (Measure::LegS | Measure::LagT, Ordering::Less) => 0.0,
            (Measure::Fourier, _) => rotation(PI, i, j) - self.input(i) * self.input(j),
            (Measure::FourierDecay, Ordering::Equal) => -0.5,
            (Measure::FourierDecay, _) => rotation(2.0 * PI, i, j),
        }
    }

    /// B[i].
    fn input(self, i: usize) -> f64 {
        let scale = ((2 * i + 1) as f64).sqrt();
        match self {
            Measure::LegS => scale,
            Measure::LegT => 0.5 * scale,
            Measure::LagT => 1.0,
            // The cosines stand at even places, the constant first; the input has no sine part.
            Measure::Fourier | Measure::FourierDecay => match i {
                0 => 1.0,
                _ if i.is_multiple_of(2) => SQRT_2,
                _ => 0.0,
            },
        }
    }

    /// P[row][i].
    fn correction(self, row: usize, i: usize) -> f64 {
        match self {
            Measure::LegS => (i as f64 + 0.5).sqrt(),
            // The first row holds the odd coefficients, the second one the even ones.
            Measure::LegT if i % 2 == row => 0.0,
            Measure::LegT => (i as f64 + 0.5).sqrt(),
            Measure::LagT => FRAC_1_SQRT_2,
            Measure::Fourier => self.input(i),
            Measure::FourierDecay => 0.0,
        }
    }

    /// The number of rows of P.
    fn rank(self) -> usize {
        match self {
            Measure::LegT => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Measure::LegS => "legs",
            Measure::LegT => "legt",
            Measure::LagT => "lagt",
            Measure::Fourier => "fourier",
            Measure::FourierDecay => "foud",
        })
    }
}

impl FromStr for Measure {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "legs" => Ok(Measure::LegS),
            "legt" => Ok(Measure::LegT),
            "lagt" => Ok(Measure::LagT),
            "fourier" | "fout" => Ok(Measure::Fourier),
            "foud" | "fourier_diag" => Ok(Measure::FourierDecay),
            _ => Err(Error::config("measure", name, "choose one of legs, legt, lagt, fourier (fout), foud (fourier_diag)")),
        }
    }
}

/// The block-diagonal matrix that turns coordinates (2k, 2k + 1) with frequency k * `unit`.
fn rotation(unit: f64, i: usize, j: usize) -> f64 {
    let frequency = (i / 2) as f64 * unit;
    match (i / 2 == j / 2, i.cmp(&j)) {
        (true, Ordering::Less) => -frequency,
        (true, Ordering::Greater) => frequency,
        _ => 0.0,
    }
}

/// The HiPPO system of `measure`: A of shape (N, N), row-major, and B of shape (N), N = `d_state`.
///
/// Signs and scales are those of the S4 paper and its official code: `x' = A x + B u`, the window or time scale being the unit of
/// time. For LegS, A\[i\]\[j\] = -sqrt((2i+1)(2j+1)) below the diagonal, -(i+1) on it, 0 above, and B\[i\] = sqrt(2i+1).
///
/// # Errors
///
/// `d_state` is 0, odd, or above [`MAX_D_STATE`](super::MAX_D_STATE).
pub fn transition(measure: Measure, d_state: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    check_d_state(d_state)?;
    let a = (0..d_state * d_state).map(|at| measure.state(at / d_state, at % d_state)).collect();
    let b = (0..d_state).map(|i| measure.input(i)).collect();
    Ok((a, b))
}

/// A low-rank correction of a HiPPO matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// R, the number of rows: 2 for LegT, else 1.
    pub rank: usize,
    /// P of shape (R, N), row-major.
    pub p: Vec<f64>,
}

/// The real P of shape (R, N), N = `d_state`, for which A + P^T P is normal: a multiple of the identity plus a skew matrix.
///
/// For LegS, P\[0\]\[i\] = sqrt(i + 1/2) (S4, appendix C.1).
///
/// # Errors
///
/// `d_state` is 0, odd, or above [`MAX_D_STATE`](super::MAX_D_STATE).
pub fn low_rank(measure: Measure, d_state: usize) -> Result<LowRank> {
    check_d_state(d_state)?;
    let rank = measure.rank();
    let p = (0..rank * d_state).map(|at| measure.correction(at / d_state, at % d_state)).collect();
    Ok(LowRank { rank, p })
}
