//! The one error type of the crate: what is wrong, where, and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Anything that a user, a file or a device can get wrong.
///
/// Every variant names the place (an op, a parameter, a file with its line) and carries a sentence that says what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Two shapes do not fit together.
    Shape {
        /// The op or layer that was asked.
        op: &'static str,
        /// The axis at which the shapes differ, where it is one axis.
        axis: Option<usize>,
        /// The shape that was wanted, or the left operand's.
        left: Vec<usize>,
        /// The shape that was given, or the right operand's.
        right: Vec<usize>,
        /// What to do.
        help: String,
    },
    /// A configuration value is outside what makes sense.
    Config {
        /// The name of the value.
        name: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        help: String,
    },
    /// An input's content is not usable: NaN, a token out of range, an empty batch.
    Value {
        /// The op, layer or function that was asked.
        op: &'static str,
        /// What is wrong and what to do.
        help: String,
    },
    /// A data file is broken.
    Data {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What is wrong and what was expected.
        help: String,
    },
    /// A data file that is not text is broken.
    Binary {
        /// The file.
        path: PathBuf,
        /// The byte at which it is wrong, from 0; in a compressed file counted in what was unpacked.
        offset: u64,
        /// What is wrong and what was expected.
        help: String,
    },
    /// The operating system refused a file operation.
    Io {
        /// What was tried, as in "create the folder".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file could not be fetched.
    Network {
        /// The address.
        url: String,
        /// What happened and what to do.
        help: String,
    },
    /// A checkpoint is truncated, foreign, or belongs to another architecture.
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        help: String,
    },
    /// A gradient was asked of something that has none.
    NotDifferentiable {
        /// The op.
        op: &'static str,
        /// Why, and what to do.
        help: String,
    },
    /// A gradient check failed.
    Gradient {
        /// The op or function that was checked.
        op: String,
        /// Which input and direction, and both numbers.
        help: String,
    },
    /// A loss, gradient or parameter is NaN or infinite.
    NonFinite {
        /// The first offender.
        what: String,
        /// The training step.
        step: u64,
    },
    /// The device failed or lacks something.
    Device {
        /// The backend method.
        method: &'static str,
        /// What happened.
        help: String,
    },
}

impl Error {
    /// A shape error between `left` and `right`.
    pub fn shape(op: &'static str, axis: impl Into<Option<usize>>, left: &[usize], right: &[usize], help: impl Into<String>) -> Self {
        Error::Shape { op, axis: axis.into(), left: left.into(), right: right.into(), help: help.into() }
    }

    /// A configuration error.
    pub fn config(name: &'static str, value: impl fmt::Display, help: impl Into<String>) -> Self {
        Error::Config { name, value: value.to_string(), help: help.into() }
    }

    /// An unusable value.
    pub fn value(op: &'static str, help: impl Into<String>) -> Self {
        Error::Value { op, help: help.into() }
    }

    /// A broken data file.
    pub fn data(path: impl AsRef<Path>, line: usize, column: usize, help: impl Into<String>) -> Self {
        Error::Data { path: path.as_ref().into(), line, column, help: help.into() }
    }

    /// A broken data file that is not text; `offset` counts its bytes from 0.
    pub fn binary(path: impl AsRef<Path>, offset: u64, help: impl Into<String>) -> Self {
        Error::Binary { path: path.as_ref().into(), offset, help: help.into() }
    }

    /// A failed file operation.
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Error::Io { action, path: path.as_ref().into(), source }
    }

    /// A failed transfer.
    pub fn network(url: impl Into<String>, help: impl Into<String>) -> Self {
        Error::Network { url: url.into(), help: help.into() }
    }

    /// An unusable checkpoint.
    pub fn checkpoint(path: impl AsRef<Path>, help: impl Into<String>) -> Self {
        Error::Checkpoint { path: path.as_ref().into(), help: help.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Shape { op, axis: Some(axis), left, right, help } => {
                write!(f, "{op}: shapes {left:?} and {right:?} differ at axis {axis}: {help}")
            }
            Error::Shape { op, axis: None, left, right, help } => write!(f, "{op}: shapes {left:?} and {right:?} do not fit: {help}"),
            Error::Config { name, value, help } => write!(f, "{name} = {value}: {help}"),
            Error::Value { op, help } => write!(f, "{op}: {help}"),
            Error::Data { path, line, column, help } => write!(f, "{}:{line}:{column}: {help}", path.display()),
            Error::Binary { path, offset, help } => write!(f, "{}: byte {offset}: {help}", path.display()),
            Error::Io { action, path, source } => write!(f, "could not {action} {}: {source}", path.display()),
            Error::Network { url, help } => write!(f, "could not fetch {url}: {help}"),
            Error::Checkpoint { path, help } => write!(f, "checkpoint {}: {help}", path.display()),
            Error::NotDifferentiable { op, help } => write!(f, "{op} cannot be differentiated: {help}"),
            Error::Gradient { op, help } => write!(f, "the gradient of {op} is wrong: {help}"),
            Error::NonFinite { what, step } => write!(f, "step {step}: {what} is not finite: lower the learning rate or look at the data"),
            Error::Device { method, help } => write!(f, "{method}: {help}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
