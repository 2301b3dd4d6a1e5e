//! Texts, character by character.

use super::assemble::{Coder, assemble};
use super::look::{Kind, Source};
use super::part::Parts;
use super::sample::{Place, Sample};
use super::{OP, Options};
use crate::data::characters::{Counts, beginning, encode};
use crate::data::{Dataset, Encoding, Faults, Splits, text_lines};
use crate::error::{Error, Result};

/// A character that comes less often in the training texts is unknown.
const LEAST: u64 = 2;

/// Under which name a set remembers how many characters of a text it holds, the mark at the end among them.
const LONGEST: &str = "longest_text";

/// The texts in files of their own.
pub(super) fn files(parts: &Parts<Vec<Source>>, faults: &Faults) -> Result<Parts<Vec<Sample<String>>>> {
    parts.try_map(|sources| {
        let mut texts = Vec::new();
        for source in sources {
            match text_lines::read(&source.path) {
                Ok(content) => texts.push(Sample { content, label: source.class.clone(), place: Place::file(source.path.clone()) }),
                Err(error) => faults.meet(error)?,
            }
        }
        Ok(texts)
    })
}

/// The splits of these texts.
pub(super) fn load(parts: Parts<Vec<Sample<String>>>, kind: Kind, options: Options, faults: &Faults) -> Result<Splits> {
    if options.longest_text < 2 {
        return Err(Error::config("longest_text", options.longest_text, "must be at least 2: a character and the mark at the end"));
    }
    let most = options.longest_text - 1;
    let filled = |texts: Vec<Sample<String>>| {
        let mut kept = Vec::new();
        for text in texts {
            match text.content.trim().is_empty() {
                true => faults.meet(text.place.error("the text is empty: write one, or take it out"))?,
                false => kept.push(text),
            }
        }
        Ok::<_, Error>(kept)
    };
    let parts = Parts { train: filled(parts.train)?, val: parts.val.map(filled).transpose()?, test: parts.test.map(filled).transpose()? };
    let encoding = |train: &[Sample<String>]| {
        let mut counts = Counts::default();
        train.iter().for_each(|text| counts.add(beginning(&text.content, most), 1));
        counts.vocabulary(LEAST).map(Encoding::Tokens)
    };
    let push = |set: &mut Dataset, text: &String, label: usize| append(text, set, options.longest_text, label);
    let reading = vec![(LONGEST, options.longest_text.to_string())];
    assemble(parts, kind, options, &[], faults, Coder { encoding: &encoding, push: &push, reading })
}

/// Appends a text.
pub(super) fn push(text: &str, set: &mut Dataset) -> Result<()> {
    if text.trim().is_empty() {
        return Err(Error::value(OP, "the text is empty: give at least one character"));
    }
    append(text, set, longest(set).unwrap_or(usize::MAX), 0)
}

/// How many characters of a text a set holds, the mark at the end among them; `None` of a set of something else.
pub(super) fn longest(set: &Dataset) -> Option<usize> {
    set.reading().get(LONGEST)?.parse().ok()
}

fn append(text: &str, set: &mut Dataset, longest: usize, label: usize) -> Result<()> {
    let Some(vocabulary) = set.vocabulary() else {
        return Err(Error::value(OP, "the model does not read texts: give a file like those it was trained on"));
    };
    let sequence = encode(text, vocabulary, longest);
    set.push_tokens(&sequence, label)
}
