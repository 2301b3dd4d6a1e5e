//! Sound from a WAV file, a second or as it comes, or what is wrong with the file.
//!
//! Read here because no crate at hand takes the files that programs write: hound skips no pad byte and refuses a byte rate of 0, and it and
//! symphonia refuse a format chunk of 20 bytes.

use super::LENGTH;
use crate::error::{Error, Result};
use crate::kind;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

const RATE: u32 = 16_000;

/// The length of the data from which on it is what programs write that do not know it yet.
const UNKNOWN: u32 = 0x7fff_0000;

/// Kinds of samples.
const INTEGERS: u16 = 1;
const FLOATS: u16 = 3;
const EXTENSIBLE: u16 = 0xfffe;

/// What stands behind the kind in the name of an extensible format.
const EXTENSION: &[u8] = b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71";

/// The 16,000 values of a file: its samples divided by 32,768, and zeros behind the last.
///
/// Integers of 8, 24 and 32 bits and floating point, whose range is from -1 to 1, are rounded to 16 bits, and what is louder is cut off.
///
/// # Errors
/// `Io` where the file cannot be read; `Binary` where it is not a whole WAV file of 1 to 16,000 samples, 16 kHz, mono.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<f32>> {
    let mut values = vec![0.0; LENGTH];
    let mut samples = Vec::new();
    read_samples(path.as_ref(), &mut samples)?;
    scale(&samples, &mut values);
    Ok(values)
}

/// Samples as values, and zeros behind the last.
pub(super) fn scale(samples: &[i16], values: &mut [f32]) {
    let samples = samples.iter().copied().chain(std::iter::repeat(0));
    values.iter_mut().zip(samples).for_each(|(value, sample)| *value = f32::from(sample) / 32_768.0);
}

/// Puts the samples of a file, at least one and at most a second, into `samples`.
pub(super) fn read_samples(path: &Path, samples: &mut Vec<i16>) -> Result<()> {
    samples.clear();
    let file = File::open(path).map_err(|source| Error::io("open", path, source))?;
    let mut chunks = Chunks { file: BufReader::with_capacity(1 << 16, file), at: 0 };
    decode(&mut chunks, samples).map_err(|fault| fault.of(path))
}

/// The samples of a WAV file of any length, as they come.
///
/// ```
/// use pspikessm::data::speech_commands::WavStream;
/// # fn main() -> pspikessm::Result<()> {
/// // 16 kHz, mono, 16 bits, and a length that is not known yet.
/// let mut bytes = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data\xff\xff\xff\xff".to_vec();
/// bytes.extend([0x00, 0x40, 0x00, 0xc0]);
/// let mut sound = WavStream::new(&bytes[..], "a pipe")?;
/// assert_eq!(sound.read(100)?, [0.5, -0.5]);
/// assert!(sound.read(100)?.is_empty());
/// # Ok(()) }
/// ```
pub struct WavStream<R> {
    chunks: Chunks<R>,
    format: Format,
    /// Bytes that are still to come, where that is known.
    left: Option<u64>,
    path: PathBuf,
}

impl<R: Read> WavStream<R> {
    /// Reads up to the first sample; `path` is what errors call the file.
    ///
    /// # Errors
    /// `Io` where it cannot be read; `Binary` where it is no WAV file of 16 kHz, mono.
    pub fn new(file: R, path: impl Into<PathBuf>) -> Result<Self> {
        let (mut chunks, path) = (Chunks { file, at: 0 }, path.into());
        let (format, left) = open(&mut chunks).map_err(|fault| fault.of(&path))?;
        Ok(WavStream { chunks, format, left, path })
    }

    /// The next `most` samples divided by 32,768, or as many as there are; none at the end.
    ///
    /// # Errors
    /// `Io` where they cannot be read; `Binary` where a sample is no number of its range.
    pub fn read(&mut self, most: usize) -> Result<Vec<f32>> {
        let size = self.format.size as u64;
        let wanted = (most as u64 * size).min(self.left.unwrap_or(u64::MAX));
        let at = self.chunks.at;
        let bytes = self.chunks.take(wanted).map_err(|fault| fault.of(&self.path))?;
        self.left = self.left.map(|left| left - bytes.len() as u64);
        let value = |(number, bytes): (usize, &[u8])| {
            let help = "this sample is not from -1 to 1, as floating point must be: convert the file to 16 bits";
            let sample = self.format.sample(bytes).ok_or_else(|| Error::binary(&self.path, at + number as u64 * size, help))?;
            Ok(f32::from(sample) / 32_768.0)
        };
        bytes.chunks_exact(self.format.size).enumerate().map(value).collect()
    }
}

