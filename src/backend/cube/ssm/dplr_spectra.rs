//! The generating function of a diagonal-plus-low-rank (DPLR) kernel at the frequencies of its FFT, and the adjoint of that.
//!
//! # The generating function
//!
//! As in the CPU backend (`cpu/ssm/dplr_spectra.rs`): with t = 2 pi j / Lk, chord = 2 sin(t/2), cosine = cos(t/2), a = dt Lambda, rows
//! x = dt {B, P_k} and columns y = {C_c, Q_j = conj P_j}, the spectrum is Khat_c = e^(i t/2) S_c, where S is the Schur complement
//! T_BC - T_BQ Z T_PC, Z = cosine (I + cosine T_PQ)^-1, of the products
//!
//!   T = sum_n x_n y_n E_n + conj(x_n y_n) E'_n,
//!   1 / E = rho cosine + i (chord - omega cosine),  1 / E' = rho cosine + i (chord + omega cosine).
//!
//! Modes are stored as the one of a conjugate pair with Im a = omega >= 0, rho = -Re a: only E has a resonance, unless omega is about 0.
//!
//! # In single precision
//!
//! Near resonance chord and omega cosine cancel, so chord, omega and cosine are pairs of numbers (`double_float`). A mode without damping
//! has an E near its resonance that is larger than all other terms together, and that cancels in the Schur complement. Therefore the mode
//! nearest to resonance is left out of T, and with it its conjugate, whose E' is as large where omega is about 0. They are a change of rank
//! two, which is added in a form in which nothing cancels: with 1 / E instead of E, and u = (1, -T_BQ Z), v = (1, -Z T_PC) of the other
//! modes,
//!
//!   S_c = S'_c + X D^-1 Y_c,  X = u [x, conj x],  Y_c = [y; conj y] v_c,  D = diag(1 / E, 1 / E') + [y; conj y]_Q Z [x, conj x]_P.
//!
//! # The gradient
//!
//! Row gradients are carried, dL = Re(h dS). Those of the T have rank one, u w with w = (h_c, sum_c h_c v_c), so that with
//! A_x = E (u x) and A_y = E (y w) a mode has dL = Re(sum_r dx_r u_r A_y + sum_c dy_c w_c A_x + da cosine A_x A_y), and the same with E'
//! for the conjugates. For the mode that was left out, A_x is an entry of X D^-1 and A_y one of sum_c h_c D^-1 Y_c.
//!
//! With this, kernels of systems without damping (LegT, LagT, Fourier) are as accurate in single precision as those of LegS.

#![allow(clippy::too_many_arguments, reason = "kernels take their arrays and sizes one by one")]

use cubecl::prelude::*;

use crate::backend::cube::complex::{Complex, add, complex, conj, load, mul, recip, recip_small, scale, store};
use crate::backend::cube::elementwise::reduce::sum_lanes;

/// Modes whose coefficients a cube holds at a time.
const MODES: usize = 32;
/// Units that share a mode on the way back.
const LANES: usize = 8;

/// The sizes that kernels are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DplrVariant {
    pub(crate) rank: usize,
    pub(crate) channels: usize,
    pub(crate) softplus: bool,
}

impl DplrVariant {
    /// Rows B, P_k.
    pub(crate) fn rows(&self) -> usize {
        1 + self.rank
    }

    /// Columns C_c, Q_j.
    pub(crate) fn cols(&self) -> usize {
        self.channels + self.rank
    }

    /// V.
    fn products(&self) -> usize {
        self.rows() * self.cols()
    }

    /// Real sums of a mode's gradient: by x, y and a.
    pub(crate) fn sums(&self) -> usize {
        2 * (self.rows() + self.cols() + 1)
    }

    /// Planes (H, M) of the factors: omega as a pair, rho, complex x and y; then dt, its slope and the sign of the imaginary parts.
    pub(crate) fn planes(&self) -> usize {
        3 + 2 * (self.rows() + self.cols()) + 3
    }
}

/// One frequency: chord and cosine, as pairs.
#[derive(CubeType, Clone, Copy)]
struct Frequency<F: Float> {
    chord_hi: F,
    chord_lo: F,
    cosine_hi: F,
    cosine_lo: F,
    chord: F,
    cosine: F,
}

