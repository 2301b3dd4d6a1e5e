//! The data sets of characters and words: IMDB and AAN from small folders made here, and sequences that are stored once for many pairs.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use pspikessm::data::{Dataset, Faults, TextUnit, Vocabulary, aan, imdb};
use pspikessm::error::Error;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

// ---- Helpers ----

/// A folder of these files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, text)| write(dir.path(), name, text));
    dir
}

fn write(dir: &Path, name: &str, text: &[u8]) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Four reviews that are good.
const REVIEWS: [(&str, &[u8]); 4] = [
    ("train/neg/0_1.txt", b"bad bad bad bad bad bad bad bad bad bad bad bad bad bad bad"),
    ("train/pos/0_9.txt", b"good"),
    ("test/neg/0_2.txt", b"bad"),
    ("test/pos/0_8.txt", b"dab a dab"),
];

/// Good reviews and one more file.
fn reviews_and(name: &str, text: &[u8]) -> TempDir {
    let dir = folder(&REVIEWS);
    write(dir.path(), name, text);
    dir
}

const AAN: [&str; 3] = ["new_aan_pairs.train.tsv", "new_aan_pairs.eval.tsv", "new_aan_pairs.test.tsv"];

/// One row in each of the three files, but these rows in the one of this name.
fn pairs_with(name: &str, rows: &[u8]) -> TempDir {
    let dir = folder(&AAN.map(|name| (name, &b"1\tA\tB\tab\tba\n"[..])));
    write(dir.path(), name, rows);
    dir
}

/// The vocabulary's own symbols.
fn symbols(vocabulary: &Vocabulary) -> Vec<&str> {
    (3..vocabulary.len()).map(|id| vocabulary.symbol(id as u32).unwrap()).collect()
}

/// Sequence `index` of a set that is not of pairs.
fn shown(set: &Dataset, index: usize) -> String {
    set.vocabulary().unwrap().decode(&set.ids(index).unwrap())
}

/// File, line, column and message.
fn data_error<T: std::fmt::Debug>(result: pspikessm::Result<T>) -> (PathBuf, usize, usize, String) {
    match result {
        Err(Error::Data { path, line, column, help }) => (path, line, column, help),
        other => panic!("{other:?}"),
    }
}

fn value_error<T: std::fmt::Debug>(result: pspikessm::Result<T>) -> String {
    match result {
        Err(Error::Value { help, .. }) => help,
        other => panic!("{other:?}"),
    }
}

// ---- Characters ----

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(11), ..ProptestConfig::default() })]

    #[test]
    fn encoding_is_that_of_a_naive_encoder(
        known in prop::collection::hash_set(prop_oneof![prop::char::range('a', 'z'), any::<char>()], 0..40),
        text in prop::collection::vec(prop_oneof![prop::char::range('a', 'z'), any::<char>()], 0..60),
        longest in 1usize..70,
    ) {
        let vocabulary = Vocabulary::new(known).unwrap();
        let naive = text.iter().take(longest - 1).map(|character| vocabulary.id(&character.to_string()).map_or(Vocabulary::UNK, |id| id as u8));
        let naive: Vec<u8> = naive.chain([Vocabulary::EOS]).collect();
        let text: String = text.iter().collect();
        prop_assert_eq!(imdb::encode(&text, &vocabulary, longest), &naive[..]);
        prop_assert_eq!(aan::encode(&text, &vocabulary, longest), naive);
    }
}

#[test]
fn a_text_is_cut_before_the_end_mark_and_cannot_spell_one() {
    let vocabulary = Vocabulary::new(["<", "e", "é"]).unwrap();
    assert_eq!(imdb::encode("<eos>", &vocabulary, 100), [3, 4, 1, 1, 1, 2]);
    assert_eq!(imdb::encode("éeé", &vocabulary, 3), [5, 4, 2]);
    assert_eq!(imdb::encode("éeé", &vocabulary, 4), [5, 4, 5, 2]);
    assert_eq!((imdb::encode("e", &vocabulary, 1), imdb::encode("e", &vocabulary, 0)), (vec![2], vec![2]));
    assert_eq!(imdb::encode("", &vocabulary, 9), [2]);
    assert_eq!(imdb::encode("e", &vocabulary, usize::MAX), [4, 2]);
}

// ---- IMDB ----

/// Every character so often, in an order that is not that of the vocabulary.
fn repeated(counts: &[(char, usize)]) -> String {
    counts.iter().flat_map(|&(character, count)| std::iter::repeat_n(character, count)).collect()
}

