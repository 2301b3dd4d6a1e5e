//! Data of one's own from the folder to the result line: every kind, classes and numbers, interrupted, evaluated and predicted.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::files::folder;
use crate::runs::{changed, figures, flags, go, mentions, metrics, printed, run_error};
use pspikessm::backend::{Cpu, Key};
use pspikessm::data::{Dataset, Faults, Splits, TargetScale};
use pspikessm::train::tasks::{Classify, ListOps};
use pspikessm::train::{Ending, Event, FitOptions, Loss, Origin, Output, Recipe, Task, Trainer, fit_with};
use tempfile::TempDir;

const SMALL: &str = "--quiet --steps 6 --batch-size 4 --eval-passes 2 --set model.block.ssm.d_model=4 --set model.block.ssm.d_state=2";

/// Trains on a folder; where the run is written to, and what it prints.
fn train(data: &TempDir, more: &str) -> (PathBuf, String) {
    let out = data.path().join(".out");
    let line = format!("{SMALL} --data {} {more}", data.path().display());
    let text = printed(&Classify, &flags(&line, Some(&out)));
    (out.join("checkpoint.safetensors"), text)
}

fn predicted(checkpoint: &Path, more: &str) -> Vec<String> {
    let line = format!("--checkpoint {} --eval-passes 2 {more}", checkpoint.display());
    printed(&Classify, &flags(&line, None)).lines().map(String::from).collect()
}

/// Trains, evaluates, and predicts the file or text.
fn whole(files: &[(String, Vec<u8>)], more: &str, predict: &str) -> (Origin, Vec<String>) {
    let data = folder(files);
    let (checkpoint, text) = train(&data, more);
    let line = format!("--quiet --eval-only --eval-passes 2 --checkpoint {} --data {}", checkpoint.display(), data.path().display());
    assert_eq!(figures(&printed(&Classify, &flags(&line, None))), figures(&text));
    assert!(fs::metadata(data.path().join(".out/report.html")).unwrap().len() > 1000);
    let predict = predict.replace("DIR", data.path().to_str().unwrap());
    (Origin::read(&checkpoint).unwrap(), predicted(&checkpoint, &predict))
}

fn named(name: &str, bytes: impl AsRef<[u8]>) -> (String, Vec<u8>) {
    (name.into(), bytes.as_ref().into())
}

/// A table of series of 5 to 7 steps, with a label in front.
fn table(rows: usize, label: impl Fn(usize) -> String) -> String {
    let value = |row: usize, at: usize| if at >= 5 + row % 3 { String::new() } else { ((row * 3 + at * at) % 11).to_string() };
    let row = |row: usize| format!("{},{}\n", label(row), (0..7).map(|at| value(row, at)).collect::<Vec<_>>().join(","));
    (0..rows).map(row).collect()
}

fn words(row: usize) -> String {
    ["going up", "going down"][row % 2].into()
}

#[test]
fn tables_of_series_from_files_to_predictions() {
    let files = [named("train.csv", table(9, words)), named("test.csv", table(5, words)), named("new/one.csv", "?,1,2,,4,5,,\n")];
    let (origin, lines) = whole(&files, "", "--predict DIR/new/one.csv");
    assert_eq!(origin.set.class_names(), ["going down", "going up"]);
    // The kernels are as long as the longest training sample, and what the command line says is kept.
    assert_eq!((origin.recipe.model.block.ssm.l_max, origin.recipe.model.block.ssm.d_model, origin.recipe.run.batch), (Some(7), 4, 4));
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line.ends_with(" going up") || line.ends_with(" going down")), "{lines:?}");
    let two = [&files[..2], &[named("new/two.csv", "?,1,2,3,4,5,6,7\n?,7,6,5,4,3,2,1\n")]].concat();
    let (_, lines) = whole(&two, "", "--predict DIR/new/two.csv");
    assert!(lines.len() == 2 && lines[0].starts_with("0 ") && lines[1].starts_with("1 "), "{lines:?}");
}

