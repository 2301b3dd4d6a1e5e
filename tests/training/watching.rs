//! Watching a run while it goes on: spike rates of training batches, reports every so many steps, runs over each other, several seeds.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::runs::{
    Tiny, advance, bits, changed, figures, flags, go, mentions, metrics, names, parse, printed, recipe, result, run_error, splits,
    trainer_of, without_seconds,
};
use pspikessm::Result;
use pspikessm::autodiff::Tape;
use pspikessm::backend::*;
use pspikessm::data::{Faults, Splits};
use pspikessm::internal::logits;
use pspikessm::nn::{Context, NormKind, Observed, Site, SpikeMeter, SpikeSource};
use pspikessm::train::cli::{self, Outcome, Spread};
use pspikessm::train::{Command, Ending, Event, FitOptions, Origin, Output, Preset, Recipe, Sample, Task, Trainer, fit, fit_with, report};

// Spike rates.

/// A recipe without random numbers in a step, and with the whole training set in every batch.
fn certain() -> Recipe {
    let mut recipe = changed(recipe(6), |r| r.run.batch = 22);
    let surrogate = Surrogate::Sigmoid { alpha: 4.0 };
    recipe.model.block.source = SpikeSource::Lif(Lif { decay: 0.5, threshold: 0.3, soft_reset: false, surrogate });
    recipe.model.block.norm = Some(NormKind::Layer);
    recipe
}

/// The share of ones that the trainer's model gives for the training set, counted by hand.
fn counted(trainer: &Trainer<Cpu<f32>>) -> BTreeMap<(usize, Site), f64> {
    let (cpu, train) = (Cpu::<f32>::new(), &trainer.splits().train);
    let (tape, observed) = (Tape::new(&cpu), Observed::new());
    let batch = train.batch(&(0..train.len()).collect::<Vec<_>>()).unwrap();
    logits(trainer.model(), &Context::training(&tape, Key::new(0)).observe(&observed), &batch).unwrap();
    let mut sums = BTreeMap::<_, [f64; 2]>::new();
    for (place, spikes) in observed.spikes() {
        let values = spikes.to_vec().unwrap();
        let [ones, all] = sums.entry(place).or_default();
        *ones += values.iter().filter(|&&spike| spike == 1.0).count() as f64;
        *all += values.len() as f64;
    }
    sums.into_iter().map(|(place, [ones, all])| (place, ones / all)).collect()
}

#[test]
fn a_step_counts_the_spikes_of_its_batch_and_computes_the_same_bits() {
    let accumulating = || changed(recipe(6), |r| r.run.accumulate = 3);
    for recipe in [recipe(6), accumulating(), certain()] {
        for recomputes in [false, true] {
            let again = || trainer_of(changed(recipe.clone(), |r| r.run.recompute = recomputes));
            let (mut counting, mut silent) = (again(), again());
            for _ in 0..4 {
                let meter = SpikeMeter::default();
                let wanted = (recipe == certain()).then(|| counted(&counting));
                assert_eq!(counting.step_metered(&meter).unwrap(), silent.step().unwrap());
                let rates = meter.rates();
                // Two layers of two branches with two places each.
                assert_eq!(rates.len(), 8);
                assert!(rates.values().all(|rate| (0.0..=1.0).contains(rate)) && rates.values().any(|rate| *rate > 0.0), "{rates:?}");
                if let Some(wanted) = wanted {
                    assert_eq!(rates, wanted);
                }
            }
            assert_eq!(bits(&counting), bits(&silent));
        }
    }
}

