//! DeviceLink: bytes from GPU to GPU by NCCL, whose calls are made safe here: what they read and write stays until the devices are done.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::{CudaContext, CudaEvent, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, DriverError};
use cudarc::nccl::result::{self, NcclError, NcclStatus};
use cudarc::nccl::{Id, NcclType, sys};

use crate::backend::device::absent;
use crate::error::{Error, Result};

/// Messages begin at multiples of this many bytes, which NCCL moves at once.
const ALIGNMENT: usize = 16;

/// A stream of its own on the device at `index`. Where none is named, on the one for the process `local_rank` of this machine: a process
/// that sees one device alone has that, whatever its number.
///
/// # Errors
/// [`Error::Device`] where CUDA's driver or NCCL is not there, or not such a device.
pub(super) fn stream(index: Option<usize>, local_rank: usize) -> Result<Arc<CudaStream>> {
    #[allow(unsafe_code, reason = "foreign libraries are opened")]
    // SAFETY: only CUDA's and NCCL's own libraries go by these names, and nothing but their start-up code runs.
    let (driver, nccl) = unsafe { (cudarc::driver::sys::is_culib_present(), sys::is_culib_present()) };
    // The calls below panic without them.
    if !driver {
        return Err(unusable("the driver (libcuda) is not installed: install NVIDIA's driver, or leave --transport nccl out"));
    }
    if !nccl {
        return Err(unusable(
            "NCCL (libnccl.so) is not found: install it, with a link of this name to libnccl.so.2 in a folder of LD_LIBRARY_PATH, or leave \
             --transport nccl out",
        ));
    }
    let failed = |error: DriverError| unusable(&format!("the driver answers {error}: is there an NVIDIA GPU?"));
    let count = CudaContext::device_count().map_err(failed)? as usize;
    match index.or_else(|| local_rank.checked_rem(count)) {
        Some(index) if index < count => CudaContext::new(index).and_then(|device| device.new_stream()).map_err(failed),
        index => Err(absent("cuda", index.unwrap_or(0), count)),
    }
}

/// What the first process makes, and all open their link with.
pub(super) fn id() -> Result<Vec<u8>> {
    Ok(Id::new().map_err(refused)?.internal().iter().map(|&byte| byte.cast_unsigned()).collect())
}

/// One process's end.
pub(super) struct DeviceLink {
    /// Nothing, once it is given up.
    handle: Mutex<Option<Handle>>,
    stream: Arc<CudaStream>,
}

struct Handle(sys::ncclComm_t);

#[allow(unsafe_code, reason = "a pointer that another library has made")]
// SAFETY: NCCL lets any thread use it, one at a time; it lies in a mutex.
unsafe impl Send for Handle {}

impl DeviceLink {
    /// Links the processes, all of which call this with the same `id`.
    ///
    /// # Errors
    /// [`Error::Device`] where NCCL cannot, for one because two processes have the same device.
    pub fn open(stream: Arc<CudaStream>, rank: usize, size: usize, id: &[u8]) -> Result<Self> {
        let id = <[u8; 128]>::try_from(id).map_err(|_| unusable("the first process has sent no id"))?;
        let (rank, size) = (number(rank)?, number(size)?);
        stream.context().bind_to_thread().map_err(broken)?;
        let mut handle = std::ptr::null_mut();
        let id = sys::ncclUniqueId { internal: id.map(|byte| byte as _) };
        #[allow(unsafe_code, reason = "a call of NCCL")]
        // SAFETY: the handle is written to a place of its own, and read only where the call has succeeded.
        unsafe { result::comm_init_rank(&mut handle, size, id, rank) }.map_err(refused)?;
        Ok(DeviceLink { handle: Mutex::new(Some(Handle(handle))), stream })
    }

