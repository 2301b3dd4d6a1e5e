//! What training ends with: the loss, and the step of the optimiser.

use super::{Elementwise, Tensor, composed};
use crate::error::Result;

/// The loss, and the step of the optimiser.
pub trait Learning: Elementwise {
    /// Mean cross-entropy of logits (B, classes): the loss, of shape (), and the softmax.
    fn cross_entropy(&self, logits: &Tensor<Self>, labels: &[usize]) -> Result<(Tensor<Self>, Tensor<Self>)>;
    /// The gradient of the logits for the loss's gradient `g`.
    fn cross_entropy_grad(&self, softmax: &Tensor<Self>, labels: &[usize], g: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// One AdamW step: the new (parameter, first moment, second moment).
    fn adamw(&self, step: &AdamW, state: [&Tensor<Self>; 3], grad: &Tensor<Self>) -> Result<[Tensor<Self>; 3]> {
        composed::learning::adamw(self, step, state, grad)
    }
}

/// The optimiser's numbers for one parameter in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// The step, from 1.
    pub step: u64,
}
