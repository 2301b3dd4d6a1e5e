//! Which devices there are, by name.

use std::fmt;
use std::thread::available_parallelism;

#[cfg(any(feature = "wgpu", feature = "cuda", feature = "train"))]
use crate::error::Error;

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
        (Driver::Cpu, vec![processor()]),
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

/// That the device at `index` was asked of a driver that has `count`.
#[cfg(any(feature = "wgpu", feature = "cuda", feature = "train"))]
pub(crate) fn absent(method: &'static str, index: usize, count: usize) -> Error {
    let there = match count {
        0 => "none was found".into(),
        1 => "there is one, with index 0".into(),
        _ => format!("count from 0 to {}", count - 1),
    };
    Error::Device { method, help: format!("there is no device {index}: {there}") }
}

/// The threads of the processor. Rayon is not asked: that would start its threads, whose number could then not be set any more.
fn processor() -> String {
    match available_parallelism().map_or(1, usize::from) {
        1 => "1 thread".into(),
        threads => format!("{threads} threads"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_count_from_0_under_each_driver() {
        let devices = devices();
        assert_eq!((devices[0].driver, devices[0].index), (Driver::Cpu, 0));
        for pair in devices.windows(2) {
            let next = if pair[0].driver == pair[1].driver { pair[0].index + 1 } else { 0 };
            assert_eq!(pair[1].index, next, "{devices:?}");
        }
        assert_eq!(devices, super::devices());
    }

    #[cfg(any(feature = "wgpu", feature = "cuda", feature = "train"))]
    #[test]
    fn an_index_that_is_not_there_is_told_those_that_are() {
        let told = |count| absent("wgpu", 9, count).to_string();
        assert_eq!(told(0), "wgpu: there is no device 9: none was found");
        assert_eq!(told(1), "wgpu: there is no device 9: there is one, with index 0");
        assert_eq!(told(3), "wgpu: there is no device 9: count from 0 to 2");
    }
}
