//! Elementwise functions with their derivatives, broadcasting, and its adjoint.

use proptest::prelude::*;
use proptest::sample::select;
use pspikessm::backend::{Backend, Binary, Unary};

use super::dual::Dual;
use super::harness::{Array, Dice, Lab, Verdict, cases, filled_shape, indices, narrowed, once, seed, shape};

const FUNCTIONS: [Unary; 13] = [
    Unary::Neg,
    Unary::Exp,
    Unary::Ln,
    Unary::Sqrt,
    Unary::Recip,
    Unary::Square,
    Unary::Tanh,
    Unary::Sigmoid,
    Unary::Softplus,
    Unary::Relu,
    Unary::Gelu,
    Unary::Clamp(-0.5, 0.75),
    Unary::Linear(1.75, -0.25),
];

/// The truth. The match is exhaustive: a new function is refused here until it has a definition, and belongs in `FUNCTIONS` too.
pub fn define(f: Unary, x: Dual) -> Dual {
    match f {
        Unary::Neg => -x,
        Unary::Exp => x.exp(),
        Unary::Ln => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Recip => x.recip(),
        Unary::Square => x * x,
        Unary::Tanh => x.map(x.value.tanh(), x.value.cosh().powi(-2)),
        Unary::Sigmoid => x.sigmoid(),
        Unary::Softplus => x.softplus(),
        Unary::Relu if x.value > 0.0 => x,
        Unary::Relu => 0.0.into(),
        Unary::Gelu => x * x.map(normal_cdf(x.value), normal_density(x.value)),
        Unary::Clamp(low, _) if x.value < low => low.into(),
        Unary::Clamp(_, high) if x.value > high => high.into(),
        Unary::Clamp(..) => x,
        Unary::Linear(scale, shift) => x * scale + shift,
    }
}

fn normal_density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

/// Marsaglia's series, whose terms are all of one sign: 1/2 + phi(x) (x + x^3 / 3 + x^5 / (3 5) + ..). In the lower tail, where that
/// would cancel, Laplace's continued fraction: phi(x) / (z + 1 / (z + 2 / (z + ..))) with z = -x.
fn normal_cdf(x: f64) -> f64 {
    if x < -2.5 {
        return normal_density(x) / (1..200).rev().fold(-x, |tail, k| -x + f64::from(k) / tail);
    }
    let (mut term, mut sum, mut odd) = (x, 0.0, 1.0);
    while term.abs() > 1e-18 * x.abs() {
        sum += term;
        odd += 2.0;
        term *= x * x / odd;
    }
    0.5 + normal_density(x) * sum
}

/// Arguments up to `spread` from where the function is defined.
fn arguments<B: Backend>(lab: &Lab<B>, dice: &mut Dice, f: Unary, shape: &[usize], spread: f64) -> Array {
    match f {
        Unary::Ln | Unary::Sqrt => lab.array(dice, shape, 0.03, 0.03 + spread),
        Unary::Recip if dice.flag() => lab.array(dice, shape, -0.03 - spread, -0.03),
        Unary::Recip => lab.array(dice, shape, 0.03, 0.03 + spread),
        _ => lab.array(dice, shape, -spread, spread),
    }
}

/// The size of the terms where a function's value (or, times g, its derivative) is a difference of larger ones.
fn terms(f: Unary, largest: f64) -> [f64; 2] {
    match f {
        Unary::Linear(scale, shift) => [scale.abs() * largest + shift.abs(), 0.0],
        Unary::Tanh | Unary::Gelu => [0.0, 1.0],
        _ => [0.0, 0.0],
    }
}

fn spreads() -> impl Strategy<Value = f64> {
    select(vec![0.03, 1.0, 6.0])
}

pub fn unary<B: Backend>(lab: &Lab<B>) {
    cases(16, 10, (shape(), spreads(), seed()), |(shape, spread, seed)| {
        let mut dice = Dice::new(seed);
        for f in FUNCTIONS {
            let x = arguments(lab, &mut dice, f, &shape, spread);
            let want = Array::new(&shape, x.values.iter().map(|&x| define(f, x.into()).value).collect());
            lab.near(&format!("{f:?}"), &lab.backend.unary(f, &lab.put(&x)?)?, &want, lab.tolerance.elementwise, terms(f, x.largest())[0])?;
        }
        Ok(())
    });
}

