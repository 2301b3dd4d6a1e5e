//! Devices that wgpu finds: Vulkan on Linux and Windows, Metal on macOS.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use cubecl::Runtime;
use cubecl::future::block_on;
use cubecl::prelude::ComputeClient;
use cubecl::wgpu::{AutoGraphicsApi, GraphicsApi, RuntimeOptions, WgpuDevice, WgpuRuntime, WgpuSetup, init_device};
use wgpu::{Adapter, DeviceDescriptor, DeviceType, ExperimentalFeatures, Features, Instance, InstanceDescriptor, MemoryHints};

use super::{Alarm, Cube, Scalar};
use crate::backend::device::absent;
use crate::error::{Error, Result};

/// A device of wgpu; in f32, which is all that its shader language computes in reliably.
pub type Wgpu = Cube<WgpuRuntime, f32>;

/// The names of the devices, those that are no GPU but software last.
pub(crate) fn names() -> Vec<String> {
    FOUND.adapters.iter().map(|adapter| adapter.get_info().name).collect()
}

/// Whether the first device is a GPU, and not a processor that plays one.
#[cfg_attr(not(feature = "train"), allow(dead_code, reason = "the command line is who asks"))]
pub(crate) fn has_gpu() -> bool {
    FOUND.adapters.first().is_some_and(|adapter| is_gpu(adapter.get_info().device_type))
}

impl<E: Scalar> Cube<WgpuRuntime, E> {
    /// The first device: a discrete GPU rather than an integrated one, that rather than software.
    ///
    /// # Errors
    /// [`Error::Device`] where there is none, it cannot be opened, or `E` is not f32.
    pub fn new() -> Result<Self> {
        Self::nth(0)
    }

    /// The device at `index` among those that [`devices`](crate::devices) lists under wgpu.
    ///
    /// # Errors
    /// [`Error::Device`] where there is none, it cannot be opened, or `E` is not f32.
    pub fn nth(index: usize) -> Result<Self> {
        let adapters = &FOUND.adapters;
        match adapters.get(index) {
            Some(adapter) => {
                let (client, alarm) = client(index, adapter)?;
                Self::watched(client, "wgpu", adapter.get_info().name, alarm)
            }
            None if adapters.is_empty() => refuse(
                "there is no device: install a graphics driver with Vulkan (for software, Debian's mesa-vulkan-drivers and libvulkan1), \
                 or use the CPU",
            ),
            None => Err(absent("wgpu", index, adapters.len())),
        }
    }
}

struct Found {
    instance: Instance,
    /// The best first.
    adapters: Vec<Adapter>,
}

/// Looked for once: a device keeps its index as long as the process lives.
static FOUND: LazyLock<Found> = LazyLock::new(|| {
    let backends = AutoGraphicsApi::backend().into();
    let instance = Instance::new(InstanceDescriptor { backends, ..InstanceDescriptor::new_without_display_handle() });
    let mut adapters = block_on(instance.enumerate_adapters(backends));
    adapters.sort_by_key(|adapter| rank(adapter.get_info().device_type));
    Found { instance, adapters }
});

/// The open devices by index: whoever asks for one again shares it.
static OPEN: Mutex<BTreeMap<usize, (WgpuDevice, Alarm)>> = Mutex::new(BTreeMap::new());

/// Opens a device, or finds it open.
fn client(index: usize, adapter: &Adapter) -> Result<(ComputeClient<WgpuRuntime>, Alarm)> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((device, alarm)) = open.get(&index) {
        return Ok((WgpuRuntime::client(device), alarm.clone()));
    }
    let (device, queue) = request(adapter)?;
    let (device, alarm) = hand_over(adapter, device, queue);
    let client = WgpuRuntime::client(&device);
    open.insert(index, (device, alarm.clone()));
    Ok((client, alarm))
}

fn request(adapter: &Adapter) -> Result<(wgpu::Device, wgpu::Queue)> {
    // All features of the device: what the runtime asks for where it opens one itself.
    let descriptor = DeviceDescriptor {
        required_features: adapter.features() - Features::MAPPABLE_PRIMARY_BUFFERS - Features::all_experimental_mask(),
        required_limits: adapter.limits(),
        experimental_features: ExperimentalFeatures::disabled(),
        // The runtime pools memory by itself.
        memory_hints: MemoryHints::MemoryUsage,
        ..DeviceDescriptor::default()
    };
    let refused = |error| refuse(format!("{} cannot be opened ({error}): use another device, or the CPU", adapter.get_info().name));
    block_on(adapter.request_device(&descriptor)).or_else(refused)
}

/// Hands a device to the runtime. Left to choose by itself, the runtime knows one software device only, takes any device where the type is
/// unknown, and panics where a device cannot be opened.
fn hand_over(adapter: &Adapter, device: wgpu::Device, queue: wgpu::Queue) -> (WgpuDevice, Alarm) {
    let alarm = Alarm::default();
    let ring = |alarm: &Alarm, reason: String| {
        alarm.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    };
    // Without a handler, either would end the program.
    let told = alarm.clone();
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| ring(&told, error.to_string())));
    let told = alarm.clone();
    device.set_device_lost_callback(move |_, reason| ring(&told, format!("the device is lost ({reason}): start again from a checkpoint")));
    let setup =
        WgpuSetup { instance: FOUND.instance.clone(), adapter: adapter.clone(), device, queue, backend: AutoGraphicsApi::backend() };
    (init_device(setup, RuntimeOptions::default()), alarm)
}

