//! Functions of single numbers, and of two with broadcasting.

use cubecl::prelude::*;

use crate::backend::cube::storage::arg;
use crate::backend::cube::{Cube, Scalar};
use crate::backend::{Binary, Tensor, Unary, shape};
use crate::error::Result;

/// `functions!(functions without numbers; functions with one; functions with two)`.
macro_rules! functions {
    ($($plain:ident),+; $($with_one:ident),+; $($with_two:ident),+) => {
        /// [`Unary`] without its numbers: what a kernel is compiled for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Function {
            $($plain,)+
            $($with_one,)+
            $($with_two),+
        }

        impl Function {
            /// The function and its two numbers.
            fn of(f: Unary) -> (Self, f64, f64) {
                match f {
                    $(Unary::$plain => (Function::$plain, 0.0, 0.0),)+
                    $(Unary::$with_one(a) => (Function::$with_one, f64::from(a), 0.0),)+
                    $(Unary::$with_two(a, b) => (Function::$with_two, a, b)),+
                }
            }
        }
    };
}

functions!(
    Neg, Exp, Ln, Sqrt, Recip, Square, Tanh, Sigmoid, Softplus, Relu, Gelu, Sin, Cos, Tan, Abs, Sign, Floor, Ceil, Round, Log1p, Expm1, Rsqrt,
    Erf, Silu;
    Powf, Powi, LeakyRelu, Elu;
    Clamp, Linear
);

/// f(x).
#[cube]
fn value<F: Float>(x: F, a: F, b: F, #[comptime] f: Function) -> F {
    match f {
        Function::Neg => -x,
        Function::Exp => x.exp(),
        Function::Ln => x.ln(),
        Function::Sqrt => x.sqrt(),
        Function::Recip => F::new(1.0) / x,
        Function::Square => x * x,
        Function::Tanh => tanh::<F>(x),
        Function::Sigmoid => sigmoid::<F>(x),
        Function::Softplus => positive::<F>(x) + ln_1p::<F>((-x.abs()).exp()),
        Function::Relu => positive::<F>(x),
        Function::Gelu => gelu::<F>(x),
        Function::Clamp => select(x < a, a, select(x > b, b, x)),
        Function::Linear => a * x + b,
        Function::Sin => x.sin(),
        Function::Cos => x.cos(),
        Function::Tan => x.sin() / x.cos(),
        Function::Abs => x.abs(),
        Function::Sign => sign::<F>(x),
        Function::Floor => x.floor(),
        Function::Ceil => x.ceil(),
        Function::Round => nearest_even::<F>(x),
        Function::Log1p => log1p::<F>(x),
        Function::Expm1 => expm1::<F>(x),
        Function::Rsqrt => F::new(1.0) / x.sqrt(),
        Function::Erf => erf::<F>(x),
        Function::Silu => silu::<F>(x),
        Function::Powf => power::<F>(x, a),
        Function::Powi => power::<F>(x, a),
        Function::LeakyRelu => select(x > F::new(0.0), x, a * x),
        Function::Elu => select(x > F::new(0.0), x, a * expm1::<F>(x)),
    }
}

