//! Interruptions and checkpoints: what a run that goes on computes and writes, and every file that is refused.

use std::fs;
use std::path::Path;

use crate::runs::{
    Tiny, advance, bits, changed, flags, go, halt, hard_splits, mentions, metrics, names, recipe, result, run_error, splits, take, trainer,
    trainer_of, without_seconds,
};
use pspikessm::backend::*;
use pspikessm::data::{Dataset, Encoding, Splits, Standardization, Vocabulary};
use pspikessm::nn::{Model, Module, store};
use pspikessm::train::cli::{self, Outcome};
use pspikessm::train::{Ending, FitOptions, Length, Origin, Output, Recipe, Schedule, Trainer, fit, load_weights};
use pspikessm::{Error, Result};

// Going on.

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
fn parts_of_batches_and_clipping_are_resumed_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("at.safetensors");
    let recipe = changed(recipe(16), |r| (r.run.accumulate, r.run.clip) = (3, Some(0.05)));
    let mut whole = trainer_of(recipe.clone());
    advance(&mut whole, 9);
    whole.save(&path).unwrap();
    let mut rest = trainer_of(recipe).resume(&path).unwrap();
    advance(&mut whole, 16);
    advance(&mut rest, 16);
    assert_eq!(bits(&rest), bits(&whole));
}

#[test]
fn a_plateau_is_resumed_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("at.safetensors");
    let recipe = changed(recipe(1), |r| (r.schedule, r.run.length) = (Schedule::Plateau { decay: 0.5, patience: 0 }, Length::Epochs(3)));
    let mut part = trainer_of(recipe.clone());
    advance(&mut part, 13);
    part.save(&path).unwrap();
    let mut rest = trainer_of(recipe.clone()).resume(&path).unwrap();
    assert_eq!(rest.rate_factor(), part.rate_factor());
    advance(&mut part, 18);
    advance(&mut rest, 18);
    assert_eq!((bits(&rest), rest.rate_factor()), (bits(&part), part.rate_factor()));
    // Its steps do not depend on how many there are: a longer run is a continuation, a shorter one makes no sense.
    trainer_of(changed(recipe.clone(), |r| r.run.length = Length::Epochs(5))).resume(&path).unwrap();
    let error = trainer_of(changed(recipe, |r| r.run.length = Length::Epochs(1))).resume(&path).unwrap_err();
    mentions(&error.to_string(), &["from step 13", "ends at step 6"]);
}

#[test]
fn a_resumed_run_prints_and_writes_the_same() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (line, figures) = result(&Tiny, &flags("", Some(whole.path())));
    let parts_of_line =
        ["result task=tiny preset=quick backend=cpu-f32 steps=16 train_loss=", " test_accuracy=", " majority=", " spike_rate="];
    mentions(&line, &[&parts_of_line[..], &[" seconds="]].concat());
    let fields = line.split(' ').skip(1).map(|field| field.split_once('=').unwrap()).collect::<Vec<_>>();
    assert!(fields[4..].iter().all(|(_, value)| value.parse::<f64>().unwrap().is_finite()));
    let majority = splits().test.majority();
    assert!(line.contains(&format!(" majority={majority:.4} ")));

    // Stopped before the first step, then after the ninth, with lines of metrics that the checkpoint knows nothing of.
    let stopped = cli::run_on(&Cpu::<f32>::new(), &Tiny, &flags("", Some(parts.path())), &halt(), &mut Vec::new()).unwrap();
    let checkpoint = parts.path().join("checkpoint.safetensors");
    assert_eq!(stopped, Outcome::Stopped(0, Some(checkpoint.clone())));
    let mut part = trainer().resume(&checkpoint).unwrap();
    let mut output = Output::open(parts.path()).unwrap();
    assert_eq!(fit(&mut part, Some(&mut output), FitOptions::default(), &go()).unwrap(), Ending::Finished);
    drop(output);
    let mut part = trainer();
    advance(&mut part, 9);
    part.save(&checkpoint).unwrap();
    assert_eq!(result(&Tiny, &flags("--resume", Some(parts.path()))).1, figures);
    assert_eq!(without_seconds(metrics(parts.path())), without_seconds(metrics(whole.path())));
    for file in ["checkpoint.safetensors", "best.safetensors"] {
        assert_eq!(fs::read(parts.path().join(file)).unwrap(), fs::read(whole.path().join(file)).unwrap(), "{file}");
    }

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
    let resumed = crate::runs::trainer().resume(output.checkpoint()).unwrap();
    assert_eq!(bits(&resumed), bits(&trainer));
    // At the end of an epoch its validation is still due, and is not lost.
    take(&mut trainer, 1);
    assert_eq!(fit(&mut trainer, Some(&mut output), FitOptions::default(), &halt()).unwrap(), Ending::Stopped);
    assert!(crate::runs::trainer().resume(output.checkpoint()).unwrap().validation_due());
    // Without a folder there is nothing to save.
    let stopped = cli::run_on(&Cpu::<f32>::new(), &Tiny, &flags("", None), &halt(), &mut Vec::new()).unwrap();
    assert_eq!(stopped, Outcome::Stopped(0, None));
}