/// `grid` holds (chord hi, lo, cosine hi, lo) of all bins.
#[cube]
fn frequency<F: Float>(grid: &Array<F>, bins: u32, j: u32) -> Frequency<F> {
    let chord_hi = grid[j as usize];
    let chord_lo = grid[(bins + j) as usize];
    let cosine_hi = grid[(2u32 * bins + j) as usize];
    let cosine_lo = grid[(3u32 * bins + j) as usize];
    Frequency::<F> { chord_hi, chord_lo, cosine_hi, cosine_lo, chord: chord_hi + chord_lo, cosine: cosine_hi + cosine_lo }
}

/// chord - omega cosine.
#[cube]
fn detuning<F: Float>(at: Frequency<F>, omega_hi: F, omega_lo: F) -> F {
    let rest = (at.chord_lo - omega_hi * at.cosine_lo) - omega_lo * at.cosine;
    (at.chord_hi - omega_hi * at.cosine_hi) + rest
}

/// 1 / E and 1 / E' of a mode.
#[derive(CubeType, Clone, Copy)]
struct Poles<F: Float> {
    near: Complex<F>,
    far: Complex<F>,
}

#[cube]
fn poles<F: Float>(factors: &Array<F>, mode: u32, plane: u32, at: Frequency<F>) -> Poles<F> {
    let omega_hi = factors[mode as usize];
    let omega_lo = factors[(mode + plane) as usize];
    let rho = factors[(mode + 2u32 * plane) as usize] * at.cosine;
    let near = complex::<F>(rho, detuning::<F>(at, omega_hi, omega_lo));
    Poles::<F> { near, far: complex::<F>(rho, at.chord + (omega_hi + omega_lo) * at.cosine) }
}

/// The mode nearest to resonance, of those from `first` on.
#[cube]
fn nearest<F: Float>(factors: &Array<F>, first: u32, plane: u32, half: u32, at: Frequency<F>) -> u32 {
    let mut best = F::new(3.0e38);
    let mut found = 0u32.runtime();
    for n in 0..half {
        let near = poles::<F>(factors, first + n, plane, at).near;
        let distance = near.re * near.re + near.im * near.im;
        found = select(distance < best, n, found);
        best = select(distance < best, distance, best);
    }
    found
}

/// Complex entry `i` of a list in registers.
#[cube]
fn get<F: Float>(list: &Array<F>, #[comptime] i: usize) -> Complex<F> {
    complex::<F>(list[comptime!(2 * i)], list[comptime!(2 * i + 1)])
}

#[cube]
fn put<F: Float>(list: &mut Array<F>, #[comptime] i: usize, z: Complex<F>) {
    list[comptime!(2 * i)] = z.re;
    list[comptime!(2 * i + 1)] = z.im;
}

/// Adds x y.
#[cube]
fn put_more<F: Float>(list: &mut Array<F>, #[comptime] i: usize, x: Complex<F>, y: Complex<F>) {
    let z = mul::<F>(x, y);
    list[comptime!(2 * i)] += z.re;
    list[comptime!(2 * i + 1)] += z.im;
}

/// Subtracts x y.
#[cube]
fn put_less<F: Float>(list: &mut Array<F>, #[comptime] i: usize, x: Complex<F>, y: Complex<F>) {
    put_more::<F>(list, i, scale::<F>(x, F::new(-1.0)), y);
}

/// Adds the conjugate of x y.
#[cube]
fn put_more_conj<F: Float>(list: &mut Array<F>, #[comptime] i: usize, x: Complex<F>, y: Complex<F>) {
    put_more::<F>(list, i, conj::<F>(x), conj::<F>(y));
}

/// A list of zeros.
#[cube]
fn zeros<F: Float>(#[comptime] len: usize) -> Array<F> {
    let mut list = Array::<F>::new(comptime!(2 * len));
    #[unroll]
    for i in 0..comptime!(2 * len) {
        list[i] = F::new(0.0);
    }
    list
}

/// Entry `i` of a mode's x and, from `variant.rows()` on, y.
#[cube]
fn factor<F: Float>(factors: &Array<F>, mode: u32, plane: u32, #[comptime] i: usize) -> Complex<F> {
    load::<F>(factors, mode + comptime!(3 + 2 * i as u32) * plane, plane)
}

