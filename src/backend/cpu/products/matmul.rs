//! Batches of matrix products.

use crate::backend::host::gemm::{Matrix, gemm_in_blocks};
use crate::backend::host::threads::for_each_piece;
use crate::backend::{Real, shape::Product};

/// The index of every batch entry of an operand under broadcasting: `shape` is the operand's batch axes.
fn batch_index(entry: usize, batch: &[usize], shape: &[usize]) -> usize {
    let (mut rest, mut index, mut stride) = (entry, 0, 1);
    for axis in (0..batch.len()).rev() {
        let at = rest % batch[axis];
        rest /= batch[axis];
        if let Some(own) = (axis + shape.len()).checked_sub(batch.len()) {
            index += if shape[own] == 1 { 0 } else { at * stride };
            stride *= shape[own];
        }
    }
    index
}

/// An operand of a batched product.
#[derive(Clone, Copy)]
pub struct Operand<'a, E> {
    /// (.., rows, columns).
    pub values: &'a [E],
    /// The batch axes.
    pub batch: &'a [usize],
    /// Stored transposed.
    pub transposed: bool,
}

impl<'a, E> Operand<'a, E> {
    fn matrix(&self, entry: usize, batch: &[usize], rows: usize, columns: usize) -> Matrix<'a, E> {
        let values = &self.values[batch_index(entry, batch, self.batch) * rows * columns..][..rows * columns];
        if self.transposed { Matrix::new(values, columns, rows).transposed() } else { Matrix::new(values, rows, columns) }
    }
}

/// All products of a batch.
pub fn matmul<E: Real>(x: Operand<'_, E>, y: Operand<'_, E>, product: &Product, out: &mut [E]) {
    let Product { batch, m, n, k } = product;
    let beside = batch.iter().product();
    for_each_piece(out, m * n, |entry, out| {
        gemm_in_blocks(x.matrix(entry, batch, *m, *k), y.matrix(entry, batch, *k, *n), out, beside);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_broadcast() {
        assert_eq!((0..6).map(|e| batch_index(e, &[2, 3], &[3])).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
        assert_eq!((0..6).map(|e| batch_index(e, &[2, 3], &[2, 1])).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1]);
    }
}
