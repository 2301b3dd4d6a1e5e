//! The long convolution and its adjoint: one kernel masks, transforms, multiplies, transforms back and draws spikes, a row for each cube.
//!
//! A row that does not fit in a cube's shared memory is left to `long_conv_wide`, which works in the device's memory. `right_angle` says
//! how a row becomes the points of a transform.

#![allow(clippy::too_many_arguments, reason = "kernels take their arrays and sizes one by one")]

use cubecl::prelude::*;

use super::fire::{Fire, Places, fire_arg};
use super::right_angle::{
    Ends, KernelSizes, KernelSizesLaunch, RowSizes, RowSizesLaunch, kernel_point, lift, lower, masked, put_kernel_grads,
};
use crate::backend::cube::channel_sums::totals;
use crate::backend::cube::complex::{Complex, complex};
use crate::backend::cube::elementwise::reduce::put_sums;
use crate::backend::cube::products::fft::{Plan, forward, inverse, multiply, planar, unit_circle};
use crate::backend::cube::spiking::spike::ChannelAffine;
use crate::backend::cube::storage::arg;
use crate::backend::cube::{Buffer, Cube, Scalar};
use crate::backend::tensor::Grads;
use crate::backend::{Firing, LongConv, Tensor};
use crate::error::Result;

/// Cubes that keep a device busy. The batch is not cut into more groups than that: each has partial sums of its own.
const CUBES: usize = 1024;

/// The spectra (2, H, n) of the kernels, a cube for every channel.
#[cube(launch)]
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

