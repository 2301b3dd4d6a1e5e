//! The kernel of a diagonal-plus-low-rank (DPLR) SSM and its gradient, from the stored parameters and back to them.
//!
//! As in the CPU backend (`cpu/ssm/dplr.rs`), the kernel of length Lk is the inverse FFT of its generating function with
//! C~ = C (I - Abar^Lk) in the place of C. `dplr_spectra` has that function and its adjoint; this file makes the factors of its products,
//! takes the FFT, and turns gradients of the factors into those of the parameters.

#![allow(clippy::too_many_arguments, reason = "kernels take their arrays and sizes one by one")]

use cubecl::prelude::*;

use super::dplr_spectra::{DplrVariant, fill_kernel, grad_kernel};
use super::system::{SystemGrads, gather, grad_planes, step_size, step_slope};
use crate::backend::cube::complex::{Complex, complex, conj, load, mul, store};
use crate::backend::cube::double_float::{self, split};
use crate::backend::cube::products::fft;
use crate::backend::cube::storage::{Buffer, arg};
use crate::backend::cube::{Cube, Scalar};
use crate::backend::{DtTransform, SsmParams, Tensor, shape::Ssm};
use crate::error::Result;

/// Units of a cube in f32; in f64 there are half as many.
const UNITS: usize = 256;

/// One unit for every mode (h, n) of every channel: its planes, in the order of [`DplrVariant::planes`].
#[cube(launch)]
fn factor_kernel<F: Float>(
    inv_dt: &Array<F>,
    a_real: &Array<F>,
    a_imag: &Array<F>,
    b: &Array<F>,
    c: &Array<F>,
    p: &Array<F>,
    factors: &mut Array<F>,
    d_model: u32,
    n_ssm: u32,
    half: u32,
    #[comptime] variant: DplrVariant,
) {
    let unit = ABSOLUTE_POS as u32;
    let plane = d_model * half;
    if unit < plane {
        let h = unit / half;
        let stored = (h % n_ssm) * half + unit % half;
        let copies = n_ssm * half;
        let inv_dt = inv_dt[h as usize];
        let dt_pair = step_size::<F>(inv_dt, comptime!(variant.softplus));
        let dt = double_float::value::<F>(dt_pair);
        let rate = double_float::exp::<F>(double_float::pair::<F>(a_real[stored as usize]));
        // Im A = -a_imag: the conjugate mode is taken where that is below 0.
        let angular = a_imag[stored as usize];
        let sign = select(angular < F::new(0.0), F::new(1.0), F::new(-1.0));
        let omega = double_float::product::<F>(dt_pair, double_float::pair::<F>(angular.abs()));
        factors[unit as usize] = omega.hi;
        factors[(unit + plane) as usize] = omega.lo;
        factors[(unit + 2u32 * plane) as usize] = double_float::value::<F>(double_float::product::<F>(dt_pair, rate));

        let mut at = unit + 3u32 * plane;
        let z = load::<F>(b, stored, copies);
        store::<F>(factors, at, plane, complex::<F>(z.re * dt, z.im * sign * dt));
        at += 2u32 * plane;
        #[unroll]
        for k in 0..comptime!(variant.rank as u32) {
            let z = load::<F>(p, k * copies + stored, comptime!(variant.rank as u32) * copies);
            store::<F>(factors, at, plane, complex::<F>(z.re * dt, z.im * sign * dt));
            at += 2u32 * plane;
        }
        #[unroll]
        for k in 0..comptime!(variant.channels as u32) {
            let z = load::<F>(c, k * plane + unit, comptime!(variant.channels as u32) * plane);
            store::<F>(factors, at, plane, complex::<F>(z.re, z.im * sign));
            at += 2u32 * plane;
        }
        #[unroll]
        for k in 0..comptime!(variant.rank as u32) {
            let z = load::<F>(p, k * copies + stored, comptime!(variant.rank as u32) * copies);
            store::<F>(factors, at, plane, complex::<F>(z.re, -(z.im * sign)));
            at += 2u32 * plane;
        }
        factors[at as usize] = dt;
        factors[(at + plane) as usize] = step_slope::<F>(inv_dt, dt, comptime!(variant.softplus));
        factors[(at + 2u32 * plane) as usize] = sign;
    }
}

