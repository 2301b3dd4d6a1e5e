//! Pathfinder of the Long Range Arena: do two discs sit on the ends of one dashed line, or of two? On 128 x 128 pixels it is Path-X.
//!
//! `load` reads the official archive; [`generate`] draws pictures to the same rules, for machines without it. Either way a sample is
//! read or drawn when a batch wants it, and never kept: a picture of side n is n² time steps of one value from 0 to 1, row by row.

#[cfg(feature = "data")]
mod archive;
mod draw;
#[cfg(feature = "data")]
mod metadata;
#[cfg(feature = "data")]
mod npy;
mod rules;
pub(crate) mod scene;
pub(crate) mod snake;

#[cfg(feature = "data")]
pub use archive::{archive, load, read_png};
pub use rules::Rules;

use super::{Dataset, Encoding, Faults, Source, Splits};
use crate::error::Result;
use scene::Scene;
use std::sync::Arc;

/// The number of classes: 0, the discs sit on two lines; 1, on one.
pub const CLASSES: usize = 2;

/// The pictures of `rules` and `seed`, each drawn when a batch wants it, from a random stream of its own: sample i is the same whatever
/// the thread, the order and the machine. In every part the classes are equally frequent, to within one sample.
///
/// The test set has the first numbers, then the validation set, then the training set; so the same rules with another number of training
/// samples have the same test and validation sets.
///
/// # Errors
/// `Config` where a rule makes no sense, `Value` where the rules leave no room for a picture.
pub fn generate(rules: &Rules, seed: u64) -> Result<Splits> {
    rules.check()?;
    // Rules that leave no room are better found here than in the first batch.
    Scene::new(rules, seed, 0)?;
    let all = rules.test + rules.val + rules.train;
    let labels = (0..all).map(scene::label).collect();
    let source = Arc::new(Drawn { rules: rules.clone(), seed });
    let all = Dataset::remote(Encoding::Values(1), CLASSES, labels, source, Faults::refused())?;
    let part = |from: usize, count: usize| all.subset(&(from..from + count).collect::<Vec<_>>());
    Ok(Splits { train: part(rules.test + rules.val, rules.train)?, val: part(rules.test, rules.val)?, test: part(0, rules.test)? })
}

/// Pictures that are drawn when they are asked for.
#[derive(Debug)]
struct Drawn {
    rules: Rules,
    seed: u64,
}

impl Source for Drawn {
    fn length(&self) -> usize {
        self.rules.side * self.rules.side
    }

    fn read(&self, number: usize, values: &mut [f32]) -> Result<()> {
        Scene::new(&self.rules, self.seed, number)?.draw(&self.rules, values)
    }
}
