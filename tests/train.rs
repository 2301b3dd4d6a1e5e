//! Training: what is learnt, what is written, what comes of an interruption, and every error that a user can cause.
#![cfg(feature = "train")]

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use pspikessm::autodiff::Tape;
use pspikessm::backend::{Backend, Cpu, Driver, Key, Tensor};
use pspikessm::data::{Dataset, Faults, Splits, Vocabulary};
use pspikessm::nn::{AdamWConfig, Context, Model, Module, store};
use pspikessm::train::cli::{self, Outcome, Summary};
use pspikessm::train::device::{self, Choice};
use pspikessm::train::tasks::ListOps;
use pspikessm::train::{
    Command, Ending, FitOptions, Flags, Length, Output, Preset, Recipe, Schedule, Task, Trainer, fit, load_weights, logits,
};
use pspikessm::{Error, Result};

/// Sequences of 4 to 6 of two symbols; the class is the one that most of them are, or (`hard`) chance.
fn set(count: usize, seed: u64, hard: bool) -> Dataset {
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

fn splits() -> Splits {
    Splits { train: set(22, 1, false), val: set(8, 2, false), test: set(10, 3, false) }
}

/// A tiny model; six batches an epoch, the last of them of two samples.
fn recipe(steps: u64) -> Recipe {
    let mut recipe = ListOps.recipe(None).unwrap().with_steps(steps);
    recipe.block.ssm.d_model = 4;
    recipe.block.ssm.d_state = 2;
    recipe.block.ssm.l_max = Some(8);
    recipe.batch = 4;
    recipe.optimizer.lr = 1e-2;
    recipe
}

struct Tiny;

impl Task for Tiny {
    fn name(&self) -> &'static str {
        "tiny"
    }

    fn about(&self) -> &'static str {
        "Which of two symbols is the more frequent one."
    }

    fn presets(&self) -> &'static [Preset] {
        &[Preset { name: "quick", recipe: TINY }, Preset { name: "longer", recipe: TINY_LONGER }]
    }

    fn class_names(&self, _: &Recipe) -> Vec<String> {
        ["a", "b"].map(String::from).into()
    }

    fn load(&self, _: &Recipe, _: Option<&Path>, _: &Faults) -> Result<Splits> {
        Ok(splits())
    }

    fn push(&self, _: &Recipe, sample: &str, set: &mut Dataset) -> Result<()> {
        let ids = set.vocabulary().unwrap().encode(sample.split(' '));
        set.push_tokens(&ids, 0)
    }

    #[cfg(feature = "download")]
    fn archive(&self, _: &Recipe) -> Option<pspikessm::train::download::Set> {
        None
    }
}

fn trainer_of(recipe: Recipe) -> Trainer<Cpu<f32>> {
    Trainer::new(&Cpu::new(), "tiny", recipe, splits()).unwrap()
}

fn trainer() -> Trainer<Cpu<f32>> {
    trainer_of(recipe(16))
}

fn take(trainer: &mut Trainer<Cpu<f32>>, steps: usize) {
    for _ in 0..steps {
        trainer.step().unwrap();
    }
}

/// Every step and validation up to `step`, as the loop does them.
fn advance(trainer: &mut Trainer<Cpu<f32>>, step: u64) {
    while trainer.steps_done() < step {
        trainer.step().unwrap();
        if trainer.validation_due() {
            trainer.validate(&go()).unwrap().unwrap();
        }
    }
}

/// A flag that nobody sets.
fn go() -> AtomicBool {
    AtomicBool::new(false)
}

fn halt() -> AtomicBool {
    AtomicBool::new(true)
}

/// All bits that training changes: parameters and buffers, then moments, each under its name.
fn bits(trainer: &Trainer<Cpu<f32>>) -> Vec<(String, Vec<u32>)> {
    let cpu = Cpu::<f32>::new();
    let of = |tensor: &Tensor<_>| cpu.to_vec(tensor).unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let values = trainer.model().parameters().into_iter().map(|(name, param)| (name, of(&param.value())));
    let moments = trainer.optimizer().moments.iter().map(|(name, [m, v])| (format!("moments of {name}"), [of(m), of(v)].concat()));
    values.chain(moments).collect()
}

fn parse(line: &str) -> Result<Command> {
    Flags::parse(line.split_whitespace())
}

fn flags(line: &str, out: Option<&Path>) -> Flags {
    let out = out.map(|dir| ["--out".into(), dir.as_os_str().to_os_string()]);
    let arguments = line.split_whitespace().map(Into::into).chain(out.into_iter().flatten());
    let Command::Run(flags) = Flags::parse::<std::ffi::OsString>(arguments).unwrap() else { panic!("{line} asks for help") };
    flags
}