#[test]
fn the_vocabulary_is_what_comes_fifteen_times_in_training_the_most_frequent_first() {
    let dir = folder(&REVIEWS[2..]);
    // Over both texts: z 30, é and b 20, c 15, d 14.
    write(dir.path(), "train/neg/1_1.txt", repeated(&[('d', 13), ('c', 15), ('é', 10), ('z', 30)]).as_bytes());
    write(dir.path(), "train/pos/1_1.txt", repeated(&[('é', 10), ('d', 1), ('b', 20)]).as_bytes());
    let splits = imdb::load(dir.path(), 1000, &Faults::refused()).unwrap();
    assert_eq!(symbols(splits.train.vocabulary().unwrap()), ["z", "b", "é", "c"]);
    assert_eq!(shown(&splits.train, 1), format!("{}<unk> {}<eos>", "é ".repeat(10), "b ".repeat(20)));
    // Characters of the test set are not learnt.
    assert_eq!(shown(&splits.test, 0), "b <unk> <unk> <eos>");
    assert_eq!(splits.test.vocabulary(), splits.train.vocabulary());
}

#[test]
fn what_is_cut_off_is_not_counted() {
    let dir = reviews_and("train/neg/0_1.txt", repeated(&[('x', 20), ('y', 20)]).as_bytes());
    let known = |longest| {
        let splits = imdb::load(dir.path(), longest, &Faults::refused()).unwrap();
        (symbols(splits.train.vocabulary().unwrap()).concat(), splits.train.longest())
    };
    assert_eq!(known(41), ("xy".into(), 41));
    assert_eq!(known(36), ("xy".into(), 36));
    assert_eq!(known(35), ("x".into(), 35));
    assert_eq!(known(15), ("".into(), 15));
    assert_eq!(known(100), ("xy".into(), 41));
}

#[test]
fn of_too_many_characters_the_rarest_are_unknown() {
    // 300 characters, the last ones the most frequent.
    let counts: Vec<(char, usize)> = (0..300).map(|i| (char::from_u32(0x4e00 + i).unwrap(), 15 + i as usize)).collect();
    let dir = reviews_and("train/pos/0_9.txt", repeated(&counts).as_bytes());
    let splits = imdb::load(dir.path(), usize::MAX, &Faults::refused()).unwrap();
    let vocabulary = splits.train.vocabulary().unwrap();
    assert_eq!((vocabulary.len(), vocabulary.symbol(3), vocabulary.symbol(255)), (256, Some("\u{4f2b}"), Some("\u{4e2f}")));
    assert_eq!(splits.train.sequence(1).unwrap()[0], Vocabulary::UNK);
    assert_eq!(splits.train.sequence(1).unwrap().iter().rev().nth(1), Some(&3));
}

#[test]
fn reviews_come_by_class_and_name_whatever_the_threads() {
    let dir = folder(&REVIEWS);
    fs::remove_file(dir.path().join("train/neg/0_1.txt")).unwrap();
    // Every review by its length, 16 to 52.
    let names: Vec<(String, usize)> = (0..37).rev().map(|i| (format!("{i}_1.txt"), 16 + i)).collect();
    names.iter().for_each(|(name, length)| write(dir.path(), &format!("train/neg/{name}"), &vec![b'a'; *length]));
    let splits = imdb::load(dir.path(), 100, &Faults::refused()).unwrap();
    let mut sorted = names;
    sorted.sort();
    let lengths: Vec<usize> = (0..37).map(|i| splits.train.sequence(i).unwrap().len() - 1).collect();
    assert_eq!(lengths, sorted.iter().map(|(_, length)| *length).collect::<Vec<_>>());
    assert_eq!(splits.train.labels(), [&[0; 37][..], &[1]].concat());
    assert_eq!((splits.test.labels(), splits.test.classes()), (&[0, 1][..], 2));
    assert_eq!(splits.val, splits.test);
}

