//! Per-channel affine maps, BatchNorm and LayerNorm of (B, H, L) tensors.

use super::elementwise::{dot, sum};
use super::normalized::{Normal, centred_row};
use super::storage::{Recipe, Storage};
use super::{Cpu, rows_by_channel, sequence, values};
use crate::backend::host::simd::{Isa, dispatch};
use crate::backend::host::threads::{for_each, for_each_piece, for_each_with, map_with};
use crate::backend::{Elementwise, NormAxes, Normalization, Normalized, Real, Tensor, shape};
use crate::error::Result;

/// The rows of channel h in the order of the batch.
fn channel_rows<E>(x: &[E], [_, channels, length]: [usize; 3], h: usize) -> impl Iterator<Item = &[E]> {
    x.chunks_exact(length).skip(h).step_by(channels)
}

/// scale[h] x + shift[h].
pub fn affine<E: Real>(x: &[E], scale: &[E], shift: &[E], length: usize, out: &mut [E]) {
    for_each_piece(out, length, |i, out| {
        let h = i % scale.len();
        affine_row(&x[i * length..][..length], scale[h], shift[h], out);
    });
}

dispatch! { fn affine_row<E: Real>(x: &[E], scale: E, shift: E, out: &mut [E]) = affine_body; }
dispatch! { fn add_affine_row<E: Real>(x: &[E], scale: E, shift: E, out: &mut [E]) = add_affine_body; }

#[inline(always)]
fn affine_body<I: Isa, E: Real>(x: &[E], scale: E, shift: E, out: &mut [E]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = scale * x + shift;
    }
}

#[inline(always)]
fn add_affine_body<I: Isa, E: Real>(x: &[E], scale: E, shift: E, out: &mut [E]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out += I::fma(scale, x, shift);
    }
}

/// For every channel, (sum of g x, sum of g) over batch and length.
pub fn channel_sums<E: Real>(x: &[E], g: &[E], shape: [usize; 3]) -> Vec<(f64, f64)> {
    map_with(
        shape[1],
        || (),
        |(), h| {
            let rows = channel_rows(x, shape, h).zip(channel_rows(g, shape, h));
            rows.fold((0.0, 0.0), |(with_x, alone), (x, g)| (with_x + dot(g, x), alone + sum(g)))
        },
    )
}

/// Mean and biased variance of every channel over batch and length. Of every row, while it is in the cache, its mean, and the squares around it
/// for the variance's accuracy (Chan, Golub, LeVeque 1983).
pub fn batch_statistics<E: Real>(x: &[E], [batch, channels, length]: [usize; 3]) -> Vec<(E, E)> {
    let of_row = |centred: &mut Vec<E>, row: usize| {
        let (row, count) = (&x[row * length..][..length], length as f64);
        let total = sum(row);
        let mean = E::of(total / count);
        affine_centre(row, mean, centred);
        // What the rounded mean is off by.
        let off = total / count - mean.f64();
        (total / count, dot(centred, centred) - count * off * off)
    };
    let rows = map_with(batch * channels, || vec![E::zero(); length], of_row);
    let of_channel = |h: usize| rows[h..].iter().step_by(channels);
    let moments = |h: usize| {
        let mean = of_channel(h).map(|row| row.0).sum::<f64>() / batch as f64;
        let squares = of_channel(h).map(|row| row.1 + length as f64 * (row.0 - mean) * (row.0 - mean)).sum::<f64>();
        // Rounding may take it below 0; NaN stays NaN.
        (E::of(mean), E::of(if squares < 0.0 { 0.0 } else { squares / (batch * length) as f64 }))
    };
    (0..channels).map(moments).collect()
}

