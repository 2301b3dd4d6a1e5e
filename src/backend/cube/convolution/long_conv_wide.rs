//! The long convolution and its adjoint for rows that do not fit in a cube: step by step in the device's memory, a chunk of the batch at a
//! time.

use cubecl::prelude::*;

use super::long_conv::{Convolver, Needs};
use super::right_angle::{Ends, KernelSizes, RowSizes, kernel_point, lift, lower, masked, put_kernel_grads};
use crate::backend::Tensor;
use crate::backend::cube::complex::{Complex, complex};
use crate::backend::cube::products::fft::Middle;
use crate::backend::cube::storage::arg;
use crate::backend::cube::{Buffer, Cube, Scalar};
use crate::backend::tensor::Grads;
use crate::error::Result;

/// Bytes of the rows that are transformed at once.
const WORKSPACE: u64 = 1 << 28;

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

/// Rows (B, H, L) into `work` (2, chunk of B, H, n), ready for the transform; 0 from their true length on.
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
        let y = lower::<F>(Complex::<F> { re: work[at], im: work[rows * n + at] }, twist, t, n);
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
        let front = h * n + min(m, n - 1);
        let back = h * n + n - 1 - min(m, n - 1);
        let plane = channels * n;
        let ends = Ends::<F> { front: complex::<F>(work[front], work[plane + front]), back: complex::<F>(work[back], work[plane + back]) };
        put_kernel_grads::<F>(out, skip, twist, &ends, h, m, sizes, kernels, n);
    }
}

impl<R: Runtime, E: Scalar> Convolver<'_, R, E> {
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

    /// The spectra (2, H, n) of the kernels, D among them.
    fn spectra_wide(&self) -> Result<Buffer> {
        let ([_, channels, _], n, cube) = (self.shape(), self.plan.n, self.cube);
        let out = cube.buffer(self.method, 2 * channels * n, size_of::<E>())?;
        let (kernel, skip, twist, sizes) = (arg(self.conv.kernel), self.skip(), self.twist.arg(), self.kernel_sizes());
        let (cubes, units) = cube.units(channels * n);
        spread_kernels::launch::<E, R>(cube.client(), cubes, units, kernel, skip, out.arg(), twist, sizes, self.kernels(), n);
        cube.transform(self.plan, &out, channels, Middle::Forward, None)?;
        Ok(out)
    }

    /// y (B, H, L).
    pub fn run_wide(&self) -> Result<Tensor<Cube<R, E>>> {
        let (cube, [_, channels, _]) = (self.cube, self.shape());
        let (out, spectra) = (cube.alloc(self.method, self.conv.input.shape())?, self.spectra_wide()?);
        for chunk in self.chunks() {
            let work = self.spread(self.conv.input, &self.lengths, chunk)?;
            cube.transform(self.plan, &work, chunk.1 * channels, Middle::Multiply, Some((&spectra, channels)))?;
            self.collect(&work, &self.whole, &out, chunk);
        }
        Ok(out)
    }

    /// Gradients of input, kernel, skip over the device's memory.
    pub fn grad_wide(&self, g: &Tensor<Cube<R, E>>, needs: Needs) -> Result<Grads<Cube<R, E>, 3>> {
        let (cube, [_, channels, _]) = (self.cube, self.shape());
        let input = cube.alloc_if(needs.input, self.method, self.conv.input.shape())?;
        let spectra = self.spectra_wide()?;
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
    fn collect_kernels(&self, sums: &Buffer, needs: Needs) -> Result<Grads<Cube<R, E>, 2>> {
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

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use crate::backend::*;

    /// Path-X: 16,384 steps, both kernels, on what a device of 32 KiB a cube has. Against the CPU in f64.
    #[test]
    fn sixteen_thousand_steps_and_their_gradients() {
        let (cube, cpu) = (Wgpu::new().expect("a device").with_shared_memory(32 << 10), Cpu::<f64>::new());
        let shapes: [&[usize]; 4] = [&[2, 2, 16_384], &[2, 2, 16_384], &[2], &[2, 2, 16_384]];
        let host = [0, 1, 2, 3].map(|i| cpu.normal(Key::new(i as u64), shapes[i]).unwrap());
        let here = [0, 1, 2, 3].map(|i| {
            let values = cpu.to_vec(&host[i]).unwrap().iter().map(|&v| v as f32).collect();
            cube.from_vec(values, shapes[i]).unwrap()
        });
        let lengths = [16_384, 9_001];
        let conv = LongConv { input: &host[0], kernel: &host[1], skip: Some(&host[2]), lengths: Some(&lengths) };
        let mut want = vec![Some(cpu.long_conv(conv).unwrap())];
        want.extend(cpu.long_conv_grad(conv, &host[3], [true; 3]).unwrap());
        let conv = LongConv { input: &here[0], kernel: &here[1], skip: Some(&here[2]), lengths: Some(&lengths) };
        let mut got = vec![Some(cube.long_conv(conv).unwrap())];
        got.extend(cube.long_conv_grad(conv, &here[3], [true; 3]).unwrap());
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            let (got, want) = (cube.to_vec(got.as_ref().unwrap()).unwrap(), cpu.to_vec(want.as_ref().unwrap()).unwrap());
            let largest = want.iter().fold(0.0f64, |largest, v| largest.max(v.abs()));
            let error = got.iter().zip(&want).fold(0.0f64, |error, (g, w)| error.max((f64::from(*g) - w).abs())) / largest;
            assert!(got.len() == want.len() && error < 2e-6, "result {i} is {error:.1e} of its largest entry away");
        }
    }
}
