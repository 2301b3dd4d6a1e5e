//! The handwritten digits of scikit-learn, 8 x 8 pixels each, as sequences of 64 in bit-reversed order: psMNIST in small.
//!
//! `load_digits` has 1,797 of them; the two files are any split of these, in rows of a label and 64 pixels from 0 to 16, without a header:
//!
//! ```text
//! 0,0,0,5,13,9,1,0,0,...
//! ```

use super::{Dataset, Encoding, Splits, psmnist};
use crate::error::{Error, Result};
use std::io::ErrorKind;
use std::path::Path;

/// The pixels along each side of a picture.
pub const SIDE: usize = 8;

/// The number of classes.
pub const CLASSES: usize = 10;

/// The brightest pixel.
pub const WHITE: u8 = 16;

const PIXELS: usize = SIDE * SIDE;

/// What a row is, for error messages.
const WANTED: &str = "a row is a label from 0 to 9 and 64 pixels from 0 to 16, with commas between them";

/// Reads `train.csv` and `test.csv` from `dir`. There are too few digits to hold some out of the training: the validation set is the test
/// set.
///
/// # Errors
/// `Value` where a file is missing, `Io` where it cannot be read, and `Data` with line and column where it has no row, or a row is not a
/// label from 0 to 9 and 64 pixels from 0 to 16.
pub fn load(dir: impl AsRef<Path>) -> Result<Splits> {
    let train = read(&dir.as_ref().join("train.csv"))?;
    let test = read(&dir.as_ref().join("test.csv"))?;
    Ok(Splits { train, val: test.clone(), test })
}

/// Pixels from 0, black, to 1.
pub fn encoding() -> Encoding {
    Encoding::levels(|byte| f32::from(byte) / f32::from(WHITE))
}

fn read(path: &Path) -> Result<Dataset> {
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::value("digits::load", format!("there is no file {}: write it; {WANTED}", path.display())),
        _ => Error::io("read", path, error),
    })?;
    if bytes.is_empty() {
        return Err(Error::data(path, 1, 1, format!("the file is empty; {WANTED}")));
    }
    let mut set = Dataset::new(encoding(), CLASSES)?;
    let order = psmnist::permutation(PIXELS);
    // The end of the last line begins no other.
    for (at, row) in bytes.strip_suffix(b"\n").unwrap_or(&bytes).split(|&byte| byte == b'\n').enumerate() {
        let row = row.strip_suffix(b"\r").unwrap_or(row);
        let [label, pixels @ ..] = parse(row).map_err(|(column, help)| Error::data(path, at + 1, column, help))?;
        let sequence: Vec<u8> = order.iter().map(|&pixel| pixels[pixel]).collect();
        set.push_levels(&sequence, usize::from(label))?;
    }
    Ok(set)
}

/// The label and the pixels of a row; the error is the column and what is wrong there.
fn parse(row: &[u8]) -> Result<[u8; 1 + PIXELS], (usize, String)> {
    let mut numbers = [0; 1 + PIXELS];
    // What was read is digits and blanks, so that a byte is a character.
    let (mut count, mut column) = (0, 1);
    for field in row.split(|&byte| byte == b',') {
        let Some(number) = numbers.get_mut(count) else {
            return Err((column, format!("there are more than {} numbers: {WANTED}", numbers.len())));
        };
        let most = if count == 0 { CLASSES as u8 - 1 } else { WHITE };
        *number = number_up_to(most, field).ok_or_else(|| {
            let shown: String = String::from_utf8_lossy(field).chars().take(20).collect();
            (column, format!("{shown:?} is no whole number from 0 to {most}: {WANTED}"))
        })?;
        count += 1;
        column += field.len() + 1;
    }
    if count < numbers.len() {
        return Err((row.len() + 1, format!("there are {count} numbers, not {}: {WANTED}", numbers.len())));
    }
    Ok(numbers)
}

fn number_up_to(most: u8, field: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(field.trim_ascii()).ok()?;
    text.parse().ok().filter(|&number| number <= most)
}