/// Why there are no samples.
enum Fault {
    /// The byte at which the file is wrong, and what to do.
    Wrong {
        at: u64,
        help: String,
    },
    Unread(io::Error),
}

impl Fault {
    /// The error of the file `path`.
    fn of(self, path: &Path) -> Error {
        match self {
            Fault::Wrong { at, help } => Error::binary(path, at, help),
            Fault::Unread(source) => Error::io("read", path, source),
        }
    }
}

fn wrong<T>(at: u64, help: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Wrong { at, help: help.into() })
}

/// The file and how far it is read.
struct Chunks<R> {
    file: R,
    at: u64,
}

impl<R: Read> Chunks<R> {
    /// The next bytes, `most` or as many as there are.
    fn take(&mut self, most: u64) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        self.file.by_ref().take(most).read_to_end(&mut bytes).map_err(Fault::Unread)?;
        self.at += bytes.len() as u64;
        Ok(bytes)
    }

    /// The next bytes, all of them.
    fn want(&mut self, count: u64) -> Result<Vec<u8>, Fault> {
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

/// The samples of a WAV file.
fn decode<R: Read>(chunks: &mut Chunks<R>, samples: &mut Vec<i16>) -> Result<(), Fault> {
    let (format, length) = open(chunks)?;
    sound(chunks, format, length, samples)
}

/// Goes to the first sample: how samples are stored, and how many bytes of them there are, where the file says so.
fn open<R: Read>(chunks: &mut Chunks<R>) -> Result<(Format, Option<u64>), Fault> {
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
            b"fmt " => format = Some(Format::read(chunks, length)?),
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
struct Format {
    kind: u16,
    /// In bytes.
    size: usize,
}

impl Format {
    /// Reads the chunk of this length: kind, channels, rate, bytes a second, bytes a step, bits, and what may follow. Bytes a second follow
    /// from the others, and some programs write 0.
    fn read<R: Read>(chunks: &mut Chunks<R>, length: u32) -> Result<Self, Fault> {
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
        if channels != 1 {
            return wrong(start + 2, format!("there are {channels} channels: convert the file to mono"));
        }
        if rate != RATE {
            return wrong(start + 4, format!("there are {rate} samples a second: convert the file to {RATE}"));
        }
        if ![0, bits / 8].contains(&step) {
            return wrong(start + 12, format!("a sample of {bits} bits takes {step} bytes, not {}: convert the file to 16 bits", bits / 8));
        }
        Ok(Format { kind, size: usize::from(bits / 8) })
    }

    /// The sample in these bytes, rounded to 16 bits; `None` for a number that is none, or far outside the range.
    fn sample(self, bytes: &[u8]) -> Option<i16> {
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

/// The samples in the chunk that begins here, which has `length` bytes, or, without one, goes on to the end of the file.
fn sound<R: Read>(chunks: &mut Chunks<R>, format: Format, length: Option<u64>, samples: &mut Vec<i16>) -> Result<(), Fault> {
    let (start, size) = (chunks.at, format.size as u64);
    let too_long = |count: &str| wrong(start, format!("there are {count} samples: cut the sound to {LENGTH}, one second"));
    let bytes = match length {
        Some(length) if length > LENGTH as u64 * size => return too_long(&(length / size).to_string()),
        Some(length) if !length.is_multiple_of(size) => {
            return wrong(start, format!("the sound has {length} bytes, no whole number of samples of {size}: copy or unpack it again"));
        }
        Some(length) => chunks.want(length)?,
        None => chunks.take((LENGTH as u64 + 1) * size)?,
    };
    if bytes.len() < format.size {
        return wrong(start, "there is no sample in the file: copy or unpack it again");
    }
    if bytes.len() > LENGTH * format.size {
        return too_long(&format!("more than {LENGTH}"));
    }
    for (number, bytes) in bytes.chunks_exact(format.size).enumerate() {
        let Some(sample) = format.sample(bytes) else {
            let help = format!("sample {number} (from 0) is not from -1 to 1, as floating point must be: convert the file to 16 bits");
            return wrong(start + number as u64 * size, help);
        };
        samples.push(sample);
    }
    Ok(())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}
