//! The program around a task: from the command line to the result line.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::{Command, Ending, Evaluation, FitOptions, Flags, Output, Preset, Task, Trainer, device, fit, interrupt};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::nn::Module;

/// What a finished run prints.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The name of the task.
    pub task: String,
    /// The preset.
    pub preset: Preset,
    /// The name of the backend.
    pub backend: String,
    /// Steps of the run, those before it was resumed included.
    pub steps: u64,
    /// The mean loss of the last 100 steps.
    pub train_loss: f64,
    /// The test set.
    pub test: Evaluation,
    /// The share of the most common label of the test set.
    pub majority: f64,
    /// Since this process began.
    pub seconds: f64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { task, preset, backend, steps, train_loss, test, majority, seconds } = self;
        write!(f, "result task={task} preset={preset} backend={backend} steps={steps} train_loss={train_loss:.4} ")?;
        write!(f, "test_accuracy={:.4} majority={majority:.4} spike_rate={:.4} seconds={seconds:.1}", test.accuracy, test.spike_rate)
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All steps are taken and the test set is evaluated.
    Finished(Summary),
    /// It was stopped after this step, and saved to this file, if there was a folder for it.
    Stopped(u64, Option<PathBuf>),
}

/// The `main` of an example: reads the command line, trains on the device that it names, prints. The last line on stdout is the result,
/// as `key=value` pairs.
pub fn main(task: &dyn Task) -> ExitCode {
    let flags = match Flags::parse(std::env::args_os().skip(1)) {
        Ok(Command::Train(flags)) => flags,
        Ok(Command::Help) => return finish(print(&mut io::stdout(), Flags::help(task).trim_end())),
        Err(error) => return fail(2, &error),
    };
    let outcome = interrupt::on_ctrl_c().and_then(|stop| device::run(task, &flags, stop, &mut io::stdout()));
    match outcome {
        Ok(Outcome::Finished(_)) => ExitCode::SUCCESS,
        Ok(Outcome::Stopped(step, saved)) => {
            let saved =
                saved.map_or("nothing is saved without --out".into(), |path| format!("saved {}, go on with --resume", path.display()));
            complain(&format!("stopped after step {step}: {saved}"));
            ExitCode::from(interrupt::EXIT_CODE)
        }
        Err(error) => fail(1, &error),
    }
}

/// Does what the flags say on `backend`, whatever `--backend` is, and prints to `out` what a user reads on stdout.
///
/// # Errors
/// What [`Output::open`], [`Task::load`], [`Trainer::resume`] and [`fit`] answer.
pub fn run<B: Backend>(backend: &B, task: &dyn Task, flags: &Flags, stop: &AtomicBool, out: &mut dyn Write) -> Result<Outcome> {
    let started = Instant::now();
    if let Some(threads) = flags.threads {
        use_threads(threads)?;
    }
    // Before the data, which may take long: the folder must be good.
    let open = if flags.resume { Output::reopen } else { Output::open };
    let mut output = flags.out.as_ref().map(open).transpose()?;
    let recipe = flags.recipe(task);
    let splits = task.load(flags.preset, &recipe, flags.data.as_deref())?;
    let mut trainer = Trainer::new(backend, task.name(), recipe, splits)?;
    if let Some(output) = &mut output {
        if flags.resume {
            trainer = trainer.resume(output.checkpoint())?;
            output.proceed(&trainer)?;
        } else {
            output.begin(&trainer)?;
        }
    }
    if !flags.quiet {
        print(out, &header(backend, &trainer, flags.preset))?;
    }
    let options = FitOptions { quiet: flags.quiet, ..FitOptions::default() };
    let mut test = None;
    if fit(&mut trainer, output.as_mut(), options, stop)? == Ending::Finished {
        test = trainer.test(flags.eval_passes, stop)?;
    }
    let Some(test) = test else { return Ok(Outcome::Stopped(trainer.steps_done(), output.map(|output| output.checkpoint()))) };
    if let Some(output) = &mut output {
        output.evaluation("test", &trainer, &test)?;
    }
    let summary = Summary {
        task: task.name().into(),
        preset: flags.preset,
        backend: backend.name(),
        steps: trainer.steps_done(),
        train_loss: trainer.recent(usize::MAX).map_or(f64::NAN, |recent| recent.loss),
        test,
        majority: trainer.splits().test.majority(),
        seconds: started.elapsed().as_secs_f64(),
    };
    print(out, &summary.to_string())?;
    Ok(Outcome::Finished(summary))
}

/// What is about to be trained.
fn header<B: Backend>(backend: &B, trainer: &Trainer<B>, preset: Preset) -> String {
    let sets = trainer.splits();
    format!(
        "{} {preset} on {}: {} parameters; {} training, {} validation, {} test samples; {} of {} steps done",
        trainer.task(),
        backend.name(),
        trainer.model().num_parameters(),
        sets.train.len(),
        sets.val.len(),
        sets.test.len(),
        trainer.steps_done(),
        trainer.steps_total()
    )
}

#[cfg(feature = "parallel")]
fn use_threads(threads: usize) -> Result<()> {
    let refused = |error| Error::config("--threads", threads, format!("the thread pool cannot be made ({error}): leave it out"));
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(refused)
}

#[cfg(not(feature = "parallel"))]
fn use_threads(threads: usize) -> Result<()> {
    match threads {
        1 => Ok(()),
        _ => Err(Error::config("--threads", threads, "this build has one thread: build with feature parallel")),
    }
}

fn print(out: &mut dyn Write, line: &str) -> Result<()> {
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| Error::io("write to", "the standard output", error))
}

/// Writes a line to stderr. Where even that fails, there is nobody left to tell.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn fail(code: u8, error: &Error) -> ExitCode {
    complain(&format!("error: {error}"));
    ExitCode::from(code)
}

fn finish(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}
