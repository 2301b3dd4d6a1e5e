//! ListOps of the Long Range Arena: nested lists of digits under MIN, MAX, MED and SM, whose value is the class.
//!
//! `[MAX 2 9 [MIN 4 7 ] 0 ]` is 9. MED is the integer part of the median, SM the sum modulo 10. The data set is generated: by
//! [`ensure`] into the official files `basic_train.tsv`, `basic_val.tsv` and `basic_test.tsv`, which [`load`] reads (the
//! published ones as well), or by [`generate`] straight into memory.

pub(crate) mod generate;
mod tokens;
mod tsv;

pub use generate::Rules;
pub use tokens::{encode, evaluate, value, vocabulary};
pub use tsv::read;

use super::{Dataset, Splits, Vocabulary};
use crate::error::{Error, Result};
use crate::file::write_atomically;
use generate::Generator;
use std::path::{Path, PathBuf};

/// The number of classes: the digits.
pub const CLASSES: usize = 10;

const TRAIN: &str = "basic_train.tsv";
const VAL: &str = "basic_val.tsv";
const TEST: &str = "basic_test.tsv";

/// Generates the data set of `rules` and `seed` in memory: what [`load`] reads after [`ensure`], no sequence cut.
///
/// The test set is drawn first, then the validation set, then the training set; so the same rules with another number of training
/// samples have the same test and validation sets.
///
/// # Errors
/// `Config` where a rule makes no sense, `Value` where the rules do not allow as many distinct expressions as are wanted.
pub fn generate(rules: &Rules, seed: u64) -> Result<Splits> {
    let mut generator = Generator::new(rules, seed)?;
    let mut draw = |count| {
        let mut set = Dataset::tokens(vocabulary(), CLASSES);
        let mut sequence = Vec::new();
        for _ in 0..count {
            let (tokens, target) = generator.sample()?;
            sequence.clear();
            sequence.extend_from_slice(tokens);
            sequence.push(Vocabulary::EOS);
            set.push_tokens(&sequence, usize::from(target))?;
        }
        Ok(set)
    };
    let (test, val) = (draw(rules.test)?, draw(rules.val)?);
    Ok(Splits { train: draw(rules.train)?, val, test })
}

/// Makes those of the three files in the folder `dir` that are missing, and the folder where it is missing; returns what was made.
///
/// A file that is there is kept as it is, whatever rules it was made by. One that is made is the same whether or not the others are
/// there, and appears only when it is whole. The official set takes about 660 MB.
///
/// # Errors
/// As [`generate`], and `Io` where a file or the folder cannot be written.
pub fn ensure(dir: impl AsRef<Path>, rules: &Rules, seed: u64) -> Result<Vec<PathBuf>> {
    let dir = dir.as_ref();
    let mut generator = Generator::new(rules, seed)?;
    std::fs::create_dir_all(dir).map_err(|source| Error::io("create the folder", dir, source))?;
    // In the order of `generate`.
    let mut files = Vec::new();
    for (name, count) in [(TEST, rules.test), (VAL, rules.val), (TRAIN, rules.train)] {
        let path = dir.join(name);
        let there = path.try_exists().map_err(|source| Error::io("look for", &path, source))?;
        files.push((path, count, there));
    }
    // The expressions of a file that exists are drawn again: those of later files depend on them. After the last missing file none do.
    let needed = files.iter().rposition(|(_, _, there)| !there).map_or(0, |last| last + 1);
    files.truncate(needed);
    let mut made = Vec::new();
    for (path, count, there) in files {
        if there {
            (0..count).try_for_each(|_| generator.sample().map(|_| ()))?;
        } else {
            write_atomically(&path, |out| tsv::write(out, &path, &mut generator, count, rules.parentheses))?;
            made.push(path);
        }
    }
    Ok(made)
}

/// Reads the three files in the folder `dir`, each as [`read`] does.
///
/// # Errors
/// As [`read`], and `Value` where there is no such folder.
pub fn load(dir: impl AsRef<Path>, l_max: usize) -> Result<Splits> {
    let dir = dir.as_ref();
    if !dir.is_dir() {
        let help = "give the folder that holds basic_train.tsv, basic_val.tsv and basic_test.tsv, or make them there with listops::ensure";
        return Err(Error::value("listops::load", format!("there is no folder {}: {help}", dir.display())));
    }
    Ok(Splits { train: read(dir.join(TRAIN), l_max)?, val: read(dir.join(VAL), l_max)?, test: read(dir.join(TEST), l_max)? })
}
