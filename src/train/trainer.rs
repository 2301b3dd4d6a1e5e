//! Trainer: one training run, step by step.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use super::classify::{Classifier, first_not_finite};
use super::communicator::Communicator;
use super::cutter::{Cutter, MicroBatch};
use super::evaluate::{Evaluation, Evaluator, Watch};
use super::feeder::Feeder;
use super::learner::{Learner, Score};
use super::memory;
use super::plan::{Plan, Schedule};
use super::process_group::{ProcessGroup, Reduce};
use super::recipe::{self, Recipe};
use super::samples::Samples;
use super::unread_queue::UnreadSteps;
use crate::autodiff::Gradients;
use crate::backend::{Backend, Key, Real, SpikeMode, Tensor};
use crate::data::Splits;
use crate::error::{Error, Result};
use crate::nn::{Ema, Model, Optimizer, Plateau, RateSchedule, SpikeMeter, UpdateRule};

/// Steps over which the reported training loss is averaged.
const RECENT: usize = 100;

/// Bytes of gradients that are worth a message: on Ethernet they take as long as it takes to arrive.
const MESSAGE: usize = 1 << 15;

/// What the random numbers below the run's key are for.
const INIT: u64 = 0;
pub(super) const NOISE: u64 = 1;
const VALIDATION: u64 = 2;
const TEST: u64 = 3;

/// What came of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct StepReport {
    /// The mean loss of the batch.
    pub loss: f64,
    /// The batch's metric: of a classifier the share that was classified rightly.
    pub metric: f64,
}

impl StepReport {
    /// That of a batch; where it has no metric of its own, the loss is one.
    pub(super) fn of(score: &Score) -> Self {
        StepReport { loss: score.value, metric: score.metric.map_or(score.value, |(sum, count)| sum / count) }
    }

    /// That of a batch out of those of its parts, of so many samples each.
    pub(super) fn of_batch(parts: &[(u64, StepReport)]) -> Self {
        let samples: u64 = parts.iter().map(|(count, _)| count).sum();
        parts.iter().fold(StepReport { loss: 0.0, metric: 0.0 }, |sum, (count, part)| {
            let share = *count as f64 / samples as f64;
            StepReport { loss: sum.loss + share * part.loss, metric: sum.metric + share * part.metric }
        })
    }

    /// The mean of some steps; `None` of none.
    pub(super) fn mean<'a>(steps: impl ExactSizeIterator<Item = &'a StepReport>) -> Option<StepReport> {
        let count = steps.len() as f64;
        let [loss, metric] = steps.fold([0.0; 2], |[loss, metric], step| [loss + step.loss, metric + step.metric]);
        (count > 0.0).then(|| StepReport { loss: loss / count, metric: metric / count })
    }
}

/// What a run remembers beside its weights and moments. The optimiser counts the steps, and everything else follows from the seed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    /// Epochs whose end was validated.
    pub validated: u64,
    /// The epoch with the best metric in validation, and that metric.
    pub best: Option<(u64, f64)>,
    /// The state of a plateau schedule.
    pub plateau: Option<Plateau>,
    /// The latest steps, [`RECENT`] at most.
    pub recent: VecDeque<StepReport>,
}

/// How a trainer's parameters are moved: by the rule of its plan, or by one's own.
pub type Rule<B> = Box<dyn UpdateRule<B> + Send + Sync>;

/// One process's part of a batch, or why it could not be read.
type OwnOf<B, L> = Result<Vec<MicroBatch<<<L as Learner<B>>::Samples as Samples>::Batch>>>;

/// One training run: a learner, its optimiser, and where in the data it is.
///
/// [`Trainer::new`] trains the classifier of a recipe, [`Trainer::of`] any [`Learner`].
pub struct Trainer<B: Backend, L: Learner<B> = Classifier<B>> {
    pub(super) backend: B,
    pub(super) task: String,
    pub(super) plan: Plan,
    pub(super) splits: Arc<Splits<L::Samples>>,
    /// What a checkpoint says of the splits.
    pub(super) data: BTreeMap<String, String>,
    pub(super) learner: L,
    pub(super) optimizer: Optimizer<B, Rule<B>>,
    /// The average of the weights, where the plan wants one.
    pub(super) ema: Option<Mutex<Ema<B>>>,
    /// Rates that go by something else than the plan.
    schedule: Option<Box<dyn RateSchedule + Send + Sync>>,
    pub(super) state: State,
    /// The processes that train together.
    pub(super) group: ProcessGroup,
    /// How often each of the learner's parameters was met in the latest step, on any process; empty before the first.
    pub(super) times: Vec<u64>,
    /// Bytes that gradients are sent in, to each process.
    pub(super) message: usize,
    /// The batches from the coming step on, once one was asked for.
    feeder: Option<Feeder<OwnOf<B, L>>>,
    /// Steps of this process that no sample could be read for, and how many of them came last in a row.
    left_out: [u64; 2],
    /// Steps whose numbers are still on the device.
    pub(super) unread: UnreadSteps<B>,
}

