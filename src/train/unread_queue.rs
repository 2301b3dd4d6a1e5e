//! Unread queue: what the latest steps have to tell, as it lies on the device.

use super::learner::Unread;
use crate::backend::{Backend, Tensor};

/// The steps of a run whose numbers are not read yet, in their order.
pub(super) struct UnreadSteps<B: Backend> {
    pub steps: Vec<UnreadStep<B>>,
    /// Whether everything was finite after the last step that was read. Where it may not have been, the next step is read by itself, and its
    /// error tells the cause.
    pub may_begin: bool,
}

impl<B: Backend> Default for UnreadSteps<B> {
    fn default() -> Self {
        UnreadSteps { steps: Vec::new(), may_begin: false }
    }
}

/// What the micro-batches of a step have to tell, and how many samples are in each.
pub(super) type UnreadPasses<B> = Vec<(u64, Unread<B>)>;

/// A step as it lies on the device.
pub(super) struct UnreadStep<B: Backend> {
    pub number: u64,
    pub passes: UnreadPasses<B>,
    /// 1 more than the place of the first gradient that is not finite, or 0; whose gradients they are.
    pub gradients: (Tensor<B>, Vec<u64>),
    /// The same of the learner's parameters after the step.
    pub parameters: Tensor<B>,
}

impl<B: Backend> UnreadStep<B> {
    /// All that is to be read of it, in the order in which it is understood.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor<B>> {
        self.passes.iter().flat_map(|(_, pass)| pass.tensors()).chain([&self.gradients.0, &self.parameters])
    }
}