/// The gradient of x for the gradients `g` of the moments, (2, H): those of the mean and of the variance. `put` does with a row (of x, by
/// its centre, a scale and a shift) what is to be done with it.
fn moments_grad<E: Real>(
    (x, moments): (&[E], &[E]),
    g: &[E],
    [batch, channels, length]: [usize; 3],
    put: fn(&[E], E, E, E, &mut [E]),
    out: &mut [E],
) {
    let count = E::of((batch * length) as f64);
    for_each_piece(out, length, |i, out| {
        let h = i % channels;
        let (mean, slope) = (g[h] / count, E::of(2.0) * g[channels + h] / count);
        put(&x[i * length..][..length], moments[h], slope, mean, out);
    });
}

dispatch! { fn add_centred_row<E: Real>(x: &[E], mean: E, scale: E, shift: E, out: &mut [E]) = add_centred_body; }

#[inline(always)]
fn add_centred_body<I: Isa, E: Real>(x: &[E], mean: E, scale: E, shift: E, out: &mut [E]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out += I::fma(x - mean, scale, shift);
    }
}

/// Gradients of x, gamma, beta of a BatchNorm: with xh = (x - mean) r, gx = gamma r (g - mean(g) - xh mean(g xh)).
pub fn batch_grad<E: Real>(x: &[E], g: &[E], statistics: &[(E, E)], gamma: &[E], eps: E, shape: [usize; 3], out: [&mut [E]; 3]) {
    let [gx, ggamma, gbeta] = out;
    let count = E::of((shape[0] * shape[2]) as f64);
    let rows = rows_by_channel(gx, shape[1], shape[2]);
    let work: Vec<_> = rows.into_iter().zip(ggamma).zip(gbeta).collect();
    for_each_with(
        work,
        || vec![E::zero(); shape[2]],
        |centred, h, ((rows, ggamma), gbeta)| {
            let (mean, var) = statistics[h];
            let r = E::one() / (var + eps).sqrt();
            let (mut with_x, mut alone) = (0.0, 0.0);
            for (x, g) in channel_rows(x, shape, h).zip(channel_rows(g, shape, h)) {
                affine_centre(x, mean, centred);
                with_x += dot(g, centred);
                alone += sum(g);
            }
            (*ggamma, *gbeta) = (E::of(with_x) * r, E::of(alone));
            let scale = gamma[h] * r;
            let slope = -scale * r * *ggamma / count;
            let shift = -scale * *gbeta / count;
            for ((out, x), g) in rows.into_iter().zip(channel_rows(x, shape, h)).zip(channel_rows(g, shape, h)) {
                affine_row(g, scale, shift, out);
                affine_centre(x, mean, centred);
                add_affine_row(centred, slope, E::zero(), out);
            }
        },
    );
}

fn affine_centre<E: Real>(x: &[E], mean: E, out: &mut [E]) {
    centred_row(x, mean, E::one(), E::zero(), out);
}

/// Rows of single positions that one thread takes at a time.
const ROWS_AT_ONCE: usize = 16;

/// Mean and biased variance of every row of `channels` numbers: where the length is 1, a position is contiguous.
fn row_statistics<E: Real>(x: &[E], channels: usize, mean: &mut [E], var: &mut [E]) {
    let count = channels as f64;
    let work: Vec<_> = mean.chunks_mut(ROWS_AT_ONCE).zip(var.chunks_mut(ROWS_AT_ONCE)).collect();
    for_each_with(
        work,
        || vec![E::zero(); channels],
        |centred, i, (mean, var)| {
            let rows = x[i * ROWS_AT_ONCE * channels..].chunks_exact(channels);
            for ((mean, var), row) in mean.iter_mut().zip(var).zip(rows) {
                *mean = E::of(sum(row) / count);
                affine_centre(row, *mean, centred);
                *var = E::of(dot(centred, centred) / count);
            }
        },
    );
}

dispatch! { fn normal_row<E: Real>(x: &[E], mean: E, r: E, gamma: &[E], beta: &[E], out: &mut [E]) = normal_body; }

/// out = gamma (x - mean) r + beta, by entries.
#[inline(always)]
fn normal_body<I: Isa, E: Real>(x: &[E], mean: E, r: E, gamma: &[E], beta: &[E], out: &mut [E]) {
    for (((out, &x), &gamma), &beta) in out.iter_mut().zip(x).zip(gamma).zip(beta) {
        *out = I::fma((x - mean) * r, gamma, beta);
    }
}

