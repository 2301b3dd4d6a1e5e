//! One channel of a diagonal-plus-low-rank SSM as a recurrence: its steps, many steps of rows at once, and C from C~.

#![allow(clippy::needless_range_loop, reason = "lane loops walk several arrays in step; zipped iterators would hide which")]

use super::SsmParams;
use super::system::{C64, Reader, System, to_planar};
use crate::backend::host::gemm::{Matrix, gemm};
use crate::backend::host::simd::{Isa, dispatch};
use crate::backend::host::threads::map_with;
use crate::backend::shape::Ssm;
use crate::backend::{Real, Tensor, Transfer};
use crate::error::{Error, Result};

/// C Abar^steps of a diagonal-plus-low-rank system, (2, c, H, M), in f64 on the host. Asked for when a model is made, not in every step.
///
/// `params.c` minus the result of `len` steps is C~ of that length; for a C~, plus instead of minus doubles its length.
///
/// # Errors
/// Where the shapes do not fit each other (see [`SsmParams`]), and where the device fails.
pub fn dplr_advance<B: Transfer>(backend: &B, params: &SsmParams<Tensor<B>>, steps: usize) -> Result<Tensor<B>> {
    let sizes = params.sizes("dplr_advance")?;
    let host = params.on_host(backend)?;
    let advanced = advance(sizes, host.slices(), steps);
    backend.from_vec(advanced.into_iter().map(B::Elem::of).collect(), params.c.shape())
}

/// The same on slices, planar: the row vector stays its own conjugate mirror, so half of it is enough.
fn advance(sizes: Ssm, params: SsmParams<&[f64]>, steps: usize) -> Vec<f64> {
    let Ssm { d_model, half_state, channels, .. } = sizes;
    let reader = Reader::new(sizes, params);
    let row = |_: &mut (), h| {
        let system = reader.system(h);
        Recurrence::new(&system).advance_rows(&system.c, steps)
    };
    let rows = map_with(d_model, || (), row);
    let at = |c: usize| rows.iter().flat_map(move |row| &row[c * half_state..][..half_state]).copied();
    to_planar(&(0..channels).flat_map(at).collect::<Vec<C64>>())
}

/// One channel as a recurrence in f64: x <- Abar x + Bbar u, y = 2 Re(C x), over half of the conjugate pairs.
///
/// The bilinear Abar = (I - dt/2 A)^-1 (I + dt/2 A) = 2 (I - dt/2 A)^-1 - I is a Cayley transform, and the inverse is diagonal plus low
/// rank by Woodbury: with d = 1 / (1 - dt/2 Lambda) and the real matrix W = (I + dt/2 P* d P)^-1 over the whole state,
/// Abar x = (2d - 1) x - sum_j u_j Re(q_j . x),  u_j = sum_k 2 d P_k W_kj,  q_j = dt conj(P_j) d.
#[derive(Clone, Debug)]
pub struct Recurrence {
    /// 2d - 1, (M).
    diagonal: Vec<C64>,
    /// (R, M).
    u: Vec<Vec<C64>>,
    /// (R, M).
    q: Vec<Vec<C64>>,
    /// Bbar, (M).
    b: Vec<C64>,
}

impl Recurrence {
    /// The discretized `system`.
    pub fn new(system: &System) -> Self {
        let half = 0.5 * system.dt;
        let d: Vec<C64> = system.a.iter().map(|a| (C64::ONE - a * half).inv()).collect();
        let p: Vec<&[C64]> = system.p.chunks_exact(d.len()).collect();
        let rank = p.len();
        let w = inverse_small(&gram(&p, &d, half), rank);
        let u = (0..rank)
            .map(|j| (0..d.len()).map(|n| (0..rank).map(|k| p[k][n] * w[k * rank + j]).sum::<C64>() * d[n] * 2.0).collect())
            .collect();
        let q = p.iter().map(|p| p.iter().zip(&d).map(|(p, d)| p.conj() * d * system.dt).collect()).collect();
        let diagonal = d.iter().map(|d| d * 2.0 - 1.0).collect();
        let mut recurrence = Recurrence { diagonal, u, q, b: Vec::new() };
        // Bbar = (I - dt/2 A)^-1 dt B = dt/2 (Abar + I) B.
        let mut b = system.b.clone();
        recurrence.apply(&mut b);
        recurrence.b = b.iter().zip(&system.b).map(|(ab, b)| (ab + b) * half).collect();
        recurrence
    }