#[test]
fn sounds_pictures_and_texts_from_folders_of_classes() {
    let spec = |rate| hound::WavSpec { channels: 1, sample_rate: rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let wav = |number: usize| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut bytes, spec([4_000, 11_025][number % 2])).unwrap();
        (0..200 + number).for_each(|at| writer.write_sample(((at * (number + 1) * 997) % 20_000) as i16).unwrap());
        writer.finalize().unwrap();
        bytes.into_inner()
    };
    let png = |number: usize| {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 6, 5);
        encoder.set_color(png::ColorType::Grayscale);
        let pixels: Vec<u8> = (0..30).map(|at| (at * (number + 3) * 7 % 256) as u8).collect();
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        bytes
    };
    let text = |number: usize| format!("text {}", "ab ".repeat(number + 1)).into_bytes();
    let makers: [&dyn Fn(usize) -> Vec<u8>; 3] = [&wav, &png, &text];
    for (ending, make) in ["wav", "png", "txt"].into_iter().zip(makers) {
        let file = |number: usize| (format!("{}/{number}.{ending}", ["left", "right"][number % 2]), make(number));
        let files: Vec<_> = (0..12).map(file).collect();
        let (origin, lines) = whole(&files, "", &format!("--predict DIR/left/4.{ending}"));
        assert_eq!((origin.set.class_names().to_vec(), lines.len()), (vec!["left".to_string(), "right".into()], 2), "{ending}");
        if ending == "txt" {
            for (unit, symbol) in [("", "a"), ("--set data=words", "ab")] {
                let (origin, lines) = whole(&files, unit, "--predict-text ab");
                assert_eq!((lines.len(), origin.set.vocabulary().unwrap().id(symbol).is_some()), (2, true));
            }
        }
    }
}

/// A number for each row.
fn numbers(row: usize) -> String {
    format!("{}", 100 + row * row % 17)
}

#[test]
fn a_regression_reports_its_errors_and_predicts_numbers() {
    let files = [
        named("train.csv", table(9, numbers)),
        named("test.csv", table(5, numbers)),
        named("new/two.csv", "?,1,2,3,4,5,6,7\n?,1,2,3,4,5,6,7\n"),
    ];
    let (origin, lines) = whole(&files, "--regression", "--expected --predict DIR/new/two.csv");
    assert_eq!(origin.recipe.loss, Loss::SquaredError);
    let found: Vec<f64> = lines.iter().map(|line| line.parse().unwrap()).collect();
    // Alike series have alike numbers, and these are numbers of the data's size.
    assert!(found.len() == 2 && found[0] == found[1] && (50.0..200.0).contains(&found[0]), "{found:?}");
    let data = folder(&files);
    let (_, text) = train(&data, "--regression");
    let value = |name: &str| -> f64 { text.split_once(&format!(" {name}=")).unwrap().1.split(' ').next().unwrap().parse().unwrap() };
    let (rmse, mean, mae) = (value("test_rmse"), value("mean_rmse"), value("test_mae"));
    assert!(rmse >= mae - 1e-3 && mae > 0.0, "{text}");
    // What the mean of the training numbers is off by.
    let number = |row: usize| numbers(row).parse::<f64>().unwrap();
    let centre = (0..9).map(number).sum::<f64>() / 9.0;
    let wanted = ((0..5).map(|row| (number(row) - centre).powi(2)).sum::<f64>() / 5.0).sqrt();
    assert!((mean - wanted).abs() < 1e-4, "{mean} is not {wanted}");
    let lines = metrics(&data.path().join(".out"));
    let test = lines.iter().find(|line| line["kind"] == "test").unwrap();
    let report = fs::read_to_string(data.path().join(".out/report.html")).unwrap();
    assert!(report.contains("test absolute error") && report.contains("Absolute error"), "{report}");
    assert!((test["absolute_error"].as_f64().unwrap() - mae).abs() < 1e-4 && test["confusion"].as_array().unwrap().is_empty());
}

#[test]
fn a_regression_learns_on_the_scale_of_its_numbers() {
    // The number is the mean of the series, a thousandfold.
    let mut words = Key::new(5).words(0);
    let mut sets = [60, 30].map(|count| {
        let (mut set, mut targets) = (Dataset::values(1, 1).unwrap(), Vec::new());
        for _ in 0..count {
            let level = words.next_lanes()[0] as f32 / u32::MAX as f32 * 2.0 - 1.0;
            set.push_values(&[level; 8], 0).unwrap();
            targets.push(f64::from(level) * 1000.0);
        }
        (set, targets)
    });
    let scale = TargetScale::of(&sets[0].1);
    let [train, test] = [0, 1].map(|at| {
        let (set, targets) = std::mem::replace(&mut sets[at], (Dataset::values(1, 1).unwrap(), Vec::new()));
        set.with_targets(scale, targets).unwrap()
    });
    let recipe = changed(Classify.recipe(None).unwrap().with_steps(120), |recipe| {
        (recipe.model.block.ssm.d_model, recipe.model.block.ssm.d_state, recipe.run.batch) = (8, 4, 20);
        recipe.loss = Loss::SquaredError;
    });
    let splits = Splits { train, val: test.clone(), test };
    let mut trainer = Trainer::new(&Cpu::<f32>::new(), "numbers", recipe, splits.clone()).unwrap();
    while !trainer.is_finished() {
        trainer.step().unwrap();
    }
    let found = trainer.test(5, &go()).unwrap().unwrap();
    // The mean is off by about 500.
    assert!(found.metric < 250.0, "{}", found.metric);
    let none = changed(trainer.recipe().clone(), |recipe| recipe.loss = Loss::default());
    mentions(&Trainer::new(&Cpu::<f32>::new(), "numbers", none, splits).unwrap_err().to_string(), &["loss", "--regression"]);
}

