//! Tasks: for each its recipes and where its data come from, one file a task.

mod listops;

use std::fmt;
use std::path::Path;

use super::Recipe;
use crate::data::Splits;
use crate::error::{Error, Result};

pub use listops::ListOps;

/// Which of a task's recipes, and how much data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// A small model and data set that train in minutes.
    #[default]
    Quick,
    /// The paper's.
    Paper,
}

impl Preset {
    /// The preset called `name`.
    ///
    /// # Errors
    /// [`Error::Config`] where there is none.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "quick" => Ok(Preset::Quick),
            "paper" => Ok(Preset::Paper),
            _ => Err(Error::config("--preset", name, "there are quick and paper")),
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Preset::Quick => "quick",
            Preset::Paper => "paper",
        })
    }
}

/// Something to train on, as the command line ([`cli`](super::cli)) knows it.
pub trait Task {
    /// One word.
    fn name(&self) -> &'static str;

    /// For `--help`: what is learnt, and what the data folder holds.
    fn about(&self) -> &'static str;

    /// The recipe of a preset.
    fn recipe(&self, preset: Preset) -> Recipe;

    /// The data of a preset, as `recipe` wants them: from the folder `dir`, or from where the task finds them by itself.
    ///
    /// # Errors
    /// Where the folder is not there, or its files are broken.
    fn load(&self, preset: Preset, recipe: &Recipe, dir: Option<&Path>) -> Result<Splits>;
}

/// Refuses a folder that is not there.
fn existing(dir: &Path) -> Result<&Path> {
    if dir.is_dir() {
        return Ok(dir);
    }
    let what = if dir.exists() { "is not a folder" } else { "is not there" };
    Err(Error::config("--data", dir.display(), format!("this {what}: make the folder, correct its name, or leave --data out")))
}
