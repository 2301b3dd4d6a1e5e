//! Sound from a WAV file, at any rate and of any number of channels, or what is wrong with the file.
//!
//! Read here because no crate at hand takes the files that programs write: hound skips no pad byte and refuses a byte rate of 0, and it and
//! symphonia refuse a format chunk of 20 bytes.

use crate::error::{Error, Result};
use crate::kind;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// The length of the data from which on it is what programs write that do not know it yet.
const UNKNOWN: u32 = 0x7fff_0000;

/// Kinds of samples.
const INTEGERS: u16 = 1;
const FLOATS: u16 = 3;
const EXTENSIBLE: u16 = 0xfffe;

/// What stands behind the kind in the name of an extensible format.
const EXTENSION: &[u8] = b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71";

/// The longest sound that is read, in values: a gigabyte of f32.
const MOST_VALUES: u64 = 1 << 28;

/// A sound of one channel: several are averaged.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sound {
    /// Samples a second, from 1.
    pub rate: u32,
    /// From -1 to 1, at least one.
    pub samples: Vec<f32>,
}

/// Reads a whole file.
///
/// # Errors
/// `Io` where it cannot be read; `Binary` where it is not a whole WAV file of at least one sample.
pub(super) fn read(path: &Path) -> Result<Sound> {
    let file = File::open(path).map_err(|source| Error::io("open", path, source))?;
    sound(&mut Chunks { file: BufReader::with_capacity(1 << 16, file), at: 0 }).map_err(|fault| fault.of(path))
}

fn sound<R: Read>(chunks: &mut Chunks<R>) -> Result<Sound, Fault> {
    let (format, length) = open(chunks, audible)?;
    let (start, step) = (chunks.at, format.size as u64 * u64::from(format.channels));
    let bytes = match length {
        Some(length) if !length.is_multiple_of(step) => {
            return wrong(start, format!("the sound has {length} bytes, no whole number of steps of {step}: copy or unpack it again"));
        }
        Some(length) if length / format.size as u64 <= MOST_VALUES => chunks.want(length)?,
        Some(length) => return wrong(start, format!("the sound has {length} bytes: cut it into parts")),
        None => chunks.take(MOST_VALUES * format.size as u64)?,
    };
    let values = |step: &[u8]| step.chunks_exact(format.size).map(|bytes| format.sample(bytes).map(f32::from)).sum::<Option<f32>>();
    let mut samples = Vec::new();
    for (number, bytes) in bytes.chunks_exact(step as usize).enumerate() {
        let Some(sum) = values(bytes) else {
            let help = format!("sample {number} (from 0) is not from -1 to 1, as floating point must be: convert the file to 16 bits");
            return wrong(start + number as u64 * step, help);
        };
        samples.push(sum / (32_768.0 * f32::from(format.channels)));
    }
    match samples.is_empty() {
        true => wrong(start, "there is no sample in the file: copy or unpack it again"),
        false => Ok(Sound { rate: format.rate, samples }),
    }
}

/// Any format with something in it.
fn audible(format: &Format) -> Option<Fault> {
    let refusal = |at, help: &str| Some(Fault::Wrong { at: format.start + at, help: help.into() });
    match (format.channels, format.rate) {
        (0, _) => refusal(2, "there are no channels: convert the file anew"),
        (_, 0) => refusal(4, "there are 0 samples a second: convert the file anew"),
        _ => None,
    }
}

/// Why there are no samples.
pub(super) enum Fault {
    /// The byte at which the file is wrong, and what to do.
    Wrong {
        at: u64,
        help: String,
    },
    Unread(io::Error),
}

impl Fault {
    /// The error of the file `path`.
    pub fn of(self, path: &Path) -> Error {
        match self {
            Fault::Wrong { at, help } => Error::binary(path, at, help),
            Fault::Unread(source) => Error::io("read", path, source),
        }
    }
}

pub(super) fn wrong<T>(at: u64, help: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Wrong { at, help: help.into() })
}

/// The file and how far it is read.
pub(super) struct Chunks<R> {
    pub file: R,
    pub at: u64,
}

impl<R: Read> Chunks<R> {
    /// The next bytes, `most` or as many as there are.
    pub fn take(&mut self, most: u64) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        self.file.by_ref().take(most).read_to_end(&mut bytes).map_err(Fault::Unread)?;
        self.at += bytes.len() as u64;
        Ok(bytes)
    }

    /// The next bytes, all of them.
    pub fn want(&mut self, count: u64) -> Result<Vec<u8>, Fault> {
        let bytes = self.take(count)?;
        self.whole(bytes.len() as u64, count)?;
        Ok(bytes)
    }

    fn skip(&mut self, count: u64) -> Result<(), Fault> {
        let skipped = io::copy(&mut self.file.by_ref().take(count), &mut io::sink()).map_err(Fault::Unread)?;
        self.at += skipped;
        self.whole(skipped, count)
    }

    fn whole(&self, found: u64, wanted: u64) -> Result<(), Fault> {
        match found == wanted {
            true => Ok(()),
            false => wrong(self.at, "the file ends too early: copy or unpack it again"),
        }
    }
}

