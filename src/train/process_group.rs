//! ProcessGroup: what the processes of a run agree on: errors, numbers, and who does what.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::communicator::{Alone, Communicator, Exchange};
use crate::error::{Error, Result};

listed! {
    /// How the processes of a run sum their gradients.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum Reduce {
        /// In an order that the micro-batches alone give: the same bits on any number of processes.
        #[default]
        Fixed,
        /// In whatever order the communicator is fastest at: another rounding for every number of processes.
        Fast,
    }
}

/// The processes of a run. Every method with a `Result` is a meeting: all must call it.
#[derive(Clone, Debug)]
pub(super) struct ProcessGroup {
    communicator: Arc<dyn Communicator>,
    pub reduce: Reduce,
    /// Bytes that this process has sent to others.
    sent: Arc<AtomicU64>,
}

impl Default for ProcessGroup {
    fn default() -> Self {
        Self::new(Arc::new(Alone), Reduce::Fixed)
    }
}

impl ProcessGroup {
    pub fn new(communicator: Arc<dyn Communicator>, reduce: Reduce) -> Self {
        ProcessGroup { communicator, reduce, sent: Arc::default() }
    }

    pub fn rank(&self) -> usize {
        self.communicator.rank()
    }

    pub fn size(&self) -> usize {
        self.communicator.size()
    }

    pub fn is_alone(&self) -> bool {
        self.size() == 1
    }

    /// Whether this is the process that writes and prints.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Bytes that this process has sent to others so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Which of `count` things in a row are this process's.
    pub fn own(&self, count: usize) -> Range<usize> {
        self.of(self.rank(), count)
    }

    /// Which of `count` things in a row are the process `rank`'s: neighbours, and as many as everyone's but for one. The first process has the
    /// first of them, which it may have to tell of.
    pub fn of(&self, rank: usize, count: usize) -> Range<usize> {
        let bound = |rank: usize| (rank as u128 * count as u128).div_ceil(self.size() as u128) as usize;
        bound(rank)..bound(rank + 1)
    }

    /// Everyone's words in the order of the processes; where some have failed, the error of the first of these, everywhere.
    pub fn gather(&self, own: Result<Vec<u64>>) -> Result<Vec<Vec<u64>>> {
        if self.is_alone() {
            return own.map(|words| vec![words]);
        }
        let message = match &own {
            Ok(words) => std::iter::once(OK).chain(words.iter().flat_map(|word| word.to_le_bytes())).collect(),
            Err(error) => encode(error),
        };
        self.count(message.len() * (self.size() - 1));
        let all = self.communicator.all_gather(message)?;
        match all.iter().position(|message| message.first() != Some(&OK)) {
            Some(rank) if rank == self.rank() => own.map(|words| vec![words]),
            Some(rank) => Err(decode(&all[rank], rank)),
            None => Ok(all.iter().map(|message| words(&message[1..])).collect()),
        }
    }

    /// What came of this process's work, where all others' came to something too.
    pub fn agree<T>(&self, own: Result<T>) -> Result<T> {
        let (value, told) = match own {
            Ok(value) => (Some(value), Ok(Vec::new())),
            Err(error) => (None, Err(error)),
        };
        self.gather(told)?;
        value.ok_or_else(|| Error::value("ProcessGroup", "an error got lost"))
    }

    /// Whether any process says so.
    pub fn any(&self, own: bool) -> Result<bool> {
        Ok(self.gather(Ok(vec![u64::from(own)]))?.concat().contains(&1))
    }

    /// What the first process has; `own` is called there alone.
    pub fn first_says(&self, own: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
        let own = if self.is_first() { own() } else { Ok(Vec::new()) };
        if self.is_alone() {
            return own;
        }
        let own = self.agree(own)?;
        self.count(own.len() * (self.size() - 1));
        Ok(self.communicator.all_gather(own)?.swap_remove(0))
    }

    /// As [`Communicator::begin_exchange`].
    pub fn begin_exchange(&self, messages: Vec<Vec<u8>>, lengths: &[usize]) -> Result<Box<dyn Exchange>> {
        let to_others = |(rank, message): (usize, &Vec<u8>)| if rank == self.rank() { 0 } else { message.len() };
        self.count(messages.iter().enumerate().map(to_others).sum());
        self.communicator.begin_exchange(messages, lengths)
    }

    /// As [`Communicator::sum_f32`]. What is counted is what a ring sends, whatever the communicator does.
    pub fn sum_f32(&self, values: &mut [f32]) -> Result<()> {
        self.count(2 * size_of_val(values) * (self.size() - 1) / self.size());
        self.communicator.sum_f32(values)
    }

    /// The same in f64.
    pub fn sum_f64(&self, values: &mut [f64]) -> Result<()> {
        self.count(2 * size_of_val(values) * (self.size() - 1) / self.size());
        self.communicator.sum_f64(values)
    }

    fn count(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// What a message begins with: words follow, or else an error.
const OK: u8 = 0;
const FAILED: u8 = 1;
/// An error after which the state is not worth keeping, with the step and the offender; and one of a device.
const NOT_FINITE: u8 = 2;
const DEVICE: u8 = 3;
/// A file that only one process writes; its own error tells where.
const FILE: u8 = 4;

fn words(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks::<8>().0.iter().map(|&bytes| u64::from_le_bytes(bytes)).collect()
}

fn encode(error: &Error) -> Vec<u8> {
    let text = |kind: u8, text: &str| std::iter::once(kind).chain(text.bytes()).collect();
    match error {
        Error::NonFinite { what, step } => [&[NOT_FINITE][..], &step.to_le_bytes(), what.as_bytes()].concat(),
        Error::Device { help, .. } => text(DEVICE, help),
        Error::Io { path, source, .. } => text(FILE, &format!("{}\n{source}", path.display())),
        other => text(FAILED, &other.to_string()),
    }
}

/// What stands in the place of an op in an error of another process.
const ANOTHER: &str = "another process";

/// Whether an error has happened on another process, which tells of it too.
pub(super) fn is_anothers(error: &Error) -> bool {
    match error {
        Error::Value { op, .. } => *op == ANOTHER,
        Error::Device { method, .. } => *method == ANOTHER,
        Error::Io { action, .. } => *action == USE,
        _ => false,
    }
}

/// What another process has tried to do with a file.
const USE: &str = "use in another process";

/// The error of the process `rank`.
fn decode(message: &[u8], rank: usize) -> Error {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match message.split_first() {
        Some((&NOT_FINITE, rest)) => match rest.split_first_chunk() {
            Some((step, what)) => Error::NonFinite { what: text(what), step: u64::from_le_bytes(*step) },
            None => Error::value("ProcessGroup", format!("process {rank} has failed")),
        },
        Some((&DEVICE, help)) => Error::Device { method: ANOTHER, help: format!("process {rank}: {}", text(help)) },
        Some((&FILE, rest)) => {
            let (rest, source) = (text(rest), std::io::Error::other);
            let (path, why) = rest.split_once('\n').unwrap_or((&rest, "failed"));
            Error::io(USE, PathBuf::from(path), source(format!("process {rank}: {why}")))
        }
        Some((_, rest)) => Error::value(ANOTHER, format!("process {rank}: {}", text(rest))),
        None => Error::value(ANOTHER, format!("process {rank} sent nothing")),
    }
}
