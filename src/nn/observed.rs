//! Observed: the spikes of a forward pass as variables, for a loss that depends on them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::Site;
use crate::autodiff::Var;
use crate::backend::Backend;
use crate::error::{Error, Result};

/// A layer, from 0, and the place in it.
type Place = (usize, Site);

/// Collects the spikes of every layer and site while a model runs in a context that was told to
/// [`observe`](super::Context::observe). They are on the tape: a loss made of them trains what they depend on.
///
/// ```
/// use pspikessm::{autodiff::Tape, backend::*, nn::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f32>::new();
/// let block = BlockConfig::new(SsmConfig::new(8, 4).l_max(3));
/// let model = Model::new(&cpu, Key::new(0), &ModelConfig::new(Encoder::Tokens(18), block, 10).layers(1))?;
/// let (tape, observed) = (Tape::new(&cpu), Observed::new());
/// let cx = Context::training(&tape, Key::new(1)).observe(&observed);
/// let logits = model.forward(&cx, Input::tokens(&[3, 1, 4, 1, 5, 9], 2))?;
/// // Besides being right, every layer is to spike at a rate of a tenth.
/// let loss = logits.cross_entropy(&[7, 0])?.add(&observed.rate_penalty(0.1)?.scale(0.5)?)?;
/// let gradients = loss.backward()?;
/// assert_eq!(observed.spikes().len(), 4); // two sites in each of two branches
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Observed<B: Backend> {
    seen: RefCell<Vec<(Place, Var<B>)>>,
}

impl<B: Backend> Default for Observed<B> {
    fn default() -> Self {
        Observed { seen: RefCell::default() }
    }
}

impl<B: Backend> Observed<B> {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The layer, the site and the spikes (B, H, L) of every draw, in the order of the draws; in a context of expected spikes these.
    /// Padded positions are in them.
    pub fn spikes(&self) -> Vec<((usize, Site), Var<B>)> {
        self.seen.borrow().clone()
    }

    /// The share of ones among the spikes of every layer and site, a number each; padded positions count too.
    ///
    /// # Errors
    /// What the device answers.
    pub fn rates(&self) -> Result<BTreeMap<(usize, Site), Var<B>>> {
        let mut sums: BTreeMap<Place, (Var<B>, usize)> = BTreeMap::new();
        for (place, spikes) in self.seen.borrow().iter() {
            let (mut ones, mut draws) = (spikes.sum()?, spikes.value().numel());
            if let Some((earlier, count)) = sums.get(place) {
                (ones, draws) = (earlier.add(&ones)?, count + draws);
            }
            sums.insert(*place, (ones, draws));
        }
        sums.into_iter().map(|(place, (ones, draws))| Ok((place, ones.scale(1.0 / draws as f64)?))).collect()
    }

    /// The mean of `(rate - target)^2` over all layers and sites: 0 where every one of them spikes at the target's rate.
    ///
    /// # Errors
    /// [`Error::Config`] where the target is outside [0, 1]; [`Error::Value`] where no spikes were observed.
    pub fn rate_penalty(&self, target: f64) -> Result<Var<B>> {
        check_rate(target)?;
        let mut sum: Option<Var<B>> = None;
        let rates = self.rates()?;
        for rate in rates.values() {
            let square = rate.linear_map(1.0, -target)?.square()?;
            sum = Some(sum.map_or(Ok(square.clone()), |sum| sum.add(&square))?);
        }
        match sum {
            Some(sum) => sum.scale(1.0 / rates.len() as f64),
            None => Err(Error::value("Observed::rate_penalty", "no spikes were observed: run the model in cx.observe(&observed) first")),
        }
    }

    /// Takes note of the spikes of a place.
    pub(super) fn see(&self, place: Place, spikes: &Var<B>) {
        self.seen.borrow_mut().push((place, spikes.clone()));
    }
}

/// Refuses a rate of spikes that there cannot be.
pub(crate) fn check_rate(rate: f64) -> Result<()> {
    if (0.0..=1.0).contains(&rate) { Ok(()) } else { Err(Error::config("rate", rate, "must lie in [0, 1]: it is a share of time steps")) }
}
