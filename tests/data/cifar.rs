//! CIFAR-10: its binary files, whole and broken, in grey.

use std::fs;
use std::path::{Path, PathBuf};

use crate::files::*;
use pspikessm::data::{Faults, Splits, cifar};
use pspikessm::error::Result;
use pspikessm::train::tasks::Image;
use tempfile::TempDir;

const RECORD: usize = 3073;

/// Byte `channel` of pixel `at` of picture `number` of file `file`.
fn cifar_pixel(file: usize, number: usize, channel: usize, at: usize) -> u8 {
    (file * 50 + number * 17 + channel * 101 + at * (channel * 2 + 3) + at / 32) as u8
}

fn cifar_file(file: usize, count: usize) -> Vec<u8> {
    let pixels = |number: usize| (0..3).flat_map(move |channel| (0..1024).map(move |at| cifar_pixel(file, number, channel, at)));
    (0..count).flat_map(|number| [((file + number) % 10) as u8].into_iter().chain(pixels(number))).collect()
}

/// Four pictures in each file; that to test with is number 0.
fn write_cifar(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("test_batch.bin"), cifar_file(0, 4)).unwrap();
    for file in 1..=5 {
        fs::write(dir.join(format!("data_batch_{file}.bin")), cifar_file(file, 4)).unwrap();
    }
}

fn cifar_with(name: &str, bytes: Vec<u8>) -> (Result<Splits>, PathBuf, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    write_cifar(dir.path());
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    (cifar::load(dir.path(), &Faults::refused()), path, dir)
}

/// A grey level back from a value.
fn level(value: f32) -> f64 {
    f64::from(value) * 61.0 + 122.6
}

#[test]
fn cifar_is_read_as_standardised_grey_row_by_row() {
    let dir = tempfile::tempdir().unwrap();
    write_cifar(dir.path());
    let splits = cifar::load(dir.path(), &Faults::refused()).unwrap();
    assert_eq!(splits.test.len(), 4);
    for number in 0..4 {
        let (values, label) = sample(&splits.test, number);
        assert_eq!((values.len(), label), (1024, number));
        for (at, &value) in values.iter().enumerate() {
            let [red, green, blue] = [0, 1, 2].map(|channel| f64::from(cifar_pixel(0, number, channel, at)));
            let grey = 0.299 * red + 0.587 * green + 0.114 * blue;
            // The weights in fixed point are off by less than 1e-5 each.
            assert!((level(value) - grey).abs() < 0.501 && (level(value) - level(value).round()).abs() < 1e-4, "{grey} {value}");
        }
    }
}

#[test]
fn greys_are_those_of_pillow() {
    // Image.new("RGB", (1, 1), colour).convert("L")
    let known =
        [([255, 0, 0], 76), ([0, 255, 0], 150), ([0, 0, 255], 29), ([255; 3], 255), ([0; 3], 0), ([1, 1, 1], 1), ([12, 200, 99], 132)];
    let mut record = vec![0; RECORD];
    for (at, (colour, _)) in known.iter().enumerate() {
        (0..3).for_each(|channel| record[1 + channel * 1024 + at] = colour[channel]);
    }
    let (splits, ..) = cifar_with("test_batch.bin", record);
    let (values, _) = sample(&splits.unwrap().test, 0);
    for ((colour, grey), value) in known.iter().zip(values) {
        assert_eq!(level(value).round(), f64::from(*grey), "{colour:?}");
    }
}

#[test]
fn a_tenth_of_cifar_is_held_out() {
    let dir = tempfile::tempdir().unwrap();
    write_cifar(dir.path());
    let splits = cifar::load(dir.path(), &Faults::refused()).unwrap();
    // All pictures in order: each file in turn as the one to test with.
    let mut all = Vec::new();
    for file in 1..=5 {
        let (splits, ..) = cifar_with("test_batch.bin", cifar_file(file, 4));
        all.extend(samples(&splits.unwrap().test));
    }
    assert_parts(&splits, &all, 2);
    assert_eq!(cifar::load(dir.path(), &Faults::refused()).unwrap(), splits);
    assert_eq!((splits.val.classes(), splits.val.d_input(), splits.val.longest()), (10, Some(1), 1024));
}

#[test]
fn cifar_is_found_in_the_folder_of_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    write_cifar(&dir.path().join("cifar-10-batches-bin"));
    assert_eq!(cifar::load(dir.path(), &Faults::refused()).unwrap().test.labels(), [0, 1, 2, 3]);
}

#[test]
fn a_missing_cifar_file_is_named() {
    for name in ["data_batch_1.bin", "data_batch_5.bin", "test_batch.bin"] {
        let dir = tempfile::tempdir().unwrap();
        write_cifar(dir.path());
        fs::remove_file(dir.path().join(name)).unwrap();
        assert_missing(cifar::load(dir.path(), &Faults::refused()), &dir.path().join(name));
    }
}

#[test]
fn an_empty_cifar_file_is_refused() {
    let (result, path, _dir) = cifar_with("data_batch_3.bin", Vec::new());
    assert_binary(result, &path, 0, "empty");
}

#[test]
fn a_cut_cifar_record_is_refused() {
    let (result, path, _dir) = cifar_with("data_batch_2.bin", cifar_file(2, 4)[..3 * RECORD + 100].to_vec());
    assert_binary(result, &path, 3 * RECORD as u64 + 100, "record 3 (from 0) has 100 bytes of 3073");
}

#[test]
fn a_cifar_label_of_no_class_is_refused() {
    let mut bytes = cifar_file(0, 4);
    bytes[2 * RECORD] = 10;
    let (result, path, _dir) = cifar_with("test_batch.bin", bytes);
    assert_binary(result, &path, 2 * RECORD as u64, "the label of record 2 (from 0) is 10");
}

#[test]
fn bad_records_are_left_out_and_counted() {
    let mut bytes = cifar_file(0, 4);
    bytes[2 * RECORD] = 10;
    bytes.pop();
    let (_, _, dir) = cifar_with("test_batch.bin", bytes);
    let faults = Faults::skipped();
    assert_eq!(cifar::load(dir.path(), &faults).unwrap().test.labels(), [0, 1]);
    assert_eq!(faults.count(), 2);
    let (_, path, dir) = cifar_with("test_batch.bin", vec![255; 10]);
    assert_binary(cifar::load(dir.path(), &Faults::skipped()), &path, 0, "no record that can be read");
}

#[test]
fn other_versions_and_nested_folders() {
    let (_, path, dir) = cifar_with("test_batch.bin", [b"\x80\x04", &[0; RECORD][..]].concat());
    assert_binary(cifar::load(dir.path(), &Faults::refused()), &path, 0, "a Python pickle");
    let dir = tempfile::tempdir().unwrap();
    write_cifar(&dir.path().join("cifar-10-binary/cifar-10-batches-bin"));
    fs::create_dir(dir.path().join("test_batch.bin")).unwrap();
    assert_eq!(cifar::load(dir.path(), &Faults::refused()).unwrap().test.labels(), [0, 1, 2, 3]);
}

#[test]
fn a_picture_of_image_is_read_row_by_row() {
    let values = pushed(&Image, "quick", cifar::encoding(), &grey_png(32, |at| (at * 7) as u8));
    assert_eq!(values.len(), 1024);
    for (at, value) in values.into_iter().enumerate() {
        assert_eq!(level(value).round(), f64::from((at * 7) as u8));
    }
}
