//! Report: what the folder of a run tells about it, as one HTML page without scripts and without anything from elsewhere.

mod chart;
mod comparison;
mod curves;
mod curves_svg;
mod history;
pub(crate) mod kernels;
mod markup;
mod page;
mod panels;
pub(crate) mod raster;
mod sheet;
mod tables;
mod theme;
mod thin;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use comparison::Compared;
use history::History;

use super::output::METRICS;
use crate::error::{Error, Result};
use crate::file::{create_folder, write_text};

pub(crate) use kernels::{Kernel, kernels_svg};
pub(crate) use raster::{Panel, Raster, raster_svg};

/// The pictures that a page takes up, where they lie in the folder, and their headings.
const PICTURES: [(&str, &str); 2] = [("raster.svg", "Spikes"), ("kernels.svg", "Kernels")];

/// What the folder of a seed is called, before its number.
pub(super) const SEED: &str = "seed-";

/// Writes `report.html` and `curves.svg` into the folder of a run, from its `metrics.jsonl` and the pictures that lie beside it, and returns
/// the path of the page. The run may still go on. Of a folder that holds the runs of several seeds it is the page that compares them.
///
/// # Errors
/// [`Error::Value`] where there are no metrics yet; [`Error::Data`] with the line that is broken, unless it is the last one and still being
/// written; [`Error::Io`] where a file cannot be read or written.
pub fn write(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("report.html");
    let seeds = seeds_in(dir)?;
    if !seeds.is_empty() && !dir.join(METRICS).exists() {
        return compare_into(&seeds, path);
    }
    let history = History::read(&dir.join(METRICS))?;
    let mut pictures = Vec::new();
    for (name, heading) in PICTURES {
        if let Some(svg) = picture(&dir.join(name))? {
            pictures.push((heading, svg));
        }
    }
    if let Some(svg) = curves_svg::curves_svg(&history)? {
        write_text(&dir.join("curves.svg"), &svg)?;
    }
    write_text(&path, &page::html(&history, &pictures)?)?;
    Ok(path)
}

/// Writes `compare.html` into the folder `out`: the curves of the runs in `dirs` over each other, what they came to, what differs between
/// their recipes, and, of those that differ in the seed alone, mean and standard deviation. A folder of several seeds stands for its runs.
///
/// # Errors
/// As [`write()`] for each of them.
pub fn compare(dirs: &[PathBuf], out: &Path) -> Result<PathBuf> {
    let mut runs = Vec::new();
    for dir in dirs {
        match seeds_in(dir)? {
            seeds if seeds.is_empty() || dir.join(METRICS).exists() => runs.push(dir.clone()),
            seeds => runs.extend(seeds),
        }
    }
    create_folder(out)?;
    compare_into(&runs, out.join("compare.html"))
}

fn compare_into(dirs: &[PathBuf], path: PathBuf) -> Result<PathBuf> {
    let read = |(dir, name): (&PathBuf, String)| Ok(Compared { name, history: History::read(&dir.join(METRICS))? });
    let runs: Vec<Compared> = dirs.iter().zip(names(dirs)).map(read).collect::<Result<_>>()?;
    let titles: BTreeSet<String> = runs.iter().map(|run| run.history.title()).collect();
    let title = titles.into_iter().collect::<Vec<_>>().join("; ");
    write_text(&path, &comparison::html(&format!("{} runs: {title}", runs.len()), &runs)?)?;
    Ok(path)
}

/// What folders are called: of each the last parts, as many as tell it from the others.
fn names(dirs: &[PathBuf]) -> Vec<String> {
    let parts: Vec<Vec<Component<'_>>> = dirs.iter().map(|dir| dir.components().rev().collect()).collect();
    let name = |(own, all): (usize, &Vec<Component<'_>>)| {
        let others = || parts.iter().enumerate().filter(|(other, _)| *other != own).map(|(_, other)| other);
        let count = (1..=all.len()).find(|&count| others().all(|other| !other.starts_with(&all[..count]))).unwrap_or(all.len());
        all[..count].iter().rev().collect::<PathBuf>().display().to_string()
    };
    parts.iter().enumerate().map(name).collect()
}

/// The folders of the seeds that were begun in the folder `dir`, by their numbers.
pub(super) fn seeds_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let fails = |error| Error::io("list the folder", dir, error);
    let mut found = BTreeMap::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fails)?,
    };
    for entry in entries {
        let path = entry.map_err(fails)?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_prefix(SEED)?.parse::<u64>().ok());
        if let Some(number) = number.filter(|_| path.join(METRICS).exists()) {
            found.insert(number, path);
        }
    }
    Ok(found.into_values().collect())
}

/// The drawing in a file, from its first tag on; `None` where there is no such file, or no drawing in it.
fn picture(path: &Path) -> Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            Ok(text.find("<svg").map(|start| text[start..].trim_end().to_string()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path, error)),
    }
}
