//! Moving values: permute, slice, concat, flip, indexed entries, embedding rows.

use super::{Cpu, values};
use crate::backend::host::threads::{PIECE, for_each, for_each_piece, for_each_with};
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

/// (position in `index`, first entry, length) of every run of entries that stand one after another.
fn runs(index: &[u32]) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
    let mut at = 0;
    index.chunk_by(|a, b| a.wrapping_add(1) == *b).map(move |run| {
        at += run.len();
        (at - run.len(), run[0] as usize, run.len())
    })
}

/// Whether the entries are single numbers in no order, so that nothing is won by copying runs of them.
fn scattered(index: &[u32], inner: usize) -> bool {
    inner == 1 && runs(index).count() * 4 > index.len()
}

/// The entries `index` of the middle axis of x, (outer, size, inner).
pub fn index_select<E: Real>(x: &[E], [size, inner]: [usize; 2], index: &[u32], out: &mut [E]) {
    let (block, scattered) = (index.len() * inner, scattered(index, inner));
    let pick = |outer: usize, index: &[u32], out: &mut [E]| {
        let x = &x[outer * size * inner..][..size * inner];
        if scattered {
            out.iter_mut().zip(index).for_each(|(out, &i)| *out = x[i as usize]);
        } else {
            runs(index).for_each(|(at, first, len)| out[at * inner..][..len * inner].copy_from_slice(&x[first * inner..][..len * inner]));
        }
    };
    if block <= PIECE {
        let blocks = PIECE / block.max(1);
        for_each_piece(out, blocks * block, |i, out| {
            out.chunks_exact_mut(block).enumerate().for_each(|(j, out)| pick(i * blocks + j, index, out));
        });
        return;
    }
    let rows = (PIECE / inner).max(1);
    let parts: Vec<&mut [E]> = out.chunks_exact_mut(block).flat_map(|block| block.chunks_mut(rows * inner)).collect();
    let in_block = index.len().div_ceil(rows);
    for_each(parts, |i, out| pick(i / in_block, &index[i % in_block * rows..][..out.len() / inner], out));
}

/// Outer blocks from which on sums are shared among threads by blocks alone.
const BLOCKS: usize = 8;

/// The entries of g, (outer, index, inner), added to zeros (outer, len, inner) at `index`, in its order.
pub fn index_add<E: Real>(g: &[E], [len, inner]: [usize; 2], index: &[u32], out: &mut [E]) {
    let (block, width) = (len * inner, index.len() * inner);
    if block <= PIECE || out.len() >= BLOCKS * block {
        let (blocks, scattered) = ((PIECE / block.max(1)).max(1), scattered(index, inner));
        for_each_piece(out, blocks * block, |i, out| {
            for (j, out) in out.chunks_exact_mut(block).enumerate() {
                let g = &g[(i * blocks + j) * width..][..width];
                out.fill(E::zero());
                if scattered {
                    index.iter().zip(g).for_each(|(&i, &g)| out[i as usize] += g);
                } else {
                    runs(index).for_each(|(at, first, len)| add(&g[at * inner..][..len * inner], &mut out[first * inner..][..len * inner]));
                }
            }
        });
        return;
    }
    // Few large blocks: a thread has a stretch of the sums, and what goes there, in order.
    let rows = (PIECE / inner).max(1);
    let in_block = len.div_ceil(rows);
    let (order, bounds) = by_stretch(index, rows, in_block);
    let parts: Vec<&mut [E]> = out.chunks_exact_mut(block).flat_map(|block| block.chunks_mut(rows * inner)).collect();
    for_each(parts, |i, out| {
        let (g, part) = (&g[i / in_block * width..][..width], i % in_block);
        out.fill(E::zero());
        for &at in &order[bounds[part]..bounds[part + 1]] {
            let to = index[at] as usize - part * rows;
            add(&g[at * inner..][..inner], &mut out[to * inner..][..inner]);
        }
    });
}

/// out += x.
fn add<E: Real>(x: &[E], out: &mut [E]) {
    out.iter_mut().zip(x).for_each(|(out, &x)| *out += x);
}

/// The positions in `index` by the stretch of `rows` entries that they name, in order within each, and where each stretch's begin.
fn by_stretch(index: &[u32], rows: usize, stretches: usize) -> (Vec<usize>, Vec<usize>) {
    let mut bounds = vec![0; stretches + 1];
    index.iter().for_each(|&i| bounds[i as usize / rows + 1] += 1);
    (0..stretches).for_each(|i| bounds[i + 1] += bounds[i]);
    let (mut next, mut order) = (bounds.clone(), vec![0; index.len()]);
    for (at, &i) in index.iter().enumerate() {
        let slot = &mut next[i as usize / rows];
        order[*slot] = at;
        *slot += 1;
    }
    (order, bounds)
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

    fn index_select(&self, x: &Tensor<Self>, axis: usize, index: &[u32]) -> Result<Tensor<Self>> {
        let shape = shape::index_select("index_select", x.shape(), axis, index)?;
        let (size, inner) = around(x.shape(), axis);
        Ok(self.make(&shape, |out| index_select(values(x), [size, inner], index, out)))
    }

    fn index_add(&self, g: &Tensor<Self>, axis: usize, index: &[u32], len: usize) -> Result<Tensor<Self>> {
        let shape = shape::index_add("index_add", g.shape(), axis, index, len)?;
        let (_, inner) = around(g.shape(), axis);
        Ok(self.make(&shape, |out| index_add(values(g), [len, inner], index, out)))
    }
}
