//! The long convolution and its adjoint, fused: transform, product, inverse, D and mask in one kernel where a row fits in a cube.
//!
//! Rows are polynomials modulo X^n - i (n a power of two, at least L): on the points zeta w^k, zeta^n = i, a product is pointwise, and what
//! wraps around lands in the imaginary part, so that n points do where padding to 2 L would need 2 n. A lag of -(m + 1) is the power
//! n - 1 - m with the factor -i, so that the anticausal kernel lives in the imaginary parts of the same row. Real rows on the unit
//! circle: reversing the lags is conjugating the spectrum.

use cubecl::prelude::*;

use super::fft::{Middle, Pair, Plan, forward, inverse, multiply, planar, unit_circle};
use super::reduce::{sum_cube, sum_to};
use super::storage::arg;
use super::{Buffer, Cube, Scalar};
use crate::backend::{LongConv, Tensor};
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
            let z = kernel_point::<F>(kernel, twist, CUBE_POS, i, sizes, kernels, n);
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
    out: &mut Array<F>,
    twist: &Array<F>,
    sizes: KernelSizes,
    #[comptime] kernels: usize,
    #[comptime] n: usize,
) {
    let channels = sizes.channels as usize;
    if ABSOLUTE_POS < channels * n {
        let z = kernel_point::<F>(kernel, twist, ABSOLUTE_POS / n, ABSOLUTE_POS % n, sizes, kernels, n);
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

/// y (B, H, L): a cube for every row, the rows of a channel side by side so that its spectrum stays in the cache.
#[cube(launch)]
#[allow(clippy::too_many_arguments, reason = "a kernel's parameters are what they are")]
fn convolve<F: Float>(
    u: &Array<F>,
    spectra: &Array<F>,
    skip: &Array<F>,
    lengths: &Array<u32>,
    roots: &Array<F>,
    twist: &Array<F>,
    out: &mut Array<F>,
    sizes: RowSizes,
    #[comptime] skipped: bool,
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
        let valid = lengths[b] as usize;
        load_row::<F>(&mut re, &mut im, u, twist, row, length, valid, n);
        convolve_row::<F>(&mut re, &mut im, spectra, roots, h, channels, n);
        let mut t = UNIT_POS as usize;
        while t < length {
            let mut y = lower::<F>(Pair::<F> { re: re[t], im: im[t] }, twist, t, n);
            if comptime!(skipped) {
                y += skip[h] * masked::<F>(u, row, t, length, valid);
            }
            out[row * length + t] = y;
            t += CUBE_DIM as usize;
        }
    }
}

/// Which gradients are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Needs {
    input: bool,
    kernel: bool,
    skip: bool,
}