/// The last line that a run prints, and the same up to the seconds.
fn result(task: &dyn Task, flags: &Flags) -> (String, String) {
    let mut printed = Vec::new();
    let outcome = cli::run(&Cpu::<f32>::new(), task, flags, &go(), &mut printed).unwrap();
    let printed = String::from_utf8(printed).unwrap();
    let line = printed.lines().last().unwrap().to_string();
    assert!(matches!(outcome, Outcome::Finished(_)));
    let figures = line.split(" seconds=").next().unwrap().to_string();
    (line, figures)
}

fn run_error(task: &dyn Task, flags: &Flags) -> String {
    cli::run(&Cpu::<f32>::new(), task, flags, &go(), &mut Vec::new()).unwrap_err().to_string()
}

#[track_caller]
fn mentions(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    assert!(!text.contains('\n'), "more than one line: {text}");
}

fn metrics(dir: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn without_seconds(mut lines: Vec<serde_json::Value>) -> Vec<serde_json::Value> {
    lines.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("seconds").unwrap()));
    lines
}

// What is learnt.

#[test]
fn an_easy_task_is_learnt() {
    let mut trainer = trainer_of(recipe(90));
    let first = trainer.step().unwrap();
    assert_eq!(fit(&mut trainer, None, FitOptions::default(), &go()).unwrap(), Ending::Finished);
    let (last, test) = (trainer.recent(20).unwrap(), trainer.test(3, &go()).unwrap().unwrap());
    assert!(last.loss < 0.6 * first.loss, "the loss went from {} to {}", first.loss, last.loss);
    assert!(test.accuracy > 0.85 && test.spike_rate > 0.0 && test.spike_rate < 1.0, "{test:?}");
}

#[test]
fn the_official_listops_model_has_the_official_number_of_parameters() {
    let cpu = Cpu::<f32>::new();
    let set = Dataset::tokens(pspikessm::data::listops::vocabulary(), 10);
    let recipe = ListOps.recipe(Some("paper")).unwrap();
    assert_eq!(Model::new(&cpu, Key::new(0), &recipe.model(&set)).unwrap().num_parameters(), 174_474);
    assert_eq!((recipe.steps(96_000), recipe.steps_per_epoch(96_000)), (120_000, 3_000));
}

#[test]
fn an_epoch_sees_every_sample_but_a_last_single_one() {
    let recipe = recipe(16);
    assert_eq!([1, 3, 4, 5, 6, 8, 9].map(|samples| recipe.steps_per_epoch(samples)), [1, 1, 1, 1, 2, 2, 2]);
    assert_eq!(Recipe { length: Length::Epochs(3), schedule: Schedule::Constant, ..recipe }.steps(22), 18);
}

#[test]
fn steps_set_the_length_of_a_cosine_and_a_tenth_of_warm_up() {
    let Schedule::Cosine(cosine) = ListOps.recipe(Some("paper")).unwrap().with_steps(50).schedule else { panic!("not a cosine") };
    assert_eq!((cosine.warmup, cosine.total), (5, 50));
    let Schedule::Cosine(cosine) = ListOps.recipe(None).unwrap().schedule else { panic!("not a cosine") };
    assert_eq!((cosine.warmup, cosine.total), (60, 600));
}

#[test]
fn a_plateau_lowers_the_rate_after_epochs_without_a_rise() {
    let schedule = Schedule::Plateau { decay: 0.5, patience: 0 };
    let mut trainer = trainer_of(Recipe { schedule, length: Length::Epochs(4), ..recipe(1) });
    assert_eq!(trainer.rate_factor(), 1.0);
    // Nothing is learnt without a rate, and so no epoch is better than the first.
    fit(&mut trainer, None, FitOptions::default(), &go()).unwrap();
    assert!(trainer.rate_factor() < 1.0);
    assert_eq!((trainer.steps_done(), trainer.epochs_done()), (24, 4));
}

// Evaluation.

#[test]
fn evaluation_changes_nothing() {
    let (mut watched, mut other) = (trainer(), trainer());
    take(&mut watched, 3);
    take(&mut other, 3);
    let before = bits(&watched);
    let first = watched.test(2, &go()).unwrap().unwrap();
    assert_eq!(bits(&watched), before);
    assert_eq!(watched.test(2, &go()).unwrap().unwrap(), first);
    take(&mut watched, 2);
    take(&mut other, 2);
    assert_eq!(bits(&watched), bits(&other));
}