/// Goes to the first sample: how samples are stored, and how many bytes of them there are, where the file says so.
pub(super) fn open<R: Read>(chunks: &mut Chunks<R>, wanted: Wanted) -> Result<(Format, Option<u64>), Fault> {
    let streamed = head(chunks)?;
    let mut format = None;
    loop {
        let start = chunks.at;
        let header = chunks.take(8)?;
        if header.is_empty() {
            return wrong(start, "the file ends without a chunk \"data\", the sound: copy or unpack it again");
        }
        chunks.whole(header.len() as u64, 8)?;
        let length = u32_at(&header, 4);
        match &header[..4] {
            b"fmt " => format = Some(Format::read(chunks, length, wanted)?),
            b"data" => {
                let Some(format) = format else { return wrong(start, "the sound comes before its format: convert the file anew") };
                let unknown = length >= UNKNOWN || length == 0 && streamed;
                return Ok((format, (!unknown).then_some(u64::from(length))));
            }
            _ => chunks.skip(padded(length))?,
        }
    }
}

/// Reads the beginning; says whether the length in it is one that a program leaves there that does not know it yet.
fn head<R: Read>(chunks: &mut Chunks<R>) -> Result<bool, Fault> {
    let head = chunks.take(12)?;
    if head.is_empty() {
        return wrong(0, "the file is empty: copy or unpack it again");
    }
    if !head.starts_with(b"RIFF") {
        let what = kind::of(&head).map_or("this is not a WAV file, which begins with RIFF".into(), |kind| format!("this is {kind}"));
        return wrong(0, format!("{what}: convert it to WAV, 16 bits, PCM, or copy it again"));
    }
    chunks.whole(head.len() as u64, 12)?;
    match &head[8..] {
        b"WAVE" => Ok(matches!(u32_at(&head, 4), 0 | UNKNOWN..)),
        _ => wrong(8, "the file has no WAVE tag: it is RIFF of another kind, convert it to WAV"),
    }
}

/// The length of a chunk with the byte behind it that makes it even.
fn padded(length: u32) -> u64 {
    u64::from(length) + u64::from(length % 2)
}

/// How a file stores a sample.
#[derive(Clone, Copy)]
pub(super) struct Format {
    kind: u16,
    /// In bytes.
    pub size: usize,
    pub channels: u16,
    /// Samples of a channel a second.
    pub rate: u32,
    /// Where in the file this stands.
    pub start: u64,
}

/// What is wrong with a format, for whoever does not take them all.
pub(super) type Wanted = fn(&Format) -> Option<Fault>;

impl Format {
    /// Reads the chunk of this length: kind, channels, rate, bytes a second, bytes a step, bits, and what may follow. Bytes a second follow
    /// from the others, and some programs write 0.
    fn read<R: Read>(chunks: &mut Chunks<R>, length: u32, wanted: Wanted) -> Result<Self, Fault> {
        let start = chunks.at;
        if length < 16 {
            return wrong(start, format!("the format has {length} bytes: it must have 16 at least; convert the file anew"));
        }
        let bytes = chunks.want(u64::from(length).min(40))?;
        chunks.skip(padded(length) - bytes.len() as u64)?;
        let [channels, step, bits] = [2, 12, 14].map(|at| u16_at(&bytes, at));
        let (kind, rate) = (kind_of(&bytes, start)?, u32_at(&bytes, 4));
        let known = match kind {
            INTEGERS => matches!(bits, 8 | 16 | 24 | 32),
            _ => matches!(bits, 32 | 64),
        };
        if !known {
            return wrong(start + 14, format!("the samples are of {bits} bits: convert the file to 16"));
        }
        let format = Format { kind, size: usize::from(bits / 8), channels, rate, start };
        if let Some(refusal) = wanted(&format) {
            return Err(refusal);
        }
        if step != 0 && u32::from(step) != u32::from(bits / 8) * u32::from(channels) {
            return wrong(start + 12, format!("a sample of {bits} bits takes {step} bytes, not {}: convert the file to 16 bits", bits / 8));
        }
        Ok(format)
    }

    /// The sample in these bytes, rounded to 16 bits; `None` for a number that is none, or far outside the range.
    pub fn sample(self, bytes: &[u8]) -> Option<i16> {
        let rounded = |number: i64, bits: u32| ((number + (1 << (bits - 1))) >> bits).min(i64::from(i16::MAX)) as i16;
        let float = |value: f64| (value.abs() <= 2.0).then(|| (value * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16);
        match (self.kind, bytes) {
            (INTEGERS, &[a]) => Some((i16::from(a) - 128) << 8),
            (INTEGERS, &[a, b]) => Some(i16::from_le_bytes([a, b])),
            (INTEGERS, &[a, b, c]) => Some(rounded(i64::from(i32::from_le_bytes([0, a, b, c])), 16)),
            (INTEGERS, &[a, b, c, d]) => Some(rounded(i64::from(i32::from_le_bytes([a, b, c, d])), 16)),
            (_, &[a, b, c, d]) => float(f32::from_le_bytes([a, b, c, d]).into()),
            (_, bytes) => float(f64::from_le_bytes(bytes.try_into().ok()?)),
        }
    }
}

/// Integers or floating point, as the format says that starts at byte `start`.
fn kind_of(format: &[u8], start: u64) -> Result<u16, Fault> {
    let (kind, at) = match u16_at(format, 0) {
        EXTENSIBLE if format.get(26..40) == Some(EXTENSION) => (u16_at(format, 24), start + 24),
        kind => (kind, start),
    };
    let name = match kind {
        INTEGERS | FLOATS => return Ok(kind),
        2 | 0x11 => "ADPCM",
        6 => "A-law",
        7 => "mu-law",
        0x31 => "GSM",
        0x50 | 0x55 => "MPEG",
        _ => "another kind",
    };
    wrong(at, format!("the samples are packed as {name} ({kind:#06x}), which is not read: convert the file to 16 bits, PCM"))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}
