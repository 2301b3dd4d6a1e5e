//! What every conformance test stands on: host arrays, random cases with pinned seeds, and the comparison with the truth.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use pspikessm::backend::{Backend, Draw, Key, Noise, Real, Samples, Spike, SpikeMode, Surrogate, Tensor};
use rand_core::Rng;
use rand_pcg::Pcg32;

/// What a check says: nothing, or what is wrong.
pub type Verdict = Result<(), TestCaseError>;

/// How far a backend may be from the truth, as a share of the largest entry of a result.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Functions of single numbers.
    pub elementwise: f64,
    /// Sums, products, transforms, convolutions, normalisations.
    pub sums: f64,
    /// SSM kernels.
    pub kernels: f64,
}

/// A backend on trial.
pub struct Lab<B> {
    pub backend: B,
    pub tolerance: Tolerance,
    /// The device computes nothing: shapes are compared, and no values.
    pub blind: bool,
}

/// Values on the host, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Array {
    pub fn new(shape: &[usize], values: Vec<f64>) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{shape:?}");
        Array { shape: shape.into(), values }
    }

    pub fn zeros(shape: &[usize]) -> Self {
        Array { shape: shape.into(), values: vec![0.0; shape.iter().product()] }
    }

    /// `f` of every index.
    pub fn of(shape: &[usize], f: impl FnMut(&[usize]) -> f64) -> Self {
        let indices: Vec<_> = indices(shape).collect();
        Array { shape: shape.into(), values: indices.iter().map(Vec::as_slice).map(f).collect() }
    }

    /// The value at `index`, as a tensor that broadcasts: aligned from the right, axes of 1 repeated.
    pub fn at(&self, index: &[usize]) -> f64 {
        self.values[self.offset(index)]
    }

    /// The position of the value at `index`.
    pub fn offset(&self, index: &[usize]) -> usize {
        let own = &index[index.len() - self.shape.len()..];
        own.iter().zip(&self.shape).fold(0, |offset, (&i, &len)| offset * len + if len == 1 { 0 } else { i })
    }

    /// The entries of a (B, H, L) array from `start` on, `shape` of them; 0 where there is none.
    pub fn part(&self, start: [usize; 3], shape: [usize; 3]) -> Self {
        Array::of(&shape, |i| {
            let i: [usize; 3] = std::array::from_fn(|axis| start[axis] + i[axis]);
            if i.iter().zip(&self.shape).all(|(i, len)| i < len) { self.at(&i) } else { 0.0 }
        })
    }

    /// These rows of the batch.
    pub fn rows(&self, rows: impl IntoIterator<Item = usize>) -> Self {
        let size = self.shape[1..].iter().product::<usize>();
        let values: Vec<f64> = rows.into_iter().flat_map(|row| &self.values[row * size..][..size]).copied().collect();
        Array { shape: [&[values.len() / size], &self.shape[1..]].concat(), values }
    }

    /// The largest magnitude of a finite entry.
    pub fn largest(&self) -> f64 {
        self.values.iter().filter(|v| v.is_finite()).fold(0.0, |largest, v| largest.max(v.abs()))
    }
}

/// Every index of `shape`, in row-major order.
pub fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<'_> {
    (0..shape.iter().product()).map(move |mut position| {
        let mut index = vec![0; shape.len()];
        for (i, len) in index.iter_mut().zip(shape).rev() {
            (*i, position) = (position % len, position / len);
        }
        index
    })
}

/// The uniform numbers of a draw, each by its definition: of the row's own generator, as many steps on as the time step says.
pub fn drawn(draw: Draw, shape: &[usize]) -> Array {
    let Samples { first, sides } = draw.samples;
    Array::of(shape, |i| {
        let (b, channel, t) = match *i {
            [] => (0, 0, 0),
            [t] => (0, 0, t),
            [b, h] => (b, h, 0),
            [b, ref inner @ .., t] => (b, inner.iter().zip(&shape[1..]).fold(0, |channel, (&i, &len)| channel * len + i), t),
        };
        let side = if shape.len() < 2 { 1 } else { shape[0] / sides };
        let sample = first.wrapping_add((b % side) as u64).wrapping_mul(sides as u64).wrapping_add((b / side) as u64);
        let mut generator = draw.generator(sample, channel as u64);
        generator.advance(t as u64);
        f64::from(generator.next_u32() >> 8) / 16_777_216.0
    })
}

/// Any draw for a batch of `batch` rows.
pub fn any_draw(dice: &mut Dice, batch: usize) -> Draw {
    let sides = if batch.is_multiple_of(2) && dice.flag() { 2 } else { 1 };
    let first = [0, 3, 1 << 33, u64::MAX - 1][dice.below(4)];
    let step = [0, 1, 77, (1 << 33) + 5][dice.below(4)];
    Draw::new(Key::new(dice.below(1 << 30) as u64)).with_samples(Samples { first, sides }).from_step(step)
}

