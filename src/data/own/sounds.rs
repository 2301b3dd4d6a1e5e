//! Sounds of any rate, brought to one: a value a time step.

use super::assemble::{Coder, assemble, by_channel, push_series};
use super::look::{Kind, Source};
use super::part::Parts;
use super::sample::{Place, Sample};
use super::series::Series;
use super::{OP, Options};
use crate::data::wav::{self, Sound};
use crate::data::{Dataset, Faults, Splits};
use crate::error::{Error, Result};
use rubato::audioadapter_buffers::owned::InterleavedOwned;
use rubato::{Fft, FixedSync, Resampler};
use std::path::Path;

/// Samples a second of every sound, unless all training sounds have fewer.
const RATE: u32 = 16_000;

/// The rates that are read.
const RATES: std::ops::RangeInclusive<u32> = 100..=768_000;

/// Values of all sounds together: a gigabyte of f32.
const MOST_VALUES: usize = 1 << 28;

/// Under which names a set remembers the rate, and the longest training sound in time steps.
const KEPT_RATE: &str = "rate";

/// The splits of these sounds, in memory.
pub(super) fn load(parts: &Parts<Vec<Source>>, options: Options, faults: &Faults) -> Result<Splits> {
    let mut values = 0;
    let sounds = parts.try_map(|sources| {
        let mut sounds = Vec::new();
        for source in sources {
            let sound = match read(&source.path) {
                Ok(sound) => sound,
                Err(error) => {
                    faults.meet(error)?;
                    continue;
                }
            };
            // What is read last is not kept at a higher rate than is wanted.
            let content = if sound.rate > RATE { at_rate(&sound, RATE)? } else { sound };
            values += content.samples.len();
            if values > MOST_VALUES {
                let help = format!(
                    "the sounds are longer than {} hours in all, more than is kept in memory: give fewer",
                    MOST_VALUES as u32 / RATE / 3600
                );
                return Err(Error::value(OP, help));
            }
            sounds.push(Sample { content, label: source.class.clone(), place: Place::file(source.path.clone()) });
        }
        Ok(sounds)
    })?;
    let rate = sounds.train.iter().map(|sound| sound.content.rate).max().unwrap_or(RATE);
    let series = sounds.try_map(|sounds| sounds.iter().map(|sound| as_series(sound, rate)).collect::<Result<Vec<_>>>())?;
    let reading = vec![(KEPT_RATE, rate.to_string())];
    assemble(series, Kind::Wav, options, &[], faults, Coder { encoding: &by_channel, push: &push_series, reading })
}

/// Appends the sound in a file.
pub(super) fn push(path: &Path, set: &mut Dataset) -> Result<()> {
    let rate = set.reading().get(KEPT_RATE).and_then(|rate| rate.parse().ok()).filter(|rate| RATES.contains(rate));
    let rate = rate.ok_or_else(|| Error::value(OP, "the set does not say at which rate sounds are read"))?;
    let sound = at_rate(&read(path)?, rate)?;
    set.push_values(&sound.samples, 0)
}

fn read(path: &Path) -> Result<Sound> {
    let sound = wav::read(path)?;
    match RATES.contains(&sound.rate) {
        true => Ok(sound),
        false => {
            let help =
                format!("there are {} samples a second: convert the file to a rate from {} to {}", sound.rate, RATES.start(), RATES.end());
            Err(Error::binary(path, 0, help))
        }
    }
}

fn as_series(sound: &Sample<Sound>, rate: u32) -> Result<Sample<Series>> {
    let Sample { content, label, place } = sound;
    let content = Series { channels: 1, values: at_rate(content, rate)?.samples };
    Ok(Sample { content, label: label.clone(), place: place.clone() })
}

/// A sound at another rate: as long in time, with nothing above half of the lower of both rates.
fn at_rate(sound: &Sound, rate: u32) -> Result<Sound> {
    if sound.rate == rate {
        return Ok(sound.clone());
    }
    let failed = |error: &dyn std::fmt::Display| {
        Error::value(OP, format!("a sound cannot be brought from {} to {rate} samples a second: {error}", sound.rate))
    };
    let length = sound.samples.len();
    let input = InterleavedOwned::new_from(sound.samples.clone(), 1, length).map_err(|error| failed(&error))?;
    let resampler = Fft::<f32>::new(sound.rate as usize, rate as usize, block(sound.rate, rate), 1, FixedSync::Both);
    let output = resampler.map_err(|error| failed(&error))?.process_all(&input, length, None).map_err(|error| failed(&error))?;
    let samples = output.take_data();
    match samples.is_empty() {
        true => Err(failed(&"nothing is left of it")),
        false => Ok(Sound { rate, samples }),
    }
}

/// How many samples are transformed at once: an even number of the least ones that are whole at both rates. The middle of an odd number is none of
/// the samples, and the sound would come half a one too late.
fn block(from: u32, to: u32) -> usize {
    const LEAST: usize = 1024;
    let (mut a, mut b) = (from, to);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    let whole = (from / a) as usize;
    whole * LEAST.div_ceil(whole).next_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    fn tone(rate: u32, frequency: f64) -> Sound {
        let sample = |at: u32| (TAU * frequency * f64::from(at) / f64::from(rate)).sin() as f32;
        Sound { rate, samples: (0..rate).map(sample).collect() }
    }

    #[test]
    fn a_tone_is_the_same_tone_at_another_rate() {
        for (from, to) in [(44_100, 16_000), (8_000, 16_000), (22_050, 16_000), (48_000, 8_000), (11_025, 11_025)] {
            let (found, wanted) = (at_rate(&tone(from, 440.0), to).unwrap(), tone(to, 440.0));
            assert_eq!((found.rate, found.samples.len()), (to, to as usize), "{from} to {to}");
            // The ends ring.
            let inner = to as usize / 10..to as usize * 9 / 10;
            let worst = inner.map(|at| (found.samples[at] - wanted.samples[at]).abs()).fold(0.0, f32::max);
            assert!(worst < 2e-3, "{from} to {to}: {worst}");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_taken_out() {
        let found = at_rate(&tone(44_100, 12_000.0), 16_000).unwrap();
        let inner = &found.samples[1_600..14_400];
        assert!(inner.iter().all(|sample| sample.abs() < 1e-2), "{:?}", inner.iter().copied().fold(0.0, f32::max));
    }
}
