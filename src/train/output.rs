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
use crate::nn::Module;

const CHECKPOINT: &str = "checkpoint.safetensors";
const BEST: &str = "best.safetensors";
const PREVIOUS: &str = "checkpoint.previous.safetensors";
pub(super) const METRICS: &str = "metrics.jsonl";

/// The folder of a run: `checkpoint.safetensors`, `best.safetensors` (of the epoch with the best validation accuracy), and `metrics.jsonl`
/// with one JSON object a line.
///
/// Each line has `kind`, `step` and `seconds` (since this process started). `kind` is `run` (what the run is), `train` (`epoch`; `loss` and
/// `accuracy`, means over the steps since the last such line; `lr` of the coming step), `validation` or `test` (`epoch`, `loss`,
/// `accuracy`, `spike_rate`, `passes`; `layers`, a list of `layer`, `site` and `rate`; of a test also `confusion`, the true classes in rows).
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

    /// Makes the folder ready for a run that goes on: drops the metrics of steps that will be taken again.
    pub fn proceed<B: Backend>(&mut self, trainer: &Trainer<B>) -> Result<()> {
        self.metrics.rewind(|step| step <= trainer.steps_done())
    }

    /// Makes the folder ready for a new run, whose classes have these names: drops an earlier run's metrics, and puts its checkpoint
    /// aside as `checkpoint.previous.safetensors`.
    pub fn begin<B: Backend>(&mut self, trainer: &Trainer<B>, classes: &[String]) -> Result<()> {
        self.metrics.rewind(|_| false)?;
        let checkpoint = self.checkpoint();
        if checkpoint.exists() {
            fs::rename(&checkpoint, self.dir.join(PREVIOUS)).map_err(|error| Error::io("put aside", &checkpoint, error))?;
        }
        let line = json!({
            "task": trainer.task(), "backend": trainer.backend.name(), "parameters": trainer.model().num_parameters(),
            "steps": trainer.steps_total(), "samples": trainer.splits().train.len(), "classes": classes,
            "recipe": trainer.recipe().to_toml()?,
        });
        self.add("run", 0, line)
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