/// f'(x).
#[cube]
fn slope<F: Float>(x: F, a: F, b: F, #[comptime] f: Function) -> F {
    let one = F::new(1.0);
    let zero = F::new(0.0);
    match f {
        Function::Neg => F::new(-1.0),
        Function::Exp => x.exp(),
        Function::Ln => one / x,
        Function::Sqrt => F::new(0.5) / x.sqrt(),
        Function::Recip => -(one / (x * x)),
        Function::Square => F::new(2.0) * x,
        Function::Tanh => {
            let y = tanh::<F>(x);
            one - y * y
        }
        Function::Sigmoid => {
            let y = sigmoid::<F>(x);
            y * (one - y)
        }
        Function::Softplus => sigmoid::<F>(x),
        Function::Relu => select(x <= zero, zero, one_or_nan::<F>(x)),
        Function::Gelu => gelu_slope::<F>(x),
        Function::Clamp => select(x < a, zero, select(x > b, zero, one_or_nan::<F>(x))),
        Function::Linear => a,
        Function::Sin => x.cos(),
        Function::Cos => -x.sin(),
        Function::Tan => one / (x.cos() * x.cos()),
        Function::Abs => sign::<F>(x),
        Function::Sign => zero,
        Function::Floor => zero,
        Function::Ceil => zero,
        Function::Round => zero,
        Function::Log1p => one / (one + x),
        Function::Expm1 => x.exp(),
        Function::Rsqrt => F::new(-0.5) / (x * x.sqrt()),
        Function::Erf => F::new(2.0) * F::new(2.0).sqrt() * normal_pdf::<F>(x * F::new(2.0).sqrt()),
        Function::Silu => silu_slope::<F>(x),
        Function::Powf => select(a == zero, zero, a * power::<F>(x, a - one)),
        Function::Powi => select(a == zero, zero, a * power::<F>(x, a - one)),
        Function::LeakyRelu => select(x > zero, one, a),
        Function::Elu => select(x > zero, one, a * x.exp()),
    }
}

/// A function as a part of another kernel: with its numbers.
#[derive(CubeType, CubeLaunch)]
pub(crate) struct Activation {
    a: InputScalar,
    b: InputScalar,
    #[cube(comptime)]
    f: Function,
}

/// What a kernel takes for an activation; nothing is the identity.
pub(crate) fn activation_arg<R: Runtime, E: Scalar>(cube: &Cube<R, E>, f: Option<Unary>) -> ComptimeOptionArgs<Activation, R> {
    let activation = f.map(|f| {
        let (f, a, b) = Function::of(f);
        ActivationLaunch::new(cube.scalar(a), cube.scalar(b), f)
    });
    activation.into()
}

/// f(x), or x.
#[cube]
pub(crate) fn activated<F: Float>(activation: &ComptimeOption<Activation>, x: F) -> F {
    #[comptime]
    match activation {
        ComptimeOption::Some(activation) => value::<F>(x, activation.a.get::<F>(), activation.b.get::<F>(), comptime!(activation.f)),
        ComptimeOption::None => x,
    }
}

/// f'(x), or 1.
#[cube]
pub(crate) fn activation_slope<F: Float>(activation: &ComptimeOption<Activation>, x: F) -> F {
    #[comptime]
    match activation {
        ComptimeOption::Some(activation) => slope::<F>(x, activation.a.get::<F>(), activation.b.get::<F>(), comptime!(activation.f)),
        ComptimeOption::None => F::new(1.0),
    }
}

/// x Phi(x), and its limit 0 where Phi(x) is 0, down to -infinity.
#[cube]
fn gelu<F: Float>(x: F) -> F {
    let cdf = normal_cdf::<F>(x);
    select(cdf == F::new(0.0), F::new(0.0), x * cdf)
}

/// Phi(x) + x phi(x), and its limit Phi(x) where phi(x) is 0, out to the infinities.
#[cube]
fn gelu_slope<F: Float>(x: F) -> F {
    let pdf = normal_pdf::<F>(x);
    let cdf = normal_cdf::<F>(x);
    select(pdf == F::new(0.0), cdf, cdf + x * pdf)
}

/// -1, 0 or 1, NaN for NaN.
#[cube]
fn sign<F: Float>(x: F) -> F {
    select(x > F::new(0.0), F::new(1.0), select(x < F::new(0.0), F::new(-1.0), x))
}

/// The nearest whole number, of two as near the even one.
#[cube]
fn nearest_even<F: Float>(x: F) -> F {
    let below = x.floor();
    let above = below + F::new(1.0);
    let past = x - below;
    let half = F::new(0.5);
    // Half of an even number is whole.
    let even = select((below * half).floor() == below * half, below, above);
    select(past < half, below, select(past > half, above, even))
}

