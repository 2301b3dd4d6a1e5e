//! `IndexSelect` and `IndexAdd`: entries of an axis by their numbers, and its adjoint.

use std::rc::Rc;

use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads, operands, variables};
use crate::backend::{Backend, Tensor};
use crate::error::Result;

/// The entries `index` of an axis; one input.
#[derive(Clone, Debug)]
pub struct IndexSelect {
    /// The axis that is picked from.
    pub axis: usize,
    /// The entries, each as often as it is named.
    pub index: Rc<[u32]>,
}

/// Zeros with `len` entries along an axis, to which entry i of the input is added at `index[i]`; one input.
#[derive(Clone, Debug)]
pub struct IndexAdd {
    /// The axis that is added along.
    pub axis: usize,
    /// Where every entry of the input goes.
    pub index: Rc<[u32]>,
    /// The output's length along the axis.
    pub len: usize,
}

impl<B: Backend> Op<B> for IndexSelect {
    const NAME: &'static str = "index_select";
    /// The input's length along the axis.
    type Saved = usize;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("index_select", inputs)?;
        Ok((backend.index_select(x, self.axis, &self.index)?, x.shape()[self.axis]))
    }

    fn backward(&self, backend: &B, len: Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        Ok(vec![Some(backend.index_add(grad, self.axis, &self.index, len)?)])
    }

    fn derivative(&self, inputs: &[Var<B>], _: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        let [x] = variables("index_select", inputs)?;
        let adjoint = IndexAdd { axis: self.axis, index: self.index.clone(), len: x.shape()[self.axis] };
        Ok(vec![Some(grad.tape().apply(adjoint, &[grad])?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Linear
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let case = |(axis, index, shape): (usize, Rc<[u32]>, Vec<usize>), generate: &mut Generate| {
            Case::new(IndexSelect { axis, index }, [generate.normal(&shape)])
        };
        picks(generate).into_iter().map(|pick| case(pick, generate)).collect()
    }
}

impl<B: Backend> Op<B> for IndexAdd {
    const NAME: &'static str = "index_add";
    type Saved = ();

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("index_add", inputs)?;
        Ok((backend.index_add(x, self.axis, &self.index, self.len)?, ()))
    }

    fn backward(&self, backend: &B, (): Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        Ok(vec![Some(backend.index_select(grad, self.axis, &self.index)?)])
    }

    fn derivative(&self, _: &[Var<B>], _: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        let adjoint = IndexSelect { axis: self.axis, index: self.index.clone() };
        Ok(vec![Some(grad.tape().apply(adjoint, &[grad])?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Linear
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let case = |(axis, index, mut shape): (usize, Rc<[u32]>, Vec<usize>), generate: &mut Generate| {
            let len = std::mem::replace(&mut shape[axis], index.len());
            Case::new(IndexAdd { axis, index, len }, [generate.normal(&shape)])
        };
        picks(generate).into_iter().map(|pick| case(pick, generate)).collect()
    }
}

/// (axis, index, the shape that is picked from): runs and scattered entries, some named twice and some not at all.
fn picks(generate: &mut Generate) -> Vec<(usize, Rc<[u32]>, Vec<usize>)> {
    let mut picks: Vec<(usize, Rc<[u32]>, Vec<usize>)> = vec![
        (0, [0].into(), vec![1]),
        (1, [2, 3, 4, 0, 1, 2].into(), vec![3, 5, 2]),
        (0, (0..40).rev().collect(), vec![40]),
        (1, (0..30).chain(5..35).collect(), vec![2, 35]),
    ];
    for _ in 0..4 {
        let shape = generate.shape(1..=4, 1..=5);
        let axis = generate.size(0..=shape.len() - 1);
        let index = (0..generate.size(1..=7)).map(|_| generate.size(0..=shape[axis] - 1) as u32).collect();
        picks.push((axis, index, shape));
    }
    picks
}

impl<B: Backend> Var<B> {
    /// The entries `index` of `axis` in that order, each as often as it is named: PyTorch's `index_select`.
    ///
    /// ```
    /// # use pspikessm::{autodiff::Tape, backend::*};
    /// # fn main() -> pspikessm::Result<()> {
    /// let cpu = Cpu::<f64>::new();
    /// let x = Tape::new(&cpu).leaf(&cpu.from_vec(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3])?);
    /// let picked = x.index_select(1, &[2, 0, 2])?;
    /// assert_eq!(picked.to_vec()?, [3.0, 1.0, 3.0, 6.0, 4.0, 6.0]);
    /// let gradients = picked.sum()?.backward()?;
    /// assert_eq!(cpu.to_vec(gradients.of(&x)?)?, [1.0, 0.0, 2.0, 1.0, 0.0, 2.0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where the axis does not exist, `index` is empty, or an index is not below the axis's length.
    #[doc(alias = "take")]
    #[doc(alias = "index")]
    pub fn index_select(&self, axis: usize, index: &[u32]) -> Result<Var<B>> {
        self.tape().apply(IndexSelect { axis, index: index.into() }, &[self])
    }

    /// Zeros with `len` entries along `axis`, to which entry i of this is added at `index[i]`: the adjoint of [`Var::index_select`]. What
    /// meets at one place is added in the order of `index`.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where the axis does not exist, `index` is empty, or an index is not below `len`;
    /// [`Error::Shape`](crate::Error::Shape) where there is not one index for every entry of the axis.
    pub fn index_add(&self, axis: usize, index: &[u32], len: usize) -> Result<Var<B>> {
        self.tape().apply(IndexAdd { axis, index: index.into(), len }, &[self])
    }
}
