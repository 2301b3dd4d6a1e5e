//! From a convolution's output to the next spikes: dropout, activation, affine and draw, on values that the cube still holds.
//!
//! Only spikes are written. The gradient computes the potentials again.

use cubecl::prelude::*;

use super::right_angle::RowSizes;
use crate::backend::cube::elementwise::functions::{Activation, activated, activation_arg, activation_slope};
use crate::backend::cube::elementwise::reduce::put_sums;
use crate::backend::cube::random::{Place, Rows, draw_uniform, unit};
use crate::backend::cube::spiking::spike::{
    Affine, Kind, Uniform, affine_arg, channel_affine, expected_spike, potential, spike_of, surrogate_slope, uniform_arg,
};
use crate::backend::cube::storage::arg;
use crate::backend::cube::{Cube, Scalar};
use crate::backend::{Firing, SpikeMode, Tensor};
use crate::error::Result;

/// The operations between y and its spikes, as kernels take them.
#[derive(CubeType, CubeLaunch)]
pub(crate) struct Fire<F: Float> {
    uniform: Uniform<F>,
    activation: ComptimeOption<Activation>,
    affine: ComptimeOption<Affine<F>>,
    dropout: ComptimeOption<Dropout<F>>,
    /// The surrogate's steepness.
    alpha: InputScalar,
    #[cube(comptime)]
    variant: FireVariant,
}

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FireVariant {
    expected: bool,
    kind: Kind,
}

/// Dropout before and after the activation.
#[derive(CubeType, CubeLaunch)]
struct Dropout<F: Float> {
    elements: Rows,
    /// Uniform numbers (B, H).
    channels: Array<F>,
    keep: InputScalar,
    kept: InputScalar,
}

/// 0, or `kept` with the probability `keep`.
#[cube]
pub(crate) fn dropped<F: Float>(u: F, keep: F, kept: F) -> F {
    select(keep > u, kept, F::new(0.0))
}

/// Where a unit is in the two streams of random numbers: those of the spikes and those of dropout.
#[derive(CubeType)]
pub(crate) struct Places {
    noise: Place,
    dropping: Place,
}

/// What is computed between y and its spike.
#[derive(CubeType)]
struct Intermediates<F: Float> {
    /// y's dropout factor, and their product.
    mask: F,
    masked: F,
    /// The dropout factor of the activation, and their product.
    tied: F,
    x: F,
    scale: F,
    potential: F,
}

/// The gradients of one y, and the terms of those of scale and shift.
#[derive(CubeType)]
pub(crate) struct FireGrads<F: Float> {
    pub y: F,
    pub scale: F,
    pub shift: F,
}

#[cube]
impl Places {
    /// For a kernel that draws nothing.
    pub(crate) fn nowhere() -> Places {
        Places { noise: Place::nowhere(), dropping: Place::nowhere() }
    }
}

#[cube]
impl<F: Float> Fire<F> {
    /// The places of element `at`. The unit's next element is a cube's width further.
    pub(crate) fn start(&self, at: u32) -> Places {
        let noise = self.uniform.place(at);
        #[comptime]
        let dropping = match &self.dropout {
            ComptimeOption::Some(dropout) => dropout.elements.place(at),
            ComptimeOption::None => Place::nowhere(),
        };
        Places { noise, dropping }
    }

    pub(crate) fn stride(&self, places: &mut Places) {
        self.uniform.stride(&mut places.noise);
        #[comptime]
        match &self.dropout {
            ComptimeOption::Some(dropout) => dropout.elements.stride(&mut places.dropping),
            ComptimeOption::None => {}
        }
    }

    fn intermediates(&self, y: F, places: &Places, h: u32, row: u32) -> Intermediates<F> {
        let mut mask = F::new(1.0);
        let mut tied = F::new(1.0);
        #[comptime]
        match &self.dropout {
            ComptimeOption::Some(dropout) => {
                let keep = dropout.keep.get::<F>();
                let kept = dropout.kept.get::<F>();
                mask = dropped::<F>(unit::<F>(places.dropping.word()), keep, kept);
                tied = dropped::<F>(dropout.channels[row as usize], keep, kept);
            }
            ComptimeOption::None => {}
        }
        let masked = y * mask;
        let x = activated::<F>(&self.activation, masked) * tied;
        let map = channel_affine::<F>(&self.affine, h);
        Intermediates::<F> { mask, masked, tied, x, scale: map.scale, potential: potential::<F>(x, map.scale, map.shift) }
    }

