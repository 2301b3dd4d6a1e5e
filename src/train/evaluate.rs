//! Evaluation: metric, loss, spike rates and confusions of a model over a data set, without recording and without changing the model.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::classify::{largest, logits, read_scores};
use super::feeder::Feeder;
use super::learner::Learner;
use super::process_group::ProcessGroup;
use super::samples::Samples;
use crate::autodiff::Tape;
use crate::backend::{Backend, Key, SpikeMode};
use crate::data::{Batch, Dataset};
use crate::error::{Error, Result};
use crate::nn::{Context, Model, Site, SpikeMeter};

/// What came of running a model over a data set.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// The metric over samples and passes: of a classifier the share of samples that were classified rightly.
    pub metric: f64,
    /// The mean loss over samples and passes.
    pub loss: f64,
    /// The share of ones among all sampled spikes; NaN where none was sampled.
    pub spike_rate: f64,
    /// The same for every layer and every place in it.
    pub layers: Vec<LayerRate>,
    /// How often the whole set was gone through, with new spikes each time.
    pub passes: u64,
    /// How many samples of each class (row) were taken for each class (column), over all passes; empty where there are no classes.
    pub confusion: Vec<Vec<u64>>,
}

/// How often the neurons of a layer spike at one place.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LayerRate {
    /// The layer, from 0.
    pub layer: usize,
    /// The place.
    pub site: Site,
    /// The share of ones among the spikes.
    pub rate: f64,
}

impl LayerRate {
    /// What a meter has counted.
    pub(super) fn all(meter: &SpikeMeter) -> Vec<LayerRate> {
        meter.rates().into_iter().map(|((layer, site), rate)| LayerRate { layer, site, rate }).collect()
    }
}

/// Runs a model over data sets.
pub struct Evaluator<'a, B: Backend, L: Learner<B> = Model<B>> {
    /// Where the model lives.
    pub backend: &'a B,
    /// The model, or any other learner.
    pub model: &'a L,
    /// Samples at a time.
    pub batch: usize,
    /// Spikes, or the expected spike in the place of each.
    pub mode: SpikeMode,
    /// Set by someone else to end the evaluation early.
    pub stop: &'a AtomicBool,
}

/// Someone who is told how much of how much is done.
pub(super) type Watch<'a> = &'a dyn Fn(u64, u64);

/// What has been counted so far.
struct Tally {
    loss: f64,
    /// What the loss is a mean over.
    seen: f64,
    /// The metric's sum, and what it is divided by.
    metric: (f64, f64),
    confusion: Vec<Vec<u64>>,
}

/// What begins the words of a process that was stopped, and of one that ran a batch; none are those of one that had none to run.
const STOPPED: u64 = 0;
const SCORED: u64 = 1;

impl Tally {
    /// Counts a batch.
    fn count(&mut self, words: &[u64]) -> Result<()> {
        let Some((numbers, classes)) = words.get(1..).and_then(|words| words.split_first_chunk::<4>()) else { return Ok(()) };
        let [loss, seen, sum, of] = numbers.map(f64::from_bits);
        self.loss += loss;
        self.seen += seen;
        self.metric = (self.metric.0 + sum, self.metric.1 + of);
        for &[label, taken] in classes.as_chunks::<2>().0 {
            *cell(&mut self.confusion, label as usize, taken as usize)? += 1;
        }
        Ok(())
    }
}

/// What the meters of all processes have counted.
fn merged(group: &ProcessGroup, own: &SpikeMeter) -> Result<SpikeMeter> {
    let site = |site: Site| Site::ALL.iter().position(|known| *known == site).unwrap_or(0) as u64;
    let counts = own.counts().into_iter();
    let words = counts.flat_map(|((layer, at), [ones, draws])| [layer as u64, site(at), ones.to_bits(), draws.to_bits()]);
    let all = SpikeMeter::default();
    for &[layer, site, ones, draws] in group.gather(Ok(words.collect()))?.concat().as_chunks::<4>().0 {
        let place = (layer as usize, *Site::ALL.get(site as usize).unwrap_or(&Site::Input));
        all.include(&[(place, [f64::from_bits(ones), f64::from_bits(draws)])].into());
    }
    Ok(all)
}

