//! Cross-entropy and the AdamW update.

use cubecl::prelude::*;

use super::elementwise::reduce::{sum_cube, sum_strided};
use super::launch::UNITS;
use super::storage::arg;
use super::{Cube, Scalar};
use crate::backend::{AdamW, AdamWParam, Learning, Tensor, shape};
use crate::error::Result;

/// The largest of every unit's `mine`, for all of them; `scratch` holds one number for every unit, a power of two of them.
#[cube]
fn max_cube<F: Float>(mine: F, scratch: &mut SharedMemory<F>) -> F {
    scratch[UNIT_POS as usize] = mine;
    sync_cube();
    let mut width = CUBE_DIM as usize / 2;
    while width > 0 {
        if (UNIT_POS as usize) < width {
            let other = scratch[UNIT_POS as usize + width];
            let own = scratch[UNIT_POS as usize];
            scratch[UNIT_POS as usize] = select(other > own, other, own);
        }
        sync_cube();
        width /= 2;
    }
    let max = scratch[0];
    // No unit may write the scratch again before all have read it.
    sync_cube();
    max
}

/// One cube a row of logits, (B, classes): its softmax, and -ln softmax[label], (B).
#[cube(launch)]
fn cross_entropy_kernel<F: Float>(
    logits: &Array<F>,
    labels: &Array<u32>,
    softmax: &mut Array<F>,
    losses: &mut Array<F>,
    classes: u32,
    #[comptime] units: usize,
) {
    let mut scratch = SharedMemory::<F>::new(units);
    let row = CUBE_POS;
    if row < losses.len() {
        let start = row * classes as usize;
        let end = start + classes as usize;
        // A comparison with NaN is false, so a NaN may be passed over here; the sum below is NaN all the same.
        let mut top = logits[start];
        let mut i = start + UNIT_POS as usize;
        while i < end {
            let v = logits[i];
            top = select(v > top, v, top);
            i += CUBE_DIM as usize;
        }
        let top = max_cube::<F>(top, &mut scratch);
        let mut sum = F::new(0.0);
        i = start + UNIT_POS as usize;
        while i < end {
            let power = (logits[i] - top).exp();
            softmax[i] = power;
            sum += power;
            i += CUBE_DIM as usize;
        }
        let sum = sum_cube::<F>(sum, &mut scratch);
        i = start + UNIT_POS as usize;
        while i < end {
            softmax[i] = softmax[i] / sum;
            i += CUBE_DIM as usize;
        }
        if UNIT_POS == 0 {
            losses[row] = sum.ln() - (logits[start + labels[row] as usize] - top);
        }
    }
}

/// The mean, by one cube.
#[cube(launch)]
fn mean_kernel<F: Float>(x: &Array<F>, out: &mut Array<F>, #[comptime] units: usize) {
    let mut scratch = SharedMemory::<F>::new(units);
    let sum = sum_strided::<F>(x, 0u32, x.len() as u32, 1u32, &mut scratch);
    if UNIT_POS == 0 {
        out[0] = sum / F::cast_from(x.len());
    }
}

/// g (softmax - one-hot) / B, with `g` of one entry.
#[cube(launch)]
fn cross_entropy_grad_kernel<F: Float>(softmax: &Array<F>, labels: &Array<u32>, g: &Array<F>, out: &mut Array<F>, classes: u32) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let row = i / classes as usize;
        let scale = g[0] / F::cast_from(labels.len());
        let hot = i - row * classes as usize == labels[row] as usize;
        out[i] = scale * (softmax[i] - select(hot, F::new(1.0), F::new(0.0)));
    }
}

/// The numbers of a step, the same for every entry.
#[derive(CubeType, CubeLaunch)]
struct Step {
    /// 1 - learning rate times weight decay.
    keep: InputScalar,
    /// The learning rate, corrected for the first moment's bias.
    rate: InputScalar,
    /// The root of the second moment's correction.
    root: InputScalar,
    beta2: InputScalar,
    /// 1 - beta1 and 1 - beta2.
    rest1: InputScalar,
    rest2: InputScalar,
    eps: InputScalar,
}

/// A parameter, its moments and its gradient.
#[derive(CubeType, CubeLaunch)]
struct Before<F: Float> {
    value: Array<F>,
    first: Array<F>,
    second: Array<F>,
    grad: Array<F>,
    step: Step,
}

/// A parameter and its moments.
#[derive(CubeType, CubeLaunch)]
struct After<F: Float> {
    value: Array<F>,
    first: Array<F>,
    second: Array<F>,
}

/// One step (Loshchilov and Hutter 2019) of some parameters: decay, moments, bias correction; order of operations as in PyTorch. The cubes
/// of a parameter, one unit for every entry, stand behind those of the one before.
#[cube(launch)]
fn adamw_kernel<F: Float>(old: &Sequence<Before<F>>, new: &mut Sequence<After<F>>) {
    let mut before = 0usize;
    #[unroll]
    for k in 0..old.len() {
        let own = old.index(k);
        let out = new.index_mut(k);
        let cubes = own.grad.len().div_ceil(CUBE_DIM as usize);
        if CUBE_POS >= before && CUBE_POS < before + cubes {
            let i = (CUBE_POS - before) * CUBE_DIM as usize + UNIT_POS as usize;
            if i < own.grad.len() {
                let (g, step) = (own.grad[i], &own.step);
                let m = own.first[i] + (g - own.first[i]) * step.rest1.get::<F>();
                let v = own.second[i] * step.beta2.get::<F>() + g * g * step.rest2.get::<F>();
                let size = v.sqrt() / step.root.get::<F>() + step.eps.get::<F>();
                out.first[i] = m;
                out.second[i] = v;
                out.value[i] = own.value[i] * step.keep.get::<F>() - step.rate.get::<F>() * m / size;
            }
        }
        before += cubes;
    }
}

