//! Mpi: the processes that mpirun or srun has started, reached through MPI.

use std::mem::ManuallyDrop;
use std::time::Duration;

use ferrompi::{Mpi, MpiDatatype, PersistentRequest, ReduceOp, ThreadLevel};

use super::communicator::{Communicator, Exchange, check_count};
use crate::error::{Error, Result};

/// How long the others get to notice a failure before they are ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is written on the messages of an exchange: one is under way at a time.
const TAG: i32 = 0;

/// All processes that were started together.
pub(super) struct World {
    world: ferrompi::Communicator,
    rank: usize,
    size: usize,
    local_rank: usize,
    local_size: usize,
}

/// MPI, while it is in use. A process that ends in a panic does not wait for the others: the launcher then ends them.
pub(super) struct Session(ManuallyDrop<Mpi>);

/// Starts MPI.
///
/// # Errors
/// [`Error::Device`] where it cannot be started, or not so that one thread at a time may use it.
pub(super) fn join() -> Result<(World, Session)> {
    let session = Session(ManuallyDrop::new(Mpi::init_thread(ThreadLevel::Serialized).map_err(failed)?));
    if session.0.thread_level() < ThreadLevel::Serialized {
        return Err(Error::Device { method: "MPI", help: "this MPI lets only the first thread use it: take a build with threads".into() });
    }
    let world = session.0.world();
    let local = world.split_shared().map_err(failed)?;
    let (local_rank, local_size) = (local.rank() as usize, local.size() as usize);
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    Ok((World { world, rank, size, local_rank, local_size }, session))
}

impl Session {
    /// Ends the use of MPI, once all processes do.
    pub fn end(self) {
        drop(ManuallyDrop::into_inner(self.0));
    }
}

/// After a failure that some processes have not noticed the end of MPI would wait for them for ever: with this the launcher finds that this
/// one has ended, and ends them.
pub(super) fn end_soon() {
    std::thread::spawn(|| {
        std::thread::sleep(PATIENCE);
        std::process::exit(1);
    });
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} of {}", self.rank, self.size)
    }
}

impl World {
    /// Everyone's number, in the order of the processes.
    fn lengths(&self, own: usize) -> Result<Vec<i32>> {
        let own = i32::try_from(own).map_err(|_| too_long())?;
        let mut all = vec![0; self.size];
        self.world.allgather(&[own], &mut all).map_err(failed)?;
        Ok(all)
    }

    fn sum<T: MpiDatatype>(&self, values: &mut [T]) -> Result<()> {
        self.world.allreduce_inplace(values, ReduceOp::Sum).map_err(failed)
    }
}

impl Communicator for World {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn local_rank(&self) -> usize {
        self.local_rank
    }

    fn local_size(&self) -> usize {
        self.local_size
    }

    fn all_gather(&self, message: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        let lengths = self.lengths(message.len())?;
        let (places, all) = places(&lengths)?;
        let mut received = vec![0; all];
        self.world.allgatherv(&message, &mut received, &lengths, &places).map_err(failed)?;
        Ok(cut(&received, &lengths))
    }

    fn begin_exchange(&self, mut messages: Vec<Vec<u8>>, lengths: &[usize]) -> Result<Box<dyn Exchange>> {
        check_count(&messages, lengths, self.size)?;
        let mut received = vec![Vec::new(); self.size];
        received[self.rank] = std::mem::take(&mut messages[self.rank]);
        // Not everyone begins with the same one.
        let others = || (1..self.size).map(|step| (self.rank + step) % self.size);
        let mut requests = Vec::with_capacity(2 * self.size);
        for from in others() {
            requests.push((Some(from), self.world.recv_init(vec![0; lengths[from]], number(from)?, TAG).map_err(failed)?));
        }
        for to in others() {
            let message = std::mem::take(&mut messages[to]);
            requests.push((None, self.world.send_init(message, number(to)?, TAG).map_err(failed)?));
        }
        requests.iter_mut().try_for_each(|(_, request)| request.start()).map_err(failed)?;
        Ok(Box::new(UnderWay { requests, received }))
    }

    fn sum_f32(&self, values: &mut [f32]) -> Result<()> {
        self.sum(values)
    }

    fn sum_f64(&self, values: &mut [f64]) -> Result<()> {
        self.sum(values)
    }
}

/// Messages between this process and all others. The requests have their memory, and need no one's to outlive them.
struct UnderWay {
    /// What is not done yet, with who is to send it.
    requests: Vec<(Option<usize>, PersistentRequest<u8>)>,
    received: Vec<Vec<u8>>,
}

impl std::fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} messages under way", self.requests.len())
    }
}

impl UnderWay {
    /// The last request is done.
    fn finish_last(&mut self) -> Result<()> {
        if let Some((from, request)) = self.requests.pop() {
            let message = request.into_buffer().map_err(failed)?;
            if let Some(from) = from {
                self.received[from] = message;
            }
        }
        Ok(())
    }
}

impl Exchange for UnderWay {
    fn has_arrived(&mut self) -> Result<bool> {
        // To ask for one moves all on.
        while let Some((_, request)) = self.requests.last_mut() {
            if request.test().map_err(failed)?.is_none() {
                return Ok(false);
            }
            self.finish_last()?;
        }
        Ok(true)
    }

    fn wait(mut self: Box<Self>) -> Result<Vec<Vec<u8>>> {
        while !self.requests.is_empty() {
            self.finish_last()?;
        }
        Ok(self.received)
    }
}

fn number(rank: usize) -> Result<i32> {
    i32::try_from(rank).map_err(|_| Error::value("MPI", format!("{rank} is no number of a process")))
}

/// Where messages of these lengths begin, one behind the other, and where the last one ends.
fn places(lengths: &[i32]) -> Result<(Vec<i32>, usize)> {
    let mut end = 0i32;
    let mut place = |&length: &i32| {
        let start = end;
        end = end.checked_add(length).ok_or_else(too_long)?;
        Ok(start)
    };
    let places = lengths.iter().map(&mut place).collect::<Result<_>>()?;
    Ok((places, end as usize))
}

fn cut(received: &[u8], lengths: &[i32]) -> Vec<Vec<u8>> {
    let mut rest = received;
    let mut next = |&length: &i32| {
        let (own, behind) = rest.split_at(length as usize);
        rest = behind;
        own.to_vec()
    };
    lengths.iter().map(&mut next).collect()
}

fn too_long() -> Error {
    Error::value("MPI", "the processes have more than 2 GiB to tell each other at once, and MPI counts no further")
}

fn failed(error: ferrompi::Error) -> Error {
    Error::value("MPI", format!("the processes no longer reach each other, or MPI is not set up: {error}"))
}
