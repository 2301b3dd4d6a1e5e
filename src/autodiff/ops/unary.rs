//! `UnaryOp`: a function of every element.

use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Tape, Var, VarGrads, operands, variables};
use crate::backend::unary::Domain;
use crate::backend::{Backend, Tensor, Unary};
use crate::error::{Error, Result};

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

    fn derivative(&self, inputs: &[Var<B>], y: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        let [x] = variables("unary", inputs)?;
        Ok(vec![Some(times_slope(self.0, [x, y], grad)?)])
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
                Unary::Powf(_) => Unary::Powf(generate.value(-3.0, 3.0)),
                Unary::Powi(_) => Unary::Powi(generate.pick(&[-2, -1, 0, 1, 2, 5])),
                Unary::LeakyRelu(_) => Unary::LeakyRelu(generate.value(-0.5, 0.5)),
                Unary::Elu(_) => Unary::Elu(generate.value(0.5, 2.0)),
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

/// f'(x) g, with y = f(x): the same slopes as the backends', made of variables. The match has no arm for all others: a new function says
/// what its derivative is, or does not compile.
fn times_slope<B: Backend>(f: Unary, [x, y]: [&Var<B>; 2], g: &Var<B>) -> Result<Var<B>> {
    match f {
        Unary::Neg => g.neg(),
        Unary::Exp => g.mul(y),
        Unary::Ln => g.div(x),
        Unary::Sqrt => g.div(&y.scale(2.0)?),
        Unary::Recip => g.mul(&y.square()?)?.neg(),
        Unary::Square => g.mul(&x.scale(2.0)?),
        Unary::Tanh => g.mul(&y.square()?.linear_map(-1.0, 1.0)?),
        // Not y (1 - y), which is 0 where y rounds to 1.
        Unary::Sigmoid => g.mul(&y.mul(&x.neg()?.sigmoid()?)?),
        Unary::Softplus => g.mul(&x.sigmoid()?),
        Unary::Gelu => g.mul(&x.tape().apply(GeluSlope, &[x])?),
        Unary::Linear(scale, _) => g.scale(scale),
        Unary::Sin => g.mul(&x.cos()?),
        Unary::Cos => g.mul(&x.sin()?)?.neg(),
        Unary::Tan => g.mul(&y.square()?.linear_map(1.0, 1.0)?),
        Unary::Log1p => g.div(&x.linear_map(1.0, 1.0)?),
        Unary::Expm1 => g.mul(&y.linear_map(1.0, 1.0)?),
        Unary::Rsqrt => g.mul(&y.square()?.mul(y)?.scale(-0.5)?),
        Unary::Erf => g.mul(&x.square()?.neg()?.exp()?.scale(std::f64::consts::FRAC_2_SQRT_PI)?),
        Unary::Silu => g.mul(&x.sigmoid()?.add(&y.mul(&x.neg()?.sigmoid()?)?)?),
        Unary::Powf(p) if p != 0.0 => g.mul(&x.unary(Unary::Powf(p - 1.0))?.scale(p)?),
        Unary::Powi(n) if n != 0 => g.mul(&x.unary(Unary::Powi(n.saturating_sub(1)))?.scale(f64::from(n))?),
        Unary::Elu(alpha) => {
            let number = |value| Ok::<_, Error>(x.tape().constant(&x.tape().backend().full(&[], value)?));
            g.mul(&x.gt(&number(0.0)?)?.select(&number(1.0)?, &y.linear_map(1.0, alpha)?)?)
        }
        // In pieces linear.
        Unary::Relu | Unary::Clamp(..) | Unary::Abs | Unary::Sign | Unary::Floor | Unary::Ceil | Unary::Round | Unary::LeakyRelu(_)
        | Unary::Powf(_) | Unary::Powi(_) => {
            let backend = x.tape().backend();
            let slope = backend.unary_grad(f, x.value(), &backend.full(x.shape(), 1.0)?)?;
            g.mul(&x.tape().constant(&slope))
        }
    }
}

/// Phi(x) + x phi(x), the derivative of [`Unary::Gelu`], as an op; one input, of any shape.
#[derive(Clone, Copy, Debug)]
pub struct GeluSlope;

impl<B: Backend> Op<B> for GeluSlope {
    const NAME: &'static str = "gelu_slope";
    /// x.
    type Saved = Tensor<B>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("gelu_slope", inputs)?;
        Ok((backend.unary_grad(Unary::Gelu, x, &backend.full(x.shape(), 1.0)?)?, x.clone()))
    }

    fn backward(&self, backend: &B, x: Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        let off = Tape::off(backend);
        Ok(vec![Some(gelu_curvature(&off.constant(&x))?.mul(&off.constant(grad))?.value().clone())])
    }

    fn derivative(&self, inputs: &[Var<B>], _: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        let [x] = variables("gelu_slope", inputs)?;
        Ok(vec![Some(grad.mul(&gelu_curvature(x)?)?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::FiniteDifferences
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let shape = generate.shape(0..=4, 1..=3);
        vec![Case::new(GeluSlope, [generate.values(&shape, -6.0, 6.0)]), Case::new(GeluSlope, [generate.values(&[5, 20], -6.0, 6.0)])]
    }
}

/// (2 - x^2) phi(x), the second derivative of [`Unary::Gelu`].
fn gelu_curvature<B: Backend>(x: &Var<B>) -> Result<Var<B>> {
    let square = x.square()?;
    let density = square.scale(-0.5)?.exp()?.scale(1.0 / std::f64::consts::TAU.sqrt())?;
    square.linear_map(-1.0, 2.0)?.mul(&density)
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
    #[doc(alias = "log")]
    ln: Ln,
    /// The square root; NaN below 0, an infinite derivative at 0.
    sqrt: Sqrt,
    /// 1 / x.
    #[doc(alias = "reciprocal")]
    recip: Recip,
    /// x^2.
    #[doc(alias = "sqr")]
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
    /// The sine of an angle in radians.
    sin: Sin,
    /// The cosine of an angle in radians.
    cos: Cos,
    /// The tangent of an angle in radians.
    tan: Tan,
    /// The absolute value, with derivative 0 at 0.
    #[doc(alias = "absolute")]
    abs: Abs,
    /// -1, 0 or 1 by the sign, NaN for NaN; derivative 0.
    #[doc(alias = "sgn")]
    sign: Sign,
    /// The largest whole number that is not above x; derivative 0.
    floor: Floor,
    /// The smallest whole number that is not below x; derivative 0.
    ceil: Ceil,
    /// The nearest whole number, of two as near the even one; derivative 0.
    round: Round,
    /// ln(1 + x), accurate for small x.
    #[doc(alias = "ln_1p")]
    log1p: Log1p,
    /// e^x - 1, accurate for small x.
    #[doc(alias = "exp_m1")]
    expm1: Expm1,
    /// 1 / sqrt(x); NaN below 0.
    rsqrt: Rsqrt,
    /// The error function.
    erf: Erf,
    /// x / (1 + e^-x).
    #[doc(alias = "swish")]
    silu: Silu,
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

    /// x limited to [low, high], with derivative 1 at both ends. Infinite ends limit nothing.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) where `low` lies above `high`.
    #[doc(alias = "clip")]
    #[doc(alias = "clamp_min")]
    #[doc(alias = "clamp_max")]
    pub fn clamp(&self, low: f64, high: f64) -> Result<Var<B>> {
        self.unary(Unary::Clamp(low, high))
    }

    /// x^p for a fixed real p, NaN below 0 unless p is a whole number. The derivative is p x^(p - 1), infinite at 0 for p in (0, 1), and 0
    /// everywhere where p is 0. [`Var::pow`] has exponents that are variables.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) where `p` is not finite.
    pub fn powf(&self, p: f64) -> Result<Var<B>> {
        self.unary(Unary::Powf(p))
    }

    /// x^n for a fixed whole n. The derivative is n x^(n - 1), and 0 everywhere where n is 0.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) where the device fails.
    pub fn powi(&self, n: i32) -> Result<Var<B>> {
        self.unary(Unary::Powi(n))
    }

    /// x above 0, slope * x elsewhere; derivative `slope` at 0.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) where `slope` is not finite.
    pub fn leaky_relu(&self, slope: f64) -> Result<Var<B>> {
        self.unary(Unary::LeakyRelu(slope))
    }

    /// x above 0, alpha (e^x - 1) elsewhere; derivative `alpha` at 0.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) where `alpha` is not finite.
    pub fn elu(&self, alpha: f64) -> Result<Var<B>> {
        self.unary(Unary::Elu(alpha))
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
    #[doc(alias = "affine")]
    pub fn linear_map(&self, scale: f64, shift: f64) -> Result<Var<B>> {
        self.unary(Unary::Linear(scale, shift))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_eq!(at(&[-2.0, 0.0, 2.0], Unary::Abs), (vec![2.0, 0.0, 2.0], vec![-1.0, 0.0, 1.0]));
        assert_eq!(at(&[-2.0, 0.0, 2.0], Unary::LeakyRelu(0.5)), (vec![-1.0, 0.0, 2.0], vec![0.5, 0.5, 1.0]));
        assert_eq!(at(&[0.0, 2.0], Unary::Elu(0.5)), (vec![0.0, 2.0], vec![0.5, 1.0]));
        assert_eq!(at(&[-1.5, -0.5, 0.5, 1.5, 2.5], Unary::Round), (vec![-2.0, 0.0, 0.0, 2.0, 2.0], vec![0.0; 5]));
    }

    #[test]
    fn powers_of_zero_have_the_documented_derivatives() {
        let infinite = f64::INFINITY;
        for (p, value, slope) in [(0.0, 1.0, 0.0), (0.5, 0.0, infinite), (1.0, 0.0, 1.0), (2.0, 0.0, 0.0), (2.5, 0.0, 0.0)] {
            assert_eq!(at(&[0.0], Unary::Powf(p)), (vec![value], vec![slope]), "0^{p}");
        }
        for (n, value, slope) in [(-1, infinite, -infinite), (0, 1.0, 0.0), (1, 0.0, 1.0), (2, 0.0, 0.0), (3, 0.0, 0.0)] {
            assert_eq!(at(&[0.0], Unary::Powi(n)), (vec![value], vec![slope]), "0^{n}");
        }
        assert_eq!(at(&[-2.0], Unary::Powi(3)), (vec![-8.0], vec![12.0]));
        assert_eq!(at(&[-2.0], Unary::Powf(3.0)), (vec![-8.0], vec![12.0]));
        assert!(at(&[-2.0], Unary::Powf(0.5)).0[0].is_nan());
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
