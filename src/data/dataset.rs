//! A data set in memory: labelled sequences of tokens or of values, handed out in padded batches.

use super::{Batch, Inputs, Vocabulary};
use crate::error::{Error, Result};
use std::ops::Range;

/// Labelled sequences of any lengths, stored end to end.
///
/// A token takes one byte: 96,000 sequences of 1,000 tokens are 96 MB.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    store: Store,
    /// Sequence `i` is the time steps `ends[i - 1]..ends[i]`.
    ends: Vec<usize>,
    labels: Vec<usize>,
    classes: usize,
}

/// The sequences end to end.
#[derive(Clone, Debug, PartialEq)]
enum Store {
    Tokens { ids: Vec<u8>, vocabulary: Vocabulary },
    Values { values: Vec<f32>, d_input: usize },
}

impl Dataset {
    /// An empty data set of token sequences over `vocabulary`, in `classes` classes.
    pub fn tokens(vocabulary: Vocabulary, classes: usize) -> Self {
        Self::over(Store::Tokens { ids: Vec::new(), vocabulary }, classes)
    }

    /// An empty data set of sequences of `d_input` values a time step, in `classes` classes.
    ///
    /// # Errors
    /// `Config` where `d_input` is 0.
    pub fn values(d_input: usize, classes: usize) -> Result<Self> {
        match d_input {
            0 => Err(Error::config("d_input", 0, "a time step has at least one value")),
            _ => Ok(Self::over(Store::Values { values: Vec::new(), d_input }, classes)),
        }
    }

    fn over(store: Store, classes: usize) -> Self {
        Dataset { store, ends: Vec::new(), labels: Vec::new(), classes }
    }

    /// Appends a token sequence of class `label`.
    ///
    /// # Errors
    /// `Value` where the sequence is empty, a token is outside the vocabulary, the label is not below the number of classes, or
    /// this is a data set of values.
    pub fn push_tokens(&mut self, sequence: &[u8], label: usize) -> Result<()> {
        const OP: &str = "Dataset::push_tokens";
        self.check(OP, sequence.len(), label)?;
        let Store::Tokens { ids, vocabulary } = &mut self.store else {
            return Err(Error::value(OP, "this data set holds values: use push_values"));
        };
        if let Some(id) = sequence.iter().find(|&&id| usize::from(id) >= vocabulary.len()) {
            return Err(Error::value(OP, format!("token {id} is outside the vocabulary of {} symbols", vocabulary.len())));
        }
        ids.extend_from_slice(sequence);
        self.ends.push(ids.len());
        self.labels.push(label);
        Ok(())
    }

    /// Appends a sequence of values of shape (length, d_input), row-major, of class `label`.
    ///
    /// # Errors
    /// `Value` where the sequence is empty, is no whole number of time steps, holds NaN or infinity, the label is not below the
    /// number of classes, or this is a data set of tokens.
    pub fn push_values(&mut self, sequence: &[f32], label: usize) -> Result<()> {
        const OP: &str = "Dataset::push_values";
        self.check(OP, sequence.len(), label)?;
        let Store::Values { values, d_input } = &mut self.store else {
            return Err(Error::value(OP, "this data set holds tokens: use push_tokens"));
        };
        if !sequence.len().is_multiple_of(*d_input) {
            return Err(Error::value(OP, format!("{} values are no whole number of time steps of {d_input} values", sequence.len())));
        }
        if let Some(at) = sequence.iter().position(|value| !value.is_finite()) {
            return Err(Error::value(OP, format!("value {at} is {}: every value must be finite", sequence[at])));
        }
        values.extend_from_slice(sequence);
        self.ends.push(values.len() / *d_input);
        self.labels.push(label);
        Ok(())
    }

    fn check(&self, op: &'static str, length: usize, label: usize) -> Result<()> {
        if length == 0 {
            return Err(Error::value(op, "the sequence is empty: it must have at least one time step"));
        }
        if label >= self.classes {
            return Err(Error::value(op, format!("label {label} is outside the {} classes, which count from 0", self.classes)));
        }
        Ok(())
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The class of every sample, in the order of the samples.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The vocabulary, or `None` where the samples are values.
    pub fn vocabulary(&self) -> Option<&Vocabulary> {
        match &self.store {
            Store::Tokens { vocabulary, .. } => Some(vocabulary),
            Store::Values { .. } => None,
        }
    }

    /// The number of values at one time step, or `None` where the samples are tokens.
    pub fn d_input(&self) -> Option<usize> {
        match &self.store {
            Store::Values { d_input, .. } => Some(*d_input),
            Store::Tokens { .. } => None,
        }
    }

    /// The token ids of sample `index`, or `None` where there is no such sample or the samples are values.
    pub fn sequence(&self, index: usize) -> Option<&[u8]> {
        match &self.store {
            Store::Tokens { ids, .. } => Some(&ids[self.steps(index)?]),
            Store::Values { .. } => None,
        }
    }

    /// The number of time steps of the longest sample; 0 where there is none.
    pub fn longest(&self) -> usize {
        (0..self.len()).filter_map(|index| self.steps(index)).map(|steps| steps.len()).max().unwrap_or(0)
    }

    /// The share of the most common label, from 0 to 1: what a model reaches that always says the same. 0 where there is no sample.
    pub fn majority(&self) -> f64 {
        let mut counts = vec![0usize; self.classes];
        for &label in &self.labels {
            counts[label] += 1;
        }
        counts.into_iter().max().unwrap_or(0) as f64 / self.len().max(1) as f64
    }

    /// The samples at `indices`, in that order, padded to the longest of them.
    ///
    /// # Errors
    /// `Value` where `indices` is empty or one of them is not below [`len`](Self::len).
    pub fn batch(&self, indices: &[usize]) -> Result<Batch> {
        const OP: &str = "Dataset::batch";
        if indices.is_empty() {
            return Err(Error::value(OP, "the batch is empty: give at least one index"));
        }
        let find = |&index| {
            let help = || format!("sample {index} is asked of a data set of {} samples, which count from 0", self.len());
            self.steps(index).ok_or_else(|| Error::value(OP, help()))
        };
        let steps = indices.iter().map(find).collect::<Result<Vec<_>>>()?;
        let lengths: Vec<usize> = steps.iter().map(Range::len).collect();
        let length = lengths.iter().copied().max().unwrap_or(0);
        let labels = indices.iter().map(|&index| self.labels[index]).collect();
        Ok(Batch { inputs: self.pad(&steps, length), lengths, labels, batch: indices.len(), length })
    }

    /// The inputs at `steps`, each filled up with padding to `length` time steps.
    fn pad(&self, steps: &[Range<usize>], length: usize) -> Inputs {
        match &self.store {
            Store::Tokens { ids, .. } => {
                let mut tokens = vec![u32::from(Vocabulary::PAD); steps.len() * length];
                for (row, steps) in tokens.chunks_exact_mut(length).zip(steps) {
                    row.iter_mut().zip(&ids[steps.clone()]).for_each(|(to, &id)| *to = u32::from(id));
                }
                Inputs::Tokens(tokens)
            }
            Store::Values { values: all, d_input } => {
                let mut values = vec![0.0; steps.len() * length * d_input];
                for (row, steps) in values.chunks_exact_mut(length * d_input).zip(steps) {
                    row[..steps.len() * d_input].copy_from_slice(&all[steps.start * d_input..steps.end * d_input]);
                }
                Inputs::Values { values, d_input: *d_input }
            }
        }
    }

    /// The time steps of sample `index`, counted over all samples.
    fn steps(&self, index: usize) -> Option<Range<usize>> {
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Some(start..end)
    }
}
