//! The long convolution: one real FFT a row, the kernel's spectrum shared by the batch.
//!
//! With n >= 2L - 1 the circular convolution of length n holds causal lags 0..L-1 at its start and anticausal lags 1..L-1 at its
//! end without overlap. Rows are transformed one by one, never two packed into one complex FFT: packing leaks round-off from one
//! row into the other, and a channel without a spike must come out exactly zero, for the surrogate at 0 is open.

use realfft::num_complex::Complex;

use super::elementwise::dot;
use super::fft::{Plan, Plans, fast_len};
use super::simd::{Isa, dispatch};
use super::threads::{for_each_chunk_with, for_each_with};
use crate::backend::Real;

/// A convolution's operands as plain rows.
#[derive(Clone, Copy)]
pub struct Operands<'a, E> {
    /// (B, H, L).
    pub input: &'a [E],
    /// (c, H, Lk).
    pub kernel: &'a [E],
    /// (H).
    pub skip: Option<&'a [E]>,
    /// True lengths.
    pub lengths: Option<&'a [usize]>,
    /// B, H, L.
    pub shape: [usize; 3],
    /// c and Lk.
    pub kernels: [usize; 2],
}

impl<E: Real> Operands<'_, E> {
    fn true_length(&self, batch: usize) -> usize {
        self.lengths.map_or(self.shape[2], |lengths| lengths[batch])
    }

    /// The lags of the causal and of the anticausal kernel that reach an output.
    fn taps(&self) -> (usize, usize) {
        let [channels, len] = self.kernels;
        let length = self.shape[2];
        (len.min(length), if channels == 2 { len.min(length - 1) } else { 0 })
    }

    /// Channel h's kernels laid out for a circular convolution: causal lags forward from 0, anticausal lags backward from n - 1.
    fn circular(&self, h: usize, row: &mut [E]) {
        let [_, channels, _] = self.shape;
        let len = self.kernels[1];
        let (causal, anticausal) = self.taps();
        row.fill(E::zero());
        row[..causal].copy_from_slice(&self.kernel[h * len..][..causal]);
        if anticausal > 0 {
            let backward = &self.kernel[(channels + h) * len..][..anticausal];
            row.iter_mut().rev().zip(backward).for_each(|(row, &k)| *row = k);
        }
    }
}

/// What one thread works in.
struct Scratch<E> {
    row: Vec<E>,
    bins: Vec<Complex<E>>,
    other: Vec<Complex<E>>,
    fft: Vec<Complex<E>>,
}

impl<E: Real> Scratch<E> {
    fn new(plan: &Plan<E>) -> Self {
        let bins = vec![Complex::default(); plan.bins()];
        Scratch { row: vec![E::zero(); plan.len()], other: bins.clone(), bins, fft: plan.scratch() }
    }

    /// The spectrum of the first `len` values of `x`, into `bins`.
    fn transform(&mut self, plan: &Plan<E>, x: &[E]) {
        self.row[..x.len()].copy_from_slice(x);
        self.row[x.len()..].fill(E::zero());
        plan.forward(&mut self.row, &mut self.bins, &mut self.fft);
    }
}

fn plan<E: Real>(plans: &Plans<E>, operands: &Operands<'_, E>) -> Plan<E> {
    plans.get(fast_len(2 * operands.shape[2] - 1))
}

/// The spectra of all kernels, (H, bins), scaled by 1/n so that the inverse transform needs no scaling.
fn spectra<E: Real>(plan: &Plan<E>, operands: &Operands<'_, E>) -> Vec<Complex<E>> {
    let mut spectra = vec![Complex::default(); operands.shape[1] * plan.bins()];
    let scale = E::one() / E::of(plan.len() as f64);
    for_each_chunk_with(
        &mut spectra,
        plan.bins(),
        || Scratch::new(plan),
        |scratch, h, bins| {
            operands.circular(h, &mut scratch.row);
            plan.forward(&mut scratch.row, bins, &mut scratch.fft);
            bins.iter_mut().for_each(|bin| *bin *= scale);
        },
    );
    spectra
}

/// y, (B, H, L).
pub fn forward<E: Real>(plans: &Plans<E>, operands: Operands<'_, E>, out: &mut [E]) {
    let [_, channels, length] = operands.shape;
    let plan = plan(plans, &operands);
    let spectra = spectra(&plan, &operands);
    for_each_chunk_with(
        out,
        length,
        || Scratch::new(&plan),
        |scratch, row, out| {
            let h = row % channels;
            let x = &operands.input[row * length..][..operands.true_length(row / channels)];
            if x.iter().all(|&v| v == E::zero()) {
                out.fill(E::zero());
                return;
            }
            scratch.transform(&plan, x);
            multiply(&mut scratch.bins, &spectra[h * plan.bins()..][..plan.bins()]);
            plan.inverse(&mut scratch.bins, &mut scratch.row, &mut scratch.fft);
            out.copy_from_slice(&scratch.row[..length]);
            if let Some(skip) = operands.skip {
                add_scaled(&mut out[..x.len()], x, skip[h]);
            }
        },
    );
}

/// The gradients of a convolution, each where it is wanted.
pub struct Wanted<'a, E> {
    /// (B, H, L).
    pub input: Option<&'a mut [E]>,
    /// (c, H, Lk), zero on entry.
    pub kernel: Option<&'a mut [E]>,
    /// (H).
    pub skip: Option<&'a mut [E]>,
}

/// One channel's share of the work: its rows of the input's gradient, its rows of the kernel's, its skip's.
struct Channel<'a, E> {
    input: Vec<&'a mut [E]>,
    kernel: Vec<&'a mut [E]>,
    skip: Option<&'a mut E>,
}