/// T of every product at one frequency, without the mode `skip`. All units of the cube must call it: they load the coefficients together.
#[cube]
fn sum_products<F: Float>(
    factors: &Array<F>,
    sums: &mut Array<F>,
    at: Frequency<F>,
    first: u32,
    plane: u32,
    half: u32,
    skip: u32,
    #[comptime] variant: DplrVariant,
) {
    // (chunk, omega hi and lo, rho, complex V).
    let width = comptime!(3 + 2 * variant.products());
    let mut staged = SharedMemory::<F>::new(comptime!(MODES * (3 + 2 * variant.products())));
    let mut start = 0u32;
    while start < half {
        let count = min(half - start, comptime!(MODES as u32));
        let mut i = UNIT_POS;
        while i < count {
            let mode = first + start + i;
            let to = i as usize * width;
            staged[to] = factors[mode as usize];
            staged[to + 1] = factors[(mode + plane) as usize];
            staged[to + 2] = factors[(mode + 2u32 * plane) as usize];
            #[unroll]
            for v in 0..comptime!(variant.products()) {
                let x = factor::<F>(factors, mode, plane, comptime!(v / variant.cols()));
                let y = factor::<F>(factors, mode, plane, comptime!(variant.rows() + v % variant.cols()));
                let z = mul::<F>(x, y);
                staged[to + comptime!(3 + 2 * v)] = z.re;
                staged[to + comptime!(4 + 2 * v)] = z.im;
            }
            i += CUBE_DIM;
        }
        sync_cube();
        for n in 0..count {
            let from = n as usize * width;
            let omega = staged[from] + staged[from + 1];
            let off = detuning::<F>(at, staged[from], staged[from + 1]);
            let rho = staged[from + 2] * at.cosine;
            // E + E' = 2 (rho cosine + i chord) E E', i (E - E') = -2 omega cosine E E'.
            let both = recip::<F>(complex::<F>(rho * rho - off * (at.chord + omega * at.cosine), F::new(2.0) * rho * at.chord));
            let even = scale::<F>(mul::<F>(complex::<F>(rho, at.chord), both), F::new(2.0));
            let odd = scale::<F>(both, F::new(-2.0) * omega * at.cosine);
            let counts = start + n != skip;
            let zero = F::new(0.0);
            let even = complex::<F>(select(counts, even.re, zero), select(counts, even.im, zero));
            let odd = complex::<F>(select(counts, odd.re, zero), select(counts, odd.im, zero));
            #[unroll]
            for v in 0..comptime!(variant.products()) {
                let re = staged[from + comptime!(3 + 2 * v)];
                let im = staged[from + comptime!(4 + 2 * v)];
                sums[comptime!(2 * v)] = fma(re, even.re, fma(im, odd.re, sums[comptime!(2 * v)]));
                sums[comptime!(2 * v + 1)] = fma(re, even.im, fma(im, odd.im, sums[comptime!(2 * v + 1)]));
            }
        }
        sync_cube();
        start += comptime!(MODES as u32);
    }
}

/// Z = cosine (I + cosine T_PQ)^-1, (R, R).
#[cube]
fn correction<F: Float>(products: &Array<F>, cosine: F, #[comptime] variant: DplrVariant) -> Array<F> {
    let one = complex::<F>(F::new(1.0), F::new(0.0));
    let mut z = zeros::<F>(comptime!(variant.rank * variant.rank));
    let m00 = add::<F>(one, scale::<F>(get::<F>(products, comptime!(variant.cols() + variant.channels)), cosine));
    if comptime!(variant.rank == 1) {
        put::<F>(&mut z, 0usize, scale::<F>(recip::<F>(m00), cosine));
    } else {
        let m01 = scale::<F>(get::<F>(products, comptime!(variant.cols() + variant.channels + 1)), cosine);
        let m10 = scale::<F>(get::<F>(products, comptime!(2 * variant.cols() + variant.channels)), cosine);
        let m11 = add::<F>(one, scale::<F>(get::<F>(products, comptime!(2 * variant.cols() + variant.channels + 1)), cosine));
        let crossed = mul::<F>(m01, m10);
        let straight = mul::<F>(m00, m11);
        let r = scale::<F>(recip::<F>(complex::<F>(straight.re - crossed.re, straight.im - crossed.im)), cosine);
        put::<F>(&mut z, 0usize, mul::<F>(m11, r));
        put::<F>(&mut z, 1usize, scale::<F>(mul::<F>(m01, r), F::new(-1.0)));
        put::<F>(&mut z, 2usize, scale::<F>(mul::<F>(m10, r), F::new(-1.0)));
        put::<F>(&mut z, 3usize, mul::<F>(m00, r));
    }
    z
}

