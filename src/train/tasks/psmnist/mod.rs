//! Permuted sequential MNIST, and the small digits of scikit-learn: recipes and data.

use std::path::Path;

use super::{Preset, Sample, Task, needed, no_variant, numbers, push_picture};
use crate::data::archive::Set;
use crate::data::{Dataset, Faults, Splits, digits, psmnist};
use crate::error::Result;
use crate::train::Recipe;

/// psMNIST: which digit a picture of 28 x 28 pixels in bit-reversed order shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct PsMnist;

impl Task for PsMnist {
    fn name(&self) -> &'static str {
        "psmnist"
    }

    fn about(&self) -> &'static str {
        "Trains P-SpikeSSM on psMNIST: which digit a picture of 28 x 28 pixels in bit-reversed order shows.\n\
         The data folder holds {train,t10k}-{images-idx3,labels-idx1}-ubyte, with .gz or without. --preset digits: scikit-learn's 8 x 8\n\
         digits, train.csv and test.csv. --preset causal and digits-causal make models that stream. --predict takes a PNG of 28 x 28 (8 x 8)\n\
         pixels, white on black."
    }

    fn presets(&self) -> &'static [Preset] {
        presets!["quick", "paper", "digits", "causal", "digits-causal"]
    }

    fn class_names(&self, _: &Recipe) -> Vec<String> {
        numbers(10)
    }

    fn load(&self, recipe: &Recipe, dir: Option<&Path>, faults: &Faults) -> Result<Splits> {
        match recipe.data.as_str() {
            "mnist" => {
                let from = psmnist::archive().address();
                let what = format!("train-images-idx3-ubyte, train-labels-idx1-ubyte and the same of t10k, from {from}");
                psmnist::load(needed(dir, &what)?, faults)
            }
            "digits" => {
                let what = "train.csv and test.csv, a label and 64 pixels from 0 to 16 in each row, as written from scikit-learn's load_digits";
                digits::load(needed(dir, what)?, faults)
            }
            _ => Err(no_variant(recipe, "mnist and digits")),
        }
    }

    fn push(&self, recipe: &Recipe, sample: Sample<'_>, set: &mut Dataset) -> Result<()> {
        let side = if recipe.data == "digits" { digits::SIDE } else { psmnist::SIDE };
        let order = psmnist::permutation(side * side);
        // The levels of the digits go from 0 to 16: the nearest one.
        let scale = |byte: u8| if side == digits::SIDE { ((u16::from(byte) * 16 + 127) / 255) as u8 } else { byte };
        push_picture(sample, side, |pixels, at| scale(pixels[order[at]]), set)
    }

    fn archive(&self, recipe: &Recipe) -> Option<Set> {
        (recipe.data == "mnist").then(psmnist::archive)
    }
}
