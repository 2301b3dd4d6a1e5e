//! The kernel of a diagonal SSM (S4D) and its gradient.
//!
//! The mathematics is that of the CPU backend (`cpu/ssm/diag.rs`): `K[l] = Re sum_n W_n abar_n^l`, and back the sums
//! `s0 = sum_l h[l] abar^l` and `s1 = sum_l l h[l] abar^l` with `h[l] = g[l + 1]`.
//!
//! A power abar^l is the product of those abar^(2^k) whose bits are set in l. These come from repeated squaring in
//! [`crate::backend::cube::double_float`]s: every squaring doubles the error so far, and after fourteen of them single precision would have
//! few digits left. The products of the powers are few, so single precision suffices for them. Time is laid out in rows, l = S i + t with
//! t < S: a cube holds the powers abar^t and abar^(S i) of some modes in shared memory, and an entry costs two multiply-adds for each mode
//! (four in the gradient).

#![allow(clippy::too_many_arguments, reason = "kernels take their arrays and sizes one by one")]

use cubecl::prelude::*;

use super::system::{SystemGrads, gather, grad_planes, step_size, step_slope};
use crate::backend::cube::complex::{Complex, add, complex, conj, load, mul, recip, rounded, scale, store, sub};
use crate::backend::cube::double_float::{self, ComplexDoubleFloat};
use crate::backend::cube::elementwise::reduce::sum_lanes;
use crate::backend::cube::storage::arg;
use crate::backend::cube::{Cube, Scalar};
use crate::backend::{Discretization, DtTransform, SsmParams, Tensor, shape::Ssm};
use crate::error::Result;

/// Entries of a row, S.
const WIDTH: usize = 32;
/// Rows of a tile of time.
const TILE_ROWS: usize = 32;
/// Entries of a tile.
const TILE: usize = WIDTH * TILE_ROWS;
/// Modes whose powers a cube holds at a time.
const MODES: usize = 16;
/// Units of a cube.
const UNITS: usize = 256;

/// What the mode kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct DiagVariant {
    channels: usize,
    /// How many abar^(2^k) are needed.
    bits: usize,
    softplus: bool,
    zoh: bool,
}

impl DiagVariant {
    fn new(sizes: Ssm, dt: DtTransform, disc: Discretization, len: usize) -> Self {
        let bits = (len.max(2) - 1).ilog2() as usize + 1;
        DiagVariant { channels: sizes.channels, bits, softplus: dt == DtTransform::Softplus, zoh: disc == Discretization::Zoh }
    }

    /// Planes (H, M) of the modes: complex abar^(2^k), then W of every kernel; for the gradient also B, b, dabar/dx, db/dx, db/ddt, A, C
    /// of every kernel, and the real dt and its slope.
    fn planes(&self, grad: bool) -> usize {
        2 * (self.bits + self.channels) + if grad { 2 * (6 + self.channels) + 2 } else { 0 }
    }
}

/// A discretized mode: x <- abar x + b B u.
#[derive(CubeType)]
struct Mode<F: Float> {
    abar: ComplexDoubleFloat<F>,
    abar_by_x: Complex<F>,
    /// b / dt and its derivative by x = dt A.
    b: Complex<F>,
    b_by_x: Complex<F>,
}

/// phi(x) = (e^x - 1) / x and its derivative.
#[derive(CubeType)]
struct Phi<F: Float> {
    value: Complex<F>,
    slope: Complex<F>,
}

