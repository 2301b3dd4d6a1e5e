//! ListOps: its recipes and its data.

use std::path::Path;

use super::{Preset, Task, existing};
use crate::data::Splits;
use crate::data::listops::{self, Rules};
use crate::error::Result;
use crate::nn::{AdamWConfig, BlockConfig, Cosine, Pooling, SsmConfig};
use crate::train::{Length, Recipe, Schedule};

/// From which the data are generated, whatever the seed of the run: runs differ in what they learn, not in what they learn from.
const DATA_SEED: u64 = 0;

impl Recipe {
    /// The official ListOps recipe: d_model 128, 4 layers, sequences of up to 2,000 tokens, 120,000 steps.
    pub fn listops_paper() -> Self {
        let mut ssm = SsmConfig::new(128, 16);
        ssm.l_max = Some(2048);
        Recipe {
            block: BlockConfig::new(ssm),
            layers: 4,
            pooling: Pooling::Mean,
            retrieval: false,
            batch: 32,
            optimizer: AdamWConfig::new(8e-4, 0.01),
            schedule: Schedule::Cosine(Cosine { warmup: 12_000, total: 120_000 }),
            length: Length::Epochs(200),
            seed: 3333,
        }
    }

    /// A small ListOps recipe: d_model 64, 2 layers, sequences of up to 128 tokens, 600 steps.
    pub fn listops_small() -> Self {
        let mut ssm = SsmConfig::new(64, 16);
        ssm.l_max = Some(128);
        Recipe {
            block: BlockConfig::new(ssm),
            layers: 2,
            optimizer: AdamWConfig::new(2e-3, 0.01),
            length: Length::Steps(600),
            seed: 0,
            ..Recipe::listops_paper()
        }
        .with_steps(600)
    }
}

/// ListOps of the Long Range Arena: the value of nested lists of digits under MIN, MAX, MED and SM.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListOps;

impl ListOps {
    fn rules(preset: Preset) -> Rules {
        match preset {
            Preset::Quick => Rules::small(),
            Preset::Paper => Rules::official(),
        }
    }
}

impl Task for ListOps {
    fn name(&self) -> &'static str {
        "listops"
    }

    fn about(&self) -> &'static str {
        "Trains P-SpikeSSM on ListOps: the value of nested lists of digits under MIN, MAX, MED and SM.\n\
         The data folder holds basic_train.tsv, basic_val.tsv and basic_test.tsv; those that are missing are generated.\n\
         Without a folder the data are generated in memory."
    }

    fn recipe(&self, preset: Preset) -> Recipe {
        match preset {
            Preset::Quick => Recipe::listops_small(),
            Preset::Paper => Recipe::listops_paper(),
        }
    }

    fn load(&self, preset: Preset, recipe: &Recipe, dir: Option<&Path>) -> Result<Splits> {
        let rules = Self::rules(preset);
        let Some(dir) = dir else { return listops::generate(&rules, DATA_SEED) };
        listops::ensure(existing(dir)?, &rules, DATA_SEED)?;
        listops::load(dir, recipe.block.ssm.l_max.unwrap_or(usize::MAX))
    }
}
