//! The program around a task: from the command line to the result line.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use sysinfo::{CpuRefreshKind, RefreshKind};

use super::console::{complain, print};
use super::inputs::{fetch_in, load_in, shared_archive, shared_recipe};
use super::interrupt::Idle;
use super::launch::Launched;
use super::messages::{
    class_names, complain_of, print_classes, print_confusion, print_result, say_end, say_header, say_traffic, say_what_is_kept,
};
use super::process_group::{self, ProcessGroup};
use super::tasks::typed;
use super::{
    Alone, Command, Communicator, Ending, Evaluation, Evaluator, FitOptions, Flags, OnBackend, Origin, Output, Recipe, Sample, StepReport,
    Task, Trainer, fit, interrupt, load_weights, memory, pictures, progress, report, seeds,
};
use crate::backend::{Backend, Key, SpikeMode};
use crate::data::Encoding;
use crate::error::{Error, Result};
use crate::nn::Model;
use crate::nn::store::Archive;

pub use super::outcome::{Errors, Outcome, SeedRun, Summary, Sweep};
pub use super::spread::Spread;

/// The exit code of a run that failed.
const FAILED: u8 = 1;
/// The exit code of a call that asks for what cannot be.
const WRONG: u8 = 2;

/// The `main` of an example: reads the command line, trains on the device that it names, prints. The last line on stdout is the result,
/// as `key=value` pairs. The exit code is 0 where the work is done, 1 where it failed, 2 where what was asked for cannot be, and 128 + n
/// where signal n stopped it.
pub fn main(task: &dyn Task) -> ExitCode {
    ExitCode::from(exit_code(task, std::env::args_os().skip(1)))
}

/// Does what [`main`] does for these arguments, the program's name not among them, and returns the exit code.
pub fn exit_code<T: Into<OsString>>(task: &dyn Task, arguments: impl IntoIterator<Item = T>) -> u8 {
    let out = &mut io::stdout();
    let flags = match Flags::parse(arguments) {
        Ok(Command::Run(flags)) => flags,
        Ok(Command::Help) => return finish(print(out, Flags::help(task).trim_end())),
        Ok(Command::PrintRecipe(flags)) => return finish(print_recipe(task, &flags, out)),
        Ok(Command::Report(dir)) => return finish(report::write(&dir).and_then(|path| print(out, &path.display().to_string()))),
        Ok(Command::Compare(dirs, into)) => {
            return finish(report::compare(&dirs, &into).and_then(|path| print(out, &path.display().to_string())));
        }
        Err(error) => {
            complain(&format!("error: {error}"));
            return WRONG;
        }
    };
    let mut launched = match Launched::join() {
        Ok(launched) => launched,
        Err(error) => return finish(Err(error)),
    };
    let (rank, local_size) = (launched.communicator().rank(), launched.communicator().local_size());
    if flags.threads.is_none() && local_size < 2 {
        use_processors();
    }
    let work = |stop: &AtomicBool| {
        launched.carry_by(flags.transport, flags.backend)?;
        flags.backend.run(Run { task, flags: &flags, stop, out, communicator: launched.communicator() })
    };
    let code = ending(interrupt::on_signals().and_then(work), rank);
    launched.leave(code != 0);
    code
}

/// The exit code of the process `rank` after its run; says how it went.
fn ending(outcome: Result<Outcome>, rank: usize) -> u8 {
    let complain = |line: &str| {
        if rank == 0 {
            complain(line)
        }
    };
    match outcome {
        Ok(Outcome::Finished(_) | Outcome::Swept(_) | Outcome::Predicted) => 0,
        Ok(Outcome::Unfetched) => {
            complain("stopped while the data were fetched: what has arrived is kept, the same command goes on with it");
            interrupt::exit_code()
        }
        Ok(Outcome::Stopped(step, saved)) => {
            let saved =
                saved.map_or("nothing is saved without --out".into(), |path| format!("saved {}, go on with --resume", path.display()));
            complain(&format!("stopped after step {step}: {saved}"));
            interrupt::exit_code()
        }
        // The process that has failed says so, and the first one.
        Err(error) if rank > 0 && process_group::is_anothers(&error) => FAILED,
        Err(error) => finish(Err(error)),
    }
}

