//! What a folder holds: which kind of files, and which of them are training, validation and test.

use super::OP;
use super::part::{Part, Parts, words};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

listed! {
    /// A kind of files.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    #[non_exhaustive]
    pub enum Kind {
        /// Time series in the format of the UEA archive.
        Ts,
        /// Time series as the UCR archive has them, or another table with tabs.
        Tsv,
        /// A table.
        Csv,
        /// An array of numpy.
        Npy,
        /// A sound.
        Wav,
        /// A picture.
        Png,
        /// A text.
        Txt,
    }
}

impl Kind {
    /// The ending of its files.
    pub fn ending(self) -> &'static str {
        match self {
            Kind::Ts => "ts",
            Kind::Tsv => "tsv",
            Kind::Csv => "csv",
            Kind::Npy => "npy",
            Kind::Wav => "wav",
            Kind::Png => "png",
            Kind::Txt => "txt",
        }
    }

    /// Whether a file holds many samples with their labels, not one.
    pub(super) fn is_table(self) -> bool {
        matches!(self, Kind::Ts | Kind::Tsv | Kind::Csv | Kind::Npy)
    }

    fn of(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?;
        Kind::ALL.into_iter().find(|kind| kind.ending().eq_ignore_ascii_case(ending))
    }
}

/// A file of samples, or of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Source {
    pub path: PathBuf,
    /// Of a file that is one sample: the folder that it lies in.
    pub class: String,
    /// Of an array: the file of its labels.
    pub labels: Option<PathBuf>,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub kind: Kind,
    pub parts: Parts<Vec<Source>>,
}

/// What stands in the name of a file of labels.
const LABELS: [&str; 6] = ["y", "label", "labels", "target", "targets", "classes"];

/// Looks for the files at `path`.
pub(super) fn sources(path: &Path) -> Result<Found> {
    if !path.is_dir() {
        return single(path);
    }
    let (tables, classes) = (tables(path)?, class_files(path)?);
    match (tables, classes) {
        (Some(found), None) | (None, Some(found)) => Ok(found),
        (Some(tables), Some(classes)) => {
            let [a, b] = [&tables, &classes].map(|found| found.kind.ending());
            let help = format!("there are .{a} files and folders of .{b} files in {}: give a folder with one of them", path.display());
            Err(Error::value(OP, help))
        }
        (None, None) => Err(nothing(path)),
    }
}

/// One file with all samples.
fn single(path: &Path) -> Result<Found> {
    let source = |labels| vec![Source { path: path.into(), class: String::new(), labels }];
    match Kind::of(path).filter(|kind| kind.is_table()) {
        Some(Kind::Npy) => Err(Error::value(OP, format!("{} lies beside a file of its labels: give the folder of both", path.display()))),
        Some(kind) => Ok(Found { kind, parts: Parts { train: source(None), val: None, test: None } }),
        None => {
            let help = "give a folder, or a .ts, .tsv or .csv file with samples and their labels";
            Err(Error::value(OP, format!("{} is no table: {help}", path.display())))
        }
    }
}

/// The tables in a folder, or in folders in it that are called as the parts.
fn tables(dir: &Path) -> Result<Option<Found>> {
    let mut all: Vec<(Option<Part>, PathBuf)> = Vec::new();
    for path in visible(dir)? {
        let part = Part::of(&name(&path));
        if path.is_dir() {
            let inner = if part.is_some() { visible(&path)? } else { Vec::new() };
            all.extend(inner.into_iter().filter(|path| !path.is_dir()).map(|path| (part, path)));
        } else {
            all.push((Part::of(&stem(&path)), path));
        }
    }
    // The archives lay the same data down in several formats.
    let kinds = Kind::ALL.into_iter().filter(|kind| kind.is_table());
    let Some(kind) = kinds.into_iter().find(|&kind| all.iter().any(|(_, path)| Kind::of(path) == Some(kind))) else { return Ok(None) };
    all.retain(|(_, path)| Kind::of(path) == Some(kind));
    // Beside parts that are named, what is named as none is something else.
    if all.iter().any(|(part, _)| *part == Some(Part::Train)) {
        all.retain(|(part, _)| part.is_some());
    }
    let sources =
        if kind == Kind::Npy { with_labels(dir, all)? } else { all.into_iter().map(|(part, path)| (part, plain(path))).collect() };
    Ok(Some(Found { kind, parts: by_part(dir, sources)? }))
}

