//! `Reshape`: the same values under another shape.

use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads, operands, variables};
use crate::backend::{Backend, Tensor};
use crate::error::Result;

/// The same values, row-major, under another shape; one input. Nothing is copied.
#[derive(Clone, Debug)]
pub struct Reshape {
    /// The output's shape.
    pub shape: Vec<usize>,
}

impl<B: Backend> Op<B> for Reshape {
    const NAME: &'static str = "reshape";
    /// The input's shape.
    type Saved = Vec<usize>;

    fn forward(&self, _: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("reshape", inputs)?;
        Ok((x.reshape(&self.shape)?, x.shape().into()))
    }

    fn backward(&self, _: &B, shape: Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        Ok(vec![Some(grad.reshape(&shape)?)])
    }

    fn derivative(&self, inputs: &[Var<B>], _: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        let [x] = variables("reshape", inputs)?;
        Ok(vec![Some(grad.reshape(x.shape())?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Linear
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let [a, b, c] = [generate.size(1..=4), generate.size(1..=4), generate.size(1..=4)];
        let shapes: [[Vec<usize>; 2]; 5] = [
            [vec![], vec![1, 1]],
            [vec![1], vec![]],
            [vec![a, b, c], vec![a * b, c]],
            [vec![a * b * c], vec![c, 1, b, a]],
            [vec![a, b], vec![a, b]],
        ];
        shapes.into_iter().map(|[from, shape]| Case::new(Reshape { shape }, [generate.normal(&from)])).collect()
    }
}

impl<B: Backend> Var<B> {
    /// The same values, row-major, under another shape.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the number of elements differs.
    #[doc(alias = "view")]
    #[doc(alias = "flatten")]
    pub fn reshape(&self, shape: &[usize]) -> Result<Var<B>> {
        self.tape().apply(Reshape { shape: shape.into() }, &[self])
    }
}
