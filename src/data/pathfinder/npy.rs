//! Two-dimensional numpy arrays of strings, in the format of `numpy.save`.

use crate::error::{Error, Result};
use std::path::Path;

/// With which the format starts.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// The rows of an array as lines, its strings with a blank behind each; `bytes` are the file `path`.
///
/// # Errors
/// `Binary` where this is no array of strings, or it was cut.
pub(super) fn text(path: &Path, bytes: &[u8]) -> Result<String> {
    let (header, start) = header(bytes).ok_or_else(|| Error::binary(path, MAGIC.len() as u64, "the header of this numpy array was cut"))?;
    let wrong = |help: String| Error::binary(path, (start - header.len()) as u64, help);
    let kind = entry(header, "'descr': ", ",");
    let (character, width) = strings(kind).ok_or_else(|| {
        wrong(format!("this is a numpy array of {kind}, not of strings such as '<U32' or '|S32': save it with astype(str)"))
    })?;
    let not_a_table = || wrong(format!("this numpy array is not one of rows and fields: {}", header.trim()));
    let ([rows, columns], by_columns) = shape(header).ok_or_else(not_a_table)?;
    let wanted = [rows, columns, width, character.size()].into_iter().try_fold(1usize, usize::checked_mul);
    let data = &bytes[start..];
    if data.is_empty() || wanted != Some(data.len()) {
        let help = format!("{} bytes are not {rows} rows of {columns} strings of {kind}: the file was cut, or is empty", data.len());
        return Err(Error::binary(path, start as u64, help));
    }
    let mut text = String::new();
    for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
        let string = width * character.size() * if by_columns { column * rows + row } else { row * columns + column };
        for at in (string..string + width * character.size()).step_by(character.size()) {
            let read = data.get(at..at + character.size()).and_then(|bytes| character.read(bytes));
            match read.ok_or_else(|| Error::binary(path, (start + at) as u64, "this is no character"))? {
                // What is shorter is filled up.
                '\0' => break,
                character => text.push(character),
            }
        }
        text.push(if column + 1 == columns { '\n' } else { ' ' });
    }
    Ok(text)
}

/// The header, a Python dictionary, and where the data start.
fn header(bytes: &[u8]) -> Option<(&str, usize)> {
    // Version 1 counts the bytes of its header in 16 bits, later ones in 32.
    let (from, length) = match *bytes.get(MAGIC.len()..)? {
        [1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([a, b]))),
        [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d]) as usize),
        _ => return None,
    };
    let start = length.checked_add(from)?;
    Some((std::str::from_utf8(bytes.get(from..start)?).ok()?, start))
}

/// What stands between `key` and the next `end`.
fn entry<'a>(header: &'a str, key: &str, end: &str) -> &'a str {
    let value = header.split_once(key).and_then(|(_, rest)| rest.split_once(end));
    value.map_or("something else", |(value, _)| value)
}

/// The encoding and the number of characters of the strings that numpy calls `kind`.
fn strings(kind: &str) -> Option<(Character, usize)> {
    let kind = kind.strip_prefix('\'')?.strip_suffix('\'')?;
    let (character, width) = match kind.split_at_checked(2)? {
        ("|S", width) => (Character::Byte, width),
        ("<U", width) => (Character::Little, width),
        (">U", width) => (Character::Big, width),
        _ => return None,
    };
    Some((character, width.parse().ok()?))
}

/// The numbers of rows and columns, where these are the axes, and whether the columns stand one after another instead of the rows.
fn shape(header: &str) -> Option<([usize; 2], bool)> {
    let by_columns = match entry(header, "'fortran_order': ", ",") {
        "False" => false,
        "True" => true,
        _ => return None,
    };
    let axes = entry(header, "'shape': (", ")").split(',').map(|axis| axis.trim().parse().ok());
    Some((axes.collect::<Option<Vec<usize>>>()?.try_into().ok()?, by_columns))
}

/// How numpy stores a character.
#[derive(Clone, Copy)]
enum Character {
    Byte,
    Little,
    Big,
}

impl Character {
    /// In bytes.
    fn size(self) -> usize {
        match self {
            Character::Byte => 1,
            Character::Little | Character::Big => 4,
        }
    }

    /// The character that these bytes are.
    fn read(self, bytes: &[u8]) -> Option<char> {
        match (self, bytes) {
            (Character::Byte, &[byte]) => Some(char::from(byte)),
            (Character::Little, &[a, b, c, d]) => char::from_u32(u32::from_le_bytes([a, b, c, d])),
            (Character::Big, &[a, b, c, d]) => char::from_u32(u32::from_be_bytes([a, b, c, d])),
            _ => None,
        }
    }
}