/// What is known at one frequency: lists of complex numbers.
#[derive(CubeType)]
struct Solved<F: Float> {
    /// S_c, (c).
    spectrum: Array<F>,
    /// u_P, (R).
    u: Array<F>,
    /// v_Q of every kernel, (c, R).
    v: Array<F>,
    /// A_x for the mode that is apart, and for its conjugate.
    left: Array<F>,
    /// A_y / h of every kernel, in this order, (c, 2).
    right: Array<F>,
}

/// 2 i Im(conj(x) y).
#[cube]
fn twist<F: Float>(x: Complex<F>, y: Complex<F>) -> Complex<F> {
    complex::<F>(F::new(0.0), F::new(2.0) * (x.re * y.im - x.im * y.re))
}

/// x_P and y_Q of the mode that is apart, and Z x, Z conj(x), y Z and conj(y) Z: lists of R.
#[derive(CubeType)]
struct Vectors<F: Float> {
    x: Array<F>,
    y: Array<F>,
    zx: Array<F>,
    zx_conj: Array<F>,
    yz: Array<F>,
    yz_conj: Array<F>,
}

#[cube]
fn vectors<F: Float>(factors: &Array<F>, z: &Array<F>, mode: u32, plane: u32, #[comptime] variant: DplrVariant) -> Vectors<F> {
    let mut x = zeros::<F>(variant.rank);
    let mut y = zeros::<F>(variant.rank);
    #[unroll]
    for k in 0..variant.rank {
        put::<F>(&mut x, k, factor::<F>(factors, mode, plane, comptime!(1 + k)));
        put::<F>(&mut y, k, factor::<F>(factors, mode, plane, comptime!(variant.rows() + variant.channels + k)));
    }
    let mut zx = zeros::<F>(variant.rank);
    let mut zx_conj = zeros::<F>(variant.rank);
    let mut yz = zeros::<F>(variant.rank);
    let mut yz_conj = zeros::<F>(variant.rank);
    #[unroll]
    for j in 0..variant.rank {
        #[unroll]
        for k in 0..variant.rank {
            let z = get::<F>(z, comptime!(j * variant.rank + k));
            put_more::<F>(&mut zx, j, z, get::<F>(&x, k));
            put_more::<F>(&mut zx_conj, j, z, conj::<F>(get::<F>(&x, k)));
            put_more::<F>(&mut yz, k, get::<F>(&y, j), z);
            put_more::<F>(&mut yz_conj, k, conj::<F>(get::<F>(&y, j)), z);
        }
    }
    Vectors::<F> { x, y, zx, zx_conj, yz, yz_conj }
}

/// The determinant of D = [[e + a, b], [b', e' + a']] with e = 1 / E, e' = 1 / E', a = y Z x, b = y Z conj(x) and so on.
///
/// a a' - b b' would cancel: it is 0 for rank 1, and the product of the determinants of [y; conj y], Z and [x, conj x] for rank 2.
#[cube]
fn determinant<F: Float>(known: &Vectors<F>, z: &Array<F>, near: Complex<F>, far: Complex<F>, #[comptime] rank: usize) -> Complex<F> {
    let mut det = zeros::<F>(1usize);
    put::<F>(&mut det, 0usize, mul::<F>(near, far));
    #[unroll]
    for k in 0..rank {
        let x = get::<F>(&known.x, k);
        put_more::<F>(&mut det, 0usize, far, mul::<F>(get::<F>(&known.yz, k), x));
        put_more::<F>(&mut det, 0usize, near, mul::<F>(get::<F>(&known.yz_conj, k), conj::<F>(x)));
    }
    if comptime!(rank == 2) {
        let of_x = twist::<F>(get::<F>(&known.x, 0usize), get::<F>(&known.x, 1usize));
        let of_y = twist::<F>(get::<F>(&known.y, 0usize), get::<F>(&known.y, 1usize));
        let twists = mul::<F>(of_x, of_y);
        put_more::<F>(&mut det, 0usize, twists, mul::<F>(get::<F>(z, 0usize), get::<F>(z, 3usize)));
        put_less::<F>(&mut det, 0usize, twists, mul::<F>(get::<F>(z, 1usize), get::<F>(z, 2usize)));
    }
    get::<F>(&det, 0usize)
}

