//! The official TSV files of ListOps: two columns, Source and Target.

use super::super::text_lines::{self, Blocks};
use super::super::{Dataset, Faults, Vocabulary, folder};
use super::generate::Generator;
use super::tokens::{CLOSE, OPERATOR, WANTED, spelling, split, vocabulary};
use crate::error::{Error, Result};
use std::io::Write;
use std::path::Path;

const HEADER: &str = "Source\tTarget";

/// Reads a file in the official layout, with or without parentheses in the sources. A sequence is cut at `l_max - 1` tokens, and `<eos>`
/// appended (Long Range Arena).
///
/// # Errors
/// `Config` where `l_max` is below 2, `Value` where there is no such file, `Io` where it cannot be read, and `Data` where the header is
/// missing or no row that can be read follows it. Of a row, as `faults` says, `Data` with line and column: it is not UTF-8, has not exactly
/// two columns, an empty source, an unknown token, or a target that is not one digit.
pub fn read(path: impl AsRef<Path>, l_max: usize, faults: &Faults) -> Result<Dataset> {
    let path = path.as_ref();
    if l_max < 2 {
        return Err(Error::config("l_max", l_max, "must be at least 2: a token and <eos>"));
    }
    if !folder::is_file(path) {
        let help = "give the path of an official file, or make it with listops::ensure";
        return Err(folder::missing("listops::read", path, help));
    }
    let (mut blocks, mut block) = (Blocks::open(path)?, Vec::new());
    let mut set = Dataset::tokens(vocabulary(), super::CLASSES);
    let header = Line { path, number: 1, text: "" };
    if !blocks.next(&mut block, 0)? {
        return Err(header.missing_header());
    }
    Line { text: text_lines::line(path, 1, &block)?, ..header }.header()?;
    let mut number = 2;
    while blocks.next(&mut block, BLOCK)? {
        // All rows in parallel; where one is wrong, one by one, so that the error names its line.
        let parts = match parse_at_once(&block, path, l_max - 1) {
            Ok(parts) => parts,
            Err(_) => vec![parse(&block, path, number, l_max - 1, faults)?],
        };
        for Rows { lines, ids, ends, labels } in parts {
            number += lines;
            let starts = [0].into_iter().chain(ends.iter().copied());
            starts.zip(&ends).zip(&labels).try_for_each(|((start, &end), &label)| set.push_tokens(&ids[start..end], label))?;
        }
    }
    match set.is_empty() {
        true if number == 2 => Err(Line { number, ..header }.error(0, "the file has no row: it was cut, or never filled")),
        true => Err(header.error(0, format!("none of {} rows can be read: {WANTED}", number - 2))),
        false => Ok(set),
    }
}

/// Bytes that are read before their rows are shared between threads.
const BLOCK: u64 = 1 << 24;

/// Rows end to end.
#[derive(Default)]
struct Rows {
    /// How many lines were read, those that are no rows among them.
    lines: usize,
    ids: Vec<u8>,
    ends: Vec<usize>,
    labels: Vec<usize>,
}

/// The rows of whole lines, the first of which has this number.
fn parse(lines: &[u8], path: &Path, first: usize, limit: usize, faults: &Faults) -> Result<Rows> {
    let (mut rows, mut sequence) = (Rows::default(), Vec::new());
    for bytes in lines.split_inclusive(|&byte| byte == b'\n') {
        let number = first + rows.lines;
        rows.lines += 1;
        let row = text_lines::line(path, number, bytes).and_then(|text| Line { path, number, text }.row(limit, &mut sequence));
        match row {
            Ok(label) => {
                rows.ids.extend_from_slice(&sequence);
                rows.ends.push(rows.ids.len());
                rows.labels.push(label);
            }
            Err(error) => faults.meet(error)?,
        }
    }
    Ok(rows)
}

/// The same on all threads, in order; line numbers in errors mean nothing.
#[cfg(feature = "parallel")]
fn parse_at_once(lines: &[u8], path: &Path, limit: usize) -> Result<Vec<Rows>> {
    use rayon::prelude::*;
    let size = lines.len().div_ceil(rayon::current_num_threads());
    let mut parts = Vec::new();
    let mut rest = lines;
    while !rest.is_empty() {
        let at = size.min(rest.len());
        let end = rest[at..].iter().position(|&byte| byte == b'\n').map_or(rest.len(), |newline| at + newline + 1);
        let (part, behind) = rest.split_at(end);
        parts.push(part);
        rest = behind;
    }
    parts.into_par_iter().map(|part| parse(part, path, 2, limit, &Faults::refused())).collect()
}

#[cfg(not(feature = "parallel"))]
fn parse_at_once(lines: &[u8], path: &Path, limit: usize) -> Result<Vec<Rows>> {
    Ok(vec![parse(lines, path, 2, limit, &Faults::refused())?])
}

