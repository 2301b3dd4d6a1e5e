//! Finding data files: in folders that also hold other things, under names that are nearly the right ones, in the folders that archives
//! are unpacked to.

use crate::error::{Error, Result};
use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

/// The files in `folder` whose names end in a dot and `ending`, in upper or lower case, sorted by name. Hidden files, which systems and
/// unpackers leave beside others, and folders are passed over.
pub(super) fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let is_one = |path: &Path| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending));
    entries(folder, is_one).map_err(|source| Error::io("list the folder", folder, source))
}

/// The file `name` in `folder` with one of these endings, the first that there is; else one whose name differs in nothing but case and
/// in which of `.`, `-`, `_` and blank stands between its words.
pub(super) fn near(folder: &Path, name: &str, endings: &[&str]) -> Option<PathBuf> {
    let names = || endings.iter().map(|ending| format!("{name}{ending}"));
    if let Some(path) = names().map(|name| folder.join(name)).find(|path| is_file(path)) {
        return Some(path);
    }
    let plain = |name: &str| name.to_lowercase().replace(['.', '_', ' '], "-");
    let wanted: Vec<String> = names().map(|name| plain(&name)).collect();
    let is_near = |path: &Path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| wanted.contains(&plain(name)));
    entries(folder, is_near).ok()?.into_iter().next()
}

/// The first of `dir` and the folders in it, of these names and up to three deep, that holds what is wanted.
pub(super) fn find(dir: &Path, names: &[&str], holds: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    places(names).map(|place| dir.join(place)).find(|place| holds(place))
}

/// The same places as paths from `dir`: the first is empty.
fn places(names: &[&str]) -> impl Iterator<Item = PathBuf> {
    let deeper = |places: &Vec<PathBuf>| places.iter().flat_map(|place| names.iter().map(|name| place.join(name))).collect();
    let levels: Vec<Vec<PathBuf>> = std::iter::successors(Some(vec![PathBuf::new()]), |places| Some(deeper(places))).take(4).collect();
    levels.into_iter().flatten()
}

/// Whether there is something of this name that can be read as a file.
pub(super) fn is_file(path: &Path) -> bool {
    path.exists() && !path.is_dir()
}

/// The error of a file that is not there.
pub(super) fn missing(op: &'static str, path: &Path, help: &str) -> Error {
    let folder = if path.is_dir() { " (it is a folder)" } else { "" };
    Error::value(op, format!("there is no file {}{folder}: {help}", path.display()))
}

/// What is in `folder` and no folder itself, not hidden, and chosen; sorted by name.
fn entries(folder: &Path, chosen: impl Fn(&Path) -> bool) -> std::io::Result<Vec<PathBuf>> {
    let hidden = |entry: &DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".");
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if !hidden(&entry) && chosen(&path) && !is_folder(&entry)? {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// Whether an entry is a folder, or a link to one. A link to nothing is none: reading it will say what is wrong.
fn is_folder(entry: &DirEntry) -> std::io::Result<bool> {
    let kind = entry.file_type()?;
    Ok(kind.is_dir() || kind.is_symlink() && entry.path().is_dir())
}
