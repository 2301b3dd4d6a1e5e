//! CIFAR-10 in grey, a picture of 32 x 32 pixels as a sequence of 1,024: the Image task of the Long Range Arena.

use super::archive::{Archive, Checksum, Content, MIB, Selection, Set, Size, owned};
use super::luma::luma;
use super::{Dataset, Encoding, Splits, hold_out};
use crate::error::{Error, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Time steps of a sample: the pixels, row by row.
pub const LENGTH: usize = 32 * 32;

/// The number of classes.
pub const CLASSES: usize = 10;

/// The folder in the official archive.
const FOLDER: &str = "cifar-10-batches-bin";
const TRAIN: [&str; 5] = ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
const TEST: &str = "test_batch.bin";

/// A record: the label, then the red, the green and the blue pixels.
const RECORD: usize = 1 + 3 * LENGTH;

/// The seed by which the validation pictures are chosen, whatever the seed of a run.
const HOLD_OUT_SEED: u64 = 0;

/// Reads the binary version of CIFAR-10 from `dir`, or from `cifar-10-batches-bin` in it. A tenth of the training pictures, always the
/// same ones, becomes the validation set: 45,000, 5,000 and 10,000 pictures.
///
/// # Errors
/// `Value` where a file is missing, `Io` where it cannot be read, and `Binary` where it is empty or cut, or a label is not below 10.
pub fn load(dir: impl AsRef<Path>) -> Result<Splits> {
    let dir = folder(dir.as_ref());
    let all = read(TRAIN.map(|name| dir.join(name)))?;
    let test = read([dir.join(TEST)])?;
    let (kept, held) = hold_out(all.len(), (all.len() / 10).max(1), HOLD_OUT_SEED)?;
    Ok(Splits { train: all.subset(&kept)?, val: all.subset(&held)?, test })
}

/// The binary version as it is published, unpacked to `cifar-10-batches-bin` (170 MB, 184 MB unpacked).
pub fn archive() -> Set {
    Set::one(
        "https://www.cs.toronto.edu/~kriz/",
        Archive {
            name: "cifar-10-binary.tar.gz".into(),
            size: Size::Exactly(170_052_171),
            checksum: Some(Checksum::Sha256("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd".into())),
            there: owned(&[FOLDER, TEST]),
            content: Content::TarGz { selection: Selection::Folders(owned(&[FOLDER])), max_bytes: 384 * MIB, max_entries: 100 },
        },
    )
}

/// Grey pixels, standardised with the mean 122.6 and the standard deviation 61 of the set.
pub fn encoding() -> Encoding {
    Encoding::levels(|byte| ((f64::from(byte) - 122.6) / 61.0) as f32)
}

/// Where the files are: in `dir`, or in the archive's folder in it.
fn folder(dir: &Path) -> PathBuf {
    let inner = dir.join(FOLDER);
    if inner.is_dir() && !dir.join(TEST).exists() { inner } else { dir.into() }
}

/// The records of all files, in order.
fn read(files: impl IntoIterator<Item = PathBuf>) -> Result<Dataset> {
    let mut set = Dataset::new(encoding(), CLASSES)?;
    for path in files {
        push_records(&bytes_of(&path)?, &path, &mut set)?;
    }
    Ok(set)
}

fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            let help = "give the folder cifar-10-batches-bin of the binary version, unpacked";
            Error::value("cifar::load", format!("there is no file {}: {help}", path.display()))
        }
        _ => Error::io("read", path, error),
    })
}

fn push_records(bytes: &[u8], path: &Path, set: &mut Dataset) -> Result<()> {
    if bytes.is_empty() {
        return Err(Error::binary(path, 0, "the file is empty: unpack the archive again"));
    }
    let (records, rest) = bytes.as_chunks::<RECORD>();
    for (number, record) in records.iter().enumerate() {
        let [label, pixels @ ..] = record;
        if usize::from(*label) >= CLASSES {
            let help = format!("the label of record {number} (from 0) is {label}: it must be from 0 to 9");
            return Err(Error::binary(path, (number * RECORD) as u64, help));
        }
        set.push_levels(&grey(pixels), usize::from(*label))?;
    }
    if !rest.is_empty() {
        let help =
            format!("record {} (from 0) has {} bytes of {RECORD}: the file was cut, or is no file of CIFAR-10", records.len(), rest.len());
        return Err(Error::binary(path, bytes.len() as u64, help));
    }
    Ok(())
}

/// The grey of the pixels of a red, a green and a blue plane.
fn grey(planes: &[u8]) -> Vec<u8> {
    let (red, rest) = planes.split_at(LENGTH);
    let (green, blue) = rest.split_at(LENGTH);
    red.iter().zip(green).zip(blue).map(|((&red, &green), &blue)| luma([red, green, blue])).collect()
}
