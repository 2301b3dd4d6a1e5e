//! Trainer: one training run, step by step.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;

use super::evaluate::{Evaluation, Evaluator, correct, logits};
use super::recipe::{Recipe, Schedule};
use crate::autodiff::{Gradients, Tape};
use crate::backend::{Backend, Key, Tensor};
use crate::data::{self, Splits};
use crate::error::{Error, Result};
use crate::nn::{Context, Model, Module, Optimizer, Plateau};

/// Steps over which the reported training loss is averaged.
const RECENT: usize = 100;

/// What the random numbers below the run's key are for.
const INIT: u64 = 0;
const NOISE: u64 = 1;
const VALIDATION: u64 = 2;
const TEST: u64 = 3;

/// What came of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The mean loss of the batch.
    pub loss: f64,
    /// The share of the batch that was classified rightly.
    pub accuracy: f64,
}

/// What a run remembers beside its weights and moments. The optimiser counts the steps, and everything else follows from the seed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    /// Epochs whose end was validated.
    pub validated: u64,
    /// The state of a plateau schedule.
    pub plateau: Option<Plateau>,
    /// The latest steps, [`RECENT`] at most.
    pub recent: VecDeque<StepReport>,
}

/// One training run: a model, its optimiser, and where in the data it is.
#[derive(Debug)]
pub struct Trainer<B: Backend> {
    pub(super) backend: B,
    pub(super) task: String,
    pub(super) recipe: Recipe,
    pub(super) splits: Splits,
    pub(super) model: Model<B>,
    pub(super) optimizer: Optimizer<B>,
    pub(super) state: State,
    /// An epoch and the order in which it visits the samples.
    order: Option<(u64, Vec<usize>)>,
}

impl<B: Backend> Trainer<B> {
    /// A run before its first step.
    ///
    /// # Errors
    /// [`Error::Config`] for what [`Recipe::check`] refuses; [`Error::Value`] where one of the three parts of the data is empty.
    pub fn new(backend: &B, task: &str, recipe: Recipe, splits: Splits) -> Result<Self> {
        recipe.check()?;
        for (name, set) in [("training", &splits.train), ("validation", &splits.val), ("test", &splits.test)] {
            if set.is_empty() {
                return Err(Error::value("Trainer", format!("the {name} set is empty: it must have at least one sample")));
            }
        }
        let model = Model::new(backend, Key::new(recipe.seed).fold(INIT), &recipe.model(&splits.train))?;
        let optimizer = Optimizer::new(recipe.optimizer)?;
        let plateau = match recipe.schedule {
            Schedule::Plateau { decay, patience } => Some(Plateau::new(decay, patience)?),
            _ => None,
        };
        let state = State { plateau, ..State::default() };
        Ok(Trainer { backend: backend.clone(), task: task.into(), recipe, splits, model, optimizer, state, order: None })
    }

    /// The model.
    pub fn model(&self) -> &Model<B> {
        &self.model
    }