fn refuse<T>(help: impl Into<String>) -> Result<T> {
    Err(Error::Device { method: "wgpu", help: help.into() })
}

fn is_gpu(kind: DeviceType) -> bool {
    !matches!(kind, DeviceType::Other | DeviceType::Cpu)
}

fn rank(kind: DeviceType) -> u8 {
    match kind {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    }
}

/// The first device, opened for this caller alone, and the handle by which it can be taken away.
#[cfg(test)]
pub(crate) fn alone() -> Option<(Wgpu, wgpu::Device)> {
    let adapter = FOUND.adapters.first()?;
    let (device, queue) = request(adapter).unwrap();
    let (held, alarm) = hand_over(adapter, device.clone(), queue);
    Some((Wgpu::watched(WgpuRuntime::client(&held), "wgpu", "test", alarm).unwrap(), device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::*;

    fn refusal<T>(result: Result<T>) -> String {
        match result {
            Err(error @ Error::Device { .. }) => error.to_string(),
            Err(error) => panic!("{error} is not of the device"),
            Ok(_) => panic!("nothing was refused"),
        }
    }

    #[test]
    fn gpus_come_before_software() {
        let mut kinds = [DeviceType::Cpu, DeviceType::Other, DeviceType::VirtualGpu, DeviceType::IntegratedGpu, DeviceType::DiscreteGpu];
        kinds.sort_by_key(|&kind| rank(kind));
        assert_eq!(kinds.map(is_gpu), [true, true, true, false, false]);
        assert_eq!(kinds[..2], [DeviceType::DiscreteGpu, DeviceType::IntegratedGpu]);
        assert_eq!(has_gpu(), FOUND.adapters.iter().any(|adapter| is_gpu(adapter.get_info().device_type)));
    }

    #[test]
    fn every_listed_device_opens_and_computes() {
        for (index, name) in names().iter().enumerate() {
            let gpu = Wgpu::nth(index).unwrap();
            assert_eq!((gpu.device_name(), gpu.name()), (name.as_str(), "wgpu-f32".into()));
            assert_eq!(gpu.to_vec(&gpu.full(&[3], 2.5).unwrap()).unwrap(), [2.5; 3]);
        }
    }

    #[test]
    fn a_device_is_opened_once() {
        let open = || OPEN.lock().unwrap().get(&0).map(|(device, _)| device.clone());
        let Ok(one) = Wgpu::new() else { return assert!(names().is_empty()) };
        let device = open();
        let other = Wgpu::nth(0).unwrap();
        assert!(device.is_some() && open() == device);
        // Tensors of one clone can be used by the other.
        let x = one.full(&[2], 1.5).unwrap();
        assert_eq!(other.to_vec(&other.sum_to(&x, &[1]).unwrap()).unwrap(), [3.0]);
    }

    #[test]
    fn a_failure_outside_of_any_call_is_the_error_of_the_next_read() {
        let Some((gpu, device)) = alone() else { return assert!(names().is_empty()) };
        let x = gpu.full(&[2], 1.5).unwrap();
        assert_eq!(gpu.to_vec(&x).unwrap(), [1.5; 2]);
        // A buffer larger than any may be, made outside of the calls that check.
        let size = u64::MAX / 2;
        let _ = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        assert!(refusal(gpu.to_vec(&x)).contains("to_vec: test failed"));
        assert_eq!(gpu.to_vec(&x).unwrap(), [1.5; 2]);
        device.destroy();
        let message = refusal(gpu.full(&[2], 2.5).and_then(|y| gpu.to_vec(&y)));
        assert!(message.contains("lost"), "{message}");
    }

    #[test]
    fn an_index_beyond_the_last_is_refused() {
        let count = names().len();
        for index in [count, count + 7] {
            let told = if count == 0 { "there is no device: install".into() } else { format!("there is no device {index}") };
            assert!(refusal(Wgpu::nth(index)).contains(&told));
        }
    }

    #[test]
    fn f64_is_refused() {
        if !names().is_empty() {
            assert!(refusal(Cube::<WgpuRuntime, f64>::new()).contains("does not compute in f64 through wgpu"));
        }
    }

    #[test]
    #[ignore = "for a process that finds no driver: VK_DRIVER_FILES=/nonexistent VK_ICD_FILENAMES=/nonexistent"]
    fn without_a_driver_there_is_an_error_that_says_what_to_install() {
        assert_eq!((names().len(), has_gpu()), (0, false));
        assert!(refusal(Wgpu::new()).contains("mesa-vulkan-drivers"));
        assert!(crate::devices().iter().all(|device| device.driver != crate::backend::Driver::Wgpu));
    }
}
