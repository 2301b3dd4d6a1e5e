//! AdamW over a module's parameters, each group with its own rate and decay.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Module, Param, ParamOptions};
use crate::autodiff::Gradients;
use crate::backend::{AdamW, Backend, Tensor, shape};
use crate::error::{Error, Result};

/// AdamW's numbers, in a recipe the section `[optimizer]`.
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

setters! {
    AdamWConfig { lr: f64, beta1: f64, beta2: f64, eps: f64, weight_decay: f64 }
}

/// What the optimiser remembers of one parameter.
#[derive(Clone, Debug)]
pub struct Moments<B: Backend> {
    /// How often the parameter was moved: its own count, by which its moments are corrected.
    pub step: u64,
    /// The running mean of its gradients, of its shape.
    pub first: Tensor<B>,
    /// The running mean of their squares, of its shape.
    pub second: Tensor<B>,
}

/// AdamW (Loshchilov and Hutter 2019). Moments belong to a parameter, whatever it is called: one that joins the training late starts
/// afresh, and one that stands under two names is moved once.
///
/// ```
/// use pspikessm::{autodiff::Tape, backend::*, nn::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f32>::new();
/// let linear = Linear::new(&cpu, Key::new(0), 2, 1)?;
/// let mut optimizer = Optimizer::new(AdamWConfig::new(0.05, 0.0))?;
/// let schedule = Cosine::new(5, 100)?;
/// let mut loss = f64::INFINITY;
/// for step in 0..100 {
///     let tape = Tape::new(&cpu);
///     let cx = Context::training(&tape, Key::new(1));
///     let x = tape.constant(&cpu.from_vec(vec![1.0, 0.0, 0.0, 1.0], &[2, 2])?);
///     let error = linear.forward(&cx, &x)?.linear_map(1.0, -1.0)?.square()?.mean()?;
///     loss = error.item()?;
///     optimizer.update(&cpu, &linear, &error.backward()?, schedule.factor(step))?;
/// }
/// assert!(loss < 1e-2 && optimizer.steps() == 100, "{loss}");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Optimizer<B: Backend> {
    /// The numbers.
    pub config: AdamWConfig,
    steps: u64,
    /// By the parameter's identity.
    moments: HashMap<u64, Moments<B>>,
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
        Ok(Optimizer { config, steps: 0, moments: HashMap::new() })
    }

    /// Steps done so far, those that were passed over among them.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What is remembered of a parameter; `None` where it never had a gradient.
    pub fn moments(&self, param: &Param<B>) -> Option<&Moments<B>> {
        self.moments.get(&param.identity())
    }

    /// Takes over the state of another optimiser: the number of its updates, and its moments of each parameter. What this one remembered
    /// is dropped.
    ///
    /// # Errors
    /// [`Error::Shape`] where moments are not of their parameter's shape; the optimiser then stays as it was.
    pub fn restore(&mut self, steps: u64, moments: impl IntoIterator<Item = (Param<B>, Moments<B>)>) -> Result<()> {
        let mut restored = HashMap::new();
        for (param, moments) in moments {
            for moment in [&moments.first, &moments.second] {
                shape::exactly("Optimizer::restore", "a moment", param.value().shape(), moment.shape())?;
            }
            restored.insert(param.identity(), moments);
        }
        (self.steps, self.moments) = (steps, restored);
        Ok(())
    }

    /// One step on every trained parameter of `module` that has a gradient; `factor` is the schedule's and multiplies every rate. Gradients
    /// of other parameters are ignored.
    ///
    /// # Errors
    /// [`Error::Value`] where no trained parameter has a gradient, as when they are another model's; [`Error::Shape`] where a gradient has
    /// not its parameter's shape; what the device answers. After an error, parameters and optimiser are as before the call.
    pub fn update(&mut self, backend: &B, module: &dyn Module<B>, gradients: &Gradients<B>, factor: f64) -> Result<()> {
        const OP: &str = "Optimizer::update";
        // Everything is computed before anything is set.
        let mut moved = Vec::new();
        for (name, param) in module.parameters() {
            if let (ParamOptions::Trained { lr, decay }, Some(grad)) = (param.options(), gradients.of_parameter(param.identity())) {
                shape::exactly(OP, &format!("the gradient of {name}"), param.value().shape(), grad.shape())?;
                let (value, moments) = self.moved(backend, &param, grad, factor * lr.unwrap_or(self.config.lr), decay)?;
                moved.push((param, value, moments));
            }
        }
        if moved.is_empty() {
            return Err(Error::value(OP, "no trained parameter of this module has a gradient: are these another model's gradients?"));
        }
        for (param, value, moments) in moved {
            param.set(value)?;
            self.moments.insert(param.identity(), moments);
        }
        self.steps += 1;
        Ok(())
    }

    /// Counts a step in which nothing is moved: there was nothing to learn from.
    pub fn pass(&mut self) {
        self.steps += 1;
    }

    /// The value and the moments of a parameter after one step at the rate `lr`.
    fn moved(&self, backend: &B, param: &Param<B>, grad: &Tensor<B>, lr: f64, decay: bool) -> Result<(Tensor<B>, Moments<B>)> {
        let AdamWConfig { beta1, beta2, eps, weight_decay, .. } = self.config;
        let Moments { step, first, second } = match self.moments(param) {
            Some(moments) => moments.clone(),
            None => Moments { step: 0, first: backend.full(grad.shape(), 0.0)?, second: backend.full(grad.shape(), 0.0)? },
        };
        let step = step + 1;
        let adamw = AdamW { lr, beta1, beta2, eps, weight_decay: if decay { weight_decay } else { 0.0 }, step };
        let [value, first, second] = backend.adamw(&adamw, [&param.value(), &first, &second], grad)?;
        Ok((value, Moments { step, first, second }))
    }
}
