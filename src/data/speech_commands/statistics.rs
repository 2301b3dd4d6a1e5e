//! Means and standard deviations of every time step over the training files, and which of all files are bad, in one pass on all cores.
//!
//! The sums are integers, hence exact: the same bits whatever thread has read which file.

use super::clips::Clips;
use super::split::Part;
use super::{LENGTH, OP, clip};
use crate::data::{Faults, Standardization};
use crate::error::{Error, Result};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Added to every standard deviation, as S4's loader does it.
const EPSILON: f64 = 1e-5;

/// What reading all files gives.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Survey {
    pub standardization: Standardization,
    /// The numbers of the files that cannot be used, rising.
    pub bad: Vec<usize>,
}

/// Reads all files on so many threads.
///
/// The error is that of the first bad file by number, whatever the number of threads: files are taken in their order, and what was taken
/// is read to its end.
pub(super) fn survey(clips: &Clips, parts: &[Part], faults: &Faults, threads: usize) -> Result<Survey> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        let mut found = Found::new();
        let mut samples = Vec::with_capacity(LENGTH);
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(&part) = parts.get(number) else { break };
            match clip::read_samples(&clips.path(number), &mut samples) {
                Ok(()) if part == Part::Train => found.sums.add(&samples),
                Ok(()) => {}
                Err(error) => {
                    found.bad.push(number);
                    if let Err(error) = faults.meet(error) {
                        found.refused = Some((number, error));
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
        found
    };
    let found = thread::scope(|scope| {
        // Where no thread can be started, it only takes longer.
        let helper = |_| thread::Builder::new().name("clips".into()).spawn_scoped(scope, work).ok();
        let helpers: Vec<_> = (1..threads).filter_map(helper).collect();
        let mine = work();
        helpers.into_iter().fold(mine, |all, helper| all.join(helper.join().unwrap_or_else(|panic| resume_unwind(panic))))
    });
    if let Some((_, error)) = found.refused {
        return Err(error);
    }
    let mut bad = found.bad;
    bad.sort_unstable();
    Ok(Survey { standardization: found.sums.standardization()?, bad })
}

/// What one thread has found.
struct Found {
    sums: Sums,
    bad: Vec<usize>,
    /// The number of the file that ended the reading, and why.
    refused: Option<(usize, Error)>,
}

impl Found {
    fn new() -> Self {
        Found { sums: Sums { clips: 0, first: vec![0; LENGTH], second: vec![0; LENGTH] }, bad: Vec::new(), refused: None }
    }

    fn join(mut self, other: Found) -> Self {
        self.sums.clips += other.sums.clips;
        self.sums.first.iter_mut().zip(other.sums.first).for_each(|(sum, more)| *sum += more);
        self.sums.second.iter_mut().zip(other.sums.second).for_each(|(sum, more)| *sum += more);
        self.bad.extend(other.bad);
        self.refused = self.refused.into_iter().chain(other.refused).min_by_key(|&(number, _)| number);
        self
    }
}

/// Sums over clips for every time step. A square is at most 2^30: there is room for 2^33 clips.
struct Sums {
    clips: i64,
    /// Of the samples.
    first: Vec<i64>,
    /// Of their squares.
    second: Vec<i64>,
}

impl Sums {
    /// Adds a clip; behind its end there are zeros.
    fn add(&mut self, samples: &[i16]) {
        self.clips += 1;
        for ((first, second), &sample) in self.first.iter_mut().zip(&mut self.second).zip(samples) {
            let sample = i64::from(sample);
            *first += sample;
            *second += sample * sample;
        }
    }

    fn standardization(&self) -> Result<Standardization> {
        if self.clips < 2 {
            let help = "a standard deviation needs two at least: add files, or repair the lists";
            return Err(Error::value(OP, format!("there are {} training files that can be read: {help}", self.clips)));
        }
        let clips = i128::from(self.clips);
        let (mut mean, mut factor) = (Vec::with_capacity(LENGTH), Vec::with_capacity(LENGTH));
        for (&first, &second) in self.first.iter().zip(&self.second) {
            // n sum(x^2) - sum(x)^2, which loses nothing in integers.
            let spread = clips * i128::from(second) - i128::from(first).pow(2);
            let variance = spread as f64 / (clips * (clips - 1)) as f64;
            mean.push((first as f64 / self.clips as f64 / 32_768.0) as f32);
            factor.push((1.0 / (variance.sqrt() / 32_768.0 + EPSILON)) as f32);
        }
        Ok(Standardization { mean, factor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// A WAV file of these samples.
    fn write(path: &Path, samples: &[i16]) {
        let spec = hound::WavSpec { channels: 1, sample_rate: 16_000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        samples.iter().for_each(|&sample| writer.write_sample(sample).unwrap());
        writer.finalize().unwrap();
    }

    /// 60 clips, of which every seventh is bad.
    fn clips(dir: &Path) -> Clips {
        for (word, name) in ["no", "yes"].into_iter().flat_map(|word| (0..30).map(move |name| (word, name))) {
            let path = dir.join(word).join(format!("{name:02}.wav"));
            fs::create_dir_all(dir.join(word)).unwrap();
            let samples: Vec<i16> = (0..50 + name).map(|i| (i * i * (name + 3) * 977 % 65_521) as u16 as i16).collect();
            write(&path, &samples);
            if name % 7 == 6 {
                fs::write(&path, b"RIFF").unwrap();
            }
        }
        Clips::scan(dir, &["no", "yes"], &Faults::refused()).unwrap()
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits_and_the_same_first_error() {
        let dir = tempfile::tempdir().unwrap();
        let clips = clips(dir.path());
        let parts: Vec<Part> = (0..60).map(|number| if number % 5 == 0 { Part::Test } else { Part::Train }).collect();
        let one = survey(&clips, &parts, &Faults::skipped(), 1).unwrap();
        assert_eq!(one.bad, [6, 13, 20, 27, 36, 43, 50, 57]);
        for threads in [2, 3, 8, 100] {
            let faults = Faults::skipped();
            assert_eq!(survey(&clips, &parts, &faults, threads).unwrap(), one, "{threads} threads");
            assert_eq!(faults.count(), 8);
            for _ in 0..10 {
                let error = survey(&clips, &parts, &Faults::refused(), threads).unwrap_err().to_string();
                assert!(error.contains("06.wav") && error.contains("no"), "{threads} threads: {error}");
            }
        }
    }

    #[test]
    fn loud_clips_lose_nothing() {
        // Loudest sound with the smallest spread: in f64 sums of squares would still do, in f32 nothing would be left.
        let mut sums = Found::new().sums;
        for clip in 0..100_001 {
            sums.clips += 1;
            let sample = if clip == 0 { i64::from(i16::MIN) + 1 } else { i64::from(i16::MIN) };
            sums.first[0] += sample;
            sums.second[0] += sample * sample;
        }
        let Standardization { mean, factor } = sums.standardization().unwrap();
        // One of n differs by 1: the variance is 1 / n.
        let sd = (1.0 / 100_001f64).sqrt() / 32_768.0;
        assert_eq!((mean[0], factor[0]), (-1.0, (1.0 / (sd + 1e-5)) as f32));
    }
}