#[test]
fn the_folder_is_aclimdb_or_holds_it_and_may_hold_more() {
    let plain = imdb::load(folder(&REVIEWS).path(), 100, &Faults::refused()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    REVIEWS.iter().for_each(|(name, text)| write(&dir.path().join("aclImdb"), name, text));
    let more: [(&str, &[u8]); 5] = [
        ("train/unsup/0_0.txt", b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("train/neg/notes.md", b"# notes"),
        ("train/neg/._0_1.txt", b"\xff\xfe"),
        ("train/urls_neg.txt", b"http://"),
        ("imdb.vocab", b"the"),
    ];
    more.iter().for_each(|(name, text)| write(&dir.path().join("aclImdb"), name, text));
    let faults = Faults::skipped();
    assert_eq!(imdb::load(dir.path(), 100, &faults).unwrap(), plain);
    assert_eq!(faults.count(), 0);
}

#[test]
fn a_mark_is_no_character_and_nested_folders_and_other_case_are_found() {
    let plain = imdb::load(folder(&REVIEWS).path(), 100, &Faults::refused()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let nested = dir.path().join("aclImdb_v1/aclImdb");
    for (name, text) in REVIEWS {
        write(&nested, &name.replace(".txt", ".TXT"), &[b"\xef\xbb\xbf", text].concat());
    }
    fs::create_dir(nested.join("train/neg/folder.txt")).unwrap();
    assert_eq!(imdb::load(dir.path(), 100, &Faults::refused()).unwrap(), plain);
}

#[test]
fn a_missing_or_empty_folder_of_reviews_is_named() {
    for missing in ["train/neg", "train/pos", "test/neg", "test/pos"] {
        let dir = folder(&REVIEWS);
        fs::remove_dir_all(dir.path().join(missing)).unwrap();
        for faults in [Faults::refused(), Faults::skipped()] {
            let message = value_error(imdb::load(dir.path(), 100, &faults));
            let place = dir.path().join(missing).display().to_string();
            assert!(message.contains("no folder") && message.contains(&place) && message.contains("aclImdb"), "{message}");
            assert_eq!(faults.count(), 0);
        }
        write(dir.path(), &format!("{missing}/README"), b"no review");
        let message = value_error(imdb::load(dir.path(), 100, &Faults::refused()));
        assert!(message.contains("no .txt file") && message.contains(missing), "{message}");
    }
    let message = value_error(imdb::load(tempfile::tempdir().unwrap().path().join("nowhere"), 100, &Faults::refused()));
    assert!(message.contains("nowhere"), "{message}");
}

#[test]
fn a_bad_review_is_refused_by_place_or_skipped_and_counted() {
    let cases: [(&[u8], usize, usize, &str); 8] = [
        (b"", 1, 1, "empty"),
        (b" \r\n\t\n", 1, 1, "empty"),
        (b"\xff", 1, 1, "byte 0"),
        (b"\xff\xfeb\0a\0d\0", 1, 1, "this is text in UTF-16"),
        (b"bad \0", 1, 5, "byte 4"),
        // Half of a surrogate pair, as some programs encode it.
        (b"bad \xed\xa0\x80", 1, 5, "byte 4"),
        (b"ab\n\xc3\xa9\xffc", 2, 2, "byte 5"),
        // A character that is cut off.
        (b"ab\xc3", 1, 3, "byte 2"),
    ];
    let good = imdb::load(folder(&REVIEWS).path(), 100, &Faults::refused()).unwrap();
    for name in ["train/pos/1_7.txt", "test/neg/00.txt"] {
        for (text, line, column, help) in cases {
            let dir = reviews_and(name, text);
            // Behind the cut as well.
            for longest in [2, 100] {
                let (path, at, from, message) = data_error(imdb::load(dir.path(), longest, &Faults::refused()));
                assert_eq!((path, at, from), (dir.path().join(name), line, column), "{message}");
                assert!(message.contains(help), "{message}");
            }
            let faults = Faults::skipped();
            assert_eq!(imdb::load(dir.path(), 100, &faults).unwrap(), good);
            assert_eq!(faults.count(), 1);
            assert!(faults.reports(1)[0].contains(name), "{:?}", faults.reports(1));
        }
    }
}

#[test]
fn of_several_bad_reviews_the_first_is_refused_and_all_are_counted() {
    let dir = folder(&REVIEWS);
    (1..=9).for_each(|i| write(dir.path(), &format!("train/pos/{i}_7.txt"), b""));
    assert_eq!(data_error(imdb::load(dir.path(), 100, &Faults::refused())).0, dir.path().join("train/pos/1_7.txt"));
    let faults = Faults::skipped();
    assert_eq!(imdb::load(dir.path(), 100, &faults).unwrap().train.len(), 2);
    assert_eq!(faults.count(), 9);
}

#[test]
fn a_split_of_bad_reviews_only_is_refused() {
    let dir = folder(&REVIEWS);
    ["test/neg/0_2.txt", "test/pos/0_8.txt"].iter().for_each(|name| write(dir.path(), name, b""));
    let message = value_error(imdb::load(dir.path(), 100, &Faults::skipped()));
    assert!(message.contains("none of 2 reviews") && message.contains("0_2.txt"), "{message}");
}

#[test]
fn no_room_for_a_character_is_refused() {
    for longest in [0, 1] {
        for result in [imdb::load("nowhere", longest, &Faults::refused()), aan::load("nowhere", longest, &Faults::refused())] {
            assert!(matches!(result, Err(Error::Config { name: "longest", .. })), "{result:?}");
        }
    }
}

// ---- Words ----

/// The words of a text, character by character.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    for character in text.chars().chain([' ']) {
        match character.is_alphanumeric() || character == '\'' {
            true => word.push(character),
            false if word.is_empty() => {}
            false => words.push(std::mem::take(&mut word).to_lowercase()),
        }
    }
    words
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(12), cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn reviews_by_words_are_those_of_a_naive_reader(
        train in prop::collection::vec("[aB1é' ,.-]{0,80}a", 2..12),
        test in "[aB1é' ,.-]{0,80}\\.",
        longest in 2usize..60,
    ) {
        let dir = folder(&REVIEWS[2..3]);
        let place = |at: usize| format!("train/{}/{at:02}_1.txt", ["neg", "pos"][usize::from(at > 0)]);
        train.iter().enumerate().for_each(|(at, text)| write(dir.path(), &place(at), text.as_bytes()));
        write(dir.path(), "test/pos/0_8.txt", test.as_bytes());
        let splits = imdb::load_by(TextUnit::Words, dir.path(), longest, &Faults::refused()).unwrap();
        let cut = |text: &str| words(text).into_iter().take(longest - 1).collect::<Vec<_>>();
        let mut counts = BTreeMap::new();
        train.iter().flat_map(|text| cut(text)).for_each(|word| *counts.entry(word).or_insert(0) += 1);
        let mut known: Vec<(String, usize)> = counts.into_iter().filter(|&(_, count)| count >= 15).collect();
        known.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let known: Vec<String> = known.into_iter().map(|(word, _)| word).collect();
        prop_assert_eq!(symbols(splits.train.vocabulary().unwrap()), known.iter().map(String::as_str).collect::<Vec<_>>());
        let shown_naively = |text: &str| {
            let shown = cut(text).into_iter().map(|word| if known.contains(&word) { word } else { "<unk>".into() });
            shown.chain(["<eos>".into()]).collect::<Vec<_>>().join(" ")
        };
        for (at, text) in train.iter().enumerate() {
            prop_assert_eq!(shown(&splits.train, at), shown_naively(text));
        }
        prop_assert_eq!(shown(&splits.test, 1), shown_naively(&test));
        prop_assert_eq!(splits.train.labels()[0], 0);
    }
}

#[test]
fn of_too_many_words_the_rarest_are_unknown() {
    // 10,100 words, each 15 times but the last hundred, which come once more.
    let all = |times: usize| {
        (0..10_100).flat_map(move |word| std::iter::repeat_n(word, times)).map(|word| format!("w{word:05} ")).collect::<String>()
    };
    let often: String = (10_000..10_100).map(|word| format!("W{word:05}, ")).collect();
    let dir = reviews_and("train/pos/0_9.txt", (all(15) + &often).as_bytes());
    let splits = imdb::load_by(TextUnit::Words, dir.path(), usize::MAX, &Faults::refused()).unwrap();
    let vocabulary = splits.train.vocabulary().unwrap();
    assert_eq!(vocabulary.len(), 10_000);
    assert_eq!((vocabulary.symbol(3), vocabulary.symbol(102), vocabulary.symbol(103)), (Some("w10000"), Some("w10099"), Some("bad")));
    assert_eq!((vocabulary.symbol(9_999), vocabulary.id("w09896")), (Some("w09895"), None));
    // The review itself: its first word, and its last.
    let sequence = splits.train.ids(1).unwrap();
    assert_eq!((sequence[0], sequence[sequence.len() - 2], sequence[sequence.len() - 1]), (104, 102, 2));
}

#[test]
fn a_review_needs_room_for_a_word_and_the_mark() {
    let dir = folder(&REVIEWS);
    let Err(Error::Config { name, help, .. }) = imdb::load_by(TextUnit::Words, dir.path(), 1, &Faults::refused()) else { panic!() };
    assert_eq!((name, help.as_str()), ("longest", "must be at least 2: a word and <eos>"));
}

// ---- AAN ----

/// Both texts of every pair.
fn documents(set: &Dataset) -> Vec<(String, String)> {
    let of = |index| {
        let batch = set.batch(&[index]).unwrap();
        let (first, second) = batch.tokens().unwrap().split_at(batch.length);
        let [first, second] = [(first, 0), (second, 1)].map(|(ids, at)| ids[..batch.lengths[at]].iter().map(|&id| id as u8).collect());
        let show = |ids: Vec<u8>| set.vocabulary().unwrap().decode(&ids);
        (show(first), show(second))
    };
    (0..set.len()).map(of).collect()
}

fn strings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|&(first, second)| (first.into(), second.into())).collect()
}

