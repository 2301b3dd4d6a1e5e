//! A tape-based autodiff engine, state space models on it, and probabilistic spiking state space models (P-SpikeSSM; Bal and Sengupta,
//! ICLR 2025) on these, on the processor and on GPUs.
//!
//! - **The engine.** A [`Tape`](autodiff::Tape) records what is computed on tensors and runs it backwards. An operation is one type with
//!   its forward, its adjoint and the truth that the adjoint is checked against; your own ops join in the same way
//!   ([`Op`](autodiff::Op)), and so do your own layers ([`Module`](nn::Module)).
//! - **State space models.** S4 and S4D from HiPPO matrices ([`nn::hippo`]): [`Ssm`](nn::Ssm) is a long convolution whose kernel is
//!   generated from the parameters, and a recurrence that gives the same values step by step.
//! - **P-SpikeSSM.** The output of such a layer is a spiking *probability*. A [`SpikeSampler`](nn::SpikeSampler) draws spikes from it for
//!   all time steps in parallel, with the gradient of the expected spike as surrogate; a [`SpikeMixer`](nn::SpikeMixer) lets the neurons
//!   of a layer talk; [`ClampFuse`](nn::ClampFuse) closes the residual. [`Model`](nn::Model) is the classifier made of them.
//! - **Devices.** All of this is generic over [`Backend`](backend::Backend): the code that trains on [`Cpu`](backend::Cpu) trains on a GPU.
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
//! # Five recipes
//!
//! ## A network by hand
//!
//! A tape, leaves, a loss, and an update of one's own: XOR by two matrix products.
//!
//! ```
//! use pspikessm::{autodiff::Tape, backend::*};
//! # fn main() -> pspikessm::Result<()> {
//! let cpu = Cpu::<f64>::new();
//! let (points, labels) = (cpu.from_vec(vec![0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0], &[4, 2])?, [0, 1, 1, 0]);
//! let mut weights = [
//!     cpu.normal(Key::new(0), &[2, 8])?,
//!     cpu.full(&[8], 0.0)?,
//!     cpu.normal(Key::new(1), &[8, 2])?,
//!     cpu.full(&[2], 0.0)?,
//! ];
//! let mut last = f64::INFINITY;
//! for _ in 0..300 {
//!     let tape = Tape::new(&cpu);
//!     let leaves = weights.each_ref().map(|weight| tape.leaf(weight));
//!     let [w, b, v, c] = &leaves;
//!     let hidden = tape.constant(&points).matmul(w)?.add(b)?.tanh()?;
//!     let loss = hidden.matmul(v)?.add(c)?.cross_entropy(&labels)?;
//!     last = loss.item()?;
//!     let gradients = loss.backward()?;
//!     for (weight, leaf) in weights.iter_mut().zip(&leaves) {
//!         let step = cpu.unary(Unary::Linear(-0.5, 0.0), gradients.of(leaf)?)?;
//!         *weight = cpu.binary(Binary::Add, weight, &step)?;
//!     }
//! }
//! assert!(last < 0.05, "{last}");
//! # Ok(()) }
//! ```
//!
//! ## A layer of one's own
//!
//! A [`Module`](nn::Module) names its [`Param`](nn::Param)s; [`Context::var`](nn::Context::var) puts one on the tape, and an
//! [`Optimizer`](nn::Optimizer) finds them by these names.
//!
//! ```
//! use pspikessm::{nn::*, prelude::*};
//!
//! /// x times sigmoid(scale), channel by channel: (B, H, L) to (B, H, L).
//! struct Gate<B: Backend> {
//!     scale: Param<B>,
//! }
//!
//! impl<B: Backend> Gate<B> {
//!     fn forward(&self, cx: &Context<'_, B>, x: &Var<B>) -> Result<Var<B>> {
//!         x.mul(&cx.var(&self.scale).sigmoid()?)
//!     }
//! }
//!
//! impl<B: Backend> Module<B> for Gate<B> {
//!     fn names(&self, names: &mut Names<'_, B>) {
//!         names.param("scale", &self.scale);
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let cpu = Cpu::<f32>::new();
//! let gate = Gate { scale: Param::full(&cpu, &[3, 1], 0.0, ParamOptions::PLAIN)? };
//! let tape = Tape::new(&cpu);
//! let cx = Context::training(&tape, Key::new(0));
//! let x = tape.constant(&cpu.full(&[2, 3, 5], 1.0)?);
//! let y = gate.forward(&cx, &x)?;
//! assert_eq!(y.to_vec()?[0], 0.5);
//! Optimizer::new(AdamWConfig::new(0.1, 0.0))?.update(&cpu, &gate, &y.mean()?.backward()?, 1.0)?;
//! assert!(cpu.to_vec(&gate.scale.value())?[0] < 0.0);
//! # Ok(()) }
//! ```
//!
//! ## Data of one's own
//!
//! A batch is a plain slice, row by row, with the true lengths where the rows are padded. (`train`, with the feature of that name, has
//! the loop with progress, validation and checkpoints: see `Task` there.)
//!
//! ```
//! use pspikessm::prelude::*;
//! # fn main() -> pspikessm::Result<()> {
//! let cpu = Cpu::<f32>::new();
//! // Does a sequence hold more twos than ones? 0 is padding.
//! let tokens = [1, 1, 2, 1, 2, 2, 1, 2, 1, 2, 1, 0, 2, 2, 0, 0];
//! let (lengths, labels) = ([4, 4, 3, 2], [0, 1, 0, 1]);
//! let block = BlockConfig::new(SsmConfig::new(16, 8).l_max(4));
//! let model = Model::new(&cpu, Key::new(0), &ModelConfig::new(Encoder::Tokens(3), block, 2).layers(1))?;
//! let mut optimizer = Optimizer::new(AdamWConfig::new(1e-2, 0.01))?;
//! let mut losses = Vec::new();
//! for step in 0..40 {
//!     let tape = Tape::new(&cpu);
//!     let cx = Context::training(&tape, Key::new(1).fold(step));
//!     let loss = model.forward(&cx, Input::tokens(&tokens, 4).lengths(&lengths))?.cross_entropy(&labels)?;
//!     losses.push(loss.item()?);
//!     optimizer.update(&cpu, &model, &loss.backward()?, 1.0)?;
//! }
//! assert!(losses[39] < 0.5 * losses[0], "{losses:?}");
//! # Ok(()) }
//! ```
//!
//! ## Save, open, serve
//!
//! A file holds the configuration and the weights. A forward pass writes nothing outside training, so any number of threads share one
//! model, each with a tape of its own that records nothing.
//!
//! ```
//! use pspikessm::prelude::*;
//! # fn main() -> pspikessm::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("model.safetensors");
//! # let cpu = Cpu::<f32>::new();
//! # let block = BlockConfig::new(SsmConfig::new(8, 4));
//! # let model = Model::new(&cpu, Key::new(0), &ModelConfig::new(Encoder::Tokens(18), block, 10).layers(1))?;
//! model.save(&cpu, &path)?;
//!
//! let model = Model::open(&cpu, &path)?;
//! let requests = [vec![3, 1, 4], vec![1, 5, 9, 2, 6], vec![5, 3]];
//! let answers = std::thread::scope(|scope| {
//!     let serve = |tokens| {
//!         let tape = Tape::off(&cpu);
//!         let cx = Context::evaluation(&tape, Key::new(2));
//!         model.forward(&cx, Input::tokens(tokens, 1))?.to_vec()
//!     };
//!     let threads: Vec<_> = requests.iter().map(|tokens| scope.spawn(move || serve(tokens))).collect();
//!     threads.into_iter().map(|thread| thread.join().expect("a thread that does not panic")).collect::<Result<Vec<_>>>()
//! })?;
//! assert!(answers.iter().all(|logits| logits.len() == 10));
//! # Ok(()) }
//! ```
//!
//! ## An op of one's own, checked
//!
//! [`check_op`](autodiff::check_op) holds the backward against the truth that [`oracle`](autodiff::Op::oracle) names, on random cases.
//!
//! ```
//! use pspikessm::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, check_op, operands};
//! use pspikessm::prelude::*;
//! use pspikessm::backend::Binary;
//!
//! /// The product of two tensors of one shape.
//! #[derive(Clone)]
//! struct Product;
//!
//! impl<B: Backend> Op<B> for Product {
//!     const NAME: &'static str = "product";
//!     type Saved = [Tensor<B>; 2];
//!
//!     fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
//!         let [x, y] = operands("product", inputs)?;
//!         Ok((backend.binary(Binary::Mul, x, y)?, [x.clone(), y.clone()]))
//!     }
//!
//!     fn backward(&self, backend: &B, [x, y]: Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
//!         Ok(vec![Some(backend.binary(Binary::Mul, grad, &y)?), Some(backend.binary(Binary::Mul, grad, &x)?)])
//!     }
//!
//!     fn oracle(&self) -> Oracle<B, Self> {
//!         Oracle::FiniteDifferences
//!     }
//!
//!     fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
//!         let shape = generate.shape(0..=3, 1..=4);
//!         vec![Case::new(Product, [generate.normal(&shape), generate.normal(&shape)])]
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! assert!(check_op::<Product, _>(&Cpu::<f64>::new(), 1)?.comparisons > 0);
//! # Ok(()) }
//! ```
//!
//! # Devices
//!
//! `backend::Wgpu` (feature `wgpu`) is Vulkan or Metal, in f32; `backend::Cuda<E>` (feature `cuda`) is CUDA, in f32 and f64. Their
//! `new()` opens the first device, `nth(index)` another of those that [`devices`] lists; both answer with an error where there is none.
//! Every backend draws the same random numbers; values differ by rounding, which now and then flips a spike.
//!
//! ```
//! use pspikessm::prelude::*;
//!
//! /// The loss of a model before a step of training, wherever `device` is.
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
//! # Rules
//!
//! **Layout**: a sequence is (B, H, L), row-major, so that a channel's time series is contiguous; a complex tensor is planar, with a
//! leading axis of 2 for the real and the imaginary plane. **Transforms**: [`rfft`](autodiff::Var::rfft) is unnormalised,
//! [`irfft`](autodiff::Var::irfft) divides by n. **Noise**: every draw has a [`Key`](backend::Key), nothing is global, and the number at
//! (sample, channel, time) depends on the key and these three alone: not on the length, the batch or the number of channels.
//! **Determinism**: the same key gives the same bits whatever the number of threads. **Errors**: what a user can get wrong is an
//! [`Error`] that says what to do; nothing panics.
//!
//! # Glossary
//!
//! | | |
//! |---|---|
//! | B, H, L | batch, channels (`d_model`), length in time steps |
//! | N, M | states of an SSM (`d_state`), and M = N / 2: of each conjugate pair one state is stored |
//! | R | rank of the low-rank part of a state matrix |
//! | S | copies of the state matrix (`n_ssm`), each for H / S channels |
//! | directions | kernels of a channel: 1 (causal), or 2 (causal, and anticausal for the future) |
//! | branch | one of the one or two SSMs that a block runs, each with its own parameters |
//! | dt | the step size by which a channel's continuous system is made discrete |
//! | kernel | the impulse response of an SSM, (directions, H, L); also a function that runs on a device |
//! | Abar, Bbar | A and B of the discrete system |
//! | C~, Lk | C (I - Abar^Lk), which a DPLR layer stores in the place of C, for kernels of length Lk |
//! | DPLR, NPLR | diagonal (normal) plus low rank: the forms of a state matrix that S4 is built on |
//! | potential | the real number of which a spike is drawn |
//! | draw | the uniform numbers of one place in a model, which decide which potentials spike |
//! | surrogate | the derivative that stands in for that of a spike, whose own is 0 |
//! | tape, leaf | the record of a computation; a value on it that gets a gradient |
//! | adjoint | the map from the gradient of an op's output to those of its inputs: its backward |
//! | tile, panel | sixteen channels that the CPU's vectors compute side by side, and their values, interleaved |
//! | chunk | elements that go through several steps while they are in the cache |
//! | piece | a part of the work for one thread, cut the same way whatever the number of threads |
//!
//! # Features
//!
//! | feature | brings |
//! |---|---|
//! | `parallel` (default) | the CPU backend on all cores, by rayon |
//! | `train` | the training loop with its progress bar, checkpoints, reports and command line; brings `data` |
//! | `data` | readers of the official data formats, and of PyTorch's checkpoints |
//! | `download` | fetching the official archives: HTTPS, checksums, unpacking |
//! | `wgpu` | GPUs through Vulkan or Metal |
//! | `cuda` | NVIDIA's GPUs; its libraries are looked for when the program runs |