/// Does what the flags say on the device that they name, in f32, and prints to `out` what a user reads on stdout.
///
/// # Errors
/// Those of [`run_on`]; [`Error::Device`] where the device is not there, [`Error::Config`] where this build lacks its driver.
pub fn run(task: &dyn Task, flags: &Flags, stop: &AtomicBool, out: &mut dyn Write) -> Result<Outcome> {
    flags.backend.run(Run { task, flags, stop, out, communicator: Arc::new(Alone) })
}

/// A run, before its device is known.
struct Run<'a> {
    task: &'a dyn Task,
    flags: &'a Flags,
    stop: &'a AtomicBool,
    out: &'a mut dyn Write,
    communicator: Arc<dyn Communicator>,
}

impl OnBackend for Run<'_> {
    type Output = Outcome;

    fn on<B: Backend>(self, backend: &B) -> Result<Outcome> {
        run_across(backend, self.task, self.flags, self.stop, self.out, self.communicator)
    }
}

/// Does what the flags say on `backend`, whatever `--backend` is, and prints to `out` what a user reads on stdout.
///
/// # Errors
/// What [`Output::open`], [`Task::load`], [`Trainer::resume`], [`fit`] and, with `--download`, `download::fetch` answer.
pub fn run_on<B: Backend>(backend: &B, task: &dyn Task, flags: &Flags, stop: &AtomicBool, out: &mut dyn Write) -> Result<Outcome> {
    run_across(backend, task, flags, stop, out, Arc::new(Alone))
}

/// The same on all processes of `communicator`, each of which calls this with the same task and flags. The first of them prints and writes;
/// its flags, recipe and checkpoint are those of all.
///
/// # Errors
/// Those of [`run_on`], on any process.
pub fn run_across<B: Backend>(
    backend: &B,
    task: &dyn Task,
    flags: &Flags,
    stop: &AtomicBool,
    out: &mut dyn Write,
    communicator: Arc<dyn Communicator>,
) -> Result<Outcome> {
    let threads = flags.threads.or_else(|| share_of_processors(communicator.local_size()));
    let group = ProcessGroup::new(communicator, flags.reduce);
    group.agree(threads.map_or(Ok(()), use_threads))?;
    if group.is_first() {
        return run_in(backend, task, flags, stop, out, &group);
    }
    // One process talks.
    run_in(backend, task, &Flags { quiet: true, ..flags.clone() }, stop, &mut io::sink(), &group)
}

fn run_in<B: Backend>(
    backend: &B,
    task: &dyn Task,
    flags: &Flags,
    stop: &AtomicBool,
    out: &mut dyn Write,
    group: &ProcessGroup,
) -> Result<Outcome> {
    match &flags.checkpoint {
        Some(_) if flags.predicts() && !group.is_first() => Ok(Outcome::Predicted),
        Some(checkpoint) if flags.predicts() => predict(backend, task, flags, checkpoint, stop, out),
        Some(checkpoint) => evaluate_only(backend, task, flags, checkpoint, stop, out, group),
        None => match flags.seeds {
            Some(count) => train_seeds(backend, task, flags, count, stop, out, group),
            None => train(backend, task, flags, None, stop, out, group),
        },
    }
}

/// Trains from several seeds.
fn train_seeds<B: Backend>(
    backend: &B,
    task: &dyn Task,
    flags: &Flags,
    count: u64,
    stop: &AtomicBool,
    out: &mut dyn Write,
    group: &ProcessGroup,
) -> Result<Outcome> {
    if !group.is_alone() {
        return Err(Error::config("--seeds", "with several processes", "start a run for each --seed instead"));
    }
    let train = |flags: &Flags, recipe| train(backend, task, flags, Some(recipe), stop, out, group);
    let outcome = seeds::sweep(task, backend.name(), flags, count, train)?;
    if let Outcome::Swept(sweep) = &outcome {
        print(out, &sweep.to_string())?;
    }
    Ok(outcome)
}

