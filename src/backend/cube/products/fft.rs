//! Fourier transforms: stages of powers of two within a cube or over the device's memory, and on them real transforms of any length.
//!
//! Forward transforms decimate in frequency and leave the spectrum in bit-reversed order; inverse transforms start from that order, which
//! is all that pointwise products between them need. A transform that fits in a cube's shared memory is one kernel. Of a longer one, the
//! upper stages run in the device's memory, and the rest block by block in cubes. A real transform of a length that is no power of two is
//! Bluestein's convolution with a chirp (Bluestein 1970), its tables made in f64.

#![allow(clippy::too_many_arguments, reason = "kernels take their arrays and sizes one by one")]

use cubecl::prelude::*;
use rustfft::{FftPlanner, num_complex::Complex64, num_traits::Zero};

use crate::backend::Tensor;
use crate::backend::cube::complex::{Complex, complex, mul, scale as times};
use crate::backend::cube::storage::arg;
use crate::backend::cube::{Buffer, Cube, Scalar};
use crate::error::{Error, Result};

/// Stages that a unit computes in its registers before it writes back.
const STAGES: usize = 3;
/// Values of a transform for each unit of a cube.
pub(crate) const PER_UNIT: usize = 8;
/// The most units for one transform.
const MOST_UNITS: usize = 1024;

/// How a transform of a power of two of points is spread over the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Points.
    pub n: usize,
    /// Points of the blocks that cubes hold in shared memory.
    pub block: usize,
    /// Units of such a cube.
    pub units: usize,
}

impl Plan {
    /// One cube holds it all.
    pub fn fits(&self) -> bool {
        self.n == self.block
    }
}

impl<R: Runtime, E: Scalar> Cube<R, E> {
    /// The plan for `n` points, a power of two.
    pub(crate) fn plan(&self, n: usize) -> Plan {
        let limits = self.limits();
        let held = limits.shared_bytes / (2 * size_of::<E>());
        // Registers hold PER_UNIT values, and not more.
        let most = PER_UNIT * limits.units_up_to(MOST_UNITS);
        let block = n.min(1 << held.min(most).ilog2());
        Plan { n, block, units: limits.units_up_to((block / PER_UNIT).max(32)) }
    }

    /// e^(-2 pi i k / n) for k < n / 2, planar.
    pub(crate) fn roots(&self, n: usize) -> Result<Buffer> {
        self.table("roots", &[n], || planar((0..n / 2).map(|k| unit_circle(-(k as f64) / n as f64))))
    }
}

/// e^(2 pi i turn).
pub(crate) fn unit_circle(turn: f64) -> Complex64 {
    Complex64::from_polar(1.0, std::f64::consts::TAU * turn)
}

/// Real parts, then imaginary parts.
pub(crate) fn planar(values: impl Iterator<Item = Complex64> + Clone) -> Vec<f64> {
    values.clone().map(|z| z.re).chain(values.map(|z| z.im)).collect()
}

/// Stages `step..` of the `bits` stages that join the values at `base + m stride`, held in registers; `j` is the place in the first one.
#[cube]
fn butterflies<F: Float>(
    re: &mut Array<F>,
    im: &mut Array<F>,
    roots: &Array<F>,
    j: usize,
    #[comptime] n: usize,
    #[comptime] span: usize,
    #[comptime] bits: usize,
    #[comptime] step: usize,
    #[comptime] inverse: bool,
) {
    if comptime!(step < bits) {
        let stage = comptime!(if inverse { bits - 1 - step } else { step });
        let half = comptime!((1usize << bits) >> (stage + 1));
        let blocks = comptime!(1usize << stage);
        let stride = comptime!(span >> bits);
        let scale = comptime!((n / span) << stage);
        #[unroll]
        for p in 0..half {
            let k = (j + p * stride) * scale;
            let w_re = roots[k];
            let w_im = if comptime!(inverse) { -roots[k + comptime!(n / 2)] } else { roots[k + comptime!(n / 2)] };
            #[unroll]
            for block in 0..blocks {
                let a = block * comptime!(2 * half) + p;
                let b = a + half;
                if comptime!(inverse) {
                    let t_re = re[b] * w_re - im[b] * w_im;
                    let t_im = re[b] * w_im + im[b] * w_re;
                    re[b] = re[a] - t_re;
                    im[b] = im[a] - t_im;
                    re[a] = re[a] + t_re;
                    im[a] = im[a] + t_im;
                } else {
                    let t_re = re[a] - re[b];
                    let t_im = im[a] - im[b];
                    re[a] = re[a] + re[b];
                    im[a] = im[a] + im[b];
                    re[b] = t_re * w_re - t_im * w_im;
                    im[b] = t_re * w_im + t_im * w_re;
                }
            }
        }
        butterflies::<F>(re, im, roots, j, n, span, bits, comptime!(step + 1), inverse);
    }
}