/// X and X D^-1, or Y and D^-1 Y: lists of 2, for the mode and its conjugate.
#[derive(CubeType)]
struct Side<F: Float> {
    plain: Array<F>,
    solved: Array<F>,
}

/// For `own`, x_B or y_c, the list `x` of x_P or y_Q, u or v from entry `from` of `u` on, and y Z or Z x and that with the conjugate.
///
/// The products of D^-1 and X would cancel, too: the terms that mix the mode and its conjugate are written as [`twist`]s.
#[cube]
fn side<F: Float>(
    own: Complex<F>,
    x: &Array<F>,
    u: &Array<F>,
    z: &Array<F>,
    z_conj: &Array<F>,
    roots: &Roots<F>,
    #[comptime] from: usize,
    #[comptime] rank: usize,
) -> Side<F> {
    let mut plain = zeros::<F>(2usize);
    put::<F>(&mut plain, 0usize, own);
    put::<F>(&mut plain, 1usize, conj::<F>(own));
    let mut mixed = zeros::<F>(2usize);
    #[unroll]
    for k in 0..rank {
        let x_k = get::<F>(x, k);
        put_more::<F>(&mut plain, 0usize, get::<F>(u, comptime!(from + k)), x_k);
        put_more::<F>(&mut plain, 1usize, get::<F>(u, comptime!(from + k)), conj::<F>(x_k));
        let mut twisted = zeros::<F>(1usize);
        put::<F>(&mut twisted, 0usize, twist::<F>(x_k, own));
        #[unroll]
        for l in 0..rank {
            put_more::<F>(&mut twisted, 0usize, get::<F>(u, comptime!(from + l)), twist::<F>(x_k, get::<F>(x, l)));
        }
        put_more::<F>(&mut mixed, 0usize, get::<F>(z_conj, k), get::<F>(&twisted, 0usize));
        put_less::<F>(&mut mixed, 1usize, get::<F>(z, k), get::<F>(&twisted, 0usize));
    }
    put_more::<F>(&mut mixed, 0usize, get::<F>(&plain, 0usize), roots.far);
    put_more::<F>(&mut mixed, 1usize, get::<F>(&plain, 1usize), roots.near);
    let mut solved = zeros::<F>(2usize);
    put::<F>(&mut solved, 0usize, mul::<F>(get::<F>(&mixed, 0usize), roots.inverse));
    put::<F>(&mut solved, 1usize, mul::<F>(get::<F>(&mixed, 1usize), roots.inverse));
    Side::<F> { plain, solved }
}

/// 1 / E, 1 / E', and 1 over the determinant of D.
#[derive(CubeType)]
struct Roots<F: Float> {
    near: Complex<F>,
    far: Complex<F>,
    inverse: Complex<F>,
}

