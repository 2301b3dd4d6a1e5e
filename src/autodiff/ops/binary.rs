//! `BinaryOp`: a function of two elements, with broadcasting.

use crate::autodiff::{Array, Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads, operands, variables};
use crate::backend::{Backend, Binary, Tensor, Unary};
use crate::error::Result;

/// f(x, y); two inputs whose shapes broadcast to the output's.
#[derive(Clone, Copy, Debug)]
pub struct BinaryOp(pub Binary);

/// What the backward of a [`BinaryOp`] needs: both shapes, and the values where the derivative depends on them.
pub struct Saved<B: Backend> {
    shapes: [Vec<usize>; 2],
    x: Option<Tensor<B>>,
    y: Option<Tensor<B>>,
    output: Option<Tensor<B>>,
}

impl<B: Backend> Op<B> for BinaryOp {
    const NAME: &'static str = "binary";
    type Saved = Saved<B>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], needs: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x, y] = operands(self.0.name(), inputs)?;
        let (keep_x, keep_y) = match self.0 {
            Binary::Add | Binary::Sub => (false, false),
            Binary::Mul => (needs.input(1), needs.input(0)),
            Binary::Div => (needs.input(1), needs.any()),
            Binary::Min | Binary::Max | Binary::Pow | Binary::Atan2 => (needs.any(), needs.any()),
            Binary::Eq | Binary::Ne | Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge => (false, false),
        };
        let output = backend.binary(self.0, x, y)?;
        let shapes = [x.shape().into(), y.shape().into()];
        let keep_output = self.0 == Binary::Pow && needs.input(1);
        let keep = |keep: bool, value: &Tensor<B>| keep.then(|| value.clone());
        let saved = Saved { shapes, x: keep(keep_x, x), y: keep(keep_y, y), output: keep(keep_output, &output) };
        Ok((output, saved))
    }

    fn backward(&self, backend: &B, saved: Self::Saved, grad: &Tensor<B>, needs: Needs) -> Result<Grads<B>> {
        let Saved { shapes: [x_shape, y_shape], x, y, output } = saved;
        let (mut x_grad, mut y_grad) = (None, None);
        match (self.0, &x, &y) {
            (Binary::Min | Binary::Max, Some(x), Some(y)) => {
                let loses = if self.0 == Binary::Max { Binary::Lt } else { Binary::Gt };
                x_grad = needs.input(0).then(|| towards_winner(backend, loses, x, y, grad)).transpose()?;
                y_grad = needs.input(1).then(|| towards_winner(backend, loses, y, x, grad)).transpose()?;
            }
            (Binary::Pow, Some(x), Some(y)) => {
                x_grad = needs.input(0).then(|| towards_base(backend, x, y, grad)).transpose()?;
                y_grad = output.map(|output| towards_exponent(backend, x, y, &output, grad)).transpose()?;
            }
            (Binary::Atan2, Some(x), Some(y)) => {
                let [towards_x, towards_y] = towards_sides(backend, x, y, grad)?;
                (x_grad, y_grad) = (Some(towards_x), Some(towards_y));
            }
            _ if self.0.is_comparison() => {
                let zero = backend.full(grad.shape(), 0.0)?;
                (x_grad, y_grad) = (Some(zero.clone()), Some(zero));
            }
            _ => {}
        }
        match self.0 {
            Binary::Add | Binary::Sub => {
                x_grad = Some(grad.clone());
                y_grad = Some(grad.clone());
            }
            Binary::Mul => {
                x_grad = y.map(|y| backend.binary(Binary::Mul, grad, &y)).transpose()?;
                y_grad = x.map(|x| backend.binary(Binary::Mul, grad, &x)).transpose()?;
            }
            Binary::Div => {
                if let Some(y) = y {
                    let quotient = backend.binary(Binary::Div, grad, &y)?;
                    // d(x / y) / dy = -x / y^2.
                    let towards_y = |x: Tensor<B>| backend.binary(Binary::Div, &backend.binary(Binary::Mul, &quotient, &x)?, &y);
                    y_grad = x.map(towards_y).transpose()?;
                    x_grad = Some(quotient);
                }
            }
            _ => {}
        }
        // Summing before the sign costs less where an axis was stretched.
        let reduced = |grad: Option<Tensor<B>>, shape: &[usize], needed: bool| match grad {
            Some(grad) if needed && grad.shape() == shape => Ok(Some(grad)),
            Some(grad) if needed => backend.sum_to(&grad, shape).map(Some),
            _ => Ok(None),
        };
        let x_grad = reduced(x_grad, &x_shape, needs.input(0))?;
        let mut y_grad = reduced(y_grad, &y_shape, needs.input(1))?;
        if matches!(self.0, Binary::Sub | Binary::Div) {
            y_grad = y_grad.map(|grad| backend.unary(Unary::Neg, &grad)).transpose()?;
        }
        Ok(vec![x_grad, y_grad])
    }

    fn derivative(&self, inputs: &[Var<B>], z: &Var<B>, grad: &Var<B>, needs: Needs) -> Result<VarGrads<B>> {
        let [x, y] = variables(self.0.name(), inputs)?;
        let reduced = |grad: Var<B>, shape: &[usize]| if grad.shape() == shape { Ok(grad) } else { grad.sum_to(shape) };
        let x_grad = needs.input(0).then(|| reduced(towards_left(self.0, x, y, grad)?, x.shape())).transpose()?;
        let y_grad = needs.input(1).then(|| reduced(towards_right(self.0, [x, y, z], grad)?, y.shape())).transpose()?;
        Ok(vec![x_grad, y_grad])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        match self.0 {
            Binary::Add | Binary::Sub | Binary::Mul => Oracle::Linear,
            _ => Oracle::FiniteDifferences,
        }
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let mut cases = Vec::new();
        for f in Binary::ALL {
            let equal = generate.shape(0..=3, 1..=3);
            let large = generate.size(40..=90);
            let mut pairs = vec![
                [equal.clone(), equal],
                [vec![], vec![]],
                [vec![], vec![3]],
                [vec![2, 1, 3], vec![]],
                [vec![3, 1], vec![1, 4]],
                [vec![2, 3], vec![1, 1, 1, 3]],
                [vec![4, large], vec![2, 4, 1]],
            ];
            pairs.extend((0..2).map(|_| broadcasting_pair(generate)));
            for [left, right] in pairs {
                // A divisor of either sign, but away from zero.
                let sign = if generate.flag() { 1.0 } else { -1.0 };
                let inputs = match f {
                    Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Pow | Binary::Atan2 => {
                        [generate.values(&left, 0.3, 2.0), generate.values(&right, sign * 0.4, sign * 2.0)]
                    }
                    _ => [apart(generate, &left, 0.0), apart(generate, &right, 0.2)],
                };
                cases.push(Case::new(BinaryOp(f), inputs));
            }
        }
        cases
    }
}

