//! Tables: which column is what, and the series or texts in their rows.

use super::assemble::{self, Coder, assemble};
use super::csv::{Row, rows};
use super::look::{Kind, Source};
use super::part::Parts;
use super::rows::{Rows, Table};
use super::sample::{Place, Sample};
use super::series::{Series, number};
use super::{OP, Options, npy, texts, ts};
use crate::data::{Dataset, Faults, Splits, text_lines};
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// What a column of labels, of texts, of the numbers of series and of their times is called; of several, the first here is the one.
const LABEL: &[&str] = &["label", "class", "target", "category", "sentiment", "y"];
const TEXT: &[&str] = &["text", "review", "sentence", "content", "message", "comment"];
const SERIES: &[&str] = &["id", "series", "series_id", "sample", "case"];
const TIME: &[&str] = &["time", "t", "timestamp", "step", "date"];

/// Under which name a set remembers how many channels its series have in their files.
const CHANNELS: &str = "channels";

/// The splits in tables of this kind.
pub(super) fn load(kind: Kind, parts: &Parts<Vec<Source>>, options: Options, faults: &Faults) -> Result<Splits> {
    let read = |sources: &Vec<Source>| match sources.first() {
        Some(source) => read(kind, source, true, faults),
        None => Err(Error::value(OP, "there is no file")),
    };
    let tables = parts.try_map(read)?;
    let (declared, numbers) = (tables.train.declared.clone(), tables.train.numbers);
    if numbers && !options.regression {
        let help = "the labels are numbers to find (@targetLabel true): add --regression";
        return Err(Error::config("--regression", "missing", help));
    }
    if let Rows::Texts(_) = tables.train.rows {
        let texts = tables.try_map(|table| match &table.rows {
            Rows::Texts(texts) => Ok(texts.clone()),
            Rows::Series(series) => Err(other_kind(series.first().map(|sample| &sample.place), "texts")),
        })?;
        return texts::load(texts, kind, options, faults);
    }
    let parts =
        Parts { train: series(tables.train)?, val: tables.val.map(series).transpose()?, test: tables.test.map(series).transpose()? };
    let channels = parts.train.first().map_or(1, |sample| sample.content.channels);
    let parts = Parts {
        train: alike(parts.train, channels, faults)?,
        val: parts.val.map(|part| alike(part, channels, faults)).transpose()?,
        test: parts.test.map(|part| alike(part, channels, faults)).transpose()?,
    };
    let differences = |samples: &Vec<Sample<Series>>| Ok::<_, Error>(samples.iter().map(with_differences).collect());
    let parts = if options.differences { parts.try_map(differences)? } else { parts };
    let reading = vec![(CHANNELS, channels.to_string())];
    assemble(parts, kind, options, &declared, faults, Coder { encoding: &assemble::by_channel, push: &assemble::push_series, reading })
}

/// Appends all samples of the table at `path`.
pub(super) fn push(kind: Kind, path: &Path, set: &mut Dataset) -> Result<()> {
    let source = Source { path: path.into(), class: String::new(), labels: None };
    let samples = series(read(kind, &source, false, &Faults::refused())?)?;
    let wide = set.d_input().unwrap_or(1);
    let channels = set.reading().get(CHANNELS).and_then(|channels| channels.parse().ok()).unwrap_or(wide);
    for sample in alike(samples, channels, &Faults::refused())? {
        let sample = if wide == channels { sample } else { with_differences(&sample) };
        assemble::push_series(set, &sample.content, 0)?;
    }
    Ok(())
}

fn with_differences(sample: &Sample<Series>) -> Sample<Series> {
    let Sample { content, label, place } = sample.clone();
    Sample { content: content.with_differences(), label, place }
}

/// Appends all texts of the table at `path`; a file of another kind is a text itself.
pub(super) fn push_texts(path: &Path, set: &mut Dataset) -> Result<()> {
    let is_table = path.extension().is_some_and(|ending| ["csv", "tsv"].iter().any(|known| ending.eq_ignore_ascii_case(known)));
    if !is_table {
        return texts::push(&text_lines::read(path)?, set);
    }
    let source = Source { path: path.into(), class: String::new(), labels: None };
    match read(Kind::Csv, &source, false, &Faults::refused())?.rows {
        Rows::Texts(all) => all.iter().try_for_each(|text| texts::push(&text.content, set)),
        Rows::Series(series) => Err(other_kind(series.first().map(|sample| &sample.place), "texts")),
    }
}

