//! Evaluation: accuracy, loss and spike rate of a model over a data set, without recording and without changing the model.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::autodiff::{Tape, Var};
use crate::backend::{Backend, Key};
use crate::data::{Batch, Dataset, Inputs};
use crate::error::{Error, Result};
use crate::nn::{Context, Input, Model, Noises, SpikeMeter};

/// What came of running a model over a data set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// The share of samples that were classified rightly: the mean over the passes.
    pub accuracy: f64,
    /// The mean loss over samples and passes.
    pub loss: f64,
    /// The share of ones among all sampled spikes; NaN where none was sampled.
    pub spike_rate: f64,
    /// How often the whole set was gone through, with new spikes each time.
    pub passes: u64,
}

/// The logits of a batch, as [`Model::forward`] gives them.
pub fn logits<B: Backend>(model: &Model<B>, cx: &Context<'_, B>, batch: &Batch) -> Result<Var<B>> {
    let input = match &batch.inputs {
        Inputs::Tokens(tokens) => Input::Tokens(tokens),
        Inputs::Values { values, .. } => Input::Values(values),
    };
    model.forward(cx, input, batch.batch, Some(&batch.lengths), &Noises::Stream)
}

/// How many rows of the logits are largest at their label; the first of equal ones counts as the largest.
pub(super) fn correct<B: Backend>(logits: &Var<B>, labels: &[usize]) -> Result<usize> {
    let values = logits.to_vec()?;
    let classes = (values.len() / labels.len().max(1)).max(1);
    let largest = |row: &[B::Elem]| (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best });
    Ok(values.chunks_exact(classes).zip(labels).filter(|&(row, &label)| largest(row) == label).count())
}

/// Runs a model over data sets.
#[derive(Clone, Copy, Debug)]
pub struct Evaluator<'a, B: Backend> {
    /// Where the model lives.
    pub backend: &'a B,
    /// The model.
    pub model: &'a Model<B>,
    /// Samples at a time.
    pub batch: usize,
    /// Set by someone else to end the evaluation early.
    pub stop: &'a AtomicBool,
}

impl<B: Backend> Evaluator<'_, B> {
    /// Goes through `set` in its order, `passes` times; all spikes come from `key`. `None` where `stop` was set meanwhile.
    ///
    /// The model is left as it is. (One that was never run forward makes C~ of its kernels, as any first forward does.)
    ///
    /// # Errors
    /// [`Error::Config`] where `passes` or the batch is 0; [`Error::Value`] where the set is empty.
    pub fn run(&self, set: &Dataset, key: Key, passes: u64) -> Result<Option<Evaluation>> {
        for (name, value) in [("passes", passes), ("batch", self.batch as u64)] {
            if value == 0 {
                return Err(Error::config(name, 0, "must be at least 1"));
            }
        }
        if set.is_empty() {
            return Err(Error::value("Evaluator", "the data set is empty: there is nothing to evaluate"));
        }
        let meter = SpikeMeter::default();
        let indices: Vec<usize> = (0..set.len()).collect();
        let (mut right, mut seen, mut loss) = (0usize, 0usize, 0.0);
        for pass in 0..passes {
            for (number, indices) in indices.chunks(self.batch).enumerate() {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let batch = set.batch(indices)?;
                let (batch_right, batch_loss) = self.score(&batch, key.fold(pass).fold(number as u64), &meter)?;
                right += batch_right;
                seen += batch.labels.len();
                loss += batch_loss * batch.labels.len() as f64;
            }
        }
        let seen = seen as f64;
        Ok(Some(Evaluation { accuracy: right as f64 / seen, loss: loss / seen, spike_rate: meter.rate(), passes }))
    }

    /// How many samples of a batch are classified rightly, and their mean loss.
    fn score(&self, batch: &Batch, key: Key, meter: &SpikeMeter) -> Result<(usize, f64)> {
        let tape = Tape::off(self.backend);
        let logits = logits(self.model, &Context::evaluation(&tape, key).metered(meter), batch)?;
        Ok((correct(&logits, &batch.labels)?, logits.cross_entropy(&batch.labels)?.item()?))
    }
}