impl<B: Backend, L: Learner<B>> Evaluator<'_, B, L> {
    /// Goes through `set` in its order, `passes` times; all spikes come from `key`. `None` where `stop` was set meanwhile.
    ///
    /// The model is left as it is.
    ///
    /// # Errors
    /// [`Error::Config`] where `passes` or the batch is 0; [`Error::Value`] where the set is empty, nothing in it can be read, or
    /// the model's answer to a sample is not a number; what reading a sample answers.
    pub fn run(&self, set: &L::Samples, key: Key, passes: u64) -> Result<Option<Evaluation>> {
        self.run_shared(&ProcessGroup::default(), set, key, passes, &|_, _| ())
    }

    /// The same on all processes of a group, each of which runs its share of the batches; tells `watch` how many samples of how many are done,
    /// over all passes.
    pub(super) fn run_shared(
        &self,
        group: &ProcessGroup,
        set: &L::Samples,
        key: Key,
        passes: u64,
        watch: Watch<'_>,
    ) -> Result<Option<Evaluation>> {
        for (name, value) in [("passes", passes), ("batch", self.batch as u64)] {
            if value == 0 {
                return Err(Error::config(name, 0, "must be at least 1"));
            }
        }
        if set.is_empty() {
            return Err(Error::value("Evaluator", "the data set is empty: there is nothing to evaluate"));
        }
        let classes = set.classes();
        let mut tally = Tally { loss: 0.0, seen: 0.0, metric: (0.0, 0.0), confusion: vec![vec![0; classes]; classes] };
        let meter = SpikeMeter::default();
        for pass in 0..passes {
            let (before, all) = (pass * set.len() as u64, passes.saturating_mul(set.len() as u64));
            if !self.pass(group, set, key.fold(pass), &mut tally, &meter, &|done| watch(before + done, all))? {
                return Ok(None);
            }
        }
        if tally.seen == 0.0 {
            return Err(nothing_read());
        }
        let meter = merged(group, &meter)?;
        Ok(Some(Evaluation {
            metric: tally.metric.0 / tally.metric.1,
            loss: tally.loss / tally.seen,
            spike_rate: meter.rate(),
            layers: LayerRate::all(&meter),
            passes,
            confusion: tally.confusion,
        }))
    }

    /// Goes through the set once: in every round each process runs one batch, and all count all of them, in their order. False where `stop`
    /// was set on any process.
    fn pass(
        &self,
        group: &ProcessGroup,
        set: &L::Samples,
        key: Key,
        tally: &mut Tally,
        meter: &SpikeMeter,
        watch: &dyn Fn(u64),
    ) -> Result<bool> {
        let (batch, size, first) = (self.batch, group.size() as u64, group.rank() as u64);
        let batches = set.len().div_ceil(batch) as u64;
        let make = move |round: u64| {
            let start = ((round * size + first) as usize).saturating_mul(batch);
            let indices: Vec<usize> = (start..set.len().min(start.saturating_add(batch))).collect();
            (!indices.is_empty()).then(|| set.batch(&indices))
        };
        thread::scope(|scope| {
            let mut feeder = Feeder::scoped(scope, set.threads(), make)?;
            for round in 0..batches.div_ceil(size) {
                let own = match self.stop.load(Ordering::Relaxed) {
                    true => Ok(vec![STOPPED]),
                    false => match feeder.next().transpose() {
                        Ok(batch) => {
                            batch.flatten().map_or(Ok(Vec::new()), |batch| self.score(&batch, key.fold(round * size + first), meter))
                        }
                        Err(error) => Err(error),
                    },
                };
                for words in group.gather(own)? {
                    if words.first() == Some(&STOPPED) {
                        return Ok(false);
                    }
                    tally.count(&words)?;
                }
                watch(((round + 1) * size).saturating_mul(self.batch as u64).min(set.len() as u64));
            }
            Ok(true)
        })
    }

    /// What the model makes of a batch, in words that [`Tally::count`] understands.
    fn score(&self, batch: &<L::Samples as Samples>::Batch, key: Key, meter: &SpikeMeter) -> Result<Vec<u64>> {
        let tape = Tape::off(self.backend);
        let scored = self.model.score(&self.context(&tape, key).metered(meter), batch)?.read()?;
        let count = L::Samples::count(batch) as f64;
        let (sum, of) = scored.metric.unwrap_or((scored.value * count, count));
        let numbers = [scored.value * count, count, sum, of].map(f64::to_bits);
        let classes = scored.classes.into_iter().flat_map(|(label, taken)| [label as u64, taken as u64]);
        Ok([SCORED].into_iter().chain(numbers).chain(classes).collect())
    }

    fn context<'a>(&self, tape: &'a Tape<B>, key: Key) -> Context<'a, B> {
        let cx = Context::evaluation(tape, key);
        match self.mode {
            SpikeMode::Sampled => cx,
            SpikeMode::Expected => cx.expected(),
        }
    }
}

