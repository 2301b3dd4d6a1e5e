//! The kernel of a diagonal-plus-low-rank (DPLR) SSM, its gradient, and the same system as a recurrence.
//!
//! The state matrix is A = diag(Lambda) - sum_k P_k P_k*, discretised by the bilinear rule: `K[l] = C Abar^l Bbar`. Following "Efficiently
//! Modeling Long Sequences with Structured State Spaces" (Gu, Goel, Re, 2022, section 3 and appendix C), the kernel of length Lk is the
//! inverse FFT of its generating function with C~ = C (I - Abar^Lk) in the place of C. The form used here has no singularity at w = -1.
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
//! pp is computed as (|a| cosine - chord)(|a| cosine + chord): near resonance the difference is what counts.
//!
//! # The gradient
//!
//! All of this is holomorphic in the T, so the code carries row gradients h, dL = Re(h dT), through which the chain rule needs no
//! conjugate. Down to the real coefficients: with h_inv = i chord sum_v alpha_v h_v + cosine sum_v beta_v h_v and z = h_inv inv^2,
//!
//!   dL/dalpha_v = sum_j Re(h_v i chord inv),  dL/dbeta_v = sum_j Re(h_v cosine inv),
//!   dL/d|a|^2 = -sum_j cosine^2 Re z,  dL/dRe a (through qq) = -2 sum_j cosine chord Im z.
//!
//! Frequencies are taken in tiles of lanes and in blocks of tiles; the inv_n of a block are kept from the way down to the way back. A
//! thread needs O(Lk) memory and the arithmetic is O(M Lk) a channel. Channels with little damping are done in f64 (`WELL_DAMPED`).

#![allow(clippy::needless_range_loop, reason = "lane loops walk several arrays in step; zipped iterators would hide which")]

use realfft::RealFftPlanner;
use realfft::num_complex::Complex;

use super::simd::{Isa, dispatch};
use super::ssm_common::{C64, Reader, System, SystemGrad, SystemGrads, SystemParams, rows_by_channel, sum_lanes, to_planar};
use super::threads;
use crate::backend::{DtTransform, Real, shape::Ssm};
use crate::error::{Error, Result};

/// Which kernel is asked for.
#[derive(Clone, Copy, Debug)]
pub struct DplrDims {
    /// The sizes of the parameters.
    pub sizes: Ssm,
    /// How inv_dt becomes dt.
    pub dt: DtTransform,
    /// The length Lk that C~ belongs to.
    pub len: usize,
    /// How many entries of the kernel are wanted, at most `len`.
    pub take: usize,
}

impl DplrDims {
    /// The frequencies of a spectrum.
    fn bins(&self) -> usize {
        self.len / 2 + 1
    }

    /// The bins of a spectrum that are real: the first, and the last if the length is even.
    fn real_ends<'s, E>(&self, spectrum: &'s mut [Complex<E>]) -> impl Iterator<Item = &'s mut Complex<E>> + use<'s, E> {
        let even = self.len.is_multiple_of(2);
        let (first, rest) = spectrum.split_first_mut().expect("a spectrum has at least one bin");
        std::iter::once(first).chain(rest.last_mut().filter(|_| even))
    }
}

/// The kernels (c, H, take); `params.c` is C~.
pub fn kernel<E: Real>(dims: &DplrDims, params: SystemParams<'_, E>) -> Vec<E> {
    let reader = Reader::new(dims.sizes, dims.dt, params);
    let grids = Grids::new(dims.len, &reader);
    let fft = RealFftPlanner::<E>::new().plan_fft_inverse(dims.len);
    let mut out = vec![E::zero(); dims.sizes.channels * dims.sizes.d_model * dims.take];
    let rows = rows_by_channel(&mut out, dims.sizes.d_model, dims.take);
    let init = || Buffers::new(dims, fft.make_scratch_vec());
    threads::for_each_with(rows, init, |Buffers { spectra, wide, time, fft: scratch }, h, rows| {
        grids.fill(dims.sizes, &reader.system(h), spectra, wide);
        for (spectrum, row) in spectra.chunks_exact_mut(dims.bins()).zip(rows) {
            dims.real_ends(spectrum).for_each(|end| end.im = E::zero());
            fft.process_with_scratch(spectrum, time, scratch).expect("the buffers are made by the plan");
            row.copy_from_slice(&time[..dims.take]);
        }
    });
    out
}

