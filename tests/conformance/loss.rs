//! Cross-entropy and the AdamW step, from their definitions.

use proptest::prelude::*;
use proptest::sample::select;
use pspikessm::backend::{AdamW, Backend};

use super::dual::{Dual, evaluate, gradient};
use super::harness::{Array, Dice, Lab, cases, filled_shape, once, seed, shape};

/// The mean of -ln(e^(logit of the label) / sum of e^logits); then the softmax.
fn define(classes: usize, labels: &[usize], logits: &[Dual]) -> (Dual, Vec<Dual>) {
    let mut softmax = Vec::new();
    for row in logits.chunks_exact(classes) {
        // Shifted by a constant, which changes nothing but keeps e^logit finite.
        let top = row.iter().fold(f64::MIN, |top, logit| top.max(logit.value));
        let powers: Vec<Dual> = row.iter().map(|&logit| (logit + -top).exp()).collect();
        let sum: Dual = powers.iter().copied().sum();
        softmax.extend(powers.iter().map(|&power| power / sum));
    }
    let of_labels: Dual = labels.iter().enumerate().map(|(b, &label)| -softmax[b * classes + label].ln()).sum();
    (of_labels * (1.0 / labels.len() as f64), softmax)
}

/// (batch, classes, spread of the logits, seed).
fn batches() -> impl Strategy<Value = (usize, usize, f64, u64)> {
    (select(vec![1usize, 2, 7, 33]), select(vec![1usize, 2, 10, 33]), select(vec![0.1, 3.0, 12.0]), seed())
}

pub fn cross_entropy<B: Backend>(lab: &Lab<B>) {
    cases(24, 80, batches(), |(batch, classes, spread, seed)| {
        let mut dice = Dice::new(seed);
        let logits = lab.array(&mut dice, &[batch, classes], -spread, spread);
        let labels: Vec<usize> = (0..batch).map(|_| dice.below(classes)).collect();
        let (loss, softmax) = lab.backend.cross_entropy(&lab.put(&logits)?, &labels)?;
        let define = |logits: &[Vec<Dual>]| define(classes, &labels, &logits[0]);
        lab.near("the loss", &loss, &evaluate(&[&logits], &[], |x| vec![define(x).0]), lab.tolerance.sums, 1.0)?;
        lab.near("the softmax", &softmax, &evaluate(&[&logits], &[batch, classes], |x| define(x).1), lab.tolerance.sums, 0.0)
    });
}

pub fn cross_entropy_of_extreme_logits<B: Backend>(lab: &Lab<B>) {
    once(|| {
        let logits = lab.put(&Array::new(&[2, 3], vec![1000.0, -1000.0, 0.0, -3000.0, -3000.0, -3000.0]))?;
        let (loss, softmax) = lab.backend.cross_entropy(&logits, &[1, 2])?;
        lab.near("the loss", &loss, &Array::new(&[], vec![(2000.0 + 3f64.ln()) / 2.0]), lab.tolerance.elementwise, 0.0)?;
        let third = 1.0 / 3.0;
        lab.near("the softmax", &softmax, &Array::new(&[2, 3], vec![1.0, 0.0, 0.0, third, third, third]), lab.tolerance.elementwise, 0.0)?;
        for at in 0..3 {
            let mut logits = Array::zeros(&[1, 3]);
            logits.values[at] = f64::NAN;
            let (loss, _) = lab.backend.cross_entropy(&lab.put(&logits)?, &[0])?;
            lab.same("the loss of a NaN", &loss, &Array::new(&[], vec![f64::NAN]))?;
        }
        Ok(())
    });
}

pub fn cross_entropy_gradient<B: Backend>(lab: &Lab<B>) {
    cases(24, 81, batches(), |(batch, classes, spread, seed)| {
        let mut dice = Dice::new(seed);
        let logits = lab.array(&mut dice, &[batch, classes], -spread, spread);
        let labels: Vec<usize> = (0..batch).map(|_| dice.below(classes)).collect();
        let (_, softmax) = lab.backend.cross_entropy(&lab.put(&logits)?, &labels)?;
        let g = lab.array(&mut dice, &[], -2.0, 2.0);
        let want = gradient(&[&logits], &g, |logits| vec![define(classes, &labels, &logits[0]).0]);
        let got = lab.backend.cross_entropy_grad(&softmax, &labels, &lab.put(&g)?)?;
        lab.near("the gradient of the loss", &got, &want[0], lab.tolerance.sums, g.largest() / batch as f64)
    });
}

