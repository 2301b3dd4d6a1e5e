//! ListOps: generation, the official files, and the batches, held against an evaluator and a generator of this file's own.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use pspikessm::data::listops::{self, Rules};
use pspikessm::data::{self, Dataset, Faults, Vocabulary};
use pspikessm::error::Error;
use pspikessm::internal::Generator;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

const OFFICIAL_EXAMPLE: &str = "( ( ( [MED 3 ) 4 ) ] )";

// ---- Oracles: a second evaluator, writer and generator ----

/// The value of a list of words without parentheses, from the definitions.
fn oracle_value(words: &[&str]) -> u32 {
    let mut stack: Vec<Result<u32, &str>> = Vec::new();
    for &word in words {
        if word != "]" && word != "X" {
            stack.push(word.parse().map_err(|_| word));
            continue;
        }
        let mut arguments = Vec::new();
        let operator = loop {
            match stack.pop().expect("an operator before its end") {
                Ok(digit) => arguments.push(digit),
                Err(operator) => break operator,
            }
        };
        arguments.sort_unstable();
        let n = arguments.len();
        stack.push(Ok(match operator {
            "[MIN" => arguments[0],
            "[MAX" => arguments[n - 1],
            "[MED" if n % 2 == 1 => arguments[n / 2],
            "[MED" => (f64::from(arguments[n / 2 - 1] + arguments[n / 2]) / 2.0).floor() as u32,
            "[SM" => arguments.iter().sum::<u32>() % 10,
            other => panic!("{other}"),
        }));
    }
    assert_eq!(stack.len(), 1);
    stack[0].expect("a value")
}

/// The expression that starts at `words[*at]` in the official form, from its definition as a binary tree.
fn oracle_nested(words: &[&str], at: &mut usize) -> String {
    let word = words[*at];
    *at += 1;
    if !word.starts_with('[') {
        return word.into();
    }
    let mut left = word.to_string();
    while words[*at] != "X" {
        left = format!("( {left} {} )", oracle_nested(words, at));
    }
    *at += 1;
    format!("( {left} ] )")
}

/// SplitMix64, for draws that share nothing with the crate's.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n
    }
}

/// A whole tree by the textbook recursion, never given up early: its length and its number of operators.
fn oracle_tree(rules: &Rules, depth: usize, draws: &mut Draws) -> (usize, usize) {
    if depth >= rules.max_depth || draws.next() as f64 / u64::MAX as f64 >= rules.p_operator {
        return (1, 0);
    }
    let arguments = rules.min_args + draws.below(rules.max_args - rules.min_args + 1);
    (0..arguments).map(|_| oracle_tree(rules, depth + 1, draws)).fold((2, 1), |sum, tree| (sum.0 + tree.0, sum.1 + tree.1))
}

// ---- Helpers ----

fn words(set: &Dataset, index: usize) -> Vec<String> {
    let text = set.vocabulary().unwrap().decode(set.sequence(index).unwrap());
    text.strip_suffix(" <eos>").expect("<eos> at the end").split(' ').map(String::from).collect()
}

fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// The plain source of decoded tokens.
fn source(text: &str) -> String {
    text.replace(" X", " ]")
}

fn few(rules: Rules) -> Rules {
    Rules { train: 60, val: 20, test: 20, ..rules }
}

fn file(dir: &Path, text: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join("basic_train.tsv");
    fs::write(&path, text).unwrap();
    path
}

/// Line, column and message of the error that reading `text` gives.
fn refusal(text: impl AsRef<[u8]>) -> (usize, usize, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), text);
    match listops::read(&path, 100, &Faults::refused()) {
        Err(Error::Data { path: named, line, column, help }) => {
            assert_eq!(named, path);
            (line, column, help)
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn config_name<T>(result: Result<T, Error>) -> &'static str {
    match result {
        Err(Error::Config { name, .. }) => name,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("accepted"),
    }
}

/// How many standard deviations of a binomial distribution `count` lies from its mean.
fn deviations(count: usize, of: usize, p: f64) -> f64 {
    (count as f64 - of as f64 * p).abs() / (of as f64 * p * (1.0 - p)).sqrt()
}

fn mean_and_variance(numbers: &[f64]) -> (f64, f64) {
    let n = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / n;
    (mean, numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0))
}

// ---- Values ----

#[test]
fn the_official_example() {
    let dir = tempfile::tempdir().unwrap();
    let set = listops::read(file(dir.path(), format!("Source\tTarget\n{OFFICIAL_EXAMPLE}\t3\n")), 2048, &Faults::refused()).unwrap();
    assert_eq!(words(&set, 0), ["[MED", "3", "4", "X"]);
    assert_eq!(set.labels(), [3]);
    assert_eq!(listops::evaluate(OFFICIAL_EXAMPLE).unwrap(), 3);
    assert_eq!(listops::encode(OFFICIAL_EXAMPLE).unwrap(), listops::encode("[MED 3 4 ]").unwrap());
    assert_eq!(listops::value(set.sequence(0).unwrap()).unwrap(), 3);
}

