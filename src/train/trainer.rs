//! Trainer: one training run, step by step.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::classify::{first_not_finite, largest, logits, scores};
use super::evaluate::{Evaluation, Evaluator, Watch};
use super::feeder::{self, Feeder};
use super::memory;
use super::recipe::{Recipe, Schedule};
use crate::autodiff::{Gradients, Tape};
use crate::backend::{Backend, Key, SpikeMode, Tensor};
use crate::data::{self, Batch, Splits};
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
#[non_exhaustive]
pub struct StepReport {
    /// The mean loss of the batch.
    pub loss: f64,
    /// The share of the batch that was classified rightly.
    pub accuracy: f64,
}

impl StepReport {
    /// The mean of some steps; `None` of none.
    pub(super) fn mean<'a>(steps: impl ExactSizeIterator<Item = &'a StepReport>) -> Option<StepReport> {
        let count = steps.len() as f64;
        let [loss, accuracy] = steps.fold([0.0; 2], |[loss, accuracy], step| [loss + step.loss, accuracy + step.accuracy]);
        (count > 0.0).then(|| StepReport { loss: loss / count, accuracy: accuracy / count })
    }
}

/// What a run remembers beside its weights and moments. The optimiser counts the steps, and everything else follows from the seed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    /// Epochs whose end was validated.
    pub validated: u64,
    /// The epoch with the best validation accuracy, and that accuracy.
    pub best: Option<(u64, f64)>,
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
    pub(super) splits: Arc<Splits>,
    /// What a checkpoint says of the splits.
    pub(super) data: BTreeMap<String, String>,
    pub(super) model: Model<B>,
    pub(super) optimizer: Optimizer<B>,
    pub(super) state: State,
    /// The batches from the coming step on, once one was asked for.
    feeder: Option<Feeder<Result<Vec<Batch>>>>,
    /// Steps of this process that no sample could be read for, and how many of them came last in a row.
    left_out: [u64; 2],
}

impl<B: Backend> Trainer<B> {
    /// A run before its first step.
    ///
    /// # Errors
    /// [`Error::Config`] for what [`Recipe::check`] refuses, and for sizes that the machine has no memory for; [`Error::Value`] where one of
    /// the three parts of the data is empty.
    pub fn new(backend: &B, task: &str, recipe: Recipe, splits: Splits) -> Result<Self> {
        recipe.check()?;
        for (name, set) in [("training", &splits.train), ("validation", &splits.val), ("test", &splits.test)] {
            if set.is_empty() {
                return Err(Error::value("Trainer", format!("the {name} set is empty: it must have at least one sample")));
            }
        }
        memory::check_training(&recipe, &splits.train, backend.name().starts_with("cpu"))?;
        let model = Model::new(backend, Key::new(recipe.run.seed).fold(INIT), &recipe.model_for(&splits.train))?;
        let optimizer = Optimizer::new(recipe.optimizer)?;
        let plateau = match recipe.schedule {
            Schedule::Plateau { decay, patience } => Some(Plateau::new(decay, patience)?),
            _ => None,
        };
        let state = State { plateau, ..State::default() };
        let (data, splits) = (splits.fingerprint(), Arc::new(splits));
        Ok(Trainer {
            backend: backend.clone(),
            task: task.into(),
            recipe,
            splits,
            data,
            model,
            optimizer,
            state,
            feeder: None,
            left_out: [0; 2],
        })
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
        self.optimizer.steps()
    }

    /// Steps of the whole run.
    pub fn steps_total(&self) -> u64 {
        self.recipe.steps(self.splits.train.len())
    }

    /// Whether all steps are taken, or the run ends early because validation has not improved for long enough.
    pub fn is_finished(&self) -> bool {
        self.steps_done() >= self.steps_total() || self.is_stuck()
    }

    fn is_stuck(&self) -> bool {
        match (self.recipe.run.early_stop, self.state.best) {
            (Some(patience), Some((best, _))) => self.state.validated >= best.saturating_add(patience),
            _ => false,
        }
    }

    /// The epoch with the best validation accuracy so far, and that accuracy.
    pub fn best(&self) -> Option<(u64, f64)> {
        self.state.best
    }

    /// Whole epochs done so far.
    pub fn epochs_done(&self) -> u64 {
        self.steps_done() / self.steps_per_epoch()
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.recipe.steps_per_epoch(self.splits.train.len())
    }

    /// The mean of the last `steps` steps, of 100 at most; `None` before the first.
    pub fn recent(&self, steps: usize) -> Option<StepReport> {
        StepReport::mean(self.state.recent.iter().rev().take(steps))
    }

