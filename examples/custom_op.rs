//! A custom op with its own backward, and its check: the swish x sigmoid(beta x).

use pspikessm::Result;
use pspikessm::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Tape, check_op, operands};
use pspikessm::backend::*;

mod picture;

#[derive(Clone)]
struct Swish {
    beta: f64,
}

impl<B: Backend> Op<B> for Swish {
    const NAME: &'static str = "swish";
    type Saved = (Tensor<B>, Tensor<B>);

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("swish", inputs)?;
        let gate = backend.unary(Unary::Sigmoid, &backend.unary(Unary::Linear(self.beta, 0.0), x)?)?;
        Ok((backend.binary(Binary::Mul, x, &gate)?, (x.clone(), gate)))
    }

    /// d/dx x s = s + beta x s (1 - s), with s = sigmoid(beta x).
    fn backward(&self, backend: &B, (x, gate): Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        let closed = backend.unary(Unary::Linear(-self.beta, self.beta), &gate)?;
        let factor = backend.unary(Unary::Linear(1.0, 1.0), &backend.binary(Binary::Mul, &x, &closed)?)?;
        let slope = backend.binary(Binary::Mul, &gate, &factor)?;
        Ok(vec![Some(backend.binary(Binary::Mul, &slope, grad)?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::FiniteDifferences
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let shape = generate.shape(0..=3, 1..=5);
        vec![Case::new(Swish { beta: 1.7 }, [generate.normal(&shape)])]
    }
}

fn main() -> Result<()> {
    let cpu = Cpu::<f64>::new();
    let report = check_op::<Swish, _>(&cpu, 1)?;
    println!("checked: {} comparisons, largest relative error {:.1e}", report.comparisons, report.largest_error);

    let tape = Tape::new(&cpu);
    let x = tape.leaf(&cpu.from_vec(vec![-1.0, 0.0, 2.0], &[3])?);
    let gradients = tape.apply(Swish { beta: 1.7 }, &[&x])?.sum()?.backward()?;
    println!("gradient at -1, 0, 2: {:?}", cpu.to_vec(gradients.of(&x)?)?);

    let tape = Tape::new(&cpu);
    let x = tape.leaf(&cpu.from_vec((0..81).map(|i| f64::from(i) / 10.0 - 4.0).collect(), &[81])?);
    let y = tape.apply(Swish { beta: 1.7 }, &[&x])?;
    let (swish, slope) = (y.to_vec()?, cpu.to_vec(y.sum()?.backward()?.of(&x)?)?);
    picture::lines("An op of one's own", [-4.0, 4.0], &[("x sigmoid(1.7 x)", 2.5, &swish), ("its gradient", 2.5, &slope)])
}
