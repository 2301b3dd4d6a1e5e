//! Rows of a table in a text file: fields between commas, semicolons or tabs, in quotation marks where they hold one of these.

use crate::data::text_lines;
use crate::error::{Error, Result};
use std::borrow::Cow;
use std::path::Path;

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row<'a> {
    /// In which it begins, from 1.
    pub line: usize,
    pub fields: Vec<Cow<'a, str>>,
}

/// The rows of a text that are not blank. Fields lose the blanks around them, unless they stand in quotation marks; rows with tabs between
/// their fields have no quotation marks.
///
/// # Errors
/// `Data` where a quotation mark is not closed, or something follows it; where the text ends its lines as [`text_lines::lines`] refuses.
pub(super) fn rows<'a>(path: &Path, text: &'a str) -> Result<Vec<Row<'a>>> {
    drop(text_lines::lines(path, text)?);
    let delimiter = delimiter(text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default());
    let (mut rows, mut rest, mut line) = (Vec::new(), text, 1);
    while !rest.is_empty() {
        let taken = row(path, rest, line, delimiter)?;
        if !taken.fields.iter().all(|field| field.is_empty()) || taken.fields.len() > 1 {
            rows.push(Row { line, fields: taken.fields });
        }
        line += rest[..taken.length].matches('\n').count();
        rest = &rest[taken.length..];
    }
    Ok(rows)
}

/// What stands between fields: whichever comes most often in the first row.
fn delimiter(first: &str) -> char {
    let count = |delimiter: char| first.matches(delimiter).count();
    // Of equally frequent ones the last.
    [',', ';', '\t'].into_iter().max_by_key(|&delimiter| count(delimiter)).filter(|&delimiter| count(delimiter) > 0).unwrap_or(',')
}

/// A row and how many bytes it takes, its end among them.
struct Taken<'a> {
    fields: Vec<Cow<'a, str>>,
    length: usize,
}

fn row<'a>(path: &Path, text: &'a str, line: usize, delimiter: char) -> Result<Taken<'a>> {
    let (mut fields, mut at) = (Vec::new(), 0);
    loop {
        let rest = &text[at..];
        let blanks = rest.len() - rest.trim_start_matches([' ']).len();
        let quoted = delimiter != '\t' && rest[blanks..].starts_with('"');
        let (field, length) = if quoted {
            quoted_field(&rest[blanks + 1..], delimiter).map(|(field, length)| (field, blanks + 1 + length)).map_err(|help| {
                let column = text[..at].rsplit('\n').next().unwrap_or_default().chars().count() + 1;
                Error::data(path, line + text[..at].matches('\n').count(), column, help)
            })?
        } else {
            let length = rest.find([delimiter, '\n']).unwrap_or(rest.len());
            (Cow::Borrowed(rest[..length].trim()), length)
        };
        fields.push(field);
        at += length;
        match text[at..].chars().next() {
            Some('\n') => return Ok(Taken { fields, length: at + 1 }),
            None => return Ok(Taken { fields, length: at }),
            Some(_) => at += delimiter.len_utf8(),
        }
    }
}

/// A field behind its first quotation mark, and how many bytes it takes up to what ends it.
fn quoted_field(rest: &str, delimiter: char) -> Result<(Cow<'_, str>, usize), String> {
    let mut end = 0;
    loop {
        let Some(mark) = rest[end..].find('"') else {
            return Err("this quotation mark is not closed: close it, or write \"\" for one in a text".into());
        };
        end += mark + 1;
        match rest[end..].strip_prefix('"') {
            // Two stand for one.
            Some(_) => end += 1,
            None => break,
        }
    }
    let behind = rest[end..].find([delimiter, '\n']).map_or(rest.len(), |at| end + at);
    if !rest[end..behind].trim().is_empty() {
        return Err("something follows the closing quotation mark: write \"\" for one in a text".into());
    }
    let inner = &rest[..end - 1];
    let field = if inner.contains('"') { Cow::Owned(inner.replace("\"\"", "\"")) } else { Cow::Borrowed(inner) };
    Ok((field, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Vec<(usize, Vec<String>)> {
        let rows = rows(Path::new("t.csv"), text).unwrap();
        rows.into_iter().map(|row| (row.line, row.fields.into_iter().map(Cow::into_owned).collect())).collect()
    }

    fn row(line: usize, fields: &[&str]) -> (usize, Vec<String>) {
        (line, fields.iter().map(|field| field.to_string()).collect())
    }

    #[test]
    fn fields_are_told_apart() {
        assert_eq!(fields("a, b ,c\r\n1,,3\n\n 4;5,6,7"), [row(1, &["a", "b", "c"]), row(2, &["1", "", "3"]), row(4, &["4;5", "6", "7"])]);
        assert_eq!(fields("a;1,5;2"), [row(1, &["a", "1,5", "2"])]);
        assert_eq!(fields("a\t\"b\t2\n"), [row(1, &["a", "\"b", "2"])]);
        assert_eq!(fields("only\n\n\n"), [row(1, &["only"])]);
        assert_eq!(fields(""), []);
    }

    #[test]
    fn quotation_marks_keep_a_field_together() {
        let text = "x,\"a, \"\"b\"\"\nc\" \r\ny,\"\"\nz,d";
        assert_eq!(fields(text), [row(1, &["x", "a, \"b\"\nc"]), row(3, &["y", ""]), row(4, &["z", "d"])]);
    }

    #[test]
    fn what_is_not_closed_is_refused_where_it_opens() {
        for (text, line, column) in [("a,b\nc,\"d", 2, 3), ("\"a\" b,c", 1, 1), ("x,\"1\n2\",\"3", 2, 4)] {
            match rows(Path::new("t.csv"), text) {
                Err(Error::Data { line: found, column: at, .. }) => assert_eq!((found, at), (line, column), "{text}"),
                other => panic!("{other:?}"),
            }
        }
        assert!(rows(Path::new("t.csv"), "a,b\rc,d").unwrap_err().to_string().contains("CR alone"));
    }
}