impl<B: Backend, L: Learner<B>> std::fmt::Debug for Trainer<B, L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trainer of {}, {} of {} steps done", self.task, self.steps_done(), self.steps_total())
    }
}

impl<B: Backend> Trainer<B> {
    /// A run of a recipe's model before its first step.
    ///
    /// # Errors
    /// [`Error::Config`] for what [`Recipe::check`] refuses, and for sizes that the machine has no memory for; [`Error::Value`] where one of
    /// the three parts of the data is empty.
    pub fn new(backend: &B, task: &str, recipe: Recipe, splits: Splits) -> Result<Self> {
        recipe.check()?;
        check_filled(&splits)?;
        memory::check_training(&recipe, &splits, backend.name().starts_with("cpu"))?;
        let model = Model::new(backend, Key::new(recipe.run.seed).fold(INIT), &recipe.model_for(&splits.train))?;
        let plan = recipe.plan();
        let learner = Classifier::new(model, recipe, &splits.train)?;
        Self::of(backend, task, plan, learner, splits)
    }

    /// The model.
    pub fn model(&self) -> &Model<B> {
        &self.learner.model
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.learner.recipe
    }

    /// The accuracy on the test set of 1, 2, .. `passes` passes that vote, as [`Evaluator::votes`] has it.
    ///
    /// # Errors
    /// As [`test`](Self::test).
    pub fn votes(&self, passes: u64, stop: &AtomicBool) -> Result<Option<Vec<f64>>> {
        let Evaluator { backend, batch, mode, .. } = self.evaluator(SpikeMode::Sampled, stop);
        let evaluator = Evaluator { backend, model: self.model(), batch, mode, stop };
        self.on_average(|| evaluator.votes(&self.splits.test, self.key(TEST), passes))?
    }
}

/// Refuses data of which a part is empty.
fn check_filled<S: Samples>(splits: &Splits<S>) -> Result<()> {
    for (name, set) in [("training", &splits.train), ("validation", &splits.val), ("test", &splits.test)] {
        if set.is_empty() {
            return Err(Error::value("Trainer", format!("the {name} set is empty: it must have at least one sample")));
        }
    }
    Ok(())
}

impl<B: Backend, L: Learner<B>> Trainer<B, L> {
    /// A run of any learner before its first step; `task` is what it is called.
    ///
    /// # Errors
    /// [`Error::Config`] for what [`Plan::check`] refuses; [`Error::Value`] where one of the three parts of the data is empty, or nothing
    /// has a name that the plan freezes.
    pub fn of(backend: &B, task: &str, plan: Plan, learner: L, splits: Splits<L::Samples>) -> Result<Self> {
        plan.check()?;
        check_filled(&splits)?;
        for part in &plan.run.freeze {
            learner.module().freeze(part)?;
        }
        let rule: Rule<B> = Box::new(plan.optimizer);
        let optimizer = Optimizer::new(rule)?;
        let plateau = match plan.schedule {
            Schedule::Plateau { decay, patience } => Some(Plateau::new(decay, patience)?),
            _ => None,
        };
        let state = State { plateau, ..State::default() };
        let parts = [("training data", &splits.train), ("validation data", &splits.val), ("test data", &splits.test)];
        let ema = plan.run.ema.map(|decay| Ema::new(learner.module(), decay)).transpose()?.map(Mutex::new);
        let data = parts.map(|(name, set)| (name.into(), set.fingerprint())).into();
        Ok(Trainer {
            backend: backend.clone(),
            task: task.into(),
            plan,
            splits: Arc::new(splits),
            data,
            learner,
            optimizer,
            ema,
            schedule: None,
            state,
            group: ProcessGroup::default(),
            times: Vec::new(),
            message: MESSAGE,
            feeder: None,
            left_out: [0; 2],
            unread: UnreadSteps::default(),
        })
    }

