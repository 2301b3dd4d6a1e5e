//! `Sum`: sums over axes, and means.

use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Var, operands};
use crate::backend::{Backend, Binary, Tensor, shape};
use crate::error::{Error, Result};

/// The sum over the axes along which `shape` broadcasts to the input's shape; one input.
#[derive(Clone, Debug)]
pub struct Sum {
    /// The output's shape.
    pub shape: Vec<usize>,
}

impl<B: Backend> Op<B> for Sum {
    const NAME: &'static str = "sum";
    /// The input's shape.
    type Saved = Vec<usize>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("sum", inputs)?;
        Ok((backend.sum_to(x, &self.shape)?, x.shape().into()))
    }

    fn backward(&self, backend: &B, shape: Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        Ok(vec![Some(backend.binary(Binary::Mul, &backend.full(&shape, 1.0)?, grad)?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Linear
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let mut cases = Vec::new();
        for _ in 0..4 {
            let from = generate.shape(0..=4, 1..=4);
            let leading = generate.size(0..=from.len());
            let shape = from[leading..].iter().map(|&len| if generate.flag() { len } else { 1 }).collect();
            cases.push(Case::new(Sum { shape }, [generate.normal(&from)]));
        }
        let long = generate.size(500..=1500);
        let sums: [(&[usize], &[usize]); 6] =
            [(&[], &[]), (&[1], &[]), (&[2, 3], &[]), (&[2, 3, 4], &[1, 3, 1]), (&[3, long], &[3, 1]), (&[long, 3], &[3])];
        for (from, to) in sums {
            cases.push(Case::new(Sum { shape: to.into() }, [generate.normal(from)]));
        }
        cases
    }
}

/// Sums and means.
///
/// ```
/// # use pspikessm::{autodiff::Tape, backend::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let x = Tape::new(&cpu).leaf(&cpu.from_vec(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3])?);
/// assert_eq!(x.sum_axes(&[1])?.to_vec()?, [6.0, 15.0]);
/// assert_eq!(x.sum_to(&[1, 3])?.to_vec()?, [5.0, 7.0, 9.0]);
/// assert_eq!(x.mean()?.item()?, 3.5);
/// # Ok(()) }
/// ```
impl<B: Backend> Var<B> {
    /// The sum of all elements, of shape ().
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) where the device fails.
    pub fn sum(&self) -> Result<Var<B>> {
        self.sum_to(&[])
    }

    /// The sum over the axes along which `shape` broadcasts to this shape, so that the result has `shape`.
    ///
    /// # Errors
    /// [`Error::Shape`] where `shape` does not broadcast to this one.
    pub fn sum_to(&self, shape: &[usize]) -> Result<Var<B>> {
        self.tape().apply(Sum { shape: shape.into() }, &[self])
    }

    /// The sum over these axes, which are gone from the result.
    ///
    /// # Errors
    /// [`Error::Value`] where an axis does not exist or is named twice.
    pub fn sum_axes(&self, axes: &[usize]) -> Result<Var<B>> {
        const OP: &str = "sum_axes";
        let mut ones = self.shape().to_vec();
        for (i, &axis) in axes.iter().enumerate() {
            ones[shape::axis(OP, axis, self.shape())?] = 1;
            if axes[..i].contains(&axis) {
                return Err(Error::value(OP, format!("axis {axis} is named twice in {axes:?}")));
            }
        }
        let kept: Vec<usize> = (0..ones.len()).filter(|axis| !axes.contains(axis)).map(|axis| ones[axis]).collect();
        self.sum_to(&ones)?.reshape(&kept)
    }

    /// The mean of all elements, of shape ().
    ///
    /// # Errors
    /// [`Error::Value`] where there are none.
    pub fn mean(&self) -> Result<Var<B>> {
        match self.value().numel() {
            0 => Err(Error::value("mean", format!("shape {:?} has no elements to take the mean of", self.shape()))),
            count => self.sum()?.scale(1.0 / count as f64),
        }
    }
}
