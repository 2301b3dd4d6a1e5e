//! Per-channel affine maps, moments, BatchNorm and LayerNorm of (B, H, L) tensors.
//!
//! Sums over batch and length: every channel is cut into pieces, one kernel sums the pieces, and each cube of the next kernel adds them up.
//! Sums over channels: a cube takes some positions, and its units share out the channels.

use cubecl::prelude::*;

use super::channel_sums::{Channels, Cut, sequence, totals};
use super::elementwise::functions::plus;
use super::elementwise::reduce::{put_sums, sum_cube, sum_strided};
use super::storage::arg;
use super::{Cube, Scalar};
use crate::backend::{NormAxes, Normalization, Normalized, Tensor, shape};
use crate::error::Result;

/// Positions of a cube of a LayerNorm, and the groups of units among which the channels of a position are shared out.
const ACROSS: usize = 32;
const GROUPS: usize = 8;

/// Mean and biased variance.
#[derive(CubeType, Clone, Copy)]
struct Moments<F: Float> {
    mean: F,
    var: F,
}

/// 1 / sqrt(var + eps).
#[cube]
fn steepness<F: Float>(var: F, eps: F) -> F {
    F::new(1.0) / (var + eps).sqrt()
}

/// scale[h] x + shift[h], or without a shift scale[h] x.
#[cube(launch)]
fn affine_kernel<F: Float>(x: &Array<F>, scale: &Array<F>, shift: &ComptimeOption<Array<F>>, channels: &Channels, out: &mut Array<F>) {
    let h = channels.channel();
    if h < channels.channels {
        let scale = scale[h as usize];
        let shift = #[comptime]
        match shift {
            ComptimeOption::Some(shift) => shift[h as usize],
            ComptimeOption::None => F::new(0.0),
        };
        let end = channels.end();
        let mut k = channels.first();
        while k < end {
            let at = channels.position(h, k) as usize;
            out[at] = scale * x[at] + shift;
            k += CUBE_DIM;
        }
    }
}

/// The gradient of x, scale[h] g, and every piece's sums of g x and of g, (2, H, pieces).
#[cube(launch)]
fn affine_grad_kernel<F: Float>(
    x: &Array<F>,
    scale: &Array<F>,
    g: &Array<F>,
    channels: &Channels,
    gx: &mut ComptimeOption<Array<F>>,
    parts: &mut Array<F>,
    #[comptime] units: usize,
) {
    let mut scratch = SharedMemory::<F>::new(units);
    let h = channels.channel();
    if h < channels.channels {
        let scale = scale[h as usize];
        let end = channels.end();
        let mut k = channels.first();
        let mut with_x = F::new(0.0);
        let mut alone = F::new(0.0);
        while k < end {
            let at = channels.position(h, k) as usize;
            let g = g[at];
            #[comptime]
            match gx {
                ComptimeOption::Some(gx) => gx[at] = scale * g,
                ComptimeOption::None => {}
            }
            with_x += g * x[at];
            alone += g;
            k += CUBE_DIM;
        }
        put_sums::<F>(with_x, alone, parts, CUBE_POS, &mut scratch);
    }
}

/// The mean of every piece, and the sum of squared distances from it, (2, H, pieces). Two passes, so that the variance is accurate.
#[cube(launch)]
fn moments_kernel<F: Float>(x: &Array<F>, channels: &Channels, parts: &mut Array<F>, #[comptime] units: usize) {
    let mut scratch = SharedMemory::<F>::new(units);
    let h = channels.channel();
    if h < channels.channels {
        let end = channels.end();
        // Distances from the first entry are summed: a large mean would cost digits.
        let origin = x[channels.position(h, channels.first() - UNIT_POS) as usize];
        let mut sum = F::new(0.0);
        let mut k = channels.first();
        while k < end {
            sum += x[channels.position(h, k) as usize] - origin;
            k += CUBE_DIM;
        }
        let mean = origin + sum_cube::<F>(sum, &mut scratch) / F::cast_from(end - (channels.first() - UNIT_POS));
        let mut squares = F::new(0.0);
        k = channels.first();
        while k < end {
            let centred = x[channels.position(h, k) as usize] - mean;
            squares += centred * centred;
            k += CUBE_DIM;
        }
        let squares = sum_cube::<F>(squares, &mut scratch);
        if UNIT_POS == 0 {
            parts[CUBE_POS] = mean;
            parts[CUBE_POS + parts.len() / 2] = squares;
        }
    }
}

