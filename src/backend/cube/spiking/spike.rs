//! SpikeSampler: the affine, the draw and the surrogate gradient in one kernel; and the leaky integrate-and-fire neuron.

use std::f64::consts::FRAC_PI_2;

use cubecl::prelude::*;

use crate::backend::cube::channel_sums::{Channels, Cut, sequence, totals};
use crate::backend::cube::elementwise::functions::{full, plus};
use crate::backend::cube::elementwise::reduce::put_sums;
use crate::backend::cube::launch::constant;
use crate::backend::cube::random::{Place, Rows, unit};
use crate::backend::cube::storage::{Pair, arg};
use crate::backend::cube::{Cube, Scalar};
use crate::backend::tensor::Grads;
use crate::backend::{Lif, Noise, Spike, SpikeMode, Surrogate, Tensor, shape};
use crate::error::Result;

/// [`Surrogate`] without its steepness: what a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Clamp,
    Sigmoid,
    Atan,
    FastSigmoid,
}

impl Kind {
    /// The kind, and the steepness.
    pub(crate) fn of(surrogate: Surrogate) -> (Self, f64) {
        match surrogate {
            Surrogate::Clamp => (Kind::Clamp, 1.0),
            Surrogate::Sigmoid { alpha } => (Kind::Sigmoid, alpha),
            Surrogate::Atan { alpha } => (Kind::Atan, alpha),
            Surrogate::FastSigmoid { alpha } => (Kind::FastSigmoid, alpha),
        }
    }

    /// The kind for a draw's gradient: the expectation clamp(y, 0, 1) has its own derivative, whatever the surrogate.
    pub(crate) fn of_draw(mode: SpikeMode, surrogate: Surrogate) -> (Self, f64) {
        if mode == SpikeMode::Expected { (Kind::Clamp, 1.0) } else { Kind::of(surrogate) }
    }
}

/// scale x + shift with one rounding, in every kernel: all must agree whether y exceeds u.
#[cube]
pub(crate) fn potential<F: Float>(x: F, scale: F, shift: F) -> F {
    fma(scale, x, shift)
}

/// The spike of potential `y` against `u`: 1 where y > u, else (and for NaN) 0.
#[cube]
pub(crate) fn spike_of<F: Float>(y: F, u: F) -> F {
    select(y > u, F::new(1.0), F::new(0.0))
}

/// The expected spike clamp(y, 0, 1).
#[cube]
pub(crate) fn expected_spike<F: Float>(y: F) -> F {
    select(y < F::new(0.0), F::new(0.0), select(y > F::new(1.0), F::new(1.0), y))
}

/// The surrogate derivative of a spike by its potential `y`; [`Kind::Clamp`] ignores `u`.
#[cube]
pub(crate) fn surrogate_slope<F: Float>(y: F, u: F, alpha: F, #[comptime] kind: Kind) -> F {
    if comptime!(kind == Kind::Clamp) {
        select(y >= F::new(0.0) && y <= F::new(1.0), F::new(1.0), F::new(0.0))
    } else {
        slope_at::<F>(y - u, alpha, kind)
    }
}

/// The same by the distance `d` from the threshold; [`Kind::Clamp`] is a window of width 1 around it.
#[cube]
pub(crate) fn slope_at<F: Float>(d: F, alpha: F, #[comptime] kind: Kind) -> F {
    let one = F::new(1.0);
    match kind {
        Kind::Clamp => select(d >= F::new(-0.5) && d <= F::new(0.5), one, F::new(0.0)),
        Kind::Sigmoid => {
            // The slope is even in d: e^-|z| cannot overflow.
            let e = (-(alpha * d).abs()).exp();
            alpha * e / ((one + e) * (one + e))
        }
        Kind::Atan => {
            let z = constant::<F>(FRAC_PI_2) * alpha * d;
            F::new(0.5) * alpha / (one + z * z)
        }
        Kind::FastSigmoid => {
            let z = one + alpha * d.abs();
            one / (z * z)
        }
    }
}

/// Where a kernel's uniform numbers come from.
#[derive(CubeType, CubeLaunch)]
#[allow(dead_code, reason = "made from its launch arguments")]
pub(crate) enum Uniform<F: Float> {
    /// It needs none.
    Nothing,
    /// Those of a draw's rows; a stride is a cube's width.
    Stream(Rows),
    Given(Array<F>),
}

