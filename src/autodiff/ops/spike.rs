//! `SpikeOp`: probabilistic spikes, optionally of an affine potential, with a surrogate gradient.

use rand_core::Rng;

use crate::autodiff::gradcheck::Generate;
use crate::autodiff::{Array, Case, Grads, Needs, Op, Oracle, Var, VarGrads, differentiable_once, differentiate};
use crate::backend::{Backend, Draw, Key, Noise, Real, Spike, SpikeMode, Surrogate, Tensor, shape};
use crate::error::{Error, Result};

/// S(y, u) = 1 where y > u, strict, else 0; inputs x with y = x, or x (B, H, L) or (B, H), scale (H), shift (H) with
/// `y = scale[h] x + shift[h]`.
///
/// For u uniform in [0, 1) the expected spike is clamp(y, 0, 1), whose derivative is the default surrogate: the SpikeSampler of
/// P-SpikeSSM (Bal and Sengupta, 2024; [arXiv:2406.02923](https://arxiv.org/abs/2406.02923)). The noise is no input: it has no gradient.
#[derive(Clone, Debug)]
pub struct SpikeOp<B: Backend> {
    /// Noise, mode and surrogate.
    pub spike: Spike<Tensor<B>>,
}

/// What backward remembers: x, and scale with shift where the potential is affine.
pub type Saved<B> = (Tensor<B>, Option<(Tensor<B>, Tensor<B>)>);

impl<B: Backend> Op<B> for SpikeOp<B> {
    const NAME: &'static str = "spike";
    type Saved = Saved<B>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let (x, affine) = match *inputs {
            [x] => (x, None),
            [x, scale, shift] => (x, Some((scale, shift))),
            _ => return Err(wrong_inputs()),
        };
        let output = backend.spike(&self.spike, x, affine)?;
        Ok((output, (backend.lean(x), affine.map(|(scale, shift)| (scale.clone(), shift.clone())))))
    }

    fn backward(&self, backend: &B, saved: Self::Saved, grad: &Tensor<B>, needs: Needs) -> Result<Grads<B>> {
        self.backward_onto(backend, saved, grad.clone(), needs, &mut None)
    }

    fn backward_onto(
        &self,
        backend: &B,
        (x, affine): Self::Saved,
        grad: Tensor<B>,
        needs: Needs,
        earlier: &mut Option<Tensor<B>>,
    ) -> Result<Grads<B>> {
        let by = affine.as_ref().map(|(scale, shift)| (scale, shift));
        let grads = backend.spike_grad_onto(&self.spike, &x, by, (grad, earlier.take()), needs.flags())?;
        Ok(grads.into_iter().take(if affine.is_some() { 3 } else { 1 }).collect())
    }

    /// Of the expected spike: a surrogate has no derivative that means anything.
    fn derivative(&self, inputs: &[Var<B>], _: &Var<B>, grad: &Var<B>, needs: Needs) -> Result<VarGrads<B>> {
        match self.spike.mode {
            SpikeMode::Expected => differentiate(|inputs| potential(inputs)?.clamp(0.0, 1.0), inputs, grad, needs),
            SpikeMode::Sampled => Err(differentiable_once(<Self as Op<B>>::NAME)),
        }
    }

    fn oracle(&self) -> Oracle<B, Self> {
        match (self.spike.mode, self.spike.surrogate) {
            (SpikeMode::Expected, _) => Oracle::FiniteDifferences,
            (SpikeMode::Sampled, Surrogate::Clamp) => Oracle::Expectation {
                expected: |op| SpikeOp { spike: Spike { mode: SpikeMode::Expected, ..op.spike.clone() } },
                redraw: |op, seed| SpikeOp { spike: Spike { noise: Noise::Stream(Key::new(seed).into()), ..op.spike.clone() } },
            },
            (SpikeMode::Sampled, _) => Oracle::Smooth(primitive_of_surrogate),
        }
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let alpha = generate.pick(&[0.5, 1.0, 2.0, 4.0]);
        let surrogates = Surrogate::ALL.map(|surrogate| surrogate.with_alpha(alpha));
        let mut draws: Vec<_> = surrogates.map(|surrogate| (SpikeMode::Sampled, surrogate)).into();
        draws.push((SpikeMode::Expected, generate.pick(&surrogates)));
        let mut cases = Vec::new();
        for (mode, surrogate) in draws {
            let [batch, channels, length] = [generate.size(1..=3), generate.size(1..=4), generate.size(1..=12)];
            let long = generate.size(700..=800);
            let draw = Draw::new(Key::new(generate.seed())).from_step(generate.seed());
            let op = SpikeOp { spike: Spike { noise: Noise::Stream(draw), mode, surrogate } };
            for shape in [vec![batch, channels, length], vec![length], vec![2, 3, long]] {
                cases.push(Case::new(op.clone(), [potentials(generate, draw, &shape)]));
            }
            for shape in [vec![batch, channels, length], vec![batch, channels], vec![2, 3, long]] {
                let potential = potentials(generate, draw, &shape);
                cases.push(Case::new(op.clone(), with_affine(generate, &potential)));
            }
        }
        cases
    }
}