#[test]
fn pairs_are_read_with_their_labels_in_any_spelling() {
    // Characters of training: b 5, a and c 2; e comes behind the cut, d in other files.
    let dir = folder(&[
        (AAN[0], b"1\tP1\tP2\tab\tbbbce\n0.0\tP2\tP3\tbbbce\tac\n"),
        (AAN[1], b"0\tP1\tP9\tab\tdab\r\n1.0\tP1\tP9\tab\tdab\r\n"),
        (AAN[2], b"0\tP1\tP1\tab\tab"),
    ]);
    let splits = aan::load(dir.path(), 5, &Faults::refused()).unwrap();
    // b 1 + 2 * 3, a 2, c 2 + 1.
    assert_eq!(symbols(splits.train.vocabulary().unwrap()), ["b", "c", "a"]);
    assert_eq!(documents(&splits.train), strings(&[("a b <eos>", "b b b c <eos>"), ("b b b c <eos>", "a c <eos>")]));
    assert_eq!(documents(&splits.val), strings(&[("a b <eos>", "<unk> a b <eos>"); 2]));
    assert_eq!(documents(&splits.test), strings(&[("a b <eos>", "a b <eos>")]));
    assert_eq!((splits.train.labels(), splits.val.labels(), splits.test.labels()), (&[1, 0][..], &[0, 1][..], &[0][..]));
    let (vocabulary, classes) = (splits.train.vocabulary(), splits.train.classes());
    assert!(splits.train.is_paired() && classes == 2 && vocabulary == splits.val.vocabulary() && vocabulary == splits.test.vocabulary());
}

