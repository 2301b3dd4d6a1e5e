//! A CubeCL runtime without a device: it compiles every kernel that is launched to CUDA C++, keeps the source, counts what it is asked for, and
//! computes nothing.

use std::any::type_name;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cubecl::backtrace::BackTrace;
use cubecl::bytes::Bytes;
use cubecl::client::ComputeClient;
use cubecl::cuda::{CudaCompiler, CudaRuntime};
use cubecl::device::{Device, DeviceId, DeviceService, ServerUtilitiesHandle};
use cubecl::future::DynFut;
use cubecl::hash::{StableHash, StableHasher};
use cubecl::ir::{DeviceProperties, HardwareProperties, MemoryDeviceProperties, TargetProperties, VectorSize, features::Plane};
use cubecl::prelude::{CubeCount, ExecutionMode, KernelId, Runtime};
use cubecl::profile::{ProfileDuration, TimingMethod};
use cubecl::server::{
    Binding, ComputeServer, CopyDescriptor, IoError, KernelArguments, ProfileError, ProfilingToken, ServerCommunication, ServerError,
    ServerUtilities,
};
use cubecl::stream_id::StreamId;
use cubecl::zspace::{Shape, Strides};
use cubecl::{Compiler, CubeTask, MemoryUsage};
use cubecl_runtime::allocator::PitchedMemoryLayoutPolicy;
use cubecl_runtime::logging::ServerLogger;
use cubecl_runtime::memory_management::{ManagedMemoryHandle, MemoryAllocationMode};
use cubecl_runtime::storage::{ComputeStorage, ManagedResource, StorageHandle, StorageId};
use cubecl_runtime::timestamp_profiler::TimestampProfiler;
use cubecl_runtime::validation::{validate_cube_dim, validate_units};

/// A kernel as CUDA would get it.
pub struct Kernel {
    /// Of the device that it was compiled for.
    pub device: usize,
    /// The path of the function that it was written as, and more.
    pub name: &'static str,
    /// The units of a cube.
    pub units: u32,
    /// The bytes of its shared memory, which are asked for at the launch.
    pub shared: usize,
    /// What the CUDA runtime keeps it under on the disk.
    pub key: StableHash,
    /// The name of the function in the source.
    pub entry: String,
    /// The source, or why there is none.
    pub source: Result<String, String>,
}

static KERNELS: Mutex<Vec<Kernel>> = Mutex::new(Vec::new());

/// What was launched so far, each kernel once a device.
pub fn kernels() -> MutexGuard<'static, Vec<Kernel>> {
    KERNELS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a device was asked for.
#[derive(Default)]
pub struct Asked {
    /// The names of the kernels that were launched, in their order, and the bytes of all buffers that each was given.
    pub launches: Vec<(&'static str, u64)>,
    /// Transfers to the host, each of which waits for what was asked before.
    pub waits: usize,
    /// Transfers from the host.
    pub uploads: usize,
}

static ASKED: Mutex<Option<HashMap<usize, Asked>>> = Mutex::new(None);

fn note(device: usize, change: impl FnOnce(&mut Asked)) {
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    change(asked.get_or_insert_default().entry(device).or_default());
}

/// What a device was asked for since the last call, as far as it has come to it: whoever reads before has waited for all.
pub fn asked(device: usize) -> Asked {
    let mut taken = Asked::default();
    note(device, |asked| taken = std::mem::take(asked));
    taken
}

/// CUDA's compiler of kernels behind a device that is not there.
#[derive(Clone, Debug)]
pub struct DryCuda;

/// A device by its number: those from [`Dry::OLD`] on are the smallest that CUDA 13 serves, those before it an H200.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Dry(pub usize);

impl Dry {
    pub const OLD: usize = 100;
    /// Has as little as a device of wgpu may have.
    pub const SMALL: usize = 200;
    /// Has room for a megabyte at a time. For the rest it panics, as CUDA's server does.
    pub const FULL: usize = 50;

    /// As the CUDA runtime describes such a device, less tensor cores, atomics and pipelines, which this crate has no use for.
    fn properties(self) -> DeviceProperties {
        let (old, small) = (self.0 >= Dry::OLD, self.0 >= Dry::SMALL);
        let (bytes, shared, multiprocessors) = if old { (16 << 30, 64 << 10, 40) } else { (141 << 30, 227 << 10, 132) };
        let (shared, cubes, units) = if small { (32 << 10, 65_535, 256) } else { (shared, i32::MAX as u32, 1024) };
        let hardware = HardwareProperties {
            load_width: 128,
            plane_size_min: 32,
            plane_size_max: 32,
            max_bindings: 1024,
            max_shared_memory_size: shared,
            max_cube_count: (cubes, 65_535, 65_535),
            max_units_per_cube: units,
            max_cube_dim: (units, units, 64),
            num_streaming_multiprocessors: Some(multiprocessors),
            num_tensor_cores: Some(if old { 8 } else { 4 }),
            min_tensor_cores_dim: Some(8),
            num_cpu_cores: None,
            max_vector_size: VectorSize::MAX,
        };
        let memory = MemoryDeviceProperties { max_page_size: bytes / 4, alignment: 512 };
        let mut properties = DeviceProperties::new(Default::default(), memory, hardware, TimingMethod::System);
        cubecl_cpp::register_supported_types(&mut properties);
        properties.features.copy_async = !old;
        properties.features.memory_reinterpret = true;
        properties.features.alignment = true;
        for plane in [Plane::Ops, Plane::Sync, Plane::NonUniformControlFlow].into_iter().filter(|_| !small) {
            properties.features.plane.insert(plane);
        }
        properties
    }

