//! Streams: a causal model that hears its input one time step at a time, on the host.

mod block;
mod digest;
mod ends;
mod int8;
mod mixer;
mod noise;
mod norm;
mod prefill;
mod recurrences;
mod rows;
mod sampler;
mod state;
mod weights;

use std::sync::Arc;

use self::block::{BlockState, Rooms, Trace, keep_last};
use self::noise::Noise;
use self::rows::ones;
use self::weights::Weights;
use super::{Model, Site};
use crate::backend::host::vectors::ROWS;
use crate::backend::{Backend, Key, Real};
use crate::error::{Error, Result};

/// How a model is streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamConfig {
    /// The key of the forward pass whose spikes these are.
    pub key: Key,
    /// The number of the first stream's sample in that pass; the others follow.
    pub first_sample: u64,
    /// Cut kernels off at l_max, as the parallel pass does with sequences that are longer. Without it a stream remembers for as long as
    /// its states last, which costs less: a window keeps l_max spikes of every channel.
    pub windowed: bool,
    /// Keep the SpikeMixers' weights in 8 bits, with a scale for each of their rows: fewer bytes, and sums over spikes that are exact, but
    /// of rounded weights, so that spikes are not those of the forward pass.
    pub int8: bool,
}

impl Default for StreamConfig {
    /// Key 0, sample 0, no window, weights as they are.
    fn default() -> Self {
        StreamConfig { key: Key::new(0), first_sample: 0, windowed: false, int8: false }
    }
}

setters! {
    StreamConfig { key: Key, first_sample: u64, windowed: bool, int8: bool }
}

/// What streams hear: (streams, length), of values (streams, length, d_input), row-major.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Signal<'a> {
    /// Values.
    Values(&'a [f32]),
    /// Tokens.
    Tokens(&'a [u32]),
}

macro_rules! signals {
    ($($number:ty => $kind:ident),+) => {$(
        impl<'a> From<&'a [$number]> for Signal<'a> {
            fn from(numbers: &'a [$number]) -> Self {
                Signal::$kind(numbers)
            }
        }
        impl<'a> From<&'a Vec<$number>> for Signal<'a> {
            fn from(numbers: &'a Vec<$number>) -> Self {
                Signal::$kind(numbers)
            }
        }
        impl<'a, const N: usize> From<&'a [$number; N]> for Signal<'a> {
            fn from(numbers: &'a [$number; N]) -> Self {
                Signal::$kind(numbers)
            }
        }
    )+};
}
signals!(f32 => Values, u32 => Tokens);

/// Several independent streams of one causal model: the forward pass in steps of time, without a tape.
///
/// A step takes one time step of every stream through the whole model, in O(layers x d_model x (d_state + spikes)) operations, and allocates
/// nothing. With the key and the sample numbers of [`StreamConfig`] the spikes are those of [`Model::forward`] in evaluation: equal in f64;
/// in f32 a few in a million differ, where the two ways round a potential to different sides of its uniform number. A BatchNorm stands for
/// the affine map of its running statistics, spikes are drawn as ever, and nothing is dropped.
///
/// The weights are a copy of the model's as they were, which clones of a stream share: a server makes one stream and clones it, or calls
/// [`Stream::anew`], and steps each on a thread of its own without any lock.
///
/// ```
/// use pspikessm::prelude::*;
/// # fn main() -> Result<()> {
/// let cpu = Cpu::<f32>::new();
/// let block = BlockConfig::new(SsmConfig::new(16, 8));
/// let model = Model::new(&cpu, Key::new(0), &ModelConfig::new(Encoder::Values(1), block, 10).causal())?;
/// let mut stream = model.stream(&cpu, 1)?;
/// for t in 0..100 {
///     let sample = (0.1 * t as f32).sin();
///     let logits = stream.step(&[sample])?;
///     assert_eq!(logits.len(), 10);
/// }
/// // Forget everything, and listen to many samples at once: the same logits.
/// let by_steps = stream.logits().to_vec();
/// stream.reset(0)?;
/// let signal: Vec<f32> = (0..100).map(|t| (0.1 * t as f32).sin()).collect();
/// assert_eq!(stream.feed(&signal)?, by_steps);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Stream<E: Real> {
    weights: Arc<Weights<E>>,
    config: StreamConfig,
    /// Each stream's sample number.
    samples: Vec<u64>,
    /// How many time steps each stream has heard.
    heard: Vec<u64>,
    blocks: Vec<BlockState<E>>,
    /// The sum over the features heard, or the last of them: (streams, d_model).
    pooled: Vec<f64>,
    /// (streams, classes).
    logits: Vec<E>,
    /// The output of every block for the last step: (streams, tiles 16) each.
    features: Vec<Vec<E>>,
    traces: Vec<Trace>,
    x: Vec<E>,
    scratch: Vec<E>,
    rooms: Vec<Rooms<E>>,
}