#[test]
fn spike_rates_stand_in_the_metrics_as_often_as_asked() {
    let (often, never) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let line = |dir: &Path, more: &str| result(&Tiny, &flags(&format!("--quiet {more}"), Some(dir))).1;
    assert_eq!(line(often.path(), "--rates-every 3"), line(never.path(), "--rates-every 0"));
    let of = |dir: &Path, kind: &str| metrics(dir).into_iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    let spikes = of(often.path(), "spikes");
    assert_eq!(spikes.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 6, 9, 12, 15]);
    for line in &spikes {
        assert_eq!(line["layers"].as_array().unwrap().len(), 8);
        assert!((0.0..=1.0).contains(&line["spike_rate"].as_f64().unwrap()), "{line}");
    }
    // All else is the same, bit for bit.
    let others = |dir: &Path| without_seconds(metrics(dir)).into_iter().filter(|line| line["kind"] != "spikes").collect::<Vec<_>>();
    assert_eq!(others(often.path()), metrics_of(never.path()));
    for file in ["checkpoint.safetensors", "best.safetensors"] {
        assert!(fs::read(often.path().join(file)).unwrap() == fs::read(never.path().join(file)).unwrap(), "{file}");
    }
    // The page shows them.
    let page = fs::read_to_string(often.path().join("report.html")).unwrap();
    let figure = page.split("<h3>Spike rate, all layers</h3>").nth(1).unwrap().split("</figure>").next().unwrap();
    assert!(figure.contains("training</li>") && figure.contains("validation</li>"));
}

fn metrics_of(dir: &Path) -> Vec<serde_json::Value> {
    without_seconds(metrics(dir))
}

#[test]
fn a_run_that_goes_on_writes_the_rates_that_it_would_have_written() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let line = "--quiet --rates-every 2 --report-every 3 --checkpoint-every 5";
    result(&Tiny, &flags(line, Some(whole.path())));
    // Killed behind step 16 with a checkpoint of step 7.
    result(&Tiny, &flags(line, Some(parts.path())));
    let mut part = trainer_of(recipe(16));
    advance(&mut part, 7);
    part.save(parts.path().join("checkpoint.safetensors")).unwrap();
    result(&Tiny, &flags(&format!("{line} --resume"), Some(parts.path())));
    assert_eq!(metrics_of(parts.path()), metrics_of(whole.path()));
    assert_eq!(fs::read(parts.path().join("curves.svg")).unwrap(), fs::read(whole.path().join("curves.svg")).unwrap());
}

// Reports.

