//! One process at a time fetches into a folder.

use std::fs::File;
use std::path::Path;

use crate::error::Result;

/// Keeps other processes from fetching into `dir` until the answer is dropped or this process ends. It leaves no file behind, since it
/// is the folder itself that is locked; file systems that have no locks do without.
///
/// # Errors
/// `Config` where another process holds it.
#[cfg(unix)]
pub(super) fn lock(dir: &Path) -> Result<Option<File>> {
    use crate::error::Error;
    use std::fs::TryLockError;

    let folder = File::open(dir).map_err(|error| Error::io("open the folder", dir, error))?;
    match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => {
            let help = "another process is fetching into this folder: start again when it is done, or give another folder";
            Err(Error::config("dir", dir.display(), help))
        }
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Elsewhere a folder cannot be opened as a file.
#[cfg(not(unix))]
pub(super) fn lock(_: &Path) -> Result<Option<File>> {
    Ok(None)
}