#![warn(missing_docs)]
#![warn(clippy::missing_errors_doc)]
// The exceptions carry their reason; docs/RELIABILITY.md lists them.
#![deny(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[macro_use]
mod listed;

pub mod autodiff;
pub mod backend;
pub mod data;
pub mod error;
mod file;
mod kind;
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
    // What generators draw, before it is a data set.
    pub use crate::data::listops::generate::Generator;
    pub use crate::data::pathfinder::{scene::Scene, snake::Bar};
    // The shapes of results, beside which the conformance suite works its own out.
    pub use crate::backend::shape::{broadcast, product};
    // The machine's vectors, for the least time that a bench's work could take.
    pub use crate::backend::host::vectors::at_level;
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
    pub use crate::autodiff::{Gradients, Tape, Var, gradcheck, gradients};
    pub use crate::backend::{Backend, Cpu, Device, Driver, Key, Noise, Real, Spike, SpikeMode, Surrogate, Tensor, devices};
    // A device's methods; their traits' names are wanted by those alone who write a backend.
    pub use crate::backend::{
        ChannelMixing as _, Convolution as _, Elementwise as _, Layout as _, Learning as _, Normalization as _, Products as _, Random as _,
        Reductions as _, Scan as _, Spiking as _, SsmKernels as _, Transfer as _,
    };
    pub use crate::error::{Error, Result};
    pub use crate::nn::{
        AdamWConfig, Block, BlockConfig, ClampFuse, Context, CustomSurrogate, Encoder, Input, Model, ModelConfig, Module, NormKind,
        Observed, Optimizer, PlifConfig, Pooling, Signal, SpikeMeter, SpikeMixer, SpikeSampler, SpikeSource, Ssm, SsmConfig, SsmInit,
        Stream, StreamConfig,
    };
}
