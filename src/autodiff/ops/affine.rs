//! `Affine`: every channel's own scale and shift.

use crate::autodiff::gradcheck::Generate;
use crate::autodiff::{Case, Grads, Needs, Op, Oracle, Var, operands};
use crate::backend::{Backend, Tensor};
use crate::error::{Error, Result};

/// `scale[h] x + shift[h]`; inputs x (B, H, L) or (B, H), scale (H), shift (H).
///
/// The official code's `inp_a * x + inp_b` and `out_a * x + out_b`.
#[derive(Clone, Copy, Debug)]
pub struct Affine;

impl<B: Backend> Op<B> for Affine {
    const NAME: &'static str = "affine";
    /// x and scale.
    type Saved = [Tensor<B>; 2];

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x, scale, shift] = operands("affine", inputs)?;
        Ok((backend.affine(x, scale, shift)?, [x.clone(), scale.clone()]))
    }

    fn backward(&self, backend: &B, [x, scale]: Self::Saved, grad: &Tensor<B>, needs: Needs) -> Result<Grads<B>> {
        Ok(backend.affine_grad(&x, &scale, grad, needs.flags())?.into())
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Composition(broadcast_product)
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let [batch, channels, length] = [generate.size(1..=3), generate.size(1..=5), generate.size(1..=20)];
        // Long enough for several vectors a row, and for buffers that are used again.
        let long = generate.size(700..=900);
        [vec![batch, channels, length], vec![batch, channels], vec![1, 1, 1], vec![1, 1], vec![2, 3, long]]
            .into_iter()
            .map(|shape| Case::new(Affine, [generate.normal(&shape), generate.normal(&[shape[1]]), generate.normal(&[shape[1]])]))
            .collect()
    }
}

/// The same by broadcasting.
fn broadcast_product<B: Backend>(_: &Affine, inputs: &[Var<B>]) -> Result<Var<B>> {
    let [x, scale, shift] = inputs else {
        return Err(Error::value("affine", "takes three inputs: x, scale, shift"));
    };
    let mut shape = vec![1; x.shape().len()];
    shape[1] = scale.shape()[0];
    x.mul(&scale.reshape(&shape)?)?.add(&shift.reshape(&shape)?)
}

impl<B: Backend> Var<B> {
    /// `scale[h] x + shift[h]` for x (B, H, L) or (B, H), scale (H) and shift (H); of x's shape.
    ///
    /// # Errors
    /// [`Error::Shape`] where x has neither two nor three axes or the others are not (H); [`Error::Value`] where x is empty.
    pub fn affine(&self, scale: &Var<B>, shift: &Var<B>) -> Result<Var<B>> {
        self.tape().apply(Affine, &[self, scale, shift])
    }
}
