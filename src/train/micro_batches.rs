//! MicroBatches: the gradients of a batch that is computed in parts, by one process after another or by many at once, with the same bits.
//!
//! A batch is cut into `run.accumulate` micro-batches by the samples' places in it, and every random number follows its sample. Each process
//! computes neighbouring micro-batches, and what all of them give is summed by a [`Reduction`].

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};

use super::classify::first_not_finite;
use super::cutter::MicroBatch;
use super::learner::{Learner, Unread};
use super::plan::{BatchNorms, RunConfig, SpikePenalty};
use super::process_group::{ProcessGroup, Reduce};
use super::reduction::{Given, Layout, Place, Reduction, include, other_length};
use super::samples::Samples;
use super::synchronised::{Meeting, Part, is_secondary};
use super::trainer::{NOISE, StepReport, Trainer};
use super::unread_queue::UnreadPasses;
use crate::autodiff::{Gradients, Tape};
use crate::backend::{Backend, Key, Tensor};
use crate::error::{Error, Result};
use crate::nn::{BatchStatistics, Context, Observed, Param, ParamOptions, SpikeMeter};

/// Of every micro-batch what its loss is a mean over, and its time steps.
type Sizes = Vec<[u64; 2]>;

impl<B: Backend, L: Learner<B>> Trainer<B, L> {
    /// The first half of a [`step`](Self::step): what the next batch gives, and the gradients of its loss with respect to the learner's
    /// parameters, summed over its micro-batches on all processes. `None` where no sample of it can be read. [`take`](Self::take) is the
    /// other half; between them gradients may be changed, on every process in the same way.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn gradients(&mut self) -> Result<Option<(StepReport, Gradients<B>)>> {
        self.gradients_counted(None)
    }

    /// The same; `meter` counts spikes.
    pub(super) fn gradients_counted(&mut self, meter: Option<&SpikeMeter>) -> Result<Option<(StepReport, Gradients<B>)>> {
        let Some((own, sizes, samples)) = self.next_own()? else { return Ok(None) };
        let (prepared, passes) = (self.prepare(&sizes), self.passes(samples));
        if let Some(meter) = meter {
            // What goes wrong in it goes wrong in the step as well, which says it better.
            let _ = passes.count_spikes(&own, meter);
        }
        let params = self.params();
        let mut reduction = Reduction::new(&self.group, &self.backend, sizes.len(), params.len(), self.buckets(&params));
        let own = match self.plan.run.batch_norm {
            BatchNorms::Synchronised if sizes.len() > 1 => {
                self.group.agree(prepared)?;
                Ok(passes.at_once(own, &self.group, &mut reduction)?)
            }
            _ => prepared.and_then(|()| passes.in_turn(own, &mut reduction, |unread| passes.report(unread))),
        };
        let (report, times) = self.told(reduction.finish(own)?, reduction.times(), &sizes)?;
        let given = reduction.into_sums(&times, &params)?;
        self.times = times;
        Ok(Some((report, self.applied(given, &params)?)))
    }

    /// The same by this process alone, with nothing read off the device.
    pub(super) fn gradients_unread(&mut self) -> Result<Option<(UnreadPasses<B>, Gradients<B>)>> {
        let Some((own, sizes, samples)) = self.next_own()? else { return Ok(None) };
        self.prepare(&sizes)?;
        let params = self.params();
        let mut reduction = Reduction::new(&self.group, &self.backend, sizes.len(), params.len(), Vec::new());
        let unread = self.passes(samples).in_turn(own, &mut reduction, Ok);
        let unread = reduction.finish(unread)??;
        let times = reduction.times().to_vec();
        let given = reduction.into_sums(&times, &params)?;
        self.times = times;
        let counts = sizes.into_iter().map(|[count, _]| count).filter(|&count| count > 0);
        Ok(Some((counts.zip(unread).collect(), self.applied(given, &params)?)))
    }

    /// This process's part of the next batch, the sizes of all parts, and the samples of the whole. `None` where there are none.
    #[allow(clippy::type_complexity, reason = "named once, where it is used")]
    fn next_own(&mut self) -> Result<Option<(Vec<MicroBatch<<L::Samples as Samples>::Batch>>, Sizes, u64)>> {
        let own = match self.next_micro_batches() {
            Ok(own) => own,
            Err(error) => return self.group.gather(Err(error)).map(|_| None),
        };
        let told = own.iter().flat_map(sizes::<L::Samples>).collect();
        let sizes: Sizes = self.group.gather(Ok(told))?.concat().as_chunks::<2>().0.to_vec();
        let samples: u64 = sizes.iter().map(|[count, _]| count).sum();
        Ok((samples > 0).then_some((own, sizes, samples)))
    }

    fn params(&self) -> Vec<Param<B>> {
        self.learner.module().parameters().into_iter().map(|(_, param)| param).collect()
    }

    /// Applies the statistics that a batch gives; the gradients that it gives.
    fn applied(&self, given: Given<B>, params: &[Param<B>]) -> Result<Gradients<B>> {
        let mut gradients = Vec::new();
        for ((place, _), tensor) in given {
            match params[place].options() {
                ParamOptions::Buffer => BatchStatistics::apply(&self.backend, &params[place], &tensor)?,
                ParamOptions::Trained { .. } => gradients.push((params[place].identity(), tensor)),
            }
        }
        Ok(Gradients::of_parameters(&self.backend, gradients))
    }

    /// Makes the learner ready for all micro-batches, in their order, before the first of them: on every process the same. Its average is made
    /// ready likewise, because what a parameter stands for may change by it.
    fn prepare(&self, sizes: &Sizes) -> Result<()> {
        let prepare = || {
            let read = sizes.iter().filter(|[count, _]| *count > 0);
            read.into_iter().try_for_each(|&[_, length]| self.learner.prepare(&self.backend, length as usize))
        };
        let versions = || self.learner.module().parameters().iter().map(|(_, param)| param.version()).sum::<u64>();
        let before = self.ema.as_ref().map(|_| versions());
        prepare()?;
        if before.is_some_and(|before| before != versions()) { self.on_average(prepare)? } else { Ok(()) }
    }

    /// What the passes of the coming step have in common, of a batch of so many samples.
    fn passes(&self, samples: u64) -> Passes<'_, B, L> {
        let (key, step) = (self.key(NOISE).fold(self.steps_done()), self.steps_done() + 1);
        Passes { backend: &self.backend, learner: &self.learner, run: &self.plan.run, key, step, samples }
    }

    /// In which buckets the coming step's values are sent while it is computed: those of the step before, so that all processes have the same.
    /// MPI's own sums want all at once.
    fn buckets(&self, params: &[Param<B>]) -> Vec<Layout> {
        if self.group.is_alone() || self.group.reduce == Reduce::Fast || self.times.len() != params.len() {
            return Vec::new();
        }
        Layout::buckets(&self.times, params, self.message.saturating_mul(self.group.size()))
    }

    /// The report of the whole batch, and how often each parameter was met on any process, at most; `times` is how often here.
    fn told(&self, own: Result<Vec<StepReport>>, times: &[u64], sizes: &Sizes) -> Result<(StepReport, Vec<u64>)> {
        let words = |reports: Vec<StepReport>| {
            let bits = reports.iter().flat_map(|report| [report.loss.to_bits(), report.metric.to_bits()]);
            times.iter().copied().chain(bits).collect()
        };
        let mut told = self.group.gather(own.map(words))?;
        let mut most = vec![0; times.len()];
        for words in &mut told {
            if words.len() < most.len() {
                return Err(other_length("parameters"));
            }
            let own = words.drain(..times.len());
            most.iter_mut().zip(own).for_each(|(all, own)| *all = own.max(*all));
        }
        Ok((report_of(&told.concat(), sizes), most))
    }
}

