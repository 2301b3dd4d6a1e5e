//! Data of one's own: what is found in a folder, every format whole and broken, the parts that are drawn, and what is standardised by what.

use std::path::Path;

use crate::files::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use pspikessm::data::own::{self, Kind, Options, SPARED};
use pspikessm::data::{Dataset, Encoding, Faults, Splits, TextUnit};
use pspikessm::error::{Error, Result};

// ---- Folders ----

fn load_as<T: AsRef<[u8]>>(files: &[(&str, T)], regression: bool) -> Result<Splits> {
    let options = Options { regression, differences: false, ..Options::default() };
    own::load(folder(files).path(), options, &Faults::refused())
}

fn load<T: AsRef<[u8]>>(files: &[(&str, T)]) -> Result<Splits> {
    load_as(files, false)
}

/// The error, in a word what and where.
#[track_caller]
fn refused<T: AsRef<[u8]>>(files: &[(&str, T)], words: &[&str]) {
    let error = load(files).unwrap_err().to_string();
    words.iter().for_each(|word| assert!(error.contains(word), "{word:?} is not in: {error}"));
}

/// What stands in the data: the values before they are standardised, of each sample, and its label.
fn raw(set: &Dataset) -> Vec<(Vec<f32>, usize)> {
    let Encoding::Channels(statistics) = set.encoding() else { panic!("{:?}", set.encoding()) };
    let undo = |(at, value): (usize, f32)| {
        let channel = at % statistics.mean.len();
        // Test data here are short decimals: nothing is lost by rounding to one.
        ((value / statistics.factor[channel] + statistics.mean[channel]) * 1e3).round() / 1e3
    };
    samples(set).into_iter().map(|(values, label)| (values.into_iter().enumerate().map(undo).collect(), label)).collect()
}

/// A `.ts` file with two classes of these rows.
fn ts(rows: &str) -> String {
    format!("@problemName x\n@timeStamps false\n@classLabel true a b\n@data\n{rows}")
}

// ---- .ts ----

#[test]
fn ts_files_with_channels_missing_values_and_unequal_lengths() {
    let train = "# about\n% more\n\n@problemName two channels\n@TIMESTAMPS false\n@missing true\n@univariate false\n@dimensions 2\n\
                 @equalLength false\n@classLabel true walk run\n@data\n1,?,3:4,5,NaN:run\n7.5:8:walk\n\n2,2,2,2:0,1,0,1: walk \n";
    let test = "@dimensions 2\n@classLabel true walk run\n@data\n1,1:2,2:run\n";
    let splits = load(&[("Two_TRAIN.ts", train), ("Two_TEST.ts", test)]).unwrap();
    let wanted = [(vec![1.0, 4.0, 2.0, 5.0, 3.0, 5.0], 1), (vec![7.5, 8.0], 0), (vec![2.0, 0.0, 2.0, 1.0, 2.0, 0.0, 2.0, 1.0], 0)];
    assert_eq!(raw(&splits.train), wanted);
    assert_eq!(raw(&splits.test), [(vec![1.0, 2.0, 1.0, 2.0], 1)]);
    assert_eq!(splits.train.class_names(), ["walk", "run"]);
    assert_eq!((splits.val, splits.train.longest()), (splits.train.clone(), 4));
    // A batch is padded, and says how long its samples are.
    let batch = splits.train.batch(&[0, 1]).unwrap();
    assert_eq!((batch.shape(), batch.lengths), (vec![2, 3, 2], vec![3, 1]));
}

#[test]
fn marks_line_ends_and_blank_lines_do_not_matter() {
    let plain = ts("1,2:a\n3,4:b\n5,6:a\n");
    let odd = format!("\u{feff}{}\n \n\n", plain.trim_end().replace('\n', "\r\n"));
    let [plain, odd] = [plain, odd].map(|train| load(&[("s_train.ts", train), ("s_test.ts", ts("1,1:a"))]).unwrap());
    assert_eq!(odd, plain);
}

#[test]
fn labels_of_numbers_are_alike_however_they_are_written() {
    let train = "@classLabel true 1 2\n@data\n1,2:1\n3,4:2.0\n";
    let splits = load(&[("a_TRAIN.ts", train), ("a_TEST.ts", "@classLabel true 1.0 2.0\n@data\n1,2:1.0\n")]).unwrap();
    assert_eq!((splits.train.class_names(), splits.train.labels()), (["1", "2"].map(String::from).as_slice(), [0, 1].as_slice()));
    assert_eq!(splits.test.labels(), [0]);
}