#[test]
fn evaluation_leaves_nothing_on_a_tape() {
    let trainer = trainer();
    let cpu = Cpu::<f32>::new();
    let batch = trainer.splits().test.batch(&[0, 1, 2]).unwrap();
    let tape = Tape::off(&cpu);
    let found = logits(trainer.model(), &Context::evaluation(&tape, Key::new(0)), &batch).unwrap();
    assert!(tape.is_empty() && !found.needs_gradient());
    let tape = Tape::new(&cpu);
    assert!(logits(trainer.model(), &Context::training(&tape, Key::new(0)), &batch).unwrap().needs_gradient());
    assert!(!tape.is_empty());
}

#[test]
fn passes_draw_new_spikes_and_none_is_an_error() {
    let trainer = trainer();
    let loss = |passes| trainer.test(passes, &go()).unwrap().unwrap().loss;
    assert_ne!(loss(1), loss(2));
    mentions(&trainer.test(0, &go()).unwrap_err().to_string(), &["passes = 0"]);
    assert_eq!(trainer.test(1, &halt()).unwrap(), None);
}

#[test]
fn an_empty_set_is_an_error() {
    let empty = || Dataset::tokens(Vocabulary::new(["a", "b"]).unwrap(), 2);
    for (splits, name) in [
        (Splits { train: empty(), ..splits() }, "training"),
        (Splits { val: empty(), ..splits() }, "validation"),
        (Splits { test: empty(), ..splits() }, "test"),
    ] {
        let error = Trainer::new(&Cpu::<f32>::new(), "tiny", recipe(2), splits).unwrap_err();
        mentions(&error.to_string(), &[name, "empty"]);
    }
}

// Interruptions.

#[test]
fn a_resumed_run_is_the_uninterrupted_one_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("at.safetensors");
    let mut whole = trainer();
    advance(&mut whole, 16);
    // The start, within an epoch, at its end, in the second epoch, at the end.
    for at in [0, 2, 6, 9, 16] {
        let mut part = trainer();
        advance(&mut part, at);
        part.save(&path).unwrap();
        let mut rest = trainer().resume(&path).unwrap();
        assert_eq!((rest.steps_done(), rest.validation_due()), (at, false));
        advance(&mut rest, 16);
        assert_eq!(bits(&rest), bits(&whole), "saved at step {at}");
        assert_eq!(rest.recent(100), whole.recent(100));
        assert_eq!(rest.test(2, &go()).unwrap(), whole.test(2, &go()).unwrap());
    }
}

#[test]
fn a_plateau_is_resumed_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("at.safetensors");
    let recipe = Recipe { schedule: Schedule::Plateau { decay: 0.5, patience: 0 }, length: Length::Epochs(3), ..recipe(1) };
    let mut part = trainer_of(recipe.clone());
    advance(&mut part, 13);
    part.save(&path).unwrap();
    let mut rest = trainer_of(recipe.clone()).resume(&path).unwrap();
    assert_eq!(rest.rate_factor(), part.rate_factor());
    advance(&mut part, 18);
    advance(&mut rest, 18);
    assert_eq!((bits(&rest), rest.rate_factor()), (bits(&part), part.rate_factor()));
    // Its steps do not depend on how many there are: a longer run is a continuation, a shorter one makes no sense.
    trainer_of(Recipe { length: Length::Epochs(5), ..recipe.clone() }).resume(&path).unwrap();
    let error = trainer_of(Recipe { length: Length::Epochs(1), ..recipe }).resume(&path).unwrap_err();
    mentions(&error.to_string(), &["from step 13", "ends at step 6"]);
}

#[test]
fn a_resumed_run_prints_and_writes_the_same() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (line, figures) = result(&Tiny, &flags("", Some(whole.path())));
    mentions(
        &line,
        &[
            "result task=tiny preset=quick backend=cpu-f32 steps=16 train_loss=",
            " test_accuracy=",
            " majority=",
            " spike_rate=",
            " seconds=",
        ],
    );
    let fields = line.split(' ').skip(1).map(|field| field.split_once('=').unwrap()).collect::<Vec<_>>();
    assert!(fields[4..].iter().all(|(_, value)| value.parse::<f64>().unwrap().is_finite()));
    let majority = splits().test.majority();
    assert!(line.contains(&format!(" majority={majority:.4} ")));

    // Stopped before the first step, then after the ninth, with lines of metrics that the checkpoint knows nothing of.
    let stopped = cli::run(&Cpu::<f32>::new(), &Tiny, &flags("", Some(parts.path())), &halt(), &mut Vec::new()).unwrap();
    let checkpoint = parts.path().join("checkpoint.safetensors");
    assert_eq!(stopped, Outcome::Stopped(0, Some(checkpoint.clone())));
    let mut part = trainer().resume(&checkpoint).unwrap();
    let mut output = Output::open(parts.path()).unwrap();
    assert_eq!(fit(&mut part, Some(&mut output), FitOptions::default(), &go()).unwrap(), Ending::Finished);
    let mut part = trainer();
    advance(&mut part, 9);
    part.save(&checkpoint).unwrap();
    assert_eq!(result(&Tiny, &flags("--resume", Some(parts.path()))).1, figures);
    assert_eq!(without_seconds(metrics(parts.path())), without_seconds(metrics(whole.path())));
    assert_eq!(fs::read(&checkpoint).unwrap(), fs::read(whole.path().join("checkpoint.safetensors")).unwrap());

    // A run that is done only evaluates once more.
    assert_eq!(result(&Tiny, &flags("--resume", Some(whole.path()))).1, figures);
    assert_eq!(result(&Tiny, &flags("--quiet", None)).1, figures);
}