/// What the passes of a step have in common.
struct Passes<'a, B: Backend, L: Learner<B>> {
    backend: &'a B,
    learner: &'a L,
    run: &'a RunConfig,
    key: Key,
    /// The number of the step that is tried, from 1.
    step: u64,
    /// Of the whole batch.
    samples: u64,
}

/// What comes of one pass that nobody waits for.
type Pass<B> = Result<(StepReport, Given<B>)>;

/// Who is told of what a pass gives, as soon as it is found; and of nothing, as often as time has passed.
type Sink<'a, B> = &'a mut dyn FnMut(Option<(Place, Tensor<B>)>) -> Result<()>;

impl<B: Backend, L: Learner<B>> Passes<'_, B, L> {
    /// Counts the spikes that the first micro-batch draws, in a pass that records nothing and changes nothing.
    fn count_spikes(&self, own: &[MicroBatch<<L::Samples as Samples>::Batch>], meter: &SpikeMeter) -> Result<()> {
        let Some((first, batch)) = own.iter().find_map(|own| Some((own.first, own.samples.as_ref()?))) else { return Ok(()) };
        // What is collected of the BatchNorms is dropped.
        let (tape, statistics) = (Tape::off(self.backend), BatchStatistics::new(1.0));
        let cx = Context::training(&tape, self.key).first_sample(first as u64).collect_statistics(&statistics).metered(meter);
        self.learner.score(&cx, batch).map(drop)
    }

    /// Micro-batches one after another; `tell` makes of what is unread what is told of each.
    fn in_turn<T>(
        &self,
        own: Vec<MicroBatch<<L::Samples as Samples>::Batch>>,
        sums: &mut Reduction<'_, B>,
        tell: impl Fn(Unread<B>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let (mut told, count) = (Vec::new(), own.len());
        for (place, MicroBatch { number, first, samples }) in own.into_iter().enumerate() {
            sums.begin(number, place + 1 == count);
            if let Some(batch) = samples {
                told.push(self.differentiate(&batch, first, None, &tell, &mut |found| sums.take(found))?);
            }
            sums.end()?;
        }
        Ok(told)
    }

    /// Micro-batches at the same time, each on a thread of its own, meeting those of the group's other processes. An error is the same on all of
    /// them.
    fn at_once(
        &self,
        own: Vec<MicroBatch<<L::Samples as Samples>::Batch>>,
        group: &ProcessGroup,
        sums: &mut Reduction<'_, B>,
    ) -> Result<Vec<StepReport>> {
        let meeting = &Arc::new(Meeting::new(group, own.iter().filter(|own| own.samples.is_some()).count()));
        let work = |place: usize, first: usize, batch: <L::Samples as Samples>::Batch| {
            let (part, mut given) = (Arc::new(Part::new(meeting, place)), Given::new());
            let mut keep = |found| match found {
                Some((place, tensor)) => include(self.backend, &mut given, place, tensor),
                None => Ok(()),
            };
            let tell = |unread| self.report(unread);
            let report = self.differentiate(&batch, first, Some(part.clone()), &tell, &mut keep).inspect_err(|_| part.leave())?;
            Ok((report, given))
        };
        let found: Vec<(usize, Option<Pass<B>>)> = thread::scope(|scope| {
            let (mut threads, mut places, work) = (Vec::new(), 0.., &work);
            for MicroBatch { number, first, samples } in own {
                let started = samples.and_then(|batch| places.next().map(|place| scope.spawn(move || work(place, first, batch))));
                threads.push((number, started));
            }
            let joined = |(number, thread): (usize, Option<ScopedJoinHandle<'_, _>>)| {
                (number, thread.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))))
            };
            threads.into_iter().map(joined).collect()
        });
        let (mut reports, mut errors) = (Vec::new(), Vec::new());
        for (number, found) in found {
            match found.transpose() {
                Ok(found) => {
                    let given = found.map(|(report, given)| (reports.push(report), given).1);
                    errors.extend(sums.add(number, given.unwrap_or_default()).err());
                }
                Err(error) => errors.push(error),
            }
        }
        // The cause before what it has led to.
        errors.sort_by_key(is_secondary);
        meeting.end(errors.into_iter().next())?;
        Ok(reports)
    }

    /// What is told of a micro-batch whose first sample has this place in its batch; of `part`, where BatchNorms see the whole batch. The
    /// gradients of its share of the loss, and its statistics, go to `sink`.
    fn differentiate<T>(
        &self,
        batch: &<L::Samples as Samples>::Batch,
        first: usize,
        part: Option<Arc<Part>>,
        tell: &impl Fn(Unread<B>) -> Result<T>,
        sink: Sink<'_, B>,
    ) -> Result<T> {
        let share = L::Samples::count(batch) as f64 / self.samples as f64;
        let (tape, observed, statistics) = (Tape::new(self.backend), Observed::new(), BatchStatistics::new(share));
        let (cx, penalty) = (Context::training(&tape, self.key).first_sample(first as u64), self.run.spike_penalty);
        let cx = cx.collect_statistics(&statistics);
        let cx = if penalty.is_some() { cx.observe(&observed) } else { cx };
        let cx = if self.run.recompute { cx.recompute() } else { cx };
        let cx = if self.run.spikes.expected_at(self.step - 1) { cx.expected() } else { cx };
        let cx = match part {
            Some(part) => cx.one_of(part),
            None => cx,
        };
        let scored = self.learner.score(&cx, batch)?;
        let loss = match penalty {
            Some(SpikePenalty { weight, rate }) => scored.loss.add(&observed.rate_penalty(rate)?.scale(weight)?)?,
            None => scored.loss.clone(),
        };
        let told = tell(scored.unread())?;
        let parameters = self.learner.module().parameters();
        let places: HashMap<u64, usize> = parameters.iter().enumerate().map(|(place, (_, param))| (param.identity(), place)).collect();
        self.hand_over(&statistics, &places, sink)?;
        loss.backward_watched(&self.backend.full(loss.shape(), share)?, |leaf| {
            let place = |identity: Option<u64>| Some((*places.get(&identity?)?, 0));
            sink(leaf.and_then(|(leaf, gradient)| Some((place(leaf.identity())?, gradient.clone()))))
        })?;
        Ok(told)
    }

    /// The report of a pass: waits for the device.
    fn report(&self, unread: Unread<B>) -> Result<StepReport> {
        let mut values = self.backend.to_vecs(&unread.tensors())?.into_iter();
        let value = unread.value(&mut values);
        if !value.is_finite() {
            let what = match first_not_finite(self.backend, self.learner.module())? {
                Some(name) => format!("{name}, and with it the loss,"),
                None => "the loss".into(),
            };
            return Err(Error::NonFinite { what, step: self.step });
        }
        unread.rest(value, &mut values).map(|score| StepReport::of(&score))
    }

    /// Hands over what the BatchNorms of a pass have found.
    fn hand_over(&self, statistics: &BatchStatistics<B>, places: &HashMap<u64, usize>, sink: Sink<'_, B>) -> Result<()> {
        let mut times = HashMap::new();
        for (running, added) in statistics.take() {
            let Some(&place) = places.get(&running.identity()) else {
                let help = "a BatchNorm's running statistics are not among the learner's parameters: name its modules in `Module::names`";
                return Err(Error::value("Learner", help));
            };
            let time: &mut usize = times.entry(place).or_default();
            sink(Some(((place, *time), added)))?;
            *time += 1;
        }
        Ok(())
    }
}

/// What the loss of a micro-batch is a mean over, and its time steps.
fn sizes<S: Samples>(of: &MicroBatch<S::Batch>) -> [u64; 2] {
    of.samples.as_ref().map_or([0; 2], |batch| [S::count(batch) as u64, S::length(batch) as u64])
}

/// The means of a batch, of the bits that every micro-batch with samples has reported.
fn report_of(bits: &[u64], sizes: &Sizes) -> StepReport {
    let counts = sizes.iter().map(|&[count, _]| count).filter(|&count| count > 0);
    let reports = bits.as_chunks::<2>().0.iter().map(|bits| bits.map(f64::from_bits));
    StepReport::of_batch(&counts.zip(reports.map(|[loss, metric]| StepReport { loss, metric })).collect::<Vec<_>>())
}
