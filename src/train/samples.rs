//! Samples: what a trainer draws its batches from.

use crate::data::{Batch, Dataset};
use crate::error::Result;

/// A set of samples that are handed out in batches. [`Dataset`] is one; so is a `Vec<T>`, whose batches are clones of its elements.
pub trait Samples: Send + Sync + 'static {
    /// What is read in one go.
    type Batch: Send + 'static;

    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The samples at `indices`, in that order; `None` where none of them can be read and bad ones are to be skipped. It is called on threads
    /// of their own, ahead of the steps.
    ///
    /// # Errors
    /// What reading answers.
    fn batch(&self, indices: &[usize]) -> Result<Option<Self::Batch>>;

    /// What the loss of this batch is a mean over: its samples or, where every time step has a label, its labels. By it the parts of a batch
    /// are weighted, and the batches of an evaluation.
    fn count(batch: &Self::Batch) -> usize;

    /// The time steps of this batch, padding included: what a learner [prepares](super::Learner::prepare) for. 0 where there are none.
    fn length(batch: &Self::Batch) -> usize {
        let _ = batch;
        0
    }

    /// The number of classes; 0 where there are none, or only the learner knows them.
    fn classes(&self) -> usize {
        0
    }

    /// How many threads make batches: one copies what is in memory, several read and decode.
    fn threads(&self) -> usize {
        1
    }

    /// What a checkpoint says of the set: a run goes on with the same data only.
    fn fingerprint(&self) -> String {
        format!("{} samples", self.len())
    }
}

impl Samples for Dataset {
    type Batch = Batch;

    fn len(&self) -> usize {
        Dataset::len(self)
    }

    fn batch(&self, indices: &[usize]) -> Result<Option<Batch>> {
        self.try_batch(indices)
    }

    fn count(batch: &Batch) -> usize {
        batch.labels.len()
    }

    fn length(batch: &Batch) -> usize {
        batch.length
    }

    fn classes(&self) -> usize {
        if self.scale().is_some() { 0 } else { Dataset::classes(self) }
    }

    fn threads(&self) -> usize {
        if self.is_remote() { std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(4) } else { 1 }
    }

    fn fingerprint(&self) -> String {
        Dataset::fingerprint(self)
    }
}

impl<T: Clone + Send + Sync + 'static> Samples for Vec<T> {
    type Batch = Vec<T>;

    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn batch(&self, indices: &[usize]) -> Result<Option<Vec<T>>> {
        Ok(Some(indices.iter().map(|&index| self[index].clone()).collect()))
    }

    fn count(batch: &Vec<T>) -> usize {
        batch.len()
    }
}