#[test]
fn a_validation_that_the_checkpoint_does_not_know_is_written_once() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    result(&Tiny, &flags("", Some(whole.path())));
    // Stopped at the end of an epoch, before its validation.
    let mut part = trainer();
    take(&mut part, 6);
    let mut output = Output::open(parts.path()).unwrap();
    output.begin(&part, &["mostly-a".into(), "mostly-b".into()]).unwrap();
    fit(&mut part, Some(&mut output), FitOptions::default(), &halt()).unwrap();
    let stopped = fs::read(output.checkpoint()).unwrap();
    // Gone on with, and killed before the next checkpoint: the file is that of step 6, the metrics know its validation.
    fit(&mut part, Some(&mut output), FitOptions::default(), &go()).unwrap();
    fs::write(output.checkpoint(), stopped).unwrap();
    drop(output);
    result(&Tiny, &flags("--resume", Some(parts.path())));
    assert_eq!(without_seconds(metrics(parts.path())), without_seconds(metrics(whole.path())));
}

#[test]
fn a_best_epoch_that_the_checkpoint_does_not_know_comes_again() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let flags = |line: &str, dir: &tempfile::TempDir| flags(&format!("{line} --steps 60 --set data=hard"), Some(dir.path()));
    result(&Tiny, &flags("", &whole));
    let best = |dir: &tempfile::TempDir| fs::read(dir.path().join("best.safetensors")).unwrap();
    let epoch = Origin::read(whole.path().join("best.safetensors")).unwrap().step / 6;
    assert!(epoch > 1, "the first epoch is the best one: nothing is tested");
    // Killed between the two files of an epoch: the best one is of the future.
    result(&Tiny, &flags("", &parts));
    let mut early = Trainer::new(&Cpu::<f32>::new(), "tiny", changed(recipe(60), |r| r.data = "hard".into()), hard_splits()).unwrap();
    advance(&mut early, 6 * epoch - 1);
    early.save(parts.path().join("checkpoint.safetensors")).unwrap();
    result(&Tiny, &flags("--resume", &parts));
    assert_eq!(best(&parts), best(&whole));
    assert_eq!(without_seconds(metrics(parts.path())), without_seconds(metrics(whole.path())));
}

#[test]
fn what_a_killed_run_had_begun_to_write_goes() {
    let dir = tempfile::tempdir().unwrap();
    let torn = [".checkpoint.safetensors.77-0.tmp", ".best.safetensors.77-1.tmp", ".metrics.jsonl.9-0.tmp", ".raster.svg.9-0.tmp"];
    let others = ["mine.tmp", ".notes.tmp", ".checkpoint.safetensors"];
    for begin in ["", "--resume"] {
        for name in torn.iter().chain(&others) {
            fs::write(dir.path().join(name), "half").unwrap();
        }
        result(&Tiny, &flags(begin, Some(dir.path())));
        let left = names(dir.path());
        assert!(torn.iter().all(|name| !left.contains(&(*name).into())), "{left:?}");
        assert!(others.iter().all(|name| left.contains(&(*name).into())), "{left:?}");
    }
}

