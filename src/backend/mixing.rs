//! One matrix over the channels of several sequences.

use super::{Draw, Products, Spiking, Tensor, Transfer, Unary, composed, shape};
use crate::error::{Error, Result};

/// The product over channels that lets the neurons of a layer talk, with what follows it.
pub trait ChannelMixing: Products + Spiking {
    /// One matrix over the channels of several sequences, with what follows: (B, H, L).
    ///
    /// # Errors
    /// What [`Mixing::check`] refuses.
    fn mix(&self, mixing: Mixing<'_, Self>) -> Result<Tensor<Self>> {
        composed::mixing::mix(self, mixing)
    }
    /// Gradients of every part, of weight and bias (the residual's is `g` itself); `needs` has a flag for each of them.
    ///
    /// # Errors
    /// What [`Mixing::check`] refuses; [`Error::Shape`] where `g` is not (B, H, L) or `needs` has another length.
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

// By hand: derived implementations would require `B: Clone` and `B: Copy`, and only references to tensors are copied.
impl<B: Transfer> Clone for Mixing<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Transfer> Copy for Mixing<'_, B> {}

impl<B: Transfer> Mixing<'_, B> {
    /// The output's (B, H, L), where the operands fit each other.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit, naming the part; [`Error::Value`] where there is no part, one is empty, or the sides
    /// of dropout's draw do not divide the batch; [`Error::Config`] where dropout is not between 0 and 1, or the activation is a clamp
    /// whose ends are out of order.
    pub fn check(&self) -> Result<[usize; 3]> {
        const OP: &str = "mix";
        let ([batch, channels, length], weight) = (stacked(OP, self.parts)?, self.weight.shape());
        shape::rank(OP, "the weight", &["outputs", "inputs"], weight)?;
        if weight[0] == 0 {
            return Err(Error::value(OP, "the weight has no rows: give at least one output channel"));
        }
        shape::exactly(OP, "the weight (outputs, channels of all parts)", &[weight[0], channels], weight)?;
        shape::exactly(OP, "the bias (outputs)", &[weight[0]], self.bias.shape())?;
        let output = [batch, weight[0], length];
        if let Some(residual) = self.residual {
            shape::exactly(OP, "the residual (batch, outputs, length)", &output, residual.shape())?;
        }
        self.activation.map_or(Ok(()), Unary::check)?;
        if let Some((p, draw)) = self.dropout {
            shape::dropout(p)?;
            draw.check(OP, batch)?;
        }
        Ok(output)
    }

    /// The same, for a gradient `g` of the output.
    pub(in crate::backend) fn check_grad(&self, g: &Tensor<B>, needs: &[bool]) -> Result<[usize; 3]> {
        let output = self.check()?;
        shape::gradient("mix_grad", &output, g.shape())?;
        shape::exactly("mix_grad", "needs, with a flag for every part, weight and bias,", &[self.parts.len() + 2], &[needs.len()])?;
        Ok(output)
    }
}

/// (B, sum K_i, L) of the parts.
fn stacked<B: Transfer>(op: &'static str, parts: &[&Tensor<B>]) -> Result<[usize; 3]> {
    let Some(first) = parts.first() else {
        return Err(Error::value(op, "give at least one part"));
    };
    let mut channels = 0;
    for (i, part) in parts.iter().enumerate() {
        let (first, part) = (first.shape(), part.shape());
        let [_, part_channels, _] = shape::sequence(op, &format!("part {i}"), part)?;
        if let Some(axis) = [0, 2].into_iter().find(|&axis| first[axis] != part[axis]) {
            return Err(Error::shape(op, axis, first, part, format!("parts 0 and {i} must have the same batch and length")));
        }
        channels += part_channels;
    }
    Ok([first.shape()[0], channels, first.shape()[2]])
}