    /// state <- Abar state + Bbar u.
    pub fn step(&self, state: &mut [C64], u: f64) {
        self.apply(state);
        state.iter_mut().zip(&self.b).for_each(|(x, b)| *x += b * u);
    }

    /// state <- Abar state.
    fn apply(&self, state: &mut [C64]) {
        let t: Vec<f64> = self.q.iter().map(|q| q.iter().zip(&*state).map(|(q, x)| q.re * x.re - q.im * x.im).sum()).collect();
        state.iter_mut().zip(&self.diagonal).for_each(|(x, d)| *x *= d);
        for (u, t) in self.u.iter().zip(t) {
            state.iter_mut().zip(u).for_each(|(x, u)| *x -= u * t);
        }
    }

    /// Rows (c, M) times Abar^steps.
    fn advance_rows(&self, rows: &[C64], steps: usize) -> Vec<C64> {
        let m = self.diagonal.len();
        let low_rank: Vec<_> = self.u.iter().zip(&self.q).map(|(u, q)| (to_eights(u), to_eights(q))).collect();
        let mut packed: Vec<Vec<Complex8>> = rows.chunks_exact(m).map(to_eights).collect();
        advance_eights(&to_eights(&self.diagonal), &low_rank, &mut packed, steps);
        packed.iter().flat_map(|row| row.iter().flat_map(from_eights).take(m)).collect()
    }

    /// The plain C, (c, M), from C~ = C (I - Abar^len): the recurrence's output is y = 2 Re(C x).
    ///
    /// Cubic in the state size: Abar^len is taken by squaring a dense matrix. It fails where I - Abar^len is singular, as for an undamped
    /// system whose period divides len: then C~ does not determine C.
    pub fn solve_plain_c(&self, c_tilde: &[C64], len: usize) -> Result<Vec<C64>> {
        let m = self.diagonal.len();
        let power = self.dense().power(len);
        // In the coordinates (Re x, Im x) the system is real; a row C reads (Re C, -Im C). Rows are solved for, so transpose.
        let mut system = Dense::new(2 * m, |i, j| f64::from(i == j) - power.at(j, i));
        let mut rows: Vec<Vec<f64>> =
            c_tilde.chunks_exact(m).map(|c| c.iter().map(|z| z.re).chain(c.iter().map(|z| -z.im)).collect()).collect();
        if !system.solve(&mut rows) {
            let help = format!("C~ of length {len} does not determine C: I - Abar^{len} is singular; is the system undamped (Re A = 0)?");
            return Err(Error::value("the recurrence of an SSM", help));
        }
        Ok(rows.iter().flat_map(|row| (0..m).map(|n| C64::new(row[n], -row[m + n]))).collect())
    }

    /// Abar as a real matrix on (Re x, Im x).
    fn dense(&self) -> Dense {
        let m = self.diagonal.len();
        let columns: Vec<Vec<C64>> = (0..2 * m)
            .map(|j| {
                let mut x = vec![C64::ZERO; m];
                x[j % m] = if j < m { C64::ONE } else { C64::I };
                self.apply(&mut x);
                x
            })
            .collect();
        Dense::new(2 * m, |i, j| if i < m { columns[j][i].re } else { columns[j][i - m].im })
    }
}

/// Eight complex numbers, planar.
#[derive(Clone, Copy)]
struct Complex8 {
    re: [f64; 8],
    im: [f64; 8],
}

/// Packs eight by eight, padded with zeros.
fn to_eights(values: &[C64]) -> Vec<Complex8> {
    let pick = |chunk: &[C64], part: fn(&C64) -> f64| std::array::from_fn(|i| chunk.get(i).map_or(0.0, part));
    values.chunks(8).map(|chunk| Complex8 { re: pick(chunk, |z| z.re), im: pick(chunk, |z| z.im) }).collect()
}