#[test]
fn a_new_run_takes_nothing_away_unless_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let all = || names(dir.path()).into_iter().map(|name| fs::read(dir.path().join(name)).unwrap()).collect::<Vec<_>>();
    let refused = |ways: &[&str]| {
        let before = all();
        let error = run_error(&Tiny, &flags("", Some(dir.path())));
        mentions(&error, &[&["--out = ", "holds a run", "another folder", "--overwrite"], ways].concat());
        assert!(all() == before);
        error
    };
    // Before its first line of metrics a run has left nothing.
    let mut begun = Output::create(dir.path()).unwrap();
    begun.begin(&trainer(), &[]).unwrap();
    drop(begun);
    result(&Tiny, &flags("", Some(dir.path())));
    refused(&["go on with it by --resume"]);
    fs::remove_file(dir.path().join("checkpoint.safetensors")).unwrap();
    for gone in ["best.safetensors", "report.html", "curves.svg", "raster.svg", "kernels.svg"] {
        assert!(!refused(&[]).contains("--resume"));
        fs::remove_file(dir.path().join(gone)).unwrap();
    }
    refused(&[]);
    fs::write(dir.path().join("metrics.jsonl"), "").unwrap();
    result(&Tiny, &flags("", Some(dir.path())));
}

#[test]
fn a_folder_has_one_run_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let own = Output::create(dir.path()).unwrap();
    fs::write(own.checkpoint(), "there").unwrap();
    for line in ["", "--resume", "--overwrite"] {
        let process = format!("locked by process {}, ", std::process::id());
        mentions(&run_error(&Tiny, &flags(line, Some(dir.path()))), &["--out = ", &process]);
    }
    drop(own);
    result(&Tiny, &flags("--overwrite", Some(dir.path())));
    // What a process left that is no more keeps nobody out, whatever stands in it.
    fs::write(dir.path().join(".lock"), "1\n").unwrap();
    result(&Tiny, &flags("--resume", Some(dir.path())));
}

#[test]
fn a_new_run_in_an_old_folder_puts_the_old_checkpoints_aside() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| fs::read(dir.path().join(name)).unwrap();
    result(&Tiny, &flags("", Some(dir.path())));
    let old = ["checkpoint.safetensors", "best.safetensors"].map(file);
    for name in ["report.html", "curves.svg", "raster.svg", "kernels.svg", "events.out.tfevents.1.2"] {
        fs::write(dir.path().join(name), "of the old run").unwrap();
    }
    let stopped =
        cli::run_on(&Cpu::<f32>::new(), &Tiny, &flags("--overwrite --seed 5", Some(dir.path())), &halt(), &mut Vec::new()).unwrap();
    assert!(matches!(stopped, Outcome::Stopped(0, Some(_))));
    assert_eq!(["checkpoint.previous.safetensors", "best.previous.safetensors"].map(file), old);
    assert_eq!(
        names(dir.path()),
        [".lock", "best.previous.safetensors", "checkpoint.previous.safetensors", "checkpoint.safetensors", "metrics.jsonl"]
    );
    assert_eq!(metrics(dir.path()).iter().map(|line| &line["kind"]).collect::<Vec<_>>(), ["run"]);
}

// Starting from another run.

#[test]
fn a_run_starts_from_the_weights_of_another() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    result(&Tiny, &flags("--steps 7 --set run.ema=0.5 --set optimizer.lr=3e-3", Some(first.path())));
    let file = first.path().join("checkpoint.safetensors");
    let from = format!("--start-from {} --steps 5 --seed 9 --set schedule=constant", file.display());
    result(&Tiny, &flags(&from, Some(second.path())));
    // Its recipe, changed as it was asked for; its weights, on average; new steps, moments and random numbers.
    let own = "--steps 5 --seed 9 --set schedule=constant --set run.ema=0.5 --set optimizer.lr=3e-3";
    let recipe = flags(own, None).recipe(&Tiny).unwrap();
    assert_eq!(flags(&from, None).recipe(&Tiny).unwrap(), recipe);
    let mut want = trainer_of(recipe.clone()).with_weights(&file).unwrap();
    advance(&mut want, 5);
    let got = trainer_of(recipe.clone()).resume(second.path().join("checkpoint.safetensors")).unwrap();
    assert_eq!((got.steps_done(), bits(&got)), (5, bits(&want)));
    let mut drawn = trainer_of(recipe);
    advance(&mut drawn, 5);
    assert_ne!(bits(&got), bits(&drawn));
}

