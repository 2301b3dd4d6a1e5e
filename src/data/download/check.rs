//! Checks a file against its published size and checksum.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use md5::Md5;
use sha2::{Digest, Sha256};

use super::watch::{Stage, Watch};
use crate::data::archive::{Archive, Checksum, Size};
use crate::error::{Error, Result};

/// What came of a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Size and checksum are right, where they are published.
    Good,
    /// They are not; what the file has, and what it should have.
    Bad(String),
    /// It was stopped.
    Stopped,
}

/// Whether the file `path` is the archive.
///
/// # Errors
/// `Io` where it cannot be read.
pub(super) fn check(path: &Path, archive: &Archive, watch: Watch<'_>, stop: &AtomicBool) -> Result<Verdict> {
    let mut file = File::open(path).map_err(|error| Error::io("open", path, error))?;
    let size = file.metadata().map_err(|error| Error::io("read the size of", path, error))?.len();
    if let Some(fault) = archive.size.fault(size) {
        return Ok(Verdict::Bad(fault));
    }
    let stage = Stage::begin(watch, &format!("checking {}", archive.name), 0, Some(size));
    let (kind, wanted, found) = match &archive.checksum {
        None => return Ok(Verdict::Good),
        Some(Checksum::Md5(wanted)) => ("MD5", wanted, digest::<Md5>(&mut file, path, &stage, stop)?),
        Some(Checksum::Sha256(wanted)) => ("SHA-256", wanted, digest::<Sha256>(&mut file, path, &stage, stop)?),
    };
    Ok(match found {
        None => Verdict::Stopped,
        Some(found) if found.eq_ignore_ascii_case(wanted) => Verdict::Good,
        Some(found) => Verdict::Bad(format!("has the {kind} sum {found}, not {wanted}")),
    })
}

/// The checksum of what is left in the file, in hexadecimal digits; `None` where it was stopped.
fn digest<D: Digest>(file: &mut File, path: &Path, stage: &Stage<'_>, stop: &AtomicBool) -> Result<Option<String>> {
    let mut digest = D::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let count = file.read(&mut buffer).map_err(|error| Error::io("read", path, error))?;
        if count == 0 {
            return Ok(Some(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()));
        }
        digest.update(&buffer[..count]);
        stage.add(count as u64);
    }
}

impl Size {
    /// What is wrong with a file of `bytes` bytes, if something is.
    pub(super) fn fault(self, bytes: u64) -> Option<String> {
        match self {
            Size::Exactly(size) if bytes != size => Some(format!("has {bytes} bytes, not {size}")),
            Size::AtMost(size) if bytes > size => Some(format!("has more than {size} bytes")),
            _ => None,
        }
    }

    /// The length, where it is published.
    pub(super) fn exactly(self) -> Option<u64> {
        match self {
            Size::Exactly(size) => Some(size),
            Size::AtMost(_) => None,
        }
    }

    /// The most bytes that make sense.
    pub(super) fn most(self) -> u64 {
        match self {
            Size::Exactly(size) | Size::AtMost(size) => size,
        }
    }
}
