//! Probabilistic spiking state space models (P-SpikeSSM; Bal and Sengupta, ICLR 2025) on a tape-based autodiff engine of their own.
//!
//! A P-SpikeSSM layer replaces leaky integrate-and-fire neurons by state space models whose output is a spiking *probability*.
//! A [`SpikeSampler`](nn::SpikeSampler) draws spikes from it for all time steps in parallel, with the gradient of the expected spike
//! as surrogate; a [`SpikeMixer`](nn::SpikeMixer) lets the neurons of a layer talk; [`ClampFuse`](nn::ClampFuse) closes the residual.
//!
//! | module | what it holds | may use |
//! |---|---|---|
//! | [`error`] | one error type that says what is wrong and what to do | |
//! | [`backend`] | what a device can do: arithmetic and the domain kernels with their adjoints | `error` |
//! | [`autodiff`] | the tape, the ops, the checker of their gradients | `backend` |
//! | [`nn`] | HiPPO, SSM kernels, layers, optimiser, safetensors | `autodiff` |
//! | [`data`] | data sets as plain slices, and their archives | `error` |
//! | `train` | recipes, tasks, the training loop, checkpoints, reports (feature `train`) | all |
//!
//! # A model
//!
//! ```
//! use pspikessm::prelude::*;
//! # fn main() -> pspikessm::Result<()> {
//! let cpu = Cpu::<f32>::new();
//! let block = BlockConfig::new(SsmConfig::new(16, 8).l_max(4));
//! let model = Model::new(&cpu, Key::new(0), &ModelConfig::new(Encoder::Tokens(18), block, 10).layers(2))?;
//! let mut optimizer = Optimizer::new(AdamWConfig::new(1e-3, 0.01))?;
//! let (tokens, labels) = ([3, 1, 4, 1, 5, 9, 2, 6], [7, 0]);
//! for step in 0..3 {
//!     let tape = Tape::new(&cpu);
//!     let cx = Context::training(&tape, Key::new(1).fold(step));
//!     let logits = model.forward(&cx, Input::tokens(&tokens, 2))?;
//!     let loss = logits.cross_entropy(&labels)?;
//!     optimizer.update(&cpu, &model, &loss.backward()?, 1.0)?;
//! }
//! // Inference: the same code on a tape that records nothing.
//! let tape = Tape::off(&cpu);
//! let cx = Context::evaluation(&tape, Key::new(2));
//! assert_eq!(model.forward(&cx, Input::tokens(&tokens, 2))?.shape(), [2, 10]);
//! # Ok(()) }
//! ```
//!
//! # Devices
//!
//! Everything above the backend is generic over [`Backend`](backend::Backend): the code that trains on [`Cpu`](backend::Cpu) trains on a
//! GPU, with another value in its place. `backend::Wgpu` (feature `wgpu`) is Vulkan or Metal, in f32; `backend::Cuda<E>` (feature `cuda`)
//! is CUDA, in f32 and f64. Their `new()` opens the first device, `nth(index)` another of those that [`devices`] lists; both answer with
//! an error where there is none. Every backend draws the same random numbers; values differ by rounding, which now and then flips a
//! spike.
//!
//! ```
//! use pspikessm::prelude::*;
//!
//! /// The loss of a model, and a step of training, wherever `device` is.
//! fn train<B: Backend>(device: &B) -> pspikessm::Result<f64> {
//!     let block = BlockConfig::new(SsmConfig::new(4, 2).l_max(3));
//!     let model = Model::new(device, Key::new(0), &ModelConfig::new(Encoder::Tokens(5), block, 2).layers(1))?;
//!     let tape = Tape::new(device);
//!     let cx = Context::training(&tape, Key::new(1));
//!     let loss = model.forward(&cx, Input::tokens(&[1, 2, 3, 4, 3, 2], 2))?.cross_entropy(&[0, 1])?;
//!     Optimizer::new(AdamWConfig::new(1e-3, 0.01))?.update(device, &model, &loss.backward()?, 1.0)?;
//!     loss.item()
//! }
//!
//! # fn main() -> pspikessm::Result<()> {
//! for device in devices() {
//!     println!("{device}"); // cpu:0 16 threads
//! }
//! assert!(train(&Cpu::<f32>::new())? > 0.0);
//! # // What a build without the feature, or a machine without a device, leaves out.
//! # #[cfg(feature = "wgpu")]
//! # let has_wgpu = devices().iter().any(|device| device.driver == Driver::Wgpu);
//! # #[cfg(feature = "wgpu")]
//! # if has_wgpu {
//! assert!(train(&pspikessm::backend::Wgpu::new()?)? > 0.0);
//! # }
//! # Ok(()) }
//! ```
//!
//! # Randomness, threads, errors
//!
//! Every draw has a [`Key`](backend::Key); nothing is global. The same key gives the same bits whatever the number of threads. What a
//! user can get wrong is an [`Error`] that says what to do; nothing panics.
//!
//! # Features
//!
//! `parallel` (default): rayon. `train` (default): the training loop with its progress bar, checkpoints, reports and command line; it
//! brings `data`, the decoders of the official formats (PNG, WAV, gzip). `download`: fetching the official archives.
//! `wgpu`: GPUs through Vulkan or Metal. `cuda`: NVIDIA's; its libraries are looked for when the program runs.

