//! Extremes, products, places of maxima, running sums and the softmax, over any axes.

use proptest::prelude::*;
use pspikessm::backend::{Backend, Reduction};

use super::dual::{Dual, evaluate, gradient};
use super::harness::{Array, Dice, Lab, Verdict, cases, filled_shape, indices, once, seed, shape};

/// Shapes whose reductions are split in every way: of long rows, of long columns, of axes between others.
const LARGE: [(&[usize], &[&[usize]]); 3] =
    [(&[9000, 5], &[&[0], &[1], &[0, 1]]), (&[5, 9000], &[&[0], &[1]]), (&[3, 41, 173], &[&[0], &[1], &[2], &[0, 2], &[1, 2]])];

/// Some of the axes of `shape`.
fn some_axes(dice: &mut Dice, shape: &[usize]) -> Vec<usize> {
    let mut axes: Vec<usize> = (0..shape.len()).filter(|_| dice.flag()).collect();
    if dice.flag() {
        axes.reverse();
    }
    axes
}

fn kept(shape: &[usize], axes: &[usize]) -> Vec<usize> {
    shape.iter().enumerate().map(|(axis, &len)| if axes.contains(&axis) { 1 } else { len }).collect()
}

/// x reduced by the definition.
fn reduced(kind: Reduction, x: &Array, axes: &[usize]) -> Array {
    let start = match kind {
        Reduction::Max => f64::NEG_INFINITY,
        Reduction::Min => f64::INFINITY,
        Reduction::Prod => 1.0,
    };
    let to = kept(&x.shape, axes);
    let mut want = Array::new(&to, vec![start; to.iter().product()]);
    for (i, &v) in indices(&x.shape).zip(&x.values) {
        let at = want.offset(&i);
        let out = &mut want.values[at];
        *out = match kind {
            Reduction::Prod => *out * v,
            _ if out.is_nan() || v.is_nan() => f64::NAN,
            Reduction::Max => out.max(v),
            Reduction::Min => out.min(v),
        };
    }
    want
}

fn reduction_is_right<B: Backend>(lab: &Lab<B>, x: &Array, axes: &[usize]) -> Verdict {
    for kind in Reduction::ALL {
        let tolerance = if kind == Reduction::Prod { lab.tolerance.sums } else { 0.0 };
        // Factors around 1, so that long products neither vanish nor explode.
        let x = if kind == Reduction::Prod { lab.hold(Array::of(&x.shape, |i| 1.0 + 0.01 * x.at(i))) } else { x.clone() };
        let got = lab.backend.reduce(kind, &lab.put(&x)?, axes)?;
        lab.near(&format!("{kind:?} over {axes:?} of {:?}", x.shape), &got, &reduced(kind, &x, axes), tolerance, 0.0)?;
    }
    Ok(())
}

pub fn reduce<B: Backend>(lab: &Lab<B>) {
    cases(48, 110, (filled_shape(), seed()), |(shape, seed)| {
        let mut dice = Dice::new(seed);
        let (x, axes) = (lab.signed(&mut dice, &shape), some_axes(&mut dice, &shape));
        reduction_is_right(lab, &x, &axes)
    });
    for (shape, axes) in LARGE.into_iter().flat_map(|(shape, axes)| axes.iter().map(move |axes| (shape, axes))) {
        once(|| reduction_is_right(lab, &lab.signed(&mut Dice::new(1), shape), axes));
    }
    // Nothing to reduce, but something to reduce it over; and the product of nothing.
    once(|| {
        let empty = lab.put(&Array::zeros(&[0, 3]))?;
        for kind in Reduction::ALL {
            lab.same("of no rows", &lab.backend.reduce(kind, &empty, &[1])?, &Array::zeros(&[0, 1]))?;
        }
        lab.same("of nothing", &lab.backend.reduce(Reduction::Prod, &empty, &[0])?, &Array::new(&[1, 3], vec![1.0; 3]))
    });
}