/// The moments of channel `h` from those of its pieces (Chan, Golub, LeVeque 1983). All units of a cube take part, and all get them.
#[cube]
fn merge<F: Float>(parts: &Array<F>, h: u32, channels: &Channels, scratch: &mut SharedMemory<F>) -> Moments<F> {
    let row = (h * channels.pieces) as usize;
    let count = F::cast_from(channels.count);
    let origin = parts[row];
    let mut sum = F::new(0.0);
    let mut i = UNIT_POS;
    while i < channels.pieces {
        sum += F::cast_from(channels.members(i)) * (parts[row + i as usize] - origin);
        i += CUBE_DIM;
    }
    let mean = origin + sum_cube::<F>(sum, scratch) / count;
    let mut squares = F::new(0.0);
    i = UNIT_POS;
    while i < channels.pieces {
        let centred = parts[row + i as usize] - mean;
        squares += parts[parts.len() / 2 + row + i as usize] + F::cast_from(channels.members(i)) * centred * centred;
        i += CUBE_DIM;
    }
    let var = sum_cube::<F>(squares, scratch) / count;
    Moments::<F> { mean, var }
}

/// One cube a channel: its mean and variance, (2, H).
#[cube(launch)]
fn merge_kernel<F: Float>(parts: &Array<F>, channels: &Channels, out: &mut Array<F>, #[comptime] units: usize) {
    let mut scratch = SharedMemory::<F>::new(units);
    let h = CUBE_POS as u32;
    if h < channels.channels {
        let moments = merge::<F>(parts, h, channels, &mut scratch);
        if UNIT_POS == 0 {
            out[h as usize] = moments.mean;
            out[(channels.channels + h) as usize] = moments.var;
        }
    }
}

/// The gradient of x for the gradients `g` of the moments, (2, H), added to what x had where there was something.
#[cube(launch)]
fn moments_grad_kernel<F: Float>(
    x: &Array<F>,
    moments: &Array<F>,
    g: &Array<F>,
    earlier: &ComptimeOption<Array<F>>,
    channels: &Channels,
    out: &mut Array<F>,
) {
    let h = channels.channel();
    if h < channels.channels {
        let count = F::cast_from(channels.count);
        let mean = moments[h as usize];
        let of_mean = g[h as usize] / count;
        let slope = F::new(2.0) * g[(channels.channels + h) as usize] / count;
        let end = channels.end();
        let mut k = channels.first();
        while k < end {
            let at = channels.position(h, k) as usize;
            out[at] = plus::<F>((x[at] - mean) * slope + of_mean, earlier, at);
            k += CUBE_DIM;
        }
    }
}

/// BatchNorm from the moments of the pieces. The first cube of every channel also writes the channel's moments.
#[cube(launch)]
fn batch_kernel<F: Float>(
    x: &Array<F>,
    parts: &Array<F>,
    gamma: &Array<F>,
    beta: &Array<F>,
    channels: &Channels,
    out: &mut Array<F>,
    mean: &mut Array<F>,
    var: &mut Array<F>,
    eps: InputScalar,
    #[comptime] units: usize,
) {
    let mut scratch = SharedMemory::<F>::new(units);
    let h = channels.channel();
    if h < channels.channels {
        let moments = merge::<F>(parts, h, channels, &mut scratch);
        if channels.piece() == 0 && UNIT_POS == 0 {
            mean[h as usize] = moments.mean;
            var[h as usize] = moments.var;
        }
        let scale = gamma[h as usize] * steepness::<F>(moments.var, eps.get::<F>());
        let shift = beta[h as usize];
        let end = channels.end();
        let mut k = channels.first();
        while k < end {
            let at = channels.position(h, k) as usize;
            out[at] = (x[at] - moments.mean) * scale + shift;
            k += CUBE_DIM;
        }
    }
}