    /// This run, at the step where it is, on all processes of `communicator`, each of which has made the same trainer. From here on what takes
    /// a step, validates, tests or [fits](super::fit) is a meeting: all processes call it. Each computes its share of a batch's micro-batches
    /// (of which `run.accumulate` says how many there are), and its share of an evaluation; all get the results of one process, with
    /// [`Reduce::Fixed`] bit for bit. One of them writes.
    ///
    /// ```
    /// use pspikessm::backend::Cpu;
    /// use pspikessm::data::listops::{self, Rules};
    /// use pspikessm::train::tasks::{ListOps, Task};
    /// use pspikessm::train::{Communicator, Reduce, Threads, Trainer};
    /// use std::sync::Arc;
    ///
    /// let rules = Rules { max_depth: 2, min_tokens: 4, max_tokens: 7, train: 40, val: 10, test: 10, ..Rules::small() };
    /// let mut recipe = ListOps.recipe(Some("quick"))?.with_steps(2);
    /// (recipe.run.batch, recipe.run.accumulate, recipe.model.block.ssm.d_model) = (8, 4, 8);
    /// let train = |own: Arc<dyn Communicator>| {
    ///     let sets = listops::generate(&rules, 0)?;
    ///     let mut trainer = Trainer::new(&Cpu::<f32>::new(), "listops", recipe.clone(), sets)?.across(own, Reduce::Fixed)?;
    ///     let report = trainer.step()?.expect("samples that can be read");
    ///     Ok::<_, pspikessm::Error>(report)
    /// };
    /// let two: Vec<_> = std::thread::scope(|scope| {
    ///     let ranks: Vec<_> = Threads::new(2).into_iter().map(|own| scope.spawn(|| train(Arc::new(own)))).collect();
    ///     ranks.into_iter().map(|rank| rank.join().expect("no panic")).collect::<Result<_, _>>()
    /// })?;
    /// let one = train(Arc::new(pspikessm::train::Alone))?;
    /// assert_eq!(two, [one, one]);
    /// # Ok::<(), pspikessm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] where the processes' settings, data, weights or steps differ.
    pub fn across(self, communicator: Arc<dyn Communicator>, reduce: Reduce) -> Result<Self> {
        self.joined(ProcessGroup::new(communicator, reduce))
    }

    /// The same on the processes of a group.
    pub(super) fn joined(mut self, group: ProcessGroup) -> Result<Self> {
        self.rewind_data();
        (self.group, self.times) = (group, Vec::new());
        let own = self.settings_text().and_then(|settings| {
            let settings = format!("{settings}{}", self.message);
            let values = self.learner.module().parameters().into_iter().map(|(_, param)| self.backend.to_vec(&param.value()));
            let values: Vec<_> = values.collect::<Result<Vec<_>>>()?.concat();
            let sums = [settings.into_bytes(), format!("{:?}", self.data).into_bytes(), B::Elem::bytes_of(&values)];
            Ok(sums.iter().map(|bytes| u64::from(crc32fast::hash(bytes))).chain([self.steps_done()]).collect())
        });
        let all = self.group.gather(own)?;
        let names = ["settings", "data", "weights", "steps"];
        let differs = |place: &usize| all.iter().any(|words| words.get(*place) != all[0].get(*place));
        match (0..names.len()).find(differs) {
            Some(place) => {
                let help = format!("the {} of the processes differ: start all of them with the same files and flags", names[place]);
                Err(Error::value("Trainer", help))
            }
            None => Ok(self),
        }
    }

    /// Bytes that this process has sent to others so far.
    pub fn bytes_sent(&self) -> u64 {
        self.group.sent()
    }

    /// This run, which has yet to go [across](Self::across) processes, with gradients in messages of about so many bytes (by default 32 KiB).
    /// With [`Reduce::Fixed`] they are sent while the last micro-batch of a process still runs backwards: smaller messages leave earlier, and
    /// there are more of them. No result depends on it.
    pub fn in_messages_of(self, bytes: usize) -> Self {
        Trainer { message: bytes, ..self }
    }