fn plain(path: PathBuf) -> Source {
    Source { path, class: String::new(), labels: None }
}

/// Arrays with the files of their labels.
fn with_labels(dir: &Path, all: Vec<(Option<Part>, PathBuf)>) -> Result<Vec<(Option<Part>, Source)>> {
    let are_labels = |path: &Path| words(&stem(path)).iter().any(|word| LABELS.contains(&word.as_str()));
    let (labels, data): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, path)| are_labels(path));
    let pair = |(part, path): (Option<Part>, PathBuf)| {
        let mut own = labels.iter().filter(|(other, _)| *other == part);
        match (own.next(), own.next()) {
            (Some((_, labels)), None) => Ok((part, Source { path, class: String::new(), labels: Some(labels.clone()) })),
            (None, _) => {
                let help = "their names have the word y, labels or targets in them, as X_train.npy and y_train.npy";
                Err(Error::value(OP, format!("there is no file of the labels of {}: {help}", path.display())))
            }
            (Some((_, a)), Some((_, b))) => Err(several(dir, a, b)),
        }
    };
    match data.is_empty() {
        true => Err(Error::value(OP, format!("there are labels in {}, but no array of samples beside them", dir.display()))),
        false => data.into_iter().map(pair).collect(),
    }
}

/// One source for each part; one that no part is named in is the training part.
fn by_part(dir: &Path, sources: Vec<(Option<Part>, Source)>) -> Result<Parts<Vec<Source>>> {
    let mut found: BTreeMap<usize, Source> = BTreeMap::new();
    for (part, source) in sources {
        let place = part.unwrap_or(Part::Train) as usize;
        if let Some(other) = found.get(&place) {
            return Err(several(dir, &other.path, &source.path));
        }
        found.insert(place, source);
    }
    let mut part = |part: Part| found.remove(&(part as usize)).map(|source| vec![source]);
    let [train, val, test] = Part::ALL.map(&mut part);
    match train {
        Some(train) => Ok(Parts { train, val, test }),
        None => Err(Error::value(OP, format!("there are no training samples in {}: {CALLED}", dir.display()))),
    }
}

/// How parts are called.
const CALLED: &str = "the names of files or folders end with train, test or val, as NAME_TRAIN.ts and NAME_TEST.ts";

fn several(dir: &Path, a: &Path, b: &Path) -> Error {
    let [a, b] = [a, b].map(name);
    Error::value(OP, format!("{a} and {b} in {} are the same part: give a folder with one set; {CALLED}", dir.display()))
}

/// The files in folders of classes, or in such folders for each part.
fn class_files(dir: &Path) -> Result<Option<Found>> {
    let folders = folders(dir)?;
    let parts: Vec<(Option<Part>, &PathBuf)> = folders.iter().map(|path| (part_folder(path), path)).collect();
    let split = parts.iter().any(|(part, _)| *part == Some(Part::Train)) && parts.iter().all(|(part, _)| part.is_some());
    let mut found: Vec<(Part, Vec<(Kind, Source)>)> = Vec::new();
    if split {
        for (part, path) in parts {
            found.extend(part.map(|part| classes_of(path).map(|files| (part, files))).transpose()?);
        }
    } else {
        found.push((Part::Train, classes_of(dir)?));
    }
    let kinds: BTreeSet<Kind> = found.iter().flat_map(|(_, files)| files.iter().map(|(kind, _)| *kind)).collect();
    let mut kinds = kinds.into_iter();
    let (Some(kind), other) = (kinds.next(), kinds.next()) else { return Ok(None) };
    if let Some(other) = other {
        let help = format!("there are .{} and .{} files in the folders of {}", kind.ending(), other.ending(), dir.display());
        return Err(Error::value(OP, format!("{help}: leave one kind there")));
    }
    check_filled(&found, kind)?;
    let mut part = |wanted: Part| {
        let own = found.iter().position(|(part, _)| *part == wanted)?;
        Some(found.swap_remove(own).1.into_iter().map(|(_, source)| source).collect())
    };
    let [train, val, test] = Part::ALL.map(&mut part);
    Ok(train.map(|train| Found { kind, parts: Parts { train, val, test } }))
}