/// Trains by this recipe, or else by the one that the flags name.
fn train<B: Backend>(
    backend: &B,
    task: &dyn Task,
    flags: &Flags,
    recipe: Option<Recipe>,
    stop: &AtomicBool,
    out: &mut dyn Write,
    group: &ProcessGroup,
) -> Result<Outcome> {
    let started = Instant::now();
    // Before the data, which may take long: the folder must be good.
    let own_dir = flags.out.as_ref().filter(|_| group.is_first());
    let mut output = group.agree(own_dir.map(|dir| open(dir, flags)).transpose())?;
    let (recipe, faults) = (recipe.map_or_else(|| shared_recipe(task, flags, group), Ok)?, flags.faults());
    if !fetch_in(task, &recipe, flags, stop, group)? {
        return Ok(Outcome::Unfetched);
    }
    let idle = Idle::begin();
    let splits = load_in(task, &recipe, flags, &faults, group)?;
    let recipe = group.agree(flags.sized(task, recipe, &splits))?;
    let mut trainer = group.agree(Trainer::new(backend, task.name(), recipe, splits))?;
    if let Some(file) = &flags.start_from {
        let archive = shared_archive(file, group)?;
        trainer = group.agree(started_from(trainer, archive, file))?;
    }
    if let (Some(dir), true) = (&flags.out, flags.resume) {
        let path = Output::checkpoint_in(dir);
        let archive = shared_archive(&path, group)?;
        trainer = group.agree(trainer.resume_from(archive, &path))?;
    }
    let begin = |output: &mut Output| match flags.resume {
        true => output.proceed(&trainer),
        false => output.begin(&trainer, &class_names(task, trainer.recipe(), &trainer.splits().train)),
    };
    group.agree(output.as_mut().map_or(Ok(()), begin))?;
    let mut trainer = trainer.joined(group.clone())?;
    say_header(backend, &trainer, trainer.steps_done(), flags);
    drop(idle);
    let (bytes, steps) = (trainer.bytes_sent(), trainer.steps_done());
    let ending = fit(&mut trainer, output.as_mut(), options(flags), stop);
    say_traffic(&trainer, bytes, steps, flags);
    let test = match ending {
        Ok(Ending::Finished) => test_set(&trainer, flags, stop),
        ending => ending.map(|_| None),
    };
    complain_of(&faults);
    if trainer.left_out() > 0 {
        complain(&format!("{} steps were left out: no sample of their batches could be read", trainer.left_out()));
    }
    let test = test.inspect_err(|_| say_what_is_kept(output.as_ref()))?;
    let Some(test) = test else { return Ok(Outcome::Stopped(trainer.steps_done(), output.map(|output| output.checkpoint()))) };
    let recent = trainer.recent(usize::MAX);
    let summary = summarize(&trainer, (trainer.steps_done(), recent), test, started);
    // The result first, but whatever is written may fail, and the rest is written all the same.
    let printed = print_result(&trainer, flags, &summary, out);
    let noted = output.as_mut().map_or(Ok(()), |output| output.evaluation("test", &trainer, &summary.test));
    if let (Some(output), Ok(())) = (&output, &noted) {
        draw(output, &trainer);
    }
    if !flags.quiet {
        let best = trainer.best().map(|(epoch, _)| (epoch, epoch * trainer.steps_per_epoch() == trainer.steps_done()));
        say_end(&summary, output.as_ref(), best);
    }
    group.agree(noted.and(printed)).map(|()| Outcome::Finished(Box::new(summary)))
}

/// The trainer with the weights of a file, whose samples may be others than its own, but not of other symbols.
fn started_from<B: Backend>(trainer: Trainer<B>, archive: Archive, file: &Path) -> Result<Trainer<B>> {
    let stored = Origin::of(&archive, file, trainer.task())?.set;
    match (stored.encoding(), trainer.splits().train.encoding()) {
        (Encoding::Tokens(stored), Encoding::Tokens(own)) if stored != own => {
            Err(Error::checkpoint(file, "was trained on other symbols, whose weights say nothing of these: give data with the same ones"))
        }
        _ => trainer.with_weights_from(archive, file),
    }
}

/// How often what is written.
fn options(flags: &Flags) -> FitOptions {
    let Flags { quiet, checkpoint_every, rates_every, report_every, .. } = *flags;
    FitOptions { quiet, checkpoint_every, rates_every, report_every, ..FitOptions::default() }
}