    /// This run before its first step with a rule of one's own in the place of the plan's. A checkpoint does not say which rule it was; the
    /// learner's [`settings`](Learner::settings) may.
    ///
    /// # Errors
    /// What the rule's [`check`](UpdateRule::check) refuses.
    pub fn with_rule(self, rule: impl UpdateRule<B> + Send + Sync + 'static) -> Result<Self> {
        let rule: Rule<B> = Box::new(rule);
        Ok(Trainer { optimizer: Optimizer::new(rule)?, ..self })
    }

    /// This run with a schedule of one's own in the place of the plan's, such as a closure of the step. It is told of the metric of every
    /// validation (of an error with its sign changed); what it remembers of that stands in no checkpoint.
    pub fn with_schedule(self, schedule: impl RateSchedule + Send + Sync + 'static) -> Self {
        Trainer { schedule: Some(Box::new(schedule)), ..self }
    }

    /// What is trained.
    pub fn learner(&self) -> &L {
        &self.learner
    }

    /// How the data are gone through and the parameters changed.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The recipe in TOML, or else the plan.
    pub(super) fn settings_text(&self) -> Result<String> {
        self.learner.recipe().map_or_else(|| recipe::to_toml(&self.plan), Recipe::to_toml)
    }

    /// The optimiser with what it remembers.
    pub fn optimizer(&self) -> &Optimizer<B, Rule<B>> {
        &self.optimizer
    }

    /// The data.
    pub fn splits(&self) -> &Splits<L::Samples> {
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
        self.plan.steps(self.splits.train.len())
    }

    /// Whether all steps are taken, or the run ends early because validation has not improved for long enough.
    pub fn is_finished(&self) -> bool {
        self.steps_done() >= self.steps_total() || self.is_stuck()
    }

    fn is_stuck(&self) -> bool {
        match (self.plan.run.early_stop, self.state.best) {
            (Some(patience), Some((best, _))) => self.state.validated >= best.saturating_add(patience),
            _ => false,
        }
    }

    /// The epoch with the best metric in validation so far, and that metric.
    pub fn best(&self) -> Option<(u64, f64)> {
        self.state.best
    }

    /// Whole epochs done so far.
    pub fn epochs_done(&self) -> u64 {
        self.steps_done() / self.steps_per_epoch()
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.plan.steps_per_epoch(self.splits.train.len())
    }

    /// The mean of the last `steps` steps, of 100 at most; `None` before the first.
    pub fn recent(&self, steps: usize) -> Option<StepReport> {
        StepReport::mean(self.state.recent.iter().rev().take(steps))
    }

    /// What the learning rates are multiplied by in the coming step.
    pub fn rate_factor(&self) -> f64 {
        match (&self.schedule, &self.state.plateau) {
            (Some(own), _) => own.factor(self.steps_done()),
            (None, Some(plateau)) => plateau.factor,
            (None, None) => self.plan.schedule.factor(self.steps_done()),
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
        self.step_counted(None)
    }

    /// The same; `meter` counts the spikes of the batch's first micro-batch on this process, layer by layer, as they are drawn in the step (of
    /// one on expectations: as they would be). That takes a forward pass more, and the step computes the bits that it does without.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_metered(&mut self, meter: &SpikeMeter) -> Result<Option<StepReport>> {
        self.step_counted(Some(meter))
    }

    fn step_counted(&mut self, meter: Option<&SpikeMeter>) -> Result<Option<StepReport>> {
        self.settle()?;
        let tried = self.try_step(meter);
        self.unread.may_begin = tried.is_ok();
        if tried.is_err() {
            // The next try is for the same step.
            self.rewind_data();
        }
        tried
    }

    fn try_step(&mut self, meter: Option<&SpikeMeter>) -> Result<Option<StepReport>> {
        match self.gradients_counted(meter)? {
            Some((report, gradients)) => self.take(report, gradients).map(|()| Some(report)),
            None => self.leave_out().map(|()| None),
        }
    }