/// `power` is e^x. Small x take the series: the quotient would cancel.
#[cube]
fn phi<F: Float>(x: Complex<F>, power: Complex<F>) -> Phi<F> {
    let one = complex::<F>(F::new(1.0), F::new(0.0));
    let mut value = complex::<F>(F::new(1.0), F::new(0.0));
    let mut slope = complex::<F>(F::new(1.0), F::new(0.0));
    for i in 0..15u32 {
        let k = F::cast_from(15u32 - i);
        let next = add::<F>(one, scale::<F>(mul::<F>(x, value), F::new(1.0) / (k + F::new(1.0))));
        value.re = next.re;
        value.im = next.im;
        let next = add::<F>(one, scale::<F>(mul::<F>(x, slope), (k + F::new(1.0)) / (k * (k + F::new(2.0)))));
        slope.re = next.re;
        slope.im = next.im;
    }
    let inverse = recip::<F>(x);
    let quotient = mul::<F>(sub::<F>(power, one), inverse);
    let quotient_slope = mul::<F>(sub::<F>(power, quotient), inverse);
    let small = x.re * x.re + x.im * x.im <= F::new(0.25);
    let value = complex::<F>(select(small, value.re, quotient.re), select(small, value.im, quotient.im));
    let half = F::new(0.5);
    let slope = complex::<F>(select(small, half * slope.re, quotient_slope.re), select(small, half * slope.im, quotient_slope.im));
    Phi::<F> { value, slope }
}

/// Zero-order hold: abar = e^x, b / dt = phi(x).
#[cube]
fn hold<F: Float>(x: ComplexDoubleFloat<F>) -> Mode<F> {
    let size = double_float::exp::<F>(x.re);
    let turn = double_float::turn::<F>(x.im);
    let abar = ComplexDoubleFloat::<F> { re: double_float::product::<F>(size, turn.re), im: double_float::product::<F>(size, turn.im) };
    let power = rounded::<F>(abar);
    let b = phi::<F>(rounded::<F>(x), power);
    Mode::<F> { abar, abar_by_x: power, b: b.value, b_by_x: b.slope }
}

/// The bilinear rule: abar = (1 + x/2) / (1 - x/2), b / dt = 1 / (1 - x/2).
#[cube]
fn bilinear<F: Float>(x: ComplexDoubleFloat<F>) -> Mode<F> {
    let one = double_float::constant::<F>(1.0);
    let re = double_float::scaled::<F>(x.re, F::new(0.5));
    let im = double_float::scaled::<F>(x.im, F::new(0.5));
    let below = double_float::sum::<F>(one, double_float::negative::<F>(re));
    let norm = double_float::sum::<F>(double_float::product::<F>(below, below), double_float::product::<F>(im, im));
    let r = double_float::reciprocal::<F>(norm);
    let inverse = ComplexDoubleFloat::<F> { re: double_float::product::<F>(below, r), im: double_float::product::<F>(im, r) };
    let abar = double_float::complex_product::<F>(ComplexDoubleFloat::<F> { re: double_float::sum::<F>(one, re), im }, inverse);
    let b = rounded::<F>(inverse);
    let square = mul::<F>(b, b);
    Mode::<F> { abar, abar_by_x: square, b, b_by_x: scale::<F>(square, F::new(0.5)) }
}