/// `bits` stages of blocks of `span` points in shared memory, all units together.
#[cube]
fn pass<F: Float>(
    re: &mut SharedMemory<F>,
    im: &mut SharedMemory<F>,
    roots: &Array<F>,
    #[comptime] n: usize,
    #[comptime] span: usize,
    #[comptime] bits: usize,
    #[comptime] inverse: bool,
) {
    let width = comptime!(1usize << bits);
    let stride = comptime!(span >> bits);
    let mut x_re = Array::<F>::new(width);
    let mut x_im = Array::<F>::new(width);
    let mut group = UNIT_POS as usize;
    while group < comptime!(n >> bits) {
        let j = group % stride;
        let base = (group / stride) * span + j;
        #[unroll]
        for m in 0..width {
            x_re[m] = re[base + m * stride];
            x_im[m] = im[base + m * stride];
        }
        butterflies::<F>(&mut x_re, &mut x_im, roots, j, n, span, bits, 0usize, inverse);
        #[unroll]
        for m in 0..width {
            re[base + m * stride] = x_re[m];
            im[base + m * stride] = x_im[m];
        }
        group += CUBE_DIM as usize;
    }
    sync_cube();
}

/// Transforms what is in shared memory, beginning with blocks of `span` points; the caller has synchronised the units.
#[cube]
pub(crate) fn forward<F: Float>(
    re: &mut SharedMemory<F>,
    im: &mut SharedMemory<F>,
    roots: &Array<F>,
    #[comptime] n: usize,
    #[comptime] span: usize,
) {
    if comptime!(span > 1) {
        let bits = comptime!((span.ilog2() as usize).min(STAGES));
        pass::<F>(re, im, roots, n, span, bits, false);
        forward::<F>(re, im, roots, n, comptime!(span >> bits));
    }
}

/// Its inverse, without the division by n.
#[cube]
pub(crate) fn inverse<F: Float>(
    re: &mut SharedMemory<F>,
    im: &mut SharedMemory<F>,
    roots: &Array<F>,
    #[comptime] n: usize,
    #[comptime] span: usize,
) {
    if comptime!(span > 1) {
        let bits = comptime!((span.ilog2() as usize).min(STAGES));
        inverse::<F>(re, im, roots, n, comptime!(span >> bits));
        pass::<F>(re, im, roots, n, span, bits, true);
    }
}