#[test]
fn a_report_is_written_every_so_many_steps() {
    let dir = tempfile::tempdir().unwrap();
    let page = || fs::read_to_string(dir.path().join("report.html")).unwrap_or_default();
    let mut output = Output::open(dir.path()).unwrap();
    let mut trainer = trainer_of(recipe(16));
    output.begin(&trainer, &[]).unwrap();
    let options = FitOptions { report_every: 5, metrics_every: 1, quiet: true, ..FitOptions::default() };
    let ending = fit_with(&mut trainer, Some(&mut output), options, &go(), &mut |trainer, event| {
        let before = trainer.steps_done() - 1;
        if let Event::Step(_) = event {
            let wanted = format!("The run has not finished: {} of 16 steps", before / 5 * 5);
            assert!(if before < 5 { page().is_empty() } else { page().contains(&wanted) }, "after step {before}");
        }
        Ok(if before == 12 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    assert_eq!(ending.unwrap(), Ending::Stopped);
    assert!(fs::read_to_string(dir.path().join("curves.svg")).unwrap().starts_with("<svg "));
}

#[test]
fn a_report_that_cannot_be_written_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut output = Output::open(dir.path()).unwrap();
    let mut trainer = trainer_of(recipe(6));
    output.begin(&trainer, &[]).unwrap();
    // A file cannot take the name of a folder with something in it.
    fs::create_dir_all(dir.path().join("report.html/in_the_way")).unwrap();
    let options = FitOptions { report_every: 2, quiet: true, ..FitOptions::default() };
    assert_eq!(fit(&mut trainer, Some(&mut output), options, &go()).unwrap(), Ending::Finished);
}

// Several runs.

/// The cells of a page's table that follow a row's name, without their tags.
fn row(page: &str, name: &str) -> Vec<String> {
    let (_, row) = page.split_once(&format!("<tr><th scope=\"row\">{name}")).unwrap_or_else(|| panic!("no row {name}"));
    let row = row.split("</tr>").next().unwrap();
    let text = |cell: &str| {
        let pieces = cell.split("</td>").next().unwrap().split('<').enumerate();
        let piece = |(at, piece): (usize, &str)| if at == 0 { piece.to_string() } else { piece.split_once('>').unwrap().1.to_string() };
        pieces.map(piece).collect::<String>()
    };
    row.split("<td>").skip(1).map(text).collect()
}

/// Accuracy, loss and spike rate of the test of a run.
fn tested(dir: &Path) -> [f64; 3] {
    let test = metrics(dir).pop().unwrap();
    assert_eq!(test["kind"], "test");
    ["accuracy", "loss", "spike_rate"].map(|name| test[name].as_f64().unwrap())
}

#[test]
fn runs_are_compared_on_one_page() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (name, more) in [("a/run", ""), ("b/run", "--seed 1"), ("wide <1>", "--set model.block.ssm.d_state=4 --steps 12")] {
        result(&Tiny, &flags(&format!("--quiet --rates-every 4 {more}"), Some(&at(name))));
    }
    let dirs = ["a/run", "b/run", "wide <1>"].map(at);
    let path = report::compare(&dirs, &at("page")).unwrap();
    assert_eq!(path, at("page/compare.html"));
    let page = fs::read_to_string(path).unwrap();
    assert!(page.contains("<h1>3 runs: tiny, quick</h1>"));
    let names = ["a/run", "b/run", "wide &lt;1&gt;"].map(|name| if cfg!(windows) { name.replace('/', "\\") } else { name.into() });
    for (name, dir) in names.iter().zip(&dirs) {
        assert_eq!(row(&page, name)[2..5], tested(dir).map(|number| format!("{number:.4}")), "{name}");
    }
    assert_eq!(row(&page, "model.block.ssm.d_state"), ["2", "2", "4"]);
    assert_eq!(row(&page, "run.seed"), ["0", "1", "0"]);
    assert!(!page.contains("model.block.ssm.d_model") && !page.contains("training samples"));
    // The two that differ in the seed alone.
    let means = row(&page, "mean ± standard deviation");
    for (at, cell) in means[2..5].iter().enumerate() {
        let [a, b] = [&dirs[0], &dirs[1]].map(|dir| tested(dir)[at]);
        let deviation = (a - b).abs() / 2f64.sqrt();
        assert_eq!(*cell, format!("{:.4} ± {deviation:.4}", (a + b) / 2.0));
    }
    // A line for each run in each chart, under its name.
    for title in ["Loss, training, moving mean", "Accuracy, validation", "Spike rate, training batches"] {
        let figure = page.split(&format!("<h3>{title}</h3>")).nth(1).unwrap().split("</figure>").next().unwrap();
        assert!(names.iter().all(|name| figure.contains(&format!("{name}</li>"))), "{title}");
        let colours = ["#0072B2", "#D55E00", "#009E73"];
        let drawn = figure.split("</figcaption>").nth(1).unwrap();
        assert!(colours.iter().all(|colour| drawn.contains(colour)), "{title}");
    }
    assert!(!page.contains("<script") && !page.replace("http://www.w3.org/2000/svg", "").contains("http"));
    // A run that goes on has what it has so far; one that is not there is named.
    let lines = fs::read_to_string(at("a/run/metrics.jsonl")).unwrap();
    fs::write(at("a/run/metrics.jsonl"), lines.lines().take(2).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let page = fs::read_to_string(report::compare(&dirs, &at("page")).unwrap()).unwrap();
    assert_eq!(row(&page, &names[0])[1..5], ["–"; 4]);
    assert!(row(&page, &names[0])[5].ends_with("goes on"));
    let error = report::compare(&[at("a/run"), at("c")], &at("page")).unwrap_err().to_string();
    mentions(&error, &["c", "metrics.jsonl is not there"]);
}

#[test]
fn the_same_run_twice_differs_in_nothing() {
    let dir = tempfile::tempdir().unwrap();
    result(&Tiny, &flags("--quiet --steps 4", Some(dir.path())));
    let twice = [dir.path().to_path_buf(), dir.path().to_path_buf()];
    let page = fs::read_to_string(report::compare(&twice, &dir.path().join("page")).unwrap()).unwrap();
    assert!(page.contains("Nothing: the recipes"));
    assert!(row(&page, "mean ± standard deviation")[2].ends_with("± 0.0000"));
}

#[test]
fn what_is_compared_comes_from_the_command_line() {
    let command = Command::Compare(vec!["a".into(), "b".into(), "c".into()], "o".into());
    assert_eq!(parse("--compare a b c --out o").unwrap(), command);
    assert_eq!(parse("--out o --compare a b --compare c").unwrap(), command);
    assert_eq!(parse("--compare a").unwrap(), Command::Compare(vec!["a".into()], ".".into()));
    mentions(&parse("--compare").unwrap_err().to_string(), &["--compare"]);
}

// Several seeds.

const SWEEP: &str = "--quiet --steps 8 --eval-passes 2";

fn swept(line: &str, out: Option<&Path>) -> String {
    let mut printed = Vec::new();
    let outcome = cli::run_on(&Cpu::<f32>::new(), &Tiny, &flags(line, out), &go(), &mut printed).unwrap();
    assert!(matches!(outcome, Outcome::Swept(_)), "{outcome:?}");
    String::from_utf8(printed).unwrap()
}

/// A number of a result line.
fn field(line: &str, name: &str) -> f64 {
    let value = line.split(' ').find_map(|field| field.strip_prefix(&format!("{name}=")));
    value.unwrap_or_else(|| panic!("no {name} in {line}")).parse().unwrap()
}

#[test]
fn seeds_are_swept_each_in_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let printed_ = swept(&format!("{SWEEP} --seeds 3 --seed 5"), Some(dir.path()));
    let lines: Vec<&str> = printed_.lines().collect();
    assert_eq!(lines.len(), 4, "{printed_}");
    for (line, seed) in lines[..3].iter().zip(5..) {
        // As if each had been run by itself.
        let alone = tempfile::tempdir().unwrap();
        assert_eq!(figures(line), result(&Tiny, &flags(&format!("{SWEEP} --seed {seed}"), Some(alone.path()))).1);
        for file in ["checkpoint.safetensors", "best.safetensors", "curves.svg", "raster.svg"] {
            let [a, b] = [&dir.path().join(format!("seed-{seed}")), alone.path()].map(|dir| fs::read(dir.join(file)).unwrap());
            assert!(a == b, "{file} of seed {seed}");
        }
    }
    let last = lines[3];
    assert!(last.starts_with("result task=tiny preset=quick backend=cpu-f32 seeds=5,6,7 steps=8 train_loss="), "{last}");
    for name in ["train_loss", "test_accuracy", "spike_rate"] {
        let numbers: Vec<f64> = lines[..3].iter().map(|line| field(line, name)).collect();
        let mean = numbers.iter().sum::<f64>() / 3.0;
        let deviation = (numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
        // The lines are rounded.
        assert!((field(last, name) - mean).abs() < 2e-4 && (field(last, &format!("{name}_std")) - deviation).abs() < 2e-4, "{printed_}");
    }
    assert_eq!(field(last, "majority"), field(lines[0], "majority"));
    // The page over all of them, which can be written anew, and stands for them in a comparison.
    let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(page.contains("<h1>3 runs: tiny, quick</h1>"));
    assert_eq!(row(&page, "run.seed"), ["5", "6", "7"]);
    let mean = format!("{:.4} ± {:.4}", field(last, "test_accuracy"), field(last, "test_accuracy_std"));
    assert_eq!(row(&page, "mean ± standard deviation")[2], mean);
    assert_eq!(fs::read_to_string(report::write(dir.path()).unwrap()).unwrap(), page);
    let compared = fs::read_to_string(report::compare(&[dir.path().into()], &dir.path().join("page")).unwrap()).unwrap();
    assert_eq!(compared, page);
    // Without a folder nothing is kept, and the numbers are the same.
    assert_eq!(figures(&swept(&format!("{SWEEP} --seeds 3 --seed 5"), None)), figures(&printed_));
}

/// [`Tiny`], which asks to be stopped when it reads the data of seed 1.
#[derive(Default)]
struct Halting {
    stop: AtomicBool,
}

impl Task for Halting {
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

    fn load(&self, recipe: &Recipe, dir: Option<&Path>, faults: &Faults) -> Result<Splits> {
        self.stop.fetch_or(recipe.run.seed == 1, Ordering::Relaxed);
        Tiny.load(recipe, dir, faults)
    }

    fn push(&self, recipe: &Recipe, sample: Sample<'_>, set: &mut pspikessm::data::Dataset) -> Result<()> {
        Tiny.push(recipe, sample, set)
    }
}

/// Every file below a folder, but for the lock and what has times in it.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for seed in names(dir).iter().filter(|name| name.starts_with("seed-")) {
        let own = dir.join(seed);
        found.insert(own.strip_prefix(dir).unwrap().join("metrics"), format!("{:?}", metrics_of(&own)).into_bytes());
        for name in names(&own).iter().filter(|name| name.ends_with(".safetensors") || name.ends_with(".svg")) {
            found.insert(PathBuf::from(seed).join(name), fs::read(own.join(name)).unwrap());
        }
    }
    found
}