/// The count of samples of class `label` that were taken for `taken`; where the set has not told of its classes, the matrix grows.
fn cell(confusion: &mut Vec<Vec<u64>>, label: usize, taken: usize) -> Result<&mut u64> {
    const MOST: usize = 1 << 14;
    let classes = confusion.len().max(label.max(taken).saturating_add(1));
    if classes > MOST {
        return Err(Error::value("Evaluator", format!("class {} is beyond the {MOST} that are counted", classes - 1)));
    }
    if classes > confusion.len() {
        confusion.resize(classes, Vec::new());
        confusion.iter_mut().for_each(|row| row.resize(classes, 0));
    }
    Ok(&mut confusion[label][taken])
}

impl<B: Backend> Evaluator<'_, B> {
    /// The number that is found for every sample of `set`, a set with a [scale](Dataset::scale) of numbers: the mean over `passes` passes.
    ///
    /// # Errors
    /// As [`run`](Self::run); [`Error::Value`] where the set has classes.
    pub fn predict_numbers(&self, set: &Dataset, key: Key, passes: u64) -> Result<Vec<f64>> {
        let scale = set.scale().ok_or_else(|| Error::value("Evaluator", "the set has classes: ask for predict"))?;
        let mut sums = vec![0.0; set.len()];
        for pass in 0..passes {
            for (number, sum) in sums.iter_mut().enumerate() {
                let tape = Tape::off(self.backend);
                let cx = self.context(&tape, key.fold(pass).fold(number as u64));
                let logits = logits(self.model, &cx, &set.batch(&[number])?)?;
                let found = read_scores(self.backend, self.model, &logits)?.concat().first().copied().unwrap_or(f64::NAN);
                *sum += scale.number(found) / passes as f64;
            }
        }
        Ok(sums)
    }

    /// The probability of every class for every sample of `set`: the mean over `passes` passes of the softmax of the logits.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn predict(&self, set: &Dataset, key: Key, passes: u64) -> Result<Vec<Vec<f64>>> {
        let mut sums = vec![vec![0.0; set.classes()]; set.len()];
        for pass in 0..passes {
            for (number, sums) in sums.iter_mut().enumerate() {
                let found = self.probabilities(&set.batch(&[number])?, key.fold(pass).fold(number as u64))?.concat();
                sums.iter_mut().zip(found).for_each(|(sum, probability)| *sum += probability / passes as f64);
            }
        }
        Ok(sums)
    }

    /// The accuracy on `set` of 1, 2, .. `passes` passes that vote: the class of a sample is the one of the largest sum of probabilities over
    /// the passes so far, each with new spikes. `None` where `stop` was set meanwhile.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn votes(&self, set: &Dataset, key: Key, passes: u64) -> Result<Option<Vec<f64>>> {
        if passes == 0 {
            return Err(Error::config("passes", 0, "must be at least 1"));
        }
        if set.is_empty() {
            return Err(Error::value("Evaluator", "the data set is empty: there is nothing to evaluate"));
        }
        if set.scale().is_some() {
            return Err(Error::value("Evaluator", "passes vote for classes, and these data have numbers to find: leave --votes out"));
        }
        // By pass; it grows with them, for any number may be asked for.
        let (mut right, mut seen) = (Vec::<u64>::new(), 0);
        let indices: Vec<usize> = (0..set.len()).collect();
        for (number, indices) in indices.chunks(self.batch.max(1)).enumerate() {
            let Some(batch) = Samples::batch(set, indices)? else { continue };
            let mut sums = vec![vec![0.0; set.classes()]; batch.labels.len()];
            for pass in 0..passes {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let found = self.probabilities(&batch, key.fold(pass).fold(number as u64))?;
                sums.iter_mut().zip(found).for_each(|(sums, found)| sums.iter_mut().zip(found).for_each(|(sum, found)| *sum += found));
                let found = sums.iter().zip(&batch.labels).filter(|(sums, label)| largest(sums) == **label).count() as u64;
                match right.get_mut(pass as usize) {
                    Some(right) => *right += found,
                    None => right.push(found),
                }
            }
            seen += batch.labels.len();
        }
        if seen == 0 {
            return Err(nothing_read());
        }
        Ok(Some(right.into_iter().map(|right| right as f64 / seen as f64).collect()))
    }

    /// The softmax of the logits of every sample of a batch.
    fn probabilities(&self, batch: &Batch, key: Key) -> Result<Vec<Vec<f64>>> {
        let tape = Tape::off(self.backend);
        let logits = logits(self.model, &self.context(&tape, key), batch)?;
        Ok(read_scores(self.backend, self.model, &logits)?.iter().map(|logits| softmax(logits)).collect())
    }
}

fn nothing_read() -> Error {
    Error::value("Evaluator", "no sample of the data set can be read: leave --skip-bad out to see the first error")
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.iter().map(|logit| (logit - top).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}
