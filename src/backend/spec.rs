//! What can be asked of a backend: the vocabulary of its methods.

use serde::{Deserialize, Serialize};

use super::{Backend, Key, Tensor};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// -x.
    Neg,
    /// e^x.
    Exp,
    /// ln x.
    Ln,
    /// The square root.
    Sqrt,
    /// 1 / x.
    Recip,
    /// x^2.
    Square,
    /// tanh x.
    Tanh,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// ln(1 + e^x).
    Softplus,
    /// max(x, 0); derivative 0 at 0, as PyTorch.
    Relu,
    /// x Phi(x), with the error function (no tanh approximation).
    Gelu,
    /// x limited to [low, high]; derivative 1 inside, both ends included.
    Clamp(f64, f64),
    /// scale * x + shift.
    Linear(f64, f64),
}

/// A function of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// x + y.
    Add,
    /// x - y.
    Sub,
    /// x * y.
    Mul,
    /// x / y.
    Div,
}

/// Where the uniform numbers of a spike draw come from.
#[derive(Clone, Debug)]
pub enum Noise<B: Backend> {
    /// Word i of this stream decides element i.
    Stream(Key),
    /// Drawn by the caller, uniform in [0, 1), of the potential's shape.
    Given(Tensor<B>),
}

/// The derivative that stands in for the derivative of a spike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Surrogate {
    /// 1 where 0 <= y <= 1, else 0: the derivative of the expected spike clamp(y, 0, 1). The official code's.
    #[default]
    Clamp,
    /// The derivative of sigmoid(alpha (y - u)).
    Sigmoid {
        /// Steepness, above 0.
        alpha: f64,
    },
    /// The derivative of atan(pi alpha (y - u) / 2) / pi + 1/2.
    Atan {
        /// Steepness, above 0.
        alpha: f64,
    },
    /// 1 / (1 + alpha |y - u|)^2, as in SuperSpike.
    FastSigmoid {
        /// Steepness, above 0.
        alpha: f64,
    },
}

/// What a SpikeSampler puts out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpikeMode {
    /// Spikes: 1 where y > u, else 0.
    Sampled,
    /// Their expectation clamp(y, 0, 1), with its own derivative; no noise is drawn.
    Expected,
}

/// One spike draw.
#[derive(Clone, Debug)]
pub struct Spike<B: Backend> {
    /// The uniform numbers.
    pub noise: Noise<B>,
    /// Spikes or their expectation.
    pub mode: SpikeMode,
    /// The derivative used for sampled spikes.
    pub surrogate: Surrogate,
}

/// A leaky integrate-and-fire neuron: `v[t] = decay v[t-1] (1 - s[t-1]) + y[t]` (hard reset) or
/// `v[t] = decay v[t-1] - threshold s[t-1] + y[t]` (soft reset), `s[t] = v[t] > threshold`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lif {
    /// The share of the membrane potential that a step keeps, in [0, 1].
    pub decay: f64,
    /// The potential above which the neuron spikes.
    #[serde(default = "threshold")]
    pub threshold: f64,
    /// Subtract the threshold instead of setting the potential to zero.
    #[serde(default)]
    pub soft_reset: bool,
    /// The derivative of a spike by v - threshold, as if u were the threshold; `Clamp` stands for a window of one around it.
    /// The reset itself carries no gradient, as is usual.
    #[serde(default)]
    pub surrogate: Surrogate,
}

/// What a file gets that leaves the threshold out.
fn threshold() -> f64 {
    1.0
}

/// Over what a normalisation takes its statistics, for a (batch, channels, length) tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormAxes {
    /// Over batch and length, for every channel: BatchNorm.
    Batch,
    /// Over channels, for every position: LayerNorm.
    Layer,
}

/// What comes out of a normalisation.
#[derive(Clone, Debug)]
pub struct Normalized<B: Backend> {
    /// gamma (x - mean) / sqrt(var + eps) + beta, of x's shape.
    pub output: Tensor<B>,
    /// Mean: (channels) for Batch, (batch, length) for Layer.
    pub mean: Tensor<B>,
    /// Biased variance, of the mean's shape.
    pub var: Tensor<B>,
}

/// The step size's transform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DtTransform {
    /// dt = ln(1 + e^inv_dt).
    #[default]
    Softplus,
    /// dt = e^inv_dt.
    Exp,
}

