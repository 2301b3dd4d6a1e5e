//! `Slice`: a stretch of one axis.

use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads, operands, variables};
use crate::backend::{Backend, Tensor};
use crate::error::Result;

/// `len` entries from `start` on along `axis`; one input.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// The axis that is cut.
    pub axis: usize,
    /// The first entry.
    pub start: usize,
    /// The number of entries.
    pub len: usize,
}

impl<B: Backend> Op<B> for Slice {
    const NAME: &'static str = "slice";
    /// The input's shape.
    type Saved = Vec<usize>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("slice", inputs)?;
        Ok((backend.slice(x, self.axis, self.start, self.len)?, x.shape().into()))
    }

    /// The gradient between zeros.
    fn backward(&self, backend: &B, mut shape: Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        let after = shape[self.axis] - self.start - self.len;
        let mut zeros = |len: usize| -> Result<Option<Tensor<B>>> {
            shape[self.axis] = len;
            (len > 0).then(|| backend.full(&shape, 0.0)).transpose()
        };
        let (before, after) = (zeros(self.start)?, zeros(after)?);
        let parts: Vec<&Tensor<B>> = before.iter().chain([grad]).chain(&after).collect();
        Ok(vec![Some(if parts.len() == 1 { grad.clone() } else { backend.concat(&parts, self.axis)? })])
    }

    fn derivative(&self, inputs: &[Var<B>], _: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        let [x] = variables("slice", inputs)?;
        let mut shape = x.shape().to_vec();
        let after = shape[self.axis] - self.start - self.len;
        let mut zeros = |len: usize| -> Result<Option<Var<B>>> {
            shape[self.axis] = len;
            (len > 0).then(|| Ok(x.tape().constant(&x.tape().backend().full(&shape, 0.0)?))).transpose()
        };
        let (before, after) = (zeros(self.start)?, zeros(after)?);
        let parts: Vec<&Var<B>> = before.iter().chain([grad]).chain(&after).collect();
        Ok(vec![Some(if parts.len() == 1 { grad.clone() } else { Var::concat(&parts, self.axis)? })])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Linear
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let mut cases = vec![
            Case::new(Slice { axis: 0, start: 0, len: 1 }, [generate.normal(&[1])]),
            Case::new(Slice { axis: 1, start: 0, len: 2 }, [generate.normal(&[3, 5])]),
            Case::new(Slice { axis: 1, start: 3, len: 2 }, [generate.normal(&[3, 5])]),
            Case::new(Slice { axis: 0, start: 0, len: 3 }, [generate.normal(&[3, 2])]),
        ];
        for _ in 0..4 {
            let shape = generate.shape(1..=4, 1..=6);
            let axis = generate.size(0..=shape.len() - 1);
            let start = generate.size(0..=shape[axis] - 1);
            let len = generate.size(1..=shape[axis] - start);
            cases.push(Case::new(Slice { axis, start, len }, [generate.normal(&shape)]));
        }
        cases
    }
}

impl<B: Backend> Var<B> {
    /// `len` entries from `start` on along `axis`.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where the axis does not exist, `len` is 0, or the stretch goes beyond the axis.
    #[doc(alias = "narrow")]
    pub fn slice(&self, axis: usize, start: usize, len: usize) -> Result<Var<B>> {
        self.tape().apply(Slice { axis, start, len }, &[self])
    }
}
