//! MNIST, CIFAR-10, the small digits and PNG pictures: files of bytes that this file writes by hand, whole and broken.
#![cfg(feature = "data")]

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use pspikessm::data::{Dataset, Splits, cifar, digits, picture, psmnist};
use pspikessm::error::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

// ---- Writers and oracles ----

/// CRC-32 from its definition, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let divide = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| divide(crc)))
}

/// A deflate stream that compresses nothing.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let blocks: Vec<&[u8]> = bytes.chunks(0xffff).collect();
    for (at, block) in blocks.iter().enumerate() {
        let length = block.len() as u16;
        out.push(u8::from(at + 1 == blocks.len()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(*block);
    }
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    out.extend(stored(bytes));
    out.extend(crc32(bytes).to_le_bytes());
    out.extend((bytes.len() as u32).to_le_bytes());
    out
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let (a, b) = bytes.iter().fold((1, 0), |(a, b), &byte| ((a + u32::from(byte)) % 65521, (b + a + u32::from(byte)) % 65521));
    let mut out = vec![0x78, 0x01];
    out.extend(stored(bytes));
    out.extend((b << 16 | a).to_be_bytes());
    out
}

fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let body = [kind.as_slice(), content].concat();
    [(content.len() as u32).to_be_bytes().as_slice(), &body, &crc32(&body).to_be_bytes()].concat()
}

const GREY: u8 = 0;
const RGB: u8 = 2;
const PALETTE: u8 = 3;
const GREY_ALPHA: u8 = 4;
const RGBA: u8 = 6;

/// A PNG file of rows as they are stored, each after a filter byte of 0; `extra` are chunks before the pixels.
fn png(side: u32, depth: u8, kind: u8, interlaced: bool, extra: &[u8], rows: &[&[u8]]) -> Vec<u8> {
    let mut header = [side.to_be_bytes(), side.to_be_bytes()].concat();
    header.extend([depth, kind, 0, 0, u8::from(interlaced)]);
    let pixels: Vec<u8> = rows.iter().flat_map(|row| [&[0], *row].concat()).collect();
    let start: &[u8] = b"\x89PNG\r\n\x1a\n";
    [start, &chunk(b"IHDR", &header), extra, &chunk(b"IDAT", &zlib(&pixels)), &chunk(b"IEND", &[])].concat()
}

/// An IDX file of bytes.
fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|size| out.extend(size.to_be_bytes()));
    out.extend(bytes);
    out
}

/// The bit-reversed order by writing numbers down and reading them backwards.
fn oracle_permutation(len: usize) -> Vec<usize> {
    let digits = (0..).find(|&digits| 1usize << digits >= len).unwrap();
    let backwards = |number: usize| {
        let written: String = (0..digits).map(|digit| if number >> digit & 1 == 1 { '1' } else { '0' }).collect();
        usize::from_str_radix(&format!("0{written}"), 2).unwrap()
    };
    (0..1 << digits).map(backwards).filter(|&pixel| pixel < len).collect()
}

/// The values and the label of a sample.
fn sample(set: &Dataset, index: usize) -> (Vec<f32>, usize) {
    let batch = set.batch(&[index]).unwrap();
    (batch.values().unwrap().to_vec(), batch.labels[0])
}

fn samples(set: &Dataset) -> Vec<(Vec<f32>, usize)> {
    (0..set.len()).map(|index| sample(set, index)).collect()
}

/// Whether training and validation samples are `all`, each once, in order.
fn assert_parts(splits: &Splits, all: &[(Vec<f32>, usize)], held: usize) {
    assert_eq!((splits.train.len(), splits.val.len()), (all.len() - held, held));
    for part in [&splits.train, &splits.val] {
        let places: Vec<usize> = samples(part).iter().map(|sample| all.iter().position(|other| other == sample).unwrap()).collect();
        assert!(places.is_sorted(), "{places:?}");
    }
    let both = [samples(&splits.train), samples(&splits.val)].concat();
    assert!(all.iter().all(|sample| both.contains(sample)));
}

/// Whether `result` says that `path` is wrong at `offset`, in these words.
fn assert_binary<T: std::fmt::Debug>(result: Result<T>, path: &Path, offset: u64, words: &str) {
    match result {
        Err(Error::Binary { path: found, offset: at, help }) => {
            assert_eq!((found.as_path(), at), (path, offset), "{help}");
            assert!(help.contains(words), "{help}");
        }
        other => panic!("{other:?}"),
    }
}

