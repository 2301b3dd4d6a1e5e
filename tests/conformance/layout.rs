//! Moving values: nothing is computed, so everything is exact (but the embedding's gradient, which is a sum).

use proptest::prelude::*;
use proptest::sample::select;
use pspikessm::backend::{Backend, Tensor};

use super::harness::{Array, Dice, Lab, cases, filled_shape, length, seed, shape};

fn with<R>(index: &[usize], axis: usize, at: usize, f: impl FnOnce(&[usize]) -> R) -> R {
    let mut index = index.to_vec();
    index[axis] = at;
    f(&index)
}

/// Shapes with at least one axis.
fn axes() -> impl Strategy<Value = Vec<usize>> {
    shape().prop_filter("has axes", |shape| !shape.is_empty())
}

pub fn permute<B: Backend>(lab: &Lab<B>) {
    cases(32, 30, (shape(), seed()), |(shape, seed)| {
        let mut dice = Dice::new(seed);
        let x = lab.signed(&mut dice, &shape);
        let mut axes: Vec<usize> = (0..shape.len()).collect();
        (1..axes.len()).rev().for_each(|i| axes.swap(i, dice.below(i + 1)));
        let permuted: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
        let want = Array::of(&permuted, |i| {
            let mut from = vec![0; i.len()];
            axes.iter().zip(i).for_each(|(&axis, &at)| from[axis] = at);
            x.at(&from)
        });
        lab.same(&format!("permute by {axes:?}"), &lab.backend.permute(&lab.put(&x)?, &axes)?, &want)
    });
}

pub fn slice<B: Backend>(lab: &Lab<B>) {
    cases(32, 31, (filled_shape().prop_filter("has axes", |s| !s.is_empty()), seed()), |(shape, seed)| {
        let mut dice = Dice::new(seed);
        let (x, axis) = (lab.signed(&mut dice, &shape), dice.below(shape.len()));
        let start = dice.below(shape[axis]);
        let len = 1 + dice.below(shape[axis] - start);
        let mut kept = shape;
        kept[axis] = len;
        let want = Array::of(&kept, |i| with(i, axis, start + i[axis], |i| x.at(i)));
        lab.same(&format!("slice {start}..+{len} of axis {axis}"), &lab.backend.slice(&lab.put(&x)?, axis, start, len)?, &want)
    });
}

pub fn concat<B: Backend>(lab: &Lab<B>) {
    cases(32, 32, (axes(), 1..4usize, seed()), |(mut shape, count, seed)| {
        let mut dice = Dice::new(seed);
        let axis = dice.below(shape.len());
        // Parts of different widths, an empty one among them now and then.
        let parts: Vec<Array> = (0..count)
            .map(|_| {
                shape[axis] = dice.below(4);
                lab.signed(&mut dice, &shape)
            })
            .collect();
        shape[axis] = parts.iter().map(|x| x.shape[axis]).sum();
        let want = Array::of(&shape, |i| {
            let (mut part, mut at) = (0, i[axis]);
            while at >= parts[part].shape[axis] {
                at -= parts[part].shape[axis];
                part += 1;
            }
            with(i, axis, at, |i| parts[part].at(i))
        });
        let there: Vec<Tensor<B>> = parts.iter().map(|x| lab.put(x)).collect::<Result<_, _>>()?;
        lab.same(&format!("concat along {axis}"), &lab.backend.concat(&there.iter().collect::<Vec<_>>(), axis)?, &want)
    });
}

pub fn flip<B: Backend>(lab: &Lab<B>) {
    cases(32, 33, (axes(), seed()), |(shape, seed)| {
        let mut dice = Dice::new(seed);
        let (x, axis) = (lab.signed(&mut dice, &shape), dice.below(shape.len()));
        let want = Array::of(&shape, |i| with(i, axis, shape[axis] - 1 - i[axis], |i| x.at(i)));
        lab.same(&format!("flip of axis {axis}"), &lab.backend.flip(&lab.put(&x)?, axis)?, &want)
    });
}

/// (rows, d_model, batch, length, seed).
fn embeddings() -> impl Strategy<Value = (usize, usize, usize, usize, u64)> {
    (select(vec![1usize, 2, 17, 300]), select(vec![1usize, 3, 8, 33]), 1..5usize, length(), seed())
}

pub fn embed<B: Backend>(lab: &Lab<B>) {
    cases(16, 34, embeddings(), |(rows, d_model, batch, length, seed)| {
        let mut dice = Dice::new(seed);
        let table = lab.signed(&mut dice, &[rows, d_model]);
        let tokens: Vec<u32> = (0..batch * length).map(|_| dice.below(rows) as u32).collect();
        let want = Array::of(&[batch, d_model, length], |i| table.at(&[tokens[i[0] * length + i[2]] as usize, i[1]]));
        lab.same("embed", &lab.backend.embed(&lab.put(&table)?, &tokens, batch)?, &want)
    });
}