pub fn reduce_of_special_values<B: Backend>(lab: &Lab<B>) {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        cases(16, 111, (filled_shape(), seed()), |(shape, seed)| {
            let mut dice = Dice::new(seed);
            let (mut x, axes) = (lab.signed(&mut dice, &shape), some_axes(&mut dice, &shape));
            let at = dice.below(x.values.len());
            x.values[at] = bad;
            for kind in [Reduction::Max, Reduction::Min] {
                let got = lab.backend.reduce(kind, &lab.put(&x)?, &axes)?;
                lab.same(&format!("{kind:?} over {axes:?} with {bad}"), &got, &reduced(kind, &x, &axes))?;
            }
            Ok(())
        });
    }
}

/// Along `axis`, the first place whose value is not below any other's, NaN being above all.
fn place_of_largest(x: &Array, axis: usize) -> Array {
    Array::of(&kept(&x.shape, &[axis]), |i| {
        let at = |place: usize| x.at(&[&i[..axis], &[place], &i[axis + 1..]].concat());
        let is_largest = |&place: &usize| (0..x.shape[axis]).all(|other| at(place).is_nan() || at(other) <= at(place));
        (0..x.shape[axis]).find(is_largest).map_or(f64::NAN, |place| place as f64)
    })
}

pub fn argmax<B: Backend>(lab: &Lab<B>) {
    cases(48, 112, (filled_shape().prop_filter("an axis", |shape| !shape.is_empty()), seed()), |(shape, seed)| {
        let mut dice = Dice::new(seed);
        let (x, axis) = (lab.signed(&mut dice, &shape), dice.below(shape.len()));
        prop_assume!(shape[axis] <= 200);
        lab.same(&format!("argmax along {axis} of {shape:?}"), &lab.backend.argmax(&lab.put(&x)?, axis)?, &place_of_largest(&x, axis))
    });
    once(|| {
        let mut x = lab.signed(&mut Dice::new(1), &[5, 9000]);
        (0..5).for_each(|row| x.values[9000 * row + 1777 * row + 3] = 2.0);
        let want = Array::of(&[5, 1], |i| (1777 * i[0] + 3) as f64);
        lab.same("argmax of long rows", &lab.backend.argmax(&lab.put(&x)?, 1)?, &want)
    });
}

pub fn argmax_of_ties_and_nan<B: Backend>(lab: &Lab<B>) {
    cases(48, 113, (1..5usize, 1..70usize, 1..5usize, seed()), |(outer, len, inner, seed)| {
        let mut dice = Dice::new(seed);
        let mut x = Array::of(&[outer, len, inner], |_| dice.below(3) as f64);
        for value in &mut x.values {
            match dice.below(60) {
                0 => *value = f64::NAN,
                1 => *value = f64::INFINITY,
                2 => *value = f64::NEG_INFINITY,
                _ => {}
            }
        }
        (0..3).try_for_each(|axis| {
            lab.same(&format!("argmax along {axis}"), &lab.backend.argmax(&lab.put(&x)?, axis)?, &place_of_largest(&x, axis))
        })
    });
    // Nothing but the smallest value there is.
    once(|| {
        let x = Array::new(&[40], vec![f64::NEG_INFINITY; 40]);
        lab.same("argmax of -infinity alone", &lab.backend.argmax(&lab.put(&x)?, 0)?, &Array::zeros(&[1]))
    });
}

/// The running sums of x along `axis` by the definition.
fn running_sums(x: &Array, axis: usize, reverse: bool) -> Array {
    let (mut want, len) = (x.clone(), x.shape[axis]);
    let mut steps: Vec<usize> = (1..len).collect();
    if reverse {
        steps = (0..len.saturating_sub(1)).rev().collect();
    }
    for step in steps {
        let before = if reverse { step + 1 } else { step - 1 };
        for i in indices(&kept(&x.shape, &[axis])) {
            let place = |place: usize| want.offset(&[&i[..axis], &[place], &i[axis + 1..]].concat());
            let (to, from) = (place(step), place(before));
            want.values[to] += want.values[from];
        }
    }
    want
}