#[test]
fn texts_are_what_stands_in_the_file() {
    let dir = pairs_with(AAN[0], b"1\tA\tB\tb'\\n a'\t\"x\"\"\n");
    let splits = aan::load(dir.path(), 100, &Faults::refused()).unwrap();
    assert_eq!(documents(&splits.train), strings(&[("b ' \\ n   a ' <eos>", "\" x \" \" <eos>")]));
    // By how often they come, and then by code point.
    assert_eq!(symbols(splits.train.vocabulary().unwrap()), ["\"", "'", " ", "\\", "a", "b", "n", "x"]);
}

#[test]
fn printable_ascii_makes_98_symbols() {
    let all: String = (' '..='~').collect();
    let dir = pairs_with(AAN[0], format!("1\tA\tB\t{all}\t{all}\n").as_bytes());
    let splits = aan::load(dir.path(), 4000, &Faults::refused()).unwrap();
    assert_eq!((splits.train.vocabulary().unwrap().len(), splits.train.longest()), (98, 96));
    assert_eq!(symbols(splits.train.vocabulary().unwrap()).concat(), all);
}

#[test]
fn the_files_are_found_in_the_official_folders() {
    let plain = aan::load(pairs_with(AAN[0], b"1\tA\tB\tab\tba\n").path(), 100, &Faults::refused()).unwrap();
    for folder in ["tsv_data", "lra_release/tsv_data", "lra_release/lra_release/tsv_data"] {
        let dir = tempfile::tempdir().unwrap();
        AAN.iter().for_each(|name| write(&dir.path().join(folder), name, b"1\tA\tB\tab\tba\n"));
        assert_eq!(aan::load(dir.path(), 100, &Faults::refused()).unwrap(), plain);
        // A file that is missing is missed where the others are.
        fs::remove_file(dir.path().join(folder).join(AAN[1])).unwrap();
        let message = value_error(aan::load(dir.path(), 100, &Faults::refused()));
        assert!(message.contains(&dir.path().join(folder).join(AAN[1]).display().to_string()), "{message}");
    }
}

#[test]
fn a_missing_file_of_pairs_is_named() {
    for name in AAN {
        let dir = pairs_with(AAN[0], b"1\tA\tB\tab\tba\n");
        fs::remove_file(dir.path().join(name)).unwrap();
        for faults in [Faults::refused(), Faults::skipped()] {
            let message = value_error(aan::load(dir.path(), 100, &faults));
            assert!(message.contains(&dir.path().join(name).display().to_string()) && message.contains("tsv_data"), "{message}");
        }
    }
}

