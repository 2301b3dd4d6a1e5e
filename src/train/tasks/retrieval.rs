//! Retrieval: its recipes and its data.

use std::path::Path;

use super::{Preset, Task, needed, no_variant, text_of};
use crate::data::{Dataset, Faults, Splits, aan, imdb};
use crate::error::{Error, Result};
use crate::train::Recipe;

/// Retrieval of the Long Range Arena: whether two papers, character by character, cite each other (AAN).
#[derive(Clone, Copy, Debug, Default)]
pub struct Retrieval;

impl Task for Retrieval {
    fn name(&self) -> &'static str {
        "retrieval"
    }

    fn about(&self) -> &'static str {
        "Trains P-SpikeSSM on Retrieval: whether one of two papers, character by character, cites the other (AAN).\n\
         The data folder holds new_aan_pairs.{train,eval,test}.tsv. --predict takes two texts with a tab between them, or a file of such."
    }

    fn presets(&self) -> &'static [Preset] {
        &[
            Preset { name: "quick", recipe: include_str!("../recipes/retrieval-quick.toml") },
            Preset { name: "paper", recipe: include_str!("../recipes/retrieval-paper.toml") },
        ]
    }

    fn class_names(&self, _: &Recipe) -> Vec<String> {
        ["unrelated", "related"].map(String::from).into()
    }

    fn load(&self, recipe: &Recipe, dir: Option<&Path>, faults: &Faults) -> Result<Splits> {
        if recipe.data != "aan" {
            return Err(no_variant(recipe, "aan"));
        }
        let dir = needed(dir, "tsv_data, unpacked from https://storage.googleapis.com/long-range-arena/lra_release.gz")?;
        aan::load(dir, longest(recipe), faults)
    }

    fn push(&self, recipe: &Recipe, sample: &str, set: &mut Dataset) -> Result<()> {
        const OP: &str = "retrieval";
        let Some(vocabulary) = set.vocabulary() else { return Err(Error::value(OP, "the model does not read characters")) };
        let text = text_of(sample)?;
        let Some((first, second)) = text.trim_end_matches(['\r', '\n']).split_once('\t') else {
            return Err(Error::value(OP, "one text was given: two are compared, give both with a tab between them"));
        };
        let [first, second] = [first, second].map(|text| imdb::encode(text, vocabulary, longest(recipe)));
        set.push_pair(&first, &second, 0)
    }

    #[cfg(feature = "download")]
    fn archive(&self, _: &Recipe) -> Option<crate::train::download::Set> {
        Some(crate::train::download::aan())
    }
}

/// Characters of a document at most, the mark at its end included.
fn longest(recipe: &Recipe) -> usize {
    recipe.block.ssm.l_max.unwrap_or(4000)
}
