//! The kernel of a diagonal SSM (S4D) and its gradient.
//!
//! `K[l] = Re sum_n W_n abar_n^l` with W = 2 C B b and (abar, b) the discretized mode (`backend::ssm::discretization`): "On the
//! Parameterization and Initialization of Diagonal State Space Models" (Gu, Gupta, Goel, Re, 2022).
//!
//! # The kernel
//!
//! Time is laid out in rows, l = S i + t with t < S, so that abar^l = (abar^S)^i abar^t: two short tables of powers, taken in f64 by
//! doubling, stand for all L powers. A row of the kernel is then a product of a 1 x 2M and a 2M x S matrix: two multiply-adds for an
//! entry and a mode.
//!
//! # The gradient
//!
//! With the gradient one step ahead, `h[l] = g[l + 1]`, the two sums `s0 = sum_l h[l] abar^l` and `s1 = sum_l l h[l] abar^l` give
//! `dL = Re((g[0] + abar s0) dW) + Re(W (s0 + s1) dabar)`, without a division by abar, which may be 0. Over rows they are
//!
//! ```text
//! u[t] = sum_i h[S i + t] (abar^S)^i,  v[t] = sum_i i h[S i + t] (abar^S)^i,
//! s0 = sum_t abar^t u[t],  s1 = sum_t abar^t (t u[t] + S v[t])
//! ```
//!
//! four multiply-adds for an entry and a mode. Memory is O(L) a thread besides the kernels.

#![allow(clippy::needless_range_loop, reason = "lane loops walk several arrays in step; zipped iterators would hide which")]

use super::sum_lanes;
use crate::backend::cpu::rows_by_channel;
use crate::backend::host::simd::{Isa, dispatch};
use crate::backend::host::threads;
use crate::backend::ssm::discretization::{Mode, modes};
use crate::backend::ssm::system::{C64, Reader, System, SystemGrad};
use crate::backend::{Discretization, Real, SsmParams, shape::Ssm};

/// Which kernel is asked for.
#[derive(Clone, Copy, Debug)]
pub struct DiagDims {
    /// The sizes of the parameters; the rank is 0.
    pub sizes: Ssm,
    /// The discretization.
    pub disc: Discretization,
    /// The length L of the kernel.
    pub len: usize,
}

/// The kernels (c, H, L).
pub(super) fn kernel<E: Real>(dims: &DiagDims, params: SsmParams<&[E]>, out: &mut [E]) {
    let reader = Reader::new(dims.sizes, params);
    let rows = rows_by_channel(out, dims.sizes.d_model, dims.len);
    threads::for_each_with(rows, Scratch::default, |scratch: &mut Scratch<E>, h, rows| {
        let modes = modes(&reader.system(h), dims.disc);
        fill(&modes, scratch, dims.sizes.channels, dims.len);
        for (row, values) in rows.into_iter().zip(scratch.time.chunks_exact(padded(dims.len))) {
            row.copy_from_slice(&values[..dims.len]);
        }
    });
}

/// The gradients of the parameters for the gradient `grad` (c, H, L) of the kernels.
pub(super) fn kernel_grad<E: Real>(dims: &DiagDims, params: SsmParams<&[E]>, grad: &[E]) -> SsmParams<Vec<E>> {
    let Ssm { d_model, channels, .. } = dims.sizes;
    assert_eq!(grad.len(), channels * d_model * dims.len);
    let reader = Reader::new(dims.sizes, params);
    let grads = threads::map_with(d_model, Scratch::default, |scratch: &mut Scratch<E>, h| {
        let row = |c: usize| &grad[(c * d_model + h) * dims.len..][..dims.len];
        scratch.time.clear();
        for c in 0..channels {
            scratch.time.extend(row(c).iter().skip(1));
            scratch.time.resize((c + 1) * padded(dims.len), E::zero());
        }
        let system = reader.system(h);
        let modes = modes(&system, dims.disc);
        sum_up(&modes, scratch, channels, dims.len);
        let first: Vec<f64> = (0..channels).map(|c| row(c).first().map_or(0.0, |g| g.f64())).collect();
        system_grad(&system, &modes, &first, &scratch.sums)
    });
    reader.gather(&grads)
}

/// Entries of a row, S.
const WIDTH: usize = 64;
/// Rows that are filled together, so that a power that was loaded serves more than one.
const GROUP: usize = 4;

fn padded(len: usize) -> usize {
    len.next_multiple_of(GROUP * WIDTH)
}