#[test]
fn a_bad_row_is_refused_by_place_or_skipped_and_counted() {
    let cases: [(&[u8], usize, &str); 13] = [
        (b"1\tA\tB", 6, "3 columns"),
        ("1\té\tB".as_bytes(), 6, "3 columns"),
        (b"", 1, "1 columns"),
        (b"1\tA\tB\tab\tba\tab", 13, "6 columns"),
        (b"2\tA\tB\tab\tba", 1, "label is \"2\""),
        (b"\tA\tB\tab\tba", 1, "label is \"\""),
        (b"1.5\tA\tB\tab\tba", 1, "label is \"1.5\""),
        (b"1\tA\tB\t\tba", 7, "text 1 is empty"),
        (b"1\tA\tB\tab\t", 10, "text 2 is empty"),
        (b"1\tA\tB\tab\t  ", 10, "text 2 is empty"),
        (b"1\tA\tB\tab\tb\xffa", 11, "not UTF-8"),
        (b"1\tA\t\xc3\xa9\xc3\tab\tba", 6, "not UTF-8"),
        (b"1\tA\tB\ta\0\tba", 8, "not UTF-8"),
    ];
    let (before, after) = (&b"1\tA\tB\tab\tba\n"[..], &b"0\tA\tB\tab\tba\n"[..]);
    for name in AAN {
        let good = aan::load(pairs_with(name, &[before, after].concat()).path(), 100, &Faults::refused()).unwrap();
        for (row, column, help) in cases {
            for end in [&b"\n"[..], b"\r\n"] {
                let dir = pairs_with(name, &[before, row, end, after].concat());
                let (path, line, at, message) = data_error(aan::load(dir.path(), 100, &Faults::refused()));
                assert_eq!((path, line, at), (dir.path().join(name), 2, column), "{message}");
                assert!(message.contains(help), "{message}");
                let faults = Faults::skipped();
                assert_eq!(aan::load(dir.path(), 100, &faults).unwrap(), good);
                assert_eq!(faults.count(), 1);
                assert!(faults.reports(1)[0].contains(&format!("{name}:2:{column}")), "{:?}", faults.reports(1));
            }
        }
    }
}

#[test]
fn marks_line_ends_blank_ends_and_near_names_do_not_matter() {
    let wanted = aan::load(pairs_with(AAN[0], b"1\tA\tB\tab\tba\n0\tA\tB\tb\ta\n").path(), 100, &Faults::refused()).unwrap();
    for rows in [
        "\u{feff}1\tA\tB\tab\tba\n0\tA\tB\tb\ta\n",
        "1\tA\tB\tab\tba\r\n0\tA\tB\tb\ta\r\n\r\n",
        "1\tA\tB\tab\tba\n0\tA\tB\tb\ta\n\n \n\n",
        "1\tA\tB\tab\tba\n0\tA\tB\tb\ta",
    ] {
        let dir = pairs_with(AAN[0], rows.as_bytes());
        assert_eq!(aan::load(dir.path(), 100, &Faults::refused()).unwrap(), wanted, "{rows:?}");
        fs::rename(dir.path().join(AAN[0]), dir.path().join("New_AAN_pairs_train.tsv")).unwrap();
        assert_eq!(aan::load(dir.path(), 100, &Faults::refused()).unwrap(), wanted, "{rows:?}");
    }
    let dir = pairs_with(AAN[0], b"1\tA\tB\tab\tba\r0\tA\tB\tb\ta\r");
    assert!(data_error(aan::load(dir.path(), 100, &Faults::refused())).3.contains("CR alone"));
    let utf16: Vec<u8> = "\u{feff}1\tA".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(data_error(aan::load(pairs_with(AAN[0], &utf16).path(), 100, &Faults::refused())).3.contains("UTF-16"));
}

#[test]
fn every_bad_row_is_counted() {
    let dir = pairs_with(AAN[1], b"2\tA\tB\tab\tba\n1\n1\tA\tB\tab\tba\n1\tA\tB\t\tba\n");
    let faults = Faults::skipped();
    assert_eq!(aan::load(dir.path(), 100, &faults).unwrap().val.len(), 1);
    assert_eq!(faults.count(), 3);
}

#[test]
fn a_file_without_a_row_is_refused() {
    for rows in [&b""[..], b"1\n2\n"] {
        let dir = pairs_with(AAN[2], rows);
        let (path, line, column, message) = data_error(aan::load(dir.path(), 100, &Faults::skipped()));
        assert_eq!((path, line, column), (dir.path().join(AAN[2]), 1, 1));
        assert!(message.contains("no row"), "{message}");
    }
}

// ---- Sequences stored once for many pairs ----

fn letters() -> Vocabulary {
    Vocabulary::new(["a", "b", "c"]).unwrap()
}