/// Whether `result` says that there is no file `path`.
fn assert_missing<T: std::fmt::Debug>(result: Result<T>, path: &Path) {
    match result {
        Err(Error::Value { help, .. }) => assert!(help.contains(&format!("there is no file {}", path.display())), "{help}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_broken_binary_file_is_named_with_the_byte() {
    assert_eq!(Error::binary("a/b.png", 12, "cut").to_string(), "a/b.png: byte 12: cut");
}

// ---- psMNIST ----

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
    (psmnist::load(dir.path()), path, dir)
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
    let splits = psmnist::load(dir.path()).unwrap();
    assert_eq!(samples(&splits.test), mnist_oracle(3));
    assert_parts(&splits, &mnist_oracle(TRAIN), 2);
    assert_eq!((splits.train.classes(), splits.train.d_input(), splits.train.longest()), (10, Some(1), 784));
    assert_eq!(psmnist::load(dir.path()).unwrap(), splits);
}

#[test]
fn packed_mnist_is_the_same() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    write_mnist(dirs[0].path(), plain);
    write_mnist(dirs[1].path(), packed);
    assert_eq!(psmnist::load(dirs[0].path()).unwrap(), psmnist::load(dirs[1].path()).unwrap());
}

#[test]
fn an_unpacked_file_goes_before_a_packed_one() {
    let dir = tempfile::tempdir().unwrap();
    write_mnist(dir.path(), plain);
    fs::write(dir.path().join(format!("{IMAGES}.gz")), b"nonsense").unwrap();
    assert_eq!(samples(&psmnist::load(dir.path()).unwrap().test), mnist_oracle(3));
}

#[test]
fn mnist_is_found_in_the_folders_of_others() {
    for folder in ["mnist", "MNIST/raw"] {
        let dir = tempfile::tempdir().unwrap();
        write_mnist(&dir.path().join(folder), packed);
        assert_eq!(samples(&psmnist::load(dir.path()).unwrap().test), mnist_oracle(3), "{folder}");
    }
}

#[test]
fn a_missing_mnist_file_is_named() {
    for name in [IMAGES, LABELS, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"] {
        let dir = tempfile::tempdir().unwrap();
        write_mnist(dir.path(), plain);
        fs::remove_file(dir.path().join(name)).unwrap();
        assert_missing(psmnist::load(dir.path()), &dir.path().join(name));
    }
}

#[test]
fn a_single_picture_cannot_be_divided() {
    let (_, path, dir) = mnist_with(IMAGES, mnist_images(1));
    fs::write(path.with_file_name(LABELS), mnist_labels(1)).unwrap();
    assert!(matches!(psmnist::load(dir.path()), Err(Error::Config { .. })));
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
    assert_binary(result, &path, 0, "starts with 0x00000801: an IDX file of pictures starts with 0x00000803");
}

#[test]
fn pictures_in_place_of_labels_are_refused() {
    let (result, path, _dir) = mnist_with(LABELS, mnist_images(TRAIN));
    assert_binary(result, &path, 0, "an IDX file of labels starts with 0x00000801");
}

#[test]
fn a_packed_file_without_gz_is_refused() {
    let (result, path, _dir) = mnist_with(IMAGES, gzip(&mnist_images(TRAIN)));
    assert_binary(result, &path, 0, "starts with 0x1f8b0800");
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
fn an_unpacked_file_called_gz_is_refused() {
    let (result, path, _dir) = mnist_with(&format!("{LABELS}.gz"), mnist_labels(TRAIN));
    assert_binary(result, &path, 0, "cannot be unpacked");
}

// ---- CIFAR-10 ----

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
    (cifar::load(dir.path()), path, dir)
}

/// A grey level back from a value.
fn level(value: f32) -> f64 {
    f64::from(value) * 61.0 + 122.6
}

#[test]
fn cifar_is_read_as_standardised_grey_row_by_row() {
    let dir = tempfile::tempdir().unwrap();
    write_cifar(dir.path());
    let splits = cifar::load(dir.path()).unwrap();
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
    let splits = cifar::load(dir.path()).unwrap();
    // All pictures in order: each file in turn as the one to test with.
    let mut all = Vec::new();
    for file in 1..=5 {
        let (splits, ..) = cifar_with("test_batch.bin", cifar_file(file, 4));
        all.extend(samples(&splits.unwrap().test));
    }
    assert_parts(&splits, &all, 2);
    assert_eq!(cifar::load(dir.path()).unwrap(), splits);
    assert_eq!((splits.val.classes(), splits.val.d_input(), splits.val.longest()), (10, Some(1), 1024));
}

