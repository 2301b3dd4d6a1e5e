//! Which backend `--backend` names, and generic code called with it.

use crate::backend::{Backend, Cpu, Driver, device};
#[cfg(feature = "cuda")]
use crate::backend::{Cuda, cube::cuda};
#[cfg(feature = "wgpu")]
use crate::backend::{Wgpu, cube::wgpu};
use crate::error::{Error, Result};

/// What `--backend` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendChoice {
    /// The first device of CUDA, else the first GPU of wgpu, else the processor: of those drivers that this build has. A processor that
    /// plays a GPU is not taken.
    #[default]
    Auto,
    /// A driver of this build, and an index as [`devices`](crate::devices) shows it.
    Device(Driver, usize),
}

impl BackendChoice {
    /// The device called `name`, as in "auto", "wgpu" and "wgpu:1".
    ///
    /// # Errors
    /// [`Error::Config`] where there is no such driver, or this build lacks it. Whether the device is there shows when it is opened.
    pub fn named(name: &str) -> Result<Self> {
        let refuse = |help: &str| Err(Error::config("--backend", name, help));
        let (driver, index) = name.split_once(':').map_or((name, None), |(driver, index)| (driver, Some(index)));
        if driver == "auto" {
            return if index.is_none() { Ok(BackendChoice::Auto) } else { refuse("auto takes no index: name the driver, as in wgpu:1") };
        }
        let Some(driver) = Driver::ALL.into_iter().find(|known| known.to_string() == driver) else {
            let drivers = Driver::ALL.map(|driver| driver.to_string()).join(", ");
            return refuse(&format!("there are auto and {drivers}, the drivers with an index if need be, as in wgpu:1"));
        };
        if !is_built(driver) {
            return Err(lacking(driver));
        }
        match index.map_or(Ok(0), str::parse) {
            Ok(index) => Ok(BackendChoice::Device(driver, index)),
            Err(_) => refuse("after the colon comes an index, a whole number from 0: --help shows the devices"),
        }
    }

    /// Does `work` on the device that this names, in f32.
    ///
    /// # Errors
    /// Those of the work; [`Error::Device`] where the device is not there, [`Error::Config`] where this build lacks its driver.
    pub fn run<W: OnBackend>(self, work: W) -> Result<W::Output> {
        match self.settled() {
            (Driver::Cpu, 0) => work.on(&Cpu::<f32>::new()),
            (Driver::Cpu, index) => Err(device::absent("cpu", index, 1)),
            #[cfg(feature = "wgpu")]
            (Driver::Wgpu, index) => work.on(&Wgpu::nth(index)?),
            #[cfg(feature = "cuda")]
            (Driver::Cuda, index) => work.on(&Cuda::<f32>::nth(index)?),
            #[cfg(not(all(feature = "wgpu", feature = "cuda")))]
            (driver, _) => Err(lacking(driver)),
        }
    }

    /// The driver, and the index among its devices.
    fn settled(self) -> (Driver, usize) {
        match self {
            BackendChoice::Device(driver, index) => (driver, index),
            #[cfg(feature = "cuda")]
            BackendChoice::Auto if !cuda::names().is_empty() => (Driver::Cuda, 0),
            #[cfg(feature = "wgpu")]
            BackendChoice::Auto if wgpu::has_gpu() => (Driver::Wgpu, 0),
            BackendChoice::Auto => (Driver::Cpu, 0),
        }
    }
}

/// Work that any backend can do.
pub trait OnBackend {
    /// What comes of it.
    type Output;

    /// Does it.
    ///
    /// # Errors
    /// Whatever goes wrong in it.
    fn on<B: Backend>(self, backend: &B) -> Result<Self::Output>;
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
