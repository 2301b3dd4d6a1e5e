//! Two-dimensional numpy arrays of strings, in the format of `numpy.save`.

pub(super) use crate::data::npy::MAGIC;

use crate::data::npy::{entry, header, strings};
use crate::error::{Error, Result};
use std::path::Path;

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
