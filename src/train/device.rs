//! Which device a run of the command line is on: reads `--backend`, and calls the generic code with the backend it names.

use std::io::Write;
use std::sync::atomic::AtomicBool;

use super::cli::{self, Outcome};
use super::{Flags, Task};
use crate::backend::{Cpu, Driver, device};
#[cfg(feature = "cuda")]
use crate::backend::{Cuda, cube::cuda};
#[cfg(feature = "wgpu")]
use crate::backend::{Wgpu, cube::wgpu};
use crate::error::{Error, Result};

/// What `--backend` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first device of CUDA, else the first GPU of wgpu, else the processor: of those drivers that this build has. A processor that
    /// plays a GPU is not taken.
    #[default]
    Auto,
    /// A driver of this build, and an index as [`devices`](crate::devices) shows it.
    Device(Driver, usize),
}

impl Choice {
    /// The device called `name`, as in "auto", "wgpu" and "wgpu:1".
    ///
    /// # Errors
    /// [`Error::Config`] where there is no such driver, or this build lacks it. Whether the device is there shows when it is opened.
    pub fn named(name: &str) -> Result<Self> {
        let refuse = |help: &str| Err(Error::config("--backend", name, help));
        let (driver, index) = name.split_once(':').map_or((name, None), |(driver, index)| (driver, Some(index)));
        let driver = match driver {
            "auto" if index.is_none() => return Ok(Choice::Auto),
            "auto" => return refuse("auto takes no index: name the driver, as in wgpu:1"),
            "cpu" => Driver::Cpu,
            "wgpu" => Driver::Wgpu,
            "cuda" => Driver::Cuda,
            _ => return refuse("there are auto, cpu, wgpu and cuda, the last three with an index if need be, as in wgpu:1"),
        };
        if !is_built(driver) {
            return Err(lacking(driver));
        }
        match index.map_or(Ok(0), str::parse) {
            Ok(index) => Ok(Choice::Device(driver, index)),
            Err(_) => refuse("after the colon comes an index, a whole number from 0: --help shows the devices"),
        }
    }

    /// The driver, and the index among its devices.
    fn settled(self) -> (Driver, usize) {
        match self {
            Choice::Device(driver, index) => (driver, index),
            #[cfg(feature = "cuda")]
            Choice::Auto if !cuda::names().is_empty() => (Driver::Cuda, 0),
            #[cfg(feature = "wgpu")]
            Choice::Auto if wgpu::has_gpu() => (Driver::Wgpu, 0),
            Choice::Auto => (Driver::Cpu, 0),
        }
    }
}

/// Does what the flags say ([`cli::run`]) on the device that they name, in f32.
///
/// # Errors
/// Those of [`cli::run`]; [`Error::Device`] where the device is not there, [`Error::Config`] where this build lacks its driver.
pub fn run(task: &dyn Task, flags: &Flags, stop: &AtomicBool, out: &mut dyn Write) -> Result<Outcome> {
    match flags.backend.settled() {
        (Driver::Cpu, 0) => cli::run(&Cpu::<f32>::new(), task, flags, stop, out),
        (Driver::Cpu, index) => Err(device::absent("cpu", index, 1)),
        #[cfg(feature = "wgpu")]
        (Driver::Wgpu, index) => cli::run(&Wgpu::nth(index)?, task, flags, stop, out),
        #[cfg(feature = "cuda")]
        (Driver::Cuda, index) => cli::run(&Cuda::<f32>::nth(index)?, task, flags, stop, out),
        #[cfg(not(all(feature = "wgpu", feature = "cuda")))]
        (driver, _) => Err(lacking(driver)),
    }
}

fn is_built(driver: Driver) -> bool {
    match driver {
        Driver::Cpu => true,
        Driver::Wgpu => cfg!(feature = "wgpu"),
        Driver::Cuda => cfg!(feature = "cuda"),
    }
}

fn lacking(driver: Driver) -> Error {
    Error::config("--backend", driver, format!("this build lacks it: build with --features {driver}"))
}