#[cube]
impl<F: Float> Uniform<F> {
    /// The place of element `position`.
    pub(crate) fn place(&self, position: u32) -> Place {
        #[comptime]
        match self {
            Uniform::Stream(rows) => rows.place(position),
            Uniform::Given(_) | Uniform::Nothing => Place::nowhere(),
        }
    }

    /// Moves from element `from` to element `to`, which is behind it.
    pub(crate) fn advance(&self, place: &mut Place, from: u32, to: u32) {
        #[comptime]
        match self {
            Uniform::Stream(rows) => rows.advance(place, from, to),
            Uniform::Given(_) | Uniform::Nothing => {}
        }
    }

    /// Moves a cube's width on, within a row.
    pub(crate) fn stride(&self, place: &mut Place) {
        #[comptime]
        match self {
            Uniform::Stream(rows) => rows.stride(place),
            Uniform::Given(_) | Uniform::Nothing => {}
        }
    }

    /// The number of element `position`, which is at `place`.
    pub(crate) fn number(&self, place: &Place, position: u32) -> F {
        #[comptime]
        match self {
            Uniform::Stream(_) => unit::<F>(place.word()),
            Uniform::Given(values) => values[position as usize],
            Uniform::Nothing => F::new(0.0),
        }
    }
}

/// scale and shift, (H) each.
#[derive(CubeType, CubeLaunch)]
pub(crate) struct Affine<F: Float> {
    scale: Array<F>,
    shift: Array<F>,
}

/// scale and shift of one channel.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct ChannelAffine<F: Float> {
    pub(crate) scale: F,
    pub(crate) shift: F,
}

/// Those of channel `h`; without an affine, y = x.
#[cube]
pub(crate) fn channel_affine<F: Float>(affine: &ComptimeOption<Affine<F>>, h: u32) -> ChannelAffine<F> {
    #[comptime]
    match affine {
        ComptimeOption::Some(affine) => ChannelAffine::<F> { scale: affine.scale[h as usize], shift: affine.shift[h as usize] },
        ComptimeOption::None => ChannelAffine::<F> { scale: F::new(1.0), shift: F::new(0.0) },
    }
}

/// Spikes of every potential, or their expectation.
#[cube(launch)]
fn spike_kernel<F: Float>(
    x: &Array<F>,
    affine: &ComptimeOption<Affine<F>>,
    uniform: &Uniform<F>,
    channels: &Channels,
    out: &mut Array<F>,
    #[comptime] expected: bool,
) {
    let h = channels.channel();
    if h < channels.channels {
        let map = channel_affine::<F>(affine, h);
        let end = channels.end();
        let mut k = channels.first();
        let mut at = channels.position(h, k);
        let mut place = uniform.place(at);
        while k < end {
            let y = potential::<F>(x[at as usize], map.scale, map.shift);
            if comptime!(expected) {
                out[at as usize] = expected_spike::<F>(y);
            } else {
                out[at as usize] = spike_of::<F>(y, uniform.number(&place, at));
            }
            k += CUBE_DIM;
            if k < end {
                let next = channels.position(h, k);
                uniform.advance(&mut place, at, next);
                at = next;
            }
        }
    }
}

/// The surrogate gradient of x, added to what it had where there was something, and every cube's share of those of scale and shift, (2, H, pieces).
#[cube(launch)]
fn spike_grad_kernel<F: Float>(
    x: &Array<F>,
    affine: &ComptimeOption<Affine<F>>,
    uniform: &Uniform<F>,
    g: &Array<F>,
    earlier: &ComptimeOption<Array<F>>,
    channels: &Channels,
    gx: &mut ComptimeOption<Array<F>>,
    parts: &mut ComptimeOption<Array<F>>,
    alpha: InputScalar,
    #[comptime] kind: Kind,
    #[comptime] units: usize,
) {
    let h = channels.channel();
    if h < channels.channels {
        let map = channel_affine::<F>(affine, h);
        let alpha = alpha.get::<F>();
        let end = channels.end();
        let mut k = channels.first();
        let mut at = channels.position(h, k);
        let mut place = uniform.place(at);
        let mut with_x = F::new(0.0);
        let mut alone = F::new(0.0);
        while k < end {
            let x = x[at as usize];
            let y = potential::<F>(x, map.scale, map.shift);
            let gy = g[at as usize] * surrogate_slope::<F>(y, uniform.number(&place, at), alpha, kind);
            #[comptime]
            match gx {
                ComptimeOption::Some(gx) => gx[at as usize] = plus::<F>(gy * map.scale, earlier, at as usize),
                ComptimeOption::None => {}
            }
            with_x += gy * x;
            alone += gy;
            k += CUBE_DIM;
            if k < end {
                let next = channels.position(h, k);
                uniform.advance(&mut place, at, next);
                at = next;
            }
        }
        #[comptime]
        match parts {
            ComptimeOption::Some(parts) => {
                let mut scratch = SharedMemory::<F>::new(units);
                put_sums::<F>(with_x, alone, parts, CUBE_POS, &mut scratch);
            }
            ComptimeOption::None => {}
        }
    }
}

