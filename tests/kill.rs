//! A training process that is killed at any moment, again and again, ends with the bits of one that never was.
#![cfg(unix)]

#[path = "common/runs.rs"]
mod runs;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use pspikessm::backend::Key;
use pspikessm::nn::store::Archive;
use pspikessm::train::Origin;
use runs::{Tiny, flags, metrics, names, printed, without_seconds};

const OUT: &str = "PSPIKESSM_KILL_TEST_OUT";
const STEPS: &str = "PSPIKESSM_KILL_TEST_STEPS";
const KILLS: u64 = 20;
/// More than a process lives to take.
const MANY: u64 = 1_000_000;

/// With a constant rate, whose longer runs are continuations of shorter ones, and labels that keep the best epoch changing.
fn line(steps: u64, resume: bool) -> String {
    let resume = if resume { "--resume" } else { "" };
    format!("{resume} --quiet --steps {steps} --checkpoint-every 2 --set data=hard --set schedule=constant")
}

fn train(dir: &Path, steps: u64) {
    // A process that was killed before its first checkpoint begins anew.
    let resume = dir.join("checkpoint.safetensors").exists();
    printed(&Tiny, &flags(&line(steps, resume), Some(dir)));
}

/// Not a test: what the processes below do.
#[test]
#[ignore = "a process of the test below"]
fn the_process() {
    let (Some(out), Ok(steps)) = (std::env::var_os(OUT), std::env::var(STEPS)) else { return };
    train(Path::new(&out), steps.parse().unwrap());
}

fn start(dir: &Path, steps: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process", "--ignored", "--test-threads", "1"])
        .env(OUT, dir)
        .env(STEPS, steps.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// When a process is killed: each of these falls before, into or behind what it writes.
#[derive(Debug)]
enum Moment {
    /// After so many microseconds, the first ones before it has begun to train.
    Time(u64),
    /// When so many more lines of metrics are there.
    Lines(usize),
    /// When a file with such a name is half written, or was a moment ago.
    Writing(&'static str),
    /// When so many more checkpoints were renamed to their place.
    Written(u64),
}

impl Moment {
    fn drawn(kill: u64) -> Self {
        let draw = Key::new(0x6b69_6c6c).fold(kill).words(0).next_lanes()[0];
        match kill % 4 {
            0 => Moment::Time(u64::from(draw >> 8) % (1 + 10_000 * kill)),
            1 => Moment::Lines(1 + draw as usize / 7 % 8),
            2 => Moment::Writing([".checkpoint", ".metrics"][kill as usize / 4 % 2]),
            _ => Moment::Written(1 + u64::from(draw / 7 % 20)),
        }
    }

    fn wait(&self, dir: &Path, child: &mut Child) {
        let lines = || fs::read_to_string(dir.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
        let inode = || fs::metadata(dir.join("checkpoint.safetensors")).map(|file| std::os::unix::fs::MetadataExt::ino(&file)).ok();
        let own = format!(".{}-", child.id());
        // A process that ends by itself would be waited for in vain: it has failed.
        let mut until = |reached: &mut dyn FnMut() -> bool| {
            while !reached() {
                assert_eq!(child.try_wait().unwrap(), None, "{self:?}: the process has ended");
                thread::yield_now();
            }
        };
        match self {
            Moment::Time(microseconds) => thread::sleep(Duration::from_micros(*microseconds)),
            Moment::Lines(more) => {
                // Going on drops the lines behind the checkpoint first.
                let (mut seen, mut left) = (lines(), *more);
                until(&mut || {
                    let now = lines();
                    if now > seen {
                        left = left.saturating_sub(now - seen);
                    }
                    seen = now;
                    left == 0
                });
            }
            // Its own: earlier ones have left theirs.
            Moment::Writing(what) => until(&mut || names(dir).iter().any(|name| name.starts_with(what) && name.contains(&own))),
            Moment::Written(more) => {
                let (mut seen, mut left) = (inode(), *more);
                until(&mut || {
                    let now = inode();
                    left -= u64::from(now != seen).min(left);
                    seen = now;
                    left == 0
                });
            }
        }
    }
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_with_the_same_bits() {
    let (killed, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let checkpoint = killed.path().join("checkpoint.safetensors");
    let (mut reached, mut before_the_first) = (Vec::new(), 0);
    for kill in 0..KILLS {
        let mut child = start(killed.path(), MANY);
        Moment::drawn(kill).wait(killed.path(), &mut child);
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        match Origin::read(&checkpoint) {
            Ok(origin) => reached.push(origin.step),
            // Whatever is there can be read.
            Err(error) => assert!(!checkpoint.exists(), "{error}"),
        }
        before_the_first += u64::from(!checkpoint.exists());
    }
    println!("checkpoints of steps {reached:?} after {before_the_first} kills before the first");
    assert!(reached.is_sorted() && reached.first() < reached.last(), "{reached:?}");

    // The last process finishes, another one does it all at once.
    let steps = reached.last().unwrap() + 9;
    let mut last = start(killed.path(), steps);
    assert!(last.wait().unwrap().success());
    train(whole.path(), steps);
    for file in ["checkpoint.safetensors", "raster.svg", "kernels.svg"] {
        let [a, b] = [&killed, &whole].map(|dir| fs::read(dir.path().join(file)).unwrap());
        assert!(a == b, "{file} differs");
    }
    // The best epoch was perhaps saved by a process that was to take many more steps: its recipe says so.
    let [a, b] = [&killed, &whole].map(|dir| Archive::read(dir.path().join("best.safetensors")).unwrap().tensors);
    assert!(a == b, "best.safetensors differs");
    let [a, b] = [&killed, &whole].map(|dir| without_seconds(metrics(dir.path())));
    assert_eq!(a, b);
    assert_eq!(names(killed.path()), names(whole.path()));
}
