//! The long convolution, alone and straight on to the next spikes.

use super::{Draw, Products, Spike, Spiking, Tensor, Transfer, composed};
use crate::error::Result;

/// The long convolution, and what follows it in a layer.
pub trait Convolution: Products + Spiking {
    /// The long convolution. A channel whose input is all zero comes out exactly zero.
    fn long_conv(&self, conv: LongConv<'_, Self>) -> Result<Tensor<Self>> {
        composed::convolution::long_conv(self, conv)
    }
    /// Gradients of input, kernel, skip.
    fn long_conv_grad(&self, conv: LongConv<'_, Self>, g: &Tensor<Self>, needs: [bool; 3]) -> Result<[Option<Tensor<Self>>; 3]> {
        composed::convolution::long_conv_grad(self, conv, g, needs)
    }
    /// Spikes of a long convolution's output.
    fn fire(&self, conv: LongConv<'_, Self>, firing: Firing<&Tensor<Self>>) -> Result<Tensor<Self>> {
        composed::convolution::fire(self, conv, firing)
    }
    /// Surrogate gradients of input, kernel, skip, and of the firing's scale and shift.
    fn fire_grad(
        &self,
        conv: LongConv<'_, Self>,
        firing: Firing<&Tensor<Self>>,
        g: &Tensor<Self>,
        needs: [bool; 5],
    ) -> Result<[Option<Tensor<Self>>; 5]> {
        composed::convolution::fire_grad(self, conv, firing, g, needs)
    }
}

/// A long convolution's operands: `y[t] = sum_{m <= t} k0[m] u[t-m] + sum_m k1[m] u[t+1+m] + D u[t]`.
#[derive(Debug)]
pub struct LongConv<'a, B: Transfer> {
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
impl<B: Transfer> Clone for LongConv<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Transfer> Copy for LongConv<'_, B> {}

/// Dropout between a convolution and the next spikes, before and after the activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FiringDropout {
    /// The probability of 0, in (0, 1).
    pub p: f64,
    /// The draw for every element of y.
    pub elements: Draw,
    /// The draw for every (batch, channel) of the activation.
    pub channels: Draw,
}

/// How a long convolution's output y, (B, H, L), becomes spikes: those of `scale[h] drop(gelu(drop(y))) + shift[h]`. `T` holds values,
/// as in [`Noise`](super::Noise).
#[derive(Clone, Copy, Debug)]
pub struct Firing<T> {
    /// Apply GELU; else the activation is the identity.
    pub gelu: bool,
    /// Dropout, in training.
    pub dropout: Option<FiringDropout>,
    /// scale and shift, (H) each.
    pub affine: Option<(T, T)>,
    /// The draw.
    pub spike: Spike<T>,
}

impl<T> Firing<T> {
    /// The same with `f` of the values.
    pub fn map<U>(self, f: impl Fn(T) -> U) -> Firing<U> {
        let affine = self.affine.map(|(scale, shift)| (f(scale), f(shift)));
        Firing { gelu: self.gelu, dropout: self.dropout, affine, spike: self.spike.map(f) }
    }
}
