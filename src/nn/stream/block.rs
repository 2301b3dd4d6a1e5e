//! A block in steps.

use super::mixer::Mixer;
use super::norm::StepNorm;
use super::recurrences::Recurrences;
use super::rows::{add, apply, from_bits, ones, to_bits};
use super::sampler::{Sampler, Spikes};
use super::{Chunk, LONG, Noise, StreamConfig};
use crate::backend::host::vectors::ROWS;
use crate::backend::{Backend, Draw, Key, Real, Unary};
use crate::error::Result;
use crate::nn::{Block, Site};

/// A block's weights as its steps read them.
#[derive(Debug)]
pub struct StepBlock<E> {
    pub branches: Vec<StepBranch<E>>,
    activation: Option<Unary>,
    mixer: Mixer<E>,
    residual: bool,
    clamp: bool,
    norm: Option<StepNorm<E>>,
    /// How many draws of uniform numbers a step makes.
    pub draws: usize,
    pub channels: usize,
}

/// From a block's input to the spikes that are mixed.
#[derive(Debug)]
pub struct StepBranch<E> {
    pub input: Sampler<E>,
    pub ssm: Recurrences<E>,
    pub output: Sampler<E>,
}

impl<E: Real> StepBranch<E> {
    pub fn samplers(&self) -> [&Sampler<E>; 2] {
        [&self.input, &self.output]
    }
}

/// What a block of all streams remembers.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockState<E> {
    /// The generators of every draw: (draws, streams, tiles 16). They follow from key, sample and step.
    pub generators: Vec<Vec<u64>>,
    pub branches: Vec<BranchState<E>>,
}

/// What a branch of all streams remembers.
#[derive(Clone, Debug, PartialEq)]
pub struct BranchState<E> {
    /// As [`Recurrences::at_rest`].
    pub ssm: Vec<E>,
    /// What the neurons of the input and of the output sampler remember: (streams, remembered, tiles 16).
    pub carries: [Vec<E>; 2],
    /// The input spikes of the last steps, where the kernel is cut off: (streams, window, tiles), step t at t modulo the window.
    pub recent: Vec<u16>,
}

/// The spikes of the last step at one site, of all streams: (streams, tiles).
pub type Trace = Vec<(Site, Vec<u16>)>;

/// Room for the rows of a chunk.
#[derive(Clone, Debug)]
pub struct Rooms<E> {
    v: Vec<E>,
    old: Vec<E>,
    y: Vec<E>,
    scratch: Vec<E>,
    input: Vec<u16>,
    output: Vec<Vec<u16>>,
    spiked: Vec<u32>,
    ends: Vec<usize>,
    pub noise: Noise<E>,
}

impl<E: Real> Rooms<E> {
    /// Room for `rows` rows of a block like this.
    pub fn new(block: &StepBlock<E>, rows: usize) -> Self {
        let (tiles, branches) = (block.channels.div_ceil(ROWS), block.branches.len());
        let lanes = || vec![E::zero(); rows * tiles * ROWS];
        let windowed = block.branches.iter().any(|branch| branch.ssm.window.is_some());
        Rooms {
            v: lanes(),
            old: if windowed { lanes() } else { Vec::new() },
            y: lanes(),
            scratch: vec![E::zero(); 2 * tiles * ROWS],
            input: vec![0; rows * tiles],
            output: vec![vec![0; rows * tiles]; branches],
            spiked: Vec::with_capacity(rows * branches * tiles * ROWS),
            ends: Vec::with_capacity(rows),
            noise: Noise { draws: (0..block.draws).map(|_| lanes()).collect() },
        }
    }

    /// Bytes.
    pub fn bytes(&self) -> usize {
        let noise: usize = self.noise.draws.iter().map(Vec::len).sum();
        let bits: usize = self.input.len() + self.output.iter().map(Vec::len).sum::<usize>();
        (self.v.len() + self.old.len() + self.y.len() + self.scratch.len() + noise) * size_of::<E>()
            + bits * 2
            + self.spiked.capacity() * 4
            + self.ends.capacity() * size_of::<usize>()
    }
}

