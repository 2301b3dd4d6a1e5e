//! The long convolution and its adjoint, fused: mask, transform, product, inverse and what follows in one kernel where a row fits in a cube.
//!
//! Rows are polynomials modulo X^n - i (n a power of two, at least L): on the points zeta w^k, zeta^n = i, a product is pointwise, and what
//! wraps around lands in the imaginary part, so that n points do where padding to 2 L would need 2 n. A lag of -(m + 1) is the power
//! n - 1 - m with the factor -i, so that the anticausal kernel lives in the imaginary parts of the same row. D is one more entry of lag 0.
//! Real rows on the unit circle: reversing the lags is conjugating the spectrum.

use cubecl::prelude::*;

use super::channels::totals;
use super::fft::{Middle, Pair, Plan, forward, inverse, multiply, planar, unit_circle};
use super::fire::{Fire, Places, fire_arg};
use super::reduce::sum_cube;
use super::storage::arg;
use super::{Buffer, Cube, Scalar};
use crate::backend::{Firing, LongConv, Tensor};
use crate::error::Result;

/// Cubes that keep a device busy: more groups of the batch than that would only cost partial sums.
const CUBES: usize = 1024;
/// Bytes of the rows that are transformed at once where they do not fit in cubes.
const WORKSPACE: u64 = 1 << 28;

/// Point `i` of a real row as the ring holds it: x zeta^i.
#[cube]
pub(super) fn lift<F: Float>(x: F, twist: &Array<F>, i: usize, #[comptime] n: usize) -> Pair<F> {
    Pair::<F> { re: x * twist[i], im: x * twist[n + i] }
}

/// The real part of the ring's coefficient `i`, from an inverse transform that was not divided by n.
#[cube]
pub(super) fn lower<F: Float>(z: Pair<F>, twist: &Array<F>, i: usize, #[comptime] n: usize) -> F {
    (z.re * twist[i] + z.im * twist[n + i]) * F::new(comptime!(1.0 / n as f32))
}

/// Its imaginary part.
#[cube]
fn lower_imaginary<F: Float>(z: Pair<F>, twist: &Array<F>, i: usize, #[comptime] n: usize) -> F {
    (z.im * twist[i] - z.re * twist[n + i]) * F::new(comptime!(1.0 / n as f32))
}

/// Coefficient `i` of channel h's kernels as the ring holds it; `taken` entries of each count.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's parameters are what they are")]
fn kernel_point<F: Float>(
    kernel: &Array<F>,
    skip: &ComptimeOption<Array<F>>,
    twist: &Array<F>,
    h: usize,
    i: usize,
    sizes: KernelSizes,
    #[comptime] kernels: usize,
    #[comptime] n: usize,
) -> Pair<F> {
    let len = sizes.len as usize;
    let mut causal = F::new(0.0);
    if i < sizes.causal as usize {
        causal = kernel[h * len + i];
    }
    #[comptime]
    match skip {
        ComptimeOption::Some(skip) => {
            if i == 0 {
                causal += skip[h];
            }
        }
        ComptimeOption::None => {}
    }
    let mut anticausal = F::new(0.0);
    if comptime!(kernels == 2) {
        let m = n - 1 - i;
        if m < sizes.anticausal as usize {
            anticausal = kernel[(sizes.channels as usize + h) * len + m];
        }
    }
    // (causal - i anticausal) zeta^i
    let c_re = twist[i];
    let c_im = twist[n + i];
    Pair::<F> { re: causal * c_re + anticausal * c_im, im: causal * c_im - anticausal * c_re }
}

/// The sizes of kernels (c, channels, len), and how many entries of each reach from one end of a row to the other.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct KernelSizes {
    channels: u32,
    len: u32,
    causal: u32,
    anticausal: u32,
}

/// The spectra (2, H, n) of the kernels, a cube for every channel.
#[cube(launch)]
#[allow(clippy::too_many_arguments, reason = "a kernel's parameters are what they are")]
fn kernel_spectra<F: Float>(
    kernel: &Array<F>,
    skip: &ComptimeOption<Array<F>>,
    out: &mut Array<F>,
    roots: &Array<F>,
    twist: &Array<F>,
    sizes: KernelSizes,
    #[comptime] kernels: usize,
    #[comptime] n: usize,
) {
    let mut re = SharedMemory::<F>::new(n);
    let mut im = SharedMemory::<F>::new(n);
    let channels = sizes.channels as usize;
    if CUBE_POS < channels {
        let mut i = UNIT_POS as usize;
        while i < n {
            let z = kernel_point::<F>(kernel, skip, twist, CUBE_POS, i, sizes, kernels, n);
            re[i] = z.re;
            im[i] = z.im;
            i += CUBE_DIM as usize;
        }
        sync_cube();
        forward::<F>(&mut re, &mut im, roots, n, n);
        let mut i = UNIT_POS as usize;
        while i < n {
            out[CUBE_POS * n + i] = re[i];
            out[(channels + CUBE_POS) * n + i] = im[i];
            i += CUBE_DIM as usize;
        }
    }
}

