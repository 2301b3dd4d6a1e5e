//! The small digits: scikit-learn's table, whole and broken.

use std::fs;
use std::path::PathBuf;

use crate::files::*;
use pspikessm::data::{Faults, Splits, digits};
use pspikessm::error::{Error, Result};
use pspikessm::train::tasks::PsMnist;
use tempfile::TempDir;

/// The pixels of row `number`.
fn digit_pixels(number: usize) -> Vec<u8> {
    (0..64).map(|at| ((at * 5 + number * 3) % 17) as u8).collect()
}

fn digit_row(number: usize) -> String {
    let pixels: Vec<String> = digit_pixels(number).iter().map(u8::to_string).collect();
    format!("{},{}", number % 10, pixels.join(","))
}

/// What comes of a table `train` and two digits to test with, with the path of the table.
fn digits_with(train: &str) -> (Result<Splits>, PathBuf, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("train.csv"), train).unwrap();
    fs::write(dir.path().join("test.csv"), format!("{}\n{}\n", digit_row(7), digit_row(8))).unwrap();
    (digits::load(dir.path(), &Faults::refused()), dir.path().join("train.csv"), dir)
}

/// Whether the text is refused at this line and column, in these words.
fn assert_row_refused(train: &str, line: usize, column: usize, words: &str) {
    let (result, path, _dir) = digits_with(train);
    match result {
        Err(Error::Data { path: found, line: row, column: at, help }) => {
            assert_eq!((found, row, at), (path, line, column), "{help}");
            assert!(help.contains(words), "{help}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn digits_are_read_permuted_from_0_to_1() {
    let (splits, ..) = digits_with(&format!("{}\n{}\n{}\n", digit_row(0), digit_row(1), digit_row(2)));
    let splits = splits.unwrap();
    let order = oracle_permutation(64);
    for (number, (values, label)) in samples(&splits.train).into_iter().enumerate() {
        let pixels = digit_pixels(number);
        assert_eq!(values, order.iter().map(|&at| f32::from(pixels[at]) / 16.0).collect::<Vec<_>>());
        assert_eq!(label, number);
    }
    assert_eq!((splits.train.len(), splits.test.labels()), (3, [7, 8].as_slice()));
    assert_eq!(splits.val, splits.test);
}

#[test]
fn line_ends_and_blanks_do_not_matter() {
    let (wanted, ..) = digits_with(&format!("{}\n{}\n", digit_row(0), digit_row(1)));
    let (found, ..) = digits_with(&format!("{}\r\n{}", digit_row(0).replace(',', ", "), digit_row(1)));
    let wanted = wanted.unwrap();
    assert_eq!(found.unwrap(), wanted);
    let (found, ..) = digits_with(&format!("\u{feff}{}\r\n{}\r\n\r\n \r\n", digit_row(0), digit_row(1)));
    assert_eq!(found.unwrap(), wanted);
}

#[test]
fn a_missing_table_is_named() {
    for name in ["train.csv", "test.csv"] {
        let (.., dir) = digits_with(&digit_row(0));
        fs::remove_file(dir.path().join(name)).unwrap();
        assert_missing(digits::load(dir.path(), &Faults::refused()), &dir.path().join(name));
    }
}

#[test]
fn an_empty_table_is_refused() {
    assert_row_refused("", 1, 1, "the file is empty");
}

#[test]
fn an_empty_row_is_refused() {
    assert_row_refused(&format!("{}\n\n{}", digit_row(0), digit_row(1)), 2, 1, "\"\" is no whole number from 0 to 9");
}

#[test]
fn bad_rows_are_left_out_and_counted() {
    let (_, _, dir) = digits_with(&format!("{}\nx\n{}\n\n{}", digit_row(0), digit_row(1), digit_row(2)));
    let faults = Faults::skipped();
    assert_eq!(digits::load(dir.path(), &faults).unwrap().train.labels(), [0, 1, 2]);
    assert_eq!(faults.count(), 2);
    fs::write(dir.path().join("test.csv"), "x\ny\n").unwrap();
    assert!(digits::load(dir.path(), &Faults::skipped()).unwrap_err().to_string().contains("no row that can be read"));
}

#[test]
fn a_header_is_refused() {
    assert_row_refused(&format!("label,pixels\n{}", digit_row(0)), 1, 1, "\"label\" is no whole number from 0 to 9");
}

#[test]
fn a_label_above_9_is_refused() {
    assert_row_refused(&format!("{}\n1{}", digit_row(1), digit_row(0)), 2, 1, "\"10\" is no whole number from 0 to 9");
}

#[test]
fn a_pixel_above_16_is_refused() {
    // 0,0,5,10,.. becomes 0,0,5,17,..
    assert_row_refused(&digit_row(0).replacen(",10,", ",17,", 1), 1, 7, "\"17\" is no whole number from 0 to 16");
}

#[test]
fn a_pixel_that_is_no_number_is_refused() {
    assert_row_refused(&digit_row(0).replacen(",10,", ",ten,", 1), 1, 7, "\"ten\" is no whole number from 0 to 16");
}

#[test]
fn a_row_that_is_cut_is_refused() {
    let row = digit_row(0);
    let cut = &row[..row.rfind(',').unwrap()];
    assert_row_refused(&format!("{row}\n{cut}\n"), 2, cut.len() + 1, "there are 64 numbers, not 65");
}

#[test]
fn a_row_that_is_too_long_is_refused() {
    let row = digit_row(0);
    assert_row_refused(&format!("{row},3,4"), 1, row.len() + 2, "more than 65 numbers");
}

#[test]
fn the_levels_of_a_digit_come_back_from_its_picture() {
    let pixels = digit_pixels(3);
    let values = pushed(&PsMnist, "digits", digits::encoding(), &grey_png(8, |at| (f64::from(pixels[at]) / 16.0 * 255.0).round() as u8));
    let order = oracle_permutation(64);
    assert_eq!(values, order.iter().map(|&at| f32::from(pixels[at]) / 16.0).collect::<Vec<_>>());
}
