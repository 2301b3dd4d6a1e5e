//! `Softmax` and `LogSoftmax`: probabilities along an axis, and their logarithms.

use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads, operands};
use crate::backend::{Backend, Tensor};
use crate::error::Result;

/// e^x divided by its sum along an axis; one input.
#[derive(Clone, Copy, Debug)]
pub struct Softmax {
    /// The axis.
    pub axis: usize,
}

impl<B: Backend> Op<B> for Softmax {
    const NAME: &'static str = "softmax";
    /// The output.
    type Saved = Tensor<B>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("softmax", inputs)?;
        let output = backend.softmax(x, self.axis)?;
        Ok((output.clone(), output))
    }

    /// y (g - sum(g y)).
    fn backward(&self, backend: &B, output: Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        Ok(vec![Some(backend.softmax_grad(&output, grad, self.axis)?)])
    }

    fn derivative(&self, _: &[Var<B>], y: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        let weighed = grad.mul(y)?.sum_keep(&[self.axis])?;
        Ok(vec![Some(y.mul(&grad.sub(&weighed)?)?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::FiniteDifferences
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        cases(generate, |axis| Softmax { axis })
    }
}

/// The logarithm of the softmax along an axis; one input.
#[derive(Clone, Copy, Debug)]
pub struct LogSoftmax {
    /// The axis.
    pub axis: usize,
}

impl<B: Backend> Op<B> for LogSoftmax {
    const NAME: &'static str = "log_softmax";
    /// The output.
    type Saved = Tensor<B>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("log_softmax", inputs)?;
        let output = backend.log_softmax(x, self.axis)?;
        Ok((output.clone(), output))
    }

    /// g - e^y sum(g).
    fn backward(&self, backend: &B, output: Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        Ok(vec![Some(backend.log_softmax_grad(&output, grad, self.axis)?)])
    }

    fn derivative(&self, _: &[Var<B>], y: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        Ok(vec![Some(grad.sub(&y.exp()?.mul(&grad.sum_keep(&[self.axis])?)?)?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::FiniteDifferences
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        cases(generate, |axis| LogSoftmax { axis })
    }
}

fn cases<O>(generate: &mut Generate, op: fn(usize) -> O) -> Vec<Case<O>> {
    let mut shapes = vec![vec![1], vec![5], vec![2, 40], vec![40, 2], vec![3, 5, 2]];
    shapes.extend((0..3).map(|_| generate.shape(1..=4, 1..=4)));
    let mut cases = Vec::new();
    for shape in shapes {
        let axis = generate.size(0..=shape.len() - 1);
        cases.push(Case::new(op(axis), [generate.normal(&shape)]));
    }
    // The axis of length 1, and one far from 0.
    cases.push(Case::new(op(1), [generate.normal(&[3, 1])]));
    cases.push(Case::new(op(0), [generate.values(&[4, 3], 99.0, 101.0)]));
    cases
}

/// Probabilities along an axis.
///
/// ```
/// # use pspikessm::{autodiff::Tape, backend::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let x = Tape::new(&cpu).leaf(&cpu.from_vec(vec![0.0, 0.0, 1e3, f64::NEG_INFINITY], &[2, 2])?);
/// assert_eq!(x.softmax(1)?.to_vec()?, [0.5, 0.5, 1.0, 0.0]);
/// assert_eq!(x.log_softmax(1)?.to_vec()?[2..], [0.0, f64::NEG_INFINITY]);
/// # Ok(()) }
/// ```
impl<B: Backend> Var<B> {
    /// e^x divided by its sum along `axis`, without overflow. Entries of -infinity have exactly 0; all are NaN where one is NaN or infinite,
    /// or all are -infinity.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where the axis does not exist.
    pub fn softmax(&self, axis: usize) -> Result<Var<B>> {
        self.tape().apply(Softmax { axis }, &[self])
    }

    /// The logarithm of [`Var::softmax`], accurate also where that is near 1 or 0.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where the axis does not exist.
    pub fn log_softmax(&self, axis: usize) -> Result<Var<B>> {
        self.tape().apply(LogSoftmax { axis }, &[self])
    }
}