/// The gradient of the system from (s0, s1) of every mode and kernel; `first` is g[0] of each kernel.
fn system_grad(system: &System, modes: &[Mode], first: &[f64], sums: &[[C64; 2]]) -> SystemGrad {
    let m = modes.len();
    let mut grad = SystemGrad::zeros(system);
    for (n, mode) in modes.iter().enumerate() {
        // Row gradients g with dL = Re(g dz): their conjugates are stored.
        let (mut abar, mut b, mut stored_b) = (C64::ZERO, C64::ZERO, C64::ZERO);
        for (c, ([s0, s1], first)) in sums[n * first.len()..].iter().zip(first).enumerate() {
            let weight = 2.0 * (mode.abar * s0 + first);
            abar += mode.weights[c] * (s0 + s1);
            b += weight * system.c[c * m + n] * system.b[n];
            stored_b += weight * system.c[c * m + n] * mode.b;
            grad.c[c * m + n] = (weight * system.b[n] * mode.b).conj();
        }
        let x = abar * mode.abar_by_x + b * mode.b_by_x;
        grad.dt += (b * mode.b_by_dt + x * system.a[n]).re;
        grad.a[n] = (x * system.dt).conj();
        grad.b[n] = stored_b.conj();
    }
    grad
}

/// A thread's buffers.
#[derive(Default)]
struct Scratch<E> {
    /// Kernels, or gradients one step ahead: (c, padded L).
    time: Vec<E>,
    /// abar^t of one mode, t < S.
    short: Powers,
    /// (abar^S)^i of one mode, for every row i.
    long: Powers,
    /// abar^t of every mode: (M, 2, S).
    table: Vec<E>,
    /// Down: the planes of conj(W (abar^S)^i), (M, c, 2, rows). Back: (1, i) times both parts of (abar^S)^i of one mode, (rows, 4).
    factors: Vec<E>,
    /// (s0, s1) of every mode and kernel: (M, c).
    sums: Vec<[C64; 2]>,
}

/// Powers of a number, planar.
#[derive(Default)]
struct Powers {
    re: Vec<f64>,
    im: Vec<f64>,
}

impl Powers {
    /// Takes the powers below `len` of `base` by doubling, and gives base^len if `len` is a power of two.
    #[inline(always)]
    fn fill<I: Isa>(&mut self, base: C64, len: usize) -> C64 {
        self.re.resize(len, 0.0);
        self.im.resize(len, 0.0);
        (self.re[0], self.im[0]) = (1.0, 0.0);
        let (mut filled, mut step) = (1, base);
        while filled < len {
            let (re, next_re) = self.re.split_at_mut(filled);
            let (im, next_im) = self.im.split_at_mut(filled);
            let known = re.iter().zip(im.iter());
            for ((next_re, next_im), (re, im)) in next_re.iter_mut().zip(next_im).zip(known) {
                *next_re = I::fma(*re, step.re, -(*im * step.im));
                *next_im = I::fma(*re, step.im, *im * step.re);
            }
            filled *= 2;
            step *= step;
        }
        step
    }
}

/// Rounds to E, with zero in the place of what has decayed to nothing: arithmetic on denormal numbers is a hundred times slower.
#[inline(always)]
fn round<E: Real>(x: f64) -> E {
    E::of(if x.abs() < 1e-30 { 0.0 } else { x })
}

dispatch! {
    /// Fills `scratch.time` with a channel's kernels.
    fn fill<E: Real>(modes: &[Mode], scratch: &mut Scratch<E>, channels: usize, len: usize) = fill_body;
}

dispatch! {
    /// Fills `scratch.sums` from the gradients in `scratch.time`.
    fn sum_up<E: Real>(modes: &[Mode], scratch: &mut Scratch<E>, channels: usize, len: usize) = sum_up_body;
}

#[inline(always)]
fn fill_body<I: Isa, E: Real>(modes: &[Mode], scratch: &mut Scratch<E>, channels: usize, len: usize) {
    // Twice the lanes of a 512-bit vector: enough independent sums to hide the latency of a multiply-add.
    if const { size_of::<E>() == 4 } {
        fill_lanes::<I, E, 32>(modes, scratch, channels, len);
    } else {
        fill_lanes::<I, E, 16>(modes, scratch, channels, len);
    }
}

#[inline(always)]
fn sum_up_body<I: Isa, E: Real>(modes: &[Mode], scratch: &mut Scratch<E>, channels: usize, len: usize) {
    if const { size_of::<E>() == 4 } {
        sum_up_lanes::<I, E, 32>(modes, scratch, channels, len);
    } else {
        sum_up_lanes::<I, E, 16>(modes, scratch, channels, len);
    }
}