/// Potentials inside and outside of [0, 1], where finite differences are sound: at least 0.02 from the kinks of the expected spike at
/// 0 and 1, and from the stream's noise, where the fast sigmoid's curvature jumps.
fn potentials(generate: &mut Generate, draw: Draw, shape: &[usize]) -> Array {
    let Array { mut values, shape } = generate.values(shape, 0.0, 1.0);
    for (t, u) in values.iter_mut().zip(unit_noise(draw, &shape)) {
        *t = match *t {
            t if t < 0.2 => -0.02 - 3.0 * t,
            t if t < 0.4 => 1.02 + 3.0 * (t - 0.2),
            t => {
                let y = 0.02 + 0.96 * (t - 0.4) / 0.6;
                let beside = if u < 0.5 { u + 0.03 } else { u - 0.03 };
                if (y - u).abs() < 0.02 { beside } else { y }
            }
        };
    }
    Array { values, shape }
}

/// The number of every element of a draw, row after row.
fn unit_noise(draw: Draw, shape: &[usize]) -> Vec<f64> {
    let [samples, channels, steps] = shape::rows(shape);
    let rows = (0..samples).flat_map(|sample| (0..channels).map(move |channel| draw.generator(sample as u64, channel as u64)));
    rows.flat_map(|mut row| (0..steps).map(move |_| f64::unit(row.next_u32()))).collect()
}

/// x, scale and shift whose affine potential is this one.
fn with_affine(generate: &mut Generate, potential: &Array) -> Vec<Array> {
    let channels = potential.shape[1];
    let length = potential.shape.get(2).copied().unwrap_or(1);
    let mut scale = generate.values(&[channels], 0.5, 2.0);
    scale.values.iter_mut().for_each(|a| *a *= generate.pick(&[-1.0, 1.0]));
    let shift = generate.values(&[channels], -0.5, 0.5);
    let mut x = potential.clone();
    for (i, y) in x.values.iter_mut().enumerate() {
        let h = i / length % channels;
        *y = (*y - shift.values[h]) / scale.values[h];
    }
    vec![x, scale, shift]
}

fn wrong_inputs() -> Error {
    Error::value("spike", "takes x, or x, scale and shift")
}

/// What spikes are drawn of.
fn potential<B: Backend>(inputs: &[Var<B>]) -> Result<Var<B>> {
    match inputs {
        [x] => Ok(x.clone()),
        [x, scale, shift] => x.affine(scale, shift),
        _ => Err(wrong_inputs()),
    }
}