/// Mean and biased variance of every position over the channels: (B, L) each.
pub fn layer_statistics<E: Real>(x: &[E], [_, channels, length]: [usize; 3], mean: &mut [E], var: &mut [E]) {
    if length == 1 {
        return row_statistics(x, channels, mean, var);
    }
    let work: Vec<_> = mean.chunks_exact_mut(length).zip(var.chunks_exact_mut(length)).collect();
    let count = E::of(channels as f64);
    for_each(work, |b, (mean, var)| {
        moments_by_position(&x[b * channels * length..][..channels * length], count, mean, var);
    });
}

dispatch! {
    /// Mean and biased variance over the rows of x, `count` of them.
    fn moments_by_position<E: Real>(x: &[E], count: E, mean: &mut [E], var: &mut [E]) = moments_body;
}

#[inline(always)]
fn moments_body<I: Isa, E: Real>(x: &[E], count: E, mean: &mut [E], var: &mut [E]) {
    let length = mean.len();
    mean.fill(E::zero());
    for row in x.chunks_exact(length) {
        mean.iter_mut().zip(row).for_each(|(mean, &v)| *mean += v);
    }
    mean.iter_mut().for_each(|mean| *mean /= count);
    var.fill(E::zero());
    for row in x.chunks_exact(length) {
        for ((var, &v), &mean) in var.iter_mut().zip(row).zip(&*mean) {
            *var += (v - mean) * (v - mean);
        }
    }
    var.iter_mut().for_each(|var| *var /= count);
}

/// Of single positions, each a row of all channels.
fn normalize_positions<E: Real>(normal: &Normal<'_, E>, out: &mut [E]) {
    let (channels, [gamma, beta, mean, var]) = (normal.shape[1], normal.parts);
    for_each_piece(out, ROWS_AT_ONCE * channels, |i, out| {
        for (b, out) in (i * ROWS_AT_ONCE..).zip(out.chunks_exact_mut(channels)) {
            let r = E::one() / (var[b] + normal.eps).sqrt();
            normal_row(&normal.x[b * channels..][..channels], mean[b], r, gamma, beta, out);
        }
    });
}

dispatch! { fn normalised<E: Real>(x: &[E], mean: &[E], r: &[E], out: &mut [E]) = normalised_body; }
dispatch! { fn add_weighted<E: Real>(g: &[E], xh: &[E], gamma: E, alone: &mut [E], with_x: &mut [E]) = add_weighted_body; }
dispatch! { fn layer_slopes<E: Real>(g: &[E], xh: &[E], gamma: E, count: E, positions: [&[E]; 3], out: &mut [E]) = layer_slopes_body; }

/// out = (x - mean) r.
#[inline(always)]
fn normalised_body<I: Isa, E: Real>(x: &[E], mean: &[E], r: &[E], out: &mut [E]) {
    out.iter_mut().zip(x).zip(mean).zip(r).for_each(|(((out, &x), &mean), &r)| *out = (x - mean) * r);
}

/// Adds gamma g to `alone`, gamma g xh to `with_x`.
#[inline(always)]
fn add_weighted_body<I: Isa, E: Real>(g: &[E], xh: &[E], gamma: E, alone: &mut [E], with_x: &mut [E]) {
    for (((alone, with_x), &g), &xh) in alone.iter_mut().zip(with_x).zip(g).zip(xh) {
        *alone += g * gamma;
        *with_x += g * gamma * xh;
    }
}

/// out = r (gamma g - alone / count - xh with_x / count).
#[inline(always)]
fn layer_slopes_body<I: Isa, E: Real>(g: &[E], xh: &[E], gamma: E, count: E, [r, alone, with_x]: [&[E]; 3], out: &mut [E]) {
    for (((((out, &g), &xh), &r), &alone), &with_x) in out.iter_mut().zip(g).zip(xh).zip(r).zip(alone).zip(with_x) {
        *out = r * (g * gamma - alone / count - xh * with_x / count);
    }
}

