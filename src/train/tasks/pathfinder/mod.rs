//! Pathfinder and Path-X: their recipes and their data.

use std::path::Path;

use super::{Preset, Sample, Task, existing, no_variant};
use crate::data::archive::Set;
use crate::data::pathfinder::{self, Rules};
use crate::data::{Dataset, Faults, Splits};
use crate::error::Result;
use crate::train::Recipe;

/// The seed of the drawn pictures, whatever the seed of the run.
const DATA_SEED: u64 = 0;

/// Pathfinder of the Long Range Arena: whether a dashed line joins two dots; Path-X at 128 x 128 pixels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pathfinder;

/// The side of the pictures, and the rules to draw them by.
fn rules(recipe: &Recipe) -> Result<(usize, Rules)> {
    match recipe.data.as_str() {
        "32" => Ok((32, Rules::pathfinder32())),
        "32-small" => Ok((32, Rules { train: 10_000, val: 1_000, test: 1_000, ..Rules::pathfinder32() })),
        "128" => Ok((128, Rules::path_x())),
        _ => Err(no_variant(recipe, "32, 32-small and 128")),
    }
}

impl Task for Pathfinder {
    fn name(&self) -> &'static str {
        "pathfinder"
    }

    fn about(&self) -> &'static str {
        "Trains P-SpikeSSM on Pathfinder: whether a dashed line joins two dots. --preset path-x: pictures of 128 x 128, 16,384 time steps.\n\
         The data folder holds pathfinder32 or pathfinder128 of the official archive. Without a folder the pictures are drawn, to the\n\
         official rules. --predict takes a PNG of this size."
    }

    fn presets(&self) -> &'static [Preset] {
        presets!["quick", "paper", "path-x"]
    }

    fn class_names(&self, _: &Recipe) -> Vec<String> {
        ["apart", "joined"].map(String::from).into()
    }

    fn load(&self, recipe: &Recipe, dir: Option<&Path>, faults: &Faults) -> Result<Splits> {
        let (size, rules) = rules(recipe)?;
        match dir {
            Some(dir) => pathfinder::load(existing(dir)?, size, faults),
            None => pathfinder::generate(&rules, DATA_SEED),
        }
    }

    fn generates(&self, _: &Recipe, dir: Option<&Path>) -> Result<Option<String>> {
        Ok(dir.is_none().then(|| "without --data the pictures are drawn here, to the official rules: these are not the published ones".into()))
    }

    fn push(&self, recipe: &Recipe, sample: Sample<'_>, set: &mut Dataset) -> Result<()> {
        set.push_values(&pathfinder::read_png(sample.file()?, rules(recipe)?.0)?, 0)
    }

    fn archive(&self, recipe: &Recipe) -> Option<Set> {
        rules(recipe).ok().map(|(size, _)| pathfinder::archive(size))
    }
}