/// The smooth function that has the surrogate for a derivative, element by element, with the noise of the draw itself. It is only ever
/// differentiated numerically, so it leaves the tape and needs no op.
fn primitive_of_surrogate<B: Backend>(op: &SpikeOp<B>, inputs: &[Var<B>]) -> Result<Var<B>> {
    let y = potential(inputs)?;
    let backend = y.tape().backend();
    let noise = match &op.spike.noise {
        Noise::Stream(draw) => backend.draw_uniform(*draw, y.shape())?,
        Noise::Given(noise) => noise.clone(),
    };
    let values = y.to_vec()?.into_iter().zip(backend.to_vec(&noise)?);
    let values = values.map(|(y, u)| B::Elem::of(op.spike.surrogate.primitive(y.f64() - u.f64()))).collect();
    Ok(y.tape().constant(&backend.from_vec(values, y.shape())?))
}

impl<B: Backend> Var<B> {
    /// Spikes of the potential x, of any shape: 1 where x > u, else 0 (also where x is NaN); in expected mode clamp(x, 0, 1).
    ///
    /// ```
    /// use pspikessm::autodiff::Tape;
    /// use pspikessm::backend::*;
    /// # fn main() -> pspikessm::Result<()> {
    /// let cpu = Cpu::<f64>::new();
    /// let x = Tape::new(&cpu).leaf(&cpu.from_vec(vec![-1.0, 2.0], &[2])?);
    /// let spike = Spike { noise: Noise::Stream(Key::new(7).into()), mode: SpikeMode::Sampled, surrogate: Surrogate::Clamp };
    /// assert_eq!(x.spike(spike)?.to_vec()?, [0.0, 1.0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] where given noise has another shape; [`Error::Value`] where the draw's sides do not divide the batch;
    /// [`Error::Config`] where a surrogate's alpha is not positive.
    pub fn spike(&self, spike: Spike<Tensor<B>>) -> Result<Var<B>> {
        self.tape().apply(SpikeOp { spike }, &[self])
    }