/// `bits` stages of blocks of `span` points in the rows of `work` (2, rows, n), in the device's memory: a unit for every group of points.
#[cube(launch)]
fn wide_pass<F: Float>(
    work: &mut Array<F>,
    roots: &Array<F>,
    rows: u32,
    #[comptime] n: usize,
    #[comptime] span: usize,
    #[comptime] bits: usize,
    #[comptime] inverse: bool,
) {
    let groups = comptime!(n >> bits);
    let plane = rows as usize * n;
    let row = ABSOLUTE_POS / groups;
    if row < rows as usize {
        let width = comptime!(1usize << bits);
        let stride = comptime!(span >> bits);
        let group = ABSOLUTE_POS % groups;
        let j = group % stride;
        let base = row * n + (group / stride) * span + j;
        let mut x_re = Array::<F>::new(width);
        let mut x_im = Array::<F>::new(width);
        #[unroll]
        for m in 0..width {
            x_re[m] = work[base + m * stride];
            x_im[m] = work[plane + base + m * stride];
        }
        butterflies::<F>(&mut x_re, &mut x_im, roots, j, n, span, bits, 0usize, inverse);
        #[unroll]
        for m in 0..width {
            work[base + m * stride] = x_re[m];
            work[plane + base + m * stride] = x_im[m];
        }
    }
}

/// What happens to a block in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Middle {
    /// The rest of the forward transform.
    Forward,
    /// That, the product with a spectrum, and the first stages of the inverse.
    Multiply,
    /// The same with the spectrum's conjugate.
    MultiplyConjugate,
    /// The first stages of the inverse.
    Inverse,
}

/// A cube for every block of the rows of `work` (2, rows, n); row r meets row r % kinds of `spectra` (2, kinds, n).
#[cube(launch)]
fn blocks<F: Float>(
    work: &mut Array<F>,
    spectra: &Array<F>,
    roots: &Array<F>,
    rows: u32,
    kinds: u32,
    #[comptime] n: usize,
    #[comptime] block: usize,
    #[comptime] middle: Middle,
) {
    let mut re = SharedMemory::<F>::new(block);
    let mut im = SharedMemory::<F>::new(block);
    let per_row = comptime!(n / block);
    let plane = rows as usize * n;
    if CUBE_POS < rows as usize * per_row {
        let base = CUBE_POS * block;
        let mut i = UNIT_POS as usize;
        while i < block {
            re[i] = work[base + i];
            im[i] = work[plane + base + i];
            i += CUBE_DIM as usize;
        }
        sync_cube();
        if comptime!(middle != Middle::Inverse) {
            forward::<F>(&mut re, &mut im, roots, block, block);
        }
        if comptime!(middle == Middle::Multiply || middle == Middle::MultiplyConjugate) {
            let kind = (CUBE_POS / per_row) % kinds as usize;
            let at = kind * n + (CUBE_POS % per_row) * block;
            multiply::<F>(&mut re, &mut im, spectra, at, kinds as usize * n, block, comptime!(middle == Middle::MultiplyConjugate));
        }
        if comptime!(middle != Middle::Forward) {
            inverse::<F>(&mut re, &mut im, roots, block, block);
        }
        let mut i = UNIT_POS as usize;
        while i < block {
            work[base + i] = re[i];
            work[plane + base + i] = im[i];
            i += CUBE_DIM as usize;
        }
    }
}

/// Multiplies a spectrum in shared memory with the one at `at` of `spectra`, whose imaginary parts lie `plane` behind.
#[cube]
pub(crate) fn multiply<F: Float>(
    re: &mut SharedMemory<F>,
    im: &mut SharedMemory<F>,
    spectra: &Array<F>,
    at: usize,
    plane: usize,
    #[comptime] n: usize,
    #[comptime] conjugate: bool,
) {
    let mut i = UNIT_POS as usize;
    while i < n {
        let k_im = if comptime!(conjugate) { -spectra[plane + at + i] } else { spectra[plane + at + i] };
        let z = mul::<F>(complex::<F>(re[i], im[i]), complex::<F>(spectra[at + i], k_im));
        re[i] = z.re;
        im[i] = z.im;
        i += CUBE_DIM as usize;
    }
    sync_cube();
}

