//! SpikeSampler and the leaky integrate-and-fire neurons: spikes are held exactly, on potentials that every float type computes exactly.

use proptest::prelude::*;
use proptest::sample::select;
use pspikessm::backend::{Adaptation, Backend, Draw, Key, Lif, Noise, Plif, Spike, SpikeMode, Surrogate, Tensor};

use super::dual::Dual;
use super::harness::{Array, Dice, Lab, Verdict, any_draw, cases, drawn, in_any_batch, once, seed, sequence, shape, wanted};

/// Multiples of 1 / `fine` from `low` to `high`: sums and products of a few of them have no rounding in any float type.
fn grid(dice: &mut Dice, shape: &[usize], low: f64, high: f64, fine: f64) -> Array {
    Array::of(shape, |_| (dice.between(low, high) * fine).round() / fine)
}

/// A draw: y = scale[h] x + shift[h] or y = x, against u.
struct Case {
    x: Array,
    affine: Option<(Array, Array)>,
    u: Array,
    draw: Draw,
}

impl Case {
    /// On grids so coarse that y = u, y = 0 and y = 1 all happen.
    fn new(shape: &[usize], has_affine: bool, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let draw = any_draw(&mut dice, if shape.len() < 2 { 1 } else { shape[0] });
        let x = grid(&mut dice, shape, -1.0, 2.0, 64.0);
        let affine = has_affine.then(|| (grid(&mut dice, &shape[1..2], -2.0, 2.0, 8.0), grid(&mut dice, &shape[1..2], -0.5, 1.0, 64.0)));
        let u = grid(&mut dice, shape, 0.0, 0.99, 64.0);
        Case { x, affine, u, draw }
    }

    fn potential(&self, i: &[usize]) -> f64 {
        self.affine.as_ref().map_or(self.x.at(i), |(scale, shift)| scale.at(&i[1..2]) * self.x.at(i) + shift.at(&i[1..2]))
    }

    /// The draw on the device, and the uniform numbers it uses.
    fn draw<B: Backend>(
        &self,
        lab: &Lab<B>,
        given: bool,
        mode: SpikeMode,
        surrogate: Surrogate,
    ) -> Result<(Spike<Tensor<B>>, Array), TestCaseError> {
        if given {
            return Ok((Spike { noise: Noise::Given(lab.put(&self.u)?), mode, surrogate }, self.u.clone()));
        }
        Ok((Spike { noise: Noise::Stream(self.draw), mode, surrogate }, drawn(self.draw, &self.x.shape)))
    }

    /// x, scale and shift on the device.
    fn put<B: Backend>(&self, lab: &Lab<B>) -> Result<There<B>, TestCaseError> {
        let affine = self.affine.as_ref().map(|(scale, shift)| Ok::<_, TestCaseError>((lab.put(scale)?, lab.put(shift)?)));
        Ok(There { x: lab.put(&self.x)?, affine: affine.transpose()? })
    }
}

struct There<B: Backend> {
    x: Tensor<B>,
    affine: Option<(Tensor<B>, Tensor<B>)>,
}

impl<B: Backend> There<B> {
    fn affine(&self) -> Option<(&Tensor<B>, &Tensor<B>)> {
        self.affine.as_ref().map(|(scale, shift)| (scale, shift))
    }
}

/// Any shape without an affine; (B, H, L) or (B, H) with one.
fn draws() -> impl Strategy<Value = (Vec<usize>, bool, u64)> {
    let with = prop_oneof![4 => sequence().prop_map(|s| s.to_vec()), 1 => (1..40usize, 1..20usize).prop_map(|(b, h)| vec![b, h]), 1 => Just(vec![3, 41, 173])];
    let without = shape().prop_filter("not empty", |s| !s.contains(&0));
    prop_oneof![2 => (with, Just(true), seed()), 1 => (without, Just(false), seed())]
}