/// The kernels (2, H, n) before a transform over the device's memory.
#[cube(launch)]
fn spread_kernels<F: Float>(
    kernel: &Array<F>,
    skip: &ComptimeOption<Array<F>>,
    out: &mut Array<F>,
    twist: &Array<F>,
    sizes: KernelSizes,
    #[comptime] kernels: usize,
    #[comptime] n: usize,
) {
    let channels = sizes.channels as usize;
    if ABSOLUTE_POS < channels * n {
        let z = kernel_point::<F>(kernel, skip, twist, ABSOLUTE_POS / n, ABSOLUTE_POS % n, sizes, kernels, n);
        out[ABSOLUTE_POS] = z.re;
        out[channels * n + ABSOLUTE_POS] = z.im;
    }
}

/// The sizes of rows (B, H, L); `first` is the sequence that a chunk of the batch begins with.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct RowSizes {
    pub batch: u32,
    pub channels: u32,
    pub length: u32,
    pub first: u32,
}

/// u[b, h, t], 0 from the sequence's true length on.
#[cube]
pub(super) fn masked<F: Float>(u: &Array<F>, row: usize, t: usize, length: usize, valid: usize) -> F {
    let mut x = F::new(0.0);
    if t < valid {
        x = u[row * length + t];
    }
    x
}

/// Row `row` in shared memory, lifted; from `valid` on it is 0.
#[cube]
pub(super) fn load_row<F: Float>(
    re: &mut SharedMemory<F>,
    im: &mut SharedMemory<F>,
    x: &Array<F>,
    twist: &Array<F>,
    row: usize,
    length: usize,
    valid: usize,
    #[comptime] n: usize,
) {
    let mut i = UNIT_POS as usize;
    while i < n {
        let z = lift::<F>(masked::<F>(x, row, i, length, valid), twist, i, n);
        re[i] = z.re;
        im[i] = z.im;
        i += CUBE_DIM as usize;
    }
    sync_cube();
}

/// A row's convolution in shared memory: its spectrum, the product, the inverse.
#[cube]
pub(super) fn convolve_row<F: Float>(
    re: &mut SharedMemory<F>,
    im: &mut SharedMemory<F>,
    spectra: &Array<F>,
    roots: &Array<F>,
    h: usize,
    channels: usize,
    #[comptime] n: usize,
) {
    forward::<F>(re, im, roots, n, n);
    multiply::<F>(re, im, spectra, h * n, channels * n, n, false);
    inverse::<F>(re, im, roots, n, n);
}

/// y (B, H, L), or the spikes it leads to: a cube for every row, the rows of a channel side by side so that its spectrum stays in the cache.
#[cube(launch)]
#[allow(clippy::too_many_arguments, reason = "a kernel's parameters are what they are")]
fn convolve<F: Float>(
    u: &Array<F>,
    spectra: &Array<F>,
    lengths: &Array<u32>,
    roots: &Array<F>,
    twist: &Array<F>,
    fire: &ComptimeOption<Fire<F>>,
    out: &mut Array<F>,
    sizes: RowSizes,
    #[comptime] n: usize,
) {
    let mut re = SharedMemory::<F>::new(n);
    let mut im = SharedMemory::<F>::new(n);
    let h = CUBE_POS / sizes.batch as usize;
    let b = CUBE_POS % sizes.batch as usize;
    let channels = sizes.channels as usize;
    let length = sizes.length as usize;
    if h < channels {
        let row = b * channels + h;
        load_row::<F>(&mut re, &mut im, u, twist, row, length, lengths[b] as usize, n);
        convolve_row::<F>(&mut re, &mut im, spectra, roots, h, channels, n);
        let mut t = UNIT_POS as usize;
        let mut places = start::<F>(fire, row * length + t);
        while t < length {
            let y = lower::<F>(Pair::<F> { re: re[t], im: im[t] }, twist, t, n);
            let at = row * length + t;
            #[comptime]
            match fire {
                ComptimeOption::Some(fire) => {
                    out[at] = fire.spike(y, &places, h as u32, row as u32, at as u32);
                    fire.stride(&mut places);
                }
                ComptimeOption::None => out[at] = y,
            }
            t += CUBE_DIM as usize;
        }
    }
}

