//! Text: its recipes and its data.

use std::path::Path;

use super::{Preset, Sample, Task, needed, no_variant};
use crate::data::archive::Set;
use crate::data::{Dataset, Faults, Splits, TextUnit, imdb};
use crate::error::{Error, Result};
use crate::train::Recipe;

/// Text of the Long Range Arena: whether a film review, character by character, is a good one (IMDB). The quick preset reads words.
#[derive(Clone, Copy, Debug, Default)]
pub struct Text;

impl Task for Text {
    fn name(&self) -> &'static str {
        "text"
    }

    fn about(&self) -> &'static str {
        "Trains P-SpikeSSM on Text: whether a film review is a good one (IMDB), character by character as in the Long Range Arena\n\
         (--preset paper), or word by word (quick; --set data=imdb for characters).\n\
         The data folder holds aclImdb with train and test, in each pos and neg. --predict takes a text file, --predict-text a review."
    }

    fn presets(&self) -> &'static [Preset] {
        presets!["quick", "paper"]
    }

    fn class_names(&self, _: &Recipe) -> Vec<String> {
        ["negative", "positive"].map(String::from).into()
    }

    fn load(&self, recipe: &Recipe, dir: Option<&Path>, faults: &Faults) -> Result<Splits> {
        let unit = unit(recipe)?;
        let dir = needed(dir, &format!("aclImdb, unpacked from {}", imdb::archive().address()))?;
        imdb::load_by(unit, dir, longest(recipe), faults)
    }

    fn push(&self, recipe: &Recipe, sample: Sample<'_>, set: &mut Dataset) -> Result<()> {
        let text = sample.text()?;
        if text.trim().is_empty() {
            return Err(Error::value("text", "the text is empty: give at least one character"));
        }
        unit(recipe)?.push([(text.as_ref(), 0)], longest(recipe), set)
    }

    fn archive(&self, _: &Recipe) -> Option<Set> {
        Some(imdb::archive())
    }
}

/// What a review is a sequence of.
fn unit(recipe: &Recipe) -> Result<TextUnit> {
    match recipe.data.as_str() {
        "imdb" => Ok(TextUnit::Characters),
        "imdb-words" => Ok(TextUnit::Words),
        _ => Err(no_variant(recipe, "imdb and imdb-words")),
    }
}

/// The most characters, or words, of a sample, including the mark at its end.
fn longest(recipe: &Recipe) -> usize {
    recipe.model.block.ssm.l_max.unwrap_or(4096)
}