pub fn sampled<B: Backend>(lab: &Lab<B>) {
    cases(32, 60, (draws(), any::<bool>()), |((shape, has_affine, seed), given)| {
        let case = Case::new(&shape, has_affine, seed);
        let (spike, u) = case.draw(lab, given, SpikeMode::Sampled, Surrogate::Clamp)?;
        let there = case.put(lab)?;
        let want = Array::of(&shape, |i| f64::from(case.potential(i) > u.at(i)));
        let got = lab.backend.spike(&spike, &there.x, there.affine())?;
        lab.same("spikes", &got, &want)?;
        lab.counted(&got)
    });
}

pub fn expected<B: Backend>(lab: &Lab<B>) {
    cases(32, 61, (draws(), any::<bool>()), |((shape, has_affine, seed), given)| {
        let case = Case::new(&shape, has_affine, seed);
        let (spike, _) = case.draw(lab, given, SpikeMode::Expected, Surrogate::Atan { alpha: 2.0 })?;
        let there = case.put(lab)?;
        let want = Array::of(&shape, |i| case.potential(i).clamp(0.0, 1.0));
        lab.same("expected spikes", &lab.backend.spike(&spike, &there.x, there.affine())?, &want)
    });
}

pub fn given_noise_is_as_good_as_the_stream<B: Backend>(lab: &Lab<B>) {
    cases(16, 62, draws(), |(shape, has_affine, seed)| {
        // Any potentials here: both ways must round alike.
        let mut case = Case::new(&shape, has_affine, seed);
        case.x = lab.array(&mut Dice::new(seed), &shape, -0.5, 1.5);
        let there = case.put(lab)?;
        for surrogate in Surrogate::ALL {
            let stream = Spike { noise: Noise::Stream(case.draw), mode: SpikeMode::Sampled, surrogate };
            let given = Spike { noise: Noise::Given(lab.backend.draw_uniform(case.draw, &shape)?), ..stream.clone() };
            let want = lab.get(&lab.backend.spike(&stream, &there.x, there.affine())?)?;
            lab.same("spikes of given noise", &lab.backend.spike(&given, &there.x, there.affine())?, &want)?;
            let all = [true, has_affine, has_affine];
            let want = lab.backend.spike_grad(&stream, &there.x, there.affine(), &there.x, all)?;
            lab.only_the_wanted(
                "gradients of given noise",
                &all,
                &lab.backend.spike_grad(&given, &there.x, there.affine(), &there.x, all)?,
                &want,
            )?;
        }
        Ok(())
    });
}

pub fn spikes_do_not_depend_on_the_batch<B: Backend>(lab: &Lab<B>) {
    cases(16, 66, (sequence(), any::<bool>(), seed()), |([half, channels, length], has_affine, seed)| {
        let case = Case::new(&[2 * half, channels, length], has_affine, seed);
        let there = case.put(lab)?;
        for surrogate in Surrogate::ALL {
            let spike = |draw| Spike { noise: Noise::Stream(draw), mode: SpikeMode::Sampled, surrogate };
            in_any_batch(lab, case.draw, &case.x, true, |draw, x| {
                lab.get(&lab.backend.spike(&spike(draw), &lab.put(x)?, there.affine())?)
            })?;
            in_any_batch(lab, case.draw, &case.x, true, |draw, x| {
                let grads = lab.backend.spike_grad(&spike(draw), &lab.put(x)?, there.affine(), &lab.put(x)?, [true, false, false])?;
                lab.get(wanted(&grads[0])?)
            })?;
        }
        Ok(())
    });
}

