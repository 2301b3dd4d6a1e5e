//! Checkpoints: everything that a run needs to go on as if it had never stopped, in one safetensors file.
//!
//! The file's checksum (see [`store`](crate::nn::store)) covers all of it, so a changed byte is found when it is read. Of the data stands in
//! it, for each part, the number of samples and a checksum of all of them: a run goes on with the same data only.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::learner::{Learner, MODEL};
use super::stored_set::{Notes, damaged, number, stored_set};
use super::trainer::{State, StepReport, Trainer};
use super::{Recipe, recipe};
use crate::backend::Backend;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::nn::store::{Archive, PREFIX, Stored};
use crate::nn::{Ema, Model, Param, ParamState, Plateau, UpdateRule};

const FORMAT: u64 = 4;
/// How often each parameter was moved, in the order of their names. What else the optimiser remembers of one stands under the slot's name and
/// the parameter's, as in "first_moment.encoder.weight".
const MOVED: &str = "moved";
const RECIPE: &str = "recipe";
/// What stands in the recipe's place where there is none.
const PLAN: &str = "plan";
/// The learner's own.
const SETTINGS: &str = "settings";
const RECENT: &str = "recent";
const PLATEAU: &str = "plateau";
const BEST: &str = "best";
/// Says of a file that it is a model for use.
const ALONE: &str = "model_alone";

/// What the names of the averaged parameters begin with, and how many steps are in the average.
const AVERAGE: &str = "average.";
const AVERAGED: &str = "averaged";

/// What the names of the parameters begin with that are to be used: those of the average, where there is one.
fn best_prefix(notes: &Notes) -> &'static str {
    if notes.contains_key(AVERAGED) { AVERAGE } else { MODEL }
}

/// Sets a model's parameters and buffers from the checkpoint of a training run, to their average over the steps where that was kept.
///
/// # Errors
/// As [`Trainer::resume`]; on an error nothing is set.
pub fn load_weights<B: Backend>(backend: &B, model: &Model<B>, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let (archive, notes) = read(path)?;
    archive.load_module(backend, path, best_prefix(&notes), model)
}

/// What a checkpoint says about the run that wrote it: enough to use its model without that run's data.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// The name of the task.
    pub task: String,
    /// The whole recipe.
    pub recipe: Recipe,
    /// An empty data set with the encoding and the classes of the training set.
    pub set: Dataset,
    /// Steps that were taken.
    pub step: u64,
    /// The mean of the last of them, of 100 at most; `None` before the first.
    pub recent: Option<StepReport>,
}

impl Origin {
    /// Reads it from a file.
    ///
    /// # Errors
    /// As [`Trainer::resume`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::found_in(&Archive::read(path)?, path)
    }

    fn found_in(archive: &Archive, path: &Path) -> Result<Self> {
        let notes = notes(archive, path)?;
        let text = |name| notes.get(name).and_then(Value::as_str).ok_or_else(|| damaged(path, name));
        let recipe = Recipe::parse(text(RECIPE)?, path)?;
        Ok(Origin {
            task: text("task")?.into(),
            recipe,
            set: stored_set(archive, &notes, path)?,
            step: number(&notes, path, "step")?,
            recent: StepReport::mean(stored_recent(archive, path)?.iter().rev()),
        })
    }

    /// The same of a file that must be of the task called `task`.
    pub(super) fn of_task(path: &Path, task: &str) -> Result<Self> {
        Self::of(&Archive::read(path)?, path, task)
    }

    /// The same of the content of the file `path`.
    pub(super) fn of(archive: &Archive, path: &Path, task: &str) -> Result<Self> {
        let origin = Self::found_in(archive, path)?;
        match origin.task == task {
            true => Ok(origin),
            false => Err(Error::checkpoint(path, format!("is of the task {}, this is {task}: run that example", origin.task))),
        }
    }
}

/// Reads a file and makes sure that a training run wrote it.
fn read(path: &Path) -> Result<(Archive, Notes)> {
    checked(Archive::read(path)?, path)
}

fn checked(archive: Archive, path: &Path) -> Result<(Archive, Notes)> {
    let notes = notes(&archive, path)?;
    Ok((archive, notes))
}