#[test]
fn ts_files_are_refused_where_they_are_wrong() {
    let wrong = |train: &str, words: &[&str]| {
        let found = [&["s_TRAIN.ts:"], words].concat();
        refused(&[("s_TRAIN.ts", train), ("s_TEST.ts", ts("1:a").as_str())], &found);
    };
    wrong(&ts("1,2:a\n1,x:b"), &[":6:3:", "\"x\" is no number"]);
    wrong(&ts("1,2:a\n1,2:c"), &[":6:5:", "label \"c\"", "a b"]);
    wrong(&ts("1,2:a\n1,2"), &[":6:1:", "no colon"]);
    wrong(&ts("1,2:3,4:a\n1,2:3:b"), &[":6:1:", "channel 2 has 1 values and channel 1 has 2"]);
    wrong(&ts("1,2:a\n?,NaN:b"), &[":6:1:", "all values of this series are missing"]);
    wrong(&ts("1,2:a\n1,inf:b"), &[":6:1:", "value 2 of channel 1 is infinite"]);
    wrong(&ts("1,2:a\n1:2:b"), &["s_TRAIN.ts:6", "there are 2 channels, not 1"]);
    wrong(&ts("(0,1),(1,2):a"), &[":5:1:", "time stamps"]);
    wrong("@timeStamps true\n@classLabel true a\n@data\n1:a", &[":1:1:", "time stamps, which are not read"]);
    wrong("@dimensions 2\n@classLabel true a b\n@data\n1:a", &[":4:1:", "there are 1 channels, and the header says 2"]);
    wrong("@equalLength true\n@seriesLength 3\n@classLabel true a b\n@data\n1,2:a", &[":5:1:", "2 values, and the header says 3"]);
    wrong("@dimensions no\n@data\n1:a", &[":1:1:", "\"no\"", "whole number"]);
    wrong("@classLabel maybe\n@data\n1:a", &[":1:1:", "true or false"]);
    wrong("@problemName x\n1,2,3:a", &[":2:1:", "@data"]);
    wrong("@problemName x\n", &[":1:1:", "no line @data"]);
    wrong(&ts(""), &[":1:1:", "no sample behind @data"]);
    wrong("@classLabel false\n@data\n1,2\n", &[":1:1:", "names no labels"]);
    wrong("", &[":1:1:", "no line @data"]);
}

#[test]
fn a_target_label_asks_for_a_regression() {
    let train = "@targetLabel true\n@data\n1,2:0.5\n3,4:2.5\n";
    let files = [("s_TRAIN.ts", train), ("s_TEST.ts", "@targetLabel true\n@data\n1,2:7\n")];
    refused(&files, &["--regression", "@targetLabel"]);
    let splits = load_as(&files, true).unwrap();
    assert_eq!((splits.train.targets(), splits.test.targets(), splits.train.classes()), ([0.5, 2.5].as_slice(), [7.0].as_slice(), 1));
    let scale = splits.test.scale().unwrap();
    assert_eq!((scale.mean, scale.deviation), (1.5, 1.0));
    assert_eq!(splits.test.batch(&[0]).unwrap().targets, [5.5]);
    let wrong = load_as(&[("s_TRAIN.ts", ts("1:a\n2:b"))], true).unwrap_err().to_string();
    assert!(wrong.contains("s_TRAIN.ts:5") && wrong.contains("\"a\" is no number"), "{wrong}");
}

// ---- Tables ----

#[test]
fn ucr_rows_have_their_label_first_and_end_with_what_is_missing() {
    let splits =
        load(&[("G_TRAIN.tsv", "2\t1.5\t2.5\tNaN\tNaN\n1\t0\tNaN\t4\t6\n-1\t1\t2\t3\t4\n"), ("G_TEST.tsv", "1\t1\tNaN\tNaN\tNaN\n")])
            .unwrap();
    assert_eq!(raw(&splits.train), [(vec![1.5, 2.5], 2), (vec![0.0, 2.0, 4.0, 6.0], 1), (vec![1.0, 2.0, 3.0, 4.0], 0)]);
    assert_eq!((raw(&splits.test), splits.train.class_names()), (vec![(vec![1.0], 1)], ["-1", "1", "2"].map(String::from).as_slice()));
}

