//! `Flip`: an axis in reverse order.

use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads, operands};
use crate::backend::{Backend, Tensor};
use crate::error::Result;

/// The entries along an axis in reverse order; one input.
#[derive(Clone, Copy, Debug)]
pub struct Flip {
    /// The axis that is reversed.
    pub axis: usize,
}

impl<B: Backend> Op<B> for Flip {
    const NAME: &'static str = "flip";
    type Saved = ();

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("flip", inputs)?;
        Ok((backend.flip(x, self.axis)?, ()))
    }

    fn backward(&self, backend: &B, (): Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        Ok(vec![Some(backend.flip(grad, self.axis)?)])
    }

    fn derivative(&self, _: &[Var<B>], _: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        Ok(vec![Some(grad.flip(self.axis)?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Linear
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let mut cases = vec![Case::new(Flip { axis: 0 }, [generate.normal(&[1])])];
        for _ in 0..5 {
            let shape = generate.shape(1..=4, 1..=5);
            let axis = generate.size(0..=shape.len() - 1);
            cases.push(Case::new(Flip { axis }, [generate.normal(&shape)]));
        }
        cases
    }
}

impl<B: Backend> Var<B> {
    /// The entries along `axis` in reverse order.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where the axis does not exist.
    pub fn flip(&self, axis: usize) -> Result<Var<B>> {
        self.tape().apply(Flip { axis }, &[self])
    }
}
