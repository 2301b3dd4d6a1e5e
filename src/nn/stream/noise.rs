//! The uniform numbers of a block's steps: those of the parallel pass, one time step after the other.

use super::Chunk;
use crate::backend::rng::next_units;
use crate::backend::{Key, Real};

/// The numbers of every draw for the rows of a chunk: (rows, tiles 16) each.
#[derive(Clone, Debug)]
pub struct Noise<E> {
    pub draws: Vec<Vec<E>>,
}

impl<E: Real> Noise<E> {
    /// Draws those of a chunk; `key` is the block's.
    pub fn draw(&mut self, chunk: &Chunk<'_>, key: Key, generators: &mut [Vec<u64>], width: usize) {
        for ((draw, states), out) in (0..).zip(generators).zip(&mut self.draws) {
            let increment = key.fold(draw).increment();
            for (row, out) in out.chunks_exact_mut(width).enumerate().take(chunk.rows()) {
                let stream = chunk.first + row / chunk.steps;
                next_units(&mut states[stream * width..][..width], increment, out);
            }
        }
    }

    /// One row of a draw.
    pub fn row(&self, draw: usize, row: usize, width: usize) -> &[E] {
        &self.draws[draw][row * width..][..width]
    }
}