#[test]
fn a_stopped_run_saves_what_it_reached() {
    let dir = tempfile::tempdir().unwrap();
    let mut trainer = trainer();
    take(&mut trainer, 5);
    let mut output = Output::open(dir.path()).unwrap();
    assert_eq!(fit(&mut trainer, Some(&mut output), FitOptions::default(), &halt()).unwrap(), Ending::Stopped);
    assert_eq!(trainer.steps_done(), 5);
    let resumed = self::trainer().resume(output.checkpoint()).unwrap();
    assert_eq!(bits(&resumed), bits(&trainer));
    // At the end of an epoch its validation is still due, and is not lost.
    take(&mut trainer, 1);
    assert_eq!(fit(&mut trainer, Some(&mut output), FitOptions::default(), &halt()).unwrap(), Ending::Stopped);
    assert!(self::trainer().resume(output.checkpoint()).unwrap().validation_due());
    // Without a folder there is nothing to save.
    let stopped = cli::run(&Cpu::<f32>::new(), &Tiny, &flags("", None), &halt(), &mut Vec::new()).unwrap();
    assert_eq!(stopped, Outcome::Stopped(0, None));
}

#[cfg(feature = "parallel")]
#[test]
fn threads_change_no_bit() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut trainer = trainer();
            advance(&mut trainer, 8);
            (bits(&trainer), result(&Tiny, &flags("--steps 3", None)).1)
        })
    };
    assert_eq!(run(1), run(2));
}

// Devices.

/// What a run on the device that the flags name prints last.
fn result_on_device(task: &dyn Task, flags: &Flags) -> String {
    let mut printed = Vec::new();
    let outcome = device::run(task, flags, &go(), &mut printed).unwrap();
    assert!(matches!(outcome, Outcome::Finished(_)));
    String::from_utf8(printed).unwrap().lines().last().unwrap().split(" seconds=").next().unwrap().to_string()
}

