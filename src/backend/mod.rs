//! What a device can do: storage, arithmetic, and the domain kernels with their adjoints. No gradients, no layers.
//!
//! Sequences are (batch, channels, length): a channel's time series is contiguous, as FFTs and recurrences want it. Complex values
//! are planar: a leading axis of 2 holds the real and the imaginary plane, so that gradients are plain real gradients.

pub mod cpu;
#[cfg(feature = "cube")]
pub mod cube;
pub(crate) mod device;
mod real;
mod rng;
pub mod shape;
mod spec;
mod tensor;

pub use cpu::Cpu;
#[cfg(feature = "cuda")]
pub use cube::cuda::Cuda;
#[cfg(feature = "wgpu")]
pub use cube::wgpu::Wgpu;
pub use device::{Device, Driver, devices};
pub use real::Real;
pub use rng::{Draw, Key, LANES, Samples, Words, normal_f64};
pub use spec::*;
pub use tensor::Tensor;

use crate::error::Result;

/// A device that computes in `Elem`.
///
/// Methods trust that their shapes were checked (module [`shape`]) and answer with `Err` where the device fails. Results are
/// deterministic: the same bits for the same arguments, whatever the number of threads. A `*_grad` method is the adjoint of the
/// method it is named after: from the gradient `g` of its output it makes the gradients of its inputs, in the order of the
/// arguments; `needs` says which of them are wanted, the others may be `None`.
pub trait Backend: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// The scalar.
    type Elem: Real;
    /// Where the values live; a clone shares them.
    type Storage: Clone + Send + Sync + 'static;

    /// A short name for people, as in "cpu-f32".
    fn name(&self) -> String;

    // Storage and transfer.

    /// Moves host values, row-major, to the device.
    #[allow(clippy::wrong_self_convention, reason = "from_vec and to_vec are a pair, and the device is the receiver of both")]
    fn from_vec(&self, values: Vec<Self::Elem>, shape: &[usize]) -> Result<Tensor<Self>>;
    /// Copies the values to the host, row-major.
    fn to_vec(&self, x: &Tensor<Self>) -> Result<Vec<Self::Elem>>;
    /// A tensor of one repeated value.
    fn full(&self, shape: &[usize], value: f64) -> Result<Tensor<Self>>;

    // Elementwise, with broadcasting.

    /// f(x).
    fn unary(&self, f: Unary, x: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// f'(x) g.
    fn unary_grad(&self, f: Unary, x: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// f(x, y) of the broadcast shape.
    fn binary(&self, f: Binary, x: &Tensor<Self>, y: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// The sum of x over the axes along which `shape` broadcasts to x's shape: the adjoint of broadcasting.
    fn sum_to(&self, x: &Tensor<Self>, shape: &[usize]) -> Result<Tensor<Self>>;
    /// The place of the first of several tensors that holds a NaN or an infinity: one answer of the device for all of them.
    fn first_not_finite(&self, tensors: &[&Tensor<Self>]) -> Result<Option<usize>>;

    // Products and transforms.

    /// x (.., m, k) times y (.., k, n), each optionally stored transposed; batch axes broadcast.
    fn matmul(&self, x: &Tensor<Self>, transpose_x: bool, y: &Tensor<Self>, transpose_y: bool) -> Result<Tensor<Self>>;
    /// Real (.., n) to planar complex (2, .., n/2 + 1), unnormalised; any n.
    fn rfft(&self, x: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// The inverse of `rfft`, divided by n. Imaginary parts of the first and (n even) last bin are ignored.
    fn irfft(&self, x: &Tensor<Self>, n: usize) -> Result<Tensor<Self>>;

    // Moving values.

    /// Axis i of the result is axis `axes[i]` of x.
    fn permute(&self, x: &Tensor<Self>, axes: &[usize]) -> Result<Tensor<Self>>;
    /// `len` entries from `start` on along `axis`.
    fn slice(&self, x: &Tensor<Self>, axis: usize, start: usize, len: usize) -> Result<Tensor<Self>>;
    /// The tensors one after another along `axis`.
    fn concat(&self, parts: &[&Tensor<Self>], axis: usize) -> Result<Tensor<Self>>;
    /// The entries along `axis` in reverse order.
    fn flip(&self, x: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>>;
    /// Rows of `table` (V, H) for `tokens` (batch, length), as (batch, H, length).
    fn embed(&self, table: &Tensor<Self>, tokens: &[u32], batch: usize) -> Result<Tensor<Self>>;
    /// The gradient of `table` with `rows` rows.
    fn embed_grad(&self, rows: usize, tokens: &[u32], g: &Tensor<Self>) -> Result<Tensor<Self>>;

    // Random numbers, addressed by position.

    /// Uniform in [0, 1), multiples of 2^-24: element i from word i.
    fn uniform(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>>;
    /// Uniform in [0, 1), multiples of 2^-24: element (sample, channel, t) from that word of the draw ([`shape::rows`]).
    ///
    /// # Errors
    /// What [`Draw::check`] refuses.
    fn draw_uniform(&self, draw: Draw, shape: &[usize]) -> Result<Tensor<Self>>;
    /// Standard normal.
    fn normal(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>>;

    // Domain kernels.

    /// `scale[h] x + shift[h]` for x (B, H, L) or (B, H).
    fn affine(&self, x: &Tensor<Self>, scale: &Tensor<Self>, shift: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// Gradients of x, scale, shift.
    fn affine_grad(&self, x: &Tensor<Self>, scale: &Tensor<Self>, g: &Tensor<Self>, needs: [bool; 3]) -> Result<[Option<Tensor<Self>>; 3]>;
    /// Mean and biased variance of every channel of x (B, H, L): (2, H).
    fn moments(&self, x: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// The gradient of x, for `moments` as computed from it.
    fn moments_grad(&self, x: &Tensor<Self>, moments: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// BatchNorm or LayerNorm of x (B, H, L) with gamma and beta (H).
    fn normalize(&self, axes: NormAxes, x: &Tensor<Self>, gamma: &Tensor<Self>, beta: &Tensor<Self>, eps: f64) -> Result<Normalized<Self>>;
    /// Gradients of x, gamma, beta, through the statistics.
    fn normalize_grad(
        &self,
        axes: NormAxes,
        x: &Tensor<Self>,
        gamma: &Tensor<Self>,
        statistics: (&Tensor<Self>, &Tensor<Self>),
        eps: f64,
        g: &Tensor<Self>,
    ) -> Result<[Tensor<Self>; 3]>;
    /// Spikes of `y = scale[h] x + shift[h]` (or y = x): `y > u`, strict.
    fn spike(&self, spike: &Spike<Tensor<Self>>, x: &Tensor<Self>, affine: Option<(&Tensor<Self>, &Tensor<Self>)>) -> Result<Tensor<Self>>;
    /// Surrogate gradients of x, scale, shift.
    fn spike_grad(
        &self,
        spike: &Spike<Tensor<Self>>,
        x: &Tensor<Self>,
        affine: Option<(&Tensor<Self>, &Tensor<Self>)>,
        g: &Tensor<Self>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<Self>>; 3]>;
    /// Spikes of a leaky integrate-and-fire neuron along the last axis.
    fn lif(&self, lif: &Lif, x: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// Its surrogate gradient, back through time.
    fn lif_grad(&self, lif: &Lif, x: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// The long convolution. A channel whose input is all zero comes out exactly zero.
    fn long_conv(&self, conv: LongConv<'_, Self>) -> Result<Tensor<Self>>;
    /// Gradients of input, kernel, skip.
    fn long_conv_grad(&self, conv: LongConv<'_, Self>, g: &Tensor<Self>, needs: [bool; 3]) -> Result<[Option<Tensor<Self>>; 3]>;
    /// Spikes of a long convolution's output.
    fn fire(&self, conv: LongConv<'_, Self>, firing: Firing<&Tensor<Self>>) -> Result<Tensor<Self>>;
    /// Surrogate gradients of input, kernel, skip, and of the firing's scale and shift.
    fn fire_grad(
        &self,
        conv: LongConv<'_, Self>,
        firing: Firing<&Tensor<Self>>,
        g: &Tensor<Self>,
        needs: [bool; 5],
    ) -> Result<[Option<Tensor<Self>>; 5]>;
    /// One matrix over the channels of several sequences, with what follows: (B, H, L).
    fn mix(&self, mixing: Mixing<'_, Self>) -> Result<Tensor<Self>>;
    /// Gradients of every part, of weight and bias (the residual's is `g` itself).
    fn mix_grad(&self, mixing: Mixing<'_, Self>, g: &Tensor<Self>, needs: &[bool]) -> Result<Vec<Option<Tensor<Self>>>>;
    /// The first `take` entries of the DPLR kernels of length `len`: (c, H, take).
    fn dplr_kernel(&self, ssm: &SsmParams<Self>, len: usize, take: usize) -> Result<Tensor<Self>>;
    /// Gradients of every parameter (`dt` is carried over).
    fn dplr_kernel_grad(&self, ssm: &SsmParams<Self>, len: usize, g: &Tensor<Self>) -> Result<SsmParams<Self>>;
    /// C Abar^steps, computed in f64, on the host where the device is a GPU: (2, c, H, M). Asked for once, when a model is made.
    fn dplr_advance(&self, ssm: &SsmParams<Self>, steps: usize) -> Result<Tensor<Self>>;
    /// The diagonal kernels: (c, H, len).
    fn diag_kernel(&self, ssm: &SsmParams<Self>, disc: Discretisation, len: usize) -> Result<Tensor<Self>>;
    /// Gradients of every parameter (`dt` is carried over).
    fn diag_kernel_grad(&self, ssm: &SsmParams<Self>, disc: Discretisation, g: &Tensor<Self>) -> Result<SsmParams<Self>>;
    /// Mean cross-entropy of logits (B, classes): the loss, of shape (), and the softmax.
    fn cross_entropy(&self, logits: &Tensor<Self>, labels: &[usize]) -> Result<(Tensor<Self>, Tensor<Self>)>;
    /// The gradient of the logits for the loss's gradient `g`.
    fn cross_entropy_grad(&self, softmax: &Tensor<Self>, labels: &[usize], g: &Tensor<Self>) -> Result<Tensor<Self>>;
    /// One AdamW step: the new (parameter, first moment, second moment).
    fn adamw(&self, step: &AdamW, state: [&Tensor<Self>; 3], grad: &Tensor<Self>) -> Result<[Tensor<Self>; 3]>;
}
