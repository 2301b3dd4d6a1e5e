//! An average of the weights in a run: what it is, who takes it, and that a run goes on with it bit for bit.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::runs::{Tiny, advance, bits, changed, flags, go, mentions, metrics, recipe, result, take, trainer_of, without_seconds};
use pspikessm::backend::*;
use pspikessm::nn::store::Archive;
use pspikessm::nn::{Model, Module, ParamOptions};
use pspikessm::train::{Recipe, Trainer, load_weights};

const DECAY: f64 = 0.75;

fn averaged(steps: u64) -> Recipe {
    changed(recipe(steps), |r| r.run.ema = Some(DECAY))
}

fn values(module: &dyn Module<Cpu<f32>>) -> BTreeMap<String, Vec<f32>> {
    module.parameters().into_iter().map(|(name, param)| (name, Cpu::new().to_vec(&param.value()).unwrap())).collect()
}

/// The tensors of a checkpoint whose names begin with `prefix`.
fn stored(path: &Path, prefix: &str) -> BTreeMap<String, Vec<f64>> {
    let tensors = Archive::read(path).unwrap().tensors;
    tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_string(), tensor.to_f64()?))).collect()
}

#[test]
fn the_average_is_the_recurrence_of_the_weights() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("at.safetensors");
    let (mut trainer, mut plain) = (trainer_of(averaged(9)), trainer_of(recipe(9)));
    let mut wanted = BTreeMap::<String, Vec<f64>>::new();
    for step in 0..7 {
        take(&mut trainer, 1);
        take(&mut plain, 1);
        for (name, param) in trainer.model().parameters() {
            let new: Vec<f64> = Cpu::<f32>::new().to_vec(&param.value()).unwrap().into_iter().map(f64::from).collect();
            let copied = step == 0 || param.options() == ParamOptions::Buffer;
            let old = wanted.remove(&name).filter(|_| !copied).unwrap_or_else(|| new.clone());
            wanted.insert(name, old.iter().zip(&new).map(|(old, new)| DECAY * old + (1.0 - DECAY) * new).collect());
        }
    }
    // What is trained does not know of it.
    assert_eq!(bits(&trainer), bits(&plain));
    trainer.save(&path).unwrap();
    let found = stored(&path, "average.");
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (name, wanted) in &wanted {
        for (found, wanted) in found[name].iter().zip(wanted) {
            assert!((found - wanted).abs() <= 1e-6 * wanted.abs().max(1e-3), "{name}: {found} is not {wanted}");
        }
    }
    let own: BTreeMap<String, Vec<f64>> =
        values(trainer.model()).into_iter().map(|(name, v)| (name, v.into_iter().map(f64::from).collect())).collect();
    assert_eq!(stored(&path, "model."), own);
    assert_ne!(found, own);
}

#[test]
fn evaluations_and_whoever_opens_a_checkpoint_take_the_average() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("at.safetensors");
    let mut trainer = trainer_of(averaged(9));
    advance(&mut trainer, 9);
    trainer.save(&path).unwrap();
    let before = bits(&trainer);
    let test = trainer.test(3, &go()).unwrap().unwrap();
    assert_eq!(bits(&trainer), before, "the weights stand in the model again");
    let average = stored(&path, "average.");
    let (cpu, fresh) = (Cpu::<f32>::new(), trainer_of(changed(recipe(9), |r| r.run.seed = 7)));
    load_weights(&cpu, fresh.model(), &path).unwrap();
    for module in [fresh.model(), &Model::open(&cpu, &path).unwrap()] {
        let found = values(module);
        assert!(found.iter().all(|(name, values)| values.iter().map(|&v| f64::from(v)).eq(average[name].iter().copied())));
    }
    // Another trainer with these weights, whether it averages or not, and one that goes on, say the same of the test set.
    for recipe in [recipe(9), averaged(9)] {
        assert_eq!(trainer_of(recipe).with_weights(&path).unwrap().test(3, &go()).unwrap().unwrap(), test);
    }
    assert_eq!(trainer_of(averaged(9)).resume(&path).unwrap().test(3, &go()).unwrap().unwrap(), test);
    // The weights themselves say something else.
    let mut plain = trainer_of(recipe(9));
    advance(&mut plain, 9);
    assert_ne!(plain.test(3, &go()).unwrap().unwrap(), test);
}