/// Every piece's sums of g xh and of g, (2, H, pieces), with xh the normalised x; statistics are those of `axes`.
#[cube(launch)]
fn norm_sums_kernel<F: Float>(
    x: &Array<F>,
    g: &Array<F>,
    mean: &Array<F>,
    var: &Array<F>,
    channels: &Channels,
    parts: &mut Array<F>,
    eps: InputScalar,
    #[comptime] layer: bool,
    #[comptime] units: usize,
) {
    let mut scratch = SharedMemory::<F>::new(units);
    let h = channels.channel();
    if h < channels.channels {
        let eps = eps.get::<F>();
        let end = channels.end();
        let mut k = channels.first();
        let mut with_x = F::new(0.0);
        let mut alone = F::new(0.0);
        while k < end {
            let at = channels.position(h, k) as usize;
            // Entry k of a channel is position k of the (B, L) statistics.
            let group = if comptime!(layer) { k } else { h };
            let g = g[at];
            with_x += g * ((x[at] - mean[group as usize]) * steepness::<F>(var[group as usize], eps));
            alone += g;
            k += CUBE_DIM;
        }
        put_sums::<F>(with_x, alone, parts, CUBE_POS, &mut scratch);
    }
}

/// The gradient of x of a BatchNorm, gamma r (g - mean(g) - xh mean(g xh)), from the pieces' sums.
#[cube(launch)]
fn batch_grad_kernel<F: Float>(
    x: &Array<F>,
    g: &Array<F>,
    parts: &Array<F>,
    gamma: &Array<F>,
    mean: &Array<F>,
    var: &Array<F>,
    channels: &Channels,
    gx: &mut Array<F>,
    eps: InputScalar,
    #[comptime] units: usize,
) {
    let mut scratch = SharedMemory::<F>::new(units);
    let h = channels.channel();
    if h < channels.channels {
        let with_x = sum_strided::<F>(parts, h * channels.pieces, channels.pieces, 1u32, &mut scratch);
        let alone = sum_strided::<F>(parts, (channels.channels + h) * channels.pieces, channels.pieces, 1u32, &mut scratch);
        let count = F::cast_from(channels.count);
        let mean = mean[h as usize];
        let r = steepness::<F>(var[h as usize], eps.get::<F>());
        let scale = gamma[h as usize] * r;
        let slope = scale * r * with_x / count;
        let shift = scale * alone / count;
        let end = channels.end();
        let mut k = channels.first();
        while k < end {
            let at = channels.position(h, k) as usize;
            gx[at] = (scale * g[at] - shift) - slope * (x[at] - mean);
            k += CUBE_DIM;
        }
    }
}

/// A unit's share of a LayerNorm: one position, and every `groups`-th channel.
#[derive(CubeType, Clone, Copy)]
struct Share {
    /// Of (B, L).
    position: u32,
    /// Where its channel 0 is in x.
    base: u32,
    /// Its first channel.
    first: u32,
}

/// Neighbouring units have neighbouring positions.
#[cube]
fn share(channels: u32, length: u32, #[comptime] across: usize) -> Share {
    let position = CUBE_POS as u32 * comptime!(across as u32) + UNIT_POS % comptime!(across as u32);
    let b = position / length;
    Share { position, base: b * channels * length + (position - b * length), first: UNIT_POS / comptime!(across as u32) }
}

/// The sum of `mine` over the units of one position, for all of them.
#[cube]
fn sum_groups<F: Float>(mine: F, scratch: &mut SharedMemory<F>, #[comptime] across: usize, #[comptime] groups: usize) -> F {
    scratch[UNIT_POS as usize] = mine;
    sync_cube();
    let mut sum = F::new(0.0);
    #[unroll]
    for group in 0..groups {
        sum += scratch[UNIT_POS as usize % across + group * across];
    }
    // No unit may write the scratch again before all have read it.
    sync_cube();
    sum
}

