//! Data of one's own: a folder, or one file, that is looked at to find what it holds.
//!
//! | What lies in the folder | A sample |
//! |---|---|
//! | `.ts` files of the UCR and UEA archives | a series of one or several channels |
//! | `.tsv` files of the UCR archive | a row: a label and a series |
//! | `.csv` files (or `.tsv`) | a row: a label and a series, or a label and a text; or rows of one series below each other |
//! | `.npy` files, data and labels | a series, of arrays (N, L) or (N, L, C) |
//! | a folder for each class, of `.wav`, `.png` or `.txt` files | a sound, a picture, a text |
//!
//! Files or folders whose names begin or end with `train`, `test` or `val` are these parts. Where nothing is called a test, one is drawn; see
//! [`load`]. Hidden files are passed over.

mod assemble;
mod csv;
mod look;
mod npy;
mod part;
mod pictures;
mod rows;
mod sample;
mod series;
mod sounds;
mod split;
mod table;
mod texts;
mod ts;

use std::path::Path;

use super::{Dataset, Faults, Splits, TextUnit};
use crate::error::{Error, Result};

pub use look::Kind;

/// What is wanted of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The labels are numbers to find, not classes.
    pub regression: bool,
    /// Time series are read with their differences from one time step to the next, as many channels again.
    pub differences: bool,
    /// What texts are read as.
    pub text_unit: TextUnit,
    /// Texts are cut to this many characters, or words, the mark at the end among them.
    pub longest_text: usize,
    /// Of what is drawn.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { regression: false, differences: true, text_unit: TextUnit::Characters, longest_text: 1024, seed: 0 }
    }
}

/// Whom messages name.
const OP: &str = "own data";

/// The data at `path`, a folder or a file.
///
/// Where no part is called a test, a fifth of the samples of each class, rounded, is drawn as one (of numbers: of all). Where none is
/// called a validation, a tenth of the training samples is drawn as one if there are [`SPARED`] of them or more; fewer are all trained on,
/// and the validation shows the training samples again. What is drawn hangs on the seed, the labels and their order alone.
///
/// Time series of tables and arrays are followed by their differences, unless `options` say otherwise. Values are standardised channel by channel: the mean over all time steps of the training part is taken away, and the result divided by
/// the standard deviation. (Of pictures, all values have the same mean and deviation.) Nothing of the test part goes into that, nor into the
/// classes, the vocabulary of texts or the scale of numbers. Missing values lie on the line between their neighbours in the same
/// channel; before the first and behind the last value they equal it. In tables and arrays, where all channels are missing up to
/// the end, the series has ended.
///
/// # Errors
/// `Value` where there is nothing at `path` that can be read as one of these, or more than one thing; `Data` with the line, `Binary` with
/// the byte of what is wrong in a file, as `faults` says; `Config` where the labels do not fit `options`.
pub fn load(path: impl AsRef<Path>, options: Options, faults: &Faults) -> Result<Splits> {
    let found = look::sources(path.as_ref())?;
    match found.kind {
        Kind::Wav => sounds::load(&found.parts, options, faults),
        Kind::Png => pictures::load(&found.parts, options, faults),
        Kind::Txt => texts::load(texts::files(&found.parts, faults)?, Kind::Txt, options, faults),
        kind => table::load(kind, &found.parts, options, faults),
    }
}

/// Appends what the file at `path` holds to a set that [`load`] made, or to an empty one like it: all samples of a table, the one of
/// another file. Labels are passed over; a table may lack them, where it has a header that says so.
///
/// # Errors
/// As [`load`], and `Value` where the file holds something else than the set.
pub fn push(path: impl AsRef<Path>, set: &mut Dataset) -> Result<()> {
    let path = path.as_ref();
    if !super::folder::is_file(path) {
        return Err(super::folder::missing(OP, path, "give a file like those that were trained on"));
    }
    let format = set.reading().get(assemble::FORMAT).cloned().unwrap_or_default();
    match Kind::ALL.into_iter().find(|kind| kind.ending() == format) {
        Some(Kind::Wav) => sounds::push(path, set),
        Some(Kind::Png) => pictures::push(path, set),
        Some(kind) if set.vocabulary().is_some() => match kind {
            Kind::Txt => texts::push(&super::text_lines::read(path)?, set),
            _ => table::push_texts(path, set),
        },
        Some(kind) => table::push(kind, path, set),
        None => Err(Error::value(OP, "the set was not made from data of one's own")),
    }
}

/// Appends a text to a set of texts.
///
/// # Errors
/// `Value` where the text is empty, or the set holds something else.
pub fn push_text(text: &str, set: &mut Dataset) -> Result<()> {
    texts::push(text, set)
}

/// The time steps that a model of samples as in `set` is made for: those that texts are cut to, otherwise those of the longest sample.
pub fn span(set: &Dataset) -> usize {
    texts::longest(set).unwrap_or_else(|| set.longest().max(1))
}

/// The least number of training samples of which a tenth is drawn for validation.
pub const SPARED: usize = 500;
