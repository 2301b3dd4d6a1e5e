//! Reduction: the sums of what the micro-batches of all processes give, in buckets that are sent while the tape still runs backwards.
//!
//! What the step before has given is cut into buckets: running statistics, then parameters from the last one back, which is about the order in
//! which a run backwards is done with them. They go round in this order, whatever is ready first. In round r every process sends each other one
//! its share of bucket r, and the sums of its own share of bucket r - 1, which it has made of what round r - 1 has brought. A round begins once
//! the one before has arrived and its bucket is ready; the one behind the last bucket has sums alone. What no bucket has (all of it in the first
//! step) goes round at the end. Twice the gradients' size goes out of each process, whatever their number and that of the buckets.
//!
//! Each value is summed along a tree over the micro-batches ([`TreeSum`]), and so neither buckets nor processes change a bit of it. A message
//! begins with a byte that says whether its sender has failed: that round is the last one then, for all.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::communicator::Exchange;
use super::process_group::{ProcessGroup, Reduce};
use super::tree_sum::{TreeSum, cover};
use crate::backend::{Backend, Binary, Real, Tensor};
use crate::error::{Error, Result};
use crate::nn::{Param, ParamOptions};

/// What a value is of: a parameter's place among the learner's, and which time in the pass that running statistic was met.
pub(super) type Place = (usize, usize);

/// What a micro-batch gives: the gradients of parameters, and what is to be added to running statistics.
pub(super) type Given<B> = BTreeMap<Place, Tensor<B>>;

/// The one number that changes no other by being added.
const NOTHING: f64 = -0.0;

/// What a message begins with.
const FINE: u8 = 0;
const FAILED: u8 = 1;

/// The sums of a step while they are made.
pub(super) struct Reduction<'a, B: Backend> {
    group: &'a ProcessGroup,
    backend: &'a B,
    /// Micro-batches, on all processes.
    leaves: usize,
    buckets: Vec<Layout>,
    /// What this process's micro-batches have given, but for what was sent.
    own: TreeSum<Given<B>>,
    running: Option<Running<B>>,
    /// How often each parameter was met at most.
    times: Vec<u64>,
    /// Rounds that were begun.
    round: usize,
    under_way: Option<Box<dyn Exchange>>,
    /// The sums of this process's share of the latest bucket, for all.
    share: Vec<u8>,
    found: Given<B>,
    /// Why this process cannot go on.
    error: Option<Error>,
    /// Whether any process has said that it cannot.
    stopped: bool,
    /// Whether the others are out of reach.
    lost: bool,
}

/// The micro-batch that is being computed.
struct Running<B: Backend> {
    number: usize,
    is_last: bool,
    given: Given<B>,
}

impl<'a, B: Backend> Reduction<'a, B> {
    /// Of a step with so many micro-batches and learner's parameters.
    pub fn new(group: &'a ProcessGroup, backend: &'a B, leaves: usize, params: usize, buckets: Vec<Layout>) -> Self {
        Reduction {
            group,
            backend,
            leaves,
            buckets,
            own: TreeSum::default(),
            running: None,
            times: vec![0; params],
            round: 0,
            under_way: None,
            share: Vec::new(),
            found: Given::new(),
            error: None,
            stopped: false,
            lost: false,
        }
    }

    /// The next micro-batch of this process; what the last one gives is sent as it comes.
    pub fn begin(&mut self, number: usize, is_last: bool) {
        self.running = Some(Running { number, is_last, given: Given::new() });
    }

