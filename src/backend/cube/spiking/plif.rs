//! Leaky integrate-and-fire neurons with a decay and a threshold a channel: one unit a row.

use cubecl::prelude::*;

use super::spike::{Kind, slope_at, spike_of};
use crate::backend::cube::channel_sums::totals;
use crate::backend::cube::storage::arg;
use crate::backend::cube::{Cube, Scalar};
use crate::backend::tensor::Grads;
use crate::backend::{Adaptation, Plif, Tensor};
use crate::error::Result;

/// The neurons of all channels, and the sizes of their drives (B, H, L).
#[derive(CubeType, CubeLaunch)]
struct Neurons<F: Float> {
    /// (H) each.
    decay: Array<F>,
    threshold: Array<F>,
    channels: u32,
    length: u32,
    strength: InputScalar,
    fading: InputScalar,
    #[cube(comptime)]
    soft_reset: bool,
    #[cube(comptime)]
    adapts: bool,
}

/// A neuron between two time steps.
#[derive(CubeType)]
struct Membrane<F: Float> {
    v: F,
    theta: F,
    /// What the neuron's own spikes add to its threshold, less its strength.
    raised: F,
}

#[cube]
impl<F: Float> Neurons<F> {
    /// The channel of a row.
    fn channel(&self, row: usize) -> usize {
        row % self.channels as usize
    }

    /// A neuron that nothing has driven yet.
    fn at_rest(&self, h: usize) -> Membrane<F> {
        Membrane::<F> { v: F::new(0.0), theta: self.threshold[h], raised: F::new(0.0) }
    }

    /// One time step under the drive `x`. At rest a neuron does not spike, whatever its threshold.
    fn step(&self, membrane: &mut Membrane<F>, h: usize, x: F, first: bool) {
        let spikes = membrane.v > membrane.theta && !first;
        let zero = F::new(0.0);
        if comptime!(self.soft_reset) {
            membrane.v = self.decay[h] * membrane.v + x - select(spikes, membrane.theta, zero);
        } else {
            membrane.v = self.decay[h] * select(spikes, zero, membrane.v) + x;
        }
        if comptime!(self.adapts) {
            membrane.raised = self.fading.get::<F>() * membrane.raised + select(spikes, F::new(1.0), zero);
            membrane.theta = self.threshold[h] + self.strength.get::<F>() * membrane.raised;
        }
    }
}

/// The spikes of every row.
#[cube(launch)]
fn plif_kernel<F: Float>(x: &Array<F>, neurons: &Neurons<F>, out: &mut Array<F>) {
    let start = ABSOLUTE_POS * neurons.length as usize;
    if start < out.len() {
        let h = neurons.channel(ABSOLUTE_POS);
        let mut membrane = neurons.at_rest(h);
        let mut t = 0u32;
        while t < neurons.length {
            let at = start + t as usize;
            neurons.step(&mut membrane, h, x[at], t == 0);
            out[at] = spike_of::<F>(membrane.v, membrane.theta);
            t += 1;
        }
    }
}

/// The threshold of a time step.
#[cube]
fn theta_at<F: Float>(thetas: &ComptimeOption<Array<F>>, neurons: &Neurons<F>, h: usize, at: usize) -> F {
    #[comptime]
    match thetas {
        ComptimeOption::Some(thetas) => thetas[at],
        ComptimeOption::None => neurons.threshold[h],
    }
}

