//! A SpikeMixer in steps: the rows of W^T of the neurons that spiked, added up.

use pulp::{Simd, WithSimd};

use super::int8::{Int8Rows, add_rows};
use super::rows::padded;
use crate::backend::host::vectors::{ROWS, at_level};
use crate::backend::{Backend, Real, Unary};
use crate::error::Result;
use crate::nn::SpikeMixer;

/// The most sums that are kept in registers.
const WIDEST: usize = 8;

/// W^T with a row for every neuron of every branch, rows and columns padded to whole tiles.
#[derive(Debug)]
enum Weights<E> {
    Real(Vec<E>),
    Int8(Int8Rows<E>),
}

/// A SpikeMixer's weights, and what follows.
#[derive(Debug)]
pub struct Mixer<E> {
    weights: Weights<E>,
    bias: Vec<E>,
    /// What follows the sum.
    pub activation: Option<Unary>,
}

impl<E: Real> Mixer<E> {
    /// The weights of `mixer`, of `branches` branches, in 8 bits each or as they are.
    pub fn new<B: Backend<Elem = E>>(backend: &B, mixer: &SpikeMixer<B>, branches: usize, int8: bool) -> Result<Self> {
        let (weight, bias) = (backend.to_vec(&mixer.weight.value())?, backend.to_vec(&mixer.bias.value())?);
        let (channels, width) = (bias.len(), bias.len().next_multiple_of(ROWS));
        let mut weights = vec![E::zero(); branches * width * width];
        for branch in 0..branches {
            for (k, row) in weights[branch * width * width..].chunks_exact_mut(width).take(channels).enumerate() {
                let column = weight[branch * channels + k..].iter().step_by(branches * channels);
                row.iter_mut().zip(column).for_each(|(w, &value)| *w = value);
            }
        }
        let weights = if int8 { Weights::Int8(Int8Rows::new(&weights, width)) } else { Weights::Real(weights) };
        Ok(Mixer { weights, bias: padded(&bias), activation: mixer.activation.function() })
    }

    /// Bytes of parameters.
    pub fn bytes(&self) -> usize {
        let weights = match &self.weights {
            Weights::Real(weights) => size_of_val(&weights[..]),
            Weights::Int8(rows) => rows.bytes(),
        };
        weights + size_of_val(&self.bias[..])
    }

    /// W z + b of every row: `spiked` has the neurons of all rows one after the other, and of every row its `ends` where they end.
    pub fn mix(&self, spiked: &[u32], ends: &[usize], out: &mut [E]) {
        match &self.weights {
            Weights::Real(weights) => at_level(AddRows { weights, bias: &self.bias, spiked, ends, out }),
            Weights::Int8(rows) => add_rows(rows, &self.bias, spiked, ends, out),
        }
    }
}

struct AddRows<'a, E> {
    weights: &'a [E],
    bias: &'a [E],
    spiked: &'a [u32],
    ends: &'a [usize],
    out: &'a mut [E],
}

impl<E: Real> WithSimd for AddRows<'_, E> {
    type Output = ();
    /// Blocks of columns, as equal as they can be: a block of the weights stays in the cache while rows go by.
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let vectors = self.bias.len() / E::count::<S>();
        let blocks = vectors.div_ceil(WIDEST);
        for block in 0..blocks {
            let (from, to) = (block * vectors / blocks, (block + 1) * vectors / blocks);
            match to - from {
                1 => self.block::<S, 1>(s, from, vectors),
                2 => self.block::<S, 2>(s, from, vectors),
                3 => self.block::<S, 3>(s, from, vectors),
                4 => self.block::<S, 4>(s, from, vectors),
                5 => self.block::<S, 5>(s, from, vectors),
                6 => self.block::<S, 6>(s, from, vectors),
                7 => self.block::<S, 7>(s, from, vectors),
                _ => self.block::<S, WIDEST>(s, from, vectors),
            }
        }
    }
}

impl<E: Real> AddRows<'_, E> {
    /// The columns of `SUMS` vectors from number `from` on.
    #[inline(always)]
    fn block<S: Simd, const SUMS: usize>(&mut self, s: S, from: usize, vectors: usize) {
        let weights = E::vectors::<S>(self.weights);
        let Some(start) = E::vectors::<S>(self.bias)[from..].first_chunk::<SUMS>() else { return };
        let mut begin = 0;
        for (out, &end) in E::vectors_mut::<S>(self.out).chunks_exact_mut(vectors).zip(self.ends) {
            let mut sums = *start;
            for &k in &self.spiked[begin..end] {
                let Some(row) = weights[k as usize * vectors + from..].first_chunk::<SUMS>() else { return };
                for (sum, &w) in sums.iter_mut().zip(row) {
                    *sum = E::plus(s, *sum, w);
                }
            }
            out[from..from + SUMS].copy_from_slice(&sums);
            begin = end;
        }
    }
}
