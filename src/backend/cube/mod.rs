//! The CubeCL backend: one set of kernels for every device that a CubeCL runtime drives.
//!
//! `Cube<WgpuRuntime, f32>` runs on Vulkan and Metal, `Cube<Guarded<CudaRuntime>, E>` on CUDA. A family of methods is
//! implemented in the file, or the folder, of its name; a kernel and the function that launches it stand together.
//!
//! Launches do not wait: what fails on the device (memory, a lost device) comes out as the `Err` of the call that reads next.

mod channel_sums;
mod complex;
mod convolution;
#[cfg(feature = "cuda")]
pub mod cuda;
mod double_float;
mod elementwise;
#[cfg(feature = "cuda")]
mod guard;
mod launch;
mod layout;
mod learning;
mod mixing;
mod normalization;
mod products;
mod random;
mod reductions;
mod scan;
mod spiking;
mod ssm;
mod storage;
mod transfer;
#[cfg(feature = "wgpu")]
pub(crate) mod wgpu;

use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use cubecl::prelude::{ComputeClient, CubeElement, Float, Runtime};

pub use self::launch::Limits;
use self::storage::Buffer;
use super::{Real, Transfer};
use crate::error::{Error, Result};

/// The scalars that kernels are made for: `f32`, and `f64` where the device has it.
pub trait Scalar: Real + Float + CubeElement {}

impl Scalar for f32 {}
impl Scalar for f64 {}

/// A device of the CubeCL runtime `R`, computing in `E`. Clones share it.
pub struct Cube<R: Runtime, E: Scalar> {
    shared: Arc<Shared<R>>,
    scalar: PhantomData<E>,
}

struct Shared<R: Runtime> {
    client: ComputeClient<R>,
    /// The name of the runtime, as in "wgpu".
    runtime: &'static str,
    /// What its maker calls it.
    device: String,
    limits: Limits,
    tables: storage::Tables,
    alarm: Alarm,
}

/// A failure that a device reports outside of any call: its driver stores it here, and the next read returns it as an error.
pub(crate) type Alarm = Arc<Mutex<Option<String>>>;

impl<R: Runtime, E: Scalar> Cube<R, E> {
    /// The device behind `client`, under the names of its runtime and of itself.
    ///
    /// # Errors
    /// [`Error::Device`] where the device does not compute in `E`.
    pub fn from_client(client: ComputeClient<R>, runtime: &'static str, device: impl Into<String>) -> Result<Self> {
        Self::watched(client, runtime, device, Alarm::default())
    }

    /// The same, for a device whose driver reports failures to `alarm`.
    fn watched(client: ComputeClient<R>, runtime: &'static str, device: impl Into<String>, alarm: Alarm) -> Result<Self> {
        let device = device.into();
        let served = match runtime {
            // WGSL declares f64, but its functions (exp, sin, ..) give wrong results in it without an error: refused, even where the device
            // claims f64.
            "wgpu" if size_of::<E>() == 8 => false,
            // Every device of CUDA has f64; CubeCL's runtime does not say so.
            "cuda" => true,
            _ => client.properties().supports_type(E::as_type_native_unchecked()),
        };
        if !served {
            let help = format!("{device} does not compute in {} through {runtime}: use f32, or Cpu<f64>", E::NAME);
            return Err(Error::Device { method: "Cube", help });
        }
        let limits = Limits::of(&client);
        let shared = Shared { client, runtime, device, limits, tables: storage::Tables::default(), alarm };
        Ok(Cube { shared: Arc::new(shared), scalar: PhantomData })
    }

    /// What the device allows.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// The same device, taken for one with at most `bytes` of shared memory in a cube: transforms that do not fit in them run over the
    /// device's memory. For tests, and for devices on which smaller cubes are faster.
    pub fn with_shared_memory(&self, bytes: usize) -> Self {
        let Shared { client, runtime, device, limits, alarm, .. } = &*self.shared;
        let limits = Limits { shared_bytes: bytes.min(limits.shared_bytes), ..*limits };
        let (client, device, alarm) = (client.clone(), device.clone(), alarm.clone());
        let shared = Shared { client, runtime, device, limits, tables: storage::Tables::default(), alarm };
        Cube { shared: Arc::new(shared), scalar: PhantomData }
    }

    /// What its maker calls the device.
    pub fn device_name(&self) -> &str {
        &self.shared.device
    }

    fn client(&self) -> &ComputeClient<R> {
        &self.shared.client
    }

    fn tables(&self) -> &storage::Tables {
        &self.shared.tables
    }
}

impl<R: Runtime, E: Scalar> Clone for Cube<R, E> {
    fn clone(&self) -> Self {
        Cube { shared: self.shared.clone(), scalar: PhantomData }
    }
}

impl<R: Runtime, E: Scalar> std::fmt::Debug for Cube<R, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name(), self.device_name())
    }
}