#[test]
fn the_cpu_by_name_is_the_cpu_bit_for_bit() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let plain = result(&Tiny, &flags("", Some(dirs[0].path()))).1;
    let same = |dir: &Path| {
        let file = |dir: &Path| fs::read(dir.join("checkpoint.safetensors")).unwrap();
        assert_eq!(file(dir), file(dirs[0].path()));
        assert_eq!(without_seconds(metrics(dir)), without_seconds(metrics(dirs[0].path())));
    };
    assert_eq!(result_on_device(&Tiny, &flags("--backend cpu", Some(dirs[1].path()))), plain);
    same(dirs[1].path());
    // Where no GPU is there to be taken, and software that plays one is not, the CPU is the default too.
    if pspikessm::devices().iter().all(|device| device.driver == Driver::Cpu || device.name.starts_with("llvmpipe")) {
        assert_eq!(result_on_device(&Tiny, &flags("", Some(dirs[2].path()))), plain);
        same(dirs[2].path());
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn a_run_on_wgpu_goes_on_on_the_cpu() {
    use pspikessm::backend::Wgpu;
    let Some(device) = pspikessm::devices().into_iter().find(|device| device.driver == Driver::Wgpu) else { return };
    let (out, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for part in ["train", "val", "test"] {
        fs::write(data.path().join(format!("basic_{part}.tsv")), "Source\tTarget\n[MAX 1 2 ]\t2\n[MIN 7 8 ]\t7\n").unwrap();
    }
    let flags =
        |line: &str| Flags { data: Some(data.path().into()), ..flags(&format!("{line} --steps 3 --batch-size 2"), Some(out.path())) };
    let there = result_on_device(&ListOps, &flags(&format!("--backend wgpu:{} --eval-passes 1", device.index)));
    mentions(&there, &["backend=wgpu-f32 steps=3 "]);
    assert_eq!(metrics(out.path())[0]["backend"], "wgpu-f32");
    // The run is done: the CPU evaluates, and knows the losses of the other device.
    let here = result_on_device(&ListOps, &flags("--backend cpu --resume"));
    mentions(&here, &["backend=cpu-f32 steps=3 "]);
    let loss = |line: &str| line.split(' ').find(|field| field.starts_with("train_loss=")).unwrap().to_string();
    assert_eq!(loss(&here), loss(&there));

    // Saved after three steps of many: all bits arrive, and training goes on.
    let (gpu, path) = (Wgpu::nth(device.index).unwrap(), out.path().join("at.safetensors"));
    let mut part = Trainer::new(&gpu, "tiny", recipe(16), splits()).unwrap();
    for _ in 0..3 {
        part.step().unwrap();
    }
    part.save(&path).unwrap();
    let mut rest = trainer().resume(&path).unwrap();
    let arrived = bits(&rest);
    for (name, param) in part.model().parameters() {
        let sent = gpu.to_vec(&param.value()).unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert!(arrived.contains(&(name, sent)));
    }
    advance(&mut rest, 16);
    assert!(rest.recent(13).unwrap().loss.is_finite());
    // And back.
    rest.save(&path).unwrap();
    assert_eq!(Trainer::new(&gpu, "tiny", recipe(16), splits()).unwrap().resume(&path).unwrap().recent(16), rest.recent(16));
}

// What is written.

#[test]
fn metrics_are_lines_of_json() {
    let dir = tempfile::tempdir().unwrap();
    result(&Tiny, &flags("--eval-passes 2", Some(dir.path())));
    let lines = metrics(dir.path());
    let of = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    assert_eq!(["run", "train", "validation", "test"].map(|kind| of(kind).len()), [1, 1, 2, 1]);
    let run = of("run")[0];
    assert_eq!(
        (&run["task"], &run["backend"], &run["steps"], &run["recipe"]["seed"]),
        (&"tiny".into(), &"cpu-f32".into(), &16.into(), &"0".into())
    );
    assert_eq!((&of("train")[0]["step"], &of("validation")[1]["step"], &of("test")[0]["step"]), (&10.into(), &12.into(), &16.into()));
    assert_eq!((&of("validation")[1]["epoch"], &of("test")[0]["passes"]), (&2.into(), &2.into()));
    for line in lines.iter().filter(|line| line["kind"] != "run") {
        for field in ["loss", "accuracy", "seconds"] {
            assert!(line[field].is_f64(), "{field} of {line}");
        }
    }
    assert!(of("train")[0]["lr"].is_f64() && of("test")[0]["spike_rate"].is_f64());
}

#[test]
fn a_new_run_in_an_old_folder_puts_the_old_checkpoint_aside() {
    let dir = tempfile::tempdir().unwrap();
    result(&Tiny, &flags("", Some(dir.path())));
    let old = fs::read(dir.path().join("checkpoint.safetensors")).unwrap();
    result(&Tiny, &flags("--seed 5", Some(dir.path())));
    assert_eq!(fs::read(dir.path().join("checkpoint.previous.safetensors")).unwrap(), old);
    assert_eq!(metrics(dir.path()).iter().filter(|line| line["kind"] == "run").count(), 1);
    let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["checkpoint.previous.safetensors", "checkpoint.safetensors", "metrics.jsonl"]);
}

#[test]
fn the_weights_of_a_checkpoint_go_into_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let (path, cpu) = (dir.path().join("at.safetensors"), Cpu::<f32>::new());
    let mut trained = trainer();
    take(&mut trained, 3);
    trained.save(&path).unwrap();
    let model = Model::new(&cpu, Key::new(9), trained.model().config()).unwrap();
    load_weights(&cpu, &model, &path).unwrap();
    let values = |model: &Model<_>| model.parameters().iter().map(|(_, p)| cpu.to_vec(&p.value()).unwrap()).collect::<Vec<_>>();
    assert_eq!(values(&model), values(trained.model()));
}

// Errors.

#[test]
fn flags_that_make_no_sense_are_errors() {
    for (line, parts) in [
        ("--steps 0", ["--steps = 0", "at least 1"]),
        ("--batch-size 0", ["--batch-size = 0", "at least 1"]),
        ("--eval-passes 0", ["--eval-passes = 0", "at least 1"]),
        ("--threads 0", ["--threads = 0", "at least 1"]),
        ("--backend gpu", ["--backend = gpu", "auto, cpu, wgpu and cuda"]),
        ("--backend CPU", ["--backend = CPU", "auto, cpu, wgpu and cuda"]),
        ("--backend auto:0", ["--backend = auto:0", "no index"]),
        ("--backend cpu:", ["--backend = cpu:", "whole number"]),
        ("--backend cpu:-1", ["--backend = cpu:-1", "whole number"]),
        ("--steps many", ["--steps = many", "whole number"]),
        ("--seed -1", ["--seed = -1", "whole number"]),
        ("--preset huge", ["--preset = huge", "quick"]),
        ("--resume", ["--resume", "--out"]),
        ("--speed 3", ["--speed", "--help"]),
        ("--out", ["--out", "--help"]),
        ("listops", ["listops", "--help"]),
    ] {
        mentions(&parse(line).unwrap_err().to_string(), &parts);
    }
}

