//! The generating function of a diagonal-plus-low-rank (DPLR) kernel at the frequencies of its FFT, and the adjoint of that.
//!
//! # The generating function in real tables
//!
//! With w = e^(-i t), t = 2 pi j / Lk, a = dt Lambda and a product v_n = dt x_n y_n, the sums to take are
//! R = sum_n v_n / (1 - w - a_n s) + conjugate modes, s = (1 + w) / 2. The half angle factors out of both 1 - w = e^(-i t/2) i chord and
//! s = e^(-i t/2) cosine, where chord = 2 sin(t/2) and cosine = cos(t/2) are real. So R = e^(i t/2) T, and a pair of modes is a rational
//! function with real coefficients:
//!
//!   T = sum_n (alpha_n i chord + beta_n cosine) inv_n,    inv_n = 1 / (pp + i qq),
//!   alpha = 2 Re v,  beta = -2 Re(v conj a),  pp = |a|^2 cosine^2 - chord^2,  qq = -2 Re(a) cosine chord.
//!
//! One reciprocal serves all products: rows {B, P_k} times columns {C_c, Q_j = conj P_j}. The low-rank part follows by Woodbury: with
//! M_jk = T[P_k, Q_j] and f = (I + cosine M)^-1 cosine T[B, Q], the spectrum is Khat_c = e^(i t/2) (T[B, C_c] - sum_k T[P_k, C_c] f_k).
//! Where B has a large part along P, as in LegS, the two terms cancel. So B is B' + sum_k s_k P_k, with the real shares s_k that make B'
//! smallest: with f = (I + cosine M)^-1 (cosine T[B', Q] - s), the same formula holds for B' in the place of B.
//! pp is computed as (|a| cosine - chord)(|a| cosine + chord): near resonance the difference is what counts. Unlike the form of the
//! literature (`dplr` names it), this one has no singularity at w = -1.
//!
//! # The gradient
//!
//! All of this is holomorphic in the T, so the code carries row gradients h, dL = Re(h dT), through which the chain rule needs no
//! conjugate. Down to the real coefficients: with h_inv = i chord sum_v alpha_v h_v + cosine sum_v beta_v h_v and z = h_inv inv^2,
//!
//!   dL/dalpha_v = sum_j Re(h_v i chord inv),  dL/dbeta_v = sum_j Re(h_v cosine inv),
//!   dL/d|a|^2 = -sum_j cosine^2 Re z,  dL/dRe a (through qq) = -2 sum_j cosine chord Im z.
//!
//! Frequencies are taken in tiles of lanes and in blocks of tiles; the inv_n of a block are kept from the way down to the way back.

#![allow(clippy::needless_range_loop, reason = "lane loops walk several arrays in step; zipped iterators would hide which")]

use realfft::num_complex::Complex;

use super::sum_lanes;
use crate::backend::cpu::buffer::Buffer;
use crate::backend::host::simd::{Isa, dispatch};
use crate::backend::{Real, shape::Ssm};

/// The most lanes in a tile of frequencies; the tables are padded to a multiple of it.
const MAX_LANES: usize = 16;
/// Tiles in a block, for which inv is kept in the gradient.
const BLOCK: usize = 8;

/// The tables of the frequencies 0..=Lk/2, padded by repeating the last one.
pub struct Grid<E> {
    /// Lk.
    pub len: usize,
    bins: usize,
    chord: Vec<E>,
    cosine: Vec<E>,
}

impl<E: Real> Grid<E> {
    /// The frequencies of a kernel of length `len`.
    pub fn new(len: usize) -> Self {
        assert!(len > 0, "a kernel has at least one entry");
        let bins = len / 2 + 1;
        let padded = (0..bins.next_multiple_of(MAX_LANES)).map(|j| j.min(bins - 1));
        // The cosine as the sine of the complement: exactly 0 at w = -1, where rounding would leave a pole.
        let sine = |quarters: usize| (quarters as f64 * std::f64::consts::FRAC_PI_2 / len as f64).sin();
        Grid {
            len,
            bins,
            chord: padded.clone().map(|j| E::of(2.0 * sine(2 * j))).collect(),
            cosine: padded.map(|j| E::of(sine(len - 2 * j))).collect(),
        }
    }