/// ln(1 + x), accurate for small x: the rounding of 1 + x is made good (Kahan).
#[cube]
fn log1p<F: Float>(x: F) -> F {
    let sum = F::new(1.0) + x;
    let less = sum - F::new(1.0);
    // Where 1 + x is 1, and where it is infinite, the correction has no meaning.
    let corrected = sum.ln() * (x / less);
    select(less == F::new(0.0), x, select(less == x, sum.ln(), corrected))
}

/// e^x - 1, accurate for small x.
#[cube]
fn expm1<F: Float>(x: F) -> F {
    let half = tanh::<F>(x * F::new(0.5));
    // e^x - 1 = 2 t / (1 - t) with t = tanh(x / 2).
    select(x.abs() < F::new(1.0), F::new(2.0) * half / (F::new(1.0) - half), x.exp() - F::new(1.0))
}

/// The error function. In f32 near 0 its series, else from Phi; in f64 the device's.
#[cube]
fn erf<F: Float>(x: F) -> F {
    let size = F::type_size();
    if comptime!(size == 4) {
        let y = x * x;
        let inner = F::new(0.1) - y * (F::new(0.023_809_524) - y * (F::new(0.004_629_63) - y * F::new(0.000_757_576)));
        let series = F::new(1.128_379_2) * x * (F::new(1.0) - y * (F::new(0.333_333_34) - y * inner));
        let far = F::new(1.0) - F::new(2.0) * normal_cdf::<F>(-x.abs() * F::new(1.414_213_5));
        select(x.abs() < F::new(0.4), series, select(x < F::new(0.0), -far, far))
    } else {
        x.erf()
    }
}

/// x / (1 + e^-x), and its limit 0 where the sigmoid is 0, down to -infinity.
#[cube]
fn silu<F: Float>(x: F) -> F {
    let s = sigmoid::<F>(x);
    select(s == F::new(0.0), F::new(0.0), x * s)
}

#[cube]
fn silu_slope<F: Float>(x: F) -> F {
    let s = sigmoid::<F>(x);
    let curve = s * sigmoid::<F>(-x);
    select(curve == F::new(0.0), s, s + x * curve)
}

/// x^p, also for x below 0 where p is a whole number: a device's own power may be that of a logarithm.
#[cube]
fn power<F: Float>(x: F, p: F) -> F {
    let zero = F::new(0.0);
    let one = F::new(1.0);
    let size = x.abs().powf(p);
    let half = p * F::new(0.5);
    let whole = p.floor() == p;
    let odd = half.floor() != half;
    let below = select(whole, select(odd, -size, size), zero / (x - x));
    let usual = select(x < zero, below, size);
    select(p == zero, one, select(bool::cast_from(x.is_nan()), x, usual))
}

/// 1 where `yes`.
#[cube]
fn one_if<F: Float>(yes: bool) -> F {
    select(yes, F::new(1.0), F::new(0.0))
}

/// 1, but NaN for NaN.
#[cube]
fn one_or_nan<F: Float>(x: F) -> F {
    select(bool::cast_from(x.is_nan()), x, F::new(1.0))
}

/// max(x, 0), NaN for NaN.
#[cube]
fn positive<F: Float>(x: F) -> F {
    select(x < F::new(0.0), F::new(0.0), x)
}

#[cube]
pub(crate) fn sigmoid<F: Float>(x: F) -> F {
    // From e^-|x|, which cannot overflow.
    let e = (-x.abs()).exp();
    let one = F::new(1.0);
    select(x < F::new(0.0), e / (one + e), one / (one + e))
}

/// ln(1 + e) for e in [0, 1]. A device's own `log1p` may round 1 + e first, and lose small e.
#[cube]
fn ln_1p<F: Float>(e: F) -> F {
    let size = F::type_size();
    if comptime!(size == 4) {
        let series = F::new(0.5) - e * (F::new(0.333_333_34) - e * (F::new(0.25) - e * F::new(0.2)));
        select(e < F::new(0.03), e - e * e * series, (F::new(1.0) + e).ln())
    } else {
        e.log1p()
    }
}