#[test]
fn a_header_says_which_column_is_the_label() {
    let wanted = [(vec![1.0, 2.0], 0), (vec![3.0, 4.0], 1), (vec![5.0, 5.0], 0)];
    for table in [
        "t0,t1,label\n1,2,good one\n3,4,poor one\n,5,good one\n",
        "Label;t0;t1\ngood one;1;2\npoor one;3;4\ngood one;?;5\n",
        "id,t0,Class,t1\n1,1,good one,2\n2,3,poor one,4\n3,5,good one,na\n",
        "good one,1,2\npoor one,3,4\n\"good one\",5,5\n\n\n",
    ] {
        let splits = load(&[("train.csv", table), ("test.csv", table)]).unwrap();
        // Of the third a value is missing at its end, and so it is shorter.
        let found = raw(&splits.train);
        assert_eq!((&found[..2], found[2].0[0]), (&wanted[..2], 5.0), "{table}");
        assert_eq!(splits.train.class_names(), ["good one", "poor one"], "{table}");
    }
}

#[test]
fn rows_of_one_series_below_each_other_have_several_channels() {
    let table = "series,time,x,y,label\na,0,1,10,up\na,1,2,,up\na,2,3,30,up\nb,0,9,8,down\n";
    let splits = load(&[("train.csv", table), ("test.csv", table)]).unwrap();
    assert_eq!(raw(&splits.train), [(vec![1.0, 10.0, 2.0, 20.0, 3.0, 30.0], 1), (vec![9.0, 8.0], 0)]);
    let wrong = |rows: &str, words: &[&str]| refused(&[("train.csv", format!("series,x,label\n{rows}"))], words);
    wrong("a,1,u\na,2,u\nb,1,d\nb,1,d\na,1,u\n", &["train.csv:6", "series a came before"]);
    wrong("a,1,u\na,2,d\n", &["train.csv:3", "\"d\"", "\"u\""]);
}

#[test]
fn tables_are_refused_where_they_are_wrong() {
    let wrong = |train: &str, words: &[&str]| refused(&[("train.csv", train), ("test.csv", "a,1,2\n")], words);
    wrong("a,1,2\nb,1\n", &["train.csv:2:1:", "2 fields, the first row has 3"]);
    wrong("a,1,2\nb,1,2,3\n", &["train.csv:2:1:", "4 fields"]);
    wrong("a,1,2\nb,1,zwei\n", &["train.csv:2:1:", "field 3 is \"zwei\""]);
    wrong("a,1,2\nb,NaN,\n", &["train.csv:2:1:", "no value in this series"]);
    wrong("x,y1,y2\n1,2,3\n", &["train.csv:1:1:", "no column is called as a label"]);
    wrong("", &["train.csv:1:1:", "the file is empty"]);
    wrong("label,x\n", &["train.csv:1:1:", "no row of data"]);
    wrong("a,1,2\nb,\"1,2\n", &["train.csv:2:3:", "not closed"]);
    wrong("a,1,2\na,1,3\n", &["no class but \"a\""]);
    refused(&[("train.csv", "a,1\nb,2\n"), ("test.csv", "a,1\nc,2\n")], &["test.csv:2", "no training sample has the label \"c\""]);
    let numbers: String = (0..30).map(|i| format!("{i}.5,1,2\n")).collect();
    wrong(&numbers, &["30 different labels on 30 training samples", "--regression"]);
}

#[test]
fn what_is_bad_is_left_out_where_that_is_asked_for() {
    let dir = folder(&[("train.csv", "a,1,2\nb,1\nb,2,x\nb,2,3\n"), ("test.csv", "a,1,2\nc,1,2\n")]);
    let faults = Faults::skipped();
    let splits = own::load(dir.path(), Options::default(), &faults).unwrap();
    assert_eq!((splits.train.len(), splits.test.len(), faults.count()), (2, 1, 3));
}

// ---- Arrays ----

