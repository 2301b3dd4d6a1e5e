//! Matrix products by three loops, Fourier transforms by their sums, and the channel mix.

use std::f64::consts::TAU;

use proptest::prelude::*;
use proptest::sample::select;
use pspikessm::backend::{Backend, Tensor};

use super::harness::{Array, Dice, Lab, cases, dim, indices, length, narrowed, once, seed, wanted};

/// x (.., m, k) or (.., k, m), y (.., k, n) or (.., n, k).
fn multiply(x: &Array, tx: bool, y: &Array, ty: bool, batch: &[usize], [m, n, k]: [usize; 3]) -> Array {
    let pick = |values: &Array, transposed: bool, outer: &[usize], row: usize, column: usize| {
        let last = if transposed { [column, row] } else { [row, column] };
        values.at(&[outer, &last].concat())
    };
    Array::of(&[batch, &[m, n]].concat(), |i| {
        let (outer, [row, column]) = (&i[..batch.len()], [i[batch.len()], i[batch.len() + 1]]);
        (0..k).map(|p| pick(x, tx, outer, row, p) * pick(y, ty, outer, p, column)).sum()
    })
}

fn batch() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..4usize, 0..4)
}

/// (m, n, k): around the sizes of register tiles, long and thin, and empty.
fn sizes() -> impl Strategy<Value = [usize; 3]> {
    let odd = select(vec![[1usize, 1, 700], [65, 1, 3], [1, 97, 2], [33, 47, 61], [3, 4, 0], [0, 3, 2], [2, 0, 3]]);
    prop_oneof![3 => (dim(), dim(), dim()).prop_map(|(m, n, k)| [m, n, k]), 2 => odd]
}

/// Matrices that broadcast to `batch`; an axis of either may be missing or 1. A matrix axis of 1 must stay what it is.
fn operand<B: Backend>(lab: &Lab<B>, dice: &mut Dice, batch: &[usize], transposed: bool, rows: usize, columns: usize) -> Array {
    let last = if transposed { [columns, rows] } else { [rows, columns] };
    let shape = [narrowed(dice, batch).as_slice(), &last].concat();
    lab.signed(dice, &shape)
}

pub fn matmul<B: Backend>(lab: &Lab<B>) {
    cases(48, 20, (batch(), sizes(), any::<[bool; 2]>(), seed()), |(batch, [m, n, k], [tx, ty], seed)| {
        let mut dice = Dice::new(seed);
        let (x, y) = (operand(lab, &mut dice, &batch, tx, m, k), operand(lab, &mut dice, &batch, ty, k, n));
        let product = pspikessm::backend::shape::product(&x.shape, tx, &y.shape, ty)?;
        let want = multiply(&x, tx, &y, ty, &product.batch, [m, n, k]);
        let got = lab.backend.matmul(&lab.put(&x)?, tx, &lab.put(&y)?, ty)?;
        lab.near(&format!("{:?} ({tx}) times {:?} ({ty})", x.shape, y.shape), &got, &want, lab.tolerance.sums, x.largest() * y.largest())
    });
}

/// (.., n) to planar (2, .., n / 2 + 1) by the sum.
fn transform(x: &Array) -> Array {
    let (outer, n) = x.shape.split_at(x.shape.len() - 1);
    Array::of(&[&[2], outer, &[n[0] / 2 + 1]].concat(), |i| {
        let (plane, row, bin) = (i[0], &i[1..i.len() - 1], i[i.len() - 1]);
        (0..n[0]).map(|t| x.at(&[row, &[t]].concat()) * turn(plane, bin * t % n[0], n[0])).sum()
    })
}

/// The real (0) or imaginary (1) part of e^(-2 pi i step / n).
fn turn(plane: usize, step: usize, n: usize) -> f64 {
    let angle = TAU * step as f64 / n as f64;
    if plane == 0 { angle.cos() } else { -angle.sin() }
}

