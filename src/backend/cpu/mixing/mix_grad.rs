//! The gradients of a mix, some sequences at a time: the gradient of their product is made, and used up while it is in the caches.

use std::ops::Range;
use std::sync::Arc;

use super::mixer::{Mixer, Shape};
use super::weight_grad::WeightGrad;
use crate::backend::Real;
use crate::backend::cpu::buffer::{Buffer, Pool};

/// The gradients so far.
pub struct MixGrad<'a, E: Real> {
    mixer: &'a Mixer<'a, E>,
    /// Where tensors' buffers come from.
    pool: &'a Arc<Pool<E>>,
    /// Of every part its channels and its gradient, (B, K_i, L), where that is wanted.
    pub parts: Vec<(usize, Option<Buffer<E>>)>,
    weight: Option<WeightGrad<E>>,
    /// The sums of the rows of the product's gradient, (B, H), where the bias's is wanted.
    sums: Vec<f64>,
}

impl<'a, E: Real> MixGrad<'a, E> {
    /// Nothing so far: which gradients are wanted of the parts, with the channels of each, of W and of the bias.
    pub fn new(mixer: &'a Mixer<'a, E>, pool: &'a Arc<Pool<E>>, parts: &[(usize, bool)], weight: bool, bias: bool) -> Self {
        let Shape { batch, d_out, length, .. } = mixer.shape;
        let part = |&(channels, wanted): &(usize, bool)| (channels, wanted.then(|| pool.dirty(batch * channels * length)));
        let sums = vec![0.0; if bias { batch * d_out } else { 0 }];
        MixGrad { mixer, pool, parts: parts.iter().map(part).collect(), weight: weight.then(|| WeightGrad::new(mixer)), sums }
    }

    /// What these sequences give, for the output's gradient `g`, (B, H, L) of all.
    pub fn add(&mut self, sequences: Range<usize>, g: &[E]) {
        let (mixer, d_out, length) = (self.mixer, self.mixer.shape.d_out, self.mixer.shape.length);
        let numbers = |channels: usize| sequences.start * channels * length..sequences.end * channels * length;
        let sums = self.sums.get_mut(sequences.start * d_out..sequences.end * d_out).unwrap_or_default();
        let mut inner;
        let g = if mixer.is_plain() {
            mixer.row_sums(&g[numbers(d_out)], sums);
            &g[numbers(d_out)]
        } else {
            inner = self.pool.dirty(sequences.len() * d_out * length);
            mixer.product_grad(sequences.clone(), g, &mut inner, sums);
            &inner
        };
        let mut at = 0;
        for (channels, out) in &mut self.parts {
            if let Some(out) = out {
                mixer.part_grad(g, at, *channels, &mut out[numbers(*channels)]);
            }
            at += *channels;
        }
        if let Some(weight) = &mut self.weight {
            weight.add(mixer, sequences.clone(), g);
        }
    }

    /// The gradient of W, if it was wanted.
    pub fn weight(&self, out: &mut [E]) {
        if let Some(weight) = &self.weight {
            weight.finish(self.mixer, out);
        }
    }

    /// The gradient of the bias, if it was wanted: the sum over batch and length.
    pub fn bias(&self, out: &mut [E]) {
        let of_channel = |h: usize| self.sums[h..].iter().step_by(self.mixer.shape.d_out).sum();
        out.iter_mut().enumerate().for_each(|(h, out)| *out = E::of(of_channel(h)));
    }
}
