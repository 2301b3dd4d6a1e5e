//! Lock: one process at a time writes into the folder of a run.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// The name of the lock in its folder. It stays there, because another process may just be opening it; what counts is the system's lock
/// on it, which ends with the process.
pub(super) const NAME: &str = ".lock";

/// Keeps other processes, and this one, from writing into a folder until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the folder `dir`. File systems that have no locks do without.
    ///
    /// # Errors
    /// [`Error::Config`] where someone holds it; [`Error::Io`] where the file cannot be made.
    pub fn take(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let options = &mut File::options();
        let opened = options.read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(|error| Error::io("create the lock", &path, error))?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let mut number = String::new();
            // Windows lets nobody read a locked file.
            let known = file.read_to_string(&mut number).is_ok() && number.trim().parse::<u32>().is_ok();
            let holder = if known { format!("process {}", number.trim()) } else { "another process".into() };
            let help = format!("the folder is locked by {holder}, whose run writes into it: wait for its end, or give another folder");
            return Err(Error::config("--out", dir.display(), help));
        }
        // For whoever is refused; a disk that is full keeps nobody from training.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Lock { _file: file })
    }
}
