//! A second of sound from a WAV file, or what is wrong with the file.

use super::LENGTH;
use crate::error::{Error, Result};
use hound::{SampleFormat, WavReader};
use std::fs::File;
use std::io::Read;
use std::path::Path;

const RATE: u32 = 16_000;

/// More bytes than any file has that is accepted, with whatever notes beside the sound; of a longer one the rest is not read.
const MOST: u64 = 1 << 20;

/// The 16,000 values of a file: its samples divided by 32,768, and zeros behind the last.
///
/// # Errors
/// `Io` where the file cannot be read; `Value` with its name where it is not a whole WAV file of 1 to 16,000 samples of 16 kHz, mono, 16
/// bits.
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
    decode(&bytes, samples).map_err(|help| Error::value("speech_commands::read_wav", format!("{}: {help}", path.display())))
}

/// The samples of a WAV file in memory; otherwise what is wrong, and what to do.
fn decode(bytes: &[u8], samples: &mut Vec<i16>) -> Result<(), String> {
    samples.clear();
    if bytes.is_empty() {
        return Err("the file is empty: copy or unpack it again".into());
    }
    let mut reader = WavReader::new(bytes).map_err(|error| explain(&error))?;
    let spec = reader.spec();
    if (spec.bits_per_sample, spec.sample_format) != (16, SampleFormat::Int) {
        let kind = if spec.sample_format == SampleFormat::Float { "floating point" } else { "integers" };
        return Err(format!("the samples are {kind} of {} bits: convert the file to integers of 16 bits", spec.bits_per_sample));
    }
    if spec.channels != 1 {
        return Err(format!("there are {} channels: convert the file to mono", spec.channels));
    }
    if spec.sample_rate != RATE {
        return Err(format!("the rate is {} samples a second: convert the file to {RATE}", spec.sample_rate));
    }
    match reader.len() as usize {
        0 => return Err("there is no sample in it: copy or unpack the file again".into()),
        1..=LENGTH => {}
        length => return Err(format!("there are {length} samples: cut the sound to {LENGTH}, one second")),
    }
    for sample in reader.samples::<i16>() {
        samples.push(sample.map_err(|error| explain(&error))?);
    }
    Ok(())
}

/// What the decoder's error means for a file that is in memory.
fn explain(error: &hound::Error) -> String {
    match error {
        // There is no other way for a read to fail.
        hound::Error::IoError(_) => "the file ends too early: copy or unpack it again".into(),
        hound::Error::FormatError(what) => format!("this is not a sound WAV file ({what}): copy or unpack it again"),
        hound::Error::TooWide => "a sample takes more than 16 bits: convert the file to integers of 16 bits".into(),
        other => format!("this kind of WAV file cannot be read ({other}): convert it to integers of 16 bits, PCM"),
    }
}
