//! Communicator: how the processes of a run reach each other; one process alone, and threads that each stand for a process.

use std::fmt::Debug;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// The processes of a run, numbered from 0, each of which holds its own end. Every method but the first three is a meeting: it returns once
/// all processes have called it, and all must call the same ones in the same order.
///
/// # Errors
/// Every meeting answers [`Error::Value`] where a process is gone, or was asked something else.
pub trait Communicator: Send + Sync + Debug {
    /// The number of this process.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn size(&self) -> usize;

    /// How many of them share this machine's processors, each with threads of its own.
    fn local_size(&self) -> usize {
        1
    }

    /// Everyone's message, in the order of the processes. Messages may have any lengths.
    ///
    /// # Errors
    /// As the trait says.
    fn all_gather(&self, message: Vec<u8>) -> Result<Vec<Vec<u8>>>;

    /// Message k goes to process k; what every process has sent to this one, in their order.
    ///
    /// # Errors
    /// As the trait says; where there are not as many messages as processes.
    fn exchange(&self, messages: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>>;

    /// Replaces `values`, of which every process has as many, by their sums over the processes, made in whatever order is fastest; every
    /// process gets the same bits.
    ///
    /// # Errors
    /// As the trait says.
    fn sum_f32(&self, values: &mut [f32]) -> Result<()>;

    /// The same in f64.
    ///
    /// # Errors
    /// As the trait says.
    fn sum_f64(&self, values: &mut [f64]) -> Result<()>;
}

/// One process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Communicator for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_gather(&self, message: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        Ok(vec![message])
    }

    fn exchange(&self, messages: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
        check_count(messages.len(), 1)?;
        Ok(messages)
    }

    fn sum_f32(&self, _: &mut [f32]) -> Result<()> {
        Ok(())
    }

    fn sum_f64(&self, _: &mut [f64]) -> Result<()> {
        Ok(())
    }
}

/// Threads of one process in the place of processes, each of which holds one of these and a trainer of its own: to try out what a run on
/// many processes computes, or to train on several devices of one machine.
///
/// ```
/// use pspikessm::train::{Communicator, Threads};
///
/// let sums: Vec<f32> = std::thread::scope(|scope| {
///     let ranks: Vec<_> = Threads::new(3)
///         .into_iter()
///         .map(|own| {
///             scope.spawn(move || {
///                 let mut value = [own.rank() as f32];
///                 own.sum_f32(&mut value).map(|()| value[0])
///             })
///         })
///         .collect();
///     ranks.into_iter().map(|rank| rank.join().expect("no panic")).collect::<pspikessm::Result<_>>()
/// })?;
/// assert_eq!(sums, [3.0; 3]);
/// # Ok::<(), pspikessm::Error>(())
/// ```
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    size: usize,
    meeting: Arc<Meeting>,
}

#[derive(Debug, Default)]
struct Meeting {
    table: Mutex<Table>,
    changed: Condvar,
}

/// What lies between those who meet. They first all lay down their messages, then all take those that are for them.
#[derive(Debug, Default)]
struct Table {
    /// Row r holds what process r has sent.
    laid: Vec<Option<Vec<Vec<u8>>>>,
    /// How many have yet to take theirs; 0 while messages are laid down.
    takers: usize,
    /// Whether somebody has left for good.
    left: bool,
}

impl Threads {
    /// The ends of `size` threads, in the order of their numbers; none of 0.
    pub fn new(size: usize) -> Vec<Threads> {
        let meeting = Arc::new(Meeting::default());
        meeting.table().laid.resize(size, None);
        (0..size).map(|rank| Threads { rank, size, meeting: meeting.clone() }).collect()
    }

    /// The values of everyone, summed in the order of the processes.
    fn sum<T: Copy + std::ops::AddAssign, const WIDTH: usize>(
        &self,
        values: &mut [T],
        bytes: fn(T) -> [u8; WIDTH],
        value: fn([u8; WIDTH]) -> T,
    ) -> Result<()> {
        let all = self.all_gather(values.iter().flat_map(|&value| bytes(value)).collect())?;
        if all.iter().any(|message| message.len() != values.len() * WIDTH) {
            return Err(Error::value("Threads", "the processes sum different numbers of values"));
        }
        for (rank, message) in all.iter().enumerate() {
            for (sum, &bytes) in values.iter_mut().zip(message.as_chunks::<WIDTH>().0) {
                if rank == 0 { *sum = value(bytes) } else { *sum += value(bytes) }
            }
        }
        Ok(())
    }
}