    /// (first bin, chord, cosine) of the tiles from `first` on, `most` at most.
    #[inline(always)]
    fn tiles<const T: usize>(&self, first: usize, most: usize) -> impl Iterator<Item = (usize, &[E; T], &[E; T])> {
        let own = first..self.bins.div_ceil(T).min(first.saturating_add(most));
        let tiles = self.chord.as_chunks::<T>().0[own.clone()].iter().zip(&self.cosine.as_chunks::<T>().0[own]);
        tiles.enumerate().map(move |(i, (chord, cosine))| ((first + i) * T, chord, cosine))
    }
}

/// A channel's coefficients, rounded to the type of the kernel; products are in the order (row, column).
#[derive(Default)]
pub struct Modes<E> {
    /// s, (R).
    pub share: Vec<E>,
    /// |a| and -2 Re a, (M).
    pub pole: Vec<[E; 2]>,
    /// (M, V).
    pub alpha: Vec<E>,
    /// (M, V).
    pub beta: Vec<E>,
}

/// Real and imaginary parts of one value for each of T frequencies.
type Tile<E, const T: usize> = [[E; T]; 2];

dispatch! {
    /// The spectra (c, bins) of a channel's kernels.
    pub fn fill_spectra<E: Real>(sizes: Ssm, grid: &Grid<E>, modes: &Modes<E>, out: &mut [Complex<E>]) = fill_spectra_body;
}

dispatch! {
    /// From the spectra of the kernels' gradients to those of the coefficients: a row [dalpha (V), dbeta (V), d|a|^2, dRe a] for each mode.
    /// `room` is scratch of whatever size.
    pub fn spectra_grad<E: Real>(sizes: Ssm, grid: &Grid<E>, modes: &Modes<E>, spectra: &[Complex<E>], room: &mut Buffer<E>, sums: &mut [f64])
        = spectra_grad_body;
}

/// `$f::<I, E, R, CH, V, T>($args)`: rank, kernels, products and lanes (512 bits) as constants, so that sums can stay in registers.
macro_rules! with_sizes {
    ($sizes:expr, $f:ident($($arg:expr),*)) => {
        // The type decides the lanes at compile time: only one of the two branches is ever generated.
        if const { size_of::<E>() == 4 } {
            with_sizes!($sizes, $f::<16>($($arg),*))
        } else {
            with_sizes!($sizes, $f::<8>($($arg),*))
        }
    };
    ($sizes:expr, $f:ident::<$lanes:literal>($($arg:expr),*)) => {
        match ($sizes.rank, $sizes.channels) {
            (1, 1) => $f::<I, E, 1, 1, 4, $lanes>($($arg),*),
            (1, 2) => $f::<I, E, 1, 2, 6, $lanes>($($arg),*),
            (2, 1) => $f::<I, E, 2, 1, 9, $lanes>($($arg),*),
            (2, 2) => $f::<I, E, 2, 2, 12, $lanes>($($arg),*),
            _ => unreachable!("rank and kernels are 1 or 2, as the shapes were checked: {:?}", $sizes),
        }
    };
}

#[inline(always)]
fn fill_spectra_body<I: Isa, E: Real>(sizes: Ssm, grid: &Grid<E>, modes: &Modes<E>, out: &mut [Complex<E>]) {
    with_sizes!(sizes, fill_tiles(grid, modes, out));
}

#[inline(always)]
fn spectra_grad_body<I: Isa, E: Real>(
    sizes: Ssm,
    grid: &Grid<E>,
    modes: &Modes<E>,
    spectra: &[Complex<E>],
    room: &mut Buffer<E>,
    sums: &mut [f64],
) {
    with_sizes!(sizes, blocks_grad(grid, modes, spectra, room, sums));
}

#[inline(always)]
fn fill_tiles<I: Isa, E: Real, const R: usize, const CH: usize, const V: usize, const T: usize>(
    grid: &Grid<E>,
    modes: &Modes<E>,
    out: &mut [Complex<E>],
) {
    let share = std::array::from_fn(|k| modes.share[k]);
    for (start, chord, cosine) in grid.tiles::<T>(0, usize::MAX) {
        let count = T.min(grid.bins - start);
        let products = sum_products::<I, E, V, T>(chord, cosine, modes, |_, _| {});
        for (c, [re, im]) in combine::<E, R, CH, V, T>(chord, cosine, &products, &share).iter().enumerate() {
            let tile: [Complex<E>; T] = std::array::from_fn(|i| Complex::new(re[i], im[i]));
            out[c * grid.bins + start..][..count].copy_from_slice(&tile[..count]);
        }
    }
}

