//! The optimiser's step, of elementwise arithmetic.

use super::{add, scaled, sub};
use crate::backend::{AdamW, Binary, Learning, Tensor, Unary};
use crate::error::Result;

/// One AdamW step (Loshchilov and Hutter 2019): the new parameter, first moment, second moment.
pub fn adamw<B: Learning>(backend: &B, step: &AdamW, state: [&Tensor<B>; 3], grad: &Tensor<B>) -> Result<[Tensor<B>; 3]> {
    step.check(state.map(Tensor::shape), grad.shape())?;
    let [value, first, second] = state;
    let blend =
        |beta: f64, old: &Tensor<B>, new: &Tensor<B>| add(backend, &scaled(backend, beta, old)?, &scaled(backend, 1.0 - beta, new)?);
    let first = blend(step.beta1, first, grad)?;
    let second = blend(step.beta2, second, &backend.unary(Unary::Square, grad)?)?;
    let corrected = |beta: f64, moment: &Tensor<B>| scaled(backend, 1.0 / (1.0 - beta.powf(step.step as f64)), moment);
    let root = backend.unary(Unary::Sqrt, &corrected(step.beta2, &second)?)?;
    let direction = backend.binary(Binary::Div, &corrected(step.beta1, &first)?, &backend.unary(Unary::Linear(1.0, step.eps), &root)?)?;
    let kept = scaled(backend, 1.0 - step.lr * step.weight_decay, value)?;
    Ok([sub(backend, &kept, &scaled(backend, step.lr, &direction)?)?, first, second])
}