    /// What the learning rates are multiplied by in the coming step.
    pub fn rate_factor(&self) -> f64 {
        match (self.recipe.schedule, &self.state.plateau) {
            (Schedule::Cosine(cosine), _) => cosine.factor(self.steps_done()),
            (_, Some(plateau)) => plateau.factor,
            _ => 1.0,
        }
    }

    /// Steps of this process that were left out because no sample of the batch could be read.
    pub fn left_out(&self) -> u64 {
        self.left_out[0]
    }

    /// One step on the next batch. `None` where no sample of it can be read and bad ones are [skipped](crate::data::Faults::skipped): the
    /// step is counted, and nothing is learnt.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where the loss, a gradient or an updated parameter is; the run cannot go on after that. What reading the
    /// samples answers, and [`Error::Value`] where none could be read for a whole epoch.
    pub fn step(&mut self) -> Result<Option<StepReport>> {
        let tried = self.try_step();
        if tried.is_err() {
            // The next try is for the same step.
            self.rewind_data();
        }
        tried
    }

    fn try_step(&mut self) -> Result<Option<StepReport>> {
        let parts = self.next_parts()?;
        let samples: usize = parts.iter().map(|part| part.labels.len()).sum();
        let (mut report, mut sum) = (StepReport { loss: 0.0, accuracy: 0.0 }, None::<Gradients<B>>);
        let key = self.key(NOISE).fold(self.steps_done());
        for (number, part) in parts.iter().enumerate() {
            let share = part.labels.len() as f64 / samples as f64;
            let key = if parts.len() == 1 { key } else { key.fold(number as u64) };
            let (found, gradients) = self.differentiate(part, share, key)?;
            report.loss += share * found.loss;
            report.accuracy += share * found.accuracy;
            match &mut sum {
                Some(sum) => sum.accumulate(gradients)?,
                None => sum = Some(gradients),
            }
        }
        let Some(gradients) = sum else { return self.leave_out().map(|()| None) };
        self.update(gradients)?;
        self.left_out[1] = 0;
        if self.state.recent.len() == RECENT {
            self.state.recent.pop_front();
        }
        self.state.recent.push_back(report);
        Ok(Some(report))
    }

    /// Passes over a step that there is no sample for.
    fn leave_out(&mut self) -> Result<()> {
        if self.left_out[1] + 1 >= self.steps_per_epoch() {
            let none = "none of the training samples can be read: leave --skip-bad out to see the first error";
            return Err(Error::value("Trainer", none));
        }
        self.optimizer.pass();
        self.left_out = self.left_out.map(|count| count + 1);
        Ok(())
    }

    /// The result of a part of a batch, and the gradients of `share` times its loss.
    fn differentiate(&self, part: &Batch, share: f64, key: Key) -> Result<(StepReport, Gradients<B>)> {
        // As the official code does: C~ is made for the first length that is trained, and doubled for longer ones.
        self.model.prepare(&self.backend, part.length)?;
        let tape = Tape::new(&self.backend);
        let logits = logits(&self.model, &Context::training(&tape, key), part)?;
        let loss = logits.cross_entropy(&part.labels)?;
        let value = loss.item()?;
        if !value.is_finite() {
            return Err(self.diverged(match self.first_bad_value()? {
                Some(name) => format!("{name}, and with it the loss,"),
                None => "the loss".into(),
            }));
        }
        // Once the loss is known to be finite, so that errors are about the step.
        let scores = scores(&self.backend, &self.model, &logits)?;
        let right = scores.iter().zip(&part.labels).filter(|(scores, label)| largest(scores) == **label).count();
        let report = StepReport { loss: value, accuracy: right as f64 / part.labels.len() as f64 };
        Ok((report, loss.backward_from(&self.backend.full(loss.shape(), share)?)?))
    }

    /// Updates the parameters. The gradients must be finite, and so must the updated parameters.
    fn update(&mut self, mut gradients: Gradients<B>) -> Result<()> {
        let parameters = self.model.parameters();
        let named = parameters.iter().filter_map(|(name, param)| Some((name, gradients.of_parameter(param.identity())?)));
        let (names, tensors): (Vec<&String>, Vec<&Tensor<B>>) = named.unzip();
        if let Some(place) = self.backend.first_not_finite(&tensors)? {
            return Err(self.diverged(format!("the gradient of {}", names[place])));
        }
        if let Some(clip) = self.recipe.run.clip {
            gradients.clip_norm(clip)?;
        }
        // Before the step is counted, so that errors name the step that was tried.
        let factor = self.rate_factor();
        self.optimizer.update(&self.backend, &self.model, &gradients, factor)?;
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
        first_not_finite(&self.backend, &self.model)
    }

