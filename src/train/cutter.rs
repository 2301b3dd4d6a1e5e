//! Cutter: batches of an epoch, cut into micro-batches, of which it reads those of one process.

use std::sync::Arc;

use super::plan::RunConfig;
use super::process_group::ProcessGroup;
use super::samples::Samples;
use crate::data::{self, Splits};
use crate::error::Result;

/// One micro-batch of this process.
pub(super) struct MicroBatch<T> {
    /// Its number in the batch.
    pub number: usize,
    /// The place of its first sample in the batch.
    pub first: usize,
    /// Its samples, where any can be read.
    pub samples: Option<T>,
}

/// Cuts an epoch into batches, and these into micro-batches, of which it reads those of one process.
pub(super) struct Cutter<S> {
    splits: Arc<Splits<S>>,
    run: RunConfig,
    group: ProcessGroup,
    /// In which this epoch visits the samples.
    order: Vec<usize>,
    epoch: Option<u64>,
}

impl<S> Clone for Cutter<S> {
    fn clone(&self) -> Self {
        Cutter {
            splits: self.splits.clone(),
            run: self.run.clone(),
            group: self.group.clone(),
            order: self.order.clone(),
            epoch: self.epoch,
        }
    }
}

impl<S: Samples> Cutter<S> {
    pub fn new(splits: Arc<Splits<S>>, run: RunConfig, group: ProcessGroup) -> Self {
        Cutter { splits, run, group, order: Vec::new(), epoch: None }
    }

    /// This process's part of the batch of this step.
    pub fn micro_batches(&mut self, step: u64) -> Result<Vec<MicroBatch<S::Batch>>> {
        let set = &self.splits.train;
        let per_epoch = self.run.steps_per_epoch(set.len());
        let epoch = step / per_epoch;
        if self.epoch != Some(epoch) {
            (self.order, self.epoch) = (data::order(set.len(), self.run.seed, epoch), Some(epoch));
        }
        let start = (step % per_epoch) as usize * self.run.batch;
        let indices = &self.order[start..self.order.len().min(start.saturating_add(self.run.batch))];
        let size = self.run.micro_batch();
        let own = self.group.own(indices.len().div_ceil(size));
        let read = |number: usize| {
            let first = number * size;
            let samples = set.batch(&indices[first..indices.len().min(first + size)])?;
            Ok(MicroBatch { number, first, samples })
        };
        own.map(read).collect()
    }
}
