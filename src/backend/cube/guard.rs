//! Makes a failure in CUDA's runtime the error of the next read.
//!
//! CubeCL's server for CUDA panics when memory runs out. Its thread catches the panic and goes on: the kernels that needed the memory do
//! not run, and a read returns whatever the memory held before. [`Guarded`] puts a [`Guard`] in front of that server.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cubecl::MemoryUsage;
use cubecl::backtrace::BackTrace;
use cubecl::bytes::Bytes;
use cubecl::client::ComputeClient;
use cubecl::device::{DeviceId, DeviceService, ServerUtilitiesHandle};
use cubecl::future::DynFut;
use cubecl::ir::TargetProperties;
use cubecl::prelude::{CubeCount, ExecutionMode, Runtime};
use cubecl::profile::ProfileDuration;
use cubecl::server::{
    Binding, ComputeServer, CopyDescriptor, KernelArguments, ProfileError, ProfilingToken, ServerCommunication, ServerError,
    ServerUtilities,
};
use cubecl::stream_id::StreamId;
use cubecl::zspace::{Shape, Strides};
use cubecl_runtime::allocator::PitchedMemoryLayoutPolicy;
use cubecl_runtime::logging::ServerLogger;
use cubecl_runtime::memory_management::{ManagedMemoryHandle, MemoryAllocationMode};
use cubecl_runtime::storage::{ComputeStorage, ManagedResource};

/// The runtime `R`, CUDA's or one like it, with a `Guard` in front of its server.
#[derive(Clone, Debug)]
pub struct Guarded<R>(PhantomData<R>);

/// A server as CUDA's is.
pub trait Guardable: ComputeServer<Info = (), MemoryLayoutPolicy = PitchedMemoryLayoutPolicy> {}

impl<S: ComputeServer<Info = (), MemoryLayoutPolicy = PitchedMemoryLayoutPolicy>> Guardable for S {}

impl<R: Runtime<Server: Guardable>> Runtime for Guarded<R> {
    type Compiler = R::Compiler;
    type Server = Guard<R::Server>;
    type Device = R::Device;

    fn client(device: &R::Device) -> ComputeClient<Self> {
        ComputeClient::load(device)
    }

    fn name(_: &ComputeClient<Self>) -> &'static str {
        "cuda"
    }

    fn require_array_lengths() -> bool {
        R::require_array_lengths()
    }

    fn max_cube_count() -> (u32, u32, u32) {
        R::max_cube_count()
    }

    fn can_read_tensor(shape: &Shape, strides: &Strides) -> bool {
        R::can_read_tensor(shape, strides)
    }

    fn target_properties() -> TargetProperties {
        R::target_properties()
    }

    fn enumerate_devices(type_id: u16, info: &()) -> Vec<DeviceId> {
        R::enumerate_devices(type_id, info)
    }
}

/// Hands everything on to the server `S`, and keeps the first failure until a caller waits for the device.
#[derive(Debug)]
pub struct Guard<S: Guardable> {
    server: S,
    utilities: Arc<ServerUtilities<Self>>,
    /// The first failure since the last wait: later ones follow from it.
    failure: Option<ServerError>,
}

impl<S: Guardable> Guard<S> {
    /// Runs `task` on the server. A panic is kept as the failure of `what`.
    fn attempt<T>(&mut self, what: impl FnOnce() -> String, task: impl FnOnce(&mut S) -> T) -> Option<T> {
        // AssertUnwindSafe: the server's own thread goes on after a panic, too.
        let panic = match catch_unwind(AssertUnwindSafe(|| task(&mut self.server))) {
            Ok(done) => return Some(done),
            Err(panic) => panic,
        };
        let reason = format!("{} ({})", what(), first_line(panic.as_ref()));
        self.failure.get_or_insert(ServerError::Generic { reason, backtrace: BackTrace::capture() });
        None
    }

    /// The same for a task that waits for its result: it gets the error of an earlier task, or its own.
    fn wait<T>(&mut self, what: &str, task: impl FnOnce(&mut S) -> Result<T, ServerError>) -> Result<T, ServerError> {
        let done = self.attempt(|| format!("{what} failed"), task);
        match (self.failure.take(), done) {
            (Some(failure), _) => Err(failure),
            (None, Some(done)) => done,
            (None, None) => Err(ServerError::Generic { reason: format!("{what} failed"), backtrace: BackTrace::capture() }),
        }
    }
}

