//! `Mix`: one matrix over the channels of several sequences stacked, with bias, activation, dropout and residual.

use crate::autodiff::gradcheck::Generate;
use crate::autodiff::{Case, Grads, Needs, Op, Oracle, Var};
use crate::backend::{Backend, Draw, Key, Mixing, Tensor, Unary};
use crate::error::{Error, Result};

/// `r + drop(f(W [x_1; x_2; ..] + bias))`; inputs x_i (B, K_i, L), then W (H, sum K_i), then bias (H), then r (B, H, L) where there is
/// a residual. Nothing is concatenated, and the product is not stored: backward computes it again.
///
/// The SpikeMixer and the residual join of a P-SpikeSSM block (the official code's `bidirectional_linear`, applied at every step).
#[derive(Clone, Copy, Debug, Default)]
pub struct Mix {
    /// f; nothing is the identity.
    pub activation: Option<Unary>,
    /// The probability to drop a (batch, channel), and the draw: tied dropout.
    pub dropout: Option<(f64, Draw)>,
    /// The last input is the residual.
    pub residual: bool,
}

/// The inputs, named.
#[derive(Debug)]
pub struct Saved<B: Backend> {
    parts: Vec<Tensor<B>>,
    weight: Tensor<B>,
    bias: Tensor<B>,
    residual: Option<Tensor<B>>,
}

impl<B: Backend> Saved<B> {
    fn new(mix: Mix, inputs: &[&Tensor<B>]) -> Result<Self> {
        let (inputs, residual) = match *inputs {
            [ref inputs @ .., residual] if mix.residual => (inputs, Some(residual.clone())),
            ref inputs => (inputs, None),
        };
        let [ref parts @ .., weight, bias] = *inputs else { return Err(wrong_inputs()) };
        Ok(Saved { parts: parts.iter().map(|&part| part.clone()).collect(), weight: weight.clone(), bias: bias.clone(), residual })
    }

    /// Calls `f` with the operands as a backend wants them.
    fn with<T>(&self, mix: Mix, f: impl FnOnce(Mixing<'_, B>) -> T) -> T {
        let parts: Vec<&Tensor<B>> = self.parts.iter().collect();
        let Mix { activation, dropout, .. } = mix;
        let (weight, bias, residual) = (&self.weight, &self.bias, self.residual.as_ref());
        f(Mixing { parts: &parts, weight, bias, activation, dropout, residual })
    }
}

fn wrong_inputs() -> Error {
    Error::value("mix", "takes the parts, then weight and bias, then the residual if there is one")
}

impl<B: Backend> Op<B> for Mix {
    const NAME: &'static str = "mix";
    type Saved = Saved<B>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let mut saved = Saved::new(*self, inputs)?;
        let output = saved.with(*self, |mixing| backend.mix(mixing))?;
        // Its gradient is the output's: backward need not keep it.
        saved.residual = None;
        Ok((output, saved))
    }

