//! Speech Commands: files written byte by byte here, the splits, the standardisation, its cache, and everything that can be wrong.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use pspikessm::data::speech_commands::{Classes, LENGTH, WavStream, class_names, load, read_wav};
use pspikessm::data::{Dataset, Encoding, Faults, Splits, Standardization};
use pspikessm::error::Error;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const WORDS: &str = "backward bed bird cat dog down eight five follow forward four go happy house learn left marvin nine no off on one \
                     right seven sheila six stop three tree two up visual wow yes zero";
const TEN: &str = "down go left no off on right stop up yes";

// ---- Files ----

/// What stands in the header of a WAV file.
#[derive(Clone, Copy)]
struct Header {
    kind: u16,
    channels: u16,
    rate: u32,
    bits: u16,
}

const GOOD: Header = Header { kind: 1, channels: 1, rate: 16_000, bits: 16 };

/// A WAV file of a header and the bytes of its samples, from the description of the format.
fn wav(header: Header, sound: &[u8]) -> Vec<u8> {
    let step = header.channels * header.bits / 8;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + sound.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend(header.kind.to_le_bytes());
    bytes.extend(header.channels.to_le_bytes());
    bytes.extend(header.rate.to_le_bytes());
    bytes.extend((header.rate * u32::from(step)).to_le_bytes());
    bytes.extend(step.to_le_bytes());
    bytes.extend(header.bits.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend((sound.len() as u32).to_le_bytes());
    bytes.extend(sound);
    bytes
}

fn clip(samples: &[i16]) -> Vec<u8> {
    wav(GOOD, &samples.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>())
}

/// The samples of file number `file` of word number `word`: different for each, and not all equally long.
fn samples(word: usize, file: usize) -> Vec<i16> {
    (0..20 + file).map(|i| ((i + 1) * (word * 7919 + file * 104_729 + 17) % 60_000) as i32 - 30_000).map(|sample| sample as i16).collect()
}

/// Folders of these words with so many files each, `a0.wav`, `a1.wav`, ..; of each word the last is listed as test, the one before as
/// validation.
fn make(root: &Path, words: &str, files: usize) {
    let (mut val, mut test) = (String::new(), String::new());
    for (number, word) in words.split(' ').enumerate() {
        fs::create_dir_all(root.join(word)).unwrap();
        for file in 0..files {
            fs::write(root.join(word).join(format!("a{file}.wav")), clip(&samples(number, file))).unwrap();
        }
        val += &format!("{word}/a{}.wav\n", files.saturating_sub(2));
        test += &format!("{word}/a{}.wav\n", files - 1);
    }
    fs::write(root.join("validation_list.txt"), val).unwrap();
    fs::write(root.join("testing_list.txt"), test).unwrap();
}

fn folder(words: &str, files: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), words, files);
    dir
}

/// Changes what a file holds behind the loader's back: not its size, nor its date.
fn change_secretly(path: &Path, bytes: &[u8]) {
    let date = fs::metadata(path).unwrap().modified().unwrap();
    assert_eq!(fs::metadata(path).unwrap().len(), bytes.len() as u64);
    fs::write(path, bytes).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(date).unwrap();
}

fn cache(dir: &Path, classes: usize) -> PathBuf {
    dir.join(format!(".pspikessm-statistics-{classes}"))
}

// ---- Oracles ----

/// The clip as values, padded.
fn values(samples: &[i16]) -> Vec<f64> {
    let mut values: Vec<f64> = samples.iter().map(|&sample| f64::from(sample) / 32_768.0).collect();
    values.resize(LENGTH, 0.0);
    values
}

