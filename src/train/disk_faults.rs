//! Tests: whole runs on a disk that fails at any of their operations, once or from there on. Nothing that was saved is lost.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde_json::Value;

use super::cli::{self, Outcome};
use super::{Command, Flags, Origin, Preset, Recipe, Sample, Task, tensorboard};
use crate::backend::Cpu;
use crate::data::{self, Dataset, Splits, Vocabulary};
use crate::error::{Error, Result};
use crate::file::faults::{Faults, with};
use crate::nn::store::Archive;

struct Tiny;

impl Task for Tiny {
    fn name(&self) -> &'static str {
        "tiny"
    }

    fn about(&self) -> &'static str {
        "A test."
    }

    fn presets(&self) -> &'static [Preset] {
        const RECIPE: &str = r#"name = "tiny"
data = "tiny"
run = { seed = 0, batch = 2, length = { steps = 11 } }
optimizer = { lr = 1e-2, weight_decay = 0.01 }
schedule = "constant"
model.layers = 1
model.block = { norm = "batch", ssm = { d_model = 4, d_state = 2, n_ssm = 1, l_max = 8, lr = 1e-3 } }
"#;
        &[Preset { name: "tiny", recipe: RECIPE }]
    }

    fn class_names(&self, _: &Recipe) -> Vec<String> {
        vec!["even".into(), "odd".into()]
    }

    fn load(&self, _: &Recipe, _: Option<&Path>, _: &data::Faults) -> Result<Splits> {
        let set = |count| {
            let mut set = Dataset::tokens(Vocabulary::new(["a", "b"])?, 2);
            (0..count).try_for_each(|label| set.push_tokens(&[3, 4, 3, 3 + label as u8 % 2], label % 2))?;
            Ok(set)
        };
        Ok(Splits { train: set(12)?, val: set(4)?, test: set(4)? })
    }

    fn push(&self, _: &Recipe, _: Sample<'_>, _: &mut Dataset) -> Result<()> {
        Ok(())
    }
}

/// A run into a folder, with a validation, a line of metrics and three checkpoints; what it prints.
fn run(dir: &Path, more: &str) -> Result<String> {
    let line = format!("{more} --quiet --eval-passes 1 --checkpoint-every 4 --out {}", dir.display());
    let Command::Run(flags) = Flags::parse(line.split_whitespace())? else { panic!("{line}") };
    let mut printed = Vec::new();
    let outcome = cli::run_on(&Cpu::<f32>::new(), &Tiny, &flags, &AtomicBool::new(false), &mut printed)?;
    assert!(matches!(outcome, Outcome::Finished(_)));
    Ok(String::from_utf8(printed).unwrap())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Everything in a folder by its name, without what every run has of its own, and what an earlier run left.
fn content(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let without_seconds = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line["seconds"] = 0.into();
        format!("{line}\n")
    };
    let read = |name: String| {
        let path = dir.join(&name);
        let bytes = match name.as_str() {
            "metrics.jsonl" => fs::read_to_string(path).unwrap().lines().map(without_seconds).collect::<String>().into(),
            // The recipe of the run that wrote it is in it, and that may have been a shorter one.
            "best.safetensors" => format!("{:?}", Archive::read(path).unwrap().tensors).into(),
            // The seconds are in it, too.
            "report.html" => Vec::new(),
            _ => fs::read(path).unwrap(),
        };
        (name, bytes)
    };
    // Event files have the time in their names: what counts is the numbers of all of them together.
    let (events, others): (Vec<_>, Vec<_>) = names(dir).into_iter().partition(|name| name.starts_with("events."));
    let files = others.into_iter().filter(|name| !name.contains(".previous.")).map(read);
    let numbers = tensorboard::numbers(dir).concat();
    files.chain((!events.is_empty()).then(|| ("events".into(), numbers))).collect()
}

/// What `before` did in a folder, then the run `line` on a disk that fails, then the run `again` on one that does not: at every
/// operation of the second.
fn every_fault(before: Option<&str>, line: &str, again: impl Fn(&Path) -> &'static str) {
    let begin = || {
        let dir = tempfile::tempdir().unwrap();
        before.iter().for_each(|before| drop(run(dir.path(), before).unwrap()));
        let checkpoint = fs::read(dir.path().join("checkpoint.safetensors")).ok();
        (dir, checkpoint)
    };
    let (whole, _) = begin();
    let (printed, operations) = with(Faults::Never, || run(whole.path(), line).unwrap());
    let (result, want) = (printed.split(" seconds=").next().unwrap(), content(whole.path()));
    assert!(operations > 30 && want.len() == 8 + usize::from(line.contains("--tensorboard")), "{operations} operations");
    let mut finished = 0;
    for fault in (0..operations).flat_map(|at| [Faults::At(at), Faults::From(at)]) {
        let (dir, earlier) = begin();
        match with(fault, || run(dir.path(), line)).0 {
            // What fails then are pictures.
            Ok(printed) => {
                assert!(printed.starts_with(result), "{fault:?}: {printed}");
                finished += 1;
            }
            Err(error) => assert!(matches!(error, Error::Io { .. }), "{fault:?}: {error}"),
        }
        let left = names(dir.path());
        assert!(!left.iter().any(|name| name.ends_with(".tmp")), "{fault:?}: {left:?}");
        // A checkpoint that is there can be read, and an earlier one was gone on with, or lies where it was or beside.
        let step = |name: &str| {
            let path = dir.path().join(name);
            path.exists().then(|| Origin::read(&path).unwrap().step)
        };
        let kept = ["checkpoint.safetensors", "checkpoint.previous.safetensors"];
        let same = |name: &&str| fs::read(dir.path().join(name)).ok() == earlier;
        let (now, then) = (step(kept[0]), earlier.as_ref().and(Some(7)));
        let safe = if line == "--overwrite" { kept.iter().any(same) } else { now >= then };
        assert!(safe, "{fault:?}: {now:?} after {then:?}");
        let printed = run(dir.path(), again(dir.path())).unwrap();
        assert!(printed.starts_with(result), "{fault:?}: {printed}");
        assert!(content(dir.path()) == want, "{fault:?}: other bits");
    }
    println!("{line:?}: {operations} operations, each of which failed alone and with all after it; {finished} runs finished all the same");
}

#[test]
fn a_disk_that_fails_at_any_operation_loses_nothing() {
    every_fault(None, "", |dir| if dir.join("checkpoint.safetensors").exists() { "--resume" } else { "--overwrite" });
}

#[test]
fn going_on_loses_nothing_either() {
    every_fault(Some("--steps 7"), "--resume --steps 11", |_| "--resume --steps 11");
    const WATCHED: &str = "--resume --steps 11 --tensorboard --rates-every 3 --report-every 5";
    every_fault(Some("--steps 7 --tensorboard --rates-every 3"), WATCHED, |_| WATCHED);
}

#[test]
fn nor_does_beginning_anew() {
    every_fault(Some("--seed 1 --steps 7"), "--overwrite", |_| "--overwrite");
}
