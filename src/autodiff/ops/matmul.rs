//! `Matmul`: the matrix product, over batches.

use super::binary::broadcasting_pair;
use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads, operands, variables};
use crate::backend::{Backend, Tensor};
use crate::error::Result;

/// x (.., m, k) times y (.., k, n), each optionally stored transposed; two inputs whose leading axes broadcast.
#[derive(Clone, Copy, Debug)]
pub struct Matmul {
    /// x is stored as (.., k, m).
    pub transpose_x: bool,
    /// y is stored as (.., n, k).
    pub transpose_y: bool,
}

impl<B: Backend> Op<B> for Matmul {
    const NAME: &'static str = "matmul";
    /// x and y.
    type Saved = [Tensor<B>; 2];

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x, y] = operands("matmul", inputs)?;
        let output = backend.matmul(x, self.transpose_x, y, self.transpose_y)?;
        Ok((output, [x.clone(), y.clone()]))
    }

    /// With X and Y as multiplied, dX = G Y^T and dY = X^T G; a transposed operand gets the transpose of that.
    fn backward(&self, backend: &B, [x, y]: Self::Saved, grad: &Tensor<B>, needs: Needs) -> Result<Grads<B>> {
        let Matmul { transpose_x, transpose_y } = *self;
        let (x_shape, y_shape) = (x.shape().to_vec(), y.shape().to_vec());
        // One matrix y for all of a batch: its rows are multiplied as one tall matrix, and no gradient a batch entry is made.
        let tall = !transpose_x && y.rank() == 2 && x.rank() > 2 && x.numel() > 0 && grad.numel() > 0;
        let (x, grad) = if tall { (as_matrix(&x)?, as_matrix(grad)?) } else { (x, grad.clone()) };
        let reduced = |full: Tensor<B>, shape: &[usize]| match full.numel() == shape.iter().product::<usize>() {
            true => full.reshape(shape),
            false => backend.sum_to(&full, shape),
        };
        let towards_x = || {
            let full = match transpose_x {
                false => backend.matmul(&grad, false, &y, !transpose_y)?,
                true => backend.matmul(&y, transpose_y, &grad, true)?,
            };
            reduced(full, &x_shape)
        };
        let towards_y = || {
            let full = match transpose_y {
                false => backend.matmul(&x, !transpose_x, &grad, false)?,
                true => backend.matmul(&grad, true, &x, transpose_x)?,
            };
            reduced(full, &y_shape)
        };
        Ok(vec![needs.input(0).then(towards_x).transpose()?, needs.input(1).then(towards_y).transpose()?])
    }

    fn derivative(&self, inputs: &[Var<B>], _: &Var<B>, grad: &Var<B>, needs: Needs) -> Result<VarGrads<B>> {
        let [x, y] = variables("matmul", inputs)?;
        let Matmul { transpose_x, transpose_y } = *self;
        let towards_x = || match transpose_x {
            false => grad.matmul_transposed(y, false, !transpose_y),
            true => y.matmul_transposed(grad, transpose_y, true),
        };
        let towards_y = || match transpose_y {
            false => x.matmul_transposed(grad, !transpose_x, false),
            true => grad.matmul_transposed(x, true, transpose_x),
        };
        let reduced = |grad: Var<B>, shape: &[usize]| if grad.shape() == shape { Ok(grad) } else { grad.sum_to(shape) };
        let x_grad = needs.input(0).then(|| reduced(towards_x()?, x.shape())).transpose()?;
        let y_grad = needs.input(1).then(|| reduced(towards_y()?, y.shape())).transpose()?;
        Ok(vec![x_grad, y_grad])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Linear
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let mut cases = Vec::new();
        for (transpose_x, transpose_y) in [(false, false), (false, true), (true, false), (true, true)] {
            let op = Matmul { transpose_x, transpose_y };
            // Square, tall enough for the product's blocks, one matrix for a batch, and anything.
            let side = generate.size(2..=4);
            let batch = generate.size(2..=4);
            let fixed = [([vec![], vec![]], [side; 3]), ([vec![], vec![]], [33, 9, 18]), ([vec![batch, 2], vec![]], [3, 2, 5])];
            let free = (0..3).map(|_| (broadcasting_pair(generate), [(); 3].map(|()| generate.size(1..=4)))).collect::<Vec<_>>();
            for ([mut x, mut y], [m, n, k]) in fixed.into_iter().chain(free) {
                x.extend(if transpose_x { [k, m] } else { [m, k] });
                y.extend(if transpose_y { [n, k] } else { [k, n] });
                cases.push(Case::new(op, [generate.normal(&x), generate.normal(&y)]));
            }
        }
        cases
    }
}

/// All axes but the last as one.
fn as_matrix<B: Backend>(x: &Tensor<B>) -> Result<Tensor<B>> {
    let columns = x.shape()[x.rank() - 1];
    x.reshape(&[x.numel() / columns, columns])
}

impl<B: Backend> Var<B> {
    /// The matrix product of (.., m, k) and (.., k, n): (.., m, n). Leading axes broadcast.
    ///
    /// ```
    /// # use pspikessm::{autodiff::Tape, backend::*};
    /// # fn main() -> pspikessm::Result<()> {
    /// let cpu = Cpu::<f64>::new();
    /// let tape = Tape::new(&cpu);
    /// let x = tape.leaf(&cpu.from_vec(vec![1.0, 2.0, 3.0, 4.0], &[2, 2])?);
    /// let y = tape.leaf(&cpu.from_vec(vec![1.0, 1.0], &[2, 1])?);
    /// assert_eq!(x.matmul(&y)?.to_vec()?, [3.0, 7.0]);
    /// assert_eq!(x.matmul_transposed(&y, true, false)?.to_vec()?, [4.0, 6.0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where an operand has fewer than two axes, the summed axes differ, or the leading axes do
    /// not broadcast.
    pub fn matmul(&self, other: &Var<B>) -> Result<Var<B>> {
        self.matmul_transposed(other, false, false)
    }

    /// [`Var::matmul`] of operands whose last two axes are swapped where their flag is set; nothing is copied for it.
    ///
    /// # Errors
    /// As [`Var::matmul`].
    pub fn matmul_transposed(&self, other: &Var<B>, transpose_self: bool, transpose_other: bool) -> Result<Var<B>> {
        self.tape().apply(Matmul { transpose_x: transpose_self, transpose_y: transpose_other }, &[self, other])
    }
}