pub fn ties_and_nan_do_not_spike<B: Backend>(lab: &Lab<B>) {
    once(|| {
        let u = Array::new(&[1, 2, 3], vec![0.25, 0.0, 0.5, 0.75, 0.0, 0.0]);
        let x = Array::new(&[1, 2, 3], vec![0.25, 0.0, 0.500_001, 0.75, f64::NAN, -1.0]);
        let spike = Spike { noise: Noise::Given(lab.put(&u)?), mode: SpikeMode::Sampled, surrogate: Surrogate::Clamp };
        let want = Array::new(&[1, 2, 3], vec![0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        lab.same("ties", &lab.backend.spike(&spike, &lab.put(&x)?, None)?, &want)?;
        let (scale, shift) = (lab.put(&Array::new(&[2], vec![1.0, 1.0]))?, lab.put(&Array::zeros(&[2]))?);
        lab.same("ties after an affine", &lab.backend.spike(&spike, &lab.put(&x)?, Some((&scale, &shift)))?, &want)
    });
}

/// The derivative that stands in for that of a spike, by the potential `y`.
pub fn slope(surrogate: Surrogate, y: f64, u: f64) -> f64 {
    let d = Dual { value: y - u, slope: 1.0 };
    match surrogate {
        Surrogate::Clamp => f64::from((0.0..=1.0).contains(&y)),
        Surrogate::Sigmoid { alpha } => (d * alpha).sigmoid().slope,
        Surrogate::Atan { alpha } => ((d * (std::f64::consts::PI * alpha / 2.0)).atan() * std::f64::consts::FRAC_1_PI).slope,
        Surrogate::FastSigmoid { alpha } => (1.0 + alpha * d.value.abs()).powi(-2),
    }
}

/// How far the derivative can change with the potential.
pub fn steepness(surrogate: Surrogate) -> f64 {
    surrogate.alpha().unwrap_or(1.0)
}

fn modes() -> impl Strategy<Value = (SpikeMode, Surrogate, bool)> {
    (select(vec![SpikeMode::Sampled, SpikeMode::Sampled, SpikeMode::Expected]), select(Surrogate::ALL.to_vec()), any::<bool>())
}

pub fn surrogate_gradient<B: Backend>(lab: &Lab<B>) {
    cases(64, 63, (draws(), modes()), |((shape, has_affine, seed), (mode, surrogate, given))| {
        let (case, mut dice) = (Case::new(&shape, has_affine, seed), Dice::new(!seed));
        let (g, (spike, u), there) = (lab.signed(&mut dice, &shape), case.draw(lab, given, mode, surrogate)?, case.put(lab)?);
        // The expectation clamp(y, 0, 1) has its own derivative.
        let surrogate = if mode == SpikeMode::Expected { Surrogate::Clamp } else { surrogate };
        let gy = Array::of(&shape, |i| g.at(i) * slope(surrogate, case.potential(i), u.at(i)));
        let mut want = vec![gy.clone()];
        if let Some((scale, _)) = &case.affine {
            want = vec![Array::of(&shape, |i| scale.at(&i[1..2]) * gy.at(i)), Array::zeros(&shape[1..2]), Array::zeros(&shape[1..2])];
            for i in super::harness::indices(&shape) {
                want[1].values[i[1]] += gy.at(&i) * case.x.at(&i);
                want[2].values[i[1]] += gy.at(&i);
            }
        }
        let g = lab.put(&g)?;
        let all = lab.backend.spike_grad(&spike, &there.x, there.affine(), &g, [true, has_affine, has_affine])?;
        for (i, (got, want)) in all.iter().zip(&want).enumerate() {
            let terms = if i == 0 { 0.0 } else { gy.largest() * case.x.largest().max(1.0) };
            lab.near(&format!("gradient {i} of {mode:?} {surrogate:?}"), wanted(got)?, want, lab.tolerance.sums, terms)?;
        }
        let needs = dice.flags().map(|flag| flag && has_affine);
        lab.only_the_wanted("spike", &needs, &lab.backend.spike_grad(&spike, &there.x, there.affine(), &g, needs)?, &all)?;
        gradients_that_are_given_away(lab, &mut dice, (&spike, &there), &g, needs, &all)
    });
}

/// Of the spikes and, so far, of x; each by itself or while somebody else holds it.
fn gradients_that_are_given_away<B: Backend>(
    lab: &Lab<B>,
    dice: &mut Dice,
    (spike, there): (&Spike<Tensor<B>>, &There<B>),
    g: &Tensor<B>,
    needs: [bool; 3],
    all: &[Option<Tensor<B>>; 3],
) -> Verdict {
    let onto = |g, earlier, needs| lab.backend.spike_grad_onto(spike, &there.x, there.affine(), (g, earlier), needs);
    let (before, so_far) = (lab.get(g)?, lab.signed(dice, there.x.shape()));
    for given in [lab.put(&before)?, g.clone()] {
        lab.only_the_wanted("spike, over its gradient", &needs, &onto(given, None, needs)?, all)?;
    }
    let alone = lab.get(wanted(&all[0])?)?;
    let sum = Array::of(there.x.shape(), |i| so_far.at(i) + alone.at(i));
    let held = lab.put(&so_far)?;
    for (g, earlier) in [(lab.put(&before)?, lab.put(&so_far)?), (g.clone(), held.clone())] {
        let got = onto(g, Some(earlier), [true, needs[1], needs[2]])?;
        lab.near("the sum with the gradient so far", wanted(&got[0])?, &sum, lab.tolerance.sums, 0.0)?;
        lab.only_the_wanted("spike, beside a sum", &[false, needs[1], needs[2]], &[None, got[1].clone(), got[2].clone()], all)?;
    }
    lab.same("the gradient so far that was kept", &held, &so_far)?;
    lab.same("the gradient that was kept", g, &before)
}

pub fn clamp_surrogate_includes_its_ends<B: Backend>(lab: &Lab<B>) {
    once(|| {
        let x = Array::new(&[1, 1, 7], vec![0.0, -0.0, 1.0, -1e-6, 1.0 + 1e-6, 0.5, 2.0]);
        let want = Array::new(&[1, 1, 7], vec![3.0, 3.0, 3.0, 0.0, 0.0, 3.0, 0.0]);
        let (x, g) = (lab.put(&x)?, lab.backend.full(&[1, 1, 7], 3.0)?);
        let (one, zero) = (lab.backend.full(&[1], 1.0)?, lab.backend.full(&[1], 0.0)?);
        for (mode, affine) in SpikeMode::ALL.into_iter().flat_map(|m| [(m, None), (m, Some((&one, &zero)))]) {
            let spike = Spike { noise: Noise::Stream(Key::new(1).into()), mode, surrogate: Surrogate::Clamp };
            let got = lab.backend.spike_grad(&spike, &x, affine, &g, [true, false, false])?;
            lab.same(&format!("{mode:?} at the ends"), wanted(&got[0])?, &want)?;
        }
        Ok(())
    });
}

/// What a neuron does with one row: potentials before the reset, spikes, and d v[t] / d v[t-1].
fn run(lif: &Lif, x: &[f64]) -> Vec<(f64, bool, f64)> {
    let mut steps = Vec::new();
    let (mut v, mut s) = (0.0, 0.0);
    for y in x {
        v = if lif.soft_reset { lif.decay * v - lif.threshold * s + y } else { lif.decay * v * (1.0 - s) + y };
        let keep = if lif.soft_reset { lif.decay } else { lif.decay * (1.0 - s) };
        s = f64::from(v > lif.threshold);
        steps.push((v, s == 1.0, keep));
    }
    steps
}

/// Inputs whose potentials keep away from the threshold and from the ends of the clamp's window, so that no rounding decides a spike.
fn decided<B: Backend>(lab: &Lab<B>, dice: &mut Dice, lif: &Lif, shape: &[usize]) -> Array {
    let mut x = lab.array(dice, shape, -0.5, 1.2);
    let length = *shape.last().unwrap_or(&1);
    for row in x.values.chunks_exact_mut(length) {
        for t in 0..length {
            let close = |row: &[f64]| {
                let distance = run(lif, &row[..=t])[t].0 - lif.threshold;
                [-0.5, 0.0, 0.5].iter().any(|edge| (distance - edge).abs() < 1e-3)
            };
            while close(row) {
                row[t] += 1.0 / 128.0;
            }
        }
    }
    lab.hold(x)
}

fn neurons() -> impl Strategy<Value = Lif> {
    let numbers = (select(vec![0.0, 0.5, 0.9, 1.0]), select(vec![0.5, 1.0]));
    (numbers, any::<bool>(), select(Surrogate::ALL.to_vec())).prop_map(|((decay, threshold), soft_reset, surrogate)| Lif {
        decay,
        threshold,
        soft_reset,
        surrogate,
    })
}

fn trains() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        sequence().prop_filter("short", |s| s[2] < 101).prop_map(|s| s.to_vec()),
        (1..20usize).prop_map(|l| vec![l]),
        Just(vec![7, 33])
    ]
}