/// A process's share of this machine's processors, where other processes of the run are on it.
fn share_of_processors(local_processes: usize) -> Option<usize> {
    if local_processes < 2 {
        return None;
    }
    // What this process may use is less than the machine has where the launcher has bound it to some of them.
    let allowed = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let all = sysinfo::System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing())).cpus().len();
    Some(allowed.min((all / local_processes).max(1)))
}

/// Opens the folder of a run.
fn open(dir: &Path, flags: &Flags) -> Result<Output> {
    let output = match (flags.resume, flags.overwrite) {
        (true, _) => Output::reopen(dir),
        (false, true) => Output::open(dir),
        (false, false) => Output::create(dir),
    }?;
    Ok(if flags.tensorboard { output.with_tensorboard() } else { output })
}

/// Draws the pictures of a run and writes its report. None of them is worth a failure.
fn draw<B: Backend>(output: &Output, trainer: &Trainer<B>) {
    let pictures = trainer.on_average(|| pictures::write(output.dir(), trainer)).map_or_else(|error| vec![Err(error)], Vec::from);
    let report = std::iter::once_with(|| report::write(output.dir()).map(drop));
    pictures.into_iter().chain(report).filter_map(Result::err).for_each(|error| complain(&format!("warning: {error}")));
}

/// Evaluates a stored model on the test set.
fn evaluate_only<B: Backend>(
    backend: &B,
    task: &dyn Task,
    flags: &Flags,
    checkpoint: &Path,
    stop: &AtomicBool,
    out: &mut dyn Write,
    group: &ProcessGroup,
) -> Result<Outcome> {
    let started = Instant::now();
    let archive = shared_archive(checkpoint, group)?;
    let origin = group.agree(Origin::of(&archive, checkpoint, task.name()))?;
    let (recipe, faults) = (shared_recipe(task, flags, group)?, flags.faults());
    if !fetch_in(task, &recipe, flags, stop, group)? {
        return Ok(Outcome::Unfetched);
    }
    let _idle = Idle::begin();
    let splits = load_in(task, &recipe, flags, &faults, group)?;
    if splits.test.encoding() != origin.set.encoding() || splits.test.class_names() != origin.set.class_names() {
        return Err(Error::checkpoint(checkpoint, "was trained on data with other symbols or statistics: give the same --data"));
    }
    let trainer = Trainer::new(backend, task.name(), recipe, splits).and_then(|trainer| trainer.with_weights_from(archive, checkpoint));
    let trainer = group.agree(trainer)?.joined(group.clone())?;
    say_header(backend, &trainer, origin.step, flags);
    let test = test_set(&trainer, flags, stop)?;
    complain_of(&faults);
    let Some(test) = test else { return Ok(Outcome::Stopped(trainer.steps_done(), None)) };
    if !flags.quiet {
        print_confusion(task, &trainer, &test, out)?;
    }
    if flags.votes {
        let Some(votes) = trainer.votes(flags.eval_passes, stop)? else { return Ok(Outcome::Stopped(trainer.steps_done(), None)) };
        let votes: Vec<String> = votes.iter().map(|accuracy| format!("{accuracy:.4}")).collect();
        print(out, &format!("votes {}", votes.join(" ")))?;
    }
    let summary = summarize(&trainer, (origin.step, origin.recent), test, started);
    print_result(&trainer, flags, &summary, out)?;
    Ok(Outcome::Finished(Box::new(summary)))
}

