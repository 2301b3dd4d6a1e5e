//! Random draws: the words of the stream, by position, and the moments of what is made of them.

use std::f64::consts::TAU;

use proptest::prelude::*;
use pspikessm::backend::*;
use rand_core::Rng;

use super::harness::{Array, Lab, cases, once, seed, shape};

fn words(key: Key, count: usize) -> Vec<f64> {
    let mut generator = key.generator();
    (0..count).map(|_| f64::from(generator.next_u32())).collect()
}

pub fn uniform_is_the_stream<B: Backend>(lab: &Lab<B>) {
    cases(24, 40, (shape(), seed()), |(shape, seed)| {
        let key = Key::new(seed).fold(3);
        let want = Array::new(&shape, words(key, shape.iter().product()).iter().map(|w| (w / 256.0).floor() / 16_777_216.0).collect());
        lab.same("uniform", &lab.backend.uniform(key, &shape)?, &want)?;
        // The same numbers whatever the backend computes in.
        let other = Lab { backend: Cpu::<f64>::new(), tolerance: lab.tolerance, blind: false };
        other.same("uniform in f64", &other.backend.uniform(key, &shape)?, &want)
    });
}

pub fn normal_is_the_stream<B: Backend>(lab: &Lab<B>) {
    cases(24, 41, (shape(), seed()), |(shape, seed)| {
        let key = Key::new(seed);
        let pairs = words(key, 2 * shape.iter().product::<usize>());
        let unit = |word: f64| word / 4_294_967_296.0;
        let box_muller = |pair: &[f64]| (-2.0 * unit(pair[0] + 0.5).ln()).sqrt() * (TAU * unit(pair[1])).cos();
        let want = Array::new(&shape, pairs.chunks_exact(2).map(box_muller).collect());
        lab.near("normal", &lab.backend.normal(key, &shape)?, &want, lab.tolerance.elementwise, 1.0)
    });
}

/// Mean of f over x.
fn mean(x: &[f64], f: impl Fn(f64) -> f64) -> f64 {
    x.iter().map(|&v| f(v)).sum::<f64>() / x.len() as f64
}

pub fn normal_has_the_moments_of_a_normal<B: Backend>(lab: &Lab<B>) {
    once(|| {
        const COUNT: usize = 100_003;
        let draw = |key: Key| -> Result<Vec<f64>, TestCaseError> { Ok(lab.get(&lab.backend.normal(key, &[COUNT])?)?.values) };
        let (x, y) = (draw(Key::new(1))?, draw(Key::new(1).fold(1))?);
        // Four standard errors each; a normal's moments of order 2, 4, 6, 8 are 1, 3, 15, 105.
        let error = 4.0 / (COUNT as f64).sqrt();
        let later: Vec<f64> = x.iter().zip(&x[1..]).map(|(a, b)| a * b).collect();
        let other: Vec<f64> = x.iter().zip(&y).map(|(a, b)| a * b).collect();
        for (what, got, want, deviation) in [
            ("mean", mean(&x, |v| v), 0.0, 1.0),
            ("variance", mean(&x, |v| v * v), 1.0, 2f64.sqrt()),
            ("third moment", mean(&x, |v| v.powi(3)), 0.0, 15f64.sqrt()),
            ("fourth moment", mean(&x, |v| v.powi(4)), 3.0, 96f64.sqrt()),
            ("share within one", mean(&x, |v| f64::from(v.abs() < 1.0)), 0.682_689_492, 0.466),
            ("product with the next", mean(&later, |v| v), 0.0, 1.0),
            ("product with another stream", mean(&other, |v| v), 0.0, 1.0),
        ] {
            prop_assert!(lab.blind || (got - want).abs() < error * deviation, "{what}: {got} and not {want} +- {}", error * deviation);
        }
        Ok(())
    });
}