/// The gradients of the parameters for the gradient `grad` (c, H, take) of the kernels.
pub fn kernel_grad<E: Real>(dims: &DplrDims, params: SystemParams<'_, E>, grad: &[E]) -> SystemGrads<E> {
    assert_eq!(grad.len(), dims.sizes.channels * dims.sizes.d_model * dims.take);
    let reader = Reader::new(dims.sizes, dims.dt, params);
    let grids = Grids::new(dims.len, &reader);
    let fft = RealFftPlanner::<E>::new().plan_fft_forward(dims.len);
    let init = || Buffers::new(dims, fft.make_scratch_vec());
    let channels = threads::map_with(dims.sizes.d_model, init, |Buffers { spectra, wide, time, fft: scratch }, h| {
        for (c, spectrum) in spectra.chunks_exact_mut(dims.bins()).enumerate() {
            let row = &grad[(c * dims.sizes.d_model + h) * dims.take..][..dims.take];
            time[..dims.take].copy_from_slice(row);
            time[dims.take..].fill(E::zero());
            fft.process_with_scratch(time, spectrum, scratch).expect("the buffers are made by the plan");
            // Every other frequency stands for itself and its conjugate; that factor of two is in `pull_combine`.
            dims.real_ends(spectrum).for_each(|end| *end = Complex::new(end.re * E::of(0.5), E::zero()));
        }
        grids.pull(dims.sizes, &reader.system(h), spectra, wide)
    });
    reader.gather(&channels)
}

/// C Abar^steps, planar (2, c, H, M): the row vector stays its own conjugate mirror, so half of it is enough.
///
/// `params.c` - the result of `len` steps is C~ of that length; for a C~, plus instead of minus doubles its length.
pub fn advance<E: Real>(dims: &DplrDims, params: SystemParams<'_, E>, steps: usize) -> Vec<E> {
    let Ssm { d_model, half_state, channels, .. } = dims.sizes;
    let reader = Reader::new(dims.sizes, dims.dt, params);
    let rows = threads::map_with(
        d_model,
        || (),
        |(), h| {
            let system = reader.system(h);
            Recurrence::new(&system).advance_rows(&system.c, steps)
        },
    );
    let at = |c: usize| rows.iter().flat_map(move |row| &row[c * half_state..][..half_state]).copied();
    to_planar(&(0..channels).flat_map(at).collect::<Vec<C64>>())
}

/// Channel `h` as a recurrence.
pub fn recurrence<E: Real>(dims: &DplrDims, params: SystemParams<'_, E>, h: usize) -> Recurrence {
    Recurrence::new(&Reader::new(dims.sizes, dims.dt, params).system(h))
}

/// The most lanes in a tile of frequencies; the tables are padded to a multiple of it.
const MAX_LANES: usize = 16;
/// Tiles in a block, for which inv is kept in the gradient.
const BLOCK: usize = 8;

/// The tables of the frequencies 0..=Lk/2, padded by repeating the last one.
struct Grid<E> {
    len: usize,
    bins: usize,
    chord: Vec<E>,
    cosine: Vec<E>,
}

impl<E: Real> Grid<E> {
    fn new(len: usize) -> Self {
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

    /// (first bin, chord, cosine) of every tile.
    #[inline(always)]
    fn tiles<const T: usize>(&self) -> impl Iterator<Item = (usize, &[E; T], &[E; T])> {
        let tiles = self.chord.as_chunks::<T>().0.iter().zip(self.cosine.as_chunks::<T>().0);
        tiles.enumerate().map(|(i, (chord, cosine))| (i * T, chord, cosine)).take(self.bins.div_ceil(T))
    }
}

/// -Re A below which f32 is not enough.
///
/// The T of a mode with little damping peak where its frequency falls on the grid, and the peaks cancel in the low-rank correction. With
/// the damping of 1/2 that LegS starts from, kernels in f32 are good to 1e-6; below 0.1 the error grows as 1 / damping, to 1e-2 in the
/// kernels and to nothing left in the gradients of A for the undamped LegT, LagT and Fourier systems.
const WELL_DAMPED: f64 = 0.1;

fn well_damped(a: &C64) -> bool {
    -a.re >= WELL_DAMPED
}

/// The tables in the kernel's type, and in f64 if a channel needs that.
struct Grids<E> {
    native: Grid<E>,
    wide: Option<Grid<f64>>,
}

impl<E: Real> Grids<E> {
    fn new(len: usize, reader: &Reader<'_, E>) -> Self {
        let narrow = size_of::<E>() < size_of::<f64>();
        let wide = (narrow && !reader.poles().iter().all(well_damped)).then(|| Grid::new(len));
        Grids { native: Grid::new(len), wide }
    }