/// Where a unit starts in the streams of a firing.
#[cube]
fn start<F: Float>(fire: &ComptimeOption<Fire<F>>, at: usize) -> Places {
    #[comptime]
    match fire {
        ComptimeOption::Some(fire) => fire.start(at as u32),
        ComptimeOption::None => Places::nowhere(),
    }
}

/// Which gradients are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Needs {
    pub input: bool,
    pub kernel: bool,
    pub skip: bool,
}

impl Needs {
    /// D is an entry of the kernel.
    fn spectra(self) -> bool {
        self.kernel || self.skip
    }
}

/// The gradient of u (B, H, L), that of the kernels as sums of spectra (2, groups, H, n), and of a firing's scale and shift (2, H, groups): a
/// cube for every channel and group of the batch. A unit keeps the points i = UNIT_POS + k units of the spectra in its registers.
#[cube(launch)]
#[allow(clippy::too_many_arguments, reason = "a kernel's parameters are what they are")]
fn convolve_grad<F: Float>(
    u: &Array<F>,
    g: &Array<F>,
    spectra: &Array<F>,
    lengths: &Array<u32>,
    roots: &Array<F>,
    twist: &Array<F>,
    fire: &ComptimeOption<Fire<F>>,
    g_input: &mut ComptimeOption<Array<F>>,
    g_spectra: &mut ComptimeOption<Array<F>>,
    parts: &mut ComptimeOption<Array<F>>,
    sizes: RowSizes,
    groups: u32,
    #[comptime] n: usize,
    #[comptime] units: usize,
) {
    let mut re = SharedMemory::<F>::new(comptime!(n.max(units)));
    let mut im = SharedMemory::<F>::new(n);
    let per = comptime!(n.div_ceil(units));
    let mut held = Registers::<F> { re: Array::<F>::new(per), im: Array::<F>::new(per) };
    let mut sums = Registers::<F> { re: Array::<F>::new(per), im: Array::<F>::new(per) };
    let channels = sizes.channels as usize;
    let length = sizes.length as usize;
    let h = CUBE_POS / groups as usize;
    let group = CUBE_POS % groups as usize;
    if h < channels {
        clear::<F>(&mut sums, per);
        let mut scale = F::new(0.0);
        let mut shift = F::new(0.0);
        let mut b = group;
        while b < sizes.batch as usize {
            let row = b * channels + h;
            let valid = lengths[b] as usize;
            if comptime!(g_spectra.is_some() || fire.is_some()) {
                load_row::<F>(&mut re, &mut im, u, twist, row, length, valid, n);
                forward::<F>(&mut re, &mut im, roots, n, n);
            }
            if comptime!(g_spectra.is_some()) {
                keep::<F>(&mut held, &re, &im, per, units, n);
            }
            #[comptime]
            match fire {
                ComptimeOption::Some(fire) => {
                    multiply::<F>(&mut re, &mut im, spectra, h * n, channels * n, n, false);
                    inverse::<F>(&mut re, &mut im, roots, n, n);
                    let mut t = UNIT_POS as usize;
                    let mut places = fire.start((row * length + t) as u32);
                    while t < n {
                        let mut gy = F::new(0.0);
                        if t < length {
                            let y = lower::<F>(Pair::<F> { re: re[t], im: im[t] }, twist, t, n);
                            let at = row * length + t;
                            let pulled = fire.pull(y, g[at], &places, h as u32, row as u32, at as u32);
                            gy = pulled.y;
                            scale += pulled.scale;
                            shift += pulled.shift;
                            fire.stride(&mut places);
                        }
                        let z = lift::<F>(gy, twist, t, n);
                        re[t] = z.re;
                        im[t] = z.im;
                        t += CUBE_DIM as usize;
                    }
                    sync_cube();
                }
                ComptimeOption::None => load_row::<F>(&mut re, &mut im, g, twist, row, length, length, n),
            }
            if comptime!(g_spectra.is_some() || g_input.is_some()) {
                forward::<F>(&mut re, &mut im, roots, n, n);
            }
            if comptime!(g_spectra.is_some()) {
                correlate::<F>(&mut sums, &held, &re, &im, per, units, n);
            }
            #[comptime]
            match g_input {
                ComptimeOption::Some(g_input) => {
                    multiply::<F>(&mut re, &mut im, spectra, h * n, channels * n, n, true);
                    inverse::<F>(&mut re, &mut im, roots, n, n);
                    let mut t = UNIT_POS as usize;
                    while t < length {
                        let x = lower::<F>(Pair::<F> { re: re[t], im: im[t] }, twist, t, n);
                        g_input[row * length + t] = select(t < valid, x, F::new(0.0));
                        t += CUBE_DIM as usize;
                    }
                    sync_cube();
                }
                ComptimeOption::None => {}
            }
            b += groups as usize;
        }
        #[comptime]
        match g_spectra {
            ComptimeOption::Some(out) => {
                put::<F>(out, &sums, (group * channels + h) * n, groups as usize * channels * n, per, units, n);
            }
            ComptimeOption::None => {}
        }
        #[comptime]
        match parts {
            ComptimeOption::Some(parts) => {
                sync_cube();
                let scale = sum_cube::<F>(scale, &mut re);
                let shift = sum_cube::<F>(shift, &mut re);
                if UNIT_POS == 0 {
                    let at = h * groups as usize + group;
                    parts[at] = scale;
                    parts[parts.len() / 2 + at] = shift;
                }
            }
            ComptimeOption::None => {}
        }
    }
}

