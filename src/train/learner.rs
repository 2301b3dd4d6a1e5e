//! Learner: what a trainer trains, from a batch to a loss and a metric.

use std::collections::BTreeMap;

use super::Recipe;
use super::samples::Samples;
use crate::autodiff::Var;
use crate::backend::{Backend, Real, Tensor, Transfer};
use crate::error::{Error, Result};
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
///         let error = self.0.forward(cx, &column(0)?)?.sub(&column(1)?)?;
///         let (loss, count) = (error.square()?.mean()?, batch.len() as f64);
///         let sum = move |errors: Vec<B::Elem>| Ok((errors.into_iter().map(|error| error.f64().powi(2)).sum(), count));
///         Ok(Scored::new(loss)?.metric_of(error.value(), sum))
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

/// What came of a batch: a loss, and numbers that may still be on the device.
///
/// On a GPU whoever reads a number waits for everything that was asked of the device before. So nothing is read here: what the loop of a
/// trainer wants to know is read together, many steps at once.
pub struct Scored<B: Backend> {
    /// What is learnt from: one number, a mean over what [`Samples::count`] counts.
    pub loss: Var<B>,
    told: Told<B>,
}

/// What is made of a tensor once it is read.
type Reading<B, T> = Box<dyn FnOnce(Vec<<B as Transfer>::Elem>) -> Result<T> + Send + Sync>;

/// What is said of a batch beside its loss.
enum Told<B: Backend> {
    Nothing,
    Score(Score),
    Metric(Tensor<B>, Reading<B, (f64, f64)>),
    Classes(Tensor<B>, Reading<B, Vec<(usize, usize)>>),
}

/// The numbers of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Score {
    /// The value of the loss.
    pub value: f64,
    /// The metric as a sum and what it is divided by: that of several batches is the quotient of both sums. `None` is the loss.
    pub metric: Option<(f64, f64)>,
    /// Of a classifier: the true class and the one that it was taken for, of every sample.
    pub classes: Vec<(usize, usize)>,
}

impl Score {
    /// The same with classes; the metric is the share of those that agree.
    fn of_classes(self, classes: Vec<(usize, usize)>) -> Self {
        let right = classes.iter().filter(|(label, taken)| label == taken).count();
        Score { metric: Some((right as f64, classes.len() as f64)), classes, ..self }
    }
}

impl<B: Backend> Scored<B> {
    /// A loss without a metric of its own.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where it is not one number.
    pub fn new(loss: Var<B>) -> Result<Self> {
        if loss.value().numel() != 1 {
            return Err(Error::value("Scored", format!("a loss is one number, this one has the shape {:?}", loss.shape())));
        }
        Ok(Scored { loss, told: Told::Nothing })
    }

    /// The same with a metric that is known: `sum` over the batch, and what it is divided by.
    pub fn metric(self, sum: f64, count: f64) -> Self {
        Scored { told: Told::Score(Score { metric: Some((sum, count)), ..Score::default() }), ..self }
    }

    /// The same with known classes: the class of every sample and the one that it was taken for. The metric is the share of those that agree.
    pub fn classes(self, classes: Vec<(usize, usize)>) -> Self {
        Scored { told: Told::Score(Score::default().of_classes(classes)), ..self }
    }

    /// The same with a metric, sum and count, that `make` makes of the values of `tensor` once they are read: many steps later it may be. In
    /// training it is not asked where the loss is not finite.
    pub fn metric_of(self, tensor: &Tensor<B>, make: impl FnOnce(Vec<B::Elem>) -> Result<(f64, f64)> + Send + Sync + 'static) -> Self {
        Scored { told: Told::Metric(tensor.clone(), Box::new(make)), ..self }
    }

    /// The same with classes that are made of the values of `tensor`, as of logits.
    pub fn classes_of(
        self,
        tensor: &Tensor<B>,
        make: impl FnOnce(Vec<B::Elem>) -> Result<Vec<(usize, usize)>> + Send + Sync + 'static,
    ) -> Self {
        Scored { told: Told::Classes(tensor.clone(), Box::new(make)), ..self }
    }

    /// Reads the numbers: waits for the device, once.
    ///
    /// # Errors
    /// What the device answers, and what the metric is made by.
    pub fn read(self) -> Result<Score> {
        let backend = self.loss.tape().backend().clone();
        let unread = self.unread();
        let mut values = backend.to_vecs(&unread.tensors())?.into_iter();
        let value = unread.value(&mut values);
        unread.rest(value, &mut values)
    }

    /// Its numbers, without the recording that the loss holds.
    pub(super) fn unread(self) -> Unread<B> {
        Unread { loss: self.loss.value().clone(), told: self.told }
    }
}

impl<B: Backend> std::fmt::Debug for Scored<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scored {{ loss: {:?}, .. }}", self.loss)
    }
}

/// The numbers of a batch as they lie on the device.
pub(super) struct Unread<B: Backend> {
    loss: Tensor<B>,
    told: Told<B>,
}

impl<B: Backend> Unread<B> {
    /// What is to be read, the loss first.
    pub(super) fn tensors(&self) -> Vec<&Tensor<B>> {
        let told = match &self.told {
            Told::Metric(tensor, _) | Told::Classes(tensor, _) => Some(tensor),
            Told::Nothing | Told::Score(_) => None,
        };
        [&self.loss].into_iter().chain(told).collect()
    }

    /// The value of the loss, out of what was read.
    pub(super) fn value(&self, values: &mut impl Iterator<Item = Vec<B::Elem>>) -> f64 {
        values.next().and_then(|loss| loss.first().copied()).map_or(f64::NAN, Real::f64)
    }

    /// Everything, out of the loss and what was read behind it.
    pub(super) fn rest(self, value: f64, values: &mut impl Iterator<Item = Vec<B::Elem>>) -> Result<Score> {
        let mut read = || values.next().unwrap_or_default();
        let score = match self.told {
            Told::Nothing => Score::default(),
            Told::Score(score) => score,
            Told::Metric(_, make) => Score { metric: Some(make(read())?), ..Score::default() },
            Told::Classes(_, make) => Score::default().of_classes(make(read())?),
        };
        Ok(Score { value, ..score })
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