#[cube]
fn tanh<F: Float>(x: F) -> F {
    // 1 - e^-2|x| cancels for small x: those take the series.
    let e = (F::new(-2.0) * x.abs()).exp();
    let large = (F::new(1.0) - e) / (F::new(1.0) + e);
    let y = x * x;
    let series = F::new(0.133_333_33) - y * (F::new(0.053_968_254) - y * F::new(0.021_869_488));
    let small = x - x * y * (F::new(0.333_333_34) - y * series);
    select(x.abs() < F::new(0.125), small, select(x < F::new(0.0), -large, large))
}

/// Phi(x) of the standard normal distribution. In f32 the polynomial of the CPU backend (`host/math.rs`), in f64 the device's erf.
#[cube]
pub(crate) fn normal_cdf<F: Float>(x: F) -> F {
    let size = F::type_size();
    if comptime!(size == 4) {
        let s = F::new(1.0) / (F::new(1.0) + F::new(0.212_132_03) * x.abs());
        let high = F::new(0.544_967_2) + s * (F::new(-0.509_772_7) + s * (F::new(0.484_301_85) - s * F::new(0.129_253_24)));
        let low = F::new(0.148_521_24) + s * (F::new(0.214_181_49) + s * (F::new(-0.092_826_21) + s * high));
        let g = s * (F::new(0.169_189_35) + s * (F::new(0.170_690_93) + s * low));
        let tail = F::new(0.5) * g * (F::new(-0.5) * x * x).exp();
        select(x > F::new(0.0), F::new(1.0) - tail, tail)
    } else {
        F::new(0.5) * (F::new(1.0) + (x / F::new(2.0).sqrt()).erf())
    }
}

/// phi(x) of the standard normal distribution.
#[cube]
pub(crate) fn normal_pdf<F: Float>(x: F) -> F {
    let density = (F::new(-0.5) * x * x).exp();
    let size = F::type_size();
    if comptime!(size == 4) {
        density * F::new(0.398_942_3)
    } else {
        // 1 / sqrt(2 pi) in full precision, with pi = acos(-1): kernels have no f64 literals.
        density / (F::new(2.0) * F::new(-1.0).acos()).sqrt()
    }
}

#[cube(launch)]
fn full_kernel<F: Float>(out: &mut Array<F>, value: InputScalar) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = value.get::<F>();
    }
}

#[cube(launch)]
fn unary_kernel<F: Float>(x: &Array<F>, out: &mut Array<F>, f: &ComptimeOption<Activation>) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = activated::<F>(f, x[ABSOLUTE_POS]);
    }
}

#[cube(launch)]
fn unary_grad_kernel<F: Float>(x: &Array<F>, g: &Array<F>, out: &mut Array<F>, f: &ComptimeOption<Activation>) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = activation_slope::<F>(f, x[ABSOLUTE_POS]) * g[ABSOLUTE_POS];
    }
}

#[cube]
fn join<F: Float>(x: F, y: F, #[comptime] f: Binary) -> F {
    match f {
        Binary::Add => x + y,
        Binary::Sub => x - y,
        Binary::Mul => x * y,
        Binary::Div => x / y,
        Binary::Min => select(x < y || bool::cast_from(x.is_nan()), x, y),
        Binary::Max => select(x > y || bool::cast_from(x.is_nan()), x, y),
        Binary::Pow => power::<F>(x, y),
        Binary::Atan2 => x.atan2(y),
        Binary::Eq => one_if::<F>(x == y),
        Binary::Ne => one_if::<F>(x != y),
        Binary::Lt => one_if::<F>(x < y),
        Binary::Le => one_if::<F>(x <= y),
        Binary::Gt => one_if::<F>(x > y),
        Binary::Ge => one_if::<F>(x >= y),
    }
}

#[cube(launch)]
fn binary_kernel<F: Float>(x: &Array<F>, y: &Array<F>, out: &mut Array<F>, #[comptime] f: Binary) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = join::<F>(x[ABSOLUTE_POS], y[ABSOLUTE_POS], f);
    }
}