pub fn cumsum<B: Backend>(lab: &Lab<B>) {
    let is_right = |x: &Array, axis: usize| {
        [false, true].into_iter().try_for_each(|reverse| {
            let got = lab.backend.cumsum(&lab.put(x)?, axis, reverse)?;
            let what = format!("cumsum along {axis} of {:?}", x.shape);
            lab.near(&what, &got, &running_sums(x, axis, reverse), lab.tolerance.sums, 1.0)
        })
    };
    cases(48, 114, (shape().prop_filter("an axis", |shape| !shape.is_empty()), seed()), |(shape, seed)| {
        let mut dice = Dice::new(seed);
        let x = lab.signed(&mut dice, &shape);
        is_right(&x, dice.below(shape.len()))
    });
    // Rows and columns that are cut into many pieces.
    for (shape, axis) in [([5, 9000], 1), ([9000, 5], 0), ([1, 30_000], 1)] {
        once(|| is_right(&lab.signed(&mut Dice::new(3), &shape), axis));
    }
}

/// The softmax along an axis, or its logarithm, by the definition, of values that cannot overflow.
fn normalized(shape: &[usize], axis: usize, log: bool, x: &[Dual]) -> Vec<Dual> {
    let inner: usize = shape[axis + 1..].iter().product();
    let row = |at: usize| (0..shape[axis]).map(move |k| at / (shape[axis] * inner) * shape[axis] * inner + k * inner + at % inner);
    let total = |at: usize| row(at).map(|other| x[other].exp()).sum::<Dual>();
    (0..x.len()).map(|at| if log { x[at] + -total(at).ln() } else { x[at].exp() / total(at) }).collect()
}

fn axis_of(dice: &mut Dice, shape: &[usize]) -> usize {
    dice.below(shape.len())
}

/// A shape with an axis, small enough for truths that vary one number after another.
fn small() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop::sample::select(vec![1usize, 2, 3, 5, 9, 33]), 1..4)
        .prop_filter("small", |shape| shape.iter().product::<usize>() <= 120)
}

pub fn softmax<B: Backend>(lab: &Lab<B>) {
    cases(48, 115, (small(), seed()), |(shape, seed)| {
        let mut dice = Dice::new(seed);
        let (x, axis) = (lab.array(&mut dice, &shape, -5.0, 5.0), axis_of(&mut dice, &shape));
        let there = lab.put(&x)?;
        let want = |log| evaluate(&[&x], &shape, |x| normalized(&shape, axis, log, &x[0]));
        lab.near("softmax", &lab.backend.softmax(&there, axis)?, &want(false), lab.tolerance.sums, 0.0)?;
        lab.near("log_softmax", &lab.backend.log_softmax(&there, axis)?, &want(true), lab.tolerance.sums, 5.0)
    });
    for shape in [[9000, 5], [5, 9000], [1, 20_000]] {
        for axis in [0, 1] {
            once(|| {
                let x = lab.array(&mut Dice::new(2), &shape, -5.0, 5.0);
                let powers = Array::of(&shape, |i| x.at(i).exp());
                let mut total = Array::zeros(&kept(&shape, &[axis]));
                for (i, v) in indices(&shape).zip(&powers.values) {
                    let at = total.offset(&i);
                    total.values[at] += v;
                }
                let there = lab.put(&x)?;
                let want = Array::of(&shape, |i| powers.at(i) / total.at(i));
                lab.near("softmax", &lab.backend.softmax(&there, axis)?, &want, lab.tolerance.sums, 0.0)?;
                let want = Array::of(&shape, |i| x.at(i) - total.at(i).ln());
                lab.near("log_softmax", &lab.backend.log_softmax(&there, axis)?, &want, lab.tolerance.sums, 5.0)
            });
        }
    }
    once(|| {
        let empty = lab.put(&Array::zeros(&[2, 0, 3]))?;
        (0..3).try_for_each(|axis| {
            lab.same("softmax of nothing", &lab.backend.softmax(&empty, axis)?, &Array::zeros(&[2, 0, 3]))?;
            lab.same("log_softmax of nothing", &lab.backend.log_softmax(&empty, axis)?, &Array::zeros(&[2, 0, 3]))
        })
    });
}

