//! Samples that cannot be read while a run is on its way: refused with their error, or left out and counted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::runs::{bits, changed, figures, flags, go, mentions, printed, recipe, run_error, take};
use pspikessm::backend::{Cpu, Key, SpikeMode};
use pspikessm::data::{self, Dataset, Encoding, Faults, Source, Splits};
use pspikessm::train::{Evaluator, FitOptions, Output, Preset, Recipe, Sample, Task, Trainer, fit};
use pspikessm::{Error, Result};

/// Sequences of five values; those with these numbers cannot be read.
#[derive(Debug)]
struct Files {
    part: &'static str,
    bad: Vec<usize>,
}

impl Source for Files {
    fn length(&self) -> usize {
        5
    }

    fn read(&self, number: usize, values: &mut [f32]) -> Result<()> {
        // Half a sample is there when the rest turns out to be bad.
        values.iter_mut().enumerate().take(3).for_each(|(t, value)| *value = (number * 7 + t) as f32 % 5.0 / 5.0 - 0.4);
        if self.bad.contains(&number) {
            let path = PathBuf::from(format!("{}/{number:02}.wav", self.part));
            return Err(Error::data(path, 1, 4, "the file ends in the middle"));
        }
        values
            .iter_mut()
            .enumerate()
            .skip(3)
            .for_each(|(t, value)| *value = if labels(number + 1)[number] == 1 { 1.0 } else { -0.1 * t as f32 });
        Ok(())
    }
}

fn labels(count: usize) -> Vec<usize> {
    (0..count).map(|number| usize::from(number * number % 7 < 3)).collect()
}

fn set(part: &'static str, count: usize, bad: &[usize], faults: &Faults) -> Dataset {
    let source = Arc::new(Files { part, bad: bad.into() });
    Dataset::remote(Encoding::Values(1), 2, labels(count), source, faults.clone()).unwrap()
}

/// Numbers of bad samples among 22 training, 9 validation and 9 test samples.
type Bad = [&'static [usize]; 3];

fn splits(bad: Bad, faults: &Faults) -> Splits {
    Splits { train: set("train", 22, bad[0], faults), val: set("val", 9, bad[1], faults), test: set("test", 9, bad[2], faults) }
}

/// The same samples without the bad ones, as far as sets in memory go: only for evaluation, whose order is that of the set.
fn without(set: &Dataset, bad: &[usize]) -> Dataset {
    set.subset(&(0..set.len()).filter(|number| !bad.contains(number)).collect::<Vec<_>>()).unwrap()
}

struct Remote(Bad);

impl Task for Remote {
    fn name(&self) -> &'static str {
        "remote"
    }

    fn about(&self) -> &'static str {
        "Samples that are read when they are wanted."
    }

    fn presets(&self) -> &'static [Preset] {
        &[Preset { name: "quick", recipe: crate::runs::QUICK }]
    }

    fn class_names(&self, _: &Recipe) -> Vec<String> {
        ["low", "high"].map(String::from).into()
    }

    fn load(&self, _: &Recipe, _: Option<&Path>, faults: &Faults) -> Result<Splits> {
        Ok(splits(self.0, faults))
    }

    fn push(&self, _: &Recipe, _: Sample<'_>, set: &mut Dataset) -> Result<()> {
        set.push_values(&[0.0; 5], 0)
    }
}

fn trainer(recipe: Recipe, bad: Bad, faults: &Faults) -> Trainer<Cpu<f32>> {
    Trainer::new(&Cpu::new(), "remote", recipe, splits(bad, faults)).unwrap()
}

#[test]
fn a_bad_sample_ends_the_run_with_its_error() {
    let cases: [(Bad, &str); 4] = [
        ([&[13], &[], &[]], "train/13.wav"),
        ([&[], &[4], &[]], "val/04.wav"),
        ([&[], &[], &[8]], "test/08.wav"),
        // The order of the run decides which one is met first, not the threads.
        ([&[], &[], &[7, 3, 8]], "test/03.wav"),
    ];
    for (bad, file) in cases {
        mentions(&run_error(&Remote(bad), &flags("--quiet", None)), &[&format!("{file}:1:4: the file ends in the middle")]);
    }
    // The run could go on: the step was not taken, and is tried again.
    let mut trainer = trainer(recipe(16), [&[13], &[], &[]], &Faults::refused());
    let order = pspikessm::data::order(22, 0, 0);
    let step = order.iter().position(|&sample| sample == 13).unwrap() / 4;
    take(&mut trainer, step);
    for _ in 0..2 {
        mentions(&trainer.step().unwrap_err().to_string(), &["train/13.wav"]);
        assert_eq!(trainer.steps_done(), step as u64);
    }
}

