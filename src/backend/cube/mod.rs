//! The CubeCL backend: one set of kernels for every device that a CubeCL runtime drives.
//!
//! `Cube<WgpuRuntime, f32>` runs on Vulkan and Metal, `Cube<Guarded<CudaRuntime>, E>` on CUDA. This file maps the [`Backend`] methods onto
//! the files named after the method families; a kernel and the function that launches it stand together.
//!
//! Launches do not wait: what fails on the device (memory, a lost device) comes out as the `Err` of the call that reads next.
//! Everything is computed on the device but `dplr_advance`, which a model asks for once, and which wants an f64 that WGSL lacks.

mod channels;
mod complex;
mod conv;
mod conv_wide;
#[cfg(feature = "cuda")]
pub mod cuda;
mod diag;
mod dplr;
mod dplr_spectra;
mod elementwise;
mod fft;
mod fire;
#[cfg(feature = "cuda")]
mod guard;
mod launch;
mod layout;
mod loss;
mod matmul;
mod mixer;
mod norm;
mod pair;
mod random;
mod reduce;
mod ring;
mod spike;
mod ssm_common;
mod storage;
#[cfg(feature = "wgpu")]
pub mod wgpu;

use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use cubecl::prelude::{ComputeClient, CubeElement, Float, Runtime};

pub use self::launch::Limits;
pub use self::storage::Buffer;
use super::{
    AdamW, Backend, Binary, Discretisation, Draw, Firing, Key, Lif, LongConv, Mixing, NormAxes, Normalized, Real, Spike, SsmParams, Tensor,
    Unary,
};
use crate::error::{Error, Result};

/// The scalars that kernels are made for: `f32`, and `f64` where the device has it.
pub trait Scalar: Real + Float + CubeElement {}

impl Scalar for f32 {}
impl Scalar for f64 {}

/// A device of the CubeCL runtime `R`, computing in `E`. Clones share it.
pub struct Cube<R: Runtime, E: Scalar> {
    shared: Arc<Shared<R>>,
    scalar: PhantomData<E>,
}

struct Shared<R: Runtime> {
    client: ComputeClient<R>,
    /// As in "wgpu".
    runtime: &'static str,
    /// What its maker calls it.
    device: String,
    limits: Limits,
    tables: storage::Tables,
    alarm: Alarm,
}

/// What went wrong on a device by itself: a driver tells it when it happens, and the next read hands it on.
pub(crate) type Alarm = Arc<Mutex<Option<String>>>;

impl<R: Runtime, E: Scalar> Cube<R, E> {
    /// The device behind `client`, under the names of its runtime and of itself.
    ///
    /// # Errors
    /// [`Error::Device`] where the device does not compute in `E`.
    pub fn from_client(client: ComputeClient<R>, runtime: &'static str, device: impl Into<String>) -> Result<Self> {
        Self::watched(client, runtime, device, Alarm::default())
    }

    /// The same, with what its driver tells.
    fn watched(client: ComputeClient<R>, runtime: &'static str, device: impl Into<String>, alarm: Alarm) -> Result<Self> {
        let device = device.into();
        let served = match runtime {
            // WGSL declares f64, but its functions of it are wrong without a word (exp, sin, ..): not served, whatever the device says.
            "wgpu" if size_of::<E>() == 8 => false,
            // Every device of CUDA has f64; CubeCL's runtime does not say so.
            "cuda" => true,
            _ => client.properties().supports_type(E::as_type_native_unchecked()),
        };
        if !served {
            let help = format!("{device} does not compute in {} through {runtime}: use f32, or Cpu<f64>", E::NAME);
            return Err(Error::Device { method: "Cube", help });
        }
        let limits = Limits::of(&client);
        let shared = Shared { client, runtime, device, limits, tables: storage::Tables::default(), alarm };
        Ok(Cube { shared: Arc::new(shared), scalar: PhantomData })
    }

    /// What the device allows.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// The same device, taken for one with at most `bytes` of shared memory in a cube: transforms that do not fit in them run over the
    /// device's memory. For tests, and for devices on which smaller cubes are faster.
    pub fn with_shared_memory(&self, bytes: usize) -> Self {
        let Shared { client, runtime, device, limits, alarm, .. } = &*self.shared;
        let limits = Limits { shared_bytes: bytes.min(limits.shared_bytes), ..*limits };
        let (client, device, alarm) = (client.clone(), device.clone(), alarm.clone());
        let shared = Shared { client, runtime, device, limits, tables: storage::Tables::default(), alarm };
        Cube { shared: Arc::new(shared), scalar: PhantomData }
    }