impl<E: Real> StepBlock<E> {
    /// The weights of a block without an anticausal kernel or a flipped branch.
    pub fn new<B: Backend<Elem = E>>(backend: &B, block: &Block<B>, stream: StreamConfig) -> Result<Self> {
        let (config, windowed) = (block.config(), stream.windowed);
        let (channels, (output, reverse_output)) = (config.ssm.d_model, config.output_draws());
        let prenorm = block.norm.as_ref().filter(|_| config.prenorm);
        let mut branches = vec![StepBranch {
            input: Sampler::new(backend, Site::Input, &block.forward.sampler, (0, channels), prenorm)?,
            ssm: Recurrences::new(backend, &block.forward.ssm, windowed)?,
            output: Sampler::new(backend, Site::Output, &block.output, (output, channels), None)?,
        }];
        if let Some(reverse) = &block.reverse {
            branches.push(StepBranch {
                input: Sampler::new(backend, Site::ReverseInput, &reverse.sampler, (1, channels), None)?,
                ssm: Recurrences::new(backend, &reverse.ssm, windowed)?,
                output: Sampler::new(backend, Site::ReverseOutput, &block.reverse_output, (reverse_output, channels), None)?,
            });
        }
        let draws = if branches.iter().any(|branch| branch.samplers().iter().any(|s| s.remembered() == 0)) { config.draws() } else { 0 };
        Ok(StepBlock {
            mixer: Mixer::new(backend, &block.mixer, branches.len(), stream.int8)?,
            branches,
            activation: config.ssm.activation.function(),
            residual: config.residual,
            clamp: config.residual && config.clamp_residual,
            norm: block.norm.as_ref().filter(|_| !config.prenorm).map(|norm| StepNorm::new(backend, norm)).transpose()?,
            draws,
            channels,
        })
    }

    fn width(&self) -> usize {
        self.channels.next_multiple_of(ROWS)
    }

    /// Bytes of parameters.
    pub fn bytes(&self) -> usize {
        let branch = |branch: &StepBranch<E>| branch.ssm.bytes() + branch.samplers().iter().map(|s| s.bytes()).sum::<usize>();
        let norm = self.norm.as_ref().map_or(0, StepNorm::len) * size_of::<E>();
        self.branches.iter().map(branch).sum::<usize>() + self.mixer.bytes() + norm
    }

    /// The state of so many streams, all at rest, whose generators are still to be [set](StepBlock::set_generators).
    pub fn at_rest(&self, streams: usize) -> BlockState<E> {
        let lanes = streams * self.width();
        let branch = |branch: &StepBranch<E>| BranchState {
            ssm: branch.ssm.at_rest(streams),
            carries: branch.samplers().map(|s| vec![E::zero(); s.remembered() * lanes]),
            recent: vec![0; branch.ssm.window.unwrap_or(0) * streams * branch.ssm.tiles()],
        };
        BlockState { generators: vec![vec![0; lanes]; self.draws], branches: self.branches.iter().map(branch).collect() }
    }

    /// An empty trace of so many streams.
    pub fn trace(&self, streams: usize) -> Trace {
        let samplers = self.branches.iter().flat_map(StepBranch::samplers);
        samplers.map(|sampler| (sampler.site, vec![0; streams * self.width() / ROWS])).collect()
    }

    /// Puts the generators of one stream at time step `step` of sample `sample`; `key` is the block's.
    pub fn set_generators(&self, state: &mut BlockState<E>, stream: usize, (key, sample, step): (Key, u64, u64)) {
        let width = self.width();
        for (draw, generators) in (0..).zip(&mut state.generators) {
            let states = Draw::new(key.fold(draw)).from_step(step).states(sample, width);
            generators[stream * width..][..width].iter_mut().zip(states).for_each(|(own, state)| *own = state);
        }
    }

    /// Takes x, (rows, tiles 16), to the block's output, in place; the spikes of the last step go into `trace`.
    pub fn advance(&self, chunk: &Chunk<'_>, key: Key, state: &mut BlockState<E>, x: &mut [E], rooms: &mut Rooms<E>, trace: &mut Trace) {
        let rows = chunk.rows();
        rooms.noise.draw(chunk, key, &mut state.generators, self.width());
        for (number, (branch, state)) in self.branches.iter().zip(&mut state.branches).enumerate() {
            let [input, output] = &mut state.carries;
            let out = Spikes { lanes: &mut rooms.v, bits: &mut rooms.input };
            branch.input.sample(chunk, x, &rooms.noise, input, &mut rooms.scratch, out);
            remember(chunk, &branch.ssm, &mut state.recent, &rooms.input, &mut rooms.old);
            branch.ssm.run(chunk, &mut state.ssm, &rooms.v, &rooms.old, &mut rooms.y);
            if let Some(f) = self.activation {
                apply(f, &mut rooms.y[..rows * self.width()]);
            }
            let out = Spikes { lanes: &mut rooms.v, bits: &mut rooms.output[number] };
            branch.output.sample(chunk, &rooms.y, &rooms.noise, output, &mut rooms.scratch, out);
            for ((_, kept), bits) in trace[2 * number..].iter_mut().zip([&rooms.input, &rooms.output[number]]) {
                keep_last(chunk, bits, self.width() / ROWS, kept);
            }
        }
        self.close(chunk, x, rooms);
    }