#[test]
fn a_sweep_goes_on_with_the_seed_that_was_stopped() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let line = format!("{SWEEP} --seeds 3 --set optimizer.lr=0.02 --tensorboard");
    let wanted = figures(&swept(&line, Some(whole.path())));
    let task = Halting::default();
    let stopped = cli::run_on(&Cpu::<f32>::new(), &task, &flags(&line, Some(parts.path())), &task.stop, &mut Vec::new()).unwrap();
    let checkpoint = parts.path().join("seed-1/checkpoint.safetensors");
    assert_eq!(stopped, Outcome::Stopped(0, Some(checkpoint.clone())));
    // A while later it was killed.
    let origin = Origin::read(&checkpoint).unwrap().recipe;
    let mut part = Trainer::new(&Cpu::<f32>::new(), "tiny", origin, splits()).unwrap();
    advance(&mut part, 5);
    part.save(&checkpoint).unwrap();
    let first = fs::read(parts.path().join("seed-0/metrics.jsonl")).unwrap();
    // The recipe need not be said again: those that were not begun have that of the others.
    let printed = swept("--quiet --eval-passes 2 --seeds 3 --tensorboard --resume", Some(parts.path()));
    assert_eq!(printed.lines().count(), 3, "seed 0 is not run again: {printed}");
    assert_eq!(figures(&printed), wanted);
    assert_eq!(fs::read(parts.path().join("seed-0/metrics.jsonl")).unwrap(), first);
    assert!(contents(parts.path()) == contents(whole.path()));
    // All of them are finished now; of more seeds the others are trained.
    assert_eq!(figures(&swept("--quiet --seeds 3 --resume", Some(parts.path()))), wanted);
    let printed = swept(&format!("{SWEEP} --seeds 4 --resume"), Some(parts.path()));
    assert!(printed.lines().count() == 2 && printed.contains(" seeds=0,1,2,3 "), "{printed}");
    assert_eq!(Origin::read(parts.path().join("seed-3/checkpoint.safetensors")).unwrap().recipe.run.seed, 3);
}