/// Mean and 1 / (sd + 1e-5) of every time step, from the definitions.
fn naive_statistics(clips: &[Vec<f64>]) -> (Vec<f64>, Vec<f64>) {
    let n = clips.len() as f64;
    let statistics = (0..LENGTH).map(|step| {
        let mean = clips.iter().map(|clip| clip[step]).sum::<f64>() / n;
        let variance = clips.iter().map(|clip| (clip[step] - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, 1.0 / (variance.sqrt() + 1e-5))
    });
    statistics.unzip()
}

#[track_caller]
fn assert_close(found: &[f32], wanted: &[f64]) {
    assert_eq!(found.len(), wanted.len());
    for (step, (&found, &wanted)) in found.iter().zip(wanted).enumerate() {
        let error = (f64::from(found) - wanted).abs();
        assert!(error <= 1e-7 * wanted.abs() + 1e-12, "step {step}: {found} for {wanted}");
    }
}

fn statistics(set: &Dataset) -> &Standardization {
    match set.encoding() {
        Encoding::Standardized(statistics) => statistics,
        other => panic!("{other:?}"),
    }
}

/// The clips of a set by the first samples of each, which are what `samples` gives: undoes the standardisation.
fn contents(set: &Dataset) -> Vec<(usize, Vec<i16>)> {
    let Standardization { mean, factor } = statistics(set);
    let clip = |index: usize| {
        let batch = set.batch(&[index]).unwrap();
        let values = batch.values().unwrap();
        let raw = values.iter().zip(mean).zip(factor).map(|((value, mean), factor)| (value / factor + mean) * 32_768.0);
        (batch.labels[0], raw.take(20).map(|value| value.round() as i16).collect())
    };
    (0..set.len()).map(clip).collect()
}

/// What `contents` should find of these files of words.
fn wanted(files: impl IntoIterator<Item = (usize, usize)>) -> Vec<(usize, Vec<i16>)> {
    files.into_iter().map(|(word, file)| (word, samples(word, file)[..20].to_vec())).collect()
}

#[track_caller]
fn refusal(result: Result<Splits, Error>) -> String {
    result.expect_err("accepted").to_string()
}

#[track_caller]
fn all(dir: &Path) -> Splits {
    load(dir, Classes::All35, &Faults::refused()).unwrap()
}

#[track_caller]
fn ten(dir: &Path) -> Splits {
    load(dir, Classes::Ten, &Faults::refused()).unwrap()
}

// ---- WAV files ----

#[test]
fn samples_are_scaled_and_padded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.wav");
    fs::write(&path, clip(&[i16::MIN, -1, 0, 1, 16_384, i16::MAX])).unwrap();
    let values = read_wav(&path).unwrap();
    assert_eq!(values.len(), LENGTH);
    assert_eq!(values[..6], [-1.0, -1.0 / 32_768.0, 0.0, 1.0 / 32_768.0, 0.5, 32_767.0 / 32_768.0]);
    assert!(values[6..].iter().all(|&value| value == 0.0));

    let whole: Vec<i16> = (0..LENGTH).map(|i| (i * 31 % 65_536) as u16 as i16).collect();
    fs::write(&path, clip(&whole)).unwrap();
    let wanted: Vec<f32> = whole.iter().map(|&sample| f32::from(sample) / 32_768.0).collect();
    assert_eq!(read_wav(&path).unwrap(), wanted);

    // What other programs write: notes before the sound and behind it.
    let (mut noted, bytes) = (Vec::new(), clip(&whole));
    noted.extend(&bytes[..36]);
    noted.extend(b"LIST\x06\0\0\0fmt \xff\xff");
    noted.extend(&bytes[36..]);
    noted.extend(b"note\x02\0\0\0ab");
    fs::write(&path, noted).unwrap();
    assert_eq!(read_wav(&path).unwrap(), wanted);

    let spec = hound::WavSpec { channels: 1, sample_rate: 16_000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    whole.iter().for_each(|&sample| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
    assert_eq!(read_wav(&path).unwrap(), wanted);
}

fn float(samples: &[f32]) -> Vec<u8> {
    wav(Header { bits: 32, kind: 3, ..GOOD }, &samples.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>())
}

/// A file as programs write it that do not know its length yet.
fn streamed(sound: &[u8], length: u32) -> Vec<u8> {
    let mut bytes = wav(GOOD, sound);
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes[40..44].copy_from_slice(&length.to_le_bytes());
    bytes
}

#[test]
fn files_as_other_programs_write_them_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.wav");
    let good = clip(&[1, -2, 3]);
    let with = |chunk: &[u8]| [&good[..36], chunk, &good[36..]].concat();
    let format = |extra: &[u8]| [&good[..16], &(16 + extra.len() as u32).to_le_bytes(), &good[20..36], extra, &good[36..]].concat();
    let odd = [&b"axml"[..], &495u32.to_le_bytes(), &[b'x'; 495], &[0]].concat();
    let large = [&b"junk"[..], &(3u32 << 20).to_le_bytes(), &vec![0; 3 << 20]].concat();
    let integers = b"\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71";
    let mut extensible = format(&[&[22, 0, 16, 0, 4, 0, 0, 0], &integers[..]].concat());
    extensible[20..22].copy_from_slice(b"\xfe\xff");
    let mut no_rate = good.clone();
    no_rate[28..32].copy_from_slice(&[0; 4]);
    let behind = [&good[..], b"LIST\x03\0\0\0abc"].concat();
    let mut half = streamed(&good[44..], u32::MAX);
    half.push(7);
    let files = [
        with(&odd),
        with(&large),
        format(&[2, 0, 0, 0]),
        format(&[0, 0]),
        extensible,
        no_rate,
        behind,
        streamed(&good[44..], u32::MAX),
        streamed(&good[44..], 0x7fff_f000),
        streamed(&good[44..], 0),
        half,
    ];
    for (number, bytes) in files.iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        let values = read_wav(&path).unwrap_or_else(|error| panic!("file {number}: {error}"));
        assert_eq!(values[..4], [1.0 / 32_768.0, -2.0 / 32_768.0, 3.0 / 32_768.0, 0.0], "file {number}");
    }
}

