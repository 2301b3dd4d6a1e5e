//! Retrieval: its recipes and its data.

use std::path::Path;

use super::{Preset, Sample, Task, needed, no_variant};
use crate::data::archive::Set;
use crate::data::subjects::{self, Rules};
use crate::data::{Dataset, Faults, Splits, aan};
use crate::error::{Error, Result};
use crate::train::Recipe;

/// The seed of the made-up texts, whatever the seed of the run.
const DATA_SEED: u64 = 0;

/// Retrieval of the Long Range Arena: whether two papers, character by character, cite each other (AAN).
#[derive(Clone, Copy, Debug, Default)]
pub struct Retrieval;

impl Task for Retrieval {
    fn name(&self) -> &'static str {
        "retrieval"
    }

    fn about(&self) -> &'static str {
        "Trains P-SpikeSSM on Retrieval: whether one of two papers, character by character, cites the other (AAN).\n\
         The data folder holds new_aan_pairs.{train,eval,test}.tsv. --predict takes a file of two texts with a tab between them, --predict-text the texts."
    }

    fn presets(&self) -> &'static [Preset] {
        presets!["quick", "paper"]
    }

    fn class_names(&self, _: &Recipe) -> Vec<String> {
        ["unrelated", "related"].map(String::from).into()
    }

    fn load(&self, recipe: &Recipe, dir: Option<&Path>, faults: &Faults) -> Result<Splits> {
        match recipe.data.as_str() {
            "subjects" if dir.is_none() => return subjects::generate(&Rules::small(), DATA_SEED),
            // A folder holds papers, whatever the recipe does without one.
            "subjects" | "aan" => {}
            _ => return Err(no_variant(recipe, "subjects and aan")),
        }
        let dir = needed(dir, &format!("tsv_data, unpacked from {}", aan::archive().address()))?;
        aan::load(dir, longest(recipe), faults)
    }

    fn generates(&self, recipe: &Recipe, dir: Option<&Path>) -> Result<Option<String>> {
        let made = recipe.data == "subjects" && dir.is_none();
        Ok(made.then(|| format!("without --data pairs of texts are made up here, seed {DATA_SEED}: are both on one subject?")))
    }

    fn push(&self, recipe: &Recipe, sample: Sample<'_>, set: &mut Dataset) -> Result<()> {
        const OP: &str = "retrieval";
        let Some(vocabulary) = set.vocabulary() else { return Err(Error::value(OP, "the model does not read characters")) };
        let text = sample.text()?;
        let Some((first, second)) = text.trim_end_matches(['\r', '\n']).split_once('\t') else {
            return Err(Error::value(OP, "one text was given: two are compared, give both with a tab between them"));
        };
        if [first, second].iter().any(|text| text.trim().is_empty()) {
            return Err(Error::value(OP, "one of the two texts is empty: give at least one character on either side of the tab"));
        }
        let [first, second] = [first, second].map(|text| aan::encode(text, vocabulary, longest(recipe)));
        set.push_pair(&first, &second, 0)
    }

    fn archive(&self, _: &Recipe) -> Option<Set> {
        Some(aan::archive())
    }
}

/// The most characters of a document, including the mark at its end.
fn longest(recipe: &Recipe) -> usize {
    recipe.model.block.ssm.l_max.unwrap_or(4000)
}