pub(crate) fn affine_arg<R: Runtime, E: Scalar>(affine: Option<Pair<'_, R, E>>) -> ComptimeOptionArgs<Affine<E>, R> {
    affine.map(|(scale, shift)| AffineLaunch::new(arg(scale), arg(shift))).into()
}

/// The kernel argument for the uniform numbers of spikes of this shape, with `units` units a cube.
pub(crate) fn uniform_arg<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    noise: Noise<&Tensor<Cube<R, E>>>,
    looked_at: bool,
    shape: &[usize],
    units: usize,
) -> Result<UniformArgs<E, R>> {
    Ok(match noise {
        _ if !looked_at => UniformArgs::Nothing,
        Noise::Stream(draw) => UniformArgs::Stream(cube.rows(draw, shape::rows(shape), units)?),
        Noise::Given(values) => UniformArgs::Given(arg(values)),
    })
}

/// The cut of the potentials: by channels where there is an affine, else as one channel.
fn cut<R: Runtime, E: Scalar>(cube: &Cube<R, E>, x: &Tensor<Cube<R, E>>, affine: Option<Pair<'_, R, E>>) -> Cut {
    cube.cut(if affine.is_some() { sequence(x.shape()) } else { [1, 1, x.numel()] })
}

pub(crate) fn spike<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    spike: &Spike<Tensor<Cube<R, E>>>,
    x: &Tensor<Cube<R, E>>,
    affine: Option<Pair<'_, R, E>>,
) -> Result<Tensor<Cube<R, E>>> {
    let out = cube.alloc("spike", x.shape())?;
    if out.numel() == 0 {
        return Ok(out);
    }
    let (cut, expected) = (cut(cube, x, affine), spike.mode == SpikeMode::Expected);
    let uniform = uniform_arg(cube, spike.noise.as_ref(), !expected, x.shape(), cut.units)?;
    let (cubes, units) = (cube.cubes(cut.cubes()), CubeDim::new_1d(cut.units as u32));
    spike_kernel::launch::<E, R>(cube.client(), cubes, units, arg(x), affine_arg(affine), uniform, cut.launch(), arg(&out), expected);
    Ok(out)
}

pub(crate) fn spike_grad<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    spike: &Spike<Tensor<Cube<R, E>>>,
    x: &Tensor<Cube<R, E>>,
    affine: Option<Pair<'_, R, E>>,
    g: &Tensor<Cube<R, E>>,
    earlier: Option<&Tensor<Cube<R, E>>>,
    needs: [bool; 3],
) -> Result<Grads<Cube<R, E>, 3>> {
    let sums = [needs[1], needs[2]].map(|need| need && affine.is_some());
    let gx = cube.alloc_if(needs[0], "spike_grad", x.shape())?;
    if x.numel() == 0 || !(needs[0] || sums[0] || sums[1]) {
        let zeros = |wanted: bool| affine.filter(|_| wanted).map(|(scale, _)| full(cube, scale.shape(), 0.0)).transpose();
        return Ok([gx, zeros(sums[0])?, zeros(sums[1])?]);
    }
    let cut = cut(cube, x, affine);
    let parts = cube.alloc_if(sums[0] || sums[1], "spike_grad", &[2, cut.channels, cut.pieces])?;
    let (kind, alpha) = Kind::of_draw(spike.mode, spike.surrogate);
    spike_grad_kernel::launch::<E, R>(
        cube.client(),
        cube.cubes(cut.cubes()),
        CubeDim::new_1d(cut.units as u32),
        arg(x),
        affine_arg(affine),
        uniform_arg(cube, spike.noise.as_ref(), spike.has_noisy_grad(), x.shape(), cut.units)?,
        arg(g),
        earlier.filter(|_| needs[0]).map(arg).into(),
        cut.launch(),
        gx.as_ref().map(arg).into(),
        parts.as_ref().map(arg).into(),
        cube.scalar(alpha),
        kind,
        cut.units,
    );
    let [scale, shift] = parts.map_or(Ok([None, None]), |parts| totals(cube, "spike_grad", &parts, sums))?;
    Ok([gx, scale, shift])
}

