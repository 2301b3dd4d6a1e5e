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
use super::interrupt::Idle;
use super::launch::Launched;
use super::process_group::{self, ProcessGroup};
use super::tasks::typed;
use super::{
    Alone, Command, Communicator, Ending, Evaluation, Evaluator, FitOptions, Flags, OnBackend, Origin, Output, Recipe, Reduce, Sample,
    StepReport, Task, Trainer, energy, fit, interrupt, load_weights, memory, pictures, progress, report, seeds,
};
use crate::backend::{Backend, Key, SpikeMode};
#[cfg(feature = "download")]
use crate::data::download;
use crate::data::{Dataset, Faults, Splits};
use crate::error::{Error, Result};
use crate::nn::store::Archive;
use crate::nn::{Model, Module};

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
    let launched = match Launched::join() {
        Ok(launched) => launched,
        Err(error) => return finish(Err(error)),
    };
    let communicator = launched.communicator();
    let rank = communicator.rank();
    let work = |stop: &AtomicBool| flags.backend.run(Run { task, flags: &flags, stop, out, communicator });
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
        say_end(&summary, output.as_ref());
    }
    group.agree(noted.and(printed)).map(|()| Outcome::Finished(Box::new(summary)))
}

/// How often what is written.
fn options(flags: &Flags) -> FitOptions {
    let Flags { quiet, checkpoint_every, rates_every, report_every, .. } = *flags;
    FitOptions { quiet, checkpoint_every, rates_every, report_every, ..FitOptions::default() }
}

/// Says what was reached, beside what needs no model, and where there is more to see.
fn say_end(summary: &Summary, output: Option<&Output>) {
    let Summary { test, majority, errors, .. } = summary;
    complain(&match errors {
        Some(Errors { rmse, mean_rmse }) => {
            format!("test rmse {rmse:.4}; whoever always says the mean of the training set has {mean_rmse:.4}")
        }
        None => format!("test accuracy {:.4}; whoever always says the most common class has {majority:.4}", test.metric),
    });
    let Some(output) = output else { return complain("nothing was kept: --out DIR keeps the weights, the curves and a report") };
    complain(&format!("curves and spikes: {}", output.dir().join("report.html").display()));
    let best = output.best();
    let weights = if best.exists() { best } else { output.checkpoint() };
    complain(&format!("weights, for --predict and --eval-only: --checkpoint {}", weights.display()));
}

/// The recipe of the first process. Where nobody says into how many micro-batches a new run's batches are cut, each process gets one.
fn shared_recipe(task: &dyn Task, flags: &Flags, group: &ProcessGroup) -> Result<Recipe> {
    if group.is_alone() {
        return flags.recipe(task);
    }
    let own = || {
        let mut recipe = flags.recipe(task)?;
        if flags.accumulate.is_none() && !flags.resume && flags.checkpoint.is_none() && recipe.run.accumulate == 1 {
            recipe.run.accumulate = group.size().min(recipe.run.batch);
        }
        recipe.to_toml().map(String::into_bytes)
    };
    Recipe::parse(&String::from_utf8_lossy(&group.first_says(own)?), "the first process's recipe")
}

/// What the file of the first process holds: the others need not see its disk.
fn shared_archive(path: &Path, group: &ProcessGroup) -> Result<Archive> {
    if group.is_alone() {
        return Archive::read(path);
    }
    let bytes = group.first_says(|| std::fs::read(path).map_err(|error| Error::io("read", path, error)))?;
    group.agree(Archive::parse(&bytes, path))
}

/// Fetches the data where that is asked for: the first process does, and then the others find them, or fetch their own where they see another
/// disk. False where one was stopped.
fn fetch_in(task: &dyn Task, recipe: &Recipe, flags: &Flags, stop: &AtomicBool, group: &ProcessGroup) -> Result<bool> {
    let first = if group.is_first() { fetch(task, recipe, flags, stop) } else { Ok(true) };
    let first = group.agree(first)?;
    let others = if group.is_first() { Ok(first) } else { fetch(task, recipe, flags, stop) };
    let stopped = !group.agree(others)?;
    group.any(stopped).map(|stopped| !stopped)
}