/// From the products of the other modes, and the mode `mode`, which is apart.
#[cube]
fn solve<F: Float>(
    factors: &Array<F>,
    products: &Array<F>,
    at: Frequency<F>,
    mode: u32,
    plane: u32,
    #[comptime] variant: DplrVariant,
) -> Solved<F> {
    let z = correction::<F>(products, at.cosine, variant);
    let known = vectors::<F>(factors, &z, mode, plane, variant);
    let poles = poles::<F>(factors, mode, plane, at);
    let inverse = recip_small::<F>(determinant::<F>(&known, &z, poles.near, poles.far, variant.rank));
    let roots = Roots::<F> { near: poles.near, far: poles.far, inverse };
    // Of the other modes, at first.
    let mut u = zeros::<F>(variant.rank);
    let mut v = zeros::<F>(comptime!(variant.channels * variant.rank));
    #[unroll]
    for j in 0..variant.rank {
        #[unroll]
        for k in 0..variant.rank {
            let z = get::<F>(&z, comptime!(j * variant.rank + k));
            put_less::<F>(&mut u, k, get::<F>(products, comptime!(variant.channels + j)), z);
            #[unroll]
            for c in 0..variant.channels {
                put_less::<F>(&mut v, comptime!(c * variant.rank + j), z, get::<F>(products, comptime!((1 + k) * variant.cols() + c)));
            }
        }
    }
    let x_b = factor::<F>(factors, mode, plane, 0usize);
    let rows = side::<F>(x_b, &known.x, &u, &known.yz, &known.yz_conj, &roots, 0usize, variant.rank);
    let left = rows.solved;
    let mut right = zeros::<F>(comptime!(2 * variant.channels));
    let mut spectrum = zeros::<F>(variant.channels);
    #[unroll]
    for c in 0..variant.channels {
        let y_c = factor::<F>(factors, mode, plane, comptime!(variant.rows() + c));
        let cols = side::<F>(y_c, &known.y, &v, &known.zx, &known.zx_conj, &roots, comptime!(c * variant.rank), variant.rank);
        put::<F>(&mut spectrum, c, get::<F>(products, c));
        #[unroll]
        for q in 0..2usize {
            put::<F>(&mut right, comptime!(2 * c + q), get::<F>(&cols.solved, q));
            put_more::<F>(&mut spectrum, c, get::<F>(&left, q), get::<F>(&cols.plain, q));
        }
        #[unroll]
        for j in 0..variant.rank {
            put_more::<F>(
                &mut spectrum,
                c,
                get::<F>(products, comptime!(variant.channels + j)),
                get::<F>(&v, comptime!(c * variant.rank + j)),
            );
            put_less::<F>(&mut v, comptime!(c * variant.rank + j), get::<F>(&known.zx, j), get::<F>(&cols.solved, 0usize));
            put_less::<F>(&mut v, comptime!(c * variant.rank + j), get::<F>(&known.zx_conj, j), get::<F>(&cols.solved, 1usize));
        }
    }
    #[unroll]
    for k in 0..variant.rank {
        put_less::<F>(&mut u, k, get::<F>(&left, 0usize), get::<F>(&known.yz, k));
        put_less::<F>(&mut u, k, get::<F>(&left, 1usize), get::<F>(&known.yz_conj, k));
    }
    Solved::<F> { spectrum, u, v, left, right }
}

/// One unit for every channel and frequency: the spectra, planar (2, c, H, bins).
#[cube(launch)]
pub(crate) fn fill_kernel<F: Float>(
    factors: &Array<F>,
    grid: &Array<F>,
    spectra: &mut Array<F>,
    d_model: u32,
    half: u32,
    bins: u32,
    tiles: u32,
    #[comptime] variant: DplrVariant,
) {
    let h = CUBE_POS as u32 / tiles;
    let plane = d_model * half;
    if h < d_model {
        let j = CUBE_POS as u32 % tiles * CUBE_DIM + UNIT_POS;
        let at = frequency::<F>(grid, bins, min(j, bins - 1u32));
        let first = h * half;
        let skip = nearest::<F>(factors, first, plane, half, at);
        let mut products = zeros::<F>(comptime!(variant.products()));
        sum_products::<F>(factors, &mut products, at, first, plane, half, skip, variant);
        let solved = solve::<F>(factors, &products, at, first + skip, plane, variant);
        if j < bins {
            let half_turn = complex::<F>(at.cosine, at.chord * F::new(0.5));
            #[unroll]
            for c in 0..variant.channels {
                let z = mul::<F>(get::<F>(&solved.spectrum, c), half_turn);
                let to = (comptime!(c as u32) * d_model + h) * bins + j;
                store::<F>(spectra, to, comptime!(variant.channels as u32) * d_model * bins, z);
            }
        }
    }
}