/// The gradient of `x`: all of it where x wins over `other`, half of it in a tie, none where it `loses`.
fn towards_winner<B: Backend>(backend: &B, loses: Binary, x: &Tensor<B>, other: &Tensor<B>, grad: &Tensor<B>) -> Result<Tensor<B>> {
    let half = backend.unary(Unary::Linear(0.5, 0.0), grad)?;
    let shared = backend.select(&backend.binary(Binary::Eq, x, other)?, &half, grad)?;
    backend.select(&backend.binary(loses, x, other)?, &backend.full(&[], 0.0)?, &shared)
}

/// d x^y / dx = y x^(y - 1), and 0 where y is 0.
fn towards_base<B: Backend>(backend: &B, x: &Tensor<B>, y: &Tensor<B>, grad: &Tensor<B>) -> Result<Tensor<B>> {
    let zero = backend.full(&[], 0.0)?;
    let less = backend.binary(Binary::Pow, x, &backend.unary(Unary::Linear(1.0, -1.0), y)?)?;
    let slope = backend.binary(Binary::Mul, y, &less)?;
    let slope = backend.select(&backend.binary(Binary::Eq, y, &zero)?, &zero, &slope)?;
    backend.binary(Binary::Mul, grad, &slope)
}

/// d x^y / dy = x^y ln x, and its limit 0 where x is 0 and y at least 0.
fn towards_exponent<B: Backend>(backend: &B, x: &Tensor<B>, y: &Tensor<B>, output: &Tensor<B>, grad: &Tensor<B>) -> Result<Tensor<B>> {
    let zero = backend.full(&[], 0.0)?;
    let slope = backend.binary(Binary::Mul, output, &backend.unary(Unary::Ln, x)?)?;
    let flat = backend.binary(Binary::Mul, &backend.binary(Binary::Eq, x, &zero)?, &backend.binary(Binary::Ge, y, &zero)?)?;
    backend.binary(Binary::Mul, grad, &backend.select(&flat, &zero, &slope)?)
}