    /// The next batch in its parts.
    fn next_parts(&mut self) -> Result<Vec<Batch>> {
        let feeder = match &mut self.feeder {
            Some(feeder) => feeder,
            None => {
                let (splits, recipe) = (self.splits.clone(), self.recipe.clone());
                let mut cutter = Cutter { splits, recipe, order: Vec::new(), epoch: None };
                let threads = feeder::threads(&self.splits.train);
                self.feeder.insert(Feeder::spawn(self.optimizer.steps(), threads, move |step| Some(cutter.parts(step)))?)
            }
        };
        let ended = || Err(Error::value("Trainer", "the thread that makes the batches has ended"));
        feeder.next().unwrap_or_else(ended)
    }

    /// Forgets the batches that were made for other steps than the coming ones.
    pub(super) fn rewind_data(&mut self) {
        self.feeder = None;
    }

    fn key(&self, purpose: u64) -> Key {
        Key::new(self.recipe.run.seed).fold(purpose)
    }

    /// Whether an epoch has ended that was not validated yet.
    pub fn validation_due(&self) -> bool {
        self.epochs_done() > self.state.validated
    }

    /// Runs the model over the validation set, for the epoch that has ended, and tells a plateau schedule of it. `None` where `stop` was
    /// set meanwhile: then it is still due.
    ///
    /// # Errors
    /// As [`Evaluator::run`].
    pub fn validate(&mut self, stop: &AtomicBool) -> Result<Option<Evaluation>> {
        self.validate_watched(stop, &|_, _| ())
    }

    /// The same; `watch` is told how many samples are done.
    pub(super) fn validate_watched(&mut self, stop: &AtomicBool, watch: Watch<'_>) -> Result<Option<Evaluation>> {
        let (epoch, evaluator) = (self.epochs_done(), self.evaluator(SpikeMode::Sampled, stop));
        let found = evaluator.run_watched(&self.splits.val, self.key(VALIDATION).fold(epoch), 1, watch)?;
        if let Some(evaluation) = &found {
            self.state.validated = epoch;
            if self.state.best.is_none_or(|(_, best)| evaluation.accuracy > best) {
                self.state.best = Some((epoch, evaluation.accuracy));
            }
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
        self.test_watched(SpikeMode::Sampled, passes, stop, &|_, _| ())
    }

    /// Runs the model over the test set once, with the expected spike in the place of every spike.
    ///
    /// # Errors
    /// What the model answers.
    pub fn test_expected(&self, stop: &AtomicBool) -> Result<Option<Evaluation>> {
        self.test_watched(SpikeMode::Expected, 1, stop, &|_, _| ())
    }

    /// Either of them; `watch` is told how many samples are done.
    pub(super) fn test_watched(&self, mode: SpikeMode, passes: u64, stop: &AtomicBool, watch: Watch<'_>) -> Result<Option<Evaluation>> {
        self.evaluator(mode, stop).run_watched(&self.splits.test, self.key(TEST), passes, watch)
    }

    fn evaluator<'a>(&'a self, mode: SpikeMode, stop: &'a AtomicBool) -> Evaluator<'a, B> {
        // As many samples at a time as fit in training.
        let batch = self.recipe.run.batch.div_ceil(self.recipe.run.accumulate);
        Evaluator { backend: &self.backend, model: &self.model, batch, mode, stop }
    }
}

/// Cuts an epoch into batches, and these into the recipe's parts.
#[derive(Clone)]
struct Cutter {
    splits: Arc<Splits>,
    recipe: Recipe,
    /// In which this epoch visits the samples.
    order: Vec<usize>,
    epoch: Option<u64>,
}

impl Cutter {
    fn parts(&mut self, step: u64) -> Result<Vec<Batch>> {
        let set = &self.splits.train;
        let per_epoch = self.recipe.steps_per_epoch(set.len());
        let epoch = step / per_epoch;
        if self.epoch != Some(epoch) {
            (self.order, self.epoch) = (data::order(set.len(), self.recipe.run.seed, epoch), Some(epoch));
        }
        let start = (step % per_epoch) as usize * self.recipe.run.batch;
        let indices = &self.order[start..self.order.len().min(start + self.recipe.run.batch)];
        indices
            .chunks(self.recipe.run.batch.div_ceil(self.recipe.run.accumulate))
            .filter_map(|part| set.try_batch(part).transpose())
            .collect()
    }
}
