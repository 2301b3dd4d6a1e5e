//! Devices of CUDA: its libraries are looked for when the program runs, so that a binary starts anywhere.

use cubecl::Runtime;
use cubecl::cuda::{CudaDevice, CudaRuntime};
use cudarc::driver::result;

use super::{Cube, Scalar};
use crate::error::{Error, Result};

/// A CUDA device.
pub type Cuda<E = f32> = Cube<CudaRuntime, E>;

/// The names of the devices; none where CUDA is not installed.
pub(crate) fn names() -> Vec<String> {
    found().unwrap_or_default()
}

impl<E: Scalar> Cube<CudaRuntime, E> {
    /// The first device.
    ///
    /// # Errors
    /// [`Error::Device`] where there is none, or a library of CUDA is missing.
    pub fn new() -> Result<Self> {
        Self::nth(0)
    }

    /// The device at `index` among those that [`devices`](crate::devices) lists under cuda.
    ///
    /// # Errors
    /// [`Error::Device`] where there is none, or a library of CUDA is missing.
    pub fn nth(index: usize) -> Result<Self> {
        let refuse = |help: String| Err(Error::Device { method: "cuda", help });
        let names = match found() {
            Ok(names) => names,
            Err(help) => return refuse(help),
        };
        let Some(name) = names.get(index) else {
            return refuse(format!("there is no device {index}: {} found", names.len()));
        };
        // SAFETY: this only tries to open the library.
        if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
            return refuse("the compiler of kernels (libnvrtc) is not installed: install the CUDA toolkit".into());
        }
        if cubecl::cuda::install::cuda_path().is_none() {
            return refuse(
                "the headers of CUDA are not found: install the CUDA toolkit, and set CUDA_PATH if it is not in /usr/local/cuda".into(),
            );
        }
        Self::from_client(CudaRuntime::client(&CudaDevice::new(index)), "cuda", name)
    }
}

/// The names of the devices, or why there are none.
fn found() -> Result<Vec<String>, String> {
    // SAFETY: this only tries to open the library; the calls below panic without it.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        return Err("the driver (libcuda) is not installed: install NVIDIA's driver, or use wgpu or the CPU".into());
    }
    let failed = |error: result::DriverError| format!("the driver answers {error}: is there an NVIDIA GPU?");
    result::init().map_err(failed)?;
    let count = result::device::get_count().map_err(failed)?;
    (0..count).map(|i| result::device::get(i).and_then(result::device::get_name).map_err(failed)).collect()
}