#[test]
fn weights_that_are_none_for_a_run_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (file, other, text) = (dir.path().join("a.safetensors"), dir.path().join("b.safetensors"), dir.path().join("c.safetensors"));
    trainer().save(&file).unwrap();
    let error = |file: &Path, line: &str| run_error(&Tiny, &flags(&format!("--start-from {} {line}", file.display()), None));
    mentions(&error(&file, "--set model.block.ssm.d_model=6"), &["a.safetensors", "shape"]);
    mentions(&error(&dir.path().join("none"), ""), &["none"]);
    let of_task = |task: &str, splits| Trainer::new(&Cpu::<f32>::new(), task, recipe(16), splits).unwrap();
    of_task("other", splits()).save(&other).unwrap();
    mentions(&error(&other, ""), &["is of the task other"]);
    let swapped = |set: Dataset| {
        let mut other = Dataset::tokens(Vocabulary::new(["b", "a"]).unwrap(), 2);
        (0..set.len()).for_each(|i| other.push_tokens(set.sequence(i).unwrap(), set.labels()[i]).unwrap());
        other
    };
    let Splits { train, val, test, .. } = splits();
    of_task("tiny", Splits { train: swapped(train), val: swapped(val), test: swapped(test) }).save(&text).unwrap();
    mentions(&error(&text, ""), &["c.safetensors", "other symbols"]);
}

// What is in a file.

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
    // Without the training half of the crate, too, and without a model to begin with.
    let other = Model::new(&cpu, Key::new(8), trained.model().config()).unwrap();
    store::load(&cpu, &other, &path).unwrap();
    assert_eq!(values(&other), values(trained.model()));
    let opened = Model::open(&cpu, &path).unwrap();
    assert_eq!((opened.config(), values(&opened)), (trained.model().config(), values(trained.model())));
}

#[test]
fn a_checkpoint_tells_where_it_comes_from() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("at.safetensors");
    let levels: Vec<f32> = (0..256).map(|level| level as f32 / 255.0 - 0.3).collect();
    let statistics = Standardization { mean: vec![0.1, -0.2, 0.3], factor: vec![3.0, 0.7, 1e5] };
    let letters = || Vocabulary::new(["a", "b", " ", "\u{e4}"]).unwrap();
    let empty_and_full = |set: Dataset, push: &dyn Fn(&mut Dataset)| {
        let mut full = set.clone();
        (0..2).for_each(|_| push(&mut full));
        (set, full)
    };
    let tokens = Dataset::tokens(letters(), 3);
    let pairs = Dataset::pairs(letters(), 2);
    let values = Dataset::values(2, 4).unwrap();
    let levelled = Dataset::new(Encoding::Levels(levels), 2).unwrap();
    let standardized = Dataset::new(Encoding::Standardized(statistics), 5).unwrap();
    let ids = [3, 5, 6];
    for (empty, full) in [
        empty_and_full(tokens, &|set| set.push_tokens(&ids, 1).unwrap()),
        empty_and_full(pairs, &|set| set.push_pair(&ids, &ids, 1).unwrap()),
        empty_and_full(values, &|set| set.push_values(&[1.0, 2.0, 3.0, 4.0], 1).unwrap()),
        empty_and_full(levelled, &|set| set.push_levels(&ids, 1).unwrap()),
        empty_and_full(standardized, &|set| set.push_values(&[1.0, 2.0, 3.0], 1).unwrap()),
    ] {
        let recipe = changed(recipe(4), |r| r.run.batch = 2);
        let splits = Splits { train: full.clone(), val: full.clone(), test: full };
        let mut trainer = Trainer::new(&Cpu::<f32>::new(), "some", recipe.clone(), splits).unwrap();
        take(&mut trainer, 2);
        trainer.save(&path).unwrap();
        let recent = trainer.recent(100);
        assert_eq!(Origin::read(&path).unwrap(), Origin { task: "some".into(), recipe, set: empty, step: 2, recent });
    }
}

