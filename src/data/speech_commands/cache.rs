//! The survey of all files, kept in a file of its own beside them.
//!
//! The file: [`MAGIC`]; the fingerprint of the files that were surveyed, u64; the number of bad files, u32, and the number of each, u32;
//! the 16,000 means and the 16,000 factors, f32; the CRC-32 of all that, u32. Numbers are little-endian.

use super::clips::Clips;
use super::split::Part;
use super::statistics::{self, Survey};
use super::{LENGTH, clip};
use crate::data::{Faults, Standardization};
use crate::error::{Error, Result};
use crate::file::write_atomically;
use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::thread;

const MAGIC: &[u8; 8] = b"PSSMSTA1";

/// The survey that stands in the file `path`, or, where it is not there, is damaged, or is of other files, one that is made, and kept there
/// if that is possible.
pub(super) fn survey(path: &Path, clips: &Clips, parts: &[Part], faults: &Faults) -> Result<Survey> {
    let fingerprint = clips.fingerprint(&parts.iter().map(|&part| part as u8).collect::<Vec<u8>>());
    if let Some(survey) = fs::read(path).ok().and_then(|bytes| parse(&bytes, fingerprint))
        && still_bad(&survey.bad, clips, faults)?
    {
        return Ok(survey);
    }
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let survey = statistics::survey(clips, parts, faults, threads)?;
    // A folder that cannot be written to is no fault: the survey is made again the next time.
    let _ = write_atomically(path, |out| out.write_all(&bytes(&survey, fingerprint)).map_err(|source| Error::io("write", path, source)));
    Ok(survey)
}

/// Takes note of the files that were bad, and says whether all of them still are.
fn still_bad(bad: &[usize], clips: &Clips, faults: &Faults) -> Result<bool> {
    let mut samples = Vec::new();
    for &number in bad {
        if number >= clips.len() {
            return Ok(false);
        }
        match clip::read_samples(&clips.path(number), &mut samples) {
            Ok(()) => return Ok(false),
            Err(error) => faults.meet(error)?,
        }
    }
    Ok(true)
}

fn bytes(survey: &Survey, fingerprint: u64) -> Vec<u8> {
    let Survey { standardization: Standardization { mean, factor }, bad } = survey;
    let mut bytes = MAGIC.to_vec();
    bytes.extend(fingerprint.to_le_bytes());
    bytes.extend((bad.len() as u32).to_le_bytes());
    bytes.extend(bad.iter().flat_map(|&number| (number as u32).to_le_bytes()));
    bytes.extend(mean.iter().chain(factor).flat_map(|value| value.to_le_bytes()));
    bytes.extend(checksum(&bytes).to_le_bytes());
    bytes
}

/// `None` where the bytes are damaged, or of other files.
fn parse(bytes: &[u8], fingerprint: u64) -> Option<Survey> {
    let (content, sum) = bytes.split_last_chunk::<4>()?;
    if checksum(content) != u32::from_le_bytes(*sum) {
        return None;
    }
    let (found, rest) = content.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let (bad, values) = rest.split_at_checked(4 * u32::from_le_bytes(*count) as usize)?;
    if u64::from_le_bytes(*found) != fingerprint || values.len() != 8 * LENGTH {
        return None;
    }
    let bad = bad.as_chunks::<4>().0.iter().map(|&number| u32::from_le_bytes(number) as usize).collect();
    let mut mean: Vec<f32> = values.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
    let factor = mean.split_off(LENGTH);
    Some(Survey { standardization: Standardization { mean, factor }, bad })
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    sum.sum()
}
