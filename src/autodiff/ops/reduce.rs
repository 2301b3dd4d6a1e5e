//! `Reduce`: extremes and products over axes; the logarithm of a sum of exponentials; the places of extremes.

use crate::autodiff::{Array, Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads, differentiate, operands, variables};
use crate::backend::{Backend, Binary, Reduction, Tensor, shape};
use crate::error::Result;

/// The input reduced over axes, which stay with length 1; one input.
#[derive(Clone, Debug)]
pub struct Reduce {
    /// What the values are reduced to.
    pub kind: Reduction,
    /// The axes.
    pub axes: Vec<usize>,
}

impl<B: Backend> Op<B> for Reduce {
    const NAME: &'static str = "reduce";
    /// x and the output.
    type Saved = [Tensor<B>; 2];

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands(self.kind.name(), inputs)?;
        let output = backend.reduce(self.kind, x, &self.axes)?;
        Ok((output.clone(), [x.clone(), output]))
    }

    fn backward(&self, backend: &B, [x, output]: Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        let x_grad = match self.kind {
            Reduction::Max | Reduction::Min => towards_extremes(backend, &x, &output, grad)?,
            Reduction::Prod => towards_factors(backend, &x, &self.axes, grad)?,
        };
        Ok(vec![Some(x_grad)])
    }

    fn derivative(&self, inputs: &[Var<B>], output: &Var<B>, grad: &Var<B>, needs: Needs) -> Result<VarGrads<B>> {
        let [x] = variables(self.kind.name(), inputs)?;
        match self.kind {
            Reduction::Max | Reduction::Min => {
                let (ties, zero) = (x.eq(output)?, grad.tape().constant(&grad.tape().backend().full(&[], 0.0)?));
                Ok(vec![Some(ties.select(&grad.div(&ties.sum_keep(&self.axes)?)?, &zero)?)])
            }
            Reduction::Prod => differentiate(|x| by_halves(&x[0], &self.axes), inputs, grad, needs),
        }
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::FiniteDifferences
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let mut cases = Vec::new();
        for kind in Reduction::ALL {
            let fixed: [(&[usize], &[usize]); 6] =
                [(&[], &[]), (&[1], &[0]), (&[7], &[0]), (&[2, 3, 4], &[1]), (&[2, 3, 4], &[2, 0]), (&[3, 70], &[1])];
            for (shape, axes) in fixed {
                let x = if kind == Reduction::Prod { factors(generate, shape) } else { apart(generate, shape) };
                cases.push(Case::new(Reduce { kind, axes: axes.into() }, [x]));
            }
            for _ in 0..2 {
                let shape = generate.shape(1..=4, 1..=4);
                let axes = (0..shape.len()).filter(|_| generate.flag()).collect();
                let x = if kind == Reduction::Prod { factors(generate, &shape) } else { apart(generate, &shape) };
                cases.push(Case::new(Reduce { kind, axes }, [x]));
            }
        }
        // Products of which none, one and two factors are 0.
        let mut x = factors(generate, &[3, 4]);
        [5, 8, 10].iter().for_each(|&zero| x.values[zero] = 0.0);
        cases.push(Case::new(Reduce { kind: Reduction::Prod, axes: vec![1] }, [x]));
        cases
    }
}

/// The gradient, in equal shares, to all values that are the extreme.
fn towards_extremes<B: Backend>(backend: &B, x: &Tensor<B>, output: &Tensor<B>, grad: &Tensor<B>) -> Result<Tensor<B>> {
    let ties = backend.binary(Binary::Eq, x, output)?;
    let share = backend.binary(Binary::Div, grad, &backend.sum_to(&ties, output.shape())?)?;
    backend.select(&ties, &share, &backend.full(&[], 0.0)?)
}

