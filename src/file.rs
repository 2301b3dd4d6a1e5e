//! Writing to the disk: every file that a run leaves passes through here, and is there whole or not at all.

use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The temporary files that this process is writing.
static TEMPORARIES: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn temporary_files() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    // A thread that panicked while it inserted leaves a set that is still one.
    TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something to the disk. The tests let it fail here.
fn touch<T>(action: &'static str, path: &Path, work: impl FnOnce() -> io::Result<T>) -> Result<T> {
    #[cfg(test)]
    faults::next().map_err(|error| Error::io(action, path, error))?;
    work().map_err(|error| Error::io(action, path, error))
}

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
        temporary_files().remove(&self.path);
    }
}

/// Writes `path` through `fill`: into a temporary file in the same folder, which takes the name `path` only once it lies on the
/// disk in full. Where anything fails, `path` is left as it was.
pub(crate) fn write_atomically(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let (file, mut temporary) = create_beside(path)?;
    let mut out = BufWriter::with_capacity(1 << 18, Disk(file));
    fill(&mut out)?;
    let Disk(file) = out.into_inner().map_err(|error| Error::io("write", path, error.into_error()))?;
    touch("write", path, || file.sync_all())?;
    drop(file);
    touch("rename a finished temporary file to", path, || fs::rename(&temporary.path, path))?;
    temporary.renamed = true;
    sync_folder(path)
}

/// A file as it takes bytes.
#[derive(Debug)]
struct Disk(File);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(test)]
        faults::next_write(&mut self.0, bytes)?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A new file in the folder of `path`, under a name that no other file has.
fn create_beside(path: &Path) -> Result<(File, Temporary)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut attempt = 0u64;
    loop {
        // The process number alone is not enough: another machine may write to the same folder, or a killed run have left its file.
        let temporary = path.with_file_name(format!(".{name}.{}-{attempt}.tmp", std::process::id()));
        // Held until the file is on the list, so that a process that is told to leave finds it there.
        let mut files = temporary_files();
        match touch("create", &temporary, || File::create_new(&temporary)) {
            Ok(file) => {
                files.insert(temporary.clone());
                return Ok((file, Temporary { path: temporary, renamed: false }));
            }
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Makes the renaming of `path` outlast a loss of power.
#[cfg(unix)]
fn sync_folder(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    touch("write to the disk the folder", folder, || File::open(folder)?.sync_all())
}

/// Elsewhere a folder cannot be opened as a file, and the renaming alone has to do.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<()> {
    Ok(())
}

#[cfg(feature = "train")]
pub(crate) use of_a_run::*;

/// What only the folder of a run needs.
#[cfg(feature = "train")]
mod of_a_run {
    use super::*;

    /// Writes a text as [`write_atomically`] does.
    pub(crate) fn write_text(path: &Path, text: &str) -> Result<()> {
        write_atomically(path, |out| out.write_all(text.as_bytes()).map_err(|error| Error::io("write", path, error)))
    }

    /// Removes what this process is just writing: it is about to end.
    pub(crate) fn remove_temporaries() {
        // Nothing more can be done about one that stays.
        temporary_files().iter().for_each(|path| drop(fs::remove_file(path)));
    }

    /// The temporary files of processes that were killed while they wrote one of the files `names` into `folder`.
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

    /// Makes a folder, and those it lies in, where they are missing.
    pub(crate) fn create_folder(path: &Path) -> Result<()> {
        touch("create the folder", path, || fs::create_dir_all(path))
    }

    /// Removes a file.
    pub(crate) fn remove(path: &Path) -> Result<()> {
        touch("remove", path, || fs::remove_file(path))
    }

    /// Gives a file another name in its folder.
    pub(crate) fn put_aside(path: &Path, aside: &Path) -> Result<()> {
        touch("put aside", path, || fs::rename(path, aside))
    }

    /// A file that grows at its end.
    #[derive(Debug)]
    pub(crate) struct Growing {
        path: PathBuf,
        /// Closed only where it could not be opened again.
        file: Option<Disk>,
    }

    fn closed<T>() -> io::Result<T> {
        Err(io::Error::other("it could not be opened again"))
    }

    impl Growing {
        /// Opens it, and makes it where it is missing.
        pub fn open(path: PathBuf) -> Result<Self> {
            let file = touch("open", &path, || File::options().create(true).append(true).open(&path))?;
            Ok(Growing { path, file: Some(Disk(file)) })
        }

        pub fn path(&self) -> &Path {
            &self.path
        }

        /// Adds to its end.
        pub fn add(&mut self, content: &[u8]) -> Result<()> {
            let written = self.file.as_mut().map_or_else(closed, |file| file.write_all(content));
            written.map_err(|error| Error::io("write", &self.path, error))
        }

        /// Puts `text` in the place of all that it holds, whole or not at all. Meanwhile it is closed: not every system replaces an open file.
        pub fn replace(&mut self, text: &str) -> Result<()> {
            self.file = None;
            let written = write_text(&self.path, text);
            self.file = Self::open(self.path.clone())?.file;
            written
        }

        /// Waits until all of it lies on the disk.
        pub fn sync(&self) -> Result<()> {
            touch("write", &self.path, || self.file.as_ref().map_or_else(closed, |file| file.0.sync_data()))
        }
    }
}

/// A disk that fails when a test wants it to.
#[cfg(test)]
#[cfg_attr(not(feature = "train"), allow(dead_code, reason = "the tests that want it train"))]
pub(crate) mod faults {
    use std::cell::Cell;
    use std::fs::File;
    use std::io::{self, Write};

    /// Which operations of this thread fail, counted from 0.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub(crate) enum Faults {
        Never,
        /// This one alone.
        At(u64),
        /// This one and all after it.
        From(u64),
    }

    thread_local! {
        static FAULTS: Cell<Faults> = const { Cell::new(Faults::Never) };
        static DONE: Cell<u64> = const { Cell::new(0) };
    }

    /// Does `work` on a disk with these faults; says with its answer how many operations there were.
    pub(crate) fn with<T>(faults: Faults, work: impl FnOnce() -> T) -> (T, u64) {
        FAULTS.set(faults);
        DONE.set(0);
        let answer = work();
        FAULTS.set(Faults::Never);
        (answer, DONE.get())
    }

    fn fails() -> bool {
        let number = DONE.get();
        DONE.set(number + 1);
        match FAULTS.get() {
            Faults::Never => false,
            Faults::At(at) => number == at,
            Faults::From(from) => number >= from,
        }
    }

    pub(super) fn next() -> io::Result<()> {
        if fails() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// A disk that becomes full takes a part first.
    pub(super) fn next_write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
        if fails() {
            file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}