/// Gradients of x, gamma, beta of a LayerNorm.
pub fn layer_grad<E: Real>(x: &[E], g: &[E], statistics: (&[E], &[E]), gamma: &[E], eps: E, shape: [usize; 3], out: [&mut [E]; 3]) {
    let [_, channels, length] = shape;
    let [gx, ggamma, gbeta] = out;
    let count = E::of(channels as f64);
    // Per batch entry: gx, and the channels' sums, which are added up over the batch in order afterwards.
    let mut sums = vec![(0.0f64, 0.0f64); shape[0] * channels];
    let work: Vec<_> = gx.chunks_exact_mut(channels * length).zip(sums.chunks_exact_mut(channels)).collect();
    for_each_with(
        work,
        || vec![vec![E::zero(); length]; 4],
        |scratch, b, (gx, sums)| {
            let [r, alone, with_x, xh] = scratch.as_mut_slice() else { return };
            let (x, g) = (&x[b * channels * length..][..channels * length], &g[b * channels * length..][..channels * length]);
            let mean = &statistics.0[b * length..][..length];
            r.iter_mut().zip(&statistics.1[b * length..]).for_each(|(r, &var)| *r = E::one() / (var + eps).sqrt());
            alone.fill(E::zero());
            with_x.fill(E::zero());
            for (h, (x, g)) in x.chunks_exact(length).zip(g.chunks_exact(length)).enumerate() {
                normalised(x, mean, r, xh);
                sums[h] = (dot(g, xh), sum(g));
                add_weighted(g, xh, gamma[h], alone, with_x);
            }
            for (h, ((x, g), out)) in x.chunks_exact(length).zip(g.chunks_exact(length)).zip(gx.chunks_exact_mut(length)).enumerate() {
                normalised(x, mean, r, xh);
                layer_slopes(g, xh, gamma[h], count, [r, alone, with_x], out);
            }
        },
    );
    for h in 0..channels {
        let (with_x, alone) = sums[h..].iter().step_by(channels).fold((0.0, 0.0), |t, s| (t.0 + s.0, t.1 + s.1));
        (ggamma[h], gbeta[h]) = (E::of(with_x), E::of(alone));
    }
}

impl<E: Real> Normalization for Cpu<E> {
    fn affine(&self, x: &Tensor<Self>, scale: &Tensor<Self>, shift: &Tensor<Self>) -> Result<Tensor<Self>> {
        let [_, _, length] = shape::affine("affine", x.shape(), scale.shape(), shift.shape())?;
        Ok(self.make(x.shape(), |out| affine(values(x), values(scale), values(shift), length, out)))
    }

    fn affine_grad(&self, x: &Tensor<Self>, scale: &Tensor<Self>, g: &Tensor<Self>, needs: [bool; 3]) -> Result<[Option<Tensor<Self>>; 3]> {
        let shape = shape::affine("affine_grad", x.shape(), scale.shape(), scale.shape())?;
        shape::gradient("affine_grad", x.shape(), g.shape())?;
        let zeros = vec![E::zero(); shape[1]];
        let gx = needs[0].then(|| self.make(x.shape(), |out| affine(values(g), values(scale), &zeros, shape[2], out)));
        let sums = if needs[1] || needs[2] { channel_sums(values(x), values(g), shape) } else { Vec::new() };
        let channels = |f: fn(&(f64, f64)) -> f64| self.own(sums.iter().map(|s| E::of(f(s))).collect(), scale.shape());
        Ok([gx, needs[1].then(|| channels(|s| s.0)), needs[2].then(|| channels(|s| s.1))])
    }

    fn moments(&self, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        let sizes = shape::sequence("moments", "x", x.shape())?;
        let (mean, var): (Vec<E>, Vec<E>) = batch_statistics(values(x), sizes).into_iter().unzip();
        Ok(self.own([mean, var].concat(), &[2, sizes[1]]))
    }