/// The gradient times the product of all other factors: the product of those that are not 0, divided by this one if that is one of them;
/// nothing where another factor is 0.
fn towards_factors<B: Backend>(backend: &B, x: &Tensor<B>, axes: &[usize], grad: &Tensor<B>) -> Result<Tensor<B>> {
    let [zero, one] = [backend.full(&[], 0.0)?, backend.full(&[], 1.0)?];
    let is_zero = backend.binary(Binary::Eq, x, &zero)?;
    let filled = backend.select(&is_zero, &one, x)?;
    let product = backend.binary(Binary::Mul, grad, &backend.reduce(Reduction::Prod, &filled, axes)?)?;
    let zeros = backend.sum_to(&is_zero, product.shape())?;
    let others = backend.binary(Binary::Sub, &zeros, &is_zero)?;
    backend.select(&others, &zero, &backend.binary(Binary::Div, &product, &filled)?)
}

/// The product over axes, half of an axis times the other half: derivatives of all orders are right for factors of 0, too.
fn by_halves<B: Backend>(x: &Var<B>, axes: &[usize]) -> Result<Var<B>> {
    if x.value().numel() == 0 {
        // Of nothing it is 1.
        let kept = shape::reduced("prod", x.shape(), axes)?;
        return Ok(x.tape().constant(&x.tape().backend().full(&kept, 1.0)?));
    }
    let mut product = x.clone();
    for &axis in axes {
        while product.shape()[axis] > 1 {
            let (half, odd) = (product.shape()[axis] / 2, product.shape()[axis] % 2 == 1);
            let halves = product.slice(axis, 0, half)?.mul(&product.slice(axis, half, half)?)?;
            product = match odd {
                true => Var::concat(&[&halves, &product.slice(axis, 2 * half, 1)?], axis)?,
                false => halves,
            };
        }
    }
    Ok(product)
}

/// Values in random order, no two of them closer than 0.07: central differences mean nothing at a tie.
fn apart(generate: &mut Generate, shape: &[usize]) -> Array {
    let mut array = generate.values(shape, -0.02, 0.02);
    let count = array.values.len();
    for (i, value) in array.values.iter_mut().enumerate() {
        *value += 0.11 * (i as f64 - count as f64 / 2.0);
    }
    for i in (1..count).rev() {
        array.values.swap(i, generate.size(0..=i));
    }
    array
}

/// Factors of either sign, whose product neither vanishes nor explodes.
fn factors(generate: &mut Generate, shape: &[usize]) -> Array {
    let mut array = generate.values(shape, 0.8, 1.25);
    array.values.iter_mut().for_each(|v| *v *= if generate.flag() { 1.0 } else { -1.0 });
    array
}

/// Three methods for every reduction, under its documentation: of all elements, over axes, and over axes that stay.
macro_rules! reductions {
    ($($about:literal, $of_nothing:literal, $kind:ident: $all:ident, $axes:ident, $keep:ident, $alias:literal;)+) => {
        impl<B: Backend> Var<B> {
            $(
                #[doc = concat!($about, " of all elements, of shape ().")]
                ///
                /// # Errors
                #[doc = $of_nothing]
                pub fn $all(&self) -> Result<Var<B>> {
                    self.$axes(&(0..self.shape().len()).collect::<Vec<_>>())
                }

                #[doc = concat!($about, " over these axes, which are gone from the result.")]
                ///
                /// # Errors
                /// [`Error::Value`](crate::Error::Value) where an axis does not exist or is named twice.
                #[doc = $of_nothing]
                #[doc(alias = $alias)]
                pub fn $axes(&self, axes: &[usize]) -> Result<Var<B>> {
                    self.$keep(axes)?.reshape(&shape::without(self.shape(), axes))
                }

                #[doc = concat!($about, " over these axes, which stay with length 1.")]
                ///
                /// # Errors
                #[doc = concat!("As [`Var::", stringify!($axes), "`].")]
                pub fn $keep(&self, axes: &[usize]) -> Result<Var<B>> {
                    self.tape().apply(Reduce { kind: Reduction::$kind, axes: axes.into() }, &[self])
                }
            )+
        }
    };
}