/// What stands in a file that a training run wrote.
fn notes(archive: &Archive, path: &Path) -> Result<Notes> {
    let notes = archive.note(path)?;
    if !notes.contains_key("format") {
        return Err(Error::checkpoint(path, "was not written by a training run of this crate: take one that was"));
    }
    match number(&notes, path, "format")? {
        FORMAT => Ok(notes),
        other => Err(Error::checkpoint(
            path,
            format!("has format {other}, and this version of the crate reads {FORMAT}: use the version that wrote it"),
        )),
    }
}

impl<B: Backend, L: Learner<B>> Trainer<B, L> {
    /// Writes the run to a file: weights and buffers, moments and step, schedule, position and recent losses. The file is there whole
    /// or not at all; one that was there before stays until then.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written; [`Error::NonFinite`] where a parameter or a moment is: such a run is not worth keeping.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        if let Some(what) = self.first_bad_moment()? {
            return Err(Error::NonFinite { what, step: self.steps_done() });
        }
        let mut archive = self.archive()?;
        self.store_average(path.as_ref(), &mut archive)?;
        self.store_moments(&mut archive)?;
        archive.write(path)
    }

    /// Writes the model (of a run that averages its weights: their average) with its recipe, and all that is known of the run but what only
    /// its next step would need: a third of a checkpoint. [`Origin::read`] and [`load_weights`] read it, and no run goes on from it.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_model(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut archive = self.on_average(|| self.archive())??;
        let mut notes = archive.note(path.as_ref())?;
        notes.insert(ALONE.into(), true.into());
        archive.set_note(notes);
        archive.write(path)
    }

    /// The run without the optimiser's moments.
    fn archive(&self) -> Result<Archive> {
        if let Some(what) = self.first_bad_value()? {
            return Err(Error::NonFinite { what, step: self.steps_done() });
        }
        let mut archive = Archive::default();
        let mut notes = Notes::new();
        notes.insert("task".into(), self.task.as_str().into());
        let data = self.data.iter().map(|(part, says)| (part.clone(), says.as_str().into()));
        notes.insert("data".into(), data.collect::<Notes>().into());
        match self.learner.recipe() {
            Some(recipe) => notes.insert(RECIPE.into(), recipe.to_toml()?.into()),
            None => notes.insert(PLAN.into(), recipe::to_toml(&self.plan)?.into()),
        };
        let settings: Notes = self.learner.settings().into_iter().map(|(name, value)| (name, value.into())).collect();
        if !settings.is_empty() {
            notes.insert(SETTINGS.into(), settings.into());
        }
        notes.insert(PREFIX.into(), MODEL.into());
        for (name, value) in [("format", FORMAT), ("step", self.steps_done()), ("validated", self.state.validated)] {
            notes.insert(name.into(), value.into());
        }
        archive.set_note(notes);
        self.learner.describe(&mut archive)?;
        archive.insert_module(&self.backend, MODEL, self.learner.module())?;
        let recent: Vec<f64> = self.state.recent.iter().flat_map(|r| [r.loss, r.metric]).collect();
        archive.tensors.insert(RECENT.into(), Stored::new(&recent, &[recent.len() / 2, 2]));
        if let Some(Plateau { factor, best, waited, .. }) = self.state.plateau {
            archive.tensors.insert(PLATEAU.into(), Stored::new(&[factor, best, waited as f64], &[3]));
        }
        if let Some((epoch, metric)) = self.state.best {
            archive.tensors.insert(BEST.into(), Stored::new(&[epoch as f64, metric], &[2]));
        }
        Ok(archive)
    }

    /// This run at the point where a checkpoint was written.
    ///
    /// # Errors
    /// [`Error::Io`] where there is no such file, [`Error::Checkpoint`] where it is truncated, foreign, or of another run. Of another
    /// architecture it names the first parameter that differs, otherwise the first value of the recipe.
    pub fn resume(self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        self.resume_from(Archive::read(path)?, path)
    }

    /// The same from the content of the file `path`.
    pub(super) fn resume_from(mut self, archive: Archive, path: &Path) -> Result<Self> {
        let (archive, notes) = checked(archive, path)?;
        archive.load_module(&self.backend, path, MODEL, self.learner.module())?;
        self.check_identity(&notes, path)?;
        if notes.contains_key(ALONE) {
            let help = "is a model for use, without the optimiser's moments: a run goes on from its checkpoint.safetensors";
            return Err(Error::checkpoint(path, help));
        }
        self.ema = match self.plan.run.ema {
            Some(decay) => {
                let ema = Ema::new(self.learner.module(), decay)?.with_updates(number(&notes, path, AVERAGED)?);
                archive.load_module(&self.backend, path, AVERAGE, &ema)?;
                Some(Mutex::new(ema))
            }
            None => None,
        };
        let step = number(&notes, path, "step")?;
        if step > self.steps_total() {
            let help = format!("is from step {step}, and this run ends at step {}: ask for more steps", self.steps_total());
            return Err(Error::checkpoint(path, help));
        }
        self.rewind_data();
        self.optimizer.restore(step, self.stored_moments(&archive, path)?)?;
        self.state = State {
            validated: number(&notes, path, "validated")?,
            best: stored_best(&archive, path)?,
            plateau: self.state.plateau.map(|plateau| stored_plateau(&archive, path, plateau)).transpose()?,
            recent: stored_recent(&archive, path)?.into(),
        };
        Ok(self)
    }

    /// This run before its first step, with the weights of another one.
    ///
    /// # Errors
    /// As [`load_weights`].
    pub fn with_weights(self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        self.with_weights_from(Archive::read(path)?, path)
    }

    /// The same from the content of the file `path`.
    pub(super) fn with_weights_from(mut self, archive: Archive, path: &Path) -> Result<Self> {
        let (archive, notes) = checked(archive, path)?;
        archive.load_module(&self.backend, path, best_prefix(&notes), self.learner.module())?;
        if let Some(decay) = self.plan.run.ema {
            self.ema = Some(Mutex::new(Ema::new(self.learner.module(), decay)?));
        }
        Ok(self)
    }

    /// Writes the average of the weights, if there is one, and says that it is what a model is to be made of.
    fn store_average(&self, path: &Path, archive: &mut Archive) -> Result<()> {
        let Some(ema) = &self.ema else { return Ok(()) };
        let ema = ema.lock().unwrap_or_else(PoisonError::into_inner);
        archive.insert_module(&self.backend, AVERAGE, &*ema)?;
        let mut notes = archive.note(path)?;
        notes.insert(PREFIX.into(), AVERAGE.into());
        notes.insert(AVERAGED.into(), ema.updates().into());
        archive.set_note(notes);
        Ok(())
    }

    /// The first slot of the optimiser that is not finite: the square of a gradient may exceed what the gradient itself does not.
    fn first_bad_moment(&self) -> Result<Option<String>> {
        let (mut names, mut moments) = (Vec::new(), Vec::new());
        for (name, param) in self.learner.module().parameters() {
            let Some(state) = self.optimizer.state(&param) else { continue };
            names.extend(self.slots(&name));
            moments.extend(&state.slots);
        }
        Ok(self.backend.first_not_finite(&moments)?.map(|place| names.swap_remove(place)))
    }

    /// What the slots of the parameter called `name` are called in the file.
    fn slots(&self, name: &str) -> impl Iterator<Item = String> {
        UpdateRule::<B>::slots(&self.optimizer.config).iter().map(move |slot| format!("{slot}.{name}"))
    }

    /// Writes what the optimiser remembers, by the parameters' names.
    fn store_moments(&self, archive: &mut Archive) -> Result<()> {
        let mut moved = Vec::new();
        for (name, param) in self.learner.module().parameters() {
            let Some(state) = self.optimizer.state(&param) else {
                // Where no slot tells that a parameter was never moved, its count does.
                moved.extend(self.slots(&name).next().is_none().then_some(0.0));
                continue;
            };
            moved.push(state.step as f64);
            for (name, slot) in self.slots(&name).zip(&state.slots) {
                archive.insert(&self.backend, name, slot)?;
            }
        }
        archive.tensors.insert(MOVED.into(), Stored::new(&moved, &[moved.len()]));
        Ok(())
    }

    /// What [`store_moments`](Self::store_moments) wrote; a parameter that never had a gradient has none.
    fn stored_moments(&self, archive: &Archive, path: &Path) -> Result<Vec<(Param<B>, ParamState<B>)>> {
        let mut moved = numbers(archive, path, MOVED)?.into_iter();
        let mut found = Vec::new();
        for (name, param) in self.learner.module().parameters() {
            let names: Vec<String> = self.slots(&name).collect();
            if !names.is_empty() && names.iter().all(|name| !archive.tensors.contains_key(name)) {
                continue;
            }
            let shape = param.value().shape().to_vec();
            let slots = names.iter().map(|name| archive.tensor(&self.backend, path, name, &shape)).collect::<Result<_>>()?;
            let step = moved.next().ok_or_else(|| damaged(path, MOVED))? as u64;
            if step > 0 {
                found.push((param, ParamState { step, slots }));
            }
        }
        Ok(found)
    }

    /// Refuses a run that differs in what must be the same before and after an interruption.
    fn check_identity(&self, notes: &Notes, path: &Path) -> Result<()> {
        let text = |name| notes.get(name).and_then(Value::as_str).ok_or_else(|| damaged(path, name));
        let own = |name: &str, value: String| BTreeMap::from([(name.to_string(), value)]);
        let differs = |there: BTreeMap<String, String>, here: BTreeMap<String, String>| {
            let value = |of: &BTreeMap<String, String>, name: &str| of.get(name).map_or("none".into(), String::clone);
            let Some(name) = there.keys().chain(here.keys()).find(|name| there.get(*name) != here.get(*name)) else { return Ok(()) };
            let [there, here] = [&there, &here].map(|of| value(of, name));
            let help = format!("is of a run with {name} = {there}, this one has {name} = {here}: resume with the same settings and data");
            Err(Error::checkpoint(path, help))
        };
        differs(own("task", text("task")?.into()), own("task", self.task.clone()))?;
        let data = notes.get("data").map(|data| serde_json::from_value(data.clone())).and_then(Result::ok);
        differs(data.ok_or_else(|| damaged(path, "data"))?, self.data.clone())?;
        let stored = notes.get(SETTINGS).map_or(Ok(BTreeMap::new()), |settings| serde_json::from_value(settings.clone()));
        differs(stored.map_err(|_| damaged(path, SETTINGS))?, self.learner.settings())?;
        match self.learner.recipe() {
            Some(own) => differs(Recipe::parse(text(RECIPE)?, path)?.identity()?, own.identity()?),
            None => differs(recipe::identity(&recipe::stored_plan(text(PLAN)?, path)?)?, recipe::identity(&self.plan)?),
        }
    }
}