/// One unit for every mode (h, n) of every channel: its planes, in the order of [`DiagVariant::planes`].
#[cube(launch)]
fn mode_kernel<F: Float>(
    inv_dt: &Array<F>,
    a_real: &Array<F>,
    a_imag: &Array<F>,
    b: &Array<F>,
    c: &Array<F>,
    modes: &mut Array<F>,
    d_model: u32,
    n_ssm: u32,
    half: u32,
    #[comptime] variant: DiagVariant,
    #[comptime] grad: bool,
) {
    let unit = ABSOLUTE_POS as u32;
    let plane = d_model * half;
    if unit < plane {
        let h = unit / half;
        let stored = (h % n_ssm) * half + unit % half;
        let inv_dt = inv_dt[h as usize];
        let dt = step_size::<F>(inv_dt, comptime!(variant.softplus));
        let a_re = double_float::negative::<F>(double_float::exp::<F>(double_float::pair::<F>(a_real[stored as usize])));
        let a_im = double_float::pair::<F>(-a_imag[stored as usize]);
        let x = ComplexDoubleFloat::<F> { re: double_float::product::<F>(dt, a_re), im: double_float::product::<F>(dt, a_im) };
        let mode = if comptime!(variant.zoh) { hold::<F>(x) } else { bilinear::<F>(x) };
        let dt = double_float::value::<F>(dt);

        let mut power = mode.abar;
        for k in 0..comptime!(variant.bits as u32) {
            store::<F>(modes, 2u32 * k * plane + unit, plane, rounded::<F>(power));
            let next = double_float::complex_product::<F>(power, power);
            power.re.hi = next.re.hi;
            power.re.lo = next.re.lo;
            power.im.hi = next.im.hi;
            power.im.lo = next.im.lo;
        }
        let mut at = comptime!(2 * variant.bits as u32) * plane + unit;
        let b = load::<F>(b, stored, n_ssm * half);
        let input = scale::<F>(mode.b, dt);
        #[unroll]
        for k in 0..comptime!(variant.channels as u32) {
            let c = load::<F>(c, k * plane + unit, comptime!(variant.channels as u32) * plane);
            store::<F>(modes, at, plane, scale::<F>(mul::<F>(mul::<F>(c, b), input), F::new(2.0)));
            at += 2u32 * plane;
        }
        if comptime!(grad) {
            let extra = 2u32 * plane;
            store::<F>(modes, at, plane, b);
            store::<F>(modes, at + extra, plane, input);
            store::<F>(modes, at + 2u32 * extra, plane, mode.abar_by_x);
            store::<F>(modes, at + 3u32 * extra, plane, scale::<F>(mode.b_by_x, dt));
            store::<F>(modes, at + 4u32 * extra, plane, mode.b);
            store::<F>(modes, at + 5u32 * extra, plane, complex::<F>(double_float::value::<F>(a_re), double_float::value::<F>(a_im)));
            at += 6u32 * extra;
            #[unroll]
            for k in 0..comptime!(variant.channels as u32) {
                store::<F>(modes, at, plane, load::<F>(c, k * plane + unit, comptime!(variant.channels as u32) * plane));
                at += extra;
            }
            modes[at as usize] = dt;
            modes[(at + plane) as usize] = step_slope::<F>(inv_dt, dt, comptime!(variant.softplus));
        }
    }
}

/// abar^l of mode `at`.
#[cube]
fn power<F: Float>(modes: &Array<F>, at: u32, plane: u32, l: u32, #[comptime] bits: usize) -> Complex<F> {
    let mut re = F::new(1.0);
    let mut im = F::new(0.0);
    for k in 0..comptime!(bits as u32) {
        if (l >> k) & 1u32 == 1u32 {
            let next = mul::<F>(complex::<F>(re, im), load::<F>(modes, 2u32 * k * plane + at, plane));
            re = next.re;
            im = next.im;
        }
    }
    complex::<F>(re, im)
}

/// How many of the tabulated bits a t < S has.
fn short_bits(bits: usize) -> usize {
    bits.min(WIDTH.ilog2() as usize)
}

/// For `count` modes from `first` on: abar^t, (chunk, S), and Re and -Im of W abar^(base + S i), (chunk, c, rows).
#[cube]
fn tabulate<F: Float>(
    modes: &Array<F>,
    short_re: &mut SharedMemory<F>,
    short_im: &mut SharedMemory<F>,
    long_re: &mut SharedMemory<F>,
    long_im: &mut SharedMemory<F>,
    first: u32,
    count: u32,
    plane: u32,
    base: u32,
    #[comptime] channels: usize,
    #[comptime] bits: usize,
) {
    let mut i = UNIT_POS;
    while i < count * comptime!(WIDTH as u32) {
        let at = first + i / comptime!(WIDTH as u32);
        let z = power::<F>(modes, at, plane, i % comptime!(WIDTH as u32), comptime!(short_bits(bits)));
        short_re[i as usize] = z.re;
        short_im[i as usize] = z.im;
        let row = i % comptime!(TILE_ROWS as u32);
        let z = power::<F>(modes, at, plane, base + row * comptime!(WIDTH as u32), bits);
        #[unroll]
        for c in 0..comptime!(channels as u32) {
            let z = mul::<F>(z, load::<F>(modes, (comptime!(2 * bits as u32) + 2u32 * c) * plane + at, plane));
            let to = (i / comptime!(TILE_ROWS as u32) * comptime!(channels as u32) + c) * comptime!(TILE_ROWS as u32) + row;
            long_re[to as usize] = z.re;
            long_im[to as usize] = -z.im;
        }
        i += CUBE_DIM;
    }
}