/// The gradient of u (B, H, L), that of the kernels as sums of spectra (2, groups, H, n), that of D as sums (groups, H): a cube for every
/// channel and group of the batch. A unit keeps the points i = UNIT_POS + k units of the spectra in its registers.
#[cube(launch)]
#[allow(clippy::too_many_arguments, reason = "a kernel's parameters are what they are")]
fn convolve_grad<F: Float>(
    u: &Array<F>,
    g: &Array<F>,
    spectra: &Array<F>,
    skip: &Array<F>,
    lengths: &Array<u32>,
    roots: &Array<F>,
    twist: &Array<F>,
    g_input: &mut Array<F>,
    g_spectra: &mut Array<F>,
    g_skip: &mut Array<F>,
    sizes: RowSizes,
    groups: u32,
    #[comptime] needs: Needs,
    #[comptime] skipped: bool,
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
        let mut d = F::new(0.0);
        let mut b = group;
        while b < sizes.batch as usize {
            let row = b * channels + h;
            let valid = lengths[b] as usize;
            if comptime!(needs.kernel) {
                load_row::<F>(&mut re, &mut im, u, twist, row, length, valid, n);
                forward::<F>(&mut re, &mut im, roots, n, n);
                keep::<F>(&mut held, &re, &im, per, units, n);
            }
            if comptime!(needs.skip) {
                let mut t = UNIT_POS as usize;
                while t < valid {
                    d += g[row * length + t] * u[row * length + t];
                    t += CUBE_DIM as usize;
                }
            }
            load_row::<F>(&mut re, &mut im, g, twist, row, length, length, n);
            forward::<F>(&mut re, &mut im, roots, n, n);
            if comptime!(needs.kernel) {
                correlate::<F>(&mut sums, &held, &re, &im, per, units, n);
            }
            if comptime!(needs.input) {
                multiply::<F>(&mut re, &mut im, spectra, h * n, channels * n, n, true);
                inverse::<F>(&mut re, &mut im, roots, n, n);
                let mut t = UNIT_POS as usize;
                while t < length {
                    let mut x = lower::<F>(Pair::<F> { re: re[t], im: im[t] }, twist, t, n);
                    if comptime!(skipped) {
                        x += skip[h] * g[row * length + t];
                    }
                    g_input[row * length + t] = select(t < valid, x, F::new(0.0));
                    t += CUBE_DIM as usize;
                }
                sync_cube();
            }
            b += groups as usize;
        }
        if comptime!(needs.kernel) {
            let at = (group * channels + h) * n;
            put::<F>(g_spectra, &sums, at, groups as usize * channels * n, per, units, n);
        }
        if comptime!(needs.skip) {
            sync_cube();
            let d = sum_cube::<F>(d, &mut re);
            if UNIT_POS == 0 {
                g_skip[group * channels + h] = d;
            }
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

/// The gradient of the kernels (c, H, Lk) from the groups' sums of spectra (2, groups, H, n): a cube for every channel.
#[cube(launch)]
#[allow(clippy::too_many_arguments, reason = "a kernel's parameters are what they are")]
fn kernel_grad<F: Float>(
    g_spectra: &Array<F>,
    out: &mut Array<F>,
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

/// Rows (B, H, L) lifted into `work` (2, chunk of B, H, n), 0 from their true length on.
#[cube(launch)]
fn spread<F: Float>(
    x: &Array<F>,
    lengths: &Array<u32>,
    twist: &Array<F>,
    work: &mut Array<F>,
    sizes: RowSizes,
    #[comptime] n: usize,
) {
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

/// Rows from `work`, plus D times `direct`; 0 from their true length on. `masks` says which of the two the lengths are for: the output,
/// or `direct`.
#[cube(launch)]
#[allow(clippy::too_many_arguments, reason = "a kernel's parameters are what they are")]
fn collect<F: Float>(
    work: &Array<F>,
    direct: &Array<F>,
    skip: &Array<F>,
    lengths: &Array<u32>,
    twist: &Array<F>,
    out: &mut Array<F>,
    sizes: RowSizes,
    #[comptime] skipped: bool,
    #[comptime] masks_output: bool,
    #[comptime] n: usize,
) {
    let length = sizes.length as usize;
    let channels = sizes.channels as usize;
    let rows = sizes.batch as usize * channels;
    let row = ABSOLUTE_POS / length;
    if row < rows {
        let t = ABSOLUTE_POS % length;
        let target = sizes.first as usize * channels + row;
        let inside = t < lengths[sizes.first as usize + row / channels] as usize;
        let at = row * n + t;
        let mut y = lower::<F>(Pair::<F> { re: work[at], im: work[rows * n + at] }, twist, t, n);
        if comptime!(skipped) {
            let d = skip[row % channels] * direct[target * length + t];
            y += select(inside || comptime!(masks_output), d, F::new(0.0));
        }
        out[target * length + t] = select(inside || comptime!(!masks_output), y, F::new(0.0));
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

/// The gradient of the kernels (c, H, Lk) from coefficients (2, H, n).
#[cube(launch)]
fn collect_kernels<F: Float>(
    work: &Array<F>,
    out: &mut Array<F>,
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

/// Sums of u g over the steps of every row, (B, H): a cube for every row.
#[cube(launch)]
fn skip_grad<F: Float>(u: &Array<F>, g: &Array<F>, lengths: &Array<u32>, out: &mut Array<F>, sizes: RowSizes, #[comptime] units: usize) {
    let mut scratch = SharedMemory::<F>::new(units);
    if CUBE_POS < out.len() {
        let length = sizes.length as usize;
        let valid = lengths[CUBE_POS / sizes.channels as usize] as usize;
        let mut sum = F::new(0.0);
        let mut t = UNIT_POS as usize;
        while t < valid {
            sum += u[CUBE_POS * length + t] * g[CUBE_POS * length + t];
            t += CUBE_DIM as usize;
        }
        let sum = sum_cube::<F>(sum, &mut scratch);
        if UNIT_POS == 0 {
            out[CUBE_POS] = sum;
        }
    }
}

/// A long convolution as the device does it.
pub(super) struct Job<'a, R: Runtime, E: Scalar> {
    pub cube: &'a Cube<R, E>,
    pub method: &'static str,
    pub conv: LongConv<'a, Cube<R, E>>,
    pub plan: Plan,
    pub lengths: Buffer,
    pub roots: Buffer,
    pub twist: Buffer,
}

impl<'a, R: Runtime, E: Scalar> Job<'a, R, E> {
    pub fn new(cube: &'a Cube<R, E>, method: &'static str, conv: LongConv<'a, Cube<R, E>>) -> Result<Self> {
        let [batch, _, length] = [0, 1, 2].map(|axis| conv.input.shape()[axis]);
        let n = length.next_power_of_two();
        let lengths = match conv.lengths {
            Some(lengths) => cube.upload_words(method, &lengths.iter().map(|&l| l as u32).collect::<Vec<_>>())?,
            None => cube.words("whole lengths", &[batch, length], || vec![length as u32; batch])?,
        };
        let twist = cube.table("twist", &[n], || planar((0..n).map(|t| unit_circle(t as f64 / (4 * n) as f64))))?;
        let plan = cube.plan(n);
        Ok(Job { cube, method, conv, plan, lengths, roots: cube.roots(plan.block)?, twist })
    }

    pub fn shape(&self) -> [usize; 3] {
        [0, 1, 2].map(|axis| self.conv.input.shape()[axis])
    }

    /// D, or anything that a kernel which does not look at it may be given.
    pub fn skip(&self) -> ArrayArg<R> {
        arg(self.conv.skip.unwrap_or(self.conv.kernel))
    }

    pub fn sizes(&self) -> RowSizesLaunch<R> {
        let [batch, channels, length] = self.shape().map(|size| size as u32);
        RowSizesLaunch::new(batch, channels, length, 0)
    }

    fn chunk(&self, first: usize, batch: usize) -> RowSizesLaunch<R> {
        let [_, channels, length] = self.shape().map(|size| size as u32);
        RowSizesLaunch::new(batch as u32, channels, length, first as u32)
    }

    fn kernel_sizes(&self) -> KernelSizesLaunch<R> {
        let ([_, channels, length], len) = (self.shape(), self.conv.kernel.shape()[2]);
        KernelSizesLaunch::new(channels as u32, len as u32, len.min(length) as u32, len.min(length - 1) as u32)
    }

    fn kernels(&self) -> usize {
        self.conv.kernel.shape()[0]
    }

    pub fn units(&self) -> CubeDim {
        CubeDim::new_1d(self.plan.units as u32)
    }

    /// The spectra (2, H, n) of the kernels.
    pub fn spectra(&self) -> Result<Buffer> {
        let ([_, channels, _], n, cube) = (self.shape(), self.plan.n, self.cube);
        let out = cube.buffer(self.method, 2 * channels * n, size_of::<E>())?;
        let (kernel, twist, sizes) = (arg(self.conv.kernel), self.twist.arg(), self.kernel_sizes());
        if self.plan.fits() {
            let (cubes, roots) = (cube.cubes(channels), self.roots.arg());
            kernel_spectra::launch::<E, R>(cube.client(), cubes, self.units(), kernel, out.arg(), roots, twist, sizes, self.kernels(), n);
        } else {
            let (cubes, units) = cube.units(channels * n);
            spread_kernels::launch::<E, R>(cube.client(), cubes, units, kernel, out.arg(), twist, sizes, self.kernels(), n);
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
    fn spread(&self, x: &Tensor<Cube<R, E>>, lengths: &Buffer, (first, count): (usize, usize)) -> Result<Buffer> {
        let ([_, channels, _], n, cube) = (self.shape(), self.plan.n, self.cube);
        let work = cube.buffer(self.method, 2 * count * channels * n, size_of::<E>())?;
        let (cubes, units) = cube.units(count * channels * n);
        let sizes = self.chunk(first, count);
        spread::launch::<E, R>(cube.client(), cubes, units, arg(x), lengths.arg(), self.twist.arg(), work.arg(), sizes, n);
        Ok(work)
    }

    fn collect(
        &self,
        work: &Buffer,
        direct: &Tensor<Cube<R, E>>,
        out: &Tensor<Cube<R, E>>,
        (first, count): (usize, usize),
        masks_output: bool,
    ) {
        let ([_, channels, length], cube) = (self.shape(), self.cube);
        let (cubes, units) = cube.units(count * channels * length);
        let (skip, lengths, twist, sizes) = (self.skip(), self.lengths.arg(), self.twist.arg(), self.chunk(first, count));
        let skipped = self.conv.skip.is_some();
        collect::launch::<E, R>(
            cube.client(),
            cubes,
            units,
            work.arg(),
            arg(direct),
            skip,
            lengths,
            twist,
            arg(out),
            sizes,
            skipped,
            masks_output,
            self.plan.n,
        );
    }

    /// y (B, H, L).
    fn run(&self) -> Result<Tensor<Cube<R, E>>> {
        let (cube, conv) = (self.cube, &self.conv);
        let [batch, channels, _] = self.shape();
        let (out, spectra) = (cube.alloc(self.method, conv.input.shape())?, self.spectra()?);
        if self.plan.fits() {
            let (lengths, roots, twist) = (self.lengths.arg(), self.roots.arg(), self.twist.arg());
            convolve::launch::<E, R>(
                cube.client(),
                cube.cubes(batch * channels),
                self.units(),
                arg(conv.input),
                spectra.arg(),
                self.skip(),
                lengths,
                roots,
                twist,
                arg(&out),
                self.sizes(),
                conv.skip.is_some(),
                self.plan.n,
            );
            return Ok(out);
        }
        for chunk in self.chunks() {
            let work = self.spread(conv.input, &self.lengths, chunk)?;
            cube.transform(self.plan, &work, chunk.1 * channels, Middle::Multiply, Some((&spectra, channels)))?;
            self.collect(&work, conv.input, &out, chunk, false);
        }
        Ok(out)
    }

    /// The groups of the batch whose gradients are summed by cubes of their own.
    pub fn groups(&self) -> usize {
        let [batch, channels, _] = self.shape();
        CUBES.div_ceil(channels).min(batch)
    }

    /// The gradient of the kernels from the groups' sums of spectra.
    pub fn kernel_grad(&self, g_spectra: &Buffer, groups: usize) -> Result<Tensor<Cube<R, E>>> {
        let ([_, channels, _], cube) = (self.shape(), self.cube);
        let out = cube.alloc(self.method, self.conv.kernel.shape())?;
        let (cubes, roots, twist, sizes) = (cube.cubes(channels), self.roots.arg(), self.twist.arg(), self.kernel_sizes());
        let (client, groups) = (cube.client(), groups as u32);
        kernel_grad::launch::<E, R>(
            client,
            cubes,
            self.units(),
            g_spectra.arg(),
            arg(&out),
            roots,
            twist,
            sizes,
            groups,
            self.kernels(),
            self.plan.n,
        );
        Ok(out)
    }

    /// Gradients of input, kernel, skip, a row in a cube.
    fn grad(&self, g: &Tensor<Cube<R, E>>, needs: Needs) -> Result<[Option<Tensor<Cube<R, E>>>; 3]> {
        let (cube, conv, n) = (self.cube, &self.conv, self.plan.n);
        let ([_, channels, _], groups) = (self.shape(), self.groups());
        let spectra = if needs.input { self.spectra()? } else { self.twist.clone() };
        let input = cube.alloc_if(needs.input, self.method, conv.input.shape())?;
        let sums = cube.buffer(self.method, if needs.kernel { 2 * groups * channels * n } else { 1 }, size_of::<E>())?;
        let skip = cube.alloc(self.method, &[groups, channels])?;
        convolve_grad::launch::<E, R>(
            cube.client(),
            cube.cubes(groups * channels),
            self.units(),
            arg(conv.input),
            arg(g),
            spectra.arg(),
            self.skip(),
            self.lengths.arg(),
            self.roots.arg(),
            self.twist.arg(),
            // Where it is not wanted nothing is written to it.
            input.as_ref().map_or_else(|| arg(&skip), arg),
            sums.arg(),
            arg(&skip),
            self.sizes(),
            groups as u32,
            needs,
            conv.skip.is_some(),
            n,
            self.plan.units,
        );
        let kernel = needs.kernel.then(|| self.kernel_grad(&sums, groups)).transpose()?;
        let skip = needs.skip.then(|| sum_to(cube, &skip, &[channels])).transpose()?;
        Ok([input, kernel, skip])
    }

    /// The same over the device's memory.
    fn grad_wide(&self, g: &Tensor<Cube<R, E>>, needs: Needs) -> Result<[Option<Tensor<Cube<R, E>>>; 3]> {
        let (cube, conv, n) = (self.cube, &self.conv, self.plan.n);
        let [batch, channels, length] = self.shape();
        let input = cube.alloc_if(needs.input, self.method, conv.input.shape())?;
        let mut kernel = None;
        if needs.input || needs.kernel {
            let whole = cube.words("whole lengths", &[batch, length], || vec![length as u32; batch])?;
            let spectra = self.spectra()?;
            let sums = cube.buffer(self.method, 2 * channels * n, size_of::<E>())?;
            for (first, count) in self.chunks() {
                let u = self.spread(conv.input, &self.lengths, (first, count))?;
                let work = self.spread(g, &whole, (first, count))?;
                cube.transform(self.plan, &u, count * channels, Middle::Forward, None)?;
                cube.transform(self.plan, &work, count * channels, Middle::Forward, None)?;
                let (cubes, units) = cube.units(channels * n);
                let (batch, channels_, fresh) = (count as u32, channels as u32, u32::from(first == 0));
                correlate_rows::launch::<E, R>(
                    cube.client(),
                    cubes,
                    units,
                    u.arg(),
                    work.arg(),
                    spectra.arg(),
                    sums.arg(),
                    batch,
                    channels_,
                    fresh,
                    n,
                );
                if let Some(input) = &input {
                    cube.transform(self.plan, &work, count * channels, Middle::Inverse, None)?;
                    self.collect(&work, g, input, (first, count), true);
                }
            }
            if needs.kernel {
                cube.transform(self.plan, &sums, channels, Middle::Inverse, None)?;
                let out = cube.alloc(self.method, conv.kernel.shape())?;
                let ((cubes, units), sizes) = (cube.units(channels * conv.kernel.shape()[2]), self.kernel_sizes());
                collect_kernels::launch::<E, R>(
                    cube.client(),
                    cubes,
                    units,
                    sums.arg(),
                    arg(&out),
                    self.twist.arg(),
                    sizes,
                    self.kernels(),
                    n,
                );
                kernel = Some(out);
            }
        }
        let skip = needs.skip.then(|| self.skip_grad(g)).transpose()?;
        Ok([input, kernel, skip])
    }

    /// The gradient of D by itself.
    fn skip_grad(&self, g: &Tensor<Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
        let ([batch, channels, _], cube) = (self.shape(), self.cube);
        let out = cube.alloc(self.method, &[batch, channels])?;
        let (cubes, sizes, units) = (cube.cubes(batch * channels), self.sizes(), self.plan.units);
        let lengths = self.lengths.arg();
        skip_grad::launch::<E, R>(cube.client(), cubes, self.units(), arg(self.conv.input), arg(g), lengths, arg(&out), sizes, units);
        sum_to(cube, &out, &[channels])
    }
}

pub(super) fn long_conv<R: Runtime, E: Scalar>(cube: &Cube<R, E>, conv: LongConv<'_, Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
    Job::new(cube, "long_conv", conv)?.run()
}

pub(super) fn long_conv_grad<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    conv: LongConv<'_, Cube<R, E>>,
    g: &Tensor<Cube<R, E>>,
    needs: [bool; 3],
) -> Result<[Option<Tensor<Cube<R, E>>>; 3]> {
    let job = Job::new(cube, "long_conv_grad", conv)?;
    let needs = Needs { input: needs[0], kernel: needs[1], skip: needs[2] && conv.skip.is_some() };
    if job.plan.fits() { job.grad(g, needs) } else { job.grad_wide(g, needs) }
}