/// LayerNorm, and the mean and variance of every position, (B, L) each.
#[cube(launch)]
fn layer_kernel<F: Float>(
    x: &Array<F>,
    gamma: &Array<F>,
    beta: &Array<F>,
    out: &mut Array<F>,
    mean: &mut Array<F>,
    var: &mut Array<F>,
    channels: u32,
    length: u32,
    eps: InputScalar,
    #[comptime] across: usize,
    #[comptime] groups: usize,
) {
    let mut scratch = SharedMemory::<F>::new(across * groups);
    let share = share(channels, length, across);
    let inside = (share.position as usize) < mean.len();
    let end = select(inside, channels, 0u32);
    let step = comptime!(groups as u32);
    let count = F::cast_from(channels);
    let mut origin = F::new(0.0);
    if inside {
        origin = x[share.base as usize];
    }
    let mut sum = F::new(0.0);
    let mut h = share.first;
    while h < end {
        sum += x[(share.base + h * length) as usize] - origin;
        h += step;
    }
    let centre = origin + sum_groups::<F>(sum, &mut scratch, across, groups) / count;
    let mut squares = F::new(0.0);
    h = share.first;
    while h < end {
        let centred = x[(share.base + h * length) as usize] - centre;
        squares += centred * centred;
        h += step;
    }
    let spread = sum_groups::<F>(squares, &mut scratch, across, groups) / count;
    let r = steepness::<F>(spread, eps.get::<F>());
    if inside && share.first == 0 {
        mean[share.position as usize] = centre;
        var[share.position as usize] = spread;
    }
    h = share.first;
    while h < end {
        let at = (share.base + h * length) as usize;
        out[at] = (x[at] - centre) * r * gamma[h as usize] + beta[h as usize];
        h += step;
    }
}

/// The gradient of x of a LayerNorm, r (g gamma - mean(g gamma) - xh mean(g gamma xh)).
#[cube(launch)]
fn layer_grad_kernel<F: Float>(
    x: &Array<F>,
    g: &Array<F>,
    gamma: &Array<F>,
    mean: &Array<F>,
    var: &Array<F>,
    gx: &mut Array<F>,
    channels: u32,
    length: u32,
    eps: InputScalar,
    #[comptime] across: usize,
    #[comptime] groups: usize,
) {
    let mut scratch = SharedMemory::<F>::new(across * groups);
    let share = share(channels, length, across);
    let inside = (share.position as usize) < mean.len();
    let end = select(inside, channels, 0u32);
    let step = comptime!(groups as u32);
    let count = F::cast_from(channels);
    let mut centre = F::new(0.0);
    let mut r = F::new(0.0);
    if inside {
        centre = mean[share.position as usize];
        r = steepness::<F>(var[share.position as usize], eps.get::<F>());
    }
    let mut alone = F::new(0.0);
    let mut with_x = F::new(0.0);
    let mut h = share.first;
    while h < end {
        let at = (share.base + h * length) as usize;
        let scaled = g[at] * gamma[h as usize];
        alone += scaled;
        with_x += scaled * ((x[at] - centre) * r);
        h += step;
    }
    let alone = sum_groups::<F>(alone, &mut scratch, across, groups) / count;
    let with_x = sum_groups::<F>(with_x, &mut scratch, across, groups) / count;
    h = share.first;
    while h < end {
        let at = (share.base + h * length) as usize;
        gx[at] = r * (g[at] * gamma[h as usize] - alone - (x[at] - centre) * r * with_x);
        h += step;
    }
}

/// Cubes and units for a cut.
fn grid<R: Runtime, E: Scalar>(cube: &Cube<R, E>, cut: &Cut) -> (CubeCount, CubeDim) {
    (cube.cubes(cut.cubes()), CubeDim::new_1d(cut.units as u32))
}

fn scaled<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    method: &'static str,
    x: &Tensor<Cube<R, E>>,
    scale: &Tensor<Cube<R, E>>,
    shift: Option<&Tensor<Cube<R, E>>>,
) -> Result<Tensor<Cube<R, E>>> {
    let out = cube.alloc(method, x.shape())?;
    if out.numel() > 0 {
        let cut = cube.cut(sequence(x.shape()));
        let (cubes, units) = grid(cube, &cut);
        affine_kernel::launch::<E, R>(cube.client(), cubes, units, arg(x), arg(scale), shift.map(arg).into(), cut.launch(), arg(&out));
    }
    Ok(out)
}

