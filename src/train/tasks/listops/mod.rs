//! ListOps: its recipes and its data.

use std::path::Path;

use super::{Preset, Sample, Task, existing, no_variant, numbers};
use crate::data::listops::{self, Rules};
use crate::data::{Dataset, Faults, Splits, Vocabulary};
use crate::error::{Error, Result};
use crate::train::Recipe;

/// The seed of the generated data, whatever the seed of the run: runs differ in their weights, not in their data.
const DATA_SEED: u64 = 0;

/// ListOps of the Long Range Arena: the value of nested lists of digits under MIN, MAX, MED and SM.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListOps;

fn rules(recipe: &Recipe) -> Result<Rules> {
    match recipe.data.as_str() {
        "easy" => Ok(Rules::easy()),
        "small" => Ok(Rules::small()),
        "official" => Ok(Rules::official()),
        _ => Err(no_variant(recipe, "easy, small and official")),
    }
}

impl Task for ListOps {
    fn name(&self) -> &'static str {
        "listops"
    }

    fn about(&self) -> &'static str {
        "Trains P-SpikeSSM on ListOps: the value of nested lists of digits under MIN, MAX, MED and SM.\n\
         The data folder holds basic_train.tsv, basic_val.tsv and basic_test.tsv, or listops-1000 with them; into a folder without any of\n\
         them they are generated. Without a folder the data are generated in memory. --predict takes a file or an expression, as in '[MAX 2 9 [MIN 4 7 ] 0 ]'."
    }

    fn presets(&self) -> &'static [Preset] {
        presets!["quick", "paper"]
    }

    fn class_names(&self, _: &Recipe) -> Vec<String> {
        numbers(listops::CLASSES)
    }

    fn load(&self, recipe: &Recipe, dir: Option<&Path>, faults: &Faults) -> Result<Splits> {
        let rules = rules(recipe)?;
        let Some(dir) = dir else { return listops::generate(&rules, DATA_SEED) };
        let dir = listops::find(existing(dir)?);
        listops::ensure(&dir, &rules, DATA_SEED)?;
        listops::load(dir, recipe.model.block.ssm.l_max.unwrap_or(usize::MAX), faults)
    }

    fn generates(&self, recipe: &Recipe, dir: Option<&Path>) -> Result<Option<String>> {
        let by = format!("by the rules \"{}\", seed {DATA_SEED}", recipe.data);
        let Some(dir) = dir else { return Ok(Some(format!("without --data the expressions are generated here, {by}"))) };
        let missing = listops::missing(listops::find(existing(dir)?), &rules(recipe)?, DATA_SEED)?;
        let names: Vec<String> = missing.iter().map(|path| path.display().to_string()).collect();
        Ok((!names.is_empty()).then(|| format!("generating {}, {by}: there is no set in {}", names.join(", "), dir.display())))
    }

    fn push(&self, recipe: &Recipe, sample: Sample<'_>, set: &mut Dataset) -> Result<()> {
        let source = match sample {
            // An expression is its own name.
            Sample::Given(path) if !path.exists() => path.to_string_lossy().into_owned(),
            other => other.text()?,
        };
        let source = source.trim();
        listops::evaluate(source).map_err(|error| {
            let help = format!("this is no whole expression, nor a file: {error}");
            Error::config("--predict", source.chars().take(80).collect::<String>(), help)
        })?;
        let mut tokens = listops::encode(source)?;
        tokens.truncate(recipe.model.block.ssm.l_max.unwrap_or(usize::MAX) - 1);
        tokens.push(Vocabulary::EOS);
        set.push_tokens(&tokens, 0)
    }
}