/// An array as numpy.save writes it.
fn npy(kind: &str, shape: &str, by_columns: bool, data: &[u8]) -> Vec<u8> {
    let order = if by_columns { "True" } else { "False" };
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': ({shape}), }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn f4(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn arrays_of_every_kind_hold_the_same() {
    let wanted = vec![(vec![1.0, 2.0, 3.0, 4.0], 0), (vec![5.0, 6.0, 7.0, 8.0], 1), (vec![0.0, 1.0, 0.0, 1.0], 0)];
    let values: Vec<f32> = wanted.iter().flat_map(|(values, _)| values.clone()).collect();
    let labels = npy("<i8", "3,", false, &[3i64, 7, 3].iter().flat_map(|label| label.to_le_bytes()).collect::<Vec<u8>>());
    let big: Vec<u8> = values.iter().flat_map(|&value| f64::from(value).to_be_bytes()).collect();
    let bytes: Vec<u8> = values.iter().map(|&value| value as u8).collect();
    let shorts: Vec<u8> = values.iter().flat_map(|&value| (value as i16).to_le_bytes()).collect();
    let columns: Vec<f32> = (0..4).flat_map(|step| (0..3).map(move |sample| sample * 4 + step)).map(|at| values[at]).collect();
    for array in [
        npy("<f4", "3, 4", false, &f4(&values)),
        npy(">f8", "3, 4", false, &big),
        npy("|u1", "3, 4", false, &bytes),
        npy("<i2", "3, 4, 1", false, &shorts),
        npy("<f4", "3, 4", true, &f4(&columns)),
    ] {
        let splits = load(&[("X_train.npy", &array), ("y_train.npy", &labels), ("X_test.npy", &array), ("y_test.npy", &labels)]).unwrap();
        assert_eq!((raw(&splits.train), raw(&splits.test)), (wanted.clone(), wanted.clone()));
        assert_eq!(splits.train.class_names(), ["3", "7"]);
    }
    let two = npy("<f4", "3, 2, 2", false, &f4(&values));
    let strings = npy("<U2", "3,", false, &"b\0a\0b\0".chars().flat_map(|c| (c as u32).to_le_bytes()).collect::<Vec<u8>>());
    let splits =
        load(&[("train/data.npy", &two), ("train/labels.npy", &strings), ("test/data.npy", &two), ("test/labels.npy", &strings)]).unwrap();
    assert_eq!((splits.train.d_input(), splits.train.class_names()), (Some(2), ["a", "b"].map(String::from).as_slice()));
    assert_eq!(splits.train.batch(&[0]).unwrap().shape(), [1, 2, 2]);
}

#[test]
fn arrays_end_with_nan_and_a_regression_has_numbers() {
    let array = npy("<f4", "2, 3", false, &f4(&[1.0, f32::NAN, 3.0, 4.0, f32::NAN, f32::NAN]));
    let labels = npy("<f4", "2, 1", false, &f4(&[0.5, -1.5]));
    let splits =
        load_as(&[("train.npy", &array), ("train_labels.npy", &labels), ("test.npy", &array), ("test_labels.npy", &labels)], true).unwrap();
    assert_eq!(raw(&splits.train).into_iter().map(|(values, _)| values).collect::<Vec<_>>(), [vec![1.0, 2.0, 3.0], vec![4.0]]);
    assert_eq!(splits.train.targets(), [0.5, -1.5]);
}

#[test]
fn arrays_are_refused_where_they_are_wrong() {
    let labels = npy("|u1", "2,", false, &[0, 1]);
    let good = npy("<f4", "2, 1", false, &f4(&[1.0, 2.0]));
    let wrong = |array: &[u8], words: &[&str]| refused(&[("X.npy", array), ("y.npy", &labels[..])], words);
    wrong(&good[..good.len() - 1], &["X.npy: byte ", "was cut"]);
    wrong(&good[..20], &["X.npy: byte 6", "header"]);
    wrong(b"1,2\n", &["X.npy: byte 0", "numpy.save"]);
    wrong(&npy("<f2", "2, 1", false, &[0; 4]), &["<f2", "astype('float32')"]);
    wrong(&npy("<f4", "2,", false, &f4(&[1.0, 2.0])), &["(N, L) or (N, L, C)"]);
    wrong(&npy("<f4", "0, 1", false, &[]), &["holds nothing"]);
    wrong(&npy("<f4", "3, 1", false, &f4(&[1.0, 2.0, 3.0])), &["2 labels for the 3 samples"]);
    wrong(&npy("<f4", "2, 1", false, &f4(&[1.0, f32::NAN])), &["sample 1 (from 0)", "no value"]);
    wrong(&npy("<f4", "9223372036854775807, 9", false, &[0; 8]), &["was cut"]);
    refused(&[("X.npy", &good)], &["no file of the labels", "y_train.npy"]);
    refused(&[("y.npy", &labels)], &["no array of samples"]);
}

// ---- Texts ----

#[test]
fn texts_come_from_files_or_from_a_table() {
    let files = [
        ("train/neg/one.txt", "bab"),
        ("train/neg/two words.txt", "bab"),
        ("train/pos/1.TXT", "aaab"),
        ("test/pos/1.txt", "abz"),
        ("train/.hidden", "x"),
    ];
    let of_files = load(&files).unwrap();
    let of_table = load(&[("train.csv", "text,label\nbab,neg\n\"bab\",neg\naaab,pos\n"), ("test.csv", "label,text\npos,abz\n")]).unwrap();
    for splits in [of_files, of_table] {
        assert_eq!(
            (splits.train.labels(), splits.train.class_names()),
            ([0, 0, 1].as_slice(), ["neg", "pos"].map(String::from).as_slice())
        );
        let vocabulary = splits.train.vocabulary().unwrap();
        // The z is in no training text.
        assert_eq!((vocabulary.len(), splits.test.sequence(0).unwrap()), (5, [3, 4, 1, 2].as_slice()));
    }
}

