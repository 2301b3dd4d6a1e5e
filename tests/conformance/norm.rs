//! Per-channel affine maps and moments, BatchNorm and LayerNorm: two passes over the definition, gradients through the statistics by dual numbers.

use proptest::prelude::*;
use proptest::sample::select;
use pspikessm::backend::{Backend, Binary, Draw, Key, Noise, NormAxes, Spike, SpikeMode, Surrogate};

use super::dual::{Dual, evaluate, gradient};
use super::harness::{Array, Dice, Lab, cases, indices, seed, sequence, wanted};

/// (B, H, L) or (B, H).
fn sequences() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![4 => sequence().prop_map(|s| s.to_vec()), 1 => (1..40usize, 1..20usize).prop_map(|(b, h)| vec![b, h]), 1 => Just(vec![3, 41, 173])]
}

pub fn affine<B: Backend>(lab: &Lab<B>) {
    cases(24, 50, (sequences(), seed()), |(shape, seed)| {
        let mut dice = Dice::new(seed);
        let (x, scale, shift) = (lab.signed(&mut dice, &shape), lab.signed(&mut dice, &shape[1..2]), lab.signed(&mut dice, &shape[1..2]));
        let want = Array::of(&shape, |i| scale.at(&i[1..2]) * x.at(i) + shift.at(&i[1..2]));
        let got = lab.backend.affine(&lab.put(&x)?, &lab.put(&scale)?, &lab.put(&shift)?)?;
        lab.near("affine", &got, &want, lab.tolerance.elementwise, scale.largest() * x.largest())
    });
}

pub fn affine_gradient<B: Backend>(lab: &Lab<B>) {
    cases(24, 51, (sequences(), seed()), |(shape, seed)| {
        let mut dice = Dice::new(seed);
        let (x, scale, g) = (lab.signed(&mut dice, &shape), lab.signed(&mut dice, &shape[1..2]), lab.signed(&mut dice, &shape));
        let mut want = [Array::of(&shape, |i| scale.at(&i[1..2]) * g.at(i)), Array::zeros(&shape[1..2]), Array::zeros(&shape[1..2])];
        for i in indices(&shape) {
            want[1].values[i[1]] += g.at(&i) * x.at(&i);
            want[2].values[i[1]] += g.at(&i);
        }
        let there = [lab.put(&x)?, lab.put(&scale)?, lab.put(&g)?];
        let all = lab.backend.affine_grad(&there[0], &there[1], &there[2], [true; 3])?;
        for (i, (got, want)) in all.iter().zip(&want).enumerate() {
            lab.near(&format!("gradient {i} of affine"), wanted(got)?, want, lab.tolerance.sums, g.largest())?;
        }
        let needs = dice.flags();
        lab.only_the_wanted("affine", &needs, &lab.backend.affine_grad(&there[0], &there[1], &there[2], needs)?, &all)
    });
}

/// The positions of the values that share one mean and variance, group after group.
fn groups(axes: NormAxes, shape: [usize; 3]) -> Vec<Vec<usize>> {
    let [batch, channels, length] = shape;
    let mut groups = vec![Vec::new(); if axes == NormAxes::Batch { channels } else { batch * length }];
    for (position, i) in indices(&shape).enumerate() {
        groups[if axes == NormAxes::Batch { i[1] } else { i[0] * length + i[2] }].push(position);
    }
    groups
}

/// Mean and biased variance of a group.
fn statistics(x: &[Dual], group: &[usize]) -> (Dual, Dual) {
    let share = 1.0 / group.len() as f64;
    let mean = group.iter().map(|&i| x[i]).sum::<Dual>() * share;
    let var = group.iter().map(|&i| (x[i] - mean) * (x[i] - mean)).sum::<Dual>() * share;
    (mean, var)
}

/// Mean and biased variance of every channel: all the means, then all the variances.
fn channel_moments(shape: [usize; 3], x: &[Dual]) -> Vec<Dual> {
    let (mut means, vars): (Vec<_>, Vec<_>) = groups(NormAxes::Batch, shape).iter().map(|group| statistics(x, group)).unzip();
    means.extend(vars);
    means
}

/// Shapes, small or large enough for several threads, and how far x is off centre.
fn populations() -> impl Strategy<Value = ([usize; 3], f64, u64)> {
    (prop_oneof![5 => sequence(), 1 => Just([3, 41, 173]), 1 => Just([17, 33, 5])], select(vec![0.0, 3.0]), seed())
}

pub fn moments<B: Backend>(lab: &Lab<B>) {
    cases(24, 54, populations(), |(shape, offset, seed)| {
        let x = lab.array(&mut Dice::new(seed), &shape, offset - 1.0, offset + 1.0);
        let want = evaluate(&[&x], &[2, shape[1]], |inputs| channel_moments(shape, &inputs[0]));
        lab.near("moments", &lab.backend.moments(&lab.put(&x)?)?, &want, lab.tolerance.sums, x.largest())
    });
}

