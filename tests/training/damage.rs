//! Checkpoints and models whose numbers are none, whose bytes were changed, or whose data were.

use std::fs;

use crate::runs::{Tiny, advance, bits, changed, flags, go, mentions, recipe, run_error, set, splits, take, trainer, trainer_of};
use pspikessm::Error;
use pspikessm::backend::*;
use pspikessm::data::{Dataset, Splits};
use pspikessm::nn::store::{Archive, Stored};
use pspikessm::nn::{Model, Module};
use pspikessm::train::{Evaluator, Trainer};

// What is not a number.

/// A checkpoint with a value in the place of the first one of a tensor.
fn with_value(path: &std::path::Path, name: &str, value: f64) {
    let mut saved = trainer();
    take(&mut saved, 2);
    saved.save(path).unwrap();
    let mut archive = Archive::read(path).unwrap();
    let stored = &archive.tensors[name];
    let mut values = stored.to_f64().unwrap();
    values[0] = value;
    let stored = Stored::new(&values, &stored.shape.clone());
    archive.tensors.insert(name.into(), stored);
    archive.write(path).unwrap();
}

#[test]
fn a_checkpoint_with_a_number_that_is_none_is_refused_by_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint.safetensors");
    let stored = format!("--checkpoint {}", path.display());
    for (value, called) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (-1e300, "too large for f32")] {
        with_value(&path, "model.decoder.weight", value);
        for line in [format!("{stored} --eval-only"), format!("{stored} --predict aab")] {
            mentions(&run_error(&Tiny, &flags(&line, None)), &["model.decoder.weight", called]);
        }
        mentions(&run_error(&Tiny, &flags("--resume", Some(dir.path()))), &["model.decoder.weight", called]);
        for moment in ["first_moment.decoder.weight", "second_moment.decoder.weight"] {
            with_value(&path, moment, value);
            mentions(&run_error(&Tiny, &flags("--resume", Some(dir.path()))), &[moment, called]);
        }
    }
    for name in ["moved", "recent"] {
        with_value(&path, name, f64::NAN);
        mentions(&run_error(&Tiny, &flags("--resume", Some(dir.path()))), &["damaged", name]);
    }
}

#[test]
fn a_logit_that_is_not_a_number_is_no_class() {
    let (cpu, stop, set) = (Cpu::<f32>::new(), go(), splits().test);
    // A value that is none, and one with which the logits exceed every number.
    for (value, cause) in [(f64::NAN, "decoder.weight is not finite"), (3e38, "weights are too large")] {
        let trained = trainer();
        let find = |name: &str| trained.model().parameters().into_iter().find(|(own, _)| own == name).unwrap().1;
        let weight = find("decoder.weight");
        weight.set(cpu.full(weight.value().shape(), value).unwrap()).unwrap();
        let bias = find("decoder.bias");
        bias.set(cpu.full(bias.value().shape(), 3e38).unwrap()).unwrap();
        let evaluator = Evaluator { backend: &cpu, model: trained.model(), batch: 3, mode: SpikeMode::Sampled, stop: &stop };
        mentions(&evaluator.run(&set, Key::new(0), 1).unwrap_err().to_string(), &["sample 0", "not numbers", "no class", cause]);
        mentions(&evaluator.predict(&set, Key::new(0), 1).unwrap_err().to_string(), &["not numbers", cause]);
    }
    // A class that is ruled out is none of these: its logit is -inf.
    let trained = trainer();
    let (_, bias) = trained.model().parameters().into_iter().find(|(name, _)| name == "decoder.bias").unwrap();
    bias.set(cpu.from_vec(vec![0.5, f32::NEG_INFINITY], &[2]).unwrap()).unwrap();
    let evaluator = Evaluator { backend: &cpu, model: trained.model(), batch: 3, mode: SpikeMode::Sampled, stop: &stop };
    assert!(evaluator.predict(&set, Key::new(0), 1).unwrap().iter().all(|row| row[..] == [1.0, 0.0]));
}

