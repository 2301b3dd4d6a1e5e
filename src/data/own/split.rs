//! Which samples are training, validation and test, where the data do not say so: drawn class by class.

use super::part::Parts;
use super::sample::Sample;
use super::{OP, Options, SPARED};
use crate::data::random::{Purpose, permutation, stream};
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// One sample of so many is drawn for the test, and of the training samples for validation.
const TEST: usize = 5;
const VALIDATION: usize = 10;

/// All parts, and how they came about.
pub(super) struct Drawn<T> {
    pub train: Vec<Sample<T>>,
    /// None where the training samples are shown again.
    pub val: Option<Vec<Sample<T>>>,
    pub test: Vec<Sample<T>>,
    pub how: [(&'static str, String); 2],
}

/// Draws the parts that are missing.
pub(super) fn complete<T>(parts: Parts<Vec<Sample<T>>>, options: Options) -> Result<Drawn<T>> {
    let Parts { mut train, val, test } = parts;
    let given = |is: bool| if is { "given" } else { "drawn" }.to_string();
    let test_how = given(test.is_some());
    let test = test.map_or_else(|| hold_out(&mut train, TEST, 0, options), Ok)?;
    let (val, val_how) = match val {
        Some(val) => (Some(val), given(true)),
        None if train.len() >= SPARED => (Some(hold_out(&mut train, VALIDATION, 1, options)?), given(false)),
        None => (None, "training".into()),
    };
    filled("training", train.len())?;
    Ok(Drawn { train, val, test, how: [("test", test_how), ("validation", val_how)] })
}

/// Refuses a part without a sample.
pub(super) fn filled(part: &str, samples: usize) -> Result<()> {
    match samples {
        0 => Err(Error::value(OP, format!("there is no sample in the {part} part that can be read: add some"))),
        _ => Ok(()),
    }
}

/// Takes one of `share` samples of each class out of `samples`, rounded, at least one in all; `stage` tells two draws from each other.
fn hold_out<T>(samples: &mut Vec<Sample<T>>, share: usize, stage: u64, options: Options) -> Result<Vec<Sample<T>>> {
    let mut classes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (number, sample) in samples.iter().enumerate() {
        classes.entry(if options.regression { "" } else { &sample.label }).or_default().push(number);
    }
    let mut held = vec![false; samples.len()];
    for (class, (_, numbers)) in classes.iter().enumerate() {
        let order = permutation(&mut stream(options.seed, Purpose::OwnSplit, stage << 32 | class as u64), numbers.len());
        let count = (numbers.len() + share / 2) / share;
        order[..count].iter().for_each(|&place| held[numbers[place]] = true);
    }
    if !held.contains(&true) {
        // Every class is too small to spare its share: one sample goes, and not the last of its class.
        let spare: Vec<usize> = classes.values().filter(|numbers| numbers.len() > 1).flatten().copied().collect();
        let order = permutation(&mut stream(options.seed, Purpose::OwnSplit, stage << 32 | u64::from(u32::MAX)), spare.len());
        order.first().into_iter().for_each(|&place| held[spare[place]] = true);
    }
    let (out, kept): (Vec<_>, Vec<_>) = std::mem::take(samples).into_iter().zip(held).partition(|(_, held)| *held);
    *samples = kept.into_iter().map(|(sample, _)| sample).collect();
    let out: Vec<Sample<T>> = out.into_iter().map(|(sample, _)| sample).collect();
    match out.is_empty() {
        true => Err(Error::value(
            OP,
            "there are too few samples to draw a test from: give two of a class at least, or a part that is called test",
        )),
        false => Ok(out),
    }
}