    /// The spike of channel h's y, element `at` of row `row`.
    pub(crate) fn spike(&self, y: F, places: &Places, h: u32, row: u32, at: u32) -> F {
        let steps = self.intermediates(y, places, h, row);
        if comptime!(self.variant.expected) {
            expected_spike::<F>(steps.potential)
        } else {
            spike_of::<F>(steps.potential, self.uniform.number(&places.noise, at))
        }
    }

    /// The gradients for that `g` of the spike.
    pub(crate) fn gradients(&self, y: F, g: F, places: &Places, h: u32, row: u32, at: u32) -> FireGrads<F> {
        let steps = self.intermediates(y, places, h, row);
        let u = self.uniform.number(&places.noise, at);
        let shift = g * surrogate_slope::<F>(steps.potential, u, self.alpha.get::<F>(), comptime!(self.variant.kind));
        let y = shift * steps.scale * steps.tied * activation_slope::<F>(&self.activation, steps.masked);
        FireGrads::<F> { y: y * steps.mask, scale: shift * steps.x, shift }
    }
}

/// Spikes of y (B, H, L): a cube for every row.
#[cube(launch)]
pub(crate) fn fire_rows<F: Float>(y: &Array<F>, fire: &Fire<F>, out: &mut Array<F>, sizes: RowSizes) {
    let row = CUBE_POS as u32;
    if row < sizes.batch * sizes.channels {
        let start = row * sizes.length;
        let mut t = UNIT_POS;
        let mut places = fire.start(start + t);
        while t < sizes.length {
            let at = start + t;
            out[at as usize] = fire.spike(y[at as usize], &places, row % sizes.channels, row, at);
            fire.stride(&mut places);
            t += CUBE_DIM;
        }
    }
}

/// The gradient of y (B, H, L), and the shares (2, H, B) of those of scale and shift: a cube for every row.
#[cube(launch)]
pub(crate) fn fire_rows_grad<F: Float>(
    y: &Array<F>,
    g: &Array<F>,
    fire: &Fire<F>,
    out: &mut Array<F>,
    parts: &mut Array<F>,
    sizes: RowSizes,
    #[comptime] units: usize,
) {
    let mut scratch = SharedMemory::<F>::new(units);
    let row = CUBE_POS as u32;
    if row < sizes.batch * sizes.channels {
        let start = row * sizes.length;
        let h = row % sizes.channels;
        let mut scale = F::new(0.0);
        let mut shift = F::new(0.0);
        let mut t = UNIT_POS;
        let mut places = fire.start(start + t);
        while t < sizes.length {
            let at = start + t;
            let grads = fire.gradients(y[at as usize], g[at as usize], &places, h, row, at);
            out[at as usize] = grads.y;
            scale += grads.scale;
            shift += grads.shift;
            fire.stride(&mut places);
            t += CUBE_DIM;
        }
        put_sums::<F>(scale, shift, parts, (h * sizes.batch + row / sizes.channels) as usize, &mut scratch);
    }
}

/// The kernel argument for a firing of (B, H, L), with `units` units a cube. A gradient gets uniform numbers only where its surrogate
/// depends on them.
pub(crate) fn fire_arg<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    firing: &Firing<&Tensor<Cube<R, E>>>,
    shape: [usize; 3],
    units: usize,
    gradient: bool,
) -> Result<FireLaunch<E, R>> {
    let Firing { activation, dropout, affine, spike } = *firing;
    let expected = spike.mode == SpikeMode::Expected;
    let (kind, alpha) = Kind::of_draw(spike.mode, spike.surrogate);
    let dropout = dropout.map(|dropout| -> Result<_> {
        let channels = draw_uniform(cube, dropout.channels, &shape[..2])?;
        let (keep, elements) = (1.0 - dropout.p, cube.rows(dropout.elements, shape, units)?);
        Ok(DropoutLaunch::new(elements, arg(&channels), cube.scalar(keep), cube.scalar(1.0 / keep)))
    });
    let looked_at = if gradient { spike.has_noisy_grad() } else { !expected };
    let uniform = uniform_arg(cube, spike.noise, looked_at, &shape, units)?;
    let variant = FireVariant { expected, kind };
    let activation = activation_arg(cube, activation);
    Ok(FireLaunch::new(uniform, activation, affine_arg(affine), dropout.transpose()?.into(), cube.scalar(alpha), variant))
}