#[test]
fn values_by_hand() {
    let cases = [
        ("7", 7),
        ("[MIN 4 2 9 ]", 2),
        ("[MAX 4 2 9 ]", 9),
        ("[MED 9 1 5 ]", 5),
        ("[MED 1 9 ]", 5),
        ("[MED 1 8 ]", 4),
        ("[MED 0 1 2 9 ]", 1),
        ("[MED 0 0 9 9 ]", 4),
        ("[SM 9 9 9 ]", 7),
        ("[MAX 2 9 [MIN 4 7 ] 0 ]", 9),
        ("[SM [MAX 3 8 ] 8 [MED 7 4 8 9 ] ]", 3),
        ("[MIN 6 ]", 6),
    ];
    for (source, value) in cases {
        assert_eq!(listops::evaluate(source).unwrap(), value, "{source}");
        assert_eq!(oracle_value(&source.split(' ').collect::<Vec<_>>()), u32::from(value), "the oracle, {source}");
    }
}

#[test]
fn what_is_no_expression_is_refused() {
    for source in ["", "]", "[MIN ]", "[MIN 1", "1 2", "[MIN 1 ] ]", "[MIN 1 ] 2", "[SM [MAX ] 1 ]", "( )"] {
        match listops::evaluate(source) {
            Err(Error::Value { help, .. }) => assert!(help.contains("whole expression"), "{source}: {help}"),
            other => panic!("{source}: {other:?}"),
        }
    }
    let message = listops::evaluate("[MIN é 1 ]").unwrap_err().to_string();
    assert!(message.contains("\"é\" at column 6"), "{message}");
    assert!(listops::value(&[Vocabulary::PAD]).is_err());
    assert!(listops::value(&[255]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, rng_seed: RngSeed::Fixed(11), failure_persistence: None, ..ProptestConfig::default() })]

    /// Any words: an error or a digit, never a panic; and a digit only where the oracle has it too.
    #[test]
    fn any_words_have_a_value_or_an_error(picks in prop::collection::vec(0usize..17, 0..12)) {
        let all = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "[MIN", "[MAX", "[MED", "[SM", "]", "]", "]"];
        let words: Vec<&str> = picks.iter().map(|&pick| all[pick]).collect();
        if let Ok(value) = listops::evaluate(&words.join(" ")) {
            prop_assert_eq!(u32::from(value), oracle_value(&words));
        }
    }

    /// Every rule that makes sense gives expressions within the rule, of the oracle's value, in both forms.
    #[test]
    fn generated_expressions_keep_the_rules(
        seed: u64, max_depth in 2usize..7, min_args in 1usize..4, more_args in 1usize..5,
        p in 0.2f64..0.6, min_tokens in 3usize..5, more_tokens in 20usize..80,
    ) {
        let (max_args, max_tokens) = (min_args + more_args, min_tokens + more_tokens);
        let rules = Rules { max_depth, min_args, max_args, p_operator: p, min_tokens, max_tokens, ..Rules::small() };
        let mut generator = Generator::new(&rules, seed).unwrap();
        for _ in 0..5 {
            let (tokens, target) = generator.sample().unwrap();
            prop_assert!((min_tokens..=max_tokens).contains(&tokens.len()));
            let text = listops::vocabulary().decode(tokens);
            let words: Vec<&str> = text.split(' ').collect();
            prop_assert_eq!(u32::from(target), oracle_value(&words));
            prop_assert_eq!(listops::evaluate(&source(&text)).unwrap(), target);
            prop_assert_eq!(listops::evaluate(&oracle_nested(&words, &mut 0)).unwrap(), target);
            let mut open: Vec<usize> = Vec::new();
            for word in words {
                if word == "X" {
                    prop_assert!((min_args..=max_args).contains(&open.pop().unwrap()));
                    continue;
                }
                if let Some(arguments) = open.last_mut() {
                    *arguments += 1;
                }
                if word.starts_with('[') {
                    open.push(0);
                    prop_assert!(open.len() < max_depth);
                }
            }
        }
    }
}

// ---- Generation ----

#[test]
fn files_hold_what_is_generated_in_memory() {
    for rules in [few(Rules::official()), few(Rules::small())] {
        let dir = tempfile::tempdir().unwrap();
        let made = listops::ensure(dir.path().join("new/folder"), &rules, 5).unwrap();
        assert_eq!(made.len(), 3);
        let splits = listops::load(dir.path().join("new/folder"), rules.max_tokens + 1, &Faults::refused()).unwrap();
        assert_eq!(splits, listops::generate(&rules, 5).unwrap());
        assert_eq!([splits.train.len(), splits.val.len(), splits.test.len()], [60, 20, 20]);
        let text = fs::read_to_string(dir.path().join("new/folder/basic_train.tsv")).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("Source\tTarget"));
        for index in 0..splits.train.len() {
            let (words, line) = (words(&splits.train, index), lines.next().unwrap());
            let target = oracle_value(&strs(&words));
            let source = if rules.parentheses { oracle_nested(&strs(&words), &mut 0) } else { source(&words.join(" ")) };
            assert_eq!(line, format!("{source}\t{target}"));
            assert_eq!(splits.train.labels()[index], target as usize);
        }
        assert_eq!(lines.next(), None);
    }
}

