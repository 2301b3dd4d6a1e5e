//! Parts: sums over the parts of a batch that are computed at the same time, for a BatchNorm that sees the whole batch.

use std::fmt::Debug;
use std::sync::Arc;

use super::Context;
use crate::autodiff::Var;
use crate::backend::{Backend, Tensor};
use crate::error::Result;

/// How a part of a batch learns of the sums over all parts. All of them ask for the same sums in the same order, forwards and backwards, and
/// each waits until all have asked.
pub trait Parts<B: Backend>: Debug {
    /// The sum of every part's tensor, the same bits for all of them.
    ///
    /// # Errors
    /// Where another part has failed; what the device answers.
    fn sum(&self, backend: &B, own: &Tensor<B>) -> Result<Tensor<B>>;

    /// The sum of every part's number.
    ///
    /// # Errors
    /// Where another part has failed.
    fn total(&self, own: f64) -> Result<f64>;
}

/// The sum of x over all parts. Every part's loss depends on every part's x: the gradients are summed, too.
fn sum<B: Backend>(cx: &Context<'_, B>, parts: &Arc<dyn Parts<B>>, x: &Var<B>) -> Result<Var<B>> {
    let (forward, backward) = (parts.clone(), parts.clone());
    let summed = |parts: &Arc<dyn Parts<B>>, x: &Var<B>| Ok(x.tape().constant(&parts.sum(x.tape().backend(), x.value())?));
    let again = move |_: &[Var<B>], _: &Var<B>, grad: &Var<B>| Ok(vec![Some(summed(&backward, grad)?)]);
    cx.tape().custom("sum_over_parts", &[x], |x| summed(&forward, &x[0]), again)
}

/// Mean and (biased) variance of every channel of x (B, H, L) over the batch, of which this may be a part, and the numbers that they are of.
pub(super) fn moments<B: Backend>(cx: &Context<'_, B>, x: &Var<B>) -> Result<(Var<B>, Var<B>, f64)> {
    let (mean, var) = x.moments()?;
    let own = x.value().numel() as f64 / x.shape()[1] as f64;
    let Some(parts) = cx.parts() else { return Ok((mean, var, own)) };
    let count = parts.total(own)?;
    let share = own / count;
    let all = sum(cx, parts, &mean.scale(share)?)?;
    let apart = mean.sub(&all)?.square()?;
    Ok((all, sum(cx, parts, &var.add(&apart)?.scale(share)?)?, count))
}