/// `axes` holds (length, stride in x, stride in y) of every axis, the last axis first.
#[cube(launch)]
fn broadcast_kernel<F: Float>(
    x: &Array<F>,
    y: &Array<F>,
    out: &mut Array<F>,
    axes: &Array<u32>,
    #[comptime] rank: usize,
    #[comptime] f: Binary,
) {
    if ABSOLUTE_POS < out.len() {
        let mut rest = ABSOLUTE_POS as u32;
        let mut in_x = 0u32;
        let mut in_y = 0u32;
        #[unroll]
        for axis in 0..rank {
            let len = axes[3 * axis];
            let i = rest % len;
            rest /= len;
            in_x += i * axes[3 * axis + 1];
            in_y += i * axes[3 * axis + 2];
        }
        out[ABSOLUTE_POS] = join::<F>(x[in_x as usize], y[in_y as usize], f);
    }
}

pub(crate) fn full<R: Runtime, E: Scalar>(cube: &Cube<R, E>, shape: &[usize], value: f64) -> Result<Tensor<Cube<R, E>>> {
    let out = cube.alloc("full", shape)?;
    if out.numel() > 0 {
        let (cubes, units) = cube.units(out.numel());
        full_kernel::launch::<E, R>(cube.client(), cubes, units, arg(&out), cube.scalar(value));
    }
    Ok(out)
}

pub(crate) fn unary<R: Runtime, E: Scalar>(cube: &Cube<R, E>, f: Unary, x: &Tensor<Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
    let out = cube.alloc("unary", x.shape())?;
    if out.numel() > 0 {
        let (cubes, units) = cube.units(out.numel());
        unary_kernel::launch::<E, R>(cube.client(), cubes, units, arg(x), arg(&out), activation_arg(cube, Some(f)));
    }
    Ok(out)
}

pub(crate) fn unary_grad<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    f: Unary,
    x: &Tensor<Cube<R, E>>,
    g: &Tensor<Cube<R, E>>,
) -> Result<Tensor<Cube<R, E>>> {
    let out = cube.alloc("unary_grad", x.shape())?;
    if out.numel() > 0 {
        let (cubes, units) = cube.units(out.numel());
        unary_grad_kernel::launch::<E, R>(cube.client(), cubes, units, arg(x), arg(g), arg(&out), activation_arg(cube, Some(f)));
    }
    Ok(out)
}

pub(crate) fn binary<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    f: Binary,
    x: &Tensor<Cube<R, E>>,
    y: &Tensor<Cube<R, E>>,
) -> Result<Tensor<Cube<R, E>>> {
    let shape = shape::broadcast(f.name(), x.shape(), y.shape())?;
    let out = cube.alloc("binary", &shape)?;
    if out.numel() == 0 {
        return Ok(out);
    }
    let (cubes, units) = cube.units(out.numel());
    if x.shape() == y.shape() {
        binary_kernel::launch::<E, R>(cube.client(), cubes, units, arg(x), arg(y), arg(&out), f);
        return Ok(out);
    }
    let strides = [strides(x.shape(), &shape), strides(y.shape(), &shape)];
    let axes: Vec<usize> = (0..shape.len()).rev().flat_map(|axis| [shape[axis], strides[0][axis], strides[1][axis]]).collect();
    let axes = cube.sizes(&axes)?.arg();
    broadcast_kernel::launch::<E, R>(cube.client(), cubes, units, arg(x), arg(y), arg(&out), axes, shape.len(), f);
    Ok(out)
}

/// The strides by which a row-major tensor of shape `given` is read as one of shape `wanted`: 0 along axes over which it is repeated.
pub(crate) fn strides(given: &[usize], wanted: &[usize]) -> Vec<usize> {
    let mut strides = vec![0; wanted.len()];
    let mut stride = 1;
    for (axis, &len) in given.iter().enumerate().rev() {
        if len > 1 {
            strides[wanted.len() - given.len() + axis] = stride;
        }
        stride *= len;
    }
    strides
}