/// First it writes the potentials to `out`, and the thresholds where they move to `thetas`; then, back through time, it replaces each potential
/// by the gradient of its input. A row's shares of the gradients of decay and threshold go to `parts`, (2, H, B).
#[cube(launch)]
fn plif_grad_kernel<F: Float>(
    x: &Array<F>,
    g: &Array<F>,
    neurons: &Neurons<F>,
    out: &mut Array<F>,
    thetas: &mut ComptimeOption<Array<F>>,
    parts: &mut Array<F>,
    alpha: InputScalar,
    #[comptime] kind: Kind,
) {
    let length = neurons.length as usize;
    let start = ABSOLUTE_POS * length;
    if start < out.len() {
        let h = neurons.channel(ABSOLUTE_POS);
        let decay = neurons.decay[h];
        let mut membrane = neurons.at_rest(h);
        let mut t = 0usize;
        while t < length {
            let at = start + t;
            neurons.step(&mut membrane, h, x[at], t == 0);
            out[at] = membrane.v;
            #[comptime]
            match thetas {
                ComptimeOption::Some(thetas) => thetas[at] = membrane.theta,
                ComptimeOption::None => {}
            }
            t += 1;
        }
        let zero = F::new(0.0);
        let mut of_decay = zero;
        let mut of_threshold = zero;
        let mut later = zero;
        while t > 0 {
            t -= 1;
            let at = start + t;
            let theta = theta_at::<F>(thetas, neurons, h, at);
            // At the last time step nothing is kept any more.
            let resets = out[at] > theta && t + 1 < length;
            let direct = g[at] * slope_at::<F>(out[at] - theta, alpha.get::<F>(), kind);
            if comptime!(neurons.soft_reset) {
                of_threshold -= direct + select(resets, later, zero);
                later = direct + decay * later;
            } else {
                of_threshold -= direct;
                later = direct + select(resets, zero, decay * later);
            }
            if t > 0 {
                let before = out[at - 1];
                let mut kept = before;
                if comptime!(!neurons.soft_reset) {
                    kept = select(before > theta_at::<F>(thetas, neurons, h, at - 1), zero, before);
                }
                of_decay += later * kept;
            }
            out[at] = later;
        }
        let rows = out.len() / length;
        let batch = rows / neurons.channels as usize;
        let part = h * batch + ABSOLUTE_POS / neurons.channels as usize;
        parts[part] = of_decay;
        parts[rows + part] = of_threshold;
    }
}

/// The kernel argument for neurons of this decay and threshold on drives of this shape.
fn neurons<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    plif: &Plif,
    [decay, threshold]: [&Tensor<Cube<R, E>>; 2],
    [_, channels, length]: [usize; 3],
) -> NeuronsLaunch<E, R> {
    let Adaptation { strength, fading } = plif.adaptation.unwrap_or(Adaptation { strength: 0.0, fading: 0.0 });
    let [strength, fading] = [strength, fading].map(|x| cube.scalar(x));
    let (soft_reset, adapts) = (plif.soft_reset, plif.adaptation.is_some());
    NeuronsLaunch::new(arg(decay), arg(threshold), channels as u32, length as u32, strength, fading, soft_reset, adapts)
}

pub(super) fn plif<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    plif: &Plif,
    x: &Tensor<Cube<R, E>>,
    of_channels: [&Tensor<Cube<R, E>>; 2],
    shape: [usize; 3],
) -> Result<Tensor<Cube<R, E>>> {
    let out = cube.alloc("plif", x.shape())?;
    let (cubes, units) = cube.units(shape[0] * shape[1]);
    plif_kernel::launch::<E, R>(cube.client(), cubes, units, arg(x), neurons(cube, plif, of_channels, shape), arg(&out));
    Ok(out)
}

pub(super) fn plif_grad<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    plif: &Plif,
    [x, g]: [&Tensor<Cube<R, E>>; 2],
    of_channels: [&Tensor<Cube<R, E>>; 2],
    shape: [usize; 3],
    needs: [bool; 3],
) -> Result<Grads<Cube<R, E>, 3>> {
    const METHOD: &str = "plif_grad";
    let [batch, channels, _] = shape;
    let (out, thetas) = (cube.alloc(METHOD, x.shape())?, cube.alloc_if(plif.adaptation.is_some(), METHOD, x.shape())?);
    let parts = cube.alloc(METHOD, &[2, channels, batch])?;
    let (cubes, units) = cube.units(batch * channels);
    let (kind, alpha) = Kind::of(plif.surrogate);
    plif_grad_kernel::launch::<E, R>(
        cube.client(),
        cubes,
        units,
        arg(x),
        arg(g),
        neurons(cube, plif, of_channels, shape),
        arg(&out),
        thetas.as_ref().map(arg).into(),
        arg(&parts),
        cube.scalar(alpha),
        kind,
    );
    let sums = [needs[1], needs[2]];
    let [decay, threshold] = if sums == [false; 2] { [None, None] } else { totals(cube, METHOD, &parts, sums)? };
    Ok([Some(out).filter(|_| needs[0]), decay, threshold])
}
