//! What every conformance test stands on: host arrays, random cases with pinned seeds, and the comparison with the truth.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use pspikessm::backend::{Backend, Key, Noise, Real, Spike, SpikeMode, Surrogate, Tensor};
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

/// The uniform numbers that `key` stands for.
pub fn stream(key: Key, shape: &[usize]) -> Array {
    let mut generator = key.generator();
    Array::of(shape, |_| f64::from(generator.next_u32() >> 8) / 16_777_216.0)
}

/// What a dropout multiplies with: 0 with probability `p`, else 1 / (1 - p).
pub fn mask(p: f64, key: Key, shape: &[usize]) -> Array {
    let mut mask = stream(key, shape);
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

/// A gradient that was wanted.
pub fn wanted<B: Backend>(grad: &Option<Tensor<B>>) -> Result<&Tensor<B>, TestCaseError> {
    grad.as_ref().ok_or_else(|| TestCaseError::fail("a gradient that is wanted is missing"))
}

/// Runs `check` over `count` cases of `strategy`, the same ones every time.
pub fn cases<S: Strategy>(count: u32, seed: u64, strategy: S, check: impl Fn(S::Value) -> Verdict) {
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