/// Writes to the unit's column of `known` what the modes need to know of its frequency.
///
/// `spectra` are those of real gradients, at `base` and `plane` further on for the second kernel; at the `single` frequencies they are
/// real, and every other stands for itself and its conjugate.
#[cube]
fn learn<F: Float>(
    solved: &Solved<F>,
    spectra: &Array<F>,
    known: &mut SharedMemory<F>,
    at: Frequency<F>,
    base: u32,
    plane: u32,
    single: bool,
    len: u32,
    #[comptime] variant: DplrVariant,
    #[comptime] units: usize,
) {
    let apart = comptime!(2 * (variant.rank + variant.cols()));
    let weight = select(single, F::new(1.0), F::new(2.0)) / F::cast_from(len);
    let half_turn = complex::<F>(at.cosine * weight, at.chord * F::new(0.5) * weight);
    let mut w = zeros::<F>(comptime!(variant.cols()));
    let mut right = zeros::<F>(2usize);
    #[unroll]
    for c in 0..variant.channels {
        let from = comptime!(c as u32) * plane + base;
        let g = load::<F>(spectra, from, comptime!(variant.channels as u32) * plane);
        let row = mul::<F>(complex::<F>(g.re, select(single, F::new(0.0), -g.im)), half_turn);
        put::<F>(&mut w, c, row);
        put_more::<F>(&mut right, 0usize, row, get::<F>(&solved.right, comptime!(2 * c)));
        put_more::<F>(&mut right, 1usize, row, get::<F>(&solved.right, comptime!(2 * c + 1)));
        #[unroll]
        for k in 0..variant.rank {
            put_more::<F>(&mut w, comptime!(variant.channels + k), row, get::<F>(&solved.v, comptime!(c * variant.rank + k)));
        }
    }
    #[unroll]
    for i in 0..comptime!(2 * variant.rank) {
        known[i * units + UNIT_POS as usize] = solved.u[i];
    }
    #[unroll]
    for i in 0..comptime!(2 * variant.cols()) {
        known[(comptime!(2 * variant.rank) + i) * units + UNIT_POS as usize] = w[i];
    }
    #[unroll]
    for i in 0..4usize {
        known[(apart + i) * units + UNIT_POS as usize] = solved.left[i];
        known[(apart + 4 + i) * units + UNIT_POS as usize] = right[i];
    }
}

/// One cube for a tile of a channel's frequencies: the tile's part of the gradients of its factors, (tiles, sums, H, M).
///
/// First a unit has a frequency and works out u, w, and A_x and A_y of the mode that is apart; then LANES units have a mode and share the
/// frequencies.
#[cube(launch)]
pub(crate) fn grad_kernel<F: Float>(
    factors: &Array<F>,
    grid: &Array<F>,
    spectra: &Array<F>,
    parts: &mut Array<F>,
    d_model: u32,
    half: u32,
    bins: u32,
    len: u32,
    tiles: u32,
    #[comptime] variant: DplrVariant,
    #[comptime] units: usize,
) {
    // Complex u_P, w, and A_x and A_y (2 each), a row of `units` for each of their parts.
    let mut known = SharedMemory::<F>::new(comptime!(2 * (variant.rank + variant.cols() + 4) * units));
    let mut skips = SharedMemory::<u32>::new(units);
    let mut scratch = SharedMemory::<F>::new(units);
    let h = CUBE_POS as u32 / tiles;
    let tile = CUBE_POS as u32 % tiles;
    let plane = d_model * half;
    if h < d_model {
        let start = tile * comptime!(units as u32);
        let j = min(start + UNIT_POS, bins - 1u32);
        let at = frequency::<F>(grid, bins, j);
        let first = h * half;
        let skip = nearest::<F>(factors, first, plane, half, at);
        let mut products = zeros::<F>(comptime!(variant.products()));
        sum_products::<F>(factors, &mut products, at, first, plane, half, skip, variant);
        let solved = solve::<F>(factors, &products, at, first + skip, plane, variant);
        skips[UNIT_POS as usize] = skip;

        let base = h * bins + j;
        learn::<F>(&solved, spectra, &mut known, at, base, d_model * bins, j == 0u32 || 2u32 * j == len, len, variant, units);
        sync_cube();

        let count = min(bins - start, comptime!(units as u32));
        let mut group = 0u32;
        while group < half {
            let n = group + UNIT_POS / comptime!(LANES as u32);
            let own = first + min(n, half - 1u32);
            let mut sums = zeros::<F>(comptime!(variant.sums() / 2));
            let lane = UNIT_POS % comptime!(LANES as u32);
            let mut i = lane;
            while i < count {
                let at = frequency::<F>(grid, bins, start + i);
                mode_grad::<F>(factors, &known, &mut sums, at, own, plane, i as usize, skips[i as usize] == n, variant, units);
                i += comptime!(LANES as u32);
            }
            #[unroll]
            for k in 0..comptime!(variant.sums()) {
                let sum = sum_lanes::<F>(sums[k], comptime!(LANES as u32).runtime(), &mut scratch);
                if lane == 0 && n < half {
                    parts[((tile * comptime!(variant.sums() as u32) + comptime!(k as u32)) * plane + own) as usize] = sum;
                }
            }
            group += comptime!((units / LANES) as u32);
        }
    }
}