    /// The f64 tables, if `system` needs them.
    fn wide_for(&self, system: &System) -> Option<&Grid<f64>> {
        self.wide.as_ref().filter(|_| !system.a.iter().all(well_damped))
    }

    /// The spectra (c, bins) of a channel's kernels; `wide` is scratch.
    fn fill(&self, sizes: Ssm, system: &System, spectra: &mut [Complex<E>], wide: &mut Vec<Complex<f64>>) {
        let factors = Factors::new(system, self.native.len);
        let Some(grid) = self.wide_for(system) else {
            return fill_spectra(sizes, &self.native, &factors.modes(), spectra);
        };
        wide.resize(spectra.len(), Complex::default());
        fill_spectra(sizes, grid, &factors.modes(), wide);
        spectra.iter_mut().zip(wide).for_each(|(z, wide)| *z = Complex::new(E::of(wide.re), E::of(wide.im)));
    }

    /// A channel's gradient from the spectra (c, bins) of the gradients of its kernels.
    fn pull(&self, sizes: Ssm, system: &System, spectra: &[Complex<E>], wide: &mut Vec<Complex<f64>>) -> SystemGrad {
        let factors = Factors::new(system, self.native.len);
        let mut sums = vec![0.0; factors.a.len() * (2 * factors.products() + 2)];
        if let Some(grid) = self.wide_for(system) {
            wide.clear();
            wide.extend(spectra.iter().map(|z| Complex::new(z.re.f64(), z.im.f64())));
            pull_spectra(sizes, grid, &factors.modes(), wide, &mut sums);
        } else {
            pull_spectra(sizes, &self.native, &factors.modes(), spectra, &mut sums);
        }
        factors.pull_back(system, self.native.len, &sums)
    }
}

/// A thread's buffers.
struct Buffers<E> {
    /// (c, bins).
    spectra: Vec<Complex<E>>,
    /// The same in f64, where needed.
    wide: Vec<Complex<f64>>,
    /// One kernel or gradient, (Lk).
    time: Vec<E>,
    /// The FFT's own.
    fft: Vec<Complex<E>>,
}

impl<E: Real> Buffers<E> {
    fn new(dims: &DplrDims, fft: Vec<Complex<E>>) -> Self {
        let spectra = vec![Complex::default(); dims.sizes.channels * dims.bins()];
        Buffers { spectra, wide: Vec::new(), time: vec![E::zero(); dims.len], fft }
    }
}

/// A channel's coefficients, rounded to the type of the kernel; products are in the order (row, column).
struct Modes<E> {
    /// |a| and -2 Re a, (M).
    pole: Vec<[E; 2]>,
    /// (M, V).
    alpha: Vec<E>,
    /// (M, V).
    beta: Vec<E>,
}

/// What the products of a channel are made of, in f64.
struct Factors {
    a: Vec<C64>,
    /// dt B, dt P_k: (1 + R, M).
    rows: Vec<C64>,
    /// C_c / Lk (the factor of the inverse FFT goes with C), conj P_k: (c + R, M).
    cols: Vec<C64>,
}

impl Factors {
    fn new(system: &System, len: usize) -> Self {
        Factors {
            a: system.a.iter().map(|a| a * system.dt).collect(),
            rows: system.b.iter().chain(&system.p).map(|x| x * system.dt).collect(),
            cols: system.c.iter().map(|c| c / len as f64).chain(system.p.iter().map(|p| p.conj())).collect(),
        }
    }