/// One cube for a tile of a channel's kernels: TILE entries of each.
#[cube(launch)]
fn fill_kernel<F: Float>(
    modes: &Array<F>,
    out: &mut Array<F>,
    d_model: u32,
    half: u32,
    len: u32,
    tiles: u32,
    #[comptime] channels: usize,
    #[comptime] bits: usize,
    #[comptime] units: usize,
) {
    let mut short_re = SharedMemory::<F>::new(comptime!(MODES * WIDTH));
    let mut short_im = SharedMemory::<F>::new(comptime!(MODES * WIDTH));
    // Re and -Im of W abar^(S i), (chunk, c, rows).
    let mut long_re = SharedMemory::<F>::new(comptime!(MODES * channels * TILE_ROWS));
    let mut long_im = SharedMemory::<F>::new(comptime!(MODES * channels * TILE_ROWS));
    // Rows that a unit fills, `between` apart.
    let between = comptime!(units / WIDTH);
    let rows = comptime!(TILE_ROWS / (units / WIDTH));
    let h = CUBE_POS as u32 / tiles;
    let tile = CUBE_POS as u32 % tiles;
    let plane = d_model * half;
    if h < d_model {
        let t = UNIT_POS % comptime!(WIDTH as u32);
        let row = UNIT_POS / comptime!(WIDTH as u32);
        let mut sums = Array::<F>::new(comptime!(channels * rows));
        #[unroll]
        for i in 0..comptime!(channels * rows) {
            sums[i] = F::new(0.0);
        }
        let mut start = 0u32;
        while start < half {
            let count = min(half - start, comptime!(MODES as u32));
            tabulate::<F>(
                modes,
                &mut short_re,
                &mut short_im,
                &mut long_re,
                &mut long_im,
                h * half + start,
                count,
                plane,
                tile * comptime!(TILE as u32),
                channels,
                bits,
            );
            sync_cube();
            for n in 0..count {
                let re = short_re[(n * comptime!(WIDTH as u32) + t) as usize];
                let im = short_im[(n * comptime!(WIDTH as u32) + t) as usize];
                #[unroll]
                for i in 0..comptime!(channels * rows) {
                    let from = (n * comptime!(channels as u32) + comptime!((i / rows) as u32)) * comptime!(TILE_ROWS as u32)
                        + row
                        + comptime!((i % rows * between) as u32);
                    sums[i] = fma(long_re[from as usize], re, fma(long_im[from as usize], im, sums[i]));
                }
            }
            sync_cube();
            start += comptime!(MODES as u32);
        }
        #[unroll]
        for i in 0..comptime!(channels * rows) {
            let l = tile * comptime!(TILE as u32) + (row + comptime!((i % rows * between) as u32)) * comptime!(WIDTH as u32) + t;
            if l < len {
                out[((comptime!((i / rows) as u32) * d_model + h) * len + l) as usize] = sums[i];
            }
        }
    }
}

/// abar^(base + S i) of some of a channel's modes, (modes, rows); past the last mode, its powers are repeated.
#[cube]
fn long_powers<F: Float>(
    modes: &Array<F>,
    long_re: &mut SharedMemory<F>,
    long_im: &mut SharedMemory<F>,
    h: u32,
    start: u32,
    plane: u32,
    half: u32,
    base: u32,
    #[comptime] bits: usize,
) {
    let mut i = UNIT_POS;
    while i < comptime!((MODES * TILE_ROWS) as u32) {
        let at = h * half + min(start + i / comptime!(TILE_ROWS as u32), half - 1);
        let z = power::<F>(modes, at, plane, base + i % comptime!(TILE_ROWS as u32) * comptime!(WIDTH as u32), bits);
        long_re[i as usize] = z.re;
        long_im[i as usize] = z.im;
        i += CUBE_DIM;
    }
}

/// A tile of h[l] = g[l + 1], (c, tile): zeros beyond the end.
#[cube]
fn late_grads<F: Float>(g: &Array<F>, time: &mut SharedMemory<F>, h: u32, d_model: u32, len: u32, base: u32, #[comptime] channels: usize) {
    let mut i = UNIT_POS;
    while i < comptime!((channels * TILE) as u32) {
        let l = base + i % comptime!(TILE as u32) + 1;
        let mut value = F::new(0.0);
        if l < len {
            value = g[((i / comptime!(TILE as u32) * d_model + h) * len + l) as usize];
        }
        time[i as usize] = value;
        i += CUBE_DIM;
    }
}

