//! Communicator: how the processes of a run reach each other; one process alone, and threads that each stand for a process.

use std::fmt::Debug;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// The processes of a run, numbered from 0, each of which holds its own end. Every method but the first four is a meeting: all processes
/// must call the same ones in the same order, and it returns once all have called it. Only an exchange returns before, and is a meeting until
/// it was waited for: the next one comes after that.
///
/// # Errors
/// Every meeting answers [`Error::Value`] where a process is gone, or was asked something else.
pub trait Communicator: Send + Sync + Debug {
    /// The number of this process.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn size(&self) -> usize;

    /// The number of this process among those of its machine.
    fn local_rank(&self) -> usize {
        0
    }

    /// How many of them share this machine's processors, each with threads of its own.
    fn local_size(&self) -> usize {
        1
    }

    /// Everyone's message, in the order of the processes. Messages may have any lengths.
    ///
    /// # Errors
    /// As the trait says.
    fn all_gather(&self, message: Vec<u8>) -> Result<Vec<Vec<u8>>>;

    /// Begins to send message k to process k, while process k sends one of `lengths[k]` bytes to this one.
    ///
    /// # Errors
    /// As the trait says; where there are not as many messages, or lengths, as processes.
    fn begin_exchange(&self, messages: Vec<Vec<u8>>, lengths: &[usize]) -> Result<Box<dyn Exchange>>;

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

/// Messages that are under way between all processes.
pub trait Exchange: Debug {
    /// Whether all of this process's have come and gone. It does not wait, and may be what moves them on: ask often.
    ///
    /// # Errors
    /// As those of a [`Communicator`].
    fn has_arrived(&mut self) -> Result<bool>;

    /// What every process has sent to this one, in their order, once it is there.
    ///
    /// # Errors
    /// As those of a [`Communicator`]; where a message has another length than was said.
    fn wait(self: Box<Self>) -> Result<Vec<Vec<u8>>>;
}

/// One process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

/// The message of one process to itself.
#[derive(Debug)]
struct Own(Vec<Vec<u8>>);

impl Exchange for Own {
    fn has_arrived(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn wait(self: Box<Self>) -> Result<Vec<Vec<u8>>> {
        Ok(self.0)
    }
}

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

    fn begin_exchange(&self, messages: Vec<Vec<u8>>, lengths: &[usize]) -> Result<Box<dyn Exchange>> {
        check_count(&messages, lengths, 1)?;
        Ok(Box::new(Own(messages)))
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

    fn under_way(&self, messages: Vec<Vec<u8>>, lengths: Option<Vec<usize>>) -> UnderWay {
        UnderWay { rank: self.rank, meeting: self.meeting.clone(), messages: Some(messages), lengths, taken: None }
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

    /// Waits until something has changed.
    fn wait<'a>(&'a self, table: MutexGuard<'a, Table>) -> MutexGuard<'a, Table> {
        self.changed.wait(table).unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one thread has begun.
#[derive(Debug)]
struct UnderWay {
    rank: usize,
    meeting: Arc<Meeting>,
    /// Its messages, until it can lay them down, and how long those are to be that come, where that is known.
    messages: Option<Vec<Vec<u8>>>,
    lengths: Option<Vec<usize>>,
    /// What has come, once it has.
    taken: Option<Vec<Vec<u8>>>,
}

impl UnderWay {
    /// Lays down and takes what it can; whether all is done.
    fn advance(&mut self, table: &mut Table) -> Result<bool> {
        let gone = || Error::value("Threads", "a process of this run has ended before the others");
        if self.taken.is_some() {
            return Ok(true);
        }
        if table.takers == 0 && table.left {
            return Err(gone());
        }
        if table.takers == 0
            && let Some(messages) = self.messages.take()
        {
            table.laid[self.rank] = Some(messages);
            if table.laid.iter().all(Option::is_some) {
                table.takers = table.laid.len();
                self.meeting.changed.notify_all();
            }
        }
        if self.messages.is_some() || table.takers == 0 {
            return Ok(false);
        }
        let mine =
            table.laid.iter_mut().map(|row| row.as_mut().and_then(|row| row.get_mut(self.rank)).map(std::mem::take).ok_or_else(gone));
        let mine = mine.collect::<Result<Vec<_>>>()?;
        if self.lengths.as_ref().is_some_and(|lengths| !mine.iter().map(Vec::len).eq(lengths.iter().copied())) {
            return Err(Error::value("Threads", "a message has another length than was said"));
        }
        self.taken = Some(mine);
        table.takers -= 1;
        if table.takers == 0 {
            table.laid.fill(None);
            self.meeting.changed.notify_all();
        }
        Ok(true)
    }
}

impl Exchange for UnderWay {
    fn has_arrived(&mut self) -> Result<bool> {
        let meeting = self.meeting.clone();
        self.advance(&mut meeting.table())
    }

    fn wait(mut self: Box<Self>) -> Result<Vec<Vec<u8>>> {
        let meeting = self.meeting.clone();
        let mut table = meeting.table();
        while !self.advance(&mut table)? {
            table = meeting.wait(table);
        }
        Ok(self.taken.unwrap_or_default())
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
        Box::new(self.under_way(vec![message; self.size], None)).wait()
    }

    fn begin_exchange(&self, messages: Vec<Vec<u8>>, lengths: &[usize]) -> Result<Box<dyn Exchange>> {
        check_count(&messages, lengths, self.size)?;
        let mut begun = self.under_way(messages, Some(lengths.into()));
        begun.has_arrived()?;
        Ok(Box::new(begun))
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

/// Refuses an exchange that has not one message and one length for each process.
pub(super) fn check_count(messages: &[Vec<u8>], lengths: &[usize], processes: usize) -> Result<()> {
    if [messages.len(), lengths.len()] == [processes; 2] {
        return Ok(());
    }
    let (messages, lengths) = (messages.len(), lengths.len());
    Err(Error::value("Communicator", format!("{messages} messages and {lengths} lengths for {processes} processes: give one for each")))
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
                    let want: Vec<_> = (0..size).map(|from| message(from, own.rank())).collect();
                    let lengths: Vec<_> = want.iter().map(Vec::len).collect();
                    let mut exchange = own.begin_exchange((0..size).map(|to| message(own.rank(), to)).collect(), &lengths).unwrap();
                    // One waits, another asks.
                    while (usize::from(round) + own.rank()) % 2 == 0 && !exchange.has_arrived().unwrap() {
                        std::thread::yield_now();
                    }
                    assert_eq!(exchange.wait().unwrap(), want);
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
        let two = Threads::new(2);
        assert!(Alone.begin_exchange(Vec::new(), &[0]).is_err() && two[0].begin_exchange(vec![Vec::new(); 2], &[0]).is_err());
        let mut waits = two[0].begin_exchange(vec![Vec::new(); 2], &[0; 2]).unwrap();
        assert!(!waits.has_arrived().unwrap());
        drop(two);
        assert!(waits.has_arrived().is_err() && waits.wait().is_err());
    }
}
