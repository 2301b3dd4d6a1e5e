//! Image: its recipes and its data.

use std::path::Path;

use super::{Preset, Sample, Task, needed, no_variant, push_picture};
use crate::data::archive::Set;
use crate::data::{Dataset, Faults, Splits, cifar};
use crate::error::Result;
use crate::train::Recipe;

/// Image of the Long Range Arena: what a picture of 32 x 32 grey pixels, row by row, shows (CIFAR-10).
#[derive(Clone, Copy, Debug, Default)]
pub struct Image;

impl Task for Image {
    fn name(&self) -> &'static str {
        "image"
    }

    fn about(&self) -> &'static str {
        "Trains P-SpikeSSM on Image: what a picture of 32 x 32 grey pixels, row by row, shows (CIFAR-10).\n\
         The data folder holds cifar-10-batches-bin, the binary version. --predict takes a PNG of 32 x 32 pixels."
    }

    fn presets(&self) -> &'static [Preset] {
        presets!["quick", "paper"]
    }

    fn class_names(&self, _: &Recipe) -> Vec<String> {
        ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"].map(String::from).into()
    }

    fn load(&self, recipe: &Recipe, dir: Option<&Path>, faults: &Faults) -> Result<Splits> {
        if recipe.data != "cifar10" {
            return Err(no_variant(recipe, "cifar10"));
        }
        cifar::load(needed(dir, &format!("cifar-10-batches-bin, unpacked from {}", cifar::archive().address()))?, faults)
    }

    fn push(&self, _: &Recipe, sample: Sample<'_>, set: &mut Dataset) -> Result<()> {
        push_picture(sample, 32, |pixels, at| pixels[at], set)
    }

    fn archive(&self, _: &Recipe) -> Option<Set> {
        Some(cifar::archive())
    }
}