/// A unit's share of a spectrum: the points UNIT_POS + k units.
#[derive(CubeType)]
pub(super) struct Registers<F: Float> {
    re: Array<F>,
    im: Array<F>,
}

#[cube]
pub(super) fn clear<F: Float>(registers: &mut Registers<F>, #[comptime] per: usize) {
    #[unroll]
    for k in 0..per {
        registers.re[k] = F::new(0.0);
        registers.im[k] = F::new(0.0);
    }
}

/// Takes a spectrum from shared memory.
#[cube]
pub(super) fn keep<F: Float>(
    registers: &mut Registers<F>,
    re: &SharedMemory<F>,
    im: &SharedMemory<F>,
    #[comptime] per: usize,
    #[comptime] units: usize,
    #[comptime] n: usize,
) {
    #[unroll]
    for k in 0..per {
        let i = UNIT_POS as usize + k * units;
        if i < n {
            registers.re[k] = re[i];
            registers.im[k] = im[i];
        }
    }
    sync_cube();
}

/// Adds g conj(u), from u in registers and g in shared memory.
#[cube]
pub(super) fn correlate<F: Float>(
    sums: &mut Registers<F>,
    u: &Registers<F>,
    re: &SharedMemory<F>,
    im: &SharedMemory<F>,
    #[comptime] per: usize,
    #[comptime] units: usize,
    #[comptime] n: usize,
) {
    #[unroll]
    for k in 0..per {
        let i = UNIT_POS as usize + k * units;
        if i < n {
            sums.re[k] = sums.re[k] + re[i] * u.re[k] + im[i] * u.im[k];
            sums.im[k] = sums.im[k] + im[i] * u.re[k] - re[i] * u.im[k];
        }
    }
    sync_cube();
}

/// Writes a spectrum at `at`, its imaginary parts `plane` behind.
#[cube]
pub(super) fn put<F: Float>(
    out: &mut Array<F>,
    registers: &Registers<F>,
    at: usize,
    plane: usize,
    #[comptime] per: usize,
    #[comptime] units: usize,
    #[comptime] n: usize,
) {
    #[unroll]
    for k in 0..per {
        let i = UNIT_POS as usize + k * units;
        if i < n {
            out[at + i] = registers.re[k];
            out[plane + at + i] = registers.im[k];
        }
    }
}

/// The gradients of the kernels (c, H, Lk) and of D (H) from the groups' sums of spectra (2, groups, H, n): a cube for every channel.
#[cube(launch)]
#[allow(clippy::too_many_arguments, reason = "a kernel's parameters are what they are")]
fn kernel_grad<F: Float>(
    g_spectra: &Array<F>,
    out: &mut Array<F>,
    skip: &mut ComptimeOption<Array<F>>,
    roots: &Array<F>,
    twist: &Array<F>,
    sizes: KernelSizes,
    groups: u32,
    #[comptime] kernels: usize,
    #[comptime] n: usize,
) {
    let mut re = SharedMemory::<F>::new(n);
    let mut im = SharedMemory::<F>::new(n);
    let channels = sizes.channels as usize;
    let h = CUBE_POS;
    if h < channels {
        let plane = groups as usize * channels * n;
        let mut i = UNIT_POS as usize;
        while i < n {
            let mut sum_re = F::new(0.0);
            let mut sum_im = F::new(0.0);
            for group in 0..groups as usize {
                let at = (group * channels + h) * n + i;
                sum_re += g_spectra[at];
                sum_im += g_spectra[plane + at];
            }
            re[i] = sum_re;
            im[i] = sum_im;
            i += CUBE_DIM as usize;
        }
        sync_cube();
        inverse::<F>(&mut re, &mut im, roots, n, n);
        let len = sizes.len as usize;
        let mut m = UNIT_POS as usize;
        while m < len {
            let mut causal = F::new(0.0);
            if m < sizes.causal as usize {
                causal = lower::<F>(Pair::<F> { re: re[m], im: im[m] }, twist, m, n);
            }
            out[h * len + m] = causal;
            put_skip::<F>(skip, causal, h, m);
            if comptime!(kernels == 2) {
                let mut anticausal = F::new(0.0);
                if m < sizes.anticausal as usize {
                    let i = n - 1 - m;
                    anticausal = -lower_imaginary::<F>(Pair::<F> { re: re[i], im: im[i] }, twist, i, n);
                }
                out[(channels + h) * len + m] = anticausal;
            }
            m += CUBE_DIM as usize;
        }
    }
}

