//! A normalisation in steps: of a BatchNorm the affine map that its running statistics make it, or a LayerNorm.

use super::rows::{affine, padded};
use crate::backend::{Backend, Real};
use crate::error::Result;
use crate::nn::norm::{EPS, Norm};

/// What stands in a norm's place.
#[derive(Debug)]
pub enum StepNorm<E> {
    /// Scale and shift.
    Affine(Vec<E>, Vec<E>),
    /// Gain and bias of normalised rows.
    Layer(Vec<E>, Vec<E>),
}

impl<E: Real> StepNorm<E> {
    /// As [`Norm::forward`] in evaluation, in the same roundings.
    pub fn new<B: Backend<Elem = E>>(backend: &B, norm: &Norm<B>) -> Result<Self> {
        let (gamma, beta) = (backend.to_vec(&norm.weight.value())?, backend.to_vec(&norm.bias.value())?);
        let Some((mean, var)) = &norm.running else { return Ok(StepNorm::Layer(padded(&gamma), padded(&beta))) };
        let (mean, var) = (backend.to_vec(&mean.value())?, backend.to_vec(&var.value())?);
        let scale: Vec<E> = var.iter().zip(&gamma).map(|(&var, &gamma)| gain(var, gamma)).collect();
        let shift: Vec<E> = beta.iter().zip(&mean).zip(&scale).map(|((&beta, &mean), &scale)| beta - mean * scale).collect();
        Ok(StepNorm::Affine(padded(&scale), padded(&shift)))
    }

    /// The one affine map that a BatchNorm makes of `scale x + shift`, as in the parallel pass; `None` for a LayerNorm.
    pub fn folded<B: Backend<Elem = E>>(backend: &B, norm: &Norm<B>, scale: &[E], shift: &[E]) -> Result<Option<(Vec<E>, Vec<E>)>> {
        let Some((mean, var)) = &norm.running else { return Ok(None) };
        let [gamma, beta, mean, var] = [&norm.weight, &norm.bias, mean, var].map(|param| backend.to_vec(&param.value()));
        let (gamma, beta, mean, var) = (gamma?, beta?, mean?, var?);
        let gains: Vec<E> = var.iter().zip(&gamma).map(|(&var, &gamma)| gain(var, gamma)).collect();
        let scales: Vec<E> = scale.iter().zip(&gains).map(|(&scale, &gain)| scale * gain).collect();
        let shifts: Vec<E> = (0..gains.len()).map(|h| (shift[h] - mean[h]) * gains[h] + beta[h]).collect();
        Ok(Some((padded(&scales), padded(&shifts))))
    }

    /// The numbers that are kept.
    pub fn len(&self) -> usize {
        let (StepNorm::Affine(a, b) | StepNorm::Layer(a, b)) = self;
        a.len() + b.len()
    }

    /// `row` normalised, of which the first `channels` are channels.
    pub fn apply(&self, row: &[E], channels: usize, out: &mut [E]) {
        match self {
            StepNorm::Affine(scale, shift) => affine(row, scale, shift, out),
            StepNorm::Layer(gamma, beta) => {
                let (x, count) = (&row[..channels], E::of(channels as f64));
                let mean = x.iter().fold(E::zero(), |sum, &x| sum + x) / count;
                let var = x.iter().fold(E::zero(), |sum, &x| sum + (x - mean) * (x - mean)) / count;
                let deviation = (var + E::of(EPS)).sqrt();
                out.fill(E::zero());
                for (((out, &x), &gamma), &beta) in out.iter_mut().zip(x).zip(gamma).zip(beta) {
                    *out = (x - mean) / deviation * gamma + beta;
                }
            }
        }
    }
}

/// gamma / sqrt(var + eps), rounded as the parallel pass does.
fn gain<E: Real>(var: E, gamma: E) -> E {
    (var + E::of(EPS)).sqrt().recip() * gamma
}