/// Reads the data, each process its own. Where they are to be made, the first process makes them, and then the others find them, or make their own
/// where they see another disk.
fn load_in(task: &dyn Task, recipe: &Recipe, flags: &Flags, faults: &Faults, group: &ProcessGroup) -> Result<Splits> {
    let made = || task.generates(recipe, flags.data.as_deref()).map(|what| what.is_some());
    let made = group.agree(if group.is_first() { made() } else { Ok(false) })?;
    if !group.any(made)? {
        return group.agree(load(task, recipe, flags, faults));
    }
    let first = if group.is_first() { load(task, recipe, flags, faults).map(Some) } else { Ok(None) };
    let own = match group.agree(first)? {
        Some(splits) => Ok(splits),
        None => load(task, recipe, flags, faults),
    };
    group.agree(own)
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

/// Says how much the processes have told each other.
fn say_traffic<B: Backend>(trainer: &Trainer<B>, before: u64, steps_before: u64, flags: &Flags) {
    let steps = trainer.steps_done().saturating_sub(steps_before);
    if !flags.quiet && !trainer.group.is_alone() && steps > 0 {
        let kilobytes = (trainer.bytes_sent() - before) as f64 / steps as f64 / 1e3;
        complain(&format!(
            "this process has sent {kilobytes:.1} kB a step to the {} others, validations included",
            trainer.group.size() - 1
        ));
    }
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

/// Says from where a run that has failed can go on.
fn say_what_is_kept(output: Option<&Output>) {
    if let Some((output, step)) = output.and_then(|output| Some((output, output.saved()?))) {
        complain(&format!("the checkpoint of step {step} is kept: {}", output.checkpoint().display()));
    }
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

/// Prints all classes of a sample, the most probable first; of several samples, their numbers and that class alone.
fn print_classes(found: &[Vec<f64>], names: &[String], out: &mut dyn Write) -> Result<()> {
    for (number, probabilities) in found.iter().enumerate() {
        let mut classes: Vec<(usize, f64)> = probabilities.iter().copied().enumerate().collect();
        classes.sort_by(|a, b| b.1.total_cmp(&a.1));
        if found.len() > 1 {
            classes.truncate(1);
        }
        for (class, probability) in classes {
            let name = names.get(class).map_or("?", String::as_str);
            print(out, &if found.len() > 1 { format!("{number} {probability:.4} {name}") } else { format!("{probability:.4} {name}") })?;
        }
    }
    Ok(())
}

/// What the classes are called: by the data, or else by the task.
fn class_names(task: &dyn Task, recipe: &Recipe, set: &Dataset) -> Vec<String> {
    if set.class_names().is_empty() { task.class_names(recipe) } else { set.class_names().to_vec() }
}

/// Prints which classes were taken for which others, where there are classes.
fn print_confusion<B: Backend>(task: &dyn Task, trainer: &Trainer<B>, test: &Evaluation, out: &mut dyn Write) -> Result<()> {
    if test.confusion.is_empty() {
        return Ok(());
    }
    print(out, &confusion(&test.confusion, &class_names(task, trainer.recipe(), &trainer.splits().train)))
}

/// Reads or generates the data.
fn load(task: &dyn Task, recipe: &Recipe, flags: &Flags, faults: &Faults) -> Result<Splits> {
    let dir = flags.data.as_deref();
    if let Some(what) = task.generates(recipe, dir)?
        // Files in someone's folder are always told of.
        && (dir.is_some() || !flags.quiet)
    {
        complain(&what);
    }
    task.load(recipe, dir, faults)
}

/// Fetches the data where that is asked for; false where it was stopped.
#[cfg(feature = "download")]
fn fetch(task: &dyn Task, recipe: &Recipe, flags: &Flags, stop: &AtomicBool) -> Result<bool> {
    if let (true, Some(dir)) = (flags.download, &flags.data) {
        let none = || Error::config("--download", task.name(), "there is no archive of these data: leave it out");
        let set = task.archive(recipe).ok_or_else(none)?;
        let options = download::Options { url: flags.data_url.clone(), ..download::Options::default() };
        let bars = progress::Download::new(flags.quiet);
        let fetched = download::fetch(&set, dir, &options, &|event| bars.show(event), stop).map_err(with_flags)?;
        return Ok(fetched != download::Fetched::Stopped);
    }
    Ok(true)
}

/// This build fetches nothing, and refuses the flag.
#[cfg(not(feature = "download"))]
fn fetch(_: &dyn Task, _: &Recipe, _: &Flags, _: &AtomicBool) -> Result<bool> {
    Ok(true)
}

/// The error of a fetch in the words of the command line: its arguments are flags here.
#[cfg(feature = "download")]
fn with_flags(error: Error) -> Error {
    match error {
        Error::Config { name: "url", value, help } => Error::config("--data-url", value, help),
        Error::Config { name: "dir", value, help } => Error::config("--data", value, help),
        Error::Network { url, help } => Error::network(url, help.replace("`url`", "--data-url")),
        other => other,
    }
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

/// Prints the energy, if wanted, and the result line.
fn print_result<B: Backend>(trainer: &Trainer<B>, flags: &Flags, summary: &Summary, out: &mut dyn Write) -> Result<()> {
    if flags.energy {
        print(out, &energy::Table::new(trainer.model().config(), &summary.test.layers).to_string())?;
    }
    print(out, &summary.to_string())
}

/// The confusion matrix: a row for each true class, a column for each class that was taken for it.
fn confusion(counts: &[Vec<u64>], names: &[String]) -> String {
    let name = |class: usize| names.get(class).map_or("?", String::as_str);
    let width = counts.iter().flatten().map(|count| count.to_string().len()).chain((0..counts.len()).map(|class| name(class).len()));
    let width = width.max().unwrap_or(0) + 1;
    let head: String = (0..counts.len()).map(|class| format!("{:>width$}", name(class))).collect();
    let row = |(class, row): (usize, &Vec<u64>)| {
        let cells: String = row.iter().map(|count| format!("{count:>width$}")).collect();
        format!("\n{:>width$}{cells}", name(class))
    };
    let rows: String = counts.iter().enumerate().map(row).collect();
    format!("true classes in rows, what they were taken for in columns:\n{}{head}{rows}", " ".repeat(width))
}

/// Says which samples were left out.
fn complain_of(faults: &Faults) {
    const SHOWN: usize = 10;
    if faults.count() == 0 {
        return;
    }
    complain(&format!("{} bad samples were left out:", faults.count()));
    faults.reports(SHOWN).iter().for_each(|report| complain(&format!("  {report}")));
    if faults.count() > SHOWN {
        complain("  ..");
    }
}

/// Says what is about to be trained, or was.
fn say_header<B: Backend>(backend: &B, trainer: &Trainer<B>, steps_done: u64, flags: &Flags) {
    if flags.quiet {
        return;
    }
    let sets = trainer.splits();
    complain(&format!(
        "{} {} on {}: {} parameters; {} training, {} validation, {} test samples; {} of {} steps done",
        trainer.task(),
        trainer.recipe().name,
        backend.name(),
        trainer.model().num_parameters(),
        sets.train.len(),
        sets.val.len(),
        sets.test.len(),
        steps_done,
        trainer.steps_total()
    ));
    let (processes, micro_batches) = (trainer.group.size(), trainer.plan.run.batch.div_ceil(trainer.plan.run.micro_batch()));
    if processes > 1 {
        let how = match trainer.group.reduce {
            Reduce::Fixed => format!("the bits of one process with --accumulate {}", trainer.plan.run.accumulate),
            Reduce::Fast => "sums in any order".into(),
        };
        complain(&format!("{processes} processes, {micro_batches} micro-batches a step; {how}"));
    }
    if processes > micro_batches {
        complain(&format!("{} processes train nothing: with --accumulate, a new run has more micro-batches", processes - micro_batches));
    }
    let reading = sets.train.reading();
    if !reading.is_empty() {
        let known: Vec<String> = reading.iter().map(|(name, value)| format!("{name}={value}")).collect();
        complain(&format!("data as they were read: {}", known.join(" ")));
    }
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

fn print_recipe(task: &dyn Task, flags: &Flags, out: &mut dyn Write) -> Result<()> {
    print(out, flags.recipe(task)?.to_toml()?.trim_end())
}

/// The exit code of work that is done, or has failed: then it says why.
fn finish(result: Result<()>) -> u8 {
    let Err(error) = result else { return 0 };
    complain(&format!("error: {error}"));
    if let Error::Config { .. } = error { WRONG } else { FAILED }
}