pub fn unary_gradient<B: Backend>(lab: &Lab<B>) {
    cases(16, 11, (shape(), spreads(), seed()), |(shape, spread, seed)| {
        let mut dice = Dice::new(seed);
        for f in FUNCTIONS {
            let (x, g) = (arguments(lab, &mut dice, f, &shape, spread), lab.signed(&mut dice, &shape));
            let slopes = x.values.iter().map(|&value| define(f, Dual { value, slope: 1.0 }).slope);
            let want = Array::new(&shape, slopes.zip(&g.values).map(|(slope, g)| slope * g).collect());
            let got = lab.backend.unary_grad(f, &lab.put(&x)?, &lab.put(&g)?)?;
            lab.near(&format!("the derivative of {f:?}"), &got, &want, lab.tolerance.elementwise, terms(f, 0.0)[1] * g.largest())?;
        }
        Ok(())
    });
}

/// f and f' at `x` are exactly these.
fn point<B: Backend>(lab: &Lab<B>, f: Unary, x: f64, value: f64, slope: f64) -> Verdict {
    let one = |v: f64| lab.put(&Array::new(&[1], vec![v]));
    lab.same(&format!("{f:?} at {x}"), &lab.backend.unary(f, &one(x)?)?, &Array::new(&[1], vec![value]))?;
    let got = lab.backend.unary_grad(f, &one(x)?, &one(3.0)?)?;
    lab.same(&format!("the derivative of {f:?} at {x}"), &got, &Array::new(&[1], vec![3.0 * slope]))
}

pub fn unary_special_points<B: Backend>(lab: &Lab<B>) {
    once(|| {
        let clamp = Unary::Clamp(-0.5, 0.75);
        for (f, x, value, slope) in [
            (Unary::Relu, 0.0, 0.0, 0.0),
            (Unary::Relu, -2.0, 0.0, 0.0),
            (Unary::Relu, 2.0, 2.0, 1.0),
            (Unary::Relu, f64::INFINITY, f64::INFINITY, 1.0),
            (Unary::Gelu, 100.0, 100.0, 1.0),
            (clamp, -0.5, -0.5, 1.0),
            (clamp, 0.75, 0.75, 1.0),
            (clamp, -0.5 - 1e-6, -0.5, 0.0),
            (clamp, 0.75 + 1e-6, 0.75, 0.0),
            (clamp, f64::NEG_INFINITY, -0.5, 0.0),
            (clamp, f64::INFINITY, 0.75, 0.0),
            (Unary::Exp, 0.0, 1.0, 1.0),
            (Unary::Softplus, 1000.0, 1000.0, 1.0),
            (Unary::Softplus, -1000.0, 0.0, 0.0),
            (Unary::Sigmoid, 1000.0, 1.0, 0.0),
            (Unary::Sigmoid, -1000.0, 0.0, 0.0),
            (Unary::Tanh, 1000.0, 1.0, 0.0),
            (Unary::Tanh, -1000.0, -1.0, 0.0),
        ] {
            point(lab, f, x, value, slope)?;
        }
        let zero = lab.put(&Array::zeros(&[1]))?;
        lab.same("Gelu at 0", &lab.backend.unary(Unary::Gelu, &zero)?, &Array::zeros(&[1]))?;
        let far = lab.backend.unary(Unary::Gelu, &lab.put(&Array::new(&[2], vec![100.0, -100.0]))?)?;
        lab.near("Gelu far out", &far, &Array::new(&[2], vec![100.0, 0.0]), lab.tolerance.elementwise, 0.0)
    });
}

pub fn unary_propagates_nan<B: Backend>(lab: &Lab<B>) {
    once(|| {
        // In every position of a vector.
        for (f, at) in FUNCTIONS.into_iter().flat_map(|f| (0..19).map(move |at| (f, at))) {
            let mut x = Array::of(&[19], |_| 0.5);
            x.values[at] = f64::NAN;
            let got = lab.get(&lab.backend.unary(f, &lab.put(&x)?)?)?;
            let nan: Vec<usize> = (0..19).filter(|&i| got.values[i].is_nan()).collect();
            prop_assert!(lab.blind || nan == [at], "{f:?} of NaN in place {at} is NaN in {nan:?}");
        }
        Ok(())
    });
}

fn combine(f: Binary, x: f64, y: f64) -> f64 {
    match f {
        Binary::Add => x + y,
        Binary::Sub => x - y,
        Binary::Mul => x * y,
        Binary::Div => x / y,
    }
}

