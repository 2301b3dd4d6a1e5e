//! Means and standard deviations of every time step over the training files, and which of all files are bad, in one pass on all cores.
//!
//! The sums are integers, hence exact: the same bits whatever thread has read which file.

use super::clips::Clips;
use super::split::Part;
use super::{LENGTH, OP, wav};
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
            match wav::read_samples(&clips.path(number), &mut samples) {
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