/// inv of one mode.
#[inline(always)]
fn invert<I: Isa, E: Real, const T: usize>(chord: &[E; T], cosine: &[E; T], pole: [E; 2]) -> Tile<E, T> {
    let mut inv = [[E::zero(); T]; 2];
    for i in 0..T {
        let pp = I::fma(pole[0], cosine[i], -chord[i]) * I::fma(pole[0], cosine[i], chord[i]);
        let qq = pole[1] * (chord[i] * cosine[i]);
        let r = E::one() / I::fma(pp, pp, qq * qq);
        inv[0][i] = pp * r;
        inv[1][i] = -(qq * r);
    }
    inv
}

/// T of every product; `keep` gets every mode's inv.
#[inline(always)]
fn sum_products<I: Isa, E: Real, const V: usize, const T: usize>(
    chord: &[E; T],
    cosine: &[E; T],
    modes: &Modes<E>,
    mut keep: impl FnMut(usize, Tile<E, T>),
) -> [Tile<E, T>; V] {
    let mut sum = [[[E::zero(); T]; 2]; V];
    let (alpha, beta) = (modes.alpha.as_chunks::<V>().0, modes.beta.as_chunks::<V>().0);
    for (n, ((&pole, alpha), beta)) in modes.pole.iter().zip(alpha).zip(beta).enumerate() {
        let inv = invert::<I, E, T>(chord, cosine, pole);
        keep(n, inv);
        for i in 0..T {
            // i chord inv, and cosine inv.
            let (sr, si) = (-(chord[i] * inv[1][i]), chord[i] * inv[0][i]);
            let (cr, ci) = (cosine[i] * inv[0][i], cosine[i] * inv[1][i]);
            for v in 0..V {
                sum[v][0][i] = I::fma(alpha[v], sr, I::fma(beta[v], cr, sum[v][0][i]));
                sum[v][1][i] = I::fma(alpha[v], si, I::fma(beta[v], ci, sum[v][1][i]));
            }
        }
    }
    sum
}

/// (I + cosine M)^-1 and f, from the products `t` at one frequency and the shares.
#[inline(always)]
fn woodbury<E: Real, const R: usize, const CH: usize>(
    t: impl Fn(usize) -> Complex<E>,
    cosine: E,
    share: &[E; R],
) -> ([[Complex<E>; R]; R], [Complex<E>; R]) {
    let mut m = [[Complex::new(E::zero(), E::zero()); R]; R];
    for j in 0..R {
        for k in 0..R {
            m[j][k] = t((1 + k) * (CH + R) + CH + j) * cosine;
        }
        m[j][j].re += E::one();
    }
    let x = inverse(m);
    let mut f = [Complex::new(E::zero(), E::zero()); R];
    for k in 0..R {
        for j in 0..R {
            f[k] += x[k][j] * (t(CH + j) * cosine - share[j]);
        }
    }
    (x, f)
}

/// The inverse of a 1 x 1 or 2 x 2 matrix.
#[inline(always)]
fn inverse<E: Real, const R: usize>(m: [[Complex<E>; R]; R]) -> [[Complex<E>; R]; R] {
    let recip = |z: Complex<E>| z.conj() * (E::one() / (z.re * z.re + z.im * z.im));
    let mut inv = m;
    if R == 1 {
        inv[0][0] = recip(m[0][0]);
    } else {
        let r = recip(m[0][0] * m[1][1] - m[0][1] * m[1][0]);
        inv[0][0] = m[1][1] * r;
        inv[1][1] = m[0][0] * r;
        inv[0][1] = -(m[0][1] * r);
        inv[1][0] = -(m[1][0] * r);
    }
    inv
}