pub fn moments_of_spikes<B: Backend>(lab: &Lab<B>) {
    cases(12, 56, (populations(), select(vec![0.0, 0.125, 1.0])), |((shape, _, seed), rate)| {
        let (x, there) = lab.spikes(&mut Dice::new(seed), &Array::of(&shape, |_| rate))?;
        let want = evaluate(&[&x], &[2, shape[1]], |inputs| channel_moments(shape, &inputs[0]));
        lab.near("moments of spikes", &lab.backend.moments(&there)?, &want, lab.tolerance.sums, x.largest())
    });
}

pub fn moments_gradient<B: Backend>(lab: &Lab<B>) {
    let small = populations().prop_filter("small", |(shape, ..)| shape.iter().product::<usize>() <= 600);
    cases(24, 55, small, |(shape, offset, seed)| {
        let mut dice = Dice::new(seed);
        let (x, g) = (lab.array(&mut dice, &shape, offset - 1.0, offset + 1.0), lab.signed(&mut dice, &[2, shape[1]]));
        let there = lab.put(&x)?;
        let got = lab.backend.moments_grad(&there, &lab.backend.moments(&there)?, &lab.put(&g)?)?;
        let want = gradient(&[&x], &g, |inputs| channel_moments(shape, &inputs[0]));
        // Every value has its share of the mean's gradient and, times its distance from the mean, of the variance's.
        let share = g.largest() / (shape[0] * shape[2]) as f64;
        lab.near("the gradient of moments", &got, &want[0], lab.tolerance.sums, share * (1.0 + x.largest()))?;
        // To a gradient that nobody else holds, and to one that is wanted unchanged: what it would be on its own, added.
        let earlier = lab.signed(&mut dice, &shape);
        let sum = lab.backend.binary(Binary::Add, &lab.put(&earlier)?, &got)?;
        let (given, kept) = (lab.put(&earlier)?, lab.put(&earlier)?);
        let before = lab.get(&kept)?;
        for earlier in [given, kept.clone()] {
            let moments = lab.backend.moments(&there)?;
            let added = lab.backend.add_moments_grad(&there, &moments, &lab.put(&g)?, earlier)?;
            lab.same("an added gradient of moments", &added, &lab.get(&sum)?)?;
        }
        lab.same("the gradient that was kept", &kept, &before)
    });
}

/// gamma (x - mean) / sqrt(var + eps) + beta of inputs (x, gamma, beta).
fn define(axes: NormAxes, shape: [usize; 3], eps: f64, inputs: &[Vec<Dual>]) -> Vec<Dual> {
    let [x, gamma, beta] = inputs else { panic!("x, gamma, beta") };
    let mut out = vec![Dual::default(); x.len()];
    for group in groups(axes, shape) {
        let (mean, var) = statistics(x, &group);
        for i in group {
            let h = i / shape[2] % shape[1];
            out[i] = gamma[h] * (x[i] - mean) / (var + eps).sqrt() + beta[h];
        }
    }
    out
}

fn both_axes() -> impl Strategy<Value = NormAxes> {
    select(NormAxes::ALL.to_vec())
}

/// x off centre by `offset`, gamma around 1, beta.
fn inputs<B: Backend>(lab: &Lab<B>, dice: &mut Dice, shape: [usize; 3], offset: f64) -> [Array; 3] {
    [lab.array(dice, &shape, offset - 1.0, offset + 1.0), lab.array(dice, &shape[1..2], 0.5, 1.5), lab.signed(dice, &shape[1..2])]
}

const EPS: f64 = 1e-5;

/// The largest 1 / sqrt(var + eps) of groups with at least `members` values. Of groups of two or more, it is what a rounding of x grows
/// by; a group of one is its own mean.
fn steepest(axes: NormAxes, shape: [usize; 3], x: &Array, members: usize) -> f64 {
    let (x, groups) = (super::dual::constants(x), groups(axes, shape));
    let large = groups.iter().filter(|group| group.len() >= members);
    large.map(|group| (statistics(&x, group).1.value + EPS).sqrt().recip()).fold(0.0, f64::max)
}

