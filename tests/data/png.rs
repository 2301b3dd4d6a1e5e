//! PNG pictures of every kind, whole and broken.

use std::fs;
use std::path::PathBuf;

use crate::files::*;
use pspikessm::data::picture;
use pspikessm::error::{Error, Result};
use tempfile::TempDir;

#[test]
fn a_broken_binary_file_is_named_with_the_byte() {
    assert_eq!(Error::binary("a/b.png", 12, "cut").to_string(), "a/b.png: byte 12: cut");
}

/// What comes of a file of these bytes.
fn picture_of(bytes: &[u8], side: usize) -> (Result<Vec<u8>>, PathBuf, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("picture.png");
    fs::write(&path, bytes).unwrap();
    (picture::read_grey(&path, side), path, dir)
}

#[track_caller]
fn assert_pixels(bytes: &[u8], side: usize, wanted: &[u8]) {
    assert_eq!(picture_of(bytes, side).0.unwrap(), wanted);
}

fn small_png() -> Vec<u8> {
    png(2, 8, GREY, false, &[], &[&[1, 2], &[3, 255]])
}

#[test]
fn eight_bits_are_read_row_by_row() {
    assert_pixels(&small_png(), 2, &[1, 2, 3, 255]);
}

#[test]
fn fewer_bits_are_spread_over_the_range() {
    assert_pixels(&png(2, 1, GREY, false, &[], &[&[0b0100_0000], &[0b1000_0000]]), 2, &[0, 255, 255, 0]);
    assert_pixels(&png(2, 2, GREY, false, &[], &[&[0b0001_0000], &[0b1011_0000]]), 2, &[0, 85, 170, 255]);
    assert_pixels(&png(2, 4, GREY, false, &[], &[&[0x1f], &[0x80]]), 2, &[17, 255, 136, 0]);
}

#[test]
fn the_upper_eight_of_sixteen_bits_count() {
    assert_pixels(&png(2, 16, GREY, false, &[], &[&[1, 255, 2, 0], &[3, 7, 255, 255]]), 2, &[1, 2, 3, 255]);
}

#[test]
fn colours_become_grey() {
    let rows: [&[u8]; 2] = [&[255, 0, 0, 0, 255, 0], &[0, 0, 255, 12, 200, 99]];
    assert_pixels(&png(2, 8, RGB, false, &[], &rows), 2, &[76, 150, 29, 132]);
}

#[test]
fn transparency_is_ignored() {
    let rows: [&[u8]; 2] = [&[255, 0, 0, 0, 0, 255, 0, 9], &[0, 0, 255, 99, 12, 200, 99, 255]];
    assert_pixels(&png(2, 8, RGBA, false, &[], &rows), 2, &[76, 150, 29, 132]);
    assert_pixels(&png(2, 8, GREY_ALPHA, false, &[], &[&[1, 0, 2, 9], &[3, 99, 4, 255]]), 2, &[1, 2, 3, 4]);
    // The colour 2 is transparent.
    let extra = chunk(b"tRNS", &[0, 2]);
    assert_pixels(&png(2, 8, GREY, false, &extra, &[&[1, 2], &[3, 4]]), 2, &[1, 2, 3, 4]);
}

#[test]
fn a_palette_is_looked_up() {
    let mut extra = chunk(b"PLTE", &[255, 0, 0, 0, 255, 0, 0, 0, 255, 12, 200, 99]);
    let two_bits: [&[u8]; 2] = [&[0b0001_0000], &[0b1011_0000]];
    assert_pixels(&png(2, 2, PALETTE, false, &extra, &two_bits), 2, &[76, 150, 29, 132]);
    extra.extend(chunk(b"tRNS", &[0]));
    assert_pixels(&png(2, 8, PALETTE, false, &extra, &[&[0, 1], &[2, 3]]), 2, &[76, 150, 29, 132]);
}

#[test]
fn an_interlaced_picture_is_read() {
    // Of the seven passes over 2 x 2 pixels only the first and the last two have any.
    assert_pixels(&png(2, 8, GREY, true, &[], &[&[1], &[2], &[3, 4]]), 2, &[1, 2, 3, 4]);
}

#[test]
fn a_picture_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.png");
    assert!(matches!(picture::read_grey(&path, 2), Err(Error::Io { path: found, .. }) if found == path));
}

#[test]
fn an_empty_picture_is_refused() {
    let (result, path, _dir) = picture_of(&[], 2);
    assert_binary(result, &path, 0, "the file is empty");
}

#[test]
fn a_file_of_something_else_is_refused() {
    let (result, path, _dir) = picture_of(b"GIF89a, or so it says", 2);
    assert_binary(result, &path, 0, "this is a GIF picture, not a PNG file: convert it");
    for (start, says) in [
        (&b"\xff\xd8\xff\xe0 JFIF"[..], "a JPEG picture"),
        (b"BM", "a BMP picture"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"abc", "no PNG"),
    ] {
        let (result, path, _dir) = picture_of(start, 2);
        assert_binary(result, &path, 0, says);
    }
}

#[test]
fn a_picture_of_another_size_is_refused() {
    let (result, path, _dir) = picture_of(&small_png(), 3);
    assert_binary(result, &path, 8 + 25, "the picture has 2 x 2 pixels: it must have 3 x 3");
}

#[test]
fn a_header_that_promises_a_giant_picture_costs_no_memory() {
    let (result, path, _dir) = picture_of(&png(0x7fff_ffff, 8, GREY, false, &[], &[&[1, 2]]), 2);
    assert_binary(result, &path, 8 + 25, "2147483647 x 2147483647");
}

#[test]
fn a_picture_is_refused_wherever_it_was_cut() {
    let bytes = small_png();
    for length in 1..bytes.len() {
        let (result, path, _dir) = picture_of(&bytes[..length], 2);
        assert_binary(result, &path, length as u64, "this is no whole PNG file");
    }
}

#[test]
fn a_changed_pixel_is_refused() {
    let mut bytes = small_png();
    // Before it: the signature, the header's chunk, the head of the pixels' chunk, that of the stream and of its block, the filter.
    bytes[8 + 25 + 8 + 2 + 5 + 1] ^= 1;
    let (result, path, _dir) = picture_of(&bytes, 2);
    // At the chunk, behind the signature and the header's, and without the decoder's own types.
    assert_binary(result, &path, 8 + 25, "the checksum of the chunk IDAT that begins here is wrong (CRC)");
}

#[test]
fn a_picture_with_too_few_rows_is_refused() {
    let (result, path, _dir) = picture_of(&png(2, 8, GREY, false, &[], &[&[1, 2]]), 2);
    match result {
        Err(Error::Binary { path: found, help, .. }) => {
            assert_eq!(found, path);
            assert!(help.contains("no whole PNG file") && !help.contains('{') && !help.contains("fetch"), "{help}");
        }
        other => panic!("{other:?}"),
    }
}