/// A channel after the other, every channel over its whole batch, so that sums over the batch have one order.
fn by_channel<'a, E: Real>(operands: &Operands<'_, E>, wanted: Wanted<'a, E>) -> Vec<Channel<'a, E>> {
    let [_, channels, length] = operands.shape;
    let mut work: Vec<Channel<'a, E>> = (0..channels).map(|_| Channel { input: Vec::new(), kernel: Vec::new(), skip: None }).collect();
    for (i, row) in wanted.input.into_iter().flat_map(|g| g.chunks_exact_mut(length)).enumerate() {
        work[i % channels].input.push(row);
    }
    for (i, row) in wanted.kernel.into_iter().flat_map(|g| g.chunks_exact_mut(operands.kernels[1])).enumerate() {
        work[i % channels].kernel.push(row);
    }
    for (channel, skip) in work.iter_mut().zip(wanted.skip.into_iter().flatten()) {
        channel.skip = Some(skip);
    }
    work
}

/// The gradients for the output's gradient `g`, (B, H, L).
pub fn backward<E: Real>(plans: &Plans<E>, operands: Operands<'_, E>, g: &[E], wanted: Wanted<'_, E>) {
    let plan = plan(plans, &operands);
    let work = by_channel(&operands, wanted);
    let init = || (Scratch::new(&plan), vec![Complex::default(); plan.bins()], vec![Complex::default(); plan.bins()]);
    for_each_with(work, init, |(scratch, spectrum, sum), h, channel| {
        channel_backward(&plan, &operands, g, h, channel, scratch, spectrum, sum);
    });
}

#[allow(clippy::too_many_arguments)]
fn channel_backward<E: Real>(
    plan: &Plan<E>,
    operands: &Operands<'_, E>,
    g: &[E],
    h: usize,
    mut channel: Channel<'_, E>,
    scratch: &mut Scratch<E>,
    spectrum: &mut [Complex<E>],
    sum: &mut [Complex<E>],
) {
    let [batch, channels, length] = operands.shape;
    let scale = E::one() / E::of(plan.len() as f64);
    if !channel.input.is_empty() {
        operands.circular(h, &mut scratch.row);
        plan.forward(&mut scratch.row, spectrum, &mut scratch.fft);
        spectrum.iter_mut().for_each(|bin| *bin = bin.conj() * scale);
    }
    sum.fill(Complex::default());
    let mut skip_grad = 0.0;
    for b in 0..batch {
        let row = (b * channels + h) * length;
        let (g, len) = (&g[row..][..length], operands.true_length(b));
        let x = &operands.input[row..][..len];
        if channel.skip.is_some() {
            skip_grad += dot(&g[..len], x);
        }
        scratch.transform(plan, g);
        if !channel.kernel.is_empty() && x.iter().any(|&v| v != E::zero()) {
            std::mem::swap(&mut scratch.bins, &mut scratch.other);
            scratch.transform(plan, x);
            std::mem::swap(&mut scratch.bins, &mut scratch.other);
            accumulate_correlation(sum, &scratch.bins, &scratch.other);
        }
        if let Some(out) = channel.input.get_mut(b) {
            multiply(&mut scratch.bins, spectrum);
            plan.inverse(&mut scratch.bins, &mut scratch.row, &mut scratch.fft);
            out[..len].copy_from_slice(&scratch.row[..len]);
            out[len..].fill(E::zero());
            if let Some(skip) = operands.skip {
                add_scaled(&mut out[..len], &g[..len], skip[h]);
            }
        }
    }
    if let Some(skip) = channel.skip {
        *skip = E::of(skip_grad);
    }
    if !channel.kernel.is_empty() {
        let (causal, anticausal) = operands.taps();
        plan.inverse(sum, &mut scratch.row, &mut scratch.fft);
        channel.kernel[0][..causal].iter_mut().zip(&scratch.row).for_each(|(k, &v)| *k = v * scale);
        if anticausal > 0 {
            channel.kernel[1][..anticausal].iter_mut().zip(scratch.row.iter().rev()).for_each(|(k, &v)| *k = v * scale);
        }
    }
}

dispatch! { fn multiply<E: Real>(x: &mut [Complex<E>], y: &[Complex<E>]) = multiply_body; }
dispatch! { fn accumulate_correlation<E: Real>(sum: &mut [Complex<E>], g: &[Complex<E>], x: &[Complex<E>]) = accumulate_correlation_body; }
dispatch! { fn add_scaled<E: Real>(out: &mut [E], x: &[E], scale: E) = add_scaled_body; }

#[inline(always)]
fn multiply_body<I: Isa, E: Real>(x: &mut [Complex<E>], y: &[Complex<E>]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x = Complex { re: I::fma(x.re, y.re, -(x.im * y.im)), im: I::fma(x.re, y.im, x.im * y.re) };
    }
}

/// sum += g conj(x).
#[inline(always)]
fn accumulate_correlation_body<I: Isa, E: Real>(sum: &mut [Complex<E>], g: &[Complex<E>], x: &[Complex<E>]) {
    for ((sum, g), x) in sum.iter_mut().zip(g).zip(x) {
        sum.re = I::fma(g.re, x.re, I::fma(g.im, x.im, sum.re));
        sum.im = I::fma(g.im, x.re, I::fma(-g.re, x.im, sum.im));
    }
}

#[inline(always)]
fn add_scaled_body<I: Isa, E: Real>(out: &mut [E], x: &[E], scale: E) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = I::fma(scale, x, *out);
    }
}
