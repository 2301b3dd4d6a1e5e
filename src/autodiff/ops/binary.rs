//! `BinaryOp`: a function of two elements, with broadcasting.

use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Var, operands};
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
        };
        let shapes = [x.shape().into(), y.shape().into()];
        let saved = Saved { shapes, x: keep_x.then(|| x.clone()), y: keep_y.then(|| y.clone()) };
        Ok((backend.binary(self.0, x, y)?, saved))
    }

    fn backward(&self, backend: &B, saved: Self::Saved, grad: &Tensor<B>, needs: Needs) -> Result<Grads<B>> {
        let Saved { shapes: [x_shape, y_shape], x, y } = saved;
        let (mut x_grad, mut y_grad) = (None, None);
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

    fn oracle(&self) -> Oracle<B, Self> {
        match self.0 {
            Binary::Add | Binary::Sub | Binary::Mul => Oracle::Linear,
            Binary::Div => Oracle::FiniteDifferences,
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
                let inputs = [generate.values(&left, 0.3, 2.0), generate.values(&right, sign * 0.4, sign * 2.0)];
                cases.push(Case::new(BinaryOp(f), inputs));
            }
        }
        cases
    }
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
}
