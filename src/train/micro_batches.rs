//! MicroBatches: the gradients of a batch that is computed in parts, by one process after another or by many at once, with the same bits.
//!
//! A batch is cut into `run.accumulate` micro-batches by the samples' places in it, and every random number follows its sample. Each process
//! computes neighbouring micro-batches; what they give is summed along a tree over their numbers ([`TreeSum`]). Every process makes the sums
//! of its share of all values, of what the others send it, and the shares are gathered: twice the gradients' size goes out of each process,
//! whatever their number.

use std::collections::{BTreeMap, HashMap};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};

use super::classify::first_not_finite;
use super::cutter::MicroBatch;
use super::learner::Learner;
use super::plan::{BatchNorms, RunConfig, SpikePenalty};
use super::process_group::{ProcessGroup, Reduce};
use super::samples::Samples;
use super::synchronised::{Meeting, Part, is_secondary};
use super::trainer::{NOISE, StepReport, Trainer};
use super::tree_sum::{TreeSum, cover};
use crate::autodiff::{Gradients, Tape};
use crate::backend::{Backend, Binary, Key, Real, Tensor};
use crate::error::{Error, Result};
use crate::nn::{BatchStatistics, Context, Observed, Param, ParamOptions, SpikeMeter};

/// What a micro-batch gives: the gradient of a parameter, or what is to be added to a running statistic. The key is the place among the
/// learner's parameters, and which time in the pass that statistic was met.
type Given<B> = BTreeMap<(usize, usize), Tensor<B>>;

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
        let own = match self.next_micro_batches() {
            Ok(own) => own,
            Err(error) => return self.group.gather(Err(error)).map(|_| None),
        };
        let told = own.iter().flat_map(sizes::<L::Samples>).collect();
        let sizes: Sizes = self.group.gather(Ok(told))?.concat().as_chunks::<2>().0.to_vec();
        let samples: u64 = sizes.iter().map(|[count, _]| count).sum();
        if samples == 0 {
            return Ok(None);
        }
        let (prepared, passes) = (self.prepare(&sizes), self.passes(samples));
        if let Some(meter) = meter {
            // What goes wrong in it goes wrong in the step as well, which says it better.
            let _ = passes.count_spikes(&own, meter);
        }
        let own = match self.plan.run.batch_norm {
            BatchNorms::Synchronised if sizes.len() > 1 => {
                self.group.agree(prepared)?;
                Ok(passes.at_once(own, &self.group)?)
            }
            _ => prepared.and_then(|()| passes.in_turn(own)),
        };
        let params: Vec<Param<B>> = self.learner.module().parameters().into_iter().map(|(_, param)| param).collect();
        let (report, given) = self.summed(own, &sizes, &params)?;
        let mut gradients = Vec::new();
        for ((place, _), tensor) in given {
            match params[place].options() {
                ParamOptions::Buffer => BatchStatistics::apply(&self.backend, &params[place], &tensor)?,
                ParamOptions::Trained { .. } => gradients.push((params[place].identity(), tensor)),
            }
        }
        Ok(Some((report, Gradients::of_parameters(&self.backend, gradients))))
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

    /// The report of the whole batch, and the sum over all micro-batches of what they give.
    fn summed(&self, own: Result<Own<B>>, sizes: &Sizes, params: &[Param<B>]) -> Result<(StepReport, Given<B>)> {
        let (sum, told) = match own {
            Ok((reports, sum)) => {
                let times = most(sum.values(), params.len()).into_iter();
                let bits = reports.iter().flat_map(|report| [report.loss.to_bits(), report.metric.to_bits()]);
                (sum, Ok(times.chain(bits).collect()))
            }
            Err(error) => (TreeSum::default(), Err(error)),
        };
        let mut told = self.group.gather(told)?;
        let mut times = vec![0; params.len()];
        for words in &mut told {
            if words.len() < params.len() {
                return Err(other_length("parameters"));
            }
            let own = words.drain(..params.len());
            times.iter_mut().zip(own).for_each(|(all, own)| *all = own.max(*all));
        }
        let report = report_of(&told.concat(), sizes);
        let layout = Layout::new(&times, params);
        let reduce = if self.group.is_alone() { None } else { Some(self.group.reduce) };
        let given = match reduce {
            None => sum.finish(|a, b| added(&self.backend, a, b))?.unwrap_or_default(),
            Some(Reduce::Fixed) => fixed(&self.group, &self.backend, &layout, sum, sizes.len())?,
            Some(Reduce::Fast) => fast(&self.group, &self.backend, &layout, sum)?,
        };
        Ok((report, given))
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

/// What comes of one pass.
type Pass<B> = Result<(StepReport, Given<B>)>;

/// The reports of a process's micro-batches, and the sum of what they give.
type Own<B> = (Vec<StepReport>, TreeSum<Given<B>>);

impl<B: Backend, L: Learner<B>> Passes<'_, B, L> {
    /// Counts the spikes that the first micro-batch draws, in a pass that records nothing and changes nothing.
    fn count_spikes(&self, own: &[MicroBatch<<L::Samples as Samples>::Batch>], meter: &SpikeMeter) -> Result<()> {
        let Some((first, batch)) = own.iter().find_map(|own| Some((own.first, own.samples.as_ref()?))) else { return Ok(()) };
        // What is collected of the BatchNorms is dropped.
        let (tape, statistics) = (Tape::off(self.backend), BatchStatistics::new(1.0));
        let cx = Context::training(&tape, self.key).first_sample(first as u64).collect_statistics(&statistics).metered(meter);
        self.learner.score(&cx, batch).map(drop)
    }

    /// Micro-batches one after another.
    fn in_turn(&self, own: Vec<MicroBatch<<L::Samples as Samples>::Batch>>) -> Result<Own<B>> {
        let (mut reports, mut sum) = (Vec::new(), TreeSum::default());
        for MicroBatch { number, first, samples } in own {
            let found = samples.map(|batch| self.differentiate(&batch, first, None)).transpose()?;
            let given = found.map(|(report, given)| (reports.push(report), given).1);
            sum.push_leaf(number, given, |a, b| added(self.backend, a, b))?;
        }
        Ok((reports, sum))
    }

    /// Micro-batches at the same time, each on a thread of its own, meeting those of the group's other processes. An error is the same on all of
    /// them.
    fn at_once(&self, own: Vec<MicroBatch<<L::Samples as Samples>::Batch>>, group: &ProcessGroup) -> Result<Own<B>> {
        let meeting = &Arc::new(Meeting::new(group, own.iter().filter(|own| own.samples.is_some()).count()));
        let work = |place: usize, first: usize, batch: <L::Samples as Samples>::Batch| {
            let part = Arc::new(Part::new(meeting, place));
            self.differentiate(&batch, first, Some(part.clone())).inspect_err(|_| part.leave())
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
        let (mut reports, mut sum, mut errors) = (Vec::new(), TreeSum::default(), Vec::new());
        for (number, found) in found {
            match found.transpose() {
                Ok(found) => {
                    let given = found.map(|(report, given)| (reports.push(report), given).1);
                    errors.extend(sum.push_leaf(number, given, |a, b| added(self.backend, a, b)).err());
                }
                Err(error) => errors.push(error),
            }
        }
        // The cause before what it has led to.
        errors.sort_by_key(is_secondary);
        meeting.end(errors.into_iter().next())?;
        Ok((reports, sum))
    }

    /// The result of a micro-batch whose first sample has this place in its batch, and the gradients of its share of the loss; of `part`, where
    /// BatchNorms see the whole batch.
    fn differentiate(&self, batch: &<L::Samples as Samples>::Batch, first: usize, part: Option<Arc<Part>>) -> Pass<B> {
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
        if !scored.value.is_finite() {
            let what = match first_not_finite(self.backend, self.learner.module())? {
                Some(name) => format!("{name}, and with it the loss,"),
                None => "the loss".into(),
            };
            return Err(Error::NonFinite { what, step: self.step });
        }
        let report = StepReport { loss: scored.value, metric: scored.metric.map_or(scored.value, |(sum, count)| sum / count) };
        let loss = match penalty {
            Some(SpikePenalty { weight, rate }) => scored.loss.add(&observed.rate_penalty(rate)?.scale(weight)?)?,
            None => scored.loss,
        };
        let gradients = loss.backward_from(&self.backend.full(loss.shape(), share)?)?;
        Ok((report, self.given(&gradients, &statistics)?))
    }

    /// Gradients and statistics by the places of what they are of.
    fn given(&self, gradients: &Gradients<B>, statistics: &BatchStatistics<B>) -> Result<Given<B>> {
        let parameters = self.learner.module().parameters();
        let places: HashMap<u64, usize> = parameters.iter().enumerate().map(|(place, (_, param))| (param.identity(), place)).collect();
        let place = |identity: Option<u64>| identity.and_then(|identity| places.get(&identity).copied());
        let of = |(leaf, tensor): (crate::autodiff::LeafId, &Tensor<B>)| Some(((place(leaf.identity())?, 0), tensor.clone()));
        let mut given: Given<B> = gradients.iter().filter_map(of).collect();
        let mut times = HashMap::new();
        for (running, added) in statistics.take() {
            let Some(place) = place(Some(running.identity())) else {
                let help = "a BatchNorm's running statistics are not among the learner's parameters: name its modules in `Module::names`";
                return Err(Error::value("Learner", help));
            };
            let time: &mut usize = times.entry(place).or_default();
            given.insert((place, *time), added);
            *time += 1;
        }
        Ok(given)
    }
}

/// What the loss of a micro-batch is a mean over, and its time steps.
fn sizes<S: Samples>(of: &MicroBatch<S::Batch>) -> [u64; 2] {
    of.samples.as_ref().map_or([0; 2], |batch| [S::count(batch) as u64, S::length(batch) as u64])
}

/// The means of a batch, of the bits that every micro-batch with samples has reported.
fn report_of(bits: &[u64], sizes: &Sizes) -> StepReport {
    let samples: u64 = sizes.iter().map(|[count, _]| count).sum();
    let counts = sizes.iter().map(|&[count, _]| count).filter(|&count| count > 0);
    counts.zip(bits.as_chunks::<2>().0).fold(StepReport { loss: 0.0, metric: 0.0 }, |sum, (count, bits)| {
        let (share, [loss, metric]) = (count as f64 / samples as f64, bits.map(f64::from_bits));
        StepReport { loss: sum.loss + share * loss, metric: sum.metric + share * metric }
    })
}

/// The sum of what two parts of a batch give; what only one of them gives stays as it is.
fn added<B: Backend>(backend: &B, mut left: Given<B>, right: Given<B>) -> Result<Given<B>> {
    for (key, tensor) in right {
        let sum = match left.remove(&key) {
            Some(earlier) => backend.binary(Binary::Add, &earlier, &tensor)?,
            None => tensor,
        };
        left.insert(key, sum);
    }
    Ok(left)
}

/// How often each of so many parameters is met, at most, in any of the values.
fn most<'a, B: Backend>(values: impl Iterator<Item = &'a Given<B>>, params: usize) -> Vec<u64> {
    let mut times = vec![0; params];
    values.flat_map(BTreeMap::keys).for_each(|&(place, time)| times[place] = times[place].max(time as u64 + 1));
    times
}

