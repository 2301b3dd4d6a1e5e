//! Learner: what a trainer trains, from a batch to a loss and a metric.

use std::collections::BTreeMap;

use super::Recipe;
use super::samples::Samples;
use crate::autodiff::Var;
use crate::backend::Backend;
use crate::error::Result;
use crate::nn::store::Archive;
use crate::nn::{Context, Module};

/// What the names of a learner's parameters begin with in a checkpoint.
pub(super) const MODEL: &str = "model.";

/// Something with parameters, and what is wanted of it: any model with any loss. [`Model`](crate::nn::Model) is one, a classifier.
///
/// ```
/// use pspikessm::prelude::*;
/// use pspikessm::data::Splits;
/// use pspikessm::nn::Linear;
/// use pspikessm::train::{Better, Learner, Length, Metric, Plan, Scored, Trainer};
///
/// /// A straight line through points (x, y).
/// struct Line<B: Backend>(Linear<B>);
///
/// impl<B: Backend> Learner<B> for Line<B> {
///     type Samples = Vec<[f64; 2]>;
///
///     fn module(&self) -> &dyn Module<B> {
///         &self.0
///     }
///
///     fn metric(&self) -> Metric {
///         Metric { name: "squared error", better: Better::Lower }
///     }
///
///     fn score(&self, cx: &Context<'_, B>, batch: &Vec<[f64; 2]>) -> Result<Scored<B>> {
///         let column = |at: usize| {
///             let values = batch.iter().map(|point| B::Elem::of(point[at])).collect();
///             Ok::<_, Error>(cx.tape().constant(&cx.backend().from_vec(values, &[batch.len(), 1])?))
///         };
///         let error = self.0.forward(cx, &column(0)?)?.sub(&column(1)?)?.square()?.mean()?;
///         let value = error.item()?;
///         Ok(Scored::new(error)?.metric(value * batch.len() as f64, batch.len() as f64))
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let points: Vec<[f64; 2]> = (0..40).map(|i| f64::from(i) / 20.0 - 1.0).map(|x| [x, 3.0 * x - 1.0]).collect();
/// let splits = Splits { train: points.clone(), val: points[..20].to_vec(), test: points[20..].to_vec() };
/// let plan = Plan::new(8, Length::Epochs(60), AdamWConfig::new(0.1, 0.0));
/// let line = Line(Linear::new(&cpu, Key::new(0), 1, 1)?);
/// let mut trainer = Trainer::of(&cpu, "line", plan, line, splits)?;
/// while !trainer.is_finished() {
///     trainer.step()?;
/// }
/// let test = trainer.test(1, &false.into())?.unwrap();
/// assert!(test.metric < 1e-3, "{test:?}");
/// # Ok(()) }
/// ```
pub trait Learner<B: Backend>: Sync {
    /// What it learns from.
    type Samples: Samples;

    /// Everything that has parameters, under the names that a checkpoint has for them.
    fn module(&self) -> &dyn Module<B>;

    /// Runs forward on a batch. In training `cx` records; in an evaluation it does not, and nothing may be changed.
    ///
    /// # Errors
    /// What the model answers.
    fn score(&self, cx: &Context<'_, B>, batch: &<Self::Samples as Samples>::Batch) -> Result<Scored<B>>;

    /// What the metric of [`score`](Self::score) is called, and which is better: the best epoch is chosen by it. By default it is the loss.
    fn metric(&self) -> Metric {
        Metric { name: "loss", better: Better::Lower }
    }

    /// Makes ready for a recorded pass over a batch of so many [time steps](Samples::length). Before a step it is called for each of its
    /// micro-batches, those of other processes too.
    ///
    /// # Errors
    /// What the model answers.
    fn prepare(&self, backend: &B, length: usize) -> Result<()> {
        let _ = (backend, length);
        Ok(())
    }

    /// What must be the same where a run goes on from a checkpoint, beside the plan, the data and the parameters' shapes.
    fn settings(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// The whole recipe, where it was made by one.
    fn recipe(&self) -> Option<&Recipe> {
        None
    }

    /// Adds to a checkpoint what else is to stand in it.
    ///
    /// # Errors
    /// What the device answers.
    fn describe(&self, archive: &mut Archive) -> Result<()> {
        let _ = archive;
        Ok(())
    }
}

/// What came of a batch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Scored<B: Backend> {
    /// What is learnt from: one number, a mean over what [`Samples::count`] counts.
    pub loss: Var<B>,
    /// Its value.
    pub value: f64,
    /// The metric as a sum and what it is divided by: that of several batches is the quotient of both sums. `None` is the loss.
    pub metric: Option<(f64, f64)>,
    /// Of a classifier: the true class and the one that it was taken for, of every sample.
    pub classes: Vec<(usize, usize)>,
}

impl<B: Backend> Scored<B> {
    /// A loss without a metric of its own.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where it is not one number; what the device answers.
    pub fn new(loss: Var<B>) -> Result<Self> {
        Ok(Scored { value: loss.item()?, loss, metric: None, classes: Vec::new() })
    }

    /// The same with a metric: `sum` over the batch, and what it is divided by.
    pub fn metric(self, sum: f64, count: f64) -> Self {
        Scored { metric: Some((sum, count)), ..self }
    }

    /// The same with the class of every sample and the one that it was taken for; the metric is the share of those that agree.
    pub fn classes(self, classes: Vec<(usize, usize)>) -> Self {
        let right = classes.iter().filter(|(label, taken)| label == taken).count();
        Scored { metric: Some((right as f64, classes.len() as f64)), classes, ..self }
    }
}

/// A number that says how good a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// What it is called in the metrics file and the progress bar.
    pub name: &'static str,
    /// Which of two is the better one.
    pub better: Better,
}

/// Which of two metrics is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The larger one, as of an accuracy.
    Higher,
    /// The smaller one, as of an error.
    Lower,
}

impl Metric {
    /// The metric as a number of which the larger one is better.
    pub(super) fn rank(self, value: f64) -> f64 {
        match self.better {
            Better::Higher => value,
            Better::Lower => -value,
        }
    }
}