/// Kernels that are made for the first length that comes, and made longer for longer ones.
fn growing(steps: u64) -> Recipe {
    let mut recipe = changed(averaged(steps), |r| r.run.batch = 1);
    recipe.model.block.ssm.l_max = None;
    recipe
}

#[test]
fn a_resumed_run_averages_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let [at, end, other] = ["at", "end", "other"].map(|name| dir.path().join(name));
    for recipe in [averaged(16), growing(16), changed(averaged(16), |r| (r.run.batch, r.run.accumulate) = (4, 2))] {
        let mut whole = trainer_of(recipe.clone());
        advance(&mut whole, 16);
        whole.save(&end).unwrap();
        for step in [0, 1, 6, 13] {
            let mut part = trainer_of(recipe.clone());
            advance(&mut part, step);
            part.save(&at).unwrap();
            let mut rest = trainer_of(recipe.clone()).resume(&at).unwrap();
            advance(&mut rest, 16);
            rest.save(&other).unwrap();
            assert!(fs::read(&other).unwrap() == fs::read(&end).unwrap(), "from step {step}");
        }
    }
}

#[test]
fn kernels_that_grow_grow_in_the_average_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("at.safetensors");
    let lengths = |trainer: &Trainer<Cpu<f32>>, prefix: &str| -> Vec<f64> {
        trainer.save(&path).unwrap();
        stored(&path, prefix).into_iter().filter(|(name, _)| name.ends_with("l_kernel")).flat_map(|(_, length)| length).collect()
    };
    let mut grown = 0;
    for seed in 0..4 {
        let mut trainer = trainer_of(changed(growing(20), |r| r.run.seed = seed));
        let mut seen = Vec::new();
        for _ in 0..20 {
            take(&mut trainer, 1);
            let own = lengths(&trainer, "model.");
            assert!(!own.is_empty() && own == lengths(&trainer, "average."));
            seen.push(own);
        }
        grown += usize::from(seen.first() != seen.last());
    }
    assert!(grown > 0, "no longer sequence came after the first");
    // With a decay of 0 the average is the weights, before and after.
    let mut trainer = trainer_of(changed(growing(20), |r| r.run.ema = Some(0.0)));
    take(&mut trainer, 20);
    trainer.save(&path).unwrap();
    assert_eq!(stored(&path, "model."), stored(&path, "average."));
}

#[test]
fn an_averaged_run_that_is_interrupted_writes_the_same() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let line = "--quiet --set run.ema=0.9";
    let wanted = result(&Tiny, &flags(line, Some(whole.path()))).1;
    result(&Tiny, &flags(line, Some(parts.path())));
    let mut part = trainer_of(changed(recipe(16), |r| r.run.ema = Some(0.9)));
    advance(&mut part, 9);
    part.save(parts.path().join("checkpoint.safetensors")).unwrap();
    assert_eq!(result(&Tiny, &flags("--quiet --resume", Some(parts.path()))).1, wanted);
    let [a, b] = [whole.path(), parts.path()].map(|dir| without_seconds(metrics(dir)));
    assert_eq!(a, b);
    for file in ["checkpoint.safetensors", "best.safetensors", "raster.svg", "kernels.svg"] {
        assert!(fs::read(whole.path().join(file)).unwrap() == fs::read(parts.path().join(file)).unwrap(), "{file}");
    }
    // The checkpoint says the same of the test set.
    let checkpoint = whole.path().join("checkpoint.safetensors");
    assert_eq!(result(&Tiny, &flags(&format!("--quiet --eval-only --checkpoint {}", checkpoint.display()), None)).1, wanted);
}

#[test]
fn an_average_that_makes_no_sense_is_refused() {
    for decay in [1.0, -0.1, 2.0, f64::NAN] {
        let error = changed(recipe(2), |r| r.run.ema = Some(decay)).check().unwrap_err().to_string();
        mentions(&error, &["ema = ", "[0, 1)"]);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("at.safetensors");
    trainer_of(averaged(4)).save(&path).unwrap();
    for other in [recipe(4), changed(recipe(4), |r| r.run.ema = Some(0.5))] {
        mentions(&trainer_of(other).resume(&path).unwrap_err().to_string(), &["run.ema = 0.75"]);
    }
    trainer_of(recipe(4)).save(&path).unwrap();
    mentions(&trainer_of(averaged(4)).resume(&path).unwrap_err().to_string(), &["run.ema = none"]);
}
