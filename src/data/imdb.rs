//! Text of the Long Range Arena: film reviews (IMDB), character by character (or word by word), and whether they are good ones.
//!
//! The folder aclImdb holds a text file for each review: `train` and `test`, in each `neg` (class 0) and `pos` (class 1), 12,500 files
//! in each of the four. As in the Long Range Arena, the test set is the validation set as well.

pub use super::characters::encode;

use super::archive::{Archive, Checksum, Content, GIB, Selection, Set, Size, owned};
use super::{Dataset, Faults, Splits, TextUnit, folder, text_lines};
use crate::error::{Error, Result};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// The number of classes: negative and positive.
pub const CLASSES: usize = 2;

/// A character, or word, seen less often than this is unknown.
const LEAST: u64 = 15;

/// The folder in the official archive.
const FOLDER: &str = "aclImdb";

/// What is kept of a text.
type Beginning = dyn Fn(&str) -> String + Sync;

/// The folders of the classes, in the order of the classes.
const CLASS_FOLDERS: [&str; CLASSES] = ["neg", "pos"];

/// Reads the reviews in the folder `dir`, which holds aclImdb or is it. A review is cut at `longest - 1` characters, and `<eos>`
/// appended.
///
/// The vocabulary is that of the characters that come at least 15 times in the training reviews, as far as these are read: as in the
/// official loader, what is cut off does not count. Reviews are in the order of the classes, in a class by file name. Other folders,
/// such as `unsup`, and files that are not `.txt` are passed over.
///
/// # Errors
/// `Config` where `longest` is below 2, `Value` where a folder is missing or without reviews, `Io` where it cannot be read. Of a review,
/// as `faults` says: `Data` where it is empty or not UTF-8, `Io` where it cannot be read.
pub fn load(dir: impl AsRef<Path>, longest: usize, faults: &Faults) -> Result<Splits> {
    load_by(TextUnit::Characters, dir, longest, faults)
}

/// The same by characters or words: `longest` counts them, as does the least number that makes one known.
///
/// # Errors
/// As [`load`].
pub fn load_by(unit: TextUnit, dir: impl AsRef<Path>, longest: usize, faults: &Faults) -> Result<Splits> {
    if longest < 2 {
        return Err(Error::config("longest", longest, format!("must be at least 2: a {} and <eos>", unit.names()[0])));
    }
    let dir = dir.as_ref();
    let holds = |place: &Path| ["train", "test"].iter().any(|part| CLASS_FOLDERS.iter().any(|class| place.join(part).join(class).is_dir()));
    let dir = folder::find(dir, &[FOLDER, "aclImdb_v1"], holds).unwrap_or_else(|| dir.into());
    // All four folders before any review: a missing one is told at once.
    let (train, test) = (reviews(&dir.join("train"))?, reviews(&dir.join("test"))?);
    let beginning = move |text: &str| String::from(unit.beginning(text, longest - 1));
    let train = read_all(&train, &beginning, faults)?;
    let vocabulary = unit.vocabulary(train.iter().map(|(text, _)| text.as_str()), LEAST)?;
    let encoded = |texts: &[(String, usize)]| {
        let mut set = Dataset::tokens(vocabulary.clone(), CLASSES);
        unit.push(texts.iter().map(|(text, label)| (text.as_str(), *label)), longest, &mut set)?;
        Ok::<_, Error>(set)
    };
    let train = encoded(&train)?;
    let test = encoded(&read_all(&test, &beginning, faults)?)?;
    Ok(Splits { train, val: test.clone(), test })
}

/// The reviews as they are published, unpacked to `aclImdb` (84 MB, about 100,000 small files unpacked).
pub fn archive() -> Set {
    Set::one(
        "https://ai.stanford.edu/~amaas/data/sentiment/",
        Archive {
            name: "aclImdb_v1.tar.gz".into(),
            size: Size::AtMost(GIB),
            checksum: Some(Checksum::Md5("7c2ac02c03563afcf9b574c7e56c153a".into())),
            there: owned(&[FOLDER, "train/pos"]),
            content: Content::TarGz { selection: Selection::Folders(owned(&[FOLDER])), max_bytes: 2 * GIB, max_entries: 250_000 },
        },
    )
}

/// The files of a split with their classes.
fn reviews(split: &Path) -> Result<Vec<(PathBuf, usize)>> {
    let mut files = Vec::new();
    for (label, folder) in CLASS_FOLDERS.into_iter().enumerate() {
        let folder = split.join(folder);
        let none = |what: &str| {
            let help = "give the folder aclImdb, unpacked, or the one that holds it";
            Error::value("imdb::load", format!("{what} {}: {help}", folder.display()))
        };
        if !folder.is_dir() {
            return Err(none("there is no folder"));
        }
        let found = folder::files(&folder, "txt")?;
        if found.is_empty() {
            return Err(none("there is no .txt file in"));
        }
        files.extend(found.into_iter().map(|path| (path, label)));
    }
    Ok(files)
}

/// What `beginning` leaves of the texts of all files, on all cores, in the order of the files, without those that are skipped.
fn read_all(files: &[(PathBuf, usize)], beginning: &Beginning, faults: &Faults) -> Result<Vec<(String, usize)>> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let parts = std::thread::scope(|scope| {
        let parts = files.chunks(files.len().div_ceil(cores).max(1));
        // Where no thread is to be had, this one reads.
        let threads: Vec<_> =
            parts.map(|part| (part, std::thread::Builder::new().spawn_scoped(scope, move || read_part(part, beginning)))).collect();
        let texts = |(part, thread): (_, std::io::Result<std::thread::ScopedJoinHandle<'_, _>>)| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => read_part(part, beginning),
        };
        threads.into_iter().map(texts).collect::<Vec<_>>()
    });
    let mut texts = Vec::with_capacity(files.len());
    // Faults are met here, not in the threads: of several bad files it is always the same one that is refused.
    for text in parts.into_iter().flatten() {
        match text {
            Ok(text) => texts.push(text),
            Err(error) => faults.meet(error)?,
        }
    }
    if texts.is_empty() {
        let help = format!("none of {} reviews can be read: {}", files.len(), faults.reports(1).concat());
        return Err(Error::value("imdb::load", help));
    }
    Ok(texts)
}

fn read_part(files: &[(PathBuf, usize)], beginning: &Beginning) -> Vec<Result<(String, usize)>> {
    files.iter().map(|(path, label)| Ok((beginning(&read(path)?), *label))).collect()
}

fn read(path: &Path) -> Result<String> {
    let text = text_lines::read(path)?;
    if text.trim().is_empty() {
        return Err(Error::data(path, 1, 1, "the review is empty: was the archive unpacked in full?"));
    }
    Ok(text)
}
