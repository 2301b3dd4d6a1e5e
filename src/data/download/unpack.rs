//! Unpacks a gzipped tar that is not trusted: plain files and folders only, all below one folder, up to a limit.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::read::MultiGzDecoder;

use super::meter::{Meter, Metered};
use super::watch::{Stage, Watch};
use crate::data::archive::Selection;
use crate::error::{Error, Result};

/// The head of an entry, with a long name, a long link or other extensions, has far less. What is longer is refused: it would be kept
/// in memory.
const MAX_HEAD: u64 = 1 << 20;

/// What is to be unpacked where.
pub(super) struct Unpacking<'a> {
    /// The archive.
    pub path: &'a Path,
    /// The data folder.
    pub dir: &'a Path,
    /// What of it.
    pub selection: &'a Selection,
    /// Bytes of the tar at most.
    pub max_bytes: u64,
    /// Entries of the tar at most.
    pub max_entries: u64,
}

impl Unpacking<'_> {
    /// Unpacks into a hidden folder in the data folder, and moves what came out to its place once all of it is there. What is there
    /// already is left as it is. Answers `false` where it was stopped.
    ///
    /// # Errors
    /// `Value` for a broken or bad archive, with the entry; `Io` where something cannot be written. Then nothing is kept of it.
    pub fn run(&self, watch: Watch<'_>, stop: &AtomicBool) -> Result<bool> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = Temporary::new(self.dir.join(format!(".{name}.unpacking")))?;
        match self.extract(&temporary.0, &name, watch, stop) {
            Err(_) if stop.load(Ordering::Relaxed) => return Ok(false),
            other => other?,
        }
        let folders = match self.selection {
            Selection::Into(folder) => std::slice::from_ref(folder),
            Selection::Folders(folders) => folders,
        };
        folders.iter().try_for_each(|folder| self.place(&temporary.0, folder))?;
        Ok(true)
    }

    /// Unpacks into the folder `into`.
    fn extract(&self, into: &Path, name: &str, watch: Watch<'_>, stop: &AtomicBool) -> Result<()> {
        let file = File::open(self.path).map_err(|error| Error::io("open", self.path, error))?;
        let stage = Stage::begin(watch, &format!("unpacking {name}"), 0, file.metadata().ok().map(|metadata| metadata.len()));
        let meter = Meter::new(stop, self.max_bytes);
        let stream = Metered { inner: MultiGzDecoder::new(BufReader::new(stage.read(file))), meter: &meter };
        let mut tar = tar::Archive::new(stream);
        let mut entries = tar.entries().map_err(|error| self.broken(&meter, None, &error))?;
        let (mut count, mut last) = (0, None);
        loop {
            meter.allow(MAX_HEAD);
            let Some(entry) = entries.next() else { break };
            let mut entry = entry.map_err(|error| self.broken(&meter, last.as_deref(), &error))?;
            meter.allow(self.max_bytes);
            count += 1;
            if count > self.max_entries {
                return Err(self.refused(&shown(&entry), &format!("is one too many: there may be {}", self.max_entries)));
            }
            last = Some(shown(&entry));
            self.write(&mut entry, into, &meter)?;
        }
        // What follows the tar is read too, for the checksum of the gzip file stands at its end.
        meter.allow(self.max_bytes);
        io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(|error| self.broken(&meter, last.as_deref(), &error))?;
        Ok(())
    }

    /// Writes an entry below `into`, if it is selected.
    fn write<R: Read>(&self, entry: &mut tar::Entry<'_, R>, into: &Path, meter: &Meter<'_>) -> Result<()> {
        let shown = shown(entry);
        // Comments to all entries.
        if entry.header().entry_type().is_pax_global_extensions() {
            return Ok(());
        }
        let path = entry.path_bytes().into_owned();
        let parts = parts(&path).map_err(|why| self.refused(&shown, why))?;
        let selected = self.selection.place(&parts);
        // As old tars write a folder.
        let is_folder = entry.header().entry_type().is_dir() || path.ends_with(b"/");
        match selected {
            Some(_) if !entry.header().entry_type().is_file() && !is_folder => {
                Err(self.refused(&shown, "is neither a file nor a folder: links and devices are not unpacked"))
            }
            Some(place) if is_folder => make_folder(&into.join(place)),
            Some(place) => self.write_file(entry, &into.join(place), &shown, meter),
            // Skipped byte by byte: otherwise they would be read as the head of the next entry.
            None if entry.header().entry_type().is_file() => match io::copy(entry, &mut io::sink()) {
                Ok(_) => Ok(()),
                Err(error) => Err(self.broken(meter, Some(&shown), &error)),
            },
            None => Ok(()),
        }
    }

    fn write_file<R: Read>(&self, entry: &mut tar::Entry<'_, R>, path: &Path, shown: &str, meter: &Meter<'_>) -> Result<()> {
        path.parent().map_or(Ok(()), make_folder)?;
        let mut file = File::create(path).map_err(|error| Error::io("create", path, error))?;
        let size = entry.size();
        // Read and written separately, so that an error of the disk is not taken for one of the archive.
        let (mut copied, mut buffer) = (0, vec![0; 1 << 16]);
        loop {
            let count = entry.read(&mut buffer).map_err(|error| self.broken(meter, Some(shown), &error))?;
            if count == 0 {
                break;
            }
            io::Write::write_all(&mut file, &buffer[..count]).map_err(|error| Error::io("write", path, error))?;
            copied += count as u64;
        }
        match copied == size {
            true => Ok(()),
            false => Err(self.refused(shown, &format!("is cut off: {copied} of its {size} bytes are there"))),
        }
    }

    /// Moves the folder `folder`, if it came out, from `temporary` to its place.
    fn place(&self, temporary: &Path, folder: &str) -> Result<()> {
        let (from, to) = (temporary.join(folder), self.dir.join(folder));
        if !from.exists() || to.exists() {
            return Ok(());
        }
        to.parent().map_or(Ok(()), make_folder)?;
        fs::rename(&from, &to).map_err(|error| Error::io("move what was unpacked to", &to, error))
    }

    /// The error of an archive that cannot be read on, after or in the entry `last`.
    fn broken(&self, meter: &Meter<'_>, last: Option<&str>, error: &io::Error) -> Error {
        let place = last.map_or("at its beginning".into(), |last| format!("at the entry {last}"));
        let why = meter.exceeded().unwrap_or_else(|| format!("it is broken or cut off ({error})"));
        self.error(&format!("{place}: {why}"))
    }

    /// The error of an entry that is not unpacked.
    fn refused(&self, shown: &str, why: &str) -> Error {
        self.error(&format!("its entry {shown} {why}"))
    }

    fn error(&self, what: &str) -> Error {
        let path = self.path.display();
        Error::value("unpack", format!("{path}, {what}; nothing of it is kept: remove the archive to have it fetched anew"))
    }
}