/// What a panic says.
fn first_line(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.and_then(|text| text.lines().next()).unwrap_or("no reason is given")
}

impl<S: Guardable> DeviceService for Guard<S> {
    fn init(id: DeviceId) -> Self {
        let server = S::init(id);
        let properties = ComputeServer::utilities(&server).properties.clone();
        let policy = PitchedMemoryLayoutPolicy::new(properties.memory.alignment as usize);
        let utilities = Arc::new(ServerUtilities::new(properties, server.logger(), (), policy));
        Guard { server, utilities, failure: None }
    }

    fn utilities(&self) -> ServerUtilitiesHandle {
        self.utilities.clone()
    }
}

impl<S: Guardable> ServerCommunication for Guard<S> {
    // Between devices, which this crate does not join.
    const SERVER_COMM_ENABLED: bool = false;
}

impl<S: Guardable> ComputeServer for Guard<S> {
    type Kernel = S::Kernel;
    type Info = ();
    type MemoryLayoutPolicy = PitchedMemoryLayoutPolicy;
    type Storage = S::Storage;

    fn initialize_memory(&mut self, memory: ManagedMemoryHandle, size: u64, stream: StreamId) {
        let what = || format!("{size} bytes of memory were not to be had: give a smaller batch");
        self.attempt(what, |server| server.initialize_memory(memory, size, stream));
    }

    #[allow(unsafe_code, reason = "the trait's method is unsafe: who calls it promises that the kernel stays within its bindings")]
    unsafe fn launch(&mut self, kernel: S::Kernel, count: CubeCount, bindings: KernelArguments, mode: ExecutionMode, stream: StreamId) {
        let what = || "a kernel was not launched".to_string();
        // SAFETY: the caller's promise is handed on.
        self.attempt(what, |server| unsafe { server.launch(kernel, count, bindings, mode, stream) });
    }

    fn write(&mut self, to: Vec<(CopyDescriptor, Bytes)>, stream: StreamId) {
        self.attempt(|| "an upload failed".to_string(), |server| server.write(to, stream));
    }

    fn read(&mut self, from: Vec<CopyDescriptor>, stream: StreamId) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        self.wait("a read", |server| Ok(server.read(from, stream))).unwrap_or_else(|error| Box::pin(async { Err(error) }))
    }

    fn sync(&mut self, stream: StreamId) -> DynFut<Result<(), ServerError>> {
        self.wait("a wait", |server| Ok(server.sync(stream))).unwrap_or_else(|error| Box::pin(async { Err(error) }))
    }

    fn flush(&mut self, stream: StreamId) -> Result<(), ServerError> {
        self.wait("a flush", |server| server.flush(stream))
    }

    fn staging(&mut self, sizes: &[usize], stream: StreamId) -> Result<Vec<Bytes>, ServerError> {
        self.server.staging(sizes, stream)
    }

    fn logger(&self) -> Arc<ServerLogger> {
        self.server.logger()
    }

    fn utilities(&self) -> Arc<ServerUtilities<Self>> {
        self.utilities.clone()
    }

    fn get_resource(
        &mut self,
        binding: Binding,
        stream: StreamId,
    ) -> Result<ManagedResource<<S::Storage as ComputeStorage>::Resource>, ServerError> {
        self.server.get_resource(binding, stream)
    }

    fn memory_usage(&mut self, stream: StreamId) -> Result<MemoryUsage, ServerError> {
        self.server.memory_usage(stream)
    }

    fn memory_cleanup(&mut self, stream: StreamId) {
        self.server.memory_cleanup(stream);
    }

    fn start_profile(&mut self, stream: StreamId) -> Result<ProfilingToken, ServerError> {
        self.server.start_profile(stream)
    }

    fn end_profile(&mut self, stream: StreamId, token: ProfilingToken) -> Result<ProfileDuration, ProfileError> {
        self.server.end_profile(stream, token)
    }

    fn allocation_mode(&mut self, mode: MemoryAllocationMode, stream: StreamId) {
        self.server.allocation_mode(mode, stream);
    }
}
