//! Pathfinder and Path-X: their recipes and their data.

use std::path::Path;

use super::{Preset, Sample, Task, existing, no_variant};
use crate::data::archive::Set;
use crate::data::pathfinder::{self, Rules};
use crate::data::{Dataset, Faults, Splits};
use crate::error::{Error, Result};
use crate::train::Recipe;

/// The seed of the drawn pictures, whatever the seed of the run.
const DATA_SEED: u64 = 0;

/// Pathfinder of the Long Range Arena: whether a dashed line joins two dots; Path-X at 128 x 128 pixels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pathfinder;

/// The side of the pictures, and the rules to draw them by.
fn rules(recipe: &Recipe) -> Result<(usize, Rules)> {
    match recipe.data.as_str() {
        "16" => Ok((16, Rules::pathfinder16())),
        "32" => Ok((32, Rules::pathfinder32())),
        "32-small" => Ok((32, Rules { train: 10_000, val: 1_000, test: 1_000, ..Rules::pathfinder32() })),
        "128" => Ok((128, Rules::path_x())),
        _ => Err(no_variant(recipe, "16, 32, 32-small and 128")),
    }
}

impl Task for Pathfinder {
    fn name(&self) -> &'static str {
        "pathfinder"
    }

    fn about(&self) -> &'static str {
        "Trains P-SpikeSSM on Pathfinder: whether a dashed line joins two dots. --preset path-x: pictures of 128 x 128, 16,384 time steps.\n\
         The data folder holds pathfinder32 or pathfinder128 of the official archive. Without a folder the pictures are drawn, to the\n\
         official rules or, of 16 x 16, to easier ones. --predict takes a PNG of this size."
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
            Some(dir) if size == 16 => {
                let help = "no archive has pictures of 16 x 16: leave it out, or add --set data=32 --set model.block.ssm.l_max=1024";
                Err(Error::config("--data", dir.display(), help))
            }
            Some(dir) => pathfinder::load(existing(dir)?, size, faults),
            None => pathfinder::generate(&rules, DATA_SEED),
        }
    }

    fn generates(&self, recipe: &Recipe, dir: Option<&Path>) -> Result<Option<String>> {
        let rules = if rules(recipe)?.0 == 16 { "smaller and easier ones than the official" } else { "to the official rules" };
        Ok(dir.is_none().then(|| format!("without --data the pictures are drawn here, {rules}: these are not the published ones")))
    }

    fn push(&self, recipe: &Recipe, sample: Sample<'_>, set: &mut Dataset) -> Result<()> {
        set.push_values(&pathfinder::read_png(sample.file()?, rules(recipe)?.0)?, 0)
    }

    fn archive(&self, recipe: &Recipe) -> Option<Set> {
        rules(recipe).ok().filter(|&(size, _)| size > 16).map(|(size, _)| pathfinder::archive(size))
    }
}