#[test]
fn lengths_reach_both_bounds_and_go_no_further() {
    let rules = Rules { min_tokens: 20, max_tokens: 30, ..few(Rules::small()) };
    let splits = listops::generate(&Rules { train: 2000, ..rules }, 3).unwrap();
    let lengths: Vec<usize> = (0..2000).map(|index| splits.train.sequence(index).unwrap().len() - 1).collect();
    assert_eq!((lengths.iter().min(), lengths.iter().max()), (Some(&20), Some(&30)));
    assert_eq!(splits.train.longest(), 31);

    let official = listops::generate(&few(Rules::official()), 3).unwrap();
    assert!((0..60).map(|index| official.train.sequence(index).unwrap().len() - 1).all(|length| length > 500 && length < 2000));
}

#[test]
fn expressions_are_distinct_even_when_every_possible_one_is_asked_for() {
    // Ten digits, and 4 operators on 10 x 10 digits.
    let rules =
        Rules { max_depth: 2, min_args: 2, max_args: 2, p_operator: 0.9, min_tokens: 1, train: 390, val: 10, test: 10, ..Rules::small() };
    let splits = listops::generate(&rules, 1).unwrap();
    let sets = [&splits.train, &splits.val, &splits.test];
    let all: HashSet<&[u8]> = sets.iter().flat_map(|set| (0..set.len()).map(|index| set.sequence(index).unwrap())).collect();
    assert_eq!(all.len(), 410);

    // One more does not exist: an error, and neither the file nor a part of it.
    let dir = tempfile::tempdir().unwrap();
    match listops::ensure(dir.path(), &Rules { train: 391, ..rules }, 1) {
        Err(Error::Value { help, .. }) => assert!(help.contains("only 410 distinct"), "{help}"),
        other => panic!("{other:?}"),
    }
    let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["basic_generated.json", "basic_test.tsv", "basic_val.tsv"]);
}

#[test]
fn the_seed_decides() {
    let rules = few(Rules::small());
    let one = listops::generate(&rules, 1).unwrap();
    assert_eq!(one, listops::generate(&rules, 1).unwrap());
    assert_ne!(one, listops::generate(&rules, 2).unwrap());
    // The stream itself is part of the promise: the same data set with the next release.
    assert_eq!(words(&one.test, 0).join(" "), "[MAX [MED 0 2 1 X [MIN 4 [MIN 6 1 0 X 5 [MIN 4 7 [SM 5 3 1 0 X X X 9 X");
    // Another size of the training set leaves the others as they are, and the shorter one is the longer one's start.
    let more = listops::generate(&Rules { train: 80, ..rules }, 1).unwrap();
    assert_eq!((&more.val, &more.test), (&one.val, &one.test));
    assert!((0..60).all(|index| more.train.sequence(index) == one.train.sequence(index)));
}

const NAMES: [&str; 3] = ["basic_train.tsv", "basic_val.tsv", "basic_test.tsv"];

#[test]
fn missing_files_are_made_as_if_all_were() {
    let rules = few(Rules::small());
    let whole = tempfile::tempdir().unwrap();
    listops::ensure(whole.path(), &rules, 9).unwrap();
    for kept in 0..8u32 {
        let dir = tempfile::tempdir().unwrap();
        listops::ensure(dir.path(), &rules, 9).unwrap();
        let lost: Vec<PathBuf> = (0..3).filter(|at| kept >> at & 1 == 0).map(|at| dir.path().join(NAMES[at])).collect();
        lost.iter().for_each(|path| fs::remove_file(path).unwrap());
        assert_eq!(listops::missing(dir.path(), &rules, 9).unwrap(), lost);
        let made: HashSet<PathBuf> = listops::ensure(dir.path(), &rules, 9).unwrap().into_iter().collect();
        assert_eq!(made, lost.into_iter().collect());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "no temporary file is left");
        for name in NAMES {
            assert_eq!(fs::read(dir.path().join(name)).unwrap(), fs::read(whole.path().join(name)).unwrap());
        }
    }
}

#[test]
fn own_files_are_never_mixed_with_generated_ones() {
    let rules = few(Rules::small());
    for own in 0..8u32 {
        let dir = tempfile::tempdir().unwrap();
        let is_own = |at: usize| own >> at & 1 == 1;
        for at in (0..3).filter(|&at| is_own(at)) {
            fs::write(dir.path().join(NAMES[at]), format!("mine {at}")).unwrap();
        }
        match (own.count_ones(), listops::ensure(dir.path(), &rules, 9)) {
            (0, Ok(made)) => assert_eq!(made.len(), 3),
            (3, Ok(made)) => assert_eq!(made, [""; 0].map(PathBuf::from)),
            (1 | 2, Err(Error::Value { help, .. })) => {
                assert!((0..3).filter(|&at| is_own(at)).all(|at| help.contains(NAMES[at])) && help.contains("never mixed"), "{help}");
                assert_eq!(fs::read_dir(dir.path()).unwrap().count(), own.count_ones() as usize);
            }
            other => panic!("{other:?}"),
        }
        for at in (0..3).filter(|&at| is_own(at)) {
            assert_eq!(fs::read_to_string(dir.path().join(NAMES[at])).unwrap(), format!("mine {at}"));
        }
    }
    // One of a generated set that someone wrote anew.
    let dir = tempfile::tempdir().unwrap();
    listops::ensure(dir.path(), &rules, 9).unwrap();
    fs::write(dir.path().join(NAMES[1]), "Source\tTarget\n[MAX 1 2 ]\t2\n").unwrap();
    let help = listops::ensure(dir.path(), &rules, 9).unwrap_err().to_string();
    assert!(help.contains(NAMES[1]) && !help.contains(NAMES[0]), "{help}");
}

