//! Texts as sequences of words: which words a data set knows, and their ids.
//!
//! A word is a run of letters, digits and apostrophes, in lower case; all else stands between words. (Scripts that write no blanks have
//! few words by that: characters serve them better.)

use super::Vocabulary;
use crate::error::Result;
use std::collections::HashMap;

/// The most words that are known: every one costs the model an embedding.
const MOST: usize = 10_000 - Vocabulary::SPECIALS.len();

/// How often each word was seen.
#[derive(Default)]
pub(super) struct Counts(HashMap<String, u64>);

impl Counts {
    /// Counts the words of a text.
    pub(super) fn add(&mut self, text: &str) {
        for word in runs(text) {
            *self.0.entry(word.to_lowercase()).or_default() += 1;
        }
    }

    /// The words seen at least `least` times, the most frequent first, equally frequent ones by their letters; where there are more than
    /// are known, the rarest are left out.
    pub(super) fn vocabulary(self, least: u64) -> Result<Vocabulary> {
        let mut seen: Vec<(String, u64)> = self.0.into_iter().filter(|&(_, count)| count >= least).collect();
        seen.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| a.cmp(b)));
        Vocabulary::new(seen.into_iter().take(MOST).map(|(word, _)| word))
    }
}

/// The ids of the first `longest - 1` words of `text`, [`Vocabulary::UNK`] for those that the vocabulary lacks, and [`Vocabulary::EOS`]
/// behind them.
pub(super) fn encode(text: &str, vocabulary: &Vocabulary, longest: usize) -> Vec<u32> {
    let words = runs(text).take(longest.saturating_sub(1));
    let ids = words.map(|word| vocabulary.id(&word.to_lowercase()).unwrap_or(Vocabulary::UNK.into()));
    ids.chain([Vocabulary::EOS.into()]).collect()
}

/// `text` up to the end of its word number `most`, or all where it has fewer.
pub(super) fn beginning(text: &str, most: usize) -> &str {
    let Some(last) = most.checked_sub(1) else { return "" };
    let end = runs(text).nth(last).map_or(text.len(), |word| word.as_ptr().addr() - text.as_ptr().addr() + word.len());
    &text[..end]
}

/// The words as they are written.
fn runs(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_alphanumeric() && character != '\'').filter(|run| !run.is_empty())
}
