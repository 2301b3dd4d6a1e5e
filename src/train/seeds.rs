//! Seeds: the runs of one recipe from several seeds, one after the other, each in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use super::console::complain;
use super::outcome::{Outcome, SeedRun, Sweep};
use super::output::METRICS;
use super::{Flags, Origin, Output, Recipe, Task, report};
use crate::error::{Error, Result};

/// A seed with the folder of its run.
type Seed = (u64, Option<PathBuf>);

/// Trains from so many seeds, the recipe's own first, by `train`, which does what its flags say with a recipe. Whoever resumes goes on with
/// the seed that was stopped: those before it are finished, those behind it not begun.
///
/// # Errors
/// What `train` answers, and what reading the folders does; [`Error::Config`] where a folder holds a run and nothing is said about it.
pub(super) fn sweep(
    task: &dyn Task,
    backend: String,
    flags: &Flags,
    count: u64,
    mut train: impl FnMut(&Flags, Recipe) -> Result<Outcome>,
) -> Result<Outcome> {
    let started = Instant::now();
    let recipe = recipe(task, flags)?;
    let seeds: Vec<Seed> =
        (0..count).map(|number| recipe.run.seed.saturating_add(number)).map(|seed| (seed, folder(flags, seed))).collect();
    make_ready(flags, &seeds)?;
    let mut runs = Vec::new();
    for (number, (seed, dir)) in (1..).zip(&seeds) {
        let mut recipe = recipe.clone();
        recipe.run.seed = *seed;
        recipe.check()?;
        if let Some(run) = dir.as_ref().filter(|_| flags.resume).and_then(|dir| finished(dir, &recipe)) {
            complain(&format!("seed {seed}, {number} of {count}, is finished: test accuracy {:.4}", run.metric));
            runs.push(run);
            continue;
        }
        if !flags.quiet {
            complain(&format!("seed {seed}, {number} of {count}"));
        }
        match train(&of_seed(flags, dir.clone()), recipe)? {
            Outcome::Finished(summary) => runs.push(SeedRun::of(*seed, &summary)),
            other => return Ok(other),
        }
        if let Some(Err(error)) = flags.out.as_deref().map(report::write) {
            complain(&format!("warning: {error}"));
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Outcome::Swept(Box::new(Sweep { task: task.name().into(), preset: recipe.name, backend, runs, seconds })))
}

/// The recipe of all seeds: where they are gone on with and no other is given, that of the first of them.
fn recipe(task: &dyn Task, flags: &Flags) -> Result<Recipe> {
    let begun = if let (true, Some(out)) = (flags.resume, &flags.out) { report::seeds_in(out)? } else { Vec::new() };
    let first = begun.into_iter().find(|dir| Output::checkpoint_in(dir).exists());
    match first {
        Some(dir) => Flags { out: Some(dir), ..flags.clone() }.recipe(task),
        None => Flags { resume: false, ..flags.clone() }.recipe(task),
    }
}

fn folder(flags: &Flags, seed: u64) -> Option<PathBuf> {
    flags.out.as_ref().map(|out| out.join(format!("{}{seed}", report::SEED)))
}

/// Makes sure that the folders may be written to, before the first of many runs.
fn make_ready(flags: &Flags, seeds: &[Seed]) -> Result<()> {
    let dirs = seeds.iter().filter_map(|(_, dir)| dir.as_ref());
    if flags.resume {
        let begun = dirs.clone().any(|dir| Output::checkpoint_in(dir).exists());
        let missing = || Error::checkpoint(flags.out.clone().unwrap_or_default(), "holds no checkpoint of a seed: start without --resume");
        return if begun { Ok(()) } else { Err(missing()) };
    }
    let there = dirs.filter(|dir| dir.exists());
    match flags.overwrite {
        // What an earlier sweep left of a later seed is not to be taken for this one's.
        true => there.map(Output::open).try_for_each(|output| output?.clear()),
        false => there.map(Output::create).try_for_each(|output| output.map(drop)),
    }
}

/// The flags of one seed's run.
fn of_seed(flags: &Flags, out: Option<PathBuf>) -> Flags {
    let resume = flags.resume && out.as_deref().is_some_and(|dir| Output::checkpoint_in(dir).exists());
    // One that was stopped before its first checkpoint begins anew.
    let overwrite = out.is_some() && !resume && (flags.resume || flags.overwrite);
    Flags { out, resume, overwrite, seeds: None, ..flags.clone() }
}

/// What a run came to that has taken all steps of this recipe, and has a test behind them; `None` where anything of it is missing.
fn finished(dir: &Path, recipe: &Recipe) -> Option<SeedRun> {
    let text = fs::read_to_string(dir.join(METRICS)).ok()?;
    let parsed = |line: Option<&str>| serde_json::from_str::<Value>(line?).ok();
    let (run, test) = (parsed(text.lines().next())?, parsed(text.lines().last())?);
    let steps = test["step"].as_u64()?;
    let origin = Origin::read(Output::checkpoint_in(dir)).ok()?;
    let same = origin.recipe == *recipe && origin.step == steps;
    if test["kind"] != "test" || !same || steps < recipe.steps(usize::try_from(run["samples"].as_u64()?).ok()?) {
        return None;
    }
    let rows: Vec<u64> =
        test["confusion"].as_array()?.iter().map(|row| row.as_array().into_iter().flatten().filter_map(Value::as_u64).sum()).collect();
    Some(SeedRun {
        seed: recipe.run.seed,
        steps,
        train_loss: origin.recent?.loss,
        metric: test["accuracy"].as_f64()?,
        errors: None,
        majority: *rows.iter().max()? as f64 / rows.iter().sum::<u64>() as f64,
        spike_rate: test["spike_rate"].as_f64().unwrap_or(f64::NAN),
    })
}