/// Some streams, one after the other, and so many time steps of each: row i of a chunk is step i % steps of stream first + i / steps.
#[derive(Debug)]
struct Chunk<'a> {
    first: usize,
    streams: usize,
    steps: usize,
    /// How many streams there are.
    all: usize,
    /// How many steps each of them has heard before.
    before: &'a [u64],
}

impl Chunk<'_> {
    fn rows(&self) -> usize {
        self.streams * self.steps
    }
}

/// Whom messages name.
const OP: &str = "Stream";
/// Streams that go through many steps together, so that a tile's parameters are read for all of them.
const TOGETHER: usize = 4;
/// Rows of a chunk of many steps: few enough for the cache, enough to make up for reading the weights.
const LONG: usize = 64;

impl<B: Backend> Model<B> {
    /// So many independent streams, none of which has heard anything: key 0, samples 0, 1, ..
    ///
    /// # Errors
    /// [`Error::Config`] that names what cannot be streamed and says what to configure: an anticausal kernel, a flipped branch, a head that
    /// compares documents, no streams; [`Error::Value`] where C~ does not determine C, as in an undamped system.
    pub fn stream(&self, backend: &B, streams: usize) -> Result<Stream<B::Elem>> {
        self.stream_with(backend, streams, StreamConfig::default())
    }

    /// The same as configured.
    ///
    /// # Errors
    /// As [`Model::stream`].
    pub fn stream_with(&self, backend: &B, streams: usize, config: StreamConfig) -> Result<Stream<B::Elem>> {
        Stream::new(Arc::new(Weights::new(backend, self, config)?), streams, config)
    }
}

impl<E: Real> Stream<E> {
    fn new(weights: Arc<Weights<E>>, streams: usize, config: StreamConfig) -> Result<Self> {
        if streams == 0 {
            return Err(Error::config("streams", 0, "must be at least 1"));
        }
        let (channels, width) = (weights.channels, weights.channels.next_multiple_of(ROWS));
        let rows = streams.max(LONG);
        let mut stream = Stream {
            samples: (0..streams as u64).map(|i| config.first_sample.wrapping_add(i)).collect(),
            heard: vec![0; streams],
            blocks: weights.blocks.iter().map(|block| block.at_rest(streams)).collect(),
            pooled: vec![0.0; streams * channels],
            logits: vec![E::nan(); streams * weights.head.classes()],
            features: vec![vec![E::zero(); streams * width]; weights.blocks.len()],
            traces: weights.blocks.iter().map(|block| block.trace(streams)).collect(),
            x: vec![E::zero(); rows * width],
            scratch: vec![E::zero(); width],
            // All blocks are alike.
            rooms: weights.blocks.first().map(|block| Rooms::new(block, rows)).into_iter().collect(),
            weights,
            config,
        };
        stream.set_generators();
        Ok(stream)
    }

    /// So many streams of the same weights, none of which has heard anything, with samples from `first_sample` on.
    ///
    /// # Errors
    /// [`Error::Config`] for no streams.
    pub fn anew(&self, streams: usize, first_sample: u64) -> Result<Self> {
        Stream::new(self.weights.clone(), streams, self.config.first_sample(first_sample))
    }

    /// How many streams there are.
    pub fn streams(&self) -> usize {
        self.samples.len()
    }

