//! Elementwise functions with their derivatives, broadcasting, and its adjoint.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use pspikessm::backend::{Backend, Binary, Real, Tensor, Unary};

use super::dual::Dual;
use super::harness::{Array, Dice, Lab, Verdict, cases, filled_shape, indices, narrowed, once, seed, shape};

/// The truth. The match has no arm for all others: a new function does not compile until it has a definition here.
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
        Unary::Sin => x.map(x.value.sin(), x.value.cos()),
        Unary::Cos => x.map(x.value.cos(), -x.value.sin()),
        Unary::Tan => x.map(x.value.tan(), x.value.cos().powi(-2)),
        Unary::Abs => x * sign(x.value),
        Unary::Sign => sign(x.value).into(),
        Unary::Floor => x.value.floor().into(),
        Unary::Ceil => x.value.ceil().into(),
        Unary::Round => nearest_even(x.value).into(),
        Unary::Log1p => x.map(x.value.ln_1p(), 1.0 / (1.0 + x.value)),
        Unary::Expm1 => x.map(x.value.exp_m1(), x.value.exp()),
        Unary::Rsqrt => x.sqrt().recip(),
        Unary::Erf => x.map(erf(x.value), 2.0 / std::f64::consts::PI.sqrt() * (-x.value * x.value).exp()),
        Unary::Silu => x * x.sigmoid(),
        Unary::Powf(p) => x.map((p * x.value.ln()).exp(), p * ((p - 1.0) * x.value.ln()).exp()),
        Unary::Powi(n) => (0..n).fold(1.0.into(), |power, _| power * x),
        Unary::LeakyRelu(slope) => x * if x.value > 0.0 { 1.0 } else { slope },
        Unary::Elu(_) if x.value > 0.0 => x,
        Unary::Elu(alpha) => x.map(x.value.exp_m1(), x.value.exp()) * alpha,
    }
}

fn sign(x: f64) -> f64 {
    f64::from(i8::from(x > 0.0) - i8::from(x < 0.0))
}

/// Rounded by the rule that schools teach, but halves to the even neighbour.
fn nearest_even(x: f64) -> f64 {
    let (below, above) = (x.floor(), x.ceil());
    match (x - below).partial_cmp(&(above - x)) {
        Some(std::cmp::Ordering::Less) => below,
        Some(std::cmp::Ordering::Greater) => above,
        _ if below % 2.0 == 0.0 => below,
        _ => above,
    }
}

/// By the series of [`normal_cdf`] where that does not cancel, else from its tail.
fn erf(x: f64) -> f64 {
    let root = std::f64::consts::SQRT_2;
    if x.abs() > 1.5 {
        return (1.0 - 2.0 * normal_cdf(-x.abs() * root)) * sign(x);
    }
    2.0 * normal_density(x * root) * normal_series(x * root)
}

/// phi(x). What x^2 loses when it is rounded is put back: far out it would be eight units in the last place.
fn normal_density(x: f64) -> f64 {
    let square = x * x;
    let lost = if square.is_finite() { x.mul_add(x, -square) } else { 0.0 };
    (-0.5 * square).exp() * (-0.5 * lost).exp() / std::f64::consts::TAU.sqrt()
}

