//! What a set of archives is: where its files are, how they are checked, what of them is unpacked.

use std::path::Path;

use crate::error::{Error, Result};

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
pub enum Size {
    /// This many.
    Exactly(u64),
    /// Not published, but no more than this: a transfer that brings more is given up.
    AtMost(u64),
}

/// A checksum in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// 32 digits.
    Md5(String),
    /// 64 digits.
    Sha256(String),
}

/// What becomes of an archive in the data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The address of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    folder: String,
    query: String,
}

impl Address {
    /// The address of the file `name` in it.
    pub fn of(&self, name: &str) -> String {
        format!("{}/{name}{}", self.folder, self.query)
    }
}

impl Set {
    /// The addresses to try, in order; `url`, if given, is the only one.
    ///
    /// # Errors
    /// `Config` for a `url` that is none.
    pub(super) fn addresses(&self, url: Option<&str>) -> Result<Vec<Address>> {
        match url {
            None => Ok(self.mirrors.iter().map(|mirror| self.address(mirror)).collect()),
            Some(url) if is_web(url) => Ok(vec![self.address(url)]),
            Some(url) => {
                let help = "must begin with http:// or https:// and a host; a file that is on this machine goes into the data folder";
                Err(Error::config("--data-url", url, help))
            }
        }
    }

    /// The folder that `url` is, or, where it is the address of one of the archives, the folder that this lies in.
    fn address(&self, url: &str) -> Address {
        let url = url.split('#').next().unwrap_or_default();
        let (path, query) = url.split_at(url.find('?').unwrap_or(url.len()));
        let folder = match path.rsplit_once('/') {
            Some((folder, file)) if self.archives.iter().any(|archive| archive.name == file) => folder,
            _ => path.trim_end_matches('/'),
        };
        Address { folder: folder.into(), query: query.into() }
    }
}

/// Whether `url` has a scheme of the web and a host.
pub(super) fn is_web(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) && !rest.is_empty() && !rest.starts_with(['/', '?', '#'])
}
