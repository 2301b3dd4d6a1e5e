//! Speech Commands: its recipes and its data.

use std::path::Path;

use super::{Preset, Sample, Task, needed, no_variant};
use crate::data::archive::Set;
use crate::data::speech_commands::{self, Classes};
use crate::data::{Dataset, Faults, Splits};
use crate::error::Result;
use crate::train::Recipe;

/// The seed of the synthetic words, whatever the seed of the run.
const DATA_SEED: u64 = 0;

/// Speech Commands: which word a second of raw sound at 16 kHz is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpeechCommands;

fn classes(recipe: &Recipe) -> Result<Classes> {
    match recipe.data.as_str() {
        "35" => Ok(Classes::All35),
        "10" | "synthetic" => Ok(Classes::Ten),
        _ => Err(no_variant(recipe, "synthetic, 10 and 35")),
    }
}

/// Whether the words are synthetic: a folder holds recordings, whatever the recipe does without one.
fn spoken_here(recipe: &Recipe, dir: Option<&Path>) -> bool {
    recipe.data == "synthetic" && dir.is_none()
}

impl Task for SpeechCommands {
    fn name(&self) -> &'static str {
        "speech_commands"
    }

    fn about(&self) -> &'static str {
        "Trains P-SpikeSSM on Speech Commands: which word a second of raw sound at 16 kHz is.\n\
         The data folder holds a folder of WAV files for each word, validation_list.txt and testing_list.txt (v0.02).\n\
         --preset causal makes a model that streams. --predict takes a WAV file of 16 kHz, mono."
    }

    fn presets(&self) -> &'static [Preset] {
        presets!["quick", "paper", "paper-10", "causal"]
    }

    fn class_names(&self, recipe: &Recipe) -> Vec<String> {
        classes(recipe).map(speech_commands::class_names).unwrap_or_default()
    }

    fn load(&self, recipe: &Recipe, dir: Option<&Path>, faults: &Faults) -> Result<Splits> {
        let classes = classes(recipe)?;
        if spoken_here(recipe, dir) {
            return speech_commands::synthesize(DATA_SEED);
        }
        let dir = needed(dir, &format!("the words, unpacked from {}", speech_commands::archive().address()))?;
        speech_commands::load(dir, classes, faults)
    }

    fn generates(&self, recipe: &Recipe, dir: Option<&Path>) -> Result<Option<String>> {
        let what = || format!("without --data ten words are spoken by a synthesiser, seed {DATA_SEED}: these are no recordings");
        Ok(spoken_here(recipe, dir).then(what))
    }

    fn push(&self, _: &Recipe, sample: Sample<'_>, set: &mut Dataset) -> Result<()> {
        set.push_values(&speech_commands::read_wav(sample.file()?)?, 0)
    }

    fn archive(&self, _: &Recipe) -> Option<Set> {
        Some(speech_commands::archive())
    }
}