pub fn lif<B: Backend>(lab: &Lab<B>) {
    cases(32, 64, (neurons(), trains(), seed()), |(lif, shape, seed)| {
        let x = decided(lab, &mut Dice::new(seed), &lif, &shape);
        let rows = x.values.chunks_exact(shape[shape.len() - 1]);
        let want = Array::new(&shape, rows.flat_map(|row| run(&lif, row)).map(|(_, spike, _)| f64::from(spike)).collect());
        lab.same(&format!("spikes of {lif:?}"), &lab.backend.lif(&lif, &lab.put(&x)?)?, &want)
    });
}

pub fn lif_ties_and_resets<B: Backend>(lab: &Lab<B>) {
    once(|| {
        let hard = Lif { decay: 0.5, threshold: 1.0, soft_reset: false, surrogate: Surrogate::Clamp };
        let soft = Lif { soft_reset: true, ..hard };
        // v: 1 (a tie), 1.5 (spike), then 0.75 after a hard reset and 0.5 after a soft one, then 1.125 (spike) and 1 (a tie).
        let x = lab.put(&Array::new(&[4], vec![1.0, 1.0, 0.75, 0.75]))?;
        lab.same("hard reset", &lab.backend.lif(&hard, &x)?, &Array::new(&[4], vec![0.0, 1.0, 0.0, 1.0]))?;
        lab.same("soft reset", &lab.backend.lif(&soft, &x)?, &Array::new(&[4], vec![0.0, 1.0, 0.0, 0.0]))?;
        // The window's ends, 1/2 around the threshold, are in it.
        let (ends, g) = (lab.put(&Array::new(&[5, 1], vec![0.5, 1.5, 0.499_999, 1.500_001, 1.0]))?, lab.backend.full(&[5, 1], 2.0)?);
        lab.same("the window", &lab.backend.lif_grad(&hard, &ends, &g)?, &Array::new(&[5, 1], vec![2.0, 2.0, 0.0, 0.0, 2.0]))
    });
}