/// The potential of a neuron before its reset, from the one before.
#[cube]
fn charge<F: Float>(v: F, x: F, decay: F, threshold: F, #[comptime] soft_reset: bool) -> F {
    let spike = v > threshold;
    if comptime!(soft_reset) { decay * v - select(spike, threshold, F::new(0.0)) + x } else { select(spike, F::new(0.0), decay) * v + x }
}

/// One unit a row: its spikes.
#[cube(launch)]
fn lif_kernel<F: Float>(
    x: &Array<F>,
    out: &mut Array<F>,
    length: u32,
    decay: InputScalar,
    threshold: InputScalar,
    #[comptime] soft_reset: bool,
) {
    let start = ABSOLUTE_POS * length as usize;
    if start < out.len() {
        let decay = decay.get::<F>();
        let threshold = threshold.get::<F>();
        let mut v = F::new(0.0);
        // At rest a neuron does not spike, whatever its threshold.
        let mut t = 0u32;
        while t < length {
            let at = start + t as usize;
            v = if t == 0 { x[at] } else { charge::<F>(v, x[at], decay, threshold, soft_reset) };
            out[at] = spike_of::<F>(v, threshold);
            t += 1;
        }
    }
}

/// One unit a row: first it writes the potentials to `out`; then, back through time, it replaces each by the gradient of its input.
#[cube(launch)]
fn lif_grad_kernel<F: Float>(
    x: &Array<F>,
    g: &Array<F>,
    out: &mut Array<F>,
    length: u32,
    decay: InputScalar,
    threshold: InputScalar,
    alpha: InputScalar,
    #[comptime] soft_reset: bool,
    #[comptime] kind: Kind,
) {
    let start = ABSOLUTE_POS * length as usize;
    if start < out.len() {
        let decay = decay.get::<F>();
        let threshold = threshold.get::<F>();
        let alpha = alpha.get::<F>();
        let mut v = F::new(0.0);
        let mut t = 0u32;
        while t < length {
            let at = start + t as usize;
            v = if t == 0 { x[at] } else { charge::<F>(v, x[at], decay, threshold, soft_reset) };
            out[at] = v;
            t += 1;
        }
        let mut later = F::new(0.0);
        while t > 0 {
            t -= 1;
            let at = start + t as usize;
            let gradient = g[at] * slope_at::<F>(out[at] - threshold, alpha, kind) + later;
            out[at] = gradient;
            later = decay * gradient;
            // A spike resets what the next step keeps; at t = 0 nothing is kept any more.
            if comptime!(!soft_reset) && t > 0 && out[at - 1] > threshold {
                later = F::new(0.0);
            }
        }
    }
}

/// The steps of a row.
fn row_length(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1)
}

pub(crate) fn lif<R: Runtime, E: Scalar>(cube: &Cube<R, E>, lif: &Lif, x: &Tensor<Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
    let out = cube.alloc("lif", x.shape())?;
    if out.numel() == 0 {
        return Ok(out);
    }
    let length = row_length(x.shape());
    let ((cubes, units), decay, threshold) = (cube.units(x.numel() / length), cube.scalar(lif.decay), cube.scalar(lif.threshold));
    lif_kernel::launch::<E, R>(cube.client(), cubes, units, arg(x), arg(&out), length as u32, decay, threshold, lif.soft_reset);
    Ok(out)
}

pub(crate) fn lif_grad<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    lif: &Lif,
    x: &Tensor<Cube<R, E>>,
    g: &Tensor<Cube<R, E>>,
) -> Result<Tensor<Cube<R, E>>> {
    let out = cube.alloc("lif_grad", x.shape())?;
    if out.numel() == 0 {
        return Ok(out);
    }
    let length = row_length(x.shape());
    let (cubes, units) = cube.units(x.numel() / length);
    let (kind, alpha) = Kind::of(lif.surrogate);
    lif_grad_kernel::launch::<E, R>(
        cube.client(),
        cubes,
        units,
        arg(x),
        arg(g),
        arg(&out),
        length as u32,
        cube.scalar(lif.decay),
        cube.scalar(lif.threshold),
        cube.scalar(alpha),
        lif.soft_reset,
        kind,
    );
    Ok(out)
}