pub fn softmax_of_extreme_values<B: Backend>(lab: &Lab<B>) {
    let (infinite, nan) = (f64::INFINITY, f64::NAN);
    once(|| {
        // Rows of two, what their softmax is, and its logarithm.
        let rows = [
            [[1000.0, 1000.0], [0.5, 0.5], [0.5f64.ln(); 2]],
            [[1000.0, 0.0], [1.0, 0.0], [0.0, -1000.0]],
            [[-1000.0, 0.0], [0.0, 1.0], [-1000.0, 0.0]],
            [[-infinite, 3.0], [0.0, 1.0], [-infinite, 0.0]],
            [[-infinite, -infinite], [nan; 2], [nan; 2]],
            [[infinite, 0.0], [nan; 2], [nan; 2]],
            [[nan, 0.0], [nan; 2], [nan; 2]],
        ];
        let all = |which: usize| Array::new(&[7, 2], rows.iter().flat_map(|row| row[which]).collect());
        let (x, want, log) = (all(0), all(1), all(2));
        let columns = |x: &Array| Array::of(&[2, 7], |i| x.at(&[i[1], i[0]]));
        for (axis, x, want, log) in [(1, x.clone(), want.clone(), log.clone()), (0, columns(&x), columns(&want), columns(&log))] {
            let there = lab.put(&x)?;
            lab.near("softmax", &lab.backend.softmax(&there, axis)?, &want, lab.tolerance.sums, 0.0)?;
            lab.near("log_softmax", &lab.backend.log_softmax(&there, axis)?, &log, lab.tolerance.sums, 0.0)?;
        }
        Ok(())
    });
    // What is masked out has exactly nothing, in a row of any width.
    once(|| {
        for width in [2, 19, 40] {
            let x = Array::of(&[width], |i| if i[0] % 2 == 0 { 1.0 } else { -infinite });
            let share = 1.0 / width.div_ceil(2) as f64;
            let want = Array::of(&[width], |i| if i[0] % 2 == 0 { share } else { 0.0 });
            let got = lab.backend.softmax(&lab.put(&x)?, 0)?;
            lab.near("a masked softmax", &got, &want, lab.tolerance.sums, 0.0)?;
            let leak = lab.get(&got)?.values.iter().skip(1).step_by(2).any(|&v| v != 0.0);
            prop_assert!(lab.blind || !leak, "a masked entry is not 0");
        }
        Ok(())
    });
}

pub fn softmax_gradient<B: Backend>(lab: &Lab<B>) {
    cases(24, 116, (small(), seed()), |(shape, seed)| {
        let mut dice = Dice::new(seed);
        let (x, g, axis) = (lab.array(&mut dice, &shape, -3.0, 3.0), lab.signed(&mut dice, &shape), axis_of(&mut dice, &shape));
        let (there, g_there) = (lab.put(&x)?, lab.put(&g)?);
        for log in [false, true] {
            let want = gradient(&[&x], &g, |x| normalized(&shape, axis, log, &x[0]));
            let got = if log {
                lab.backend.log_softmax_grad(&lab.backend.log_softmax(&there, axis)?, &g_there, axis)?
            } else {
                lab.backend.softmax_grad(&lab.backend.softmax(&there, axis)?, &g_there, axis)?
            };
            lab.near(&format!("the gradient, log {log}"), &got, &want[0], lab.tolerance.sums, 1.0)?;
        }
        Ok(())
    });
}
