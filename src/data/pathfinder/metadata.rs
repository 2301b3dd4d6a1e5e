//! The metadata of the official archive: rows of text that name a picture and its label.

use super::super::text_lines;
use super::{CLASSES, npy};
use crate::error::{Error, Result};
use std::path::Path;

/// What is read of a row.
pub(super) struct Row {
    /// The picture, as in `imgs/0/sample_0.png`.
    pub file: String,
    /// 0 or 1.
    pub label: usize,
}

/// The rows of a file of text, or of a numpy array of strings; in the place of a malformed row, what is wrong with it.
///
/// # Errors
/// Where the file as a whole cannot be read.
pub(super) fn rows(path: &Path) -> Result<Vec<Result<Row>>> {
    let bytes = std::fs::read(path).map_err(|source| Error::io("read", path, source))?;
    let array = bytes.starts_with(npy::MAGIC).then(|| npy::text(path, &bytes)).transpose()?;
    let text = match &array {
        Some(text) => text,
        None => text_lines::text(path, &bytes)?,
    };
    Ok(text_lines::lines(path, text)?.map(|(number, line)| row(path, number, line)).collect())
}

/// Line `number` of the rows, as in `imgs/0 sample_0.png 0 1 1.0 14 4 2 0.5 1 1`: folder, file, number, label, and the rules that the
/// picture was drawn by.
fn row(path: &Path, number: usize, line: &str) -> Result<Row> {
    let fields: Vec<&str> = line.split_ascii_whitespace().take(4).collect();
    let &[folder, file, _, label] = &fields[..] else {
        let help = format!("a row is folder, file, number, label; this one has {} fields: unpack the archive again", fields.len());
        return Err(Error::data(path, number, line.chars().count() + 1, help));
    };
    match label.parse() {
        Ok(label) if label < CLASSES => Ok(Row { file: format!("{folder}/{file}"), label }),
        _ => {
            // The label is a piece of the line, so its place is the distance of the two beginnings.
            let at = label.as_ptr().addr() - line.as_ptr().addr();
            let column = line.get(..at).unwrap_or_default().chars().count() + 1;
            let shown: String = label.chars().take(20).collect();
            Err(Error::data(path, number, column, format!("the label is {shown:?}: it must be 0 or 1")))
        }
    }
}
