//! Dual numbers: a value and its derivative. A definition written once in them is the truth for a method and for its gradient.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::harness::Array;

/// A value and its derivative by whatever is being varied.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dual {
    pub value: f64,
    pub slope: f64,
}

impl Dual {
    /// A function of one number, from its value and its derivative here.
    pub fn map(self, value: f64, derivative: f64) -> Self {
        Dual { value, slope: derivative * self.slope }
    }

    pub fn exp(self) -> Self {
        self.map(self.value.exp(), self.value.exp())
    }

    pub fn ln(self) -> Self {
        self.map(self.value.ln(), 1.0 / self.value)
    }

    pub fn sqrt(self) -> Self {
        self.map(self.value.sqrt(), 0.5 / self.value.sqrt())
    }

    pub fn recip(self) -> Self {
        self.map(1.0 / self.value, -1.0 / (self.value * self.value))
    }

    pub fn atan(self) -> Self {
        self.map(self.value.atan(), 1.0 / (1.0 + self.value * self.value))
    }

    pub fn sigmoid(self) -> Self {
        ((-self).exp() + 1.0).recip()
    }

    /// ln(1 + e^x).
    pub fn softplus(self) -> Self {
        self.map(self.value.exp().ln_1p(), Dual::from(self.value).sigmoid().value)
    }
}

impl From<f64> for Dual {
    fn from(value: f64) -> Self {
        Dual { value, slope: 0.0 }
    }
}

impl Add for Dual {
    type Output = Self;
    fn add(self, y: Self) -> Self {
        Dual { value: self.value + y.value, slope: self.slope + y.slope }
    }
}

impl Sub for Dual {
    type Output = Self;
    fn sub(self, y: Self) -> Self {
        self + -y
    }
}

impl Mul for Dual {
    type Output = Self;
    fn mul(self, y: Self) -> Self {
        Dual { value: self.value * y.value, slope: self.slope * y.value + self.value * y.slope }
    }
}

impl Div for Dual {
    type Output = Self;
    fn div(self, y: Self) -> Self {
        let value = self.value / y.value;
        Dual { value, slope: (self.slope - value * y.slope) / y.value }
    }
}

impl Neg for Dual {
    type Output = Self;
    fn neg(self) -> Self {
        self * -1.0
    }
}

impl Add<f64> for Dual {
    type Output = Self;
    fn add(self, y: f64) -> Self {
        self + Dual::from(y)
    }
}

impl Mul<f64> for Dual {
    type Output = Self;
    fn mul(self, y: f64) -> Self {
        self * Dual::from(y)
    }
}

impl std::iter::Sum for Dual {
    fn sum<I: Iterator<Item = Self>>(values: I) -> Self {
        values.fold(Dual::default(), Add::add)
    }
}

/// A complex number of two duals.
#[derive(Clone, Copy, Debug, Default)]
pub struct Complex {
    pub re: Dual,
    pub im: Dual,
}

impl Complex {
    pub fn conj(self) -> Self {
        Complex { re: self.re, im: -self.im }
    }

    pub fn scale(self, by: Dual) -> Self {
        Complex { re: self.re * by, im: self.im * by }
    }

    pub fn square_norm(self) -> Dual {
        self.re * self.re + self.im * self.im
    }

    pub fn recip(self) -> Self {
        self.conj().scale(self.square_norm().recip())
    }

    pub fn exp(self) -> Self {
        let cos = self.im.map(self.im.value.cos(), -self.im.value.sin());
        let sin = self.im.map(self.im.value.sin(), self.im.value.cos());
        Complex { re: cos, im: sin }.scale(self.re.exp())
    }
}

impl From<f64> for Complex {
    fn from(value: f64) -> Self {
        Complex { re: value.into(), im: Dual::default() }
    }
}

impl Add for Complex {
    type Output = Self;
    fn add(self, y: Self) -> Self {
        Complex { re: self.re + y.re, im: self.im + y.im }
    }
}

impl Sub for Complex {
    type Output = Self;
    fn sub(self, y: Self) -> Self {
        Complex { re: self.re - y.re, im: self.im - y.im }
    }
}

impl Mul for Complex {
    type Output = Self;
    fn mul(self, y: Self) -> Self {
        Complex { re: self.re * y.re - self.im * y.im, im: self.re * y.im + self.im * y.re }
    }
}

impl std::iter::Sum for Complex {
    fn sum<I: Iterator<Item = Self>>(values: I) -> Self {
        values.fold(Complex::default(), Add::add)
    }
}

/// The values as constants.
pub fn constants(x: &Array) -> Vec<Dual> {
    x.values.iter().map(|&v| v.into()).collect()
}

/// What `f` makes of the inputs.
pub fn evaluate(inputs: &[&Array], shape: &[usize], f: impl Fn(&[Vec<Dual>]) -> Vec<Dual>) -> Array {
    let inputs: Vec<_> = inputs.iter().map(|x| constants(x)).collect();
    Array::new(shape, f(&inputs).iter().map(|v| v.value).collect())
}

/// The gradients of sum(g f(inputs)): one number of the inputs after another is varied.
pub fn gradient(inputs: &[&Array], g: &Array, f: impl Fn(&[Vec<Dual>]) -> Vec<Dual>) -> Vec<Array> {
    gradient_with_size(inputs, g, f).into_iter().map(|(gradient, _)| gradient).collect()
}

/// The same, each with the size of what it sums up: of the terms of one number of the gradient the root of the sum of squares, by which
/// their roundings add up; of all its numbers the largest.
pub fn gradient_with_size(inputs: &[&Array], g: &Array, f: impl Fn(&[Vec<Dual>]) -> Vec<Dual>) -> Vec<(Array, f64)> {
    let mut varied: Vec<_> = inputs.iter().map(|x| constants(x)).collect();
    let mut grads: Vec<_> = inputs.iter().map(|x| (Array::zeros(&x.shape), 0.0f64)).collect();
    for (i, (grad, size)) in grads.iter_mut().enumerate() {
        for (j, grad) in grad.values.iter_mut().enumerate() {
            varied[i][j].slope = 1.0;
            let terms: Vec<f64> = f(&varied).iter().zip(&g.values).map(|(out, g)| out.slope * g).collect();
            varied[i][j].slope = 0.0;
            *grad = terms.iter().sum();
            *size = size.max(terms.iter().map(|term| term * term).sum::<f64>().sqrt());
        }
    }
    grads
}
