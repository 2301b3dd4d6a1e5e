//! Gradient checks: [`gradcheck()`] for any function of variables, [`check_op`] for everything that an [`Op`] promises, [`check_agreement`]
//! for an op on another backend; [`gradgradcheck`] and [`check_twice`] for derivatives of derivatives.
//!
//! A custom op brings its own backward, an [`Oracle`] and its cases, and is checked in three lines, as here in `main`:
//!
//! ```
//! use pspikessm::Result;
//! use pspikessm::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Tape, check_op, operands};
//! use pspikessm::backend::*;
//!
//! /// x^3.
//! #[derive(Clone)]
//! struct Cube;
//!
//! impl<B: Backend> Op<B> for Cube {
//!     const NAME: &'static str = "cube";
//!     type Saved = Tensor<B>;
//!
//!     fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Tensor<B>)> {
//!         let [x] = operands("cube", inputs)?;
//!         Ok((backend.binary(Binary::Mul, &backend.unary(Unary::Square, x)?, x)?, x.clone()))
//!     }
//!
//!     fn backward(&self, backend: &B, x: Tensor<B>, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
//!         let slope = backend.unary(Unary::Linear(3.0, 0.0), &backend.unary(Unary::Square, &x)?)?;
//!         Ok(vec![Some(backend.binary(Binary::Mul, &slope, grad)?)])
//!     }
//!
//!     fn oracle(&self) -> Oracle<B, Self> {
//!         Oracle::FiniteDifferences
//!     }
//!
//!     fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
//!         let shape = generate.shape(0..=3, 1..=4);
//!         vec![Case::new(Cube, [generate.normal(&shape)])]
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let cpu = Cpu::<f64>::new();
//! let report = check_op::<Cube, _>(&cpu, 7)?;
//! assert!(report.comparisons > 0 && report.unverified.is_empty());
//!
//! let tape = Tape::new(&cpu);
//! let x = tape.leaf(&cpu.from_vec(vec![1.0, -2.0], &[2])?);
//! let gradients = tape.apply(Cube, &[&x])?.sum()?.backward()?;
//! assert_eq!(cpu.to_vec(gradients.of(&x).unwrap())?, [3.0, 12.0]);
//! # Ok(()) }
//! ```

pub(crate) mod agree;
mod check;
mod generate;
mod probe;
mod twice;

pub(crate) use agree::{Truth, check_agreement, truths};
pub use generate::Generate;
pub use twice::{check_twice, gradgradcheck};

use self::check::Check;
use self::probe::Probe;
use super::{Array, Case, Op, Oracle, Tape, Var};
use crate::backend::{Backend, Real};
use crate::error::{Error, Result};

/// What a gradient check looked at.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The number of cases.
    pub cases: usize,
    /// The number of single comparisons.
    pub comparisons: usize,
    /// The largest relative error that was met.
    pub largest_error: f64,
    /// The reason of every case that has no oracle.
    pub unverified: Vec<&'static str>,
    /// The number of cases that are differentiable once, and refused a second derivative by name.
    pub once: usize,
}

impl Report {
    fn absorb(&mut self, other: Report) {
        self.cases += other.cases;
        self.comparisons += other.comparisons;
        self.largest_error = self.largest_error.max(other.largest_error);
        self.unverified.extend(other.unverified);
        self.once += other.once;
    }
}

/// Checks all cases of an op: `check_op::<MyOp, _>(&Cpu::<f64>::new(), seed)`.
///
/// For every case: the output is finite and the same bits in every run; every input gets a gradient of its shape, the one that the
/// op's [`Oracle`] vouches for, and in some case is not all zero; it stays the same where other inputs are constants, adds up where the
/// op is run twice or one variable is used as two inputs; and with recording off, or on constants, nothing is recorded. A seed
/// always makes the same cases.
///
/// See the [module's page](self) for a custom op that is checked so.
///
/// # Errors
/// [`Error::Gradient`] with the case, the input and both numbers at the first failure; [`Error::Config`] where the backend does not
/// compute in f64.
pub fn check_op<O: Op<B>, B: Backend>(backend: &B, seed: u64) -> Result<Report> {
    needs_f64::<B>()?;
    let mut generate = Generate::new(seed);
    let cases = O::cases(&mut generate);
    if cases.is_empty() {
        return Err(Error::Gradient { op: O::NAME.into(), help: "there are no cases to check it on".into() });
    }
    let (mut report, mut live) = (Report::default(), Vec::new());
    for (index, case) in cases.iter().enumerate() {
        let random = Generate::new(generate.seed());
        report.absorb(check_case(backend, case, random, &mut live).map_err(|error| in_case(O::NAME, index, seed, case, error))?);
    }
    // An op whose output is always zero would pass every check with a gradient of zero.
    match live.iter().position(|live| !live) {
        None => Ok(report),
        Some(i) => Err(Error::Gradient { op: O::NAME.into(), help: format!("the gradient of input {i} is zero in every case") }),
    }
}