/// How a continuous diagonal system becomes a discrete one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discretisation {
    /// Zero-order hold.
    Zoh,
    /// Bilinear (Tustin).
    Bilinear,
}

/// The stored parameters of an SSM layer; complex values are planar, with a leading axis of 2.
#[derive(Clone, Debug)]
pub struct SsmParams<B: Backend> {
    /// (H), through [`DtTransform`].
    pub inv_dt: Tensor<B>,
    /// (S, M), Re A = -exp(a_real).
    pub a_real: Tensor<B>,
    /// (S, M), Im A = -a_imag.
    pub a_imag: Tensor<B>,
    /// (2, S, M).
    pub b: Tensor<B>,
    /// (2, c, H, M): C~ of the kernel's length for DPLR, C for diagonal systems.
    pub c: Tensor<B>,
    /// (2, R, S, M), the low-rank correction; `None` for diagonal systems.
    pub p: Option<Tensor<B>>,
    /// How inv_dt becomes dt.
    pub dt: DtTransform,
}

impl<B: Backend> SsmParams<B> {
    /// Checks the shapes against each other and names the sizes.
    pub fn sizes(&self, op: &'static str) -> crate::error::Result<super::shape::Ssm> {
        let p = self.p.as_ref().map(|p| p.shape());
        super::shape::ssm(op, self.inv_dt.shape(), self.a_real.shape(), self.a_imag.shape(), self.b.shape(), self.c.shape(), p)
    }
}

/// A long convolution's operands: `y[t] = sum_{m <= t} k0[m] u[t-m] + sum_m k1[m] u[t+1+m] + D u[t]`.
#[derive(Debug)]
pub struct LongConv<'a, B: Backend> {
    /// u, (B, H, L); positions from `lengths[b]` on count as zero, in D's term too.
    pub input: &'a Tensor<B>,
    /// (1, H, Lk) causal, or (2, H, Lk) causal and anticausal; Lk may be shorter or longer than L.
    pub kernel: &'a Tensor<B>,
    /// D, (H).
    pub skip: Option<&'a Tensor<B>>,
    /// True lengths, one a sequence.
    pub lengths: Option<&'a [usize]>,
}

// Derived, both would ask that the backend itself can be copied.
impl<B: Backend> Clone for LongConv<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for LongConv<'_, B> {}

/// Dropout between a convolution and the next spikes, before and after the activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FiringDropout {
    /// The probability of 0, in (0, 1).
    pub p: f64,
    /// The draw for every element of y.
    pub elements: Key,
    /// The draw for every (batch, channel) of the activation.
    pub channels: Key,
}

/// How a long convolution's output y, (B, H, L), becomes spikes: those of `scale[h] drop(gelu(drop(y))) + shift[h]`.
#[derive(Debug)]
pub struct Firing<'a, B: Backend> {
    /// Apply GELU; else the activation is the identity.
    pub gelu: bool,
    /// Dropout, in training.
    pub dropout: Option<FiringDropout>,
    /// scale and shift, (H) each.
    pub affine: Option<(&'a Tensor<B>, &'a Tensor<B>)>,
    /// The draw.
    pub spike: &'a Spike<B>,
}

// Derived, both would ask that the backend itself can be copied.
impl<B: Backend> Clone for Firing<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for Firing<'_, B> {}

/// A channel mix's operands: `r + drop(f(W [x_1; x_2; ..] + bias))`.
#[derive(Debug)]
pub struct Mixing<'a, B: Backend> {
    /// x_i, (B, K_i, L) each.
    pub parts: &'a [&'a Tensor<B>],
    /// W, (H, sum K_i).
    pub weight: &'a Tensor<B>,
    /// (H).
    pub bias: &'a Tensor<B>,
    /// f; nothing is the identity.
    pub activation: Option<Unary>,
    /// The probability to drop a (batch, channel), in (0, 1), and the draw.
    pub dropout: Option<(f64, Key)>,
    /// r, (B, H, L).
    pub residual: Option<&'a Tensor<B>>,
}

// Derived, both would ask that the backend itself can be copied.
impl<B: Backend> Clone for Mixing<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for Mixing<'_, B> {}

/// The optimiser's numbers for one parameter in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// The step, from 1.
    pub step: u64,
}
