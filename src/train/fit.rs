//! The training loop: steps, validation, metrics, checkpoints, until the run is done or someone stops it.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use super::evaluate::Evaluation;
use super::learner::Learner;
use super::output::Output;
use super::progress::Progress;
use super::report;
use super::trainer::{StepReport, Trainer};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::nn::SpikeMeter;

/// How often what is written, and what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FitOptions {
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Steps between lines of metrics, 100 at most.
    pub metrics_every: u64,
    /// Steps between lines of spike rates, those of the step's own batch; 0 means none. Nothing is counted in the steps between, and what is
    /// computed is the same.
    pub rates_every: u64,
    /// Steps between reports of a run that goes on; 0 means none.
    pub report_every: u64,
    /// Show no progress bar. (There is none either where stderr is no terminal.)
    pub quiet: bool,
}

impl Default for FitOptions {
    fn default() -> Self {
        FitOptions { checkpoint_every: 100, metrics_every: 10, rates_every: 50, report_every: 0, quiet: false }
    }
}

/// How a loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// All steps are taken.
    Finished,
    /// Someone set `stop`, or a callback ended it; what was reached is saved.
    Stopped,
}

/// What a callback is told of.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A step was taken, or left out (`None`) because no sample of its batch could be read.
    Step(Option<StepReport>),
    /// An epoch was validated.
    Validated(&'a Evaluation),
}

