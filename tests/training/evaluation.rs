//! Evaluation and prediction: what is counted, what is random in it, and a model that comes from a checkpoint.

use std::path::Path;

use crate::common::host;
use crate::runs::{Tiny, advance, bits, figures, flags, go, halt, mentions, printed, result, run_error, take, trainer};
use pspikessm::Result;
use pspikessm::autodiff::Tape;
use pspikessm::backend::{Cpu, Key, SpikeMode};
use pspikessm::data::{Dataset, Faults, Splits, Vocabulary};
use pspikessm::internal::logits;
use pspikessm::nn::{Context, Input, Model};
use pspikessm::train::{Evaluation, Evaluator, Origin, Preset, Recipe, Sample, Task, load_weights};

// Counting.

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
fn votes_are_counted_as_passes_and_predictions_are() {
    let mut trainer = trainer();
    advance(&mut trainer, 9);
    let (cpu, stop) = (Cpu::<f32>::new(), go());
    let (set, key) = (&trainer.splits().test, Key::new(5));
    let evaluator = |batch| Evaluator { backend: &cpu, model: trainer.model(), batch, mode: SpikeMode::Sampled, stop: &stop };
    // The first vote is the first pass.
    let votes = evaluator(4).votes(set, key, 3).unwrap().unwrap();
    assert_eq!((votes.len(), votes[0]), (3, evaluator(4).run(set, key, 1).unwrap().unwrap().metric));
    // Sample by sample, the last one is the most probable class over all passes.
    let alone = evaluator(1).votes(set, key, 3).unwrap().unwrap();
    for passes in 1..=3 {
        let predicted = evaluator(1).predict(set, key, passes).unwrap();
        let top = |scores: &Vec<f64>| (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
        let right = predicted.iter().zip(set.labels()).filter(|(scores, label)| top(scores) == **label).count();
        assert_eq!(alone[passes as usize - 1], right as f64 / set.len() as f64);
    }
    let halted = halt();
    assert_eq!(Evaluator { stop: &halted, ..evaluator(4) }.votes(set, key, 1).unwrap(), None);
    assert!(evaluator(4).votes(&set.subset(&[]).unwrap(), key, 1).is_err() && evaluator(4).votes(set, key, 0).is_err());
    // As many passes as are asked for are counted while they run, not before.
    assert_eq!(Evaluator { stop: &halted, ..evaluator(4) }.votes(set, key, u64::MAX).unwrap(), None);
}

/// A trained model on the CPU, and how it is evaluated.
fn evaluate(batch: usize, mode: SpikeMode, key: u64, passes: u64) -> Evaluation {
    let mut trainer = trainer();
    advance(&mut trainer, 9);
    let (cpu, stop) = (Cpu::<f32>::new(), go());
    let evaluator = Evaluator { backend: &cpu, model: trainer.model(), batch, mode, stop: &stop };
    evaluator.run(&trainer.splits().test, Key::new(key), passes).unwrap().unwrap()
}

#[test]
fn expected_spikes_leave_no_chance() {
    let run = |batch, mode, key| {
        let found = evaluate(batch, mode, key, 1);
        (found.loss, found.metric, found.confusion)
    };
    assert_eq!(run(4, SpikeMode::Expected, 1), run(4, SpikeMode::Expected, 2));
    assert_ne!(run(4, SpikeMode::Sampled, 1).0, run(4, SpikeMode::Sampled, 2).0);
    // No spikes, no rate.
    assert!(evaluate(4, SpikeMode::Expected, 1, 1).spike_rate.is_nan() && evaluate(4, SpikeMode::Expected, 1, 1).layers.is_empty());
    let trainer = trainer();
    let once = || trainer.test_expected(&go()).unwrap().map(|found| (found.loss, found.confusion, found.passes));
    assert_eq!((once(), once().unwrap().2), (once(), 1));
}

/// Class probabilities of one sequence, without padding and without neighbours.
fn probabilities(model: &Model<Cpu<f32>>, ids: &[u8]) -> Vec<f64> {
    let cpu = Cpu::<f32>::new();
    let tape = Tape::off(&cpu);
    let tokens: Vec<u32> = ids.iter().copied().map(u32::from).collect();
    let cx = Context::evaluation(&tape, Key::new(99)).expected();
    let logits = host(&cpu, model.forward(&cx, Input::tokens(&tokens, 1)).unwrap().value());
    let weights: Vec<f64> = logits.iter().map(|logit| logit.exp()).collect();
    weights.iter().map(|weight| weight / weights.iter().sum::<f64>()).collect()
}

#[test]
fn loss_accuracy_and_confusion_are_those_of_the_samples_one_by_one() {
    let mut trainer = trainer();
    advance(&mut trainer, 9);
    let test = &trainer.splits().test;
    let (mut loss, mut confusion) = (0.0, vec![vec![0u64; 2]; 2]);
    for (sample, &label) in test.labels().iter().enumerate() {
        let found = probabilities(trainer.model(), test.sequence(sample).unwrap());
        loss -= found[label].ln() / test.len() as f64;
        confusion[label][usize::from(found[1] > found[0])] += 1;
    }
    // Batches of 3: the last one holds a single sample.
    let found = evaluate(3, SpikeMode::Expected, 0, 1);
    assert!((found.loss - loss).abs() < 1e-5, "{} and {loss}", found.loss);
    assert_eq!(found.confusion, confusion);
    assert_eq!(found.metric, (confusion[0][0] + confusion[1][1]) as f64 / 10.0);
    assert!(found.metric > 0.0 && found.metric < 1.0, "{found:?} tells little");
}

#[test]
fn a_confusion_counts_every_sample_of_every_pass() {
    let found = evaluate(4, SpikeMode::Sampled, 0, 3);
    let labels = crate::runs::splits().test.labels().to_vec();
    for class in 0..2 {
        let samples = labels.iter().filter(|&&label| label == class).count() as u64;
        assert_eq!(found.confusion[class].iter().sum::<u64>(), 3 * samples);
    }
    assert_eq!(found.metric, (found.confusion[0][0] + found.confusion[1][1]) as f64 / 30.0);
    assert_eq!(found.passes, 3);
    let mean = found.layers.iter().map(|layer| layer.rate).sum::<f64>() / found.layers.len() as f64;
    // As many neurons at every place.
    assert!((found.spike_rate - mean).abs() < 1e-12);
}

// From a checkpoint.

/// A finished run in a folder, and what it printed.
fn finished(line: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let figures = result(&Tiny, &flags(line, Some(dir.path()))).1;
    (dir, figures)
}

fn of_checkpoint(line: &str, dir: &Path) -> String {
    format!("{line} --checkpoint {}", dir.join("checkpoint.safetensors").display())
}

#[test]
fn evaluation_only_prints_what_the_run_printed() {
    for line in ["", "--eval-passes 2 --seed 3", "--expected", "--set run.accumulate=2"] {
        let (dir, trained) = finished(line);
        let how = if line.contains("--set") { "" } else { line };
        let text = printed(&Tiny, &flags(&of_checkpoint(&format!("--eval-only {how}"), dir.path()), None));
        assert_eq!(figures(&text), trained, "{line}");
        let quiet = printed(&Tiny, &flags(&of_checkpoint(&format!("--eval-only --quiet {how}"), dir.path()), None));
        assert_eq!((figures(&quiet), quiet.lines().count()), (trained, 1));
    }
}

#[test]
fn evaluation_only_prints_a_confusion_matrix_whose_sums_are_right() {
    let (dir, _) = finished("");
    let text = printed(&Tiny, &flags(&of_checkpoint("--eval-only --eval-passes 3", dir.path()), None));
    let lines: Vec<&str> = text.lines().collect();
    let head = lines.iter().position(|line| line.split_whitespace().eq(["mostly-a", "mostly-b"])).unwrap();
    let mut right = 0.0;
    for (class, name) in ["mostly-a", "mostly-b"].iter().enumerate() {
        let mut fields = lines[head + 1 + class].split_whitespace();
        assert_eq!(fields.next(), Some(*name));
        let counts: Vec<usize> = fields.map(|field| field.parse().unwrap()).collect();
        let samples = crate::runs::splits().test.labels().iter().filter(|&&label| label == class).count();
        assert_eq!((counts.len(), counts.iter().sum::<usize>()), (2, 3 * samples));
        right += counts[class] as f64;
    }
    mentions(lines.last().unwrap(), &[&format!(" test_accuracy={:.4} ", right / 30.0)]);
    // Columns stand below their names.
    assert!(lines[head..head + 3].iter().all(|line| line.len() == lines[head].len()), "{text}");
}

#[test]
fn the_best_epoch_can_be_evaluated_too() {
    let (dir, _) = finished("");
    let path = dir.path().join("best.safetensors");
    let step = Origin::read(&path).unwrap().step;
    assert!([6, 12].contains(&step));
    let (line, _) = result(&Tiny, &flags(&format!("--eval-only --checkpoint {}", path.display()), None));
    mentions(&line, &[&format!(" steps={step} ")]);
    // It is the model without the optimiser's moments, and no run goes on from it.
    let whole = std::fs::metadata(dir.path().join("checkpoint.safetensors")).unwrap().len();
    assert!(2 * std::fs::metadata(&path).unwrap().len() < whole);
    mentions(&trainer().resume(&path).err().unwrap().to_string(), &["without the optimiser's moments", "checkpoint.safetensors"]);
}

#[test]
fn a_prediction_names_the_classes_the_most_probable_first() {
    let (dir, _) = finished("--steps 60");
    for sample in ["aabaa", "bbbab"] {
        for how in ["", "--expected", "--eval-passes 2 --seed 4"] {
            let text = printed(&Tiny, &flags(&of_checkpoint(&format!("--predict {sample} {how}"), dir.path()), None));
            let rows: Vec<(f64, &str)> =
                text.lines().map(|line| line.split_once(' ').unwrap()).map(|(p, name)| (p.parse().unwrap(), name)).collect();
            assert_eq!(rows.len(), 2);
            assert!(rows[0].0 >= rows[1].0 && (rows[0].0 + rows[1].0 - 1.0).abs() <= 1.01e-4, "{text}");
            assert_eq!(rows[0].1, if sample.starts_with('a') { "mostly-a" } else { "mostly-b" });
        }
    }
}

#[test]
fn a_prediction_is_the_softmax_of_the_model() {
    let (dir, _) = finished("--steps 60");
    let path = dir.path().join("checkpoint.safetensors");
    let Origin { recipe, set, .. } = Origin::read(&path).unwrap();
    let model = Model::new(&Cpu::<f32>::new(), Key::new(1), &recipe.model_for(&set)).unwrap();
    load_weights(&Cpu::<f32>::new(), &model, &path).unwrap();
    let ids: Vec<u8> = set.vocabulary().unwrap().encode(["b", "b", "a", "b"]).into_iter().map(|id| id as u8).collect();
    let want = probabilities(&model, &ids);
    let text = printed(&Tiny, &flags(&of_checkpoint("--expected --predict bbab", dir.path()), None));
    let [b, a] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert_eq!((b, a), (&*format!("{:.4} mostly-b", want[1]), &*format!("{:.4} mostly-a", want[0])));
    // The mean over passes: nearer to the mean of many than one of them.
    let stop = go();
    let cpu = Cpu::<f32>::new();
    let evaluator = Evaluator { backend: &cpu, model: &model, batch: 1, mode: SpikeMode::Sampled, stop: &stop };
    let mut one = set.clone();
    one.push_tokens(&[4, 4, 3, 4], 0).unwrap();
    let pass = |key: Key, passes| evaluator.predict(&one, key, passes).unwrap().remove(0);
    let single: Vec<f64> = (0..3).map(|seed| pass(Key::new(seed), 1)[1]).collect();
    assert!(single.iter().any(|p| p != &single[0]));
    let three = pass(Key::new(0), 3);
    assert!((three.iter().sum::<f64>() - 1.0).abs() < 1e-12 && three[1] != single[0]);
}

/// The same task under another name, or with another alphabet.
struct Other(&'static str, [&'static str; 2]);

