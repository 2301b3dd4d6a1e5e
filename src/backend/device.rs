//! What a device is called.

use std::fmt;

#[cfg(any(feature = "wgpu", feature = "cuda", feature = "train"))]
use crate::error::Error;

listed! {
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
#[non_exhaustive]
pub struct Device {
    /// What drives it.
    pub driver: Driver,
    /// Its number among the devices of this driver, from 0: the argument of the backends' `nth`.
    pub index: usize,
    /// What its maker calls it.
    pub name: String,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {}", self.driver, self.index, self.name)
    }
}

/// The error for a device number that is not there; `count` devices are.
#[cfg(any(feature = "wgpu", feature = "cuda", feature = "train"))]
pub(crate) fn absent(method: &'static str, index: usize, count: usize) -> Error {
    let there = match count {
        0 => "none was found".into(),
        1 => "there is one, with index 0".into(),
        _ => format!("count from 0 to {}", count - 1),
    };
    Error::Device { method, help: format!("there is no device {index}: {there}") }
}

#[cfg(all(test, any(feature = "wgpu", feature = "cuda", feature = "train")))]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_is_not_there_is_told_those_that_are() {
        let told = |count| absent("wgpu", 9, count).to_string();
        assert_eq!(told(0), "wgpu: there is no device 9: none was found");
        assert_eq!(told(1), "wgpu: there is no device 9: there is one, with index 0");
        assert_eq!(told(3), "wgpu: there is no device 9: count from 0 to 2");
    }
}
