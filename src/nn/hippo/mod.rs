//! HiPPO state matrices and the diagonal or diagonal-plus-low-rank forms that state space models start from.
//!
//! A HiPPO system `x' = A x + B u` keeps in `x` the coefficients of the input's history in a basis of functions
//! (Gu et al., "HiPPO: Recurrent Memory with Optimal Polynomial Projections", 2020). Its matrix is not normal, but becomes so by
//! adding a low-rank `P P^T`, so that a unitary change of basis makes it a diagonal minus a low rank (Gu et al., "Efficiently Modeling Long
//! Sequences with Structured State Spaces", S4, 2022). S4D drops the low rank and keeps, or replaces by a formula, the
//! diagonal (Gu et al., "On the Parameterization and Initialization of Diagonal State Space Models", 2022).
//!
//! Everything here runs once, on the host, in f64: N is `d_state` (even), M = N / 2 the half of the conjugate pairs that a layer stores,
//! R the rank. Matrices are row-major.
//!
//! | function | gives |
//! |---|---|
//! | [`transition`] | the real matrix A (N, N) and input vector B (N) of a [`Measure`] |
//! | [`low_rank`] | the real correction P (R, N): A + P^T P is normal |
//! | [`nplr`] | the same system in its eigenbasis: Lambda (M), P (R, M), B (M), V (N, M) |
//! | [`s4d`] | Lambda (M), B (M) of a diagonal model ([`DiagInit`]) |
//!
//! ```
//! use pspikessm::nn::hippo::{CLIP_B, Measure, nplr};
//!
//! let legs = nplr(Measure::LegS, 64, Some(CLIP_B))?;
//! assert_eq!(legs.lambda.len(), 32);
//! assert_eq!(legs.lambda[0].re, -0.5);
//! # Ok::<(), pspikessm::error::Error>(())
//! ```

mod diag;
pub(crate) mod eigen;
mod nplr;
mod transition;

pub use diag::{DiagInit, s4d};
pub(crate) use eigen::{Eigh, eigh};
pub use nplr::{CLIP_B, Nplr, nplr};
pub use realfft::num_complex::Complex64;
pub use transition::{LowRank, Measure, low_rank, transition};

use crate::error::{Error, Result};

/// The largest `d_state`: the eigenproblem costs N^3, and beyond this size a call would look like a hang.
pub const MAX_D_STATE: usize = 1024;

/// States come in conjugate pairs, so their number is even; zero states are no model.
fn check_d_state(d_state: usize) -> Result<()> {
    if d_state == 0 || d_state % 2 == 1 {
        return Err(Error::config("d_state", d_state, "states come in conjugate pairs: choose an even number from 2 on, such as 64"));
    }
    if d_state > MAX_D_STATE {
        return Err(Error::config("d_state", d_state, format!("choose at most {MAX_D_STATE}; models in use have 16 to 256")));
    }
    Ok(())
}