    /// Spikes of the potential `scale[h] x + shift[h]`, for x (B, H, L) or (B, H), scale (H), shift (H); the potential is not stored.
    ///
    /// # Errors
    /// As [`Var::spike`] and [`Var::affine`].
    pub fn spike_affine(&self, scale: &Var<B>, shift: &Var<B>, spike: Spike<Tensor<B>>) -> Result<Var<B>> {
        self.tape().apply(SpikeOp { spike }, &[self, scale, shift])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::Tape;
    use crate::backend::*;

    fn sampled<T>(noise: Noise<T>, surrogate: Surrogate) -> Spike<T> {
        Spike { noise, mode: SpikeMode::Sampled, surrogate }
    }

    /// Spikes, and the gradient for a gradient of 1, of potentials `y` with noise `u`.
    fn spikes(y: &[f64], u: &[f64], surrogate: Surrogate) -> (Vec<f64>, Vec<f64>) {
        let cpu = Cpu::<f64>::new();
        let x = Tape::new(&cpu).leaf(&cpu.from_vec(y.to_vec(), &[y.len()]).unwrap());
        let noise = Noise::Given(cpu.from_vec(u.to_vec(), &[u.len()]).unwrap());
        let s = x.spike(sampled(noise, surrogate)).unwrap();
        let gradients = s.sum().unwrap().backward().unwrap();
        (s.to_vec().unwrap(), cpu.to_vec(gradients.of(&x).unwrap()).unwrap())
    }

    #[test]
    fn a_tie_does_not_spike_and_the_clamp_surrogate_is_open_at_both_ends() {
        let below = -f64::MIN_POSITIVE;
        let above = 1.0 + f64::EPSILON;
        let y = [0.0, 0.5, 1.0, below, above, 0.25, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let u = [0.0, 0.5, 0.75, 0.0, 0.5, 0.75, 0.5, 0.5, 0.0];
        let (s, g) = spikes(&y, &u, Surrogate::Clamp);
        assert_eq!(s, [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(g, [1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn surrogates_have_their_peak_at_a_tie_and_fall_off_alike_on_both_sides() {
        for surrogate in Surrogate::ALL.into_iter().filter(|&surrogate| surrogate != Surrogate::Clamp) {
            let (s, g) = spikes(&[0.5, 0.25, 0.75], &[0.5, 0.75, 0.25], surrogate);
            assert_eq!(s, [0.0, 0.0, 1.0], "{surrogate:?}");
            assert!(g[0] > g[1] && g[1] > 0.0 && (g[1] - g[2]).abs() < 1e-15, "{surrogate:?}: {g:?}");
        }
    }

    #[test]
    fn a_number_decides_its_element() {
        let cpu = Cpu::<f64>::new();
        let draw = Draw::new(Key::new(3).fold(9)).from_step(4);
        let shape = [2, 3, 5003];
        let noise = unit_noise(draw, &shape);
        assert_eq!(cpu.to_vec(&cpu.draw_uniform(draw, &shape).unwrap()).unwrap(), noise);
        // On its number no potential spikes, and the surrogate has its peak; just above every one does.
        for (offset, want) in [(0.0, 0.0), (1e-9, 1.0)] {
            for affine in [false, true] {
                let tape = Tape::new(&cpu);
                let x = tape.leaf(&cpu.from_vec(noise.iter().map(|u| u + offset).collect(), &shape).unwrap());
                let [one, zero] = [1.0, 0.0].map(|value| tape.constant(&cpu.full(&[3], value).unwrap()));
                let spike = sampled(Noise::Stream(draw), Surrogate::Atan { alpha: 2.0 });
                let s = if affine { x.spike_affine(&one, &zero, spike) } else { x.spike(spike) }.unwrap();
                assert!(s.to_vec().unwrap().iter().all(|&s| s == want));
                let gradients = s.sum().unwrap().backward().unwrap();
                assert!(cpu.to_vec(gradients.of(&x).unwrap()).unwrap().iter().all(|g| (g - 1.0).abs() < 1e-12));
            }
        }
    }

    #[test]
    fn given_noise_is_as_good_as_the_stream() {
        let cpu = Cpu::<f64>::new();
        let draw = Draw::new(Key::new(11));
        let shape = [2, 3, 40];
        let value = cpu.normal(Key::new(1), &shape).unwrap();
        let [scale, shift] = [2, 3].map(|seed| cpu.normal(Key::new(seed), &[3]).unwrap());
        for surrogate in Surrogate::ALL {
            let run = |noise| {
                let tape = Tape::new(&cpu);
                let [x, a, b] = [&value, &scale, &shift].map(|v| tape.leaf(v));
                let s = x.spike_affine(&a, &b, sampled(noise, surrogate)).unwrap();
                let gradients = s.backward_from(&value).unwrap();
                let mut all = vec![s.to_vec().unwrap()];
                all.extend([&x, &a, &b].map(|v| cpu.to_vec(gradients.of(v).unwrap()).unwrap()));
                all
            };
            assert_eq!(run(Noise::Stream(draw)), run(Noise::Given(cpu.draw_uniform(draw, &shape).unwrap())));
        }
    }

    #[test]
    fn wrong_noise_and_wrong_steepness_are_refused() {
        let cpu = Cpu::<f64>::new();
        let x = Tape::new(&cpu).leaf(&cpu.full(&[2, 3], 0.5).unwrap());
        let noise = || Noise::Given(cpu.full(&[3], 0.5).unwrap());
        assert!(matches!(x.spike(sampled(noise(), Surrogate::Clamp)), Err(Error::Shape { op: "spike", .. })));
        for sides in [0, 3] {
            let draw = Draw::new(Key::new(0)).with_samples(Samples { first: 0, sides });
            assert!(matches!(x.spike(sampled(Noise::Stream(draw), Surrogate::Clamp)), Err(Error::Value { .. })));
        }
        for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let spike = sampled(Noise::Stream(Key::new(0).into()), Surrogate::Sigmoid { alpha });
            assert!(matches!(x.spike(spike), Err(Error::Config { name: "alpha", .. })));
        }
    }
}