/// Planar (2, .., n / 2 + 1) to (.., n): every bin but the real ends stands for its conjugate too.
fn transform_back(x: &Array, n: usize) -> Array {
    let outer = &x.shape[1..x.shape.len() - 1];
    let weight = |bin: usize| if bin == 0 || 2 * bin == n { 1.0 } else { 2.0 };
    Array::of(&[outer, &[n]].concat(), |i| {
        let (row, t) = (&i[..outer.len()], i[outer.len()]);
        let term = |plane: usize, bin: usize| x.at(&[&[plane], row, &[bin]].concat()) * turn(plane, bin * t % n, n);
        (0..=n / 2).map(|bin| weight(bin) * (term(0, bin) + if weight(bin) == 1.0 { 0.0 } else { term(1, bin) })).sum::<f64>() / n as f64
    })
}

fn rows() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![]),
        Just(vec![1]),
        Just(vec![0]),
        (1..6usize).prop_map(|b| vec![b]),
        (1..4usize, 1..4usize).prop_map(|(b, h)| vec![b, h])
    ]
}

pub fn rfft<B: Backend>(lab: &Lab<B>) {
    cases(32, 21, (rows(), length(), seed()), |(rows, n, seed)| {
        let x = lab.signed(&mut Dice::new(seed), &[rows.as_slice(), &[n]].concat());
        let spectrum = lab.backend.rfft(&lab.put(&x)?)?;
        lab.near("rfft", &spectrum, &transform(&x), lab.tolerance.sums, x.largest())?;
        lab.near("irfft of rfft", &lab.backend.irfft(&spectrum, n)?, &x, lab.tolerance.sums, 0.0)
    });
}

pub fn irfft<B: Backend>(lab: &Lab<B>) {
    cases(32, 22, (rows(), length(), seed()), |(rows, n, seed)| {
        // The real ends get an imaginary part, which is to be ignored.
        let x = lab.signed(&mut Dice::new(seed), &[&[2], rows.as_slice(), &[n / 2 + 1]].concat());
        lab.near("irfft", &lab.backend.irfft(&lab.put(&x)?, n)?, &transform_back(&x, n), lab.tolerance.sums, x.largest() / n as f64)
    });
}

/// A channel mix: parts (B, K_i, L), weight (H, sum K_i), bias (H).
struct Mix {
    parts: Vec<Array>,
    weight: Array,
    bias: Array,
}

impl Mix {
    fn new<B: Backend>(lab: &Lab<B>, dice: &mut Dice, [batch, d_out, length]: [usize; 3], channels: &[usize]) -> Self {
        Mix {
            parts: channels.iter().map(|&k| lab.signed(dice, &[batch, k, length])).collect(),
            weight: lab.signed(dice, &[d_out, channels.iter().sum()]),
            bias: lab.signed(dice, &[d_out]),
        }
    }

    /// Every product: `f(part, [b, o, t], [b, i, t] in the part, [o, column] in W)`.
    fn each_product(&self, length: usize, mut f: impl FnMut(usize, [usize; 3], [usize; 3], [usize; 2])) {
        let mut column = 0;
        for (p, part) in self.parts.iter().enumerate() {
            for i in indices(&[part.shape[0], self.bias.shape[0], part.shape[1], length]) {
                f(p, [i[0], i[1], i[3]], [i[0], i[2], i[3]], [i[1], column + i[2]]);
            }
            column += part.shape[1];
        }
    }

    fn output(&self, shape: [usize; 3]) -> Array {
        let mut y = Array::of(&shape, |i| self.bias.at(&[i[1]]));
        self.each_product(shape[2], |p, out, x, w| {
            let at = y.offset(&out);
            y.values[at] += self.weight.at(&w) * self.parts[p].at(&x);
        });
        y
    }

