//! What a run reads before it begins: its recipe, a checkpoint, the data; of several processes the first goes ahead.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::console::complain;
use super::process_group::ProcessGroup;
#[cfg(feature = "download")]
use super::progress;
use super::{Flags, Recipe, Task};
#[cfg(feature = "download")]
use crate::data::download;
use crate::data::{Faults, Splits};
use crate::error::{Error, Result};
use crate::nn::store::Archive;

/// The recipe of the first process. Where nobody says into how many micro-batches a new run's batches are cut, each process gets one.
pub(super) fn shared_recipe(task: &dyn Task, flags: &Flags, group: &ProcessGroup) -> Result<Recipe> {
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
pub(super) fn shared_archive(path: &Path, group: &ProcessGroup) -> Result<Archive> {
    if group.is_alone() {
        return Archive::read(path);
    }
    let bytes = group.first_says(|| std::fs::read(path).map_err(|error| Error::io("read", path, error)))?;
    group.agree(Archive::parse(&bytes, path))
}

/// Fetches the data where that is asked for: the first process does, and then the others find them, or fetch their own where they see another
/// disk. False where one was stopped.
pub(super) fn fetch_in(task: &dyn Task, recipe: &Recipe, flags: &Flags, stop: &AtomicBool, group: &ProcessGroup) -> Result<bool> {
    let first = if group.is_first() { fetch(task, recipe, flags, stop) } else { Ok(true) };
    let first = group.agree(first)?;
    let others = if group.is_first() { Ok(first) } else { fetch(task, recipe, flags, stop) };
    let stopped = !group.agree(others)?;
    group.any(stopped).map(|stopped| !stopped)
}

/// Reads the data, each process its own. Where they are to be made, the first process makes them, and then the others find them, or make their own
/// where they see another disk.
pub(super) fn load_in(task: &dyn Task, recipe: &Recipe, flags: &Flags, faults: &Faults, group: &ProcessGroup) -> Result<Splits> {
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
