//! Loss: what a recipe's model learns from.

use serde::{Deserialize, Serialize};

use crate::autodiff::Var;
use crate::backend::{Backend, Real};
use crate::data::{Batch, Dataset};
use crate::error::{Error, Result};
use crate::nn::{Context, CrossEntropy, LossReduction, mse_loss};

listed! {
    /// How much the classes count in a [`Loss`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[non_exhaustive]
    pub enum ClassWeights {
        /// Every sample alike.
        #[default]
        Equal,
        /// Every class alike: a sample counts by the inverse of how often its class comes in the training set, 1 in the mean.
        Balanced,
    }
}

listed! {
    /// What the model of a [`Recipe`](super::Recipe) learns from.
    #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case", deny_unknown_fields)]
    #[non_exhaustive]
    pub enum Loss {
        /// Classes: the cross-entropy. In an evaluation classes are weighted alike, and nothing is smoothed.
        CrossEntropy {
            /// How much each class counts.
            #[serde(default)]
            weights: ClassWeights,
            /// The share of a target that is spread evenly over all classes, from 0 to 1.
            #[serde(default)]
            smoothing: f64,
        } = { weights: ClassWeights::Equal, smoothing: 0.0 },
        /// Numbers: the mean of squared errors, on the scale of the training set's deviation.
        SquaredError,
    }
}

impl Default for Loss {
    fn default() -> Self {
        Loss::CrossEntropy { weights: ClassWeights::Equal, smoothing: 0.0 }
    }
}

impl Loss {
    pub(super) fn check(self) -> Result<()> {
        match self {
            Loss::CrossEntropy { smoothing, .. } if !(0.0..=1.0).contains(&smoothing) => {
                Err(Error::config("smoothing", smoothing, "must be from 0 to 1"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a set that it is no loss for.
    ///
    /// # Errors
    /// [`Error::Config`] where classes are to be told apart and the set has numbers, or the other way round.
    pub(super) fn check_set(self, set: &Dataset) -> Result<()> {
        match (self, set.scale()) {
            (Loss::SquaredError, None) => {
                Err(Error::config("loss", "squared_error", "these data have classes, no numbers to find: leave --regression out"))
            }
            (Loss::CrossEntropy { .. }, Some(_)) => {
                Err(Error::config("loss", "cross_entropy", "these data have numbers to find: add --regression"))
            }
            _ => Ok(()),
        }
    }

    /// The cross-entropy as it is trained on; `None` where that is the plain one.
    pub(super) fn cross_entropy(self, train: &Dataset) -> Option<CrossEntropy> {
        let Loss::CrossEntropy { weights, smoothing } = self else { return None };
        let weights = (weights == ClassWeights::Balanced).then(|| balanced(train));
        (weights.is_some() || smoothing > 0.0).then(|| CrossEntropy::new().smoothing(smoothing).weights(weights))
    }
}

/// For every class the number of samples a class, divided by its own; 0 for a class without samples.
fn balanced(train: &Dataset) -> Vec<f64> {
    let mut counts = vec![0usize; train.classes()];
    train.labels().iter().for_each(|&label| counts[label] += 1);
    let there = counts.iter().filter(|&&count| count > 0).count();
    let mean = train.len() as f64 / there.max(1) as f64;
    counts.into_iter().map(|count| if count > 0 { mean / count as f64 } else { 0.0 }).collect()
}

/// The mean squared error of outputs (batch, 1).
pub(super) fn squared_error<B: Backend>(cx: &Context<'_, B>, outputs: &Var<B>, batch: &Batch) -> Result<Var<B>> {
    if batch.targets.len() != batch.labels.len() {
        return Err(Error::value("Loss", "the samples have no numbers to find: give Dataset::with_targets some"));
    }
    let targets = batch.targets.iter().map(|&target| B::Elem::of(f64::from(target))).collect();
    let targets = cx.tape().constant(&cx.backend().from_vec(targets, &[batch.targets.len(), 1])?);
    mse_loss(outputs, &targets, LossReduction::Mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_classes_count_alike() {
        let mut set = Dataset::values(1, 4).unwrap();
        [0, 0, 0, 1, 3, 3].iter().for_each(|&label| set.push_values(&[1.0], label).unwrap());
        let weights = balanced(&set);
        // 6 samples in 3 classes: 2 a class.
        assert_eq!(weights, [2.0 / 3.0, 2.0, 0.0, 1.0]);
        assert_eq!(set.labels().iter().map(|&label| weights[label]).sum::<f64>(), 6.0);
    }
}