/// The sum of the tiles' parts of complex sum `k`.
#[cube]
fn total<F: Float>(
    parts: &Array<F>,
    unit: u32,
    plane: u32,
    tiles: u32,
    #[comptime] k: usize,
    #[comptime] variant: DplrVariant,
) -> Complex<F> {
    let mut re = F::new(0.0);
    let mut im = F::new(0.0);
    for tile in 0..tiles {
        let at = (tile * comptime!(variant.sums() as u32) + comptime!(2 * k as u32)) * plane + unit;
        re += parts[at as usize];
        im += parts[(at + plane) as usize];
    }
    complex::<F>(re, im)
}

/// One unit for every mode (h, n): the planes of [`SystemGrads`] and the gradient of C from the tiles' parts of the factors' row gradients.
#[cube(launch)]
fn system_grad_kernel<F: Float>(
    factors: &Array<F>,
    parts: &Array<F>,
    planes: &mut Array<F>,
    c_grad: &mut Array<F>,
    d_model: u32,
    half: u32,
    tiles: u32,
    #[comptime] variant: DplrVariant,
) {
    let unit = ABSOLUTE_POS as u32;
    let plane = d_model * half;
    if unit < plane {
        let two = 2u32 * plane;
        let scalars = unit + comptime!(3 + 2 * (variant.rows() + variant.cols()) as u32) * plane;
        let dt = factors[scalars as usize];
        let sign = factors[(scalars + two) as usize];
        let rho = factors[(unit + two) as usize];
        let omega = factors[unit as usize] + factors[(unit + plane) as usize];

        let by_a = total::<F>(parts, unit, plane, tiles, comptime!(variant.rows() + variant.cols()), variant);
        // a, x_B and x_P are all proportional to dt.
        let mut growth = -(by_a.re * rho) - by_a.im * omega;
        // dRe A / da_real = Re A, and omega = dt |a_imag|.
        planes[unit as usize] = -(by_a.re * rho);
        planes[(unit + plane) as usize] = by_a.im * dt * sign;
        let by_b = total::<F>(parts, unit, plane, tiles, 0usize, variant);
        growth += mul::<F>(by_b, load::<F>(factors, unit + 3u32 * plane, plane)).re;
        // Row gradients, dL = Re(. dz): their conjugates are what is stored.
        store::<F>(planes, unit + two, plane, complex::<F>(by_b.re * dt, -(by_b.im * dt * sign)));
        #[unroll]
        for k in 0..variant.rank {
            let by_row = total::<F>(parts, unit, plane, tiles, comptime!(1 + k), variant);
            growth += mul::<F>(by_row, load::<F>(factors, unit + comptime!(5 + 2 * k as u32) * plane, plane)).re;
            let by_column = conj::<F>(total::<F>(parts, unit, plane, tiles, comptime!(variant.rows() + variant.channels + k), variant));
            let z = complex::<F>(by_row.re * dt + by_column.re, -((by_row.im * dt + by_column.im) * sign));
            store::<F>(planes, unit + comptime!(4 + k as u32) * plane, comptime!(variant.rank as u32) * plane, z);
        }
        #[unroll]
        for c in 0..variant.channels {
            let z = total::<F>(parts, unit, plane, tiles, comptime!(variant.rows() + c), variant);
            let to = comptime!(c as u32) * plane + unit;
            store::<F>(c_grad, to, comptime!(variant.channels as u32) * plane, complex::<F>(z.re, -(z.im * sign)));
        }
        planes[(unit + comptime!(4 + 2 * variant.rank as u32) * plane) as usize] = growth / dt * factors[(scalars + plane) as usize];
    }
}

/// Rows of length `from` cut or filled with zeros to length `to`.
#[cube(launch)]
fn resize_kernel<F: Float>(x: &Array<F>, out: &mut Array<F>, from: u32, to: u32) {
    if ABSOLUTE_POS < out.len() {
        let i = ABSOLUTE_POS as u32;
        let mut value = F::new(0.0);
        if i % to < from {
            value = x[(i / to * from + i % to) as usize];
        }
        out[ABSOLUTE_POS] = value;
    }
}

fn resize<R: Runtime, E: Scalar>(cube: &Cube<R, E>, x: Tensor<Cube<R, E>>, to: usize) -> Result<Tensor<Cube<R, E>>> {
    let [channels, d_model, from] = [x.shape()[0], x.shape()[1], x.shape()[2]];
    if from == to {
        return Ok(x);
    }
    let out = cube.alloc("dplr_kernel", &[channels, d_model, to])?;
    let (cubes, units) = cube.units(out.numel());
    resize_kernel::launch::<E, R>(cube.client(), cubes, units, arg(&x), arg(&out), from as u32, to as u32);
    Ok(out)
}