/// Whether a folder is called exactly as a part.
fn part_folder(path: &Path) -> Option<Part> {
    let name = name(path).to_lowercase();
    Part::ALL.into_iter().find(|part| part.names().contains(&name.as_str()))
}

/// The sounds, pictures and texts in the folders in `dir`, each folder a class. One without any stands here with no file.
fn classes_of(dir: &Path) -> Result<Vec<(Kind, Source)>> {
    let mut found = Vec::new();
    for folder in folders(dir)? {
        let class = name(&folder);
        for path in visible(&folder)?.into_iter().filter(|path| !path.is_dir()) {
            if let Some(kind) = Kind::of(&path).filter(|kind| !kind.is_table()) {
                found.push((kind, Source { path, class: class.clone(), labels: None }));
            }
        }
    }
    Ok(found)
}

/// Refuses a folder of a class without files of that kind, where other folders beside it have some.
fn check_filled(found: &[(Part, Vec<(Kind, Source)>)], kind: Kind) -> Result<()> {
    for (_, files) in found {
        let Some(dir) = files.first().and_then(|(_, source)| source.path.parent()?.parent()) else { continue };
        for folder in folders(dir)? {
            let class = name(&folder);
            if !files.iter().any(|(_, source)| source.class == class) {
                let help = format!("there is no .{} file in {}, a class's folder", kind.ending(), folder.display());
                return Err(Error::value(OP, format!("{help}: put files there, or remove it")));
            }
        }
    }
    Ok(())
}

/// The error of a folder in which nothing was found.
fn nothing(dir: &Path) -> Error {
    let mut endings: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = |path: &Path| {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("without an ending");
        *endings.entry(ending.to_lowercase()).or_default() += 1;
    };
    for path in visible(dir).unwrap_or_default() {
        let inner = if path.is_dir() { visible(&path).unwrap_or_default() } else { vec![path] };
        inner.iter().filter(|path| !path.is_dir()).for_each(|path| count(path));
    }
    let sets = |path: &PathBuf| matches!(tables(path), Ok(Some(_)));
    let inner: Vec<String> = folders(dir).unwrap_or_default().iter().filter(|path| sets(path)).map(|path| name(path)).collect();
    if !inner.is_empty() {
        return Error::value(
            OP,
            format!("there are several sets in {}: give the folder of one of them: {}", dir.display(), inner.join(", ")),
        );
    }
    let most = endings.into_iter().max_by_key(|&(_, count)| count);
    let there = most.map_or("it is empty".into(), |(ending, count)| format!("there are {count} files {ending}"));
    let help = "give a folder of .ts, .tsv, .csv or .npy files, or one with a folder of .wav, .png or .txt files for each class";
    Error::value(OP, format!("nothing in {} can be read ({there}): {help}", dir.display()))
}

/// The folders in a folder, sorted, without hidden ones.
fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    Ok(visible(dir)?.into_iter().filter(|path| path.is_dir()).collect())
}

/// What is in a folder and not hidden, sorted. (`__MACOSX` is what an archiver leaves.)
fn visible(dir: &Path) -> Result<Vec<PathBuf>> {
    let listed = || -> std::io::Result<Vec<PathBuf>> {
        let entries: Vec<fs::DirEntry> = fs::read_dir(dir)?.collect::<std::io::Result<_>>()?;
        let hidden = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".") || entry.file_name() == "__MACOSX";
        let mut paths: Vec<PathBuf> = entries.iter().filter(|entry| !hidden(entry)).map(fs::DirEntry::path).collect();
        paths.sort_unstable();
        Ok(paths)
    };
    listed().map_err(|source| Error::io("list the folder", dir, source))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
