//! What a forward pass needs beside its input: the tape, the mode, the random numbers, and who counts and observes the spikes.

use std::sync::Arc;

use super::{BatchStatistics, Observed, Param, Parts, Site, SpikeMeter};
use crate::autodiff::{Tape, Var};
use crate::backend::{Backend, Draw, Key, Noise, Samples, SpikeMode, Tensor};
use crate::error::{Error, Result};

/// The surroundings of a forward pass: one for each pass, with its own tape and key.
///
/// ```
/// use pspikessm::{autodiff::Tape, backend::*, nn::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f32>::new();
/// let linear = Linear::new(&cpu, Key::new(0), 2, 3)?;
/// // A training pass records and drops; this evaluation records nothing, and takes the expected spike in place of a drawn one.
/// let (recording, off) = (Tape::new(&cpu), Tape::off(&cpu));
/// let training = Context::training(&recording, Key::new(1));
/// let evaluation = Context::evaluation(&off, Key::new(2)).expected();
/// let x = cpu.full(&[4, 2], 1.0)?;
/// assert!(linear.forward(&training, &recording.constant(&x))?.needs_gradient());
/// assert!(!linear.forward(&evaluation, &off.constant(&x))?.needs_gradient());
/// // Each part of a layer draws from a key of its own.
/// assert_ne!(training.part(0).key, training.part(1).key);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Context<'a, B: Backend> {
    tape: &'a Tape<B>,
    /// Whether dropout drops and BatchNorm uses the batch's statistics.
    pub training: bool,
    /// The key from which this layer's random numbers come.
    pub key: Key,
    /// Which samples of a larger batch this one's are: their random numbers go with them.
    pub samples: Samples,
    /// Uniform numbers for this layer's spike draws, used instead of those from the key.
    given: Option<&'a [Tensor<B>]>,
    /// Spikes or their expectation.
    pub mode: SpikeMode,
    /// Whether blocks keep their input alone, and are run again for their gradients.
    recompute: bool,
    /// Who counts the spikes.
    pub meter: Option<&'a SpikeMeter>,
    /// Who collects them.
    observed: Option<&'a Observed<B>>,
    /// Who collects what BatchNorms find, where they do not move their running statistics themselves.
    statistics: Option<BatchStatistics<B>>,
    /// How BatchNorms learn of the other parts of the batch, where they see all of it.
    parts: Option<Arc<dyn Parts<B>>>,
    /// The layer and the place in it that spikes are counted for.
    pub place: (usize, Site),
    /// The number of the first time step.
    step: u64,
}

impl<'a, B: Backend> Context<'a, B> {
    /// A training pass on `tape`.
    pub fn training(tape: &'a Tape<B>, key: Key) -> Self {
        let (mode, place) = (SpikeMode::Sampled, (0, Site::Input));
        Context {
            tape,
            training: true,
            key,
            samples: Samples::default(),
            given: None,
            mode,
            recompute: false,
            meter: None,
            observed: None,
            statistics: None,
            parts: None,
            place,
            step: 0,
        }
    }

    /// An evaluation pass on `tape`; spikes are still drawn at random, as in the official code.
    pub fn evaluation(tape: &'a Tape<B>, key: Key) -> Self {
        Context { training: false, ..Self::training(tape, key) }
    }

    /// The same with the expected spike in place of every spike.
    pub fn expected(self) -> Self {
        Context { mode: SpikeMode::Expected, ..self }
    }

    /// The same with blocks that keep their input alone, and are run again when the tape runs backwards: the same bits in less memory, for
    /// the time of a second forward pass. See [`Tape::checkpoint`]. A pass whose spikes are counted or observed keeps everything.
    pub fn recompute(self) -> Self {
        Context { recompute: true, ..self }
    }

    /// The same with `meter` counting spikes.
    pub fn metered(self, meter: &'a SpikeMeter) -> Self {
        Context { meter: Some(meter), ..self }
    }

    /// The same with `observed` collecting the spikes, of every layer and site, as variables: what a penalty on them is made of.
    pub fn observe(self, observed: &'a Observed<B>) -> Self {
        Context { observed: Some(observed), ..self }
    }

    /// The same with `statistics` collecting what BatchNorms find in this batch; their running statistics stay as they are.
    pub fn collect_statistics(self, statistics: &BatchStatistics<B>) -> Self {
        Context { statistics: Some(statistics.clone()), ..self }
    }

    /// The same with BatchNorms that see the whole batch, of which this is one of `parts`.
    pub fn one_of(self, parts: Arc<dyn Parts<B>>) -> Self {
        Context { parts: Some(parts), ..self }
    }

    /// How BatchNorms learn of the other parts of the batch.
    pub(super) fn parts(&self) -> Option<&Arc<dyn Parts<B>>> {
        self.parts.as_ref()
    }

    /// Who collects what BatchNorms find.
    pub(super) fn statistics(&self) -> Option<&BatchStatistics<B>> {
        self.statistics.as_ref()
    }

    /// The same for a part of a larger batch, which begins at sample `first_sample` of it.
    pub fn first_sample(self, first_sample: u64) -> Self {
        Context { samples: Samples { first: first_sample, ..self.samples }, ..self }
    }

    /// The same for a piece of a longer sequence, which begins at time step `first_step` of it.
    pub fn first_step(self, first_step: u64) -> Self {
        Context { step: first_step, ..self }
    }

    /// The same with given uniform numbers for all spike draws: one tensor (B, H, L) a draw, in the order in which the blocks draw, of
    /// which each makes [`BlockConfig::draws`](super::BlockConfig::draws). Dropout still draws from the key.
    pub fn given(self, draws: &'a [Tensor<B>]) -> Self {
        Context { given: Some(draws), ..self }
    }

