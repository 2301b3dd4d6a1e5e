//! The handwritten digits of scikit-learn, 8 x 8 pixels each, as sequences of 64 in bit-reversed order: psMNIST in small.
//!
//! `load_digits` has 1,797 of them; the two files are any split of these, in rows of a label and 64 pixels from 0 to 16, without a header:
//!
//! ```text
//! 0,0,0,5,13,9,1,0,0,...
//! ```

use super::{Dataset, Encoding, Faults, Splits, folder, psmnist, text_lines};
use crate::error::{Error, Result};
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
/// `Value` where a file is missing, `Io` where it cannot be read, `Data` where it is no text or has no row that can be read. Of a row, as
/// `faults` says, `Data` with line and column: it is not a label from 0 to 9 and 64 pixels from 0 to 16.
pub fn load(dir: impl AsRef<Path>, faults: &Faults) -> Result<Splits> {
    let train = read(dir.as_ref(), "train.csv", faults)?;
    let test = read(dir.as_ref(), "test.csv", faults)?;
    Ok(Splits { train, val: test.clone(), test })
}

/// Pixels from 0, black, to 1.
pub fn encoding() -> Encoding {
    Encoding::levels(|byte| f32::from(byte) / f32::from(WHITE))
}

fn read(dir: &Path, name: &str, faults: &Faults) -> Result<Dataset> {
    let missing = || folder::missing("digits::load", &dir.join(name), &format!("write it; {WANTED}"));
    let path = folder::near(dir, name, &[""]).ok_or_else(missing)?;
    let text = text_lines::read(&path)?;
    let mut set = Dataset::new(encoding(), CLASSES)?;
    let order = psmnist::permutation(PIXELS);
    for (number, row) in text_lines::lines(&path, &text)? {
        match parse(row) {
            Ok([label, pixels @ ..]) => {
                let sequence: Vec<u8> = order.iter().map(|&pixel| pixels[pixel]).collect();
                set.push_levels(&sequence, usize::from(label))?;
            }
            Err((column, help)) => faults.meet(Error::data(&path, number, column, help))?,
        }
    }
    match set.is_empty() {
        true if text.trim().is_empty() => Err(Error::data(path, 1, 1, format!("the file is empty; {WANTED}"))),
        true => Err(Error::data(path, 1, 1, format!("the file has no row that can be read: {WANTED}"))),
        false => Ok(set),
    }
}

/// The label and the pixels of a row; the error is the column and what is wrong there.
fn parse(row: &str) -> Result<[u8; 1 + PIXELS], (usize, String)> {
    let mut numbers = [0; 1 + PIXELS];
    // What was read is digits and blanks, so that a byte is a character.
    let (mut count, mut column) = (0, 1);
    for field in row.split(',') {
        let Some(number) = numbers.get_mut(count) else {
            return Err((column, format!("there are more than {} numbers: {WANTED}", numbers.len())));
        };
        let most = if count == 0 { CLASSES as u8 - 1 } else { WHITE };
        *number = number_up_to(most, field).ok_or_else(|| {
            let shown: String = field.chars().take(20).collect();
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

fn number_up_to(most: u8, field: &str) -> Option<u8> {
    field.trim().parse().ok().filter(|&number| number <= most)
}
