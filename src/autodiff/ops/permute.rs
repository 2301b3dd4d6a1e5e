//! `Permute`: axes in another order.

use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads, operands};
use crate::backend::{Backend, Tensor};
use crate::error::Result;

/// Axis i of the output is axis `axes[i]` of the input; one input.
#[derive(Clone, Debug)]
pub struct Permute {
    /// Every axis of the input, once.
    pub axes: Vec<usize>,
}

impl<B: Backend> Op<B> for Permute {
    const NAME: &'static str = "permute";
    type Saved = ();

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("permute", inputs)?;
        Ok((backend.permute(x, &self.axes)?, ()))
    }

    fn backward(&self, backend: &B, (): Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        Ok(vec![Some(backend.permute(grad, &self.inverse())?)])
    }

    fn derivative(&self, _: &[Var<B>], _: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        Ok(vec![Some(grad.permute(&self.inverse())?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Linear
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        // A cycle of three axes is not its own inverse.
        let (rows, columns) = (generate.size(20..=40), generate.size(20..=70));
        let mut cases = vec![
            Case::new(Permute { axes: vec![] }, [generate.normal(&[])]),
            Case::new(Permute { axes: vec![0] }, [generate.normal(&[1])]),
            Case::new(Permute { axes: vec![1, 2, 0] }, [generate.normal(&[2, 3, 4])]),
            Case::new(Permute { axes: vec![1, 0] }, [generate.normal(&[rows, columns])]),
        ];
        for _ in 0..3 {
            let shape = generate.shape(1..=4, 1..=4);
            let mut axes: Vec<usize> = (0..shape.len()).collect();
            for i in 0..axes.len() {
                let other = generate.size(i..=axes.len() - 1);
                axes.swap(i, other);
            }
            cases.push(Case::new(Permute { axes }, [generate.normal(&shape)]));
        }
        cases
    }
}

impl Permute {
    /// The axes that put everything back.
    fn inverse(&self) -> Vec<usize> {
        let mut inverse = vec![0; self.axes.len()];
        for (to, &from) in self.axes.iter().enumerate() {
            inverse[from] = to;
        }
        inverse
    }
}

impl<B: Backend> Var<B> {
    /// The axes in another order: axis i of the result is axis `axes[i]` of this.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where `axes` does not name every axis once.
    pub fn permute(&self, axes: &[usize]) -> Result<Var<B>> {
        self.tape().apply(Permute { axes: axes.into() }, &[self])
    }
}
