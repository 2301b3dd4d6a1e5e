//! BatchStatistics: what the BatchNorms of a pass would move their running statistics by, for whoever merges those of several passes.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Param, norm};
use crate::backend::{Backend, Tensor};
use crate::error::Result;

/// Running statistics, and what is to be added to each.
type Found<B> = Vec<(Param<B>, Tensor<B>)>;

/// Collects what the BatchNorms of a training pass add to their running statistics, instead of adding it. A batch that is computed in parts
/// has a collector a part; the sums over the parts, each weighted by its share of the batch, then move the statistics once.
///
/// ```
/// use pspikessm::{autodiff::Tape, backend::*, nn::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let norm = Norm::new(&cpu, NormKind::Batch, 1)?;
/// let (mean, _) = norm.running.as_ref().expect("a BatchNorm");
/// let (tape, half) = (Tape::new(&cpu), BatchStatistics::new(0.5));
/// let cx = Context::training(&tape, Key::new(0)).collect_statistics(&half);
/// norm.forward(&cx, &tape.constant(&cpu.from_vec(vec![3.0, 5.0], &[2, 1, 1])?))?;
/// assert_eq!(cpu.to_vec(&mean.value())?, [0.0]);
/// for (running, added) in half.take() {
///     BatchStatistics::apply(&cpu, &running, &added)?;
/// }
/// // 0.9 of what it was, and 0.1 of half the mean of 4.
/// assert!((cpu.to_vec(&mean.value())?[0] - 0.2).abs() < 1e-15);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct BatchStatistics<B: Backend> {
    share: f64,
    found: Rc<RefCell<Found<B>>>,
}

impl<B: Backend> Clone for BatchStatistics<B> {
    /// The same collector.
    fn clone(&self) -> Self {
        BatchStatistics { share: self.share, found: self.found.clone() }
    }
}

impl<B: Backend> BatchStatistics<B> {
    /// A collector of a part that makes up `share` of its batch: 1 for a batch in one part.
    pub fn new(share: f64) -> Self {
        BatchStatistics { share, found: Rc::default() }
    }

    /// The running statistics that were met, in the order of the pass, and what is to be added to each.
    pub fn take(&self) -> Vec<(Param<B>, Tensor<B>)> {
        self.found.take()
    }

    /// Moves a running statistic: what is kept of it and `added`, which is the sum over the parts of a batch.
    ///
    /// # Errors
    /// What the device answers.
    pub fn apply(backend: &B, running: &Param<B>, added: &Tensor<B>) -> Result<()> {
        norm::advance(backend, running, added)
    }

    pub(super) fn note(&self, backend: &B, running: &Param<B>, new: &Tensor<B>, factor: f64) -> Result<()> {
        let added = norm::addend(backend, new, factor * self.share)?;
        self.found.borrow_mut().push((running.clone(), added));
        Ok(())
    }
}