/// Loads row `row` into shared memory, ready for the transform; entries from `valid` on are 0.
#[cube]
pub(crate) fn load_row<F: Float>(
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
pub(crate) fn convolve_row<F: Float>(
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

/// y (B, H, L), or its spikes: a cube for every row. Cubes of one channel are neighbours, so that its spectrum stays in the cache.
#[cube(launch)]
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
            let y = lower::<F>(Complex::<F> { re: re[t], im: im[t] }, twist, t, n);
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

/// The places of element `at` in a firing's streams of random numbers.
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
pub(crate) struct Needs {
    pub input: bool,
    pub kernel: bool,
    pub skip: bool,
}

impl Needs {
    /// Whether the gradient of the kernel's spectrum is needed: D is a part of it.
    pub fn spectra(self) -> bool {
        self.kernel || self.skip
    }
}

/// The gradient of u (B, H, L), that of the kernels as sums of spectra (2, groups, H, n), and of a firing's scale and shift (2, H, groups):
/// a cube for every channel and group of the batch. A unit keeps the points i = UNIT_POS + k units of the spectra in its registers.
#[cube(launch)]
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
        let mut affine = ChannelAffine::<F> { scale: F::new(0.0), shift: F::new(0.0) };
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
                    row_grad::<F>(&mut re, &mut im, fire, g, twist, &mut affine, h, row, length, n);
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
                ComptimeOption::Some(out) => {
                    multiply::<F>(&mut re, &mut im, spectra, h * n, channels * n, n, true);
                    inverse::<F>(&mut re, &mut im, roots, n, n);
                    store_row::<F>(&re, &im, out, twist, row, length, valid, n);
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
        put_affine::<F>(parts, &affine, &mut re, h * groups as usize + group);
    }
}

/// Replaces y in shared memory by its gradient, ready for the transform; adds the terms of scale and shift to `affine`.
#[cube]
fn row_grad<F: Float>(
    re: &mut SharedMemory<F>,
    im: &mut SharedMemory<F>,
    fire: &Fire<F>,
    g: &Array<F>,
    twist: &Array<F>,
    affine: &mut ChannelAffine<F>,
    h: usize,
    row: usize,
    length: usize,
    #[comptime] n: usize,
) {
    let mut t = UNIT_POS as usize;
    let mut places = fire.start((row * length + t) as u32);
    while t < n {
        let mut gy = F::new(0.0);
        if t < length {
            let y = lower::<F>(Complex::<F> { re: re[t], im: im[t] }, twist, t, n);
            let at = row * length + t;
            let grads = fire.gradients(y, g[at], &places, h as u32, row as u32, at as u32);
            gy = grads.y;
            affine.scale += grads.scale;
            affine.shift += grads.shift;
            fire.stride(&mut places);
        }
        let z = lift::<F>(gy, twist, t, n);
        re[t] = z.re;
        im[t] = z.im;
        t += CUBE_DIM as usize;
    }
    sync_cube();
}

/// Writes a row out of shared memory, 0 from `valid` on.
#[cube]
fn store_row<F: Float>(
    re: &SharedMemory<F>,
    im: &SharedMemory<F>,
    out: &mut Array<F>,
    twist: &Array<F>,
    row: usize,
    length: usize,
    valid: usize,
    #[comptime] n: usize,
) {
    let mut t = UNIT_POS as usize;
    while t < length {
        let x = lower::<F>(Complex::<F> { re: re[t], im: im[t] }, twist, t, n);
        out[row * length + t] = select(t < valid, x, F::new(0.0));
        t += CUBE_DIM as usize;
    }
    sync_cube();
}

/// Writes a cube's share of the gradients of scale and shift.
#[cube]
fn put_affine<F: Float>(parts: &mut ComptimeOption<Array<F>>, affine: &ChannelAffine<F>, scratch: &mut SharedMemory<F>, at: usize) {
    #[comptime]
    match parts {
        ComptimeOption::Some(parts) => {
            sync_cube();
            put_sums::<F>(affine.scale, affine.shift, parts, at, scratch);
        }
        ComptimeOption::None => {}
    }
}

/// The points of a spectrum that a unit holds: UNIT_POS, UNIT_POS + units, ..
#[derive(CubeType)]
pub(crate) struct Registers<F: Float> {
    re: Array<F>,
    im: Array<F>,
}

#[cube]
pub(crate) fn clear<F: Float>(registers: &mut Registers<F>, #[comptime] per: usize) {
    #[unroll]
    for k in 0..per {
        registers.re[k] = F::new(0.0);
        registers.im[k] = F::new(0.0);
    }
}

/// Takes a spectrum from shared memory.
#[cube]
pub(crate) fn keep<F: Float>(
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
pub(crate) fn correlate<F: Float>(
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
pub(crate) fn put<F: Float>(
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
            let i = min(m, n - 1);
            let ends = Ends::<F> { front: complex::<F>(re[i], im[i]), back: complex::<F>(re[n - 1 - i], im[n - 1 - i]) };
            put_kernel_grads::<F>(out, skip, twist, &ends, h, m, sizes, kernels, n);
            m += CUBE_DIM as usize;
        }
    }
}

/// A long convolution with what its launches need: the plan of the transform, true lengths, tables.
pub(crate) struct Convolver<'a, R: Runtime, E: Scalar> {
    pub cube: &'a Cube<R, E>,
    pub method: &'static str,
    pub conv: LongConv<'a, Cube<R, E>>,
    pub plan: Plan,
    /// The true lengths, and L for every sequence.
    pub lengths: Buffer,
    pub whole: Buffer,
    pub roots: Buffer,
    pub twist: Buffer,
}

/// A firing, and whether the gradients of scale and shift are wanted.
type FiringSums<'a, 'b, B> = (&'a Firing<&'b Tensor<B>>, [bool; 2]);

