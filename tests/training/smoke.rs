//! Every task from files in the official formats to the result line: training, checkpoint, report, evaluation, prediction.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use pspikessm::backend::Cpu;
use pspikessm::data::Faults;
use pspikessm::train::cli::{self, Outcome};
use pspikessm::train::{Command, Flags, Task, Trainer, tasks};

/// What a run with these flags prints, and how it ends.
fn run(task: &dyn Task, line: &str, data: Option<&Path>, more: &[&str]) -> (String, Outcome) {
    let data = data.map(|dir| ["--data".to_string(), dir.to_str().unwrap().to_string()]);
    let arguments = line.split_whitespace().map(String::from).chain(data.into_iter().flatten()).chain(more.iter().map(|s| s.to_string()));
    let Command::Run(flags) = Flags::parse(arguments).unwrap() else { panic!("{line} asks for no run") };
    let mut printed = Vec::new();
    let outcome = cli::run_on(&Cpu::<f32>::new(), task, &flags, &AtomicBool::new(false), &mut printed).unwrap();
    (String::from_utf8(printed).unwrap(), outcome)
}

/// Writes a set into a folder.
type Make = fn(&Path);

/// Trains `task` for 20 steps on what `make` writes, evaluates the checkpoint, and predicts `sample`, a file of the set or a text.
fn smoke(task: &dyn Task, make: Make, flags: &str, sample: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("out"));
    fs::create_dir_all(&data).unwrap();
    make(&data);
    const SMALL: &str = "--set model.block.ssm.d_model=8 --set model.block.ssm.d_state=4 --steps 20 --batch-size 4 --eval-passes 2 --quiet";
    let out_text = out.to_str().unwrap();
    let (printed, outcome) = run(task, &format!("{SMALL} {flags}"), Some(&data), &["--out", out_text]);
    let Outcome::Finished(trained) = outcome else { panic!("{outcome:?}") };
    assert!(printed.starts_with(&format!("result task={} ", task.name())), "{printed}");
    assert!(trained.train_loss.is_finite() && (0.0..=1.0).contains(&trained.test.accuracy) && trained.steps == 20);
    for name in ["checkpoint.safetensors", "metrics.jsonl", "report.html", "raster.svg", "kernels.svg"] {
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
    let sample = if in_set.is_file() { in_set.to_str().unwrap() } else { sample };
    let (printed, outcome) = run(task, "--predict", None, &[sample, "--checkpoint", checkpoint]);
    assert_eq!(outcome, Outcome::Predicted);
    let names = task.class_names(&task.recipe(None).unwrap());
    let probabilities: Vec<f64> = printed.lines().map(|line| line.split_once(' ').unwrap().0.parse().unwrap()).collect();
    assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-2 && probabilities.is_sorted_by(|a, b| a >= b), "{printed}");
    assert!(printed.lines().all(|line| names.iter().any(|name| line.ends_with(&format!(" {name}")))), "{printed}");
}

/// A white square on black, `side` pixels wide.
fn square(dir: &Path, side: u32) {
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    let inside = |at: u32| (side / 4..side / 2).contains(&at);
    let pixels: Vec<u8> = (0..side * side).map(|at| if inside(at / side) && inside(at % side) { 255 } else { 0 }).collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    fs::write(dir.join("sample.png"), png).unwrap();
}

#[test]
fn listops() {
    smoke(&tasks::ListOps, |_| (), "", "[MAX 2 9 [MIN 4 7 ] 0 ]");
}

#[test]
fn text() {
    // A symbol must come 15 times.
    smoke(&tasks::Text, crate::sets::imdb, "", "aclImdb/test/pos/3_10.txt");
}

#[test]
fn retrieval() {
    smoke(&tasks::Retrieval, crate::sets::aan, "", "one text\tanother text");
}

#[test]
fn image() {
    let make = |dir: &Path| {
        crate::sets::cifar(dir);
        square(dir, 32);
    };
    smoke(&tasks::Image, make, "", "sample.png");
}

#[test]
fn pathfinder() {
    smoke(&tasks::Pathfinder, crate::sets::pathfinder, "", "pathfinder32/curv_contour_length_14/imgs/0/sample_3.png");
}

#[test]
fn psmnist() {
    let make = |dir: &Path| {
        crate::sets::mnist(dir);
        square(dir, 28);
    };
    smoke(&tasks::PsMnist, make, "", "sample.png");
}

#[test]
fn digits() {
    let make = |dir: &Path| {
        crate::sets::digits(dir);
        square(dir, 8);
    };
    smoke(&tasks::PsMnist, make, "--preset digits", "sample.png");
}

#[test]
fn speech_commands() {
    smoke(&tasks::SpeechCommands, crate::sets::speech_commands, "--set data=10", "yes/0_nohash_0.wav");
}

#[test]
fn drawn_pictures_need_no_files_and_path_x_trains() {
    for (preset, length) in [("quick", 1024), ("path-x", 16_384)] {
        let mut recipe = tasks::Pathfinder.recipe(Some(preset)).unwrap().with_steps(2);
        (recipe.model.block.ssm.d_model, recipe.model.block.ssm.d_state, recipe.model.layers, recipe.run.batch) = (4, 4, 1, 2);
        let splits = tasks::Pathfinder.load(&recipe, None, &Faults::refused()).unwrap();
        assert_eq!((splits.train.longest(), splits.train.is_remote()), (length, true));
        let mut trainer = Trainer::new(&Cpu::<f32>::new(), "pathfinder", recipe, splits).unwrap();
        while !trainer.is_finished() {
            assert!(trainer.step().unwrap().loss.is_finite());
        }
    }
}

/// With `PSPIKESSM_SETS=DIR` all sets are written to folders in it, for runs of the examples themselves.
#[test]
fn sets_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let root = std::env::var_os("PSPIKESSM_SETS").map_or(dir.path().to_path_buf(), Into::into);
    let sets: [(&str, Make); 7] = [
        ("psmnist", crate::sets::mnist),
        ("digits", crate::sets::digits),
        ("image", crate::sets::cifar),
        ("text", crate::sets::imdb),
        ("retrieval", crate::sets::aan),
        ("pathfinder", crate::sets::pathfinder),
        ("speech_commands", crate::sets::speech_commands),
    ];
    for (name, make) in sets {
        make(&root.join(name));
        assert!(fs::read_dir(root.join(name)).unwrap().count() > 0, "{name}");
    }
}