#[test]
fn texts_are_cut_and_empty_ones_refused() {
    let dir = folder(&[("a/1.txt", "xxxx"), ("b/1.txt", "yyyy"), ("a/2.txt", "x"), ("b/2.txt", "y"), ("a/3.txt", "xx"), ("b/3.txt", "yy")]);
    let mut options = Options { longest_text: 3, ..Options::default() };
    let splits = own::load(dir.path(), options, &Faults::refused()).unwrap();
    assert_eq!(splits.train.longest().max(splits.test.longest()), 3);
    options.longest_text = 1;
    assert!(matches!(own::load(dir.path(), options, &Faults::refused()), Err(Error::Config { name: "longest_text", .. })));
    refused(&[("a/1.txt", " \n"), ("b/1.txt", "y")], &["1.txt", "the text is empty"]);
    refused(&[("a/1.txt", &b"\xff\xfea\0"[..]), ("b/1.txt", &b"y"[..])], &["1.txt:1:1", "UTF-16"]);
}

#[test]
fn texts_are_read_by_words_where_they_are_asked_for() {
    let texts =
        [("train/a/1.txt", "One two, two"), ("train/b/1.txt", "one THREE three"), ("train/b/2.txt", "x"), ("test/a/3.txt", "one x")];
    let dir = folder(&texts);
    let options = Options { text_unit: TextUnit::Words, longest_text: 4, ..Options::default() };
    let splits = own::load(dir.path(), options, &Faults::refused()).unwrap();
    let vocabulary = splits.train.vocabulary().unwrap().clone();
    assert_eq!(vocabulary.decode(&[3u8, 4, 5, 6]), "one three two <unk>");
    assert_eq!(vocabulary.decode(&splits.test.ids(0).unwrap()), "one <unk> <eos>");
    let mut set = splits.train.subset(&[]).unwrap();
    own::push_text("Two - two four two two", &mut set).unwrap();
    assert_eq!(vocabulary.decode(&set.ids(0).unwrap()), "two two <unk> <eos>");
    own::push(folder(&[("new.txt", "two")]).path().join("new.txt"), &mut set).unwrap();
    assert_eq!(vocabulary.decode(&set.ids(1).unwrap()), "two <eos>");
    assert!(own::load(dir.path(), Options { longest_text: 1, ..options }, &Faults::refused()).unwrap_err().to_string().contains("a word"));
}

// ---- Sounds ----