#[test]
fn a_sweep_takes_nothing_away_unless_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    mentions(&run_error(&Tiny, &flags("--seeds 2 --resume", Some(dir.path()))), &["no checkpoint of a seed", "without --resume"]);
    swept(&format!("{SWEEP} --seeds 2"), Some(dir.path()));
    let before = contents(dir.path());
    // Nor is any seed trained before the last one's folder is looked at.
    let error = run_error(&Tiny, &flags(&format!("{SWEEP} --seeds 2 --seed 1"), Some(dir.path())));
    mentions(&error, &["seed-1", "holds a run", "--overwrite"]);
    assert!(contents(dir.path()) == before);
    // Of an earlier sweep nothing is gone on with.
    let task = Halting::default();
    let line = format!("{SWEEP} --seeds 3 --set optimizer.lr=0.02");
    let anew = flags(&format!("{line} --overwrite"), Some(dir.path()));
    assert!(matches!(cli::run_on(&Cpu::<f32>::new(), &task, &anew, &task.stop, &mut Vec::new()).unwrap(), Outcome::Stopped(..)));
    let whole = tempfile::tempdir().unwrap();
    assert_eq!(figures(&swept("--quiet --eval-passes 2 --seeds 3 --resume", Some(dir.path()))), figures(&swept(&line, Some(whole.path()))));
    assert!(dir.path().join("seed-1/checkpoint.previous.safetensors").exists());
}

#[test]
fn a_spread_is_that_of_the_numbers() {
    let Spread { mean, deviation, .. } = Spread::of(&[1.0, 2.0, 6.0]).unwrap();
    assert!(mean == 3.0 && (deviation - 7f64.sqrt()).abs() < 1e-15);
    assert!(printed(&Tiny, &flags("--quiet --steps 2", None)).contains(" seconds="));
}
