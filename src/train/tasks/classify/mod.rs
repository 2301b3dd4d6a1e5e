//! Data of one's own: a folder that is looked at, one recipe for all.

use std::path::Path;

use super::{Preset, Sample, Task, no_variant};
use crate::data::own::{self, Options};
use crate::data::{Dataset, Faults, Splits, TextUnit};
use crate::error::{Error, Result};
use crate::train::{Loss, Recipe};

/// The seed of drawn parts, whatever the seed of the run: runs differ in their weights, not in their data.
const DATA_SEED: u64 = 0;

/// Time steps up to which the recipe is as it stands.
const USUAL: usize = 2048;

/// Samples of one's own: series, sounds, pictures or texts with labels, in a folder or a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Classify;

impl Task for Classify {
    fn name(&self) -> &'static str {
        "classify"
    }

    fn about(&self) -> &'static str {
        "Trains P-SpikeSSM on samples of your own: classes, or with --regression numbers.\n\
         --data is a folder, or one table, that is looked at: time series in .ts or .tsv (UCR, UEA), a .csv with a series or a text and its\n\
         label in each row, .npy arrays (N, L) or (N, L, C) beside their labels, or for each class a folder of .wav, .png or .txt files. Names\n\
         that end with train, test or val say which part a file or folder is; what is missing is drawn. See docs/OWN_DATA.md.\n\
         --predict takes a file like those that were trained on, --predict-text a text."
    }

    fn presets(&self) -> &'static [Preset] {
        presets!["quick"]
    }

    fn class_names(&self, _: &Recipe) -> Vec<String> {
        // The data say so.
        Vec::new()
    }

    fn load(&self, recipe: &Recipe, dir: Option<&Path>, faults: &Faults) -> Result<Splits> {
        let Some(path) = dir else {
            return Err(Error::config("--data", "missing", "give a folder of samples; --help says what it may hold, docs/OWN_DATA.md shows it"));
        };
        if !path.exists() {
            return Err(Error::config("--data", path.display(), "this is not there: correct its name"));
        }
        let (differences, text_unit) = match recipe.data.as_str() {
            "differences" => (true, TextUnit::Characters),
            "plain" => (false, TextUnit::Characters),
            "words" => (true, TextUnit::Words),
            _ => return Err(no_variant(recipe, "differences, plain and words")),
        };
        let options = Options { regression: recipe.loss == Loss::SquaredError, differences, text_unit, seed: DATA_SEED, ..Options::default() };
        let longest_text = recipe.model.block.ssm.l_max.unwrap_or(options.longest_text);
        own::load(path, Options { longest_text, ..options }, faults)
    }

    /// Kernels as long as the longest training sample, or as texts may be; of samples of more than 2,048 time steps fewer at once, fewer channels, fewer steps.
    fn sized(&self, mut recipe: Recipe, splits: &Splits) -> Recipe {
        recipe.model.block.ssm.l_max = Some(own::span(&splits.train));
        if splits.train.longest() > USUAL {
            recipe.model.block.ssm.d_model = 32;
            recipe.run.batch = 8;
            recipe = recipe.with_steps(400);
        }
        recipe
    }

    fn push(&self, _: &Recipe, sample: Sample<'_>, set: &mut Dataset) -> Result<()> {
        match sample {
            Sample::Given(path) => own::push(path, set),
            Sample::Text(text) => own::push_text(text, set),
        }
    }
}
