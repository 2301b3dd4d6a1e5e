//! Text: its recipes and its data.

use std::path::Path;

use super::{Preset, Sample, Task, needed, no_variant};
use crate::data::archive::Set;
use crate::data::{Dataset, Faults, Splits, imdb};
use crate::error::{Error, Result};
use crate::train::Recipe;

/// Text of the Long Range Arena: whether a film review, character by character, is a good one (IMDB).
#[derive(Clone, Copy, Debug, Default)]
pub struct Text;

impl Task for Text {
    fn name(&self) -> &'static str {
        "text"
    }

    fn about(&self) -> &'static str {
        "Trains P-SpikeSSM on Text: whether a film review, character by character, is a good one (IMDB).\n\
         The data folder holds aclImdb with train and test, in each pos and neg. --predict takes a text file, --predict-text a review."
    }

    fn presets(&self) -> &'static [Preset] {
        presets!["quick", "paper"]
    }

    fn class_names(&self, _: &Recipe) -> Vec<String> {
        ["negative", "positive"].map(String::from).into()
    }

    fn load(&self, recipe: &Recipe, dir: Option<&Path>, faults: &Faults) -> Result<Splits> {
        if recipe.data != "imdb" {
            return Err(no_variant(recipe, "imdb"));
        }
        let dir = needed(dir, &format!("aclImdb, unpacked from {}", imdb::archive().address()))?;
        imdb::load(dir, longest(recipe), faults)
    }

    fn push(&self, recipe: &Recipe, sample: Sample<'_>, set: &mut Dataset) -> Result<()> {
        let Some(vocabulary) = set.vocabulary() else { return Err(Error::value("text", "the model does not read characters")) };
        let text = sample.text()?;
        if text.trim().is_empty() {
            return Err(Error::value("text", "the text is empty: give at least one character"));
        }
        let sequence = imdb::encode(&text, vocabulary, longest(recipe));
        set.push_tokens(&sequence, 0)
    }

    fn archive(&self, _: &Recipe) -> Option<Set> {
        Some(imdb::archive())
    }
}

/// The most characters of a sample, including the mark at its end.
fn longest(recipe: &Recipe) -> usize {
    recipe.model.block.ssm.l_max.unwrap_or(4096)
}
