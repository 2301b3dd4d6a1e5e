//! Speech Commands v0.02: one word a second of sound, 16,000 samples of one value, read from its WAV file when a batch wants it.
//!
//! The folder holds a folder of WAV files for each word, and the lists `validation_list.txt` and `testing_list.txt`, as they come out of
//! the [official archive](http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz) (Warden 2018). Every file is 16 kHz, mono,
//! 16-bit PCM (other integers and floating point are rounded to that), and at most a second long; a shorter one is filled up with zeros.
//! A sample is its integer divided by 32,768.
//!
//! What a model reads is standardised as S4's loader does it: for each of the 16,000 time steps, the mean over the training set is taken
//! away and the result divided by the unbiased standard deviation plus 1e-5.

mod cache;
mod clip;
mod clips;
mod split;
mod statistics;
mod synthetic;

pub use clip::{WavStream, read as read_wav};
pub use synthetic::synthesize;

use super::archive::{Archive, Checksum, Content, GIB, Selection, Set, Size, owned};
use super::{Dataset, Encoding, Faults, Splits, folder};
use crate::error::{Error, Result};
use clips::Clips;
use split::Part;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Samples of a second of sound, and the number of time steps of every sequence.
pub const LENGTH: usize = 16_000;

/// The folder that the archive is unpacked to.
const FOLDER: &str = "speech_commands_v0.02";

/// Where an error comes from that no file is to blame for.
const OP: &str = "speech_commands::load";

/// Which words there are, and how they are split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Classes {
    /// All 35 words; the official lists say what is validation and test, and all the rest is training.
    All35,
    /// The ten commands: 70% of the files of each word are training, half of the rest is validation and half test, drawn with a fixed
    /// seed.
    Ten,
}

impl Classes {
    /// The words in the order of their class numbers, which is that of the alphabet.
    fn words(self) -> &'static [&'static str] {
        match self {
            Classes::All35 => &[
                "backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go", "happy", "house",
                "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven", "sheila", "six", "stop", "three", "tree",
                "two", "up", "visual", "wow", "yes", "zero",
            ],
            Classes::Ten => &["down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes"],
        }
    }
}

/// The words in the order of their class numbers, which is that of the alphabet.
pub fn class_names(classes: Classes) -> Vec<String> {
    classes.words().iter().map(ToString::to_string).collect()
}

/// The data set in the folder `dir`, or in `speech_commands_v0.02` or `SpeechCommands/speech_commands_v0.02` in it.
///
/// Every file is read once, on all cores, for the statistics and to find the bad ones before a run begins. What that gives is kept in a
/// file `.pspikessm-statistics-35` (or `-10`) beside the words, if that can be written; the next time it stands in for the reading, unless
/// the name, size, date or part of a file has changed. Memory holds the names of the files, and the samples only of a batch.
///
/// Files and lines of the lists that cannot be used are up to `faults`; where they are skipped, the sets do not have them.
///
/// # Errors
/// `Value` where a folder or a list is missing, or a set has nothing in it; `Binary` for a file that [`read_wav`] refuses; `Data` with its
/// line where a list names a file that is not there; `Io` where something cannot be read.
pub fn load(dir: impl AsRef<Path>, classes: Classes, faults: &Faults) -> Result<Splits> {
    let words = classes.words();
    let root = root(dir.as_ref(), words)?;
    let clips = Clips::scan(&root, words, faults)?;
    let parts = match classes {
        Classes::All35 => split::by_lists(&root, &clips, faults)?,
        Classes::Ten => split::drawn(&clips)?,
    };
    let cache = root.join(format!(".pspikessm-statistics-{}", words.len()));
    let survey = cache::survey(&cache, &clips, &parts, faults)?;

    let labels = clips.labels();
    let encoding = Encoding::Standardized(survey.standardization);
    let all = Dataset::remote(encoding, words.len(), labels, Arc::new(clips), faults.clone())?;
    let set = |name: &str, wanted: Part| {
        let mut numbers: Vec<usize> = (0..parts.len()).filter(|&number| parts[number] == wanted).collect();
        // Both rise.
        numbers.retain(|number| survey.bad.binary_search(number).is_err());
        match numbers.is_empty() {
            true => Err(Error::value(OP, format!("no file of {} is left for {name}: add files, or repair the lists", root.display()))),
            false => all.subset(&numbers),
        }
    };
    Ok(Splits { train: set("training", Part::Train)?, val: set("validation", Part::Val)?, test: set("the test", Part::Test)? })
}

/// v0.02 as it is published, unpacked to `speech_commands_v0.02` (2.4 GB, about 106,000 files and 4 GB unpacked).
pub fn archive() -> Set {
    Set::one(
        "http://download.tensorflow.org/data/",
        Archive {
            name: "speech_commands_v0.02.tar.gz".into(),
            size: Size::AtMost(4 * GIB),
            checksum: Some(Checksum::Sha256("af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58".into())),
            there: owned(&[FOLDER, "testing_list.txt"]),
            // Its files are at the top level of the tar.
            content: Content::TarGz { selection: Selection::Into(FOLDER.into()), max_bytes: 8 * GIB, max_entries: 250_000 },
        },
    )
}

/// The folder that the words are in.
fn root(dir: &Path, words: &[&str]) -> Result<PathBuf> {
    let found = folder::find(dir, &[FOLDER, "SpeechCommands"], |place| words.iter().any(|word| place.join(word).is_dir()));
    found.ok_or_else(|| {
        let help = format!("give the folder that has a folder of WAV files for each word: {}, ..", words[..3].join(", "));
        Error::value(OP, format!("there are no words in {}: {help}", dir.display()))
    })
}