#[test]
fn flags_are_read_and_change_the_recipe() {
    assert!(matches!(parse("--steps 3 -h"), Ok(Command::Help)) && matches!(parse("--help"), Ok(Command::Help)));
    assert_eq!(parse("").unwrap(), Command::Run(Flags::default()));
    let flags = flags("--preset paper --steps=50 --batch-size 7 --seed 11 --eval-passes 2 --quiet", None);
    let recipe = flags.recipe(&ListOps);
    assert_eq!((recipe.steps(96_000), recipe.batch, recipe.seed, recipe.layers), (50, 7, 11, 4));
    assert_eq!((flags.eval_passes, flags.quiet), (2, true));
    let help = Flags::help(&ListOps);
    let known = [
        "--preset",
        "--steps",
        "--batch-size",
        "--seed",
        "--backend",
        "--threads",
        "--data",
        "--out",
        "--resume",
        "--eval-passes",
        "--quiet",
    ];
    assert!(known.iter().all(|flag| help.contains(flag)));
}

#[test]
fn a_backend_is_named_with_or_without_an_index() {
    let choice = |line: &str| parse(line).map(|command| if let Command::Run(flags) = command { flags.backend } else { panic!("{line}") });
    assert_eq!((choice("").unwrap(), choice("--backend auto").unwrap()), (Choice::Auto, Choice::Auto));
    assert_eq!(choice("--backend cpu").unwrap(), Choice::Device(Driver::Cpu, 0));
    assert_eq!(choice("--backend=cpu:2 --threads 3").unwrap(), Choice::Device(Driver::Cpu, 2));
    for (name, driver, built) in [("wgpu", Driver::Wgpu, cfg!(feature = "wgpu")), ("cuda", Driver::Cuda, cfg!(feature = "cuda"))] {
        for (index, line) in [(0, format!("--backend {name}")), (1, format!("--backend {name}:1"))] {
            match choice(&line) {
                Ok(choice) => assert!(built && choice == Choice::Device(driver, index)),
                Err(error) => {
                    assert!(!built && matches!(error, Error::Config { .. }));
                    mentions(&error.to_string(), &["--backend", &format!("build with --features {name}")]);
                }
            }
        }
    }
    let listed = pspikessm::devices().iter().map(|device| format!("  {device}\n")).collect::<String>();
    assert!(Flags::help(&ListOps).ends_with(&listed));
}

#[test]
fn a_device_that_is_not_there_is_an_error_of_the_device() {
    let error = |flags| device::run(&Tiny, &flags, &go(), &mut Vec::new()).unwrap_err();
    for (driver, built) in [(Driver::Cpu, true), (Driver::Wgpu, cfg!(feature = "wgpu")), (Driver::Cuda, cfg!(feature = "cuda"))] {
        let count = pspikessm::devices().iter().filter(|device| device.driver == driver).count();
        let error = error(Flags { backend: Choice::Device(driver, count), ..Flags::default() });
        // Where the flags come from elsewhere than the command line, a driver may be unknown to this build.
        assert_eq!(matches!(error, Error::Config { .. }), !built, "{error}");
        assert_eq!(matches!(error, Error::Device { .. }), built, "{error}");
        mentions(&error.to_string(), &[&driver.to_string()]);
    }
}

