//! Dropout, elementwise and tied over the length; the identity outside training.

use super::Context;
use crate::autodiff::Var;
use crate::backend::Backend;
use crate::error::Result;

/// Zeroes every element with probability `p` and scales the rest by 1 / (1 - p), in training.
///
/// # Errors
/// As [`Var::dropout`].
pub fn dropout<B: Backend>(cx: &Context<'_, B>, x: Var<B>, p: f64) -> Result<Var<B>> {
    if cx.training { x.dropout(cx.draw(), p) } else { Ok(x) }
}

/// Zeroes whole channels of a sequence, (batch, channel) by (batch, channel), in training.
///
/// # Errors
/// As [`Var::dropout_tied`].
pub fn dropout_tied<B: Backend>(cx: &Context<'_, B>, x: Var<B>, p: f64) -> Result<Var<B>> {
    if cx.training { x.dropout_tied(cx.tied_draw(), p) } else { Ok(x) }
}
