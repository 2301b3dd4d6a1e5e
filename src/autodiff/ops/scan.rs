//! `ScanOp`: the linear recurrence along the last axis.

use crate::autodiff::{Array, Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads};
use crate::backend::{Backend, LinearScan, Tensor};
use crate::error::{Error, Result};

/// `h[t] = a[t] h[t - 1] + b[t]`; two or three inputs, a, b and the state before the first step.
#[derive(Clone, Copy, Debug)]
pub struct ScanOp {
    /// Whether the values are complex, with the planes as the first axis.
    pub complex: bool,
    /// Whether time runs backwards: `h[t] = a[t] h[t + 1] + b[t]`.
    pub reverse: bool,
}

/// What the backward of a [`ScanOp`] needs.
pub struct Saved<B: Backend> {
    a: Tensor<B>,
    b: Tensor<B>,
    initial: Option<Tensor<B>>,
    h: Tensor<B>,
}

impl ScanOp {
    fn of<'a, B: Backend>(self, a: &'a Tensor<B>, b: &'a Tensor<B>, initial: Option<&'a Tensor<B>>) -> LinearScan<'a, B> {
        LinearScan { a, b, initial, complex: self.complex, reverse: self.reverse }
    }
}

impl<B: Backend> Op<B> for ScanOp {
    const NAME: &'static str = "scan";
    type Saved = Saved<B>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let (a, b, initial) = match *inputs {
            [a, b] => (a, b, None),
            [a, b, initial] => (a, b, Some(initial)),
            _ => return Err(Error::value("scan", format!("takes 2 or 3 inputs, not {}", inputs.len()))),
        };
        let h = backend.scan(self.of(a, b, initial))?;
        Ok((h.clone(), Saved { a: a.clone(), b: b.clone(), initial: initial.cloned(), h }))
    }

    fn backward(&self, backend: &B, saved: Self::Saved, grad: &Tensor<B>, needs: Needs) -> Result<Grads<B>> {
        let scan = self.of(&saved.a, &saved.b, saved.initial.as_ref());
        let grads = backend.scan_grad(scan, &saved.h, grad, needs.flags())?;
        Ok(grads.into_iter().take(2 + usize::from(saved.initial.is_some())).collect())
    }

    /// With l the states of the scan the other way, `l[t] = a*[t+1] l[t+1] + g[t]` (a* is the conjugate): b gets l, a gets `l[t] h*[t-1]`, the
    /// initial state `a*[0] l[0]`.
    fn derivative(&self, inputs: &[Var<B>], h: &Var<B>, grad: &Var<B>, needs: Needs) -> Result<VarGrads<B>> {
        let [a, b, initial @ ..] = inputs else { return Err(Error::value("scan", "takes 2 or 3 inputs")) };
        let stretched = self.stretched(a, b)?;
        let conjugate = self.conjugate(&stretched)?;
        let back = ScanOp { reverse: !self.reverse, ..*self };
        let states = Var::scan_with(back, &back.after(&conjugate, None)?, grad, None)?;
        let towards_a = || {
            let before = self.after(h, initial.first())?;
            let full = self.times(&states, &self.conjugate(&before)?)?;
            full.sum_to(&self.aligned(a.shape(), b.shape().len()))?.reshape(a.shape())
        };
        let towards_initial = || {
            let first = if self.reverse { b.shape()[b.shape().len() - 1] - 1 } else { 0 };
            let [a, l] = [&conjugate, &states].map(|x| x.slice(b.shape().len() - 1, first, 1));
            self.times(&a?, &l?)?.reshape(&b.shape()[..b.shape().len() - 1])
        };
        let mut grads = vec![needs.input(0).then(towards_a).transpose()?, Some(states.clone())];
        if !initial.is_empty() {
            grads.push(needs.input(2).then(towards_initial).transpose()?);
        }
        Ok(grads)
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::FiniteDifferences
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let mut cases = Vec::new();
        for (complex, reverse) in [(false, false), (false, true), (true, false), (true, true)] {
            let op = ScanOp { complex, reverse };
            let mut case = |a: &[usize], b: &[usize], initial: bool| cases.push(Case::new(op, operands(generate, complex, a, b, initial)));
            // One step, one row; a that varies with every axis, and that broadcasts; more rows than lanes, more steps than a chunk.
            case(&[1], &[1], true);
            case(&[], &[4], false);
            case(&[3, 5], &[3, 5], true);
            case(&[2, 1], &[3, 2, 4], true);
            case(&[2, 4], &[3, 2, 4], true);
            case(&[17, 3], &[17, 3], false);
            case(&[2, 1, 70], &[2, 9, 70], true);
            case(&[18, 1], &[18, 66], true);
        }
        cases
    }
}

/// What the derivative is made of.
impl ScanOp {
    /// The shape of a with as many axes as b's: the axis of planes takes no part in broadcasting.
    fn aligned(self, a: &[usize], rank: usize) -> Vec<usize> {
        let planes = usize::from(self.complex);
        let (planes, rest) = a.split_at(planes.min(a.len()));
        [planes, &vec![1; rank.saturating_sub(a.len())], rest].concat()
    }