/// One system of kernels of length `len` on the device: the factors of its products, and the frequencies.
struct Spectra<R: Runtime, E: Scalar> {
    sizes: Ssm,
    variant: DplrVariant,
    len: usize,
    factors: Tensor<Cube<R, E>>,
    grid: Buffer,
    /// Units of a cube, one for each frequency of a tile.
    units: usize,
}

impl<R: Runtime, E: Scalar> Spectra<R, E> {
    fn new(cube: &Cube<R, E>, ssm: &SsmParams<Tensor<Cube<R, E>>>, len: usize) -> Result<Self> {
        let sizes = ssm.sizes("dplr_kernel")?;
        let Ssm { d_model, n_ssm, half_state, rank, channels } = sizes;
        let variant = DplrVariant { rank, channels, softplus: ssm.dt == DtTransform::Softplus };
        let factors = cube.alloc("dplr_kernel", &[variant.planes(), d_model, half_state])?;
        let (cubes, units) = cube.units(d_model * half_state);
        let p = ssm.p.as_ref().unwrap_or(&ssm.b);
        factor_kernel::launch::<E, R>(
            cube.client(),
            cubes,
            units,
            arg(&ssm.inv_dt),
            arg(&ssm.a_real),
            arg(&ssm.a_imag),
            arg(&ssm.b),
            arg(&ssm.c),
            arg(p),
            arg(&factors),
            d_model as u32,
            n_ssm as u32,
            half_state as u32,
            variant,
        );
        let grid = cube.table("dplr_grid", &[len], || grid(len))?;
        let units = cube.limits().units_up_to(UNITS * 4 / size_of::<E>());
        Ok(Spectra { sizes, variant, len, factors, grid, units })
    }

    fn bins(&self) -> usize {
        self.len / 2 + 1
    }

    /// Tiles of a channel's frequencies.
    fn tiles(&self) -> usize {
        self.bins().div_ceil(self.units)
    }

    /// The spectra of the kernels, planar (2, c, H, bins).
    fn fill(&self, cube: &Cube<R, E>) -> Result<Tensor<Cube<R, E>>> {
        let Ssm { d_model, half_state, channels, .. } = self.sizes;
        let spectra = cube.alloc("dplr_kernel", &[2, channels, d_model, self.bins()])?;
        fill_kernel::launch::<E, R>(
            cube.client(),
            cube.cubes(d_model * self.tiles()),
            CubeDim::new_1d(self.units as u32),
            arg(&self.factors),
            self.grid.arg(),
            arg(&spectra),
            d_model as u32,
            half_state as u32,
            self.bins() as u32,
            self.tiles() as u32,
            self.variant,
        );
        Ok(spectra)
    }

    /// From the spectra of the kernels' gradients to the channels' gradients.
    fn grad(&self, cube: &Cube<R, E>, spectra: &Tensor<Cube<R, E>>) -> Result<SystemGrads<R, E>> {
        const OP: &str = "dplr_kernel_grad";
        let Ssm { d_model, half_state, channels, rank, .. } = self.sizes;
        let parts = cube.alloc(OP, &[self.tiles(), self.variant.sums(), d_model, half_state])?;
        grad_kernel::launch::<E, R>(
            cube.client(),
            cube.cubes(d_model * self.tiles()),
            CubeDim::new_1d(self.units as u32),
            arg(&self.factors),
            self.grid.arg(),
            arg(spectra),
            arg(&parts),
            d_model as u32,
            half_state as u32,
            self.bins() as u32,
            self.len as u32,
            self.tiles() as u32,
            self.variant,
            self.units,
        );
        let planes = cube.alloc(OP, &[grad_planes(rank), d_model, half_state])?;
        let c = cube.alloc(OP, &[2, channels, d_model, half_state])?;
        let (cubes, units) = cube.units(d_model * half_state);
        system_grad_kernel::launch::<E, R>(
            cube.client(),
            cubes,
            units,
            arg(&self.factors),
            arg(&parts),
            arg(&planes),
            arg(&c),
            d_model as u32,
            half_state as u32,
            self.tiles() as u32,
            self.variant,
        );
        Ok(SystemGrads { planes, c })
    }
}

