//! The gradient of a SpikeMixer's matrix, summed up over sequences: of spikes by tables of sums, of numbers by products.

use std::ops::Range;

use super::mixer::{Mixer, Parts, Shape, Spikes, stretch};
use super::spike_sums::{AddSteps, Mask, NEAR, WIDTH, mask_count, masks, table, time_major};
use crate::backend::Real;
use crate::backend::cpu::buffer::Buffer;
use crate::backend::cpu::elementwise::add;
use crate::backend::cpu::transposed_rows::{ROWS, panel, scatter};
use crate::backend::host::gemm::{Matrix, gemm};
use crate::backend::host::threads::{PIECE, for_each, for_each_piece, for_each_piece_with, for_each_with};
use crate::backend::host::vectors::at_level;

/// Parts of a batch whose gradients are summed up by themselves, then added in order: a fixed number, so that the result depends neither on
/// the number of threads nor on how many sequences are taken at a time.
const SHARES: usize = 8;

/// Sums over the sequences so far.
pub struct WeightGrad<E: Real> {
    /// How many parts of the batch there are: sequence b belongs to part b % shares.
    shares: usize,
    /// Of every part, of spikes (strips, padded channels, 16), as W^T in the mixer; of numbers W's own shape.
    sums: Buffer<E>,
    /// When the neurons of the sequences at hand spiked.
    masks: Vec<Mask>,
}

impl<E: Real> WeightGrad<E> {
    /// Zeros.
    pub fn new(mixer: &Mixer<'_, E>) -> Self {
        let Shape { batch, d_out, d_in, .. } = mixer.shape;
        let shares = SHARES.min(batch);
        let size = match &mixer.parts {
            Parts::Spikes(spikes) => d_out.next_multiple_of(ROWS) * spikes.padded(),
            Parts::Rows(_) => d_out * d_in,
        };
        WeightGrad { shares, sums: mixer.pool.zeros(shares * size), masks: Vec::new() }
    }

    /// Adds what some sequences give, from the gradient `g` of their product.
    pub fn add(&mut self, mixer: &Mixer<'_, E>, sequences: Range<usize>, g: &[E]) {
        match &mixer.parts {
            Parts::Spikes(spikes) => self.add_spikes(mixer, spikes, sequences, g),
            Parts::Rows(parts) => self.add_rows(mixer.shape, parts, sequences, g),
        }
    }

    fn add_rows(&mut self, shape: Shape, parts: &[(&[E], usize)], sequences: Range<usize>, g: &[E]) {
        let Shape { d_out, d_in, length, .. } = shape;
        let shares = self.shares;
        for_each_piece(&mut self.sums, d_out * d_in, |share, sums| {
            for b in sequences.clone().filter(|b| b % shares == share) {
                let g = Matrix::new(&g[(b - sequences.start) * d_out * length..][..d_out * length], d_out, length);
                let mut at = 0;
                for &(part, channels) in parts {
                    let x = Matrix::new(&part[b * channels * length..][..channels * length], channels, length);
                    gemm(g, x.transposed(), &mut sums[at..], d_in, true);
                    at += channels;
                }
            }
        });
    }

    fn add_spikes(&mut self, mixer: &Mixer<'_, E>, spikes: &Spikes<'_>, sequences: Range<usize>, g: &[E]) {
        let Shape { d_out, length, .. } = mixer.shape;
        let (padded, shares) = (spikes.padded(), self.shares);
        let of_sequence = self.see(spikes, sequences.clone(), length);
        let size = self.sums.len() / shares;
        // In the order of the sequences, that each thread goes on with its own.
        let mut work = Vec::new();
        for (share, sums) in self.sums.chunks_exact_mut(size).enumerate() {
            for (i, sums) in sums.chunks_mut(WIDTH * padded).enumerate() {
                let own: Vec<usize> = sequences.clone().filter(|b| b % shares == share).collect();
                work.extend((!own.is_empty()).then_some((own, i * WIDTH, sums)));
            }
        }
        work.sort_by_key(|(own, first, _)| (own[0], *first));
        let masks = &self.masks;
        let init = || (mixer.pool.zeros(NEAR * WIDTH), mixer.pool.dirty(table::<E>()));
        for_each_with(work, init, |(near, table), _, (own, first, sums)| {
            let (width, rows) = (sums.len() / padded, WIDTH.min(d_out - first));
            for b in own.into_iter().map(|b| b - sequences.start) {
                let g = &g[(b * d_out + first) * length..][..rows * length];
                let spiked = masks[b * of_sequence..][..of_sequence].chunks_exact(mask_count(padded));
                for (from, masks) in (0..length).step_by(NEAR).zip(spiked) {
                    let count = NEAR.min(length - from);
                    time_major(g, length, from, count, near);
                    at_level(AddSteps { near, width, count, masks, sums, table });
                }
            }
        });
    }

    /// Notes for each of the sequences and every [`NEAR`] steps of it at which of them the neurons spiked, (B, L / NEAR, masks);
    /// how many masks that are for a sequence.
    fn see(&mut self, spikes: &Spikes<'_>, sequences: Range<usize>, length: usize) -> usize {
        let count = mask_count(spikes.padded());
        let of_sequence = length.div_ceil(NEAR) * count;
        self.masks.resize(sequences.len() * of_sequence, Mask::default());
        for_each(self.masks.chunks_exact_mut(of_sequence.max(1)).collect(), |i, out| {
            let words = spikes.words(sequences.start + i);
            for (from, out) in (0..length).step_by(NEAR).zip(out.chunks_exact_mut(count)) {
                let near = stretch(&words, from, length.min(from + NEAR));
                out.iter_mut().zip(masks(&near)).for_each(|(out, mask)| *out = mask);
            }
        });
        of_sequence
    }

    /// The parts' sums, added up.
    pub fn finish(&self, mixer: &Mixer<'_, E>, out: &mut [E]) {
        let size = self.sums.len() / self.shares;
        let shares = || self.sums.chunks_exact(size);
        let Parts::Spikes(spikes) = &mixer.parts else {
            return for_each_piece(out, PIECE, |i, out| {
                out.fill(E::zero());
                shares().for_each(|share| add(&share[i * PIECE..][..out.len()], out));
            });
        };
        let (strip, d_in) = (spikes.padded() * ROWS, mixer.shape.d_in);
        for_each_piece_with(
            out,
            ROWS * d_in,
            || mixer.pool.dirty(strip),
            |sums, i, rows| {
                sums.fill(E::zero());
                shares().for_each(|share| add(&share[i * strip..][..strip], sums));
                for [at, column, count] in spikes.places() {
                    scatter(&panel(sums)[at..at + count], d_in, column, rows);
                }
            },
        );
    }
}
