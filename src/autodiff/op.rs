//! What a differentiable operation is: forward, backward, and how its gradient is verified.

use super::{Var, differentiable_once, differentiate, gradcheck::Generate};
use crate::backend::{Backend, Tensor};
use crate::error::{Error, Result};

/// A differentiable operation with any number of inputs and one output.
///
/// But for [`derivative`](Op::derivative) and [`backward_onto`](Op::backward_onto) nothing has a default: an op brings its own adjoint, says
/// how that is verified, and gives the cases that [`check_op`](super::check_op) runs. One test runs it on all of the crate's own ops.
pub trait Op<B: Backend>: Clone + 'static {
    /// The name in error messages.
    const NAME: &'static str;
    /// What backward needs to remember.
    type Saved: 'static;

    /// The output, and what backward needs. Shapes are checked here. Where `needs` wants nothing (recording is off), what is saved
    /// is dropped at once: save clones of tensors, which are free, or what [`lean`](crate::backend::Transfer::lean) makes of them, and compute
    /// nothing for backward's sake.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Value`] or [`Error::Config`] for inputs that do not suit the op; what the device answers.
    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], needs: Needs) -> Result<(Tensor<B>, Self::Saved)>;

    /// The gradients of the inputs that `needs` wants, for the gradient `grad` of the output. The tape does the accumulating.
    ///
    /// # Errors
    /// What the device answers.
    fn backward(&self, backend: &B, saved: Self::Saved, grad: &Tensor<B>, needs: Needs) -> Result<Grads<B>>;

    /// As [`backward`](Op::backward), of a gradient that is given away: an op may write a gradient of its own over it. The first input may have
    /// a gradient already, from ops after this one: an op that takes it out of `earlier` answers the sum of both, and saves the tape a pass
    /// over them. By default neither is done.
    ///
    /// # Errors
    /// What the device answers.
    fn backward_onto(
        &self,
        backend: &B,
        saved: Self::Saved,
        grad: Tensor<B>,
        needs: Needs,
        earlier: &mut Option<Tensor<B>>,
    ) -> Result<Grads<B>> {
        let _ = earlier;
        self.backward(backend, saved, &grad, needs)
    }

    /// The same gradients as [`backward`](Op::backward), made of variables by ops, so that they can be differentiated again: what
    /// [`gradients`](super::gradients()) records, on a tape of higher order. `needs` says which of them are wanted.
    ///
    /// By default that of the composition, for an op whose [`oracle`](Op::oracle) is one; any other op is differentiable once.
    /// [`check_twice`](super::check_twice) verifies it.
    ///
    /// # Errors
    /// [`Error::NotDifferentiable`] where the op is differentiable once; what the ops answer.
    fn derivative(&self, inputs: &[Var<B>], output: &Var<B>, grad: &Var<B>, needs: Needs) -> Result<VarGrads<B>> {
        let _ = output;
        match self.oracle() {
            Oracle::Composition(f) => differentiate(|inputs| f(self, inputs), inputs, grad, needs),
            _ => Err(differentiable_once(Self::NAME)),
        }
    }

    /// How the gradient of this op, as configured, is verified.
    fn oracle(&self) -> Oracle<B, Self>;

    /// What it is verified on: random shapes from `generate`, and the special points.
    fn cases(generate: &mut Generate) -> Vec<Case<Self>>;
}

/// One gradient an input, `None` where it was not needed.
pub type Grads<B> = Vec<Option<Tensor<B>>>;

/// The same as variables.
pub type VarGrads<B> = Vec<Option<Var<B>>>;

/// The variables of an op that takes exactly `N`.
///
/// # Errors
/// [`Error::Value`] where another number was given.
pub fn variables<'a, B: Backend, const N: usize>(op: &'static str, inputs: &'a [Var<B>]) -> Result<&'a [Var<B>; N]> {
    inputs.try_into().map_err(|_| Error::value(op, format!("takes {N} inputs, not {}", inputs.len())))
}

/// The inputs of an op that takes exactly `N`.
///
/// # Errors
/// [`Error::Value`] where another number was given.
pub fn operands<'a, B: Backend, const N: usize>(op: &'static str, inputs: &[&'a Tensor<B>]) -> Result<[&'a Tensor<B>; N]> {
    inputs.try_into().map_err(|_| Error::value(op, format!("takes {N} inputs, not {}", inputs.len())))
}

/// Which inputs of an op need a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs(u64);

impl Needs {
    /// No input does: recording is off, or all inputs are constants.
    pub const NONE: Needs = Needs(0);

    /// The largest number of inputs that an op can have.
    pub const MAX: usize = 64;

    /// From one flag an input, of which there are at most [`Needs::MAX`].
    pub fn of(flags: impl IntoIterator<Item = bool>) -> Self {
        Needs(flags.into_iter().enumerate().fold(0, |bits, (i, flag)| bits | (u64::from(flag) << i)))
    }

    /// Whether input `i` needs a gradient.
    pub fn input(self, i: usize) -> bool {
        i < Self::MAX && self.0 >> i & 1 == 1
    }

    /// Whether any input does.
    pub fn any(self) -> bool {
        self.0 != 0
    }

    /// The flags of the first `N` inputs.
    pub fn flags<const N: usize>(self) -> [bool; N] {
        std::array::from_fn(|i| self.input(i))
    }
}

/// A function of variables, as oracles use it.
pub type Function<B, O> = fn(&O, &[Var<B>]) -> Result<Var<B>>;

/// The independent truth that a gradient is held against.
#[non_exhaustive]
pub enum Oracle<B: Backend, O> {
    /// Central differences of the op itself.
    FiniteDifferences,
    /// The op is linear in each input, up to a constant: the adjoint identity <g, f(.., x, ..) - f(.., 0, ..)> = <grad, x>.
    Linear,
    /// The op draws at random from [0, 1]: its gradient is that of the op it becomes in expectation, by central differences, and the
    /// mean over redraws (given a seed) approaches that expectation.
    Expectation {
        /// The deterministic op whose output is the expected output.
        expected: fn(&O) -> O,
        /// The same op with other random numbers.
        redraw: fn(&O, u64) -> O,
    },
    /// The gradient is that of another, smooth function, by central differences (surrogate gradients).
    Smooth(Function<B, O>),
    /// Output and gradient are those of a composition of other ops.
    Composition(Function<B, O>),
    /// None, for this reason.
    Unverified(&'static str),
}

/// Host values with a shape, in f64: an input of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Row-major values.
    pub values: Vec<f64>,
    /// The length of every axis.
    pub shape: Vec<usize>,
}

/// One configuration of an op and the inputs to check it on.
#[derive(Clone, Debug)]
pub struct Case<O> {
    /// The op.
    pub op: O,
    /// Its inputs.
    pub inputs: Vec<Array>,
}

impl<O> Case<O> {
    /// A case.
    pub fn new(op: O, inputs: impl Into<Vec<Array>>) -> Self {
        Case { op, inputs: inputs.into() }
    }
}
