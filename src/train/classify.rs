//! The forward pass of a batch, and what is read off its logits: what training and evaluation share.

use crate::autodiff::Var;
use crate::backend::Backend;
use crate::data::{Batch, Inputs};
use crate::error::Result;
use crate::nn::{Context, Input, Model};

/// The logits of a batch, as [`Model::forward`] gives them.
///
/// # Errors
/// As [`Model::forward`].
pub fn logits<B: Backend>(model: &Model<B>, cx: &Context<'_, B>, batch: &Batch) -> Result<Var<B>> {
    let input = match &batch.inputs {
        Inputs::Tokens(tokens) => Input::tokens(tokens, batch.batch),
        Inputs::Values { values, .. } => Input::values(values, batch.batch),
    };
    model.forward(cx, input.lengths(&batch.lengths))
}

/// The class with the largest logit of every row; the first of equal ones counts as the largest.
pub(super) fn largest<B: Backend>(logits: &Var<B>) -> Result<Vec<usize>> {
    let values = logits.to_vec()?;
    let classes = logits.shape().last().map_or(1, |&classes| classes.max(1));
    let largest = |row: &[B::Elem]| (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best });
    Ok(values.chunks_exact(classes).map(largest).collect())
}

/// How many rows of the logits are largest at their label.
pub(super) fn correct<B: Backend>(logits: &Var<B>, labels: &[usize]) -> Result<usize> {
    Ok(largest(logits)?.iter().zip(labels).filter(|(class, label)| class == label).count())
}
