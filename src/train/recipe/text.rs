//! A recipe as text: read from TOML with the line of what is wrong, printed, and changed by `--set`.

use std::ops::Range;
use std::path::Path;

use toml::de::DeTable;
use toml::{Table, Value};

use super::Recipe;
use super::file::File;
use crate::error::{Error, Result};

const SET: &str = "--set";

/// Reads a recipe; `path` is for the message.
pub(super) fn parse(text: &str, path: &Path) -> Result<Recipe> {
    let at = |span: Option<Range<usize>>, help: String| {
        let (line, column) = place(text, span.map_or(0, |span| span.start));
        Error::Data { path: path.into(), line, column, help }
    };
    let file: File = toml::from_str(text).map_err(|error| at(error.span(), one_line(error.message())))?;
    file.recipe().map_err(|error| match error {
        Error::Config { name, value, help } => at(find(text, name), format!("{name} = {value}: {help}")),
        other => other,
    })
}

/// Where the field is that an error calls `name`, "run.steps" or "batch" or "[dt_min, dt_max]"; where it is missing, its section.
fn find(text: &str, name: &str) -> Option<Range<usize>> {
    let (section, field) = name.split_once('.').map_or((None, name), |(section, field)| (Some(section), field));
    let field = field.trim_start_matches('[').split(',').next()?;
    let file = DeTable::parse(text).ok()?.into_inner();
    let sections = || file.iter().filter(|(key, _)| section.is_none_or(|section| key.get_ref() == section));
    let fields = sections().filter_map(|(_, value)| value.get_ref().as_table()).flat_map(|table| table.keys());
    fields
        .filter(|key| key.get_ref() == field)
        .chain(sections().map(|(key, _)| key).filter(|_| section.is_some()))
        .map(|key| key.span())
        .next()
}

/// The recipe with the value at each key ("model.d_model") changed, as TOML has it; a word that is no TOML value is a string, and `none`
/// takes the value away. All are changed before any is looked at, because some go only together.
pub(super) fn set<'a>(recipe: &Recipe, changes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Recipe> {
    let mut changes: Vec<(&str, &str)> = changes.into_iter().collect();
    let all: Vec<String> = changes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let fails = |help: String| Error::config(SET, all.join(" "), help);
    let mut table = table(recipe)?;
    // A schedule's other fields go with its kind, and a cosine's with the length.
    changes.sort_by_key(|(key, _)| if key.starts_with("run.") { 0 } else { 1 + u8::from(*key != "schedule.kind") });
    changes.iter().try_for_each(|(key, value)| change(&mut table, key, value))?;
    if let Some(Value::Table(schedule)) = table.get("schedule")
        && schedule.get("kind").and_then(Value::as_str) == Some("cosine")
        && !schedule.contains_key("total")
    {
        return Err(fails("a cosine has a length in steps: set run.steps, or schedule.warmup and schedule.total".into()));
    }
    table.try_into::<File>().map_err(|error| fails(one_line(&error.to_string())))?.recipe()
}

fn change(table: &mut Table, key: &str, value: &str) -> Result<()> {
    let fails = |help: String| Err(Error::config(SET, format!("{key}={value}"), help));
    let Some((section, field)) = key.split_once('.').filter(|(_, field)| !field.contains('.')) else {
        return fails("a key has a section and a field, as in model.d_model: --print-recipe shows them".into());
    };
    let steps = table.get("run").and_then(|run| run.get("steps")).and_then(Value::as_integer);
    let Some(Value::Table(section)) = table.get_mut(section) else {
        return fails(format!("there is no section {section}: there are data, run, optimizer, schedule and model"));
    };
    match (key, value) {
        ("schedule.kind", kind) if section.get(field).and_then(Value::as_str) == Some(kind) => {}
        ("schedule.kind", kind) => *section = schedule(kind, steps),
        (_, "none") if key != "model.norm" => drop(section.remove(field)),
        // A word in the place of a word, even one that looks like a number.
        _ if section.get(field).is_some_and(Value::is_str) && !value.starts_with(['"', '\'']) => {
            drop(section.insert(field.into(), Value::String(value.into())));
        }
        _ => drop(section.insert(field.into(), parse_value(value))),
    }
    // A run has one length.
    match key {
        "run.steps" => drop(section.remove("epochs")),
        "run.epochs" => drop(section.remove("steps")),
        _ => {}
    }
    Ok(())
}

/// A schedule of this kind with the recipes' usual values, as far as they are known.
fn schedule(kind: &str, steps: Option<i64>) -> Table {
    let mut table = Table::from_iter([("kind".to_string(), Value::from(kind))]);
    match (kind, steps) {
        ("cosine", Some(steps)) => table.extend([("warmup".into(), Value::from(steps / 10)), ("total".into(), Value::from(steps))]),
        ("plateau", _) => table.extend([("decay".into(), Value::from(0.2)), ("patience".into(), Value::from(20))]),
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
