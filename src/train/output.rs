//! Output: the folder of a run, with its checkpoint and its metrics.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::evaluate::{Evaluation, LayerRate};
use super::metrics::Metrics;
use super::trainer::Trainer;
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::file::temporaries;
use crate::nn::Module;

const CHECKPOINT: &str = "checkpoint.safetensors";
const BEST: &str = "best.safetensors";
const PREVIOUS: &str = "checkpoint.previous.safetensors";
const PREVIOUS_BEST: &str = "best.previous.safetensors";
pub(super) const METRICS: &str = "metrics.jsonl";
/// What is written at the end of a run.
const PICTURES: [&str; 3] = ["report.html", "raster.svg", "kernels.svg"];

/// The folder of a run: `checkpoint.safetensors`, `best.safetensors` (of the epoch with the best validation accuracy), `metrics.jsonl`
/// with one JSON object a line, and, at the end, `report.html`, `raster.svg` and `kernels.svg`.
///
/// Each line has `kind`, `step` and `seconds` (since this process started). `kind` is one of
///
/// - `run`: `task`, `backend`, `parameters`, `steps`, `samples` (of the training set), `classes` (their names), `recipe` (in TOML);
/// - `train`: `epoch`; `loss` and `accuracy`, means over the steps since the last such line; `lr` of the coming step;
/// - `validation` and `test`: `epoch`, `loss`, `accuracy`, `spike_rate`, `passes`; `layers`, a list of `layer`, `site` and `rate`; of a
///   test also `confusion`, the true classes in rows.
///
/// A number that is not finite, as the rate of spikes where none was sampled, is `null`.
#[derive(Debug)]
pub struct Output {
    dir: PathBuf,
    metrics: Metrics,
    started: Instant,
}

