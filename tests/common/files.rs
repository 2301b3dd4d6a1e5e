//! Files of bytes written by hand, and what their readers are held to.

#![allow(dead_code, reason = "every test file uses its own part")]

use std::fmt::Debug;
use std::fs;
use std::path::Path;

use pspikessm::data::{Dataset, Splits};
use pspikessm::error::{Error, Result};
use pspikessm::train::Task;
use tempfile::TempDir;

/// CRC-32 from its definition, bit by bit.
pub fn crc32(bytes: &[u8]) -> u32 {
    let divide = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| divide(crc)))
}

/// A deflate stream that compresses nothing.
pub fn stored(bytes: &[u8]) -> Vec<u8> {
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

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    out.extend(stored(bytes));
    out.extend(crc32(bytes).to_le_bytes());
    out.extend((bytes.len() as u32).to_le_bytes());
    out
}

pub fn zlib(bytes: &[u8]) -> Vec<u8> {
    let (a, b) = bytes.iter().fold((1, 0), |(a, b), &byte| ((a + u32::from(byte)) % 65521, (b + a + u32::from(byte)) % 65521));
    let mut out = vec![0x78, 0x01];
    out.extend(stored(bytes));
    out.extend((b << 16 | a).to_be_bytes());
    out
}

pub fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let body = [kind.as_slice(), content].concat();
    [(content.len() as u32).to_be_bytes().as_slice(), &body, &crc32(&body).to_be_bytes()].concat()
}

pub const GREY: u8 = 0;
pub const RGB: u8 = 2;
pub const PALETTE: u8 = 3;
pub const GREY_ALPHA: u8 = 4;
pub const RGBA: u8 = 6;

/// A PNG file of rows as they are stored, each after a filter byte of 0; `extra` are chunks before the pixels.
pub fn png(side: u32, depth: u8, kind: u8, interlaced: bool, extra: &[u8], rows: &[&[u8]]) -> Vec<u8> {
    let mut header = [side.to_be_bytes(), side.to_be_bytes()].concat();
    header.extend([depth, kind, 0, 0, u8::from(interlaced)]);
    let pixels: Vec<u8> = rows.iter().flat_map(|row| [&[0], *row].concat()).collect();
    let start: &[u8] = b"\x89PNG\r\n\x1a\n";
    [start, &chunk(b"IHDR", &header), extra, &chunk(b"IDAT", &zlib(&pixels)), &chunk(b"IEND", &[])].concat()
}

/// An IDX file of bytes.
pub fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|size| out.extend(size.to_be_bytes()));
    out.extend(bytes);
    out
}

/// The bit-reversed order by writing numbers down and reading them backwards.
pub fn oracle_permutation(len: usize) -> Vec<usize> {
    let digits = (0..).find(|&digits| 1usize << digits >= len).unwrap();
    let backwards = |number: usize| {
        let written: String = (0..digits).map(|digit| if number >> digit & 1 == 1 { '1' } else { '0' }).collect();
        usize::from_str_radix(&format!("0{written}"), 2).unwrap()
    };
    (0..1 << digits).map(backwards).filter(|&pixel| pixel < len).collect()
}

/// The values and the label of a sample.
pub fn sample(set: &Dataset, index: usize) -> (Vec<f32>, usize) {
    let batch = set.batch(&[index]).unwrap();
    (batch.values().unwrap().to_vec(), batch.labels[0])
}

pub fn samples(set: &Dataset) -> Vec<(Vec<f32>, usize)> {
    (0..set.len()).map(|index| sample(set, index)).collect()
}

/// Whether training and validation samples are `all`, each once, in order.
pub fn assert_parts(splits: &Splits, all: &[(Vec<f32>, usize)], held: usize) {
    assert_eq!((splits.train.len(), splits.val.len()), (all.len() - held, held));
    for part in [&splits.train, &splits.val] {
        let places: Vec<usize> = samples(part).iter().map(|sample| all.iter().position(|other| other == sample).unwrap()).collect();
        assert!(places.is_sorted(), "{places:?}");
    }
    let both = [samples(&splits.train), samples(&splits.val)].concat();
    assert!(all.iter().all(|sample| both.contains(sample)));
}

/// Whether `result` says that `path` is wrong at `offset`, in these words.
pub fn assert_binary<T: Debug>(result: Result<T>, path: &Path, offset: u64, words: &str) {
    match result {
        Err(Error::Binary { path: found, offset: at, help }) => {
            assert_eq!((found.as_path(), at), (path, offset), "{help}");
            assert!(help.contains(words), "{help}");
        }
        other => panic!("{other:?}"),
    }
}

/// Whether `result` says that there is no file `path`.
pub fn assert_missing<T: Debug>(result: Result<T>, path: &Path) {
    match result {
        Err(Error::Value { help, .. }) => assert!(help.contains(&format!("there is no file {}", path.display())), "{help}"),
        other => panic!("{other:?}"),
    }
}

/// A grey picture of which pixel `at` is `pixel(at)`.
pub fn grey_png(side: usize, pixel: impl Fn(usize) -> u8) -> Vec<u8> {
    let rows: Vec<Vec<u8>> = (0..side).map(|row| (0..side).map(|column| pixel(row * side + column)).collect()).collect();
    png(side as u32, 8, GREY, false, &[], &rows.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// What a task makes of a picture.
pub fn pushed(task: &dyn Task, preset: &str, encoding: pspikessm::data::Encoding, bytes: &[u8]) -> Vec<f32> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("picture.png");
    fs::write(&path, bytes).unwrap();
    let mut set = Dataset::new(encoding, 10).unwrap();
    task.push(&task.recipe(Some(preset)).unwrap(), pspikessm::train::Sample::Given(&path), &mut set).unwrap();
    sample(&set, 0).0
}

/// A folder with these files.
pub fn folder<N: AsRef<Path>, T: AsRef<[u8]>>(files: &[(N, T)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}
