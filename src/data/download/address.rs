//! From a set's mirrors, or the address that a user gives, to the addresses of its files.

use crate::data::archive::Set;
use crate::error::{Error, Result};

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
            None => Ok(self.mirrors.iter().map(|mirror| self.folder(mirror)).collect()),
            Some(url) if is_web(url) => Ok(vec![self.folder(url)]),
            Some(url) => {
                let help = "must begin with http:// or https:// and a host; a file that is on this machine goes into the data folder";
                Err(Error::config("url", url, help))
            }
        }
    }

    /// The folder that `url` is, or, where it is the address of one of the archives, the folder that this lies in.
    fn folder(&self, url: &str) -> Address {
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
fn is_web(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) && !rest.is_empty() && !rest.starts_with(['/', '?', '#'])
}