fn from_eights(lanes: &Complex8) -> [C64; 8] {
    std::array::from_fn(|i| C64::new(lanes.re[i], lanes.im[i]))
}

dispatch! {
    /// rows <- rows Abar^steps for Abar = diagonal - sum_j u_j Re(q_j .), as a row: v <- v diagonal - sum_j Re(v . u_j) q_j.
    fn advance_eights(diagonal: &[Complex8], low_rank: &[(Vec<Complex8>, Vec<Complex8>)], rows: &mut [Vec<Complex8>], steps: usize) = advance_eights_body;
}

#[inline(always)]
fn advance_eights_body<I: Isa>(
    diagonal: &[Complex8],
    low_rank: &[(Vec<Complex8>, Vec<Complex8>)],
    rows: &mut [Vec<Complex8>],
    steps: usize,
) {
    let mut weights = [0.0; 2];
    for step in 0..steps {
        for row in rows.iter_mut() {
            for (weight, (u, _)) in weights.iter_mut().zip(low_rank) {
                *weight = real_dot::<I>(row, u);
            }
            for (k, v) in row.iter_mut().enumerate() {
                let (d, old) = (&diagonal[k], *v);
                for i in 0..8 {
                    v.re[i] = I::fma(old.re[i], d.re[i], -(old.im[i] * d.im[i]));
                    v.im[i] = I::fma(old.re[i], d.im[i], old.im[i] * d.re[i]);
                }
                for (weight, (_, q)) in weights.iter().zip(low_rank) {
                    for i in 0..8 {
                        v.re[i] = I::fma(-weight, q[k].re[i], v.re[i]);
                        v.im[i] = I::fma(-weight, q[k].im[i], v.im[i]);
                    }
                }
            }
            if step % 64 == 63 {
                row.iter_mut().for_each(flush);
            }
        }
    }
}

/// Re(v . u).
#[inline(always)]
fn real_dot<I: Isa>(v: &[Complex8], u: &[Complex8]) -> f64 {
    let mut sum = [0.0; 8];
    for (v, u) in v.iter().zip(u) {
        for i in 0..8 {
            sum[i] = I::fma(v.re[i], u.re[i], I::fma(-v.im[i], u.im[i], sum[i]));
        }
    }
    fold(&sum)
}

/// The sum of eight lanes. Not inlined: its pairs would make the compiler take the loop before it apart into pairs as well.
#[inline(never)]
fn fold(sum: &[f64; 8]) -> f64 {
    ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]))
}

/// Zero in the place of what has decayed to nothing: arithmetic on denormal numbers is a hundred times slower.
#[inline(always)]
fn flush(lanes: &mut Complex8) {
    for x in lanes.re.iter_mut().chain(&mut lanes.im) {
        *x = if x.abs() < 1e-200 { 0.0 } else { *x };
    }
}

/// A square matrix, row-major.
#[derive(Clone)]
struct Dense {
    size: usize,
    values: Vec<f64>,
}

impl Dense {
    fn new(size: usize, f: impl Fn(usize, usize) -> f64) -> Self {
        Dense { size, values: (0..size * size).map(|k| f(k / size, k % size)).collect() }
    }

    fn at(&self, i: usize, j: usize) -> f64 {
        self.values[i * self.size + j]
    }

    fn times(&self, other: &Dense) -> Dense {
        let (mut values, n) = (vec![0.0; self.values.len()], self.size);
        gemm(Matrix::new(&self.values, n, n), Matrix::new(&other.values, n, n), &mut values, n, false);
        Dense { size: n, values }
    }

    /// By repeated squaring.
    fn power(&self, exponent: usize) -> Dense {
        let mut result = Dense::new(self.size, |i, j| f64::from(i == j));
        let (mut square, mut left) = (self.clone(), exponent);
        while left > 0 {
            if left % 2 == 1 {
                result = result.times(&square);
            }
            left /= 2;
            if left > 0 {
                square = square.times(&square);
            }
        }
        result
    }