    fn products(&self) -> usize {
        (self.rows.len() / self.a.len()) * (self.cols.len() / self.a.len())
    }

    /// The positions in `rows` and `cols` of the factors of mode `n`'s products, in order.
    fn pairs(&self, n: usize) -> impl Iterator<Item = (usize, usize)> {
        let m = self.a.len();
        let (rows, cols) = (self.rows.len() / m, self.cols.len() / m);
        (0..rows).flat_map(move |r| (0..cols).map(move |c| (r * m + n, c * m + n)))
    }

    fn modes<E: Real>(&self) -> Modes<E> {
        let products = self.products() * self.a.len();
        let mut modes =
            Modes { pole: Vec::with_capacity(self.a.len()), alpha: Vec::with_capacity(products), beta: Vec::with_capacity(products) };
        for (n, a) in self.a.iter().enumerate() {
            modes.pole.push([E::of(a.norm_sqr().sqrt()), E::of(-2.0 * a.re)]);
            for (r, c) in self.pairs(n) {
                let v = self.rows[r] * self.cols[c];
                modes.alpha.push(E::of(2.0 * v.re));
                modes.beta.push(E::of(-2.0 * (v.re * a.re + v.im * a.im)));
            }
        }
        modes
    }

    /// From the gradients of the coefficients, a row [dalpha (V), dbeta (V), d|a|^2, dRe a] for each mode, to the system's.
    fn pull_back(&self, system: &System, len: usize, sums: &[f64]) -> SystemGrad {
        let products = self.products();
        let mut grad = SystemGrad::zeros(system);
        let mut rows = vec![C64::ZERO; self.rows.len()];
        let mut cols = vec![C64::ZERO; self.cols.len()];
        for (n, (a, sums)) in self.a.iter().zip(sums.chunks_exact(2 * products + 2)).enumerate() {
            let mut da = a * (2.0 * sums[2 * products]) + sums[2 * products + 1];
            for (v, (r, c)) in self.pairs(n).enumerate() {
                let (dalpha, dbeta) = (2.0 * sums[v], 2.0 * sums[products + v]);
                let dv = C64::new(dalpha - a.re * dbeta, -a.im * dbeta);
                da -= self.rows[r] * self.cols[c] * dbeta;
                rows[r] += dv * self.cols[c].conj();
                cols[c] += dv * self.rows[r].conj();
            }
            grad.a[n] = da * system.dt;
            grad.dt += dot(da, system.a[n]);
        }
        let unscaled = system.b.iter().chain(&system.p);
        grad.dt += rows.iter().zip(unscaled).map(|(g, x)| dot(*g, *x)).sum::<f64>();
        let (b, p) = rows.split_at(grad.b.len());
        let (c, q) = cols.split_at(grad.c.len());
        grad.b = b.iter().map(|g| g * system.dt).collect();
        grad.c = c.iter().map(|g| g / len as f64).collect();
        grad.p = p.iter().zip(q).map(|(p, q)| p * system.dt + q.conj()).collect();
        grad
    }
}

/// Re(conj(g) z): the part of dL that comes from z growing along itself.
fn dot(g: C64, z: C64) -> f64 {
    g.re * z.re + g.im * z.im
}

/// Real and imaginary parts of one value for each of T frequencies.
type Tile<E, const T: usize> = [[E; T]; 2];

dispatch! {
    /// The spectra (c, bins) of a channel's kernels.
    fn fill_spectra<E: Real>(sizes: Ssm, grid: &Grid<E>, modes: &Modes<E>, out: &mut [Complex<E>]) = fill_spectra_body;
}

dispatch! {
    /// From the spectra of the kernels' gradients to the sums that `Factors::pull_back` wants.
    fn pull_spectra<E: Real>(sizes: Ssm, grid: &Grid<E>, modes: &Modes<E>, spectra: &[Complex<E>], sums: &mut [f64]) = pull_spectra_body;
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
fn pull_spectra_body<I: Isa, E: Real>(sizes: Ssm, grid: &Grid<E>, modes: &Modes<E>, spectra: &[Complex<E>], sums: &mut [f64]) {
    with_sizes!(sizes, pull_blocks(grid, modes, spectra, sums));
}

#[inline(always)]
fn fill_tiles<I: Isa, E: Real, const R: usize, const CH: usize, const V: usize, const T: usize>(
    grid: &Grid<E>,
    modes: &Modes<E>,
    out: &mut [Complex<E>],
) {
    for (start, chord, cosine) in grid.tiles::<T>() {
        let count = T.min(grid.bins - start);
        let products = sum_products::<I, E, V, T>(chord, cosine, modes, |_, _| {});
        for (c, [re, im]) in combine::<E, R, CH, V, T>(chord, cosine, &products).iter().enumerate() {
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

/// (I + cosine M)^-1 and f, from the products `t` at one frequency.
#[inline(always)]
fn woodbury<E: Real, const R: usize, const CH: usize>(
    t: impl Fn(usize) -> Complex<E>,
    cosine: E,
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
            f[k] += x[k][j] * t(CH + j) * cosine;
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
) -> [Tile<E, T>; CH] {
    let mut out = [[[E::zero(); T]; 2]; CH];
    for i in 0..T {
        let t = |v: usize| Complex::new(products[v][0][i], products[v][1][i]);
        let (_, f) = woodbury::<E, R, CH>(t, cosine[i]);
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
/// With x = (I + cosine M)^-1: h[f]_k = -sum_c T[P_k, C_c] h_c, lambda = x^T h[f], h[T[B, Q_j]] = cosine lambda_j,
/// h[M_jk] = -cosine lambda_j f_k.
#[inline(always)]
fn pull_combine<E: Real, const R: usize, const CH: usize, const V: usize, const T: usize>(
    chord: &[E; T],
    cosine: &[E; T],
    products: &[Tile<E, T>; V],
    spectra: &[Tile<E, T>; CH],
) -> [Tile<E, T>; V] {
    let mut out = [[[E::zero(); T]; 2]; V];
    for i in 0..T {
        let t = |v: usize| Complex::new(products[v][0][i], products[v][1][i]);
        let mut set = |v: usize, z: Complex<E>| (out[v][0][i], out[v][1][i]) = (z.re, z.im);
        let (x, f) = woodbury::<E, R, CH>(t, cosine[i]);
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
#[derive(Clone, Copy)]
struct ModeSums<E, const V: usize, const T: usize> {
    alpha: [[E; T]; V],
    beta: [[E; T]; V],
    square: [E; T],
    real: [E; T],
}

#[inline(always)]
fn pull_blocks<I: Isa, E: Real, const R: usize, const CH: usize, const V: usize, const T: usize>(
    grid: &Grid<E>,
    modes: &Modes<E>,
    spectra: &[Complex<E>],
    sums: &mut [f64],
) {
    let m = modes.pole.len();
    let zero = [E::zero(); T];
    let mut mode_sums = vec![ModeSums { alpha: [zero; V], beta: [zero; V], square: zero, real: zero }; m];
    let mut inv = vec![[zero; 2]; BLOCK * m];
    let mut rows = [[[zero; 2]; V]; BLOCK];
    let tiles: Vec<_> = grid.tiles::<T>().collect();
    for block in tiles.chunks(BLOCK) {
        for (tile, &(start, chord, cosine)) in block.iter().enumerate() {
            let spectra = std::array::from_fn(|c| load(&spectra[c * grid.bins + start..(c + 1) * grid.bins]));
            let products = sum_products::<I, E, V, T>(chord, cosine, modes, |n, tile_inv| inv[tile * m + n] = tile_inv);
            rows[tile] = pull_combine::<E, R, CH, V, T>(chord, cosine, &products, &spectra);
        }
        let (alpha, beta) = (modes.alpha.as_chunks::<V>().0, modes.beta.as_chunks::<V>().0);
        for (n, ((sums, alpha), beta)) in mode_sums.iter_mut().zip(alpha).zip(beta).enumerate() {
            let mut local = *sums;
            for (tile, &(_, chord, cosine)) in block.iter().enumerate() {
                pull_mode::<I, E, V, T>(chord, cosine, &inv[tile * m + n], (alpha, beta), &rows[tile], &mut local);
            }
            *sums = local;
        }
    }
    for (sums, lanes) in sums.chunks_exact_mut(2 * V + 2).zip(&mode_sums) {
        for v in 0..V {
            sums[v] = sum_lanes(lanes.alpha[v]);
            sums[V + v] = sum_lanes(lanes.beta[v]);
        }
        sums[2 * V] = sum_lanes(lanes.square);
        sums[2 * V + 1] = sum_lanes(lanes.real);
    }
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
fn pull_mode<I: Isa, E: Real, const V: usize, const T: usize>(
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
    fn new(system: &System) -> Self {
        let half = 0.5 * system.dt;
        let d: Vec<C64> = system.a.iter().map(|a| (C64::ONE - a * half).inv()).collect();
        let p: Vec<&[C64]> = system.p.chunks_exact(d.len()).collect();
        let gram = |j: usize, k: usize| 2.0 * (0..d.len()).map(|n| (p[j][n].conj() * d[n] * p[k][n]).re).sum::<f64>();
        let rank = p.len();
        let m: Vec<f64> = (0..rank * rank).map(|i| f64::from(i % (rank + 1) == 0) + half * gram(i / rank, i % rank)).collect();
        let w = inverse_small(&m, rank);
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
        let low_rank: Vec<_> = self.u.iter().zip(&self.q).map(|(u, q)| (to_lanes(u), to_lanes(q))).collect();
        let mut packed: Vec<Vec<Lanes>> = rows.chunks_exact(m).map(to_lanes).collect();
        advance_lanes(&to_lanes(&self.diagonal), &low_rank, &mut packed, steps);
        packed.iter().flat_map(|row| row.iter().flat_map(from_lanes).take(m)).collect()
    }

    /// The plain C, (c, M), from C~ = C (I - Abar^len): what the recurrence is read out with, y = 2 Re(C x).
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
struct Lanes {
    re: [f64; 8],
    im: [f64; 8],
}

/// Packs eight by eight, padded with zeros.
fn to_lanes(values: &[C64]) -> Vec<Lanes> {
    let pick = |chunk: &[C64], part: fn(&C64) -> f64| std::array::from_fn(|i| chunk.get(i).map_or(0.0, part));
    values.chunks(8).map(|chunk| Lanes { re: pick(chunk, |z| z.re), im: pick(chunk, |z| z.im) }).collect()
}

fn from_lanes(lanes: &Lanes) -> [C64; 8] {
    std::array::from_fn(|i| C64::new(lanes.re[i], lanes.im[i]))
}

dispatch! {
    /// rows <- rows Abar^steps for Abar = diagonal - sum_j u_j Re(q_j .), as a row: v <- v diagonal - sum_j Re(v . u_j) q_j.
    fn advance_lanes(diagonal: &[Lanes], low_rank: &[(Vec<Lanes>, Vec<Lanes>)], rows: &mut [Vec<Lanes>], steps: usize) = advance_lanes_body;
}

#[inline(always)]
fn advance_lanes_body<I: Isa>(diagonal: &[Lanes], low_rank: &[(Vec<Lanes>, Vec<Lanes>)], rows: &mut [Vec<Lanes>], steps: usize) {
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
fn real_dot<I: Isa>(v: &[Lanes], u: &[Lanes]) -> f64 {
    let mut sum = [0.0; 8];
    for (v, u) in v.iter().zip(u) {
        for i in 0..8 {
            sum[i] = I::fma(v.re[i], u.re[i], I::fma(-v.im[i], u.im[i], sum[i]));
        }
    }
    ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]))
}

/// Zero in the place of what has decayed to nothing: arithmetic on denormal numbers is a hundred times slower.
#[inline(always)]
fn flush(lanes: &mut Lanes) {
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
        let mut out = vec![0.0; self.values.len()];
        for (out, left) in out.chunks_exact_mut(self.size).zip(self.values.chunks_exact(self.size)) {
            for (x, right) in left.iter().zip(other.values.chunks_exact(self.size)) {
                out.iter_mut().zip(right).for_each(|(out, y)| *out += x * y);
            }
        }
        Dense { size: self.size, values: out }
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

/// The inverse of a real 1 x 1 or 2 x 2 matrix (or of the empty one).
fn inverse_small(m: &[f64], size: usize) -> Vec<f64> {
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
    use super::super::ssm_common::testing::{Stored, error, weights};
    use super::*;

    /// (channels, rank, M, Lk, take): even, odd, shorter than wanted for a tile, and the least of everything.
    const CASES: [[usize; 5]; 7] =
        [[1, 1, 4, 24, 24], [2, 1, 5, 37, 20], [1, 2, 8, 300, 300], [2, 2, 3, 33, 33], [2, 1, 1, 2, 2], [1, 2, 1, 1, 1], [1, 1, 3, 3, 2]];

    fn dims([channels, rank, half_state, len, take]: [usize; 5]) -> DplrDims {
        let sizes = Ssm { d_model: 4, n_ssm: 2, half_state, rank, channels };
        DplrDims { sizes, dt: DtTransform::Softplus, len, take }
    }

    #[test]
    fn kernel_is_the_recurrence() {
        for dims in CASES.map(dims) {
            let Ssm { d_model, half_state: m, channels, .. } = dims.sizes;
            let stored = Stored::<f64>::sample(dims.sizes, 0.5);
            let mut want = vec![0.0; channels * d_model * dims.take];
            for h in 0..d_model {
                let system = Reader::new(dims.sizes, dims.dt, stored.params()).system(h);
                let recurrence = recurrence(&dims, stored.params(), h);
                let c = recurrence.solve_plain_c(&system.c, dims.len).unwrap();
                let mut state = vec![C64::ZERO; m];
                for l in 0..dims.take {
                    recurrence.step(&mut state, f64::from(l == 0));
                    for (k, c) in c.chunks(m).enumerate() {
                        want[(k * d_model + h) * dims.take + l] = c.iter().zip(&state).map(|(c, x)| 2.0 * (c * x).re).sum();
                    }
                }
            }
            assert!(error(&kernel(&dims, stored.params()), &want) < 1e-11, "{dims:?}");
        }
    }

    #[test]
    fn gradient_agrees_with_differences() {
        for dims in CASES.map(dims) {
            let stored = Stored::<f64>::sample(dims.sizes, 0.5);
            let weights = weights(dims.sizes.channels * dims.sizes.d_model * dims.take);
            let loss = |params: SystemParams<'_, f64>| kernel(&dims, params).iter().zip(&weights).map(|(k, w)| k * w).sum();
            let error = stored.gradient_error(kernel_grad(&dims, stored.params(), &weights), loss);
            assert!(error < 1e-7, "{dims:?}: {error:e}");
        }
    }

    #[test]
    fn advance_and_solve_are_inverse() {
        let dims = dims([2, 2, 4, 50, 50]);
        let stored = Stored::<f64>::sample(dims.sizes, 0.5);
        let gone = advance(&dims, stored.params(), dims.len);
        let mut tilde = stored.clone();
        tilde.0[4].iter_mut().zip(&gone).for_each(|(c, gone)| *c -= gone);
        for h in 0..dims.sizes.d_model {
            let system = |stored: &Stored<f64>| Reader::new(dims.sizes, dims.dt, stored.params()).system(h);
            let c = Recurrence::new(&system(&tilde)).solve_plain_c(&system(&tilde).c, dims.len).unwrap();
            assert!(c.iter().zip(&system(&stored).c).all(|(x, y)| (x - y).norm() < 1e-10));
        }
    }

    #[test]
    fn single_precision_holds_without_damping() {
        for damping in [0.5, 1e-4] {
            let dims = dims([1, 2, 16, 784, 784]);
            let stored = Stored::<f32>::sample(dims.sizes, damping);
            let exact = Stored(stored.0.clone().map(|list| list.iter().map(|x| f64::from(*x)).collect()));
            let weights = weights(4 * dims.take);
            assert!(error(&kernel(&dims, stored.params()), &kernel(&dims, exact.params())) < 5e-6);
            let narrow = kernel_grad(&dims, stored.params(), &weights.iter().map(|w| *w as f32).collect::<Vec<_>>());
            let wide = kernel_grad(&dims, exact.params(), &weights);
            assert!(error(&narrow.a_imag, &wide.a_imag) < 1e-4 && error(&narrow.c, &wide.c) < 1e-4);
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
