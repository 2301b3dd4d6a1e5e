//! A sample as it was found: what it holds, its label, and where it stands.

use crate::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A sample.
#[derive(Clone, Debug)]
pub(super) struct Sample<T> {
    pub content: T,
    /// As it is written; empty where there is none.
    pub label: String,
    pub place: Place,
}

/// Where a sample stands: for messages.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub path: Arc<Path>,
    pub spot: Spot,
}

/// Where in its file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spot {
    /// A line, from 1.
    Line(usize),
    /// A byte, from 0.
    Byte(u64),
}

impl Place {
    pub fn line(path: &Arc<Path>, line: usize) -> Self {
        Place { path: path.clone(), spot: Spot::Line(line) }
    }

    /// A file of its own.
    pub fn file(path: PathBuf) -> Self {
        Place { path: path.into(), spot: Spot::Byte(0) }
    }

    /// The error of what is wrong here.
    pub fn error(&self, help: impl Into<String>) -> Error {
        match self.spot {
            Spot::Line(line) => Error::data(&self.path, line, 1, help),
            Spot::Byte(byte) => Error::binary(&self.path, byte, help),
        }
    }
}