#[test]
fn stored_sequences_make_the_pairs_that_pushed_ones_make() {
    let (mut stored, mut pushed) = (Dataset::pairs(letters(), 2), Dataset::pairs(letters(), 2));
    // The longest is in no pair: it is no sample, and counts nowhere.
    let numbers = [&[3, 2][..], &[4, 5, 4, 5, 2], &[4, 4, 2]].map(|sequence| stored.store_tokens(sequence).unwrap());
    assert_eq!((stored.len(), stored.longest(), stored.is_empty()), (0, 0, true));
    assert_eq!(stored, pushed);
    for (first, second, label) in [(2, 0, 1), (0, 0, 0), (0, 2, 1)] {
        stored.push_pair_of(numbers[first], numbers[second], label).unwrap();
        let [first, second] = [first, second].map(|at| [&[3, 2][..], &[], &[4, 4, 2]][at]);
        pushed.push_pair(first, second, label).unwrap();
    }
    assert_eq!(stored, pushed);
    assert_eq!((stored.len(), stored.longest(), stored.sequence(0), stored.sequence(3)), (3, 3, Some(&[4, 4, 2][..]), None));
    let batch = stored.batch(&[0, 2, 1]).unwrap();
    assert_eq!(batch, pushed.batch(&[0, 2, 1]).unwrap());
    // All firsts, then all seconds.
    assert_eq!(batch.tokens().unwrap(), [4, 4, 2, 3, 2, 0, 3, 2, 0, 3, 2, 0, 4, 4, 2, 3, 2, 0]);
    assert_eq!((batch.lengths, batch.labels, batch.batch, batch.length), (vec![3, 2, 2, 2, 3, 2], vec![1, 1, 0], 6, 3));
    // Both ways go together.
    stored.push_pair(&[5, 2], &[3, 2], 0).unwrap();
    assert_ne!(stored, pushed);
    pushed.push_pair(&[5, 2], &[3, 2], 0).unwrap();
    assert_eq!(stored, pushed);
    assert_ne!(stored.subset(&[0, 1]).unwrap(), stored.subset(&[2, 1]).unwrap());
}

#[test]
fn pairs_of_what_is_not_stored_are_refused() {
    let mut set = Dataset::pairs(letters(), 2);
    let number = set.store_tokens(&[3, 2]).unwrap();
    for (first, second) in [(number, number + 1), (number + 1, number)] {
        let message = value_error(set.push_pair_of(first, second, 0));
        assert!(message.contains("sequence 1 is asked of 1 stored"), "{message}");
    }
    assert!(value_error(set.push_pair_of(number, number, 2)).contains("label 2"));
    assert!(value_error(set.store_tokens(&[])).contains("empty"));
    assert!(value_error(set.store_tokens(&[6])).contains("token 6"));
    assert!(value_error(set.push_tokens(&[3], 0)).contains("has 2 sequences, not 1"));
    assert!(set.push_pair(&[3], &[], 0).is_err() && set.push_pair(&[3], &[9], 0).is_err());
    // Nothing of a refused pair stays.
    assert_eq!((set.len(), set.store_tokens(&[4]).unwrap()), (0, number + 1));
    let mut single = Dataset::tokens(letters(), 2);
    assert!(value_error(single.store_tokens(&[3])).contains("has 1 sequences, not 2"));
    assert!(single.push_pair_of(0, 0, 0).is_err() && single.push_pair(&[3], &[3], 0).is_err());
}

#[test]
fn subsets_of_values_and_levels_keep_their_samples() {
    let mut set = Dataset::values(2, 2).unwrap();
    set.push_values(&[1.0, 2.0], 0).unwrap();
    set.push_values(&[3.0, 4.0, 5.0, 6.0], 1).unwrap();
    let subset = set.subset(&[1, 0, 1]).unwrap();
    assert_eq!(subset.batch(&[0, 1, 2]).unwrap(), set.batch(&[1, 0, 1]).unwrap());
    let mut again = Dataset::values(2, 2).unwrap();
    for (values, label) in [(&[3.0, 4.0, 5.0, 6.0][..], 1), (&[1.0, 2.0], 0), (&[3.0, 4.0, 5.0, 6.0], 1)] {
        again.push_values(values, label).unwrap();
    }
    assert_eq!((&subset, subset.longest()), (&again, 2));
    assert_ne!(subset, set.subset(&[1, 0, 0]).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, rng_seed: RngSeed::Fixed(12), ..ProptestConfig::default() })]

    #[test]
    fn subsets_and_batches_are_those_of_a_list_of_pairs(
        documents in prop::collection::vec(prop::collection::vec(0u8..6, 1..8), 1..6),
        pairs in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0usize..2), 1..12),
        indices in prop::collection::vec(any::<prop::sample::Index>(), 1..12),
    ) {
        let mut set = Dataset::pairs(letters(), 2);
        let numbers: Vec<usize> = documents.iter().map(|document| set.store_tokens(document).unwrap()).collect();
        let pairs: Vec<_> = pairs.iter().map(|(a, b, label)| (a.index(documents.len()), b.index(documents.len()), *label)).collect();
        pairs.iter().for_each(|&(a, b, label)| set.push_pair_of(numbers[a], numbers[b], label).unwrap());
        let indices: Vec<usize> = indices.iter().map(|index| index.index(pairs.len())).collect();

        let mut chosen = Dataset::pairs(letters(), 2);
        let wanted: Vec<_> = indices.iter().map(|&index| pairs[index]).collect();
        wanted.iter().for_each(|&(a, b, label)| chosen.push_pair(&documents[a], &documents[b], label).unwrap());
        let subset = set.subset(&indices).unwrap();
        prop_assert_eq!(&subset, &chosen);
        prop_assert_eq!(subset.longest(), chosen.longest());

        let rows: Vec<&Vec<u8>> = wanted.iter().map(|pair| &documents[pair.0]).chain(wanted.iter().map(|pair| &documents[pair.1])).collect();
        let length = rows.iter().map(|row| row.len()).max().unwrap();
        let padded: Vec<u32> = rows.iter().flat_map(|row| (0..length).map(|at| row.get(at).map_or(0, |&id| u32::from(id)))).collect();
        let batch = set.batch(&indices).unwrap();
        prop_assert_eq!(batch.tokens().unwrap(), &padded[..]);
        prop_assert_eq!(&batch, &subset.batch(&(0..indices.len()).collect::<Vec<_>>()).unwrap());
        prop_assert_eq!(batch.labels, wanted.iter().map(|pair| pair.2).collect::<Vec<_>>());
    }
}

