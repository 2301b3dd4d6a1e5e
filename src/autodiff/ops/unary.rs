//! `UnaryOp`: a function of every element.

use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Var, operands};
use crate::backend::unary::Domain;
use crate::backend::{Backend, Tensor, Unary};
use crate::error::Result;

/// f(x) for every element; one input, of any shape.
#[derive(Clone, Copy, Debug)]
pub struct UnaryOp(pub Unary);

impl<B: Backend> Op<B> for UnaryOp {
    const NAME: &'static str = "unary";
    /// x.
    type Saved = Tensor<B>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("unary", inputs)?;
        Ok((backend.unary(self.0, x)?, x.clone()))
    }

    fn backward(&self, backend: &B, x: Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        Ok(vec![Some(backend.unary_grad(self.0, &x, grad)?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        match self.0 {
            Unary::Neg | Unary::Linear(..) => Oracle::Linear,
            _ => Oracle::FiniteDifferences,
        }
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let mut cases = Vec::new();
        for f in Unary::ALL {
            // With other numbers than the list's, where the function has any.
            let f = match f {
                Unary::Clamp(..) => Unary::Clamp(generate.value(-1.5, -0.5), generate.value(0.5, 1.5)),
                Unary::Linear(..) => Unary::Linear(generate.value(-2.0, 2.0), generate.value(-1.0, 1.0)),
                f => f,
            };
            let Domain { stretches, kinks } = f.domain();
            for [from, to] in stretches {
                for shape in [generate.shape(0..=4, 1..=3), vec![5, generate.size(11..=40)]] {
                    cases.push(Case::new(UnaryOp(f), [generate.values_off(&shape, from, to, &kinks, 0.05)]));
                }
            }
        }
        cases
    }
}

/// A method for every function without numbers: `name: Variant`, under its documentation.
macro_rules! functions {
    ($($(#[$about:meta])* $name:ident: $function:ident),+ $(,)?) => {
        impl<B: Backend> Var<B> {
            $(
                $(#[$about])*
                ///
                /// # Errors
                /// [`Error::Device`](crate::Error::Device) where the device fails.
                pub fn $name(&self) -> Result<Var<B>> {
                    self.unary(Unary::$function)
                }
            )+
        }
    };
}

functions! {
    /// -x.
    neg: Neg,
    /// e^x.
    exp: Exp,
    /// The natural logarithm; NaN below 0.
    ln: Ln,
    /// The square root; NaN below 0, an infinite derivative at 0.
    sqrt: Sqrt,
    /// 1 / x.
    recip: Recip,
    /// x^2.
    square: Square,
    /// The hyperbolic tangent.
    tanh: Tanh,
    /// 1 / (1 + e^-x).
    sigmoid: Sigmoid,
    /// ln(1 + e^x), without overflow.
    softplus: Softplus,
    /// max(x, 0), with derivative 0 at 0.
    relu: Relu,
    /// x Phi(x), with the error function.
    gelu: Gelu,
}

/// Functions of every element; all keep the shape.
impl<B: Backend> Var<B> {
    /// f(x), element by element.
    ///
    /// # Errors
    /// What [`Unary::check`] refuses; [`Error::Device`](crate::Error::Device) where the device fails.
    pub fn unary(&self, f: Unary) -> Result<Var<B>> {
        self.tape().apply(UnaryOp(f), &[self])
    }

    /// x limited to [low, high], with derivative 1 at both ends.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) where `low` lies above `high`.
    pub fn clamp(&self, low: f64, high: f64) -> Result<Var<B>> {
        self.unary(Unary::Clamp(low, high))
    }

    /// factor * x.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) where the device fails.
    pub fn scale(&self, factor: f64) -> Result<Var<B>> {
        self.unary(Unary::Linear(factor, 0.0))
    }

    /// scale * x + shift.
    ///
    /// ```
    /// # use pspikessm::{autodiff::Tape, backend::*};
    /// # fn main() -> pspikessm::Result<()> {
    /// let cpu = Cpu::<f64>::new();
    /// let x = Tape::new(&cpu).leaf(&cpu.from_vec(vec![1.0, 2.0], &[2])?);
    /// assert_eq!(x.linear_map(3.0, -1.0)?.to_vec()?, [2.0, 5.0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) where the device fails.
    pub fn linear_map(&self, scale: f64, shift: f64) -> Result<Var<B>> {
        self.unary(Unary::Linear(scale, shift))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::Tape;
    use crate::backend::*;

    /// Values and derivatives at `x`.
    fn at(x: &[f64], f: Unary) -> (Vec<f64>, Vec<f64>) {
        let cpu = Cpu::<f64>::new();
        let leaf = Tape::new(&cpu).leaf(&cpu.from_vec(x.to_vec(), &[x.len()]).unwrap());
        let y = leaf.unary(f).unwrap();
        let gradients = y.sum().unwrap().backward().unwrap();
        (y.to_vec().unwrap(), cpu.to_vec(gradients.of(&leaf).unwrap()).unwrap())
    }

    #[test]
    fn kinks_have_the_documented_derivatives() {
        assert_eq!(at(&[-1.0, -0.0, 0.0, 1.0], Unary::Relu), (vec![0.0, 0.0, 0.0, 1.0], vec![0.0, 0.0, 0.0, 1.0]));
        let x = [-1.5, -1.0, 0.25, 2.0, 2.5];
        assert_eq!(at(&x, Unary::Clamp(-1.0, 2.0)), (vec![-1.0, -1.0, 0.25, 2.0, 2.0], vec![0.0, 1.0, 1.0, 1.0, 0.0]));
        assert_eq!(at(&[0.0], Unary::Sqrt), (vec![0.0], vec![f64::INFINITY]));
    }

    #[test]
    fn saturation_neither_overflows_nor_makes_nan() {
        let x = [-800.0, 800.0];
        assert_eq!(at(&x, Unary::Sigmoid), (vec![0.0, 1.0], vec![0.0, 0.0]));
        assert_eq!(at(&x, Unary::Softplus), (vec![0.0, 800.0], vec![0.0, 1.0]));
        assert_eq!(at(&x, Unary::Tanh), (vec![-1.0, 1.0], vec![0.0, 0.0]));
        let (gelu, slope) = at(&x, Unary::Gelu);
        assert!(gelu[0].abs() == 0.0 && gelu[1] == 800.0 && slope == [0.0, 1.0]);
    }

    #[test]
    fn a_clamp_that_is_upside_down_is_refused() {
        let cpu = Cpu::<f64>::new();
        let x = Tape::off(&cpu).leaf(&cpu.full(&[2], 1.0).unwrap());
        assert!(x.clamp(1.0, 0.0).unwrap_err().to_string().contains("[1, 0]"));
        assert!(x.clamp(f64::NAN, 0.0).is_err());
        assert!(x.clamp(1.0, 1.0).is_ok());
    }
}