    /// What its maker calls the device.
    pub fn device_name(&self) -> &str {
        &self.shared.device
    }

    fn client(&self) -> &ComputeClient<R> {
        &self.shared.client
    }

    fn tables(&self) -> &storage::Tables {
        &self.shared.tables
    }
}

impl<R: Runtime, E: Scalar> Clone for Cube<R, E> {
    fn clone(&self) -> Self {
        Cube { shared: self.shared.clone(), scalar: PhantomData }
    }
}

impl<R: Runtime, E: Scalar> std::fmt::Debug for Cube<R, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name(), self.device_name())
    }
}

impl<R: Runtime, E: Scalar> Backend for Cube<R, E> {
    type Elem = E;
    type Storage = Buffer;

    fn name(&self) -> String {
        format!("{}-{}", self.shared.runtime, E::NAME)
    }

    fn from_vec(&self, values: Vec<E>, shape: &[usize]) -> Result<Tensor<Self>> {
        self.upload("from_vec", &values, shape)
    }

    fn to_vec(&self, x: &Tensor<Self>) -> Result<Vec<E>> {
        self.read("to_vec", x)
    }

    fn full(&self, shape: &[usize], value: f64) -> Result<Tensor<Self>> {
        elementwise::full(self, shape, value)
    }

    fn unary(&self, f: Unary, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        elementwise::unary(self, f, x)
    }