#[test]
fn skipped_samples_are_counted_and_left_out() {
    let bad: Bad = [&[0, 13], &[4], &[2, 7, 8]];
    let faults = Faults::skipped();
    let mut trainer = trainer(recipe(12), bad, &faults);
    fit(&mut trainer, None, FitOptions::default(), &go()).unwrap();
    assert_eq!((trainer.steps_done(), faults.count()), (12, 3));
    let test = trainer.test(2, &go()).unwrap().unwrap();
    assert_eq!((faults.count(), faults.reports(1)), (6, vec!["test/02.wav:1:4: the file ends in the middle".to_string()]));
    for class in 0..2 {
        let readable = labels(9).iter().enumerate().filter(|&(n, &label)| label == class && !bad[2].contains(&n)).count() as u64;
        assert_eq!(test.confusion[class].iter().sum::<u64>(), 2 * readable);
    }
    // Without chance an evaluation is that of the others alone.
    let (cpu, stop) = (Cpu::<f32>::new(), go());
    let evaluator = Evaluator { backend: &cpu, model: trainer.model(), batch: 9, mode: SpikeMode::Expected, stop: &stop };
    let run = |set: &Dataset| evaluator.run(set, Key::new(0), 1).unwrap().map(|found| (found.loss, found.confusion));
    assert_eq!(run(&trainer.splits().test), run(&without(&trainer.splits().test, bad[2])));
    // And the command line does the same.
    let text = printed(&Remote(bad), &flags("--skip-bad --steps 12 --eval-passes 2", None));
    assert!(figures(&text).contains(&format!(" test_accuracy={:.4} ", test.metric)), "{text}");
}

#[test]
fn a_batch_of_bad_samples_only_is_left_out_of_an_evaluation() {
    // The last batch of nine by fours is sample 8 alone; the second one is samples 4 to 7.
    let cases: [&[usize]; 3] = [&[8], &[4, 5, 6, 7], &[0, 1, 2, 3, 8]];
    for bad in cases {
        let faults = Faults::skipped();
        let trainer = trainer(recipe(1), [&[], &[], bad], &faults);
        let found = trainer.test(1, &go()).unwrap().unwrap();
        assert_eq!(found.confusion.iter().flatten().sum::<u64>(), 9 - bad.len() as u64);
        assert_eq!(faults.count(), bad.len());
        // Also in the folder of a run, whose picture is of the first sample that can be read.
        let dir = tempfile::tempdir().unwrap();
        printed(&Remote([&[], &[], bad]), &flags("--skip-bad --steps 1", Some(dir.path())));
    }
    let all: Bad = [&[], &[], &[0, 1, 2, 3, 4, 5, 6, 7, 8]];
    mentions(&run_error(&Remote(all), &flags("--skip-bad --steps 1", None)), &["no sample", "--skip-bad"]);
}

#[test]
fn a_part_of_bad_samples_only_is_left_out_of_a_step() {
    let order = pspikessm::data::order(22, 0, 0);
    let first: &'static [usize] = Vec::leak(order[..2].to_vec());
    let recipe = changed(recipe(16), |r| r.run.accumulate = 2);
    let faults = Faults::skipped();
    let mut skipping = trainer(recipe.clone(), [first, &[], &[]], &faults);
    assert!(skipping.step().unwrap().unwrap().loss.is_finite());
    assert_eq!(faults.count(), 2);
    // What is left counts whole: the loss is the mean over the samples that were read.
    let mut plain = trainer(recipe.clone(), [&[], &[], &[]], &Faults::refused());
    assert_ne!(skipping.recent(1), plain.step().unwrap());
}

