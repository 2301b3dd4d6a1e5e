//! What `metrics.jsonl` says: a run, step by step. A resumed run's lines follow those of the process before it.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};

/// What a run is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Run {
    pub task: String,
    pub backend: String,
    pub parameters: u64,
    /// Of the whole run.
    pub steps: u64,
    /// Of the training set.
    pub samples: u64,
    /// The names of the classes.
    pub classes: Vec<String>,
    /// In TOML.
    pub recipe: String,
}

/// The result of some training steps or of an evaluation. A number is `None` where it was not finite or the line lacks it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Entry {
    pub step: u64,
    pub epoch: u64,
    pub loss: Option<f64>,
    pub accuracy: Option<f64>,
    /// Of a regression, in units of the data.
    pub absolute_error: Option<f64>,
    pub lr: Option<f64>,
    pub spike_rate: Option<f64>,
    pub passes: u64,
    pub layers: Vec<Rate>,
    /// True classes in rows.
    pub confusion: Vec<Vec<u64>>,
}

/// How often the neurons of a layer spike at a place.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rate {
    pub layer: usize,
    pub site: String,
    pub rate: Option<f64>,
}

/// What all lines have.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stamp {
    kind: String,
    seconds: Option<f64>,
}

/// A run so far. Steps rise within each list.
#[derive(Debug, Default)]
pub(super) struct History {
    pub run: Run,
    pub train: Vec<Entry>,
    pub validation: Vec<Entry>,
    /// Spike rates of single training batches.
    pub spikes: Vec<Entry>,
    /// Once the run is finished.
    pub test: Option<Entry>,
    /// Spent by all processes that worked on the run.
    pub seconds: f64,
    /// What the last line says, of the process that wrote it.
    clock: f64,
}

impl History {
    /// Reads the file. Its last line may be cut: the run goes on.
    ///
    /// # Errors
    /// See [`write`](super::write).
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::value("report", format!("{} is not there: give --out the folder of a run", path.display())),
            _ => Error::io("read", path, error),
        })?;
        let (mut reader, mut line, mut number) = (BufReader::new(file), Vec::new(), 0);
        let (mut history, mut taken) = (History::default(), false);
        while reader.read_until(b'\n', &mut line).map_err(|error| Error::io("read", path, error))? > 0 {
            number += 1;
            match history.take(&line) {
                Ok(known) => taken |= known,
                Err(_) if line.last() != Some(&b'\n') => {}
                Err(error) => return Err(Error::data(path, number, error.column(), format!("{error}: take this line out of the file"))),
            }
            line.clear();
        }
        match taken {
            true => Ok(history),
            false => Err(Error::value("report", format!("{} has no whole line yet: wait for the run's first steps", path.display()))),
        }
    }

    /// Adds what a line says; false where the line does not belong to a run.
    fn take(&mut self, line: &[u8]) -> serde_json::Result<bool> {
        if line.trim_ascii().is_empty() {
            return Ok(false);
        }
        let stamp: Stamp = serde_json::from_slice(line)?;
        match stamp.kind.as_str() {
            "run" => *self = History { run: serde_json::from_slice(line)?, ..History::default() },
            kind @ ("train" | "spikes" | "validation") => self.add(kind, serde_json::from_slice(line)?),
            "test" => self.test = Some(serde_json::from_slice(line)?),
            // Of a later version.
            _ => return Ok(false),
        }
        self.tick(stamp.seconds.unwrap_or(self.clock));
        Ok(true)
    }

    /// Adds steps of training, the spikes of one, or a validation. Steps that are taken again replace those that were taken before.
    fn add(&mut self, kind: &str, entry: Entry) {
        let step = entry.step;
        self.test = None;
        // Of the lines of one step those of training come first, then its spikes, then the validation of the epoch that it ends.
        let rank = |kind| ["train", "spikes", "validation"].iter().position(|&known| known == kind);
        for (own, list) in [("train", &mut self.train), ("spikes", &mut self.spikes), ("validation", &mut self.validation)] {
            list.truncate(list.partition_point(|old| old.step < step || (old.step == step && rank(own) < rank(kind))));
            if own == kind {
                list.push(entry.clone());
            }
        }
    }

    /// Adds the time since the line before; a resumed process starts its clock at 0.
    fn tick(&mut self, seconds: f64) {
        self.seconds += if seconds < self.clock { seconds } else { seconds - self.clock };
        self.clock = seconds;
    }

    /// The last step that is known of.
    pub fn last_step(&self) -> u64 {
        let lists = [self.train.last(), self.spikes.last(), self.validation.last(), self.test.as_ref()];
        lists.into_iter().flatten().map(|entry| entry.step).max().unwrap_or(0)
    }

    /// The first of the validations with the best accuracy.
    pub fn best(&self) -> Option<(&Entry, f64)> {
        let known = self.validation.iter().filter_map(|entry| Some((entry, entry.accuracy?)));
        known.reduce(|best, next| if next.1 > best.1 { next } else { best })
    }

    /// What the recipe is called.
    pub fn recipe_name(&self) -> Option<String> {
        let table: toml::Table = self.run.recipe.parse().ok()?;
        Some(table.get("name")?.as_str()?.to_string())
    }

    /// Task and recipe.
    pub fn title(&self) -> String {
        match (self.recipe_name(), self.run.task.as_str()) {
            (None, "") => "a run".into(),
            (None, task) => task.into(),
            (Some(recipe), task) => format!("{task}, {recipe}"),
        }
    }
}
