//! Output: the folder of a run, with its checkpoint and its metrics.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::evaluate::{Evaluation, LayerRate};
use super::learner::Learner;
use super::lock::Lock;
use super::metrics::Metrics;
use super::samples::Samples;
use super::tensorboard::{self, Events};
use super::trainer::Trainer;
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::file;
use crate::nn::{SpikeMeter, UpdateRule};

const CHECKPOINT: &str = "checkpoint.safetensors";
const BEST: &str = "best.safetensors";
const PREVIOUS: &str = "checkpoint.previous.safetensors";
const PREVIOUS_BEST: &str = "best.previous.safetensors";
pub(super) const METRICS: &str = "metrics.jsonl";
/// What is written at the end of a run, and of it the first two while it goes on where that is asked for.
const PICTURES: [&str; 4] = ["report.html", "curves.svg", "raster.svg", "kernels.svg"];

/// The folder of a run: `checkpoint.safetensors`, `best.safetensors` (of the epoch with the best metric in validation), `metrics.jsonl`
/// with one JSON object a line, and, at the end, `report.html`, `curves.svg`, `raster.svg` and `kernels.svg`.
///
/// Each line has `kind`, `step` and `seconds` (since this process started). `kind` is one of
///
/// - `run`: `task`, `backend`, `parameters`, `steps`, `samples` (of the training set), `classes` (their names), `recipe` (in TOML; of a learner without one its plan);
/// - `train`: `epoch`; `loss` and `accuracy` (or whatever the learner's metric is called), means over the steps since the last such line; `lr` of the coming step;
/// - `spikes`: `epoch`; `spike_rate` and `layers`, as below, of the training batch of this step;
/// - `validation` and `test`: `epoch`, `loss`, `accuracy`, `spike_rate`, `passes`; `layers`, a list of `layer`, `site` and `rate`; of a
///   test also `confusion`, the true classes in rows.
///
/// A number that is not finite, as the rate of spikes where none was sampled, is `null`.
///
/// While this lives the folder is locked: nobody else can open it. The file `.lock` in it holds the number of the last process that did.
#[derive(Debug)]
pub struct Output {
    dir: PathBuf,
    metrics: Metrics,
    /// Whether there are to be events, and those of this process, once it has begun.
    tensorboard: bool,
    events: Option<Events>,
    /// The step of the checkpoint, where this run has one.
    saved: Option<u64>,
    started: Instant,
    _lock: Lock,
}

