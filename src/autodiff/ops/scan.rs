//! `ScanOp`: the linear recurrence along the last axis.

use crate::autodiff::{Array, Case, Generate, Grads, Needs, Op, Oracle, Var};
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