/// A unit's part of s0 and s1 of kernel `c` from its u and v: [s0, s1], each re and im.
#[cube]
fn close<F: Float>(
    modes: &Array<F>,
    parts: &Array<F>,
    own: u32,
    plane: u32,
    lane: u32,
    #[comptime] c: usize,
    #[comptime] bits: usize,
    #[comptime] lanes: usize,
) -> Array<F> {
    let columns = comptime!(WIDTH / lanes);
    let mut sums = Array::<F>::new(4usize);
    #[unroll]
    for i in 0..4usize {
        sums[i] = F::new(0.0);
    }
    #[unroll]
    for k in 0..columns {
        let t = lane + comptime!((k * lanes) as u32);
        let z = power::<F>(modes, own, plane, t, comptime!(short_bits(bits)));
        let from = comptime!((c * columns + k) * 4);
        let u = complex::<F>(parts[from], parts[comptime!((c * columns + k) * 4 + 1)]);
        let v = complex::<F>(parts[comptime!((c * columns + k) * 4 + 2)], parts[comptime!((c * columns + k) * 4 + 3)]);
        let w = add::<F>(scale::<F>(u, F::cast_from(t)), scale::<F>(v, F::new(comptime!(WIDTH as f32))));
        let term = mul::<F>(z, u);
        sums[0] += term.re;
        sums[1] += term.im;
        let term = mul::<F>(z, w);
        sums[2] += term.re;
        sums[3] += term.im;
    }
    sums
}

/// One cube for a chunk of a channel's modes: s0 and s1 of every mode and kernel, planes (c, s0 and s1, re and im) of (H, M).
///
/// With u[t] = sum_i h[S i + t] abar^(S i) and v[t] the same with a factor of i, s0 = sum_t abar^t u[t] and
/// s1 = sum_t abar^t (t u[t] + S v[t]). A unit has one mode and two of the t.
#[cube(launch)]
fn grad_kernel<F: Float>(
    modes: &Array<F>,
    g: &Array<F>,
    sums: &mut Array<F>,
    d_model: u32,
    half: u32,
    len: u32,
    chunks: u32,
    #[comptime] channels: usize,
    #[comptime] bits: usize,
    #[comptime] units: usize,
) {
    let mut long_re = SharedMemory::<F>::new(comptime!(MODES * TILE_ROWS));
    let mut long_im = SharedMemory::<F>::new(comptime!(MODES * TILE_ROWS));
    let mut time = SharedMemory::<F>::new(comptime!(channels * TILE));
    let mut scratch = SharedMemory::<F>::new(units);
    // Units of a mode, and the t that each of them has.
    let lanes = comptime!(units / MODES);
    let columns = comptime!(WIDTH / (units / MODES));
    let h = CUBE_POS as u32 / chunks;
    let start = CUBE_POS as u32 % chunks * comptime!(MODES as u32);
    let plane = d_model * half;
    if h < d_model {
        let n = UNIT_POS / comptime!(lanes as u32);
        let lane = UNIT_POS % comptime!(lanes as u32);
        let own = h * half + min(start + n, half - 1);
        // (c, columns, 4): u and v.
        let mut parts = Array::<F>::new(comptime!(channels * columns * 4));
        #[unroll]
        for i in 0..comptime!(channels * columns * 4) {
            parts[i] = F::new(0.0);
        }
        let mut base = 0u32;
        while base + 1 < len {
            long_powers::<F>(modes, &mut long_re, &mut long_im, h, start, plane, half, base, bits);
            late_grads::<F>(g, &mut time, h, d_model, len, base, channels);
            sync_cube();
            for row in 0..comptime!(TILE_ROWS as u32) {
                let re = long_re[(n * comptime!(TILE_ROWS as u32) + row) as usize];
                let im = long_im[(n * comptime!(TILE_ROWS as u32) + row) as usize];
                let i = F::cast_from(base / comptime!(WIDTH as u32) + row);
                #[unroll]
                for k in 0..comptime!(channels * columns) {
                    let from = comptime!((k / columns * TILE + k % columns * lanes) as u32) + row * comptime!(WIDTH as u32) + lane;
                    let value = time[from as usize];
                    let late = value * i;
                    parts[comptime!(4 * k)] = fma(value, re, parts[comptime!(4 * k)]);
                    parts[comptime!(4 * k + 1)] = fma(value, im, parts[comptime!(4 * k + 1)]);
                    parts[comptime!(4 * k + 2)] = fma(late, re, parts[comptime!(4 * k + 2)]);
                    parts[comptime!(4 * k + 3)] = fma(late, im, parts[comptime!(4 * k + 3)]);
                }
            }
            sync_cube();
            base += comptime!(TILE as u32);
        }
        #[unroll]
        for c in 0..channels {
            let closed = close::<F>(modes, &parts, own, plane, lane, c, bits, lanes);
            #[unroll]
            for i in 0..4usize {
                let sum = sum_lanes::<F>(closed[i], comptime!(lanes as u32).runtime(), &mut scratch);
                if lane == 0 && start + n < half {
                    sums[(comptime!((4 * c + i) as u32) * plane + own) as usize] = sum;
                }
            }
        }
    }
}

