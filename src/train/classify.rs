//! What a P-SpikeSSM learns of whole sequences, classes or numbers: the forward pass of a batch, its loss, and what is read off its logits.

use std::path::Path;

use super::Recipe;
use super::learner::{Better, Learner, MODEL, Metric, Scored};
use super::loss::{Loss, squared_error};
use super::stored_set::store_set;
use crate::autodiff::Var;
use crate::backend::{Backend, Real};
use crate::data::{Batch, Dataset, Inputs, TargetScale};
use crate::error::{Error, Result};
use crate::nn::store::Archive;
use crate::nn::{Context, CrossEntropy, Input, Model, Module, Param};

/// The logits of a batch, as [`Model::forward`] gives them.
///
/// # Errors
/// As [`Model::forward`].
pub fn logits<B: Backend>(model: &Model<B>, cx: &Context<'_, B>, batch: &Batch) -> Result<Var<B>> {
    let input = match &batch.inputs {
        Inputs::Tokens(tokens) => Input::tokens(tokens, batch.batch),
        Inputs::Values { values, .. } => Input::values(values, batch.batch),
    };
    model.forward(cx, input.lengths(&batch.lengths))
}

/// The metric of classes, and that of numbers.
const ACCURACY: Metric = Metric { name: "accuracy", better: Better::Higher };
const ABSOLUTE_ERROR: Metric = Metric { name: "absolute_error", better: Better::Lower };

/// The loss of a batch of classes, the plain one unless another is given, and what it was taken for.
fn score_classes<B: Backend>(model: &Model<B>, cx: &Context<'_, B>, batch: &Batch, loss: Option<&CrossEntropy>) -> Result<Scored<B>> {
    let logits = logits(model, cx, batch)?;
    let loss = loss.map_or_else(|| logits.cross_entropy(&batch.labels), |loss| loss.forward(&logits, &batch.labels))?;
    let labels = batch.labels.clone();
    let (backend, parameters) = (cx.backend().clone(), model.parameters());
    let classes = logits.shape().last().map_or(1, |&classes| classes.max(1));
    let taken = move |values: Vec<B::Elem>| {
        let scores = scores(&backend, parameters, &values, classes)?;
        Ok(labels.into_iter().zip(scores.iter().map(|scores| largest(scores))).collect())
    };
    Ok(Scored::new(loss)?.classes_of(logits.value(), taken))
}

/// The loss of a batch of numbers to find; the metric is the mean absolute error, in units of the data.
fn score_numbers<B: Backend>(model: &Model<B>, cx: &Context<'_, B>, batch: &Batch, scale: TargetScale) -> Result<Scored<B>> {
    let outputs = logits(model, cx, batch)?;
    let loss = squared_error(cx, &outputs, batch)?;
    let targets = batch.targets.clone();
    let errors = move |found: Vec<B::Elem>| {
        let errors = found.into_iter().zip(&targets).map(|(found, &target)| (found.f64() - f64::from(target)).abs() * scale.deviation);
        Ok((errors.sum(), targets.len() as f64))
    };
    Ok(Scored::new(loss)?.metric_of(outputs.value(), errors))
}

/// The classification of whole sequences, or of pairs of them, by cross-entropy; the metric is the accuracy.
impl<B: Backend> Learner<B> for Model<B> {
    type Samples = Dataset;

    fn module(&self) -> &dyn Module<B> {
        self
    }

    fn score(&self, cx: &Context<'_, B>, batch: &Batch) -> Result<Scored<B>> {
        score_classes(self, cx, batch, None)
    }

    fn metric(&self) -> Metric {
        ACCURACY
    }

    fn prepare(&self, backend: &B, length: usize) -> Result<()> {
        // As the official code does: C~ is made for the first length that is trained, and doubled for longer ones.
        Model::prepare(self, backend, length)
    }
}

/// A classifier as a recipe describes it.
#[derive(Debug)]
pub struct Classifier<B: Backend> {
    pub(super) model: Model<B>,
    pub(super) recipe: Recipe,
    /// An empty data set with the encoding and the classes of the training set.
    pub(super) set: Dataset,
    /// The loss of classes in training, where it is not the plain one.
    loss: Option<CrossEntropy>,
}