#[test]
fn a_recipe_that_makes_no_sense_is_an_error() {
    for (recipe, part) in [
        (Recipe { batch: 0, ..recipe(2) }, "batch = 0"),
        (recipe(0), "length = 0"),
        (Recipe { layers: 0, ..recipe(2) }, "layers = 0"),
        (Recipe { optimizer: AdamWConfig::new(f64::NAN, 0.0), ..recipe(2) }, "lr = NaN"),
        (Recipe { schedule: Schedule::Plateau { decay: 2.0, patience: 1 }, ..recipe(2) }, "decay = 2"),
    ] {
        mentions(&Trainer::new(&Cpu::<f32>::new(), "tiny", recipe, splits()).unwrap_err().to_string(), &[part]);
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_before_anything_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "mine").unwrap();
    for out in [file.clone(), file.join("below")] {
        let mut printed = Vec::new();
        let error = cli::run(&Cpu::<f32>::new(), &Tiny, &flags("", Some(&out)), &go(), &mut printed).unwrap_err();
        assert!(matches!(error, Error::Io { .. }));
        mentions(&error.to_string(), &["could not", "file"]);
        assert!(printed.is_empty());
    }
    fs::create_dir_all(dir.path().join("taken/metrics.jsonl")).unwrap();
    mentions(&run_error(&Tiny, &flags("", Some(&dir.path().join("taken")))), &["could not open", "metrics.jsonl"]);
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

#[test]
fn a_data_folder_must_be_there_and_may_be_empty() {
    let dir = tempfile::tempdir().unwrap();
    let data = |path: &Path| Flags { data: Some(path.into()), ..flags("--steps 1 --batch-size 2 --eval-passes 1", None) };
    mentions(&run_error(&ListOps, &data(&dir.path().join("absent"))), &["--data", "absent", "is not there"]);
    let row = "Source\tTarget\n[MAX 1 2 ]\t2\n[MIN 7 8 ]\t7\n";
    for part in ["train", "val", "test"] {
        fs::write(dir.path().join(format!("basic_{part}.tsv")), row).unwrap();
    }
    assert!(result(&ListOps, &data(dir.path())).0.contains(" steps=1 "));
    mentions(&run_error(&ListOps, &data(&dir.path().join("basic_val.tsv"))), &["--data", "not a folder"]);
    fs::write(dir.path().join("basic_val.tsv"), "Source\tTarget\n").unwrap();
    mentions(&run_error(&ListOps, &data(dir.path())), &["basic_val.tsv:2:1", "no row"]);
    // Files that are missing are generated.
    fs::remove_file(dir.path().join("basic_val.tsv")).unwrap();
    assert!(result(&ListOps, &data(dir.path())).0.contains(" steps=1 "));
    assert!(fs::read_to_string(dir.path().join("basic_val.tsv")).unwrap().lines().count() == 501);
}

#[test]
fn resuming_without_a_checkpoint_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    mentions(&run_error(&Tiny, &flags("--resume", Some(dir.path()))), &["checkpoint.safetensors", "is not there"]);
    let absent = dir.path().join("absent");
    run_error(&Tiny, &flags("--resume", Some(&absent)));
    assert!(!absent.exists());
}

#[test]
fn a_truncated_or_foreign_checkpoint_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint.safetensors");
    let mut saved = trainer();
    take(&mut saved, 2);
    saved.save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    let refused = || run_error(&Tiny, &flags("--resume", Some(dir.path())));
    for length in [0, 5, 8, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        mentions(&refused(), &["checkpoint.safetensors", "truncated"]);
    }
    fs::write(&path, "Source\tTarget: this is a text file, and a longer one than the head of a safetensors file").unwrap();
    mentions(&refused(), &["checkpoint.safetensors", "not a safetensors file"]);
    store::save(&Cpu::<f32>::new(), saved.model(), &path).unwrap();
    mentions(&refused(), &["checkpoint.safetensors", "was not written by a training run"]);
    store::Archive { notes: [("by".into(), "another program".into())].into(), ..Default::default() }.write(&path).unwrap();
    mentions(&refused(), &["was not written by a training run"]);
}

#[test]
fn a_damaged_checkpoint_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("at.safetensors");
    let mut saved = trainer();
    take(&mut saved, 2);
    saved.save(&path).unwrap();
    let whole = store::Archive::read(&path).unwrap();
    let refused = |change: &dyn Fn(&mut store::Archive)| {
        let mut archive = whole.clone();
        change(&mut archive);
        archive.write(&path).unwrap();
        trainer().resume(&path).unwrap_err().to_string()
    };
    let rewrite = |archive: &mut store::Archive, from: &str, to: &str| {
        let note = archive.notes.values_mut().next().unwrap();
        assert!(note.contains(from), "{from} is not in {note}");
        *note = note.replace(from, to);
    };
    mentions(&refused(&|a| rewrite(a, "\"step\":2", "\"step\":-2")), &["damaged", "step"]);
    mentions(&refused(&|a| rewrite(a, "\"seed\"", "\"seeds\"")), &["damaged", "seed"]);
    mentions(&refused(&|a| rewrite(a, "{", "[")), &["damaged", "training"]);
    mentions(&refused(&|a| rewrite(a, "\"format\":1", "\"format\":2")), &["format 2", "reads 1"]);
    mentions(&refused(&|a| drop(a.tensors.remove("recent"))), &["damaged", "recent"]);
    mentions(&refused(&|a| drop(a.tensors.remove("second_moment.encoder.weight"))), &["second_moment.encoder.weight", "missing"]);
    mentions(&refused(&|a| drop(a.tensors.remove("model.encoder.weight"))), &["model.encoder.weight", "missing"]);
    mentions(&trainer().resume(dir.path().join("absent")).unwrap_err().to_string(), &["could not read", "absent"]);
}