pub fn lif_gradient<B: Backend>(lab: &Lab<B>) {
    cases(48, 65, (neurons(), trains(), seed()), |(lif, shape, seed)| {
        let mut dice = Dice::new(seed);
        let (x, g) = (decided(lab, &mut dice, &lif, &shape), lab.signed(&mut dice, &shape));
        let length = shape[shape.len() - 1];
        let window = |d: f64| if lif.surrogate == Surrogate::Clamp { f64::from(d.abs() <= 0.5) } else { slope(lif.surrogate, d, 0.0) };
        // Every input's gradient by itself: through the potentials that it decays into, to each of their spikes.
        let mut want = Array::zeros(&shape);
        for (row, want) in want.values.chunks_exact_mut(length).enumerate() {
            let (steps, g) = (run(&lif, &x.values[row * length..][..length]), &g.values[row * length..][..length]);
            for (t, want) in want.iter_mut().enumerate() {
                let mut share = 1.0;
                for later in t..length {
                    share *= if later > t { steps[later].2 } else { 1.0 };
                    *want += g[later] * window(steps[later].0 - lif.threshold) * share;
                }
            }
        }
        // A potential is a sum of inputs; how far its rounding moves the surrogate goes with the steepness.
        let potentials =
            x.values.chunks_exact(length).flat_map(|row| run(&lif, row)).fold(0.0f64, |largest, step| largest.max(step.0.abs()));
        let got = lab.backend.lif_grad(&lif, &lab.put(&x)?, &lab.put(&g)?)?;
        lab.near(&format!("the gradient of {lif:?}"), &got, &want, lab.tolerance.sums, g.largest() * potentials * steepness(lif.surrogate))
    });
}