/// The gradient of D is that of the entry of lag 0.
#[cube]
fn put_skip<F: Float>(skip: &mut ComptimeOption<Array<F>>, x: F, h: usize, m: usize) {
    #[comptime]
    match skip {
        ComptimeOption::Some(skip) => {
            if m == 0 {
                skip[h] = x;
            }
        }
        ComptimeOption::None => {}
    }
}

/// Rows (B, H, L) lifted into `work` (2, chunk of B, H, n), 0 from their true length on.
#[cube(launch)]
fn spread<F: Float>(x: &Array<F>, lengths: &Array<u32>, twist: &Array<F>, work: &mut Array<F>, sizes: RowSizes, #[comptime] n: usize) {
    let rows = sizes.batch as usize * sizes.channels as usize;
    let row = ABSOLUTE_POS / n;
    if row < rows {
        let b = sizes.first as usize + row / sizes.channels as usize;
        let source = sizes.first as usize * sizes.channels as usize + row;
        let i = ABSOLUTE_POS % n;
        let z = lift::<F>(masked::<F>(x, source, i, sizes.length as usize, lengths[b] as usize), twist, i, n);
        work[ABSOLUTE_POS] = z.re;
        work[rows * n + ABSOLUTE_POS] = z.im;
    }
}

/// Rows (B, H, L) from `work`, 0 from their `lengths` on.
#[cube(launch)]
fn collect<F: Float>(work: &Array<F>, lengths: &Array<u32>, twist: &Array<F>, out: &mut Array<F>, sizes: RowSizes, #[comptime] n: usize) {
    let length = sizes.length as usize;
    let channels = sizes.channels as usize;
    let rows = sizes.batch as usize * channels;
    let row = ABSOLUTE_POS / length;
    if row < rows {
        let t = ABSOLUTE_POS % length;
        let inside = t < lengths[sizes.first as usize + row / channels] as usize;
        let at = row * n + t;
        let y = lower::<F>(Pair::<F> { re: work[at], im: work[rows * n + at] }, twist, t, n);
        out[(sizes.first as usize * channels + row) * length + t] = select(inside, y, F::new(0.0));
    }
}

/// Adds to `sums` (2, H, n) the products g conj(u) of a chunk's spectra (2, chunk, H, n), and turns g into g conj(k).
#[cube(launch)]
fn correlate_rows<F: Float>(
    u: &Array<F>,
    g: &mut Array<F>,
    spectra: &Array<F>,
    sums: &mut Array<F>,
    batch: u32,
    channels: u32,
    fresh: u32,
    #[comptime] n: usize,
) {
    let points = channels as usize * n;
    if ABSOLUTE_POS < points {
        let plane = batch as usize * points;
        let k_re = spectra[ABSOLUTE_POS];
        let k_im = -spectra[points + ABSOLUTE_POS];
        let mut sum_re = F::new(0.0);
        let mut sum_im = F::new(0.0);
        if fresh == 0 {
            sum_re = sums[ABSOLUTE_POS];
            sum_im = sums[points + ABSOLUTE_POS];
        }
        for b in 0..batch as usize {
            let at = b * points + ABSOLUTE_POS;
            let g_re = g[at];
            let g_im = g[plane + at];
            let u_re = u[at];
            let u_im = u[plane + at];
            sum_re += g_re * u_re + g_im * u_im;
            sum_im += g_im * u_re - g_re * u_im;
            g[at] = g_re * k_re - g_im * k_im;
            g[plane + at] = g_re * k_im + g_im * k_re;
        }
        sums[ABSOLUTE_POS] = sum_re;
        sums[points + ABSOLUTE_POS] = sum_im;
    }
}