/// Prints the classes of one sample.
fn predict<B: Backend>(
    backend: &B,
    task: &dyn Task,
    flags: &Flags,
    checkpoint: &Path,
    stop: &AtomicBool,
    out: &mut dyn Write,
) -> Result<Outcome> {
    let _idle = Idle::begin();
    let Origin { mut set, recipe, .. } = Origin::of_task(checkpoint, task.name())?;
    match (&flags.predict, &flags.predict_text) {
        (Some(path), _) if path.as_os_str() == "-" => task.push(&recipe, Sample::Text(&typed(io::stdin())?), &mut set)?,
        (Some(path), _) => task.push(&recipe, Sample::Given(path), &mut set)?,
        (None, text) => task.push(&recipe, Sample::Text(text.as_deref().unwrap_or_default()), &mut set)?,
    }
    memory::check_model(&recipe, &set)?;
    let model = Model::new(backend, Key::new(0), &recipe.model_for(&set))?;
    load_weights(backend, &model, checkpoint)?;
    let mode = if flags.expected { SpikeMode::Expected } else { SpikeMode::Sampled };
    let evaluator = Evaluator { backend, model: &model, batch: 1, mode, stop };
    let passes = if flags.expected { 1 } else { flags.eval_passes };
    let key = Key::new(flags.seed.unwrap_or(recipe.run.seed));
    if set.scale().is_some() {
        let found = evaluator.predict_numbers(&set, key, passes)?;
        return found.iter().try_for_each(|number| print(out, &number.to_string())).map(|()| Outcome::Predicted);
    }
    let found = evaluator.predict(&set, key, passes)?;
    print_classes(&found, &class_names(task, &recipe, &set), out).map(|()| Outcome::Predicted)
}

/// Evaluates on the test set, as the flags say.
fn test_set<B: Backend>(trainer: &Trainer<B>, flags: &Flags, stop: &AtomicBool) -> Result<Option<Evaluation>> {
    let bar = progress::Evaluation::test(flags.quiet);
    let (mode, passes) = if flags.expected { (SpikeMode::Expected, 1) } else { (SpikeMode::Sampled, flags.eval_passes) };
    trainer.test_watched(mode, passes, stop, &|done, all| bar.show(done, all))
}

/// What there is to say of a finished run, which took so many steps with this mean of the last ones.
fn summarize<B: Backend>(trainer: &Trainer<B>, (steps, recent): (u64, Option<StepReport>), test: Evaluation, started: Instant) -> Summary {
    Summary {
        task: trainer.task().into(),
        preset: trainer.recipe().name.clone(),
        backend: trainer.backend.name(),
        steps,
        train_loss: recent.map_or(f64::NAN, |recent| recent.loss),
        errors: Errors::of(&test, &trainer.splits().test),
        test,
        majority: trainer.splits().test.majority(),
        seconds: started.elapsed().as_secs_f64(),
    }
}

/// A pool of so many threads, of which the caller is one: whoever only hands work over sleeps while it is done, and takes longer to wake than
/// much of it takes. One thread alone stays apart, since what is handed over from elsewhere (where samples are read) must find somebody; the
/// work of this crate is done by its caller then.
#[cfg(feature = "parallel")]
fn pool(threads: usize) -> rayon::ThreadPoolBuilder {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    if threads > 1 { pool.use_current_thread() } else { pool }
}

#[cfg(feature = "parallel")]
fn use_threads(threads: usize) -> Result<()> {
    let refused = |error| Error::config("--threads", threads, format!("the thread pool cannot be made ({error}): leave it out"));
    pool(threads).build_global().map_err(refused)
}

/// As many threads as rayon would start by itself.
#[cfg(feature = "parallel")]
fn use_processors() {
    let told = std::env::var("RAYON_NUM_THREADS").ok().and_then(|threads| threads.parse().ok()).filter(|&threads| threads > 0);
    let threads = told.or_else(|| std::thread::available_parallelism().ok().map(std::num::NonZero::get));
    // A program that has set up its pool before keeps it.
    let _ = pool(threads.unwrap_or(1)).build_global();
}

#[cfg(not(feature = "parallel"))]
fn use_processors() {}

#[cfg(not(feature = "parallel"))]
fn use_threads(threads: usize) -> Result<()> {
    match threads {
        1 => Ok(()),
        _ => Err(Error::config("--threads", threads, "this build has one thread: build with feature parallel")),
    }
}

fn print_recipe(task: &dyn Task, flags: &Flags, out: &mut dyn Write) -> Result<()> {
    print(out, flags.recipe(task)?.to_toml()?.trim_end())
}

/// The exit code of work that is done, or has failed: then it says why.
fn finish(result: Result<()>) -> u8 {
    let Err(error) = result else { return 0 };
    complain(&format!("error: {error}"));
    if let Error::Config { .. } = error { WRONG } else { FAILED }
}