impl Selection {
    /// Where an entry goes, if it is selected; `parts` are the names on the way to it.
    fn place(&self, parts: &[&str]) -> Option<PathBuf> {
        match self {
            Selection::Into(folder) => Some(Path::new(folder).join(parts.iter().collect::<PathBuf>())),
            Selection::Folders(folders) => folders.iter().find_map(|folder| {
                let wanted: Vec<&str> = folder.split('/').collect();
                let start = parts.windows(wanted.len()).position(|window| window == wanted)?;
                Some(parts[start..].iter().collect())
            }),
        }
    }
}

/// The names on the way to an entry. The rules are the same on all systems, and so are stricter than each of them.
fn parts(path: &[u8]) -> Result<Vec<&str>, &'static str> {
    let path = str::from_utf8(path).map_err(|_| "has a name that is not UTF-8")?;
    if path.starts_with('/') {
        return Err("has an absolute path");
    }
    if path.contains(['\\', ':', '\0']) {
        return Err("has a backslash, a colon or a zero in its path");
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") { Err("has .. in its path") } else { Ok(parts) }
}

/// The path of an entry for someone to read, with no control characters.
fn shown<R: Read>(entry: &tar::Entry<'_, R>) -> String {
    format!("{:?}", String::from_utf8_lossy(&entry.path_bytes()))
}

fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| Error::io("create the folder", path, error))
}

/// A folder that is removed at the end, with what is left in it.
struct Temporary(PathBuf);

impl Temporary {
    /// An empty folder. What an interrupted process left under its name is removed.
    fn new(path: PathBuf) -> Result<Self> {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove the old folder", path, error)),
            _ => make_folder(&path)?,
        }
        Ok(Temporary(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What went wrong before is the error to report; the next unpacking removes it, or says why it cannot.
        let _ = fs::remove_dir_all(&self.0);
    }
}
