//! A clip: the second of sound in a WAV file of 16 kHz and one channel, or such a sound as it comes.

use super::LENGTH;
use crate::data::wav::{Chunks, Fault, Format, open, wrong};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

const RATE: u32 = 16_000;

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
        let (format, left) = open(&mut chunks, spoken).map_err(|fault| fault.of(&path))?;
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

/// The samples of a WAV file.
fn decode<R: Read>(chunks: &mut Chunks<R>, samples: &mut Vec<i16>) -> Result<(), Fault> {
    let (format, length) = open(chunks, spoken)?;
    sound(chunks, format, length, samples)
}

/// Refuses what is not of one channel and [`RATE`].
fn spoken(format: &Format) -> Option<Fault> {
    let &Format { channels, rate, start, .. } = format;
    match (channels, rate) {
        (1, RATE) => None,
        (1, _) => Some(Fault::Wrong { at: start + 4, help: format!("there are {rate} samples a second: convert the file to {RATE}") }),
        _ => Some(Fault::Wrong { at: start + 2, help: format!("there are {channels} channels: convert the file to mono") }),
    }
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