/// The values of a tensor that is not the model's, none of them NaN.
fn numbers(archive: &Archive, path: &Path, name: &str) -> Result<Vec<f64>> {
    let values = archive.tensors.get(name).and_then(Stored::to_f64).filter(|values| !values.iter().any(|value| value.is_nan()));
    values.ok_or_else(|| damaged(path, name))
}

fn stored_plateau(archive: &Archive, path: &Path, plateau: Plateau) -> Result<Plateau> {
    match numbers(archive, path, PLATEAU)?[..] {
        [factor, best, waited] => Ok(Plateau { factor, best, waited: waited as u64, ..plateau }),
        _ => Err(damaged(path, PLATEAU)),
    }
}

fn stored_best(archive: &Archive, path: &Path) -> Result<Option<(u64, f64)>> {
    if !archive.tensors.contains_key(BEST) {
        return Ok(None);
    }
    match numbers(archive, path, BEST)?[..] {
        [epoch, metric] => Ok(Some((epoch as u64, metric))),
        _ => Err(damaged(path, BEST)),
    }
}

fn stored_recent(archive: &Archive, path: &Path) -> Result<Vec<StepReport>> {
    let values = numbers(archive, path, RECENT)?;
    Ok(values.as_chunks::<2>().0.iter().map(|&[loss, metric]| StepReport { loss, metric }).collect())
}