/// The spectra from the products.
#[inline(always)]
fn combine<E: Real, const R: usize, const CH: usize, const V: usize, const T: usize>(
    chord: &[E; T],
    cosine: &[E; T],
    products: &[Tile<E, T>; V],
    share: &[E; R],
) -> [Tile<E, T>; CH] {
    let mut out = [[[E::zero(); T]; 2]; CH];
    for i in 0..T {
        let t = |v: usize| Complex::new(products[v][0][i], products[v][1][i]);
        let (_, f) = woodbury::<E, R, CH>(t, cosine[i], share);
        let half_turn = Complex::new(cosine[i], chord[i] * E::of(0.5));
        for c in 0..CH {
            let mut s = t(c);
            for k in 0..R {
                s -= t((1 + k) * (CH + R) + c) * f[k];
            }
            let s = s * half_turn;
            out[c][0][i] = s.re;
            out[c][1][i] = s.im;
        }
    }
    out
}

/// The row gradients of the products from twice the conjugate of the gradient's spectra: the adjoint of [`combine`].
///
/// With x = (I + cosine M)^-1: h[f]_k = -sum_c T[P_k, C_c] h_c, lambda = x^T h[f], h[T[B', Q_j]] = cosine lambda_j,
/// h[M_jk] = -cosine lambda_j f_k.
#[inline(always)]
fn combine_grad<E: Real, const R: usize, const CH: usize, const V: usize, const T: usize>(
    chord: &[E; T],
    cosine: &[E; T],
    products: &[Tile<E, T>; V],
    spectra: &[Tile<E, T>; CH],
    share: &[E; R],
) -> [Tile<E, T>; V] {
    let mut out = [[[E::zero(); T]; 2]; V];
    for i in 0..T {
        let t = |v: usize| Complex::new(products[v][0][i], products[v][1][i]);
        let mut set = |v: usize, z: Complex<E>| (out[v][0][i], out[v][1][i]) = (z.re, z.im);
        let (x, f) = woodbury::<E, R, CH>(t, cosine[i], share);
        let twice_half_turn = Complex::new(cosine[i] + cosine[i], chord[i]);
        let mut hf = [Complex::new(E::zero(), E::zero()); R];
        for c in 0..CH {
            let h = Complex::new(spectra[c][0][i], -spectra[c][1][i]) * twice_half_turn;
            set(c, h);
            for k in 0..R {
                let pc = (1 + k) * (CH + R) + c;
                set(pc, -(h * f[k]));
                hf[k] -= t(pc) * h;
            }
        }
        for j in 0..R {
            let mut lambda = Complex::new(E::zero(), E::zero());
            for k in 0..R {
                lambda += x[k][j] * hf[k] * cosine[i];
            }
            set(CH + j, lambda);
            for k in 0..R {
                set((1 + k) * (CH + R) + CH + j, -(lambda * f[k]));
            }
        }
    }
    out
}

/// The gradients of one mode's coefficients, a sum for each lane.
struct ModeSums<E, const V: usize, const T: usize> {
    alpha: [[E; T]; V],
    beta: [[E; T]; V],
    square: [E; T],
    real: [E; T],
}

impl<E: Real, const V: usize, const T: usize> ModeSums<E, V, T> {
    /// Rows of T numbers.
    const ROWS: usize = 2 * V + 2;

    /// Out of its rows, in the order of the fields.
    #[inline(always)]
    fn load(rows: &[[E; T]]) -> Self {
        let from = |first: usize| std::array::from_fn(|v| rows[first + v]);
        ModeSums { alpha: from(0), beta: from(V), square: rows[2 * V], real: rows[2 * V + 1] }
    }

    /// Back to where [`ModeSums::load`] had it from.
    #[inline(always)]
    fn store(&self, rows: &mut [[E; T]]) {
        rows[..V].copy_from_slice(&self.alpha);
        rows[V..2 * V].copy_from_slice(&self.beta);
        (rows[2 * V], rows[2 * V + 1]) = (self.square, self.real);
    }
}

