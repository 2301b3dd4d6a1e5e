//! The metrics file: one JSON object a line.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::file::write_atomically;

/// A file to which lines are added, each whole.
#[derive(Debug)]
pub(super) struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Opens the file, and makes it where it is missing.
    pub fn open(path: PathBuf) -> Result<Self> {
        let file = append(&path)?;
        Ok(Metrics { path, file })
    }

    /// Drops what an earlier run wrote, apart from the lines that `keep` wants and may change: those that this run will not write again.
    pub fn rewind(&mut self, mut keep: impl FnMut(&mut Value) -> bool) -> Result<()> {
        let text = match std::fs::read(&self.path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::io("read", &self.path, error)),
        };
        // A last line that was cut when the machine went down does not parse, and goes too.
        let kept = |line| {
            let mut value: Value = serde_json::from_str(line).ok()?;
            keep(&mut value).then(|| format!("{value}\n"))
        };
        let lines: String = text.lines().filter_map(kept).collect();
        write_atomically(&self.path, |out| out.write_all(lines.as_bytes()).map_err(|e| Error::io("write", &self.path, e)))?;
        self.file = append(&self.path)?;
        Ok(())
    }

    /// Waits until all lines lie on the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|error| Error::io("write", &self.path, error))
    }

    /// Adds a line.
    pub fn add(&mut self, value: &Value) -> Result<()> {
        self.file.write_all(format!("{value}\n").as_bytes()).map_err(|error| Error::io("write", &self.path, error))
    }
}

fn append(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path).map_err(|error| Error::io("open", path, error))
}
