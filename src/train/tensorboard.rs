//! TensorBoard: the numbers of a run as scalars in event files, one file a process that worked on it.

mod event;
mod record;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use self::event::Scalar;
use crate::error::{Error, Result};
use crate::file::{self, Growing};

/// What the name of every event file begins with: TensorBoard looks for it.
pub(super) const NAME: &str = "events.out.tfevents";

/// What stands in a line of metrics beside the numbers of the run.
const STAMPS: [&str; 4] = ["step", "seconds", "epoch", "passes"];

/// The event file of this process.
#[derive(Debug)]
pub(super) struct Events {
    file: Growing,
}

impl Events {
    /// Begins a file in the folder of a run whose next step is `step`.
    pub fn begin(dir: &Path, step: u64) -> Result<Self> {
        let now = since_1970();
        // TensorBoard reads files in the order of their names.
        let name = |number: u64| dir.join(format!("{NAME}.{:010}.{}.{number:03}.pspikessm", now as u64, std::process::id()));
        let free = (0..).map(name).find(|path| !path.exists());
        let mut events = Events { file: Growing::open(free.unwrap_or_else(|| name(0)))? };
        events.write(&[event::version(now), event::start(now, step)])?;
        Ok(events)
    }

    /// Adds the numbers of a line of metrics, each as `what/kind`, as in "loss/validation".
    pub fn add(&mut self, kind: &str, step: u64, line: &Value) -> Result<()> {
        match scalars(kind, line) {
            values if values.is_empty() => Ok(()),
            values => self.write(&[event::scalars(since_1970(), step, &values)]),
        }
    }

    /// Waits until all of it lies on the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync()
    }

    fn write(&mut self, events: &[Vec<u8>]) -> Result<()> {
        let mut records = Vec::new();
        events.iter().for_each(|event| record::frame(&mut records, event));
        self.file.add(&records)
    }
}

fn since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// The numbers of a line; one that is not finite has none.
fn scalars(kind: &str, line: &Value) -> Vec<Scalar> {
    let kind = match kind {
        "run" => return Vec::new(),
        // Of the same batches as the others.
        "spikes" => "train",
        kind => kind,
    };
    let own = line.as_object().into_iter().flatten().filter(|(name, _)| !STAMPS.contains(&name.as_str()));
    let mut found: Vec<Scalar> = own.filter_map(|(name, value)| Some((format!("{name}/{kind}"), value.as_f64()? as f32))).collect();
    for layer in line["layers"].as_array().into_iter().flatten() {
        if let (Some(number), Some(site), Some(rate)) = (layer["layer"].as_u64(), layer["site"].as_str(), layer["rate"].as_f64()) {
            found.push((format!("spike_rate/layer_{number}_{site}/{kind}"), rate as f32));
        }
    }
    found
}

/// The event files of a folder, in the order of their names.
fn all(dir: &Path) -> Result<Vec<PathBuf>> {
    let fails = |error| Error::io("list the folder", dir, error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fails)? {
        let entry = entry.map_err(fails)?;
        if entry.file_name().to_string_lossy().starts_with(NAME) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Every event with numbers in the files of a folder, without its time.
#[cfg(test)]
pub(super) fn numbers(dir: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for path in all(dir).unwrap() {
        let content = std::fs::read(path).unwrap();
        let mut rest = &content[..];
        while let Some((_, event, behind)) = record::unframe(rest) {
            found.extend(event::first_scalar(event).map(|_| event[9..].to_vec()));
            rest = behind;
        }
        assert!(rest.is_empty(), "a record is cut");
    }
    found
}

/// Removes all event files of a folder.
pub(super) fn clear(dir: &Path) -> Result<()> {
    all(dir)?.iter().try_for_each(|path| file::remove(path))
}

/// Takes out of the event files of a folder what a run that goes on will write again: the numbers of training behind `step`, those of
/// validations behind `validated`, those of tests.
pub(super) fn rewind(dir: &Path, step: u64, validated: u64) -> Result<()> {
    let stays = |event: &[u8]| match event::first_scalar(event) {
        Some((at, tag)) if tag.ends_with("/validation") => at <= validated,
        Some((at, tag)) => at <= step && !tag.ends_with("/test"),
        None => true,
    };
    for path in all(dir)? {
        let content = std::fs::read(&path).map_err(|error| Error::io("read", &path, error))?;
        let (mut kept, mut rest) = (Vec::new(), &content[..]);
        // A last record that was cut when a process was killed goes, too.
        while let Some((record, event, behind)) = record::unframe(rest) {
            if stays(event) {
                kept.extend(record);
            }
            rest = behind;
        }
        if kept != content {
            file::write_atomically(&path, |out| out.write_all(&kept).map_err(|error| Error::io("write", &path, error)))?;
        }
    }
    Ok(())
}