/// chord and cosine of the frequencies 0..=len/2, as pairs: (chord hi, lo, cosine hi, lo) of all of them.
fn grid(len: usize) -> Vec<f64> {
    // The cosine as the sine of the complement: exactly 0 at w = -1. A rounded 0 would leave a pole there.
    let sine = |quarters: usize| (quarters as f64 * std::f64::consts::FRAC_PI_2 / len as f64).sin();
    let bins = 0..len / 2 + 1;
    let chord: Vec<[f64; 2]> = bins.clone().map(|j| split(2.0 * sine(2 * j))).collect();
    let cosine: Vec<[f64; 2]> = bins.map(|j| split(sine(len - 2 * j))).collect();
    [&chord, &cosine].into_iter().flat_map(|pairs| [0, 1].map(|part| pairs.iter().map(move |pair| pair[part]))).flatten().collect()
}

/// The first `take` entries of the kernels, (c, H, take); `ssm.c` is C~ of length `len`.
pub(crate) fn kernel<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    ssm: &SsmParams<Tensor<Cube<R, E>>>,
    len: usize,
    take: usize,
) -> Result<Tensor<Cube<R, E>>> {
    let spectra = Spectra::new(cube, ssm, len)?.fill(cube)?;
    resize(cube, fft::irfft(cube, &spectra, len)?, take)
}

pub(crate) fn kernel_grad<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    ssm: &SsmParams<Tensor<Cube<R, E>>>,
    len: usize,
    g: &Tensor<Cube<R, E>>,
) -> Result<SsmParams<Tensor<Cube<R, E>>>> {
    let spectra = Spectra::new(cube, ssm, len)?;
    let of_g = fft::rfft(cube, &resize(cube, g.clone(), len)?)?;
    gather(cube, ssm, spectra.sizes, spectra.grad(cube, &of_g)?)
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use crate::backend::*;
    use crate::nn::hippo::Measure;
    use crate::nn::{SsmConfig, SsmInit, ssm::SsmKernel};

    /// The largest difference, relative to the largest entry of `want`; that of a P of 0 has gradients of 0, without a scale.
    fn error(got: &[f32], want: &[f64]) -> f64 {
        assert!(got.iter().all(|x| x.is_finite()), "{got:?}");
        let scale = want.iter().fold(0.0f64, |max, x| max.max(x.abs()));
        let apart = got.iter().zip(want).fold(0.0f64, |max, (x, y)| max.max((f64::from(*x) - y).abs()));
        if apart == 0.0 { 0.0 } else { apart / scale }
    }

    #[test]
    fn single_precision_holds_without_damping() {
        let (cube, cpu, len) = (Wgpu::new().expect("a device"), Cpu::<f64>::new(), 784);
        for measure in Measure::ALL {
            let config = SsmConfig { init: SsmInit::Dplr(measure), ..SsmConfig::new(3, 64) };
            let kernel = SsmKernel::new(&cpu, Key::new(5), &config).unwrap();
            kernel.prepare(&cpu, len).unwrap();
            let narrow = |x: &Tensor<Cpu<f64>>| cpu.to_vec(x).unwrap().into_iter().map(|x| x as f32).collect::<Vec<f32>>();
            let here = kernel.params().map(|x| cube.from_vec(narrow(&x), x.shape()).unwrap());
            let doubled = |x: &Tensor<Wgpu>| cube.to_vec(x).unwrap().into_iter().map(f64::from).collect();
            let wide = here.as_ref().map(|x| cpu.from_vec(doubled(x), x.shape()).unwrap());

            let got = cube.to_vec(&cube.dplr_kernel(&here, len, len).unwrap()).unwrap();
            let want = cpu.to_vec(&cpu.dplr_kernel(&wide, len, len).unwrap()).unwrap();
            assert!(error(&got, &want) < 2e-6, "{measure:?}: {:e}", error(&got, &want));

            let g: Vec<f64> = (0..want.len()).map(|i| f64::from(((i * i) as f32 * 0.3).cos())).collect();
            let g_here = cube.from_vec(g.iter().map(|g| *g as f32).collect(), &[2, 3, len]).unwrap();
            let got = cube.dplr_kernel_grad(&here, len, &g_here).unwrap();
            let want = cpu.dplr_kernel_grad(&wide, len, &cpu.from_vec(g, &[2, 3, len]).unwrap()).unwrap();
            for (i, (got, want)) in got.as_ref().in_order().zip(want.as_ref().in_order()).enumerate() {
                let error = error(&cube.to_vec(got).unwrap(), &cpu.to_vec(want).unwrap());
                assert!(error < 5e-6, "{measure:?}, parameter {i}: {error:e}");
            }
        }
    }
}
