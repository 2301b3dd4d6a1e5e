//! How stored samples become what a model reads: the part of a data set that outlives its samples, and goes into checkpoints.

use super::Vocabulary;
use crate::error::{Error, Result};

/// How stored samples become what a model reads.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Encoding {
    /// Token ids of this vocabulary.
    Tokens(Vocabulary),
    /// One byte a time step; its value is its entry in this table of 256.
    Levels(Vec<f32>),
    /// So many values a time step, as they are.
    Values(usize),
    /// One value a time step, standardised with the statistics of its time step.
    Standardized(Standardization),
    /// As many values a time step as there are statistics, each standardised with those of its channel.
    Channels(Standardization),
}

impl Encoding {
    /// Bytes that stand for `level(0)`, .., `level(255)`.
    pub fn levels(level: impl Fn(u8) -> f32) -> Self {
        Encoding::Levels((0..=u8::MAX).map(level).collect())
    }

    /// The number of values at one time step, or `None` for tokens.
    pub fn d_input(&self) -> Option<usize> {
        match self {
            Encoding::Tokens(_) => None,
            Encoding::Values(d_input) => Some(*d_input),
            Encoding::Levels(_) | Encoding::Standardized(_) => Some(1),
            Encoding::Channels(statistics) => Some(statistics.mean.len()),
        }
    }

    /// Standardises the values of a sequence, where there are statistics.
    pub(super) fn standardize(&self, values: &mut [f32]) {
        match self {
            Encoding::Standardized(statistics) => statistics.apply(values),
            Encoding::Channels(statistics) => statistics.apply_by_channel(values),
            Encoding::Tokens(_) | Encoding::Levels(_) | Encoding::Values(_) => {}
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        match self {
            Encoding::Values(0) => Err(Error::config("d_input", 0, "a time step has at least one value")),
            Encoding::Levels(table) if table.len() != 256 || table.iter().any(|level| !level.is_finite()) => {
                Err(Error::config("levels", format!("{} entries", table.len()), "a table has 256 finite entries, one for each byte"))
            }
            Encoding::Standardized(Standardization { mean, factor }) | Encoding::Channels(Standardization { mean, factor })
                if mean.len() != factor.len() || mean.is_empty() =>
            {
                let sizes = format!("{} means and {} factors", mean.len(), factor.len());
                Err(Error::config("standardization", sizes, "there is one of each for every time step, or every channel"))
            }
            _ => Ok(()),
        }
    }
}

/// Statistics of every time step, or of every channel, over a training set: a value x becomes (x - mean) factor.
#[derive(Clone, Debug, PartialEq)]
pub struct Standardization {
    /// The means.
    pub mean: Vec<f32>,
    /// The inverse standard deviations.
    pub factor: Vec<f32>,
}

impl Standardization {
    /// Standardises the time steps of a sequence, of as many values each as there are statistics.
    pub(super) fn apply_by_channel(&self, values: &mut [f32]) {
        values.chunks_exact_mut(self.mean.len().max(1)).for_each(|step| self.apply(step));
    }

    /// Standardises the values of a sequence that starts at time step 0 and is no longer than the statistics.
    pub(super) fn apply(&self, values: &mut [f32]) {
        for ((value, mean), factor) in values.iter_mut().zip(&self.mean).zip(&self.factor) {
            *value = (*value - mean) * factor;
        }
    }
}