/// One unit for every mode (h, n): the planes of [`SystemGrads`] and the gradient of C from the sums.
#[cube(launch)]
fn system_grad_kernel<F: Float>(
    modes: &Array<F>,
    sums: &Array<F>,
    g: &Array<F>,
    planes: &mut Array<F>,
    c_grad: &mut Array<F>,
    d_model: u32,
    half: u32,
    len: u32,
    #[comptime] channels: usize,
    #[comptime] bits: usize,
) {
    let unit = ABSOLUTE_POS as u32;
    let plane = d_model * half;
    if unit < plane {
        let h = unit / half;
        let weights = comptime!(2 * bits as u32) * plane + unit;
        let rest = weights + comptime!(2 * channels as u32) * plane;
        let two = 2u32 * plane;
        let abar = load::<F>(modes, unit, plane);
        let stored_b = load::<F>(modes, rest, plane);
        let input = load::<F>(modes, rest + two, plane);
        let of_c = rest + 6u32 * two;
        // Row gradients, dL = Re(. dz): their conjugates are what is stored.
        let mut by_abar = complex::<F>(F::new(0.0), F::new(0.0));
        let mut by_weight = complex::<F>(F::new(0.0), F::new(0.0));
        #[unroll]
        for c in 0..comptime!(channels as u32) {
            let s0 = load::<F>(sums, 4u32 * c * plane + unit, plane);
            let s1 = load::<F>(sums, (4u32 * c + 2u32) * plane + unit, plane);
            let first = g[((c * d_model + h) * len) as usize];
            let all = mul::<F>(abar, s0);
            let weight = complex::<F>(F::new(2.0) * (all.re + first), F::new(2.0) * all.im);
            let term = mul::<F>(load::<F>(modes, weights + c * two, plane), add::<F>(s0, s1));
            by_abar.re += term.re;
            by_abar.im += term.im;
            let term = mul::<F>(weight, load::<F>(modes, of_c + c * two, plane));
            by_weight.re += term.re;
            by_weight.im += term.im;
            let by_c = conj::<F>(mul::<F>(weight, mul::<F>(stored_b, input)));
            store::<F>(c_grad, c * plane + unit, comptime!(channels as u32) * plane, by_c);
        }
        let by_b = mul::<F>(by_weight, stored_b);
        let by_x = add::<F>(
            mul::<F>(by_abar, load::<F>(modes, rest + 2u32 * two, plane)),
            mul::<F>(by_b, load::<F>(modes, rest + 3u32 * two, plane)),
        );
        let a = load::<F>(modes, rest + 5u32 * two, plane);
        let scalars = of_c + comptime!(channels as u32) * two;
        let dt = modes[scalars as usize];
        // dRe A / da_real = Re A, and Im A = -a_imag.
        planes[unit as usize] = by_x.re * dt * a.re;
        planes[(unit + plane) as usize] = by_x.im * dt;
        store::<F>(planes, unit + two, plane, conj::<F>(mul::<F>(by_weight, input)));
        let by_dt = mul::<F>(by_b, load::<F>(modes, rest + 4u32 * two, plane)).re + mul::<F>(by_x, a).re;
        planes[(unit + 2u32 * two) as usize] = by_dt * modes[(scalars + plane) as usize];
    }
}

