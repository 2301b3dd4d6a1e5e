//! ListOps: its recipes and its data.

use std::path::Path;

use super::{Preset, Task, existing, no_variant, numbers, text_of};
use crate::data::listops::{self, Rules};
use crate::data::{Dataset, Faults, Splits, Vocabulary};
use crate::error::Result;
use crate::train::Recipe;

/// The seed of the generated data, whatever the seed of the run: runs differ in their weights, not in their data.
const DATA_SEED: u64 = 0;

/// ListOps of the Long Range Arena: the value of nested lists of digits under MIN, MAX, MED and SM.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListOps;

impl Task for ListOps {
    fn name(&self) -> &'static str {
        "listops"
    }

    fn about(&self) -> &'static str {
        "Trains P-SpikeSSM on ListOps: the value of nested lists of digits under MIN, MAX, MED and SM.\n\
         The data folder holds basic_train.tsv, basic_val.tsv and basic_test.tsv; those that are missing are generated.\n\
         Without a folder the data are generated in memory. --predict takes an expression, as in '[MAX 2 9 [MIN 4 7 ] 0 ]'."
    }

    fn presets(&self) -> &'static [Preset] {
        presets!["quick", "paper"]
    }

    fn class_names(&self, _: &Recipe) -> Vec<String> {
        numbers(listops::CLASSES)
    }

    fn load(&self, recipe: &Recipe, dir: Option<&Path>, _: &Faults) -> Result<Splits> {
        let rules = match recipe.data.as_str() {
            "small" => Rules::small(),
            "official" => Rules::official(),
            _ => return Err(no_variant(recipe, "small and official")),
        };
        let Some(dir) = dir else { return listops::generate(&rules, DATA_SEED) };
        listops::ensure(existing(dir)?, &rules, DATA_SEED)?;
        listops::load(dir, recipe.model.block.ssm.l_max.unwrap_or(usize::MAX))
    }

    fn push(&self, recipe: &Recipe, sample: &str, set: &mut Dataset) -> Result<()> {
        let mut tokens = listops::encode(text_of(sample)?.trim())?;
        tokens.truncate(recipe.model.block.ssm.l_max.unwrap_or(usize::MAX) - 1);
        tokens.push(Vocabulary::EOS);
        set.push_tokens(&tokens, 0)
    }
}
