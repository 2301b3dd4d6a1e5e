//! Texts as sequences of characters: which characters a data set knows, and their ids.
//!
//! A character is a Unicode scalar value.

use super::Vocabulary;
use crate::error::Result;

/// Ids are bytes, and the special symbols have some of them.
const MOST: usize = 256 - Vocabulary::SPECIALS.len();

/// How often each character was seen; the index is its code point.
#[derive(Default)]
pub(super) struct Counts(Vec<u64>);

impl Counts {
    /// Counts the characters of a text that stands in the data `times` times.
    pub(super) fn add(&mut self, text: &str, times: u64) {
        for character in text.chars() {
            let code = character as usize;
            if code >= self.0.len() {
                self.0.resize(code + 1, 0);
            }
            self.0[code] += times;
        }
    }

    /// The characters seen at least `least` times, the most frequent first, of equally frequent ones the lower code point; where there
    /// are more than ids, the rarest are left out.
    pub(super) fn vocabulary(&self, least: u64) -> Result<Vocabulary> {
        let counted = (0..=u32::MAX).zip(&self.0).filter(|&(_, &count)| count >= least.max(1));
        let mut seen: Vec<(u64, char)> = counted.filter_map(|(code, &count)| Some((count, char::from_u32(code)?))).collect();
        seen.sort_by_key(|&(count, character)| (std::cmp::Reverse(count), character));
        Vocabulary::new(seen.into_iter().take(MOST).map(|(_, character)| character))
    }
}

/// The ids of characters; the index is the code point.
pub(super) struct Ids(Vec<u8>);

impl Ids {
    pub(super) fn new(vocabulary: &Vocabulary) -> Self {
        let mut ids = Vec::new();
        for id in 0..=u8::MAX {
            let mut symbol = vocabulary.symbol(id.into()).unwrap_or_default().chars();
            // The special symbols are words, which no text can spell.
            if let (Some(character), None) = (symbol.next(), symbol.next()) {
                ids.resize(ids.len().max(character as usize + 1), Vocabulary::UNK);
                ids[character as usize] = id;
            }
        }
        Ids(ids)
    }

    /// As [`encode`], into `sequence`, in the place of what was there.
    pub(super) fn encode(&self, text: &str, longest: usize, sequence: &mut Vec<u8>) {
        sequence.clear();
        let characters = beginning(text, longest.saturating_sub(1)).chars();
        sequence.extend(characters.map(|character| self.0.get(character as usize).copied().unwrap_or(Vocabulary::UNK)));
        sequence.push(Vocabulary::EOS);
    }
}

/// The ids of the first `longest - 1` characters of `text`, [`Vocabulary::UNK`] for those that the vocabulary lacks, and
/// [`Vocabulary::EOS`] behind them.
pub fn encode(text: &str, vocabulary: &Vocabulary, longest: usize) -> Vec<u8> {
    let mut sequence = Vec::new();
    Ids::new(vocabulary).encode(text, longest, &mut sequence);
    sequence
}

/// The first `most` characters of `text`, or all where it has fewer.
pub(super) fn beginning(text: &str, most: usize) -> &str {
    let Some(last) = most.checked_sub(1) else { return "" };
    let mut rest = text.chars();
    rest.nth(last);
    &text[..text.len() - rest.as_str().len()]
}