    /// Solves self x = b in place for every b, by elimination with pivoting; false if the matrix is singular to working precision.
    fn solve(&mut self, rhs: &mut [Vec<f64>]) -> bool {
        let n = self.size;
        let scale = self.values.iter().fold(0.0f64, |max, x| max.max(x.abs()));
        for k in 0..n {
            let pivot = (k..n).max_by(|&i, &j| self.at(i, k).abs().total_cmp(&self.at(j, k).abs())).unwrap_or(k);
            let largest = self.at(pivot, k).abs();
            if largest.is_nan() || largest <= scale * n as f64 * f64::EPSILON {
                return false;
            }
            (0..n).for_each(|j| self.values.swap(k * n + j, pivot * n + j));
            rhs.iter_mut().for_each(|b| b.swap(k, pivot));
            let (top, bottom) = self.values.split_at_mut((k + 1) * n);
            let top = &top[k * n..];
            for (i, row) in bottom.chunks_exact_mut(n).enumerate() {
                let factor = row[k] / top[k];
                row[k..].iter_mut().zip(&top[k..]).for_each(|(x, y)| *x -= factor * y);
                rhs.iter_mut().for_each(|b| b[k + 1 + i] -= factor * b[k]);
            }
        }
        for b in rhs {
            for k in (0..n).rev() {
                let known: f64 = (k + 1..n).map(|j| self.at(k, j) * b[j]).sum();
                b[k] = (b[k] - known) / self.at(k, k);
            }
        }
        true
    }
}

/// I + half P* d P over the whole state, (R, R): real.
pub(super) fn gram(p: &[&[C64]], d: &[C64], half: f64) -> Vec<f64> {
    let rank = p.len();
    let product = |j: usize, k: usize| 2.0 * (0..d.len()).map(|n| (p[j][n].conj() * d[n] * p[k][n]).re).sum::<f64>();
    (0..rank * rank).map(|i| f64::from(i % (rank + 1) == 0) + half * product(i / rank, i % rank)).collect()
}

/// The inverse of a real 1 x 1 or 2 x 2 matrix (or of the empty one).
pub fn inverse_small(m: &[f64], size: usize) -> Vec<f64> {
    match size {
        0 => Vec::new(),
        1 => vec![1.0 / m[0]],
        _ => {
            let r = 1.0 / (m[0] * m[3] - m[1] * m[2]);
            vec![m[3] * r, -m[1] * r, -m[2] * r, m[0] * r]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::system::testing::sample;
    use super::*;
    use crate::backend::DtTransform;

    #[test]
    fn advance_and_solve_are_inverse() {
        let (sizes, len) = (Ssm { d_model: 4, n_ssm: 2, half_state: 4, rank: 2, channels: 2 }, 50);
        let stored = sample::<f64>(sizes, DtTransform::Softplus, 0.5);
        let mut tilde = stored.clone();
        tilde.c.iter_mut().zip(advance(sizes, stored.slices(), len)).for_each(|(c, gone)| *c -= gone);
        for h in 0..sizes.d_model {
            let [plain, tilde] = [&stored, &tilde].map(|params| Reader::new(sizes, params.slices()).system(h));
            let c = Recurrence::new(&tilde).solve_plain_c(&tilde.c, len).unwrap();
            assert!(c.iter().zip(&plain.c).all(|(x, y)| (x - y).norm() < 1e-10));
        }
    }

    #[test]
    fn an_undamped_system_has_no_plain_c() {
        // One undamped pair whose bilinear rotation is a quarter turn: Abar^4 = I.
        let system = System { dt: 1.0, a: vec![C64::new(0.0, -2.0)], b: vec![C64::ONE], c: vec![C64::ONE], p: vec![C64::ZERO] };
        assert!(Recurrence::new(&system).solve_plain_c(&system.c, 4).is_err());
        assert!(Recurrence::new(&system).solve_plain_c(&system.c, 3).is_ok());
    }
}
