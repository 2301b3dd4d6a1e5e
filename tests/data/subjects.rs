//! Pairs of made-up texts: their classes, their words, what is refused.

use pspikessm::data::subjects::{self, Rules};
use pspikessm::data::{Dataset, Splits};
use std::collections::{BTreeMap, BTreeSet};

fn rules() -> Rules {
    Rules { train: 60, val: 20, test: 40, ..Rules::small() }
}

/// Both texts of every pair, and its label.
fn pairs(set: &Dataset) -> Vec<([String; 2], usize)> {
    let vocabulary = set.vocabulary().unwrap();
    let read = |index: usize| {
        let batch = set.batch(&[index]).unwrap();
        let tokens = batch.tokens().unwrap();
        let text = |tokens: &[u32]| -> String {
            tokens.iter().filter_map(|&id| vocabulary.symbol(id)).filter(|symbol| symbol.chars().count() == 1).collect()
        };
        let (first, second) = tokens.split_at(tokens.len() / 2);
        ([text(first), text(second)], batch.labels[0])
    };
    (0..set.len()).map(read).collect()
}

#[test]
fn texts_of_a_pair_share_their_subjects_words_and_no_others_do() {
    // Every word is its subject's own, so that the words alone tell the subjects apart.
    let rules = Rules { p_own: 1.0, shared_words: 0, subjects: 4, own_words: 6, ..rules() };
    let Splits { train, .. } = subjects::generate(&rules, 3).unwrap();
    // The last word may be cut.
    let words = |text: &str| -> BTreeSet<String> {
        let mut words: Vec<&str> = text.split(' ').collect();
        words.pop();
        words.into_iter().map(String::from).collect()
    };
    let mut all = BTreeSet::new();
    for (texts, label) in pairs(&train) {
        assert!(texts.iter().all(|text| text.len() == rules.length), "{texts:?}");
        let [first, second] = texts.each_ref().map(|text| words(text));
        assert!(first.len() <= rules.own_words && second.len() <= rules.own_words);
        assert_eq!(first.intersection(&second).count() > 0, label == 1, "{texts:?}");
        all.extend(first.into_iter().chain(second));
    }
    assert_eq!(all.len(), rules.subjects * rules.own_words);
    assert!(all.iter().all(|word| [4, 6].contains(&word.len())), "{all:?}");
}

#[test]
fn own_words_come_as_often_as_the_rules_say() {
    let rules = Rules { train: 300, length: 1000, p_own: 0.3, own_words: 1, shared_words: 50, subjects: 2, ..rules() };
    let Splits { train, .. } = subjects::generate(&rules, 1).unwrap();
    let mut counts = BTreeMap::<String, usize>::new();
    for (texts, _) in pairs(&train) {
        texts.iter().flat_map(|text| text.split(' ')).for_each(|word| *counts.entry(word.into()).or_default() += 1);
    }
    let total: usize = counts.values().sum();
    let mut often: Vec<usize> = counts.into_values().collect();
    often.sort_unstable_by(|a, b| b.cmp(a));
    // One word of each of two subjects, each in half of the texts.
    let share = (often[0] + often[1]) as f64 / total as f64;
    assert!((share - rules.p_own).abs() < 0.02, "{share}");
    assert!(often[1] > 5 * often[2], "{often:?}");
}

#[test]
fn a_pair_is_the_same_whatever_the_size_of_the_training_set() {
    let one = subjects::generate(&rules(), 0).unwrap();
    let other = subjects::generate(&Rules { train: 100, ..rules() }, 0).unwrap();
    assert_eq!((&one.test, &one.val), (&other.test, &other.val));
    assert_eq!(pairs(&one.train)[..], pairs(&other.train)[..60]);
    assert_ne!(one.test, subjects::generate(&rules(), 1).unwrap().test);
    for set in [&one.train, &one.val, &one.test] {
        assert_eq!(set.majority(), 0.5);
    }
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let cases: [(&str, Rules); 10] = [
        ("subjects", Rules { subjects: 1, ..rules() }),
        ("own_words", Rules { own_words: 0, ..rules() }),
        ("own_words", Rules { own_words: usize::MAX, ..rules() }),
        ("p_own", Rules { p_own: 0.0, ..rules() }),
        ("p_own", Rules { p_own: f64::NAN, ..rules() }),
        ("shared_words", Rules { shared_words: 0, ..rules() }),
        ("length", Rules { length: 0, ..rules() }),
        ("val", Rules { val: 0, ..rules() }),
        ("length", Rules { length: usize::MAX, ..rules() }),
        ("test", Rules { test: usize::MAX, ..rules() }),
    ];
    for (name, rules) in cases {
        let said = subjects::generate(&rules, 0).unwrap_err().to_string();
        assert!(said.contains(name), "{name}: {said}");
    }
}
