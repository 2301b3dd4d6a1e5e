//! Samples that cannot be read: whether one ends the reading or is left out and counted.

use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What becomes of samples that cannot be read: by default the first one is an error, [`skipped`](Faults::skipped) ones are left out.
///
/// Clones share what they have met: a loader is given one, and whoever gave it asks it afterwards.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    skip: bool,
    met: Arc<Mutex<BTreeSet<String>>>,
}

impl Faults {
    /// The first bad sample is an error.
    pub fn refused() -> Self {
        Self::default()
    }

    /// Bad samples are left out and counted.
    pub fn skipped() -> Self {
        Faults { skip: true, ..Self::default() }
    }

    /// Takes note of a sample that cannot be read.
    ///
    /// # Errors
    /// The error itself, where bad samples are refused.
    pub fn meet(&self, error: Error) -> Result<()> {
        match self.skip {
            true => {
                self.messages().insert(error.to_string());
                Ok(())
            }
            false => Err(error),
        }
    }

    /// How many bad samples were left out so far; one that was met in several epochs counts once.
    pub fn count(&self) -> usize {
        self.messages().len()
    }

    /// What was wrong with the first `most` of them, in the order of the alphabet.
    pub fn reports(&self, most: usize) -> Vec<String> {
        self.messages().iter().take(most).cloned().collect()
    }

    fn messages(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // A thread that panicked while it inserted leaves a set that is still one.
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_ones_come_back_and_skipped_ones_are_counted_once() {
        let error = |i: usize| Error::value("test", format!("sample {i}"));
        assert!(Faults::refused().meet(error(0)).is_err());
        let faults = Faults::skipped();
        for i in [3, 1, 3] {
            faults.clone().meet(error(i)).unwrap();
        }
        assert_eq!((faults.count(), faults.reports(1)), (2, vec![error(1).to_string()]));
    }
}
