//! Fetching archives: against a server on the loopback that behaves well and badly.
#![cfg(feature = "download")]

mod archives;
mod checks;
mod command_line;
mod places;
mod server;
mod stops;
mod talk;
mod tape;
mod transfers;
mod unpacking;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use pspikessm::data::archive::{Archive, Checksum, Content, Selection, Set, Size};
use pspikessm::data::download::{self, Fetched, Options};
use pspikessm::error::{Error, Result};

/// The checksums of [`data`], computed elsewhere.
const MD5: &str = "440fe46aab23b702c494c53197bb3c21";
const SHA256: &str = "502d09b5c6cb2eb1fc7bae3a10234bfeee7834419ed569122829c18aabf4b90d";

/// 200,000 bytes without a pattern.
fn data() -> Vec<u8> {
    let mut state = 1u64;
    let next = |_| {
        state = (state * 1_103_515_245 + 12_345) & 0x7fff_ffff;
        (state >> 16) as u8
    };
    (0..200_000).map(next).collect()
}

/// [`data`] under the name `data.bin`.
fn plain() -> Archive {
    Archive {
        name: "data.bin".into(),
        size: Size::AtMost(1_000_000),
        checksum: Some(Checksum::Sha256(SHA256.into())),
        there: vec!["data.bin".into()],
        content: Content::Plain,
    }
}

/// A tar of words, `words.tar.gz`, that is unpacked into `words`; without a checksum.
fn words() -> Archive {
    Archive {
        name: "words.tar.gz".into(),
        size: Size::AtMost(10_000_000),
        checksum: None,
        there: vec!["words".into()],
        content: Content::TarGz { selection: Selection::Into("words".into()), max_bytes: 1_000_000, max_entries: 10 },
    }
}

fn set(mirrors: &[String], archives: &[Archive]) -> Set {
    Set { mirrors: mirrors.into(), archives: archives.into() }
}

/// Three tries, and no pause to speak of.
fn options() -> Options {
    Options { tries: 3, pause: Duration::from_millis(1), ..Options::default() }
}

/// Fetches with nobody to stop it.
fn fetch(set: &Set, dir: &Path) -> Result<Fetched> {
    download::fetch(set, dir, &options(), &|_| (), &AtomicBool::new(false))
}

/// The text of the error of [`fetch`], which must be one of the network.
fn network_error(set: &Set, dir: &Path) -> String {
    let error = fetch(set, dir).unwrap_err();
    assert!(matches!(error, Error::Network { .. }), "{error:?}");
    error.to_string()
}

/// All files and folders below `dir`, in order; folders end with `/`.
fn listing(dir: &Path) -> Vec<String> {
    fn walk(root: &Path, dir: PathBuf, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            found.push(if kind.is_dir() { format!("{name}/") } else { name });
            if kind.is_dir() {
                walk(root, path, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, dir.into(), &mut found);
    found.sort();
    found
}