    fn options(self) -> <CudaCompiler as Compiler>::CompilationOptions {
        let mut options = <CudaCompiler as Compiler>::CompilationOptions::default();
        let features = &mut options.supports_features;
        (features.fast_math, features.fast_tanh, features.grid_constants) = (true, true, true);
        (features.clusters, features.elect_sync) = (self.0 < Dry::OLD, self.0 < Dry::OLD);
        options
    }
}

impl Device for Dry {
    fn from_id(id: DeviceId) -> Self {
        Dry(id.index_id.into())
    }

    fn to_id(&self) -> DeviceId {
        DeviceId { type_id: 0, index_id: self.0 as u16 }
    }
}

impl Runtime for DryCuda {
    type Compiler = CudaCompiler;
    type Server = DryServer;
    type Device = Dry;

    fn client(device: &Dry) -> ComputeClient<Self> {
        ComputeClient::load(device)
    }

    fn name(_: &ComputeClient<Self>) -> &'static str {
        "cuda"
    }

    fn require_array_lengths() -> bool {
        CudaRuntime::require_array_lengths()
    }

    fn max_cube_count() -> (u32, u32, u32) {
        CudaRuntime::max_cube_count()
    }

    fn can_read_tensor(shape: &Shape, strides: &Strides) -> bool {
        CudaRuntime::can_read_tensor(shape, strides)
    }

    fn target_properties() -> TargetProperties {
        CudaRuntime::target_properties()
    }

    fn enumerate_devices(_: u16, _: &()) -> Vec<DeviceId> {
        vec![Dry::default().to_id()]
    }
}

/// Where launches end.
#[derive(Debug)]
pub struct DryServer {
    device: Dry,
    compiled: HashSet<KernelId>,
    timestamps: TimestampProfiler,
    utilities: Arc<ServerUtilities<Self>>,
}

impl DryServer {
    /// `kernel` as CUDA would get it, by the steps of the CUDA runtime.
    fn compile(&self, id: &KernelId, kernel: &dyn CubeTask<CudaCompiler>, mode: ExecutionMode) -> Result<Compiled, String> {
        let properties = &self.utilities.properties;
        validate_cube_dim(properties, id).and_then(|()| validate_units(properties, id)).map_err(|error| error.to_string())?;
        let compile = || kernel.compile(&mut CudaCompiler::default(), &self.device.options(), mode, kernel.address_type());
        let compiled = catch_unwind(AssertUnwindSafe(compile)).map_err(|_| "the compiler panics")?.map_err(|error| error.to_string())?;
        let shared = compiled.repr.as_ref().map_or(0, |kernel| kernel.shared_memory_size());
        let most = properties.hardware.max_shared_memory_size;
        if shared > most {
            return Err(format!("{shared} bytes of shared memory, and {most} there are"));
        }
        Ok(Compiled { source: compiled.source, entry: compiled.entrypoint_name, shared })
    }
}

/// What the compiler of kernels makes of one.
struct Compiled {
    source: String,
    entry: String,
    shared: usize,
}

/// What the CUDA runtime keeps the kernel `id` of this name under on the disk: a name says which runtime it is of.
fn key(id: &KernelId, name: &str) -> StableHash {
    /// What is hashed, write by write.
    #[derive(Default)]
    struct Writes(Vec<Vec<u8>>);
    impl Hasher for Writes {
        fn write(&mut self, bytes: &[u8]) {
            self.0.push(bytes.to_vec());
        }

        fn finish(&self) -> u64 {
            0
        }
    }
    let mut writes = Writes::default();
    id.hash(&mut writes);
    let under = |name: &str| {
        let mut hasher = StableHasher::new();
        name.hash(&mut *hasher);
        // The first is the identity of the type, in place of which the stable hash has its name.
        writes.0[1..].iter().for_each(|bytes| hasher.update(bytes));
        hasher.finalize()
    };
    assert_eq!(under(name), id.stable_hash(), "CubeCL hashes kernels in another way");
    under(&name.replace(type_name::<DryCuda>(), type_name::<CudaRuntime>()))
}

/// Nothing is allocated, and nobody asks for it.
#[derive(Debug)]
pub struct NoMemory;

