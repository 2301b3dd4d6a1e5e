//! An op on any backend against the same op in f64 on the CPU, whose gradient is the verified one.

use super::probe::Probe;
use super::{Generate, Report};
use crate::autodiff::{Array, Op};
use crate::backend::{Backend, Cpu, shape};
use crate::error::{Error, Result};

/// What an op makes of a case in f64 on the CPU.
#[derive(Clone, Debug)]
pub struct Truth {
    /// The inputs, such as f32 holds them, so that on another backend only the arithmetic differs.
    inputs: Vec<Array>,
    output: Array,
    cotangent: Array,
    gradients: Vec<Vec<f64>>,
}

/// What `H` makes of all cases of a seed.
///
/// # Errors
/// What the op answers.
pub fn truths<H: Op<Cpu<f64>>>(seed: u64) -> Result<Vec<Truth>> {
    let (host, mut random) = (Cpu::<f64>::new(), Generate::new(!seed));
    let truth = |case: super::Case<H>| {
        let inputs: Vec<Array> = case.inputs.iter().map(single).collect();
        let probe = Probe::new(&host, H::NAME, move |tape, vars| tape.apply(case.op.clone(), &vars.iter().collect::<Vec<_>>()));
        let output = probe.output(&inputs)?;
        let cotangent = single(&random.normal(&output.shape));
        let gradients = probe.full_gradients(&inputs, &cotangent)?;
        Ok(Truth { inputs, output, cotangent, gradients })
    };
    H::cases(&mut Generate::new(seed)).into_iter().map(truth).collect()
}

/// Holds output and gradients of `O` on `backend` against [`truths`] of the same op and seed: they differ by `tolerance` of their largest
/// entry at most, a gradient by that of the output's gradient if it is larger (a slope near 0 is not known better than a slope of 1).
///
/// # Errors
/// [`Error::Gradient`] with the case and both numbers at the first that are farther apart; what the op answers.
pub fn check_agreement<O: Op<B>, B: Backend>(backend: &B, seed: u64, truths: &[Truth], tolerance: f64) -> Result<Report> {
    let mut report = Report::default();
    for (index, (case, truth)) in O::cases(&mut Generate::new(seed)).into_iter().zip(truths).enumerate() {
        let name = format!("{}, case {index} of seed {seed} on {}", O::NAME, backend.name());
        let probe = Probe::new(backend, &name, |tape, vars| tape.apply(case.op.clone(), &vars.iter().collect::<Vec<_>>()));
        let shapes: Vec<&[usize]> = truth.inputs.iter().map(|x| x.shape.as_slice()).collect();
        let off = |what: String, help| Error::Gradient { op: name.clone(), help: format!("{what} for inputs {shapes:?}: {help}") };
        let output = probe.output(&truth.inputs)?;
        shape::exactly("check_agreement", "the output", &truth.output.shape, &output.shape)?;
        let scale = largest(&truth.output.values);
        near(&mut report, &output.values, &truth.output.values, tolerance * scale).map_err(|help| off("the output".into(), help))?;
        let gradients = probe.full_gradients(&truth.inputs, &truth.cotangent)?;
        for (i, (gradient, want)) in gradients.iter().zip(&truth.gradients).enumerate() {
            let scale = largest(want).max(largest(&truth.cotangent.values));
            near(&mut report, gradient, want, tolerance * scale).map_err(|help| off(format!("the gradient of input {i}"), help))?;
        }
        report.cases += 1;
    }
    Ok(report)
}

/// Rounded to f32.
fn single(x: &Array) -> Array {
    Array { values: x.values.iter().map(|&v| f64::from(v as f32)).collect(), shape: x.shape.clone() }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, v| largest.max(v.abs()))
}

/// `got` is `want` up to `allowed`; else, where it is not.
fn near(report: &mut Report, got: &[f64], want: &[f64], allowed: f64) -> std::result::Result<(), String> {
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (got - want).abs();
        report.comparisons += 1;
        report.largest_error = report.largest_error.max(error);
        if error.is_nan() || error > allowed {
            return Err(format!("element {i} is {got} and not {want}: {error:.1e} away, {allowed:.1e} is allowed"));
        }
    }
    Ok(())
}