/// The moments of every piece of x's channels, (2, H, pieces).
fn moments_of_pieces<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    method: &'static str,
    x: &Tensor<Cube<R, E>>,
    cut: &Cut,
) -> Result<Tensor<Cube<R, E>>> {
    let parts = cube.alloc(method, &[2, cut.channels, cut.pieces])?;
    let (cubes, units) = grid(cube, cut);
    moments_kernel::launch::<E, R>(cube.client(), cubes, units, arg(x), cut.launch(), arg(&parts), cut.units);
    Ok(parts)
}

/// The gradient of x, with what it had before.
fn moments_grad<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    method: &'static str,
    [x, moments, g]: [&Tensor<Cube<R, E>>; 3],
    earlier: Option<&Tensor<Cube<R, E>>>,
) -> Result<Tensor<Cube<R, E>>> {
    let cut = cube.cut(shape::moments_grad(method, x.shape(), moments.shape(), g.shape())?);
    let (out, (cubes, units)) = (cube.alloc(method, x.shape())?, grid(cube, &cut));
    let (client, earlier) = (cube.client(), earlier.map(arg).into());
    moments_grad_kernel::launch::<E, R>(client, cubes, units, arg(x), arg(moments), arg(g), earlier, cut.launch(), arg(&out));
    Ok(out)
}

impl<R: Runtime, E: Scalar> Normalization for Cube<R, E> {
    fn affine(&self, x: &Tensor<Self>, scale: &Tensor<Self>, shift: &Tensor<Self>) -> Result<Tensor<Self>> {
        shape::affine("affine", x.shape(), scale.shape(), shift.shape())?;
        scaled(self, "affine", x, scale, Some(shift))
    }

    fn affine_grad(&self, x: &Tensor<Self>, scale: &Tensor<Self>, g: &Tensor<Self>, needs: [bool; 3]) -> Result<[Option<Tensor<Self>>; 3]> {
        const METHOD: &str = "affine_grad";
        let sizes = shape::affine(METHOD, x.shape(), scale.shape(), scale.shape())?;
        shape::gradient(METHOD, x.shape(), g.shape())?;
        let sums = [needs[1], needs[2]];
        if sums == [false; 2] {
            return Ok([needs[0].then(|| scaled(self, METHOD, g, scale, None)).transpose()?, None, None]);
        }
        let gx = self.alloc_if(needs[0], METHOD, x.shape())?;
        let cut = self.cut(sizes);
        let parts = self.alloc(METHOD, &[2, cut.channels, cut.pieces])?;
        let (cubes, units) = grid(self, &cut);
        let gx_arg = gx.as_ref().map(arg).into();
        affine_grad_kernel::launch::<E, R>(
            self.client(),
            cubes,
            units,
            arg(x),
            arg(scale),
            arg(g),
            cut.launch(),
            gx_arg,
            arg(&parts),
            cut.units,
        );
        let [gscale, gshift] = totals(self, METHOD, &parts, sums)?;
        Ok([gx, gscale, gshift])
    }

    fn moments(&self, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        let cut = self.cut(shape::sequence("moments", "x", x.shape())?);
        let parts = moments_of_pieces(self, "moments", x, &cut)?;
        let out = self.alloc("moments", &[2, cut.channels])?;
        let units = CubeDim::new_1d(cut.units as u32);
        merge_kernel::launch::<E, R>(self.client(), self.cubes(cut.channels), units, arg(&parts), cut.launch(), arg(&out), cut.units);
        Ok(out)
    }