pub fn binary<B: Backend>(lab: &Lab<B>) {
    cases(32, 12, (shape(), 0..3usize, seed()), |(shape, stretched, seed)| {
        let mut dice = Dice::new(seed);
        // One operand keeps the whole shape, or neither does.
        let left = if stretched == 0 { shape.clone() } else { narrowed(&mut dice, &shape) };
        let right = if stretched == 1 { shape.clone() } else { narrowed(&mut dice, &shape) };
        let joint = pspikessm::internal::broadcast("binary", &left, &right)?;
        let (x, y) = (lab.signed(&mut dice, &left), lab.array(&mut dice, &right, 0.1, 1.0));
        for f in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
            let want = Array::of(&joint, |i| combine(f, x.at(i), y.at(i)));
            let got = lab.backend.binary(f, &lab.put(&x)?, &lab.put(&y)?)?;
            lab.near(&format!("{f:?} of {left:?} and {right:?}"), &got, &want, lab.tolerance.elementwise, 0.0)?;
            let (twice, want) = (lab.put(&y)?, Array::of(&right, |i| combine(f, y.at(i), y.at(i))));
            lab.near(
                &format!("{f:?} of a tensor and itself"),
                &lab.backend.binary(f, &twice, &twice)?,
                &want,
                lab.tolerance.elementwise,
                0.0,
            )?;
        }
        Ok(())
    });
}

pub fn binary_propagates_nan<B: Backend>(lab: &Lab<B>) {
    cases(8, 13, (1..20usize, 1..20usize, seed()), |(rows, columns, seed)| {
        let mut dice = Dice::new(seed);
        let (mut x, y) = (lab.signed(&mut dice, &[rows, columns]), lab.array(&mut dice, &[columns], 0.1, 1.0));
        x.values[dice.below(rows * columns)] = f64::NAN;
        for f in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
            for (x, y) in [(&x, &y), (&y, &x)] {
                let want = Array::of(&[rows, columns], |i| combine(f, x.at(i), y.at(i)));
                let got = lab.backend.binary(f, &lab.put(x)?, &lab.put(y)?)?;
                lab.near(&format!("{f:?} with a NaN"), &got, &want, lab.tolerance.elementwise, 0.0)?;
            }
        }
        Ok(())
    });
}

fn sum_is_right<B: Backend>(lab: &Lab<B>, x: &Array, to: &[usize]) -> Verdict {
    let mut want = Array::zeros(to);
    for (i, &v) in indices(&x.shape).zip(&x.values) {
        let at = want.offset(&i);
        want.values[at] += v;
    }
    lab.near(&format!("sum_to {to:?}"), &lab.backend.sum_to(&lab.put(x)?, to)?, &want, lab.tolerance.sums, x.largest())
}

pub fn sum_to<B: Backend>(lab: &Lab<B>) {
    cases(48, 14, (shape(), seed()), |(shape, seed)| {
        let mut dice = Dice::new(seed);
        let (x, to) = (lab.signed(&mut dice, &shape), narrowed(&mut dice, &shape));
        sum_is_right(lab, &x, &to)
    });
    // Every way to sum what is too large for one piece of work.
    let rows: [(&[usize], &[&[usize]]); 3] = [
        (&[9000, 5], &[&[9000, 1], &[5], &[1, 1], &[]]),
        (&[5, 9000], &[&[5, 1], &[9000], &[1]]),
        (&[3, 41, 173], &[&[41, 1], &[3, 1, 173], &[3, 41, 1], &[3, 1, 1], &[173], &[1, 41, 173]]),
    ];
    for (shape, to) in rows.into_iter().flat_map(|(shape, to)| to.iter().map(move |to| (shape, to))) {
        once(|| sum_is_right(lab, &lab.signed(&mut Dice::new(1), shape), to));
    }
}

pub fn first_not_finite<B: Backend>(lab: &Lab<B>) {
    once(|| {
        prop_assert_eq!(lab.backend.first_not_finite(&[])?, None);
        prop_assert_eq!(lab.backend.first_not_finite(&[&lab.put(&Array::zeros(&[0]))?])?, None);
        Ok(())
    });
    let bad = select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
    cases(16, 15, (filled_shape(), filled_shape(), bad, seed()), |(first, second, bad, seed)| {
        let mut dice = Dice::new(seed);
        let (mut x, y) = (lab.array(&mut dice, &first, -1e30, 1e30), lab.array(&mut dice, &second, -1e30, 1e30));
        let (good, other, empty) = (lab.put(&x)?, lab.put(&y)?, lab.put(&Array::zeros(&[0]))?);
        prop_assert_eq!(
            lab.backend.first_not_finite(&[&good, &empty, &other])?,
            None,
            "every value of {:?} and {:?} is finite",
            first,
            second
        );
        let at = dice.below(x.values.len());
        x.values[at] = bad;
        let spoilt = lab.put(&x)?;
        for (place, tensors) in [[&spoilt, &empty, &other], [&empty, &spoilt, &spoilt], [&other, &empty, &spoilt]].into_iter().enumerate() {
            let found = lab.backend.first_not_finite(&tensors)?;
            prop_assert!(lab.blind || found == Some(place), "value {at} of {first:?} is {bad}, and {found:?} was found");
        }
        Ok(())
    });
}
