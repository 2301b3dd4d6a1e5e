//! Checkpoints: everything that a run needs to go on as if it had never stopped, in one safetensors file.

use std::path::Path;

use serde_json::{Map, Value};

use super::trainer::{State, StepReport, Trainer};
use crate::backend::{Backend, Tensor};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::nn::store::{Archive, Stored};
use crate::nn::{Model, Module, Plateau};

/// The one note of the file, a JSON object: safetensors writes several notes in random order, and the same run would not give the
/// same file.
const NOTE: &str = "pspikessm training";
const FORMAT: u64 = 1;
const MODEL: &str = "model.";
const MOMENTS: [&str; 2] = ["first_moment.", "second_moment."];
const RECENT: &str = "recent";
const PLATEAU: &str = "plateau";

/// Sets a model's parameters and buffers from the checkpoint of a training run.
///
/// # Errors
/// As [`Trainer::resume`]; on an error nothing is set.
pub fn load_weights<B: Backend>(backend: &B, model: &Model<B>, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let (archive, _) = read(path)?;
    archive.load_module(backend, path, MODEL, model)
}

/// What a checkpoint says about its run.
type Notes = Map<String, Value>;

/// Reads a file and makes sure that a training run wrote it.
fn read(path: &Path) -> Result<(Archive, Notes)> {
    let archive = Archive::read(path)?;
    let Some(note) = archive.notes.get(NOTE) else {
        return Err(Error::checkpoint(path, "was not written by a training run of this crate: take one that was"));
    };
    let notes: Notes = serde_json::from_str(note).map_err(|_| damaged(path, NOTE))?;
    match number(&notes, path, "format")? {
        FORMAT => Ok((archive, notes)),
        other => Err(Error::checkpoint(
            path,
            format!("has format {other}, and this version of the crate reads {FORMAT}: use the version that wrote it"),
        )),
    }
}

/// What tells data sets apart: the number of samples and a hash (FNV-1a) of their labels.
fn fingerprint(set: &Dataset) -> String {
    let hash = set.labels().iter().fold(0xcbf2_9ce4_8422_2325, |hash, &label| (hash ^ label as u64).wrapping_mul(0x0100_0000_01b3));
    format!("{} samples, labels {hash:016x}", set.len())
}

impl<B: Backend> Trainer<B> {
    /// Writes the run to a file: weights and buffers, moments and step, schedule, position and recent losses. The file is there whole
    /// or not at all; one that was there before stays until then.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written; [`Error::NonFinite`] where a parameter is: such a run is not worth keeping.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        if let Some(what) = self.first_bad_value()? {
            return Err(Error::NonFinite { what, step: self.steps_done() });
        }
        let mut archive = Archive::default();
        let mut notes: Notes = self.identity().map(|(name, value)| (name.into(), value.into())).collect();
        for (name, value) in [("format", FORMAT), ("step", self.steps_done()), ("validated", self.state.validated)] {
            notes.insert(name.into(), value.into());
        }
        archive.notes.insert(NOTE.into(), Value::Object(notes).to_string());
        archive.insert_module(&self.backend, MODEL, &self.model)?;
        for (name, moments) in &self.optimizer.moments {
            for (prefix, moment) in MOMENTS.iter().zip(moments) {
                archive.insert(&self.backend, format!("{prefix}{name}"), moment)?;
            }
        }
        let recent: Vec<f64> = self.state.recent.iter().flat_map(|r| [r.loss, r.accuracy]).collect();
        archive.tensors.insert(RECENT.into(), Stored::new(&recent, &[recent.len() / 2, 2]));
        if let Some(Plateau { factor, best, waited, .. }) = self.state.plateau {
            archive.tensors.insert(PLATEAU.into(), Stored::new(&[factor, best, waited as f64], &[3]));
        }
        archive.write(path)
    }

    /// This run at the point where a checkpoint was written.
    ///
    /// # Errors
    /// [`Error::Io`] where there is no such file, [`Error::Checkpoint`] where it is truncated, foreign, or of another run. Of another
    /// architecture it names the first parameter that differs, otherwise the first value of the recipe.
    pub fn resume(mut self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (archive, notes) = read(path)?;
        archive.load_module(&self.backend, path, MODEL, &self.model)?;
        self.check_identity(&notes, path)?;
        let step = number(&notes, path, "step")?;
        if step > self.steps_total() {
            let help = format!("is from step {step}, and this run ends at step {}: ask for more steps", self.steps_total());
            return Err(Error::checkpoint(path, help));
        }
        self.optimizer.step = step;
        self.optimizer.moments.clear();
        for (name, param) in self.model.parameters().into_iter().filter(|(_, param)| param.is_trained()) {
            if let Some(moments) = self.stored_moments(&archive, path, &name, param.value().shape())? {
                self.optimizer.moments.insert(name, moments);
            }
        }
        self.state = State {
            validated: number(&notes, path, "validated")?,
            plateau: self.state.plateau.map(|plateau| stored_plateau(&archive, path, plateau)).transpose()?,
            recent: stored_recent(&archive, path)?.into(),
        };
        Ok(self)
    }

    /// The two moments of a parameter; `None` where it never had a gradient.
    fn stored_moments(&self, archive: &Archive, path: &Path, name: &str, shape: &[usize]) -> Result<Option<[Tensor<B>; 2]>> {
        let names = MOMENTS.map(|prefix| format!("{prefix}{name}"));
        if names.iter().all(|name| !archive.tensors.contains_key(name)) {
            return Ok(None);
        }
        let [first, second] = names.map(|name| archive.tensor(&self.backend, path, &name, shape));
        Ok(Some([first?, second?]))
    }

    /// What must be the same before and after an interruption.
    fn identity(&self) -> impl Iterator<Item = (&'static str, String)> {
        let own = [("task", self.task.clone()), ("data", fingerprint(&self.splits.train))];
        own.into_iter().chain(self.recipe.fields())
    }

    fn check_identity(&self, notes: &Notes, path: &Path) -> Result<()> {
        for (name, here) in self.identity() {
            match notes.get(name).and_then(Value::as_str) {
                Some(there) if there == here => {}
                Some(there) => {
                    let help = format!("is of a run with {name} = {there}, this one has {name} = {here}: resume with the same settings");
                    return Err(Error::checkpoint(path, help));
                }
                None => return Err(damaged(path, name)),
            }
        }
        Ok(())
    }
}

fn damaged(path: &Path, name: &str) -> Error {
    Error::checkpoint(path, format!("is damaged: {name} is missing or unreadable; take an earlier one"))
}

fn number(notes: &Notes, path: &Path, name: &str) -> Result<u64> {
    notes.get(name).and_then(Value::as_u64).ok_or_else(|| damaged(path, name))
}

fn stored_plateau(archive: &Archive, path: &Path, plateau: Plateau) -> Result<Plateau> {
    match archive.tensors.get(PLATEAU).and_then(Stored::to_f64).as_deref() {
        Some(&[factor, best, waited]) => Ok(Plateau { factor, best, waited: waited as u64, ..plateau }),
        _ => Err(damaged(path, PLATEAU)),
    }
}

fn stored_recent(archive: &Archive, path: &Path) -> Result<Vec<StepReport>> {
    let values = archive.tensors.get(RECENT).and_then(Stored::to_f64).ok_or_else(|| damaged(path, RECENT))?;
    Ok(values.as_chunks::<2>().0.iter().map(|&[loss, accuracy]| StepReport { loss, accuracy }).collect())
}
