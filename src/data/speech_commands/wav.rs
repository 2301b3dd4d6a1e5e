//! A second of sound from a WAV file, or what is wrong with the file.

use super::LENGTH;
use crate::error::{Error, Result};
use hound::{SampleFormat, WavReader, WavSpec};
use std::fs::File;
use std::io::Read;
use std::path::Path;

const RATE: u32 = 16_000;

/// More bytes than any file has that is accepted, with whatever notes beside the sound; of a longer one the rest is not read.
const MOST: u64 = 1 << 20;

/// The 16,000 values of a file: its samples divided by 32,768, and zeros behind the last.
///
/// # Errors
/// `Io` where the file cannot be read; `Binary` where it is not a whole WAV file of 1 to 16,000 samples of 16 kHz, mono, 16 bits.
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
    let mut bytes = Vec::with_capacity(2 * LENGTH + 64);
    let file = File::open(path).map_err(|source| Error::io("open", path, source))?;
    file.take(MOST).read_to_end(&mut bytes).map_err(|source| Error::io("read", path, source))?;
    decode(&bytes, samples).map_err(|Fault { at, help }| Error::binary(path, at as u64, help))
}

/// What is wrong with a file, and what to do.
struct Fault {
    /// The byte at which it is wrong.
    at: usize,
    help: String,
}

fn fault<T>(at: usize, help: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { at, help: help.into() })
}

/// The samples of a WAV file in memory.
fn decode(bytes: &[u8], samples: &mut Vec<i16>) -> Result<(), Fault> {
    samples.clear();
    if bytes.is_empty() {
        return fault(0, "the file is empty: copy or unpack it again");
    }
    if !bytes.starts_with(b"RIFF") {
        return fault(0, "this is not a WAV file, which begins with RIFF: copy or unpack it again");
    }
    let mut rest = bytes;
    let mut reader = match WavReader::new(&mut rest) {
        Ok(reader) => reader,
        Err(error) => return Err(explain(&error, bytes.len() - rest.len())),
    };
    check(reader.spec(), bytes)?;
    let length = reader.len() as usize;
    if !(1..=LENGTH).contains(&length) {
        let help = match length {
            0 => "there is no sample in the file: copy or unpack it again".into(),
            _ => format!("there are {length} samples: cut the sound to {LENGTH}, one second"),
        };
        return fault(bytes.len() - reader.into_inner().len(), help);
    }
    for sample in reader.samples::<i16>() {
        samples.push(sample.map_err(|error| explain(&error, bytes.len()))?);
    }
    Ok(())
}

/// Whether the samples are what they must be.
fn check(spec: WavSpec, bytes: &[u8]) -> Result<(), Fault> {
    // Behind the name and the length of the chunk: kind, channels, rate, bytes a second, bytes a step, bits.
    let format = bytes.windows(4).position(|window| window == b"fmt ").map_or(0, |at| at + 8);
    if spec.sample_format != SampleFormat::Int {
        return fault(format, "the samples are of floating point: convert the file to integers of 16 bits");
    }
    if spec.bits_per_sample != 16 {
        return fault(format + 14, format!("the samples are of {} bits: convert the file to 16", spec.bits_per_sample));
    }
    if spec.channels != 1 {
        return fault(format + 2, format!("there are {} channels: convert the file to mono", spec.channels));
    }
    if spec.sample_rate != RATE {
        return fault(format + 4, format!("there are {} samples a second: convert the file to {RATE}", spec.sample_rate));
    }
    Ok(())
}

/// What the decoder's error at a byte means for a file that is in memory.
fn explain(error: &hound::Error, at: usize) -> Fault {
    let help = match error {
        // There is no other way for a read to fail.
        hound::Error::IoError(_) => "the file ends too early: copy or unpack it again".into(),
        hound::Error::TooWide => "a sample takes more than 16 bits: convert the file to 16".into(),
        hound::Error::FormatError(what) => {
            format!("the file is broken or of another kind ({what}): unpack it again, or convert it to 16 bits, PCM")
        }
        other => format!("this kind of WAV file cannot be read ({other}): convert it to 16 bits, PCM"),
    };
    Fault { at, help }
}