    fn moments_grad(&self, x: &Tensor<Self>, moments: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>> {
        let sizes = shape::moments_grad("moments_grad", x.shape(), moments.shape(), g.shape())?;
        Ok(self.make(x.shape(), |out| moments_grad((values(x), values(moments)), values(g), sizes, centred_row, out)))
    }

    fn add_moments_grad(
        &self,
        x: &Tensor<Self>,
        moments: &Tensor<Self>,
        g: &Tensor<Self>,
        mut earlier: Tensor<Self>,
    ) -> Result<Tensor<Self>> {
        let sizes = shape::moments_grad("add_moments_grad", x.shape(), moments.shape(), g.shape())?;
        shape::exactly("add_moments_grad", "the gradient so far", x.shape(), earlier.shape())?;
        if let Some(sum) = earlier.storage_mut().own_values() {
            moments_grad((values(x), values(moments)), values(g), sizes, add_centred_row, sum);
            return Ok(earlier);
        }
        self.accumulate(earlier, self.moments_grad(x, moments, g)?)
    }

    fn normalize(&self, axes: NormAxes, x: &Tensor<Self>, gamma: &Tensor<Self>, beta: &Tensor<Self>, eps: f64) -> Result<Normalized<Self>> {
        axes.check(x.shape(), gamma.shape(), beta.shape(), eps)?;
        let (shape, eps) = (sequence(x), E::of(eps));
        let (mean, var) = match axes {
            NormAxes::Batch => {
                let (mean, var): (Vec<E>, Vec<E>) = batch_statistics(values(x), shape).into_iter().unzip();
                (self.own(mean, &[shape[1]]), self.own(var, &[shape[1]]))
            }
            NormAxes::Layer => {
                let mut var = self.pool.dirty(shape[0] * shape[2]);
                let mean = self.make(&[shape[0], shape[2]], |mean| layer_statistics(values(x), shape, mean, &mut var));
                (mean, self.wrap(var, &[shape[0], shape[2]]))
            }
        };
        let parts = [gamma, beta, &mean, &var].map(|part| part.storage().clone());
        let recipe = Recipe { axes, eps, shape, x: x.storage().clone(), parts };
        let mut output = self.pool.dirty(x.numel());
        let storage = if axes == NormAxes::Layer && shape[2] == 1 {
            normalize_positions(&recipe.normal(), &mut output);
            Storage::dense(output)
        } else {
            recipe.normal().fill(&mut output);
            Storage::normalized(output, &recipe)
        };
        Ok(Normalized { output: Tensor::from_storage(storage, x.shape()), mean, var })
    }

    fn normalize_grad(
        &self,
        axes: NormAxes,
        x: &Tensor<Self>,
        gamma: &Tensor<Self>,
        statistics: (&Tensor<Self>, &Tensor<Self>),
        eps: f64,
        g: &Tensor<Self>,
    ) -> Result<[Tensor<Self>; 3]> {
        axes.check_grad(x.shape(), gamma.shape(), [statistics.0.shape(), statistics.1.shape()], eps, g.shape())?;
        let shape = sequence(x);
        let mut gx = self.pool.dirty(x.numel());
        let (mut ggamma, mut gbeta) = (self.pool.dirty(shape[1]), self.pool.dirty(shape[1]));
        let out: [&mut [E]; 3] = [&mut gx, &mut ggamma, &mut gbeta];
        let (mean, var) = (values(statistics.0), values(statistics.1));
        match axes {
            NormAxes::Batch => {
                let statistics: Vec<(E, E)> = mean.iter().copied().zip(var.iter().copied()).collect();
                batch_grad(values(x), values(g), &statistics, values(gamma), E::of(eps), shape, out);
            }
            NormAxes::Layer => layer_grad(values(x), values(g), (mean, var), values(gamma), E::of(eps), shape, out),
        }
        Ok([self.wrap(gx, x.shape()), self.wrap(ggamma, &[shape[1]]), self.wrap(gbeta, &[shape[1]])])
    }
}
