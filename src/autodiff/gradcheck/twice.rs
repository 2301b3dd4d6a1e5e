//! Second derivatives: the gradient as a function of variables is held against the tape's run backwards, and its own gradient against
//! central differences.

use super::check::Check;
use super::probe::{Probe, Role};
use super::{Array, Generate, Report, in_case, needs_f64};
use crate::autodiff::{Case, Op, Tape, Var, gradients_from};
use crate::backend::{Backend, shape};
use crate::error::{Error, Result};

/// Checks the second derivatives of any function of variables, at `inputs`: the gradients that [`gradients_from`] records, for a random
/// gradient of the output, are those of a run backwards, and their derivatives, towards the inputs and towards the output's gradient, are
/// those of central differences.
///
/// ```
/// use pspikessm::autodiff::{Array, gradgradcheck};
/// use pspikessm::backend::Cpu;
///
/// # fn main() -> pspikessm::Result<()> {
/// let inputs = [Array { values: vec![0.3, -1.2], shape: vec![2] }, Array { values: vec![0.7], shape: vec![] }];
/// gradgradcheck(&Cpu::<f64>::new(), |_, v| v[0].tanh()?.mul(&v[1].exp()?), &inputs)?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`gradcheck`](super::gradcheck()); [`Error::NotDifferentiable`] where an op is differentiable once.
pub fn gradgradcheck<B: Backend>(backend: &B, f: impl Fn(&Tape<B>, &[Var<B>]) -> Result<Var<B>>, inputs: &[Array]) -> Result<Report> {
    needs_f64::<B>()?;
    check(&Probe::new(backend, "the function", f), inputs, Generate::new(0))
}

/// Checks the [`derivative`](Op::derivative) of an op on all of its cases, as [`gradgradcheck`] does. A case whose derivative is refused as
/// [`Error::NotDifferentiable`] is counted in [`Report::once`] and not checked.
///
/// # Errors
/// As [`check_op`](super::check_op).
pub fn check_twice<O: Op<B>, B: Backend>(backend: &B, seed: u64) -> Result<Report> {
    needs_f64::<B>()?;
    let mut generate = Generate::new(seed);
    let mut report = Report::default();
    for (index, case) in O::cases(&mut generate).iter().enumerate() {
        let random = Generate::new(generate.seed());
        match check_case(backend, case, random) {
            Ok(found) => report.absorb(found),
            Err(Error::NotDifferentiable { .. }) => report.once += 1,
            Err(error) => return Err(in_case(O::NAME, index, seed, case, error)),
        }
    }
    Ok(report)
}

fn check_case<O: Op<B>, B: Backend>(backend: &B, case: &Case<O>, random: Generate) -> Result<Report> {
    let run = |tape: &Tape<B>, vars: &[Var<B>]| tape.apply(case.op.clone(), &vars.iter().collect::<Vec<_>>());
    check(&Probe::new(backend, O::NAME, run), &case.inputs, random)
}

fn check<B: Backend>(probe: &Probe<'_, B>, inputs: &[Array], mut random: Generate) -> Result<Report> {
    let cotangent = random.normal(&probe.output(inputs)?.shape);
    let slope = Probe::new(probe.backend, probe.name, |tape, vars| slope(probe, tape, vars)).of_higher_order();
    let all: Vec<Array> = inputs.iter().cloned().chain([cotangent.clone()]).collect();
    let recorded = slope.output(&all)?.values;
    // What was recorded once is differentiable: a refusal from here on is a failure.
    hold(probe, &slope, &all, &recorded, random).map_err(|error| match error {
        Error::NotDifferentiable { op, help } => probe.fail(format!("of the gradient, {op} says: {help}")),
        other => other,
    })
}

/// Holds the gradient `recorded`, that of `probe` as the function `slope` of `all` of its inputs, against a run backwards, and its own
/// gradient against central differences.
fn hold<B: Backend>(probe: &Probe<'_, B>, slope: &Probe<'_, B>, all: &[Array], recorded: &[f64], random: Generate) -> Result<Report> {
    let mut check = Check::start(slope, all, random)?;
    let [inputs @ .., cotangent] = all else { return Err(probe.fail("there are no inputs")) };
    let backward = probe.gradients(inputs, cotangent, |_| Role::Leaf)?;
    let zeros = |i: usize| vec![0.0; inputs[i].values.len()];
    let backward: Vec<f64> = backward.into_iter().enumerate().flat_map(|(i, grad)| grad.unwrap_or_else(|| zeros(i))).collect();
    check.same_gradient(recorded, &backward)?;
    check.differences(slope)?;
    Ok(check.finish())
}

/// The gradients of all inputs but the last, which is the output's gradient, in a row.
fn slope<B: Backend>(probe: &Probe<'_, B>, tape: &Tape<B>, vars: &[Var<B>]) -> Result<Var<B>> {
    if !tape.is_recording() {
        // The numbers alone, from a tape of their own.
        let own = Tape::higher_order(tape.backend());
        let leaves: Vec<Var<B>> = vars.iter().map(|var| own.leaf(var.value())).collect();
        return Ok(tape.constant(slope(probe, &own, &leaves)?.value()));
    }
    let [inputs @ .., cotangent] = vars else { return Err(probe.fail("there are no inputs")) };
    let output = probe.rerun(tape, inputs)?;
    shape::exactly("gradgradcheck", "the output of a second run", cotangent.shape(), output.shape())?;
    let found = gradients_from(&[(&output, cotangent)], &inputs.iter().collect::<Vec<_>>())?;
    let rows: Vec<Var<B>> = found.iter().map(|grad| grad.reshape(&[grad.value().numel()])).collect::<Result<_>>()?;
    Var::concat(&rows.iter().collect::<Vec<_>>(), 0)
}
