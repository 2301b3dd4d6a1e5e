//! The forward pass of a batch, and what is read off its logits: what training and evaluation share.

use crate::autodiff::Var;
use crate::backend::{Backend, Real};
use crate::data::{Batch, Inputs};
use crate::error::{Error, Result};
use crate::nn::{Context, Input, Model, Module};

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

/// The logits of every sample on the host. One that is NaN, or has no softmax beside it, is a class's score in no sense.
///
/// # Errors
/// [`Error::Value`] that names the sample, and the parameter that is not finite, where one is.
pub(super) fn scores<B: Backend>(backend: &B, model: &Model<B>, logits: &Var<B>) -> Result<Vec<Vec<f64>>> {
    let classes = logits.shape().last().map_or(1, |&classes| classes.max(1));
    let rows: Vec<Vec<f64>> = logits.to_vec()?.chunks_exact(classes).map(|row| row.iter().map(|logit| logit.f64()).collect()).collect();
    let bad = |logit: &f64| logit.is_nan() || *logit == f64::INFINITY;
    let Some(sample) = rows.iter().position(|row| row.iter().any(bad)) else { return Ok(rows) };
    let cause = first_not_finite(backend, model)?.map_or("the weights are too large".into(), |name| format!("{name} is not finite"));
    Err(Error::value("Model", format!("the logits of sample {sample} of a batch are not numbers, and so no class is the largest: {cause}")))
}

/// The first parameter or buffer of a model that is not finite.
pub(super) fn first_not_finite<B: Backend>(backend: &B, model: &Model<B>) -> Result<Option<String>> {
    let (mut names, values): (Vec<String>, Vec<_>) = model.parameters().into_iter().map(|(name, param)| (name, param.value())).unzip();
    Ok(backend.first_not_finite(&values.iter().collect::<Vec<_>>())?.map(|place| names.swap_remove(place)))
}

/// The class with the largest score; the first of equal ones counts as the largest.
pub(super) fn largest(scores: &[f64]) -> usize {
    (1..scores.len()).fold(0, |best, class| if scores[class] > scores[best] { class } else { best })
}
