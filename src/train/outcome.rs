//! What came of a run, or of the runs of several seeds, and the line that says it.

use std::fmt;
use std::path::PathBuf;

use super::Evaluation;
use super::spread::Spread;
use crate::data::Dataset;

/// What a finished run prints.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// The name of the task.
    pub task: String,
    /// The name of the recipe.
    pub preset: String,
    /// The name of the backend.
    pub backend: String,
    /// Steps of the run, those before it was resumed included.
    pub steps: u64,
    /// The mean loss of the last 100 steps.
    pub train_loss: f64,
    /// The test set.
    pub test: Evaluation,
    /// The share of the most common label of the test set.
    pub majority: f64,
    /// Of a regression: its errors.
    pub errors: Option<Errors>,
    /// Since this process began.
    pub seconds: f64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { task, preset, backend, steps, train_loss, test, majority, errors, seconds } = self;
        write!(f, "result task={task} preset={preset} backend={backend} steps={steps} train_loss={train_loss:.4} ")?;
        match errors {
            Some(Errors { rmse, mean_rmse }) => write!(f, "test_rmse={rmse:.4} mean_rmse={mean_rmse:.4} test_mae={:.4} ", test.metric)?,
            None => write!(f, "test_accuracy={:.4} majority={majority:.4} ", test.metric)?,
        }
        write!(f, "spike_rate={:.4} seconds={seconds:.1}", test.spike_rate)
    }
}

/// The root of the mean squared error on a test set of numbers, over samples and passes, in units of the data.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Errors {
    /// The model's.
    pub rmse: f64,
    /// That of whoever always says the mean of the training set.
    pub mean_rmse: f64,
}

impl Errors {
    /// Those of a test; `None` where the set has classes.
    pub(super) fn of(test: &Evaluation, set: &Dataset) -> Option<Self> {
        let scale = set.scale()?;
        let squares: f64 = set.targets().iter().map(|target| (target - scale.mean).powi(2)).sum();
        Some(Errors { rmse: test.loss.sqrt() * scale.deviation, mean_rmse: (squares / set.len().max(1) as f64).sqrt() })
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// All steps are taken and the test set is evaluated.
    Finished(Box<Summary>),
    /// The same of the runs of several seeds.
    Swept(Box<Sweep>),
    /// The classes of a sample are printed.
    Predicted,
    /// It was stopped while the data were fetched. What has arrived is kept, and `--download` goes on with it.
    Unfetched,
    /// It was stopped after this step, and saved to this file, if there was a folder for it.
    Stopped(u64, Option<PathBuf>),
}

/// What the runs of several seeds came to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sweep {
    /// The name of the task.
    pub task: String,
    /// The name of the recipe.
    pub preset: String,
    /// The name of the backend.
    pub backend: String,
    /// One for each seed, in their order.
    pub runs: Vec<SeedRun>,
    /// Since this process began.
    pub seconds: f64,
}

/// What the run of one seed came to.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SeedRun {
    /// The seed.
    pub seed: u64,
    /// Steps of the run.
    pub steps: u64,
    /// The mean loss of the last 100 steps.
    pub train_loss: f64,
    /// Of the test set; of a regression the mean absolute error.
    pub metric: f64,
    /// The share of the most common label of the test set.
    pub majority: f64,
    /// Of a regression: its errors.
    pub errors: Option<Errors>,
    /// Of the test set.
    pub spike_rate: f64,
}

impl SeedRun {
    pub(super) fn of(seed: u64, summary: &Summary) -> Self {
        let Summary { steps, train_loss, ref test, majority, errors, .. } = *summary;
        SeedRun { seed, steps, train_loss, metric: test.metric, majority, errors, spike_rate: test.spike_rate }
    }
}

impl Sweep {
    /// Mean and deviation of a number over the seeds.
    pub fn spread(&self, of: impl Fn(&SeedRun) -> f64) -> Spread {
        let numbers: Vec<f64> = self.runs.iter().map(of).collect();
        Spread::of(&numbers).unwrap_or(Spread { mean: f64::NAN, deviation: f64::NAN })
    }
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sweep { task, preset, backend, runs, seconds } = self;
        let seeds: Vec<String> = runs.iter().map(|run| run.seed.to_string()).collect();
        let steps = runs.iter().map(|run| run.steps).max().unwrap_or(0);
        write!(f, "result task={task} preset={preset} backend={backend} seeds={} steps={steps} ", seeds.join(","))?;
        let mut pair = |name: &str, Spread { mean, deviation }: Spread| write!(f, "{name}={mean:.4} {name}_std={deviation:.4} ");
        pair("train_loss", self.spread(|run| run.train_loss))?;
        if let Some(Errors { mean_rmse, .. }) = runs.first().and_then(|run| run.errors) {
            pair("test_rmse", self.spread(|run| run.errors.map_or(f64::NAN, |errors| errors.rmse)))?;
            pair("test_mae", self.spread(|run| run.metric))?;
            write!(f, "mean_rmse={mean_rmse:.4} ")?;
        } else {
            pair("test_accuracy", self.spread(|run| run.metric))?;
            write!(f, "majority={:.4} ", self.spread(|run| run.majority).mean)?;
        }
        let Spread { mean, deviation } = self.spread(|run| run.spike_rate);
        write!(f, "spike_rate={mean:.4} spike_rate_std={deviation:.4} seconds={seconds:.1}")
    }
}
