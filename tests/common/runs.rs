//! Runs on a tiny task: its data, its recipes, its command line, and what is compared between runs.

#![allow(dead_code, reason = "every test file uses its own part")]

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use pspikessm::Result;
use pspikessm::backend::*;
use pspikessm::data::{Dataset, Faults, Splits, Vocabulary};
use pspikessm::nn::Module;
use pspikessm::train::cli::{self, Outcome};
use pspikessm::train::{Command, Flags, Preset, Recipe, Sample, Task, Trainer};

/// A tiny model; on [`splits`] six batches an epoch, the last of them of two samples.
pub const QUICK: &str = r#"name = "quick"
data = "tiny"

[run]
seed = 0
batch = 4
length = { steps = 16 }

[optimizer]
lr = 1e-2
weight_decay = 0.01

[schedule.cosine]
warmup = 1
total = 16

[model]
layers = 2

[model.block]
residual = true
norm = "batch"
prenorm = false

[model.block.ssm]
d_model = 4
d_state = 2
n_ssm = 1
l_max = 8
lr = 1e-3
"#;

const LONGER: &str = r#"name = "longer"
data = "tiny"
run = { seed = 0, batch = 4, length = { steps = 32 } }
optimizer = { lr = 1e-2, weight_decay = 0.01 }
schedule.cosine = { warmup = 3, total = 32 }
model.layers = 2
model.block = { norm = "batch", ssm = { d_model = 4, d_state = 2, n_ssm = 1, l_max = 8, lr = 1e-3 } }
"#;

/// Sequences of 4 to 6 of two symbols; the class is the one that most of them are, or (`hard`) chance.
pub fn set(count: usize, seed: u64, hard: bool) -> Dataset {
    let mut set = Dataset::tokens(Vocabulary::new(["a", "b"]).unwrap(), 2);
    let mut words = Key::new(seed).words(0);
    for _ in 0..count {
        let draw = words.next_lanes();
        let label = (draw[0] >> 31) as usize;
        let length = 4 + (draw[1] >> 16) as usize % 3;
        let rare = (draw[2] >> 16) as usize % length;
        let shown = if hard { (draw[3] >> 31) as usize } else { label };
        let symbol = |at| 3 + if at == rare { 1 - shown } else { shown } as u8;
        set.push_tokens(&(0..length).map(symbol).collect::<Vec<_>>(), label).unwrap();
    }
    set
}

pub fn splits() -> Splits {
    Splits { train: set(22, 1, false), val: set(8, 2, false), test: set(10, 3, false) }
}

/// Labels that nothing can be learnt of, and enough of them for accuracies to differ.
pub fn hard_splits() -> Splits {
    Splits { train: set(22, 1, true), val: set(41, 2, true), test: set(10, 3, true) }
}

pub fn recipe(steps: u64) -> Recipe {
    Recipe::parse(QUICK, "quick.toml").unwrap().with_steps(steps)
}

/// The recipe with something changed in it.
pub fn changed(mut recipe: Recipe, change: impl FnOnce(&mut Recipe)) -> Recipe {
    change(&mut recipe);
    recipe
}

pub struct Tiny;

impl Task for Tiny {
    fn name(&self) -> &'static str {
        "tiny"
    }

    fn about(&self) -> &'static str {
        "Which of two symbols is the more frequent one."
    }

    fn presets(&self) -> &'static [Preset] {
        &[Preset { name: "quick", recipe: QUICK }, Preset { name: "longer", recipe: LONGER }]
    }

    fn class_names(&self, _: &Recipe) -> Vec<String> {
        ["mostly-a", "mostly-b"].map(String::from).into()
    }

    fn load(&self, recipe: &Recipe, _: Option<&Path>, _: &Faults) -> Result<Splits> {
        Ok(if recipe.data == "hard" { hard_splits() } else { splits() })
    }

    fn push(&self, _: &Recipe, sample: Sample<'_>, set: &mut Dataset) -> Result<()> {
        let sample = match sample {
            Sample::Given(path) => path.to_str().unwrap(),
            Sample::Text(text) => text,
        };
        let symbols: Vec<String> = sample.chars().map(String::from).collect();
        let ids = set.vocabulary().unwrap().encode(symbols.iter().map(String::as_str));
        set.push_ids(&ids, 0)
    }
}