    /// The same for samples that are `sides` sequences each: a batch holds all first sequences, then all second ones.
    pub(super) fn sides(self, sides: usize) -> Self {
        Context { samples: Samples { sides, ..self.samples }, ..self }
    }

    /// Whether samples may be run one after another: nothing of one depends on another, and nobody looks at a batch as a whole.
    pub(super) fn parts_samples(&self) -> bool {
        let unwatched = self.meter.is_none() && self.observed.is_none() && self.given.is_none();
        unwatched && !self.training && !self.tape.is_recording()
    }

    /// Whether a block is to be run again for its gradients.
    pub(super) fn recomputes(&self) -> bool {
        self.recompute && self.meter.is_none() && self.observed.is_none()
    }

    /// What is needed to make the same surroundings on a tape again, once these are gone.
    pub(super) fn kept(&self) -> KeptContext<B> {
        let Context { training, key, samples, mode, place, .. } = *self;
        let (given, statistics, parts) = (self.given.map(<[_]>::to_vec), self.statistics.clone(), self.parts.clone());
        KeptContext { training, key, samples, given, mode, statistics, parts, place, step: self.step }
    }

    /// The surroundings of the part with this index: its own random numbers.
    pub fn part(&self, index: u64) -> Self {
        Context { key: self.key.fold(index), ..self.clone() }
    }

    /// The surroundings of block number `layer`, with its own random numbers and spike counts; every block makes `draws` draws.
    pub(super) fn layer(&self, layer: usize, draws: usize) -> Self {
        let given = self.given.map(|given| given.get(layer * draws..(layer + 1) * draws).unwrap_or_default());
        Context { given, place: (layer, self.place.1), ..self.part(layer as u64) }
    }

    /// The same for spikes that are drawn at `site`.
    pub fn at(&self, site: Site) -> Self {
        Context { place: (self.place.0, site), ..self.clone() }
    }

    /// The tape.
    pub fn tape(&self) -> &'a Tape<B> {
        self.tape
    }

    /// The backend.
    pub fn backend(&self) -> &'a B {
        self.tape.backend()
    }

    /// The variable of a parameter.
    pub fn var(&self, param: &Param<B>) -> Var<B> {
        let value = param.value();
        if param.is_trained() { self.tape.parameter(param.identity(), &value) } else { self.tape.constant(&value) }
    }

    /// Where draw number `index` of this layer takes its uniform numbers from.
    ///
    /// # Errors
    /// [`Error::Value`] where numbers are given for fewer draws.
    pub fn noise(&self, index: usize) -> Result<Noise<Tensor<B>>> {
        match self.given {
            None => Ok(Noise::Stream(self.part(index as u64).draw())),
            Some(given) => match given.get(index) {
                Some(noise) => Ok(Noise::Given(noise.clone())),
                None => Err(too_few("Context", given.len(), index + 1)),
            },
        }
    }

    /// The draw of this part.
    pub fn draw(&self) -> Draw {
        self.tied_draw().from_step(self.step)
    }

    /// The draw of this part for what is tied over the length: every piece of a sequence draws the same.
    pub(super) fn tied_draw(&self) -> Draw {
        Draw::new(self.key).with_samples(self.samples)
    }

    /// The probability and the draw of dropout in this part; `None` where nothing is dropped.
    pub(super) fn dropout(&self, p: f64) -> Option<(f64, Draw)> {
        (self.training && p > 0.0).then(|| (p, self.draw()))
    }

    /// The same for dropout that is tied over the length.
    pub(super) fn tied_dropout(&self, p: f64) -> Option<(f64, Draw)> {
        (self.training && p > 0.0).then(|| (p, self.tied_draw()))
    }

    /// Refuses given noise for fewer draws than are `needed`; the message names `op`.
    pub(super) fn check_given(&self, op: &'static str, needed: usize) -> Result<()> {
        match self.given {
            Some(given) if given.len() < needed => Err(too_few(op, given.len(), needed)),
            _ => Ok(()),
        }
    }

    /// Counts these spikes, (B, H, L), where there is a meter, and shows them to whoever observes; those of a segment that is run again were
    /// counted before.
    ///
    /// # Errors
    /// What the device answers.
    pub fn count(&self, spikes: &Var<B>) -> Result<()> {
        if let Some(observed) = self.observed {
            observed.see(self.place, spikes);
        }
        if self.mode == SpikeMode::Expected || self.tape.is_recomputing() {
            return Ok(());
        }
        self.meter.map_or(Ok(()), |meter| meter.see(self.backend(), self.place, spikes.value()))
    }
}

/// A [`Context`] without its tape.
pub(super) struct KeptContext<B: Backend> {
    training: bool,
    key: Key,
    samples: Samples,
    given: Option<Vec<Tensor<B>>>,
    mode: SpikeMode,
    statistics: Option<BatchStatistics<B>>,
    parts: Option<Arc<dyn Parts<B>>>,
    place: (usize, Site),
    step: u64,
}

impl<B: Backend> KeptContext<B> {
    /// The context on this tape.
    pub fn on<'a>(&'a self, tape: &'a Tape<B>) -> Context<'a, B> {
        let KeptContext { training, key, samples, ref given, mode, ref statistics, ref parts, place, step } = *self;
        let (given, statistics, parts) = (given.as_deref(), statistics.clone(), parts.clone());
        let (recompute, meter, observed) = (false, None, None);
        Context { tape, training, key, samples, given, mode, recompute, meter, observed, statistics, parts, place, step }
    }
}

fn too_few(op: &'static str, given: usize, needed: usize) -> Error {
    Error::value(op, format!("{given} draws of noise were given, {needed} are needed"))
}
