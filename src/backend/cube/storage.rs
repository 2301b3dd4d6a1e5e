//! Memory on the device: buffers, upload and read-back, and tables that are uploaded once.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use cubecl::bytes::Bytes;
use cubecl::future::block_on;
use cubecl::prelude::*;
use cubecl::server::Handle;

use super::{Cube, Scalar};
use crate::backend::{Tensor, shape};
use crate::error::{Error, Result};

/// Values on a device; a clone shares them.
#[derive(Clone, Debug)]
pub struct Buffer {
    handle: Handle,
    len: usize,
}

impl Buffer {
    /// The kernel argument for it.
    #[allow(unsafe_code, reason = "cubecl cannot know how many elements a handle holds")]
    pub(super) fn arg<R: Runtime>(&self) -> ArrayArg<R> {
        // SAFETY: `len` elements were allocated or uploaded where this buffer was made, and nothing else makes one.
        unsafe { ArrayArg::from_raw_parts(self.handle.clone(), self.len.max(1)) }
    }

    /// The device's own name for the memory.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// A kernel's view of a tensor.
pub(super) fn arg<R: Runtime, E: Scalar>(x: &Tensor<Cube<R, E>>) -> ArrayArg<R> {
    x.storage().arg()
}

/// Two tensors that belong together.
pub(super) type Pair<'a, R, E> = (&'a Tensor<Cube<R, E>>, &'a Tensor<Cube<R, E>>);

/// Uploaded tables by name and sizes: the same ones are needed in every step.
pub(super) type Tables = Mutex<HashMap<(&'static str, Vec<usize>), Buffer>>;

/// The most tables that are kept: a run over sequences of many lengths would fill the device with them.
const KEPT: usize = 4096;

impl<R: Runtime, E: Scalar> Cube<R, E> {
    /// Uninitialised memory for a tensor, which the caller's kernel writes.
    pub(super) fn alloc(&self, method: &'static str, shape: &[usize]) -> Result<Tensor<Self>> {
        Ok(Tensor::from_storage(self.buffer(method, shape.iter().product(), size_of::<E>())?, shape))
    }

    /// A tensor where one is wanted.
    pub(super) fn alloc_if(&self, wanted: bool, method: &'static str, shape: &[usize]) -> Result<Option<Tensor<Self>>> {
        wanted.then(|| self.alloc(method, shape)).transpose()
    }

    /// Uninitialised memory for `len` entries of `size` bytes.
    pub(super) fn buffer(&self, method: &'static str, len: usize, size: usize) -> Result<Buffer> {
        let limit = self.limits().buffer_bytes;
        let bytes = len.max(1).saturating_mul(size);
        if bytes as u64 > limit || len > u32::MAX as usize {
            let help = format!(
                "{len} values of {size} bytes are more than one buffer of {} holds, {limit} bytes: give a smaller batch",
                self.device_name()
            );
            return Err(Error::Device { method, help });
        }
        Ok(Buffer { handle: self.client().empty(bytes), len })
    }

    /// Host values on the device.
    pub(super) fn upload(&self, method: &'static str, values: &[E], shape: &[usize]) -> Result<Tensor<Self>> {
        shape::same_numel(method, &[values.len()], shape)?;
        let buffer = self.buffer_of(method, E::as_bytes(values), values.len())?;
        Ok(Tensor::from_storage(buffer, shape))
    }

    /// Whole numbers on the device.
    pub(super) fn upload_words(&self, method: &'static str, words: &[u32]) -> Result<Buffer> {
        self.buffer_of(method, u32::as_bytes(words), words.len())
    }

    fn buffer_of(&self, method: &'static str, bytes: &[u8], len: usize) -> Result<Buffer> {
        if bytes.is_empty() {
            // At least one value of the largest scalar: only whole values can be read back.
            return self.buffer(method, 0, 8);
        }
        if bytes.len() as u64 > self.limits().buffer_bytes {
            // The allocation's own error.
            return self.buffer(method, len, bytes.len() / len);
        }
        Ok(Buffer { handle: self.client().create_from_slice(bytes), len })
    }

    /// The table called `name` for `sizes`, made and uploaded at its first use.
    pub(super) fn table(&self, name: &'static str, sizes: &[usize], make: impl FnOnce() -> Vec<f64>) -> Result<Buffer> {
        self.kept(name, sizes, || {
            let values: Vec<E> = make().into_iter().map(E::of).collect();
            self.buffer_of(name, E::as_bytes(&values), values.len())
        })
    }

    /// The same for whole numbers.
    pub(super) fn words(&self, name: &'static str, sizes: &[usize], make: impl FnOnce() -> Vec<u32>) -> Result<Buffer> {
        self.kept(name, sizes, || self.upload_words(name, &make()))
    }

    /// Sizes and strides as a kernel reads them: the numbers themselves.
    pub(super) fn sizes(&self, sizes: &[usize]) -> Result<Buffer> {
        self.words("sizes", sizes, || sizes.iter().map(|&size| size as u32).collect())
    }

    fn kept(&self, name: &'static str, sizes: &[usize], make: impl FnOnce() -> Result<Buffer>) -> Result<Buffer> {
        let mut tables = self.tables().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(buffer) = tables.get(&(name, sizes.to_vec())) {
            return Ok(buffer.clone());
        }
        if tables.len() >= KEPT {
            tables.clear();
        }
        let buffer = make()?;
        tables.insert((name, sizes.to_vec()), buffer.clone());
        Ok(buffer)
    }

    /// The values on the host. Waits for the device, and returns the error of what failed on it.
    pub(super) fn read(&self, method: &'static str, x: &Tensor<Self>) -> Result<Vec<E>> {
        Ok(self.read_all(method, &[x])?.remove(0))
    }

    /// The same of several tensors, by one wait.
    pub(super) fn read_all(&self, method: &'static str, tensors: &[&Tensor<Self>]) -> Result<Vec<Vec<E>>> {
        if tensors.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = self.bytes(method, tensors.iter().map(|x| x.storage().handle.clone()).collect())?;
        Ok(tensors.iter().zip(bytes).map(|(x, bytes)| E::from_bytes(&bytes)[..x.numel()].to_vec()).collect())
    }

    fn bytes(&self, method: &'static str, from: Vec<Handle>) -> Result<Vec<Bytes>> {
        // A kernel that could not be launched leaves its error with the stream: reading alone would give what was in the memory before.
        let read = || self.client().flush().and_then(|()| block_on(self.client().read_async(from)));
        // The runtime panics where a device is lost while it is being read.
        let read = catch_unwind(AssertUnwindSafe(read));
        if let Some(reason) = self.shared.alarm.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(Error::Device { method, help: format!("{} failed: {reason}", self.device_name()) });
        }
        let Ok(read) = read else {
            return Err(Error::Device {
                method,
                help: format!("{} was lost while it was read: start again from a checkpoint", self.device_name()),
            });
        };
        read.map_err(|error| {
            // The first line alone: the rest is the library's stack.
            let text = error.to_string();
            let reason: Vec<&str> = text.lines().take_while(|line| !line.starts_with("Backtrace")).map(str::trim).collect();
            Error::Device { method, help: format!("{} failed: {}", self.device_name(), reason.join(" ")) }
        })
    }
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use super::*;
    use crate::backend::*;

    /// Asks for more shared memory than any device has.
    #[cube(launch)]
    fn greedy<F: Float>(out: &mut Array<F>) {
        let mut shared = SharedMemory::<F>::new(1usize << 24usize);
        shared[UNIT_POS as usize] = F::new(1.0);
        sync_cube();
        out[0] = shared[0];
    }

    #[test]
    fn a_failed_launch_is_an_error_of_the_next_read_only() {
        let cube = Wgpu::new().expect("a device");
        let out = cube.alloc("greedy", &[1]).unwrap();
        greedy::launch::<f32, _>(cube.client(), cube.cubes(1), CubeDim::new_1d(1), arg(&out));
        let message = cube.to_vec(&out).unwrap_err().to_string();
        assert!(message.contains("to_vec") && message.contains(cube.device_name()), "{message}");
        assert_eq!(cube.to_vec(&cube.full(&[3], 2.0).unwrap()).unwrap(), [2.0; 3]);
    }

    #[test]
    fn a_tensor_larger_than_any_buffer_is_refused() {
        let cube = Wgpu::new().expect("a device");
        let message = cube.full(&[1 << 20, 1 << 20], 0.0).unwrap_err().to_string();
        assert!(message.contains("full") && message.contains("bytes"), "{message}");
    }

    #[test]
    fn double_precision_is_refused() {
        let message = Cube::<cubecl::wgpu::WgpuRuntime, f64>::new().unwrap_err().to_string();
        assert!(message.contains("f64") && message.contains("wgpu"), "{message}");
    }
}
