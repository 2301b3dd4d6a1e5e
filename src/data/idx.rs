//! IDX files, the format of MNIST: a header of big-endian words, then bytes; packed with gzip or not, which their content tells.

use super::{Faults, folder};
use crate::error::{Error, Result};
use crate::kind;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The first word of a file of unsigned bytes with three axes, and with one.
const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;

/// The file `name` in `folder`, with `.gz` behind it or without.
pub(super) fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    folder::near(folder, name, &["", ".gz"])
}

/// Pictures of `side` x `side` pixels, end to end, each row-major, and the label of each, which is below `classes`. Pictures whose label is
/// not are up to `faults`.
///
/// # Errors
/// `Io`; `Binary` for everything that can be wrong with the files.
pub(super) fn read(images: &Path, labels: &Path, side: usize, classes: usize, faults: &Faults) -> Result<Vec<(Vec<u8>, usize)>> {
    let pixels = read_images(images, side)?;
    let (found, start) = read_labels(labels)?;
    let count = pixels.len() / (side * side);
    if found.len() != count {
        let help =
            format!("there are {} labels, but {count} pictures in {}: the two files do not belong together", found.len(), images.display());
        return Err(Error::binary(labels, 4, help));
    }
    let mut pictures = Vec::with_capacity(count);
    for (at, (picture, &label)) in pixels.chunks_exact(side * side).zip(&found).enumerate() {
        if usize::from(label) < classes {
            pictures.push((picture.to_vec(), usize::from(label)));
        } else {
            let help = format!("label {at} (from 0) is {label}: it must be below {classes}");
            faults.meet(Error::binary(labels, start + at as u64, help))?;
        }
    }
    match pictures.is_empty() {
        true => Err(Error::binary(labels, start, format!("none of the {count} labels is below {classes}: is this the right file?"))),
        false => Ok(pictures),
    }
}

fn read_images(path: &Path, side: usize) -> Result<Vec<u8>> {
    let mut file = Bytes::open(path)?;
    let [magic, count, rows, columns] = file.words()?;
    check_magic(path, magic, IMAGES, "pictures")?;
    check_count(path, count, "picture")?;
    for (offset, pixels) in [(8, rows), (12, columns)] {
        if usize::try_from(pixels) != Ok(side) {
            return Err(Error::binary(
                path,
                offset,
                format!("the pictures have {rows} x {columns} pixels: they must have {side} x {side}"),
            ));
        }
    }
    file.rest(u64::from(count) * u64::from(rows) * u64::from(columns))
}

/// The labels, and at which byte they begin.
fn read_labels(path: &Path) -> Result<(Vec<u8>, u64)> {
    let mut file = Bytes::open(path)?;
    let [magic, count] = file.words()?;
    check_magic(path, magic, LABELS, "labels")?;
    check_count(path, count, "label")?;
    let start = file.offset;
    Ok((file.rest(u64::from(count))?, start))
}

fn check_magic(path: &Path, magic: u32, wanted: u32, what: &str) -> Result<()> {
    if magic == wanted {
        return Ok(());
    }
    // The third byte is the type of what follows.
    let kind = match magic.to_be_bytes() {
        [0, 0, 8, axes] => format!("an IDX file of bytes with {axes} axes"),
        [0, 0, 9, _] => "an IDX file of signed bytes".into(),
        [0, 0, 0xb, _] => "an IDX file of integers of 16 bits".into(),
        [0, 0, 0xc, _] => "an IDX file of integers of 32 bits".into(),
        [0, 0, 0xd | 0xe, _] => "an IDX file of floating point".into(),
        bytes => kind::of(&bytes).unwrap_or("no IDX file").into(),
    };
    let help =
        format!("the file starts with {magic:#010x}, it is {kind}: an IDX file of {what} starts with {wanted:#010x}; give the right one");
    Err(Error::binary(path, 0, help))
}

fn check_count(path: &Path, count: u32, what: &str) -> Result<()> {
    if count > 0 {
        return Ok(());
    }
    Err(Error::binary(path, 4, format!("the file holds no {what}: there must be at least one")))
}

/// The unpacked bytes of a file, one after the other.
struct Bytes<'a> {
    path: &'a Path,
    file: Box<dyn Read>,
    /// How many were read.
    offset: u64,
}

impl<'a> Bytes<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let mut file = BufReader::with_capacity(1 << 18, File::open(path).map_err(|error| Error::io("open", path, error))?);
        let packed = file.fill_buf().map_err(|error| Error::io("read", path, error))?.starts_with(b"\x1f\x8b");
        let file: Box<dyn Read> = if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        Ok(Bytes { path, file, offset: 0 })
    }

    /// The next `N` words.
    fn words<const N: usize>(&mut self) -> Result<[u32; N]> {
        let bytes = self.take(4 * N as u64)?;
        self.want(bytes.len(), 4 * N as u64)?;
        let (words, _) = bytes.as_chunks();
        let mut out = [0; N];
        out.iter_mut().zip(words).for_each(|(to, &word)| *to = u32::from_be_bytes(word));
        Ok(out)
    }

    /// All bytes up to the end, which must be `wanted`.
    fn rest(&mut self, wanted: u64) -> Result<Vec<u8>> {
        let bytes = self.take(wanted)?;
        self.want(bytes.len(), wanted)?;
        if !self.take(1)?.is_empty() {
            return Err(Error::binary(self.path, self.offset - 1, "the file goes on here, where its header says that it ends"));
        }
        Ok(bytes)
    }

    /// The next bytes, `most` or as many as there are: what the header promises is not reserved before it is there.
    fn take(&mut self, most: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let result = self.file.by_ref().take(most).read_to_end(&mut bytes);
        self.offset += bytes.len() as u64;
        match result {
            Ok(_) => Ok(bytes),
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput) => {
                let help = format!("what follows cannot be unpacked ({error}): the file is cut or broken, copy or fetch it again");
                Err(Error::binary(self.path, self.offset, help))
            }
            Err(error) => Err(Error::io("read", self.path, error)),
        }
    }

    fn want(&self, found: usize, wanted: u64) -> Result<()> {
        if found as u64 == wanted {
            return Ok(());
        }
        let end = self.offset - found as u64 + wanted;
        let help = format!("the file ends here, and not at byte {end}: it was cut, or its header is wrong; fetch it again");
        Err(Error::binary(self.path, self.offset, help))
    }
}
