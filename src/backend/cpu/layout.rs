//! Moving values: permute, slice, concat, flip, embedding rows.

use super::{Cpu, values};
use crate::backend::host::threads::{PIECE, for_each_piece, for_each_with};
use crate::backend::{Layout, Real, Tensor, shape};
use crate::error::Result;

/// Axis i of the result is axis `axes[i]` of x.
pub fn permute<E: Real>(x: &[E], shape: &[usize], axes: &[usize], out: &mut [E]) {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    let new: Vec<(usize, usize)> = axes.iter().map(|&a| (shape[a], strides[a])).collect();
    for_each_piece(out, PIECE, |i, out| {
        let mut position = i * PIECE;
        let mut index: Vec<usize> = vec![0; new.len()];
        for (index, &(len, _)) in index.iter_mut().zip(&new).rev() {
            *index = position % len;
            position /= len;
        }
        let mut from: usize = index.iter().zip(&new).map(|(i, &(_, stride))| i * stride).sum();
        for out in out {
            *out = x[from];
            for (index, &(len, stride)) in index.iter_mut().zip(&new).rev() {
                *index += 1;
                from += stride;
                if *index < len {
                    break;
                }
                from -= stride * len;
                *index = 0;
            }
        }
    });
}

/// (outer, axis, inner) sizes of a shape around an axis.
fn around(shape: &[usize], axis: usize) -> (usize, usize) {
    (shape[axis], shape[axis + 1..].iter().product())
}

/// `len` entries from `start` on along `axis`.
pub fn slice<E: Real>(x: &[E], shape: &[usize], axis: usize, start: usize, len: usize, out: &mut [E]) {
    let (size, inner) = around(shape, axis);
    for_each_piece(out, len * inner, |outer, out| out.copy_from_slice(&x[(outer * size + start) * inner..][..len * inner]));
}

/// The parts (with their shapes) one after another along `axis`.
pub fn concat<E: Real>(parts: &[(&[E], &[usize])], axis: usize, out: &mut [E]) {
    let widths: Vec<usize> = parts.iter().map(|(_, shape)| shape[axis..].iter().product()).collect();
    for_each_piece(out, widths.iter().sum(), |outer, mut out| {
        for ((part, _), &width) in parts.iter().zip(&widths) {
            let (head, tail) = out.split_at_mut(width);
            head.copy_from_slice(&part[outer * width..][..width]);
            out = tail;
        }
    });
}

/// The entries along `axis` in reverse order.
pub fn flip<E: Real>(x: &[E], shape: &[usize], axis: usize, out: &mut [E]) {
    let (size, inner) = around(shape, axis);
    for_each_piece(out, size * inner, |outer, out| {
        let rows = x[outer * size * inner..][..size * inner].chunks_exact(inner.max(1));
        out.chunks_exact_mut(inner.max(1)).rev().zip(rows).for_each(|(out, row)| out.copy_from_slice(row));
    });
}

/// Rows of `table` (V, H) for tokens (batch, L), as (batch, H, L).
pub fn embed<E: Real>(table: &[E], d_model: usize, tokens: &[u32], length: usize, out: &mut [E]) {
    for_each_piece(out, d_model * length, |b, out| {
        let tokens = &tokens[b * length..][..length];
        for (h, row) in out.chunks_exact_mut(length).enumerate() {
            row.iter_mut().zip(tokens).for_each(|(out, &t)| *out = table[t as usize * d_model + h]);
        }
    });
}

/// The gradient of `table`, (V, H): every channel sums over the batch in order, in f64.
pub fn embed_grad<E: Real>(rows: usize, tokens: &[u32], g: &[E], [batch, d_model, length]: [usize; 3], out: &mut [E]) {
    let mut columns = vec![0.0f64; rows * d_model];
    let work: Vec<&mut [f64]> = columns.chunks_exact_mut(rows).collect();
    for_each_with(
        work,
        || (),
        |(), h, column| {
            for b in 0..batch {
                let g = &g[(b * d_model + h) * length..][..length];
                tokens[b * length..][..length].iter().zip(g).for_each(|(&t, &g)| column[t as usize] += g.f64());
            }
        },
    );
    for (i, out) in out.iter_mut().enumerate() {
        *out = E::of(columns[i % d_model * rows + i / d_model]);
    }
}

impl<E: Real> Layout for Cpu<E> {
    fn permute(&self, x: &Tensor<Self>, axes: &[usize]) -> Result<Tensor<Self>> {
        let shape = shape::permutation("permute", x.shape(), axes)?;
        Ok(self.make(&shape, |out| permute(values(x), x.shape(), axes, out)))
    }

    fn slice(&self, x: &Tensor<Self>, axis: usize, start: usize, len: usize) -> Result<Tensor<Self>> {
        let shape = shape::slice("slice", x.shape(), axis, start, len)?;
        Ok(self.make(&shape, |out| slice(values(x), x.shape(), axis, start, len, out)))
    }

    fn concat(&self, parts: &[&Tensor<Self>], axis: usize) -> Result<Tensor<Self>> {
        let shapes: Vec<&[usize]> = parts.iter().map(|p| p.shape()).collect();
        let shape = shape::concat("concat", &shapes, axis)?;
        let parts: Vec<_> = parts.iter().map(|p| (values(p), p.shape())).collect();
        Ok(self.make(&shape, |out| concat(&parts, axis, out)))
    }

    fn flip(&self, x: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        shape::axis("flip", axis, x.shape())?;
        Ok(self.make(x.shape(), |out| flip(values(x), x.shape(), axis, out)))
    }

    fn embed(&self, table: &Tensor<Self>, tokens: &[u32], batch: usize) -> Result<Tensor<Self>> {
        let shape @ [_, d_model, length] = shape::embedding("embed", table.shape(), tokens, batch)?;
        Ok(self.make(&shape, |out| embed(values(table), d_model, tokens, length, out)))
    }

    fn embed_grad(&self, rows: usize, tokens: &[u32], g: &Tensor<Self>) -> Result<Tensor<Self>> {
        let sizes = shape::embedding_grad("embed_grad", rows, tokens, g.shape())?;
        Ok(self.make(&[rows, sizes[1]], |out| embed_grad(rows, tokens, values(g), sizes, out)))
    }
}