    /// How many time steps each stream has heard.
    pub fn heard(&self) -> &[u64] {
        &self.heard
    }

    /// One time step of every stream: `signal` is (streams), or (streams, d_input). The logits so far, (streams, classes): of the mean over
    /// the time steps heard, or of the last one, as the model pools.
    ///
    /// # Errors
    /// [`Error::Value`] where the signal is not one time step of every stream, of the model's kind, or holds what cannot be read; then
    /// nothing is changed.
    pub fn step<'a>(&mut self, signal: impl Into<Signal<'a>>) -> Result<&[E]> {
        let (signal, streams) = (signal.into(), self.streams());
        let steps = self.weights.encoder.steps(signal, streams)?;
        if steps != 1 {
            return Err(Error::value(OP, format!("{steps} time steps were given to `step`, which takes one: call `feed`")));
        }
        self.advance((0, streams, 1), signal, (0, 0, 1));
        self.update_logits(0, streams);
        Ok(&self.logits)
    }

    /// Many time steps of every stream: `signal` is (streams, length), or (streams, length, d_input). The same as a step for each of them,
    /// in less time, and in the same memory for any length.
    ///
    /// # Errors
    /// As [`Stream::step`].
    pub fn feed<'a>(&mut self, signal: impl Into<Signal<'a>>) -> Result<&[E]> {
        let (signal, streams) = (signal.into(), self.streams());
        let length = self.weights.encoder.steps(signal, streams)?;
        self.hear(signal, 0, streams, length);
        Ok(&self.logits)
    }

    /// Many time steps, at least one, of one stream alone: `signal` is (length), or (length, d_input). The logits of this stream.
    ///
    /// # Errors
    /// As [`Stream::step`]; [`Error::Value`] where there is no such stream.
    pub fn feed_one<'a>(&mut self, stream: usize, signal: impl Into<Signal<'a>>) -> Result<&[E]> {
        let signal = signal.into();
        self.check_stream(stream)?;
        let length = self.weights.encoder.steps(signal, 1)?;
        self.hear(signal, stream, 1, length);
        let classes = self.weights.head.classes();
        Ok(&self.logits[stream * classes..][..classes])
    }

    /// The logits so far, (streams, classes); NaN for a stream that has heard nothing.
    pub fn logits(&self) -> &[E] {
        &self.logits
    }

    /// What block number `layer` made of each stream's last time step, a slice (d_model) a stream; zeros before the first. `None` where
    /// there is no such block.
    pub fn features(&self, layer: usize) -> Option<impl Iterator<Item = &[E]>> {
        let channels = self.weights.channels;
        let rows = self.features.get(layer)?.chunks_exact(channels.next_multiple_of(ROWS));
        Some(rows.map(move |row| &row[..channels]))
    }

    /// The numbers of the neurons of block number `layer` that spiked at `site` in the last time step of `stream`. `None` where there is no
    /// such block, site or stream.
    pub fn spikes(&self, layer: usize, site: Site, stream: usize) -> Option<impl Iterator<Item = usize>> {
        let (_, bits) = self.traces.get(layer)?.iter().find(|(own, _)| *own == site)?;
        Some(ones(bits.chunks_exact(bits.len() / self.streams()).nth(stream)?))
    }

    /// Forgets what one stream heard: it begins its sample again, with the same random numbers.
    ///
    /// # Errors
    /// [`Error::Value`] where there is no such stream.
    pub fn reset(&mut self, stream: usize) -> Result<()> {
        self.check_stream(stream)?;
        self.begin(stream, self.samples[stream])
    }

    /// Forgets what one stream heard: it begins sample number `sample`, whose random numbers are its own.
    ///
    /// # Errors
    /// As [`Stream::reset`].
    pub fn begin(&mut self, stream: usize, sample: u64) -> Result<()> {
        self.check_stream(stream)?;
        self.rest(stream, sample);
        Ok(())
    }

    /// Bytes of what each stream remembers: they do not grow.
    pub fn state_bytes(&self) -> usize {
        let branch =
            |b: &block::BranchState<E>| (b.ssm.len() + b.carries.iter().map(Vec::len).sum::<usize>()) * size_of::<E>() + 2 * b.recent.len();
        let block = |b: &BlockState<E>| b.branches.iter().map(branch).sum::<usize>() + 8 * b.generators.iter().map(Vec::len).sum::<usize>();
        let all = self.blocks.iter().map(block).sum::<usize>() + 8 * (self.pooled.len() + self.samples.len() + self.heard.len());
        all / self.streams()
    }

    /// Bytes of the weights, which clones share.
    pub fn weight_bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// Bytes that the streams of this value need together to work in, beside their states.
    pub fn working_bytes(&self) -> usize {
        let features: usize = self.features.iter().map(Vec::len).sum();
        let traces: usize = self.traces.iter().flatten().map(|(_, bits)| 2 * bits.len()).sum();
        let numbers = self.x.len() + self.scratch.len() + self.logits.len() + features;
        numbers * size_of::<E>() + traces + self.rooms.iter().map(Rooms::bytes).sum::<usize>()
    }

    fn check_stream(&self, stream: usize) -> Result<()> {
        let streams = self.streams();
        if stream < streams {
            return Ok(());
        }
        Err(Error::value(OP, format!("there is no stream {stream}: there are {streams}, numbered from 0")))
    }

    /// Takes `length` steps of `signal` to some streams.
    fn hear(&mut self, signal: Signal<'_>, first: usize, streams: usize, length: usize) {
        for from in (0..streams).step_by(TOGETHER) {
            let count = TOGETHER.min(streams - from);
            let most = LONG / count;
            for begin in (0..length).step_by(most) {
                self.advance((first + from, count, most.min(length - begin)), signal, (from, begin, length));
            }
        }
        self.update_logits(first, streams);
    }

    /// One chunk through the whole model; `place` is where in the signal it begins, and the signal's length.
    fn advance(&mut self, (first, streams, steps): (usize, usize, usize), signal: Signal<'_>, place: (usize, usize, usize)) {
        let (weights, chunk) = (&*self.weights, Chunk { first, streams, steps, all: self.samples.len(), before: &self.heard });
        let (channels, width) = (weights.channels, weights.channels.next_multiple_of(ROWS));
        weights.encoder.encode(&chunk, signal, place, width, &mut self.x);
        let blocks = weights.blocks.iter().zip(&mut self.blocks).zip(self.features.iter_mut().zip(&mut self.traces));
        for (i, ((block, state), (features, trace))) in (0..).zip(blocks) {
            let Some(rooms) = self.rooms.first_mut() else { break };
            block.advance(&chunk, self.config.key.fold(i), state, &mut self.x, rooms, trace);
            keep_last(&chunk, &self.x, width, features);
        }
        for (row, x) in self.x.chunks_exact(width).enumerate().take(chunk.rows()) {
            let pooled = &mut self.pooled[(first + row / steps) * channels..][..channels];
            match &weights.norm {
                Some(norm) => {
                    norm.apply(x, channels, &mut self.scratch);
                    weights.head.pool(&self.scratch, pooled);
                }
                None => weights.head.pool(x, pooled),
            }
        }
        self.heard[first..first + streams].iter_mut().for_each(|heard| *heard += steps as u64);
    }

    fn update_logits(&mut self, first: usize, streams: usize) {
        let (classes, channels) = (self.weights.head.classes(), self.weights.channels);
        for stream in (first..first + streams).filter(|&stream| self.heard[stream] > 0) {
            let (pooled, logits) = (&self.pooled[stream * channels..][..channels], &mut self.logits[stream * classes..][..classes]);
            self.weights.head.logits(pooled, self.heard[stream], &mut self.scratch, logits);
        }
    }

    /// Puts every generator where its stream's sample and time step say.
    fn set_generators(&mut self) {
        for (i, (block, state)) in (0..).zip(self.weights.blocks.iter().zip(&mut self.blocks)) {
            for (stream, (&sample, &heard)) in self.samples.iter().zip(&self.heard).enumerate() {
                block.set_generators(state, stream, (self.config.key.fold(i), sample, heard));
            }
        }
    }
}
