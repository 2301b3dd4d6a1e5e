//! `+`, `-`, `*` and `/` of variables, with each other and with numbers: they answer a `Result`, as the methods do.

use std::borrow::Borrow;
use std::ops::{Add, Div, Mul, Neg, Sub};

use super::Var;
use crate::backend::Backend;
use crate::error::Result;

/// `Trait, method, |x, y| both variables, |x, number| .., |number, x| ..`. A result on one side passes its error on, so that
/// `(&w * &x + &b)?` needs one question mark.
macro_rules! operators {
    ($($operator:ident, $method:ident, $vars:expr, $number_right:expr, $number_left:expr;)+) => { $(
        operators! { @of $operator, $method, $vars, $number_right, $number_left, Var<B> }
        operators! { @of $operator, $method, $vars, $number_right, $number_left, &Var<B> }
    )+ };
    (@of $operator:ident, $method:ident, $vars:expr, $number_right:expr, $number_left:expr, $var:ty) => {
        impl<B: Backend, V: Borrow<Var<B>>> $operator<V> for $var {
            type Output = Result<Var<B>>;

            fn $method(self, other: V) -> Self::Output {
                let f: fn(&Var<B>, &Var<B>) -> Result<Var<B>> = $vars;
                f(self.borrow(), other.borrow())
            }
        }

        impl<B: Backend, V: Borrow<Var<B>>> $operator<Result<V>> for $var {
            type Output = Result<Var<B>>;

            fn $method(self, other: Result<V>) -> Self::Output {
                $operator::$method(self, other?)
            }
        }

        impl<B: Backend, V: Borrow<Var<B>>> $operator<$var> for Result<V> {
            type Output = Result<Var<B>>;

            fn $method(self, var: $var) -> Self::Output {
                $operator::$method(self?.borrow(), var)
            }
        }

        impl<B: Backend> $operator<f64> for $var {
            type Output = Result<Var<B>>;

            fn $method(self, number: f64) -> Self::Output {
                let f: fn(&Var<B>, f64) -> Result<Var<B>> = $number_right;
                f(self.borrow(), number)
            }
        }

        impl<B: Backend> $operator<$var> for f64 {
            type Output = Result<Var<B>>;

            fn $method(self, var: $var) -> Self::Output {
                let f: fn(f64, &Var<B>) -> Result<Var<B>> = $number_left;
                f(self, var.borrow())
            }
        }
    };
}

operators! {
    Add, add, |x, y| x.add(y), |x, c| x.linear_map(1.0, c), |c, x| x.linear_map(1.0, c);
    Sub, sub, |x, y| x.sub(y), |x, c| x.linear_map(1.0, -c), |c, x| x.linear_map(-1.0, c);
    Mul, mul, |x, y| x.mul(y), |x, c| x.scale(c), |c, x| x.scale(c);
    // Divided, not multiplied by 1 / c, which would round twice.
    Div, div, |x, y| x.div(y), |x, c| x.div(&number(x, c)?), |c, x| number(x, c)?.div(x);
}

/// A number as a constant beside `x`.
fn number<B: Backend>(x: &Var<B>, value: f64) -> Result<Var<B>> {
    Ok(x.tape().constant(&x.tape().backend().full(&[], value)?))
}

impl<B: Backend> Neg for Var<B> {
    type Output = Result<Var<B>>;

    fn neg(self) -> Self::Output {
        Var::neg(&self)
    }
}

impl<B: Backend> Neg for &Var<B> {
    type Output = Result<Var<B>>;

    fn neg(self) -> Self::Output {
        Var::neg(self)
    }
}