impl Meeting {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `waiting` says so.
    fn wait<'a>(&'a self, table: MutexGuard<'a, Table>, waiting: impl FnMut(&mut Table) -> bool) -> MutexGuard<'a, Table> {
        self.changed.wait_while(table, waiting).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Communicator for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_gather(&self, message: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        self.exchange(vec![message; self.size])
    }

    fn exchange(&self, messages: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
        check_count(messages.len(), self.size)?;
        let gone = || Error::value("Threads", "a process of this run has ended before the others");
        let mut table = self.meeting.wait(self.meeting.table(), |table| table.takers > 0);
        if table.left {
            return Err(gone());
        }
        table.laid[self.rank] = Some(messages);
        if table.laid.iter().all(Option::is_some) {
            table.takers = self.size;
            self.meeting.changed.notify_all();
        }
        table = self.meeting.wait(table, |table| table.takers == 0 && !table.left);
        if table.takers == 0 {
            return Err(gone());
        }
        let rank = self.rank;
        let mine = table.laid.iter_mut().map(|row| row.as_mut().and_then(|row| row.get_mut(rank)).map(std::mem::take).ok_or_else(gone));
        let mine = mine.collect::<Result<_>>()?;
        table.takers -= 1;
        if table.takers == 0 {
            table.laid.fill(None);
            self.meeting.changed.notify_all();
        }
        Ok(mine)
    }

    fn sum_f32(&self, values: &mut [f32]) -> Result<()> {
        self.sum(values, f32::to_le_bytes, f32::from_le_bytes)
    }

    fn sum_f64(&self, values: &mut [f64]) -> Result<()> {
        self.sum(values, f64::to_le_bytes, f64::from_le_bytes)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.meeting.table().left = true;
        self.meeting.changed.notify_all();
    }
}

fn check_count(messages: usize, processes: usize) -> Result<()> {
    if messages == processes {
        return Ok(());
    }
    Err(Error::value("Communicator", format!("{messages} messages for {processes} processes: give one for each")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn together<T: Send>(size: usize, work: impl Fn(Threads) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let ranks: Vec<_> = Threads::new(size).into_iter().map(|own| scope.spawn(|| work(own))).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn every_message_arrives_where_it_is_meant_to_round_after_round() {
        for size in 1..6 {
            together(size, |own| {
                for round in 0..50u8 {
                    // Of different lengths, empty ones among them.
                    let message = |from: usize, to: usize| vec![round; (from * 7 + to * 3 + usize::from(round)) % 5];
                    let got = own.exchange((0..size).map(|to| message(own.rank(), to)).collect()).unwrap();
                    assert_eq!(got, (0..size).map(|from| message(from, own.rank())).collect::<Vec<_>>());
                    let all = own.all_gather(vec![own.rank() as u8, round]).unwrap();
                    assert_eq!(all, (0..size).map(|rank| vec![rank as u8, round]).collect::<Vec<_>>());
                }
            });
        }
    }

    #[test]
    fn sums_are_the_same_everywhere() {
        let sums = together(4, |own| {
            let mut values = [0.1 * own.rank() as f64, 1.0];
            own.sum_f64(&mut values).unwrap();
            values
        });
        assert_eq!(sums, [[0.0 + 0.1 + 0.2 + 0.1 * 3.0, 4.0]; 4]);
    }

    #[test]
    fn who_leaves_early_is_an_error_for_the_others_and_not_a_wait() {
        let ends = together(3, |own| {
            own.all_gather(Vec::new()).unwrap();
            if own.rank() == 1 { Ok(Vec::new()) } else { own.all_gather(Vec::new()) }
        });
        assert!(ends[0].is_err() && ends[2].is_err());
        assert!(Alone.exchange(Vec::new()).is_err() && Threads::new(2)[0].exchange(vec![Vec::new()]).is_err());
    }
}
