//! Pairs of made-up texts, and whether both are on one subject: Retrieval for machines without its archive.
//!
//! Every subject has words of its own, spelt at random, and shares the others with all subjects. A text is a line of words with blanks
//! between them; which subject it is on only its words tell, for all are spelt from the same syllables.

use super::characters::{Counts, encode};
use super::random::{Purpose, below, fraction, stream};
use super::{Dataset, Splits, Vocabulary};
use crate::error::{Error, Result};
use rand_pcg::Pcg32;
use std::collections::HashSet;

/// The number of classes: 0, the texts are on two subjects; 1, on one.
pub const CLASSES: usize = 2;

const CONSONANTS: &[u8] = b"bdfgklmnprstvz";
const VOWELS: &[u8] = b"aeiou";

/// The most characters of a text, and the most pairs of a part: more would not fit into the memory of every machine.
const LONGEST: usize = 1 << 20;
const MOST_PAIRS: usize = 1 << 28;

/// The most words that there are in all.
const MOST_WORDS: usize = 10_000;

/// What texts there are, and how many pairs are wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// The number of subjects, two at least.
    pub subjects: usize,
    /// The words that a subject has for itself.
    pub own_words: usize,
    /// The words that all subjects share.
    pub shared_words: usize,
    /// The share of a text's words that are its subject's own, above 0, 1 at most.
    pub p_own: f64,
    /// The characters of a text, which ends in the middle of a word where it must.
    pub length: usize,
    /// The number of training pairs.
    pub train: usize,
    /// The number of validation pairs.
    pub val: usize,
    /// The number of test pairs.
    pub test: usize,
}

impl Rules {
    /// A set that trains in minutes: texts of 255 characters on eight subjects; 10,000, 500 and 1,000 pairs.
    pub fn small() -> Self {
        Rules { subjects: 8, own_words: 12, shared_words: 100, p_own: 0.3, length: 255, train: 10_000, val: 500, test: 1_000 }
    }

    fn check(&self) -> Result<()> {
        if self.subjects < 2 {
            return Err(Error::config("subjects", self.subjects, "two texts can be on different subjects from two on"));
        }
        let counts =
            [("own_words", self.own_words), ("length", self.length), ("train", self.train), ("val", self.val), ("test", self.test)];
        if let Some((name, _)) = counts.into_iter().find(|&(_, count)| count == 0) {
            return Err(Error::config(name, 0, "must be at least 1"));
        }
        let most = [
            ("length", self.length, LONGEST),
            ("train", self.train, MOST_PAIRS),
            ("val", self.val, MOST_PAIRS),
            ("test", self.test, MOST_PAIRS),
        ];
        if let Some((name, count, most)) = most.into_iter().find(|&(_, count, most)| count > most) {
            return Err(Error::config(name, count, format!("must be at most {most}")));
        }
        let words = self.subjects.saturating_mul(self.own_words).saturating_add(self.shared_words);
        if words > MOST_WORDS {
            return Err(Error::config(
                "own_words",
                self.own_words,
                format!("these are {words} words in all, and {MOST_WORDS} are the most"),
            ));
        }
        if !(self.p_own > 0.0 && self.p_own <= 1.0) {
            return Err(Error::config("p_own", self.p_own, "a share above 0, 1 at most"));
        }
        if self.p_own < 1.0 && self.shared_words == 0 {
            return Err(Error::config("shared_words", 0, "must be at least 1 where p_own is below 1"));
        }
        Ok(())
    }
}

/// The pairs of `rules` and `seed`, which also draws the words; sample i is the same whatever the number of the others, but for the parts'
/// beginnings: the test set has the first numbers, then the validation set, then the training set. In every part the classes are equally
/// frequent, to within one sample.
///
/// # Errors
/// `Config` where a rule makes no sense.
pub fn generate(rules: &Rules, seed: u64) -> Result<Splits> {
    rules.check()?;
    let words = Words::new(rules, seed);
    let vocabulary = words.vocabulary()?;
    let part = |from: usize, count: usize| {
        let mut set = Dataset::pairs(vocabulary.clone(), CLASSES);
        for number in from..from + count {
            let ([first, second], label) = words.pair(rules, seed, number);
            let [first, second] = [first, second].map(|text| encode(&text, &vocabulary, rules.length + 1));
            set.push_pair(&first, &second, label)?;
        }
        Ok(set)
    };
    let (test, val) = (part(0, rules.test)?, part(rules.test, rules.val)?);
    Ok(Splits { train: part(rules.test + rules.val, rules.train)?, val, test })
}

/// All words that there are.
struct Words {
    /// The words of each subject.
    own: Vec<Vec<String>>,
    shared: Vec<String>,
}

impl Words {
    fn new(rules: &Rules, seed: u64) -> Self {
        let (mut rng, mut seen) = (stream(seed, Purpose::Subjects, u64::MAX), HashSet::new());
        // No word is drawn twice.
        let mut fresh = std::iter::repeat_with(|| word(&mut rng)).filter(|word| seen.insert(word.clone()));
        let own = (0..rules.subjects).map(|_| fresh.by_ref().take(rules.own_words).collect()).collect();
        Words { own, shared: fresh.take(rules.shared_words).collect() }
    }

    /// All letters and the blank, used or not: the ids do not hang on the words.
    fn vocabulary(&self) -> Result<Vocabulary> {
        let mut counts = Counts::default();
        let letters: String = CONSONANTS.iter().chain(VOWELS).chain(b" ").map(|&letter| char::from(letter)).collect();
        counts.add(&letters, 1);
        counts.vocabulary(1)
    }

    /// Pair `number`, and its label: the last bit of the number.
    fn pair(&self, rules: &Rules, seed: u64, number: usize) -> ([String; 2], usize) {
        let mut rng = stream(seed, Purpose::Subjects, number as u64);
        let label = number % CLASSES;
        let first = below(&mut rng, self.own.len() as u64) as usize;
        let other = (first + 1 + below(&mut rng, self.own.len() as u64 - 1) as usize) % self.own.len();
        let second = if label == 1 { first } else { other };
        ([first, second].map(|subject| self.text(rules, subject, &mut rng)), label)
    }

    fn text(&self, rules: &Rules, subject: usize, rng: &mut Pcg32) -> String {
        let mut text = String::with_capacity(rules.length + 8);
        while text.len() < rules.length {
            let words = if fraction(rng) < rules.p_own { &self.own[subject] } else { &self.shared };
            text.push_str(&words[below(rng, words.len() as u64) as usize]);
            text.push(' ');
        }
        text.truncate(rules.length);
        text
    }
}

/// A word of two or three syllables.
fn word(rng: &mut Pcg32) -> String {
    let syllables = 2 + below(rng, 2);
    (0..syllables).flat_map(|_| [letter(CONSONANTS, rng), letter(VOWELS, rng)]).collect()
}

fn letter(letters: &[u8], rng: &mut Pcg32) -> char {
    char::from(letters[below(rng, letters.len() as u64) as usize])
}
