//! BatchNorm and LayerNorm of (batch, d_model, length) sequences.

use serde::{Deserialize, Serialize};

use super::{Context, Module, Names, Param, ParamOptions, parts};
use crate::autodiff::Var;
use crate::backend::{Backend, Binary, Tensor, Unary, shape};
use crate::error::{Error, Result};

pub(super) const EPS: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

listed! {
    /// Which normalisation.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[non_exhaustive]
    pub enum NormKind {
        /// Statistics of a channel over batch and length, padding included.
        Batch,
        /// Statistics of a position over the channels.
        Layer,
    }
}

/// Mean and variance of every channel, (d_model), of so many values each.
struct Statistics<B: Backend> {
    mean: Var<B>,
    var: Var<B>,
    count: f64,
}

/// A normalisation with gain and bias; eps 1e-5, momentum 0.1, as PyTorch.
#[derive(Clone, Debug)]
pub struct Norm<B: Backend> {
    /// gamma, (d_model).
    pub weight: Param<B>,
    /// beta, (d_model).
    pub bias: Param<B>,
    /// Running mean and (unbiased) variance of a BatchNorm.
    pub running: Option<(Param<B>, Param<B>)>,
}

impl<B: Backend> Norm<B> {
    /// Gain 1, bias 0, running mean 0 and variance 1. No weight decay.
    ///
    /// # Errors
    /// [`Error::Config`] where d_model is 0.
    pub fn new(backend: &B, kind: NormKind, d_model: usize) -> Result<Self> {
        if d_model == 0 {
            return Err(Error::config("d_model", d_model, "must be at least 1"));
        }
        let full = |value, options| Param::full(backend, &[d_model], value, options);
        let running = match kind {
            NormKind::Batch => Some((full(0.0, ParamOptions::Buffer)?, full(1.0, ParamOptions::Buffer)?)),
            NormKind::Layer => None,
        };
        Ok(Norm { weight: full(1.0, ParamOptions::PLAIN)?, bias: full(0.0, ParamOptions::PLAIN)?, running })
    }

    /// (B, H, L) normalised. In training a BatchNorm also moves its running statistics: the one thing that a forward pass writes.
    ///
    /// # Errors
    /// [`Error::Shape`] where x has another number of channels; in training [`Error::Value`] where a BatchNorm sees one value a channel.
    pub fn forward(&self, cx: &Context<'_, B>, x: &Var<B>) -> Result<Var<B>> {
        let (gamma, beta) = (cx.var(&self.weight), cx.var(&self.bias));
        if self.running.is_some() && cx.training && cx.parts().is_none() {
            let (y, batch_mean, batch_var) = x.batch_norm(&gamma, &beta, EPS)?;
            self.track(cx, &batch_mean, &batch_var, x.value().numel() as f64 / x.shape()[1] as f64)?;
            return Ok(y);
        }
        match self.affine(cx, x)? {
            Some((scale, shift)) => x.affine(&scale, &shift),
            None => x.layer_norm(&gamma, &beta, EPS),
        }
    }

    /// Scale and shift of the affine map that this BatchNorm makes of x, the same for all samples and positions; `None` for a LayerNorm.
    pub(super) fn affine(&self, cx: &Context<'_, B>, x: &Var<B>) -> Result<Option<(Var<B>, Var<B>)>> {
        let Some(Statistics { mean, var, count }) = self.statistics(cx, x)? else { return Ok(None) };
        if cx.training {
            self.track(cx, mean.value(), var.value(), count)?;
        }
        let scale = var.linear_map(1.0, EPS)?.sqrt()?.recip()?.mul(&cx.var(&self.weight))?;
        let shift = cx.var(&self.bias).sub(&mean.mul(&scale)?)?;
        Ok(Some((scale, shift)))
    }

    /// By what a BatchNorm normalises: in training the statistics of x, else the running ones.
    fn statistics(&self, cx: &Context<'_, B>, x: &Var<B>) -> Result<Option<Statistics<B>>> {
        let Some((mean, var)) = &self.running else { return Ok(None) };
        if !cx.training {
            return Ok(Some(Statistics { mean: cx.var(mean), var: cx.var(var), count: f64::INFINITY }));
        }
        if cx.parts().is_none() {
            shape::has_variance("batch_norm", x.shape())?;
        }
        let (mean, var, count) = parts::moments(cx, x)?;
        several(count)?;
        Ok(Some(Statistics { mean, var, count }))
    }

    /// Scale and shift of the one affine map that this BatchNorm makes of `scale x + shift`, so that neither of the two need be stored;
    /// `None` for a LayerNorm, which is no affine map.
    pub(super) fn folded(&self, cx: &Context<'_, B>, x: &Var<B>, scale: &Var<B>, shift: &Var<B>) -> Result<Option<(Var<B>, Var<B>)>> {
        let Some(Statistics { mean, var, count }) = self.statistics(cx, x)? else { return Ok(None) };
        let (mean, var) = if cx.training {
            let (mean, var) = (scale.mul(&mean)?.add(shift)?, scale.square()?.mul(&var)?);
            self.track(cx, mean.value(), var.value(), count)?;
            (mean, var)
        } else {
            (mean, var)
        };
        let gain = var.linear_map(1.0, EPS)?.sqrt()?.recip()?.mul(&cx.var(&self.weight))?;
        let offset = shift.sub(&mean)?.mul(&gain)?.add(&cx.var(&self.bias))?;
        Ok(Some((scale.mul(&gain)?, offset)))
    }

    /// Moves the running statistics towards those of a batch with so many values a channel.
    fn track(&self, cx: &Context<'_, B>, batch_mean: &Tensor<B>, batch_var: &Tensor<B>, count: f64) -> Result<()> {
        let Some((mean, var)) = &self.running else { return Ok(()) };
        // A segment that is run again has moved them the first time.
        if cx.tape().is_recomputing() {
            return Ok(());
        }
        for (running, new, factor) in [(mean, batch_mean, 1.0), (var, batch_var, count / (count - 1.0))] {
            match cx.statistics() {
                Some(statistics) => statistics.note(cx.backend(), running, new, factor)?,
                None => advance(cx.backend(), running, &addend(cx.backend(), new, factor)?)?,
            }
        }
        Ok(())
    }
}

/// One value a channel has no variance.
fn several(count: f64) -> Result<()> {
    if count > 1.0 { Ok(()) } else { Err(Error::value("batch_norm", "a batch has one value a channel: take more samples, or longer ones")) }
}

/// What a batch's statistic adds to the running one: momentum times it.
pub(super) fn addend<B: Backend>(backend: &B, new: &Tensor<B>, factor: f64) -> Result<Tensor<B>> {
    backend.unary(Unary::Linear(MOMENTUM * factor, 0.0), new)
}

/// running = (1 - momentum) running + added.
pub(super) fn advance<B: Backend>(backend: &B, running: &Param<B>, added: &Tensor<B>) -> Result<()> {
    let kept = backend.unary(Unary::Linear(1.0 - MOMENTUM, 0.0), &running.value())?;
    running.set(backend.binary(Binary::Add, &kept, added)?)
}

impl<B: Backend> Module<B> for Norm<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        names.param("weight", &self.weight);
        names.param("bias", &self.bias);
        if let Some((mean, var)) = &self.running {
            names.param("running_mean", mean);
            names.param("running_var", var);
        }
    }
}
