//! psMNIST: IDX files, packed and not, whole and broken, in bit-reversed order.

use std::fs;
use std::path::{Path, PathBuf};

use crate::files::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use pspikessm::data::{Faults, Splits, psmnist};
use pspikessm::error::{Error, Result};
use pspikessm::train::tasks::PsMnist;
use tempfile::TempDir;

const IMAGES: &str = "train-images-idx3-ubyte";
const LABELS: &str = "train-labels-idx1-ubyte";
const TRAIN: usize = 20;

/// Pixel `at` of picture `number`.
fn mnist_pixel(number: usize, at: usize) -> u8 {
    (number * 31 + at * 7 + at / 28) as u8
}

fn mnist_images(count: usize) -> Vec<u8> {
    let pixels: Vec<u8> = (0..count).flat_map(|number| (0..784).map(move |at| mnist_pixel(number, at))).collect();
    idx(&[count as u32, 28, 28], &pixels)
}

fn mnist_labels(count: usize) -> Vec<u8> {
    idx(&[count as u32], &(0..count).map(|number| (number % 10) as u8).collect::<Vec<_>>())
}

/// 20 pictures to train with and 3 to test with, in `dir`; `pack` makes file names and contents.
fn write_mnist(dir: &Path, pack: impl Fn(&str, Vec<u8>) -> (String, Vec<u8>)) {
    fs::create_dir_all(dir).unwrap();
    for (name, bytes) in [
        (IMAGES, mnist_images(TRAIN)),
        (LABELS, mnist_labels(TRAIN)),
        ("t10k-images-idx3-ubyte", mnist_images(3)),
        ("t10k-labels-idx1-ubyte", mnist_labels(3)),
    ] {
        let (name, bytes) = pack(name, bytes);
        fs::write(dir.join(name), bytes).unwrap();
    }
}

fn plain(name: &str, bytes: Vec<u8>) -> (String, Vec<u8>) {
    (name.into(), bytes)
}

fn packed(name: &str, bytes: Vec<u8>) -> (String, Vec<u8>) {
    (format!("{name}.gz"), gzip(&bytes))
}

/// What comes of a set in which the file `name` holds `bytes`, with the path of that file.
fn mnist_with(name: &str, bytes: Vec<u8>) -> (Result<Splits>, PathBuf, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    write_mnist(dir.path(), plain);
    let path = dir.path().join(name);
    fs::remove_file(dir.path().join(name.trim_end_matches(".gz"))).unwrap();
    fs::write(&path, bytes).unwrap();
    (psmnist::load(dir.path(), &Faults::refused()), path, dir)
}

fn mnist_oracle(count: usize) -> Vec<(Vec<f32>, usize)> {
    let order = oracle_permutation(784);
    let values = |number| order.iter().map(|&at| f32::from(mnist_pixel(number, at)) / 255.0).collect();
    (0..count).map(|number| (values(number), number % 10)).collect()
}