/// What a neuron with this decay and threshold does with one row: v - theta at every step, with its derivative by whatever is varied,
/// and the spikes, which carry none.
fn plif_row(plif: &Plif, decay: Dual, threshold: Dual, x: &[Dual]) -> Vec<(Dual, bool)> {
    let Adaptation { strength, fading } = plif.adaptation.unwrap_or(Adaptation { strength: 0.0, fading: 0.0 });
    let (mut v, mut theta, mut s, mut raised) = (Dual::default(), threshold, 0.0, 0.0);
    let mut steps = Vec::new();
    for (t, &y) in x.iter().enumerate() {
        if t > 0 {
            v = if plif.soft_reset { decay * v - theta * s } else { decay * v * (1.0 - s) };
            raised = fading * raised + s;
            theta = threshold + strength * raised;
        }
        v = v + y;
        s = f64::from(v.value > theta.value);
        steps.push((v - theta, s == 1.0));
    }
    steps
}

/// Neurons with a decay and a threshold a channel, and drives that decide every spike, whatever the rounding.
struct Driven {
    plif: Plif,
    x: Array,
    decay: Array,
    threshold: Array,
}

impl Driven {
    fn new<B: Backend>(lab: &Lab<B>, dice: &mut Dice, plif: Plif, shape: [usize; 3]) -> Self {
        let channels = &shape[1..2];
        let (decay, threshold) = (lab.array(dice, channels, 0.0, 1.0), lab.array(dice, channels, 0.4, 1.0));
        let mut driven = Driven { plif, x: lab.array(dice, &shape, -0.5, 1.2), decay, threshold };
        for row in 0..shape[0] * shape[1] {
            for t in 0..shape[2] {
                let close = |d: f64| [-0.5, 0.0, 0.5].iter().any(|edge| (d - edge).abs() < 1e-3);
                while close(driven.steps(row, |_| 0.0, 0.0, 0.0)[t].0.value) {
                    driven.x.values[row * shape[2] + t] += 1.0 / 128.0;
                }
            }
        }
        driven.x = lab.hold(driven.x);
        driven
    }

    /// The steps of a row, with these derivatives of its drive, its decay and its threshold.
    fn steps(&self, row: usize, drive: impl Fn(usize) -> f64, decay: f64, threshold: f64) -> Vec<(Dual, bool)> {
        let (length, h) = (self.x.shape[2], row % self.x.shape[1]);
        let x = self.x.values[row * length..][..length].iter().enumerate();
        let x: Vec<Dual> = x.map(|(t, &value)| Dual { value, slope: drive(t) }).collect();
        let [decay, threshold] =
            [(&self.decay, decay), (&self.threshold, threshold)].map(|(of, slope)| Dual { value: of.values[h], slope });
        plif_row(&self.plif, decay, threshold, &x)
    }

    /// The derivative of the sum of g times the spikes of a row.
    fn derivative(&self, g: &Array, row: usize, drive: impl Fn(usize) -> f64, decay: f64, threshold: f64) -> f64 {
        let window = |d: f64| match self.plif.surrogate {
            Surrogate::Clamp => f64::from(d.abs() <= 0.5),
            other => slope(other, d, 0.0),
        };
        let steps = self.steps(row, drive, decay, threshold);
        let g = &g.values[row * steps.len()..];
        steps.iter().zip(g).map(|((above, _), g)| g * window(above.value) * above.slope).sum()
    }
}

fn adaptive_neurons() -> impl Strategy<Value = Plif> {
    let adaptation = proptest::option::of((0.05f64..0.8, select(vec![0.0, 0.5, 0.9, 1.0])));
    (any::<bool>(), adaptation, select(Surrogate::ALL.to_vec())).prop_map(|(soft_reset, adaptation, surrogate)| Plif {
        soft_reset,
        adaptation: adaptation.map(|(strength, fading)| Adaptation { strength, fading }),
        surrogate,
    })
}

