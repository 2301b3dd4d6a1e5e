//! Reductions by the plain definition on the host; the softmax and its logarithm, of elementwise functions and sums.

use super::{mul, sub};
use crate::backend::{Binary, Elementwise, Real, Reduction, Reductions, Tensor, Unary, shape};
use crate::error::Result;

/// x reduced over `axes`, which stay with length 1.
pub fn reduce<B: Elementwise>(backend: &B, kind: Reduction, x: &Tensor<B>, axes: &[usize]) -> Result<Tensor<B>> {
    let kept = kind.check(x.shape(), axes)?;
    let (start, join): (f64, fn(f64, f64) -> f64) = match kind {
        Reduction::Max => (f64::NEG_INFINITY, |a, v| if v > a || v.is_nan() { v } else { a }),
        Reduction::Min => (f64::INFINITY, |a, v| if v < a || v.is_nan() { v } else { a }),
        Reduction::Prod => (1.0, |a, v| a * v),
    };
    let mut out = vec![start; kept.iter().product()];
    for (position, v) in backend.to_vec(x)?.into_iter().enumerate() {
        let out = &mut out[shape::offset(position, x.shape(), &kept)];
        *out = join(*out, v.f64());
    }
    backend.from_vec(out.into_iter().map(B::Elem::of).collect(), &kept)
}

/// The place of the largest value along `axis`.
pub fn argmax<B: Elementwise>(backend: &B, x: &Tensor<B>, axis: usize) -> Result<Tensor<B>> {
    let [outer, len, inner] = shape::argmax(x.shape(), axis)?;
    let values = backend.to_vec(x)?;
    let place = |o: usize, i: usize| {
        let at = |place: usize| values[(o * len + place) * inner + i].f64();
        (1..len).fold(0, |best, place| if at(place) > at(best) || at(place).is_nan() && !at(best).is_nan() { place } else { best })
    };
    let places = (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))).map(|(o, i)| B::Elem::of(place(o, i) as f64));
    backend.from_vec(places.collect(), &shape::reduced("argmax", x.shape(), &[axis])?)
}

/// Running sums along `axis`, in f64.
pub fn cumsum<B: Elementwise>(backend: &B, x: &Tensor<B>, axis: usize, reverse: bool) -> Result<Tensor<B>> {
    let [outer, len, inner] = shape::around("cumsum", x.shape(), axis)?;
    let mut values = backend.to_vec(x)?;
    for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
        let mut total = 0.0;
        for step in 0..len {
            let place = if reverse { len - 1 - step } else { step };
            let value = &mut values[(o * len + place) * inner + i];
            total += value.f64();
            *value = B::Elem::of(total);
        }
    }
    backend.from_vec(values, x.shape())
}

/// The sum along `axis`, which stays with length 1.
fn sum_along<B: Elementwise>(backend: &B, x: &Tensor<B>, axis: usize) -> Result<Tensor<B>> {
    backend.sum_to(x, &shape::reduced("softmax", x.shape(), &[axis])?)
}

/// x less its largest value along `axis`.
fn lowered<B: Reductions>(backend: &B, x: &Tensor<B>, axis: usize) -> Result<Tensor<B>> {
    sub(backend, x, &backend.reduce(Reduction::Max, x, &[axis])?)
}

/// e^x over its sum along `axis`.
pub fn softmax<B: Reductions>(backend: &B, x: &Tensor<B>, axis: usize) -> Result<Tensor<B>> {
    shape::axis("softmax", axis, x.shape())?;
    if x.numel() == 0 {
        return Ok(x.clone());
    }
    let powers = backend.unary(Unary::Exp, &lowered(backend, x, axis)?)?;
    backend.binary(Binary::Div, &powers, &sum_along(backend, &powers, axis)?)
}

/// y (g - sum(g y)).
pub fn softmax_grad<B: Elementwise>(backend: &B, y: &Tensor<B>, g: &Tensor<B>, axis: usize) -> Result<Tensor<B>> {
    shape::axis("softmax_grad", axis, y.shape())?;
    shape::gradient("softmax_grad", y.shape(), g.shape())?;
    let common = sum_along(backend, &mul(backend, g, y)?, axis)?;
    mul(backend, y, &sub(backend, g, &common)?)
}

/// x - ln(sum(e^x)) along `axis`.
pub fn log_softmax<B: Reductions>(backend: &B, x: &Tensor<B>, axis: usize) -> Result<Tensor<B>> {
    shape::axis("log_softmax", axis, x.shape())?;
    if x.numel() == 0 {
        return Ok(x.clone());
    }
    let lowered = lowered(backend, x, axis)?;
    let total = sum_along(backend, &backend.unary(Unary::Exp, &lowered)?, axis)?;
    sub(backend, &lowered, &backend.unary(Unary::Ln, &total)?)
}

/// g - e^y sum(g).
pub fn log_softmax_grad<B: Elementwise>(backend: &B, y: &Tensor<B>, g: &Tensor<B>, axis: usize) -> Result<Tensor<B>> {
    shape::axis("log_softmax_grad", axis, y.shape())?;
    shape::gradient("log_softmax_grad", y.shape(), g.shape())?;
    let common = sum_along(backend, g, axis)?;
    sub(backend, g, &mul(backend, &backend.unary(Unary::Exp, y)?, &common)?)
}
