//! `Cumsum`: running sums along an axis.

use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads, operands};
use crate::backend::{Backend, Tensor};
use crate::error::Result;

/// The sum of all entries along an axis up to each one, itself included; one input.
#[derive(Clone, Copy, Debug)]
pub struct Cumsum {
    /// The axis.
    pub axis: usize,
    /// From each entry to the end, instead of from the beginning.
    pub reverse: bool,
}

impl<B: Backend> Op<B> for Cumsum {
    const NAME: &'static str = "cumsum";
    type Saved = ();

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("cumsum", inputs)?;
        Ok((backend.cumsum(x, self.axis, self.reverse)?, ()))
    }

    fn backward(&self, backend: &B, (): Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        Ok(vec![Some(backend.cumsum(grad, self.axis, !self.reverse)?)])
    }

    fn derivative(&self, _: &[Var<B>], _: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        Ok(vec![Some(grad.tape().apply(Cumsum { reverse: !self.reverse, ..*self }, &[grad])?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Linear
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let mut cases = Vec::new();
        for reverse in [false, true] {
            cases.push(Case::new(Cumsum { axis: 0, reverse }, [generate.normal(&[1])]));
            for _ in 0..4 {
                let shape = generate.shape(1..=4, 1..=5);
                let axis = generate.size(0..=shape.len() - 1);
                cases.push(Case::new(Cumsum { axis, reverse }, [generate.normal(&shape)]));
            }
        }
        cases
    }
}

impl<B: Backend> Var<B> {
    /// The sum of all entries along `axis` up to each one, itself included.
    ///
    /// ```
    /// # use pspikessm::{autodiff::Tape, backend::*};
    /// # fn main() -> pspikessm::Result<()> {
    /// let cpu = Cpu::<f64>::new();
    /// let x = Tape::new(&cpu).leaf(&cpu.from_vec(vec![1.0, 2.0, 3.0], &[3])?);
    /// assert_eq!(x.cumsum(0)?.to_vec()?, [1.0, 3.0, 6.0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where the axis does not exist.
    pub fn cumsum(&self, axis: usize) -> Result<Var<B>> {
        self.tape().apply(Cumsum { axis, reverse: false }, &[self])
    }
}
