//! A training process that is killed at any moment, again and again, ends with the bits of one that never was.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::Duration;

use pspikessm::backend::Key;
use pspikessm::nn::store::Archive;
use pspikessm::train::Origin;

use crate::process::{code, start, until, until_lines};
use crate::runs::{Tiny, flags, metrics, names, printed, without_seconds};

/// Of one run, before it is brought to its end.
const KILLS: u64 = 20;
/// More than a process lives to take.
pub const MANY: u64 = 1_000_000;

/// With a constant rate, whose longer runs are continuations of shorter ones, and labels that keep the best epoch changing.
pub fn line(steps: u64, resume: bool) -> String {
    // A process that was killed before its first checkpoint begins anew.
    let begin = if resume { "--resume" } else { "--overwrite" };
    format!("{begin} --quiet --steps {steps} --checkpoint-every 2 --rates-every 3 --report-every 7 --set data=hard --set schedule=constant")
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
    /// The `kill`th of a round.
    fn drawn(round: u64, kill: u64) -> Self {
        let draw = Key::new(0x6b69_6c6c + round).fold(kill).words(0).next_lanes()[0];
        match kill % 4 {
            0 => Moment::Time(u64::from(draw >> 8) % (1 + 10_000 * kill)),
            1 => Moment::Lines(1 + draw as usize / 7 % 8),
            2 => Moment::Writing([".checkpoint", ".metrics"][kill as usize / 4 % 2]),
            _ => Moment::Written(1 + u64::from(draw / 7 % 20)),
        }
    }

    fn wait(&self, dir: &Path, child: &mut Child) {
        let inode = || fs::metadata(dir.join("checkpoint.safetensors")).map(|file| std::os::unix::fs::MetadataExt::ino(&file)).ok();
        let mut seen = inode();
        // Whether a checkpoint was written since the last look.
        let mut is_new = || {
            let before = std::mem::replace(&mut seen, inode());
            before != seen
        };
        let own = format!(".{}-", child.id());
        match self {
            Moment::Time(microseconds) => thread::sleep(Duration::from_micros(*microseconds)),
            Moment::Lines(more) => until_lines(child, dir, *more),
            Moment::Writing(what) => {
                // Its own: earlier ones have left theirs. On a busy machine it may be gone before anyone looks.
                let mut patience = 40;
                until(child, what, || {
                    patience -= u64::from(is_new());
                    patience == 0 || names(dir).iter().any(|name| name.starts_with(what) && name.contains(&own))
                });
            }
            Moment::Written(more) => {
                let mut left = *more;
                until(child, "checkpoints", || {
                    left -= u64::from(is_new());
                    left == 0
                });
            }
        }
    }
}

/// Kills a run so many times, then brings it to its end; says what happened.
fn round(round: u64, kills: u64) -> String {
    let killed = tempfile::tempdir().unwrap();
    let checkpoint = killed.path().join("checkpoint.safetensors");
    let (mut reached, mut before_the_first) = (Vec::new(), 0);
    for kill in 0..kills {
        let mut child = start("tiny", &line(MANY, checkpoint.exists()), killed.path());
        Moment::drawn(round, kill).wait(killed.path(), &mut child);
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        match Origin::read(&checkpoint) {
            Ok(origin) => reached.push(origin.step),
            // Whatever is there can be read.
            Err(error) => assert!(!checkpoint.exists(), "{error}"),
        }
        before_the_first += u64::from(!checkpoint.exists());
    }
    assert!(reached.is_sorted() && reached.first() < reached.last(), "{reached:?}");
    finish(killed.path());
    format!("checkpoints of steps {reached:?} after {before_the_first} kills before the first")
}

/// Takes some more steps of a run that was stopped, and compares it with one that another process does all at once.
pub fn finish(dir: &Path) {
    let whole = tempfile::tempdir().unwrap();
    let steps = Origin::read(dir.join("checkpoint.safetensors")).unwrap().step + 9;
    assert_eq!(code(start("tiny", &line(steps, true), dir).wait().unwrap()), 0);
    printed(&Tiny, &flags(&line(steps, false), Some(whole.path())));
    for file in ["checkpoint.safetensors", "curves.svg", "raster.svg", "kernels.svg"] {
        let [a, b] = [dir, whole.path()].map(|dir| fs::read(dir.join(file)).unwrap());
        assert!(a == b, "{file} differs");
    }
    // The best epoch was perhaps saved by a process that was to take many more steps: its recipe says so.
    let [a, b] = [dir, whole.path()].map(|dir| Archive::read(dir.join("best.safetensors")).unwrap().tensors);
    assert!(a == b, "best.safetensors differs");
    let [a, b] = [dir, whole.path()].map(|dir| without_seconds(metrics(dir)));
    assert_eq!(a, b);
    // What was begun anew leaves nothing behind but what it was told to keep.
    let [a, b] = [dir, whole.path()].map(|dir| names(dir).into_iter().filter(|name| !name.contains(".previous.")).collect::<Vec<_>>());
    assert_eq!(a, b);
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_with_the_same_bits() {
    println!("{}", round(0, KILLS));
}

#[test]
#[ignore = "a campaign"]
fn campaign_of_kills() {
    let kills: u64 = std::env::var("PSPIKESSM_KILLS").map_or(1000, |number| number.parse().unwrap());
    let rounds = kills.div_ceil(KILLS);
    (0..rounds).for_each(|number| println!("{number}: {}", round(number, KILLS)));
    println!("{} kills of {rounds} runs, each of which ended with the bits of one that never was killed", rounds * KILLS);
}