/// Marsaglia's series, whose terms are all of one sign: 1/2 + phi(x) (x + x^3 / 3 + x^5 / (3 5) + ..). In the tails, where that would
/// cancel or have many terms, Laplace's continued fraction: phi(x) / (z + 1 / (z + 2 / (z + ..))) with z = |x|, or one less it.
fn normal_cdf(x: f64) -> f64 {
    let z = x.abs();
    if z < 0.75 {
        return 0.5 + normal_density(x) * normal_series(x);
    }
    let tail = normal_density(z) / (1..1000).rev().fold(z, |rest, k| z + f64::from(k) / rest);
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// x + x^3 / 3 + x^5 / (3 5) + ..
fn normal_series(x: f64) -> f64 {
    let (mut term, mut sum, mut odd) = (x, 0.0, 1.0);
    while term.abs() > 1e-18 * x.abs() {
        sum += term;
        odd += 2.0;
        term *= x * x / odd;
    }
    sum
}

/// Arguments up to `spread` from where the function is defined.
fn arguments<B: Backend>(lab: &Lab<B>, dice: &mut Dice, f: Unary, shape: &[usize], spread: f64) -> Array {
    match f {
        Unary::Ln | Unary::Sqrt | Unary::Rsqrt | Unary::Powf(_) => lab.array(dice, shape, 0.03, 0.03 + spread),
        Unary::Log1p => lab.array(dice, shape, -spread.min(0.9), spread),
        // Away from the poles, where the tangent knows its argument no better than that is rounded.
        Unary::Tan => lab.array(dice, shape, -spread.min(1.4), spread.min(1.4)),
        Unary::Recip if dice.flag() => lab.array(dice, shape, -0.03 - spread, -0.03),
        Unary::Recip => lab.array(dice, shape, 0.03, 0.03 + spread),
        _ => lab.array(dice, shape, -spread, spread),
    }
}

/// The size of the terms where a function's value (or, times g, its derivative) is a difference of larger ones.
fn terms(f: Unary, largest: f64) -> [f64; 2] {
    match f {
        Unary::Linear(scale, shift) => [scale.abs() * largest + shift.abs(), 0.0],
        Unary::Tanh | Unary::Gelu | Unary::Silu => [0.0, 1.0],
        _ => [0.0, 0.0],
    }
}

fn spreads() -> impl Strategy<Value = f64> {
    prop::sample::select(vec![0.03, 1.0, 6.0])
}

pub fn unary<B: Backend>(lab: &Lab<B>) {
    cases(16, 10, (shape(), spreads(), seed()), |(shape, spread, seed)| {
        let mut dice = Dice::new(seed);
        for f in Unary::ALL {
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
        for f in Unary::ALL {
            let (x, g) = (arguments(lab, &mut dice, f, &shape, spread), lab.signed(&mut dice, &shape));
            let slopes = x.values.iter().map(|&value| define(f, Dual { value, slope: 1.0 }).slope);
            let want = Array::new(&shape, slopes.zip(&g.values).map(|(slope, g)| slope * g).collect());
            let got = lab.backend.unary_grad(f, &lab.put(&x)?, &lab.put(&g)?)?;
            lab.near(&format!("the derivative of {f:?}"), &got, &want, lab.tolerance.elementwise, terms(f, 0.0)[1] * g.largest())?;
        }
        Ok(())
    });
}

/// f and f' at `x` are exactly these, alone and in vectors of any width.
fn point<B: Backend>(lab: &Lab<B>, f: Unary, x: f64, value: f64, slope: f64) -> Verdict {
    for width in [1, 35] {
        let all = |v: f64| Array::new(&[width], vec![v; width]);
        let (x_there, g) = (lab.put(&all(x))?, lab.put(&all(3.0))?);
        lab.same(&format!("{f:?} at {x}"), &lab.backend.unary(f, &x_there)?, &all(value))?;
        lab.same(&format!("the derivative of {f:?} at {x}"), &lab.backend.unary_grad(f, &x_there, &g)?, &all(3.0 * slope))?;
    }
    Ok(())
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
            (Unary::Gelu, 1e38, B::Elem::of(1e38).f64(), 1.0),
            (Unary::Gelu, f64::INFINITY, f64::INFINITY, 1.0),
            (Unary::Gelu, f64::NEG_INFINITY, 0.0, 0.0),
            (Unary::Relu, f64::NEG_INFINITY, 0.0, 0.0),
            (Unary::Softplus, f64::INFINITY, f64::INFINITY, 1.0),
            (Unary::Softplus, f64::NEG_INFINITY, 0.0, 0.0),
            (Unary::Sigmoid, f64::INFINITY, 1.0, 0.0),
            (Unary::Sigmoid, f64::NEG_INFINITY, 0.0, 0.0),
            (Unary::Tanh, f64::INFINITY, 1.0, 0.0),
            (Unary::Tanh, f64::NEG_INFINITY, -1.0, 0.0),
            (Unary::Exp, f64::INFINITY, f64::INFINITY, f64::INFINITY),
            (Unary::Exp, f64::NEG_INFINITY, 0.0, 0.0),
            (Unary::Recip, f64::INFINITY, 0.0, 0.0),
            (Unary::Recip, f64::NEG_INFINITY, 0.0, 0.0),
            (Unary::Ln, f64::INFINITY, f64::INFINITY, 0.0),
            (Unary::Sqrt, f64::INFINITY, f64::INFINITY, 0.0),
            (Unary::Abs, 0.0, 0.0, 0.0),
            (Unary::Abs, -2.0, 2.0, -1.0),
            (Unary::Abs, f64::NEG_INFINITY, f64::INFINITY, -1.0),
            (Unary::Sign, 0.0, 0.0, 0.0),
            (Unary::Sign, -1e-30, -1.0, 0.0),
            (Unary::Sign, f64::INFINITY, 1.0, 0.0),
            (Unary::Floor, -0.25, -1.0, 0.0),
            (Unary::Floor, 3.0, 3.0, 0.0),
            (Unary::Ceil, 0.25, 1.0, 0.0),
            (Unary::Ceil, -3.0, -3.0, 0.0),
            (Unary::Round, 0.5, 0.0, 0.0),
            (Unary::Round, 1.5, 2.0, 0.0),
            (Unary::Round, 2.5, 2.0, 0.0),
            (Unary::Round, -0.5, 0.0, 0.0),
            (Unary::Round, -1.5, -2.0, 0.0),
            (Unary::Round, 8_388_609.0, 8_388_609.0, 0.0),
            (Unary::Sin, 0.0, 0.0, 1.0),
            (Unary::Cos, 0.0, 1.0, 0.0),
            (Unary::Tan, 0.0, 0.0, 1.0),
            (Unary::Log1p, 0.0, 0.0, 1.0),
            (Unary::Log1p, f64::INFINITY, f64::INFINITY, 0.0),
            (Unary::Expm1, 0.0, 0.0, 1.0),
            (Unary::Expm1, f64::INFINITY, f64::INFINITY, f64::INFINITY),
            (Unary::Expm1, f64::NEG_INFINITY, -1.0, 0.0),
            (Unary::Rsqrt, 4.0, 0.5, -0.0625),
            (Unary::Rsqrt, 0.0, f64::INFINITY, f64::NEG_INFINITY),
            (Unary::Rsqrt, f64::INFINITY, 0.0, 0.0),
            (Unary::Erf, f64::INFINITY, 1.0, 0.0),
            (Unary::Erf, f64::NEG_INFINITY, -1.0, 0.0),
            (Unary::Silu, f64::INFINITY, f64::INFINITY, 1.0),
            (Unary::Silu, f64::NEG_INFINITY, 0.0, 0.0),
            (Unary::Silu, 0.0, 0.0, 0.5),
            (Unary::Powf(2.0), 0.0, 0.0, 0.0),
            (Unary::Powf(2.0), -3.0, 9.0, -6.0),
            (Unary::Powf(0.5), 0.0, 0.0, f64::INFINITY),
            (Unary::Powf(0.5), f64::INFINITY, f64::INFINITY, 0.0),
            (Unary::Powf(1.0), 0.0, 0.0, 1.0),
            (Unary::Powf(0.0), 0.0, 1.0, 0.0),
            (Unary::Powf(0.0), -2.0, 1.0, 0.0),
            (Unary::Powf(-1.0), 2.0, 0.5, -0.25),
            (Unary::Powi(0), 0.0, 1.0, 0.0),
            (Unary::Powi(1), 0.0, 0.0, 1.0),
            (Unary::Powi(2), -3.0, 9.0, -6.0),
            (Unary::Powi(3), -2.0, -8.0, 12.0),
            (Unary::Powi(-2), 2.0, 0.25, -0.25),
            (Unary::Powi(-2), f64::NEG_INFINITY, 0.0, 0.0),
            (Unary::LeakyRelu(0.25), 0.0, 0.0, 0.25),
            (Unary::LeakyRelu(0.25), -2.0, -0.5, 0.25),
            (Unary::LeakyRelu(0.25), f64::INFINITY, f64::INFINITY, 1.0),
            (Unary::Elu(0.25), 0.0, 0.0, 0.25),
            (Unary::Elu(0.25), f64::NEG_INFINITY, -0.25, 0.0),
            (Unary::Elu(0.25), f64::INFINITY, f64::INFINITY, 1.0),
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
        for (f, x) in [(Unary::Sin, f64::INFINITY), (Unary::Powf(0.5), -2.0), (Unary::Rsqrt, -2.0), (Unary::Log1p, -2.0)] {
            let nan = lab.get(&lab.backend.unary(f, &lab.put(&Array::new(&[1], vec![x]))?)?)?;
            prop_assert!(lab.blind || nan.values[0].is_nan(), "{f:?} at {x} is {:?}", nan.values);
        }
        let zero = lab.put(&Array::zeros(&[1]))?;
        lab.same("Gelu at 0", &lab.backend.unary(Unary::Gelu, &zero)?, &Array::zeros(&[1]))?;
        let far = lab.backend.unary(Unary::Gelu, &lab.put(&Array::new(&[2], vec![100.0, -100.0]))?)?;
        lab.near("Gelu far out", &far, &Array::new(&[2], vec![100.0, 0.0]), lab.tolerance.elementwise, 0.0)
    });
}

