//! `Moments`: mean and variance of every channel over batch and length.

use crate::autodiff::gradcheck::Generate;
use crate::autodiff::{Array, Case, Grads, Needs, Op, Oracle, Var, operands};
use crate::backend::{Backend, Tensor, shape};
use crate::error::Result;

/// Mean and biased variance, (2, H), of x (B, H, L) over batch and length; one input.
///
/// What a BatchNorm is made of where its output is not wanted by itself: an affine map by these numbers can be folded into what follows.
#[derive(Clone, Copy, Debug)]
pub struct Moments;

impl<B: Backend> Op<B> for Moments {
    const NAME: &'static str = "moments";
    /// x and the moments.
    type Saved = [Tensor<B>; 2];

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("moments", inputs)?;
        let moments = backend.moments(x)?;
        Ok((moments.clone(), [x.clone(), moments]))
    }

    fn backward(&self, backend: &B, [x, moments]: Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        Ok(vec![Some(backend.moments_grad(&x, &moments, grad)?)])
    }

    fn backward_onto(
        &self,
        backend: &B,
        [x, moments]: Self::Saved,
        grad: Tensor<B>,
        needs: Needs,
        earlier: &mut Option<Tensor<B>>,
    ) -> Result<Grads<B>> {
        match earlier.take() {
            Some(earlier) => Ok(vec![Some(backend.add_moments_grad(&x, &moments, &grad, earlier)?)]),
            None => self.backward(backend, [x, moments], &grad, needs),
        }
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Composition(by_means)
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let [batch, channels, length] = [generate.size(1..=3), generate.size(1..=5), generate.size(1..=20)];
        let long = generate.size(600..=700);
        let mut cases: Vec<_> =
            [[batch, channels, length], [1, 1, 1], [2, 4, long]].map(|shape| Case::new(Moments, [generate.normal(&shape)])).into();
        // A mean that is large beside the deviation: a variance by E[x^2] - E[x]^2 would be far off.
        cases.push(Case::new(Moments, [generate.values(&[2, 3, 5], 100.0, 101.0)]));
        cases.push(Case::new(Moments, [Array { values: vec![0.75; 24], shape: vec![2, 3, 4] }]));
        cases
    }
}

/// The same from means on the tape.
fn by_means<B: Backend>(_: &Moments, inputs: &[Var<B>]) -> Result<Var<B>> {
    let [x] = inputs else { return Err(crate::Error::value("moments", "takes one input")) };
    let [batch, channels, length] = shape::sequence("moments", "x", x.shape())?;
    let mean = |v: &Var<B>| v.sum_to(&[1, channels, 1])?.scale(1.0 / (batch * length) as f64);
    let average = mean(x)?;
    let variance = mean(&x.sub(&average)?.square()?)?;
    Var::concat(&[&average.reshape(&[1, channels])?, &variance.reshape(&[1, channels])?], 0)
}

impl<B: Backend> Var<B> {
    /// Mean and biased variance of every channel of x (B, H, L), over batch and length: (H) each.
    ///
    /// ```
    /// # use pspikessm::{autodiff::Tape, backend::*};
    /// # fn main() -> pspikessm::Result<()> {
    /// let cpu = Cpu::<f64>::new();
    /// let x = Tape::new(&cpu).leaf(&cpu.from_vec(vec![1.0, 3.0, 5.0, 5.0], &[1, 2, 2])?);
    /// let (mean, variance) = x.moments()?;
    /// assert_eq!((mean.to_vec()?, variance.to_vec()?), (vec![2.0, 5.0], vec![1.0, 0.0]));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where x has not three axes; [`crate::Error::Value`] where one is empty.
    pub fn moments(&self) -> Result<(Var<B>, Var<B>)> {
        let moments = self.tape().apply(Moments, &[self])?;
        let row = |i| moments.slice(0, i, 1)?.reshape(&moments.shape()[1..]);
        Ok((row(0)?, row(1)?))
    }
}
