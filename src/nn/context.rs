//! What a forward pass needs beside its input: the tape, the mode, the random key, and who counts the spikes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use super::Param;
use crate::autodiff::{Tape, Var};
use crate::backend::{Backend, Key, Real, SpikeMode, Tensor};
use crate::error::Result;

/// Where in a block spikes are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// What enters the SSM.
    Input,
    /// What leaves it for the SpikeMixer.
    Output,
    /// What enters the second branch's SSM.
    ReverseInput,
    /// What leaves it.
    ReverseOutput,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Site::Input => "input",
            Site::Output => "output",
            Site::ReverseInput => "reverse_input",
            Site::ReverseOutput => "reverse_output",
        })
    }
}

/// The time steps at which each neuron spiked, for every layer and site.
type Trains = BTreeMap<(usize, Site), Vec<Vec<u32>>>;

/// Counts ones among sampled spikes, layer by layer and site by site; padded positions count too.
#[derive(Debug, Default)]
pub struct SpikeMeter {
    /// Ones and draws.
    counts: RefCell<BTreeMap<(usize, Site), [f64; 2]>>,
    keeps: bool,
    kept: RefCell<Trains>,
}

impl SpikeMeter {
    /// A meter that also keeps the first sequence's spikes of every layer and site, those of its first pass.
    pub fn keeping() -> Self {
        SpikeMeter { keeps: true, ..Self::default() }
    }

    /// The share of ones among all spikes seen so far; NaN before the first.
    pub fn rate(&self) -> f64 {
        let [ones, draws] = self.counts.borrow().values().fold([0.0; 2], |[a, b], [ones, draws]| [a + ones, b + draws]);
        ones / draws
    }

    /// The same for every layer, from 0, and site.
    pub fn rates(&self) -> BTreeMap<(usize, Site), f64> {
        self.counts.borrow().iter().map(|(place, [ones, draws])| (*place, ones / draws)).collect()
    }

    /// The time steps at which each neuron spiked, for every layer and site; nothing unless this meter was made by
    /// [`keeping`](Self::keeping).
    pub fn kept(&self) -> BTreeMap<(usize, Site), Vec<Vec<u32>>> {
        self.kept.borrow().clone()
    }

    /// Takes note of spikes of shape (B, H, L).
    fn see<B: Backend>(&self, backend: &B, place: (usize, Site), spikes: &Tensor<B>) -> Result<()> {
        let ones = backend.to_vec(&backend.sum_to(spikes, &[])?)?[0].f64();
        let mut counts = self.counts.borrow_mut();
        let [all_ones, all_draws] = counts.entry(place).or_default();
        *all_ones += ones;
        *all_draws += spikes.numel() as f64;
        if self.keeps && !self.kept.borrow().contains_key(&place) {
            let (channels, length) = (spikes.shape()[1], spikes.shape()[2]);
            let values = backend.to_vec(spikes)?;
            let times = |row: &[B::Elem]| (0u32..).zip(row).filter(|(_, spike)| spike.f64() != 0.0).map(|(t, _)| t).collect();
            let rows = values[..channels * length].chunks_exact(length.max(1)).map(times).collect();
            self.kept.borrow_mut().insert(place, rows);
        }
        Ok(())
    }
}

/// The surroundings of a forward pass.
pub struct Context<'a, B: Backend> {
    tape: &'a Tape<B>,
    /// Whether dropout drops and BatchNorm uses the batch's statistics.
    pub training: bool,
    /// The key from which this layer's random numbers come.
    pub key: Key,
    /// Spikes or their expectation.
    pub mode: SpikeMode,
    /// Who counts the spikes.
    pub meter: Option<&'a SpikeMeter>,
    /// The layer and the place in it that spikes are counted for.
    pub place: (usize, Site),
}

impl<B: Backend> Clone for Context<'_, B> {
    fn clone(&self) -> Self {
        Context { tape: self.tape, training: self.training, key: self.key, mode: self.mode, meter: self.meter, place: self.place }
    }
}

impl<'a, B: Backend> Context<'a, B> {
    /// A training pass on `tape`.
    pub fn training(tape: &'a Tape<B>, key: Key) -> Self {
        Context { tape, training: true, key, mode: SpikeMode::Sampled, meter: None, place: (0, Site::Input) }
    }

    /// An evaluation pass on `tape`; spikes are still drawn at random, as in the official code.
    pub fn evaluation(tape: &'a Tape<B>, key: Key) -> Self {
        Context { training: false, ..Self::training(tape, key) }
    }

    /// The same with the expected spike in place of every spike.
    pub fn expected(self) -> Self {
        Context { mode: SpikeMode::Expected, ..self }
    }

    /// The same with `meter` counting spikes.
    pub fn metered(self, meter: &'a SpikeMeter) -> Self {
        Context { meter: Some(meter), ..self }
    }

    /// The surroundings of the part with this index: its own random numbers.
    pub fn part(&self, index: u64) -> Self {
        Context { key: self.key.fold(index), ..self.clone() }
    }

    /// The surroundings of block number `layer`: its own random numbers, its own counts.
    pub fn layer(&self, layer: usize) -> Self {
        Context { place: (layer, self.place.1), ..self.part(layer as u64) }
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
        if param.is_trained() { self.tape.parameter(param.identity(), &param.value()) } else { self.tape.constant(&param.value()) }
    }

    /// Lets the meter see these spikes.
    pub fn count(&self, spikes: &Var<B>) -> Result<()> {
        match (self.meter, self.mode) {
            (Some(meter), SpikeMode::Sampled) => meter.see(self.backend(), self.place, spikes.value()),
            _ => Ok(()),
        }
    }
}
