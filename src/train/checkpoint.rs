//! Checkpoints: everything that a run needs to go on as if it had never stopped, in one safetensors file.

use std::path::Path;

use super::trainer::{State, StepReport, Trainer};
use crate::backend::{Backend, Tensor};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::nn::store::{Archive, Stored};
use crate::nn::{Model, Module, Plateau};

const FORMAT: &str = "pspikessm training 1";
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
    read(path)?.load_module(backend, path, MODEL, model)
}

/// Reads a file and makes sure that a training run wrote it.
fn read(path: &Path) -> Result<Archive> {
    let archive = Archive::read(path)?;
    match archive.notes.get("format").map(String::as_str) {
        Some(FORMAT) => Ok(archive),
        Some(other) => {
            Err(Error::checkpoint(path, format!("has the format {other:?}, not {FORMAT:?}: take one that a training run wrote")))
        }
        None => Err(Error::checkpoint(path, "was not written by a training run of this crate: take one that was")),
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
        archive.notes.extend(self.identity().map(|(name, value)| (name.to_string(), value)));
        archive.notes.insert("format".into(), FORMAT.into());
        archive.notes.insert("step".into(), self.steps_done().to_string());
        archive.notes.insert("validated".into(), self.state.validated.to_string());
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
        let archive = read(path)?;
        archive.load_module(&self.backend, path, MODEL, &self.model)?;
        self.check_identity(&archive, path)?;
        let step = number(&archive, path, "step")?;
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
            validated: number(&archive, path, "validated")?,
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

    fn check_identity(&self, archive: &Archive, path: &Path) -> Result<()> {
        for (name, here) in self.identity() {
            match archive.notes.get(name) {
                Some(there) if *there == here => {}
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

fn number(archive: &Archive, path: &Path, name: &str) -> Result<u64> {
    archive.notes.get(name).and_then(|text| text.parse().ok()).ok_or_else(|| damaged(path, name))
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
