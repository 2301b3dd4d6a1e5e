//! ClampFuse: closes the residual.

use super::{Context, SpikeMixer};
use crate::autodiff::Var;
use crate::backend::Backend;
use crate::error::Result;

/// x + dropout(m): the residual join of a block's input x and the mixer's output m. As in the official code, the sum itself is unbounded:
/// the next SpikeSampler compares it with numbers in [0, 1), which bounds the probability. With `clamp`, the sum is bounded here.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClampFuse {
    /// The probability of dropping a (batch, channel) of m, in training.
    pub dropout: f64,
    /// Clamp the sum to [0, 1].
    pub clamp: bool,
}

impl ClampFuse {
    /// The join of x (B, H, L) and m = mixer(branches), which is never stored by itself: (B, H, L).
    ///
    /// # Errors
    /// As [`SpikeMixer::forward`]; [`crate::Error::Config`] where dropout is not in [0, 1).
    pub fn forward<B: Backend>(&self, cx: &Context<'_, B>, x: &Var<B>, mixer: &SpikeMixer<B>, branches: &[&Var<B>]) -> Result<Var<B>> {
        let sum = mixer.onto(cx, branches, x, cx.tied_dropout(self.dropout))?;
        if self.clamp { sum.clamp(0.0, 1.0) } else { Ok(sum) }
    }
}