#[inline(always)]
fn blocks_grad<I: Isa, E: Real, const R: usize, const CH: usize, const V: usize, const T: usize>(
    grid: &Grid<E>,
    modes: &Modes<E>,
    spectra: &[Complex<E>],
    room: &mut Buffer<E>,
    sums: &mut [f64],
) {
    let (m, of_mode) = (modes.pole.len(), ModeSums::<E, V, T>::ROWS);
    let share = std::array::from_fn(|k| modes.share[k]);
    let zero = [E::zero(); T];
    let wanted = (2 * BLOCK + of_mode) * m * T;
    if room.len() != wanted {
        *room = Buffer::zeros(wanted);
    }
    let (inv, mode_sums) = room.as_chunks_mut::<T>().0.split_at_mut(2 * BLOCK * m);
    let inv = inv.as_chunks_mut::<2>().0;
    mode_sums.fill(zero);
    let mut rows = [[[zero; 2]; V]; BLOCK];
    let (alpha, beta) = (modes.alpha.as_chunks::<V>().0, modes.beta.as_chunks::<V>().0);
    for first in (0..grid.bins.div_ceil(T)).step_by(BLOCK) {
        for (tile, (start, chord, cosine)) in grid.tiles::<T>(first, BLOCK).enumerate() {
            let spectra = std::array::from_fn(|c| load(&spectra[c * grid.bins + start..(c + 1) * grid.bins]));
            let products = sum_products::<I, E, V, T>(chord, cosine, modes, |n, tile_inv| inv[n * BLOCK + tile] = tile_inv);
            rows[tile] = combine_grad::<E, R, CH, V, T>(chord, cosine, &products, &spectra, &share);
        }
        for (n, ((sums, alpha), beta)) in mode_sums.chunks_exact_mut(of_mode).zip(alpha).zip(beta).enumerate() {
            let mut local = ModeSums::<E, V, T>::load(sums);
            for (tile, (_, chord, cosine)) in grid.tiles::<T>(first, BLOCK).enumerate() {
                mode_grad::<I, E, V, T>(chord, cosine, &inv[n * BLOCK + tile], (alpha, beta), &rows[tile], &mut local);
            }
            local.store(sums);
        }
    }
    sums.iter_mut().zip(mode_sums).for_each(|(sum, lanes)| *sum = sum_lanes(*lanes));
}

/// The first T values, or zeros where there are fewer.
#[inline(always)]
fn load<E: Real, const T: usize>(values: &[Complex<E>]) -> Tile<E, T> {
    let mut tile = [[E::zero(); T]; 2];
    for (i, z) in values.iter().take(T).enumerate() {
        tile[0][i] = z.re;
        tile[1][i] = z.im;
    }
    tile
}

/// Adds one tile's part of one mode's gradient.
///
/// With w = h_inv cosine inv: cosine^2 z = w cosine inv and cosine chord z = -i w (i chord inv).
#[inline(always)]
fn mode_grad<I: Isa, E: Real, const V: usize, const T: usize>(
    chord: &[E; T],
    cosine: &[E; T],
    inv: &Tile<E, T>,
    (alpha, beta): (&[E; V], &[E; V]),
    rows: &[Tile<E, T>; V],
    sums: &mut ModeSums<E, V, T>,
) {
    for i in 0..T {
        let (sr, si) = (-(chord[i] * inv[1][i]), chord[i] * inv[0][i]);
        let (cr, ci) = (cosine[i] * inv[0][i], cosine[i] * inv[1][i]);
        let [mut ar, mut ai, mut br, mut bi] = [E::zero(); 4];
        for v in 0..V {
            let (hr, hi) = (rows[v][0][i], rows[v][1][i]);
            sums.alpha[v][i] = I::fma(hr, sr, I::fma(-hi, si, sums.alpha[v][i]));
            sums.beta[v][i] = I::fma(hr, cr, I::fma(-hi, ci, sums.beta[v][i]));
            (ar, ai) = (I::fma(alpha[v], hr, ar), I::fma(alpha[v], hi, ai));
            (br, bi) = (I::fma(beta[v], hr, br), I::fma(beta[v], hi, bi));
        }
        let (hr, hi) = (I::fma(cosine[i], br, -(chord[i] * ai)), I::fma(cosine[i], bi, chord[i] * ar));
        let (wr, wi) = (I::fma(hr, cr, -(hi * ci)), I::fma(hr, ci, hi * cr));
        sums.square[i] = I::fma(wi, ci, I::fma(-wr, cr, sums.square[i]));
        let twice = I::fma(wr, sr, -(wi * si));
        sums.real[i] += twice + twice;
    }
}
