//! A recipe as text: read from TOML with the place of what is wrong, printed, and changed by `--set`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde::Serialize;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::Recipe;
use crate::error::{Error, Result};

const SET: &str = "--set";

/// Reads a recipe; `path` is for the message.
pub(super) fn parse(text: &str, path: &Path) -> Result<Recipe> {
    let at = |span: Option<Range<usize>>, help: String| {
        let (line, column) = place(text, span.map_or(0, |span| span.start));
        Error::Data { path: path.into(), line, column, help }
    };
    let recipe: Recipe = toml::from_str(text).map_err(|error| at(error.span(), one_line(error.message())))?;
    for (table, found) in recipe.checks() {
        found.map_err(|error| match error {
            Error::Config { name, value, help } => at(find(text, table, name), format!("{name} = {value}: {help}")),
            other => other,
        })?;
    }
    Ok(recipe)
}

/// The place of the field that an error calls `name` ("batch" or "[dt_min, dt_max]"), in the table at `path` or one inside it.
fn find(text: &str, path: &str, name: &str) -> Option<Range<usize>> {
    let name = name.trim_start_matches('[').split(',').next()?;
    let file = DeTable::parse(text).ok()?.into_inner();
    let mut table = &file;
    for part in path.split('.') {
        table = table.get(part)?.get_ref().as_table()?;
    }
    find_in(table, name)
}

fn find_in(table: &DeTable<'_>, name: &str) -> Option<Range<usize>> {
    let own = table.keys().find(|key| key.get_ref() == name).map(Spanned::span);
    let inner = || table.values().filter_map(|value: &Spanned<DeValue<'_>>| value.get_ref().as_table());
    own.or_else(|| inner().find_map(|table| find_in(table, name)))
}

/// The recipe with the value at each key ("model.block.ssm.d_model") changed, as TOML has it; a word that is no TOML value is a string,
/// and `none` takes the value away. All are changed before the recipe is checked, because some only fit together.
pub(super) fn set<'a>(recipe: &Recipe, changes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Recipe> {
    let changes: Vec<(&str, &str)> = changes.into_iter().collect();
    let before = table(recipe)?;
    let mut after = before.clone();
    changes.iter().for_each(|(key, value)| change(&mut after, &before, key, value));
    let recipe: Recipe = after.try_into().map_err(|error: toml::de::Error| {
        let all: Vec<String> = changes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Error::config(SET, all.join(" "), one_line(&error.to_string()))
    })?;
    recipe.check().map(|()| recipe)
}

/// Puts a value at a key of `table`, in which `before` was. A table that had one field is a choice, as `{ cosine = .. }` is among the
/// schedules: whatever else is put into it takes the place of that field.
fn change(table: &mut Table, before: &Table, key: &str, value: &str) {
    let (field, rest) = key.split_once('.').map_or((key, None), |(field, rest)| (field, Some(rest)));
    if before.len() == 1 && !before.contains_key(field) {
        before.keys().for_each(|old| drop(table.remove(old)));
    }
    let Some(rest) = rest else {
        // A string stays a string, even where the new one looks like a number.
        let is_word = table.get(field).is_some_and(Value::is_str) && !value.starts_with(['"', '\'', '{']);
        match value {
            "none" => drop(table.remove(field)),
            _ if is_word => drop(table.insert(field.into(), Value::String(value.into()))),
            _ => drop(table.insert(field.into(), parse_value(value))),
        }
        return;
    };
    let (none, empty) = (Table::new(), || Value::Table(Table::new()));
    let inner = table.entry(field).or_insert_with(empty);
    // A choice without fields is a word.
    if !inner.is_table() {
        *inner = empty();
    }
    let inner_before = before.get(field).and_then(Value::as_table).unwrap_or(&none);
    if let Value::Table(inner) = inner {
        change(inner, inner_before, rest, value);
    }
}

fn parse_value(text: &str) -> Value {
    let table: Option<Table> = toml::from_str(&format!("value = {text}")).ok();
    table.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(text.into()))
}

/// Every value of the recipe by its key, "model.block.ssm.d_model".
pub(super) fn values(recipe: &impl Serialize) -> Result<BTreeMap<String, String>> {
    fn collect(table: &Table, prefix: &str, values: &mut BTreeMap<String, String>) {
        for (field, value) in table {
            match value {
                Value::Table(inner) => collect(inner, &format!("{prefix}{field}."), values),
                value => drop(values.insert(format!("{prefix}{field}"), value.to_string())),
            }
        }
    }
    let mut values = BTreeMap::new();
    collect(&table(recipe)?, "", &mut values);
    Ok(values)
}

/// The recipe as a TOML table.
fn table(recipe: &impl Serialize) -> Result<Table> {
    Table::try_from(recipe).map_err(unprintable)
}

/// The recipe as a TOML file.
pub(super) fn print(recipe: &impl Serialize) -> Result<String> {
    toml::to_string(recipe).map_err(unprintable)
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

/// The parser's message in one line. What it says of a choice that was made twice, or not at all, names no choice.
fn one_line(message: &str) -> String {
    let line = message.trim().replace('\n', "; ");
    if line.contains("exactly 1 element") { format!("this is a choice between fields: give one of them ({line})") } else { line }
}
