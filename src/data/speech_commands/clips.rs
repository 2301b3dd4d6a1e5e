//! Which files there are: the names of all, stored end to end, and their samples when they are asked for.

use super::{LENGTH, OP, clip};
use crate::data::random::mix;
use crate::data::{Faults, Source, folder};
use crate::error::{Error, Result};
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The WAV files of some words, numbered through: by word, and within one by name.
pub(super) struct Clips {
    root: PathBuf,
    words: &'static [&'static str],
    /// The names of the files without their folders, end to end.
    names: String,
    /// Where each name ends.
    ends: Vec<usize>,
    /// The number of the first file behind each word.
    behind: Vec<usize>,
    /// Stands for the names, sizes and dates of all.
    stamp: u64,
}

impl Clips {
    /// Looks for the files; reads none.
    pub fn scan(root: &Path, words: &'static [&'static str], faults: &Faults) -> Result<Self> {
        let mut clips = Clips { root: root.into(), words, names: String::new(), ends: Vec::new(), behind: Vec::new(), stamp: 0 };
        for word in words {
            let folder = root.join(word);
            let mut names = wav_files(&folder, faults)?;
            names.sort_unstable();
            for name in names {
                clips.stamp = fold(clips.stamp, name.as_bytes());
                clips.stamp = fold(clips.stamp, &size_and_date(&folder.join(&name)));
                clips.names.push_str(&name);
                clips.ends.push(clips.names.len());
            }
            clips.behind.push(clips.ends.len());
        }
        Ok(clips)
    }

    /// The number of files.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn words(&self) -> &'static [&'static str] {
        self.words
    }

    /// The numbers of the files of word number `word`.
    pub fn of_word(&self, word: usize) -> Range<usize> {
        word.checked_sub(1).map_or(0, |before| self.behind[before])..self.behind[word]
    }

    /// The word of every file, by its number.
    pub fn labels(&self) -> Vec<usize> {
        (0..self.words.len()).flat_map(|word| self.of_word(word).map(move |_| word)).collect()
    }

    /// The number of a file.
    pub fn find(&self, word: usize, name: &str) -> Option<usize> {
        let Range { start, end } = self.of_word(word);
        // As in a slice of the names, which there is none of.
        let (mut low, mut high) = (start, end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.name(middle) < name { low = middle + 1 } else { high = middle }
        }
        (low < end && self.name(low) == name).then_some(low)
    }

    pub fn path(&self, number: usize) -> PathBuf {
        let word = self.behind.partition_point(|&behind| behind <= number);
        self.root.join(self.words[word]).join(self.name(number))
    }

    /// A number that changes with the name, size or date of any file, and with `extra`.
    pub fn fingerprint(&self, extra: &[u8]) -> u64 {
        fold(fold(self.stamp, &self.behind.iter().flat_map(|&behind| behind.to_le_bytes()).collect::<Vec<u8>>()), extra)
    }

    fn name(&self, number: usize) -> &str {
        &self.names[number.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[number]]
    }
}

impl fmt::Debug for Clips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clips").field("root", &self.root).field("words", &self.words).field("files", &self.len()).finish_non_exhaustive()
    }
}

impl Source for Clips {
    fn length(&self) -> usize {
        LENGTH
    }

    fn read(&self, number: usize, values: &mut [f32]) -> Result<()> {
        let mut samples = Vec::with_capacity(LENGTH);
        clip::read_samples(&self.path(number), &mut samples)?;
        clip::scale(&samples, values);
        Ok(())
    }

    fn file(&self, number: usize) -> Option<PathBuf> {
        Some(self.path(number))
    }
}

/// The names of the WAV files of a word, of which there must be one.
fn wav_files(folder: &Path, faults: &Faults) -> Result<Vec<String>> {
    if !folder.is_dir() {
        let help = "unpack the whole archive of v0.02, or correct the name of the folder";
        return Err(Error::value(OP, format!("there is no folder {}: {help}", folder.display())));
    }
    let mut names = Vec::new();
    for path in folder::files(folder, "wav")? {
        match path.file_name().and_then(|name| name.to_str()) {
            Some(name) => names.push(name.into()),
            None => faults.meet(Error::value(OP, format!("the name of {} is not UTF-8: rename the file", path.display())))?,
        }
    }
    if names.is_empty() {
        return Err(Error::value(OP, format!("there is no WAV file in {}: unpack the whole archive of v0.02", folder.display())));
    }
    Ok(names)
}

/// Zeros where there are none: reading the file will say why.
fn size_and_date(path: &Path) -> [u8; 24] {
    let mut bytes = [0; 24];
    if let Ok(about) = fs::metadata(path) {
        let date = about.modified().ok().and_then(|date| date.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        bytes[..8].copy_from_slice(&about.len().to_le_bytes());
        bytes[8..].copy_from_slice(&date.as_nanos().to_le_bytes());
    }
    bytes
}

/// A number that changes with `state` and with every one of the bytes.
fn fold(state: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(mix(state ^ bytes.len() as u64), |state, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(state ^ u64::from_le_bytes(word))
    })
}
