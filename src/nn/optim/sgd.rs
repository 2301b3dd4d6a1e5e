//! Stochastic gradient descent, with momentum.

use super::{Moved, Step, UpdateRule, check_shares, check_sizes, combined};
use crate::backend::{Backend, Tensor};
use crate::error::{Error, Result};

/// Gradient descent: `value -= lr v` with `v = momentum v + (1 - dampening) g`, in the first step `v = g`; with Nesterov's momentum
/// `value -= lr (g + momentum v)`. As in PyTorch, the learning rate is no part of v, and weight decay is a part of g.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SgdConfig {
    /// Learning rate of parameters without their own.
    pub lr: f64,
    /// How much of the last step's direction stays.
    pub momentum: f64,
    /// How much of a gradient the momentum leaves out.
    pub dampening: f64,
    /// Look ahead by the momentum (Sutskever et al. 2013).
    pub nesterov: bool,
    /// What of the parameters that decay is added to their gradients.
    pub weight_decay: f64,
}

impl SgdConfig {
    /// No momentum, no weight decay.
    pub fn new(lr: f64) -> Self {
        SgdConfig { lr, momentum: 0.0, dampening: 0.0, nesterov: false, weight_decay: 0.0 }
    }
}

setters! {
    SgdConfig { lr: f64, momentum: f64, dampening: f64, nesterov: bool, weight_decay: f64 }
}

impl<B: Backend> UpdateRule<B> for SgdConfig {
    fn check(&self) -> Result<()> {
        check_sizes([("lr", self.lr), ("weight_decay", self.weight_decay)])?;
        check_shares([("momentum", self.momentum), ("dampening", self.dampening)])?;
        match self.nesterov && (self.momentum == 0.0 || self.dampening > 0.0) {
            true => Err(Error::config("nesterov", true, "wants a momentum above 0 and no dampening")),
            false => Ok(()),
        }
    }

    fn lr(&self) -> f64 {
        self.lr
    }

    fn slots(&self) -> &'static [&'static str] {
        if self.momentum > 0.0 { &["momentum"] } else { &[] }
    }

    fn moved(&self, backend: &B, step: &Step, value: &Tensor<B>, slots: &[Tensor<B>], grad: &Tensor<B>) -> Result<Moved<B>> {
        let grad = match step.decay && self.weight_decay > 0.0 {
            true => &combined(backend, [1.0, self.weight_decay], [grad, value])?,
            false => grad,
        };
        let Some(velocity) = slots.first() else { return Ok((combined(backend, [1.0, -step.lr], [value, grad])?, Vec::new())) };
        let velocity = match step.number {
            1 => grad.clone(),
            _ => combined(backend, [self.momentum, 1.0 - self.dampening], [velocity, grad])?,
        };
        let direction = match self.nesterov {
            true => &combined(backend, [1.0, self.momentum], [grad, &velocity])?,
            false => &velocity,
        };
        Ok((combined(backend, [1.0, -step.lr], [value, direction])?, vec![velocity]))
    }
}
