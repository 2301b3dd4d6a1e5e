//! The spike meter: how many spikes were drawn, layer by layer and place by place.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use crate::backend::{Backend, Real, Tensor};
use crate::error::Result;

listed! {
    /// Where in a block spikes are drawn.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    #[non_exhaustive]
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

    /// Ones and draws of every layer and site.
    pub fn counts(&self) -> BTreeMap<(usize, Site), [f64; 2]> {
        self.counts.borrow().clone()
    }

    /// Adds what another meter has counted.
    pub fn include(&self, counts: &BTreeMap<(usize, Site), [f64; 2]>) {
        let mut own = self.counts.borrow_mut();
        for (place, [ones, draws]) in counts {
            let [all_ones, all_draws] = own.entry(*place).or_default();
            *all_ones += ones;
            *all_draws += draws;
        }
    }

    /// Takes note of spikes of shape (B, H, L).
    pub(super) fn see<B: Backend>(&self, backend: &B, place: (usize, Site), spikes: &Tensor<B>) -> Result<()> {
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