impl<'a, R: Runtime, E: Scalar> Convolver<'a, R, E> {
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
        Ok(Convolver { cube, method, conv, plan, lengths, whole, roots: cube.roots(plan.block)?, twist })
    }

    /// (B, H, L).
    pub fn shape(&self) -> [usize; 3] {
        [0, 1, 2].map(|axis| self.conv.input.shape()[axis])
    }

    pub fn sizes(&self) -> RowSizesLaunch<R> {
        self.chunk((0, self.shape()[0]))
    }

    pub fn chunk(&self, (first, batch): (usize, usize)) -> RowSizesLaunch<R> {
        let [_, channels, length] = self.shape().map(|size| size as u32);
        RowSizesLaunch::new(batch as u32, channels, length, first as u32)
    }

    pub fn kernel_sizes(&self) -> KernelSizesLaunch<R> {
        let ([_, channels, length], len) = (self.shape(), self.conv.kernel.shape()[2]);
        KernelSizesLaunch::new(channels as u32, len as u32, len.min(length) as u32, len.min(length - 1) as u32)
    }

    /// c.
    pub fn kernels(&self) -> usize {
        self.conv.kernel.shape()[0]
    }

    pub fn units(&self) -> CubeDim {
        CubeDim::new_1d(self.plan.units as u32)
    }

    pub fn skip(&self) -> ComptimeOptionArgs<Array<E>, R> {
        self.conv.skip.map(arg).into()
    }

    /// The spectra (2, H, n) of the kernels, D among them.
    fn spectra(&self) -> Result<Buffer> {
        let ([_, channels, _], cube) = (self.shape(), self.cube);
        let out = cube.buffer(self.method, 2 * channels * self.plan.n, size_of::<E>())?;
        kernel_spectra::launch::<E, R>(
            cube.client(),
            cube.cubes(channels),
            self.units(),
            arg(self.conv.kernel),
            self.skip(),
            out.arg(),
            self.roots.arg(),
            self.twist.arg(),
            self.kernel_sizes(),
            self.kernels(),
            self.plan.n,
        );
        Ok(out)
    }

    /// y (B, H, L), or the spikes of a firing: a row in a cube.
    pub fn run(&self, firing: Option<&Firing<&Tensor<Cube<R, E>>>>) -> Result<Tensor<Cube<R, E>>> {
        let (cube, shape) = (self.cube, self.shape());
        let (out, spectra) = (cube.alloc(self.method, self.conv.input.shape())?, self.spectra()?);
        let fire = firing.map(|firing| fire_arg(cube, firing, shape, self.plan.units, false)).transpose()?;
        convolve::launch::<E, R>(
            cube.client(),
            cube.cubes(shape[0] * shape[1]),
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
        Ok(out)
    }

    /// Gradients of input, kernel, skip, and of a firing's scale and shift: a row in a cube.
    pub fn grad(
        &self,
        g: &Tensor<Cube<R, E>>,
        needs: Needs,
        firing: Option<FiringSums<'_, '_, Cube<R, E>>>,
    ) -> Result<Grads<Cube<R, E>, 5>> {
        let (cube, conv) = (self.cube, &self.conv);
        let [batch, channels, _] = self.shape();
        let (groups, size) = (CUBES.div_ceil(channels).min(batch), size_of::<E>());
        let spectra = if needs.input || firing.is_some() { self.spectra()? } else { self.twist.clone() };
        let input = cube.alloc_if(needs.input, self.method, conv.input.shape())?;
        let sums = needs.spectra().then(|| cube.buffer(self.method, 2 * groups * channels * self.plan.n, size)).transpose()?;
        let wanted = firing.map_or([false; 2], |(_, wanted)| wanted);
        let parts = cube.alloc_if(wanted[0] || wanted[1], self.method, &[2, channels, groups])?;
        let fire = firing.map(|(firing, _)| fire_arg(cube, firing, self.shape(), self.plan.units, true)).transpose()?;
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
    fn kernel_grad(&self, sums: &Buffer, groups: usize, needs: Needs) -> Result<Grads<Cube<R, E>, 2>> {
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
}

pub(crate) fn long_conv<R: Runtime, E: Scalar>(cube: &Cube<R, E>, conv: LongConv<'_, Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
    let convolver = Convolver::new(cube, "long_conv", conv)?;
    if convolver.plan.fits() { convolver.run(None) } else { convolver.run_wide() }
}

pub(crate) fn long_conv_grad<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    conv: LongConv<'_, Cube<R, E>>,
    g: &Tensor<Cube<R, E>>,
    needs: [bool; 3],
) -> Result<Grads<Cube<R, E>, 3>> {
    let convolver = Convolver::new(cube, "long_conv_grad", conv)?;
    let needs = Needs { input: needs[0], kernel: needs[1], skip: needs[2] && conv.skip.is_some() };
    if convolver.plan.fits() {
        let [input, kernel, skip, _, _] = convolver.grad(g, needs, None)?;
        return Ok([input, kernel, skip]);
    }
    convolver.grad_wide(g, needs)
}
