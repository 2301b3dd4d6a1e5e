//! Writing a file so that it is there whole or not at all.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A file that is removed unless it was renamed.
struct Temporary {
    path: PathBuf,
    renamed: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // The error that brought us here is the one to report.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes `path` through `fill`: into a temporary file in the same folder, which takes the name `path` only once it lies on the
/// disk in full. Where anything fails, `path` is left as it was.
pub(crate) fn write_atomically(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let (file, mut temporary) = create_beside(path)?;
    let mut out = BufWriter::with_capacity(1 << 18, file);
    fill(&mut out)?;
    let file = out.into_inner().map_err(|error| Error::io("write", path, error.into_error()))?;
    file.sync_all().map_err(|source| Error::io("write", path, source))?;
    drop(file);
    fs::rename(&temporary.path, path).map_err(|source| Error::io("rename a finished temporary file to", path, source))?;
    temporary.renamed = true;
    sync_folder(path)
}

/// A new file in the folder of `path`, under a name that no other file has.
fn create_beside(path: &Path) -> Result<(File, Temporary)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut attempt = 0u64;
    loop {
        // The process number alone is not enough: another machine may write to the same folder, or a killed run have left its file.
        let temporary = path.with_file_name(format!(".{name}.{}-{attempt}.tmp", std::process::id()));
        match File::create_new(&temporary) {
            Ok(file) => return Ok((file, Temporary { path: temporary, renamed: false })),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => attempt += 1,
            Err(error) => return Err(Error::io("create", temporary, error)),
        }
    }
}

/// The temporary files of processes that were killed while they wrote one of the files `names` into `folder`.
#[cfg(feature = "train")]
pub(crate) fn temporaries(folder: &Path, names: &[&str]) -> Result<Vec<PathBuf>> {
    let fails = |error| Error::io("list the folder", folder, error);
    let is_one = |own: &str| names.iter().any(|name| own.starts_with(&format!(".{name}."))) && own.ends_with(".tmp");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(fails)? {
        let entry = entry.map_err(fails)?;
        if entry.file_name().to_str().is_some_and(is_one) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Makes the renaming of `path` outlast a loss of power.
#[cfg(unix)]
fn sync_folder(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| Error::io("write to the disk the folder", folder, source))
}

/// Elsewhere a folder cannot be opened as a file, and the renaming alone has to do.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<()> {
    Ok(())
}
