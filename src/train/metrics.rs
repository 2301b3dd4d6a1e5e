//! The metrics file: one JSON object a line.

use std::io::ErrorKind;
use std::path::PathBuf;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::file::Growing;

/// A file to which lines are added, each whole.
#[derive(Debug)]
pub(super) struct Metrics {
    file: Growing,
}

impl Metrics {
    /// Opens the file, and makes it where it is missing.
    pub fn open(path: PathBuf) -> Result<Self> {
        Ok(Metrics { file: Growing::open(path)? })
    }

    /// Whether there is anything in it but the first line of a run.
    pub fn hold_a_run(&self) -> Result<bool> {
        let is_first = |line: &str| serde_json::from_str(line).is_ok_and(|value: Value| value["kind"] == "run");
        Ok(!self.text()?.lines().all(is_first))
    }

    /// Drops what an earlier run wrote, apart from the lines that `keep` wants and may change: those that this run will not write again.
    pub fn rewind(&mut self, mut keep: impl FnMut(&mut Value) -> bool) -> Result<()> {
        // A last line that was cut when the machine went down does not parse, and goes too.
        let kept = |line| {
            let mut value: Value = serde_json::from_str(line).ok()?;
            keep(&mut value).then(|| format!("{value}\n"))
        };
        let lines: String = self.text()?.lines().filter_map(kept).collect();
        self.file.replace(&lines)
    }

    fn text(&self) -> Result<String> {
        match std::fs::read(self.file.path()) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(Error::io("read", self.file.path(), error)),
        }
    }

    /// Waits until all lines lie on the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync()
    }

    /// Adds a line.
    pub fn add(&mut self, value: &Value) -> Result<()> {
        self.file.add(format!("{value}\n").as_bytes())
    }
}
