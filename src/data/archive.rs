//! The archives that data sets are published in: where they are, how they are checked, what of them is unpacked, and limits, some twice
//! what the true archives need. Each data set describes its own; feature `download` fetches them.

use std::path::Path;

pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

/// Archives that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Addresses of folders that hold the archives, `http://` or `https://`. The first that has an archive serves it.
    pub mirrors: Vec<String>,
    /// The archives.
    pub archives: Vec<Archive>,
}

/// One file of a [`Set`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Its name, at the address and in the data folder.
    pub name: String,
    /// How long it is.
    pub size: Size,
    /// Its published checksum, if there is one.
    pub checksum: Option<Checksum>,
    /// Paths in the data folder. Where one of them exists, the data are there and nothing is fetched. The first is what a fetch makes.
    pub there: Vec<String>,
    /// What it holds.
    pub content: Content,
}

/// The length of a file in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Size {
    /// This many.
    Exactly(u64),
    /// Not published, but no more than this: a transfer that brings more is given up.
    AtMost(u64),
}

/// A checksum in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Checksum {
    /// 32 digits.
    Md5(String),
    /// 64 digits.
    Sha256(String),
}

/// What becomes of an archive in the data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// It is read as it is.
    Plain,
    /// A gzipped tar: it is unpacked and removed.
    TarGz {
        /// What of it is unpacked, and where to.
        selection: Selection,
        /// The tar, all of it, may be this many bytes long.
        max_bytes: u64,
        /// The tar may have this many entries, selected or not.
        max_entries: u64,
    },
}

/// Which entries of a tar are unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selection {
    /// All, into a new folder of this name.
    Into(String),
    /// What lies in these folders (`a` or `a/b`), however deep in the tar they are, into folders of the same names.
    Folders(Vec<String>),
}

impl Archive {
    /// Whether `dir` holds what the archive is there for.
    pub fn is_there(&self, dir: &Path) -> bool {
        self.there.iter().any(|path| dir.join(path).exists())
    }
}

impl Set {
    /// One archive in one place.
    pub(super) fn one(mirror: &str, archive: Archive) -> Set {
        Set { mirrors: owned(&[mirror]), archives: vec![archive] }
    }

    /// Where someone finds them: the address of the archive, or, of several, of the folder that has them.
    pub fn address(&self) -> String {
        let mirror = self.mirrors.first().map_or("", String::as_str);
        match &self.archives[..] {
            [archive] => format!("{mirror}{}", archive.name),
            _ => mirror.into(),
        }
    }
}

/// Texts as a description keeps them.
pub(super) fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.into()).collect()
}
