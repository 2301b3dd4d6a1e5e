//! `Fire`: a long convolution whose output spikes, in one operation.

use std::rc::Rc;

use crate::autodiff::gradcheck::Generate;
use crate::autodiff::{Array, Case, Grads, Needs, Op, Oracle, Var, VarGrads, differentiable_once};
use crate::backend::{Backend, Draw, Firing, FiringDropout, Key, LongConv, Noise, Spike, SpikeMode, Surrogate, Tensor, Unary};
use crate::error::{Error, Result};

/// Spikes of `scale[h] drop(f(drop(y))) + shift[h]` with y the long convolution of u; inputs u (B, H, L), kernels (1 or 2, H, Lk),
/// D (H), and optionally scale (H) and shift (H).
///
/// A branch of a P-SpikeSSM block between its two draws (the official code's `s4_layer`, `out_a`, `out_b`). The potentials are never
/// stored: backward computes them again.
#[derive(Clone, Debug)]
pub struct Fire<B: Backend> {
    /// The true length of every sequence, as for [`Var::long_conv`].
    pub lengths: Option<Rc<[usize]>>,
    /// f, the activation; nothing is the identity.
    pub activation: Option<Unary>,
    /// Dropout of elements before the activation, and of channels after it.
    pub dropout: Option<FiringDropout>,
    /// The draw.
    pub spike: Spike<Tensor<B>>,
}

/// The inputs, named.
#[derive(Debug)]
pub struct Saved<B: Backend> {
    input: Tensor<B>,
    kernel: Tensor<B>,
    skip: Tensor<B>,
    affine: Option<(Tensor<B>, Tensor<B>)>,
}

impl<B: Backend> Fire<B> {
    fn operands<'a>(&'a self, inputs: &'a Saved<B>) -> (LongConv<'a, B>, Firing<&'a Tensor<B>>) {
        let Saved { input, kernel, skip, affine } = inputs;
        let conv = LongConv { input, kernel, skip: Some(skip), lengths: self.lengths.as_deref() };
        let affine = affine.as_ref().map(|(scale, shift)| (scale, shift));
        (conv, Firing { activation: self.activation, dropout: self.dropout, affine, spike: self.spike.as_ref() })
    }
}

fn named<B: Backend>(inputs: &[&Tensor<B>]) -> Result<Saved<B>> {
    let [input, kernel, skip, affine @ ..] = inputs else { return Err(wrong_inputs()) };
    let affine = match affine {
        [] => None,
        [scale, shift] => Some(((*scale).clone(), (*shift).clone())),
        _ => return Err(wrong_inputs()),
    };
    Ok(Saved { input: (*input).clone(), kernel: (*kernel).clone(), skip: (*skip).clone(), affine })
}

fn wrong_inputs() -> Error {
    Error::value("fire", "takes u, the kernels and D, and optionally scale and shift")
}

impl<B: Backend> Op<B> for Fire<B> {
    const NAME: &'static str = "fire";
    type Saved = Saved<B>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let inputs = named(inputs)?;
        let (conv, firing) = self.operands(&inputs);
        Ok((backend.fire(conv, firing)?, inputs))
    }

    fn backward(&self, backend: &B, inputs: Self::Saved, grad: &Tensor<B>, needs: Needs) -> Result<Grads<B>> {
        self.backward_onto(backend, inputs, grad.clone(), needs, &mut None)
    }

    fn backward_onto(
        &self,
        backend: &B,
        inputs: Self::Saved,
        grad: Tensor<B>,
        needs: Needs,
        _: &mut Option<Tensor<B>>,
    ) -> Result<Grads<B>> {
        let (conv, firing) = self.operands(&inputs);
        let grads = backend.fire_grad_over(conv, firing, grad, needs.flags())?;
        Ok(grads.into_iter().take(if inputs.affine.is_some() { 5 } else { 3 }).collect())
    }

    /// Spikes have a surrogate's derivative, which is differentiable once; in expected mode compose the op of long_conv and spike.
    fn derivative(&self, _: &[Var<B>], _: &Var<B>, _: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        Err(differentiable_once(<Self as Op<B>>::NAME))
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Composition(one_by_one)
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let mut cases = Vec::new();
        let sampled = Surrogate::ALL.map(|surrogate| (SpikeMode::Sampled, surrogate.with_alpha(2.0)));
        let draws = sampled.into_iter().chain([(SpikeMode::Expected, Surrogate::Clamp)]);
        for (i, (mode, surrogate)) in draws.enumerate() {
            // One tile or several, whole or not; one chunk of entries or several.
            let channels = [generate.size(1..=4), 16, generate.size(17..=20)];
            for (j, channels) in channels.into_iter().enumerate() {
                let (batch, length) = if j == 1 { (17, generate.size(1..=5)) } else { (2, generate.size(1..=150)) };
                let p = generate.value(0.1, 0.6);
                let draw = |seed| Draw::new(Key::new(seed)).from_step(3);
                let dropout = FiringDropout { p, elements: draw(generate.seed()), channels: draw(generate.seed()) };
                let op = Fire {
                    lengths: generate.flag().then(|| (0..batch).map(|_| generate.size(1..=length)).collect()),
                    activation: [None, Some(Unary::Gelu), Some(Unary::Tanh)][(i + j) % 3],
                    dropout: generate.flag().then_some(dropout),
                    spike: Spike { noise: Noise::Stream(draw(generate.seed())), mode, surrogate },
                };
                let affine = generate.flag();
                cases.push(Case::new(op, operands(generate, [batch, channels, length], 1 + j % 2, affine)));
            }
        }
        cases
    }
}