/// The gradients of the kernels (c, H, Lk) and of D (H) from coefficients (2, H, n).
#[cube(launch)]
fn collect_kernels<F: Float>(
    work: &Array<F>,
    out: &mut Array<F>,
    skip: &mut ComptimeOption<Array<F>>,
    twist: &Array<F>,
    sizes: KernelSizes,
    #[comptime] kernels: usize,
    #[comptime] n: usize,
) {
    let channels = sizes.channels as usize;
    let len = sizes.len as usize;
    let h = ABSOLUTE_POS / len;
    if h < channels {
        let m = ABSOLUTE_POS % len;
        let mut causal = F::new(0.0);
        if m < sizes.causal as usize {
            causal = lower::<F>(Pair::<F> { re: work[h * n + m], im: work[(channels + h) * n + m] }, twist, m, n);
        }
        out[h * len + m] = causal;
        put_skip::<F>(skip, causal, h, m);
        if comptime!(kernels == 2) {
            let mut anticausal = F::new(0.0);
            if m < sizes.anticausal as usize {
                let i = n - 1 - m;
                anticausal = -lower_imaginary::<F>(Pair::<F> { re: work[h * n + i], im: work[(channels + h) * n + i] }, twist, i, n);
            }
            out[(channels + h) * len + m] = anticausal;
        }
    }
}

/// A long convolution as the device does it.
pub(super) struct Job<'a, R: Runtime, E: Scalar> {
    pub cube: &'a Cube<R, E>,
    method: &'static str,
    conv: LongConv<'a, Cube<R, E>>,
    pub plan: Plan,
    /// The true lengths, and L for every sequence.
    lengths: Buffer,
    whole: Buffer,
    roots: Buffer,
    twist: Buffer,
}

/// A firing, and whether the gradients of scale and shift are wanted.
type FiringSums<'a, 'b, B> = (&'a Firing<'b, B>, [bool; 2]);

impl<'a, R: Runtime, E: Scalar> Job<'a, R, E> {
    pub fn new(cube: &'a Cube<R, E>, method: &'static str, conv: LongConv<'a, Cube<R, E>>) -> Result<Self> {
        let [batch, _, length] = [0, 1, 2].map(|axis| conv.input.shape()[axis]);
        let n = length.next_power_of_two();
        let whole = cube.words("whole lengths", &[batch, length], || vec![length as u32; batch])?;
        let lengths = match conv.lengths {
            Some(lengths) => cube.upload_words(method, &lengths.iter().map(|&l| l as u32).collect::<Vec<_>>())?,
            None => whole.clone(),
        };
        let twist = cube.table("twist", &[n], || planar((0..n).map(|t| unit_circle(t as f64 / (4 * n) as f64))))?;
        let plan = cube.plan(n);
        Ok(Job { cube, method, conv, plan, lengths, whole, roots: cube.roots(plan.block)?, twist })
    }

    /// (B, H, L).
    pub fn shape(&self) -> [usize; 3] {
        [0, 1, 2].map(|axis| self.conv.input.shape()[axis])
    }

    pub fn sizes(&self) -> RowSizesLaunch<R> {
        self.chunk((0, self.shape()[0]))
    }

    fn chunk(&self, (first, batch): (usize, usize)) -> RowSizesLaunch<R> {
        let [_, channels, length] = self.shape().map(|size| size as u32);
        RowSizesLaunch::new(batch as u32, channels, length, first as u32)
    }

    fn kernel_sizes(&self) -> KernelSizesLaunch<R> {
        let ([_, channels, length], len) = (self.shape(), self.conv.kernel.shape()[2]);
        KernelSizesLaunch::new(channels as u32, len as u32, len.min(length) as u32, len.min(length - 1) as u32)
    }

    /// c.
    fn kernels(&self) -> usize {
        self.conv.kernel.shape()[0]
    }

    pub fn units(&self) -> CubeDim {
        CubeDim::new_1d(self.plan.units as u32)
    }

    fn skip(&self) -> ComptimeOptionArgs<Array<E>, R> {
        self.conv.skip.map(arg).into()
    }

    /// The spectra (2, H, n) of the kernels, D among them.
    fn spectra(&self) -> Result<Buffer> {
        let ([_, channels, _], n, cube) = (self.shape(), self.plan.n, self.cube);
        let out = cube.buffer(self.method, 2 * channels * n, size_of::<E>())?;
        let (kernel, skip, twist, sizes) = (arg(self.conv.kernel), self.skip(), self.twist.arg(), self.kernel_sizes());
        if self.plan.fits() {
            let (client, cubes, roots) = (cube.client(), cube.cubes(channels), self.roots.arg());
            kernel_spectra::launch::<E, R>(client, cubes, self.units(), kernel, skip, out.arg(), roots, twist, sizes, self.kernels(), n);
        } else {
            let (cubes, units) = cube.units(channels * n);
            spread_kernels::launch::<E, R>(cube.client(), cubes, units, kernel, skip, out.arg(), twist, sizes, self.kernels(), n);
            cube.transform(self.plan, &out, channels, Middle::Forward, None)?;
        }
        Ok(out)
    }

