//! What a fetch says on stderr: as seen from outside, in a process of its own.

use std::env;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use pspikessm::train::download::{self, Fetched, Options};
use tempfile::tempdir;

use super::server::Server;
use super::tape::Tape;
use super::{listing, options, set, words};

const FOLDER: &str = "PSPIKESSM_TEST_FOLDER";
const ADDRESS: &str = "PSPIKESSM_TEST_ADDRESS";
const QUIET: &str = "PSPIKESSM_TEST_QUIET";

/// The other process: does nothing unless it is told to.
#[test]
fn other_process() {
    let (Ok(folder), Ok(address)) = (env::var(FOLDER), env::var(ADDRESS)) else { return };
    let options = Options { quiet: env::var_os(QUIET).is_some(), ..options() };
    let fetched = download::fetch(&set(&[address], &[words()]), Path::new(&folder), &options, &AtomicBool::new(false)).unwrap();
    assert_eq!(fetched, Fetched::Complete);
}

/// The stderr of a process that fetches `words`, which have no checksum, from `address`.
fn stderr(address: &str, quiet: bool) -> String {
    let dir = tempdir().unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "talk::other_process", "--nocapture"]).env(FOLDER, dir.path()).env(ADDRESS, address);
    if quiet {
        command.env(QUIET, "1");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(listing(dir.path()), ["words/", "words/1"]);
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_address_is_said_and_that_there_is_no_checksum_unless_it_is_to_be_quiet() {
    let server = Server::of(&[("/words.tar.gz", &Tape::default().file("1", b"1").gz())]);
    let text = stderr(&server.url(""), false);
    assert!(text.contains(&server.url("/words.tar.gz")), "{text}");
    assert!(text.contains("words.tar.gz: no checksum of it is published"), "{text}");
    assert_eq!(stderr(&server.url(""), true), "");
}