#[test]
fn a_run_goes_on_where_it_was_stopped() {
    let files = [named("train.csv", table(9, words)), named("test.csv", table(5, words))];
    let (whole, parts) = (folder(&files), folder(&files));
    let (_, wanted) = train(&whole, "--set loss.cross_entropy.weights=balanced --set loss.cross_entropy.smoothing=0.1");
    let recipe = Origin::read(whole.path().join(".out/checkpoint.safetensors")).unwrap().recipe;
    let splits = Classify.load(&recipe, Some(parts.path()), &Faults::refused()).unwrap();
    let mut trainer = Trainer::new(&Cpu::<f32>::new(), "classify", recipe, splits).unwrap();
    {
        let mut output = Output::create(parts.path().join(".out")).unwrap();
        output.begin(&trainer, &[]).unwrap();
        let third = &mut |trainer: &Trainer<Cpu<f32>>, _: Event<'_>| {
            Ok(if trainer.steps_done() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        assert_eq!(fit_with(&mut trainer, Some(&mut output), FitOptions::default(), &go(), third).unwrap(), Ending::Stopped);
    }
    let out = parts.path().join(".out");
    let line = format!("--quiet --eval-passes 2 --resume --data {}", parts.path().display());
    assert_eq!(figures(&printed(&Classify, &flags(&line, Some(&out)))), figures(&wanted));
    // With other data it does not go on.
    fs::write(parts.path().join("train.csv"), table(8, words)).unwrap();
    mentions(&run_error(&Classify, &flags(&line, Some(&out))), &["data = 5 samples", "same settings and data"]);
}

#[test]
fn what_does_not_fit_is_refused_with_what_to_do() {
    mentions(&run_error(&Classify, &flags(SMALL, None)), &["--data", "docs/OWN_DATA.md"]);
    mentions(&run_error(&Classify, &flags(&format!("{SMALL} --data /nowhere"), None)), &["--data = /nowhere", "not there"]);
    mentions(&run_error(&ListOps, &flags(&format!("{SMALL} --regression"), None)), &["loss", "leave --regression out"]);
    let data = folder(&[named("train.csv", table(9, words)), named("test.csv", table(5, words))]);
    let (checkpoint, _) = train(&data, "");
    let others = folder(&[named("train.csv", table(9, |row| words(row + 1) + "!")), named("test.csv", table(5, |row| words(row) + "!"))]);
    let line = format!("--quiet --eval-only --checkpoint {} --data {}", checkpoint.display(), others.path().display());
    mentions(&run_error(&Classify, &flags(&line, None)), &["give the same --data"]);
    let line = format!("--checkpoint {} --predict-text hello", checkpoint.display());
    mentions(&run_error(&Classify, &flags(&line, None)), &["does not read texts"]);
    assert!(
        Recipe::parse(&Classify.recipe(None).unwrap().to_toml().unwrap().replace("smoothing = 0.0", "smoothing = 2.0"), "r.toml").is_err()
    );
}

#[test]
fn long_samples_have_a_smaller_model_unless_the_command_line_says_so() {
    let long = vec!["1"; 3000].join(",");
    let data = folder(&[named("train.csv", format!("a,{long}\nb,{long}\n")), named("test.csv", format!("a,{long}\n"))]);
    let line = format!("--data {}", data.path().display());
    let splits = Classify.load(&Classify.recipe(None).unwrap(), Some(data.path()), &Faults::refused()).unwrap();
    let recipe = || Classify.recipe(None).unwrap();
    let sized = flags(&line, None).sized(&Classify, recipe(), &splits).unwrap();
    assert_eq!((sized.model.block.ssm.l_max, sized.model.block.ssm.d_model, sized.run.batch), (Some(3000), 32, 8));
    let told = flags(&format!("{line} --batch-size 3 --steps 7 --set model.block.ssm.d_model=10"), None);
    let told = told.sized(&Classify, recipe(), &splits).unwrap();
    assert_eq!((told.model.block.ssm.d_model, told.run.batch, told.steps(2)), (10, 3, 7));
}