fn no_memory() -> IoError {
    IoError::UnsupportedIoOperation { backtrace: BackTrace::capture() }
}

impl ComputeStorage for NoMemory {
    type Resource = ();

    fn alignment(&self) -> usize {
        512
    }

    fn get(&mut self, _: &StorageHandle) {}

    fn alloc(&mut self, _: u64) -> Result<StorageHandle, IoError> {
        Err(no_memory())
    }

    fn dealloc(&mut self, _: StorageId) {}

    fn flush(&mut self) {}
}

/// What a grid may be.
fn valid(count: &CubeCount, most: (u32, u32, u32)) -> Result<(), String> {
    match *count {
        CubeCount::Static(x, y, z) if [(x, most.0), (y, most.1), (z, most.2)].iter().all(|&(n, most)| 0 < n && n <= most) => Ok(()),
        ref other => Err(format!("{other:?} cubes")),
    }
}

impl DeviceService for DryServer {
    fn init(id: DeviceId) -> Self {
        let device = Dry::from_id(id);
        let policy = PitchedMemoryLayoutPolicy::new(512);
        let utilities = ServerUtilities::new(device.properties(), Arc::new(ServerLogger::default()), (), policy);
        DryServer { device, compiled: HashSet::new(), timestamps: TimestampProfiler::default(), utilities: Arc::new(utilities) }
    }

    fn utilities(&self) -> ServerUtilitiesHandle {
        self.utilities.clone()
    }
}

impl ServerCommunication for DryServer {
    const SERVER_COMM_ENABLED: bool = false;
}

impl ComputeServer for DryServer {
    type Kernel = Box<dyn CubeTask<CudaCompiler>>;
    type Info = ();
    type MemoryLayoutPolicy = PitchedMemoryLayoutPolicy;
    type Storage = NoMemory;

    unsafe fn launch(&mut self, kernel: Self::Kernel, count: CubeCount, given: KernelArguments, mode: ExecutionMode, _: StreamId) {
        let bytes = given.buffers.iter().map(|buffer| buffer.size_in_used()).sum();
        note(self.device.0, |asked| asked.launches.push((kernel.name(), bytes)));
        let mut id = kernel.id();
        id.mode(mode);
        let grid = valid(&count, self.utilities.properties.hardware.max_cube_count);
        if grid.is_ok() && !self.compiled.insert(id.clone()) {
            return;
        }
        let compiled = grid.and_then(|()| self.compile(&id, kernel.as_ref(), mode));
        let (shared, entry) = compiled.as_ref().map_or((0, String::new()), |compiled| (compiled.shared, compiled.entry.clone()));
        let (units, key, source) = (id.cube_dim.num_elems(), key(&id, kernel.name()), compiled.map(|compiled| compiled.source));
        kernels().push(Kernel { device: self.device.0, name: kernel.name(), units, shared, key, entry, source });
    }

    fn read(&mut self, descriptors: Vec<CopyDescriptor>, _: StreamId) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        note(self.device.0, |asked| asked.waits += 1);
        // Every read gives zeros.
        let zeros = |read: &CopyDescriptor| Bytes::from_bytes_vec(vec![0; read.handle.size_in_used() as usize]);
        let read = descriptors.iter().map(zeros).collect();
        Box::pin(async move { Ok(read) })
    }

    fn logger(&self) -> Arc<ServerLogger> {
        self.utilities.logger.clone()
    }

    fn utilities(&self) -> Arc<ServerUtilities<Self>> {
        self.utilities.clone()
    }

    fn initialize_memory(&mut self, _: ManagedMemoryHandle, size: u64, _: StreamId) {
        assert!(self.device.0 != Dry::FULL || size <= 1 << 20, "there is no room (as CUDA does)");
    }

    fn write(&mut self, _: Vec<(CopyDescriptor, Bytes)>, _: StreamId) {
        note(self.device.0, |asked| asked.uploads += 1);
    }

    fn sync(&mut self, _: StreamId) -> DynFut<Result<(), ServerError>> {
        note(self.device.0, |asked| asked.waits += 1);
        Box::pin(async { Ok(()) })
    }

    fn get_resource(&mut self, _: Binding, _: StreamId) -> Result<ManagedResource<()>, ServerError> {
        Err(no_memory().into())
    }

    fn flush(&mut self, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn memory_usage(&mut self, _: StreamId) -> Result<MemoryUsage, ServerError> {
        Err(no_memory().into())
    }

    fn memory_cleanup(&mut self, _: StreamId) {}

    fn start_profile(&mut self, _: StreamId) -> Result<ProfilingToken, ServerError> {
        Ok(self.timestamps.start())
    }

    fn end_profile(&mut self, _: StreamId, token: ProfilingToken) -> Result<ProfileDuration, ProfileError> {
        self.timestamps.stop(token)
    }

    fn allocation_mode(&mut self, _: MemoryAllocationMode, _: StreamId) {}
}