impl<R: Runtime, E: Scalar> Cube<R, E> {
    /// Transforms the rows of `work` (2, rows, n) in place; `spectra` (2, kinds, n) are the factors of a product.
    pub(crate) fn transform(
        &self,
        plan: Plan,
        work: &Buffer,
        rows: usize,
        middle: Middle,
        spectra: Option<(&Buffer, usize)>,
    ) -> Result<()> {
        if middle != Middle::Inverse {
            self.upper_stages(plan, work, rows, false)?;
        }
        let (spectra, kinds) = spectra.unwrap_or((work, 1));
        let cubes = self.cubes(rows * (plan.n / plan.block));
        let units = CubeDim::new_1d(plan.units as u32);
        let roots = self.roots(plan.block)?.arg();
        let (rows_, kinds) = (rows as u32, kinds as u32);
        blocks::launch::<E, R>(self.client(), cubes, units, work.arg(), spectra.arg(), roots, rows_, kinds, plan.n, plan.block, middle);
        if middle != Middle::Forward {
            self.upper_stages(plan, work, rows, true)?;
        }
        Ok(())
    }

    /// The stages of blocks that are too large for a cube.
    fn upper_stages(&self, plan: Plan, work: &Buffer, rows: usize, inverse: bool) -> Result<()> {
        let mut passes = Vec::new();
        let mut span = plan.n;
        while span > plan.block {
            let bits = ((span / plan.block).ilog2() as usize).min(STAGES);
            passes.push((span, bits));
            span >>= bits;
        }
        if inverse {
            passes.reverse();
        }
        for (span, bits) in passes {
            let (cubes, units) = self.units(rows * (plan.n >> bits));
            let roots = self.roots(plan.n)?.arg();
            wide_pass::launch::<E, R>(self.client(), cubes, units, work.arg(), roots, rows as u32, plan.n, span, bits, inverse);
        }
        Ok(())
    }
}

/// What a real transform reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Direction {
    /// Rows (rows, n) to half spectra (2, rows, n/2 + 1).
    Real,
    /// Half spectra to rows.
    Half,
}

/// Point `i` of row `row` before the transform: of the signal, or of the conjugate spectrum, whose forward transform is the conjugate of
/// the signal. Points from n on are 0. With `chirped`, points are multiplied by `chirp` (2, n).
#[cube]
fn load<F: Float>(
    x: &Array<F>,
    chirp: &Array<F>,
    row: usize,
    i: usize,
    n: usize,
    rows: usize,
    #[comptime] direction: Direction,
    #[comptime] chirped: bool,
) -> Complex<F> {
    let mut re = F::new(0.0);
    let mut im = F::new(0.0);
    if i < n {
        if comptime!(direction == Direction::Real) {
            re = x[row * n + i];
        } else {
            let bins = n / 2 + 1;
            let mirrored = i >= bins;
            let bin = select(mirrored, n - i, i);
            re = x[row * bins + bin];
            // Bins that mirror themselves are real: their imaginary parts are not read.
            if i != 0 && 2 * i != n {
                let value = x[(rows + row) * bins + bin];
                im = select(mirrored, value, -value);
            }
        }
        if comptime!(chirped) {
            let z = mul::<F>(complex::<F>(re, im), complex::<F>(chirp[i], chirp[n + i]));
            re = z.re;
            im = z.im;
        }
    }
    complex::<F>(re, im)
}

/// Writes frequency (or time step) `i` of row `row` from the transformed point.
#[cube]
fn store<F: Float>(
    out: &mut Array<F>,
    chirp: &Array<F>,
    z: Complex<F>,
    row: usize,
    i: usize,
    n: usize,
    rows: usize,
    scale: F,
    #[comptime] direction: Direction,
    #[comptime] chirped: bool,
) {
    let z = times::<F>(z, scale);
    let z = if comptime!(chirped) { mul::<F>(z, complex::<F>(chirp[i], chirp[n + i])) } else { z };
    if comptime!(direction == Direction::Real) {
        let bins = n / 2 + 1;
        if i < bins {
            out[row * bins + i] = z.re;
            out[(rows + row) * bins + i] = z.im;
        }
    } else {
        out[row * n + i] = z.re;
    }
}

