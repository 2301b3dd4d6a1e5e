//! Recipe: every number that a training run is made of, apart from its data. The structs are the file's format: serde names their fields.

mod text;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::loss::Loss;
use super::plan::{Length, Plan, RunConfig, Schedule, at_least_one};
use crate::backend::Cpu;
use crate::data::{Dataset, text_lines};
use crate::error::{Error, Result};
use crate::nn::{BlockConfig, Encoder, ModelConfig, OptimizerConfig, Pooling, UpdateRule};

/// What a training run is made of, apart from its data: in TOML a table for each struct below, with its fields.
/// `src/train/tasks/listops/quick.toml` is one with comments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Recipe {
    /// What it is called in the result line.
    #[serde(default = "default::name")]
    pub name: String,
    /// Which of the task's data sets: the task says which there are.
    pub data: String,
    /// How the data are gone through.
    pub run: RunConfig,
    /// What moves the parameters: AdamW's numbers, or those of the `rule` that is named. The SSMs have a learning rate of their own.
    pub optimizer: OptimizerConfig,
    /// How the learning rates change.
    pub schedule: Schedule,
    /// What is learnt from: the cross-entropy of classes unless something else is named.
    #[serde(default)]
    pub loss: Loss,
    /// The model, as far as the data do not settle it.
    pub model: ModelRecipe,
}

/// What a recipe says about a model. A [`ModelConfig`] is this and what only the data know: what is encoded, the number of classes, and
/// whether a sample is two documents that are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelRecipe {
    /// Blocks.
    pub layers: usize,
    /// What the decoder reads.
    #[serde(default)]
    pub pooling: Pooling,
    /// The model never looks ahead in time: one branch and causal kernels, whatever the block's own fields say.
    #[serde(default)]
    pub causal: bool,
    /// Every block, and in it the SSM.
    pub block: BlockConfig,
}

/// What a file that leaves a field out gets. An optional one is then `None`.
mod default {
    pub(super) fn name() -> String {
        "unnamed".into()
    }
}

impl Recipe {
    /// Reads a recipe in TOML, as `--print-recipe` prints it; `path` is what the error calls it.
    ///
    /// # Errors
    /// [`Error::Data`] with line and column for a field that is unknown, missing or of the wrong type, and for what [`Recipe::check`]
    /// refuses.
    pub fn parse(text: &str, path: impl AsRef<Path>) -> Result<Self> {
        text::parse(text, path.as_ref())
    }

    /// Reads the file `path` as [`parse`](Self::parse) does.
    ///
    /// # Errors
    /// The same, and [`Error::Io`] where it cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        text::parse(text_lines::text(path, &std::fs::read(path).map_err(|error| Error::io("read the recipe", path, error))?)?, path)
    }

    /// The recipe with one value changed: `key` is as in "model.block.ssm.d_model", `value` as TOML has it, or `none` for a value that may
    /// be missing.
    ///
    /// # Errors
    /// [`Error::Config`] that names both, where there is no such key or the value is not allowed.
    pub fn set(&self, key: &str, value: &str) -> Result<Self> {
        self.set_all([(key, value)])
    }

    /// The recipe with several values changed together: some go only with others, as the parts of a new schedule.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_all<'a>(&self, changes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        text::set(self, changes)
    }

    /// All values in TOML.
    ///
    /// # Errors
    /// [`Error::Value`] for a number of 2^63 or above, which TOML cannot hold.
    pub fn to_toml(&self) -> Result<String> {
        text::print(self)
    }

    /// The same over `steps` steps. A cosine, a line and a cycle get this length too, a tenth of it warm-up.
    pub fn with_steps(mut self, steps: u64) -> Self {
        self.run.length = Length::Steps(steps);
        self.schedule = self.schedule.over(steps);
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`] with the name of the value: a batch, a length or a number of layers of 0, numbers that TOML has no place for, and
    /// what the block, the optimiser and the schedule refuse.
    pub fn check(&self) -> Result<()> {
        self.checks().into_iter().try_for_each(|(_, found)| found)
    }

    /// What [`check`](Self::check) finds in each of the file's tables.
    fn checks(&self) -> [(&'static str, Result<()>); 7] {
        let block = &self.model.block;
        [
            ("run", self.run.check()),
            ("schedule", self.schedule.check()),
            ("loss", self.loss.check()),
            ("optimizer", UpdateRule::<Cpu<f32>>::check(&self.optimizer)),
            ("model", at_least_one("layers", self.model.layers as u64)),
            // Before the block, which checks it too.
            ("model.block.ssm", check_rate(block.ssm.lr).and_then(|()| block.ssm.check())),
            ("model.block", block.check()),
        ]
    }

    /// The model for samples as in `set`.
    pub fn model_for(&self, set: &Dataset) -> ModelConfig {
        let ModelRecipe { layers, pooling, causal, ref block } = self.model;
        let block = if causal { block.clone().causal() } else { block.clone() };
        let encoder = match (set.vocabulary(), set.d_input()) {
            (Some(vocabulary), _) => Encoder::Tokens(vocabulary.len()),
            (None, d_input) => Encoder::Values(d_input.unwrap_or(0)),
        };
        ModelConfig { encoder, block, layers, pooling, classes: set.classes(), retrieval: set.is_paired() }
    }

    /// Batches in an epoch of `samples` samples. The last one may be smaller; a single sample that is left over is left out, because
    /// its gradient would count as much as a whole batch's.
    pub fn steps_per_epoch(&self, samples: usize) -> u64 {
        self.run.steps_per_epoch(samples)
    }

    /// The steps of a run on `samples` training samples. It ends where a cosine, or a line, has reached 0, since nothing is learnt from there
    /// on.
    pub fn steps(&self, samples: usize) -> u64 {
        self.run.steps(self.schedule, samples)
    }

    /// What does not depend on the model.
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::new(self.run.batch, self.run.length, self.optimizer).schedule(self.schedule);
        plan.run = self.run.clone();
        plan
    }

    /// What a checkpoint must agree with, by the keys that are shown where it does not. A run may get another name. The length is in it
    /// only where the schedule depends on it, as the cosine's own: otherwise a longer run is the continuation of a shorter one.
    pub(super) fn identity(&self) -> Result<BTreeMap<String, String>> {
        identity(self)
    }
}

/// What a checkpoint must agree with: as [`Recipe::identity`] says, of a recipe or of a plan.
pub(super) fn identity(of: &impl Serialize) -> Result<BTreeMap<String, String>> {
    let mut values = text::values(of)?;
    values.retain(|key, _| key != "name" && key != "run.early_stop" && key != "run.recompute" && !key.starts_with("run.length."));
    Ok(values)
}

/// All values of a recipe or of a plan in TOML.
pub(super) fn to_toml(of: &impl Serialize) -> Result<String> {
    text::print(of)
}

/// Every value of a recipe or of a plan in TOML by its key; none of what is no TOML.
pub(super) fn values_in(text: &str) -> BTreeMap<String, String> {
    text.parse().ok().and_then(|table: toml::Table| text::values(&table).ok()).unwrap_or_default()
}

/// The plan that [`to_toml`] wrote.
pub(super) fn stored_plan(text: &str, path: &Path) -> Result<Plan> {
    toml::from_str(text).map_err(|error| Error::checkpoint(path, format!("holds a plan that cannot be read: {}", error.message())))
}

fn check_rate(lr: Option<f64>) -> Result<()> {
    match lr {
        Some(lr) if !(lr >= 0.0 && lr.is_finite()) => Err(Error::config("lr", lr, "must be finite and at least 0, or left out")),
        _ => Ok(()),
    }
}