pub fn normalize<B: Backend>(lab: &Lab<B>) {
    let shapes = prop_oneof![5 => sequence(), 1 => Just([3, 41, 173])];
    cases(32, 52, (both_axes(), shapes, select(vec![0.0, 3.0]), seed()), |(axes, shape, offset, seed)| {
        let [x, gamma, beta] = inputs(lab, &mut Dice::new(seed), shape, offset);
        let got = lab.backend.normalize(axes, &lab.put(&x)?, &lab.put(&gamma)?, &lab.put(&beta)?, EPS)?;
        let of_groups = if axes == NormAxes::Batch { vec![shape[1]] } else { vec![shape[0], shape[2]] };
        let constants = super::dual::constants(&x);
        let (mean, var): (Vec<f64>, Vec<f64>) =
            groups(axes, shape).iter().map(|group| statistics(&constants, group)).map(|(m, v)| (m.value, v.value)).unzip();
        lab.near("the mean", &got.mean, &Array::new(&of_groups, mean), lab.tolerance.sums, x.largest())?;
        lab.near("the variance", &got.var, &Array::new(&of_groups, var), lab.tolerance.sums, x.largest())?;
        let want = evaluate(&[&x, &gamma, &beta], &shape, |inputs| define(axes, shape, EPS, inputs));
        lab.near(&format!("{axes:?} norm"), &got.output, &want, lab.tolerance.sums, x.largest() * steepest(axes, shape, &x, 2))
    });
}

pub fn normalize_gradient<B: Backend>(lab: &Lab<B>) {
    let small = |n: usize| sequence().prop_filter("small", move |s| s.iter().product::<usize>() <= n);
    cases(32, 53, (both_axes(), small(400), select(vec![0.0, 3.0]), seed()), |(axes, shape, offset, seed)| {
        let mut dice = Dice::new(seed);
        let ([x, gamma, beta], g) = (inputs(lab, &mut dice, shape, offset), lab.signed(&mut dice, &shape));
        let (x_there, gamma_there) = (lab.put(&x)?, lab.put(&gamma)?);
        let there = lab.backend.normalize(axes, &x_there, &gamma_there, &lab.put(&beta)?, EPS)?;
        let got = lab.backend.normalize_grad(axes, &x_there, &gamma_there, (&there.mean, &there.var), EPS, &lab.put(&g)?)?;
        let want = gradient(&[&x, &gamma, &beta], &g, |inputs| define(axes, shape, EPS, inputs));
        // A rounding of x moves the normalised x by `sway`, and that moves gx, itself of the size of `steep`.
        let (steep, sway) = (steepest(axes, shape, &x, 1), x.largest() * steepest(axes, shape, &x, 2));
        let terms = [gamma.largest() * steep * (1.0 + sway), 1.0 + sway, 1.0];
        for (i, ((got, want), terms)) in got.iter().zip(&want).zip(terms).enumerate() {
            lab.near(&format!("gradient {i} of {axes:?} norm"), got, want, lab.tolerance.sums, terms * g.largest())?;
        }
        Ok(())
    });
}

/// The same bits from a remembered tensor as from the one that was normalised, while what it came from is held and afterwards.
pub fn what_was_normalized_is_remembered_as_it_was<B: Backend>(lab: &Lab<B>) {
    cases(24, 57, (both_axes(), populations(), any::<bool>()), |(axes, (shape, offset, seed), held)| {
        let mut dice = Dice::new(seed);
        let [x, gamma, beta] = inputs(lab, &mut dice, shape, offset);
        let (g, scale, shift) = (lab.signed(&mut dice, &shape), lab.signed(&mut dice, &shape[1..2]), lab.signed(&mut dice, &shape[1..2]));
        let (x, gamma, beta) = (lab.put(&x)?, lab.put(&gamma)?, lab.put(&beta)?);
        let (g, scale, shift) = (lab.put(&g)?, lab.put(&scale)?, lab.put(&shift)?);
        let made = lab.backend.normalize(axes, &x, &gamma, &beta, EPS)?.output;
        let x = held.then_some(x);
        let remembered = lab.backend.lean(&made);
        drop(x);
        for surrogate in [Surrogate::Clamp, Surrogate::Atan { alpha: 2.0 }] {
            let spike = Spike { noise: Noise::Stream(Draw::new(Key::new(seed))), mode: SpikeMode::Sampled, surrogate };
            let want = lab.backend.spike_grad(&spike, &made, Some((&scale, &shift)), &g, [true; 3])?;
            let got = lab.backend.spike_grad(&spike, &remembered, Some((&scale, &shift)), &g, [true; 3])?;
            lab.only_the_wanted("of what is remembered", &[true; 3], &got, &want)?;
            let drawn = lab.backend.spike(&spike, &remembered, None)?;
            lab.same("its spikes", &drawn, &lab.get(&lab.backend.spike(&spike, &made, None)?)?)?;
        }
        let flat = remembered.reshape(&[shape.iter().product()])?;
        lab.same("what is remembered, in another shape", &flat, &Array::new(flat.shape(), lab.get(&made)?.values))?;
        lab.same("what is remembered", &remembered, &lab.get(&made)?)
    });
}
