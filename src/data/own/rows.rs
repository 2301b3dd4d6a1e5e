//! What a file of many samples holds: series or texts, and what its header says of their labels.

use super::sample::Sample;
use super::series::Series;

/// What a file of samples holds.
#[derive(Debug)]
pub(super) struct Table {
    pub rows: Rows,
    /// The classes that a header names.
    pub declared: Vec<String>,
    /// Whether a header says that the labels are numbers to find.
    pub numbers: bool,
}

#[derive(Debug)]
pub(super) enum Rows {
    Series(Vec<Sample<Series>>),
    Texts(Vec<Sample<String>>),
}

impl Table {
    pub fn of(rows: Rows) -> Self {
        Table { rows, declared: Vec::new(), numbers: false }
    }

    pub fn of_series(rows: Vec<Sample<Series>>) -> Self {
        Table::of(Rows::Series(rows))
    }
}