#[inline(always)]
fn fill_lanes<I: Isa, E: Real, const T: usize>(modes: &[Mode], scratch: &mut Scratch<E>, channels: usize, len: usize) {
    let rows = padded(len) / WIDTH;
    tabulate::<I, E>(modes, scratch, channels, rows);
    let Scratch { time, table, factors, .. } = scratch;
    time.resize(channels * padded(len), E::zero());
    for (k, group) in time.chunks_exact_mut(GROUP * WIDTH).enumerate() {
        let (c, row) = (k * GROUP / rows, k * GROUP % rows);
        for start in (0..WIDTH).step_by(T) {
            let mut sums = [[E::zero(); T]; GROUP];
            for n in 0..modes.len() {
                let (re, im): (&[E; T], &[E; T]) = (at(table, 2 * n * WIDTH + start), at(table, (2 * n + 1) * WIDTH + start));
                let factor = 2 * (n * channels + c) * rows + row;
                let (fr, fi): (&[E; GROUP], &[E; GROUP]) = (at(factors, factor), at(factors, factor + rows));
                for r in 0..GROUP {
                    for i in 0..T {
                        sums[r][i] = I::fma(fr[r], re[i], I::fma(fi[r], im[i], sums[r][i]));
                    }
                }
            }
            for (row, sums) in group.chunks_exact_mut(WIDTH).zip(&sums) {
                row[start..start + T].copy_from_slice(sums);
            }
        }
    }
}

/// K values from `start` on.
#[inline(always)]
fn at<E, const K: usize>(values: &[E], start: usize) -> &[E; K] {
    values[start..].first_chunk().expect("tables are whole tiles")
}

/// The tables of the way down.
#[inline(always)]
fn tabulate<I: Isa, E: Real>(modes: &[Mode], scratch: &mut Scratch<E>, channels: usize, rows: usize) {
    let Scratch { short, long, table, factors, .. } = scratch;
    table.clear();
    factors.clear();
    for mode in modes {
        let stride = short.fill::<I>(mode.abar, WIDTH);
        table.extend(short.re.iter().map(|x| round::<E>(*x)));
        table.extend(short.im.iter().map(|x| round::<E>(*x)));
        long.fill::<I>(stride, rows);
        for w in &mode.weights[..channels] {
            let powers = || long.re.iter().zip(&long.im);
            factors.extend(powers().map(|(re, im)| round::<E>(re * w.re - im * w.im)));
            factors.extend(powers().map(|(re, im)| round::<E>(-(re * w.im + im * w.re))));
        }
    }
}

#[inline(always)]
fn sum_up_lanes<I: Isa, E: Real, const T: usize>(modes: &[Mode], scratch: &mut Scratch<E>, channels: usize, len: usize) {
    let Scratch { time, short, long, factors, sums, .. } = scratch;
    sums.clear();
    for mode in modes {
        let stride = short.fill::<I>(mode.abar, WIDTH);
        long.fill::<I>(stride, padded(len) / WIDTH);
        factors.clear();
        for (i, (re, im)) in long.re.iter().zip(&long.im).enumerate() {
            factors.extend([*re, *im, i as f64 * re, i as f64 * im].map(round::<E>));
        }
        for time in time.chunks_exact(padded(len)).take(channels) {
            let mut total = [[0.0; T]; 4];
            for start in (0..WIDTH).step_by(T) {
                let parts = sum_rows::<I, E, T>(time, factors, start);
                sum_columns::<I, E, T>(&parts, at(&short.re, start), at(&short.im, start), start, &mut total);
            }
            let [a, b, c, d] = total.map(sum_lanes);
            sums.push([C64::new(a, b), C64::new(c, d)]);
        }
    }
}

/// u and v, planar, for T columns.
#[inline(always)]
fn sum_rows<I: Isa, E: Real, const T: usize>(time: &[E], factors: &[E], start: usize) -> [[E; T]; 4] {
    let mut sums = [[E::zero(); T]; 4];
    for (row, factors) in time.chunks_exact(WIDTH).zip(factors.as_chunks::<4>().0) {
        let values: &[E; T] = at(row, start);
        for k in 0..4 {
            for i in 0..T {
                sums[k][i] = I::fma(factors[k], values[i], sums[k][i]);
            }
        }
    }
    sums
}

