//! `Probe`: runs a function of variables for its output, for its gradients off the tape, and for its derivative by differences.

use crate::autodiff::{Array, Tape, Var};
use crate::backend::{Backend, Real, Tensor, shape};
use crate::error::{Error, Result};

/// What an input of a run is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A variable of its own.
    Leaf,
    /// A constant.
    Constant,
    /// The same variable as an earlier input.
    SameAs(usize),
}

type Run<'a, B> = dyn Fn(&Tape<B>, &[Var<B>]) -> Result<Var<B>> + 'a;

/// A function of variables on a backend, under a name.
pub(super) struct Probe<'a, B: Backend> {
    pub backend: &'a B,
    pub name: &'a str,
    f: Box<Run<'a, B>>,
    /// What makes a tape that records.
    tape: fn(&B) -> Tape<B>,
}

impl<'a, B: Backend> Probe<'a, B> {
    pub fn new(backend: &'a B, name: &'a str, f: impl Fn(&Tape<B>, &[Var<B>]) -> Result<Var<B>> + 'a) -> Self {
        Probe { backend, name, f: Box::new(f), tape: Tape::new }
    }

    /// The same on tapes of higher order.
    pub fn of_higher_order(self) -> Self {
        Probe { tape: Tape::higher_order, ..self }
    }

    /// The failure of a check.
    pub fn fail(&self, help: impl Into<String>) -> Error {
        Error::Gradient { op: self.name.into(), help: help.into() }
    }

    /// `array` on the device.
    pub fn tensor(&self, array: &Array) -> Result<Tensor<B>> {
        shape::same_numel("gradcheck", &[array.values.len()], &array.shape)?;
        self.backend.from_vec(array.values.iter().map(|v| B::Elem::of(*v)).collect(), &array.shape)
    }

    /// `tensor` on the host.
    pub fn array(&self, tensor: &Tensor<B>) -> Result<Array> {
        let values = self.backend.to_vec(tensor)?.into_iter().map(Real::f64).collect();
        Ok(Array { values, shape: tensor.shape().into() })
    }

    /// Runs the function on `tape`, and hands back the inputs' variables and the output.
    pub fn run(&self, tape: &Tape<B>, inputs: &[Array], role: impl Fn(usize) -> Role) -> Result<(Vec<Var<B>>, Var<B>)> {
        let mut vars: Vec<Var<B>> = Vec::with_capacity(inputs.len());
        for (i, input) in inputs.iter().enumerate() {
            vars.push(match role(i) {
                Role::Leaf => tape.leaf(&self.tensor(input)?),
                Role::Constant => tape.constant(&self.tensor(input)?),
                Role::SameAs(earlier) => vars[earlier].clone(),
            });
        }
        let output = self.rerun(tape, &vars)?;
        Ok((vars, output))
    }

    /// Runs the function once more, on variables of an earlier run.
    pub fn rerun(&self, tape: &Tape<B>, vars: &[Var<B>]) -> Result<Var<B>> {
        (self.f)(tape, vars)
    }

    /// The output, with recording off.
    pub fn output(&self, inputs: &[Array]) -> Result<Array> {
        let (_, output) = self.run(&Tape::off(self.backend), inputs, |_| Role::Leaf)?;
        self.array(output.value())
    }

    /// The tape's gradients of <cotangent, output>: `None` for constants and for leaves that the output does not depend on.
    pub fn gradients(&self, inputs: &[Array], cotangent: &Array, role: impl Fn(usize) -> Role) -> Result<Vec<Option<Vec<f64>>>> {
        let (vars, output) = self.run(&(self.tape)(self.backend), inputs, role)?;
        let gradients = output.backward_from(&self.tensor(cotangent)?)?;
        let mut found = Vec::with_capacity(vars.len());
        for (var, input) in vars.iter().zip(inputs) {
            let Ok(gradient) = gradients.of(var) else {
                found.push(None);
                continue;
            };
            shape::exactly("gradcheck", "a gradient", &input.shape, gradient.shape())?;
            found.push(Some(self.array(gradient)?.values));
        }
        Ok(found)
    }

    /// The gradients where every input is a variable: all of them must be there.
    pub fn full_gradients(&self, inputs: &[Array], cotangent: &Array) -> Result<Vec<Vec<f64>>> {
        let gradients = self.gradients(inputs, cotangent, |_| Role::Leaf)?;
        let missing = |i| self.fail(format!("input {i} got no gradient"));
        gradients.into_iter().enumerate().map(|(i, gradient)| gradient.ok_or_else(|| missing(i))).collect()
    }

    /// The derivative of <cotangent, output> along `direction`, by the central stencil of fourth order with this step.
    ///
    /// Outputs are subtracted before they are summed, so that what the direction does not move cancels exactly.
    pub fn derivative(&self, inputs: &[Array], direction: &[Vec<f64>], cotangent: &Array, step: f64) -> Result<f64> {
        let at = |t: f64| -> Result<Vec<f64>> {
            let moved: Vec<Array> = inputs.iter().zip(direction).map(|(x, d)| moved(x, d, t)).collect();
            let output = self.output(&moved)?;
            shape::exactly("gradcheck", "the output of a run with other values", &cotangent.shape, &output.shape)?;
            Ok(output.values)
        };
        let (near, far) = ((at(step)?, at(-step)?), (at(2.0 * step)?, at(-2.0 * step)?));
        let difference = |j: usize| 8.0 * (near.0[j] - near.1[j]) - (far.0[j] - far.1[j]);
        Ok(cotangent.values.iter().enumerate().map(|(j, g)| g * difference(j)).sum::<f64>() / (12.0 * step))
    }
}

/// x + t d.
pub(super) fn moved(x: &Array, d: &[f64], t: f64) -> Array {
    Array { values: x.values.iter().zip(d).map(|(x, d)| x + t * d).collect(), shape: x.shape.clone() }
}

/// The scalar product.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The sum of the magnitudes that [`dot`] adds up: what its rounding error is relative to.
pub(super) fn magnitude(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a * b).abs()).sum()
}