    /// The second half of a [`step`](Self::step): changes the parameters by these gradients, and counts the step.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn take(&mut self, report: StepReport, gradients: Gradients<B>) -> Result<()> {
        self.update(gradients)?;
        self.average()?;
        self.remember(report);
        Ok(())
    }

    /// Tells the average of the weights of a step.
    pub(super) fn average(&mut self) -> Result<()> {
        self.left_out[1] = 0;
        match &mut self.ema {
            Some(ema) => ema.get_mut().unwrap_or_else(PoisonError::into_inner).update(&self.backend),
            None => Ok(()),
        }
    }

    pub(super) fn remember(&mut self, report: StepReport) {
        if self.state.recent.len() == RECENT {
            self.state.recent.pop_front();
        }
        self.state.recent.push_back(report);
    }

    /// Does something while the average of the weights, if there is one, stands in the learner.
    pub(super) fn on_average<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        let Some(ema) = &self.ema else { return Ok(work()) };
        let mut ema = ema.lock().unwrap_or_else(PoisonError::into_inner);
        ema.swap()?;
        let done = work();
        ema.swap().map(|()| done)
    }

    /// Passes over a step that there is no sample for.
    pub(super) fn leave_out(&mut self) -> Result<()> {
        if self.left_out[1] + 1 >= self.steps_per_epoch() {
            let none = "none of the training samples can be read: leave --skip-bad out to see the first error";
            return Err(Error::value("Trainer", none));
        }
        self.optimizer.pass();
        self.left_out = self.left_out.map(|count| count + 1);
        Ok(())
    }

    /// Updates the parameters. The gradients must be finite, and so must the updated parameters.
    fn update(&mut self, mut gradients: Gradients<B>) -> Result<()> {
        let parameters = self.learner.module().parameters();
        let named = parameters.iter().filter_map(|(name, param)| Some((name, gradients.of_parameter(param.identity())?)));
        let (names, tensors): (Vec<&String>, Vec<&Tensor<B>>) = named.unzip();
        if let Some(place) = self.backend.first_not_finite(&tensors)? {
            return Err(self.diverged(format!("the gradient of {}", names[place])));
        }
        if let Some(clip) = self.plan.run.clip {
            gradients.clip_norm(clip)?;
        }
        // Before the step is counted, so that errors name the step that was tried.
        let factor = self.rate_factor();
        self.optimizer.update(&self.backend, self.learner.module(), &gradients, factor)?;
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
        first_not_finite(&self.backend, self.learner.module())
    }

    /// This process's part of the next batch.
    pub(super) fn next_micro_batches(&mut self) -> OwnOf<B, L> {
        let feeder = match &mut self.feeder {
            Some(feeder) => feeder,
            None => {
                let mut cutter = Cutter::new(self.splits.clone(), self.plan.run.clone(), self.group.clone());
                let threads = self.splits.train.threads();
                self.feeder.insert(Feeder::spawn(self.optimizer.steps(), threads, move |step| Some(cutter.micro_batches(step)))?)
            }
        };
        let ended = || Err(Error::value("Trainer", "the thread that makes the batches has ended"));
        feeder.next().unwrap_or_else(ended)
    }

    /// Forgets the batches that were made for other steps than the coming ones.
    pub(super) fn rewind_data(&mut self) {
        self.feeder = None;
    }

    pub(super) fn key(&self, purpose: u64) -> Key {
        Key::new(self.plan.run.seed).fold(purpose)
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
        let run = || evaluator.run_shared(&self.group, &self.splits.val, self.key(VALIDATION).fold(epoch), 1, watch);
        let found = self.on_average(run)??;
        if let Some(evaluation) = &found {
            self.state.validated = epoch;
            let (metric, found) = (self.learner.metric(), evaluation.metric);
            if self.state.best.is_none_or(|(_, best)| metric.rank(found) > metric.rank(best)) {
                self.state.best = Some((epoch, found));
            }
            if let Some(plateau) = &mut self.state.plateau {
                plateau.observe(metric.rank(found));
            }
            if let Some(own) = &mut self.schedule {
                own.observe(metric.rank(found));
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
        self.on_average(|| self.evaluator(mode, stop).run_shared(&self.group, &self.splits.test, self.key(TEST), passes, watch))?
    }

    fn evaluator<'a>(&'a self, mode: SpikeMode, stop: &'a AtomicBool) -> Evaluator<'a, B, L> {
        // As many samples at a time as fit in training.
        Evaluator { backend: &self.backend, model: &self.learner, batch: self.plan.run.micro_batch(), mode, stop }
    }
}
