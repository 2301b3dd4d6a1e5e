//! Random numbers: the words of the stream, by position or by sample, channel and time, and the moments of what is made of them.

use std::f64::consts::TAU;

use proptest::prelude::*;
use pspikessm::backend::*;
use rand_core::Rng;

use super::harness::{Array, Dice, Lab, any_draw, cases, drawn, in_any_batch, once, seed, sequence, shape};

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

pub fn draws_are_by_sample_channel_and_time<B: Backend>(lab: &Lab<B>) {
    cases(48, 42, (shape(), seed()), |(shape, seed)| {
        let draw = any_draw(&mut Dice::new(seed), if shape.len() < 2 { 1 } else { shape[0] });
        let want = drawn(draw, &shape);
        lab.same("a draw", &lab.backend.draw_uniform(draw, &shape)?, &want)?;
        // The same numbers whatever the backend computes in.
        let other = Lab { backend: Cpu::<f64>::new(), tolerance: lab.tolerance, blind: false };
        other.same("a draw in f64", &other.backend.draw_uniform(draw, &shape)?, &want)
    });
}

pub fn draws_do_not_depend_on_the_batch<B: Backend>(lab: &Lab<B>) {
    cases(16, 43, (sequence(), seed()), |([half, channels, length], seed)| {
        let draw = any_draw(&mut Dice::new(seed), 1);
        let run = |draw: Draw, shape: &[usize]| lab.get(&lab.backend.draw_uniform(draw, shape)?);
        in_any_batch(lab, draw, &Array::zeros(&[2 * half, channels, length]), true, |draw, x| run(draw, &x.shape))?;
        let shape = [half, channels, length];
        let (few, more) = (run(draw, &shape)?, run(draw, &[half, channels + 3, length])?);
        prop_assert!(lab.blind || more.part([0; 3], shape) == few, "more channels");
        // (B, H) is one step.
        prop_assert!(lab.blind || run(draw, &shape[..2])?.values == few.part([0; 3], [half, channels, 1]).values, "no time axis");
        Ok(())
    });
}

pub fn a_batch_that_is_not_whole_samples_is_refused<B: Backend>(lab: &Lab<B>) {
    for (sides, shape) in [(0, &[4, 1, 1][..]), (2, &[3, 2, 5]), (2, &[8])] {
        let draw = Draw::new(Key::new(1)).with_samples(Samples { first: 0, sides });
        assert!(lab.backend.draw_uniform(draw, shape).is_err(), "{sides} sides of {shape:?}");
    }
}

pub fn rows_of_a_draw_are_uncorrelated<B: Backend>(lab: &Lab<B>) {
    once(|| {
        const SHAPE: [usize; 3] = [60, 40, 50];
        // Of mean 0 and variance 1.
        let draw = |draw: Draw, shape: &[usize]| -> Result<Array, TestCaseError> {
            let mut u = lab.get(&lab.backend.draw_uniform(draw, shape)?)?;
            u.values.iter_mut().for_each(|u| *u = (*u - 0.5) * 12f64.sqrt());
            Ok(u)
        };
        let (numbers, other) = (draw(Draw::new(Key::new(12)), &SHAPE)?, draw(Draw::new(Key::new(12).fold(0)), &SHAPE)?);
        // First words alone, as tied dropout draws them.
        let firsts = draw(Draw::new(Key::new(13)), &[400, 300, 1])?;
        let distant = |x: &Array, [b, h, t]: [usize; 3]| {
            let shape = [x.shape[0] - b, x.shape[1] - h, x.shape[2] - t];
            let (near, far) = (x.part([0; 3], shape), x.part([b, h, t], shape));
            near.values.iter().zip(&far.values).map(|(a, b)| a * b).collect::<Vec<f64>>()
        };
        let mut products = vec![("values", numbers.values.clone()), ("first values", firsts.values.clone())];
        products.push(("products with another key's", numbers.values.iter().zip(&other.values).map(|(a, b)| a * b).collect()));
        for apart in
            [[0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 2, 0], [1, 0, 0], [2, 0, 0], [1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1], [0, 16, 0]]
        {
            products.push(("products of neighbours", distant(&numbers, apart)));
        }
        for apart in [[0, 1, 0], [1, 0, 0], [1, 1, 0], [0, 2, 0], [2, 0, 0], [0, 16, 0]] {
            products.push(("products of neighbouring first values", distant(&firsts, apart)));
        }
        for (what, terms) in &products {
            // Each term has mean 0 and variance 1; five standard errors.
            let (mean, limit) = (mean(terms, |v| v), 5.0 / (terms.len() as f64).sqrt());
            prop_assert!(lab.blind || mean.abs() < limit, "the mean of {what} is {mean}, beyond {limit}");
        }
        let variance = mean(&numbers.values, |v| v * v);
        prop_assert!(
            lab.blind || (variance - 1.0).abs() < 5.0 * 0.8f64.sqrt() / (numbers.values.len() as f64).sqrt(),
            "variance {variance}"
        );
        Ok(())
    });
}
