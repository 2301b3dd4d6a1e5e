//! A sequence taken apart into its time steps and put together again, for layers that compute one after another.

use crate::autodiff::{Needs, Var};
use crate::backend::Backend;
use crate::error::{Error, Result};

/// The parts of x (L, ..) along its first axis, (..) each. It is halved again and again: backwards, every slice makes a tensor of what it was
/// cut from, and so L slices of all of x would cost L^2.
pub(super) fn split<B: Backend>(x: &Var<B>) -> Result<Vec<Var<B>>> {
    let length = x.shape().first().copied().unwrap_or(0);
    match length {
        0 => Err(Error::value("split", format!("shape {:?} has no time step: give at least one", x.shape()))),
        1 => Ok(vec![x.reshape(&x.shape()[1..])?]),
        _ => {
            let half = length / 2;
            let mut parts = split(&x.slice(0, 0, half)?)?;
            parts.extend(split(&x.slice(0, half, length - half)?)?);
            Ok(parts)
        }
    }
}

/// The inverse of [`split`].
pub(super) fn join<B: Backend>(parts: &[Var<B>]) -> Result<Var<B>> {
    let single = |part: &Var<B>| part.reshape(&[&[1], part.shape()].concat());
    let mut parts: Vec<Var<B>> = parts.iter().map(single).collect::<Result<_>>()?;
    // An op has so many inputs at most.
    while parts.len() > 1 {
        let concat = |group: &[Var<B>]| Var::concat(&group.iter().collect::<Vec<_>>(), 0);
        parts = parts.chunks(Needs::MAX).map(concat).collect::<Result<_>>()?;
    }
    parts.pop().ok_or_else(|| Error::value("join", "there are no time steps: give at least one"))
}
