//! Fetching the official archives of the data sets: transfer with resume, checksum, unpacking.
//!
//! [`fetch`] brings a [`Set`] into a folder; every data set that is published in archives describes its own, as
//! [`cifar::archive`](super::cifar::archive) does. What happens to each of a set's archives, in this order:
//!
//! 1. Where the folder holds what the archive is there for ([`Archive::there`]), nothing is done. This goes by existence alone: what is
//!    unpacked takes its place only when it is whole.
//! 2. Where the archive itself lies in the folder, because someone put it there by hand, it is checked and taken.
//! 3. Else it is fetched into `NAME.part`, from the first address that has it. A transfer that breaks off goes on where it ended, in the
//!    same run or the next one; a `NAME.part` whose size or checksum is wrong is removed.
//! 4. What is to be unpacked is unpacked into a hidden folder beside it and moved to its place; then the archive is removed.
//!
//! For the time of the unpacking, the archive and its content both need room.
//!
//! No checksum is published for the archive of the Long Range Arena: its gzip and tar structure, with the CRC-32 of the whole, is all that
//! can be checked, and a line says so.

mod address;
mod answer;
mod check;
mod lock;
mod meter;
mod transfer;
mod unpack;
mod watch;

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub use watch::{Event, Watch};

use super::archive::{Archive, Content, Set};
use crate::error::{Error, Result};
use address::Address;
use check::Verdict;

/// How to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Instead of the addresses of the set: the folder that holds its files, as in `http://host/data`, or one of the files, as in
    /// `http://host/data/cifar-10-binary.tar.gz`. A query (`?..`) is kept.
    pub url: Option<String>,
    /// How often an address is tried before the next one is; at least once. The count begins anew when a try brought a MiB or more.
    pub tries: u32,
    /// The pause before the second try; before the third it is twice as long, and so on.
    pub pause: Duration,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long nothing may arrive before the connection counts as cut.
    pub read_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            url: None,
            tries: 5,
            pause: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(20),
            read_timeout: Duration::from_secs(30),
        }
    }
}

/// How a fetch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fetched {
    /// The folder held everything before.
    There,
    /// The folder holds everything now.
    Complete,
    /// Someone set `stop`. What has arrived is kept, and the next call goes on with it.
    Stopped,
}

/// Brings what is missing of `set` into the folder `dir`, which is made if it is not there; the [module](self) says how.
///
/// `watch` is told what is done. `stop` is looked at between pieces of the work, of which the longest is a wait of
/// [`Options::read_timeout`].
///
/// # Errors
/// [`Error::Network`] where no address has an archive, or only a wrong one; [`Error::Config`] for an [`Options::url`] that is none;
/// [`Error::Value`] for an archive that was there and has the wrong checksum, or that cannot be unpacked because it is broken, reaches
/// out of its folder, holds links or devices, or more than it may; [`Error::Io`] where the folder cannot be written to.
pub fn fetch(set: &Set, dir: &Path, options: &Options, watch: Watch<'_>, stop: &AtomicBool) -> Result<Fetched> {
    if set.archives.iter().all(|archive| archive.is_there(dir)) {
        return Ok(Fetched::There);
    }
    let addresses = set.addresses(options.url.as_deref())?;
    fs::create_dir_all(dir).map_err(|error| Error::io("create the folder", dir, error))?;
    let _lock = lock::lock(dir)?;
    let job = Job { dir, options, watch, stop };
    for archive in set.archives.iter().filter(|archive| !archive.is_there(dir)) {
        if !job.obtain(archive, &addresses)? || !job.open(archive)? {
            return Ok(Fetched::Stopped);
        }
    }
    Ok(Fetched::Complete)
}

/// What all steps of a fetch need to know. A step answers `false` where it was stopped.
struct Job<'a> {
    dir: &'a Path,
    options: &'a Options,
    watch: Watch<'a>,
    stop: &'a AtomicBool,
}

impl Job<'_> {
    /// Brings the archive, checked, into the folder.
    fn obtain(&self, archive: &Archive, addresses: &[Address]) -> Result<bool> {
        let path = self.dir.join(&archive.name);
        if path.exists() {
            return match check::check(&path, archive, self.watch, self.stop)? {
                Verdict::Good => Ok(true),
                Verdict::Stopped => Ok(false),
                Verdict::Bad(why) => Err(Error::value("download", format!("{} {why}: remove it to have it fetched", path.display()))),
            };
        }
        let mut failures = Vec::new();
        for address in addresses {
            match self.obtain_from(&address.of(&archive.name), archive) {
                Err(Error::Network { url, help }) => failures.push((url, help)),
                other => return other,
            }
        }
        Err(self.unobtainable(archive, failures))
    }

    /// Fetches the archive from `url` and checks it.
    fn obtain_from(&self, url: &str, archive: &Archive) -> Result<bool> {
        self.say(&format!("fetching {url} into {}", self.dir.display()));
        let (part, path) = (self.dir.join(format!("{}.part", archive.name)), self.dir.join(&archive.name));
        if !transfer::transfer(url, archive, &part, self.options, self.watch, self.stop)? {
            return Ok(false);
        }
        match check::check(&part, archive, self.watch, self.stop)? {
            Verdict::Good => {}
            Verdict::Stopped => return Ok(false),
            Verdict::Bad(why) => {
                fs::remove_file(&part).map_err(|error| Error::io("remove", &part, error))?;
                return Err(Error::network(url, format!("what it gave {why}")));
            }
        }
        // On the disk before it has its name: the name says that it was checked.
        let synced = File::options().append(true).open(&part).and_then(|file| file.sync_all());
        synced.map_err(|error| Error::io("write to the disk", &part, error))?;
        fs::rename(&part, &path).map_err(|error| Error::io("rename a fetched file to", &path, error))?;
        Ok(true)
    }

    /// Unpacks the archive, where that is to be, and removes it.
    fn open(&self, archive: &Archive) -> Result<bool> {
        let Content::TarGz { selection, max_bytes, max_entries } = &archive.content else { return Ok(true) };
        let path = self.dir.join(&archive.name);
        let unpacking = unpack::Unpacking { path: &path, dir: self.dir, selection, max_bytes: *max_bytes, max_entries: *max_entries };
        if !unpacking.run(self.watch, self.stop)? {
            return Ok(false);
        }
        if !archive.is_there(self.dir) {
            let wanted = archive.there.first().map_or("", String::as_str);
            return Err(Error::value("download", format!("{} holds no {wanted}: it is not the archive of these data", path.display())));
        }
        if archive.checksum.is_none() {
            let name = &archive.name;
            self.say(&format!(
                "{name}: no checksum of it is published; that its gzip and tar structure is whole is all that could be checked"
            ));
        }
        fs::remove_file(&path).map_err(|error| Error::io("remove the unpacked archive", &path, error))?;
        Ok(true)
    }

    /// The error of an archive that no address has.
    fn unobtainable(&self, archive: &Archive, failures: Vec<(String, String)>) -> Error {
        let mut failures = failures.into_iter();
        let (url, mut help) = failures.next().unwrap_or_else(|| (archive.name.clone(), "there is no address to fetch it from".into()));
        for (url, why) in failures {
            help.push_str(&format!("; {url}: {why}"));
        }
        let by_hand = format!("fetch {} by hand and put it into {}", archive.name, self.dir.display());
        Error::network(url, format!("{help}; give another address as `url`, or {by_hand}"))
    }

    fn say(&self, line: &str) {
        (self.watch)(Event::Line(line));
    }
}