reductions! {
    "The largest (NaN where one is NaN, ties share the gradient)", "[`Error::Value`](crate::Error::Value) where there is nothing to take it of.",
        Max: max, max_axes, max_keep, "amax";
    "The smallest (NaN where one is NaN, ties share the gradient)", "[`Error::Value`](crate::Error::Value) where there is nothing to take it of.",
        Min: min, min_axes, min_keep, "amin";
    "The product (1 of nothing; its gradient is right for factors of 0, too)", "[`Error::Device`](crate::Error::Device) where the device fails.",
        Prod: prod, prod_axes, prod_keep, "product";
}

/// Logarithms of sums of exponentials; places of extremes.
///
/// ```
/// # use pspikessm::{autodiff::Tape, backend::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let x = Tape::new(&cpu).leaf(&cpu.from_vec(vec![1.0, 5.0, 5.0, 2.0, 0.0, 1.0], &[2, 3])?);
/// assert_eq!(x.max_axes(&[1])?.to_vec()?, [5.0, 2.0]);
/// assert_eq!(x.argmax(1)?.to_vec()?, [1.0, 0.0]);
/// let gradients = x.max_axes(&[1])?.sum()?.backward()?;
/// assert_eq!(cpu.to_vec(gradients.of(&x)?)?, [0.0, 0.5, 0.5, 1.0, 0.0, 0.0]);
/// # Ok(()) }
/// ```
impl<B: Backend> Var<B> {
    /// ln(sum(e^x)) of all elements, of shape (), without overflow.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where there are none.
    pub fn logsumexp(&self) -> Result<Var<B>> {
        self.logsumexp_axes(&(0..self.shape().len()).collect::<Vec<_>>())
    }

    /// ln(sum(e^x)) over these axes, which are gone from the result, without overflow.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where an axis does not exist or is named twice, or there is nothing to take it of.
    pub fn logsumexp_axes(&self, axes: &[usize]) -> Result<Var<B>> {
        self.logsumexp_keep(axes)?.reshape(&shape::without(self.shape(), axes))
    }

    /// ln(sum(e^x)) over these axes, which stay with length 1, without overflow.
    ///
    /// # Errors
    /// As [`Var::logsumexp_axes`].
    pub fn logsumexp_keep(&self, axes: &[usize]) -> Result<Var<B>> {
        let kept = shape::reduced_of("logsumexp", self.shape(), axes, 1)?;
        let number = |value| Ok::<_, crate::Error>(self.tape().constant(&self.tape().backend().full(&[], value)?));
        let largest = self.detach().max_keep(axes)?;
        // Of infinities alone nothing is taken off: infinity less infinity is no number.
        let infinite = largest.abs()?.eq(&number(f64::INFINITY)?)?;
        let largest = infinite.select(&number(0.0)?, &largest)?;
        self.sub(&largest)?.exp()?.sum_to(&kept)?.ln()?.add(&largest)
    }

    /// The place of the largest element along `axis`, which is gone from the result, as a constant: the first of equal ones, or of the NaN if
    /// there are any. In f32 a place beyond 2^24 is the nearest number that there is.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where the axis does not exist or has length 0.
    pub fn argmax(&self, axis: usize) -> Result<Var<B>> {
        self.argmax_keep(axis)?.reshape(&shape::without(self.shape(), &[axis]))
    }

    /// [`Var::argmax`] with the axis kept at length 1.
    ///
    /// # Errors
    /// As [`Var::argmax`].
    pub fn argmax_keep(&self, axis: usize) -> Result<Var<B>> {
        Ok(self.tape().constant(&self.tape().backend().argmax(self.value(), axis)?))
    }

    /// The place of the smallest element along `axis`, otherwise as [`Var::argmax`].
    ///
    /// # Errors
    /// As [`Var::argmax`].
    pub fn argmin(&self, axis: usize) -> Result<Var<B>> {
        self.detach().neg()?.argmax(axis)
    }

    /// [`Var::argmin`] with the axis kept at length 1.
    ///
    /// # Errors
    /// As [`Var::argmax`].
    pub fn argmin_keep(&self, axis: usize) -> Result<Var<B>> {
        self.detach().neg()?.argmax_keep(axis)
    }
}
