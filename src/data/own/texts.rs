//! Texts, character by character or word by word.

use super::assemble::{Coder, assemble};
use super::look::{Kind, Source};
use super::part::Parts;
use super::sample::{Place, Sample};
use super::{OP, Options};
use crate::data::{Dataset, Encoding, Faults, Splits, TextUnit, text_lines};
use crate::error::{Error, Result};

/// A character, or word, that comes less often in the training texts is unknown.
const LEAST: u64 = 2;

/// Under which name a set remembers how many characters, or words, of a text it holds, the mark at the end among them.
const LONGEST: &str = "longest_text";

/// Under which name a set of words remembers that it is one.
const UNIT: &str = "text_unit";

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
        let help = format!("must be at least 2: a {} and the mark at the end", options.text_unit.names()[0]);
        return Err(Error::config("longest_text", options.longest_text, help));
    }
    let (unit, most) = (options.text_unit, options.longest_text - 1);
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
        unit.vocabulary(train.iter().map(|text| unit.beginning(&text.content, most)), LEAST).map(Encoding::Tokens)
    };
    let push = |set: &mut Dataset, text: &String, label: usize| unit.push([(text.as_str(), label)], options.longest_text, set);
    let mut reading = vec![(LONGEST, options.longest_text.to_string())];
    if unit != TextUnit::default() {
        reading.push((UNIT, unit.names()[1].into()));
    }
    assemble(parts, kind, options, &[], faults, Coder { encoding: &encoding, push: &push, reading })
}

/// Appends a text.
pub(super) fn push(text: &str, set: &mut Dataset) -> Result<()> {
    if text.trim().is_empty() {
        return Err(Error::value(OP, "the text is empty: give at least one character"));
    }
    let unit = unit(set)?;
    unit.push([(text, 0)], longest(set).unwrap_or(usize::MAX), set)
}

/// What the texts of a set are sequences of.
fn unit(set: &Dataset) -> Result<TextUnit> {
    let Some(name) = set.reading().get(UNIT) else { return Ok(TextUnit::default()) };
    let known = TextUnit::ALL.into_iter().find(|unit| unit.names()[1] == name);
    known.ok_or_else(|| Error::value(OP, format!("the set holds texts as {name}, which this version does not know")))
}

/// How many characters, or words, of a text a set holds, the mark at the end among them; `None` of a set of something else.
pub(super) fn longest(set: &Dataset) -> Option<usize> {
    set.reading().get(LONGEST)?.parse().ok()
}