fn read(kind: Kind, source: &Source, labelled: bool, faults: &Faults) -> Result<Table> {
    match kind {
        Kind::Ts => ts::read(&source.path, labelled, faults),
        Kind::Npy => npy::read(&source.path, source.labels.as_deref(), faults),
        _ => read_rows(&source.path, labelled, faults),
    }
}

fn series(table: Table) -> Result<Vec<Sample<Series>>> {
    match table.rows {
        Rows::Series(series) => Ok(series),
        Rows::Texts(texts) => Err(other_kind(texts.first().map(|sample| &sample.place), "series of numbers")),
    }
}

fn other_kind(place: Option<&Place>, wanted: &str) -> Error {
    let help = format!("the training samples are {wanted}, these are not: give all parts alike");
    place.map_or_else(|| Error::value(OP, help.clone()), |place| place.error(help.clone()))
}

/// Those with so many channels; the others are up to `faults`.
fn alike(mut samples: Vec<Sample<Series>>, channels: usize, faults: &Faults) -> Result<Vec<Sample<Series>>> {
    let mut refused = Ok(());
    samples.retain(|sample| {
        let fits = sample.content.channels == channels;
        if !fits && refused.is_ok() {
            let found = sample.content.channels;
            refused =
                faults.meet(sample.place.error(format!("there are {found} channels, not {channels} as in the first training sample")));
        }
        fits
    });
    refused.map(|()| samples)
}

/// The columns of a table.
struct Columns {
    label: Option<usize>,
    text: Option<usize>,
    /// Of a table whose rows are the time steps of series below each other.
    series: Option<usize>,
    time: Option<usize>,
    /// Rows before the first sample.
    header: usize,
}

