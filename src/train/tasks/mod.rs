//! Tasks: for each a folder with its recipes, and how its data become samples.

use std::io::Read;
use std::path::Path;

use super::Recipe;
use crate::data::archive::Set;
use crate::data::{Dataset, Faults, Splits, picture, text_lines};
use crate::error::{Error, Result};

/// The recipes of a task: the files of these names in its folder.
macro_rules! presets {
    ($($name:literal),+) => {
        &[$($crate::train::Preset { name: $name, recipe: include_str!(concat!($name, ".toml")) }),+]
    };
}

/// Declares every task: its folder, and the type in it.
macro_rules! tasks {
    ($($folder:ident::$task:ident),+ $(,)?) => {
        $(mod $folder; pub use $folder::$task;)+

        /// All tasks.
        pub const ALL: &[&dyn Task] = &[$(&$task),+];
    };
}

tasks! {
    classify::Classify,
    image::Image,
    listops::ListOps,
    pathfinder::Pathfinder,
    psmnist::PsMnist,
    retrieval::Retrieval,
    speech_commands::SpeechCommands,
    text::Text,
}

/// One of a task's recipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// One word, as `--preset` takes it.
    pub name: &'static str,
    /// The recipe, in TOML.
    pub recipe: &'static str,
}

/// What a prediction is asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample<'a> {
    /// What stands behind `--predict`: the path of a file; for ListOps it may be an expression as well.
    Given(&'a Path),
    /// The text itself, for tasks that read text.
    Text(&'a str),
}

impl<'a> Sample<'a> {
    /// The file, for tasks that read no text.
    fn file(self) -> Result<&'a Path> {
        match self {
            Sample::Given(path) => Ok(path),
            Sample::Text(_) => Err(Error::config("--predict", "text", "this task reads a file: give its path")),
        }
    }

    /// The text: of the file, where it is not given itself.
    fn text(self) -> Result<String> {
        match self {
            Sample::Text(text) => Ok(text.into()),
            Sample::Given(path) if path.exists() => text_lines::read(path),
            Sample::Given(path) => {
                let help = "there is no such file; a text itself is given by --predict-text TEXT, or by --predict - on the standard input";
                Err(Error::config("--predict", path.display(), help))
            }
        }
    }
}

/// The text that comes from `input`, the standard input, without the line end behind it.
pub(super) fn typed(mut input: impl Read) -> Result<String> {
    let (path, mut bytes) = (Path::new("the standard input"), Vec::new());
    input.read_to_end(&mut bytes).map_err(|source| Error::io("read", path, source))?;
    let text = text_lines::text(path, &bytes)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(text.strip_suffix('\r').unwrap_or(text).into())
}

/// Something to train on, as the command line ([`cli`](super::cli)) knows it.
pub trait Task: Sync {
    /// One word.
    fn name(&self) -> &'static str;

    /// For `--help`: what is learnt, and what the data folder holds.
    fn about(&self) -> &'static str;

    /// The recipes; the first is the default.
    fn presets(&self) -> &'static [Preset];

    /// What the classes are called, unless the data say so themselves ([`Dataset::class_names`]).
    fn class_names(&self, recipe: &Recipe) -> Vec<String>;

    /// The data as `recipe` wants them: from the folder `dir`, or, without one, from where the task finds them by itself.
    ///
    /// # Errors
    /// Where the folder is not there, its files are broken, or there is no such set.
    fn load(&self, recipe: &Recipe, dir: Option<&Path>, faults: &Faults) -> Result<Splits>;

    /// What [`load`](Self::load) would generate, in a sentence; `None` where it reads files.
    ///
    /// # Errors
    /// Where generated data would stand beside others.
    fn generates(&self, _: &Recipe, _: Option<&Path>) -> Result<Option<String>> {
        Ok(None)
    }

    /// The recipe of a preset, fitted to the data: sizes that it leaves to them. What the command line says comes after that.
    fn sized(&self, recipe: Recipe, _: &Splits) -> Recipe {
        recipe
    }

    /// Appends one sample to a set, for a prediction, or several: `sample` is what the task's [`about`](Self::about) says.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn push(&self, recipe: &Recipe, sample: Sample<'_>, set: &mut Dataset) -> Result<()>;

    /// The official archive of the data, if there is one to fetch.
    fn archive(&self, _: &Recipe) -> Option<Set> {
        None
    }

    /// The recipe of the preset called `name`, or of the default.
    ///
    /// # Errors
    /// [`Error::Config`] where there is none.
    fn recipe(&self, name: Option<&str>) -> Result<Recipe> {
        let presets = self.presets();
        let found = presets.iter().find(|preset| name.is_none_or(|name| preset.name == name));
        let Some(preset) = found else {
            let names: Vec<&str> = presets.iter().map(|preset| preset.name).collect();
            return Err(Error::config("--preset", name.unwrap_or_default(), format!("{} has {}", self.name(), names.join(", "))));
        };
        Recipe::parse(preset.recipe, format!("{}-{}.toml", self.name(), preset.name))
    }
}

/// The data folder; refuses one that is not there.
fn existing(dir: &Path) -> Result<&Path> {
    if dir.is_dir() {
        return Ok(dir);
    }
    let what = if dir.exists() { "is not a folder" } else { "is not there" };
    Err(Error::config("--data", dir.display(), format!("this {what}: make the folder, correct its name, or leave --data out")))
}

/// The data folder of a task that needs one; `what` says what it holds and where that comes from.
fn needed<'a>(dir: Option<&'a Path>, what: &str) -> Result<&'a Path> {
    let fetch = if cfg!(feature = "download") { "or add --download" } else { "or build with --features download and add --download" };
    match dir {
        Some(dir) => existing(dir),
        None => Err(Error::config("--data", "missing", format!("give a folder with {what}; {fetch}"))),
    }
}

/// The error of a recipe whose `data` the task does not know.
fn no_variant(recipe: &Recipe, known: &str) -> Error {
    Error::config("data", &recipe.data, format!("there is {known}"))
}

/// Appends a PNG of `side` x `side` pixels to a set of levels: time step `at` is `level(pixels, at)` of the grey pixels row by row.
fn push_picture(sample: Sample<'_>, side: usize, level: impl Fn(&[u8], usize) -> u8, set: &mut Dataset) -> Result<()> {
    let pixels = picture::read_grey(sample.file()?, side)?;
    let sequence: Vec<u8> = (0..pixels.len()).map(|at| level(&pixels, at)).collect();
    set.push_levels(&sequence, 0)
}

/// The names of classes that are numbers.
fn numbers(classes: usize) -> Vec<String> {
    (0..classes).map(|class| class.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_text_without_its_last_line_end() {
        for (input, wanted) in [("a b\n", "a b"), ("a\r\n", "a"), ("a", "a"), ("a\n\n", "a\n"), ("\u{feff}é\n", "é"), ("", "")] {
            assert_eq!(typed(input.as_bytes()).unwrap(), wanted);
        }
        let message = typed(&b"\xff\xfea\0"[..]).unwrap_err().to_string();
        assert!(message.contains("standard input:1:1") && message.contains("UTF-16"), "{message}");
    }
}