/// What a dropout multiplies with: 0 with probability `p`, else 1 / (1 - p).
pub fn mask(p: f64, draw: Draw, shape: &[usize]) -> Array {
    let mut mask = drawn(draw, shape);
    mask.values.iter_mut().for_each(|u| *u = if 1.0 - p > *u { 1.0 / (1.0 - p) } else { 0.0 });
    mask
}

/// Numbers for the cases: independent of the crate's own random streams.
pub struct Dice(Pcg32);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(Pcg32::new(seed, 77))
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.unit() * end as f64) as usize
    }

    pub fn flag(&mut self) -> bool {
        self.unit() < 0.5
    }

    pub fn flags<const N: usize>(&mut self) -> [bool; N] {
        [(); N].map(|()| self.flag())
    }
}

impl<B: Backend> Lab<B> {
    /// Uniform values between `low` and `high`, such as the backend can hold.
    pub fn array(&self, dice: &mut Dice, shape: &[usize], low: f64, high: f64) -> Array {
        self.hold(Array::of(shape, |_| dice.between(low, high)))
    }

    /// Uniform values between -1 and 1.
    pub fn signed(&self, dice: &mut Dice, shape: &[usize]) -> Array {
        self.array(dice, shape, -1.0, 1.0)
    }

    /// The values rounded to what the backend can hold, so that the truth starts from the same numbers.
    pub fn hold(&self, mut x: Array) -> Array {
        x.values.iter_mut().for_each(|v| *v = B::Elem::of(*v).f64());
        x
    }

    /// To the device.
    pub fn put(&self, x: &Array) -> Result<Tensor<B>, TestCaseError> {
        Ok(self.backend.from_vec(x.values.iter().map(|&v| B::Elem::of(v)).collect(), &x.shape)?)
    }

    /// The backend's own spikes of `potentials`, which it may store in another way than numbers, and the same on the host.
    pub fn spikes(&self, dice: &mut Dice, potentials: &Array) -> Result<(Array, Tensor<B>), TestCaseError> {
        let u = self.array(dice, &potentials.shape, 0.0, 1.0);
        let spike = Spike { noise: Noise::Given(self.put(&u)?), mode: SpikeMode::Sampled, surrogate: Surrogate::Clamp };
        let here = Array::of(&u.shape, |i| f64::from(potentials.at(i) > u.at(i)));
        Ok((here, self.backend.spike(&spike, &self.put(potentials)?, None)?))
    }

    /// To the host.
    pub fn get(&self, x: &Tensor<B>) -> Result<Array, TestCaseError> {
        let values: Vec<f64> = self.backend.to_vec(x)?.into_iter().map(Real::f64).collect();
        prop_assert_eq!(values.len(), x.numel(), "values of {:?}", x);
        Ok(Array { shape: x.shape().into(), values })
    }

    /// `got` is `want`, up to `tolerance` times the largest entry of `want`. Where entries are sums of terms that can cancel, `terms`
    /// is the size of a term, and counts if it is larger.
    pub fn near(&self, what: &str, got: &Tensor<B>, want: &Array, tolerance: f64, terms: f64) -> Verdict {
        let got = self.get(got)?;
        prop_assert_eq!(&got.shape, &want.shape, "the shape of {}", what);
        if self.blind {
            return Ok(());
        }
        let scale = want.largest().max(terms);
        for (i, (&g, &w)) in got.values.iter().zip(&want.values).enumerate() {
            let right = if w.is_finite() { (g - w).abs() <= tolerance * scale } else { g == w || g.is_nan() && w.is_nan() };
            prop_assert!(right, "{what}, entry {i} of {:?}: {g} and not {w}; off by {:.2e} of {scale}", want.shape, (g - w).abs() / scale);
        }
        Ok(())
    }

    /// `got` is exactly `want`.
    pub fn same(&self, what: &str, got: &Tensor<B>, want: &Array) -> Verdict {
        self.near(what, got, want, 0.0, 0.0)
    }

    /// The sum of spikes is their number, exactly, whatever else a backend's way to store them has room for.
    pub fn counted(&self, spikes: &Tensor<B>) -> Verdict {
        let number = self.get(spikes)?.values.iter().sum();
        self.same("the number of spikes", &self.backend.sum_to(spikes, &[])?, &Array::new(&[], vec![number]))
    }

    /// What was wanted is there and has the values that it has when everything is wanted; what was not wanted may be absent.
    pub fn only_the_wanted(&self, what: &str, needs: &[bool], got: &[Option<Tensor<B>>], all: &[Option<Tensor<B>>]) -> Verdict {
        prop_assert_eq!(got.len(), needs.len(), "gradients of {}", what);
        for i in (0..needs.len()).filter(|&i| needs[i]) {
            self.same(&format!("{what}: gradient {i} with needs {needs:?}"), wanted(&got[i])?, &self.get(wanted(&all[i])?)?)?;
        }
        Ok(())
    }
}