    /// (first, count) of chunks of the batch whose rows fit in the workspace.
    fn chunks(&self) -> impl Iterator<Item = (usize, usize)> {
        let [batch, channels, _] = self.shape();
        let sequence = 2 * channels * self.plan.n * size_of::<E>();
        let most = (WORKSPACE.min(self.cube.limits().buffer_bytes) as usize / sequence).clamp(1, batch);
        (0..batch).step_by(most).map(move |first| (first, most.min(batch - first)))
    }

    /// A chunk's rows of `x` in a workspace (2, chunk, H, n).
    fn spread(&self, x: &Tensor<Cube<R, E>>, lengths: &Buffer, chunk: (usize, usize)) -> Result<Buffer> {
        let ([_, channels, _], n, cube) = (self.shape(), self.plan.n, self.cube);
        let points = chunk.1 * channels * n;
        let work = cube.buffer(self.method, 2 * points, size_of::<E>())?;
        let (cubes, units) = cube.units(points);
        let sizes = self.chunk(chunk);
        spread::launch::<E, R>(cube.client(), cubes, units, arg(x), lengths.arg(), self.twist.arg(), work.arg(), sizes, n);
        Ok(work)
    }

    /// A chunk's rows out of the workspace.
    fn collect(&self, work: &Buffer, lengths: &Buffer, out: &Tensor<Cube<R, E>>, chunk: (usize, usize)) {
        let ([_, channels, length], cube) = (self.shape(), self.cube);
        let (cubes, units) = cube.units(chunk.1 * channels * length);
        let (lengths, twist, sizes) = (lengths.arg(), self.twist.arg(), self.chunk(chunk));
        collect::launch::<E, R>(cube.client(), cubes, units, work.arg(), lengths, twist, arg(out), sizes, self.plan.n);
    }

    /// y (B, H, L), or the spikes of a firing where a row fits in a cube.
    pub fn run(&self, firing: Option<&Firing<'_, Cube<R, E>>>) -> Result<Tensor<Cube<R, E>>> {
        let (cube, [batch, channels, _]) = (self.cube, self.shape());
        let (out, spectra) = (cube.alloc(self.method, self.conv.input.shape())?, self.spectra()?);
        if self.plan.fits() {
            let fire = firing.map(|firing| fire_arg(cube, firing, [batch, channels], self.plan.units, false)).transpose()?;
            convolve::launch::<E, R>(
                cube.client(),
                cube.cubes(batch * channels),
                self.units(),
                arg(self.conv.input),
                spectra.arg(),
                self.lengths.arg(),
                self.roots.arg(),
                self.twist.arg(),
                fire.into(),
                arg(&out),
                self.sizes(),
                self.plan.n,
            );
            return Ok(out);
        }
        for chunk in self.chunks() {
            let work = self.spread(self.conv.input, &self.lengths, chunk)?;
            cube.transform(self.plan, &work, chunk.1 * channels, Middle::Multiply, Some((&spectra, channels)))?;
            self.collect(&work, &self.whole, &out, chunk);
        }
        Ok(out)
    }

    /// Gradients of input, kernel, skip, and of a firing's scale and shift: a row in a cube.
    pub fn grad(&self, g: &Tensor<Cube<R, E>>, needs: Needs, firing: Option<FiringSums<'_, '_, Cube<R, E>>>) -> Result<Gradients<R, E>> {
        let (cube, conv) = (self.cube, &self.conv);
        let [batch, channels, _] = self.shape();
        let (groups, size) = (CUBES.div_ceil(channels).min(batch), size_of::<E>());
        let spectra = if needs.input || firing.is_some() { self.spectra()? } else { self.twist.clone() };
        let input = cube.alloc_if(needs.input, self.method, conv.input.shape())?;
        let sums = needs.spectra().then(|| cube.buffer(self.method, 2 * groups * channels * self.plan.n, size)).transpose()?;
        let wanted = firing.map_or([false; 2], |(_, wanted)| wanted);
        let parts = cube.alloc_if(wanted[0] || wanted[1], self.method, &[2, channels, groups])?;
        let fire = firing.map(|(firing, _)| fire_arg(cube, firing, [batch, channels], self.plan.units, true)).transpose()?;
        convolve_grad::launch::<E, R>(
            cube.client(),
            cube.cubes(groups * channels),
            self.units(),
            arg(conv.input),
            arg(g),
            spectra.arg(),
            self.lengths.arg(),
            self.roots.arg(),
            self.twist.arg(),
            fire.into(),
            input.as_ref().map(arg).into(),
            sums.as_ref().map(Buffer::arg).into(),
            parts.as_ref().map(arg).into(),
            self.sizes(),
            groups as u32,
            self.plan.n,
            self.plan.units,
        );
        let [kernel, skip] = sums.map_or(Ok([None, None]), |sums| self.kernel_grad(&sums, groups, needs))?;
        let [scale, shift] = parts.map_or(Ok([None, None]), |parts| totals(cube, self.method, &parts, wanted))?;
        Ok([input, kernel, skip, scale, shift])
    }