fn short_sequence() -> impl Strategy<Value = [usize; 3]> {
    sequence().prop_filter("short", |s| s[2] < 68)
}

pub fn plif<B: Backend>(lab: &Lab<B>) {
    cases(32, 67, (adaptive_neurons(), short_sequence(), seed()), |(plif, shape, seed)| {
        let driven = Driven::new(lab, &mut Dice::new(seed), plif, shape);
        let rows = (0..shape[0] * shape[1]).flat_map(|row| driven.steps(row, |_| 0.0, 0.0, 0.0));
        let want = Array::new(&shape, rows.map(|(_, spike)| f64::from(spike)).collect());
        let got = lab.backend.plif(&plif, &lab.put(&driven.x)?, &lab.put(&driven.decay)?, &lab.put(&driven.threshold)?)?;
        lab.same(&format!("spikes of {plif:?}"), &got, &want)
    });
}

pub fn plif_with_equal_channels_is_lif<B: Backend>(lab: &Lab<B>) {
    cases(16, 68, (neurons(), short_sequence(), seed()), |(lif, shape, seed)| {
        let mut dice = Dice::new(seed);
        let (x, g) = (lab.put(&decided(lab, &mut dice, &lif, &shape))?, lab.put(&lab.signed(&mut dice, &shape))?);
        let plif = Plif { soft_reset: lif.soft_reset, adaptation: None, surrogate: lif.surrogate };
        let (decay, threshold) = (lab.backend.full(&shape[1..2], lif.decay)?, lab.backend.full(&shape[1..2], lif.threshold)?);
        lab.same("spikes", &lab.backend.plif(&plif, &x, &decay, &threshold)?, &lab.get(&lab.backend.lif(&lif, &x)?)?)?;
        let want = lab.get(&lab.backend.lif_grad(&lif, &x, &g)?)?;
        let got = lab.backend.plif_grad(&plif, &x, &decay, &threshold, &g, [true, false, false])?;
        lab.near("the gradient of x", wanted(&got[0])?, &want, lab.tolerance.sums, 10.0 * steepness(lif.surrogate))
    });
}

pub fn plif_gradient<B: Backend>(lab: &Lab<B>) {
    cases(32, 69, (adaptive_neurons(), short_sequence(), seed()), |(plif, shape, seed)| {
        let mut dice = Dice::new(seed);
        let (driven, g) = (Driven::new(lab, &mut dice, plif, shape), lab.signed(&mut dice, &shape));
        let [batch, channels, length] = shape;
        let at = |row: usize, t: usize| driven.derivative(&g, row, |drive| f64::from(drive == t), 0.0, 0.0);
        let x = Array::new(&shape, (0..batch * channels * length).map(|i| at(i / length, i % length)).collect());
        let of_channel = |decay, threshold| {
            let sum = |h| (0..batch).map(|b| driven.derivative(&g, b * channels + h, |_| 0.0, decay, threshold)).sum();
            Array::new(&[channels], (0..channels).map(sum).collect())
        };
        let want = [x, of_channel(1.0, 0.0), of_channel(0.0, 1.0)];
        let (there, g) = ([&driven.x, &driven.decay, &driven.threshold].map(|x| lab.put(x)), lab.put(&g)?);
        let [x, decay, threshold] = there;
        let (x, decay, threshold) = (x?, decay?, threshold?);
        let all = lab.backend.plif_grad(&plif, &x, &decay, &threshold, &g, [true; 3])?;
        for (i, (got, want)) in all.iter().zip(&want).enumerate() {
            // Potentials add up over time, and what is summed over it cancels.
            let terms = 10.0 * steepness(plif.surrogate) * if i == 0 { 1.0 } else { batch as f64 };
            lab.near(&format!("gradient {i} of {plif:?}"), wanted(got)?, want, lab.tolerance.sums, terms)?;
        }
        let needs = dice.flags();
        lab.only_the_wanted("plif", &needs, &lab.backend.plif_grad(&plif, &x, &decay, &threshold, &g, needs)?, &all)
    });
}