/// The failure of a case, with its shapes.
fn in_case<O>(op: &'static str, index: usize, seed: u64, case: &Case<O>, error: Error) -> Error {
    let cause = match error {
        Error::Gradient { help, .. } => help,
        other => other.to_string(),
    };
    let shapes: Vec<&[usize]> = case.inputs.iter().map(|x| x.shape.as_slice()).collect();
    Error::Gradient { op: op.into(), help: format!("case {index} of seed {seed}, inputs {shapes:?}: {cause}") }
}

/// Checks one case, and notes in `live` which inputs had a gradient that is not all zero.
fn check_case<O: Op<B>, B: Backend>(backend: &B, case: &Case<O>, random: Generate, live: &mut Vec<bool>) -> Result<Report> {
    let probe = |op: O| Probe::new(backend, O::NAME, move |tape, vars| tape.apply(op.clone(), &vars.iter().collect::<Vec<_>>()));
    let subject = probe(case.op.clone());
    let mut check = Check::start(&subject, &case.inputs, random)?;
    live.resize(live.len().max(case.inputs.len()), false);
    live.iter_mut().zip(check.live()).for_each(|(live, now)| *live |= now);
    check.recording()?;
    check.subsets()?;
    check.used_twice()?;
    check.one_variable_in_two_places()?;
    match case.op.oracle() {
        Oracle::FiniteDifferences => check.differences(&subject)?,
        Oracle::Linear => check.adjoint()?,
        Oracle::Expectation { expected, redraw } => {
            let expected = probe(expected(&case.op));
            check.differences(&expected)?;
            check.mean(&expected, |seed| probe(redraw(&case.op, seed)).output(&case.inputs))?;
        }
        Oracle::Smooth(f) => check.differences(&Probe::new(backend, O::NAME, |_, vars| f(&case.op, vars)))?,
        Oracle::Composition(f) => check.composition(&Probe::new(backend, O::NAME, |_, vars| f(&case.op, vars)))?,
        Oracle::Unverified(reason) => check.unverified(reason),
    }
    Ok(check.finish())
}

/// Checks the gradient of any function of variables by central differences, at `inputs` and for a random gradient of its output.
///
/// The function must give the same output every time: pass keys, not fresh random numbers. An input that the output does not depend on
/// counts as having a gradient of zero, which is then checked.
///
/// ```
/// use pspikessm::autodiff::{Array, gradcheck};
/// use pspikessm::backend::Cpu;
///
/// # fn main() -> pspikessm::Result<()> {
/// let inputs = [Array { values: vec![0.3, -1.2], shape: vec![2] }, Array { values: vec![0.7], shape: vec![] }];
/// let cpu = Cpu::<f64>::new();
/// gradcheck(&cpu, |_, v| v[0].tanh()?.mul(&v[1])?.sum(), &inputs)?;
///
/// // A history that is cut off leaves a gradient that is not the function's.
/// assert!(gradcheck(&cpu, |_, v| v[0].mul(&v[0].detach()), &inputs).is_err());
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Error::Gradient`] with the place and both numbers where the gradient is wrong; [`Error::Config`] where the backend does not compute in
/// f64; whatever `f` answers.
pub fn gradcheck<B: Backend>(backend: &B, f: impl Fn(&Tape<B>, &[Var<B>]) -> Result<Var<B>>, inputs: &[Array]) -> Result<Report> {
    needs_f64::<B>()?;
    let probe = Probe::new(backend, "the function", f);
    let mut check = Check::start(&probe, inputs, Generate::new(0))?;
    check.differences(&probe)?;
    Ok(check.finish())
}

/// Single precision leaves too few digits for differences.
fn needs_f64<B: Backend>() -> Result<()> {
    match B::Elem::NAME {
        "f64" => Ok(()),
        name => Err(Error::config("backend", name, "gradients are checked in f64: use Cpu::<f64>::new()")),
    }
}