/// (parameter, first moment, second moment) after a step.
fn step_by_hand(step: &AdamW, [p, m, v]: [f64; 3], g: f64) -> [f64; 3] {
    let decayed = p - step.lr * step.weight_decay * p;
    let m = step.beta1 * m + (1.0 - step.beta1) * g;
    let v = step.beta2 * v + (1.0 - step.beta2) * g * g;
    let corrected = |moment: f64, beta: f64| moment / (1.0 - beta.powi(step.step as i32));
    [decayed - step.lr * corrected(m, step.beta1) / (corrected(v, step.beta2).sqrt() + step.eps), m, v]
}

pub fn adamw<B: Backend>(lab: &Lab<B>) {
    let steps = (select(vec![1u64, 2, 100, 100_000]), select(vec![1e-3, 0.5]), select(vec![0.0, 0.05]));
    cases(24, 82, (filled_shape(), steps, seed()), |(shape, (step, lr, weight_decay), seed)| {
        let mut dice = Dice::new(seed);
        let step = AdamW { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay, step };
        let state = [lab.signed(&mut dice, &shape), lab.signed(&mut dice, &shape), lab.array(&mut dice, &shape, 0.01, 1.0)];
        let g = lab.signed(&mut dice, &shape);
        let by_hand = |i: usize| step_by_hand(&step, [0, 1, 2].map(|part| state[part].values[i]), g.values[i]);
        let there = [lab.put(&state[0])?, lab.put(&state[1])?, lab.put(&state[2])?];
        let got = lab.backend.adamw(&step, [&there[0], &there[1], &there[2]], &lab.put(&g)?)?;
        for (part, got) in got.iter().enumerate() {
            let want = Array::new(&shape, (0..g.values.len()).map(|i| by_hand(i)[part]).collect());
            lab.near(&format!("part {part} of {step:?}"), got, &want, lab.tolerance.sums, 1.0)?;
        }
        Ok(())
    });
    once(|| {
        // From nothing, the first step is the learning rate against the gradient's sign; without a gradient there is none.
        let step = AdamW { lr: 0.25, beta1: 0.9, beta2: 0.999, eps: 1e-30, weight_decay: 0.0, step: 1 };
        let (zero, g) = (lab.put(&Array::zeros(&[3]))?, lab.put(&Array::new(&[3], vec![1e-3, -5.0, 0.0]))?);
        let [p, _, _] = lab.backend.adamw(&step, [&zero, &zero, &zero], &g)?;
        lab.near("the first step", &p, &Array::new(&[3], vec![-0.25, 0.25, 0.0]), lab.tolerance.sums, 0.0)
    });
}

/// Each with numbers of its own, more of them than a launch takes, empty ones among them.
pub fn adamw_of_many<B: Backend>(lab: &Lab<B>) {
    cases(6, 83, (prop::collection::vec(shape(), 0..40), seed()), |(shapes, seed)| {
        let mut dice = Dice::new(seed);
        let params: Vec<_> = shapes
            .iter()
            .enumerate()
            .map(|(i, shape)| {
                let (lr, weight_decay) = (0.01 * (i + 1) as f64, if i % 2 == 0 { 0.05 } else { 0.0 });
                let step = AdamW { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay, step: 1 + 7 * i as u64 };
                let state = [lab.signed(&mut dice, shape), lab.signed(&mut dice, shape), lab.array(&mut dice, shape, 0.01, 1.0)];
                (step, state, lab.signed(&mut dice, shape))
            })
            .collect();
        let there =
            params.iter().map(|(step, state, g)| Ok((*step, [lab.put(&state[0])?, lab.put(&state[1])?, lab.put(&state[2])?], lab.put(g)?)));
        let there = there.collect::<Result<Vec<_>, TestCaseError>>()?;
        let together: Vec<_> = there.iter().map(|(step, state, g)| (*step, state.each_ref(), g)).collect();
        let moved = lab.backend.adamw_together(&together)?;
        prop_assert_eq!(moved.len(), params.len());
        for ((step, state, g), moved) in params.iter().zip(&moved) {
            let by_hand = |i: usize| step_by_hand(step, [0, 1, 2].map(|part| state[part].values[i]), g.values[i]);
            for (part, got) in moved.iter().enumerate() {
                let want = Array::new(&g.shape, (0..g.values.len()).map(|i| by_hand(i)[part]).collect());
                lab.near(&format!("part {part} of {step:?}"), got, &want, lab.tolerance.sums, 1.0)?;
            }
        }
        Ok(())
    });
}