// ---- Tasks ----

mod tasks {
    use super::*;
    use pspikessm::data::Splits;
    use pspikessm::train::Sample;
    use pspikessm::train::tasks::{ALL, Retrieval, Task, Text};

    /// What the task reads from `dir`, and `sample` as it would be predicted.
    fn loaded(task: &dyn Task, dir: &Path, sample: Sample<'_>) -> (Splits, Dataset) {
        let recipe = task.recipe(None).unwrap();
        let splits = task.load(&recipe, Some(dir), &Faults::refused()).unwrap();
        let mut set = splits.test.subset(&[]).unwrap();
        task.push(&recipe, sample, &mut set).unwrap();
        assert_eq!(task.class_names(&recipe).len(), splits.train.classes());
        assert!(ALL.iter().any(|other| other.name() == task.name()));
        (splits, set)
    }

    #[test]
    fn a_review_for_a_prediction_is_read_as_the_set_is() {
        let dir = folder(&REVIEWS);
        let (splits, set) = loaded(&Text, dir.path(), Sample::Text("bad"));
        assert_eq!((set.len(), set.sequence(0)), (1, splits.test.sequence(0)));
        let file = dir.path().join("test/pos/0_8.txt");
        assert_eq!(loaded(&Text, dir.path(), Sample::Given(&file)).1.sequence(0), splits.test.sequence(1));
    }

    #[test]
    fn a_pair_for_a_prediction_is_read_as_the_set_is() {
        let dir = pairs_with(AAN[2], b"0\tA\tB\tab\tba\n");
        let (splits, set) = loaded(&Retrieval, dir.path(), Sample::Text("ab\tba\n"));
        assert_eq!(set, splits.test);
        let recipe = Retrieval.recipe(None).unwrap();
        for (sample, says) in [("ab", "tab between"), ("ab\t", "empty"), (" \tba", "empty")] {
            assert!(value_error(Retrieval.push(&recipe, Sample::Text(sample), &mut splits.test.clone())).contains(says), "{sample:?}");
        }
    }

    #[test]
    fn a_path_is_a_path_or_an_error() {
        let dir = folder(&REVIEWS);
        let (splits, _) = loaded(&Text, dir.path(), Sample::Text("bad"));
        let recipe = Text.recipe(None).unwrap();
        let refusal = |sample| Text.push(&recipe, sample, &mut splits.test.clone()).unwrap_err().to_string();
        let path = dir.path().join("missing.txt");
        let missing = refusal(Sample::Given(&path));
        assert!(missing.contains("missing.txt: there is no such file") && missing.contains("--predict-text"), "{missing}");
        assert!(refusal(Sample::Given(dir.path())).contains("could not read"));
        assert!(refusal(Sample::Text(" \n")).contains("empty"));
        let other = tasks_refusing_text().map(|task| task.push(&task.recipe(None).unwrap(), Sample::Text("bad"), &mut splits.test.clone()));
        assert!(other.into_iter().all(|result| result.unwrap_err().to_string().contains("give its path")));
    }

    fn tasks_refusing_text() -> [&'static dyn Task; 4] {
        use pspikessm::train::tasks::{Image, Pathfinder, PsMnist, SpeechCommands};
        [&Image, &Pathfinder, &PsMnist, &SpeechCommands]
    }
}
