//! Cross-entropy and the AdamW update.

use super::{Cpu, values};
use crate::backend::host::simd::{Isa, dispatch};
use crate::backend::host::threads::{PIECE, for_each};
use crate::backend::{AdamW, Learning, Real, Tensor, Transfer, shape};
use crate::error::Result;

/// The mean of -ln softmax(logits)[label] in f64, and the softmax, (B, classes).
pub fn cross_entropy<E: Real>(logits: &[E], labels: &[usize], softmax: &mut [E]) -> f64 {
    let classes = logits.len() / labels.len();
    let mut total = 0.0;
    for ((row, out), &label) in logits.chunks_exact(classes).zip(softmax.chunks_exact_mut(classes)).zip(labels) {
        // A comparison that NaN fails, so that a NaN logit stays NaN in the loss.
        let top = row.iter().fold(E::neg_infinity(), |top, &v| if v > top { v } else { top });
        let sum: f64 = row.iter().map(|&v| (v - top).f64().exp()).sum();
        total += sum.ln() - (row[label] - top).f64();
        out.iter_mut().zip(row).for_each(|(out, &v)| *out = E::of((v - top).f64().exp() / sum));
    }
    total / labels.len() as f64
}

/// g (softmax - one-hot) / B.
pub fn cross_entropy_grad<E: Real>(softmax: &[E], labels: &[usize], g: E, out: &mut [E]) {
    let classes = softmax.len() / labels.len();
    let scale = g / E::of(labels.len() as f64);
    for ((out, row), &label) in out.chunks_exact_mut(classes).zip(softmax.chunks_exact(classes)).zip(labels) {
        for (class, (out, &p)) in out.iter_mut().zip(row).enumerate() {
            *out = scale * if class == label { p - E::one() } else { p };
        }
    }
}

/// One step (Loshchilov and Hutter 2019): decay, moments, bias correction; order of operations as in PyTorch.
pub fn adamw<E: Real>(step: &AdamW, state: [&[E]; 3], grad: &[E], out: [&mut [E]; 3]) {
    let [new_value, new_first, new_second] = out;
    let work: Vec<_> = new_value.chunks_mut(PIECE).zip(new_first.chunks_mut(PIECE)).zip(new_second.chunks_mut(PIECE)).collect();
    for_each(work, |i, ((new_value, new_first), new_second)| {
        let piece = i * PIECE..i * PIECE + new_value.len();
        let state = state.map(|values| &values[piece.clone()]);
        adamw_piece(step, state, &grad[piece], [new_value, new_first, new_second]);
    });
}

dispatch! { fn adamw_piece<E: Real>(step: &AdamW, state: [&[E]; 3], grad: &[E], out: [&mut [E]; 3]) = adamw_body; }

#[inline(always)]
fn adamw_body<I: Isa, E: Real>(
    step: &AdamW,
    [value, first, second]: [&[E]; 3],
    grad: &[E],
    [new_value, new_first, new_second]: [&mut [E]; 3],
) {
    let correct = |beta: f64| 1.0 - beta.powf(step.step as f64);
    let keep = E::of(1.0 - step.lr * step.weight_decay);
    let rate = E::of(step.lr / correct(step.beta1));
    let root = E::of(correct(step.beta2).sqrt());
    let (beta2, eps) = (E::of(step.beta2), E::of(step.eps));
    let (rest1, rest2) = (E::of(1.0 - step.beta1), E::of(1.0 - step.beta2));
    let old = value.iter().zip(first).zip(second).zip(grad);
    for (((new_value, new_first), new_second), (((&value, &first), &second), &g)) in
        new_value.iter_mut().zip(new_first).zip(new_second).zip(old)
    {
        let m = first + (g - first) * rest1;
        let v = second * beta2 + g * g * rest2;
        (*new_first, *new_second) = (m, v);
        *new_value = value * keep - rate * m / (v.sqrt() / root + eps);
    }
}

impl<E: Real> Learning for Cpu<E> {
    fn cross_entropy(&self, logits: &Tensor<Self>, labels: &[usize]) -> Result<(Tensor<Self>, Tensor<Self>)> {
        shape::labels("cross_entropy", logits.shape(), labels)?;
        let mut loss = 0.0;
        let softmax = self.make(logits.shape(), |out| loss = cross_entropy(values(logits), labels, out));
        Ok((self.full(&[], loss)?, softmax))
    }

    fn cross_entropy_grad(&self, softmax: &Tensor<Self>, labels: &[usize], g: &Tensor<Self>) -> Result<Tensor<Self>> {
        shape::labels("cross_entropy_grad", softmax.shape(), labels)?;
        shape::gradient("cross_entropy_grad", &[], g.shape())?;
        Ok(self.make(softmax.shape(), |out| cross_entropy_grad(values(softmax), labels, values(g)[0], out)))
    }

    fn adamw(&self, step: &AdamW, state: [&Tensor<Self>; 3], grad: &Tensor<Self>) -> Result<[Tensor<Self>; 3]> {
        step.check(state.map(Tensor::shape), grad.shape())?;
        let mut out = [(); 3].map(|()| self.pool.dirty(grad.numel()));
        let [value, first, second] = &mut out;
        adamw(step, state.map(values), values(grad), [value, first, second]);
        Ok(out.map(|buffer| self.wrap(buffer, grad.shape())))
    }
}
