//! What a fetch tells whoever watches it: progress bars are theirs.

use std::cell::Cell;
use std::io::{Read, Result};

/// Something that happens in a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A line for someone to read.
    Line(&'a str),
    /// A piece of work on bytes begins.
    Begin {
        /// What is done to which file.
        what: &'a str,
        /// Bytes that were done by an earlier run.
        done: u64,
        /// Bytes of all, where this is known.
        total: Option<u64>,
    },
    /// So many of its bytes are done.
    Done(u64),
    /// It has ended, well or not.
    End,
}

/// Someone who is told.
pub type Watch<'a> = &'a dyn Fn(Event<'_>);

/// A piece of work from its beginning to its end, which comes on errors too.
pub(super) struct Stage<'a> {
    watch: Watch<'a>,
    done: Cell<u64>,
}

impl<'a> Stage<'a> {
    /// Begins work on `total` bytes, of which `done` are done. `what` says what is done to which file.
    pub fn begin(watch: Watch<'a>, what: &str, done: u64, total: Option<u64>) -> Self {
        watch(Event::Begin { what, done, total });
        Stage { watch, done: Cell::new(done) }
    }

    /// So many bytes more are done.
    pub fn add(&self, bytes: u64) {
        self.done.set(self.done.get() + bytes);
        (self.watch)(Event::Done(self.done.get()));
    }

    /// A reader whose bytes are done when they are read.
    pub fn read<R: Read>(&self, inner: R) -> Watched<'_, R> {
        Watched { inner, stage: self }
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        (self.watch)(Event::End);
    }
}

/// A reader of a [`Stage`].
pub(super) struct Watched<'a, R> {
    inner: R,
    stage: &'a Stage<'a>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.inner.read(buffer)?;
        self.stage.add(count as u64);
        Ok(count)
    }
}