#[test]
fn a_set_of_other_rules_or_seed_is_refused_by_what_differs() {
    let rules = few(Rules::small());
    let dir = tempfile::tempdir().unwrap();
    listops::ensure(dir.path(), &rules, 9).unwrap();
    let before: Vec<Vec<u8>> = NAMES.iter().map(|name| fs::read(dir.path().join(name)).unwrap()).collect();
    let other = Rules { max_depth: 6, p_operator: 0.3, ..rules.clone() };
    for (rules, seed, says) in [
        (&other, 9, &["max_depth 5, not 6", "p_operator 0.4, not 0.3"][..]),
        (&rules, 10, &["seed 9, not 10"]),
        (&other, 1, &["seed 9, not 1"]),
    ] {
        for result in [listops::ensure(dir.path(), rules, seed), listops::missing(dir.path(), rules, seed)] {
            let help = result.unwrap_err().to_string();
            assert!(help.contains(&dir.path().display().to_string()) && says.iter().all(|say| help.contains(say)), "{help}");
        }
    }
    assert_eq!(before, NAMES.iter().map(|name| fs::read(dir.path().join(name)).unwrap()).collect::<Vec<_>>());
    // Without the files nothing is left that could be mixed.
    NAMES.iter().for_each(|name| fs::remove_file(dir.path().join(name)).unwrap());
    assert_eq!(listops::ensure(dir.path(), &other, 9).unwrap().len(), 3);
    assert!(listops::missing(dir.path(), &rules, 9).is_err());
    fs::write(dir.path().join("basic_generated.json"), "{\"rules\": {").unwrap();
    assert!(listops::ensure(dir.path(), &other, 9).unwrap_err().to_string().contains("basic_generated.json:1:"));
}

#[test]
fn the_folder_of_the_archive_is_found() {
    for place in ["", "listops-1000", "lra_release/listops-1000", "lra_release/lra_release/listops-1000"] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(place)).unwrap();
        file(&dir.path().join(place), "x");
        assert_eq!(listops::find(dir.path()), dir.path().join(place));
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("listops-1000")).unwrap();
    assert_eq!(listops::find(dir.path()), dir.path());
}

#[test]
fn bad_rows_are_left_out_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "Source\tTarget\n[MAX 1 2 ]\t2\n[MAX 1\n\n[SM 7 8 ]\t5\n[SM 7 8 ]\tx\n");
    let faults = Faults::skipped();
    let set = listops::read(&path, 100, &faults).unwrap();
    assert_eq!((set.labels(), faults.count()), (&[2, 5][..], 3));
    assert!(faults.reports(1)[0].contains("basic_train.tsv:3:7"), "{:?}", faults.reports(3));
    let path = file(dir.path(), "Source\tTarget\n[MAX 1 2\n");
    let help = listops::read(&path, 100, &Faults::skipped()).unwrap_err().to_string();
    assert!(help.contains("none of 1 rows"), "{help}");
    // The header is no sample.
    assert!(listops::read(file(dir.path(), "[MAX 1 2 ]\t2\n"), 100, &Faults::skipped()).is_err());
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let good = Rules::small();
    let cases = [
        ("max_depth", Rules { max_depth: 0, ..good.clone() }),
        ("min_args", Rules { min_args: 0, ..good.clone() }),
        ("max_args", Rules { min_args: 3, max_args: 2, ..good.clone() }),
        ("p_operator", Rules { p_operator: 1.5, ..good.clone() }),
        ("p_operator", Rules { p_operator: f64::NAN, ..good.clone() }),
        ("min_tokens", Rules { min_tokens: 0, ..good.clone() }),
        ("max_tokens", Rules { max_tokens: 15, ..good.clone() }),
        ("max_tokens", Rules { max_tokens: usize::MAX, ..good.clone() }),
        // Too shallow for 16 tokens; only digits; at most 2 + 5 tokens.
        ("min_tokens", Rules { max_depth: 1, ..good.clone() }),
        ("min_tokens", Rules { p_operator: 0.0, ..good.clone() }),
        ("min_tokens", Rules { max_depth: 2, min_tokens: 8, ..good.clone() }),
        ("train", Rules { train: 0, ..good.clone() }),
        ("val", Rules { val: 0, ..good.clone() }),
        ("test", Rules { test: 0, ..good.clone() }),
    ];
    for (name, rules) in cases {
        assert_eq!(config_name(Generator::new(&rules, 1)), name);
    }
    // Trees without end: an error after a while, not a full memory.
    let endless = Rules { max_depth: usize::MAX, max_args: usize::MAX, p_operator: 1.0, max_tokens: 1 << 20, ..good };
    assert!(matches!(Generator::new(&endless, 1).unwrap().sample(), Err(Error::Value { .. })));
}

