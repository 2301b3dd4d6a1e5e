//! What a forward pass needs beside its input: the tape, the mode, the random key, and who counts the spikes.

use std::cell::Cell;

use super::Param;
use crate::autodiff::{Tape, Var};
use crate::backend::{Backend, Key, Real, SpikeMode};
use crate::error::Result;

/// Counts ones among sampled spikes.
#[derive(Debug, Default)]
pub struct SpikeMeter {
    ones: Cell<f64>,
    draws: Cell<f64>,
}

impl SpikeMeter {
    /// The share of ones among all spikes seen so far; NaN before the first.
    pub fn rate(&self) -> f64 {
        self.ones.get() / self.draws.get()
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
}

impl<B: Backend> Clone for Context<'_, B> {
    fn clone(&self) -> Self {
        Context { tape: self.tape, training: self.training, key: self.key, mode: self.mode, meter: self.meter }
    }
}

impl<'a, B: Backend> Context<'a, B> {
    /// A training pass on `tape`.
    pub fn training(tape: &'a Tape<B>, key: Key) -> Self {
        Context { tape, training: true, key, mode: SpikeMode::Sampled, meter: None }
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
        if let (Some(meter), SpikeMode::Sampled) = (self.meter, self.mode) {
            let sum = self.backend().to_vec(&self.backend().sum_to(spikes.value(), &[])?)?[0].f64();
            meter.ones.set(meter.ones.get() + sum);
            meter.draws.set(meter.draws.get() + spikes.value().numel() as f64);
        }
        Ok(())
    }
}
