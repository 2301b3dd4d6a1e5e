//! Draws from the random stream, any block of them by itself.

use super::Cpu;
use crate::backend::host::simd::{Isa, dispatch};
use crate::backend::host::threads::{CHUNK, for_each_chunk};
use crate::backend::{Key, LANES, Random, Real, Tensor, Words, normal_f64};
use crate::error::Result;

/// Uniform in [0, 1): element i from word i.
pub fn uniform<E: Real>(key: Key, out: &mut [E]) {
    for_each_chunk(out, CHUNK, |i, out| uniform_at(key, (i * CHUNK) as u64, out));
}

/// Elements `offset..` of a uniform draw.
pub fn uniform_at<E: Real>(key: Key, offset: u64, out: &mut [E]) {
    uniform_next(&mut key.words(offset), out);
}

dispatch! {
    /// The next words of a stream as uniform numbers; where `out` ends within a block of words, the rest of the block is lost.
    pub fn uniform_next<E: Real>(words: &mut Words, out: &mut [E]) = uniform_body;
}

#[inline(always)]
fn uniform_body<I: Isa, E: Real>(words: &mut Words, out: &mut [E]) {
    let (blocks, rest) = out.as_chunks_mut::<LANES>();
    for block in blocks {
        unit_block(words, block);
    }
    if !rest.is_empty() {
        let mut block = [E::zero(); LANES];
        unit_block(words, &mut block);
        rest.copy_from_slice(&block[..rest.len()]);
    }
}

#[inline(always)]
fn unit_block<E: Real>(words: &mut Words, out: &mut [E; LANES]) {
    let words = words.next_lanes();
    for (out, word) in out.iter_mut().zip(words) {
        *out = E::unit(word);
    }
}

/// Standard normal: element i from words 2i and 2i + 1.
pub fn normal<E: Real>(key: Key, out: &mut [E]) {
    for_each_chunk(out, CHUNK, |i, out| {
        let mut words = key.words(2 * (i * CHUNK) as u64);
        for out in out.chunks_mut(LANES / 2) {
            let lanes = words.next_lanes();
            out.iter_mut().zip(lanes.as_chunks::<2>().0).for_each(|(out, pair)| *out = E::of(normal_f64(pair[0], pair[1])));
        }
    });
}

impl<E: Real> Random for Cpu<E> {
    fn uniform(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>> {
        Ok(self.make(shape, |out| uniform(key, out)))
    }

    fn normal(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>> {
        Ok(self.make(shape, |out| normal(key, out)))
    }
}