/// The place of frequency `i` of `points` in bit-reversed order.
#[cube]
fn reversed(i: usize, #[comptime] points: usize) -> usize {
    let bits = comptime!(points.ilog2());
    if comptime!(bits == 0) { 0usize.runtime() } else { ((i as u32).reverse_bits() >> comptime!(32 - bits)) as usize }
}

/// A real transform in one kernel, a cube for every row. With `chirped`, its points are those of Bluestein's convolution.
#[cube(launch)]
fn whole<F: Float>(
    x: &Array<F>,
    out: &mut Array<F>,
    chirp: &Array<F>,
    spectrum: &Array<F>,
    roots: &Array<F>,
    rows: u32,
    n: u32,
    scale: InputScalar,
    #[comptime] points: usize,
    #[comptime] direction: Direction,
    #[comptime] chirped: bool,
) {
    let mut re = SharedMemory::<F>::new(points);
    let mut im = SharedMemory::<F>::new(points);
    let row = CUBE_POS;
    let n = n as usize;
    if row < rows as usize {
        let mut i = UNIT_POS as usize;
        while i < points {
            let z = load::<F>(x, chirp, row, i, n, rows as usize, direction, chirped);
            re[i] = z.re;
            im[i] = z.im;
            i += CUBE_DIM as usize;
        }
        sync_cube();
        forward::<F>(&mut re, &mut im, roots, points, points);
        if comptime!(chirped) {
            multiply::<F>(&mut re, &mut im, spectrum, 0usize, points, points, false);
            inverse::<F>(&mut re, &mut im, roots, points, points);
        }
        let mut i = UNIT_POS as usize;
        while i < n {
            let at = if comptime!(chirped) { i } else { reversed(i, points) };
            let z = Complex::<F> { re: re[at], im: im[at] };
            store::<F>(out, chirp, z, row, i, n, rows as usize, scale.get::<F>(), direction, chirped);
            i += CUBE_DIM as usize;
        }
    }
}

/// The start of a transform in the device's memory: fills `work` (2, rows, points).
#[cube(launch)]
fn spread<F: Float>(
    x: &Array<F>,
    work: &mut Array<F>,
    chirp: &Array<F>,
    rows: u32,
    n: u32,
    #[comptime] points: usize,
    #[comptime] direction: Direction,
    #[comptime] chirped: bool,
) {
    let row = ABSOLUTE_POS / points;
    if row < rows as usize {
        let z = load::<F>(x, chirp, row, ABSOLUTE_POS % points, n as usize, rows as usize, direction, chirped);
        work[ABSOLUTE_POS] = z.re;
        work[rows as usize * points + ABSOLUTE_POS] = z.im;
    }
}

/// The end of a transform in the device's memory: writes the result.
#[cube(launch)]
fn collect<F: Float>(
    work: &Array<F>,
    out: &mut Array<F>,
    chirp: &Array<F>,
    rows: u32,
    n: u32,
    scale: InputScalar,
    #[comptime] points: usize,
    #[comptime] direction: Direction,
    #[comptime] chirped: bool,
) {
    let rows = rows as usize;
    let n = n as usize;
    let row = ABSOLUTE_POS / n;
    if row < rows {
        let i = ABSOLUTE_POS % n;
        let at = row * points + if comptime!(chirped) { i } else { reversed(i, points) };
        let z = Complex::<F> { re: work[at], im: work[rows * points + at] };
        store::<F>(out, chirp, z, row, i, n, rows, scale.get::<F>(), direction, chirped);
    }
}

pub(crate) fn rfft<R: Runtime, E: Scalar>(cube: &Cube<R, E>, x: &Tensor<Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
    let Some((&n, outer)) = x.shape().split_last() else { return Ok(x.clone()) };
    let out = cube.alloc("rfft", &[&[2], outer, &[n / 2 + 1]].concat())?;
    real("rfft", cube, x, &out, [outer.iter().product(), n], Direction::Real)?;
    Ok(out)
}