/// The planes of every channel's modes.
fn modes<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    ssm: &SsmParams<Tensor<Cube<R, E>>>,
    sizes: Ssm,
    variant: DiagVariant,
    grad: bool,
) -> Result<Tensor<Cube<R, E>>> {
    let Ssm { d_model, n_ssm, half_state, .. } = sizes;
    let modes = cube.alloc("diag_kernel", &[variant.planes(grad), d_model, half_state])?;
    let (cubes, units) = cube.units(d_model * half_state);
    mode_kernel::launch::<E, R>(
        cube.client(),
        cubes,
        units,
        arg(&ssm.inv_dt),
        arg(&ssm.a_real),
        arg(&ssm.a_imag),
        arg(&ssm.b),
        arg(&ssm.c),
        arg(&modes),
        d_model as u32,
        n_ssm as u32,
        half_state as u32,
        variant,
        grad,
    );
    Ok(modes)
}

pub(crate) fn kernel<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    ssm: &SsmParams<Tensor<Cube<R, E>>>,
    disc: Discretization,
    len: usize,
) -> Result<Tensor<Cube<R, E>>> {
    let sizes = ssm.sizes("diag_kernel")?;
    let Ssm { d_model, half_state, channels, .. } = sizes;
    let out = cube.alloc("diag_kernel", &[channels, d_model, len])?;
    if len == 0 {
        return Ok(out);
    }
    let variant = DiagVariant::new(sizes, ssm.dt, disc, len);
    let modes = modes(cube, ssm, sizes, variant, false)?;
    let (tiles, units) = (len.div_ceil(TILE), cube.limits().units_up_to(UNITS));
    fill_kernel::launch::<E, R>(
        cube.client(),
        cube.cubes(d_model * tiles),
        CubeDim::new_1d(units as u32),
        arg(&modes),
        arg(&out),
        d_model as u32,
        half_state as u32,
        len as u32,
        tiles as u32,
        channels,
        variant.bits,
        units,
    );
    Ok(out)
}

pub(crate) fn kernel_grad<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    ssm: &SsmParams<Tensor<Cube<R, E>>>,
    disc: Discretization,
    g: &Tensor<Cube<R, E>>,
) -> Result<SsmParams<Tensor<Cube<R, E>>>> {
    let sizes = ssm.sizes("diag_kernel")?;
    let Ssm { d_model, half_state, channels, .. } = sizes;
    let len = g.shape()[2];
    let variant = DiagVariant::new(sizes, ssm.dt, disc, len);
    let modes = modes(cube, ssm, sizes, variant, true)?;
    let sums = cube.alloc("diag_kernel_grad", &[channels, 4, d_model, half_state])?;
    let (chunks, units) = (half_state.div_ceil(MODES), cube.limits().units_up_to(UNITS));
    grad_kernel::launch::<E, R>(
        cube.client(),
        cube.cubes(d_model * chunks),
        CubeDim::new_1d(units as u32),
        arg(&modes),
        arg(g),
        arg(&sums),
        d_model as u32,
        half_state as u32,
        len as u32,
        chunks as u32,
        channels,
        variant.bits,
        units,
    );
    let planes = cube.alloc("diag_kernel_grad", &[grad_planes(0), d_model, half_state])?;
    let c = cube.alloc("diag_kernel_grad", ssm.c.shape())?;
    let (cubes, units) = cube.units(d_model * half_state);
    system_grad_kernel::launch::<E, R>(
        cube.client(),
        cubes,
        units,
        arg(&modes),
        arg(&sums),
        arg(g),
        arg(&planes),
        arg(&c),
        d_model as u32,
        half_state as u32,
        len as u32,
        channels,
        variant.bits,
    );
    gather(cube, ssm, sizes, SystemGrads { planes, c })
}
