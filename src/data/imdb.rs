//! Text of the Long Range Arena: film reviews (IMDB), character by character, and whether they are good ones.
//!
//! The folder aclImdb holds a text file for each review: `train` and `test`, in each `neg` (class 0) and `pos` (class 1), 12,500 files
//! in each of the four. As in the Long Range Arena, the test set is the validation set as well.

pub use super::characters::encode;

use super::archive::{Archive, Checksum, Content, GIB, Selection, Set, Size, owned};
use super::characters::{Counts, Ids, beginning};
use super::{Dataset, Faults, Splits, Vocabulary, folder, text_lines};
use crate::error::{Error, Result};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// The number of classes: negative and positive.
pub const CLASSES: usize = 2;

/// A character seen less often than this is unknown.
const LEAST: u64 = 15;

/// The folder in the official archive.
const FOLDER: &str = "aclImdb";

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
    if longest < 2 {
        return Err(Error::config("longest", longest, "must be at least 2: a character and <eos>"));
    }
    let dir = dir.as_ref();
    let holds = |place: &Path| ["train", "test"].iter().any(|part| CLASS_FOLDERS.iter().any(|class| place.join(part).join(class).is_dir()));
    let dir = folder::find(dir, &[FOLDER, "aclImdb_v1"], holds).unwrap_or_else(|| dir.into());
    // All four folders before any review: a missing one is told at once.
    let (train, test) = (reviews(&dir.join("train"))?, reviews(&dir.join("test"))?);
    let train = read_all(&train, longest - 1, faults)?;
    let mut counts = Counts::default();
    train.iter().for_each(|(text, _)| counts.add(text, 1));
    let vocabulary = counts.vocabulary(LEAST)?;
    let train = encoded(&train, &vocabulary, longest)?;
    let test = encoded(&read_all(&test, longest - 1, faults)?, &vocabulary, longest)?;
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

/// The texts of all files, on all cores, in the order of the files, without those that are skipped.
fn read_all(files: &[(PathBuf, usize)], most: usize, faults: &Faults) -> Result<Vec<(String, usize)>> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let parts = std::thread::scope(|scope| {
        let parts = files.chunks(files.len().div_ceil(cores).max(1));
        // Where no thread is to be had, this one reads.
        let threads: Vec<_> =
            parts.map(|part| (part, std::thread::Builder::new().spawn_scoped(scope, move || read_part(part, most)))).collect();
        let texts = |(part, thread): (_, std::io::Result<std::thread::ScopedJoinHandle<'_, _>>)| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => read_part(part, most),
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

fn read_part(files: &[(PathBuf, usize)], most: usize) -> Vec<Result<(String, usize)>> {
    files.iter().map(|(path, label)| Ok((read(path, most)?, *label))).collect()
}

/// The first `most` characters of a review.
fn read(path: &Path, most: usize) -> Result<String> {
    let text = text_lines::read(path)?;
    if text.trim().is_empty() {
        return Err(Error::data(path, 1, 1, "the review is empty: was the archive unpacked in full?"));
    }
    Ok(beginning(&text, most).into())
}

fn encoded(texts: &[(String, usize)], vocabulary: &Vocabulary, longest: usize) -> Result<Dataset> {
    let (ids, mut sequence) = (Ids::new(vocabulary), Vec::new());
    let mut set = Dataset::tokens(vocabulary.clone(), CLASSES);
    for (text, label) in texts {
        ids.encode(text, longest, &mut sequence);
        set.push_tokens(&sequence, *label)?;
    }
    Ok(set)
}