pub(crate) fn irfft<R: Runtime, E: Scalar>(cube: &Cube<R, E>, x: &Tensor<Cube<R, E>>, n: usize) -> Result<Tensor<Cube<R, E>>> {
    let outer = &x.shape()[1..x.rank() - 1];
    let out = cube.alloc("irfft", &[outer, &[n]].concat())?;
    real("irfft", cube, x, &out, [outer.iter().product(), n], Direction::Half)?;
    Ok(out)
}

/// The longest transform: positions in longer ones would not fit the tables.
const LONGEST: usize = 1 << 24;

fn real<R: Runtime, E: Scalar>(
    method: &'static str,
    cube: &Cube<R, E>,
    x: &Tensor<Cube<R, E>>,
    out: &Tensor<Cube<R, E>>,
    [rows, n]: [usize; 2],
    direction: Direction,
) -> Result<()> {
    if out.numel() == 0 {
        return Ok(());
    }
    if n > LONGEST {
        return Err(Error::Device { method, help: format!("length {n} is beyond {LONGEST}, the longest transform here") });
    }
    let chirped = !n.is_power_of_two();
    let plan = cube.plan(if chirped { (2 * n - 1).next_power_of_two() } else { n });
    let [chirp, spectrum] = if chirped { chirp_tables(cube, n, plan.n)? } else { [cube.roots(2)?, cube.roots(2)?] };
    let scale = if direction == Direction::Half { 1.0 / n as f64 } else { 1.0 };
    let scale = cube.scalar(if chirped { scale / plan.n as f64 } else { scale });
    let (rows_, n_) = (rows as u32, n as u32);
    if plan.fits() {
        let (cubes, units, roots) = (cube.cubes(rows), CubeDim::new_1d(plan.units as u32), cube.roots(plan.n)?.arg());
        let (chirp, spectrum) = (chirp.arg(), spectrum.arg());
        whole::launch::<E, R>(
            cube.client(),
            cubes,
            units,
            arg(x),
            arg(out),
            chirp,
            spectrum,
            roots,
            rows_,
            n_,
            scale,
            plan.n,
            direction,
            chirped,
        );
        return Ok(());
    }
    let work = cube.buffer(method, 2 * rows * plan.n, size_of::<E>())?;
    let (cubes, units) = cube.units(rows * plan.n);
    spread::launch::<E, R>(cube.client(), cubes, units, arg(x), work.arg(), chirp.arg(), rows_, n_, plan.n, direction, chirped);
    let middle = if chirped { Middle::Multiply } else { Middle::Forward };
    cube.transform(plan, &work, rows, middle, Some((&spectrum, 1)))?;
    let (cubes, units) = cube.units(rows * n);
    let chirp = chirp.arg();
    collect::launch::<E, R>(cube.client(), cubes, units, work.arg(), arg(out), chirp, rows_, n_, scale, plan.n, direction, chirped);
    Ok(())
}

/// e^(-i pi j^2 / n), (2, n), and the spectrum of its conjugate around 0, (2, points) in bit-reversed order.
fn chirp_tables<R: Runtime, E: Scalar>(cube: &Cube<R, E>, n: usize, points: usize) -> Result<[Buffer; 2]> {
    // j^2 modulo 2 n, so that the angle is exact.
    let chirp = |j: usize| unit_circle(-((j * j % (2 * n)) as f64) / (2 * n) as f64);
    let spectrum = || {
        let mut around: Vec<Complex64> = vec![Complex64::zero(); points];
        for j in 0..n {
            around[j] = chirp(j).conj();
            around[(points - j) % points] = around[j];
        }
        FftPlanner::new().plan_fft_forward(points).process(&mut around);
        let bits = points.ilog2();
        planar((0..points).map(|i| around[i.reverse_bits() >> (usize::BITS - bits)]))
    };
    Ok([cube.table("chirp", &[n], || planar((0..n).map(chirp)))?, cube.table("chirp spectrum", &[n, points], spectrum)?])
}