    fn backward(&self, backend: &B, saved: Self::Saved, grad: &Tensor<B>, needs: Needs) -> Result<Grads<B>> {
        let count = saved.parts.len() + 2;
        let wanted: Vec<bool> = (0..count).map(|i| needs.input(i)).collect();
        let mut grads = saved.with(*self, |mixing| backend.mix_grad(mixing, grad, &wanted))?;
        if self.residual {
            grads.push(needs.input(count).then(|| grad.clone()));
        }
        Ok(grads)
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Composition(one_by_one)
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let [batch, length, outputs] = [generate.size(1..=3), generate.size(1..=20), generate.size(1..=6)];
        let [one, two, three] = [generate.size(1..=5), generate.size(1..=5), generate.size(1..=5)];
        let (many, long) = (generate.size(5..=13), generate.size(600..=700));
        let sizes: [([usize; 3], &[usize]); 7] = [
            ([batch, outputs, length], &[one]),
            ([batch, outputs, length], &[one, two]),
            ([batch, outputs, length], &[one, two, three]),
            ([1, 1, 1], &[1]),
            ([many, outputs, length], &[one, two]),
            ([2, 4, long], &[4, 4]),
            ([1, 130, 3], &[130]),
        ];
        let mut cases: Vec<_> = sizes.into_iter().map(|(sizes, channels)| Mix::default().case(generate, sizes, channels)).collect();
        for (i, activation) in [None, Some(Unary::Gelu), Some(Unary::Gelu), Some(Unary::Tanh)].into_iter().enumerate() {
            let p = generate.value(0.1, 0.6);
            let dropout = generate.flag().then(|| (p, Draw::new(Key::new(generate.seed())).from_step(generate.seed())));
            let mix = Mix { activation, dropout, residual: i % 2 == 0 };
            let sizes = if i == 1 { [1, 130, 3] } else { [many, outputs, length] };
            cases.push(mix.case(generate, sizes, &[one, two]));
        }
        cases
    }
}

impl Mix {
    fn case(self, generate: &mut Generate, [batch, outputs, length]: [usize; 3], channels: &[usize]) -> Case<Self> {
        let mut inputs: Vec<_> = channels.iter().map(|&k| generate.normal(&[batch, k, length])).collect();
        inputs.push(generate.normal(&[outputs, channels.iter().sum()]));
        inputs.push(generate.normal(&[outputs]));
        if self.residual {
            inputs.push(generate.normal(&[batch, outputs, length]));
        }
        Case::new(self, inputs)
    }
}

/// The same by concatenation, a matrix product, and one operation after another.
fn one_by_one<B: Backend>(mix: &Mix, inputs: &[Var<B>]) -> Result<Var<B>> {
    let (inputs, residual) = if mix.residual { (&inputs[..inputs.len() - 1], inputs.last()) } else { (inputs, None) };
    let [parts @ .., weight, bias] = inputs else { return Err(wrong_inputs()) };
    let stacked = Var::concat(&parts.iter().collect::<Vec<_>>(), 1)?;
    let mut y = weight.matmul(&stacked)?.add(&bias.reshape(&[bias.shape()[0], 1])?)?;
    if let Some(f) = mix.activation {
        y = y.unary(f)?;
    }
    if let Some((p, draw)) = mix.dropout {
        y = y.dropout_tied(draw, p)?;
    }
    residual.map_or_else(|| Ok(y.clone()), |residual| residual.add(&y))
}

impl<B: Backend> Var<B> {
    /// W [x_1; x_2; ..] + bias over the channels of parts (B, K_i, L), with weight (H, sum K_i) and bias (H): (B, H, L).
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit, naming the part; [`Error::Value`] where there is no part, one is empty, or there
    /// are more than [`Needs::MAX`] inputs with weight and bias.
    #[doc(alias = "pointwise linear")]
    #[doc(alias = "conv1x1")]
    pub fn mix(parts: &[&Var<B>], weight: &Var<B>, bias: &Var<B>) -> Result<Var<B>> {
        Self::mix_with(parts, weight, bias, None, Mix::default())
    }

    /// [`Var::mix`] with what follows it: activation and dropout of `mix`, and the residual (B, H, L).
    ///
    /// # Errors
    /// As [`Var::mix`]; [`Error::Config`] where dropout is not between 0 and 1, or the activation is a clamp whose ends are out of order;
    /// [`Error::Value`] where the sides of its draw do not divide the batch.
    pub fn mix_with(parts: &[&Var<B>], weight: &Var<B>, bias: &Var<B>, residual: Option<&Var<B>>, mix: Mix) -> Result<Var<B>> {
        let inputs: Vec<&Var<B>> = parts.iter().copied().chain([weight, bias]).chain(residual).collect();
        weight.tape().apply(Mix { residual: residual.is_some(), ..mix }, &inputs)
    }
}