// ---- Statistics ----

#[test]
fn nodes_arguments_operators_and_digits_have_their_probabilities() {
    // Long enough that the root is an operator, short enough that nothing is refused, large enough that nothing comes twice: then the
    // nodes below the root are drawn freely.
    let rules = Rules { max_depth: 4, min_args: 5, max_args: 10, p_operator: 0.5, min_tokens: 7, max_tokens: 100_000, ..Rules::official() };
    let mut generator = Generator::new(&rules, 77).unwrap();
    let (mut operators, mut digits, mut arguments) = ([0usize; 4], [0usize; 10], [0usize; 11]);
    let (mut free_nodes, mut free_operators) = (0, 0);
    for _ in 0..1500 {
        let text = listops::vocabulary().decode(generator.sample().unwrap().0);
        let mut open: Vec<usize> = Vec::new();
        for word in text.split(' ') {
            if word == "X" {
                arguments[open.pop().unwrap()] += 1;
                continue;
            }
            let depth = open.len() + 1;
            free_nodes += usize::from(depth == 2 || depth == 3);
            if let Some(count) = open.last_mut() {
                *count += 1;
            }
            match ["[MIN", "[MAX", "[MED", "[SM"].iter().position(|&operator| operator == word) {
                Some(operator) => {
                    operators[operator] += 1;
                    free_operators += usize::from(depth > 1);
                    open.push(0);
                }
                None => digits[word.parse::<usize>().unwrap()] += 1,
            }
        }
    }
    assert!(free_nodes > 40_000);
    assert!(deviations(free_operators, free_nodes, 0.5) < 4.0, "{free_operators} of {free_nodes}");
    for (counts, p) in [(&operators[..], 0.25), (&digits[..], 0.1), (&arguments[5..], 1.0 / 6.0)] {
        let total = counts.iter().sum();
        assert!(counts.iter().all(|&count| deviations(count, total, p) < 4.0), "{counts:?}");
    }
    assert_eq!(arguments[..5], [0; 5]);
}

#[test]
fn giving_up_early_does_not_change_the_distribution() {
    // Bounds that cut on both sides; the oracle draws every tree to its end and then looks at its length.
    let rules = Rules { min_tokens: 16, max_tokens: 60, ..Rules::small() };
    let mut generator = Generator::new(&rules, 4).unwrap();
    let mut draws = Draws(4);
    let (mut ours, mut theirs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..20_000 {
        let (tokens, _) = generator.sample().unwrap();
        let close = listops::vocabulary().id("X").unwrap() as u8;
        ours[0].push(tokens.len() as f64);
        ours[1].push(tokens.iter().filter(|&&token| token == close).count() as f64);
        let (length, operators) =
            std::iter::repeat_with(|| oracle_tree(&rules, 1, &mut draws)).find(|tree| (16..=60).contains(&tree.0)).unwrap();
        theirs[0].push(length as f64);
        theirs[1].push(operators as f64);
    }
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let (a, b) = (mean_and_variance(ours), mean_and_variance(theirs));
        assert!((a.0 - b.0).abs() < 4.0 * ((a.1 + b.1) / 20_000.0).sqrt(), "{a:?} {b:?}");
        // The whole histogram, by the two-sample Kolmogorov-Smirnov distance at 1 in 1,000.
        let below = |numbers: &[f64], x: f64| numbers.iter().filter(|&&y| y <= x).count() as f64 / 20_000.0;
        let distance = (0..=60).map(|x| (below(ours, f64::from(x)) - below(theirs, f64::from(x))).abs()).fold(0.0, f64::max);
        assert!(distance < 1.95 * (2.0f64 / 20_000.0).sqrt(), "{distance}");
    }
}

#[test]
fn every_digit_is_a_target() {
    let splits = listops::generate(&Rules::small(), 1).unwrap();
    let counts: Vec<usize> = (0..10).map(|class| splits.train.labels().iter().filter(|&&label| label == class).count()).collect();
    // MIN and MAX pull towards 0 and 9, no more than a little.
    assert!(counts.iter().all(|count| (800..1300).contains(count)), "{counts:?}");
    let most = *counts.iter().max().unwrap() as f64;
    assert_eq!(splits.train.majority(), most / 10_000.0);
    assert_eq!(splits.train.classes(), 10);
}

// ---- Reading ----