#[test]
fn a_checkpoint_of_another_run_is_an_error_that_names_the_difference() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("at.safetensors");
    let mut saved = trainer();
    take(&mut saved, 2);
    saved.save(&path).unwrap();
    let refused = |recipe| trainer_of(recipe).resume(&path).unwrap_err().to_string();
    let with = |change: &dyn Fn(&mut Recipe)| {
        let mut recipe = recipe(16);
        change(&mut recipe);
        recipe
    };
    mentions(&refused(with(&|r| r.block.ssm.d_model = 8)), &["architecture", "encoder.weight", "[5, 4]", "[5, 8]"]);
    mentions(&refused(with(&|r| r.block.ssm.d_state = 4)), &["architecture", "blocks.0.forward.ssm.kernel.A_real"]);
    mentions(&refused(with(&|r| r.layers = 3)), &["architecture", "blocks.2.forward.sampler.scale", "missing"]);
    mentions(&refused(with(&|r| r.layers = 1)), &["architecture", "the model has no blocks.1"]);
    mentions(&refused(with(&|r| r.seed = 1)), &["seed = 0", "seed = 1"]);
    mentions(&refused(with(&|r| r.batch = 5)), &["batch = 4", "batch = 5"]);
    mentions(&refused(recipe(17)), &["steps = 16", "steps = 17"]);
    mentions(&refused(with(&|r| r.optimizer.lr = 0.5)), &["optimizer", "lr: 0.01", "lr: 0.5"]);
    mentions(&refused(with(&|r| r.block.residual = false)), &["block", "residual: false"]);
    let other = |task, splits| Trainer::new(&Cpu::<f32>::new(), task, recipe(16), splits).unwrap().resume(&path).unwrap_err().to_string();
    mentions(&other("text", splits()), &["task = tiny", "task = text"]);
    mentions(&other("tiny", Splits { train: set(22, 9, false), ..splits() }), &["data = 22 samples"]);
}

#[test]
fn a_parameter_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let cpu = Cpu::<f32>::new();
    let mut output = Output::open(dir.path()).unwrap();
    let mut trainer = trainer();
    take(&mut trainer, 2);
    assert_eq!(fit(&mut trainer, Some(&mut output), FitOptions::default(), &halt()).unwrap(), Ending::Stopped);
    let good = fs::read(output.checkpoint()).unwrap();
    let (_, bias) = trainer.model().parameters().into_iter().find(|(name, _)| name == "decoder.bias").unwrap();
    bias.set(cpu.full(bias.value().shape(), f64::NAN).unwrap()).unwrap();
    let error = fit(&mut trainer, Some(&mut output), FitOptions::default(), &go()).unwrap_err();
    assert!(matches!(error, Error::NonFinite { step: 3, .. }));
    mentions(&error.to_string(), &["step 3", "decoder.bias, and with it the loss,", "not finite"]);
    assert!(matches!(trainer.save(output.checkpoint()), Err(Error::NonFinite { .. })));
    assert_eq!(fs::read(output.checkpoint()).unwrap(), good);
    assert_eq!(self::trainer().resume(output.checkpoint()).unwrap().steps_done(), 2);
}

#[test]
fn a_learning_rate_out_of_bounds_stops_the_run() {
    let mut recipe = Recipe { schedule: Schedule::Constant, ..recipe(4) };
    recipe.optimizer.lr = 1e300;
    let error = fit(&mut trainer_of(recipe), None, FitOptions::default(), &go()).unwrap_err();
    assert!(matches!(error, Error::NonFinite { step: 1, .. }));
    mentions(&error.to_string(), &["step 1: encoder.weight is not finite", "learning rate"]);
}

#[test]
fn a_loss_gradient_or_statistic_that_overflows_is_named() {
    // The first half of the parameter's values becomes `value`, the other half its negative.
    let broken = |name: &str, value: f32| {
        let (mut trainer, cpu) = (trainer(), Cpu::<f32>::new());
        let (_, param) = trainer.model().parameters().into_iter().find(|(own, _)| own == name).unwrap();
        let count = param.value().numel();
        let values = (0..count).map(|i| if 2 * i < count { value } else { -value }).collect();
        param.set(cpu.from_vec(values, param.value().shape()).unwrap()).unwrap();
        trainer.step().unwrap_err().to_string()
    };
    mentions(&broken("decoder.weight", 3e38), &["step 1: the loss is not finite"]);
    mentions(&broken("blocks.0.forward.ssm.kernel.A_real", 3e38), &["step 1: the gradient of encoder.weight is not finite"]);
    mentions(&broken("encoder.weight", 1e20), &["step 1: blocks.0.norm.running_var is not finite"]);
}