    /// a in b's shape.
    fn stretched<B: Backend>(self, a: &Var<B>, b: &Var<B>) -> Result<Var<B>> {
        a.reshape(&self.aligned(a.shape(), b.shape().len()))?.expand(b.shape())
    }

    /// Every entry in the place of the one that comes after it in the scan's time, from `first` (or zero) on.
    fn after<B: Backend>(self, x: &Var<B>, first: Option<&Var<B>>) -> Result<Var<B>> {
        let (time, mut shape) = (x.shape().len() - 1, x.shape().to_vec());
        let length = std::mem::replace(&mut shape[time], 1);
        let first = match first {
            Some(first) => first.reshape(&shape)?,
            None => x.tape().constant(&x.tape().backend().full(&shape, 0.0)?),
        };
        match (length, self.reverse) {
            (1, _) => Ok(first),
            (_, false) => Var::concat(&[&first, &x.slice(time, 0, length - 1)?], time),
            (_, true) => Var::concat(&[&x.slice(time, 1, length - 1)?, &first], time),
        }
    }

    /// The complex conjugate, of complex values.
    fn conjugate<B: Backend>(self, x: &Var<B>) -> Result<Var<B>> {
        if !self.complex {
            return Ok(x.clone());
        }
        Var::concat(&[&x.slice(0, 0, 1)?, &x.slice(0, 1, 1)?.neg()?], 0)
    }

    /// The product of two values of one shape, real or complex.
    fn times<B: Backend>(self, x: &Var<B>, y: &Var<B>) -> Result<Var<B>> {
        if !self.complex {
            return x.mul(y);
        }
        let plane = |x: &Var<B>, i| x.slice(0, i, 1);
        let [xr, xi, yr, yi] = [plane(x, 0)?, plane(x, 1)?, plane(y, 0)?, plane(y, 1)?];
        Var::concat(&[&xr.mul(&yr)?.sub(&xi.mul(&yi)?)?, &xr.mul(&yi)?.add(&xi.mul(&yr)?)?], 0)
    }
}

/// a with magnitudes around 1, b and the initial state of shapes without planes, planar where complex.
fn operands(generate: &mut Generate, complex: bool, a: &[usize], b: &[usize], initial: bool) -> Vec<Array> {
    let planar = |shape: &[usize]| if complex { [&[2], shape].concat() } else { shape.into() };
    let mut inputs = vec![generate.values(&planar(a), -0.8, 0.8), generate.normal(&planar(b))];
    if initial {
        inputs.push(generate.normal(&planar(&b[..b.len() - 1])));
    }
    inputs
}

/// Linear recurrences along the last axis.
///
/// ```
/// # use pspikessm::{autodiff::Tape, backend::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let tape = Tape::new(&cpu);
/// let (a, b) = (tape.leaf(&cpu.full(&[], 0.5)?), tape.leaf(&cpu.from_vec(vec![1.0, 0.0, 2.0], &[3])?));
/// assert_eq!(Var::scan(&a, &b, None)?.to_vec()?, [1.0, 0.5, 2.25]);
/// let start = tape.leaf(&cpu.full(&[], 8.0)?);
/// let states = Var::scan(&a, &b, Some(&start))?;
/// assert_eq!(states.to_vec()?, [5.0, 2.5, 3.25]);
/// let gradients = states.slice(0, 2, 1)?.backward()?;
/// assert_eq!(cpu.to_vec(gradients.of(&start)?)?, [0.125]);
/// # use pspikessm::autodiff::Var;
/// # Ok(()) }
/// ```
impl<B: Backend> Var<B> {
    /// Every state of `h[t] = a[t] h[t - 1] + b[t]`, in b's shape (.., L), from the state `initial` (..) before the first step, or from zero.
    ///
    /// a broadcasts to b: (.., L) where it varies in time, (.., 1) or fewer axes where it does not.
    ///
    /// # Errors
    /// [`Error::Shape`] where a does not broadcast to b or the initial state is not b without its last axis; [`Error::Value`] where b is
    /// empty or has no axis.
    #[doc(alias = "associative_scan")]
    #[doc(alias = "linear_recurrence")]
    #[doc(alias = "pscan")]
    pub fn scan(a: &Var<B>, b: &Var<B>, initial: Option<&Var<B>>) -> Result<Var<B>> {
        Var::scan_with(ScanOp { complex: false, reverse: false }, a, b, initial)
    }

    /// [`Var::scan`] of complex values: a (2, .., L) or (2, .., 1), b (2, .., L), initial (2, ..), the real plane first. The axis of planes
    /// takes no part in broadcasting.
    ///
    /// # Errors
    /// As [`Var::scan`]; [`Error::Value`] where the first axis is not 2.
    pub fn complex_scan(a: &Var<B>, b: &Var<B>, initial: Option<&Var<B>>) -> Result<Var<B>> {
        Var::scan_with(ScanOp { complex: true, reverse: false }, a, b, initial)
    }

    pub(crate) fn scan_with(op: ScanOp, a: &Var<B>, b: &Var<B>, initial: Option<&Var<B>>) -> Result<Var<B>> {
        let inputs: Vec<&Var<B>> = [a, b].into_iter().chain(initial).collect();
        a.tape().apply(op, &inputs)
    }
}