/// A line of a file, for errors that name the place.
#[derive(Clone, Copy)]
struct Line<'a> {
    path: &'a Path,
    /// From 1.
    number: usize,
    /// Without the line end.
    text: &'a str,
}

impl<'a> Line<'a> {
    /// The error `help` at the byte `at`, which must be a character boundary.
    fn error(self, at: usize, help: impl Into<String>) -> Error {
        Error::data(self.path, self.number, self.text.get(..at).unwrap_or_default().chars().count() + 1, help)
    }

    fn missing_header(self) -> Error {
        self.error(0, "the header is missing: the first line must be Source, a tab, and Target")
    }

    fn header(self) -> Result<()> {
        if self.text == HEADER { Ok(()) } else { Err(self.missing_header()) }
    }

    /// Puts the source, cut at `limit` tokens, and `<eos>` into `sequence`; returns the target.
    fn row(self, limit: usize, sequence: &mut Vec<u8>) -> Result<usize> {
        let (source, target) = self.columns()?;
        split(source, sequence).map_err(|(at, word)| {
            let shown: String = word.chars().take(20).collect();
            self.error(at, format!("unknown token {shown:?}: {WANTED}"))
        })?;
        if sequence.is_empty() {
            return Err(self.error(0, format!("the source is empty: {WANTED}")));
        }
        sequence.truncate(limit);
        sequence.push(Vocabulary::EOS);
        match target.as_bytes() {
            [digit @ b'0'..=b'9'] => Ok(usize::from(digit - b'0')),
            _ => {
                let shown: String = target.chars().take(20).collect();
                Err(self.error(source.len() + 1, format!("the target is {shown:?}: it must be one digit, 0 to 9")))
            }
        }
    }

    /// The two columns.
    fn columns(self) -> Result<(&'a str, &'a str)> {
        let wanted = "a row is a source, a tab, and a target";
        let Some((source, target)) = self.text.split_once('\t') else {
            return Err(self.error(self.text.len(), format!("there is one column, not two: {wanted}")));
        };
        match target.find('\t') {
            None => Ok((source, target)),
            Some(tab) => Err(self.error(source.len() + 1 + tab, format!("there are more than two columns: {wanted}"))),
        }
    }
}

/// Writes the header and the next `count` expressions of `generator` to `out`, which is the file `path`; returns how many bytes that are.
pub(super) fn write(out: &mut dyn Write, path: &Path, generator: &mut Generator, count: usize, parentheses: bool) -> Result<u64> {
    let (mut line, mut arguments, mut length) = (format!("{HEADER}\n"), Vec::new(), 0);
    for row in 0..=count {
        if row > 0 {
            let (tokens, target) = generator.sample()?;
            line.clear();
            if parentheses {
                count_arguments(tokens, &mut arguments);
                nested(tokens, &arguments, &mut line);
            } else {
                plain(tokens, &mut line);
            }
            line.push('\t');
            line.push(char::from(b'0' + target));
            line.push('\n');
        }
        out.write_all(line.as_bytes()).map_err(|source| Error::io("write", path, source))?;
        length += line.len() as u64;
    }
    Ok(length)
}

/// The tokens with blanks between them.
fn plain(tokens: &[u8], line: &mut String) {
    for (at, &token) in tokens.iter().enumerate() {
        line.push_str(if at == 0 { "" } else { " " });
        line.push_str(spelling(token));
    }
}

/// The tokens as the official generator writes them. There an expression is a binary tree that leans to the left: the operator is
/// paired with the first argument, that pair with the second, and so on, the last with `]`; and each pair stands in parentheses.
fn nested(tokens: &[u8], arguments: &[usize], line: &mut String) {
    let mut depth = 0usize;
    for (at, &token) in tokens.iter().enumerate() {
        line.push_str(if at == 0 { "" } else { " " });
        if (OPERATOR..CLOSE).contains(&token) {
            (0..=arguments[at]).for_each(|_| line.push_str("( "));
            line.push_str(spelling(token));
            depth += 1;
            continue;
        }
        line.push_str(spelling(token));
        if token == CLOSE {
            line.push_str(" )");
            depth -= 1;
        }
        // A whole argument ends here, and with it a pair.
        line.push_str(if depth > 0 { " )" } else { "" });
    }
}

/// The number of arguments of each operator of `tokens`, at the operator's place; 0 at the others.
fn count_arguments(tokens: &[u8], arguments: &mut Vec<usize>) {
    arguments.clear();
    arguments.resize(tokens.len(), 0);
    let mut open: Vec<usize> = Vec::new();
    for (at, &token) in tokens.iter().enumerate() {
        if token == CLOSE {
            open.pop();
        } else {
            if let Some(&parent) = open.last() {
                arguments[parent] += 1;
            }
            if token >= OPERATOR {
                open.push(at);
            }
        }
    }
}