#[test]
fn cifar_is_found_in_the_folder_of_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    write_cifar(&dir.path().join("cifar-10-batches-bin"));
    assert_eq!(cifar::load(dir.path()).unwrap().test.labels(), [0, 1, 2, 3]);
}

#[test]
fn a_missing_cifar_file_is_named() {
    for name in ["data_batch_1.bin", "data_batch_5.bin", "test_batch.bin"] {
        let dir = tempfile::tempdir().unwrap();
        write_cifar(dir.path());
        fs::remove_file(dir.path().join(name)).unwrap();
        assert_missing(cifar::load(dir.path()), &dir.path().join(name));
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

// ---- The small digits ----

/// The pixels of row `number`.
fn digit_pixels(number: usize) -> Vec<u8> {
    (0..64).map(|at| ((at * 5 + number * 3) % 17) as u8).collect()
}

fn digit_row(number: usize) -> String {
    let pixels: Vec<String> = digit_pixels(number).iter().map(u8::to_string).collect();
    format!("{},{}", number % 10, pixels.join(","))
}

/// What comes of a table `train` and two digits to test with, with the path of the table.
fn digits_with(train: &str) -> (Result<Splits>, PathBuf, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("train.csv"), train).unwrap();
    fs::write(dir.path().join("test.csv"), format!("{}\n{}\n", digit_row(7), digit_row(8))).unwrap();
    (digits::load(dir.path()), dir.path().join("train.csv"), dir)
}

/// Whether the text is refused at this line and column, in these words.
fn assert_row_refused(train: &str, line: usize, column: usize, words: &str) {
    let (result, path, _dir) = digits_with(train);
    match result {
        Err(Error::Data { path: found, line: row, column: at, help }) => {
            assert_eq!((found, row, at), (path, line, column), "{help}");
            assert!(help.contains(words), "{help}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn digits_are_read_permuted_from_0_to_1() {
    let (splits, ..) = digits_with(&format!("{}\n{}\n{}\n", digit_row(0), digit_row(1), digit_row(2)));
    let splits = splits.unwrap();
    let order = oracle_permutation(64);
    for (number, (values, label)) in samples(&splits.train).into_iter().enumerate() {
        let pixels = digit_pixels(number);
        assert_eq!(values, order.iter().map(|&at| f32::from(pixels[at]) / 16.0).collect::<Vec<_>>());
        assert_eq!(label, number);
    }
    assert_eq!((splits.train.len(), splits.test.labels()), (3, [7, 8].as_slice()));
    assert_eq!(splits.val, splits.test);
}

#[test]
fn line_ends_and_blanks_do_not_matter() {
    let (wanted, ..) = digits_with(&format!("{}\n{}\n", digit_row(0), digit_row(1)));
    let (found, ..) = digits_with(&format!("{}\r\n{}", digit_row(0).replace(',', ", "), digit_row(1)));
    assert_eq!(found.unwrap(), wanted.unwrap());
}

#[test]
fn a_missing_table_is_named() {
    for name in ["train.csv", "test.csv"] {
        let (.., dir) = digits_with(&digit_row(0));
        fs::remove_file(dir.path().join(name)).unwrap();
        assert_missing(digits::load(dir.path()), &dir.path().join(name));
    }
}

#[test]
fn an_empty_table_is_refused() {
    assert_row_refused("", 1, 1, "the file is empty");
}

#[test]
fn an_empty_row_is_refused() {
    assert_row_refused(&format!("{}\n\n{}", digit_row(0), digit_row(1)), 2, 1, "\"\" is no whole number from 0 to 9");
}

#[test]
fn a_header_is_refused() {
    assert_row_refused(&format!("label,pixels\n{}", digit_row(0)), 1, 1, "\"label\" is no whole number from 0 to 9");
}

#[test]
fn a_label_above_9_is_refused() {
    assert_row_refused(&format!("{}\n1{}", digit_row(1), digit_row(0)), 2, 1, "\"10\" is no whole number from 0 to 9");
}

#[test]
fn a_pixel_above_16_is_refused() {
    // 0,0,5,10,.. becomes 0,0,5,17,..
    assert_row_refused(&digit_row(0).replacen(",10,", ",17,", 1), 1, 7, "\"17\" is no whole number from 0 to 16");
}

#[test]
fn a_pixel_that_is_no_number_is_refused() {
    assert_row_refused(&digit_row(0).replacen(",10,", ",ten,", 1), 1, 7, "\"ten\" is no whole number from 0 to 16");
}

#[test]
fn a_row_that_is_cut_is_refused() {
    let row = digit_row(0);
    let cut = &row[..row.rfind(',').unwrap()];
    assert_row_refused(&format!("{row}\n{cut}\n"), 2, cut.len() + 1, "there are 64 numbers, not 65");
}

#[test]
fn a_row_that_is_too_long_is_refused() {
    let row = digit_row(0);
    assert_row_refused(&format!("{row},3,4"), 1, row.len() + 2, "more than 65 numbers");
}

// ---- PNG ----

/// What comes of a file of these bytes.
fn picture_of(bytes: &[u8], side: usize) -> (Result<Vec<u8>>, PathBuf, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("picture.png");
    fs::write(&path, bytes).unwrap();
    (picture::read_grey(&path, side), path, dir)
}

#[track_caller]
fn assert_pixels(bytes: &[u8], side: usize, wanted: &[u8]) {
    assert_eq!(picture_of(bytes, side).0.unwrap(), wanted);
}

fn small_png() -> Vec<u8> {
    png(2, 8, GREY, false, &[], &[&[1, 2], &[3, 255]])
}

#[test]
fn eight_bits_are_read_row_by_row() {
    assert_pixels(&small_png(), 2, &[1, 2, 3, 255]);
}

#[test]
fn fewer_bits_are_spread_over_the_range() {
    assert_pixels(&png(2, 1, GREY, false, &[], &[&[0b0100_0000], &[0b1000_0000]]), 2, &[0, 255, 255, 0]);
    assert_pixels(&png(2, 2, GREY, false, &[], &[&[0b0001_0000], &[0b1011_0000]]), 2, &[0, 85, 170, 255]);
    assert_pixels(&png(2, 4, GREY, false, &[], &[&[0x1f], &[0x80]]), 2, &[17, 255, 136, 0]);
}

#[test]
fn the_upper_eight_of_sixteen_bits_count() {
    assert_pixels(&png(2, 16, GREY, false, &[], &[&[1, 255, 2, 0], &[3, 7, 255, 255]]), 2, &[1, 2, 3, 255]);
}

#[test]
fn colours_become_grey() {
    let rows: [&[u8]; 2] = [&[255, 0, 0, 0, 255, 0], &[0, 0, 255, 12, 200, 99]];
    assert_pixels(&png(2, 8, RGB, false, &[], &rows), 2, &[76, 150, 29, 132]);
}

#[test]
fn transparency_is_ignored() {
    let rows: [&[u8]; 2] = [&[255, 0, 0, 0, 0, 255, 0, 9], &[0, 0, 255, 99, 12, 200, 99, 255]];
    assert_pixels(&png(2, 8, RGBA, false, &[], &rows), 2, &[76, 150, 29, 132]);
    assert_pixels(&png(2, 8, GREY_ALPHA, false, &[], &[&[1, 0, 2, 9], &[3, 99, 4, 255]]), 2, &[1, 2, 3, 4]);
    // The colour 2 is transparent.
    let extra = chunk(b"tRNS", &[0, 2]);
    assert_pixels(&png(2, 8, GREY, false, &extra, &[&[1, 2], &[3, 4]]), 2, &[1, 2, 3, 4]);
}

#[test]
fn a_palette_is_looked_up() {
    let mut extra = chunk(b"PLTE", &[255, 0, 0, 0, 255, 0, 0, 0, 255, 12, 200, 99]);
    let two_bits: [&[u8]; 2] = [&[0b0001_0000], &[0b1011_0000]];
    assert_pixels(&png(2, 2, PALETTE, false, &extra, &two_bits), 2, &[76, 150, 29, 132]);
    extra.extend(chunk(b"tRNS", &[0]));
    assert_pixels(&png(2, 8, PALETTE, false, &extra, &[&[0, 1], &[2, 3]]), 2, &[76, 150, 29, 132]);
}

#[test]
fn an_interlaced_picture_is_read() {
    // Of the seven passes over 2 x 2 pixels only the first and the last two have any.
    assert_pixels(&png(2, 8, GREY, true, &[], &[&[1], &[2], &[3, 4]]), 2, &[1, 2, 3, 4]);
}

#[test]
fn a_picture_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.png");
    assert!(matches!(picture::read_grey(&path, 2), Err(Error::Io { path: found, .. }) if found == path));
}

#[test]
fn an_empty_picture_is_refused() {
    let (result, path, _dir) = picture_of(&[], 2);
    assert_binary(result, &path, 0, "the file is empty");
}

#[test]
fn a_file_of_something_else_is_refused() {
    let (result, path, _dir) = picture_of(b"GIF89a, or so it says", 2);
    assert_binary(result, &path, 0, "this is no whole PNG file");
}

#[test]
fn a_picture_of_another_size_is_refused() {
    let (result, path, _dir) = picture_of(&small_png(), 3);
    assert_binary(result, &path, 8 + 25, "the picture has 2 x 2 pixels: it must have 3 x 3");
}

#[test]
fn a_header_that_promises_a_giant_picture_costs_no_memory() {
    let (result, path, _dir) = picture_of(&png(0x7fff_ffff, 8, GREY, false, &[], &[&[1, 2]]), 2);
    assert_binary(result, &path, 8 + 25, "2147483647 x 2147483647");
}

#[test]
fn a_picture_is_refused_wherever_it_was_cut() {
    let bytes = small_png();
    for length in 1..bytes.len() {
        let (result, path, _dir) = picture_of(&bytes[..length], 2);
        assert_binary(result, &path, length as u64, "this is no whole PNG file");
    }
}

#[test]
fn a_changed_pixel_is_refused() {
    let mut bytes = small_png();
    // Before it: the signature, the header's chunk, the head of the pixels' chunk, that of the stream and of its block, the filter.
    bytes[8 + 25 + 8 + 2 + 5 + 1] ^= 1;
    let (result, path, _dir) = picture_of(&bytes, 2);
    match result {
        Err(Error::Binary { path: found, help, .. }) => {
            assert_eq!(found, path);
            assert!(help.contains("CRC"), "{help}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_picture_with_too_few_rows_is_refused() {
    let (result, path, _dir) = picture_of(&png(2, 8, GREY, false, &[], &[&[1, 2]]), 2);
    match result {
        Err(Error::Binary { path: found, .. }) => assert_eq!(found, path),
        other => panic!("{other:?}"),
    }
}

// ---- Predictions ----

#[cfg(feature = "train")]
mod predictions {
    use super::*;
    use pspikessm::data::Encoding;
    use pspikessm::train::tasks::{Image, PsMnist, Task};

    /// A grey picture of which pixel `at` is `pixel(at)`.
    fn grey_png(side: usize, pixel: impl Fn(usize) -> u8) -> Vec<u8> {
        let rows: Vec<Vec<u8>> = (0..side).map(|row| (0..side).map(|column| pixel(row * side + column)).collect()).collect();
        png(side as u32, 8, GREY, false, &[], &rows.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// What a task makes of a picture.
    fn pushed(task: &dyn Task, preset: &str, encoding: Encoding, bytes: &[u8]) -> Vec<f32> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("picture.png");
        fs::write(&path, bytes).unwrap();
        let mut set = Dataset::new(encoding, 10).unwrap();
        task.push(&task.recipe(Some(preset)).unwrap(), path.to_str().unwrap(), &mut set).unwrap();
        sample(&set, 0).0
    }

    #[test]
    fn a_picture_of_image_is_read_row_by_row() {
        let values = pushed(&Image, "quick", cifar::encoding(), &grey_png(32, |at| (at * 7) as u8));
        assert_eq!(values.len(), 1024);
        for (at, value) in values.into_iter().enumerate() {
            assert_eq!(level(value).round(), f64::from((at * 7) as u8));
        }
    }

    #[test]
    fn a_picture_of_mnist_is_permuted_as_in_the_set() {
        let values = pushed(&PsMnist, "quick", psmnist::encoding(), &grey_png(28, |at| mnist_pixel(2, at)));
        assert_eq!(values, mnist_oracle(3)[2].0);
    }

    #[test]
    fn the_levels_of_a_digit_come_back_from_its_picture() {
        let pixels = digit_pixels(3);
        let values =
            pushed(&PsMnist, "digits", digits::encoding(), &grey_png(8, |at| (f64::from(pixels[at]) / 16.0 * 255.0).round() as u8));
        let order = oracle_permutation(64);
        assert_eq!(values, order.iter().map(|&at| f32::from(pixels[at]) / 16.0).collect::<Vec<_>>());
    }
}
