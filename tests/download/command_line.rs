//! `--download` of the examples.

use std::env;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use pspikessm::backend::Cpu;
use pspikessm::data::archive::Set;
use pspikessm::data::{Dataset, Faults, Splits};
use pspikessm::error::{Error, Result};
use pspikessm::train::cli::{self, Outcome};
use pspikessm::train::tasks::{ListOps, Preset};
use pspikessm::train::{Flags, Recipe, Sample, Task};
use tempfile::tempdir;

use super::server::Server;
use super::{data, plain, set};

/// ListOps, were it not that it wants `data.bin` in its folder.
struct Fetching(String);

impl Task for Fetching {
    fn name(&self) -> &'static str {
        "fetching"
    }

    fn about(&self) -> &'static str {
        "A test."
    }

    fn presets(&self) -> &'static [Preset] {
        ListOps.presets()
    }

    fn class_names(&self, recipe: &Recipe) -> Vec<String> {
        ListOps.class_names(recipe)
    }

    fn load(&self, _: &Recipe, dir: Option<&Path>, _: &Faults) -> Result<Splits> {
        let length = std::fs::read(dir.unwrap().join("data.bin")).unwrap().len();
        Err(Error::value("a test", format!("{length} bytes are there")))
    }

    fn push(&self, recipe: &Recipe, sample: Sample<'_>, set: &mut Dataset) -> Result<()> {
        ListOps.push(recipe, sample, set)
    }

    fn archive(&self, _: &Recipe) -> Option<Set> {
        Some(set(std::slice::from_ref(&self.0), &[plain()]))
    }
}

/// A quiet run with `--download` into `dir`, and more flags.
fn run(task: &dyn Task, dir: &Path, more: &[&str], stop: bool) -> Result<Outcome> {
    run_aloud(task, dir, &[more, &["--quiet"]].concat(), stop)
}

/// A run with `--download` into `dir`, and more flags.
fn run_aloud(task: &dyn Task, dir: &Path, more: &[&str], stop: bool) -> Result<Outcome> {
    let args = ["--download", "--data", dir.to_str().unwrap()].into_iter().chain(more.iter().copied()).map(std::ffi::OsString::from);
    let flags = match Flags::parse(args)? {
        pspikessm::train::Command::Run(flags) => flags,
        other => panic!("{other:?}"),
    };
    cli::run_on(&Cpu::<f32>::new(), task, &flags, &AtomicBool::new(stop), &mut Vec::new())
}

#[test]
fn data_are_fetched_before_they_are_loaded() {
    let (server, other) = (Server::of(&[("/data.bin", &data())]), Server::of(&[("/data.bin", &data())]));
    let task = Fetching(server.url(""));
    let dir = tempdir().unwrap();
    let error = run(&task, &dir.path().join("a"), &[], false).unwrap_err();
    assert!(error.to_string().contains("200000 bytes are there"), "{error}");
    assert_eq!((server.requests().len(), other.requests().len()), (1, 0));
    let error = run(&task, &dir.path().join("b"), &["--data-url", &other.url("/data.bin")], false).unwrap_err();
    assert!(error.to_string().contains("200000 bytes are there"), "{error}");
    assert_eq!((server.requests().len(), other.requests().len()), (1, 1));
}

const FOLDER: &str = "PSPIKESSM_TEST_FOLDER";
const ADDRESS: &str = "PSPIKESSM_TEST_ADDRESS";
const FLAGS: &str = "PSPIKESSM_TEST_FLAGS";

/// The other process: does nothing unless it is told to.
#[test]
fn other_process() {
    let (Ok(folder), Ok(address), Ok(flags)) = (env::var(FOLDER), env::var(ADDRESS), env::var(FLAGS)) else { return };
    let more: Vec<&str> = flags.split_whitespace().collect();
    run_aloud(&Fetching(address), Path::new(&folder), &more, false).unwrap_err();
}

#[test]
fn the_address_is_said_on_stderr_unless_it_is_to_be_quiet() {
    let server = Server::of(&[("/data.bin", &data())]);
    let stderr = |flags: &str| {
        let dir = tempdir().unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "command_line::other_process", "--nocapture"]);
        let output = command.env(FOLDER, dir.path()).env(ADDRESS, server.url("")).env(FLAGS, flags).output().unwrap();
        assert!(output.status.success() && dir.path().join("data.bin").exists(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let text = stderr("");
    assert!(text.contains(&server.url("/data.bin")), "{text}");
    assert_eq!(stderr("--quiet"), "");
}

#[test]
fn a_stop_while_fetching_ends_the_run() {
    let server = Server::of(&[("/data.bin", &data())]);
    let dir = tempdir().unwrap();
    assert_eq!(run(&Fetching(server.url("")), dir.path(), &[], true).unwrap(), Outcome::Unfetched);
}

#[test]
fn data_that_have_no_archive_cannot_be_fetched() {
    let dir = tempdir().unwrap();
    let error = run(&ListOps, dir.path(), &[], false).unwrap_err();
    assert!(matches!(error, Error::Config { name: "--download", .. }), "{error:?}");
}