#[test]
fn sound_of_any_length_is_read_as_it_comes() {
    let samples: Vec<i16> = (0..2 * LENGTH + 7).map(|i| (i * 7919 % 60_000) as i32 - 30_000).map(|sample| sample as i16).collect();
    let wanted: Vec<f32> = samples.iter().map(|&sample| f32::from(sample) / 32_768.0).collect();
    let bytes = clip(&samples);
    // What stands behind the sound is none; a file whose length is not known goes on to its end.
    for bytes in [[&bytes[..], b"LIST"].concat(), streamed(&bytes[44..], u32::MAX)] {
        let (mut sound, mut found) = (WavStream::new(&bytes[..], "a pipe").unwrap(), Vec::new());
        while let values = sound.read(160).unwrap()
            && !values.is_empty()
        {
            assert!(values.len() <= 160);
            found.extend(values);
        }
        assert!(found == wanted);
    }
    let stereo = WavStream::new(&wav(Header { channels: 2, ..GOOD }, &[0; 4])[..], "a pipe").map(drop).unwrap_err().to_string();
    assert!(stereo.contains("a pipe") && stereo.contains("mono"), "{stereo}");
    let loud = float(&[0.5, 9.0]);
    let message = WavStream::new(&loud[..], "a pipe").unwrap().read(9).unwrap_err().to_string();
    assert!(message.contains("byte 48") && message.contains("-1 to 1"), "{message}");
}

#[test]
fn other_depths_are_rounded_to_16_bits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.wav");
    let check = |bytes: Vec<u8>, wanted: &[i32]| {
        fs::write(&path, bytes).unwrap();
        let found: Vec<i32> = read_wav(&path).unwrap()[..wanted.len()].iter().map(|value| (value * 32_768.0) as i32).collect();
        assert_eq!(found, wanted);
    };
    check(wav(Header { bits: 8, ..GOOD }, &[128, 0, 255, 129]), &[0, -32_768, 32_512, 256]);
    check(wav(Header { bits: 24, ..GOOD }, &[0, 1, 0, 128, 1, 0, 127, 1, 0, 255, 255, 127, 0, 0, 128]), &[1, 2, 1, 32_767, -32_768]);
    let wide: Vec<u8> = [1 << 16, 3 << 15, i32::MAX, i32::MIN, -(1 << 15)].iter().flat_map(|sample: &i32| sample.to_le_bytes()).collect();
    check(wav(Header { bits: 32, ..GOOD }, &wide), &[1, 2, 32_767, -32_768, 0]);
    check(float(&[0.5, -1.0, 1.0, 1.5, -1.5, 1.0 / 32_768.0, 0.4 / 32_768.0]), &[16_384, -32_768, 32_767, 32_767, -32_768, 1, 0]);
    let double: Vec<u8> = [0.5f64, -1.0].iter().flat_map(|sample| sample.to_le_bytes()).collect();
    check(wav(Header { bits: 64, kind: 3, ..GOOD }, &double), &[16_384, -32_768]);
    // And as another library writes them.
    for (bits, sample_format) in [(8, hound::SampleFormat::Int), (24, hound::SampleFormat::Int), (32, hound::SampleFormat::Float)] {
        let spec = hound::WavSpec { channels: 1, sample_rate: 16_000, bits_per_sample: bits, sample_format };
        let mut file = std::io::Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
        match bits {
            32 => [0.25f32, -0.25].iter().for_each(|&sample| writer.write_sample(sample).unwrap()),
            _ => [1i32 << (bits - 3), -(1 << (bits - 3))].iter().for_each(|&sample| writer.write_sample(sample).unwrap()),
        }
        writer.finalize().unwrap();
        check(file.into_inner(), &[8192, -8192, 0]);
    }
}

