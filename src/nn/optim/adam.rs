//! Adam and AdamW: steps by the running means of gradients and of their squares.

use serde::{Deserialize, Serialize};

use super::{Moved, Moving, Step, UpdateRule, check_shares, check_sizes, combined};
use crate::backend::{AdamW, Backend, Tensor};
use crate::error::Result;

/// AdamW (Loshchilov and Hutter 2019): Adam with weight decay beside the gradient. In a recipe the section `[optimizer]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AdamWConfig {
    /// Learning rate of parameters without their own.
    pub lr: f64,
    /// Decay of the first moment.
    #[serde(default = "default::beta1")]
    pub beta1: f64,
    /// Decay of the second moment.
    #[serde(default = "default::beta2")]
    pub beta2: f64,
    /// Added to the root of the second moment.
    #[serde(default = "default::eps")]
    pub eps: f64,
    /// Decoupled weight decay of the parameters that decay.
    pub weight_decay: f64,
}

impl AdamWConfig {
    /// Betas (0.9, 0.999), eps 1e-8.
    pub fn new(lr: f64, weight_decay: f64) -> Self {
        AdamWConfig { lr, beta1: default::beta1(), beta2: default::beta2(), eps: default::eps(), weight_decay }
    }
}

/// Adam (Kingma and Ba 2015); its weight decay is a part of the gradient, and so of the moments.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdamConfig {
    /// Learning rate of parameters without their own.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// What of the parameters that decay is added to their gradients.
    pub weight_decay: f64,
}

impl AdamConfig {
    /// Betas (0.9, 0.999), eps 1e-8, no weight decay.
    pub fn new(lr: f64) -> Self {
        AdamConfig { lr, beta1: default::beta1(), beta2: default::beta2(), eps: default::eps(), weight_decay: 0.0 }
    }
}

/// What a file that leaves a field out gets.
pub(super) mod default {
    pub fn beta1() -> f64 {
        0.9
    }
    pub fn beta2() -> f64 {
        0.999
    }
    pub fn eps() -> f64 {
        1e-8
    }
}

setters! {
    AdamWConfig { lr: f64, beta1: f64, beta2: f64, eps: f64, weight_decay: f64 }
}
setters! {
    AdamConfig { lr: f64, beta1: f64, beta2: f64, eps: f64, weight_decay: f64 }
}

/// What both remember.
const SLOTS: [&str; 2] = ["first_moment", "second_moment"];

impl<B: Backend> UpdateRule<B> for AdamWConfig {
    fn check(&self) -> Result<()> {
        check_sizes([("lr", self.lr), ("weight_decay", self.weight_decay), ("eps", self.eps)])?;
        check_shares([("beta1", self.beta1), ("beta2", self.beta2)])
    }

    fn lr(&self) -> f64 {
        self.lr
    }

    fn slots(&self) -> &'static [&'static str] {
        &SLOTS
    }

    fn moved(&self, backend: &B, step: &Step, value: &Tensor<B>, slots: &[Tensor<B>], grad: &Tensor<B>) -> Result<Moved<B>> {
        let [value, first, second] = backend.adamw(&self.numbers(step), [value, &slots[0], &slots[1]], grad)?;
        Ok((value, vec![first, second]))
    }

    fn all_moved(&self, backend: &B, params: &[Moving<B>]) -> Result<Vec<Moved<B>>> {
        let params = params.iter().map(|Moving { step, value, slots, grad }| (self.numbers(step), [value, &slots[0], &slots[1]], grad));
        let moved = backend.adamw_together(&params.collect::<Vec<_>>())?;
        Ok(moved.into_iter().map(|[value, first, second]| (value, vec![first, second])).collect())
    }
}

impl AdamWConfig {
    /// The numbers of a parameter's step.
    fn numbers(&self, step: &Step) -> AdamW {
        let AdamWConfig { beta1, beta2, eps, weight_decay, .. } = *self;
        AdamW { lr: step.lr, beta1, beta2, eps, weight_decay: if step.decay { weight_decay } else { 0.0 }, step: step.number }
    }
}

impl<B: Backend> UpdateRule<B> for AdamConfig {
    fn check(&self) -> Result<()> {
        UpdateRule::<B>::check(&self.decoupled())
    }

    fn lr(&self) -> f64 {
        self.lr
    }

    fn slots(&self) -> &'static [&'static str] {
        &SLOTS
    }

    fn moved(&self, backend: &B, step: &Step, value: &Tensor<B>, slots: &[Tensor<B>], grad: &Tensor<B>) -> Result<Moved<B>> {
        let grad = self.with_decay(backend, step, value, grad)?;
        self.decoupled().moved(backend, &Step { decay: false, ..*step }, value, slots, &grad)
    }

    fn all_moved(&self, backend: &B, params: &[Moving<B>]) -> Result<Vec<Moved<B>>> {
        let decayed = params.iter().map(|param| {
            let grad = self.with_decay(backend, &param.step, &param.value, &param.grad)?;
            Ok(Moving { step: Step { decay: false, ..param.step }, grad, ..param.clone() })
        });
        self.decoupled().all_moved(backend, &decayed.collect::<Result<Vec<_>>>()?)
    }
}

impl AdamConfig {
    /// A parameter's gradient, and its decay.
    fn with_decay<B: Backend>(&self, backend: &B, step: &Step, value: &Tensor<B>, grad: &Tensor<B>) -> Result<Tensor<B>> {
        match step.decay && self.weight_decay > 0.0 {
            true => combined(backend, [1.0, self.weight_decay], [grad, value]),
            false => Ok(grad.clone()),
        }
    }

    /// The same numbers; without decay both rules are one.
    fn decoupled(&self) -> AdamWConfig {
        let AdamConfig { lr, beta1, beta2, eps, weight_decay } = *self;
        AdamWConfig { lr, beta1, beta2, eps, weight_decay }
    }
}
