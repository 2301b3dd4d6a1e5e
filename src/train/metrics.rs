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

    /// Drops what an earlier run wrote, apart from the lines that `keep` wants: those that this run will not write again.
    pub fn rewind(&mut self, keep: impl Fn(&Value) -> bool) -> Result<()> {
        let text = match std::fs::read(&self.path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::io("read", &self.path, error)),
        };
        // A last line that was cut when the machine went down does not parse, and goes too.
        let kept = |line: &&str| serde_json::from_str(line).is_ok_and(|value| keep(&value));
        let lines: String = text.lines().filter(kept).flat_map(|line| [line, "\n"]).collect();
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