// What is refused.

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
    advance(&mut saved, 7);
    saved.save(&path).unwrap();
    let whole = store::Archive::read(&path).unwrap();
    let write = |change: &dyn Fn(&mut store::Archive)| {
        let mut archive = whole.clone();
        change(&mut archive);
        archive.write(&path).unwrap();
    };
    let refused = |change: &dyn Fn(&mut store::Archive)| {
        write(change);
        trainer().resume(&path).unwrap_err().to_string()
    };
    let rewrite = |archive: &mut store::Archive, from: &str, to: &str| {
        let note = archive.notes.values_mut().next().unwrap();
        assert!(note.contains(from), "{from} is not in {note}");
        *note = note.replace(from, to);
    };
    mentions(&refused(&|a| rewrite(a, "\"step\":7", "\"step\":-7")), &["damaged", "step"]);
    mentions(&refused(&|a| rewrite(a, "\"task\"", "\"tasks\"")), &["damaged", "task"]);
    mentions(&refused(&|a| rewrite(a, "\"recipe\"", "\"recipes\"")), &["damaged", "recipe"]);
    mentions(&refused(&|a| rewrite(a, "seed = 0", "seed = []")), &["at.safetensors:", "invalid type"]);
    mentions(&refused(&|a| rewrite(a, "{", "[")), &["damaged", "note"]);
    mentions(&refused(&|a| rewrite(a, "\"format\":4", "\"format\":5")), &["format 5", "reads 4"]);
    mentions(&refused(&|a| drop(a.tensors.remove("moved"))), &["damaged", "moved"]);
    mentions(&refused(&|a| drop(a.tensors.remove("recent"))), &["damaged", "recent"]);
    mentions(&refused(&|a| drop(a.tensors.insert("best".into(), store::Stored::new(&[1.0], &[1])))), &["damaged", "best"]);
    mentions(&refused(&|a| drop(a.tensors.remove("second_moment.encoder.weight"))), &["second_moment.encoder.weight", "missing"]);
    mentions(&refused(&|a| drop(a.tensors.remove("model.encoder.weight"))), &["model.encoder.weight", "missing"]);
    write(&|a| rewrite(a, "\"classes\"", "\"class\""));
    mentions(&Origin::read(&path).unwrap_err().to_string(), &["damaged", "classes"]);
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
    mentions(&refused(with(&|r| r.model.block.ssm.d_model = 8)), &["architecture", "encoder.weight", "[5, 4]", "[5, 8]"]);
    mentions(&refused(with(&|r| r.model.block.ssm.d_state = 4)), &["architecture", "blocks.0.forward.ssm.kernel.A_real"]);
    mentions(&refused(with(&|r| r.model.layers = 3)), &["architecture", "blocks.2.forward.sampler.scale", "missing"]);
    mentions(&refused(with(&|r| r.model.layers = 1)), &["architecture", "the model has no blocks.1"]);
    mentions(&refused(with(&|r| r.run.seed = 1)), &["run.seed = 0", "run.seed = 1"]);
    mentions(&refused(with(&|r| r.run.batch = 5)), &["run.batch = 4", "run.batch = 5"]);
    mentions(&refused(with(&|r| r.run.accumulate = 2)), &["run.accumulate = 1", "run.accumulate = 2"]);
    mentions(&refused(recipe(17)), &["schedule.cosine.total = 16", "schedule.cosine.total = 17"]);
    mentions(&refused(with(&|r| r.optimizer.set_lr(0.5))), &["optimizer.lr = 0.01", "optimizer.lr = 0.5"]);
    mentions(&refused(with(&|r| r.model.block.residual = false)), &["model.block.residual = true", "model.block.residual = false"]);
    mentions(&refused(with(&|r| r.data = "other".into())), &["data = \"tiny\"", "data = \"other\""]);
    // Values that may be missing, on either side.
    mentions(&refused(with(&|r| r.run.clip = Some(1.0))), &["run.clip = none", "run.clip = 1"]);
    trainer_of(with(&|r| r.run.clip = Some(0.5))).save(&path).unwrap();
    mentions(&refused(recipe(16)), &["run.clip = 0.5", "run.clip = none"]);
    saved.save(&path).unwrap();
    // What a run may change while it goes on.
    trainer_of(with(&|r| (r.name, r.run.early_stop) = ("mine".into(), Some(3)))).resume(&path).unwrap();
    let other = |task, splits| -> Result<Trainer<_>> { Trainer::new(&Cpu::<f32>::new(), task, recipe(16), splits)?.resume(&path) };
    mentions(&other("text", splits()).unwrap_err().to_string(), &["task = tiny", "task = text"]);
    mentions(&other("tiny", Splits { train: crate::runs::set(22, 9, false), ..splits() }).unwrap_err().to_string(), &["data = 22 samples"]);
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
    assert_eq!(crate::runs::trainer().resume(output.checkpoint()).unwrap().steps_done(), 2);
}
