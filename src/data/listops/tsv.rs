//! The official TSV files of ListOps: two columns, Source and Target.

use super::super::{Dataset, Vocabulary};
use super::generate::Generator;
use super::tokens::{CLOSE, OPERATOR, WANTED, spelling, split, vocabulary};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::Path;

const HEADER: &str = "Source\tTarget";

/// Reads a file in the official layout, with or without parentheses in the sources, line ends LF or CRLF. A sequence is cut at
/// `l_max - 1` tokens, and `<eos>` appended (Long Range Arena).
///
/// # Errors
/// `Config` where `l_max` is below 2, `Value` where there is no such file, `Io` where it cannot be read, and `Data` with line and column
/// where the header is missing, no row follows it, or a row is not UTF-8, has not exactly two columns, an empty source, an unknown token,
/// or a target that is not one digit.
pub fn read(path: impl AsRef<Path>, l_max: usize) -> Result<Dataset> {
    let path = path.as_ref();
    if l_max < 2 {
        return Err(Error::config("l_max", l_max, "must be at least 2: a token and <eos>"));
    }
    let mut file = open(path)?;
    let mut set = Dataset::tokens(vocabulary(), super::CLASSES);
    let mut block = Vec::new();
    let header = Line { path, number: 1, text: "" };
    if fill(&mut file, &mut block, path, 0)? == 0 {
        return Err(header.missing_header());
    }
    header.utf8(&block)?.header()?;
    let mut number = 2;
    while fill(&mut file, &mut block, path, BLOCK)? > 0 {
        // All rows in parallel; where one is wrong, one by one, so that the error names its line.
        match parse_at_once(&block, path, l_max - 1) {
            Ok(parts) => {
                for Rows { ids, ends, labels } in parts {
                    number += labels.len();
                    let starts = [0].into_iter().chain(ends.iter().copied());
                    starts.zip(&ends).zip(&labels).try_for_each(|((start, &end), &label)| set.push_tokens(&ids[start..end], label))?;
                }
            }
            Err(_) => parse(&block, path, number, l_max - 1).map(drop)?,
        }
    }
    if set.is_empty() {
        return Err(Line { number, ..header }.error(0, "the file has no row: it was cut, or never filled"));
    }
    Ok(set)
}

/// Bytes that are read before their rows are shared between threads.
const BLOCK: u64 = 1 << 24;

/// At least `least` bytes, where there are as many, and the rest of the last line; returns how many there are.
fn fill(file: &mut BufReader<File>, block: &mut Vec<u8>, path: &Path, least: u64) -> Result<usize> {
    block.clear();
    let read = file.take(least).read_to_end(block).and_then(|_| file.read_until(b'\n', block));
    read.map_err(|source| Error::io("read", path, source))?;
    Ok(block.len())
}

/// Rows end to end.
#[derive(Default)]
struct Rows {
    ids: Vec<u8>,
    ends: Vec<usize>,
    labels: Vec<usize>,
}

/// The rows of whole lines, the first of which has this number.
fn parse(mut lines: &[u8], path: &Path, first: usize, limit: usize) -> Result<Rows> {
    let (mut rows, mut bytes, mut sequence) = (Rows::default(), Vec::new(), Vec::new());
    for number in first.. {
        bytes.clear();
        let count = lines.read_until(b'\n', &mut bytes).map_err(|source| Error::io("read", path, source))?;
        if count == 0 {
            break;
        }
        let label = Line { path, number, text: "" }.utf8(&bytes)?.row(limit, &mut sequence)?;
        rows.ids.extend_from_slice(&sequence);
        rows.ends.push(rows.ids.len());
        rows.labels.push(label);
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
    parts.into_par_iter().map(|part| parse(part, path, 0, limit)).collect()
}

#[cfg(not(feature = "parallel"))]
fn parse_at_once(lines: &[u8], path: &Path, limit: usize) -> Result<Vec<Rows>> {
    Ok(vec![parse(lines, path, 0, limit)?])
}

fn open(path: &Path) -> Result<BufReader<File>> {
    match File::open(path) {
        Ok(file) => Ok(BufReader::with_capacity(1 << 18, file)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let help = "give the path of an official file, or make it with listops::ensure";
            Err(Error::value("listops::read", format!("there is no file {}: {help}", path.display())))
        }
        Err(error) => Err(Error::io("open", path, error)),
    }
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

    /// The line with the text of `bytes`.
    fn utf8(self, bytes: &'a [u8]) -> Result<Self> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        std::str::from_utf8(bytes).map(|text| Line { text, ..self }).map_err(|error| {
            let valid = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
            Line { text: valid, ..self }.error(valid.len(), "this is not UTF-8 text: is this the right file, unpacked?")
        })
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

/// Writes the header and the next `count` expressions of `generator` to `out`, which is the file `path`.
pub(super) fn write(out: &mut dyn Write, path: &Path, generator: &mut Generator, count: usize, parentheses: bool) -> Result<()> {
    let (mut line, mut arguments) = (String::from(HEADER), Vec::new());
    line.push('\n');
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
    }
    Ok(())
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
