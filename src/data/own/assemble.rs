//! From samples with labels to data sets: classes or numbers, statistics of the training part, and the parts that are drawn.

use super::look::Kind;
use super::part::Parts;
use super::sample::Sample;
use super::series::Series;
use super::split::{self, Drawn};
use super::{OP, Options};
use crate::data::dataset::About;
use crate::data::{Dataset, Encoding, Faults, Splits, Standardization, TargetScale};
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// Under which name a set remembers of what kind its files were.
pub(super) const FORMAT: &str = "format";

/// The least standard deviation that is divided by: what varies less is left as large as it is.
const LEAST_DEVIATION: f64 = 1e-7;

/// How samples become a set's.
pub(super) struct Coder<'a, T> {
    /// Made from the training samples alone.
    pub encoding: &'a dyn Fn(&[Sample<T>]) -> Result<Encoding>,
    /// Appends one of a class.
    pub push: &'a dyn Fn(&mut Dataset, &T, usize) -> Result<()>,
    /// What must be known to read another sample.
    pub reading: Vec<(&'static str, String)>,
}

/// What labels stand for.
enum Meaning {
    Classes(Vec<String>),
    Numbers(TargetScale),
}

/// The splits of these samples. `declared` are the classes that the data name themselves, in their order.
pub(super) fn assemble<T>(
    parts: Parts<Vec<Sample<T>>>,
    kind: Kind,
    options: Options,
    declared: &[String],
    faults: &Faults,
    coder: Coder<'_, T>,
) -> Result<Splits> {
    if options.regression {
        parts.try_map(|samples| samples.iter().try_for_each(|sample| as_number(sample).map(drop)))?;
    }
    let Drawn { train, val, test, how } = split::complete(parts, options)?;
    let meaning = Meaning::of(&train, declared, options.regression)?;
    let reading = [(FORMAT, kind.ending().to_string())].into_iter().chain(coder.reading).chain(how);
    let about = About {
        names: if let Meaning::Classes(names) = &meaning { names.clone() } else { Vec::new() },
        scale: if let Meaning::Numbers(scale) = meaning { Some(scale) } else { None },
        reading: reading.map(|(name, value)| (name.to_string(), value)).collect(),
    };
    let encoding = (coder.encoding)(&train)?;
    let empty = Dataset::new(encoding, meaning.classes())?.with_about(about);
    let make = |part: &str, samples: &[Sample<T>]| {
        let set = meaning.set(empty.clone(), samples, coder.push, faults)?;
        split::filled(part, set.len()).map(|()| set)
    };
    let train_set = make("training", &train)?;
    let val = val.map_or_else(|| Ok(train_set.clone()), |val| make("validation", &val))?;
    Ok(Splits { val, test: make("test", &test)?, train: train_set })
}

impl Meaning {
    fn of<T>(train: &[Sample<T>], declared: &[String], regression: bool) -> Result<Self> {
        if regression {
            let numbers = train.iter().map(as_number).collect::<Result<Vec<f64>>>()?;
            return Ok(Meaning::Numbers(TargetScale::of(&numbers)));
        }
        let mut counts: BTreeMap<&str, usize> = declared.iter().map(|name| (name.as_str(), 0)).collect();
        for sample in train {
            if sample.label.is_empty() {
                return Err(sample.place.error("there is no label: give every training sample one"));
            }
            *counts.entry(&sample.label).or_default() += 1;
        }
        let mut names: Vec<String> = counts.keys().map(|name| name.to_string()).collect();
        if names.len() < 2 {
            let only = names.first().map_or(String::new(), |name| format!(" but {name:?}"));
            return Err(Error::value(OP, format!("there is no class{only} among the training samples: two are needed at least")));
        }
        if declared.is_empty() && names.len() > 10 && 2 * names.len() > train.len() {
            let help = format!("there are {} different labels on {} training samples", names.len(), train.len());
            return Err(Error::value(
                OP,
                format!("{help}: if they are numbers to find, add --regression; if not, which column is the label?"),
            ));
        }
        match declared.is_empty() {
            true => sort(&mut names),
            // Others than the declared ones were refused where they stood.
            false => names = declared.to_vec(),
        }
        Ok(Meaning::Classes(names))
    }

