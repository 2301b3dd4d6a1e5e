//! `CrossEntropy`: the classification loss.

use std::rc::Rc;

use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads, operands, variables};
use crate::backend::{Backend, Real, Tensor};
use crate::error::Result;

/// The mean over a batch of `-ln softmax(logits)[label]`; one input, the logits (B, classes); output of shape ().
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// The true class of every sample.
    pub labels: Rc<[usize]>,
}

impl<B: Backend> Op<B> for CrossEntropy {
    const NAME: &'static str = "cross_entropy";
    /// The softmax.
    type Saved = Tensor<B>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [logits] = operands("cross_entropy", inputs)?;
        backend.cross_entropy(logits, &self.labels)
    }

    fn backward(&self, backend: &B, softmax: Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        Ok(vec![Some(backend.cross_entropy_grad(&softmax, &self.labels, grad)?)])
    }

    fn derivative(&self, inputs: &[Var<B>], _: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        let [logits] = variables("cross_entropy", inputs)?;
        let backend = logits.tape().backend();
        let [batch, classes] = [0, 1].map(|axis| logits.shape()[axis]);
        let mut hot = vec![B::Elem::of(0.0); batch * classes];
        self.labels.iter().enumerate().for_each(|(row, label)| hot[row * classes + label] = B::Elem::of(1.0));
        let hot = logits.tape().constant(&backend.from_vec(hot, &[batch, classes])?);
        Ok(vec![Some(logits.softmax(1)?.sub(&hot)?.mul(grad)?.scale(1.0 / batch as f64)?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::FiniteDifferences
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let mut cases = Vec::new();
        for (batch, classes, spread) in
            [(1, 1, 2.0), (1, 2, 2.0), (generate.size(1..=5), generate.size(2..=6), 3.0), (3, 4, 30.0), (9, 11, 3.0)]
        {
            let labels = (0..batch).map(|_| generate.size(0..=classes - 1)).collect();
            cases.push(Case::new(CrossEntropy { labels }, [generate.values(&[batch, classes], -spread, spread)]));
        }
        cases
    }
}

impl<B: Backend> Var<B> {
    /// The mean over the batch of `-ln softmax(self)[label]`, of shape (), for logits (B, classes).
    ///
    /// ```
    /// # use pspikessm::{autodiff::Tape, backend::*};
    /// # fn main() -> pspikessm::Result<()> {
    /// let cpu = Cpu::<f64>::new();
    /// let logits = Tape::new(&cpu).leaf(&cpu.from_vec(vec![0.0, 0.0, 800.0, 0.0], &[2, 2])?);
    /// let loss = logits.cross_entropy(&[1, 0])?.item()?;
    /// assert!((loss - 2f64.ln() / 2.0).abs() < 1e-15);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where this is not (B, classes) or there are not B labels;
    /// [`Error::Value`](crate::Error::Value) where a label is not a class or the batch is empty.
    pub fn cross_entropy(&self, labels: &[usize]) -> Result<Var<B>> {
        self.tape().apply(CrossEntropy { labels: labels.into() }, &[self])
    }
}