#[test]
fn a_step_of_bad_samples_only_is_left_out_and_counted() {
    let order = pspikessm::data::order(22, 0, 0);
    let whole: &'static [usize] = Vec::leak(order[..4].to_vec());
    let run = || trainer(recipe(12), [whole, &[], &[]], &Faults::skipped());
    let mut skipping = run();
    let fresh = bits(&skipping);
    assert_eq!(skipping.step().unwrap(), None);
    assert_eq!((skipping.steps_done(), skipping.left_out(), skipping.recent(1)), (1, 1, None));
    assert!(bits(&skipping) == fresh, "nothing is learnt of nothing");
    // The run goes on, and after a checkpoint as well.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("at.safetensors");
    skipping.save(&path).unwrap();
    crate::runs::advance(&mut skipping, 12);
    assert!(skipping.left_out() >= 1 && skipping.recent(1).unwrap().loss.is_finite());
    let mut resumed = run().resume(&path).unwrap();
    crate::runs::advance(&mut resumed, 12);
    assert_eq!(bits(&resumed), bits(&skipping));
    let text = printed(&Remote([whole, &[], &[]]), &flags("--skip-bad --steps 12", None));
    assert!(text.contains(" steps=12 "), "{text}");
}

#[test]
fn a_training_set_of_bad_samples_only_is_an_error() {
    let all: &'static [usize] = Vec::leak((0..22).collect());
    let error = run_error(&Remote([all, &[], &[]]), &flags("--skip-bad --steps 12", None));
    mentions(&error, &["none of the training samples", "--skip-bad"]);
}

#[test]
fn a_sample_that_vanishes_on_the_way_does_not_take_the_steps_before_it() {
    let dir = tempfile::tempdir().unwrap();
    // It comes in a later batch of the first epoch, then in the validation after it.
    let late = data::order(22, 0, 0)[13];
    let vanished: &'static [usize] = Vec::leak(vec![late]);
    for (number, (bad, step)) in [([vanished, &[], &[]], 3), ([&[], &[4], &[]], 6)].into_iter().enumerate() {
        let mut trainer = trainer(recipe(16), bad, &Faults::refused());
        let mut output = Output::create(dir.path().join(number.to_string())).unwrap();
        let error = fit(&mut trainer, Some(&mut output), FitOptions::default(), &go()).unwrap_err();
        mentions(&error.to_string(), &[".wav", "ends in the middle"]);
        let good: Bad = [&[], &[], &[]];
        let mut rest = self::trainer(recipe(16), good, &Faults::refused()).resume(output.checkpoint()).unwrap();
        assert_eq!((rest.steps_done(), bits(&rest)), (step, bits(&trainer)));
        // Once it is there again, the run is the one that never missed it.
        let mut whole = self::trainer(recipe(16), good, &Faults::refused());
        crate::runs::advance(&mut whole, 16);
        fit(&mut rest, Some(&mut output), FitOptions::default(), &go()).unwrap();
        assert_eq!(bits(&rest), bits(&whole));
    }
}

#[test]
fn skipping_is_the_same_every_time_and_goes_on_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("at.safetensors");
    let bad: Bad = [&[0, 5, 6, 13], &[4], &[]];
    let run = || trainer(recipe(16), bad, &Faults::skipped());
    let (mut whole, mut again) = (run(), run());
    crate::runs::advance(&mut whole, 7);
    whole.save(&path).unwrap();
    crate::runs::advance(&mut whole, 16);
    crate::runs::advance(&mut again, 16);
    assert_eq!(bits(&whole), bits(&again));
    let mut rest = run().resume(&path).unwrap();
    crate::runs::advance(&mut rest, 16);
    assert_eq!(bits(&rest), bits(&whole));
}

#[test]
fn samples_that_are_read_when_wanted_are_those_of_memory_bit_for_bit() {
    // The set in memory is copied by one thread, the other one is read by several.
    let faults = Faults::refused();
    let remote = splits([&[], &[], &[]], &faults);
    let held = |set: &Dataset| {
        let mut memory = Dataset::values(1, 2).unwrap();
        for (number, &label) in set.labels().iter().enumerate() {
            memory.push_values(set.batch(&[number]).unwrap().values().unwrap(), label).unwrap();
        }
        memory
    };
    let memory = Splits { train: held(&remote.train), val: held(&remote.val), test: held(&remote.test) };
    assert!(remote.train.is_remote() && !memory.train.is_remote());
    let run = |splits: &Splits| {
        let mut trainer = Trainer::new(&Cpu::<f32>::new(), "remote", recipe(16), splits.clone()).unwrap();
        crate::runs::advance(&mut trainer, 16);
        (bits(&trainer), trainer.test(2, &go()).unwrap())
    };
    assert!(run(&remote) == run(&memory));
}