#[test]
fn line_ends_forms_and_blanks_that_are_read_alike() {
    let dir = tempfile::tempdir().unwrap();
    let rows = |text: &str| listops::read(file(dir.path(), text), 100, &Faults::refused()).unwrap();
    let set = rows("Source\tTarget\n[MAX 1 2 ]\t2\n[SM 7 8 ]\t5\n");
    assert_eq!(set, rows("Source\tTarget\r\n[MAX 1 2 ]\t2\r\n[SM 7 8 ]\t5\r\n"));
    assert_eq!(set, rows("Source\tTarget\n[MAX 1 2 ]\t2\n[SM 7 8 ]\t5"));
    assert_eq!(set, rows("\u{feff}Source\tTarget\r\n[MAX 1 2 ]\t2\r\n[SM 7 8 ]\t5\r\n\r\n\r\n"));
    assert_eq!(set, rows("Source\tTarget\n[MAX 1 2 ]\t2\n[SM 7 8 ]\t5\n\n  \n\n"));
    assert_eq!(set, rows("Source\tTarget\r\n[MAX 1 2 ]\t2\r\n[SM 7 8 ]\t5\r"));
    assert_eq!(set, rows("Source\tTarget\n( ( ( [MAX 1 ) 2 ) ] )\t2\n( ( ( [SM 7 ) 8 ) ] )\t5\n"));
    assert_eq!(set, rows("Source\tTarget\n [MAX  1 2 ] \t2\n[SM 7 8 ]\t5\n"));
    assert_eq!((set.len(), set.labels()), (2, &[2, 5][..]));
}

#[test]
fn every_broken_file_is_refused_by_line_and_column() {
    let cases: &[(&[u8], usize, usize, &str)] = &[
        (b"", 1, 1, "header is missing"),
        (b"[MAX 1 2 ]\t2\n", 1, 1, "header is missing"),
        (b"Source,Target\n", 1, 1, "header is missing"),
        (b"Source\tTarget\tMore\n", 1, 1, "header is missing"),
        (b"Source\tTarget", 2, 1, "no row"),
        (b"Source\tTarget\n", 2, 1, "no row"),
        (b"Source\tTarget\n[MAX 1 2 ]\n", 2, 11, "one column"),
        (b"Source\tTarget\n[MAX 1 2 ]\t2\n[MAX 1", 3, 7, "one column"),
        (b"Source\tTarget\n[MAX 1 2 ]\t2\n\n[MAX 1 2 ]\t2\n", 3, 1, "one column"),
        (b"Source\tTarget\n\n \n", 2, 1, "no row"),
        (b"Source\tTarget\r[MAX 1 2 ]\t2\r", 1, 14, "CR alone"),
        (b"Source\tTarget\n[MAX \0 2 ]\t2\n", 2, 6, "not UTF-8"),
        (b"Source\tTarget\n[MAX 1 2 ]\t2\t3\n", 2, 13, "more than two columns"),
        (b"Source\tTarget\n[MAX 1 2 ]\t2\n[MAX 1 [MEAN 2 ] ]\t2\n", 3, 8, "unknown token \"[MEAN\""),
        (b"Source\tTarget\n[MAX 10 2 ]\t2\n", 2, 6, "unknown token \"10\""),
        (b"Source\tTarget\n[MAX 1 2 X\t2\n", 2, 10, "unknown token \"X\""),
        ("Source\tTarget\n[MAX é 2 ]\t2\n".as_bytes(), 2, 6, "unknown token \"é\""),
        ("Source\tTarget\n[MAX 1 2 ]\té\n".as_bytes(), 2, 12, "target is \"é\""),
        (b"Source\tTarget\n[MAX 1 2 ]\t10\n", 2, 12, "target is \"10\""),
        (b"Source\tTarget\n[MAX 1 2 ]\tx\n", 2, 12, "target is \"x\""),
        (b"Source\tTarget\n[MAX 1 2 ]\t\n", 2, 12, "target is \"\""),
        (b"Source\tTarget\n\t2\n", 2, 1, "source is empty"),
        (b"Source\tTarget\n( ) \t2\n", 2, 1, "source is empty"),
        (b"Source\tTarget\n[MAX \xff 2 ]\t2\n", 2, 6, "not UTF-8"),
        (b"Source\tTarget\n\xc3\xa9\xff\t2\n", 2, 2, "not UTF-8"),
        (b"\x1f\x8b\x08\x00", 1, 2, "this is packed with gzip"),
        (b"\xff\xfeS\0o\0", 1, 1, "this is text in UTF-16"),
        (b"S\0o\0u\0", 1, 2, "seems to be text in UTF-16"),
    ];
    for &(text, line, column, help) in cases {
        let found = refusal(text);
        assert_eq!((found.0, found.1), (line, column), "{}: {}", String::from_utf8_lossy(text), found.2);
        assert!(found.2.contains(help), "{}", found.2);
    }
    // An unknown token is found behind the cut as well, and a long one is not shown in full.
    let (line, column, help) = refusal(format!("Source\tTarget\n{}{}\t2\n", "1 ".repeat(200), "y".repeat(1000)));
    assert_eq!((line, column), (2, 401));
    assert!(help.len() < 200, "{help}");
}