    /// Begins to send message k to process k, while process k sends one of `lengths[k]` bytes to this one. Nothing is sent where there are none.
    ///
    /// # Errors
    /// [`Error::Value`] where the devices do not reach each other. Messages of another length than the other process awaits are not noticed.
    pub fn exchange(self: &Arc<Self>, messages: &[Vec<u8>], lengths: &[usize]) -> Result<Transfer> {
        let mut outgoing = Rows::new(&self.stream, messages.iter().map(Vec::len))?;
        let mut row = vec![0; outgoing.memory.len()];
        outgoing.places.iter().zip(messages).for_each(|(place, message)| row[place.clone()].copy_from_slice(message));
        self.stream.memcpy_htod(&row, &mut outgoing.memory).map_err(broken)?;
        let mut incoming = Rows::new(&self.stream, lengths.iter().copied())?;
        let queued = self.call(|handle| self.queue(handle, &outgoing, &mut incoming));
        let done = self.given_up_unless(queued.and_then(|()| self.stream.record_event(None).map_err(broken)))?;
        Ok(Transfer { link: self.clone(), _outgoing: outgoing, incoming, done, has_arrived: false })
    }

    /// Has the device send and receive, all at once.
    fn queue(&self, handle: &Handle, outgoing: &Rows, incoming: &mut Rows) -> Result<(), NcclError> {
        let (source, _read) = outgoing.memory.device_ptr(&self.stream);
        let (target, _written) = incoming.memory.device_ptr_mut(&self.stream);
        let stream = self.stream.cu_stream().cast();
        let one = |peer: usize| {
            let (sent, received) = (&outgoing.places[peer], &incoming.places[peer]);
            if !sent.is_empty() {
                let start = (source + sent.start as u64) as *const _;
                #[allow(unsafe_code, reason = "a call of NCCL")]
                // SAFETY: the place lies in the device memory that `Rows::new` has taken for all of them. That is freed on the same stream,
                // after what reads it.
                unsafe { result::send(start, sent.len(), sys::ncclDataType_t::ncclUint8, peer as i32, handle.0, stream) }?;
            }
            if !received.is_empty() {
                let start = (target + received.start as u64) as *mut _;
                #[allow(unsafe_code, reason = "a call of NCCL")]
                // SAFETY: as above; places do not overlap.
                unsafe { result::recv(start, received.len(), sys::ncclDataType_t::ncclUint8, peer as i32, handle.0, stream) }?;
            }
            Ok(())
        };
        result::group_start()?;
        let queued = (0..outgoing.places.len()).try_for_each(one);
        // What has begun a group ends it, whatever came of what is in it.
        queued.and(result::group_end().map(|_| ()))
    }

    /// Replaces `values`, of which every process has as many, by their sums over the processes.
    ///
    /// # Errors
    /// [`Error::Value`] where the devices do not reach each other.
    pub fn sum<T: NcclType + DeviceRepr>(&self, values: &mut [T]) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let mut memory = self.stream.clone_htod(values).map_err(broken)?;
        let summed = self.call(|handle| {
            let (start, _written) = memory.device_ptr_mut(&self.stream);
            let (start, stream) = (start as *mut _, self.stream.cu_stream().cast());
            #[allow(unsafe_code, reason = "a call of NCCL")]
            // SAFETY: the device memory holds as many values of this type, and is freed on the same stream, after what writes it.
            unsafe {
                result::all_reduce(start, start, values.len(), T::as_nccl_type(), sys::ncclRedOp_t::ncclSum, handle.0, stream)
            }
        });
        let done = self.given_up_unless(summed.and_then(|_| self.stream.record_event(None).map_err(broken)))?;
        self.wait(&done)?;
        self.stream.memcpy_dtoh(&memory, values).map_err(broken)
    }

    /// Refuses a link that was given up.
    ///
    /// # Errors
    /// [`Error::Value`] where it was.
    pub fn check(&self) -> Result<()> {
        self.handle().as_ref().map(|_| ()).ok_or_else(|| broken("they have failed before"))
    }

    /// Calls NCCL, which asks that the device is the thread's present one.
    fn call<T>(&self, call: impl FnOnce(&Handle) -> Result<T, NcclError>) -> Result<T> {
        let handle = self.handle();
        let handle = handle.as_ref().ok_or_else(|| broken("they have failed before"))?;
        self.stream.context().bind_to_thread().map_err(broken)?;
        call(handle).map_err(|error| broken(format!("{:?}", error.0)))
    }

    /// Whether the device is done with what came before this event. What has failed beside the computation is only told to who asks, and such
    /// an event may never come.
    fn is_done(&self, event: &CudaEvent) -> Result<bool> {
        let fine = self.call(|handle| {
            let mut state = sys::ncclResult_t::ncclSuccess;
            #[allow(unsafe_code, reason = "a call of NCCL")]
            // SAFETY: the state is written to a place of its own.
            unsafe { sys::ncclCommGetAsyncError(handle.0, &mut state) }.result()?;
            state.result()
        });
        self.given_up_unless(fine.and_then(|_: NcclStatus| event.try_is_complete().map_err(broken)))
    }

    fn wait(&self, event: &CudaEvent) -> Result<()> {
        while !self.is_done(event)? {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// After a failure the device is freed of what waits for the others.
    fn given_up_unless<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|_| self.give_up())
    }

    /// Ends what is under way, without the others.
    pub fn give_up(&self) {
        if let Some(handle) = self.handle().take() {
            let _ = self.stream.context().bind_to_thread();
            #[allow(unsafe_code, reason = "a call of NCCL")]
            // SAFETY: nobody has the handle after this.
            let _ = unsafe { result::comm_abort(handle.0) };
        }
    }

    fn handle(&self) -> MutexGuard<'_, Option<Handle>> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DeviceLink {
    /// NCCL's orderly way waits for the others, who may be gone.
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Messages that are under way between all devices.
pub(super) struct Transfer {
    link: Arc<DeviceLink>,
    _outgoing: Rows,
    incoming: Rows,
    done: CudaEvent,
    has_arrived: bool,
}

