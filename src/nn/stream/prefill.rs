//! Hand-over: what is there already goes through the parallel form, and the stream goes on by steps.

use std::collections::BTreeMap;

use super::block::{BranchState, StepBranch};
use super::{OP, Signal, Stream, digest};
use crate::autodiff::Tape;
use crate::backend::host::threads::for_each;
use crate::backend::{Backend, Real};
use crate::error::{Error, Result};
use crate::nn::{Context, Input, Model, Observed, Site};

impl<E: Real> Stream<E> {
    /// The same as [`Stream::feed`] for streams that have heard nothing, by the parallel form: one forward pass of `model`, whose streams
    /// these are, and the recurrences over the spikes that entered its SSMs. It takes memory for the whole signal, and uses all cores.
    ///
    /// Steps past l_max, where there is no window, neurons that integrate, and streams with weights in 8 bits are fed. Features and spikes are those of the next step.
    ///
    /// # Errors
    /// As [`Stream::step`] and [`Model::forward`]; [`Error::Value`] where a stream has heard something, or the model is another, or has
    /// other weights by now.
    pub fn prefill<'a, B: Backend<Elem = E>>(&mut self, backend: &B, model: &Model<B>, signal: impl Into<Signal<'a>>) -> Result<&[E]> {
        let (signal, streams) = (signal.into(), self.streams());
        let (length, size) = (self.weights.encoder.steps(signal, streams)?, self.weights.encoder.size());
        if self.heard.iter().any(|&heard| heard > 0) {
            return Err(Error::value(OP, "`prefill` begins streams, but one of these has heard something: reset it, or call `feed`"));
        }
        if digest::of(backend, model)? != self.weights.digest {
            return Err(Error::value(OP, "this stream is of another model, or of other weights: make it of this one"));
        }
        let cut = model.config().block.ssm.l_max.filter(|_| !self.config.windowed);
        let integrates =
            self.weights.blocks.iter().flat_map(|block| &block.branches).any(|b| b.samplers().iter().any(|s| s.remembered() > 0));
        let steps = if integrates || self.config.int8 { 0 } else { cut.map_or(length, |l_max| length.min(l_max)) };
        // Streams whose samples follow each other are one batch.
        let mut first = 0;
        while steps > 0 && first < streams {
            let follow = |&i: &usize| self.samples[i] == self.samples[first].wrapping_add((i - first) as u64);
            let count = (first..streams).take_while(follow).count();
            self.pass(backend, model, &cut_out(signal, (first, count), (0, steps, length), size), (first, count, steps))?;
            first += count;
        }
        self.set_generators();
        if steps < length {
            return self.feed(cut_out(signal, (0, streams), (steps, length, length), size).signal());
        }
        self.update_logits(0, streams);
        Ok(&self.logits)
    }

    /// The parallel pass over some streams' first steps.
    fn pass<B: Backend<Elem = E>>(&mut self, backend: &B, model: &Model<B>, part: &Owned, place: (usize, usize, usize)) -> Result<()> {
        let (first, count, steps) = place;
        let (tape, observed) = (Tape::off(backend), Observed::new());
        let cx = Context::evaluation(&tape, self.config.key).first_sample(self.samples[first]).observe(&observed);
        let features = backend.to_vec(model.features(&cx, part.input(count))?.value())?;
        let spikes: BTreeMap<_, _> = observed.spikes().into_iter().collect();
        let mut work: Vec<(&StepBranch<E>, &mut BranchState<E>, Vec<E>)> = Vec::new();
        for (i, (block, state)) in self.weights.blocks.iter().zip(&mut self.blocks).enumerate() {
            for ((branch, state), site) in block.branches.iter().zip(&mut state.branches).zip([Site::Input, Site::ReverseInput]) {
                let spikes =
                    spikes.get(&(i, site)).ok_or_else(|| Error::value(OP, format!("layer {i} gave no spikes in the parallel pass")))?;
                work.push((branch, state, backend.to_vec(spikes.value())?));
            }
        }
        let all = self.samples.len();
        for_each(work, |_, (branch, state, spikes)| branch.absorb(&spikes, (first, count, all), steps, state));
        let channels = self.weights.channels;
        for (stream, rows) in (first..).zip(features.chunks_exact(channels * steps)) {
            let mut row = vec![E::zero(); channels];
            for t in 0..steps {
                row.iter_mut().zip(rows.iter().skip(t).step_by(steps)).for_each(|(x, &value)| *x = value);
                self.weights.head.pool(&row, &mut self.pooled[stream * channels..][..channels]);
            }
            self.heard[stream] = steps as u64;
        }
        Ok(())
    }
}

/// A signal's numbers.
enum Owned {
    Values(Vec<f32>),
    Tokens(Vec<u32>),
}

impl Owned {
    fn signal(&self) -> Signal<'_> {
        match self {
            Owned::Values(values) => Signal::Values(values),
            Owned::Tokens(tokens) => Signal::Tokens(tokens),
        }
    }

    fn input<B: Backend>(&self, streams: usize) -> Input<'_, B> {
        match self {
            Owned::Values(values) => Input::values(values, streams),
            Owned::Tokens(tokens) => Input::tokens(tokens, streams),
        }
    }
}

/// Steps `from..to`, of `length`, of `count` streams from number `first` on, out of a signal of all streams.
fn cut_out(signal: Signal<'_>, (first, count): (usize, usize), (from, to, length): (usize, usize, usize), size: usize) -> Owned {
    fn cut<T: Copy>(all: &[T], (first, count): (usize, usize), row: usize, part: std::ops::Range<usize>) -> Vec<T> {
        all.chunks_exact(row).skip(first).take(count).flat_map(|row| &row[part.clone()]).copied().collect()
    }
    let (row, part) = (length * size, from * size..to * size);
    match signal {
        Signal::Values(values) => Owned::Values(cut(values, (first, count), row, part)),
        Signal::Tokens(tokens) => Owned::Tokens(cut(tokens, (first, count), row, part)),
    }
}
