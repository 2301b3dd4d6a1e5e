//! The encoding and the classes of a data set in a checkpoint: what its model can be used with, without that run's data.

use std::path::Path;

use serde_json::{Map, Value};

use crate::data::{About, Dataset, Encoding, Standardization, TargetScale, Vocabulary};
use crate::error::{Error, Result};
use crate::nn::store::{Archive, Stored};

/// What a checkpoint says about its run.
pub(super) type Notes = Map<String, Value>;

const LEVELS: &str = "input.levels";
const STATISTICS: [&str; 2] = ["input.mean", "input.factor"];
const CHANNELS: [&str; 2] = ["input.channel_mean", "input.channel_factor"];

/// Writes the encoding and the classes of a data set.
pub(super) fn store_set(archive: &mut Archive, notes: &mut Notes, set: &Dataset) {
    notes.insert("classes".into(), set.classes().into());
    notes.insert("paired".into(), set.is_paired().into());
    let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<f64>>();
    match set.encoding() {
        Encoding::Tokens(vocabulary) => {
            let symbols = (Vocabulary::SPECIALS.len()..vocabulary.len()).filter_map(|id| vocabulary.symbol(id as u32));
            notes.insert("symbols".into(), symbols.collect::<Vec<_>>().into());
        }
        Encoding::Values(d_input) => drop(notes.insert("d_input".into(), (*d_input).into())),
        Encoding::Levels(table) => drop(archive.tensors.insert(LEVELS.into(), Stored::new(&wide(table), &[table.len()]))),
        Encoding::Standardized(statistics) => store_statistics(archive, STATISTICS, statistics),
        Encoding::Channels(statistics) => store_statistics(archive, CHANNELS, statistics),
    }
    let About { names, scale, reading } = set.about();
    if !names.is_empty() {
        notes.insert("names".into(), names.as_slice().into());
    }
    if let Some(TargetScale { mean, deviation }) = scale {
        notes.insert("targets".into(), [*mean, *deviation].as_slice().into());
    }
    if !reading.is_empty() {
        notes.insert("reading".into(), reading.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect::<Notes>().into());
    }
}

fn store_statistics(archive: &mut Archive, names: [&str; 2], Standardization { mean, factor }: &Standardization) {
    for (name, values) in names.into_iter().zip([mean, factor]) {
        let wide: Vec<f64> = values.iter().copied().map(f64::from).collect();
        archive.tensors.insert(name.into(), Stored::new(&wide, &[wide.len()]));
    }
}

/// The empty data set that [`store_set`] wrote.
pub(super) fn stored_set(archive: &Archive, notes: &Notes, path: &Path) -> Result<Dataset> {
    stored_samples(archive, notes, path).and_then(|set| Ok(set.with_about(stored_about(notes, path)?)))
}

/// What is known of the set beside its samples.
fn stored_about(notes: &Notes, path: &Path) -> Result<About> {
    let texts = |value: &Value| value.as_array()?.iter().map(|text| text.as_str().map(String::from)).collect::<Option<Vec<_>>>();
    let named = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_string()));
    let scale = |value: &Value| match value.as_array()?.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>()?[..] {
        [mean, deviation] if deviation > 0.0 => Some(TargetScale { mean, deviation }),
        _ => None,
    };
    let reading = |value: &Value| value.as_object()?.iter().map(named).collect::<Option<_>>();
    let damaged = |name| move || damaged(path, name);
    Ok(About {
        names: notes.get("names").map_or(Ok(Vec::new()), |value| texts(value).ok_or_else(damaged("names")))?,
        scale: notes.get("targets").map(|value| scale(value).ok_or_else(damaged("targets"))).transpose()?,
        reading: notes.get("reading").map_or(Ok(Default::default()), |value| reading(value).ok_or_else(damaged("reading")))?,
    })
}

fn stored_samples(archive: &Archive, notes: &Notes, path: &Path) -> Result<Dataset> {
    let classes = number(notes, path, "classes")? as usize;
    let narrow = |name: &str| {
        let values = archive.tensors.get(name).and_then(Stored::to_f64)?;
        Some(values.into_iter().map(|value| value as f32).collect::<Vec<f32>>())
    };
    if let Some(symbols) = notes.get("symbols") {
        let symbols: Option<Vec<&str>> = symbols.as_array().and_then(|symbols| symbols.iter().map(Value::as_str).collect());
        let vocabulary = Vocabulary::new(symbols.ok_or_else(|| damaged(path, "symbols"))?)?;
        let paired = notes.get("paired").and_then(Value::as_bool).unwrap_or(false);
        return Ok(if paired { Dataset::pairs(vocabulary, classes) } else { Dataset::tokens(vocabulary, classes) });
    }
    let encoding = match (narrow(LEVELS), STATISTICS.map(narrow), CHANNELS.map(narrow)) {
        (Some(table), ..) => Encoding::Levels(table),
        (None, [Some(mean), Some(factor)], _) => Encoding::Standardized(Standardization { mean, factor }),
        (None, _, [Some(mean), Some(factor)]) => Encoding::Channels(Standardization { mean, factor }),
        _ => Encoding::Values(number(notes, path, "d_input")? as usize),
    };
    Dataset::new(encoding, classes)
}

/// The error of a checkpoint that lacks what it must hold.
pub(super) fn damaged(path: &Path, name: &str) -> Error {
    Error::checkpoint(path, format!("is damaged: {name} is missing or unreadable; take an earlier one"))
}

/// A number of the notes.
pub(super) fn number(notes: &Notes, path: &Path, name: &str) -> Result<u64> {
    notes.get(name).and_then(Value::as_u64).ok_or_else(|| damaged(path, name))
}