/// d atan2(x, y) = (y dx - x dy) / (x^2 + y^2), and 0 at the origin.
fn towards_sides<B: Backend>(backend: &B, x: &Tensor<B>, y: &Tensor<B>, grad: &Tensor<B>) -> Result<[Tensor<B>; 2]> {
    let zero = backend.full(&[], 0.0)?;
    let square = backend.binary(Binary::Add, &backend.unary(Unary::Square, x)?, &backend.unary(Unary::Square, y)?)?;
    let share = backend.binary(Binary::Div, grad, &square)?;
    let share = backend.select(&backend.binary(Binary::Eq, &square, &zero)?, &zero, &share)?;
    let towards_y = backend.unary(Unary::Neg, &backend.binary(Binary::Mul, &share, x)?)?;
    Ok([backend.binary(Binary::Mul, &share, y)?, towards_y])
}

/// The gradient of x in f(x, y), of the broadcast shape, made of variables.
fn towards_left<B: Backend>(f: Binary, x: &Var<B>, y: &Var<B>, grad: &Var<B>) -> Result<Var<B>> {
    match f {
        Binary::Add | Binary::Sub => Ok(grad.clone()),
        Binary::Mul => grad.mul(y),
        Binary::Div => grad.div(y),
        Binary::Min | Binary::Max => to_winner(f, x, y, grad),
        Binary::Pow => {
            // y x^(y - 1), where 0^-1 times 0 is 0.
            let zero = number(grad, 0.0)?;
            let none = x.eq(&zero)?.mul(&y.eq(&zero)?)?;
            let power = none.select(&number(grad, 1.0)?, x)?.pow(&y.linear_map(1.0, -1.0)?)?;
            grad.mul(&y.mul(&power)?)
        }
        Binary::Atan2 => share_of_square(x, y, grad)?.mul(y),
        Binary::Eq | Binary::Ne | Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge => grad.scale(0.0),
    }
}

/// The gradient of y in z = f(x, y), likewise.
fn towards_right<B: Backend>(f: Binary, [x, y, z]: [&Var<B>; 3], grad: &Var<B>) -> Result<Var<B>> {
    match f {
        Binary::Add => Ok(grad.clone()),
        Binary::Sub => grad.neg(),
        Binary::Mul => grad.mul(x),
        Binary::Div => grad.div(y)?.mul(z)?.neg(),
        Binary::Min | Binary::Max => to_winner(f, y, x, grad),
        Binary::Pow => {
            // z ln x, and its limit 0 where x is 0 and y at least 0.
            let zero = number(grad, 0.0)?;
            let flat = x.eq(&zero)?.mul(&y.ge(&zero)?)?;
            grad.mul(&z.mul(&flat.select(&number(grad, 1.0)?, x)?.ln()?)?)
        }
        Binary::Atan2 => share_of_square(x, y, grad)?.mul(x)?.neg(),
        Binary::Eq | Binary::Ne | Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge => grad.scale(0.0),
    }
}

/// [`towards_winner`], made of variables.
fn to_winner<B: Backend>(f: Binary, x: &Var<B>, other: &Var<B>, grad: &Var<B>) -> Result<Var<B>> {
    let loses = if f == Binary::Max { x.lt(other)? } else { x.gt(other)? };
    loses.select(&number(grad, 0.0)?, &x.eq(other)?.select(&grad.scale(0.5)?, grad)?)
}

/// g / (x^2 + y^2), and 0 at the origin.
fn share_of_square<B: Backend>(x: &Var<B>, y: &Var<B>, grad: &Var<B>) -> Result<Var<B>> {
    let square = x.square()?.add(&y.square()?)?;
    let zero = number(grad, 0.0)?;
    let origin = square.eq(&zero)?;
    origin.select(&zero, &grad.div(&origin.select(&number(grad, 1.0)?, &square)?)?)
}

/// A constant beside `like`.
fn number<B: Backend>(like: &Var<B>, value: f64) -> Result<Var<B>> {
    Ok(like.tape().constant(&like.tape().backend().full(&[], value)?))
}

