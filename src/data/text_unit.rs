//! What a text is a sequence of, characters or words: where it is cut, which of them are known, how it goes into a data set.

use super::characters::{self, Ids};
use super::{Dataset, Vocabulary, words};
use crate::error::{Error, Result};

listed! {
    /// What a text is a sequence of.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum TextUnit {
        /// Unicode scalar values, as in the Long Range Arena; up to 253 are known.
        #[default]
        Characters,
        /// Runs of letters, digits and apostrophes, in lower case; up to 9,997 are known.
        Words,
    }
}

impl TextUnit {
    /// What one is called, and many.
    pub(super) fn names(self) -> [&'static str; 2] {
        match self {
            TextUnit::Characters => ["character", "characters"],
            TextUnit::Words => ["word", "words"],
        }
    }

    /// The first `most` of a text, or all where it has fewer.
    pub(super) fn beginning(self, text: &str, most: usize) -> &str {
        match self {
            TextUnit::Characters => characters::beginning(text, most),
            TextUnit::Words => words::beginning(text, most),
        }
    }

    /// Those that come at least `least` times in the texts, the most frequent first.
    pub(super) fn vocabulary<'a>(self, texts: impl Iterator<Item = &'a str>, least: u64) -> Result<Vocabulary> {
        match self {
            TextUnit::Characters => {
                let mut counts = characters::Counts::default();
                texts.for_each(|text| counts.add(text, 1));
                counts.vocabulary(least)
            }
            TextUnit::Words => {
                let mut counts = words::Counts::default();
                texts.for_each(|text| counts.add(text));
                counts.vocabulary(least)
            }
        }
    }

    /// Appends texts with their classes, each cut to `longest - 1` units and followed by `<eos>`.
    ///
    /// # Errors
    /// `Value` where the set has no vocabulary, or a class is not below their number.
    pub(crate) fn push<'a>(self, texts: impl IntoIterator<Item = (&'a str, usize)>, longest: usize, set: &mut Dataset) -> Result<()> {
        let Some(vocabulary) = set.vocabulary().cloned() else {
            return Err(Error::value("text", "the model does not read texts: give what it was trained on"));
        };
        match self {
            TextUnit::Characters => {
                let (ids, mut sequence) = (Ids::new(&vocabulary), Vec::new());
                texts.into_iter().try_for_each(|(text, label)| {
                    ids.encode(text, longest, &mut sequence);
                    set.push_tokens(&sequence, label)
                })
            }
            TextUnit::Words => {
                texts.into_iter().try_for_each(|(text, label)| set.push_ids(&words::encode(text, &vocabulary, longest), label))
            }
        }
    }
}