    /// What has been found of the micro-batch; nothing, as often as time has passed.
    pub fn take(&mut self, found: Option<(Place, Tensor<B>)>) -> Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        if let Some((place, tensor)) = found {
            if self.buckets.iter().take(self.round).any(|bucket| bucket.has(place)) {
                let help = "a parameter has got a second gradient after the first was sent: a segment of Tape::checkpoint must use the same ones \
                            both times";
                return Err(Error::value("Trainer", help));
            }
            self.times[place.0] = self.times[place.0].max(place.1 as u64 + 1);
            include(self.backend, &mut running.given, place, tensor)?;
        }
        if running.is_last { self.advance(false) } else { Ok(()) }
    }

    /// The end of that micro-batch.
    pub fn end(&mut self) -> Result<()> {
        self.running.take().map_or(Ok(()), |Running { number, given, .. }| self.add(number, given))
    }

    /// All that a micro-batch has given.
    pub fn add(&mut self, number: usize, given: Given<B>) -> Result<()> {
        given.keys().for_each(|&(place, time)| self.times[place] = self.times[place].max(time as u64 + 1));
        self.own.push_leaf(number, (!given.is_empty()).then_some(given), |a, b| added(self.backend, a, b))
    }

    /// How often each parameter was met here, at most.
    pub fn times(&self) -> &[u64] {
        &self.times
    }

    /// Waits until all buckets have gone round; `own` is what has come of this process's micro-batches.
    ///
    /// # Errors
    /// Where the others are out of reach. What else has failed here is the inner error, which they have yet to hear.
    pub fn finish<T>(&mut self, own: Result<T>) -> Result<Result<T>> {
        let own = match own {
            Err(error) if self.lost => return Err(error),
            Err(error) => {
                self.error = Some(error);
                None
            }
            Ok(own) => Some(own),
        };
        self.running = None;
        self.advance(true)?;
        let unsaid = || Error::value("Reduction", "an error got lost");
        Ok(match (self.error.take(), own) {
            (None, Some(own)) => Ok(own),
            (error, _) => Err(error.unwrap_or_else(unsaid)),
        })
    }

    /// The sums, where each parameter was met so often on any process: what no bucket had is sent now.
    pub fn into_sums(mut self, times: &[u64], params: &[Param<B>]) -> Result<Given<B>> {
        if self.group.is_alone() {
            return Ok(self.own.finish(|a, b| added(self.backend, a, b))?.unwrap_or_default());
        }
        // Of what was sent in vain there is no sum.
        self.found.retain(|&(place, time), _| (time as u64) < times[place]);
        let mut rest = Layout::all(0..params.len(), times, params);
        rest.places.retain(|(place, _)| !self.buckets.iter().any(|bucket| bucket.has(*place)));
        if rest.places.is_empty() {
            return Ok(self.found);
        }
        if self.group.reduce == Reduce::Fast {
            return fast(self.group, self.backend, &rest, self.own);
        }
        (self.buckets, self.round) = (vec![rest], 0);
        self.advance(true)?;
        match (self.error, self.stopped) {
            (None, false) => Ok(self.found),
            (Some(error), false) => Err(error),
            (error, true) => {
                self.group.gather(error.map_or(Ok(Vec::new()), Err))?;
                Err(Error::value("Reduction", "an error got lost"))
            }
        }
    }

    /// Goes on with the rounds as far as it comes without waiting, or `to_the_end`.
    fn advance(&mut self, to_the_end: bool) -> Result<()> {
        let advanced = self.try_advance(to_the_end);
        self.lost |= advanced.is_err();
        advanced
    }

    fn try_advance(&mut self, to_the_end: bool) -> Result<()> {
        let rounds = if self.buckets.is_empty() { 0 } else { self.buckets.len() + 1 };
        while !self.stopped {
            if let Some(mut exchange) = self.under_way.take() {
                if !to_the_end && !exchange.has_arrived()? {
                    self.under_way = Some(exchange);
                    return Ok(());
                }
                if let Err(error) = self.receive(&exchange.wait()?) {
                    self.error.get_or_insert(error);
                }
            } else if self.round < rounds && (to_the_end || self.is_ready()) {
                self.begin_round()?;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the micro-batch that runs has given all of the next bucket.
    fn is_ready(&self) -> bool {
        let given = |bucket: &Layout| {
            self.running.as_ref().is_some_and(|running| bucket.places.iter().all(|(place, _)| running.given.contains_key(place)))
        };
        self.buckets.get(self.round).is_none_or(given)
    }

    /// Sends the next bucket, and the sums of this process's share of the one before.
    fn begin_round(&mut self) -> Result<()> {
        let rows = if self.error.is_some() { Ok(Vec::new()) } else { self.rows() };
        let rows = rows.unwrap_or_else(|error| {
            self.error = Some(error);
            Vec::new()
        });
        let (own, sums) = (self.group.rank(), std::mem::take(&mut self.share));
        let message = |to: usize| {
            let length = self.length(own, to)?;
            if self.error.is_some() {
                return Ok([FAILED].into_iter().chain(std::iter::repeat_n(0, length - 1)).collect());
            }
            let mut message = Vec::with_capacity(length);
            message.push(FINE);
            rows.iter().for_each(|row| message.extend(B::Elem::bytes_of(&row[self.share_of(self.round, to)])));
            message.extend(&sums);
            Ok(message)
        };
        let messages = (0..self.group.size()).map(message).collect::<Result<_>>()?;
        let lengths = (0..self.group.size()).map(|from| self.length(from, own)).collect::<Result<Vec<_>>>()?;
        self.under_way = Some(self.group.begin_exchange(messages, &lengths)?);
        self.round += 1;
        Ok(())
    }

    /// This process's nodes of the next bucket.
    fn rows(&mut self) -> Result<Vec<Vec<B::Elem>>> {
        let Some(bucket) = self.buckets.get(self.round) else { return Ok(Vec::new()) };
        let mut part = self.own.split(|given| bucket.split(given));
        if let Some(running) = &mut self.running {
            part.push_leaf(running.number, bucket.split(&mut running.given), |a, b| added(self.backend, a, b))?;
        }
        part.into_nodes().map(|(_, given)| bucket.row(self.backend, &given.unwrap_or_default(), NOTHING)).collect()
    }

    /// Takes in what a round has brought.
    fn receive(&mut self, received: &[Vec<u8>]) -> Result<()> {
        if received.iter().any(|message| message.first() != Some(&FINE)) {
            self.stopped = true;
            return Ok(());
        }
        let (round, add) = (self.round - 1, |a: Tensor<B>, b: Tensor<B>| self.backend.binary(Binary::Add, &a, &b));
        let mine = self.share_of(round, self.group.rank()).len();
        let (mut sum, mut before) = (TreeSum::default(), Vec::new());
        for (rank, message) in received.iter().enumerate() {
            let nodes = cover(self.group.of(rank, self.leaves))?;
            let width = mine * size_of::<B::Elem>();
            let (rows, sums) = message[1..].split_at_checked(nodes.len() * width).ok_or_else(|| other_length("values"))?;
            before.extend_from_slice(sums);
            for (number, node) in nodes.into_iter().enumerate().filter(|_| mine > 0) {
                let values = B::Elem::values_of(&rows[number * width..][..width]);
                sum.push(node, Some(self.backend.from_vec(values, &[mine])?), add)?;
            }
        }
        self.share = match sum.finish(add)? {
            Some(sum) => B::Elem::bytes_of(&self.backend.to_vec(&sum)?),
            None => Vec::new(),
        };
        if let Some(bucket) = round.checked_sub(1).and_then(|before| self.buckets.get(before)) {
            self.found.extend(bucket.given(self.backend, &B::Elem::values_of(&before))?);
        }
        Ok(())
    }

    /// Which values of a bucket a process makes the sums of; none beyond the last bucket.
    fn share_of(&self, bucket: usize, rank: usize) -> std::ops::Range<usize> {
        self.group.of(rank, self.buckets.get(bucket).map_or(0, Layout::len))
    }

    /// The bytes that one process sends another in the next round.
    fn length(&self, from: usize, to: usize) -> Result<usize> {
        let nodes = cover(self.group.of(from, self.leaves))?.len();
        let sums = self.round.checked_sub(1).map_or(0, |before| self.share_of(before, from).len());
        Ok(1 + (nodes * self.share_of(self.round, to).len() + sums) * size_of::<B::Elem>())
    }
}

/// Puts what is found where it belongs, beside what stands there.
pub(super) fn include<B: Backend>(backend: &B, given: &mut Given<B>, place: Place, tensor: Tensor<B>) -> Result<()> {
    let sum = match given.remove(&place) {
        Some(earlier) => backend.binary(Binary::Add, &earlier, &tensor)?,
        None => tensor,
    };
    given.insert(place, sum);
    Ok(())
}

/// The sum of what two parts of a batch give; what only one of them gives stays as it is.
fn added<B: Backend>(backend: &B, mut left: Given<B>, right: Given<B>) -> Result<Given<B>> {
    right.into_iter().try_for_each(|(place, tensor)| include(backend, &mut left, place, tensor))?;
    Ok(left)
}

/// Where values lie in one row of numbers.
pub(super) struct Layout {
    places: Vec<(Place, Vec<usize>)>,
}

impl Layout {
    /// Of these parameters, in this order, of which each is met so often.
    fn all<B: Backend>(order: impl IntoIterator<Item = usize>, times: &[u64], params: &[Param<B>]) -> Self {
        let of = |place: usize| {
            let shape = params[place].value().shape().to_vec();
            (0..times[place] as usize).map(move |time| ((place, time), shape.clone()))
        };
        Layout { places: order.into_iter().flat_map(of).collect() }
    }

    /// The buckets of a step in which each parameter is met so often, in the order in which they are sent: of at least so many bytes, but for
    /// the last.
    pub fn buckets<B: Backend>(times: &[u64], params: &[Param<B>], bytes: usize) -> Vec<Layout> {
        let mut order: Vec<usize> = (0..times.len()).collect();
        // Statistics are there before the tape runs backwards.
        order.sort_by_key(|&place| (params[place].options() != ParamOptions::Buffer, Reverse(place)));
        let mut buckets: Vec<Layout> = Vec::new();
        for place in Layout::all(order, times, params).places {
            match buckets.last_mut() {
                Some(bucket) if bucket.len() * size_of::<B::Elem>() < bytes => bucket.places.push(place),
                _ => buckets.push(Layout { places: vec![place] }),
            }
        }
        buckets
    }

    fn has(&self, place: Place) -> bool {
        self.places.iter().any(|(own, _)| *own == place)
    }

    /// Takes out what belongs here, if there is any.
    fn split<B: Backend>(&self, given: &mut Given<B>) -> Option<Given<B>> {
        let own: Given<B> = self.places.iter().filter_map(|(place, _)| given.remove_entry(place)).collect();
        (!own.is_empty()).then_some(own)
    }

    /// The row of this part of a batch; `absent` where it gives nothing.
    fn row<B: Backend>(&self, backend: &B, given: &Given<B>, absent: f64) -> Result<Vec<B::Elem>> {
        let mut row = Vec::with_capacity(self.len());
        for (place, shape) in &self.places {
            match given.get(place) {
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
        let (mut given, mut rest) = (Given::new(), row);
        for (place, shape) in &self.places {
            let (own, behind) = rest.split_at_checked(shape.iter().product()).ok_or_else(|| other_length("gradients"))?;
            given.insert(*place, backend.from_vec(own.to_vec(), shape)?);
            rest = behind;
        }
        Ok(given)
    }
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

pub(super) fn other_length(what: &str) -> Error {
    Error::value(
        "Trainer",
        format!("the processes exchange different numbers of {what}: start all of them with the same settings and data"),
    )
}
