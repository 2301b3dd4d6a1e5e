//! `Sum`: sums over axes, and what is made of them: means, variances, norms.

use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads, operands, variables};
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

    fn derivative(&self, inputs: &[Var<B>], _: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        let [x] = variables("sum", inputs)?;
        let ones = x.tape().constant(&x.tape().backend().full(x.shape(), 1.0)?);
        Ok(vec![Some(ones.mul(grad)?)])
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
        self.sum_over("sum_axes", axes)?.reshape(&shape::without(self.shape(), axes))
    }

    /// The sum over these axes, which stay with length 1.
    ///
    /// # Errors
    /// As [`Var::sum_axes`].
    #[doc(alias = "sum_keepdim")]
    pub fn sum_keep(&self, axes: &[usize]) -> Result<Var<B>> {
        self.sum_over("sum_keep", axes)
    }

    fn sum_over(&self, op: &'static str, axes: &[usize]) -> Result<Var<B>> {
        self.sum_to(&shape::reduced(op, self.shape(), axes)?)
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

    /// The mean over these axes, which are gone from the result.
    ///
    /// # Errors
    /// [`Error::Value`] where an axis does not exist or is named twice, or there is nothing to take the mean of.
    pub fn mean_axes(&self, axes: &[usize]) -> Result<Var<B>> {
        self.mean_keep(axes)?.reshape(&shape::without(self.shape(), axes))
    }

    /// The mean over these axes, which stay with length 1.
    ///
    /// # Errors
    /// As [`Var::mean_axes`].
    #[doc(alias = "mean_keepdim")]
    pub fn mean_keep(&self, axes: &[usize]) -> Result<Var<B>> {
        let kept = shape::reduced_of("mean", self.shape(), axes, 1)?;
        self.sum_to(&kept)?.scale(1.0 / self.count_of(axes) as f64)
    }

    /// How many values these axes hold for each result.
    fn count_of(&self, axes: &[usize]) -> usize {
        axes.iter().map(|&axis| self.shape()[axis]).product()
    }

    fn every_axis(&self) -> Vec<usize> {
        (0..self.shape().len()).collect()
    }
}

/// Variances, standard deviations and norms: made of sums, so that their gradients are.
///
/// `correction` is what is taken off the number of values: 1 for a sample's variance (PyTorch's default), 0 for the biased one.
///
/// ```
/// # use pspikessm::{autodiff::Tape, backend::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let x = Tape::new(&cpu).leaf(&cpu.from_vec(vec![1.0, 3.0, 3.0, 4.0], &[2, 2])?);
/// assert_eq!(x.var_axes(&[1], 0)?.to_vec()?, [1.0, 0.25]);
/// assert_eq!(x.var_axes(&[1], 1)?.to_vec()?, [2.0, 0.5]);
/// assert_eq!(x.norm_keep(&[1])?.shape(), [2, 1]);
/// assert_eq!(x.norm_axes(&[1])?.to_vec()?[1], 5.0);
/// # Ok(()) }
/// ```
impl<B: Backend> Var<B> {
    /// The variance of all elements, of shape ().
    ///
    /// # Errors
    /// [`Error::Value`] where there are no more than `correction` elements.
    pub fn var(&self, correction: usize) -> Result<Var<B>> {
        self.var_axes(&self.every_axis(), correction)
    }

    /// The variance over these axes, which are gone from the result.
    ///
    /// # Errors
    /// [`Error::Value`] where an axis does not exist or is named twice, or each result is made of no more than `correction` values.
    #[doc(alias = "variance")]
    pub fn var_axes(&self, axes: &[usize], correction: usize) -> Result<Var<B>> {
        self.var_keep(axes, correction)?.reshape(&shape::without(self.shape(), axes))
    }

    /// The variance over these axes, which stay with length 1.
    ///
    /// # Errors
    /// As [`Var::var_axes`].
    pub fn var_keep(&self, axes: &[usize], correction: usize) -> Result<Var<B>> {
        let kept = shape::reduced_of("var", self.shape(), axes, correction.saturating_add(1))?;
        let deviation = self.sub(&self.mean_keep(axes)?)?;
        deviation.square()?.sum_to(&kept)?.scale(1.0 / (self.count_of(axes) - correction) as f64)
    }

    /// The standard deviation of all elements, of shape (). Where it is 0, so is its gradient.
    ///
    /// # Errors
    /// As [`Var::var`].
    pub fn std(&self, correction: usize) -> Result<Var<B>> {
        self.var(correction)?.root()
    }

    /// The standard deviation over these axes, which are gone from the result. Where it is 0, so is its gradient.
    ///
    /// # Errors
    /// As [`Var::var_axes`].
    pub fn std_axes(&self, axes: &[usize], correction: usize) -> Result<Var<B>> {
        self.var_axes(axes, correction)?.root()
    }

    /// The standard deviation over these axes, which stay with length 1. Where it is 0, so is its gradient.
    ///
    /// # Errors
    /// As [`Var::var_axes`].
    pub fn std_keep(&self, axes: &[usize], correction: usize) -> Result<Var<B>> {
        self.var_keep(axes, correction)?.root()
    }

    /// The Euclidean norm of all elements, of shape (). Where it is 0, so is its gradient.
    ///
    /// # Errors
    /// [`Error::Device`] where the device fails.
    #[doc(alias = "l2_norm")]
    pub fn norm(&self) -> Result<Var<B>> {
        self.square()?.sum()?.root()
    }

    /// The Euclidean norm over these axes, which are gone from the result. Where it is 0, so is its gradient.
    ///
    /// # Errors
    /// [`Error::Value`] where an axis does not exist or is named twice.
    #[doc(alias = "vector_norm")]
    pub fn norm_axes(&self, axes: &[usize]) -> Result<Var<B>> {
        self.square()?.sum_axes(axes)?.root()
    }

    /// The Euclidean norm over these axes, which stay with length 1. Where it is 0, so is its gradient.
    ///
    /// # Errors
    /// As [`Var::norm_axes`].
    pub fn norm_keep(&self, axes: &[usize]) -> Result<Var<B>> {
        self.square()?.sum_keep(axes)?.root()
    }

    /// The square root, with derivative 0 at 0: there the numbers whose squares were added have no direction, either.
    fn root(&self) -> Result<Var<B>> {
        let number = |value| Ok::<_, Error>(self.tape().constant(&self.tape().backend().full(&[], value)?));
        let (zero, one) = (number(0.0)?, number(1.0)?);
        let at_zero = self.eq(&zero)?;
        at_zero.select(&zero, &at_zero.select(&one, self)?.sqrt()?)
    }
}