/// Values around 0 within 0.05 of a multiple of 0.4 plus `offset`: those of two offsets never tie, where central differences mean nothing.
fn apart(generate: &mut Generate, shape: &[usize], offset: f64) -> Array {
    let mut array = generate.values(shape, -0.05, 0.05);
    array.values.iter_mut().for_each(|v| *v += offset + 0.4 * (generate.size(0..=8) as f64 - 4.0));
    array
}

/// Two shapes that broadcast: parts of one in which axes are shortened to 1, and leading axes are left out.
pub(super) fn broadcasting_pair(generate: &mut Generate) -> [Vec<usize>; 2] {
    let joint = generate.shape(0..=4, 1..=3);
    [(); 2].map(|()| {
        let from = generate.size(0..=joint.len());
        joint[from..].iter().map(|&len| if generate.flag() { len } else { 1 }).collect()
    })
}

/// Arithmetic. Axes align from the right, and an axis of length 1 stretches to the other's.
///
/// ```
/// # use pspikessm::{autodiff::Tape, backend::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let tape = Tape::new(&cpu);
/// let x = tape.leaf(&cpu.from_vec(vec![1.0, 2.0, 3.0, 4.0], &[2, 2])?);
/// let row = tape.leaf(&cpu.from_vec(vec![10.0, 20.0], &[2])?);
/// let product = x.mul(&row)?;
/// assert_eq!(product.to_vec()?, [10.0, 40.0, 30.0, 80.0]);
/// let gradients = product.sum()?.backward()?;
/// assert_eq!(cpu.to_vec(gradients.of(&row).unwrap())?, [4.0, 6.0]);
/// # Ok(()) }
/// ```
impl<B: Backend> Var<B> {
    fn binary(&self, f: Binary, other: &Var<B>) -> Result<Var<B>> {
        self.tape().apply(BinaryOp(f), &[self, other])
    }

    /// self + other.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the shapes do not broadcast.
    pub fn add(&self, other: &Var<B>) -> Result<Var<B>> {
        self.binary(Binary::Add, other)
    }

    /// self - other.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the shapes do not broadcast.
    pub fn sub(&self, other: &Var<B>) -> Result<Var<B>> {
        self.binary(Binary::Sub, other)
    }

    /// self * other.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the shapes do not broadcast.
    pub fn mul(&self, other: &Var<B>) -> Result<Var<B>> {
        self.binary(Binary::Mul, other)
    }

    /// self / other; infinite or NaN where `other` is 0.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the shapes do not broadcast.
    pub fn div(&self, other: &Var<B>) -> Result<Var<B>> {
        self.binary(Binary::Div, other)
    }

    /// The smaller one of both; NaN where either is NaN. Where they tie, each gets half of the gradient.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the shapes do not broadcast.
    #[doc(alias = "fmin")]
    pub fn minimum(&self, other: &Var<B>) -> Result<Var<B>> {
        self.binary(Binary::Min, other)
    }

    /// The larger one of both; NaN where either is NaN. Where they tie, each gets half of the gradient.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the shapes do not broadcast.
    #[doc(alias = "fmax")]
    pub fn maximum(&self, other: &Var<B>) -> Result<Var<B>> {
        self.binary(Binary::Max, other)
    }

    /// self to the power of `exponent`; NaN where self is below 0 and the exponent no whole number.
    ///
    /// Where both are 0 the power is 1 and neither gets a gradient; where self is 0, a positive exponent gets none.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the shapes do not broadcast.
    pub fn pow(&self, exponent: &Var<B>) -> Result<Var<B>> {
        self.binary(Binary::Pow, exponent)
    }

    /// The angle of the point that lies `right` to the right and self upwards, in (-pi, pi]; without gradient at the origin.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the shapes do not broadcast.
    #[doc(alias = "arctan2")]
    pub fn atan2(&self, right: &Var<B>) -> Result<Var<B>> {
        self.binary(Binary::Atan2, right)
    }
}

