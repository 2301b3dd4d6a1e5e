//! `Select`: of two tensors, one here and the other there.

use crate::autodiff::{Array, Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads, operands, variables};
use crate::backend::{Backend, Real, Tensor};
use crate::error::Result;

/// The first input where the mask is not 0, the second where it is; two inputs, which broadcast with the mask.
#[derive(Clone, Debug)]
pub struct Select<B: Backend> {
    /// What picks. It has no gradient, and so is no input.
    pub mask: Mask<B>,
}

/// Where a mask lies.
#[derive(Clone, Debug)]
pub enum Mask<B: Backend> {
    /// On the device.
    Device(Tensor<B>),
    /// On the host: a case's, which is made before there is a device.
    Host(Array),
}

impl<B: Backend> Mask<B> {
    fn on(&self, backend: &B) -> Result<Tensor<B>> {
        match self {
            Mask::Device(mask) => Ok(mask.clone()),
            Mask::Host(Array { values, shape }) => backend.from_vec(values.iter().map(|&v| B::Elem::of(v)).collect(), shape),
        }
    }
}

impl<B: Backend> Op<B> for Select<B> {
    const NAME: &'static str = "select";
    /// The mask, and the inputs' shapes.
    type Saved = (Tensor<B>, [Vec<usize>; 2]);

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [a, b] = operands("select", inputs)?;
        let mask = self.mask.on(backend)?;
        Ok((backend.select(&mask, a, b)?, (mask, [a.shape().into(), b.shape().into()])))
    }

    /// The gradient goes to the input that was picked; the other gets exactly 0, whatever the gradient is.
    fn backward(&self, backend: &B, (mask, [a, b]): Self::Saved, grad: &Tensor<B>, needs: Needs) -> Result<Grads<B>> {
        let zero = backend.full(&[], 0.0)?;
        let to_a = || backend.sum_to(&backend.select(&mask, grad, &zero)?, &a);
        let to_b = || backend.sum_to(&backend.select(&mask, &zero, grad)?, &b);
        Ok(vec![needs.input(0).then(to_a).transpose()?, needs.input(1).then(to_b).transpose()?])
    }

    fn derivative(&self, inputs: &[Var<B>], _: &Var<B>, grad: &Var<B>, needs: Needs) -> Result<VarGrads<B>> {
        let [a, b] = variables("select", inputs)?;
        let mask = grad.tape().constant(&self.mask.on(grad.tape().backend())?);
        let zero = grad.tape().constant(&grad.tape().backend().full(&[], 0.0)?);
        let to_a = || mask.select(grad, &zero)?.sum_to(a.shape());
        let to_b = || mask.select(&zero, grad)?.sum_to(b.shape());
        Ok(vec![needs.input(0).then(to_a).transpose()?, needs.input(1).then(to_b).transpose()?])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Linear
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let mut cases = Vec::new();
        let fixed: [[&[usize]; 3]; 7] = [
            [&[], &[], &[]],
            [&[], &[3], &[3]],
            [&[5], &[5], &[5]],
            [&[2, 1], &[3], &[2, 3]],
            [&[2, 3], &[], &[3]],
            [&[4, 60], &[4, 1], &[1, 60]],
            [&[3], &[2, 1, 3], &[4, 1]],
        ];
        for [mask, a, b] in fixed {
            let mut mask = generate.values(mask, -1.0, 1.0);
            mask.values.iter_mut().for_each(|v| *v = if generate.flag() { *v } else { 0.0 });
            cases.push(Case::new(Select { mask: Mask::Host(mask) }, [generate.normal(a), generate.normal(b)]));
        }
        cases
    }
}

/// The choice between values, element by element.
///
/// ```
/// # use pspikessm::{autodiff::Tape, backend::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let tape = Tape::new(&cpu);
/// let x = tape.leaf(&cpu.from_vec(vec![-1.0, 4.0], &[2])?);
/// let zero = tape.constant(&cpu.full(&[], 0.0)?);
/// let positive = x.gt(&zero)?;
/// // The root of -1 is NaN, but it is not picked.
/// assert_eq!(positive.select(&x.sqrt()?, &zero)?.to_vec()?, [0.0, 2.0]);
/// // The root's own derivative at -1 is NaN, too, also times a gradient of 0: let it see no -1.
/// let roots = positive.select(&positive.select(&x, &x.detach().abs()?)?.sqrt()?, &zero)?;
/// assert_eq!(cpu.to_vec(roots.sum()?.backward()?.of(&x)?)?, [0.0, 0.25]);
/// assert_eq!(x.masked_fill(&x.lt(&zero)?, 7.0)?.to_vec()?, [7.0, 4.0]);
/// # Ok(()) }
/// ```
impl<B: Backend> Var<B> {
    /// `a` where this mask is not 0, `b` where it is; all three broadcast. The gradient goes to what was picked; the other gets exactly 0, and
    /// the mask none.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the shapes do not broadcast.
    #[doc(alias = "where")]
    #[doc(alias = "where_cond")]
    pub fn select(&self, a: &Var<B>, b: &Var<B>) -> Result<Var<B>> {
        self.tape().apply(Select { mask: Mask::Device(self.value().clone()) }, &[a, b])
    }

    /// `value` where `mask` is not 0, else this; both broadcast.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the shapes do not broadcast.
    pub fn masked_fill(&self, mask: &Var<B>, value: f64) -> Result<Var<B>> {
        mask.select(&self.tape().constant(&self.tape().backend().full(&[], value)?), self)
    }
}
