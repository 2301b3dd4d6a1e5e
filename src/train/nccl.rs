//! Nccl: processes that know each other by another communicator, their gradients exchanged from GPU to GPU.
//!
//! What is exchanged and summed goes through device memory; messages, which are short, stay with the other communicator. Once the link has
//! failed every meeting is an error: those who still wait at the link would not come.

use std::sync::Arc;

use super::communicator::{Communicator, Exchange, check_count};
use super::device_link::{self, DeviceLink, Transfer};
use super::process_group::{ProcessGroup, Reduce};
use crate::error::Result;

/// The processes of `known`, each with a device.
pub(super) struct Nccl {
    known: Arc<dyn Communicator>,
    link: Arc<DeviceLink>,
}

impl Nccl {
    /// Links the processes of `known`, all of which call this; `device` is this one's, where it is named.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) where a library or a device is missing, or NCCL cannot link them.
    pub fn over(known: Arc<dyn Communicator>, device: Option<usize>) -> Result<Self> {
        let group = ProcessGroup::new(known.clone(), Reduce::Fixed);
        let stream = group.agree(device_link::stream(device, known.local_rank()))?;
        let id = group.first_says(device_link::id)?;
        let link = Arc::new(DeviceLink::open(stream, known.rank(), known.size(), &id)?);
        Ok(Nccl { known, link })
    }

    /// Gives the link up, whoever still holds this. What has come here may still be on its way to others: they have theirs once all are here.
    pub fn end(&self) {
        let _ = self.all_gather(Vec::new());
        self.link.give_up();
    }
}

impl std::fmt::Debug for Nccl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, by NCCL", self.known)
    }
}

impl Communicator for Nccl {
    fn rank(&self) -> usize {
        self.known.rank()
    }

    fn size(&self) -> usize {
        self.known.size()
    }

    fn local_rank(&self) -> usize {
        self.known.local_rank()
    }

    fn local_size(&self) -> usize {
        self.known.local_size()
    }

    fn all_gather(&self, message: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        self.link.check()?;
        self.known.all_gather(message)
    }

    fn begin_exchange(&self, mut messages: Vec<Vec<u8>>, lengths: &[usize]) -> Result<Box<dyn Exchange>> {
        check_count(&messages, lengths, self.size())?;
        let rank = self.rank();
        // What a process sends itself goes nowhere.
        let (own, mut lengths) = (std::mem::take(&mut messages[rank]), lengths.to_vec());
        lengths[rank] = 0;
        Ok(Box::new(UnderWay { transfer: self.link.exchange(&messages, &lengths)?, rank, own }))
    }

    fn sum_f32(&self, values: &mut [f32]) -> Result<()> {
        self.link.sum(values)
    }

    fn sum_f64(&self, values: &mut [f64]) -> Result<()> {
        self.link.sum(values)
    }
}

/// Messages between this process and all others.
struct UnderWay {
    transfer: Transfer,
    rank: usize,
    own: Vec<u8>,
}

impl std::fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("messages under way from device to device")
    }
}

impl Exchange for UnderWay {
    fn has_arrived(&mut self) -> Result<bool> {
        self.transfer.has_arrived()
    }

    fn wait(self: Box<Self>) -> Result<Vec<Vec<u8>>> {
        let mut received = self.transfer.wait()?;
        received[self.rank] = self.own;
        Ok(received)
    }
}
