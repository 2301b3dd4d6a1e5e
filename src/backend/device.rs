//! Which devices there are, by name.

use std::fmt;

/// What drives a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Driver {
    /// This crate's own code on the processor: [`Cpu`](super::Cpu).
    Cpu,
    /// Vulkan or Metal, through wgpu (feature `wgpu`).
    Wgpu,
    /// CUDA (feature `cuda`).
    Cuda,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Driver::Cpu => "cpu",
            Driver::Wgpu => "wgpu",
            Driver::Cuda => "cuda",
        })
    }
}

/// A device that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What drives it.
    pub driver: Driver,
    /// Its place among the devices of this driver, from 0: what the backends' `nth` takes.
    pub index: usize,
    /// What its maker calls it.
    pub name: String,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {}", self.driver, self.index, self.name)
    }
}

/// The devices that this build can use: the processor, then what the features `cuda` and `wgpu` find, the best of each first.
///
/// ```
/// let devices = pspikessm::devices();
/// assert_eq!(devices[0].to_string(), format!("cpu:0 {}", devices[0].name));
/// ```
pub fn devices() -> Vec<Device> {
    let found: &[(Driver, Vec<String>)] = &[
        (Driver::Cpu, vec![format!("{} threads", threads())]),
        #[cfg(feature = "cuda")]
        (Driver::Cuda, super::cube::cuda::names()),
        #[cfg(feature = "wgpu")]
        (Driver::Wgpu, super::cube::wgpu::names()),
    ];
    let named = |(driver, names): &(Driver, Vec<String>)| -> Vec<Device> {
        names.iter().enumerate().map(|(index, name)| Device { driver: *driver, index, name: name.clone() }).collect()
    };
    found.iter().flat_map(named).collect()
}

#[cfg(feature = "parallel")]
fn threads() -> usize {
    rayon::current_num_threads()
}

#[cfg(not(feature = "parallel"))]
fn threads() -> usize {
    1
}
