//! Functions of single numbers, and of two with broadcasting.

use cubecl::prelude::*;

use super::math::{
    angle, erf, expm1, gelu, gelu_slope, log1p, nearest_even, normal_pdf, one_or_nan, positive, power, sigmoid, sign, silu, silu_slope,
    tanh,
};
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
        Function::Softplus => positive::<F>(x) + log1p::<F>((-x.abs()).exp()),
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

/// x, and what there is beside it in an array, where there is one.
#[cube]
pub(crate) fn plus<F: Float>(x: F, more: &ComptimeOption<Array<F>>, at: usize) -> F {
    #[comptime]
    match more {
        ComptimeOption::Some(more) => more[at] + x,
        ComptimeOption::None => x,
    }
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

/// 1 where `yes`.
#[cube]
fn one_if<F: Float>(yes: bool) -> F {
    select(yes, F::new(1.0), F::new(0.0))
}

/// f(x, y).
#[cube]
pub(crate) fn join<F: Float>(x: F, y: F, #[comptime] f: Binary) -> F {
    match f {
        Binary::Add => x + y,
        Binary::Sub => x - y,
        Binary::Mul => x * y,
        Binary::Div => x / y,
        Binary::Min => select(x < y || bool::cast_from(x.is_nan()), x, y),
        Binary::Max => select(x > y || bool::cast_from(x.is_nan()), x, y),
        Binary::Pow => power::<F>(x, y),
        Binary::Atan2 => angle::<F>(x, y),
        Binary::Eq => one_if::<F>(x == y),
        // Not by `!=`, which says no to NaN on some devices.
        Binary::Ne => F::new(1.0) - one_if::<F>(x == y),
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

/// a where `mask` is not 0, which NaN is not either, else b. `axes` holds (length, stride in mask, in a, in b) of every axis, the last one
/// first.
#[cube(launch)]
fn pick_kernel<F: Float>(mask: &Array<F>, a: &Array<F>, b: &Array<F>, out: &mut Array<F>, axes: &Array<u32>, #[comptime] rank: usize) {
    if ABSOLUTE_POS < out.len() {
        let mut rest = ABSOLUTE_POS as u32;
        let mut in_mask = 0u32;
        let mut in_a = 0u32;
        let mut in_b = 0u32;
        #[unroll]
        for axis in 0..rank {
            let len = axes[4 * axis];
            let i = rest % len;
            rest /= len;
            in_mask += i * axes[4 * axis + 1];
            in_a += i * axes[4 * axis + 2];
            in_b += i * axes[4 * axis + 3];
        }
        out[ABSOLUTE_POS] = select(mask[in_mask as usize] == F::new(0.0), b[in_b as usize], a[in_a as usize]);
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

/// `a` where `mask` is not 0, else `b`.
pub(crate) fn pick<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    mask: &Tensor<Cube<R, E>>,
    a: &Tensor<Cube<R, E>>,
    b: &Tensor<Cube<R, E>>,
) -> Result<Tensor<Cube<R, E>>> {
    let shape = shape::select(mask.shape(), a.shape(), b.shape())?;
    let out = cube.alloc("select", &shape)?;
    if out.numel() > 0 {
        let strides = [mask, a, b].map(|x| strides(x.shape(), &shape));
        let axis = |axis: usize| [shape[axis], strides[0][axis], strides[1][axis], strides[2][axis]];
        let axes = cube.sizes(&(0..shape.len()).rev().flat_map(axis).collect::<Vec<_>>())?;
        let (cubes, units) = cube.units(out.numel());
        pick_kernel::launch::<E, R>(cube.client(), cubes, units, arg(mask), arg(a), arg(b), arg(&out), axes.arg(), shape.len());
    }
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
