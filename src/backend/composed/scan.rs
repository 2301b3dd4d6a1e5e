//! The linear scan in log2(L) rounds of elementwise arithmetic (Hillis and Steele 1986), and its adjoint, a scan the other way round.

use super::{Grads, add, mul, sub, when};
use crate::backend::{LinearScan, Scan, Tensor, Unary};
use crate::error::Result;

/// A real or complex tensor, a plane each, with time as the last axis.
struct Number<B: Scan> {
    re: Tensor<B>,
    im: Option<Tensor<B>>,
}

impl<B: Scan> Number<B> {
    /// Takes a planar tensor apart.
    fn of(backend: &B, x: &Tensor<B>, complex: bool) -> Result<Self> {
        if !complex {
            return Ok(Number { re: x.clone(), im: None });
        }
        let plane = |plane| backend.slice(x, 0, plane, 1)?.reshape(&x.shape()[1..]);
        Ok(Number { re: plane(0)?, im: Some(plane(1)?) })
    }

    /// The planar tensor, in this shape.
    fn joined(&self, backend: &B, shape: &[usize]) -> Result<Tensor<B>> {
        let Some(im) = &self.im else { return self.re.reshape(shape) };
        let flat = |x: &Tensor<B>| x.reshape(&[x.numel()]);
        backend.concat(&[&flat(&self.re)?, &flat(im)?], 0)?.reshape(shape)
    }

    /// `f` of every plane.
    fn map(&self, mut f: impl FnMut(&Tensor<B>) -> Result<Tensor<B>>) -> Result<Self> {
        Ok(Number { re: f(&self.re)?, im: self.im.as_ref().map(f).transpose()? })
    }

    /// `f` of every plane and another's.
    fn zip(&self, other: &Self, mut f: impl FnMut(&Tensor<B>, &Tensor<B>) -> Result<Tensor<B>>) -> Result<Self> {
        let im = self.im.as_ref().zip(other.im.as_ref());
        Ok(Number { re: f(&self.re, &other.re)?, im: im.map(|(x, y)| f(x, y)).transpose()? })
    }

    fn length(&self) -> usize {
        self.re.shape().last().copied().unwrap_or(1)
    }

    fn steps(&self, backend: &B, start: usize, len: usize) -> Result<Self> {
        self.map(|x| backend.slice(x, x.rank() - 1, start, len))
    }

    /// The coefficients of steps `start..start + len`: the same ones where they do not change in time.
    fn coefficients(&self, backend: &B, start: usize, len: usize) -> Result<Self> {
        if self.length() == 1 { self.map(|x| Ok(x.clone())) } else { self.steps(backend, start, len) }
    }

    fn then(&self, backend: &B, later: &Self) -> Result<Self> {
        self.zip(later, |x, y| backend.concat(&[x, y], x.rank() - 1))
    }

    fn conj(&self, backend: &B) -> Result<Self> {
        let im = self.im.as_ref().map(|im| backend.unary(Unary::Neg, im)).transpose()?;
        Ok(Number { re: self.re.clone(), im })
    }

    fn plus(&self, backend: &B, other: &Self) -> Result<Self> {
        self.zip(other, |x, y| add(backend, x, y))
    }

    fn times(&self, backend: &B, other: &Self) -> Result<Self> {
        let (Some(im), Some(other_im)) = (&self.im, &other.im) else {
            return Ok(Number { re: mul(backend, &self.re, &other.re)?, im: None });
        };
        let re = sub(backend, &mul(backend, &self.re, &other.re)?, &mul(backend, im, other_im)?)?;
        let im = add(backend, &mul(backend, &self.re, other_im)?, &mul(backend, im, &other.re)?)?;
        Ok(Number { re, im: Some(im) })
    }
}

/// x with an axis of time of one step behind its others.
fn at_one_step<B: Scan>(x: &Tensor<B>) -> Result<Tensor<B>> {
    x.reshape(&[x.shape(), &[1]].concat())
}

/// x backwards in time, where time runs backwards.
fn in_order<B: Scan>(backend: &B, x: &Tensor<B>, complex: bool, reverse: bool) -> Result<Tensor<B>> {
    let axes = x.rank() - usize::from(complex);
    if reverse && axes > 0 { backend.flip(x, x.rank() - 1) } else { Ok(x.clone()) }
}

