//! `Expand`: axes of length 1 repeated.

use super::binary::broadcasting_pair;
use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads, operands, variables};
use crate::backend::{Backend, Binary, Tensor, shape};
use crate::error::Result;

/// The input in the shape that it broadcasts to; one input.
#[derive(Clone, Debug)]
pub struct Expand {
    /// The output's shape.
    pub shape: Vec<usize>,
}

impl<B: Backend> Op<B> for Expand {
    const NAME: &'static str = "expand";
    /// The input's shape.
    type Saved = Vec<usize>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("expand", inputs)?;
        shape::broadcasts_to("expand", x.shape(), &self.shape)?;
        let output = if x.shape() == self.shape { x.clone() } else { backend.binary(Binary::Mul, &backend.full(&self.shape, 1.0)?, x)? };
        Ok((output, x.shape().into()))
    }

    fn backward(&self, backend: &B, shape: Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        Ok(vec![Some(backend.sum_to(grad, &shape)?)])
    }

    fn derivative(&self, inputs: &[Var<B>], _: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        let [x] = variables("expand", inputs)?;
        Ok(vec![Some(grad.sum_to(x.shape())?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Linear
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let mut cases = vec![
            Case::new(Expand { shape: vec![] }, [generate.normal(&[])]),
            Case::new(Expand { shape: vec![3, 2] }, [generate.normal(&[3, 2])]),
            Case::new(Expand { shape: vec![4, 3, 2, 5] }, [generate.normal(&[3, 1, 5])]),
        ];
        for _ in 0..4 {
            let [left, right] = broadcasting_pair(generate);
            if let Ok(joint) = shape::broadcast("expand", &left, &right) {
                cases.push(Case::new(Expand { shape: joint }, [generate.normal(&left)]));
            }
        }
        cases
    }
}

impl<B: Backend> Var<B> {
    /// This in the shape that it broadcasts to: axes align from the right, and an axis of length 1 is repeated.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where this does not broadcast to `shape`; [`Error::Value`](crate::Error::Value) where no memory
    /// holds it.
    #[doc(alias = "broadcast_to")]
    #[doc(alias = "broadcast_as")]
    pub fn expand(&self, shape: &[usize]) -> Result<Var<B>> {
        self.tape().apply(Expand { shape: shape.into() }, &[self])
    }
}