    /// The optimiser with its moments.
    pub fn optimizer(&self) -> &Optimizer<B> {
        &self.optimizer
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The data.
    pub fn splits(&self) -> &Splits {
        &self.splits
    }

    /// The name of the task.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// Steps taken so far.
    pub fn steps_done(&self) -> u64 {
        self.optimizer.step
    }

    /// Steps of the whole run.
    pub fn steps_total(&self) -> u64 {
        self.recipe.steps(self.splits.train.len())
    }

    /// Whether all steps are taken.
    pub fn is_finished(&self) -> bool {
        self.steps_done() >= self.steps_total()
    }

    /// Whole epochs done so far.
    pub fn epochs_done(&self) -> u64 {
        self.steps_done() / self.steps_per_epoch()
    }

    fn steps_per_epoch(&self) -> u64 {
        self.recipe.steps_per_epoch(self.splits.train.len())
    }

    /// The mean of the last `steps` steps, of 100 at most; `None` before the first.
    pub fn recent(&self, steps: usize) -> Option<StepReport> {
        let taken = steps.min(self.state.recent.len());
        let mean = |part: fn(&StepReport) -> f64| self.state.recent.iter().rev().take(taken).map(part).sum::<f64>() / taken as f64;
        (taken > 0).then(|| StepReport { loss: mean(|r| r.loss), accuracy: mean(|r| r.accuracy) })
    }

    /// What the learning rates are multiplied by in the coming step.
    pub fn rate_factor(&self) -> f64 {
        match (self.recipe.schedule, &self.state.plateau) {
            (Schedule::Cosine(cosine), _) => cosine.factor(self.steps_done()),
            (_, Some(plateau)) => plateau.factor,
            _ => 1.0,
        }
    }

    /// One step on the next batch.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where the loss, a gradient or an updated parameter is; the run cannot go on after that.
    pub fn step(&mut self) -> Result<StepReport> {
        let indices = self.next_indices();
        let batch = self.splits.train.batch(&indices)?;
        let tape = Tape::new(&self.backend);
        let cx = Context::training(&tape, self.key(NOISE).fold(self.steps_done()));
        let logits = logits(&self.model, &cx, &batch)?;
        let accuracy = correct(&logits, &batch.labels)? as f64 / batch.labels.len() as f64;
        let loss = logits.cross_entropy(&batch.labels)?;
        let report = StepReport { loss: loss.item()?, accuracy };
        if !report.loss.is_finite() {
            return Err(self.diverged(match self.first_bad_value()? {
                Some(name) => format!("{name}, and with it the loss,"),
                None => "the loss".into(),
            }));
        }
        self.update(&loss.backward()?)?;
        if self.state.recent.len() == RECENT {
            self.state.recent.pop_front();
        }
        self.state.recent.push_back(report);
        Ok(report)
    }

    /// Hands the gradients to the optimiser, if they are finite and what they lead to is.
    fn update(&mut self, gradients: &Gradients<B>) -> Result<()> {
        let parameters = self.model.parameters();
        let named = parameters.iter().filter_map(|(name, param)| Some((name.clone(), gradients.of_parameter(param.identity())?)));
        if let Some(name) = self.first_not_finite(named)? {
            return Err(self.diverged(format!("the gradient of {name}")));
        }
        // Before the step is counted, so that errors name the step that was tried.
        let factor = self.rate_factor();
        self.optimizer.update(&self.backend, &self.model, gradients, factor)?;
        match self.first_bad_value()? {
            Some(name) => Err(Error::NonFinite { what: name, step: self.steps_done() }),
            None => Ok(()),
        }
    }

    /// The error of the step that is being tried.
    fn diverged(&self, what: String) -> Error {
        Error::NonFinite { what, step: self.steps_done() + 1 }
    }

    /// The first parameter or buffer that is not finite.
    pub(super) fn first_bad_value(&self) -> Result<Option<String>> {
        let values: Vec<_> = self.model.parameters().into_iter().map(|(name, param)| (name, param.value())).collect();
        self.first_not_finite(values.iter().map(|(name, value)| (name.clone(), value)))
    }

    /// The name of the first tensor that is not finite.
    fn first_not_finite<'a>(&self, named: impl Iterator<Item = (String, &'a Tensor<B>)>) -> Result<Option<String>> {
        let (mut names, tensors): (Vec<String>, Vec<&Tensor<B>>) = named.unzip();
        Ok(self.backend.first_not_finite(&tensors)?.map(|place| names.swap_remove(place)))
    }

    /// The samples of the next batch.
    fn next_indices(&mut self) -> Vec<usize> {
        let (epoch, batch) = (self.epochs_done(), self.steps_done() % self.steps_per_epoch());
        let (samples, seed) = (self.splits.train.len(), self.recipe.seed);
        let order = match self.order.take() {
            Some((held, order)) if held == epoch => order,
            _ => data::order(samples, seed, epoch),
        };
        let start = batch as usize * self.recipe.batch;
        let indices = order[start..samples.min(start + self.recipe.batch)].to_vec();
        self.order = Some((epoch, order));
        indices
    }

    fn key(&self, purpose: u64) -> Key {
        Key::new(self.recipe.seed).fold(purpose)
    }

    /// Whether an epoch has ended that was not validated yet.
    pub fn validation_due(&self) -> bool {
        self.epochs_done() > self.state.validated
    }

    /// Runs the model over the validation set, for the epoch that has ended, and tells a plateau schedule of it. `None` where `stop` was
    /// set meanwhile: then it is still due.
    pub fn validate(&mut self, stop: &AtomicBool) -> Result<Option<Evaluation>> {
        let epoch = self.epochs_done();
        let found = self.evaluator(stop).run(&self.splits.val, self.key(VALIDATION).fold(epoch), 1)?;
        if let Some(evaluation) = &found {
            self.state.validated = epoch;
            if let Some(plateau) = &mut self.state.plateau {
                plateau.observe(evaluation.accuracy);
            }
        }
        Ok(found)
    }

    /// Runs the model over the test set, `passes` times, with new spikes each time. `None` where `stop` was set meanwhile.
    ///
    /// # Errors
    /// [`Error::Config`] where `passes` is 0.
    pub fn test(&self, passes: u64, stop: &AtomicBool) -> Result<Option<Evaluation>> {
        self.evaluator(stop).run(&self.splits.test, self.key(TEST), passes)
    }

    fn evaluator<'a>(&'a self, stop: &'a AtomicBool) -> Evaluator<'a, B> {
        Evaluator { backend: &self.backend, model: &self.model, batch: self.recipe.batch, stop }
    }
}