/// Every state. After the round with `shift`, h holds the part of every state that comes from the last 2 shift steps, and a the product of
/// as many coefficients.
pub fn scan<B: Scan>(backend: &B, scan: LinearScan<'_, B>) -> Result<Tensor<B>> {
    let length = scan.sizes("scan")?.length;
    let operand = |x: &Tensor<B>| Number::of(backend, &in_order(backend, x, scan.complex, scan.reverse)?, scan.complex);
    let (mut a, mut h) = (operand(scan.a)?, operand(scan.b)?);
    if let Some(initial) = scan.initial {
        let initial = Number::of(backend, &at_one_step(initial)?, scan.complex)?;
        let first = a.coefficients(backend, 0, 1)?.times(backend, &initial)?.plus(backend, &h.steps(backend, 0, 1)?)?;
        h = if length == 1 { first } else { first.then(backend, &h.steps(backend, 1, length - 1)?)? };
    }
    let mut shift = 1;
    while shift < length {
        let (head, moved) = (h.steps(backend, 0, shift)?, h.steps(backend, 0, length - shift)?);
        let later = a.coefficients(backend, shift, length - shift)?;
        let tail = h.steps(backend, shift, length - shift)?.plus(backend, &later.times(backend, &moved)?)?;
        h = head.then(backend, &tail)?;
        if a.length() == 1 {
            a = a.times(backend, &a)?;
        } else {
            let product = later.times(backend, &a.steps(backend, 0, length - shift)?)?;
            a = a.steps(backend, 0, shift)?.then(backend, &product)?;
        }
        shift *= 2;
    }
    in_order(backend, &h.joined(backend, scan.b.shape())?, scan.complex, scan.reverse)
}

/// Gradients of a, b, initial: those of b are a scan of g the other way round, whose coefficients are a's conjugates, one step on.
pub fn scan_grad<B: Scan>(backend: &B, scan: LinearScan<'_, B>, h: &Tensor<B>, g: &Tensor<B>, needs: [bool; 3]) -> Result<Grads<B, 3>> {
    let sizes = scan.sizes_grad("scan_grad", h, g)?;
    let number = |x: &Tensor<B>| Number::of(backend, x, scan.complex);
    // The same coefficients in the other direction, with the first step's at the end, where they meet a state of zero.
    let a = number(scan.a)?.conj(backend)?;
    let (first, last) = if scan.reverse { (sizes.length - 1, 0) } else { (0, sizes.length - 1) };
    let rotated = match (sizes.a_length - 1, scan.reverse) {
        (0, _) => a.map(|x| Ok(x.clone()))?,
        (rest, false) => a.steps(backend, 1, rest)?.then(backend, &a.steps(backend, 0, 1)?)?,
        (rest, true) => a.steps(backend, rest, 1)?.then(backend, &a.steps(backend, 0, rest)?)?,
    };
    let rotated = rotated.joined(backend, scan.a.shape())?;
    let back = LinearScan { a: &rotated, b: g, initial: None, complex: scan.complex, reverse: !scan.reverse };
    let b_grad = backend.scan(back)?;
    let lambda = number(&b_grad)?;
    let towards_a = || {
        let start = match scan.initial {
            Some(initial) => number(&at_one_step(initial)?)?,
            None => lambda.steps(backend, last, 1)?.map(|x| backend.full(x.shape(), 0.0))?,
        };
        let h = number(h)?;
        let before = match (sizes.length - 1, scan.reverse) {
            (0, _) => start,
            (rest, false) => start.then(backend, &h.steps(backend, 0, rest)?)?,
            (rest, true) => h.steps(backend, 1, rest)?.then(backend, &start)?,
        };
        let product = lambda.times(backend, &before.conj(backend)?)?;
        let own = &scan.a.shape()[usize::from(scan.complex)..];
        product.map(|x| backend.sum_to(x, own))?.joined(backend, scan.a.shape())
    };
    let towards_initial = |initial: &Tensor<B>| {
        let first_a = a.coefficients(backend, first, 1)?;
        first_a.times(backend, &lambda.steps(backend, first, 1)?)?.joined(backend, initial.shape())
    };
    Ok([when(needs[0], towards_a)?, needs[1].then(|| b_grad.clone()), scan.initial.filter(|_| needs[2]).map(towards_initial).transpose()?])
}
