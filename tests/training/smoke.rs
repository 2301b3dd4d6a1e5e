//! Every task from files in the official formats to the result line: training, checkpoint, report, evaluation, prediction.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use pspikessm::backend::Cpu;
use pspikessm::data::Faults;
use pspikessm::train::cli::{self, Outcome};
use pspikessm::train::{Command, Flags, Origin, Task, Trainer, tasks};

use crate::sets::{ALL, TinySet};

/// What a run with these flags prints, and how it ends.
fn run(task: &dyn Task, line: &str, data: Option<&Path>, more: &[&str]) -> (String, Outcome) {
    let data = data.map(|dir| ["--data".to_string(), dir.to_str().unwrap().to_string()]);
    let arguments = line.split_whitespace().map(String::from).chain(data.into_iter().flatten()).chain(more.iter().map(|s| s.to_string()));
    let Command::Run(flags) = Flags::parse(arguments).unwrap() else { panic!("{line} asks for no run") };
    let mut printed = Vec::new();
    let outcome = cli::run_on(&Cpu::<f32>::new(), task, &flags, &AtomicBool::new(false), &mut printed).unwrap();
    (String::from_utf8(printed).unwrap(), outcome)
}

/// Trains for 20 steps on what the set writes, evaluates the checkpoint, and predicts the set's sample.
fn smoke(set: &TinySet) {
    let TinySet { task, make, flags, sample, .. } = *set;
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("out"));
    fs::create_dir_all(&data).unwrap();
    make(&data);
    const SMALL: &str = "--set model.block.ssm.d_model=8 --set model.block.ssm.d_state=4 --steps 20 --batch-size 4 --eval-passes 2 --quiet";
    let out_text = out.to_str().unwrap();
    let (printed, outcome) = run(task, &format!("{SMALL} {flags}"), Some(&data), &["--out", out_text]);
    let Outcome::Finished(trained) = outcome else { panic!("{outcome:?}") };
    assert!(printed.starts_with(&format!("result task={} ", task.name())), "{printed}");
    assert!(trained.train_loss.is_finite() && (0.0..=1.0).contains(&trained.test.metric) && trained.steps == 20);
    for name in ["checkpoint.safetensors", "metrics.jsonl", "report.html", "curves.svg", "raster.svg", "kernels.svg"] {
        assert!(fs::metadata(out.join(name)).unwrap().len() > 100, "{name}");
    }
    // An epoch of ListOps is longer than these runs.
    assert_eq!(out.join("best.safetensors").exists(), task.name() != "listops");

    let checkpoint = out.join("checkpoint.safetensors");
    let checkpoint = checkpoint.to_str().unwrap();
    let (_, outcome) = run(task, "--eval-only --eval-passes 2 --quiet --checkpoint", None, &[checkpoint, "--data", data.to_str().unwrap()]);
    let Outcome::Finished(evaluated) = outcome else { panic!("{outcome:?}") };
    assert_eq!(evaluated.test, trained.test);

    let in_set = data.join(sample);
    let (flag, sample) = if in_set.is_file() { ("--predict", in_set.to_str().unwrap()) } else { ("--predict-text", sample) };
    let (printed, outcome) = run(task, flag, None, &[sample, "--checkpoint", checkpoint]);
    assert_eq!(outcome, Outcome::Predicted);
    let of_data = Origin::read(checkpoint).unwrap().set.class_names().to_vec();
    let names = if of_data.is_empty() { task.class_names(&task.recipe(None).unwrap()) } else { of_data };
    let probabilities: Vec<f64> = printed.lines().map(|line| line.split_once(' ').unwrap().0.parse().unwrap()).collect();
    assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-2 && probabilities.is_sorted_by(|a, b| a >= b), "{printed}");
    assert!(printed.lines().all(|line| names.iter().any(|name| line.ends_with(&format!(" {name}")))), "{printed}");
}

#[test]
fn every_task_trains_from_its_files() {
    // Side by side: each takes seconds.
    std::thread::scope(|scope| ALL.iter().for_each(|set| drop(scope.spawn(|| smoke(set)))));
    for task in tasks::ALL {
        assert!(ALL.iter().any(|set| set.task.name() == task.name()), "{} has no tiny set", task.name());
    }
}

#[test]
fn drawn_pictures_need_no_files_and_path_x_trains() {
    for (preset, length) in [("quick", 256), ("path-x", 16_384)] {
        let mut recipe = tasks::Pathfinder.recipe(Some(preset)).unwrap().with_steps(2);
        let ssm = &mut recipe.model.block.ssm;
        (ssm.d_model, ssm.d_state, ssm.n_ssm) = (4, 4, 1);
        (recipe.model.layers, recipe.run.batch) = (1, 2);
        let splits = tasks::Pathfinder.load(&recipe, None, &Faults::refused()).unwrap();
        assert_eq!((splits.train.longest(), splits.train.is_remote()), (length, true));
        let mut trainer = Trainer::new(&Cpu::<f32>::new(), "pathfinder", recipe, splits).unwrap();
        while !trainer.is_finished() {
            assert!(trainer.step().unwrap().unwrap().loss.is_finite());
        }
    }
}

/// With `PSPIKESSM_SETS=DIR` all sets are written to folders in it, for runs of the examples themselves.
#[test]
fn sets_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let root = std::env::var_os("PSPIKESSM_SETS").map_or(dir.path().to_path_buf(), Into::into);
    for set in ALL {
        let folder = root.join(set.name);
        fs::create_dir_all(&folder).unwrap();
        (set.make)(&folder);
    }
}
