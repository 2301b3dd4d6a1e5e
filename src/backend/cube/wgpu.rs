//! Devices that wgpu finds: Vulkan on Linux and Windows, Metal on macOS.

use cubecl::Runtime;
use cubecl::wgpu::{AutoGraphicsApi, GraphicsApi, WgpuDevice, WgpuRuntime};
use wgpu::{Adapter, DeviceType, Instance, InstanceDescriptor};

use super::{Cube, Scalar};
use crate::error::{Error, Result};

/// A device of wgpu; in f32, which is all that its shader language computes in reliably.
pub type Wgpu = Cube<WgpuRuntime, f32>;

/// The names of the devices, those that are no GPU but software last.
pub(crate) fn names() -> Vec<String> {
    adapters().iter().map(|adapter| adapter.get_info().name).collect()
}

/// Whether the first device is a GPU, and not a processor that plays one.
pub(crate) fn has_gpu() -> bool {
    adapters().first().is_some_and(|adapter| rank(adapter) < 3)
}

impl<E: Scalar> Cube<WgpuRuntime, E> {
    /// The first device: a discrete GPU rather than an integrated one, that rather than software.
    ///
    /// # Errors
    /// [`Error::Device`] where there is none, or `E` is not f32.
    pub fn new() -> Result<Self> {
        Self::nth(0)
    }

    /// The device at `index` among those that [`devices`](crate::devices) lists under wgpu.
    ///
    /// # Errors
    /// [`Error::Device`] where there is none, or `E` is not f32.
    pub fn nth(index: usize) -> Result<Self> {
        let adapters = adapters();
        let Some(adapter) = adapters.get(index) else {
            let help = match adapters.len() {
                0 => {
                    "there is no device: install a graphics driver with Vulkan (for software, Debian's mesa-vulkan-drivers), or use the CPU"
                        .into()
                }
                count => format!("there is no device {index}: count from 0 to {}", count - 1),
            };
            return Err(Error::Device { method: "wgpu", help });
        };
        let same = |other: &&Adapter| rank(other) == rank(adapter);
        let place = adapters[..index].iter().filter(same).count();
        let device = match adapter.get_info().device_type {
            DeviceType::DiscreteGpu => WgpuDevice::DiscreteGpu(place),
            DeviceType::IntegratedGpu => WgpuDevice::IntegratedGpu(place),
            DeviceType::VirtualGpu => WgpuDevice::VirtualGpu(place),
            DeviceType::Cpu => WgpuDevice::Cpu,
            DeviceType::Other => WgpuDevice::DefaultDevice,
        };
        Self::from_client(WgpuRuntime::client(&device), "wgpu", adapter.get_info().name)
    }
}

/// What the runtime would choose from, the best first.
fn adapters() -> Vec<Adapter> {
    let backends = AutoGraphicsApi::backend().into();
    let instance = Instance::new(InstanceDescriptor { backends, ..InstanceDescriptor::new_without_display_handle() });
    let mut adapters = cubecl::future::block_on(instance.enumerate_adapters(backends));
    adapters.sort_by_key(rank);
    adapters
}

fn rank(adapter: &Adapter) -> u8 {
    match adapter.get_info().device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    }
}