/// A callback: it sees the run after every [`Event`], and may end it by [`ControlFlow::Break`] or by an error.
pub type Callback<'a, B, L> = &'a mut dyn FnMut(&Trainer<B, L>, Event<'_>) -> Result<ControlFlow<()>>;

/// Takes the steps that are left. Validates at the end of every epoch; writes metrics and checkpoints to `output`, if any, on which
/// [`Output::begin`] or [`Output::proceed`] was called.
///
/// `stop` is looked at before every step and every batch of a validation: where it is set, the run is saved, and the loop ends. Of a trainer
/// [on many processes](Trainer::across) all call this; `output` is that of the first alone, and what is stopped or fails on any of them ends
/// all.
///
/// # Errors
/// What a step, a validation or a file answers. Where a sample cannot be read, what was reached before is saved first; otherwise the last
/// checkpoint stays as it was.
pub fn fit<B: Backend, L: Learner<B>>(
    trainer: &mut Trainer<B, L>,
    output: Option<&mut Output>,
    options: FitOptions,
    stop: &AtomicBool,
) -> Result<Ending> {
    run(trainer, output, options, stop, None)
}

/// The same with a callback after every step and every validation, before anything is written. On a GPU every step is then waited for.
///
/// # Errors
/// As [`fit`]; what the callback answers.
pub fn fit_with<B: Backend, L: Learner<B>>(
    trainer: &mut Trainer<B, L>,
    output: Option<&mut Output>,
    options: FitOptions,
    stop: &AtomicBool,
    callback: Callback<'_, B, L>,
) -> Result<Ending> {
    run(trainer, output, options, stop, Some(callback))
}

fn run<B: Backend, L: Learner<B>>(
    trainer: &mut Trainer<B, L>,
    mut output: Option<&mut Output>,
    options: FitOptions,
    stop: &AtomicBool,
    mut callback: Option<Callback<'_, B, L>>,
) -> Result<Ending> {
    let group = trainer.group.clone();
    let (metric, per_epoch) = (trainer.learner().metric().name, trainer.steps_per_epoch());
    let quiet = options.quiet || !group.is_first();
    let progress = Progress::new(trainer.task(), trainer.steps_done(), trainer.steps_total(), per_epoch, metric, quiet);
    // Whatever one process writes or is told, the others wait for, and hear of.
    output = output.filter(|_| group.is_first());
    let (mut saved, mut ended) = (None, false);
    loop {
        let mut validated = None;
        if trainer.validation_due() {
            let bar = progress.validation();
            let found = trainer.validate_watched(stop, &|done, all| bar.show(done, all));
            validated = found.inspect_err(|error| rescue(error, trainer, output.as_deref_mut()))?;
        }
        if let Some(found) = &validated {
            ended |= group.agree(told(&mut callback, trainer, Event::Validated(found)))?.is_break();
            group.agree(write_validation(trainer, output.as_deref_mut(), found))?;
        }
        let done = trainer.steps_done();
        ended = group.any(ended || stop.load(Ordering::Relaxed))?;
        let ending = match ended {
            true => Some(Ending::Stopped),
            false => trainer.is_finished().then_some(Ending::Finished),
        };
        if ending.is_some() || due(done, options.checkpoint_every) {
            trainer.settle()?;
        }
        if saved != Some(done) && (ending.is_some() || due(done, options.checkpoint_every)) {
            group.agree(output.as_deref_mut().map_or(Ok(()), |output| output.save(trainer)))?;
            saved = Some(done);
        }
        if let Some(ending) = ending {
            return Ok(ending);
        }
        let meter = (output.is_some() && due(done + 1, options.rates_every)).then(SpikeMeter::default);
        if callback.is_none() && meter.is_none() && trainer.may_leave_unread() {
            let taken = trainer.step_unread();
            taken.inspect_err(|error| rescue(error, trainer, output.as_deref_mut()))?;
            // Whatever looks at what steps have told comes after they are read.
            let looked_at = [options.metrics_every, options.report_every];
            if looked_at.iter().any(|&every| due(trainer.steps_done(), every)) || trainer.validation_due() {
                trainer.settle()?;
            }
        } else {
            let step = match &meter {
                Some(meter) => trainer.step_metered(meter),
                None => trainer.step(),
            };
            let report = step.inspect_err(|error| rescue(error, trainer, output.as_deref_mut()))?;
            ended = group.agree(told(&mut callback, trainer, Event::Step(report)))?.is_break();
        }
        progress.show(trainer.steps_done(), trainer.best().map(|(_, metric)| metric), trainer.recent(usize::MAX));
        let done = trainer.steps_done();
        if [options.metrics_every, options.rates_every, options.report_every].iter().any(|&every| due(done, every)) {
            let note = |output| note(output, trainer, options, meter.as_ref(), &progress);
            group.agree(output.as_deref_mut().map_or(Ok(()), note))?;
        }
    }
}

/// What the callback, if there is one, says to an event.
fn told<B: Backend, L: Learner<B>>(
    callback: &mut Option<Callback<'_, B, L>>,
    trainer: &Trainer<B, L>,
    event: Event<'_>,
) -> Result<ControlFlow<()>> {
    callback.as_mut().map_or(Ok(ControlFlow::Continue(())), |callback| callback(trainer, event))
}

/// Writes what is due after a step.
fn note<B: Backend, L: Learner<B>>(
    output: &mut Output,
    trainer: &Trainer<B, L>,
    options: FitOptions,
    meter: Option<&SpikeMeter>,
    progress: &Progress,
) -> Result<()> {
    let done = trainer.steps_done();
    if due(done, options.metrics_every) {
        output.train(trainer, options.metrics_every as usize)?;
    }
    if let Some(meter) = meter {
        output.spikes(trainer, meter)?;
    }
    if due(done, options.report_every)
        // No page is worth the end of a run.
        && let Err(error) = report::write(output.dir())
    {
        progress.warn(&format!("warning: {error}"));
    }
    Ok(())
}

/// Notes the validation of the epoch that has ended, and saves it where it was the best.
fn write_validation<B: Backend, L: Learner<B>>(trainer: &Trainer<B, L>, output: Option<&mut Output>, found: &Evaluation) -> Result<()> {
    let Some(output) = output else { return Ok(()) };
    output.evaluation("validation", trainer, found)?;
    match trainer.best() {
        Some((epoch, _)) if epoch == trainer.epochs_done() => output.save_best(trainer),
        _ => Ok(()),
    }
}

/// Saves what was reached before an error. Where a number is not finite it is not worth it, and a device that failed in the middle of a step
/// may have moved a BatchNorm's statistics.
fn rescue<B: Backend, L: Learner<B>>(error: &Error, trainer: &mut Trainer<B, L>, output: Option<&mut Output>) {
    if let (Some(output), false) = (output, matches!(error, Error::NonFinite { .. } | Error::Device { .. })) {
        // Where this fails too, the first error is the one to report.
        let _ = trainer.settle().and_then(|()| output.save(trainer));
    }
    // Nobody leaves before it is saved.
    let _ = trainer.group.agree(Ok(()));
}

/// Whether something that happens `every` so many steps happens after step `done`; 0 means never.
fn due(done: u64, every: u64) -> bool {
    done > 0 && every > 0 && done.is_multiple_of(every)
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use super::*;
    use crate::backend::Cpu;
    use crate::backend::cube::wgpu;
    use crate::data::{Dataset, Splits, Vocabulary};
    use crate::train::Recipe;

    const RECIPE: &str = r#"name = "tiny"
data = "tiny"
run = { seed = 0, batch = 2, length = { steps = 9 } }
optimizer = { lr = 1e-2, weight_decay = 0.01 }
schedule = { cosine = { warmup = 1, total = 9 } }
model.layers = 1
model.block = { norm = "batch", ssm = { d_model = 4, d_state = 2, n_ssm = 1, l_max = 8, lr = 1e-3 } }
"#;

    fn trainer<B: Backend>(backend: &B) -> Trainer<B> {
        let mut set = Dataset::tokens(Vocabulary::new(["a", "b"]).unwrap(), 2);
        (0..4).for_each(|label| set.push_tokens(&[3, 4, 3, 3 + label as u8 % 2], label % 2).unwrap());
        let splits = Splits { train: set.clone(), val: set.clone(), test: set };
        Trainer::new(backend, "tiny", Recipe::parse(RECIPE, "tiny.toml").unwrap(), splits).unwrap()
    }

    #[test]
    fn a_lost_device_is_an_error_and_the_last_checkpoint_stays_on_wgpu() {
        let Some((gpu, device)) = wgpu::alone() else { return assert!(wgpu::names().is_empty()) };
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::open(dir.path()).unwrap();
        let mut trainer_there = trainer(&gpu);
        trainer_there.step().unwrap();
        let (go, halt) = (AtomicBool::new(false), AtomicBool::new(true));
        let options = FitOptions { checkpoint_every: 1, ..FitOptions::default() };
        assert_eq!(fit(&mut trainer_there, Some(&mut output), options, &halt).unwrap(), Ending::Stopped);
        let good = std::fs::read(output.checkpoint()).unwrap();
        device.destroy();
        let error = fit(&mut trainer_there, Some(&mut output), options, &go).unwrap_err();
        assert!(matches!(error, Error::Device { .. }) && error.to_string().contains("start again from a checkpoint"), "{error}");
        assert_eq!(std::fs::read(output.checkpoint()).unwrap(), good);
        assert_eq!(trainer(&Cpu::<f32>::new()).resume(output.checkpoint()).unwrap().steps_done(), 1);
    }
}