pub fn embed_gradient<B: Backend>(lab: &Lab<B>) {
    cases(16, 35, embeddings(), |(rows, d_model, batch, length, seed)| {
        let mut dice = Dice::new(seed);
        let g = lab.signed(&mut dice, &[batch, d_model, length]);
        let tokens: Vec<u32> = (0..batch * length).map(|_| dice.below(rows) as u32).collect();
        let mut want = Array::zeros(&[rows, d_model]);
        for i in super::harness::indices(&g.shape) {
            want.values[tokens[i[0] * length + i[2]] as usize * d_model + i[1]] += g.at(&i);
        }
        lab.near("embed_grad", &lab.backend.embed_grad(rows, &tokens, &lab.put(&g)?)?, &want, lab.tolerance.sums, g.largest())
    });
}

/// (shape with an axis, axis, index into it, whether of runs): few and many entries, named once, twice or never.
fn picked(dice: &mut Dice, shape: &[usize]) -> (usize, Vec<u32>) {
    let axis = dice.below(shape.len());
    let len = shape[axis];
    let mut index = Vec::new();
    while index.is_empty() || index.len() < len && dice.unit() < 0.9 {
        let first = dice.below(len);
        let run = if dice.flag() { 1 } else { 1 + dice.below(len - first) };
        index.extend((first..first + run).map(|i| i as u32));
    }
    (axis, index)
}

pub fn index_select<B: Backend>(lab: &Lab<B>) {
    cases(32, 36, (filled_shape().prop_filter("has axes", |s| !s.is_empty()), seed()), |(shape, seed)| {
        let mut dice = Dice::new(seed);
        let x = lab.signed(&mut dice, &shape);
        let (axis, index) = picked(&mut dice, &shape);
        let mut kept = shape;
        kept[axis] = index.len();
        let want = Array::of(&kept, |i| with(i, axis, index[i[axis]] as usize, |i| x.at(i)));
        lab.same(&format!("{} entries of axis {axis}", index.len()), &lab.backend.index_select(&lab.put(&x)?, axis, &index)?, &want)
    });
}

pub fn index_add<B: Backend>(lab: &Lab<B>) {
    cases(32, 37, (filled_shape().prop_filter("has axes", |s| !s.is_empty()), seed()), |(shape, seed)| {
        let mut dice = Dice::new(seed);
        let (axis, index) = picked(&mut dice, &shape);
        let mut given = shape.clone();
        given[axis] = index.len();
        let g = lab.signed(&mut dice, &given);
        let mut want = Array::zeros(&shape);
        for i in super::harness::indices(&given) {
            let to = with(&i, axis, index[i[axis]] as usize, |i| want.offset(i));
            want.values[to] += g.at(&i);
        }
        let got = lab.backend.index_add(&lab.put(&g)?, axis, &index, shape[axis])?;
        lab.near(&format!("{} entries added along axis {axis}", index.len()), &got, &want, lab.tolerance.sums, g.largest())
    });
}

/// Every entry of few large blocks, in an order that jumps, and often more than once.
pub fn index_of_large_axes<B: Backend>(lab: &Lab<B>) {
    cases(4, 38, (select(vec![vec![40_009usize], vec![2, 20_011], vec![9_001, 3], vec![9, 17_001]]), seed()), |(shape, seed)| {
        let mut dice = Dice::new(seed);
        let axis = usize::from(shape.len() > 1 && shape[1] > 3);
        let index: Vec<u32> = (0..shape[axis] + 77).map(|i| (i * 7_919 % shape[axis]) as u32).collect();
        let x = lab.signed(&mut dice, &shape);
        let mut longer = shape.clone();
        longer[axis] = index.len();
        let want = Array::of(&longer, |i| with(i, axis, index[i[axis]] as usize, |i| x.at(i)));
        let picked = lab.backend.index_select(&lab.put(&x)?, axis, &index)?;
        lab.same("many entries", &picked, &want)?;
        let mut sums = Array::zeros(&shape);
        for i in super::harness::indices(&longer) {
            let to = with(&i, axis, index[i[axis]] as usize, |i| sums.offset(i));
            sums.values[to] += want.at(&i);
        }
        lab.near("many sums", &lab.backend.index_add(&picked, axis, &index, shape[axis])?, &sums, lab.tolerance.sums, 1.0)
    });
}
