//! A recipe as text: read from TOML with the line of what is wrong, printed, and changed by `--set`.

use std::path::Path;

use toml::{Table, Value};

use super::file::File;
use super::{Length, Recipe};
use crate::error::{Error, Result};

/// Reads a recipe; `path` is for the message.
pub(super) fn parse(text: &str, path: &Path) -> Result<Recipe> {
    let file: File = toml::from_str(text).map_err(|error| {
        let (line, column) = place(text, error.span().map_or(0, |span| span.start));
        Error::Data { path: path.into(), line, column, help: one_line(error.message()) }
    })?;
    file.recipe()
}

/// The recipe with the value at `key` ("model.d_model") set to `value`, as TOML has it; a word that is no TOML value is a string, and
/// `none` takes the value away.
pub(super) fn set(recipe: &Recipe, key: &str, value: &str) -> Result<Recipe> {
    const NAME: &str = "--set";
    let fails = |help: String| Error::config(NAME, format!("{key}={value}"), help);
    let mut table = table(recipe)?;
    let Some((section, field)) = key.split_once('.').filter(|(_, field)| !field.contains('.')) else {
        return Err(fails("a key has a section and a field, as in model.d_model: --print-recipe shows them".into()));
    };
    let Some(Value::Table(section)) = table.get_mut(section) else {
        return Err(fails(format!("there is no section {section}: there are data, run, optimizer, schedule and model")));
    };
    match (key, value) {
        // A schedule's other fields go with its kind.
        ("schedule.kind", kind) => *section = schedule(kind, recipe),
        (_, "none") if key != "model.norm" => drop(section.remove(field)),
        _ => drop(section.insert(field.into(), parse_value(value))),
    }
    // A run has one length.
    match key {
        "run.steps" => drop(section.remove("epochs")),
        "run.epochs" => drop(section.remove("steps")),
        _ => {}
    }
    table.try_into::<File>().map_err(|error| fails(one_line(error.message()))).and_then(File::recipe)
}

/// A schedule of this kind with the recipes' usual values.
fn schedule(kind: &str, recipe: &Recipe) -> Table {
    let (Length::Steps(length) | Length::Epochs(length)) = recipe.length;
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let mut table = Table::from_iter([("kind".to_string(), Value::from(kind))]);
    match kind {
        "cosine" => table.extend([("warmup".into(), Value::from(length / 10)), ("total".into(), Value::from(length))]),
        "plateau" => table.extend([("decay".into(), Value::from(0.2)), ("patience".into(), Value::from(20))]),
        _ => {}
    }
    table
}

fn parse_value(text: &str) -> Value {
    let table: Option<Table> = toml::from_str(&format!("value = {text}")).ok();
    table.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(text.into()))
}

/// The recipe as a TOML table.
pub(super) fn table(recipe: &Recipe) -> Result<Table> {
    Table::try_from(File::of(recipe)).map_err(unprintable)
}

/// The recipe as a TOML file.
pub(super) fn print(recipe: &Recipe) -> Result<String> {
    toml::to_string(&File::of(recipe)).map_err(unprintable)
}

fn unprintable(error: toml::ser::Error) -> Error {
    Error::value("Recipe", format!("a value cannot be written as TOML ({error}): numbers must be below 2^63"))
}

/// Line and column, from 1, of a byte of a text.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn one_line(message: &str) -> String {
    message.trim().replace('\n', "; ")
}
