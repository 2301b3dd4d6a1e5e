//! A reader that ends with an error after so many bytes, or when it is stopped.

use std::cell::Cell;
use std::io::{Error, Read, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// What a [`Metered`] reader has read and may read.
pub(super) struct Meter<'a> {
    stop: &'a AtomicBool,
    total: u64,
    read: Cell<u64>,
    until: Cell<u64>,
    exceeded: Cell<bool>,
}

impl<'a> Meter<'a> {
    /// For a stream that may have `total` bytes.
    pub fn new(stop: &'a AtomicBool, total: u64) -> Self {
        Meter { stop, total, read: Cell::new(0), until: Cell::new(total), exceeded: Cell::new(false) }
    }

    /// From here on `bytes` more may be read, but never more than the total.
    pub fn allow(&self, bytes: u64) {
        self.until.set(self.total.min(self.read.get().saturating_add(bytes)));
    }

    /// What was exceeded, if something was.
    pub fn exceeded(&self) -> Option<String> {
        self.exceeded.get().then(|| match self.until.get() {
            until if until == self.total => format!("it is longer than {} bytes unpacked, which is the limit", self.total),
            _ => "the head of the next entry is too long".into(),
        })
    }
}

/// A reader with a [`Meter`].
pub(super) struct Metered<'a, R> {
    /// What is read.
    pub inner: R,
    /// What counts it.
    pub meter: &'a Meter<'a>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let meter = self.meter;
        if meter.stop.load(Ordering::Relaxed) {
            return Err(Error::other("stopped"));
        }
        let count = self.inner.read(buffer)?;
        meter.read.set(meter.read.get() + count as u64);
        if meter.read.get() > meter.until.get() {
            meter.exceeded.set(true);
            return Err(Error::other("too long"));
        }
        Ok(count)
    }
}