impl<B: Backend> Classifier<B> {
    /// A model as `recipe` describes it for samples as in `train`.
    pub(super) fn new(model: Model<B>, recipe: Recipe, train: &Dataset) -> Result<Self> {
        recipe.loss.check_set(train)?;
        Ok(Classifier { model, loss: recipe.loss.cross_entropy(train), recipe, set: train.subset(&[])? })
    }
}

impl<B: Backend> Learner<B> for Classifier<B> {
    type Samples = Dataset;

    fn module(&self) -> &dyn Module<B> {
        &self.model
    }

    fn score(&self, cx: &Context<'_, B>, batch: &Batch) -> Result<Scored<B>> {
        match self.set.scale() {
            Some(scale) => score_numbers(&self.model, cx, batch, scale),
            None => score_classes(&self.model, cx, batch, self.loss.as_ref().filter(|_| cx.training)),
        }
    }

    fn metric(&self) -> Metric {
        if self.recipe.loss == Loss::SquaredError { ABSOLUTE_ERROR } else { ACCURACY }
    }

    fn prepare(&self, backend: &B, length: usize) -> Result<()> {
        Learner::prepare(&self.model, backend, length)
    }

    fn recipe(&self) -> Option<&Recipe> {
        Some(&self.recipe)
    }

    fn describe(&self, archive: &mut Archive) -> Result<()> {
        let mut note = archive.note(Path::new("checkpoint"))?;
        store_set(archive, &mut note, &self.set);
        self.model.config().describe(&mut note, MODEL)?;
        archive.set_note(note);
        Ok(())
    }
}

/// The logits of every sample, out of those of a batch. One that is NaN, or has no softmax beside it, is a class's score in no sense.
///
/// # Errors
/// [`Error::Value`] that names the sample, and the one of `parameters` that is not finite, where one is.
fn scores<B: Backend>(backend: &B, parameters: Named<B>, logits: &[B::Elem], classes: usize) -> Result<Vec<Vec<f64>>> {
    let rows: Vec<Vec<f64>> = logits.chunks_exact(classes).map(|row| row.iter().map(|logit| logit.f64()).collect()).collect();
    let bad = |logit: &f64| logit.is_nan() || *logit == f64::INFINITY;
    let Some(sample) = rows.iter().position(|row| row.iter().any(bad)) else { return Ok(rows) };
    let cause = first_of(backend, parameters)?.map_or("the weights are too large".into(), |name| format!("{name} is not finite"));
    Err(Error::value("Model", format!("the logits of sample {sample} of a batch are not numbers, and so no class is the largest: {cause}")))
}

/// The logits of every sample on the host.
///
/// # Errors
/// [`Error::Value`] where they are not numbers.
pub(super) fn read_scores<B: Backend>(backend: &B, model: &Model<B>, logits: &Var<B>) -> Result<Vec<Vec<f64>>> {
    let classes = logits.shape().last().map_or(1, |&classes| classes.max(1));
    scores(backend, model.parameters(), &logits.to_vec()?, classes)
}

/// Parameters by their names.
type Named<B> = Vec<(String, Param<B>)>;

/// The first parameter or buffer of a module that is not finite.
pub(super) fn first_not_finite<B: Backend>(backend: &B, module: &dyn Module<B>) -> Result<Option<String>> {
    first_of(backend, module.parameters())
}

fn first_of<B: Backend>(backend: &B, parameters: Named<B>) -> Result<Option<String>> {
    let (mut names, values): (Vec<String>, Vec<_>) = parameters.into_iter().map(|(name, param)| (name, param.value())).unzip();
    Ok(backend.first_not_finite(&values.iter().collect::<Vec<_>>())?.map(|place| names.swap_remove(place)))
}

/// The class with the largest score; the first of equal ones counts as the largest.
pub(super) fn largest(scores: &[f64]) -> usize {
    (1..scores.len()).fold(0, |best, class| if scores[class] > scores[best] { class } else { best })
}