#[test]
fn files_of_several_blocks_are_read_as_their_rows() {
    // 16 MB a block: this file has two, and rows of changing length, so that no block ends where a row does.
    let dir = tempfile::tempdir().unwrap();
    let digits: Vec<usize> = (0..180_000).map(|i| i % 97).collect();
    let rows = digits.iter().map(|&n| format!("[MAX {}]\t{}\n", "3 ".repeat(n + 1), n % 10));
    let text = std::iter::once(String::from("Source\tTarget\n")).chain(rows).collect::<String>();
    assert!(text.len() > 17 << 20);
    let set = listops::read(file(dir.path(), &text), 100, &Faults::refused()).unwrap();
    assert_eq!(set.len(), digits.len());
    for (i, &n) in digits.iter().enumerate() {
        // The operator, n + 1 digits, the end of the list (where it is not cut) and <eos>.
        assert_eq!((set.sequence(i).unwrap().len(), set.labels()[i]), ((n + 3).min(99) + 1, n % 10), "row {i}");
    }
    let (line, column, help) = refusal(text + "[MAX 3 ]\tx\n");
    assert_eq!((line, column), (digits.len() + 2, 10), "{help}");
}

#[test]
fn missing_folders_and_files_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    let message = listops::load(&nowhere, 100, &Faults::refused()).unwrap_err().to_string();
    assert!(message.contains(&nowhere.display().to_string()) && message.contains("listops::ensure"), "{message}");
    let message = listops::load(dir.path(), 100, &Faults::refused()).unwrap_err().to_string();
    assert!(message.contains("basic_train.tsv") && message.contains("listops::ensure"), "{message}");
    // A folder in the place of a file, and a file in the place of the folder.
    fs::create_dir(dir.path().join("basic_train.tsv")).unwrap();
    let message = listops::load(dir.path(), 100, &Faults::refused()).unwrap_err().to_string();
    assert!(message.contains("basic_train.tsv (it is a folder)"), "{message}");
    let taken = file(tempfile::tempdir().unwrap().keep().as_path(), "");
    assert!(matches!(listops::ensure(&taken, &few(Rules::small()), 1), Err(Error::Io { .. })));
    fs::remove_dir_all(taken.parent().unwrap()).unwrap();
}

#[test]
fn sequences_are_cut_to_l_max_with_eos() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "Source\tTarget\n( ( ( [MAX 1 ) 2 ) ] )\t2\n");
    let read = |l_max| listops::vocabulary().decode(listops::read(&path, l_max, &Faults::refused()).unwrap().sequence(0).unwrap());
    assert_eq!(read(2), "[MAX <eos>");
    assert_eq!(read(4), "[MAX 1 2 <eos>");
    assert_eq!(read(5), "[MAX 1 2 X <eos>");
    assert_eq!(read(6), "[MAX 1 2 X <eos>");
    assert_eq!(config_name(listops::read(&path, 1, &Faults::refused())), "l_max");
}

// ---- Vocabulary, data sets, batches, order ----

#[test]
fn the_vocabulary_has_18_symbols() {
    let vocabulary = listops::vocabulary();
    assert_eq!(vocabulary.len(), 18);
    let all: Vec<u8> = (0..18).collect();
    let shown = vocabulary.decode(&all);
    assert_eq!(shown, "<pad> <unk> <eos> 0 1 2 3 4 5 6 7 8 9 [MIN [MAX [MED [SM X");
    assert_eq!(vocabulary.encode(shown.split(' ')), (0..18).collect::<Vec<u32>>());
    assert_eq!(vocabulary.encode(["(", "3"]), [Vocabulary::UNK.into(), 6]);
    assert_eq!((vocabulary.id("]"), vocabulary.symbol(18), vocabulary.symbol(0)), (None, None, Some("<pad>")));
    assert_eq!(listops::encode("0 1 2 3 4 5 6 7 8 9 [MIN [MAX [MED [SM ]").unwrap(), all[3..]);
    assert_eq!(vocabulary.decode(&[200u8]), "<unk>");
}

#[test]
fn a_vocabulary_refuses_doubles_and_has_room_for_any_number_of_symbols() {
    assert_eq!(Vocabulary::new((0..253).map(|n| n.to_string())).unwrap().id("252"), Some(255));
    for symbols in [&["a", "b", "a"][..], &["<eos>"]] {
        assert_eq!(config_name(Vocabulary::new(symbols.iter().copied())), "vocabulary");
    }
    let wide = Vocabulary::new((0..70_000).map(|n| n.to_string())).unwrap();
    assert_eq!((wide.len(), wide.id("69999"), wide.symbol(70_002)), (70_003, Some(70_002), Some("69999")));
}