    fn unary_grad(&self, f: Unary, x: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>> {
        elementwise::unary_grad(self, f, x, g)
    }

    fn binary(&self, f: Binary, x: &Tensor<Self>, y: &Tensor<Self>) -> Result<Tensor<Self>> {
        elementwise::binary(self, f, x, y)
    }

    fn sum_to(&self, x: &Tensor<Self>, shape: &[usize]) -> Result<Tensor<Self>> {
        reduce::sum_to(self, x, shape)
    }

    fn first_not_finite(&self, tensors: &[&Tensor<Self>]) -> Result<Option<usize>> {
        reduce::first_not_finite(self, tensors)
    }

    fn matmul(&self, x: &Tensor<Self>, transpose_x: bool, y: &Tensor<Self>, transpose_y: bool) -> Result<Tensor<Self>> {
        matmul::matmul(self, x, transpose_x, y, transpose_y)
    }

    fn rfft(&self, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        fft::rfft(self, x)
    }

    fn irfft(&self, x: &Tensor<Self>, n: usize) -> Result<Tensor<Self>> {
        fft::irfft(self, x, n)
    }

    fn permute(&self, x: &Tensor<Self>, axes: &[usize]) -> Result<Tensor<Self>> {
        layout::permute(self, x, axes)
    }

    fn slice(&self, x: &Tensor<Self>, axis: usize, start: usize, len: usize) -> Result<Tensor<Self>> {
        layout::slice(self, x, axis, start, len)
    }

    fn concat(&self, parts: &[&Tensor<Self>], axis: usize) -> Result<Tensor<Self>> {
        layout::concat(self, parts, axis)
    }

    fn flip(&self, x: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        layout::flip(self, x, axis)
    }

    fn embed(&self, table: &Tensor<Self>, tokens: &[u32], batch: usize) -> Result<Tensor<Self>> {
        layout::embed(self, table, tokens, batch)
    }

    fn embed_grad(&self, rows: usize, tokens: &[u32], g: &Tensor<Self>) -> Result<Tensor<Self>> {
        layout::embed_grad(self, rows, tokens, g)
    }

    fn uniform(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>> {
        random::uniform(self, key, shape)
    }

    fn draw_uniform(&self, draw: Draw, shape: &[usize]) -> Result<Tensor<Self>> {
        random::draw_uniform(self, draw, shape)
    }

    fn normal(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>> {
        random::normal(self, key, shape)
    }

    fn affine(&self, x: &Tensor<Self>, scale: &Tensor<Self>, shift: &Tensor<Self>) -> Result<Tensor<Self>> {
        norm::affine(self, x, scale, shift)
    }

    fn affine_grad(&self, x: &Tensor<Self>, scale: &Tensor<Self>, g: &Tensor<Self>, needs: [bool; 3]) -> Result<[Option<Tensor<Self>>; 3]> {
        norm::affine_grad(self, x, scale, g, needs)
    }

    fn moments(&self, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        norm::moments(self, x)
    }

    fn moments_grad(&self, x: &Tensor<Self>, moments: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>> {
        norm::moments_grad(self, x, moments, g)
    }

    fn normalize(&self, axes: NormAxes, x: &Tensor<Self>, gamma: &Tensor<Self>, beta: &Tensor<Self>, eps: f64) -> Result<Normalized<Self>> {
        norm::normalize(self, axes, x, gamma, beta, eps)
    }

    fn normalize_grad(
        &self,
        axes: NormAxes,
        x: &Tensor<Self>,
        gamma: &Tensor<Self>,
        statistics: (&Tensor<Self>, &Tensor<Self>),
        eps: f64,
        g: &Tensor<Self>,
    ) -> Result<[Tensor<Self>; 3]> {
        norm::normalize_grad(self, axes, x, gamma, statistics, eps, g)
    }

    fn spike(&self, spike: &Spike<Tensor<Self>>, x: &Tensor<Self>, affine: Option<(&Tensor<Self>, &Tensor<Self>)>) -> Result<Tensor<Self>> {
        spike::spike(self, spike, x, affine)
    }

    fn spike_grad(
        &self,
        spike: &Spike<Tensor<Self>>,
        x: &Tensor<Self>,
        affine: Option<(&Tensor<Self>, &Tensor<Self>)>,
        g: &Tensor<Self>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<Self>>; 3]> {
        spike::spike_grad(self, spike, x, affine, g, needs)
    }

    fn lif(&self, lif: &Lif, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        spike::lif(self, lif, x)
    }

    fn lif_grad(&self, lif: &Lif, x: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>> {
        spike::lif_grad(self, lif, x, g)
    }

    fn long_conv(&self, conv: LongConv<'_, Self>) -> Result<Tensor<Self>> {
        conv::long_conv(self, conv)
    }

    fn long_conv_grad(&self, conv: LongConv<'_, Self>, g: &Tensor<Self>, needs: [bool; 3]) -> Result<[Option<Tensor<Self>>; 3]> {
        conv::long_conv_grad(self, conv, g, needs)
    }

    fn fire(&self, conv: LongConv<'_, Self>, firing: Firing<&Tensor<Self>>) -> Result<Tensor<Self>> {
        fire::fire(self, conv, firing)
    }

    fn fire_grad(
        &self,
        conv: LongConv<'_, Self>,
        firing: Firing<&Tensor<Self>>,
        g: &Tensor<Self>,
        needs: [bool; 5],
    ) -> Result<[Option<Tensor<Self>>; 5]> {
        fire::fire_grad(self, conv, firing, g, needs)
    }

    fn mix(&self, mixing: Mixing<'_, Self>) -> Result<Tensor<Self>> {
        mixer::mix(self, mixing)
    }

    fn mix_grad(&self, mixing: Mixing<'_, Self>, g: &Tensor<Self>, needs: &[bool]) -> Result<Vec<Option<Tensor<Self>>>> {
        mixer::mix_grad(self, mixing, g, needs)
    }

    fn dplr_kernel(&self, ssm: &SsmParams<Self>, len: usize, take: usize) -> Result<Tensor<Self>> {
        dplr::kernel(self, ssm, len, take)
    }

    fn dplr_kernel_grad(&self, ssm: &SsmParams<Self>, len: usize, g: &Tensor<Self>) -> Result<SsmParams<Self>> {
        dplr::kernel_grad(self, ssm, len, g)
    }

    fn dplr_advance(&self, ssm: &SsmParams<Self>, steps: usize) -> Result<Tensor<Self>> {
        dplr::advance(self, ssm, steps)
    }

    fn diag_kernel(&self, ssm: &SsmParams<Self>, disc: Discretisation, len: usize) -> Result<Tensor<Self>> {
        diag::kernel(self, ssm, disc, len)
    }

    fn diag_kernel_grad(&self, ssm: &SsmParams<Self>, disc: Discretisation, g: &Tensor<Self>) -> Result<SsmParams<Self>> {
        diag::kernel_grad(self, ssm, disc, g)
    }

    fn cross_entropy(&self, logits: &Tensor<Self>, labels: &[usize]) -> Result<(Tensor<Self>, Tensor<Self>)> {
        loss::cross_entropy(self, logits, labels)
    }

    fn cross_entropy_grad(&self, softmax: &Tensor<Self>, labels: &[usize], g: &Tensor<Self>) -> Result<Tensor<Self>> {
        loss::cross_entropy_grad(self, softmax, labels, g)
    }

    fn adamw(&self, step: &AdamW, state: [&Tensor<Self>; 3], grad: &Tensor<Self>) -> Result<[Tensor<Self>; 3]> {
        loss::adamw(self, step, state, grad)
    }
}