    /// Gradients of kernel and skip from the groups' sums of spectra.
    fn kernel_grad(&self, sums: &Buffer, groups: usize, needs: Needs) -> Result<[Option<Tensor<Cube<R, E>>>; 2]> {
        let ([_, channels, _], cube) = (self.shape(), self.cube);
        let out = cube.alloc(self.method, self.conv.kernel.shape())?;
        let skip = cube.alloc_if(needs.skip, self.method, &[channels])?;
        kernel_grad::launch::<E, R>(
            cube.client(),
            cube.cubes(channels),
            self.units(),
            sums.arg(),
            arg(&out),
            skip.as_ref().map(arg).into(),
            self.roots.arg(),
            self.twist.arg(),
            self.kernel_sizes(),
            groups as u32,
            self.kernels(),
            self.plan.n,
        );
        Ok([Some(out), skip])
    }

    /// Gradients of input, kernel, skip over the device's memory.
    pub fn grad_wide(&self, g: &Tensor<Cube<R, E>>, needs: Needs) -> Result<[Option<Tensor<Cube<R, E>>>; 3]> {
        let (cube, [_, channels, _]) = (self.cube, self.shape());
        let input = cube.alloc_if(needs.input, self.method, self.conv.input.shape())?;
        let spectra = self.spectra()?;
        let sums = cube.buffer(self.method, 2 * channels * self.plan.n, size_of::<E>())?;
        for chunk in self.chunks() {
            let rows = chunk.1 * channels;
            let u = self.spread(self.conv.input, &self.lengths, chunk)?;
            let work = self.spread(g, &self.whole, chunk)?;
            cube.transform(self.plan, &u, rows, Middle::Forward, None)?;
            cube.transform(self.plan, &work, rows, Middle::Forward, None)?;
            let ((cubes, units), fresh) = (cube.units(channels * self.plan.n), u32::from(chunk.0 == 0));
            let (client, spectra, sums) = (cube.client(), spectra.arg(), sums.arg());
            let (batch, channels) = (chunk.1 as u32, channels as u32);
            correlate_rows::launch::<E, R>(client, cubes, units, u.arg(), work.arg(), spectra, sums, batch, channels, fresh, self.plan.n);
            if let Some(input) = &input {
                cube.transform(self.plan, &work, rows, Middle::Inverse, None)?;
                self.collect(&work, &self.lengths, input, chunk);
            }
        }
        let [kernel, skip] = if needs.spectra() { self.collect_kernels(&sums, needs)? } else { [None, None] };
        Ok([input, kernel, skip])
    }

    /// Gradients of kernel and skip from the sum of spectra (2, H, n).
    fn collect_kernels(&self, sums: &Buffer, needs: Needs) -> Result<[Option<Tensor<Cube<R, E>>>; 2]> {
        let ([_, channels, _], cube) = (self.shape(), self.cube);
        cube.transform(self.plan, sums, channels, Middle::Inverse, None)?;
        let out = cube.alloc(self.method, self.conv.kernel.shape())?;
        let skip = cube.alloc_if(needs.skip, self.method, &[channels])?;
        let (cubes, units) = cube.units(channels * self.conv.kernel.shape()[2]);
        let (g_skip, twist, sizes) = (skip.as_ref().map(arg).into(), self.twist.arg(), self.kernel_sizes());
        collect_kernels::launch::<E, R>(
            cube.client(),
            cubes,
            units,
            sums.arg(),
            arg(&out),
            g_skip,
            twist,
            sizes,
            self.kernels(),
            self.plan.n,
        );
        Ok([Some(out), skip])
    }
}

/// Gradients of input, kernel, skip, scale, shift.
type Gradients<R, E> = [Option<Tensor<Cube<R, E>>>; 5];

pub(super) fn long_conv<R: Runtime, E: Scalar>(cube: &Cube<R, E>, conv: LongConv<'_, Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
    Job::new(cube, "long_conv", conv)?.run(None)
}

pub(super) fn long_conv_grad<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    conv: LongConv<'_, Cube<R, E>>,
    g: &Tensor<Cube<R, E>>,
    needs: [bool; 3],
) -> Result<[Option<Tensor<Cube<R, E>>>; 3]> {
    let job = Job::new(cube, "long_conv_grad", conv)?;
    let needs = Needs { input: needs[0], kernel: needs[1], skip: needs[2] && conv.skip.is_some() };
    if job.plan.fits() {
        let [input, kernel, skip, _, _] = job.grad(g, needs, None)?;
        return Ok([input, kernel, skip]);
    }
    job.grad_wide(g, needs)
}