pub fn trainer_of(recipe: Recipe) -> Trainer<Cpu<f32>> {
    Trainer::new(&Cpu::new(), "tiny", recipe, splits()).unwrap()
}

pub fn trainer() -> Trainer<Cpu<f32>> {
    trainer_of(recipe(16))
}

pub fn take<B: Backend>(trainer: &mut Trainer<B>, steps: usize) {
    for _ in 0..steps {
        trainer.step().unwrap();
    }
}

/// Every step and validation up to `step`, as the loop does them.
pub fn advance<B: Backend>(trainer: &mut Trainer<B>, step: u64) {
    while trainer.steps_done() < step {
        trainer.step().unwrap();
        if trainer.validation_due() {
            trainer.validate(&go()).unwrap().unwrap();
        }
    }
}

/// A flag that nobody sets.
pub fn go() -> AtomicBool {
    AtomicBool::new(false)
}

/// A flag that is set.
pub fn halt() -> AtomicBool {
    AtomicBool::new(true)
}

/// All bits that training changes: parameters and buffers, then moments, each under its name.
pub fn bits(trainer: &Trainer<Cpu<f32>>) -> Vec<(String, Vec<u32>)> {
    let cpu = Cpu::<f32>::new();
    let of = |tensor: &Tensor<_>| cpu.to_vec(tensor).unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let values = trainer.model().parameters().into_iter().map(|(name, param)| (name, of(&param.value())));
    let moments = trainer.model().parameters().into_iter().filter_map(|(name, param)| {
        let state = trainer.optimizer().state(&param)?;
        let slots = state.slots.iter().map(of).chain([vec![state.step as u32]]);
        Some((format!("moments of {name}"), slots.collect::<Vec<_>>().concat()))
    });
    values.chain(moments).collect()
}

pub fn parse(line: &str) -> Result<Command> {
    Flags::parse(line.split_whitespace())
}

pub fn flags(line: &str, out: Option<&Path>) -> Flags {
    let out = out.map(|dir| ["--out".into(), dir.as_os_str().to_os_string()]);
    let arguments = line.split_whitespace().map(Into::into).chain(out.into_iter().flatten());
    let Command::Run(flags) = Flags::parse::<std::ffi::OsString>(arguments).unwrap() else { panic!("{line} asks for something else") };
    flags
}

/// What a run prints.
pub fn printed(task: &dyn Task, flags: &Flags) -> String {
    let mut printed = Vec::new();
    let outcome = cli::run_on(&Cpu::<f32>::new(), task, flags, &go(), &mut printed).unwrap();
    assert!(matches!(outcome, Outcome::Finished(_) | Outcome::Predicted));
    String::from_utf8(printed).unwrap()
}

/// The last line that a run prints, up to the seconds.
pub fn figures(printed: &str) -> String {
    printed.lines().last().unwrap().split(" seconds=").next().unwrap().to_string()
}

/// The last line that a run prints, and the same up to the seconds.
pub fn result(task: &dyn Task, flags: &Flags) -> (String, String) {
    let printed = printed(task, flags);
    (printed.lines().last().unwrap().to_string(), figures(&printed))
}

pub fn run_error(task: &dyn Task, flags: &Flags) -> String {
    cli::run_on(&Cpu::<f32>::new(), task, flags, &go(), &mut Vec::new()).unwrap_err().to_string()
}

#[track_caller]
pub fn mentions(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    assert!(!text.contains('\n'), "more than one line: {text}");
}

pub fn metrics(dir: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn without_seconds(mut lines: Vec<serde_json::Value>) -> Vec<serde_json::Value> {
    lines.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("seconds").unwrap()));
    lines
}

/// The names of the files in a folder.
pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
