//! Synchronised: micro-batches that are computed at the same time, so that a BatchNorm in all of them sees the whole batch.
//!
//! Each micro-batch has a thread. Where its pass comes to a BatchNorm it lays down its part of the sums; once those of all micro-batches are
//! there, on all processes, everyone adds them up in the order of the micro-batches. So it is forwards, and so it is backwards.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::process_group::ProcessGroup;
use crate::backend::{Backend, Real, Tensor};
use crate::error::{Error, Result};
use crate::nn::Parts;

/// What a process says first: that its micro-batches are in the middle of a pass, that they are done, that it has none.
const AMIDST: u64 = 0;
const DONE: u64 = 1;
const IDLE: u64 = 2;

/// What is said where the fault is another micro-batch's.
const ABANDONED: &str = "micro-batch";

/// Whether an error only says that another micro-batch has failed.
pub(super) fn is_secondary(error: &Error) -> bool {
    matches!(error, Error::Value { op: ABANDONED, .. })
}

/// Where the micro-batches of this process meet, and those of the others.
#[derive(Debug)]
pub(super) struct Meeting {
    group: ProcessGroup,
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    /// What each micro-batch of this process has laid down.
    laid: Vec<Option<Vec<u64>>>,
    /// What those of all processes have, in their order, and how many of this one have yet to take it.
    found: Arc<Vec<Vec<u64>>>,
    takers: usize,
    /// Whether one has left before its end.
    left: bool,
    /// Whether all processes know that something has failed.
    told: bool,
}

impl Meeting {
    /// Of so many micro-batches of this process.
    pub fn new(group: &ProcessGroup, own: usize) -> Self {
        let table = Table { laid: vec![None; own], ..Table::default() };
        Meeting { group: group.clone(), table: Mutex::new(table), changed: Condvar::new() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&'a self, table: MutexGuard<'a, Table>, waiting: impl FnMut(&mut Table) -> bool) -> MutexGuard<'a, Table> {
        self.changed.wait_while(table, waiting).unwrap_or_else(PoisonError::into_inner)
    }

    /// What all micro-batches have laid down, in their order; `row` is that of the one at `place` among this process's.
    fn meet(&self, place: usize, row: Vec<u64>) -> Result<Arc<Vec<Vec<u64>>>> {
        let abandoned = || Error::value(ABANDONED, "another micro-batch has failed");
        let mut table = self.wait(self.table(), |table| table.takers > 0);
        if table.left {
            return Err(abandoned());
        }
        table.laid[place] = Some(row);
        if table.laid.iter().all(Option::is_some) {
            let rows: Vec<Vec<u64>> = table.laid.iter_mut().filter_map(Option::take).collect();
            match self.gather(&rows) {
                Ok(found) => (table.found, table.takers) = (Arc::new(found), rows.len()),
                Err(error) => {
                    (table.left, table.told) = (true, true);
                    self.changed.notify_all();
                    return Err(error);
                }
            }
            self.changed.notify_all();
        }
        table = self.wait(table, |table| table.takers == 0 && !table.left);
        if table.takers == 0 {
            return Err(abandoned());
        }
        table.takers -= 1;
        self.changed.notify_all();
        Ok(table.found.clone())
    }

    /// The rows of all processes.
    fn gather(&self, rows: &[Vec<u64>]) -> Result<Vec<Vec<u64>>> {
        let width = rows.first().map_or(0, Vec::len);
        let words = [AMIDST, width as u64].into_iter().chain(rows.iter().flatten().copied()).collect();
        let mut all = Vec::new();
        let all_words = self.group.gather(Ok(words))?;
        together(&all_words)?;
        for words in all_words {
            match words.split_first_chunk::<2>() {
                Some(([AMIDST, there], rows)) if *there == width as u64 && rows.len().is_multiple_of(width.max(1)) => {
                    all.extend(rows.chunks(width.max(1)).map(<[u64]>::to_vec));
                }
                Some(([IDLE, _], _)) => {}
                _ => return Err(different()),
            }
        }
        Ok(all)
    }

