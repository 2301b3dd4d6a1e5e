//! The long convolution, alone and straight on to the next spikes.

use super::{Draw, Products, Spike, Spiking, Tensor, Transfer, Unary, composed, shape};
use crate::error::Result;

/// The long convolution, and what follows it in a layer.
pub trait Convolution: Products + Spiking {
    /// The long convolution. A channel whose input is all zero comes out exactly zero.
    ///
    /// # Errors
    /// What [`LongConv::check`] refuses.
    fn long_conv(&self, conv: LongConv<'_, Self>) -> Result<Tensor<Self>> {
        composed::convolution::long_conv(self, conv)
    }
    /// Gradients of input, kernel, skip.
    ///
    /// # Errors
    /// What [`LongConv::check`] refuses; [`Error::Shape`](crate::Error::Shape) where `g` has not the input's shape.
    fn long_conv_grad(&self, conv: LongConv<'_, Self>, g: &Tensor<Self>, needs: [bool; 3]) -> Result<[Option<Tensor<Self>>; 3]> {
        composed::convolution::long_conv_grad(self, conv, g, needs)
    }
    /// Spikes of a long convolution's output.
    ///
    /// # Errors
    /// What [`LongConv::check`] and [`Firing::check`] refuse.
    fn fire(&self, conv: LongConv<'_, Self>, firing: Firing<&Tensor<Self>>) -> Result<Tensor<Self>> {
        composed::convolution::fire(self, conv, firing)
    }
    /// Surrogate gradients of input, kernel, skip, and of the firing's scale and shift.
    ///
    /// # Errors
    /// As [`Convolution::fire`]; [`Error::Shape`](crate::Error::Shape) where `g` has not the input's shape.
    fn fire_grad(
        &self,
        conv: LongConv<'_, Self>,
        firing: Firing<&Tensor<Self>>,
        g: &Tensor<Self>,
        needs: [bool; 5],
    ) -> Result<[Option<Tensor<Self>>; 5]> {
        composed::convolution::fire_grad(self, conv, firing, g, needs)
    }
    /// The same for a gradient that is given away: where nobody else shares its storage, the input's may be written over it.
    ///
    /// # Errors
    /// As [`Convolution::fire_grad`].
    fn fire_grad_over(
        &self,
        conv: LongConv<'_, Self>,
        firing: Firing<&Tensor<Self>>,
        g: Tensor<Self>,
        needs: [bool; 5],
    ) -> Result<[Option<Tensor<Self>>; 5]> {
        self.fire_grad(conv, firing, &g, needs)
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

// By hand: derived implementations would require `B: Clone` and `B: Copy`, and only references to tensors are copied.
impl<B: Transfer> Clone for LongConv<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Transfer> Copy for LongConv<'_, B> {}

impl<B: Transfer> LongConv<'_, B> {
    /// (B, H, L), where the operands fit each other.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the shapes do not fit; [`Error::Value`](crate::Error::Value) where something is empty
    /// or a length is not in 1..=L.
    pub fn check(&self) -> Result<[usize; 3]> {
        shape::long_conv(self.input.shape(), self.kernel.shape(), self.skip.map(Tensor::shape), self.lengths)
    }

    /// The same, for a gradient `g` of the output.
    pub(in crate::backend) fn check_grad(&self, op: &'static str, g: &Tensor<B>) -> Result<[usize; 3]> {
        let sizes = self.check()?;
        shape::gradient(op, &sizes, g.shape())?;
        Ok(sizes)
    }
}

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

/// How a long convolution's output y, (B, H, L), becomes spikes: those of `scale[h] drop(f(drop(y))) + shift[h]`. `T` holds values,
/// as in [`Noise`](super::Noise).
#[derive(Clone, Copy, Debug)]
pub struct Firing<T> {
    /// f, the activation; nothing is the identity.
    pub activation: Option<Unary>,
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
        Firing { activation: self.activation, dropout: self.dropout, affine, spike: self.spike.map(f) }
    }
}

impl<B: Transfer> Firing<&Tensor<B>> {
    /// Whether a convolution's output of shape (B, H, L) can become spikes in this way.
    ///
    /// # Errors
    /// What [`Spike::check`] refuses; [`Error::Shape`](crate::Error::Shape) where scale or shift is not (H);
    /// [`Error::Config`](crate::Error::Config) where dropout is not between 0 and 1 or the activation is a clamp whose ends are out of
    /// order, and [`Error::Value`](crate::Error::Value) where the sides of dropout's draws do not divide the batch.
    pub fn check(&self, op: &'static str, output: [usize; 3]) -> Result<()> {
        if let Some((scale, shift)) = self.affine {
            shape::affine(op, &output, scale.shape(), shift.shape())?;
        }
        self.activation.map_or(Ok(()), Unary::check)?;
        if let Some(FiringDropout { p, elements, channels }) = self.dropout {
            shape::dropout(p)?;
            elements.check(op, output[0])?;
            channels.check(op, output[0])?;
        }
        self.spike.check(op, &output)
    }
}