/// Where everything that any micro-batch gives lies in one row of numbers.
struct Layout {
    places: Vec<((usize, usize), Vec<usize>)>,
}

impl Layout {
    fn new<B: Backend>(times: &[u64], params: &[Param<B>]) -> Self {
        let of = |(place, (&times, param)): (usize, (&u64, &Param<B>))| {
            let shape = param.value().shape().to_vec();
            (0..times as usize).map(move |time| ((place, time), shape.clone()))
        };
        Layout { places: times.iter().zip(params).enumerate().flat_map(of).collect() }
    }

    /// The row of this part of a batch; `absent` where it gives nothing.
    fn row<B: Backend>(&self, backend: &B, given: &Given<B>, absent: f64) -> Result<Vec<B::Elem>> {
        let mut row = Vec::new();
        for (key, shape) in &self.places {
            match given.get(key) {
                Some(tensor) => row.extend(backend.to_vec(tensor)?),
                None => row.resize(row.len() + shape.iter().product::<usize>(), B::Elem::of(absent)),
            }
        }
        Ok(row)
    }

    fn len(&self) -> usize {
        self.places.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// What lies in a row.
    fn given<B: Backend>(&self, backend: &B, row: &[B::Elem]) -> Result<Given<B>> {
        let (mut given, mut rest) = (BTreeMap::new(), row);
        for (key, shape) in &self.places {
            let (own, behind) = rest.split_at_checked(shape.iter().product()).ok_or_else(|| other_length("gradients"))?;
            given.insert(*key, backend.from_vec(own.to_vec(), shape)?);
            rest = behind;
        }
        Ok(given)
    }
}

/// The sum over all leaves, by the tree, the same bits on every process.
fn fixed<B: Backend>(group: &ProcessGroup, backend: &B, layout: &Layout, own: TreeSum<Given<B>>, leaves: usize) -> Result<Given<B>> {
    // The one number that changes no other by being added.
    const NOTHING: f64 = -0.0;
    let rows: Result<Vec<Vec<B::Elem>>> =
        own.into_nodes().map(|(_, given)| layout.row(backend, &given.unwrap_or_default(), NOTHING)).collect();
    let rows = rows?;
    let share = |rank: usize| group.of(rank, layout.len());
    let to = |rank: usize| rows.iter().flat_map(|row| B::Elem::bytes_of(&row[share(rank)])).collect();
    let received = group.exchange((0..group.size()).map(to).collect())?;
    let (mine, mut sum) = (share(group.rank()), TreeSum::default());
    let add = |a: Tensor<B>, b: Tensor<B>| backend.binary(Binary::Add, &a, &b);
    for (rank, bytes) in received.iter().enumerate() {
        let (values, nodes) = (B::Elem::values_of(bytes), cover(group.of(rank, leaves))?);
        if values.len() != nodes.len() * mine.len() {
            return Err(other_length("values"));
        }
        for (number, node) in nodes.into_iter().enumerate() {
            let values = values[number * mine.len()..][..mine.len()].to_vec();
            sum.push(node, Some(backend.from_vec(values, &[mine.len()])?), add)?;
        }
    }
    let mine = match sum.finish(add)? {
        Some(sum) => backend.to_vec(&sum)?,
        None => Vec::new(),
    };
    let row = group.all_gather(B::Elem::bytes_of(&mine))?.concat();
    layout.given(backend, &B::Elem::values_of(&row))
}

/// The sum over all leaves as the communicator makes it.
fn fast<B: Backend>(group: &ProcessGroup, backend: &B, layout: &Layout, own: TreeSum<Given<B>>) -> Result<Given<B>> {
    let given = own.finish(|a, b| added(backend, a, b))?.unwrap_or_default();
    let row = layout.row(backend, &given, 0.0)?;
    let row = if size_of::<B::Elem>() == size_of::<f32>() {
        let mut values: Vec<f32> = row.into_iter().map(|value| value.f64() as f32).collect();
        group.sum_f32(&mut values)?;
        values.into_iter().map(|value| B::Elem::of(f64::from(value))).collect::<Vec<_>>()
    } else {
        let mut values: Vec<f64> = row.into_iter().map(Real::f64).collect();
        group.sum_f64(&mut values)?;
        values.into_iter().map(B::Elem::of).collect()
    };
    layout.given(backend, &row)
}

fn other_length(what: &str) -> Error {
    Error::value(
        "Trainer",
        format!("the processes exchange different numbers of {what}: start all of them with the same settings and data"),
    )
}
