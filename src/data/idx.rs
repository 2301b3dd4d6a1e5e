//! IDX files, the format of MNIST: a header of big-endian words, then bytes; packed with gzip or not.

use crate::error::{Error, Result};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The first word of a file of unsigned bytes with three axes, and with one.
const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;

/// The file `path`, or else the one with `.gz` behind its name, or `None`.
pub(super) fn find(path: &Path) -> Option<PathBuf> {
    let mut packed = path.as_os_str().to_owned();
    packed.push(".gz");
    [path.into(), PathBuf::from(packed)].into_iter().find(|path| path.is_file())
}

/// Pictures of `side` x `side` pixels, end to end, each row-major, and the label of each, which is below `classes`.
///
/// # Errors
/// `Io`; `Binary` for everything that can be wrong with the files.
pub(super) fn read(images: &Path, labels: &Path, side: usize, classes: usize) -> Result<(Vec<u8>, Vec<u8>)> {
    let pixels = read_images(images, side)?;
    let found = read_labels(labels, classes)?;
    let count = pixels.len() / (side * side);
    if found.len() != count {
        let help =
            format!("there are {} labels, but {count} pictures in {}: the two files do not belong together", found.len(), images.display());
        return Err(Error::binary(labels, 4, help));
    }
    Ok((pixels, found))
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

fn read_labels(path: &Path, classes: usize) -> Result<Vec<u8>> {
    let mut file = Bytes::open(path)?;
    let [magic, count] = file.words()?;
    check_magic(path, magic, LABELS, "labels")?;
    check_count(path, count, "label")?;
    let start = file.offset;
    let labels = file.rest(u64::from(count))?;
    match labels.iter().position(|&label| usize::from(label) >= classes) {
        Some(at) => {
            let help = format!("label {at} (from 0) is {}: it must be below {classes}", labels[at]);
            Err(Error::binary(path, start + at as u64, help))
        }
        None => Ok(labels),
    }
}

fn check_magic(path: &Path, magic: u32, wanted: u32, what: &str) -> Result<()> {
    if magic == wanted {
        return Ok(());
    }
    let help =
        format!("the file starts with {magic:#010x}: an IDX file of {what} starts with {wanted:#010x}; is it the right one, and whole?");
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
        let file = BufReader::with_capacity(1 << 18, File::open(path).map_err(|error| Error::io("open", path, error))?);
        let packed = path.extension().is_some_and(|extension| extension == "gz");
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
                let help = format!("what follows cannot be unpacked ({error}): the file is cut or broken, fetch it again");
                Err(Error::binary(self.path, self.offset, help))
            }
            Err(error) => Err(Error::io("read", self.path, error)),
        }
    }

    fn want(&self, found: usize, wanted: u64) -> Result<()> {
        if found as u64 == wanted {
            return Ok(());
        }
        let help = format!("the file ends here, {} bytes early: it was cut, fetch it again", wanted - found as u64);
        Err(Error::binary(self.path, self.offset, help))
    }
}