impl Output {
    /// Opens the folder, and makes it where it is missing. What is in it stays as it is.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be made or written to; [`Error::Config`] where someone else has it open.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        file::create_folder(&dir)?;
        let lock = Lock::take(&dir)?;
        let metrics = Metrics::open(dir.join(METRICS))?;
        Ok(Output { dir, metrics, tensorboard: false, events: None, saved: None, started: Instant::now(), _lock: lock })
    }

    /// Opens the folder of a new run: one that holds no other.
    ///
    /// # Errors
    /// As [`Output::open`]; [`Error::Config`] where a run has left something in it that [`Output::begin`] would take away.
    pub fn create(dir: impl Into<PathBuf>) -> Result<Self> {
        let output = Self::open(dir)?;
        let holds = |name: &&&str| output.dir.join(name).exists();
        let ways = match [CHECKPOINT, BEST].iter().chain(&PICTURES).find(holds) {
            Some(&CHECKPOINT) => "go on with it by --resume, give another folder",
            None if !output.metrics.hold_a_run()? => return Ok(output),
            // It was stopped before its first checkpoint.
            _ => "give another folder",
        };
        let help = format!("the folder holds a run: {ways}, or begin anew in it by --overwrite");
        Err(Error::config("--out", output.dir.display(), help))
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

    /// The same with the numbers of `metrics.jsonl` as scalars of TensorBoard, too, in a file `events.out.tfevents.*` a process: named
    /// `what/kind`, as in "loss/train" and "spike_rate/layer_0_input/validation". [`Output::begin`] or [`Output::proceed`] makes it.
    pub fn with_tensorboard(self) -> Self {
        Output { tensorboard: true, ..self }
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

    /// Where the model of the best epoch is, or will be.
    pub fn best(&self) -> PathBuf {
        self.dir.join(BEST)
    }

    /// Makes the folder ready for a run that goes on: drops the metrics of steps and validations that will come again, and updates the
    /// number of steps in the first line.
    ///
    /// # Errors
    /// [`Error::Io`] where the metrics cannot be read or written; [`Error::Value`] where the recipe cannot be written as TOML.
    pub fn proceed<B: Backend, L: Learner<B>>(&mut self, trainer: &Trainer<B, L>) -> Result<()> {
        self.sweep()?;
        self.saved = Some(trainer.steps_done());
        let up_to = |line: &Value, field: &str, last: u64| line[field].as_u64().is_some_and(|number| number <= last);
        let (recipe, steps, backend) = (trainer.settings_text()?, trainer.steps_total(), trainer.backend.name());
        self.metrics.rewind(|line| match line["kind"].as_str() {
            Some("run") => {
                line["recipe"] = recipe.clone().into();
                line["steps"] = steps.into();
                line["backend"] = backend.clone().into();
                true
            }
            Some("train" | "spikes") => up_to(line, "step", trainer.steps_done()),
            // A run may have been saved at the end of an epoch and before its validation.
            Some("validation") => up_to(line, "epoch", trainer.state.validated),
            _ => false,
        })?;
        tensorboard::rewind(&self.dir, trainer.steps_done(), trainer.state.validated.saturating_mul(trainer.steps_per_epoch()))?;
        self.begin_events(trainer.steps_done() + 1)
    }

    /// Makes the folder ready for a new run, whose classes have these names: puts an earlier run's checkpoints aside as
    /// `checkpoint.previous.safetensors` and `best.previous.safetensors`, and drops its metrics, events, report and pictures.
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be moved, removed or written; [`Error::Value`] where the recipe cannot be written as TOML.
    pub fn begin<B: Backend, L: Learner<B>>(&mut self, trainer: &Trainer<B, L>, classes: &[String]) -> Result<()> {
        self.clear()?;
        let line = json!({
            "task": trainer.task(), "backend": trainer.backend.name(), "parameters": trainer.learner().module().num_parameters(),
            "steps": trainer.steps_total(), "samples": trainer.splits().train.len(), "classes": classes,
            "recipe": trainer.settings_text()?,
        });
        self.begin_events(trainer.steps_done() + 1)?;
        self.add("run", 0, line)
    }

    fn begin_events(&mut self, step: u64) -> Result<()> {
        self.events = self.tensorboard.then(|| Events::begin(&self.dir, step)).transpose()?;
        Ok(())
    }

    /// Puts the checkpoints of an earlier run aside, and removes what else it has left.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.sweep()?;
        // The checkpoint first: whoever is killed in between must not go on with a run that has lost its metrics.
        for (name, aside) in [(CHECKPOINT, PREVIOUS), (BEST, PREVIOUS_BEST)] {
            let path = self.dir.join(name);
            if path.exists() {
                file::put_aside(&path, &self.dir.join(aside))?;
            }
        }
        PICTURES.map(|name| self.dir.join(name)).iter().filter(|path| path.exists()).try_for_each(|path| file::remove(path))?;
        tensorboard::clear(&self.dir)?;
        self.metrics.rewind(|_| false)
    }

    /// Removes what a run that was killed had begun to write.
    fn sweep(&self) -> Result<()> {
        let begun = file::temporaries(&self.dir, &[&[CHECKPOINT, BEST, METRICS, tensorboard::NAME], &PICTURES[..]].concat())?;
        begun.iter().try_for_each(|path| file::remove(path))
    }

    /// Writes the checkpoint, once the metrics so far are on the disk.
    pub(super) fn save<B: Backend, L: Learner<B>>(&mut self, trainer: &Trainer<B, L>) -> Result<()> {
        self.metrics.sync()?;
        self.events.as_ref().map_or(Ok(()), Events::sync)?;
        trainer.save(self.checkpoint())?;
        self.saved = Some(trainer.steps_done());
        Ok(())
    }

    /// The step of the checkpoint, where this run has one.
    pub(super) fn saved(&self) -> Option<u64> {
        self.saved
    }

    /// Writes the model of the best epoch.
    pub(super) fn save_best<B: Backend, L: Learner<B>>(&self, trainer: &Trainer<B, L>) -> Result<()> {
        trainer.save_model(self.best())
    }

    /// Notes the mean of the last `steps` steps.
    pub(super) fn train<B: Backend, L: Learner<B>>(&mut self, trainer: &Trainer<B, L>, steps: usize) -> Result<()> {
        let Some(mean) = trainer.recent(steps) else { return Ok(()) };
        let lr = trainer.optimizer().config.lr() * trainer.rate_factor();
        let line = json!({ "epoch": trainer.epochs_done(), "loss": mean.loss, metric_of(trainer): mean.metric, "lr": lr });
        self.add("train", trainer.steps_done(), line)
    }

    /// Notes the spike rates of the last step; nothing where no neuron spikes.
    pub(super) fn spikes<B: Backend, L: Learner<B>>(&mut self, trainer: &Trainer<B, L>, meter: &SpikeMeter) -> Result<()> {
        match LayerRate::all(meter) {
            layers if layers.is_empty() => Ok(()),
            layers => {
                let line = json!({ "epoch": trainer.epochs_done(), "spike_rate": meter.rate(), "layers": rates(&layers) });
                self.add("spikes", trainer.steps_done(), line)
            }
        }
    }

    /// Notes an evaluation; `kind` says of what.
    pub(super) fn evaluation<B: Backend, L: Learner<B>>(&mut self, kind: &str, trainer: &Trainer<B, L>, found: &Evaluation) -> Result<()> {
        let mut line = json!({
            "epoch": trainer.epochs_done(), "loss": found.loss, metric_of(trainer): found.metric,
            "spike_rate": found.spike_rate, "passes": found.passes, "layers": rates(&found.layers),
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
        self.metrics.add(&line)?;
        self.events.as_mut().map_or(Ok(()), |events| events.add(kind, step, &line))
    }
}

/// The rates as they stand in a line.
fn rates(layers: &[LayerRate]) -> Vec<Value> {
    layers.iter().map(|l| json!({ "layer": l.layer, "site": l.site.to_string(), "rate": l.rate })).collect()
}

/// What the metric is called.
fn metric_of<B: Backend, L: Learner<B>>(trainer: &Trainer<B, L>) -> &'static str {
    trainer.learner().metric().name
}
