//! What training ends with: the loss, and the step of the optimiser.

use super::{Elementwise, Tensor, composed, shape};
use crate::error::{Error, Result};

/// The loss, and the step of the optimiser.
pub trait Learning: Elementwise {
    /// Mean cross-entropy of logits (B, classes): the loss, of shape (), and the softmax.
    ///
    /// # Errors
    /// [`Error::Shape`] where there are not B labels; [`Error::Value`] where the logits have not two axes, the batch is empty, or a label
    /// is not below the number of classes.
    fn cross_entropy(&self, logits: &Tensor<Self>, labels: &[usize]) -> Result<(Tensor<Self>, Tensor<Self>)>;
    /// The gradient of the logits for the loss's gradient `g`, of shape ().
    ///
    /// # Errors
    /// As [`Learning::cross_entropy`]; [`Error::Shape`] where `g` has an axis.
    fn cross_entropy_grad(&self, softmax: &Tensor<Self>, labels: &[usize], g: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// One AdamW step: the new (parameter, first moment, second moment).
    ///
    /// # Errors
    /// [`Error::Config`] where a number of `step` is out of its range; [`Error::Shape`] where the parameter, its moments and its gradient
    /// differ in shape.
    fn adamw(&self, step: &AdamW, state: [&Tensor<Self>; 3], grad: &Tensor<Self>) -> Result<[Tensor<Self>; 3]> {
        composed::learning::adamw(self, step, state, grad)
    }
    /// [`Learning::adamw`] of many parameters, each with numbers of its own: their results, in order. A device on which a launch has a price
    /// takes few launches for them.
    ///
    /// # Errors
    /// As [`Learning::adamw`] of any of them.
    fn adamw_together(&self, params: &[AdamWParam<Self>]) -> Result<Vec<[Tensor<Self>; 3]>> {
        params.iter().map(|(step, state, grad)| self.adamw(step, *state, grad)).collect()
    }
}

/// One of many parameters in a step: its numbers; itself, its first and its second moment; its gradient.
pub type AdamWParam<'a, B> = (AdamW, [&'a Tensor<B>; 3], &'a Tensor<B>);

/// The optimiser's numbers for one parameter in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate, at least 0.
    pub lr: f64,
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the second moment, at least 0.
    pub eps: f64,
    /// Decoupled weight decay, at least 0.
    pub weight_decay: f64,
    /// The step, from 1.
    pub step: u64,
}

impl AdamW {
    /// Whether these numbers, and a parameter of this shape, its moments and its gradient make a step.
    pub(in crate::backend) fn check(&self, state: [&[usize]; 3], grad: &[usize]) -> Result<()> {
        const OP: &str = "adamw";
        for (name, value) in [("lr", self.lr), ("eps", self.eps), ("weight_decay", self.weight_decay)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::config(name, value, "must be finite and at least 0"));
            }
        }
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::config(name, beta, "must lie in [0, 1)"));
            }
        }
        if self.step == 0 {
            return Err(Error::config("step", self.step, "steps count from 1"));
        }
        let [value, first, second] = state;
        shape::exactly(OP, "the first moment", value, first)?;
        shape::exactly(OP, "the second moment", value, second)?;
        shape::exactly(OP, "the gradient", value, grad)
    }
}