/// A method for every comparison: `name: Variant`, under its documentation.
macro_rules! comparisons {
    ($($(#[$about:meta])* $name:ident: $function:ident),+ $(,)?) => {
        /// Comparisons: 1 or 0, as a constant, which is a mask for [`Var::select`]. Nothing compares with NaN, but `ne`.
        impl<B: Backend> Var<B> {
            $(
                $(#[$about])*
                ///
                /// # Errors
                /// [`Error::Shape`](crate::Error::Shape) where the shapes do not broadcast.
                pub fn $name(&self, other: &Var<B>) -> Result<Var<B>> {
                    let value = self.tape().backend().binary(Binary::$function, self.value(), other.value())?;
                    Ok(self.tape().constant(&value))
                }
            )+
        }
    };
}

comparisons! {
    /// 1 where both are equal.
    eq: Eq,
    /// 1 where they differ.
    #[doc(alias = "not_equal")]
    ne: Ne,
    /// 1 where self is the smaller one.
    #[doc(alias = "less")]
    lt: Lt,
    /// 1 where self is not the larger one.
    #[doc(alias = "less_equal")]
    le: Le,
    /// 1 where self is the larger one.
    #[doc(alias = "greater")]
    gt: Gt,
    /// 1 where self is not the smaller one.
    #[doc(alias = "greater_equal")]
    ge: Ge,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::Tape;
    use crate::backend::*;

    type V = Var<Cpu<f64>>;
    type Compare = fn(&V, &V) -> Result<V>;

    /// f(x, y) of two lists with the gradients of its sum.
    fn at(x: &[f64], y: &[f64], f: impl Fn(&V, &V) -> Result<V>) -> [Vec<f64>; 3] {
        let cpu = Cpu::<f64>::new();
        let tape = Tape::new(&cpu);
        let leaf = |x: &[f64]| tape.leaf(&cpu.from_vec(x.to_vec(), &[x.len()]).unwrap());
        let (x, y) = (leaf(x), leaf(y));
        let output = f(&x, &y).unwrap();
        let gradients = output.sum().unwrap().backward().unwrap();
        let of = |x: &V| cpu.to_vec(gradients.of(x).unwrap()).unwrap();
        [output.to_vec().unwrap(), of(&x), of(&y)]
    }

    #[test]
    fn ties_share_the_gradient() {
        let (x, y) = (&[1.0, 2.0, 3.0], &[2.0, 2.0, 2.0]);
        assert_eq!(at(x, y, |x, y| x.maximum(y)), [[2.0, 2.0, 3.0], [0.0, 0.5, 1.0], [1.0, 0.5, 0.0]]);
        assert_eq!(at(x, y, |x, y| x.minimum(y)), [[1.0, 2.0, 2.0], [1.0, 0.5, 0.0], [0.0, 0.5, 1.0]]);
    }

    #[test]
    fn powers_of_zero_have_the_documented_gradients() {
        let [value, base, exponent] = at(&[0.0, 0.0, 0.0, 2.0, -2.0], &[0.0, 2.0, 0.5, 0.0, 2.0], |x, y| x.pow(y));
        assert_eq!(value, [1.0, 0.0, 0.0, 1.0, 4.0]);
        assert_eq!(base, [0.0, 0.0, f64::INFINITY, 0.0, -4.0]);
        assert_eq!((&exponent[..4], exponent[4].is_nan()), (&[0.0, 0.0, 0.0, 2f64.ln()][..], true));
        assert_eq!(at(&[0.0, 1.0], &[0.0, 0.0], |x, y| x.atan2(y)), [vec![0.0, std::f64::consts::FRAC_PI_2], vec![0.0; 2], vec![0.0, -1.0]]);
    }

    #[test]
    fn comparisons_are_constants() {
        let cpu = Cpu::<f64>::new();
        let tape = Tape::new(&cpu);
        let x = tape.leaf(&cpu.from_vec(vec![1.0, 2.0, f64::NAN], &[3]).unwrap());
        let two = tape.constant(&cpu.full(&[], 2.0).unwrap());
        let methods: [(Compare, _); 6] = [
            (V::eq, [0.0, 1.0, 0.0]),
            (V::ne, [1.0, 0.0, 1.0]),
            (V::lt, [1.0, 0.0, 0.0]),
            (V::le, [1.0, 1.0, 0.0]),
            (V::gt, [0.0, 0.0, 0.0]),
            (V::ge, [0.0, 1.0, 0.0]),
        ];
        for (compare, want) in methods {
            let mask = compare(&x, &two).unwrap();
            assert_eq!((mask.to_vec().unwrap(), mask.needs_gradient(), tape.len()), (want.to_vec(), false, 1));
        }
    }
}
