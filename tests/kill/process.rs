//! The processes that these tests start: the command line of a task, with arguments that come through the environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pspikessm::Result;
use pspikessm::data::{Dataset, Encoding, Faults, Source, Splits};
use pspikessm::train::tasks::ListOps;
use pspikessm::train::{Preset, Recipe, Sample, Task, cli};

use crate::runs::{Tiny, metrics};

const ARGUMENTS: &str = "PSPIKESSM_TEST_ARGUMENTS";
const TASK: &str = "PSPIKESSM_TEST_TASK";
const MARK: &str = "PSPIKESSM_TEST_MARK";
/// Set where a process is to take the signals as the shell before it left them.
const SHELL: &str = "PSPIKESSM_TEST_SHELL";

/// Not a test: what the processes do.
#[test]
#[ignore = "a process of the other tests"]
fn the_process() {
    let (Ok(arguments), Ok(task)) = (std::env::var(ARGUMENTS), std::env::var(TASK)) else { return };
    #[cfg(unix)]
    if std::env::var_os(SHELL).is_none() {
        hear_hangups();
    }
    let task: &dyn Task = match task.as_str() {
        "tiny" => &Tiny,
        "listops" => &ListOps,
        _ => &Waiting,
    };
    std::process::exit(cli::exit_code(task, arguments.lines()).into());
}

/// Undoes a `nohup` before these tests, which would make their SIGHUP mean nothing.
#[cfg(unix)]
fn hear_hangups() {
    // SAFETY: the default action takes the place of whatever there is, and nothing is called.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
}

/// A process that does what `line` says, in `dir` where it is to write. `shell` comes before it, as in `trap '' HUP`.
pub fn command(task: &str, line: &str, dir: Option<&Path>, shell: &str) -> Command {
    let mut arguments: Vec<String> = line.split_whitespace().map(String::from).collect();
    arguments.extend(["--backend", "cpu"].map(String::from));
    arguments.extend(dir.into_iter().flat_map(|dir| ["--out".into(), dir.to_str().unwrap().into()]));
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{shell}\nexec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "process::the_process", "--ignored", "--test-threads", "1"])
        .env(ARGUMENTS, arguments.join("\n"))
        .env(TASK, task)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if !shell.is_empty() {
        command.env(SHELL, "1");
    }
    command
}

pub fn start(task: &str, line: &str, dir: &Path) -> Child {
    command(task, line, Some(dir), "").spawn().unwrap()
}

/// Sends a signal, as `TERM`.
pub fn send(child: &Child, signal: &str) {
    assert!(Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status().unwrap().success());
}

/// Waits until something has come about; a process that ends before has failed.
pub fn until(child: &mut Child, what: &str, mut reached: impl FnMut() -> bool) {
    while !reached() {
        assert_eq!(child.try_wait().unwrap(), None, "{what}: the process has ended");
        thread::yield_now();
    }
}

/// Waits for so many more lines of metrics.
pub fn until_lines(child: &mut Child, dir: &Path, more: usize) {
    let lines = || fs::read_to_string(dir.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    // Going on drops the lines behind the checkpoint first.
    let (mut seen, mut left) = (lines(), more);
    until(child, "lines of metrics", || {
        let now = lines();
        left = left.saturating_sub(now.saturating_sub(seen));
        seen = now;
        left == 0
    });
}

pub fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| panic!("the process was ended by the signal itself: {status}"))
}

/// The step of the last line of metrics.
pub fn last_step(dir: &Path) -> u64 {
    metrics(dir).iter().filter_map(|line| line["step"].as_u64()).max().unwrap()
}

/// [`Tiny`], which says in the file of `mark` where it is, and then waits: `data` is the place.
pub struct Waiting;

impl Waiting {
    pub fn command(place: &str, line: &str, dir: Option<&Path>, mark: &Path) -> Command {
        let mut command = command("waiting", &format!("{line} --set data={place}"), dir, "");
        command.env(MARK, mark);
        command
    }
}

fn wait(place: &str) -> ! {
    fs::write(PathBuf::from(std::env::var_os(MARK).unwrap()), place).unwrap();
    thread::sleep(Duration::from_secs(600));
    panic!("nobody came")
}

/// Samples of which none ever arrives.
#[derive(Debug)]
struct Never;

impl Source for Never {
    fn length(&self) -> usize {
        5
    }

    fn read(&self, _: usize, _: &mut [f32]) -> Result<()> {
        wait("reading")
    }
}

impl Task for Waiting {
    fn name(&self) -> &'static str {
        Tiny.name()
    }

    fn about(&self) -> &'static str {
        Tiny.about()
    }

    fn presets(&self) -> &'static [Preset] {
        Tiny.presets()
    }

    fn class_names(&self, recipe: &Recipe) -> Vec<String> {
        Tiny.class_names(recipe)
    }

    fn load(&self, recipe: &Recipe, _: Option<&Path>, faults: &Faults) -> Result<Splits> {
        if recipe.data == "loading" {
            wait("loading")
        }
        let set = Dataset::remote(Encoding::Values(1), 2, vec![0, 1, 0, 1], Arc::new(Never), faults.clone())?;
        Ok(Splits { train: set.clone(), val: set.clone(), test: set })
    }

    fn push(&self, _: &Recipe, _: Sample<'_>, _: &mut Dataset) -> Result<()> {
        wait("predicting")
    }
}
