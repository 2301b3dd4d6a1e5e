//! Indexing, by way of the host: a copy there and back, which waits for the device.

use crate::backend::{Layout, Tensor, shape};
use crate::error::Result;

/// The entries `index` of `axis`.
pub fn index_select<B: Layout>(backend: &B, x: &Tensor<B>, axis: usize, index: &[u32]) -> Result<Tensor<B>> {
    let shape = shape::index_select("index_select", x.shape(), axis, index)?;
    let (size, inner) = (x.shape()[axis], x.shape()[axis + 1..].iter().product::<usize>());
    let values = backend.to_vec(x)?;
    let mut out = Vec::with_capacity(shape.iter().product());
    for block in values.chunks_exact((size * inner).max(1)) {
        index.iter().for_each(|&i| out.extend_from_slice(&block[i as usize * inner..][..inner]));
    }
    backend.from_vec(out, &shape)
}

/// Zeros, to which the entries of `g` are added at `index`.
pub fn index_add<B: Layout>(backend: &B, g: &Tensor<B>, axis: usize, index: &[u32], len: usize) -> Result<Tensor<B>> {
    let shape = shape::index_add("index_add", g.shape(), axis, index, len)?;
    let inner = shape[axis + 1..].iter().product::<usize>();
    let values = backend.to_vec(g)?;
    let mut out = vec![num_traits::zero::<B::Elem>(); shape.iter().product()];
    let blocks = values.chunks_exact((index.len() * inner).max(1));
    for (block, out) in blocks.zip(out.chunks_exact_mut((len * inner).max(1))) {
        for (row, &i) in block.chunks_exact(inner).zip(index) {
            out[i as usize * inner..][..inner].iter_mut().zip(row).for_each(|(out, &g)| *out += g);
        }
    }
    backend.from_vec(out, &shape)
}