impl Transfer {
    /// Whether all have come and gone.
    ///
    /// # Errors
    /// [`Error::Value`] where the devices no longer reach each other.
    pub fn has_arrived(&mut self) -> Result<bool> {
        self.has_arrived = self.has_arrived || self.link.is_done(&self.done)?;
        Ok(self.has_arrived)
    }

    /// What every process has sent to this one, in their order, once it is there.
    ///
    /// # Errors
    /// As above.
    pub fn wait(mut self) -> Result<Vec<Vec<u8>>> {
        self.link.wait(&self.done)?;
        self.has_arrived = true;
        let row = self.link.stream.clone_dtoh(&self.incoming.memory).map_err(broken)?;
        Ok(self.incoming.places.iter().map(|place| row[place.clone()].to_vec()).collect())
    }
}

impl Drop for Transfer {
    /// Who does not wait has failed, and the device would wait for the others before it frees the memory.
    fn drop(&mut self) {
        if !self.has_arrived {
            self.link.give_up();
        }
    }
}

/// Device memory with a place for a message of each process.
struct Rows {
    memory: CudaSlice<u8>,
    places: Vec<Range<usize>>,
}

impl Rows {
    fn new(stream: &Arc<CudaStream>, lengths: impl Iterator<Item = usize>) -> Result<Self> {
        let mut end = 0usize;
        let place = |length| {
            let start = end.next_multiple_of(ALIGNMENT);
            end = start + length;
            start..end
        };
        let places = lengths.map(place).collect();
        // There is no device memory of no bytes.
        Ok(Rows { memory: stream.alloc_zeros(end.max(1)).map_err(broken)?, places })
    }
}

fn number(count: usize) -> Result<i32> {
    i32::try_from(count).map_err(|_| unusable("there are more processes than NCCL counts"))
}

fn unusable(help: &str) -> Error {
    Error::Device { method: "nccl", help: help.into() }
}

fn refused(error: NcclError) -> Error {
    unusable(&format!("the devices cannot be linked ({:?}): give each process a device of its own; NCCL_DEBUG=WARN says more", error.0))
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::value("NCCL", format!("the devices no longer reach each other: {error}; NCCL_DEBUG=WARN says more"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_library_is_missing_the_error_says_so() {
        // A machine that has both may have a device.
        if let Err(error) = stream(None, 0) {
            let error = error.to_string();
            assert!(["libcuda", "libnccl.so", "driver answers", "no device"].iter().any(|part| error.contains(part)), "{error}");
        }
    }
}