/// What `run` makes of x (2n, H, L) with a draw does not depend on what else is in the batch: neither on its length, nor on where it is
/// cut, be it of single sequences or of pairs. Where `steps`, not on the time steps before either.
pub fn in_any_batch<B: Backend>(
    lab: &Lab<B>,
    draw: Draw,
    x: &Array,
    steps: bool,
    run: impl Fn(Draw, &Array) -> Result<Array, TestCaseError>,
) -> Verdict {
    let same = |what: &str, got: Array, want: Array| {
        prop_assert_eq!(&got.shape, &want.shape);
        prop_assert!(lab.blind || got == want, "{what}: {:?} and not {:?}", got.values, want.values);
        Ok(())
    };
    let &[batch, channels, length] = x.shape.as_slice() else { return Err(TestCaseError::fail("three axes")) };
    let with = |sides: usize, further: usize| {
        let first = draw.samples.first.wrapping_add(further as u64);
        draw.with_samples(Samples { first, sides })
    };
    let whole = run(with(1, 0), x)?;
    let padded = run(with(1, 0), &x.part([0; 3], [batch + 1, channels, length + 70]))?;
    same("a longer batch", padded.part([0; 3], [batch, channels, length]), whole.clone())?;
    for cut in [1, batch / 2] {
        same("the batch's first part", run(with(1, 0), &x.rows(0..cut))?, whole.rows(0..cut))?;
        same("its second part", run(with(1, cut), &x.rows(cut..batch))?, whole.rows(cut..batch))?;
    }
    let (pairs, half) = (run(with(2, 0), x)?, batch / 2);
    for cut in 0..half {
        let later = || (cut..half).chain(half + cut..batch);
        same("the later pairs", run(with(2, cut), &x.rows(later()))?, pairs.rows(later()))?;
    }
    for t in (0..length).filter(|_| steps) {
        let [start, shape] = [[0, 0, t], [batch, channels, 1]];
        same("one step", run(with(1, 0).from_step(draw.step.wrapping_add(t as u64)), &x.part(start, shape))?, whole.part(start, shape))?;
    }
    Ok(())
}

/// A gradient that was wanted.
pub fn wanted<B: Backend>(grad: &Option<Tensor<B>>) -> Result<&Tensor<B>, TestCaseError> {
    grad.as_ref().ok_or_else(|| TestCaseError::fail("a gradient that is wanted is missing"))
}

/// Runs `check` over `count` cases of `strategy`, the same ones every time. Where a device is slow, `PSPIKESSM_CASES=4` in the environment
/// takes the first quarter of them.
pub fn cases<S: Strategy>(count: u32, seed: u64, strategy: S, check: impl Fn(S::Value) -> Verdict) {
    let share = std::env::var("PSPIKESSM_CASES").map_or(1, |share| share.parse().expect("a number"));
    let count = count.div_ceil(share);
    let rng_seed = RngSeed::Fixed(seed);
    let config = Config { cases: count, rng_seed, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    if let Err(error) = TestRunner::new(config).run(&strategy, check) {
        panic!("{error}");
    }
}

/// Runs a check that has one case.
pub fn once(check: impl FnOnce() -> Verdict) {
    if let Err(error) = check() {
        panic!("{error}");
    }
}

/// The seed of a case's values.
pub fn seed() -> impl Strategy<Value = u64> {
    any::<u64>()
}

/// Small lengths around the widths of vectors: ones, primes, powers of two and their neighbours.
pub fn dim() -> impl Strategy<Value = usize> {
    select(vec![1usize, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17])
}

/// Lengths of a time axis.
pub fn length() -> impl Strategy<Value = usize> {
    select(vec![1usize, 2, 3, 5, 8, 13, 16, 31, 33, 64, 67, 100, 127, 128])
}

/// (batch, channels, length).
pub fn sequence() -> impl Strategy<Value = [usize; 3]> {
    (1..5usize, select(vec![1usize, 2, 3, 5, 8]), length()).prop_map(|(b, h, l)| [b, h, l])
}

/// Any shape: scalars, up to four axes, and now and then an empty one or one that is large enough to be shared by threads.
pub fn shape() -> impl Strategy<Value = Vec<usize>> {
    let empty = select(vec![vec![0usize], vec![3, 0], vec![0, 5], vec![2, 0, 3]]);
    let large = select(vec![vec![3usize, 41, 173], vec![16_385], vec![9_000, 5], vec![5, 9_000], vec![2, 1, 33_000]]);
    prop_oneof![6 => prop::collection::vec(dim(), 0..5).prop_filter("small", |s| s.iter().product::<usize>() < 4000), 1 => empty, 2 => large]
}

/// Any shape without an empty axis.
pub fn filled_shape() -> impl Strategy<Value = Vec<usize>> {
    shape().prop_filter("not empty", |shape| !shape.contains(&0))
}

/// `shape` with axes made 1 and leading axes left out, as dice say: it broadcasts to `shape`.
pub fn narrowed(dice: &mut Dice, shape: &[usize]) -> Vec<usize> {
    let kept = if dice.flag() { 0 } else { dice.below(shape.len() + 1) };
    shape[kept..].iter().map(|&len| if dice.flag() { 1 } else { len }).collect()
}