/// A WAV file of 16 bits.
fn wav(rate: u32, channels: u16, samples: &[i16]) -> Vec<u8> {
    let spec = hound::WavSpec { channels, sample_rate: rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    samples.iter().for_each(|&sample| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
    bytes.into_inner()
}

#[test]
fn sounds_of_any_rate_come_at_one_and_several_channels_are_averaged() {
    let tone = |rate: u32| {
        (0..rate / 2).map(|at| (f64::from(at) * 2765.0 / f64::from(rate)).sin() * 2e4).map(|sample| sample as i16).collect::<Vec<_>>()
    };
    let (low, high, both) = (wav(8_000, 1, &tone(8_000)), wav(44_100, 1, &tone(44_100)), wav(16_000, 2, &[100, 300, -100, -300]));
    let splits =
        load(&[("train/hum/low.wav", &low), ("train/hiss/high one.WAV", &high), ("train/hiss/both.wav", &both), ("test/hum/1.wav", &low)])
            .unwrap();
    assert_eq!(splits.train.reading()["rate"], "16000");
    assert_eq!(splits.train.class_names(), ["hiss", "hum"]);
    let found = raw(&splits.train);
    // By name: of hiss both, then high one; then hum.
    assert_eq!(found.iter().map(|(values, _)| values.len()).collect::<Vec<_>>(), [2, 8000, 8000]);
    assert_eq!(found[0].0, [200.0f32, -200.0].map(|sample| (sample / 32.768).round() / 1e3));
    // The ends ring.
    let differ = (2000..6000).map(|at| (found[1].0[at] - found[2].0[at]).abs()).fold(0.0, f32::max);
    assert!(differ < 0.004, "the same tone at two rates: {differ}");
    // None has more than 8,000 samples a second.
    let slow = load(&[("train/a/1.wav", &low), ("train/b/1.wav", &low), ("test/a/1.wav", &high)]).unwrap();
    assert_eq!((slow.train.reading()["rate"].as_str(), slow.test.longest()), ("8000", 4000));
}

#[test]
fn sounds_are_refused_where_they_are_wrong() {
    let good = wav(8_000, 1, &[1, 2, 3]);
    let wrong = |bytes: &[u8], words: &[&str]| refused(&[("a/x.wav", bytes), ("b/y.wav", good.as_slice())], words);
    wrong(&good[..good.len() - 1], &["x.wav: byte", "ends too early"]);
    wrong(b"", &["x.wav: byte 0", "empty"]);
    wrong(b"ID3\x03", &["x.wav: byte 0", "MP3"]);
    wrong(&wav(8_000, 1, &[]), &["x.wav", "no sample in the file"]);
    wrong(&wav(3, 1, &[1]), &["x.wav", "3 samples a second"]);
}

// ---- Pictures ----

#[test]
fn pictures_are_read_row_by_row() {
    let first = grey_png(4, |at| at as u8 * 10);
    let second = grey_png(2, |_| 255);
    let colour = png(1, 8, 2, false, &[], &[&[255, 0, 0]]);
    let splits = load(&[("train/a/1.png", &first), ("train/b/1.png", &second), ("test/a/1.png", &colour)]).unwrap();
    assert_eq!(splits.train.reading()["picture"], "4x4x1");
    assert_eq!(splits.train.batch(&[0]).unwrap().shape(), [1, 4, 4]);
    let wanted: Vec<f32> = (0..16).map(|at| ((at * 10) as f32 / 0.255).round() / 1e3).collect();
    assert_eq!(raw(&splits.train), [(wanted, 0), (vec![1.0; 16], 1)]);
    // Red as grey, by its luma.
    assert_eq!(raw(&splits.test)[0].0, [0.298f32; 16]);
    refused(&[("a/1.png", &first[..40]), ("b/1.png", &second[..])], &["1.png: byte", "no whole PNG"]);
}

// ---- What is found, and what is not ----

#[test]
fn folders_that_say_nothing_are_refused_with_what_to_do() {
    let none: [(&str, &str); 0] = [];
    refused(&none, &["it is empty", "give a folder of"]);
    refused(&[("a/1.jpg", "x"), ("a/2.jpg", "x"), ("README", "x")], &["2 files jpg", "give a folder of"]);
    refused(&[("one/one_TRAIN.ts", "x"), ("two/two_TRAIN.ts", "x")], &["several sets", "one, two"]);
    refused(&[("one_TRAIN.ts", "x"), ("two_TRAIN.ts", "x")], &["one_TRAIN.ts", "two_TRAIN.ts", "same part"]);
    refused(&[("one_TEST.ts", "x")], &["no training samples"]);
    refused(&[("a/1.wav", "x"), ("b/1.png", "x")], &[".wav and .png"]);
    refused(&[("t.csv", "x"), ("b/1.png", "x")], &[".csv files and folders of .png"]);
    refused(&[("a/1.txt", "x"), ("b/.keep", "")], &["no .txt file in", "a class's folder"]);
    let dir = folder(&[("data.xlsx", "x")]);
    let error = own::load(dir.path().join("data.xlsx"), Options::default(), &Faults::refused()).unwrap_err().to_string();
    assert!(error.contains("no table"), "{error}");
}

#[test]
fn hidden_files_and_other_formats_beside_the_data_are_passed_over() {
    let train = ts("1,2:a\n3,4:b\n");
    let files = [
        ("s_TRAIN.ts", &train),
        ("s_TEST.ts", &train),
        ("._s_TRAIN.ts", &train),
        ("s_TRAIN.arff", &train),
        ("s_TRAIN.tsv", &train),
        ("README.md", &train),
        ("__MACOSX/s_TRAIN.ts", &train),
    ];
    assert_eq!(load(&files).unwrap().train.len(), 2);
}

#[test]
fn a_single_file_is_enough_and_two_samples_are_the_least() {
    let dir = folder(&[("mine.csv", "a,1,2\nb,3,4\na,1,3\nb,2,2\nb,1,1\n")]);
    for path in [dir.path().to_path_buf(), dir.path().join("mine.csv")] {
        let splits = own::load(path, Options::default(), &Faults::refused()).unwrap();
        assert_eq!((splits.train.len(), splits.test.len()), (4, 1));
        assert_eq!((splits.train.reading()["test"].as_str(), splits.train.reading()["validation"].as_str()), ("drawn", "training"));
    }
    refused(&[("mine.csv", "a,1,2\n")], &["too few samples"]);
    refused(&[("mine.csv", "a,1,2\nb,3,4\n")], &["too few samples", "two of a class"]);
}

#[test]
fn a_class_never_loses_its_only_sample_to_the_test() {
    let rows = ["one\ta\n", "two\tb\n", "three\ta\n", "four\tc\n"];
    for turn in 0..rows.len() {
        let text: String = ["text\tlabel\n"].into_iter().chain((0..rows.len()).map(|row| rows[(row + turn) % rows.len()])).collect();
        for seed in 0..8 {
            let dir = folder(&[("mine.tsv", &text)]);
            let splits = own::load(dir.path(), Options { seed, ..Options::default() }, &Faults::refused()).unwrap();
            assert_eq!((splits.train.len(), splits.test.labels(), splits.train.class_names().len()), (3, &[0][..], 3));
        }
    }
}

#[test]
fn a_part_of_which_nothing_can_be_used_is_refused_even_where_bad_samples_are_left_out() {
    for part in ["test", "validation"] {
        let mut files =
            vec![("a_TRAIN.csv", "a,1,2\nb,3,4\n".to_string()), ("a_TEST.csv", "a,1,2\n".into()), ("a_VALIDATION.csv", "b,1,2\n".into())];
        files.iter_mut().filter(|(name, _)| name.to_lowercase().contains(part)).for_each(|(_, rows)| *rows = "c,1,2\n".into());
        let error = own::load(folder(&files).path(), Options::default(), &Faults::skipped()).unwrap_err().to_string();
        assert!(error.contains(&format!("no sample in the {part} part")), "{error}");
    }
}

// ---- Parts and statistics ----

/// A table with so many rows of each class; every row has a value of its own.
fn table(counts: &[usize]) -> String {
    let classes = counts.iter().enumerate().flat_map(|(class, &count)| std::iter::repeat_n(class, count));
    classes.enumerate().map(|(row, class)| format!("c{class},{row},{}\n", row * 7 % 5)).collect()
}

fn count(set: &Dataset, class: usize) -> usize {
    set.labels().iter().filter(|&&label| label == class).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn parts_are_drawn_class_by_class_and_share_no_sample(counts in prop::collection::vec(3usize..400, 2..5), seed in 0u64..100) {
        let dir = folder(&[("all.csv", table(&counts))]);
        let options = Options { seed, differences: false, ..Options::default() };
        let splits = own::load(dir.path(), options, &Faults::refused()).unwrap();
        let total: usize = counts.iter().sum();
        for (class, &all) in counts.iter().enumerate() {
            let held = (all + 2) / 5;
            prop_assert_eq!(count(&splits.test, class), held);
            let rest = all - held;
            let spared = if total - splits.test.len() >= SPARED { (rest + 5) / 10 } else { 0 };
            prop_assert_eq!(count(&splits.train, class), rest - spared);
        }
        let mut parts = vec![&splits.train, &splits.test];
        if splits.train.len() + splits.test.len() < total {
            parts.push(&splits.val);
        } else {
            prop_assert_eq!(&splits.val, &splits.train);
        }
        let mut rows: Vec<i64> = parts.iter().flat_map(|set| raw(set)).map(|(values, _)| values[0].round() as i64).collect();
        rows.sort_unstable();
        prop_assert_eq!(rows, (0..total as i64).collect::<Vec<_>>());
        let again = own::load(dir.path(), options, &Faults::refused()).unwrap();
        prop_assert_eq!(again, splits);
    }
}

#[test]
fn differences_are_channels_of_their_own_in_training_and_prediction() {
    let dir = folder(&[("train.csv", "a,1,3,2\nb,5,5,6\n"), ("test.csv", "a,1,2,3\n")]);
    let splits = own::load(dir.path(), Options::default(), &Faults::refused()).unwrap();
    assert_eq!(raw(&splits.train), [(vec![1.0, 0.0, 3.0, 2.0, 2.0, -1.0], 0), (vec![5.0, 0.0, 5.0, 0.0, 6.0, 1.0], 1)]);
    assert_eq!(splits.train.reading()["channels"], "1");
    assert_eq!(raw(&pushed(&splits, "new.csv", b"?,1,2,4\n").unwrap())[0].0, [1.0, 0.0, 2.0, 1.0, 4.0, 2.0]);
}

#[test]
fn another_seed_draws_another_test() {
    let dir = folder(&[("all.csv", table(&[40, 40]))]);
    let drawn = |seed| {
        let options = Options { seed, differences: false, ..Options::default() };
        raw(&own::load(dir.path(), options, &Faults::refused()).unwrap().test)
    };
    assert_ne!(drawn(0), drawn(1));
}

#[test]
fn statistics_are_of_the_training_part_alone() {
    let train = "a,1,3\nb,5,7\n";
    let with = |test: &str, val: &str| load(&[("train.csv", train), ("test.csv", test), ("val.csv", val)]).unwrap();
    let (one, other) = (with("a,1,1\n", "b,2,2\n"), with("b,1000,-1000\n", "a,-1e6,1e6\n"));
    assert_eq!(one.train, other.train);
    let Encoding::Channels(statistics) = one.train.encoding() else { panic!() };
    // Of 1, 3, 5 and 7: mean 4, variance 5.
    assert_eq!((statistics.mean[0], statistics.factor[0]), (4.0, (1.0 / 5f64.sqrt()) as f32));
    assert_eq!(other.test.encoding(), one.train.encoding());
    let values: Vec<f32> = samples(&one.train).into_iter().flat_map(|(values, _)| values).collect();
    assert!((values.iter().sum::<f32>()).abs() < 1e-6 && (values.iter().map(|value| value * value).sum::<f32>() - 4.0).abs() < 1e-5);
    // A channel that never changes keeps its scale.
    let still = load(&[("train.csv", "a,2,2\nb,2,2\n"), ("test.csv", "a,3,2\n")]).unwrap();
    assert_eq!(samples(&still.test), [(vec![1.0, 0.0], 0)]);
}

#[test]
fn the_vocabulary_and_the_scale_are_of_the_training_part_alone() {
    let with = |test: &str| load_as(&[("train.csv", "y,x\n1,2\n3,4\n"), ("test.csv", test)], true).unwrap();
    assert_eq!(with("y,x\n100,2\n").train, with("y,x\n-5,900\n").train);
    let texts = |test: &str| load(&[("train.csv", "text,label\naab,u\nabb,v\n"), ("test.csv", test)]).unwrap();
    assert_eq!(texts("text,label\nzzzz,u\n").train, texts("text,label\nab,v\n").train);
}

// ---- Samples to predict ----

/// What is appended of a file to a set like this.
fn pushed(splits: &Splits, name: &str, bytes: &[u8]) -> Result<Dataset> {
    let dir = folder(&[(name, bytes)]);
    let mut set = splits.train.subset(&[]).unwrap();
    own::push(dir.path().join(name), &mut set).map(|()| set)
}

#[test]
fn samples_to_predict_need_no_label() {
    let rows = |set: Result<Dataset>| raw(&set.unwrap()).into_iter().map(|(values, _)| values).collect::<Vec<_>>();
    let splits = load(&[("s_TRAIN.ts", ts("1,2:a\n3,4:b\n")), ("s_TEST.ts", ts("1,2:a"))]).unwrap();
    assert_eq!(rows(pushed(&splits, "new.ts", b"@classLabel false\n@data\n5,?,7\n")), [[5.0, 6.0, 7.0]]);
    assert_eq!(rows(pushed(&splits, "new.ts", b"@classLabel true a b\n@data\n5,6:?\n1,1:a\n")), [[5.0, 6.0], [1.0, 1.0]]);
    let splits = load(&[("train.csv", "label,t0,t1\na,1,2\nb,3,4\n"), ("test.csv", "label,t0,t1\na,1,2\n")]).unwrap();
    assert_eq!(rows(pushed(&splits, "new.csv", b"t0,t1\n9,8\n")), [[9.0, 8.0]]);
    assert_eq!(rows(pushed(&splits, "new.csv", b"?,9,8\nb,1,2\n")), [[9.0, 8.0], [1.0, 2.0]]);
    let (x, y) = (npy("<f4", "2, 2, 2", false, &f4(&[1., 2., 3., 4., 5., 6., 7., 9.])), npy("|u1", "2,", false, &[0, 1]));
    let splits = load(&[("X_train.npy", &x), ("y_train.npy", &y), ("X_test.npy", &x), ("y_test.npy", &y)]).unwrap();
    assert_eq!(rows(pushed(&splits, "one.npy", &npy("<f4", "3, 2", false, &f4(&[1., 2., 3., 4., 5., 6.])))), [[1., 2., 3., 4., 5., 6.]]);
    assert!(
        pushed(&splits, "one.npy", &npy("<f4", "3,", false, &f4(&[1., 2., 3.]))).unwrap_err().to_string().contains("1 channels, not 2")
    );
    assert!(pushed(&splits, "gone.npy", b"").is_err());
    let mut set = splits.train.subset(&[]).unwrap();
    assert!(own::push(Path::new("/nowhere/x.npy"), &mut set).unwrap_err().to_string().contains("there is no file"));
    assert!(own::push_text("a text", &mut set).unwrap_err().to_string().contains("does not read texts"));
}

#[test]
fn every_kind_has_an_ending_of_its_own() {
    let endings: std::collections::BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.ending()).collect();
    assert_eq!(endings.len(), Kind::ALL.len());
}