/// Near a root at 0 a function's value is as good as a large one.
pub fn unary_of_small_arguments<B: Backend>(lab: &Lab<B>) {
    let functions = [Unary::Sin, Unary::Tan, Unary::Tanh, Unary::Log1p, Unary::Expm1, Unary::Erf, Unary::Silu, Unary::Elu(1.25)];
    once(|| {
        for (f, x) in functions.into_iter().flat_map(|f| [-3e-3, -1e-5, 1e-5, 3e-3].map(|x| (f, x))) {
            for width in [1, 35] {
                let x = lab.hold(Array::new(&[width], vec![x; width]));
                let want = Array::new(&[width], x.values.iter().map(|&x| define(f, x.into()).value).collect());
                let got = lab.backend.unary(f, &lab.put(&x)?)?;
                lab.near(&format!("{f:?} at {}", x.values[0]), &got, &want, lab.tolerance.elementwise, 0.0)?;
            }
        }
        Ok(())
    });
}

pub fn unary_propagates_nan<B: Backend>(lab: &Lab<B>) {
    once(|| {
        // In every position of a vector.
        for (f, at) in Unary::ALL.into_iter().flat_map(|f| (0..19).map(move |at| (f, at))) {
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
        Binary::Min | Binary::Max if x.is_nan() || y.is_nan() => f64::NAN,
        Binary::Min => x.min(y),
        Binary::Max => x.max(y),
        Binary::Pow => x.powf(y),
        Binary::Atan2 => x.atan2(y),
        Binary::Eq => f64::from(x == y),
        Binary::Ne => f64::from(x != y),
        Binary::Lt => f64::from(x < y),
        Binary::Le => f64::from(x <= y),
        Binary::Gt => f64::from(x > y),
        Binary::Ge => f64::from(x >= y),
    }
}

/// The shape of two that broadcast: axes align from the right, one of length 1 or left out takes the other's.
pub fn joined(left: &[usize], right: &[usize]) -> Vec<usize> {
    let rank = left.len().max(right.len());
    let lengths = |shape: &[usize]| -> Vec<usize> { [vec![1; rank - shape.len()], shape.to_vec()].concat() };
    lengths(left).into_iter().zip(lengths(right)).map(|(l, r)| if l == 1 { r } else { l }).collect()
}

pub fn binary<B: Backend>(lab: &Lab<B>) {
    cases(32, 12, (shape(), 0..3usize, seed()), |(shape, stretched, seed)| {
        let mut dice = Dice::new(seed);
        // One operand keeps the whole shape, or neither does.
        let left = if stretched == 0 { shape.clone() } else { narrowed(&mut dice, &shape) };
        let right = if stretched == 1 { shape.clone() } else { narrowed(&mut dice, &shape) };
        let joint = joined(&left, &right);
        let (x, y) = (lab.signed(&mut dice, &left), lab.array(&mut dice, &right, 0.1, 1.0));
        for f in Binary::ALL {
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

/// The sum takes the storage of what was given away, and of nothing that someone else holds.
pub fn accumulate<B: Backend>(lab: &Lab<B>) {
    cases(32, 14, (shape(), 0..3usize, 0..4u8, seed()), |(shape, stretched, held, seed)| {
        let mut dice = Dice::new(seed);
        let left = if stretched == 1 { narrowed(&mut dice, &shape) } else { shape.clone() };
        let right = if stretched == 2 { narrowed(&mut dice, &shape) } else { shape.clone() };
        let (x, y) = (lab.signed(&mut dice, &left), lab.signed(&mut dice, &right));
        let want = Array::of(&joined(&left, &right), |i| x.at(i) + y.at(i));
        let (left, right) = (lab.put(&x)?, lab.put(&y)?);
        let hold = |tensor: &Tensor<B>| Ok::<_, TestCaseError>((tensor.clone(), lab.get(tensor)?));
        let mut others = Vec::new();
        for (_, tensor) in [&left, &right].into_iter().enumerate().filter(|(i, _)| held >> i & 1 == 1) {
            others.push(hold(tensor)?);
        }
        let sum = lab.backend.accumulate(left, right)?;
        lab.near("the sum", &sum, &want, lab.tolerance.elementwise, 0.0)?;
        let twice = lab.backend.accumulate(sum.clone(), sum)?;
        lab.near("twice the sum", &twice, &Array::of(&want.shape, |i| 2.0 * want.at(i)), lab.tolerance.elementwise, 0.0)?;
        others.iter().try_for_each(|(tensor, values)| lab.same("what someone else holds", tensor, values))
    });
}

pub fn binary_propagates_nan<B: Backend>(lab: &Lab<B>) {
    cases(8, 13, (1..20usize, 1..20usize, seed()), |(rows, columns, seed)| {
        let mut dice = Dice::new(seed);
        let (mut x, y) = (lab.signed(&mut dice, &[rows, columns]), lab.array(&mut dice, &[columns], 0.1, 1.0));
        x.values[dice.below(rows * columns)] = f64::NAN;
        for f in Binary::ALL {
            for (x, y) in [(&x, &y), (&y, &x)] {
                let want = Array::of(&[rows, columns], |i| combine(f, x.at(i), y.at(i)));
                let got = lab.backend.binary(f, &lab.put(x)?, &lab.put(y)?)?;
                lab.near(&format!("{f:?} with a NaN"), &got, &want, lab.tolerance.elementwise, 0.0)?;
            }
        }
        Ok(())
    });
}

/// What both operands' special values give is exactly this.
pub fn binary_special_points<B: Backend>(lab: &Lab<B>) {
    once(|| {
        let (infinite, nan) = (f64::INFINITY, f64::NAN);
        for (f, x, y, want) in [
            (Binary::Max, nan, 1.0, nan),
            (Binary::Max, 1.0, nan, nan),
            (Binary::Min, nan, 1.0, nan),
            (Binary::Min, 1.0, nan, nan),
            (Binary::Max, -infinite, infinite, infinite),
            (Binary::Min, -infinite, infinite, -infinite),
            (Binary::Pow, 0.0, 0.0, 1.0),
            (Binary::Pow, 0.0, 2.0, 0.0),
            (Binary::Pow, 0.0, -1.0, infinite),
            (Binary::Pow, -2.0, 3.0, -8.0),
            (Binary::Pow, -2.0, 2.0, 4.0),
            (Binary::Pow, -2.0, 0.5, nan),
            (Binary::Pow, nan, 0.0, 1.0),
            (Binary::Pow, nan, 1.0, nan),
            (Binary::Atan2, 0.0, 0.0, 0.0),
            (Binary::Atan2, 0.0, 1.0, 0.0),
            (Binary::Eq, nan, nan, 0.0),
            (Binary::Ne, nan, nan, 1.0),
            (Binary::Eq, 0.0, -0.0, 1.0),
            (Binary::Le, infinite, infinite, 1.0),
            (Binary::Lt, infinite, infinite, 0.0),
            (Binary::Ge, nan, 1.0, 0.0),
            (Binary::Gt, 1.0, nan, 0.0),
        ] {
            for width in [1, 35] {
                let all = |v: f64| Array::new(&[width], vec![v; width]);
                let got = lab.backend.binary(f, &lab.put(&all(x))?, &lab.put(&all(y))?)?;
                lab.same(&format!("{f:?} of {x} and {y}"), &got, &all(want))?;
            }
        }
        Ok(())
    });
}

pub fn select<B: Backend>(lab: &Lab<B>) {
    cases(48, 16, (shape(), 0..4usize, seed()), |(shape, whole, seed)| {
        let mut dice = Dice::new(seed);
        // One operand keeps the whole shape, or none does.
        let shapes: Vec<Vec<usize>> = (0..3).map(|i| if i == whole { shape.clone() } else { narrowed(&mut dice, &shape) }).collect();
        let joint = joined(&shapes[0], &joined(&shapes[1], &shapes[2]));
        let mut mask = lab.signed(&mut dice, &shapes[0]);
        mask.values.iter_mut().for_each(|v| *v = if dice.flag() { *v } else { 0.0 });
        let [a, b] = [lab.signed(&mut dice, &shapes[1]), lab.signed(&mut dice, &shapes[2])];
        let want = Array::of(&joint, |i| if mask.at(i) != 0.0 { a.at(i) } else { b.at(i) });
        lab.same(&format!("select of {shapes:?}"), &lab.backend.select(&lab.put(&mask)?, &lab.put(&a)?, &lab.put(&b)?)?, &want)
    });
}

pub fn select_leaks_nothing<B: Backend>(lab: &Lab<B>) {
    once(|| {
        let mask = Array::new(&[6], vec![1.0, 0.0, -0.0, f64::NAN, f64::INFINITY, -2.0]);
        let all = |v: f64| Array::new(&[6], vec![v; 6]);
        for bad in [f64::NAN, f64::INFINITY] {
            let got = lab.backend.select(&lab.put(&mask)?, &lab.put(&all(3.0))?, &lab.put(&all(bad))?)?;
            lab.same("a, and what is bad elsewhere", &got, &Array::new(&[6], vec![3.0, bad, bad, 3.0, 3.0, 3.0]))?;
            let got = lab.backend.select(&lab.put(&mask)?, &lab.put(&all(bad))?, &lab.put(&all(3.0))?)?;
            lab.same("b, and what is bad elsewhere", &got, &Array::new(&[6], vec![bad, 3.0, 3.0, bad, bad, bad]))?;
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
        lab.same("nothing", &lab.backend.place_not_finite(&[])?, &Array::zeros(&[]))?;
        Ok(())
    });
    let bad = prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
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
            // The same as a number on the device, read together with another.
            let all = lab.backend.to_vecs(&[&lab.backend.place_not_finite(&tensors)?, &other])?;
            let [found, beside] = [&all[0], &all[1]].map(|values| values.iter().map(|value| value.f64()).collect::<Vec<_>>());
            prop_assert!(lab.blind || found == [place as f64 + 1.0], "{found:?}, and {place} is the place");
            prop_assert!(lab.blind || beside == y.values, "the values that are read with it");
        }
        Ok(())
    });
}
