//! Permuted sequential MNIST: pictures of 28 x 28 pixels as sequences of 784 in bit-reversed order.

use super::archive::{Archive, Checksum, Content, MIB, Set, Size, owned};
use super::{Dataset, Encoding, Faults, Splits, folder, hold_out, idx};
use crate::error::Result;
use std::path::{Path, PathBuf};

/// The pixels along each side of a picture.
pub const SIDE: usize = 28;

/// The number of classes.
pub const CLASSES: usize = 10;

/// Where the files are looked for: in the folder itself, and in those that others make in it (torchvision's is the last).
const FOLDERS: [&str; 3] = ["", "mnist", "MNIST/raw"];

/// The files: the part, what they hold, and their published checksum.
const FILES: [(&str, &str, &str); 4] = [
    ("train", "images-idx3", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    ("train", "labels-idx1", "d53e105ee54ea40749a09fcbcd1e9432"),
    ("t10k", "images-idx3", "9fb629c4189551a2d022fa330f9573f3"),
    ("t10k", "labels-idx1", "ec29112dd5afa0611ce80d1b7f02629c"),
];

/// The seed by which the validation pictures are chosen, whatever the seed of a run.
const HOLD_OUT_SEED: u64 = 0;

/// Reads MNIST from the four IDX files in `dir`, or in `mnist` or `MNIST/raw` in it, each packed with gzip or not, also under near names as
/// `train-images.idx3-ubyte`. Pictures with a label that is not below 10 are up to `faults`. A tenth of the training
/// pictures, always the same ones, becomes the validation set: 54,000, 6,000 and 10,000 pictures.
///
/// # Errors
/// `Value` where a file is missing, `Io` where it cannot be read, and `Binary` where it is cut or goes on behind its end, is no IDX file
/// of bytes, holds nothing or pictures of another size, there is not a label for each picture, or a label is not below 10.
pub fn load(dir: impl AsRef<Path>, faults: &Faults) -> Result<Splits> {
    let dir = dir.as_ref();
    let holds = |place: &Path| FILES.iter().any(|(part, what, _)| idx::find(place, &file_name(part, what)).is_some());
    // The folder that has one of them is told about the others.
    let dir = folder::find(dir, &["mnist", "MNIST", "raw"], holds).unwrap_or_else(|| dir.into());
    let all = read(&dir, "train", faults)?;
    let test = read(&dir, "t10k", faults)?;
    let (kept, held) = hold_out(all.len(), (all.len() / 10).max(1), HOLD_OUT_SEED)?;
    Ok(Splits { train: all.subset(&kept)?, val: all.subset(&held)?, test })
}

/// MNIST as it is published: four gzipped files, which are read as they are (12 MB). Those that are there unpacked are not fetched.
pub fn archive() -> Set {
    let archive = |(part, what, md5): (&str, &str, &str)| {
        let gz = format!("{}.gz", file_name(part, what));
        let places = FOLDERS.map(|folder| if folder.is_empty() { String::new() } else { format!("{folder}/") });
        Archive {
            size: Size::AtMost(16 * MIB),
            checksum: Some(Checksum::Md5(md5.into())),
            there: places.iter().flat_map(|place| [format!("{place}{gz}"), format!("{place}{}", file_name(part, what))]).collect(),
            content: Content::Plain,
            name: gz,
        }
    };
    Set {
        mirrors: owned(&["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"]),
        archives: FILES.map(archive).into(),
    }
}

/// Pixels from 0, black, to 1.
pub fn encoding() -> Encoding {
    Encoding::levels(|byte| f32::from(byte) / 255.0)
}

/// The bit-reversed order of `len` pixels: time step `t` shows pixel `permutation(len)[t]`. The numbers below the next power of two,
/// each with its bits in reverse; without those that are no pixel.
pub fn permutation(len: usize) -> Vec<usize> {
    let size = len.next_power_of_two();
    let bits = size.trailing_zeros();
    // A shift by all bits would overflow.
    let reversed = (0..size).map(|number| if bits == 0 { number } else { number.reverse_bits() >> (usize::BITS - bits) });
    reversed.filter(|&pixel| pixel < len).collect()
}

fn file_name(part: &str, what: &str) -> String {
    format!("{part}-{what}-ubyte")
}

/// The pictures of `part`, permuted.
fn read(dir: &Path, part: &str, faults: &Faults) -> Result<Dataset> {
    let (images, labels) = (locate(dir, part, "images-idx3")?, locate(dir, part, "labels-idx1")?);
    let mut set = Dataset::new(encoding(), CLASSES)?;
    let order = permutation(SIDE * SIDE);
    for (picture, label) in idx::read(&images, &labels, SIDE, CLASSES, faults)? {
        let sequence: Vec<u8> = order.iter().map(|&pixel| picture[pixel]).collect();
        set.push_levels(&sequence, label)?;
    }
    Ok(set)
}

fn locate(dir: &Path, part: &str, what: &str) -> Result<PathBuf> {
    let name = file_name(part, what);
    let help = "nor one with .gz behind; give a folder with the four files of MNIST, unpacked or as they come";
    idx::find(dir, &name).ok_or_else(|| folder::missing("psmnist::load", &dir.join(name), help))
}
