//! AdamW over a module's parameters, each group with its own rate and decay.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Module, Param, ParamOptions};
use crate::autodiff::Gradients;
use crate::backend::{AdamW, Backend, Tensor};
use crate::error::{Error, Result};

/// AdamW's numbers, in a recipe the section `[optimizer]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

/// What a file that leaves a field out gets.
mod default {
    pub(super) fn beta1() -> f64 {
        0.9
    }
    pub(super) fn beta2() -> f64 {
        0.999
    }
    pub(super) fn eps() -> f64 {
        1e-8
    }
}

/// AdamW (Loshchilov and Hutter 2019) with its moments, by parameter name.
#[derive(Debug)]
pub struct Optimizer<B: Backend> {
    /// The numbers.
    pub config: AdamWConfig,
    /// Steps taken.
    pub step: u64,
    /// First and second moment of every parameter that had a gradient.
    pub moments: BTreeMap<String, [Tensor<B>; 2]>,
}

impl<B: Backend> Optimizer<B> {
    /// An optimiser before its first step.
    ///
    /// # Errors
    /// [`Error::Config`] for a rate, decay or eps that is negative or not finite, or a beta outside [0, 1).
    pub fn new(config: AdamWConfig) -> Result<Self> {
        for (name, value) in [("lr", config.lr), ("weight_decay", config.weight_decay), ("eps", config.eps)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::config(name, value, "must be finite and at least 0"));
            }
        }
        for (name, value) in [("beta1", config.beta1), ("beta2", config.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::config(name, value, "must lie in [0, 1)"));
            }
        }
        Ok(Optimizer { config, step: 0, moments: BTreeMap::new() })
    }

    /// One step on every trained parameter that has a gradient; `factor` is the schedule's and multiplies every rate.
    pub fn update(&mut self, backend: &B, module: &dyn Module<B>, gradients: &Gradients<B>, factor: f64) -> Result<()> {
        self.step += 1;
        for (name, param) in module.parameters() {
            if let Some(grad) = gradients.of_parameter(param.identity()) {
                self.update_one(backend, name, &param, grad, factor)?;
            }
        }
        Ok(())
    }

    fn update_one(&mut self, backend: &B, name: String, param: &Param<B>, grad: &Tensor<B>, factor: f64) -> Result<()> {
        let ParamOptions::Trained { lr, decay } = param.options() else { return Ok(()) };
        let AdamWConfig { beta1, beta2, eps, weight_decay, .. } = self.config;
        let step = AdamW {
            lr: factor * lr.unwrap_or(self.config.lr),
            beta1,
            beta2,
            eps,
            weight_decay: if decay { weight_decay } else { 0.0 },
            step: self.step,
        };
        let [first, second] = match self.moments.remove(&name) {
            Some(moments) => moments,
            None => [backend.full(grad.shape(), 0.0)?, backend.full(grad.shape(), 0.0)?],
        };
        let [value, first, second] = backend.adamw(&step, [&param.value(), &first, &second], grad)?;
        param.set(value)?;
        self.moments.insert(name, [first, second]);
        Ok(())
    }
}