#[test]
fn every_bad_file_is_refused_by_its_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.wav");
    let good = clip(&[1, 2, 3]);
    let changed = |at: usize, to: &[u8]| [&good[..at], to, &good[at + to.len()..]].concat();
    let extensible = |kind: [u8; 16]| {
        [&good[..16], &40u32.to_le_bytes(), b"\xfe\xff", &good[22..36], &[22, 0, 16, 0, 4, 0, 0, 0], &kind, &good[36..]].concat()
    };
    let cases: Vec<(Vec<u8>, u64, &str)> = vec![
        (Vec::new(), 0, "the file is empty"),
        (b"ID3\x03 sound of another kind".to_vec(), 0, "this is an MP3 sound: convert it to WAV"),
        (b"RI".to_vec(), 0, "not a WAV file"),
        (changed(0, b"RIFX"), 0, "big-endian numbers (RIFX)"),
        (changed(0, b"RF64"), 0, "more than 4 GB (RF64)"),
        (good[..10].to_vec(), 10, "ends too early"),
        (good[..16].to_vec(), 16, "ends too early"),
        (good[..30].to_vec(), 30, "ends too early"),
        (good[..36].to_vec(), 36, "without a chunk \"data\""),
        (good[..47].to_vec(), 47, "ends too early"),
        (changed(8, b"AVI "), 8, "no WAVE tag"),
        (changed(12, b"fmt2"), 36, "comes before its format"),
        (changed(16, &[14]), 20, "14 bytes: it must have 16"),
        (changed(20, &[2]), 20, "packed as ADPCM (0x0002)"),
        (changed(20, &[7]), 20, "packed as mu-law"),
        (extensible([1; 16]), 20, "another kind (0xfffe)"),
        (extensible(*b"\x55\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"), 44, "packed as MPEG"),
        (changed(36, b"date"), 50, "without a chunk"),
        (changed(40, &[5]), 44, "5 bytes, no whole number of samples of 2"),
        (wav(Header { rate: 22_050, ..GOOD }, &[0; 4]), 24, "22050 samples a second: convert the file to 16000"),
        (wav(Header { channels: 2, ..GOOD }, &[0; 4]), 22, "2 channels: convert the file to mono"),
        (wav(Header { channels: 0, ..GOOD }, &[0; 4]), 22, "0 channels"),
        (wav(Header { bits: 12, ..GOOD }, &[0; 4]), 34, "12 bits: convert the file to 16"),
        (wav(Header { bits: 0, ..GOOD }, &[0; 4]), 34, "0 bits"),
        (wav(Header { bits: 16, kind: 3, ..GOOD }, &[0; 4]), 34, "16 bits"),
        (float(&[0.0, f32::NAN]), 48, "sample 1 (from 0) is not from -1 to 1"),
        (float(&[16_384.0]), 44, "sample 0 (from 0) is not from -1 to 1"),
        (wav(GOOD, &[]), 44, "no sample"),
        (wav(GOOD, &vec![0; 2 * LENGTH + 2]), 44, "16001 samples: cut the sound to 16000"),
        (wav(GOOD, &vec![0; 1 << 21]), 44, "1048576 samples: cut"),
        (streamed(&vec![0; 1 << 21], u32::MAX), 44, "more than 16000 samples: cut"),
    ];
    for (bytes, at, says) in cases {
        fs::write(&path, bytes).unwrap();
        match read_wav(&path) {
            Err(Error::Binary { path: named, offset, help }) => {
                assert_eq!((named, offset), (path.clone(), at), "{help}");
                assert!(help.contains(says), "{says}: {help}");
            }
            other => panic!("{says}: {other:?}"),
        }
    }
    // Four bytes for a sample of 16 bits.
    let mut padded = wav(GOOD, &[0; 8]);
    padded[28..34].copy_from_slice(&[0, 250, 0, 0, 4, 0]);
    fs::write(&path, padded).unwrap();
    let message = read_wav(&path).unwrap_err().to_string();
    assert!(message.contains("x.wav: byte 32") && message.contains("16 bits takes 4 bytes, not 2"), "{message}");

    assert!(matches!(read_wav(dir.path().join("none.wav")), Err(Error::Io { action: "open", .. })));
    assert!(matches!(read_wav(dir.path()), Err(Error::Io { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, rng_seed: RngSeed::Fixed(5), failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever stands in the header: a second of sound or an error.
    #[test]
    fn no_header_breaks_the_reader(changes in prop::collection::vec((0usize..48, any::<u8>()), 1..4), kept in 0usize..60) {
        let mut bytes = clip(&[1, -2, 3, -4, 5, -6, 7, -8]);
        changes.iter().for_each(|&(at, to)| bytes[at] = to);
        bytes.truncate(kept.max(4));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.wav");
        fs::write(&path, bytes).unwrap();
        match read_wav(&path) {
            Ok(values) => prop_assert!(values.len() == LENGTH && values.iter().all(|value| (-1.0..1.0).contains(value))),
            Err(error) => prop_assert!(error.to_string().contains("x.wav")),
        }
    }
}

// ---- Splits ----

#[test]
fn the_classes_are_the_words_in_alphabetical_order() {
    assert_eq!(class_names(Classes::All35), WORDS.split(' ').collect::<Vec<_>>());
    assert_eq!(class_names(Classes::Ten), TEN.split(' ').collect::<Vec<_>>());
}

#[test]
fn the_lists_say_which_file_is_what() {
    let dir = folder(WORDS, 4);
    let found = all(dir.path());
    assert_eq!(contents(&found.train), wanted((0..35).flat_map(|word| [(word, 0), (word, 1)])));
    assert_eq!(contents(&found.val), wanted((0..35).map(|word| (word, 2))));
    assert_eq!(contents(&found.test), wanted((0..35).map(|word| (word, 3))));
    for set in [&found.train, &found.val, &found.test] {
        assert_eq!((set.classes(), set.longest(), set.d_input(), set.is_remote()), (35, LENGTH, Some(1), true));
        assert_eq!(statistics(set), statistics(&found.train));
    }
    let batch = found.train.batch(&[69, 0]).unwrap();
    assert_eq!((batch.shape(), &batch.lengths[..], &batch.labels[..]), ([2, LENGTH, 1].into(), &[LENGTH, LENGTH][..], &[34, 0][..]));
}

#[test]
fn lists_with_other_line_ends_and_files_that_are_no_clips() {
    let dir = folder(WORDS, 4);
    let plain = all(dir.path());
    for list in ["validation_list.txt", "testing_list.txt"] {
        let text = fs::read_to_string(dir.path().join(list)).unwrap();
        fs::write(dir.path().join(list), text.trim_end().replace('\n', "\r\n") + "\r\n\r\n").unwrap();
        let bytes = fs::read(dir.path().join(list)).unwrap();
        fs::write(dir.path().join(list), [b"\xef\xbb\xbf", &bytes[..]].concat()).unwrap();
    }
    fs::create_dir(dir.path().join("_background_noise_")).unwrap();
    fs::write(dir.path().join("_background_noise_/pink.wav"), b"noise").unwrap();
    fs::create_dir(dir.path().join("other")).unwrap();
    fs::write(dir.path().join("LICENSE"), b"text").unwrap();
    fs::write(dir.path().join("bed/._a0.wav"), b"notes of a system").unwrap();
    fs::write(dir.path().join("bed/README.md"), b"text").unwrap();
    fs::write(dir.path().join("bed/Thumbs.db"), b"pictures").unwrap();
    fs::create_dir(dir.path().join("bed/more.wav")).unwrap();
    let found = all(dir.path());
    assert_eq!(contents(&found.train), contents(&plain.train));
    assert_eq!(contents(&found.test), contents(&plain.test));
}

#[test]
fn ten_words_are_split_by_word_with_a_fixed_seed() {
    let dir = folder(TEN, 20);
    fs::remove_file(dir.path().join("validation_list.txt")).unwrap();
    let found = ten(dir.path());
    let parts = [&found.train, &found.val, &found.test].map(contents);
    // All files, each once.
    let mut together: Vec<_> = parts.concat();
    together.sort();
    let mut all = wanted((0..10).flat_map(|word| (0..20).map(move |file| (word, file))));
    all.sort();
    assert_eq!(together, all);
    for (part, count) in parts.iter().zip([14, 3, 3]) {
        let mut of_word = BTreeMap::new();
        part.iter().for_each(|(word, _)| *of_word.entry(*word).or_insert(0) += 1);
        assert_eq!(of_word, (0..10).map(|word| (word, count)).collect());
    }
    // The split itself is part of the promise: the same with the next release.
    let files = |part: &[(usize, Vec<i16>)], word: usize| -> Vec<usize> {
        (0..20).filter(|&file| part.contains(&(word, samples(word, file)[..20].to_vec()))).collect()
    };
    let drawn: BTreeSet<Vec<usize>> = (0..10).map(|word| files(&parts[1], word)).collect();
    assert!(drawn.len() > 5, "words are drawn apart: {drawn:?}");
    assert_eq!((files(&parts[1], 0), files(&parts[2], 0)), (vec![9, 10, 17], vec![3, 5, 12]));

    // The same whatever else lies there, and however often it is read.
    make(dir.path(), "zero cat", 1);
    let again = ten(dir.path());
    assert_eq!([&again.train, &again.val, &again.test].map(contents), parts);
}

#[test]
fn sizes_of_the_split_are_rounded_as_promised() {
    for (files, train, val, test) in [(4, 2, 1, 1), (5, 3, 1, 1), (7, 4, 1, 2), (11, 7, 2, 2)] {
        let found = ten(folder(TEN, files).path());
        assert_eq!([found.train.len(), found.val.len(), found.test.len()], [10 * train, 10 * val, 10 * test], "{files} files");
    }
    let message = refusal(load(folder(TEN, 3).path(), Classes::Ten, &Faults::refused()));
    assert!(message.contains("3 files of the word down") && message.contains("at least 4"), "{message}");
}

#[test]
fn the_folder_is_found_where_archives_put_it() {
    for inside in [".", "speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02"] {
        let dir = tempfile::tempdir().unwrap();
        make(&dir.path().join(inside), TEN, 4);
        assert_eq!(ten(dir.path()).train.len(), 20, "{inside}");
        assert!(cache(&dir.path().join(inside), 10).is_file(), "{inside}");
    }
}

// ---- Standardisation ----

#[test]
fn statistics_are_those_of_the_training_set_in_f64() {
    let dir = folder(WORDS, 4);
    // One clip is a whole second.
    let second: Vec<i16> = (0..LENGTH).map(|i| (i * 7 % 65_521) as u16 as i16).collect();
    fs::write(dir.path().join("cat/a1.wav"), clip(&second)).unwrap();
    let found = all(dir.path());
    let train = (0..35).flat_map(|word| [(word, 0), (word, 1)]);
    let clips: Vec<Vec<f64>> =
        train.map(|(word, file)| values(&if (word, file) == (3, 1) { second.clone() } else { samples(word, file) })).collect();
    let (mean, factor) = naive_statistics(&clips);
    assert_close(&statistics(&found.train).mean, &mean);
    assert_close(&statistics(&found.train).factor, &factor);

    // Padding comes before the standardisation: zeros become -mean times factor.
    let Standardization { mean, factor } = statistics(&found.test).clone();
    let batch = found.test.batch(&[5]).unwrap();
    let raw = values(&samples(5, 3));
    let standard: Vec<f32> = raw.iter().zip(&mean).zip(&factor).map(|((&raw, mean), factor)| (raw as f32 - mean) * factor).collect();
    assert_eq!(batch.values().unwrap(), standard);
    assert!(batch.values().unwrap()[1000..].iter().all(|&value| value != 0.0));
}

#[test]
fn a_time_step_that_never_changes_stays_finite() {
    let dir = folder(TEN, 4);
    let found = ten(dir.path());
    let Standardization { mean, factor } = statistics(&found.train);
    assert_eq!((mean[LENGTH - 1], factor[LENGTH - 1]), (0.0, 1e5));
    assert!(found.train.batch(&[0]).unwrap().values().unwrap().iter().all(|value| value.is_finite()));
}

#[test]
fn one_training_file_has_no_deviation() {
    let dir = folder(WORDS, 2);
    let texts: Vec<String> = WORDS.split(' ').map(|word| format!("{word}/a0.wav\n")).collect();
    fs::write(dir.path().join("validation_list.txt"), texts[1..].concat()).unwrap();
    let message = refusal(load(dir.path(), Classes::All35, &Faults::refused()));
    assert!(message.contains("1 training files") && message.contains("two at least"), "{message}");
}

// ---- The cache ----

#[test]
fn statistics_are_kept_until_a_file_changes() {
    let dir = folder(WORDS, 4);
    let first = all(dir.path());
    assert!(cache(dir.path(), 35).is_file() && !cache(dir.path(), 10).exists());

    // What was not read again was kept.
    let clip_path = dir.path().join("dog/a0.wav");
    change_secretly(&clip_path, &clip(&[1; 20]));
    assert_eq!(statistics(&all(dir.path()).train), statistics(&first.train));

    // Another date, another size, another file, other parts.
    let mut before = statistics(&first.train).clone();
    let mut differs = |why: &str| {
        let now = statistics(&all(dir.path()).train).clone();
        assert_ne!(now, before, "{why}");
        fs::remove_file(cache(dir.path(), 35)).unwrap();
        assert_eq!(*statistics(&all(dir.path()).train), now, "{why}, from scratch");
        before = now;
    };
    let later = fs::metadata(&clip_path).unwrap().modified().unwrap() + std::time::Duration::from_secs(2);
    File::options().write(true).open(&clip_path).unwrap().set_modified(later).unwrap();
    differs("date");
    fs::write(&clip_path, clip(&[1; 25])).unwrap();
    differs("size");
    fs::write(dir.path().join("dog/b.wav"), clip(&[-9; 20])).unwrap();
    differs("a new file");
    let list = fs::read_to_string(dir.path().join("validation_list.txt")).unwrap();
    fs::write(dir.path().join("validation_list.txt"), list + "dog/a0.wav\n").unwrap();
    differs("parts");
    fs::remove_file(dir.path().join("yes/a1.wav")).unwrap();
    differs("a file less");
}

#[test]
fn a_damaged_cache_is_made_again() {
    let dir = folder(TEN, 4);
    let first = ten(dir.path());
    let path = cache(dir.path(), 10);
    let good = fs::read(&path).unwrap();
    // magic, fingerprint, number of bad files, statistics, checksum
    assert_eq!(good.len(), 8 + 8 + 4 + 8 * LENGTH + 4);
    let mut damaged: Vec<Vec<u8>> = vec![Vec::new(), good[..3].to_vec(), good[..good.len() / 2].to_vec(), [&good[..], b"x"].concat()];
    for at in [0, 9, 17, 30, 70_000, good.len() - 1] {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        damaged.push(bytes);
    }
    for bytes in damaged {
        fs::write(&path, bytes).unwrap();
        assert_eq!(statistics(&ten(dir.path()).train), statistics(&first.train));
        assert_eq!(fs::read(&path).unwrap(), good);
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_is_no_fault() {
    let dir = folder(TEN, 4);
    // A folder in the place of the file can be neither read nor replaced, whoever runs this.
    fs::create_dir(cache(dir.path(), 10)).unwrap();
    fs::write(cache(dir.path(), 10).join("x"), b"").unwrap();
    let names = |dir: &Path| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>();
    let before = names(dir.path());
    let first = ten(dir.path());
    assert_eq!(statistics(&ten(dir.path()).train), statistics(&first.train));
    assert_eq!(names(dir.path()), before, "no temporary file is left");
    fs::remove_dir_all(cache(dir.path(), 10)).unwrap();
    assert_eq!(statistics(&ten(dir.path()).train), statistics(&first.train));
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_is_no_fault() {
    use std::os::unix::fs::PermissionsExt;
    let dir = folder(TEN, 4);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let refused = File::create(dir.path().join("probe")).is_err();
    let first = ten(dir.path());
    assert_eq!(statistics(&ten(dir.path()).train), statistics(&first.train));
    // The administrator may write everywhere.
    assert_eq!(cache(dir.path(), 10).exists(), !refused);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

// ---- Faults ----

#[test]
fn the_first_bad_file_is_an_error_wherever_it_is_listed() {
    for (name, bad) in [("bed/a0.wav", b"RIFF".to_vec()), ("yes/a2.wav", Vec::new()), ("zero/a3.wav", clip(&vec![0; LENGTH + 1]))] {
        let dir = folder(WORDS, 4);
        fs::write(dir.path().join(name), bad).unwrap();
        match load(dir.path(), Classes::All35, &Faults::refused()) {
            Err(Error::Binary { path, .. }) => assert_eq!(path, dir.path().join(name)),
            other => panic!("{other:?}"),
        }
        assert!(!cache(dir.path(), 35).exists());
    }
}

#[test]
fn bad_files_are_left_out_and_counted_where_that_is_asked_for() {
    let dir = folder(WORDS, 4);
    let (two, stereo) = (clip(&samples(1, 0)), wav(Header { channels: 2, ..GOOD }, &[0; 40]));
    let bad = [("bed/a0.wav", wav(Header { rate: 8000, ..GOOD }, &two[44..])), ("cat/a2.wav", stereo), ("yes/a3.wav", two[..50].to_vec())];
    bad.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
    let lenient = || {
        let faults = Faults::skipped();
        let found = load(dir.path(), Classes::All35, &faults).unwrap();
        (found, faults)
    };
    // The second time from the cache.
    let (first, _) = lenient();
    assert!(cache(dir.path(), 35).is_file());
    for _ in 0..2 {
        let (found, faults) = lenient();
        assert_eq!(faults.count(), 3);
        let reports = faults.reports(3).concat();
        assert!(bad.iter().all(|(name, _)| reports.contains(name)), "{reports}");
        let not = |bad| move |file: &(usize, usize)| *file != bad;
        assert_eq!(contents(&found.train), wanted((0..35).flat_map(|word| [(word, 0), (word, 1)]).filter(not((1, 0)))));
        assert_eq!(contents(&found.val), wanted((0..35).map(|word| (word, 2)).filter(not((3, 2)))));
        assert_eq!(contents(&found.test), wanted((0..35).map(|word| (word, 3)).filter(not((33, 3)))));
        assert_eq!(statistics(&found.train), statistics(&first.train));
        let clips: Vec<_> = (0..35).flat_map(|word| [(word, 0), (word, 1)]).filter(not((1, 0))).collect();
        let (mean, _) = naive_statistics(&clips.iter().map(|&(word, file)| values(&samples(word, file))).collect::<Vec<_>>());
        assert_close(&statistics(&found.train).mean, &mean);
    }
    // Who does not skip is told at once, cache or no cache.
    let message = refusal(load(dir.path(), Classes::All35, &Faults::refused()));
    assert!(message.contains("bed/a0.wav") && message.contains("8000"), "{message}");
    // A repaired file comes back, even if nothing but its content tells.
    change_secretly(&dir.path().join("bed/a0.wav"), &two);
    let (repaired, faults) = lenient();
    assert_eq!((repaired.train.len(), faults.count()), (70, 2));
}

#[test]
fn a_set_that_nothing_is_left_of_is_refused() {
    let dir = folder(WORDS, 4);
    fs::write(dir.path().join("validation_list.txt"), "").unwrap();
    let message = refusal(load(dir.path(), Classes::All35, &Faults::refused()));
    assert!(message.contains("left for validation"), "{message}");
    fs::write(dir.path().join("validation_list.txt"), "yes/a2.wav\n").unwrap();
    fs::write(dir.path().join("yes/a2.wav"), b"").unwrap();
    let message = refusal(load(dir.path(), Classes::All35, &Faults::skipped()));
    assert!(message.contains("left for validation"), "{message}");
}

#[test]
fn files_that_go_bad_later_are_met_by_the_batch() {
    for faults in [Faults::refused(), Faults::skipped()] {
        let dir = folder(TEN, 4);
        let found = load(dir.path(), Classes::Ten, &faults).unwrap();
        // Files 0 to 3 of the first word, of which two are training.
        (0..4).for_each(|file| fs::remove_file(dir.path().join(format!("down/a{file}.wav"))).unwrap());
        let batch = found.train.batch(&[0, 2, 1]);
        if faults.clone().meet(Error::value("a test", "skipped?")).is_err() {
            let message = batch.unwrap_err().to_string();
            assert!(message.contains("could not open") && message.contains("down"), "{message}");
        } else {
            assert_eq!((batch.unwrap().labels, faults.count()), (vec![1], 3));
        }
    }
}

/// The error of a line in the validation list.
#[track_caller]
fn line_refusal(line: &str) -> (usize, usize, String) {
    let dir = folder(WORDS, 4);
    let path = dir.path().join("validation_list.txt");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text + line + "\n").unwrap();
    // Left out, where that is asked for, with what it says.
    let faults = Faults::skipped();
    assert_eq!(load(dir.path(), Classes::All35, &faults).unwrap().val.len(), 35);
    assert_eq!(faults.count(), 1);
    match load(dir.path(), Classes::All35, &Faults::refused()) {
        Err(Error::Data { path: named, line, column, help }) => {
            assert_eq!(named, path);
            (line, column, help)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_bad_line_of_a_list_is_refused_by_line_and_column() {
    for (line, column, says) in [
        ("a0.wav", 1, "names no file"),
        ("cart/a0.wav", 1, "none of the 35 words"),
        ("_background_noise_/pink.wav", 1, "none of the 35 words"),
        ("cat/a9.wav", 5, "no file cat/a9.wav"),
        ("cat/", 5, "no file cat/"),
        ("cat/zz.wav", 5, "no file"),
        ("cat/../dog/a0.wav", 5, "no file"),
        ("cat/a2.wav", 1, "listed before"),
    ] {
        let (number, at, help) = line_refusal(line);
        assert_eq!((number, at), (36, column), "{line}: {help}");
        assert!(help.contains(says), "{line}: {help}");
    }
}

#[test]
fn a_file_in_both_lists_and_a_list_of_something_else() {
    let dir = folder(WORDS, 4);
    let path = dir.path().join("testing_list.txt");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("bed/a2.wav\n{text}")).unwrap();
    let message = refusal(load(dir.path(), Classes::All35, &Faults::refused()));
    assert!(message.contains("testing_list.txt:1:1") && message.contains("bed/a2.wav was listed before"), "{message}");
    fs::write(&path, b"bed/a3.wav\ncat/\xff\xfe.wav\n").unwrap();
    let message = refusal(load(dir.path(), Classes::All35, &Faults::skipped()));
    assert!(message.contains("testing_list.txt:2:5") && message.contains("not UTF-8"), "{message}");
}

#[test]
fn missing_lists_folders_and_files_say_what_to_do() {
    for list in ["validation_list.txt", "testing_list.txt"] {
        let dir = folder(WORDS, 4);
        fs::remove_file(dir.path().join(list)).unwrap();
        for faults in [Faults::refused(), Faults::skipped()] {
            let message = refusal(load(dir.path(), Classes::All35, &faults));
            assert!(message.contains(list) && message.contains("unpack the whole archive"), "{message}");
        }
        fs::create_dir(dir.path().join(list)).unwrap();
        let message = refusal(load(dir.path(), Classes::All35, &Faults::skipped()));
        assert!(message.contains(list) && message.contains("(it is a folder)"), "{message}");
    }
    let dir = folder(WORDS, 4);
    fs::remove_dir_all(dir.path().join("marvin")).unwrap();
    let message = refusal(load(dir.path(), Classes::All35, &Faults::skipped()));
    assert!(message.contains("no folder") && message.contains("marvin"), "{message}");
    fs::create_dir(dir.path().join("marvin")).unwrap();
    let message = refusal(load(dir.path(), Classes::All35, &Faults::skipped()));
    assert!(message.contains("no WAV file in") && message.contains("marvin"), "{message}");

    for dir in [tempfile::tempdir().unwrap().path(), Path::new("/nowhere")] {
        let message = refusal(load(dir, Classes::Ten, &Faults::refused()));
        assert!(message.contains(&dir.display().to_string()) && message.contains("a folder of WAV files for each word"), "{message}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_text_and_links_to_nowhere_are_faults() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = folder(TEN, 4);
    fs::write(dir.path().join("go").join(OsStr::from_bytes(b"\xff.wav")), clip(&[1])).unwrap();
    let message = refusal(load(dir.path(), Classes::Ten, &Faults::refused()));
    assert!(message.contains("not UTF-8"), "{message}");
    std::os::unix::fs::symlink("nowhere", dir.path().join("no/b.wav")).unwrap();
    let faults = Faults::skipped();
    load(dir.path(), Classes::Ten, &faults).unwrap();
    assert_eq!(faults.count(), 2);
    assert!(faults.reports(1)[0].contains("could not open"), "{:?}", faults.reports(2));
}

// ---- The task ----

#[test]
fn the_task_loads_and_pushes_what_the_model_reads() {
    use pspikessm::train::tasks::{SpeechCommands, Task};
    let task = SpeechCommands;
    let dir = folder(TEN, 4);
    let recipe = task.recipe(None).unwrap();
    let found = task.load(&recipe, Some(dir.path()), &Faults::refused()).unwrap();
    assert_eq!(task.class_names(&recipe), class_names(Classes::Ten));
    assert_eq!(task.class_names(&task.recipe(Some("paper")).unwrap()).len(), 35);
    // A sample for a prediction goes the same way as one of the set.
    let mut set = Dataset::new(found.test.encoding().clone(), 10).unwrap();
    let (label, first) = contents(&found.test)[0].clone();
    let file = (0..4).find(|&file| samples(label, file)[..20] == first[..]).unwrap();
    let path = dir.path().join(TEN.split(' ').nth(label).unwrap()).join(format!("a{file}.wav"));
    task.push(&recipe, pspikessm::train::Sample::Given(&path), &mut set).unwrap();
    assert_eq!(set.batch(&[0]).unwrap().values(), found.test.batch(&[0]).unwrap().values());
    // Recordings are asked for by name; the quick preset goes on with synthetic words.
    let message = refusal(task.load(&task.recipe(Some("paper")).unwrap(), None, &Faults::refused()));
    assert!(message.contains("speech_commands_v0.02.tar.gz"), "{message}");
}