fn read_rows(path: &Path, labelled: bool, faults: &Faults) -> Result<Table> {
    let text = text_lines::read(path)?;
    let (rows, path): (Vec<Row<'_>>, Arc<Path>) = (rows(path, &text)?, path.into());
    let columns = columns(&path, &rows, labelled)?;
    let wanted = rows.first().map_or(0, |row| row.fields.len());
    let mut whole = Vec::new();
    for row in &rows[columns.header.min(rows.len())..] {
        if row.fields.len() == wanted {
            whole.push(row);
            continue;
        }
        let help =
            format!("there are {} fields, the first row has {wanted}: give every row as many (a missing value is empty)", row.fields.len());
        faults.meet(Error::data(&path, row.line, 1, help))?;
    }
    if whole.is_empty() {
        return Err(Error::data(&path, 1, 1, "there is no row of data in this file: give a label and values in each row"));
    }
    match (columns.text, columns.series) {
        (Some(text), _) => Ok(Table::of(Rows::Texts(whole.iter().map(|row| text_of(&path, row, text, &columns)).collect()))),
        (None, Some(of)) => Ok(Table::of_series(long(&path, &whole, of, &columns, faults)?)),
        (None, None) => Ok(Table::of_series(wide(&path, &whole, &columns, faults)?)),
    }
}

fn text_of(path: &Arc<Path>, row: &Row<'_>, text: usize, columns: &Columns) -> Sample<String> {
    Sample { content: row.fields[text].to_string(), label: label(row, columns), place: Place::line(path, row.line) }
}

fn label(row: &Row<'_>, columns: &Columns) -> String {
    columns.label.map_or(String::new(), |at| assemble::canonical(&row.fields[at]))
}

/// A series in each row.
fn wide(path: &Arc<Path>, rows: &[&Row<'_>], columns: &Columns, faults: &Faults) -> Result<Vec<Sample<Series>>> {
    let mut samples = Vec::new();
    for row in rows {
        let place = Place::line(path, row.line);
        let values = (0..row.fields.len()).filter(|&at| ![columns.label, columns.time].contains(&Some(at)));
        let series = values.map(|at| value(path, row, at)).collect::<Result<Vec<f32>>>();
        let filled = series.and_then(|values| Series { channels: 1, values }.ended().filled().map_err(|help| place.error(help)));
        match filled {
            Ok(content) => samples.push(Sample { content, label: label(row, columns), place }),
            Err(error) => faults.meet(error)?,
        }
    }
    Ok(samples)
}

/// A time step in each row; the rows of a series follow each other.
fn long(path: &Arc<Path>, rows: &[&Row<'_>], of: usize, columns: &Columns, faults: &Faults) -> Result<Vec<Sample<Series>>> {
    let (mut samples, mut known) = (Vec::new(), BTreeSet::new());
    for rows in rows.chunk_by(|a, b| a.fields[of] == b.fields[of]) {
        let (first, place) = (rows[0], Place::line(path, rows[0].line));
        if !known.insert(first.fields[of].to_string()) {
            let help = format!("series {} came before: let the rows of a series follow each other", first.fields[of]);
            return Err(place.error(help));
        }
        if let Some(row) = rows.iter().find(|row| label(row, columns) != label(first, columns)) {
            let help =
                format!("the label is {:?}, but {:?} in the row before of the same series", label(row, columns), label(first, columns));
            return Err(Error::data(path, row.line, 1, help));
        }
        let own = [Some(of), columns.label, columns.time];
        let channels: Vec<usize> = (0..first.fields.len()).filter(|&at| !own.contains(&Some(at))).collect();
        let values = rows.iter().flat_map(|row| channels.iter().map(|&at| value(path, row, at))).collect::<Result<Vec<f32>>>();
        let filled =
            values.and_then(|values| Series { channels: channels.len(), values }.ended().filled().map_err(|help| place.error(help)));
        match filled {
            Ok(content) => samples.push(Sample { content, label: label(first, columns), place }),
            Err(error) => faults.meet(error)?,
        }
    }
    Ok(samples)
}

/// A number of a row.
fn value(path: &Path, row: &Row<'_>, at: usize) -> Result<f32> {
    number(&row.fields[at]).ok_or_else(|| {
        let shown: String = row.fields[at].chars().take(20).collect();
        let help = format!("field {} is {shown:?}, which is no number (a missing one is empty, ? or NaN)", at + 1);
        Error::data(path, row.line, 1, help)
    })
}

/// Which column is what: by the header, or, without one, the label first.
fn columns(path: &Path, rows: &[Row<'_>], labelled: bool) -> Result<Columns> {
    let Some(first) = rows.first() else { return Err(Error::data(path, 1, 1, "the file is empty: give a label and values in each row")) };
    let place = |name: &str| first.fields.iter().position(|field| field.trim().eq_ignore_ascii_case(name));
    let named = |names: &[&str]| names.iter().find_map(|name| place(name));
    let is_number = |row: &Row<'_>, at: usize| row.fields.get(at).is_some_and(|field| number(field).is_some());
    let second_counts = |at: usize| rows.get(1).is_some_and(|second| is_number(second, at));
    let (label, text) = (named(LABEL), named(TEXT));
    let has_header = label.is_some() || text.is_some() || (1..first.fields.len()).any(|at| !is_number(first, at) && second_counts(at));
    if !has_header {
        let others = (1..first.fields.len()).filter(|&at| !is_number(first, at)).count();
        let text = (others == 1 && first.fields.len() == 2).then_some(1);
        return Ok(Columns { label: Some(0), text, series: None, time: None, header: 0 });
    }
    if labelled && label.is_none() {
        let help = format!("no column is called as a label: name the one of the labels {}", LABEL[..4].join(", "));
        return Err(Error::data(path, first.line, 1, help));
    }
    let time = named(TIME).filter(|at| Some(*at) != label);
    let series = named(SERIES).filter(|at| Some(*at) != label);
    let others: Vec<usize> = (0..first.fields.len()).filter(|&at| ![label, series, time].contains(&Some(at))).collect();
    let words = |at: &usize| rows.get(1).is_some_and(|row| !is_number(row, *at));
    let text = text.filter(|at| Some(*at) != label).or_else(|| match others[..] {
        [only] if words(&only) => Some(only),
        _ => None,
    });
    // Of a table with a series in each row, every one has a number of its own, which says nothing.
    let repeats = |at: &usize| rows.windows(2).skip(1).any(|pair| pair[0].fields.get(*at) == pair[1].fields.get(*at));
    match series.filter(repeats) {
        Some(at) if text.is_none() => Ok(Columns { label, text, series: Some(at), time, header: 1 }),
        _ => Ok(Columns { label, text, series: None, time: series.or(time), header: 1 }),
    }
}