    /// Waits for the micro-batches of all processes; `error` is what has failed in this one.
    ///
    /// # Errors
    /// That error, or another process's: on all processes the same.
    pub fn end(&self, error: Option<Error>) -> Result<()> {
        let (told, own) = {
            let table = self.table();
            (table.told, table.laid.len())
        };
        match error {
            Some(error) if told || self.group.is_alone() => return Err(error),
            Some(error) => return self.group.gather(Err(error)).map(drop),
            None => {}
        }
        loop {
            let state = if own == 0 { IDLE } else { DONE };
            if !together(&self.group.gather(Ok(vec![state, 0]))?)? {
                return Ok(());
            }
        }
    }
}

/// Whether the processes are in the middle of a pass. Those that have micro-batches all are, or none is.
fn together(all: &[Vec<u64>]) -> Result<bool> {
    let any = |state: u64| all.iter().any(|words| words.first() == Some(&state));
    if any(AMIDST) && any(DONE) { Err(different()) } else { Ok(any(AMIDST)) }
}

fn different() -> Error {
    Error::value("Synchronised", "the micro-batches of a batch go through different BatchNorms")
}

/// One micro-batch in a meeting. Once it is dropped nobody waits for it.
#[derive(Debug)]
pub(super) struct Part {
    meeting: Arc<Meeting>,
    place: usize,
}

impl Part {
    /// The micro-batch at this place among the process's.
    pub fn new(meeting: &Arc<Meeting>, place: usize) -> Self {
        Part { meeting: meeting.clone(), place }
    }

    /// Tells the others that this one goes no further.
    pub fn leave(&self) {
        self.meeting.table().left = true;
        self.meeting.changed.notify_all();
    }
}

impl<B: Backend> Parts<B> for Part {
    fn sum(&self, backend: &B, own: &Tensor<B>) -> Result<Tensor<B>> {
        let row = backend.to_vec(own)?.into_iter().map(|value| value.f64().to_bits()).collect();
        let all = self.meeting.meet(self.place, row)?;
        let mut rows = all.iter().map(|row| row.iter().map(|&bits| B::Elem::of(f64::from_bits(bits))));
        let mut sum: Vec<B::Elem> = rows.next().map(Iterator::collect).unwrap_or_default();
        rows.for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value));
        backend.from_vec(sum, own.shape())
    }

    fn total(&self, own: f64) -> Result<f64> {
        let all = self.meeting.meet(self.place, vec![own.to_bits()])?;
        Ok(all.iter().flatten().map(|&bits| f64::from_bits(bits)).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Cpu, Transfer};

    #[test]
    fn everyone_gets_the_sum_and_who_fails_ends_the_wait() {
        let cpu = Cpu::<f64>::new();
        let meeting = Arc::new(Meeting::new(&ProcessGroup::default(), 3));
        let sums: Vec<f64> = std::thread::scope(|scope| {
            let parts = (0..3).map(|place| {
                let (meeting, cpu) = (&meeting, &cpu);
                scope.spawn(move || {
                    let part = Part::new(meeting, place);
                    let own = cpu.full(&[1], 0.1 * place as f64).unwrap();
                    assert_eq!(Parts::<Cpu<f64>>::total(&part, 2.0).unwrap(), 6.0);
                    cpu.to_vec(&part.sum(cpu, &own).unwrap()).unwrap()[0]
                })
            });
            parts.collect::<Vec<_>>().into_iter().map(|part| part.join().unwrap()).collect()
        });
        assert_eq!(sums, [0.0 + 0.1 + 0.2; 3]);
        meeting.end(None).unwrap();

        let meeting = Arc::new(Meeting::new(&ProcessGroup::default(), 2));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Parts::<Cpu<f64>>::total(&Part::new(&meeting, 0), 1.0));
            Part::new(&meeting, 1).leave();
            assert!(is_secondary(&waiting.join().unwrap().unwrap_err()));
        });
        assert!(meeting.end(Some(Error::value("x", "y"))).is_err());
    }
}