/// Parameters that a launch moves, at most; each has [`ARRAYS`] arrays.
const TOGETHER: usize = 16;
const ARRAYS: usize = 7;

fn words(labels: &[usize]) -> Vec<u32> {
    labels.iter().map(|&label| label as u32).collect()
}

impl<R: Runtime, E: Scalar> Learning for Cube<R, E> {
    fn cross_entropy(&self, logits: &Tensor<Self>, labels: &[usize]) -> Result<(Tensor<Self>, Tensor<Self>)> {
        const METHOD: &str = "cross_entropy";
        shape::labels(METHOD, logits.shape(), labels)?;
        let classes = logits.shape()[1];
        let (softmax, losses, loss) = (self.alloc(METHOD, logits.shape())?, self.alloc(METHOD, &[labels.len()])?, self.alloc(METHOD, &[])?);
        let labels = self.upload_words(METHOD, &words(labels))?;
        let units = self.limits().units_up_to(classes.next_power_of_two().clamp(32, UNITS));
        cross_entropy_kernel::launch::<E, R>(
            self.client(),
            self.cubes(losses.numel()),
            CubeDim::new_1d(units as u32),
            arg(logits),
            labels.arg(),
            arg(&softmax),
            arg(&losses),
            classes as u32,
            units,
        );
        let units = self.limits().units_up_to(UNITS);
        mean_kernel::launch::<E, R>(self.client(), self.cubes(1), CubeDim::new_1d(units as u32), arg(&losses), arg(&loss), units);
        Ok((loss, softmax))
    }

    fn cross_entropy_grad(&self, softmax: &Tensor<Self>, labels: &[usize], g: &Tensor<Self>) -> Result<Tensor<Self>> {
        const METHOD: &str = "cross_entropy_grad";
        shape::labels(METHOD, softmax.shape(), labels)?;
        shape::gradient(METHOD, &[], g.shape())?;
        let (out, labels) = (self.alloc(METHOD, softmax.shape())?, self.upload_words(METHOD, &words(labels))?);
        let ((cubes, units), classes) = (self.units(out.numel()), softmax.shape()[1] as u32);
        cross_entropy_grad_kernel::launch::<E, R>(self.client(), cubes, units, arg(softmax), labels.arg(), arg(g), arg(&out), classes);
        Ok(out)
    }

    fn adamw(&self, step: &AdamW, state: [&Tensor<Self>; 3], grad: &Tensor<Self>) -> Result<[Tensor<Self>; 3]> {
        let mut moved = self.adamw_together(&[(*step, state, grad)])?;
        Ok(moved.remove(0))
    }

    fn adamw_together(&self, params: &[AdamWParam<Self>]) -> Result<Vec<[Tensor<Self>; 3]>> {
        params.iter().try_for_each(|(step, state, grad)| step.check(state.map(Tensor::shape), grad.shape()))?;
        let make = |grad: &Tensor<Self>| self.alloc("adamw", grad.shape());
        let new = params.iter().map(|(.., grad)| Ok([make(grad)?, make(grad)?, make(grad)?])).collect::<Result<Vec<_>>>()?;
        let filled: Vec<_> = params.iter().zip(&new).filter(|((.., grad), _)| grad.numel() > 0).collect();
        // Beside the arrays, the numbers are bound.
        let together = TOGETHER.min(self.limits().bindings.saturating_sub(1) / ARRAYS).max(1);
        let units = self.limits().units_up_to(UNITS);
        for some in filled.chunks(together) {
            let cubes = some.iter().map(|((.., grad), _)| grad.numel().div_ceil(units)).sum();
            let old = some.iter().map(|((step, [value, first, second], grad), _)| {
                BeforeLaunch::new(arg(value), arg(first), arg(second), arg(grad), self.numbers(step))
            });
            let new = some.iter().map(|(_, [value, first, second])| AfterLaunch::new(arg(value), arg(first), arg(second)));
            adamw_kernel::launch::<E, R>(self.client(), self.cubes(cubes), CubeDim::new_1d(units as u32), old.collect(), new.collect());
        }
        Ok(new)
    }
}

impl<R: Runtime, E: Scalar> Cube<R, E> {
    /// The numbers of a step as the kernel takes them.
    fn numbers(&self, step: &AdamW) -> StepLaunch<R> {
        let correct = |beta: f64| 1.0 - beta.powf(step.step as f64);
        StepLaunch::new(
            self.scalar(1.0 - step.lr * step.weight_decay),
            self.scalar(step.lr / correct(step.beta1)),
            self.scalar(correct(step.beta2).sqrt()),
            self.scalar(step.beta2),
            self.scalar(1.0 - step.beta1),
            self.scalar(1.0 - step.beta2),
            self.scalar(step.eps),
        )
    }
}