#[test]
fn ids_beyond_a_byte_are_kept_batched_and_chosen_like_the_others() {
    let symbols = |count: u32| Vocabulary::new((0..count).map(|n| n.to_string())).unwrap();
    let sequences = [&[300u32, 3, 70_000][..], &[2], &[255, 256]];
    let mut wide = Dataset::tokens(symbols(70_000), 2);
    sequences.iter().for_each(|ids| wide.push_ids(ids, 1).unwrap());
    let batch = wide.batch(&[0, 2]).unwrap();
    assert_eq!((batch.tokens().unwrap(), &batch.lengths[..]), (&[300, 3, 70_000, 255, 256, 0][..], &[3, 2][..]));
    assert_eq!((wide.ids(0).unwrap(), wide.sequence(0), wide.ids(3)), (sequences[0].to_vec(), None, None));
    let chosen = wide.subset(&[2, 1]).unwrap();
    assert_eq!((chosen.ids(0).unwrap(), chosen.ids(1).unwrap()), (vec![255, 256], vec![2]));
    assert_ne!(chosen, wide.subset(&[1, 2]).unwrap());
    assert_eq!(chosen, wide.subset(&[1, 2]).unwrap().subset(&[1, 0]).unwrap());
    assert!(matches!(wide.push_ids(&[70_003], 0), Err(Error::Value { .. })) && wide.push_ids(&[], 0).is_err());
    assert_eq!(wide.len(), 3);
    // A small vocabulary keeps them in bytes, whichever way they come; pairs too.
    let mut small = Dataset::tokens(symbols(253), 2);
    small.push_ids(&[3, 255], 0).unwrap();
    assert_eq!((small.sequence(0), small.ids(0)), (Some(&[3u8, 255][..]), Some(vec![3, 255])));
    assert!(small.push_ids(&[256], 0).is_err());
    let mut pairs = Dataset::pairs(symbols(300), 2);
    pairs.push_id_pair(&[299], &[4, 302], 1).unwrap();
    pairs.push_pair(&[3], &[4], 0).unwrap();
    assert_eq!(pairs.batch(&[0, 1]).unwrap().tokens().unwrap(), [299, 0, 3, 0, 4, 302, 4, 0]);
}

#[test]
fn token_batches_are_padded_to_the_longest() {
    let mut set = Dataset::tokens(listops::vocabulary(), 10);
    for (sequence, label) in [(&[3, 2][..], 0), (&[4, 5, 6, 2], 9), (&[7, 8, 2], 0)] {
        set.push_tokens(sequence, label).unwrap();
    }
    let batch = set.batch(&[2, 0, 2]).unwrap();
    assert_eq!(batch.shape(), [3, 3]);
    assert_eq!(batch.tokens().unwrap(), [7, 8, 2, 3, 2, 0, 7, 8, 2]);
    assert_eq!((batch.lengths, batch.labels), (vec![3, 2, 3], vec![0, 0, 0]));
    assert_eq!(set.batch(&[0, 1]).unwrap().tokens().unwrap(), [3, 2, 0, 0, 4, 5, 6, 2]);
    assert_eq!(set.batch(&[1]).unwrap().values(), None);
    assert_eq!((set.majority(), set.longest(), set.d_input()), (2.0 / 3.0, 4, None));
    assert_eq!(set.sequence(3), None);

    for (indices, help) in [(&[][..], "batch is empty"), (&[0, 3], "sample 3 is asked of a data set of 3")] {
        match set.batch(indices) {
            Err(Error::Value { help: found, .. }) => assert!(found.contains(help), "{found}"),
            other => panic!("{other:?}"),
        }
    }
    for (sequence, label) in [(&[][..], 0), (&[18], 0), (&[3], 10)] {
        assert!(matches!(set.push_tokens(sequence, label), Err(Error::Value { .. })));
    }
    assert!(set.push_values(&[1.0], 0).is_err());
    assert_eq!(set.len(), 3);
    let empty = Dataset::tokens(listops::vocabulary(), 10);
    assert_eq!((empty.is_empty(), empty.majority(), empty.longest()), (true, 0.0, 0));
}

#[test]
fn value_batches_are_padded_to_the_longest() {
    let mut set = Dataset::values(2, 3).unwrap();
    set.push_values(&[1.0, 2.0], 2).unwrap();
    set.push_values(&[3.0, 4.0, 5.0, 6.0], 1).unwrap();
    let batch = set.batch(&[0, 1]).unwrap();
    assert_eq!(batch.shape(), [2, 2, 2]);
    assert_eq!(batch.values().unwrap(), [1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!((&batch.lengths[..], &batch.labels[..], batch.tokens()), (&[1, 2][..], &[2, 1][..], None));
    assert_eq!((set.d_input(), set.vocabulary(), set.sequence(0)), (Some(2), None, None));
    for sequence in [&[][..], &[1.0], &[1.0, f32::NAN], &[f32::INFINITY, 1.0]] {
        assert!(matches!(set.push_values(sequence, 0), Err(Error::Value { .. })));
    }
    assert!(set.push_values(&[1.0, 1.0], 3).is_err() && set.push_tokens(&[3], 0).is_err());
    assert_eq!(config_name(Dataset::values(0, 3)), "d_input");
}

#[test]
fn the_order_of_an_epoch_is_a_seeded_even_permutation() {
    for len in [0, 1, 2, 100] {
        let mut sorted = data::order(len, 3, 4);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..len).collect::<Vec<_>>());
    }
    let order = data::order(100, 3, 4);
    assert_eq!(order, data::order(100, 3, 4));
    assert!(order != data::order(100, 3, 5) && order != data::order(100, 4, 4) && order != data::order(100, 4, 3));
    // Every sample comes at every place equally often.
    let mut counts = [[0usize; 5]; 5];
    for epoch in 0..20_000 {
        data::order(5, 8, epoch).into_iter().enumerate().for_each(|(place, sample)| counts[place][sample] += 1);
    }
    assert!(counts.iter().flatten().all(|&count| deviations(count, 20_000, 0.2) < 4.0), "{counts:?}");
}