impl Task for Other {
    fn name(&self) -> &'static str {
        self.0
    }

    fn about(&self) -> &'static str {
        "Something else."
    }

    fn presets(&self) -> &'static [Preset] {
        Tiny.presets()
    }

    fn class_names(&self, recipe: &Recipe) -> Vec<String> {
        Tiny.class_names(recipe)
    }

    fn load(&self, _: &Recipe, _: Option<&Path>, _: &Faults) -> Result<Splits> {
        let spelt = |set: &Dataset| {
            let mut other = Dataset::tokens(Vocabulary::new(self.1).unwrap(), 2);
            (0..set.len()).for_each(|at| other.push_tokens(set.sequence(at).unwrap(), set.labels()[at]).unwrap());
            other
        };
        let Splits { train, val, test } = crate::runs::splits();
        Ok(Splits { train: spelt(&train), val: spelt(&val), test: spelt(&test) })
    }

    fn push(&self, recipe: &Recipe, sample: Sample<'_>, set: &mut Dataset) -> Result<()> {
        Tiny.push(recipe, sample, set)
    }
}

#[test]
fn a_checkpoint_of_another_task_is_refused() {
    let (dir, _) = finished("--steps 2");
    let other = Other("other", ["a", "b"]);
    for line in [of_checkpoint("--eval-only", dir.path()), of_checkpoint("--predict aab", dir.path())] {
        mentions(&run_error(&other, &flags(&line, None)), &["checkpoint.safetensors", "of the task tiny, this is other"]);
    }
    mentions(&run_error(&other, &flags("--resume", Some(dir.path()))), &["of the task tiny, this is other"]);
    // With a recipe of its own, the data decide.
    mentions(&run_error(&other, &flags("--resume --preset quick --steps 2", Some(dir.path()))), &["task = tiny", "task = other"]);
}

