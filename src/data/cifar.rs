//! CIFAR-10 in grey, a picture of 32 x 32 pixels as a sequence of 1,024: the Image task of the Long Range Arena.

use super::archive::{Archive, Checksum, Content, MIB, Selection, Set, Size, owned};
use super::luma::luma;
use super::{Dataset, Encoding, Faults, Splits, folder, hold_out};
use crate::error::{Error, Result};
use crate::kind;
use std::path::Path;

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
/// `Value` where a file is missing, `Io` where it cannot be read, and `Binary` where it is empty or has no record that can be read. Of a
/// record, as `faults` says, `Binary`: its label is not below 10, or it is cut.
pub fn load(dir: impl AsRef<Path>, faults: &Faults) -> Result<Splits> {
    let dir = dir.as_ref();
    let holds = |place: &Path| TRAIN.iter().chain([&TEST]).any(|name| folder::is_file(&place.join(name)));
    // The folder that has one of them is told about the others.
    let dir = folder::find(dir, &[FOLDER, "cifar-10-binary"], holds).unwrap_or_else(|| dir.into());
    let all = read(&dir, &TRAIN, faults)?;
    let test = read(&dir, &[TEST], faults)?;
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

/// The records of all files, in order.
fn read(dir: &Path, names: &[&str], faults: &Faults) -> Result<Dataset> {
    let mut set = Dataset::new(encoding(), CLASSES)?;
    for name in names {
        let path = dir.join(name);
        let before = set.len();
        push_records(&bytes_of(&path)?, &path, &mut set, faults)?;
        if set.len() == before {
            return Err(Error::binary(&path, 0, "the file has no record that can be read: is it one of the binary version of CIFAR-10?"));
        }
    }
    Ok(set)
}

fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    if !folder::is_file(path) {
        let help = "give the folder cifar-10-batches-bin of the binary version, unpacked; the Python and Matlab versions are not read";
        return Err(folder::missing("cifar::load", path, help));
    }
    std::fs::read(path).map_err(|error| Error::io("read", path, error))
}

fn push_records(bytes: &[u8], path: &Path, set: &mut Dataset, faults: &Faults) -> Result<()> {
    if bytes.is_empty() {
        return Err(Error::binary(path, 0, "the file is empty: unpack the archive again"));
    }
    let (records, rest) = bytes.as_chunks::<RECORD>();
    for (number, record) in records.iter().enumerate() {
        let [label, pixels @ ..] = record;
        if usize::from(*label) < CLASSES {
            set.push_levels(&grey(pixels), usize::from(*label))?;
        } else {
            let help = match kind::of(bytes).filter(|_| number == 0) {
                Some(kind) => format!("this is {kind}, not a file of the binary version of CIFAR-10"),
                None => format!("the label of record {number} (from 0) is {label}: it must be from 0 to 9"),
            };
            faults.meet(Error::binary(path, (number * RECORD) as u64, help))?;
        }
    }
    if !rest.is_empty() {
        let help =
            format!("record {} (from 0) has {} bytes of {RECORD}: the file was cut, or is no file of CIFAR-10", records.len(), rest.len());
        faults.meet(Error::binary(path, bytes.len() as u64, help))?;
    }
    Ok(())
}

/// The grey of the pixels of a red, a green and a blue plane.
fn grey(planes: &[u8]) -> Vec<u8> {
    let (red, rest) = planes.split_at(LENGTH);
    let (green, blue) = rest.split_at(LENGTH);
    red.iter().zip(green).zip(blue).map(|((&red, &green), &blue)| luma([red, green, blue])).collect()
}