pub mod autodiff;
pub mod backend;
pub mod data;
pub mod error;
mod file;
pub mod nn;
#[cfg(feature = "train")]
pub mod train;

pub use backend::devices;
pub use error::{Error, Result};

/// What the crate's own tests and benches need beside the public surface. It may change in any release.
#[doc(hidden)]
pub mod internal {
    // Every op on the list, its gradient check, and what it must give on another backend.
    pub use crate::autodiff::gradcheck::agree::{Truth, check_agreement, truths};
    pub use crate::autodiff::ops::{Agreement, Entry, agreements, binary::BinaryOp, registry, unary::UnaryOp};
    // The CubeCL backend on a device that a test brings.
    #[cfg(feature = "cuda")]
    pub use crate::backend::cube::cuda::Guarded;
    #[cfg(feature = "cube")]
    pub use crate::backend::cube::{Cube, Scalar};
    // The shapes of results, beside which the conformance suite works its own out.
    pub use crate::backend::shape::{broadcast, product};
    // C Abar^L, which the kernels' own tests take apart.
    pub use crate::backend::ssm::recurrence::dplr_advance;
    // The eigensolver below HiPPO.
    pub use crate::nn::hippo::eigen::{Eigh, eigh};
    // The forward pass of a batch, and the pictures of a report, without the run around them.
    #[cfg(feature = "train")]
    pub use crate::train::classify::logits;
    #[cfg(feature = "train")]
    pub use crate::train::report::{
        kernels::{Kernel, kernels_svg},
        raster::{Panel, Raster, raster_svg},
    };
}

/// What most programs need, in one import.
pub mod prelude {
    pub use crate::autodiff::{Gradients, Tape, Var, gradcheck};
    pub use crate::backend::{Backend, Cpu, Device, Driver, Key, Noise, Real, Spike, SpikeMode, Surrogate, Tensor, devices};
    // A device's methods; their traits' names are wanted by those alone who write a backend.
    pub use crate::backend::{
        ChannelMixing as _, Convolution as _, Elementwise as _, Layout as _, Learning as _, Normalization as _, Products as _, Random as _,
        Spiking as _, SsmKernels as _, Transfer as _,
    };
    pub use crate::error::{Error, Result};
    pub use crate::nn::{
        AdamWConfig, Block, BlockConfig, ClampFuse, Context, Encoder, Input, Model, ModelConfig, Module, NormKind, Optimizer, Pooling,
        SpikeMeter, SpikeMixer, SpikeSampler, SpikeSource, Ssm, SsmConfig, SsmInit,
    };
}