#[test]
fn the_permutation_reverses_bits() {
    assert_eq!(psmnist::permutation(8), [0, 4, 2, 6, 1, 5, 3, 7]);
    // 896, the eighth, is no pixel.
    assert_eq!(psmnist::permutation(784)[..8], [0, 512, 256, 768, 128, 640, 384, 64]);
    assert_eq!(psmnist::permutation(784), oracle_permutation(784));
    assert_eq!(psmnist::permutation(1), [0]);
    assert_eq!(psmnist::permutation(0), [0usize; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_permutation_has_every_pixel_once(len in 1usize..2000) {
        let mut order = psmnist::permutation(len);
        prop_assert_eq!(&order, &oracle_permutation(len));
        order.sort_unstable();
        prop_assert!(order.into_iter().eq(0..len));
    }
}

#[test]
fn mnist_is_read_permuted_from_0_to_1_and_a_tenth_is_held_out() {
    let dir = tempfile::tempdir().unwrap();
    write_mnist(dir.path(), plain);
    let splits = psmnist::load(dir.path(), &Faults::refused()).unwrap();
    assert_eq!(samples(&splits.test), mnist_oracle(3));
    assert_parts(&splits, &mnist_oracle(TRAIN), 2);
    assert_eq!((splits.train.classes(), splits.train.d_input(), splits.train.longest()), (10, Some(1), 784));
    assert_eq!(psmnist::load(dir.path(), &Faults::refused()).unwrap(), splits);
}

#[test]
fn packed_mnist_is_the_same() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    write_mnist(dirs[0].path(), plain);
    write_mnist(dirs[1].path(), packed);
    assert_eq!(psmnist::load(dirs[0].path(), &Faults::refused()).unwrap(), psmnist::load(dirs[1].path(), &Faults::refused()).unwrap());
}

#[test]
fn an_unpacked_file_goes_before_a_packed_one() {
    let dir = tempfile::tempdir().unwrap();
    write_mnist(dir.path(), plain);
    fs::write(dir.path().join(format!("{IMAGES}.gz")), b"nonsense").unwrap();
    assert_eq!(samples(&psmnist::load(dir.path(), &Faults::refused()).unwrap().test), mnist_oracle(3));
}

#[test]
fn mnist_is_found_in_the_folders_of_others() {
    for folder in ["mnist", "MNIST/raw"] {
        let dir = tempfile::tempdir().unwrap();
        write_mnist(&dir.path().join(folder), packed);
        assert_eq!(samples(&psmnist::load(dir.path(), &Faults::refused()).unwrap().test), mnist_oracle(3), "{folder}");
    }
}

#[test]
fn a_missing_mnist_file_is_named() {
    for name in [IMAGES, LABELS, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"] {
        let dir = tempfile::tempdir().unwrap();
        write_mnist(dir.path(), plain);
        fs::remove_file(dir.path().join(name)).unwrap();
        assert_missing(psmnist::load(dir.path(), &Faults::refused()), &dir.path().join(name));
    }
}

#[test]
fn a_single_picture_cannot_be_divided() {
    let (_, path, dir) = mnist_with(IMAGES, mnist_images(1));
    fs::write(path.with_file_name(LABELS), mnist_labels(1)).unwrap();
    assert!(matches!(psmnist::load(dir.path(), &Faults::refused()), Err(Error::Config { .. })));
}

#[test]
fn cut_pictures_are_refused() {
    let mut bytes = mnist_images(TRAIN);
    bytes.pop();
    let (result, path, _dir) = mnist_with(IMAGES, bytes);
    assert_binary(result, &path, 16 + 20 * 784 - 1, "not at byte 15696");
}

#[test]
fn a_cut_header_is_refused() {
    let (result, path, _dir) = mnist_with(IMAGES, mnist_images(TRAIN)[..15].to_vec());
    assert_binary(result, &path, 15, "not at byte 16");
}

#[test]
fn an_empty_idx_file_is_refused() {
    let (result, path, _dir) = mnist_with(LABELS, Vec::new());
    assert_binary(result, &path, 0, "not at byte 8");
}

#[test]
fn a_header_that_promises_terabytes_costs_no_memory() {
    let (result, path, _dir) = mnist_with(IMAGES, idx(&[u32::MAX, 28, 28], &[0; 784]));
    assert_binary(result, &path, 16 + 784, "the file ends here");
}

#[test]
fn cut_labels_are_refused() {
    let mut bytes = mnist_labels(TRAIN);
    bytes.pop();
    let (result, path, _dir) = mnist_with(LABELS, bytes);
    assert_binary(result, &path, 8 + 19, "not at byte 28");
}

#[test]
fn bytes_behind_the_last_picture_are_refused() {
    let mut bytes = mnist_images(TRAIN);
    bytes.extend([0, 0]);
    let (result, path, _dir) = mnist_with(IMAGES, bytes);
    assert_binary(result, &path, 16 + 20 * 784, "goes on here");
}

#[test]
fn bytes_behind_the_last_label_are_refused() {
    let mut bytes = mnist_labels(TRAIN);
    bytes.push(0);
    let (result, path, _dir) = mnist_with(LABELS, bytes);
    assert_binary(result, &path, 8 + 20, "goes on here");
}

#[test]
fn labels_in_place_of_pictures_are_refused() {
    // Long enough for the header of pictures.
    let (result, path, _dir) = mnist_with(IMAGES, mnist_labels(TRAIN));
    assert_binary(
        result,
        &path,
        0,
        "starts with 0x00000801, it is an IDX file of bytes with 1 axes: an IDX file of pictures starts with 0x00000803",
    );
}

#[test]
fn pictures_in_place_of_labels_are_refused() {
    let (result, path, _dir) = mnist_with(LABELS, mnist_images(TRAIN));
    assert_binary(result, &path, 0, "an IDX file of labels starts with 0x00000801");
}

#[test]
fn content_not_ending_says_whether_a_file_is_packed() {
    for (name, pack) in [(IMAGES.to_string(), true), (format!("{IMAGES}.gz"), false)] {
        let bytes = mnist_images(TRAIN);
        let (result, ..) = mnist_with(&name, if pack { gzip(&bytes) } else { bytes });
        assert_eq!(samples(&result.unwrap().test), mnist_oracle(3), "{name}");
    }
    // Members one after another are one file.
    let (front, back) = (mnist_images(TRAIN)[..5000].to_vec(), mnist_images(TRAIN)[5000..].to_vec());
    let (result, ..) = mnist_with(IMAGES, [gzip(&front), gzip(&back)].concat());
    assert_eq!(samples(&result.unwrap().test), mnist_oracle(3));
}

#[test]
fn near_names_are_found_and_hidden_files_are_not() {
    for near in ["train-images.idx3-ubyte", "Train-Images-IDX3-ubyte", "train_images-idx3-ubyte.gz"] {
        let (result, ..) = mnist_with(IMAGES, mnist_images(TRAIN));
        let wanted = result.unwrap();
        let dir = tempfile::tempdir().unwrap();
        write_mnist(&dir.path().join("mnist"), plain);
        let path = dir.path().join("mnist").join(near);
        fs::rename(dir.path().join("mnist").join(IMAGES), &path).unwrap();
        fs::write(dir.path().join("mnist/._train-images.idx3-ubyte"), b"notes of a system").unwrap();
        // A folder of the name, as one archive has it.
        fs::create_dir(dir.path().join("mnist").join(IMAGES)).unwrap();
        assert_eq!(psmnist::load(dir.path(), &Faults::refused()).unwrap(), wanted, "{near}");
    }
}

#[test]
fn a_label_of_no_digit_is_left_out_and_counted() {
    let mut bytes = mnist_labels(TRAIN);
    bytes[8 + 5] = 10;
    let (_, _, dir) = mnist_with(LABELS, bytes);
    let faults = Faults::skipped();
    let splits = psmnist::load(dir.path(), &faults).unwrap();
    assert_eq!((splits.train.len() + splits.val.len(), splits.test.len(), faults.count()), (TRAIN - 1, 3, 1));
    assert!(faults.reports(1)[0].contains("label 5 (from 0) is 10"), "{:?}", faults.reports(1));
}

#[test]
fn other_files_are_named() {
    let cases: [(&[u8], &str); 4] = [
        (&[0, 0, 0x0d, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28], "floating point"),
        (&[0, 0, 0x0b, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28], "integers of 16 bits"),
        (b"PK\x03\x04 and what a zip archive goes on with", "a zip archive"),
        (b"and what stands in no file of any kind", "no IDX file"),
    ];
    for (bytes, says) in cases {
        let (result, path, _dir) = mnist_with(IMAGES, bytes.into());
        assert_binary(result, &path, 0, says);
    }
}

#[test]
fn no_picture_is_refused() {
    let (result, path, _dir) = mnist_with(IMAGES, mnist_images(0));
    assert_binary(result, &path, 4, "no picture");
}

#[test]
fn no_label_is_refused() {
    let (result, path, _dir) = mnist_with(LABELS, mnist_labels(0));
    assert_binary(result, &path, 4, "no label");
}

#[test]
fn fewer_labels_than_pictures_are_refused() {
    let (result, path, _dir) = mnist_with(LABELS, mnist_labels(TRAIN - 1));
    assert_binary(result, &path, 4, "there are 19 labels, but 20 pictures in ");
}

#[test]
fn a_label_of_no_digit_is_refused() {
    let mut bytes = mnist_labels(TRAIN);
    bytes[8 + 5] = 10;
    let (result, path, _dir) = mnist_with(LABELS, bytes);
    assert_binary(result, &path, 8 + 5, "label 5 (from 0) is 10");
}

#[test]
fn pictures_of_another_height_are_refused() {
    let (result, path, _dir) = mnist_with(IMAGES, idx(&[20, 27, 28], &[0; 20 * 27 * 28]));
    assert_binary(result, &path, 8, "27 x 28 pixels: they must have 28 x 28");
}

#[test]
fn pictures_of_another_width_are_refused() {
    let (result, path, _dir) = mnist_with(IMAGES, idx(&[20, 28, 29], &[0; 20 * 28 * 29]));
    assert_binary(result, &path, 12, "28 x 29 pixels: they must have 28 x 28");
}

#[test]
fn a_packed_file_that_was_cut_is_refused() {
    let bytes = gzip(&mnist_images(TRAIN));
    // 10 bytes of header, 5 of the block's, then the content.
    let (result, path, _dir) = mnist_with(&format!("{IMAGES}.gz"), bytes[..10 + 5 + 1000].to_vec());
    assert_binary(result, &path, 1000, "cannot be unpacked");
}

#[test]
fn a_packed_file_that_was_changed_is_refused() {
    let mut bytes = gzip(&mnist_images(TRAIN));
    bytes[10 + 5 + 1000] ^= 1;
    let (result, path, _dir) = mnist_with(&format!("{IMAGES}.gz"), bytes);
    assert_binary(result, &path, 16 + 20 * 784, "cannot be unpacked");
}

#[test]
fn bytes_behind_a_packed_file_are_refused() {
    let mut bytes = gzip(&mnist_labels(TRAIN));
    bytes.extend(b"nonsense and more");
    let (result, path, _dir) = mnist_with(&format!("{LABELS}.gz"), bytes);
    assert_binary(result, &path, 8 + 20, "cannot be unpacked");
}

#[test]
fn a_picture_of_mnist_is_permuted_as_in_the_set() {
    let values = pushed(&PsMnist, "quick", psmnist::encoding(), &grey_png(28, |at| mnist_pixel(2, at)));
    assert_eq!(values, mnist_oracle(3)[2].0);
}
