//! The normal-plus-low-rank form: a HiPPO system in the eigenbasis of its normal part.

use std::f64::consts::FRAC_1_SQRT_2;

use super::{Complex64, Eigh, LowRank, Measure, eigh, low_rank, transition};
use crate::error::{Error, Result};

/// The bound that the official code puts on the imaginary part of B.
pub const CLIP_B: f64 = 2.0;

/// A HiPPO system in its eigenbasis: one of each pair of conjugate states, the one that turns clockwise.
///
/// With `V' = [V, conj V]` and the same for Lambda, P and B, the real system is `A = V' (diag(Lambda') - P'^T conj P') V'^*`, and
/// `B = V' B'` where B was not clipped.
#[derive(Clone, Debug, PartialEq)]
pub struct Nplr {
    /// R, the number of rows of `p`.
    pub rank: usize,
    /// Eigenvalues of A + P^T P, shape (M), ascending in the imaginary part, which is never positive. They share their real part.
    pub lambda: Vec<Complex64>,
    /// V^* P, shape (R, M), row-major.
    pub p: Vec<Complex64>,
    /// V^* B, shape (M), its imaginary part clipped if so asked.
    pub b: Vec<Complex64>,
    /// Orthonormal eigenvectors in columns, shape (N, M), row-major.
    pub v: Vec<Complex64>,
}

/// The normal-plus-low-rank form of `measure` with N = `d_state` states (S4, theorem 1).
///
/// A + P^T P is a multiple of the identity plus a skew matrix, whose eigenvectors are unitary. Each is scaled by a phase that
/// makes its first component that is not zero real and positive. The phase has no effect on the system but on `clip_b`:
/// `Some(c)` bounds the imaginary part of B to [-c, c] after the change of basis. The official code does so with c = [`CLIP_B`], and its
/// trained weights started from there; `None` keeps the exact HiPPO system.
///
/// # Errors
///
/// `d_state` is 0, odd, or above [`MAX_D_STATE`](super::MAX_D_STATE), or `clip_b` is negative or NaN.
pub fn nplr(measure: Measure, d_state: usize, clip_b: Option<f64>) -> Result<Nplr> {
    let bound = clip_b.unwrap_or(f64::INFINITY);
    if bound.is_nan() || bound < 0.0 {
        return Err(Error::config("clip_b", bound, format!("choose a bound of at least 0, such as {CLIP_B:?}, or None")));
    }
    let (a, b) = transition(measure, d_state)?;
    let low_rank = low_rank(measure, d_state)?;
    let skew = skew_part(&a, &low_rank, d_state);
    let (omega, v) = if measure.is_rotations() { rotation_basis(&skew, d_state) } else { eigenbasis(&skew, d_state)? };
    let b = project(&v, &b).into_iter().map(|b| Complex64::new(b.re, b.im.clamp(-bound, bound))).collect();
    Ok(Nplr {
        rank: low_rank.rank,
        lambda: omega.into_iter().map(|omega| Complex64::new(measure.real_part(), omega)).collect(),
        p: low_rank.p.chunks_exact(d_state).flat_map(|row| project(&v, row)).collect(),
        b,
        v,
    })
}

/// The skew part of A + P^T P, (N, N): all of it but the shared real part. Skew to the last bit.
fn skew_part(a: &[f64], low_rank: &LowRank, n: usize) -> Vec<f64> {
    let normal = |i: usize, j: usize| a[i * n + j] + low_rank.p.chunks_exact(n).map(|p| p[i] * p[j]).sum::<f64>();
    (0..n * n).map(|at| (at / n, at % n)).map(|(i, j)| 0.5 * (normal(i, j) - normal(j, i))).collect()
}

/// The M frequencies (not positive, ascending) and eigenvectors (N, M) of a skew matrix K: `K v = i omega v`.
fn eigenbasis(skew: &[f64], n: usize) -> Result<(Vec<f64>, Vec<Complex64>)> {
    let hermitian: Vec<_> = skew.iter().map(|&k| Complex64::new(0.0, -k)).collect();
    let Eigh { values, vectors } = eigh(&hermitian, n)?;
    // Frequencies come as +-omega and in ascending order: the first half has one of each conjugate pair.
    let m = n / 2;
    // Row 0 has no zero for the Legendre and Laguerre measures: its smallest component is 1 / N for LegS, about 2 / N^2 for LegT.
    let phases: Vec<_> = vectors[..m].iter().map(|first| first.conj() / first.norm()).collect();
    let mut v: Vec<_> = vectors.chunks_exact(n).flat_map(|row| row.iter().zip(&phases).map(|(v, phase)| v * phase)).collect();
    v[..m].iter_mut().for_each(|first| first.im = 0.0);
    Ok((values[..m].to_vec(), v))
}

/// [`eigenbasis`] of the Fourier matrices, in closed form: coordinates (2k, 2k + 1) turn with a frequency that grows with k.
///
/// The frequency of the first pair is zero, twice: no eigen-solver could know which two vectors of that plane are wanted.
fn rotation_basis(skew: &[f64], n: usize) -> (Vec<f64>, Vec<Complex64>) {
    let m = n / 2;
    let mut v = vec![Complex64::ZERO; n * m];
    let omega = (0..m).map(|column| {
        let even = 2 * (m - 1 - column);
        v[even * m + column] = Complex64::new(FRAC_1_SQRT_2, 0.0);
        v[(even + 1) * m + column] = Complex64::new(0.0, FRAC_1_SQRT_2);
        skew[even * n + even + 1]
    });
    (omega.collect(), v)
}

/// V^* x, shape (M), for V (N, M) and a real x (N).
fn project(v: &[Complex64], x: &[f64]) -> Vec<Complex64> {
    let m = x.len() / 2;
    let mut out = vec![Complex64::ZERO; m];
    for (row, &x) in v.chunks_exact(m).zip(x) {
        for (out, v) in out.iter_mut().zip(row) {
            *out += v.conj() * x;
        }
    }
    out
}