#[test]
fn a_moment_that_overflows_is_not_saved() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("at.safetensors");
    let (cpu, mut trained) = (Cpu::<f32>::new(), trainer());
    // Gradients of 1e25 are numbers, their squares are none in f32.
    let (_, weight) = trained.model().parameters().into_iter().find(|(name, _)| name == "decoder.weight").unwrap();
    weight.set(cpu.from_vec((0..8).map(|i| if i < 4 { 1e25 } else { -1e25 }).collect(), &[2, 4]).unwrap()).unwrap();
    take(&mut trained, 1);
    let error = trained.save(&path).unwrap_err();
    assert!(matches!(error, Error::NonFinite { step: 1, .. }));
    mentions(&error.to_string(), &["second_moment.", "not finite"]);
    assert!(!path.exists());
}

// Bytes that were changed.

#[test]
fn a_checkpoint_with_any_byte_changed_is_refused_or_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("at.safetensors");
    let mut saved = trainer_of(changed(recipe(16), |recipe| recipe.model.layers = 1));
    advance(&mut saved, 7);
    saved.save(&path).unwrap();
    let (whole, archive) = (fs::read(&path).unwrap(), Archive::read(&path).unwrap());
    let (mut bytes, mut same) = (whole.clone(), 0);
    for at in 0..bytes.len() {
        for flip in [1 << (at % 8), 0xff] {
            bytes[at] ^= flip;
            fs::write(&path, &bytes).unwrap();
            bytes[at] ^= flip;
            // Whatever reads checkpoints reads them as an archive first.
            let Ok(found) = Archive::read(&path) else { continue };
            same += 1;
            assert!(found.tensors == archive.tensors, "byte {at} changed by {flip:#04x} changed a tensor");
            let resumed = trainer_of(saved.recipe().clone()).resume(&path);
            assert!(resumed.is_ok_and(|resumed| bits(&resumed) == bits(&saved)) || Model::open(&Cpu::<f32>::new(), &path).is_err());
        }
    }
    assert!(same < 100, "{same} of {} flips were not noticed", 2 * whole.len());
}

#[test]
fn a_recipe_that_was_changed_in_a_checkpoint_does_not_fit_its_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint.safetensors");
    let mut saved = trainer();
    take(&mut saved, 2);
    saved.save(&path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(11).position(|window| window == b"d_model = 4").unwrap();
    bytes[at + 10] = b'9';
    fs::write(&path, bytes).unwrap();
    let stored = format!("--checkpoint {}", path.display());
    for line in [format!("{stored} --eval-only"), format!("{stored} --predict aab")] {
        mentions(&run_error(&Tiny, &flags(&line, None)), &["damaged", "checksum"]);
    }
    mentions(&run_error(&Tiny, &flags("--resume", Some(dir.path()))), &["damaged", "checksum"]);
}

// Data that were changed.

/// The set with the symbols of one sequence turned round; labels and lengths stay.
fn edited(set: &Dataset) -> Dataset {
    let mut other = Dataset::tokens(set.vocabulary().unwrap().clone(), set.classes());
    for (index, &label) in set.labels().iter().enumerate() {
        let ids: Vec<u8> = set.sequence(index).unwrap().iter().map(|&id| if index == 3 { 7 - id } else { id }).collect();
        other.push_tokens(&ids, label).unwrap();
    }
    other
}

#[test]
fn a_run_does_not_go_on_with_other_texts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("at.safetensors");
    let mut saved = trainer();
    take(&mut saved, 2);
    saved.save(&path).unwrap();
    let resumed = |splits| Trainer::new(&Cpu::<f32>::new(), "tiny", recipe(16), splits).unwrap().resume(&path);
    resumed(splits()).unwrap();
    let Splits { train, val, test } = splits();
    for (changed, name) in [
        (Splits { train: edited(&train), ..splits() }, "training data"),
        (Splits { val: edited(&val), ..splits() }, "validation data"),
        (Splits { test: edited(&test), ..splits() }, "test data"),
        (Splits { train: set(22, 9, false), ..splits() }, "training data"),
    ] {
        mentions(&resumed(changed).unwrap_err().to_string(), &[name, "samples with checksum", "same settings and data"]);
    }
}
