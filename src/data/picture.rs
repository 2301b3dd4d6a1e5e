//! Pictures in PNG files, as bytes.

use super::luma::luma;
use crate::error::{Error, Result};
use crate::kind;
use png::{ColorType, Decoder, DecodingError, Limits, Transformations};
use std::io::{Cursor, ErrorKind};
use std::path::Path;

/// The most that the decoder may allocate besides the pixels, in bytes: far above what a picture of a sane size needs.
const MOST_BYTES: usize = 1 << 24;

/// The most pixels along a side of a picture of any size.
const MOST_PIXELS: u32 = 4096;

/// With which every PNG file begins.
const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Reads a picture of `side` x `side` pixels: its grey values from 0, black, to 255, row by row. Colours become grey by ITU-R 601 luma;
/// one, two and four bits are spread over the range, of sixteen the upper eight count, and transparency is ignored.
///
/// # Errors
/// `Io` where the file cannot be read, `Binary` where it is empty, no PNG, broken, or has another size; the byte is how far the decoder
/// got.
pub fn read_grey(path: impl AsRef<Path>, side: usize) -> Result<Vec<u8>> {
    let fits = |width: u32, height: u32| match [width, height].iter().all(|&pixels| usize::try_from(pixels) == Ok(side)) {
        true => Ok(()),
        false => Err(format!("the picture has {width} x {height} pixels: it must have {side} x {side}")),
    };
    decoded(path.as_ref(), &fits).map(|(_, pixels, kind)| grey(pixels, kind))
}

/// A picture of any size.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Picture {
    pub width: usize,
    pub height: usize,
    /// Bytes of a pixel: 1 of grey, or 3 of red, green and blue.
    pub colours: usize,
    /// Row by row.
    pub pixels: Vec<u8>,
}

/// Reads a picture of any size up to 4,096 pixels along each side, with its colours.
///
/// # Errors
/// As [`read_grey`].
pub(super) fn read(path: &Path) -> Result<Picture> {
    let fits = |width: u32, height: u32| match width.max(height) <= MOST_PIXELS {
        true => Ok(()),
        false => Err(format!("the picture has {width} x {height} pixels: scale it down to {MOST_PIXELS} along a side at most")),
    };
    let ([width, height], pixels, kind) = decoded(path, &fits)?;
    let (colours, pixels) = match kind {
        ColorType::Rgb => (3, pixels),
        ColorType::Rgba => (3, pixels.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()),
        kind => (1, grey(pixels, kind)),
    };
    Ok(Picture { width: width as usize, height: height as usize, colours, pixels })
}

/// Width and height, the pixels, and of which kind they are.
type Decoded = ([u32; 2], Vec<u8>, ColorType);

/// What is wrong with a size.
type Fits<'a> = &'a dyn Fn(u32, u32) -> Result<(), String>;

/// Reads a file whose size `fits`.
fn decoded(path: &Path, fits: Fits<'_>) -> Result<Decoded> {
    let file = std::fs::read(path).map_err(|error| Error::io("read", path, error))?;
    if file.is_empty() {
        return Err(Error::binary(path, 0, "the file is empty: copy or write it again"));
    }
    if !file.starts_with(SIGNATURE) && !SIGNATURE.starts_with(&file) {
        let what = kind::of(&file).map_or("this is no PNG file".into(), |kind| format!("this is {kind}, not a PNG file"));
        return Err(Error::binary(path, 0, format!("{what}: convert it to PNG")));
    }
    if let Some((at, name)) = damaged_chunk(&file) {
        let help = format!("the checksum of the chunk {name} that begins here is wrong (CRC): the file is damaged, copy or write it again");
        return Err(Error::binary(path, at as u64, help));
    }
    let mut bytes = Cursor::new(file.as_slice());
    decode(&mut bytes, fits).map_err(|help| Error::binary(path, bytes.position(), help))
}

/// The first chunk whose checksum does not fit: where it begins, and its name. A file that ends too early is left to the decoder.
fn damaged_chunk(file: &[u8]) -> Option<(usize, String)> {
    let mut at = SIGNATURE.len();
    loop {
        let length = u32::from_be_bytes(*file.get(at..)?.first_chunk()?) as usize;
        let body = file.get(at + 4..)?.get(..length.checked_add(4)?)?;
        let found = u32::from_be_bytes(*file.get(at + 8 + length..)?.first_chunk()?);
        let mut sum = flate2::Crc::new();
        sum.update(body);
        if sum.sum() != found {
            return Some((at, body[..4].escape_ascii().to_string()));
        }
        at += 12 + length;
    }
}

/// The same of the bytes of a file; the error is what is wrong.
fn decode(bytes: &mut Cursor<&[u8]>, fits: Fits<'_>) -> Result<Decoded, String> {
    let mut decoder = Decoder::new_with_limits(bytes, Limits { bytes: MOST_BYTES });
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let (width, height) = decoder.read_header_info().map_err(broken)?.size();
    // Nothing is allocated for a size that the header only claims.
    fits(width, height)?;
    let mut reader = decoder.read_info().map_err(broken)?;
    let mut pixels = vec![0; reader.output_buffer_size().ok_or("the picture does not fit into memory")?];
    let info = reader.next_frame(&mut pixels).map_err(broken)?;
    reader.finish().map_err(broken)?;
    Ok(([width, height], pixels, info.color_type))
}

fn broken(error: DecodingError) -> String {
    let what = match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => "it ends too early".into(),
        DecodingError::LimitsExceeded => "it claims to be far larger than such a picture is".into(),
        // The decoder's words for a broken rule are plain, but for those that show its own types.
        error => Some(error.to_string()).filter(|text| !text.contains('{')).unwrap_or_else(|| "it breaks the rules of the format".into()),
    };
    format!("this is no whole PNG file ({what}): copy or write it again")
}

/// Pixels of one to four bytes as grey.
fn grey(pixels: Vec<u8>, kind: ColorType) -> Vec<u8> {
    match kind {
        // Indexed pixels were expanded to colours.
        ColorType::Grayscale | ColorType::Indexed => pixels,
        ColorType::GrayscaleAlpha => pixels.chunks_exact(2).map(|pixel| pixel[0]).collect(),
        ColorType::Rgb | ColorType::Rgba => pixels.chunks_exact(kind.samples()).map(|pixel| luma([pixel[0], pixel[1], pixel[2]])).collect(),
    }
}