impl Output {
    /// Opens the folder, and makes it where it is missing. What is in it stays as it is.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be made or written to.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        fs::create_dir_all(&dir).map_err(|error| Error::io("create the folder", &dir, error))?;
        let metrics = Metrics::open(dir.join(METRICS))?;
        Ok(Output { dir, metrics, started: Instant::now() })
    }

    /// Opens the folder of a run that is to go on.
    ///
    /// # Errors
    /// As [`Output::open`]; [`Error::Checkpoint`] where no checkpoint is in it, and then nothing is made.
    pub fn reopen(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        let checkpoint = Self::checkpoint_in(&dir);
        if !checkpoint.exists() {
            return Err(Error::checkpoint(checkpoint, "is not there: correct --out, or start without --resume"));
        }
        Self::open(dir)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the checkpoint is, or will be.
    pub fn checkpoint(&self) -> PathBuf {
        Self::checkpoint_in(&self.dir)
    }

    /// Where the checkpoint of a run with this folder is.
    pub(super) fn checkpoint_in(dir: &Path) -> PathBuf {
        dir.join(CHECKPOINT)
    }

    /// Where the checkpoint of the best epoch is, or will be.
    pub fn best(&self) -> PathBuf {
        self.dir.join(BEST)
    }

    /// Makes the folder ready for a run that goes on: drops the metrics of steps and validations that will come again, and updates the
    /// number of steps in the first line.
    ///
    /// # Errors
    /// [`Error::Io`] where the metrics cannot be read or written; [`Error::Value`] where the recipe cannot be written as TOML.
    pub fn proceed<B: Backend>(&mut self, trainer: &Trainer<B>) -> Result<()> {
        self.sweep()?;
        let up_to = |line: &Value, field: &str, last: u64| line[field].as_u64().is_some_and(|number| number <= last);
        let (recipe, steps, backend) = (trainer.recipe().to_toml()?, trainer.steps_total(), trainer.backend.name());
        self.metrics.rewind(|line| match line["kind"].as_str() {
            Some("run") => {
                line["recipe"] = recipe.clone().into();
                line["steps"] = steps.into();
                line["backend"] = backend.clone().into();
                true
            }
            Some("train") => up_to(line, "step", trainer.steps_done()),
            // A run may have been saved at the end of an epoch and before its validation.
            Some("validation") => up_to(line, "epoch", trainer.state.validated),
            _ => false,
        })
    }

    /// Makes the folder ready for a new run, whose classes have these names: puts an earlier run's checkpoints aside as
    /// `checkpoint.previous.safetensors` and `best.previous.safetensors`, and drops its metrics, report and pictures.
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be moved, removed or written; [`Error::Value`] where the recipe cannot be written as TOML.
    pub fn begin<B: Backend>(&mut self, trainer: &Trainer<B>, classes: &[String]) -> Result<()> {
        self.sweep()?;
        // The checkpoint first: whoever is killed in between must not go on with a run that has lost its metrics.
        for (name, aside) in [(CHECKPOINT, PREVIOUS), (BEST, PREVIOUS_BEST)] {
            let path = self.dir.join(name);
            if path.exists() {
                fs::rename(&path, self.dir.join(aside)).map_err(|error| Error::io("put aside", &path, error))?;
            }
        }
        for path in PICTURES.map(|name| self.dir.join(name)).iter().filter(|path| path.exists()) {
            fs::remove_file(path).map_err(|error| Error::io("remove", path, error))?;
        }
        self.metrics.rewind(|_| false)?;
        let line = json!({
            "task": trainer.task(), "backend": trainer.backend.name(), "parameters": trainer.model().num_parameters(),
            "steps": trainer.steps_total(), "samples": trainer.splits().train.len(), "classes": classes,
            "recipe": trainer.recipe().to_toml()?,
        });
        self.add("run", 0, line)
    }

    /// Removes what a run that was killed had begun to write.
    fn sweep(&self) -> Result<()> {
        for path in temporaries(&self.dir, &[&[CHECKPOINT, BEST, METRICS], &PICTURES[..]].concat())? {
            fs::remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;
        }
        Ok(())
    }

    /// Writes the checkpoint, once the metrics so far are on the disk.
    pub(super) fn save<B: Backend>(&self, trainer: &Trainer<B>) -> Result<()> {
        self.metrics.sync()?;
        trainer.save(self.checkpoint())
    }

    /// Writes the checkpoint of the best epoch.
    pub(super) fn save_best<B: Backend>(&self, trainer: &Trainer<B>) -> Result<()> {
        trainer.save(self.best())
    }

    /// Notes the mean of the last `steps` steps.
    pub(super) fn train<B: Backend>(&mut self, trainer: &Trainer<B>, steps: usize) -> Result<()> {
        let Some(mean) = trainer.recent(steps) else { return Ok(()) };
        let lr = trainer.recipe().optimizer.lr * trainer.rate_factor();
        let line = json!({ "epoch": trainer.epochs_done(), "loss": mean.loss, "accuracy": mean.accuracy, "lr": lr });
        self.add("train", trainer.steps_done(), line)
    }

    /// Notes an evaluation; `kind` says of what.
    pub(super) fn evaluation<B: Backend>(&mut self, kind: &str, trainer: &Trainer<B>, found: &Evaluation) -> Result<()> {
        let layer = |l: &LayerRate| json!({ "layer": l.layer, "site": l.site.to_string(), "rate": l.rate });
        let mut line = json!({
            "epoch": trainer.epochs_done(), "loss": found.loss, "accuracy": found.accuracy,
            "spike_rate": found.spike_rate, "passes": found.passes, "layers": found.layers.iter().map(layer).collect::<Vec<_>>(),
        });
        if kind == "test" {
            line["confusion"] = json!(found.confusion);
        }
        self.add(kind, trainer.steps_done(), line)
    }

    fn add(&mut self, kind: &str, step: u64, mut line: Value) -> Result<()> {
        line["kind"] = kind.into();
        line["step"] = step.into();
        line["seconds"] = self.started.elapsed().as_secs_f64().into();
        self.metrics.add(&line)
    }
}
