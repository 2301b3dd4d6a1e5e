//! Lion: steps of one size, in the direction of the sign of a running mean.

use super::{Moved, Step, UpdateRule, check_shares, check_sizes, combined};
use crate::backend::{Backend, Tensor, Unary};
use crate::error::Result;

/// Lion (Chen et al. 2023, [arXiv:2302.06675](https://arxiv.org/abs/2302.06675)): `value -= lr sign(beta1 m + (1 - beta1) g)`, then
/// `m = beta2 m + (1 - beta2) g`, with decoupled weight decay. It remembers half as much as Adam; rates are a tenth to a third of AdamW's,
/// and weight decays that much larger.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LionConfig {
    /// Learning rate of parameters without their own.
    pub lr: f64,
    /// How much of the mean is in a step.
    pub beta1: f64,
    /// Decay of the mean.
    pub beta2: f64,
    /// Decoupled weight decay of the parameters that decay.
    pub weight_decay: f64,
}

impl LionConfig {
    /// Betas (0.9, 0.99).
    pub fn new(lr: f64, weight_decay: f64) -> Self {
        LionConfig { lr, beta1: 0.9, beta2: 0.99, weight_decay }
    }
}

setters! {
    LionConfig { lr: f64, beta1: f64, beta2: f64, weight_decay: f64 }
}

impl<B: Backend> UpdateRule<B> for LionConfig {
    fn check(&self) -> Result<()> {
        check_sizes([("lr", self.lr), ("weight_decay", self.weight_decay)])?;
        check_shares([("beta1", self.beta1), ("beta2", self.beta2)])
    }

    fn lr(&self) -> f64 {
        self.lr
    }

    fn slots(&self) -> &'static [&'static str] {
        &["mean"]
    }

    fn moved(&self, backend: &B, step: &Step, value: &Tensor<B>, slots: &[Tensor<B>], grad: &Tensor<B>) -> Result<Moved<B>> {
        let mixed = |beta: f64| combined(backend, [beta, 1.0 - beta], [&slots[0], grad]);
        let direction = backend.unary(Unary::Sign, &mixed(self.beta1)?)?;
        let kept = if step.decay { 1.0 - step.lr * self.weight_decay } else { 1.0 };
        Ok((combined(backend, [kept, -step.lr], [value, &direction])?, vec![mixed(self.beta2)?]))
    }
}
