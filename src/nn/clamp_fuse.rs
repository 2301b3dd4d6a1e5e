//! ClampFuse: closes the residual.

use super::{Context, SpikeMixer, dropout_tied};
use crate::autodiff::Var;
use crate::backend::Backend;
use crate::error::Result;

/// x + dropout(m): the residual join. What the next SpikeSampler draws from is bounded to [0, 1]: by that sampler's own comparison
/// with numbers in [0, 1), as in the official code, where the residual stays unbounded; or here, with `clamp`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClampFuse {
    /// The probability of dropping a (batch, channel) of m, in training.
    pub dropout: f64,
    /// Clamp the sum to [0, 1].
    pub clamp: bool,
}

impl ClampFuse {
    /// The join of the block's input x and the mixer's output m, both (B, H, L).
    pub fn forward<B: Backend>(&self, cx: &Context<'_, B>, x: &Var<B>, m: Var<B>) -> Result<Var<B>> {
        self.limit(x.add(&dropout_tied(cx, m, self.dropout)?)?)
    }

    /// The join of x and what the mixer makes of the branches' spikes, which is never stored by itself.
    pub fn mixed<B: Backend>(&self, cx: &Context<'_, B>, x: &Var<B>, mixer: &SpikeMixer<B>, branches: &[&Var<B>]) -> Result<Var<B>> {
        self.limit(mixer.onto(cx, branches, x, self.dropout)?)
    }

    fn limit<B: Backend>(&self, sum: Var<B>) -> Result<Var<B>> {
        if self.clamp { sum.clamp(0.0, 1.0) } else { Ok(sum) }
    }
}
