//! ListOps of the Long Range Arena: nested lists of digits under MIN, MAX, MED and SM, whose value is the class.
//!
//! `[MAX 2 9 [MIN 4 7 ] 0 ]` is 9. MED is the integer part of the median, SM the sum modulo 10. The data set is generated: by
//! [`ensure`] into the official files `basic_train.tsv`, `basic_val.tsv` and `basic_test.tsv`, which [`load`] reads (the
//! published ones as well), or by [`generate`] straight into memory.

pub(crate) mod generate;
mod origin;
mod tokens;
mod tsv;

pub use generate::Rules;
pub use tokens::{encode, evaluate, value, vocabulary};
pub use tsv::read;

use super::{Dataset, Faults, Splits, Vocabulary, folder};
use crate::error::{Error, Result};
use crate::file::write_atomically;
use generate::Generator;
use origin::Origin;
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

/// The folder that has the three files, or some of them: `dir`, or `listops-1000` or `lra_release/listops-1000` in it, where the official
/// archive has them; `dir` itself where there is none.
pub fn find(dir: impl AsRef<Path>) -> PathBuf {
    let dir = dir.as_ref();
    folder::find(dir, &["listops-1000", "lra_release"], |place| !present(place).is_empty()).unwrap_or_else(|| dir.into())
}

/// Those of the three files that [`ensure`] would make in the folder `dir`.
///
/// # Errors
/// `Value` where files are there that were made by other rules, or where some are there that were not made by [`ensure`]: a set is never
/// filled up with expressions of other rules.
pub fn missing(dir: impl AsRef<Path>, rules: &Rules, seed: u64) -> Result<Vec<PathBuf>> {
    let dir = dir.as_ref();
    let there = present(dir);
    Origin::read(dir)?.check(dir, &there, rules, seed)?;
    Ok([TRAIN, VAL, TEST].into_iter().filter(|name| !there.contains(name)).map(|name| dir.join(name)).collect())
}

/// The names of the files that are there, also under near names.
fn present(dir: &Path) -> Vec<&'static str> {
    [TRAIN, VAL, TEST].into_iter().filter(|name| folder::near(dir, name, &[""]).is_some()).collect()
}

/// Makes those of the three files in the folder `dir` that are missing, and the folder where it is missing; returns what was made.
///
/// Which rules and seed they are of stands in `basic_generated.json` beside them. Files without it, all three, are someone's own and are
/// kept. One that is made is the same whether or not the others are there, and appears only when it is whole. The official set takes about
/// 660 MB.
///
/// # Errors
/// As [`generate`] and [`missing`], and `Io` where a file or the folder cannot be written.
pub fn ensure(dir: impl AsRef<Path>, rules: &Rules, seed: u64) -> Result<Vec<PathBuf>> {
    let dir = dir.as_ref();
    let mut generator = Generator::new(rules, seed)?;
    std::fs::create_dir_all(dir).map_err(|source| Error::io("create the folder", dir, source))?;
    let missing = missing(dir, rules, seed)?;
    let mut origin = Origin::read(dir)?.of(rules, seed);
    // In the order of `generate`. The expressions of a file that is there are drawn again: those of later files depend on them. After the
    // last missing file none do.
    let mut files =
        [(TEST, rules.test), (VAL, rules.val), (TRAIN, rules.train)].map(|(name, count)| (name, dir.join(name), count)).to_vec();
    files.truncate(files.iter().rposition(|(_, path, _)| missing.contains(path)).map_or(0, |last| last + 1));
    let mut made = Vec::new();
    for (name, path, count) in files {
        if missing.contains(&path) {
            write_atomically(&path, |out| {
                let length = tsv::write(out, &path, &mut generator, count, rules.parentheses)?;
                // Before the file appears: one that is there and not named is not ours.
                origin.add(name, length);
                origin.write(dir)
            })?;
            made.push(path);
        } else {
            (0..count).try_for_each(|_| generator.sample().map(|_| ()))?;
        }
    }
    Ok(made)
}

/// Reads the three files in the folder `dir`, each as [`read`] does.
///
/// # Errors
/// As [`read`], and `Value` where there is no such folder.
pub fn load(dir: impl AsRef<Path>, l_max: usize, faults: &Faults) -> Result<Splits> {
    let dir = dir.as_ref();
    if !dir.is_dir() {
        let help = "give the folder that holds basic_train.tsv, basic_val.tsv and basic_test.tsv, or make them there with listops::ensure";
        return Err(Error::value("listops::load", format!("there is no folder {}: {help}", dir.display())));
    }
    let read = |name: &str| read(folder::near(dir, name, &[""]).unwrap_or_else(|| dir.join(name)), l_max, faults);
    Ok(Splits { train: read(TRAIN)?, val: read(VAL)?, test: read(TEST)? })
}