/// Adds T columns' part of s0 and s1, planar, a sum for each lane.
#[inline(always)]
fn sum_columns<I: Isa, E: Real, const T: usize>(
    parts: &[[E; T]; 4],
    re: &[f64; T],
    im: &[f64; T],
    start: usize,
    total: &mut [[f64; T]; 4],
) {
    for i in 0..T {
        let [ur, ui, vr, vi] = [parts[0][i].f64(), parts[1][i].f64(), parts[2][i].f64(), parts[3][i].f64()];
        let t = (start + i) as f64;
        let (wr, wi) = (I::fma(t, ur, vr * WIDTH as f64), I::fma(t, ui, vi * WIDTH as f64));
        total[0][i] += I::fma(re[i], ur, -(im[i] * ui));
        total[1][i] += I::fma(re[i], ui, im[i] * ur);
        total[2][i] += I::fma(re[i], wr, -(im[i] * wi));
        total[3][i] += I::fma(re[i], wi, im[i] * wr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::DtTransform;
    use crate::backend::ssm::discretization::discretize;
    use crate::backend::ssm::system::testing::{error, gradient_error, sample, weights};

    /// (channels, M, L): around the ends of rows and groups of rows.
    const CASES: [[usize; 3]; 6] = [[1, 1, 1], [2, 3, 2], [1, 4, 64], [2, 5, 257], [1, 2, 255], [1, 3, 600]];

    fn each(f: impl Fn(&DiagDims, SsmParams<Vec<f64>>)) {
        for [channels, half_state, len] in CASES {
            let sizes = Ssm { d_model: 4, n_ssm: 2, half_state, rank: 0, channels };
            f(&DiagDims { sizes, disc: Discretization::Zoh, len }, sample(sizes, DtTransform::Softplus, 0.5));
            f(&DiagDims { sizes, disc: Discretization::Bilinear, len }, sample(sizes, DtTransform::Exp, 0.5));
        }
    }

    fn kernel<E: Real>(dims: &DiagDims, params: SsmParams<&[E]>) -> Vec<E> {
        let mut out = vec![E::nan(); dims.sizes.channels * dims.sizes.d_model * dims.len];
        super::kernel(dims, params, &mut out);
        out
    }

    #[test]
    fn kernel_is_the_recurrence() {
        each(|dims, stored| {
            let Ssm { d_model, half_state: m, channels, .. } = dims.sizes;
            let mut want = vec![0.0; channels * d_model * dims.len];
            for h in 0..d_model {
                let system = Reader::new(dims.sizes, stored.slices()).system(h);
                let (abar, mut x) = discretize(&system, dims.disc);
                for l in 0..dims.len {
                    for (k, c) in system.c.chunks(m).enumerate() {
                        want[(k * d_model + h) * dims.len + l] = c.iter().zip(&x).map(|(c, x)| 2.0 * (c * x).re).sum();
                    }
                    x.iter_mut().zip(&abar).for_each(|(x, a)| *x *= a);
                }
            }
            assert!(error(&kernel(dims, stored.slices()), &want) < 1e-12, "{dims:?}");
        });
    }

    #[test]
    fn gradient_agrees_with_differences() {
        each(|dims, stored| {
            let weights = weights(dims.sizes.channels * dims.sizes.d_model * dims.len);
            let loss = |params: SsmParams<&[f64]>| kernel(dims, params).iter().zip(&weights).map(|(k, w)| k * w).sum();
            let error = gradient_error(&stored, kernel_grad(dims, stored.slices(), &weights), loss);
            assert!(error < 1e-7, "{dims:?}: {error:e}");
        });
    }

    #[test]
    fn gradient_survives_a_transition_of_zero() {
        // dt A = -2 makes the bilinear abar exactly 0.
        let sizes = Ssm { d_model: 1, n_ssm: 1, half_state: 1, rank: 0, channels: 1 };
        let dims = DiagDims { sizes, disc: Discretization::Bilinear, len: 5 };
        let [inv_dt, a_real, a_imag, b, c] = [vec![0.0], vec![2f64.ln()], vec![0.0], vec![1.0, 0.5], vec![0.3, 0.2]];
        let stored = SsmParams { inv_dt, a_real, a_imag, b, c, p: None, dt: DtTransform::Exp };
        let loss = |params: SsmParams<&[f64]>| kernel(&dims, params).iter().sum();
        assert!(gradient_error(&stored, kernel_grad(&dims, stored.slices(), &[1.0; 5]), loss) < 1e-8);
    }
}