fn operands(generate: &mut Generate, [batch, channels, length]: [usize; 3], sides: usize, affine: bool) -> Vec<Array> {
    let mut u = generate.values(&[batch, channels, length], 0.0, 1.0);
    u.values.iter_mut().for_each(|v| *v = v.round());
    let mut inputs = vec![u, generate.normal(&[sides, channels, length]), generate.normal(&[channels])];
    if affine {
        inputs.extend([generate.normal(&[channels]), generate.normal(&[channels])]);
    }
    inputs
}

/// The same by one operation after another.
fn one_by_one<B: Backend>(op: &Fire<B>, inputs: &[Var<B>]) -> Result<Var<B>> {
    let [u, kernel, skip, affine @ ..] = inputs else { return Err(wrong_inputs()) };
    let mut y = u.long_conv(kernel, Some(skip), op.lengths.as_deref())?;
    if let Some(FiringDropout { p, elements, .. }) = op.dropout {
        y = y.dropout(elements, p)?;
    }
    if let Some(f) = op.activation {
        y = y.unary(f)?;
    }
    if let Some(FiringDropout { p, channels, .. }) = op.dropout {
        y = y.dropout_tied(channels, p)?;
    }
    match affine {
        [] => y.spike(op.spike.clone()),
        [scale, shift] => y.spike_affine(scale, shift, op.spike.clone()),
        _ => Err(wrong_inputs()),
    }
}

impl<B: Backend> Var<B> {
    /// Spikes of this long convolution's output: u (B, H, L) with kernels (1 or 2, H, Lk) and D (H), then `op`, then scale and shift
    /// (H), if given.
    ///
    /// # Errors
    /// As [`Var::long_conv`], [`Var::affine`] and [`Var::spike`]; [`Error::Config`] where dropout is not between 0 and 1,
    /// [`Error::Value`] where the sides of its draws do not divide the batch.
    pub fn fire(&self, kernel: &Var<B>, skip: &Var<B>, affine: Option<(&Var<B>, &Var<B>)>, op: Fire<B>) -> Result<Var<B>> {
        let mut inputs = vec![self, kernel, skip];
        inputs.extend(affine.into_iter().flat_map(|(scale, shift)| [scale, shift]));
        self.tape().apply(op, &inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::Tape;
    use crate::backend::*;

    #[test]
    fn given_noise_is_as_good_as_the_stream() {
        let cpu = Cpu::<f64>::new();
        let (shape, draw) = ([2, 19, 70], Draw::new(Key::new(4)));
        let u = cpu.normal(Key::new(1), &shape).unwrap();
        let kernel = cpu.normal(Key::new(2), &[2, 19, 70]).unwrap();
        let skip = cpu.normal(Key::new(3), &[19]).unwrap();
        for surrogate in [Surrogate::Clamp, Surrogate::Sigmoid { alpha: 1.0 }] {
            let run = |noise| {
                let tape = Tape::new(&cpu);
                let [u, kernel, skip] = [&u, &kernel, &skip].map(|v| tape.leaf(v));
                let spike = Spike { noise, mode: SpikeMode::Sampled, surrogate };
                let s = u.fire(&kernel, &skip, None, Fire { lengths: None, activation: Some(Unary::Gelu), dropout: None, spike }).unwrap();
                let gradients = s.backward_from(u.value()).unwrap();
                [s.to_vec().unwrap(), cpu.to_vec(gradients.of(&u).unwrap()).unwrap(), cpu.to_vec(gradients.of(&kernel).unwrap()).unwrap()]
            };
            assert_eq!(run(Noise::Stream(draw)), run(Noise::Given(cpu.draw_uniform(draw, &shape).unwrap())));
        }
    }

    #[test]
    fn wrong_dropout_and_wrong_shapes_are_refused() {
        let cpu = Cpu::<f64>::new();
        let tape = Tape::new(&cpu);
        let ones = |shape: &[usize]| tape.leaf(&cpu.full(shape, 1.0).unwrap());
        let (u, kernel, skip) = (ones(&[1, 2, 5]), ones(&[1, 2, 5]), ones(&[2]));
        let op = |p: Option<f64>| Fire {
            lengths: None,
            activation: Some(Unary::Gelu),
            dropout: p.map(|p| FiringDropout { p, elements: Key::new(0).into(), channels: Key::new(1).into() }),
            spike: Spike { noise: Noise::Stream(Key::new(2).into()), mode: SpikeMode::Sampled, surrogate: Surrogate::Clamp },
        };
        assert!(u.fire(&kernel, &skip, None, op(None)).is_ok());
        for p in [0.0, 1.0, -0.5, f64::NAN] {
            assert!(matches!(u.fire(&kernel, &skip, None, op(Some(p))), Err(Error::Config { name: "dropout", .. })));
        }
        assert!(matches!(u.fire(&kernel, &ones(&[3]), None, op(None)), Err(Error::Shape { .. })));
        assert!(matches!(u.fire(&kernel, &skip, Some((&ones(&[3]), &skip)), op(None)), Err(Error::Shape { op: "fire", .. })));
        let given = Fire { spike: Spike { noise: Noise::Given(cpu.full(&[5], 0.5).unwrap()), ..op(None).spike }, ..op(None) };
        assert!(matches!(u.fire(&kernel, &skip, None, given), Err(Error::Shape { op: "fire", .. })));
    }
}