    fn classes(&self) -> usize {
        if let Meaning::Classes(names) = self { names.len() } else { 1 }
    }

    /// The set of these samples.
    fn set<T>(
        &self,
        empty: Dataset,
        samples: &[Sample<T>],
        push: &dyn Fn(&mut Dataset, &T, usize) -> Result<()>,
        faults: &Faults,
    ) -> Result<Dataset> {
        let (mut set, mut targets) = (empty, Vec::new());
        for sample in samples {
            let label = match self {
                Meaning::Numbers(_) => Some(0),
                Meaning::Classes(names) => names.iter().position(|name| *name == sample.label),
            };
            let Some(label) = label else {
                faults.meet(sample.place.error(format!("no training sample has the label {:?}: correct it, or add some", sample.label)))?;
                continue;
            };
            push(&mut set, &sample.content, label).map_err(|error| match error {
                Error::Value { help, .. } => sample.place.error(help),
                other => other,
            })?;
            if let Meaning::Numbers(_) = self {
                targets.push(as_number(sample)?);
            }
        }
        match self {
            Meaning::Numbers(scale) => set.with_targets(*scale, targets),
            Meaning::Classes(_) => Ok(set),
        }
    }
}

/// The number that a label is.
fn as_number<T>(sample: &Sample<T>) -> Result<f64> {
    let number = sample.label.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| {
        let shown: String = sample.label.chars().take(20).collect();
        sample.place.error(format!("the label {shown:?} is no number: correct it, or leave --regression out"))
    })
}

/// In the order of numbers, where all names are numbers; otherwise in that of the alphabet.
fn sort(names: &mut [String]) {
    let numbers: Option<Vec<f64>> = names.iter().map(|name| name.parse().ok()).collect();
    match numbers {
        Some(_) => names.sort_by(|a, b| a.parse().unwrap_or(f64::NAN).total_cmp(&b.parse().unwrap_or(f64::NAN))),
        None => names.sort_unstable(),
    }
}

/// A label of a table as it is compared: of a number the shortest way to write it, as 1 for 1.0.
pub(super) fn canonical(label: &str) -> String {
    let label = label.trim();
    label.parse().ok().filter(|number: &f64| number.is_finite()).map_or_else(|| label.to_string(), |number: f64| number.to_string())
}

/// Series with the statistics of their channels.
pub(super) fn by_channel(train: &[Sample<Series>]) -> Result<Encoding> {
    let channels = train.first().map_or(1, |sample| sample.content.channels);
    let values = |channel: usize| {
        train.iter().flat_map(move |sample| sample.content.values.iter().skip(channel).step_by(channels).map(|&value| f64::from(value)))
    };
    Ok(Encoding::Channels(statistics((0..channels).map(values))))
}

/// The mean and the inverse deviation of each of these.
pub(super) fn statistics<I: Iterator<Item = f64> + Clone>(channels: impl Iterator<Item = I>) -> Standardization {
    let of = |values: I| {
        let (mut count, mut sum) = (0.0f64, 0.0);
        values.clone().for_each(|value| (count, sum) = (count + 1.0, sum + value));
        let mean = sum / count.max(1.0);
        let squares: f64 = values.map(|value| (value - mean).powi(2)).sum();
        let deviation = (squares / count.max(1.0)).sqrt();
        (mean as f32, (1.0 / if deviation > LEAST_DEVIATION { deviation } else { 1.0 }) as f32)
    };
    let (mean, factor) = channels.map(of).unzip();
    Standardization { mean, factor }
}

pub(super) fn push_series(set: &mut Dataset, series: &Series, label: usize) -> Result<()> {
    set.push_values(&series.values, label)
}