    /// Gradients of the parts, of weight and of bias.
    fn gradients(&self, g: &Array) -> Vec<Array> {
        let mut parts: Vec<_> = self.parts.iter().map(|x| Array::zeros(&x.shape)).collect();
        let (mut weight, mut bias) = (Array::zeros(&self.weight.shape), Array::zeros(&self.bias.shape));
        self.each_product(g.shape[2], |p, out, x, w| {
            let (part_at, weight_at) = (parts[p].offset(&x), weight.offset(&w));
            parts[p].values[part_at] += g.at(&out) * self.weight.at(&w);
            weight.values[weight_at] += g.at(&out) * self.parts[p].at(&x);
        });
        indices(&g.shape).for_each(|i| bias.values[i[1]] += g.at(&i));
        parts.into_iter().chain([weight, bias]).collect()
    }
}

fn mixes() -> impl Strategy<Value = ([usize; 3], Vec<usize>, u64)> {
    let shape = (1..11usize, dim(), select(vec![1usize, 2, 5, 16, 33, 67])).prop_map(|(b, h, l)| [b, h, l]);
    let small = (shape, prop::collection::vec(select(vec![1usize, 2, 3, 7, 16]), 1..4), seed());
    // A weight of more than a thousand entries now and then.
    prop_oneof![4 => small, 1 => (Just([9, 67, 5]), Just(vec![16, 17]), seed())]
}

pub fn mix<B: Backend>(lab: &Lab<B>) {
    cases(24, 23, mixes(), |(shape, channels, seed)| {
        let mix = Mix::new(lab, &mut Dice::new(seed), shape, &channels);
        let parts: Vec<Tensor<B>> = mix.parts.iter().map(|x| lab.put(x)).collect::<Result<_, _>>()?;
        let got = lab.backend.mix(&parts.iter().collect::<Vec<_>>(), &lab.put(&mix.weight)?, &lab.put(&mix.bias)?)?;
        lab.near("mix", &got, &mix.output(shape), lab.tolerance.sums, mix.weight.largest() + mix.bias.largest())
    });
    once(|| {
        // A spike train that is silent leaves the bias alone, exactly.
        let mut mix = Mix::new(lab, &mut Dice::new(1), [2, 5, 9], &[3, 4]);
        mix.parts.iter_mut().for_each(|x| x.values.fill(0.0));
        let parts: Vec<Tensor<B>> = mix.parts.iter().map(|x| lab.put(x)).collect::<Result<_, _>>()?;
        let got = lab.backend.mix(&parts.iter().collect::<Vec<_>>(), &lab.put(&mix.weight)?, &lab.put(&mix.bias)?)?;
        lab.same("mix of silence", &got, &mix.output([2, 5, 9]))
    });
}

pub fn mix_gradient<B: Backend>(lab: &Lab<B>) {
    cases(24, 24, mixes(), |(shape, channels, seed)| {
        let mut dice = Dice::new(seed);
        let (mix, g) = (Mix::new(lab, &mut dice, shape, &channels), lab.signed(&mut dice, &shape));
        let parts: Vec<Tensor<B>> = mix.parts.iter().map(|x| lab.put(x)).collect::<Result<_, _>>()?;
        let (parts, weight, g_there) = (parts.iter().collect::<Vec<_>>(), lab.put(&mix.weight)?, lab.put(&g)?);
        let all = lab.backend.mix_grad(&parts, &weight, &g_there, &vec![true; parts.len() + 2])?;
        prop_assert_eq!(all.len(), parts.len() + 2, "gradients of mix");
        for (i, (got, want)) in all.iter().zip(&mix.gradients(&g)).enumerate() {
            lab.near(&format!("gradient {i} of mix"), wanted(got)?, want, lab.tolerance.sums, g.largest())?;
        }
        let needs: Vec<bool> = all.iter().map(|_| dice.flag()).collect();
        lab.only_the_wanted("mix", &needs, &lab.backend.mix_grad(&parts, &weight, &g_there, &needs)?, &all)
    });
}