    fn moments_grad(&self, x: &Tensor<Self>, moments: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>> {
        moments_grad(self, "moments_grad", [x, moments, g], None)
    }

    fn add_moments_grad(&self, x: &Tensor<Self>, moments: &Tensor<Self>, g: &Tensor<Self>, earlier: Tensor<Self>) -> Result<Tensor<Self>> {
        shape::exactly("add_moments_grad", "the gradient so far", x.shape(), earlier.shape())?;
        moments_grad(self, "add_moments_grad", [x, moments, g], Some(&earlier))
    }

    fn normalize(&self, axes: NormAxes, x: &Tensor<Self>, gamma: &Tensor<Self>, beta: &Tensor<Self>, eps: f64) -> Result<Normalized<Self>> {
        const METHOD: &str = "normalize";
        let groups = axes.check(x.shape(), gamma.shape(), beta.shape(), eps)?;
        let [batch, channels, length] = sequence(x.shape());
        let (output, mean, var) = (self.alloc(METHOD, x.shape())?, self.alloc(METHOD, &groups)?, self.alloc(METHOD, &groups)?);
        let (affine, out, eps) = ([arg(gamma), arg(beta)], [arg(&output), arg(&mean), arg(&var)], self.scalar(eps));
        let ([gamma, beta], [out_arg, mean_arg, var_arg]) = (affine, out);
        match axes {
            NormAxes::Batch => {
                let cut = self.cut([batch, channels, length]);
                let parts = moments_of_pieces(self, METHOD, x, &cut)?;
                let ((cubes, units), parts) = (grid(self, &cut), arg(&parts));
                batch_kernel::launch::<E, R>(
                    self.client(),
                    cubes,
                    units,
                    arg(x),
                    parts,
                    gamma,
                    beta,
                    cut.launch(),
                    out_arg,
                    mean_arg,
                    var_arg,
                    eps,
                    cut.units,
                );
            }
            NormAxes::Layer => layer_kernel::launch::<E, R>(
                self.client(),
                self.cubes((batch * length).div_ceil(ACROSS)),
                CubeDim::new_1d((ACROSS * GROUPS) as u32),
                arg(x),
                gamma,
                beta,
                out_arg,
                mean_arg,
                var_arg,
                channels as u32,
                length as u32,
                eps,
                ACROSS,
                GROUPS,
            ),
        }
        Ok(Normalized { output, mean, var })
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
        const METHOD: &str = "normalize_grad";
        axes.check_grad(x.shape(), gamma.shape(), [statistics.0.shape(), statistics.1.shape()], eps, g.shape())?;
        let shape = sequence(x.shape());
        let cut = self.cut(shape);
        let (gx, parts) = (self.alloc(METHOD, x.shape())?, self.alloc(METHOD, &[2, cut.channels, cut.pieces])?);
        let (mean, var) = statistics;
        let ((cubes, units), layer) = (grid(self, &cut), axes == NormAxes::Layer);
        norm_sums_kernel::launch::<E, R>(
            self.client(),
            cubes,
            units,
            arg(x),
            arg(g),
            arg(mean),
            arg(var),
            cut.launch(),
            arg(&parts),
            self.scalar(eps),
            layer,
            cut.units,
        );
        let [Some(ggamma), Some(gbeta)] = totals(self, METHOD, &parts, [true; 2])? else { unreachable!("both are wanted") };
        let eps = self.scalar(eps);
        let [mean, var, gamma, gx_arg] = [mean, var, gamma, &gx].map(arg);
        if layer {
            let cubes = self.cubes((shape[0] * shape[2]).div_ceil(ACROSS));
            let units = CubeDim::new_1d((ACROSS * GROUPS) as u32);
            let [channels, length] = [shape[1], shape[2]].map(|n| n as u32);
            let (x, g) = (arg(x), arg(g));
            layer_grad_kernel::launch::<E, R>(
                self.client(),
                cubes,
                units,
                x,
                g,
                gamma,
                mean,
                var,
                gx_arg,
                channels,
                length,
                eps,
                ACROSS,
                GROUPS,
            );
        } else {
            let ((cubes, units), channels) = (grid(self, &cut), cut.launch());
            let [x, g, parts] = [x, g, &parts].map(arg);
            batch_grad_kernel::launch::<E, R>(self.client(), cubes, units, x, g, parts, gamma, mean, var, channels, gx_arg, eps, cut.units);
        }
        Ok([gx, ggamma, gbeta])
    }
}
