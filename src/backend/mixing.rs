//! One matrix over the channels of several sequences.

use super::{Draw, Products, Spiking, Tensor, Transfer, Unary, composed};
use crate::error::Result;

/// The product over channels that lets the neurons of a layer talk, with what follows it.
pub trait ChannelMixing: Products + Spiking {
    /// One matrix over the channels of several sequences, with what follows: (B, H, L).
    fn mix(&self, mixing: Mixing<'_, Self>) -> Result<Tensor<Self>> {
        composed::mixing::mix(self, mixing)
    }
    /// Gradients of every part, of weight and bias (the residual's is `g` itself).
    fn mix_grad(&self, mixing: Mixing<'_, Self>, g: &Tensor<Self>, needs: &[bool]) -> Result<Vec<Option<Tensor<Self>>>> {
        composed::mixing::mix_grad(self, mixing, g, needs)
    }
}

/// A channel mix's operands: `r + drop(f(W [x_1; x_2; ..] + bias))`.
#[derive(Debug)]
pub struct Mixing<'a, B: Transfer> {
    /// x_i, (B, K_i, L) each.
    pub parts: &'a [&'a Tensor<B>],
    /// W, (H, sum K_i).
    pub weight: &'a Tensor<B>,
    /// (H).
    pub bias: &'a Tensor<B>,
    /// f; nothing is the identity.
    pub activation: Option<Unary>,
    /// The probability to drop a (batch, channel), in (0, 1), and the draw.
    pub dropout: Option<(f64, Draw)>,
    /// r, (B, H, L).
    pub residual: Option<&'a Tensor<B>>,
}

// Derived, both would ask that the backend itself can be copied.
impl<B: Transfer> Clone for Mixing<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Transfer> Copy for Mixing<'_, B> {}