/// Complex entry `list` of `known` at frequency `i` of the tile.
#[cube]
fn recall<F: Float>(known: &SharedMemory<F>, #[comptime] list: usize, i: usize, #[comptime] units: usize) -> Complex<F> {
    complex::<F>(known[comptime!(2 * list * units) + i], known[comptime!((2 * list + 1) * units) + i])
}

/// x if `first`, else y.
#[cube]
fn either<F: Float>(first: bool, x: Complex<F>, y: Complex<F>) -> Complex<F> {
    complex::<F>(select(first, x.re, y.re), select(first, x.im, y.im))
}

/// Adds one frequency's part of one mode's gradient: by x, y and a.
#[cube]
fn mode_grad<F: Float>(
    factors: &Array<F>,
    known: &SharedMemory<F>,
    sums: &mut Array<F>,
    at: Frequency<F>,
    mode: u32,
    plane: u32,
    i: usize,
    skipped: bool,
    #[comptime] variant: DplrVariant,
    #[comptime] units: usize,
) {
    let poles = poles::<F>(factors, mode, plane, at);
    let near = recip::<F>(poles.near);
    let far = recip::<F>(poles.far);
    // u x, y w and the same for the conjugates of x and y.
    let mut dots = zeros::<F>(4usize);
    let b = factor::<F>(factors, mode, plane, 0usize);
    put::<F>(&mut dots, 0usize, b);
    put::<F>(&mut dots, 2usize, conj::<F>(b));
    #[unroll]
    for k in 0..variant.rank {
        let x = factor::<F>(factors, mode, plane, comptime!(1 + k));
        let u = recall::<F>(known, k, i, units);
        put_more::<F>(&mut dots, 0usize, x, u);
        put_more::<F>(&mut dots, 2usize, conj::<F>(x), u);
    }
    #[unroll]
    for c in 0..comptime!(variant.cols()) {
        let y = factor::<F>(factors, mode, plane, comptime!(variant.rows() + c));
        let w = recall::<F>(known, comptime!(variant.rank + c), i, units);
        put_more::<F>(&mut dots, 1usize, y, w);
        put_more::<F>(&mut dots, 3usize, conj::<F>(y), w);
    }
    let apart = comptime!(variant.rank + variant.cols());
    let left = either::<F>(skipped, recall::<F>(known, apart, i, units), mul::<F>(near, get::<F>(&dots, 0usize)));
    let far_left = either::<F>(skipped, recall::<F>(known, comptime!(apart + 1), i, units), mul::<F>(far, get::<F>(&dots, 2usize)));
    let right = either::<F>(skipped, recall::<F>(known, comptime!(apart + 2), i, units), mul::<F>(near, get::<F>(&dots, 1usize)));
    let far_right = either::<F>(skipped, recall::<F>(known, comptime!(apart + 3), i, units), mul::<F>(far, get::<F>(&dots, 3usize)));
    // By B, whose u is 1.
    sums[0] += right.re + far_right.re;
    sums[1] += right.im - far_right.im;
    #[unroll]
    for k in 0..variant.rank {
        let u = recall::<F>(known, k, i, units);
        put_more::<F>(sums, comptime!(1 + k), u, right);
        put_more_conj::<F>(sums, comptime!(1 + k), u, far_right);
    }
    #[unroll]
    for c in 0..comptime!(variant.cols()) {
        let w = recall::<F>(known, comptime!(variant.rank + c), i, units);
        put_more::<F>(sums, comptime!(variant.rows() + c), w, left);
        put_more_conj::<F>(sums, comptime!(variant.rows() + c), w, far_left);
    }
    put_more::<F>(sums, comptime!(variant.rows() + variant.cols()), scale::<F>(left, at.cosine), right);
    put_more_conj::<F>(sums, comptime!(variant.rows() + variant.cols()), scale::<F>(far_left, at.cosine), far_right);
}
