//! Evaluation of a batch slice by slice, so that what passes from op to op stays in the caches. A sample's bits do not depend on it: its
//! random numbers go with its number in the batch.

use super::input::Content;
use super::{Encoder, Head, Input, Model};
use crate::autodiff::Var;
use crate::backend::Backend;
use crate::error::Result;
use crate::nn::Context;
use crate::nn::ssm::kept::MOST;

impl<B: Backend> Model<B> {
    /// How many sequences of the input a pass had better take at a time; `None` for all of them.
    pub(super) fn slice_size(&self, cx: &Context<'_, B>, input: &Input<'_, B>) -> Option<usize> {
        let even = |count: usize, parts: usize| (count.checked_rem(parts) == Some(0)).then(|| count / parts);
        let length = match (&input.content, self.config.encoder) {
            (Content::Tokens(tokens), Encoder::Tokens(_)) => even(tokens.len(), input.batch)?,
            (Content::Values(values), Encoder::Values(width)) => even(values.len(), input.batch.checked_mul(width)?)?,
            _ => return None,
        };
        let of_one = length * self.config.block.ssm.d_model;
        let fits = input.lengths.is_none_or(|lengths| lengths.len() == input.batch);
        // Longer kernels are not kept, and each slice would generate them anew.
        if !fits || !cx.parts_samples() || matches!(self.head, Head::Retrieval(..)) || of_one == 0 || of_one > MOST / 2 {
            return None;
        }
        let size = (cx.backend().cached_bytes()? / (of_one * size_of::<B::Elem>())).max(1);
        (size < input.batch).then_some(size)
    }

    /// As [`Model::pooled`], by slices of so many sequences.
    pub(super) fn pooled_in_slices(&self, cx: &Context<'_, B>, input: &Input<'_, B>, size: usize) -> Result<Var<B>> {
        let slices = (0..input.batch).step_by(size).map(|from| {
            let slice = input.slice(from, size.min(input.batch - from));
            self.pooled(&cx.clone().first_sample(cx.samples.first + from as u64), slice)
        });
        let slices = slices.collect::<Result<Vec<_>>>()?;
        Var::concat(&slices.iter().collect::<Vec<_>>(), 0)
    }
}