#[test]
fn a_checkpoint_with_other_symbols_is_refused() {
    let (dir, trained) = finished("--steps 2");
    let line = of_checkpoint("--eval-only", dir.path());
    assert_eq!(result(&Other("tiny", ["a", "b"]), &flags(&line, None)).1, trained);
    mentions(&run_error(&Other("tiny", ["a", "c"]), &flags(&line, None)), &["checkpoint.safetensors", "other symbols"]);
}

#[test]
fn a_sample_that_cannot_be_read_is_an_error_of_the_task() {
    let (dir, _) = finished("--steps 2");
    let mut none = flags(&of_checkpoint("--predict x", dir.path()), None);
    none.predict = Some("".into());
    mentions(&run_error(&Tiny, &none), &["empty"]);
}

// Energy.

#[test]
fn the_energy_is_printed_where_it_is_asked_for() {
    let (dir, trained) = finished("--steps 2");
    let text = printed(&Tiny, &flags(&of_checkpoint("--eval-only --energy", dir.path()), None));
    assert_eq!(figures(&text), trained);
    let same = printed(&Tiny, &flags("--steps 2 --energy", None));
    let table = |text: &str| text.lines().skip_while(|line| !line.starts_with("energy a time step")).map(String::from).collect::<Vec<_>>();
    let rows = table(&text);
    assert_eq!(rows[..rows.len() - 1], table(&same)[..rows.len() - 1]);
    // Two layers with two branches: the input and the states of each, and two mixers; a head, a foot, all together, the result.
    assert_eq!(rows.len(), 2 + 2 * 6 + 1 + 1 + 1, "{text}");
    // 16 weights, times the rate that the row shows.
    let mixer: Vec<&str> = rows.iter().find(|row| row.starts_with("layer 0: SpikeMixer")).unwrap().split_whitespace().collect();
    let (rate, accumulates): (f64, f64) = (mixer[3].parse().unwrap(), mixer[4].parse().unwrap());
    assert!((rate * 16.0 - accumulates).abs() <= 0.51, "{mixer:?}");
    assert!(table(&printed(&Tiny, &flags("--steps 2", None))).is_empty());
}
