//! Text files, alike in every format: byte order marks, line ends, blank lines at the end, and what is no text.

use crate::error::{Error, Result};
use crate::kind;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// What some editors put before UTF-8 text. It is no part of the text.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// A whole text file, without the byte order mark.
///
/// # Errors
/// `Io` where it cannot be read, otherwise as [`text`].
pub(crate) fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|source| Error::io("read", path, source))?;
    Ok(text(path, &bytes)?.into())
}

/// The bytes of the file `path` as text, without the byte order mark.
///
/// # Errors
/// `Data` with line and column of the first byte that is not UTF-8 text, or is NUL, which no text holds.
pub(crate) fn text<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    let content = bytes.strip_prefix(MARK).unwrap_or(bytes);
    checked(content).map_err(|good| {
        let line = good.rsplit('\n').next().unwrap_or_default();
        let place = (good.matches('\n').count() + 1, line.chars().count() + 1);
        no_text(path, place, bytes.len() - content.len() + good.len(), bytes)
    })
}

/// The lines of a text with their numbers, from 1, without line ends and without the blank lines at the end.
///
/// # Errors
/// `Data` where the lines end with CR alone.
#[cfg(feature = "data")]
pub(super) fn lines<'a>(path: &Path, text: &'a str) -> Result<impl Iterator<Item = (usize, &'a str)>> {
    let text = &text[..end(text.as_bytes())];
    let first = text.split_inclusive('\n').next().unwrap_or_default();
    line(path, 1, first.as_bytes())?;
    Ok((1..).zip(text.lines().map(|line| line.strip_suffix('\r').unwrap_or(line))))
}

/// Line `number` of the file `path` as text, without its end. The bytes of the first one begin where the file does.
///
/// # Errors
/// As [`text`], and `Data` where the lines of the file end with CR alone.
pub(super) fn line<'a>(path: &Path, number: usize, bytes: &'a [u8]) -> Result<&'a str> {
    let content = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let content = content.strip_suffix(b"\r").unwrap_or(content);
    let text = checked(content).map_err(|good| {
        let start = if number == 1 { bytes } else { &[] };
        no_text(path, (number, good.chars().count() + 1), good.len(), start)
    })?;
    match text.find('\r') {
        // A file whose first line is all there is.
        Some(at) if number == 1 && !bytes.ends_with(b"\n") => {
            let help = "lines end with CR alone, as on old Macs: convert them to LF";
            Err(Error::data(path, 1, text[..at].chars().count() + 1, help))
        }
        _ => Ok(text),
    }
}

/// The bytes as text; the error is what comes before the first byte that is none.
fn checked(bytes: &[u8]) -> Result<&str, &str> {
    let valid = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
    let end = bytes[..valid].iter().position(|&byte| byte == 0).unwrap_or(valid);
    let text = std::str::from_utf8(&bytes[..end]).unwrap_or_default();
    if end == bytes.len() { Ok(text) } else { Err(text) }
}

/// The error at a byte that is no text, in a file that begins with `start`.
fn no_text(path: &Path, (line, column): (usize, usize), at: usize, start: &[u8]) -> Error {
    let what = match kind::of(start) {
        Some(kind) => format!("this is {kind}: unpack it or convert it to UTF-8"),
        None if start.get(..2).is_some_and(|pair| pair.contains(&0)) => "this seems to be text in UTF-16: convert it to UTF-8".into(),
        None => "is this the right file, unpacked and undamaged?".into(),
    };
    Error::data(path, line, column, format!("byte {at}, counted from 0, is not UTF-8 text; {what}"))
}

/// The length of a text without the blank lines at its end.
fn end(bytes: &[u8]) -> usize {
    match bytes.trim_ascii_end().len() {
        0 => 0,
        content => bytes[content..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |newline| content + newline + 1),
    }
}

/// A text file that is read in blocks of whole lines.
pub(super) struct Blocks<'a> {
    path: &'a Path,
    file: BufReader<File>,
    /// Blank lines that are passed over unless something follows them.
    blank: Vec<u8>,
}

impl<'a> Blocks<'a> {
    /// Opens the file and passes over the byte order mark.
    pub fn open(path: &'a Path) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::io("open", path, source))?;
        let mut file = BufReader::with_capacity(1 << 20, file);
        let start = file.fill_buf().map_err(|source| Error::io("read", path, source))?;
        let mark = if start.starts_with(MARK) { MARK.len() } else { 0 };
        file.consume(mark);
        Ok(Blocks { path, file, blank: Vec::new() })
    }

    /// Puts at least `least` bytes, where there are as many, and the rest of the last line into `block`, but no blank lines at the end of
    /// the file. False where nothing is left.
    pub fn next(&mut self, block: &mut Vec<u8>, least: u64) -> Result<bool> {
        block.clear();
        while block.is_empty() {
            let mut fresh = std::mem::take(&mut self.blank);
            let before = fresh.len();
            let read = self.file.by_ref().take(least).read_to_end(&mut fresh).and_then(|_| self.file.read_until(b'\n', &mut fresh));
            read.map_err(|source| Error::io("read", self.path, source))?;
            if fresh.len() == before {
                return Ok(false);
            }
            self.blank = fresh.split_off(end(&fresh));
            *block = fresh;
        }
        Ok(true)
    }
}
