//! Devices of CUDA: its libraries are looked for when the program runs, so that a binary starts anywhere.

use cubecl::Runtime;
use cubecl::cuda::{CudaDevice, CudaRuntime};
use cudarc::driver::{CudaContext, DriverError, result};

pub use super::guard::Guarded;
use super::{Cube, Scalar};
use crate::backend::device::absent;
use crate::error::{Error, Result};

/// A CUDA device.
pub type Cuda<E = f32> = Cube<Guarded<CudaRuntime>, E>;

/// The names of the devices; none where CUDA is not installed.
pub(crate) fn names() -> Vec<String> {
    found().unwrap_or_default()
}

impl<E: Scalar> Cube<Guarded<CudaRuntime>, E> {
    /// The first device.
    ///
    /// # Errors
    /// [`Error::Device`] where there is none, it cannot be opened, or a library of CUDA is missing.
    pub fn new() -> Result<Self> {
        Self::nth(0)
    }

    /// The device at `index` among those that [`devices`](crate::devices) lists under cuda.
    ///
    /// # Errors
    /// [`Error::Device`] where there is none, it cannot be opened, or a library of CUDA is missing.
    pub fn nth(index: usize) -> Result<Self> {
        let refuse = |help: String| Err(Error::Device { method: "cuda", help });
        let names = match found() {
            Ok(names) => names,
            Err(help) => return refuse(help),
        };
        let Some(name) = names.get(index) else {
            return Err(absent("cuda", index, names.len()));
        };
        #[allow(unsafe_code, reason = "a foreign library is opened")]
        // SAFETY: only CUDA's own library goes by these names, and nothing but its start-up code runs.
        let compiler = unsafe { cudarc::nvrtc::sys::is_culib_present() };
        if !compiler {
            return refuse("the compiler of kernels (libnvrtc) is not installed: install the CUDA toolkit".into());
        }
        if !cubecl::cuda::install::cuda_path().is_some_and(|path| path.join("include").is_dir()) {
            return refuse(
                "the headers of CUDA are not found: install the CUDA toolkit, and set CUDA_PATH if it is not in /usr/local/cuda".into(),
            );
        }
        // The runtime panics where a device cannot be opened, for one because another process has taken it alone: it is opened here first.
        match CudaContext::new(index) {
            Ok(_held) => Self::from_client(Guarded::<CudaRuntime>::client(&CudaDevice::new(index)), "cuda", name),
            Err(error) => refuse(format!("{name} cannot be opened ({error}): use another device, or the CPU")),
        }
    }
}

/// The names of the devices, or why there are none.
fn found() -> Result<Vec<String>, String> {
    #[allow(unsafe_code, reason = "a foreign library is opened")]
    // SAFETY: only CUDA's own library goes by these names, and nothing but its start-up code runs.
    let driver = unsafe { cudarc::driver::sys::is_culib_present() };
    // The calls below panic without it.
    if !driver {
        return Err("the driver (libcuda) is not installed: install NVIDIA's driver, or use wgpu or the CPU".into());
    }
    let failed = |error: DriverError| format!("the driver answers {error}: is there an NVIDIA GPU?");
    result::init().map_err(failed)?;
    let count = result::device::get_count().map_err(failed)?;
    (0..count).map(|i| result::device::get(i).and_then(result::device::get_name).map_err(failed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::*;

    #[test]
    fn every_listed_device_opens_and_no_other_does() {
        let names = names();
        for (index, name) in names.iter().enumerate() {
            let gpu = Cuda::<f32>::nth(index).unwrap();
            assert_eq!((gpu.device_name(), gpu.name()), (name.as_str(), "cuda-f32".into()));
        }
        let error = Cuda::<f32>::nth(names.len()).unwrap_err();
        assert!(matches!(error, Error::Device { method: "cuda", .. }), "{error}");
    }

    #[test]
    fn where_the_driver_is_missing_the_error_says_so() {
        if let Err(help) = found() {
            assert_eq!((names(), Cuda::<f32>::new().unwrap_err().to_string()), (vec![], format!("cuda: {help}")));
            assert!(help.contains("driver"));
        }
    }
}