    /// SpikeMixer, ClampFuse, and the norm where it stands last.
    fn close(&self, chunk: &Chunk<'_>, x: &mut [E], rooms: &mut Rooms<E>) {
        let (width, tiles) = (self.width(), self.width() / ROWS);
        rooms.spiked.clear();
        rooms.ends.clear();
        for row in 0..chunk.rows() {
            for (branch, bits) in rooms.output.iter().enumerate() {
                rooms.spiked.extend(ones(&bits[row * tiles..][..tiles]).map(|k| (branch * width + k) as u32));
            }
            rooms.ends.push(rooms.spiked.len());
        }
        let m = &mut rooms.y[..chunk.rows() * width];
        self.mixer.mix(&rooms.spiked, &rooms.ends, m);
        if let Some(f) = self.mixer.activation {
            apply(f, m);
        }
        let x = &mut x[..m.len()];
        if self.residual {
            add(x, m);
        } else {
            x.copy_from_slice(m);
        }
        if self.clamp {
            apply(Unary::Clamp(0.0, 1.0), x);
        }
        if let Some(norm) = &self.norm {
            for (x, out) in x.chunks_exact_mut(width).zip(m.chunks_exact_mut(width)) {
                norm.apply(x, self.channels, out);
                x.copy_from_slice(out);
            }
        }
    }
}

impl<E: Real> StepBranch<E> {
    /// Takes `steps` steps of known input spikes, (count, channels, steps), into the states of `count` of `all` streams, which are at rest.
    pub fn absorb(&self, spikes: &[E], (first, count, all): (usize, usize, usize), steps: usize, state: &mut BranchState<E>) {
        let width = self.ssm.tiles() * ROWS;
        let lanes = || vec![E::zero(); LONG * width];
        let (mut v, mut y, mut bits) = (lanes(), lanes(), vec![0; LONG * self.ssm.tiles()]);
        let mut old = if self.ssm.window.is_some() { lanes() } else { Vec::new() };
        let mut before = vec![0; all];
        for (stream, spikes) in (first..first + count).zip(spikes.chunks_exact(self.ssm.channels * steps)) {
            for from in (0..steps).step_by(LONG) {
                let count = LONG.min(steps - from);
                before[stream] = from as u64;
                for (h, row) in spikes.chunks_exact(steps).enumerate() {
                    row[from..from + count].iter().enumerate().for_each(|(t, &spike)| v[t * width + h] = spike);
                }
                to_bits(&v, &mut bits);
                let chunk = Chunk { first: stream, streams: 1, steps: count, all, before: &before };
                remember(&chunk, &self.ssm, &mut state.recent, &bits, &mut old);
                self.ssm.run(&chunk, &mut state.ssm, &v, &old, &mut y);
            }
        }
    }
}

/// Where a kernel is cut off: exchanges the spikes of every step for those that leave the window.
fn remember<E: Real>(chunk: &Chunk<'_>, ssm: &Recurrences<E>, recent: &mut [u16], spikes: &[u16], old: &mut [E]) {
    let (Some(window), tiles) = (ssm.window, ssm.tiles()) else { return };
    for row in 0..chunk.rows() {
        let stream = chunk.first + row / chunk.steps;
        let at = (chunk.before[stream] + (row % chunk.steps) as u64) % window as u64;
        let words = &mut recent[(stream * window + at as usize) * tiles..][..tiles];
        from_bits(words, &mut old[row * tiles * ROWS..][..tiles * ROWS]);
        words.copy_from_slice(&spikes[row * tiles..][..tiles]);
    }
}

/// Keeps each stream's last of `rows`, `size` numbers each.
pub fn keep_last<T: Copy>(chunk: &Chunk<'_>, rows: &[T], size: usize, kept: &mut [T]) {
    for i in 0..chunk.streams {
        let last = &rows[((i + 1) * chunk.steps - 1) * size..][..size];
        kept[(chunk.first + i) * size..][..size].copy_from_slice(last);
    }
}
