//! Moving values: permute, slice, concat, flip, embedding rows, entries by index.

use cubecl::prelude::*;

use super::elementwise::reduce::{offset, sum_cube};
use super::launch::UNITS;
use super::storage::arg;
use super::{Cube, Scalar};
use crate::backend::{Layout, Tensor, shape};
use crate::error::Result;

/// Positions of a token whose gradients one cube sums.
const SEGMENT: usize = 512;

/// Writes `out` in order and reads x in strides: entry i is at `base` + the offset of i along `axes`, (length, stride) pairs, last axis
/// first.
#[cube(launch)]
fn gather_kernel<F: Float>(x: &Array<F>, out: &mut Array<F>, axes: &Array<u32>, base: u32, #[comptime] rank: usize) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = x[(base + offset(axes, 0usize, rank, ABSOLUTE_POS as u32)) as usize];
    }
}

/// Reads x in order and writes `out` in strides.
#[cube(launch)]
fn scatter_kernel<F: Float>(x: &Array<F>, out: &mut Array<F>, axes: &Array<u32>, base: u32, #[comptime] rank: usize) {
    if ABSOLUTE_POS < x.len() {
        out[(base + offset(axes, 0usize, rank, ABSOLUTE_POS as u32)) as usize] = x[ABSOLUTE_POS];
    }
}

/// Turns (length, stride) pairs, first axis first, into what a kernel takes: last axis first, without axes of length 1, and with neighbours
/// joined that are one run of memory.
pub(super) fn axes(axes: impl IntoIterator<Item = (usize, usize)>) -> Vec<usize> {
    let mut joined: Vec<(usize, usize)> = Vec::new();
    for (len, stride) in axes {
        match joined.last_mut() {
            _ if len == 1 => {}
            Some(outer) if outer.1 == stride.wrapping_mul(len) => *outer = (outer.0 * len, stride),
            _ => joined.push((len, stride)),
        }
    }
    joined.into_iter().rev().flat_map(|(len, stride)| [len, stride]).collect()
}

/// A tensor of `shape` from x by `axes`, from `base` on.
fn gather<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    method: &'static str,
    x: &Tensor<Cube<R, E>>,
    shape: &[usize],
    axes: &[usize],
    base: usize,
) -> Result<Tensor<Cube<R, E>>> {
    let out = cube.alloc(method, shape)?;
    if out.numel() > 0 {
        let ((cubes, units), table) = (cube.units(out.numel()), cube.sizes(axes)?);
        gather_kernel::launch::<E, R>(cube.client(), cubes, units, arg(x), arg(&out), table.arg(), base as u32, axes.len() / 2);
    }
    Ok(out)
}

/// The length of an axis, and the number of elements within one of its entries.
fn around(shape: &[usize], axis: usize) -> (usize, usize) {
    (shape[axis], shape[axis + 1..].iter().product())
}

/// Axis i of the result is axis `order[i]` of x.
pub(super) fn permute<R: Runtime, E: Scalar>(cube: &Cube<R, E>, x: &Tensor<Cube<R, E>>, order: &[usize]) -> Result<Tensor<Cube<R, E>>> {
    let shape: Vec<usize> = order.iter().map(|&axis| x.shape()[axis]).collect();
    let axes = axes(order.iter().map(|&axis| around(x.shape(), axis)));
    if axes.is_empty() || axes.len() == 2 && axes[1] == 1 {
        return x.reshape(&shape);
    }
    gather(cube, "permute", x, &shape, &axes, 0)
}

pub(super) fn slice<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    x: &Tensor<Cube<R, E>>,
    axis: usize,
    start: usize,
    len: usize,
) -> Result<Tensor<Cube<R, E>>> {
    let (size, inner) = around(x.shape(), axis);
    if len == size {
        return Ok(x.clone());
    }
    let mut shape = x.shape().to_vec();
    shape[axis] = len;
    let outer = shape[..axis].iter().product();
    gather(cube, "slice", x, &shape, &axes([(outer, size * inner), (len * inner, 1)]), start * inner)
}

pub(super) fn concat<R: Runtime, E: Scalar>(cube: &Cube<R, E>, parts: &[&Tensor<Cube<R, E>>], axis: usize) -> Result<Tensor<Cube<R, E>>> {
    let mut shape = parts[0].shape().to_vec();
    shape[axis] = parts.iter().map(|part| part.shape()[axis]).sum();
    let out = cube.alloc("concat", &shape)?;
    let (size, inner) = around(&shape, axis);
    let outer = shape[..axis].iter().product();
    let mut at = 0;
    for part in parts.iter().filter(|part| part.numel() > 0) {
        let width = part.shape()[axis] * inner;
        let axes = axes([(outer, size * inner), (width, 1)]);
        let ((cubes, units), table) = (cube.units(part.numel()), cube.sizes(&axes)?);
        scatter_kernel::launch::<E, R>(cube.client(), cubes, units, arg(part), arg(&out), table.arg(), at as u32, axes.len() / 2);
        at += width;
    }
    Ok(out)
}

/// Rows of `table`, (V, H), for tokens (B, L), as (B, H, L).
#[cube(launch)]
fn embed_kernel<F: Float>(table: &Array<F>, tokens: &Array<u32>, out: &mut Array<F>, d_model: u32, length: u32) {
    if ABSOLUTE_POS < out.len() {
        let i = ABSOLUTE_POS as u32;
        let row = i / length;
        let b = row / d_model;
        let token = tokens[(b * length + i - row * length) as usize];
        out[ABSOLUTE_POS] = table[(token * d_model + row - b * d_model) as usize];
    }
}

/// One cube for every segment and channel: the sum of g over the segment's positions, into (segments, H). `places` says where channel 0 of
/// every position is in g, token after token; `bounds` where a segment starts.
#[cube(launch)]
fn segments_kernel<F: Float>(
    g: &Array<F>,
    places: &Array<u32>,
    bounds: &Array<u32>,
    sums: &mut Array<F>,
    d_model: u32,
    length: u32,
    #[comptime] units: usize,
) {
    let mut scratch = SharedMemory::<F>::new(units);
    let cube = CUBE_POS as u32;
    if CUBE_POS < sums.len() {
        let segment = (cube / d_model) as usize;
        let start = cube % d_model * length;
        let end = bounds[segment + 1];
        let mut sum = F::new(0.0);
        let mut i = bounds[segment] + UNIT_POS;
        while i < end {
            sum += g[(places[i as usize] + start) as usize];
            i += CUBE_DIM;
        }
        let sum = sum_cube::<F>(sum, &mut scratch);
        if UNIT_POS == 0 {
            sums[CUBE_POS] = sum;
        }
    }
}

/// One unit for every entry of the table, (V, H): the sum of its token's segments, `bounds[token]..bounds[token + 1]` of them.
#[cube(launch)]
fn tokens_kernel<F: Float>(sums: &Array<F>, bounds: &Array<u32>, out: &mut Array<F>, d_model: u32) {
    if ABSOLUTE_POS < out.len() {
        let token = ABSOLUTE_POS / d_model as usize;
        let h = ABSOLUTE_POS - token * d_model as usize;
        let mut sum = F::new(0.0);
        let mut segment = bounds[token];
        let end = bounds[token + 1];
        while segment < end {
            sum += sums[segment as usize * d_model as usize + h];
            segment += 1;
        }
        out[ABSOLUTE_POS] = sum;
    }
}

/// The positions of every token, cut into segments.
struct Segments {
    /// Where channel 0 of every position is in (B, H, L), token after token.
    places: Vec<u32>,
    /// Where every segment starts in `places`, and the last one's end.
    bounds: Vec<u32>,
    /// Every token's first segment, and the end of the last token's.
    first: Vec<u32>,
}

impl Segments {
    /// A counting sort, which keeps the order of a token's positions.
    fn of(rows: usize, tokens: &[u32], d_model: usize, length: usize) -> Self {
        let mut next = vec![0usize; rows + 1];
        tokens.iter().for_each(|&token| next[token as usize + 1] += 1);
        let (mut bounds, mut first) = (Vec::new(), Vec::with_capacity(rows + 1));
        for token in 0..rows {
            first.push(bounds.len() as u32);
            let (start, count) = (next[token], next[token + 1]);
            bounds.extend((0..count).step_by(SEGMENT).map(|i| (start + i) as u32));
            next[token + 1] = start + count;
        }
        first.push(bounds.len() as u32);
        bounds.push(tokens.len() as u32);
        let mut places = vec![0; tokens.len()];
        for (position, &token) in tokens.iter().enumerate() {
            let slot = &mut next[token as usize];
            places[*slot] = (position / length * d_model * length + position % length) as u32;
            *slot += 1;
        }
        Segments { places, bounds, first }
    }
}

/// The entries `index` of the middle axis of x, (outer, size, inner), as (outer, entries, inner).
#[cube(launch)]
fn index_select_kernel<F: Float>(x: &Array<F>, index: &Array<u32>, out: &mut Array<F>, size: u32, entries: u32, inner: u32) {
    if ABSOLUTE_POS < out.len() {
        let at = ABSOLUTE_POS as u32;
        let row = at / inner;
        let outer = row / entries;
        let from = outer * size + index[(row - outer * entries) as usize];
        out[ABSOLUTE_POS] = x[(from * inner + at - row * inner) as usize];
    }
}

/// One unit for every entry of (outer, len, inner): the sum of the entries of g, (outer, entries, inner), at its `places`, which are
/// `bounds[i]..bounds[i + 1]` for the entry i of the middle axis.
#[cube(launch)]
fn index_add_kernel<F: Float>(
    g: &Array<F>,
    places: &Array<u32>,
    bounds: &Array<u32>,
    out: &mut Array<F>,
    len: u32,
    entries: u32,
    inner: u32,
) {
    if ABSOLUTE_POS < out.len() {
        let at = ABSOLUTE_POS as u32;
        let row = at / inner;
        let outer = row / len;
        let i = (row - outer * len) as usize;
        let base = outer * entries * inner + at - row * inner;
        let end = bounds[i + 1];
        let mut sum = F::new(0.0);
        let mut next = bounds[i];
        while next < end {
            sum += g[(base + places[next as usize] * inner) as usize];
            next += 1;
        }
        out[ABSOLUTE_POS] = sum;
    }
}

/// The positions in `index` of every entry below `len`, in order, and where each entry's begin.
fn by_entry(index: &[u32], len: usize) -> (Vec<u32>, Vec<u32>) {
    let mut bounds = vec![0u32; len + 1];
    index.iter().for_each(|&i| bounds[i as usize + 1] += 1);
    (0..len).for_each(|i| bounds[i + 1] += bounds[i]);
    let (mut next, mut places) = (bounds.clone(), vec![0; index.len()]);
    for (at, &i) in index.iter().enumerate() {
        let slot = &mut next[i as usize];
        places[*slot as usize] = at as u32;
        *slot += 1;
    }
    (places, bounds)
}

impl<R: Runtime, E: Scalar> Layout for Cube<R, E> {
    fn permute(&self, x: &Tensor<Self>, axes: &[usize]) -> Result<Tensor<Self>> {
        shape::permutation("permute", x.shape(), axes)?;
        permute(self, x, axes)
    }

    fn slice(&self, x: &Tensor<Self>, axis: usize, start: usize, len: usize) -> Result<Tensor<Self>> {
        shape::slice("slice", x.shape(), axis, start, len)?;
        slice(self, x, axis, start, len)
    }

    fn concat(&self, parts: &[&Tensor<Self>], axis: usize) -> Result<Tensor<Self>> {
        let shapes: Vec<&[usize]> = parts.iter().map(|part| part.shape()).collect();
        shape::concat("concat", &shapes, axis)?;
        concat(self, parts, axis)
    }

    fn flip(&self, x: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        shape::axis("flip", axis, x.shape())?;
        let (size, inner) = around(x.shape(), axis);
        if size < 2 {
            return Ok(x.clone());
        }
        let outer = x.shape()[..axis].iter().product();
        // Backwards: the stride is negative, modulo 2^32 on the device.
        let axes = axes([(outer, size * inner), (size, inner.wrapping_neg()), (inner, 1)]);
        gather(self, "flip", x, x.shape(), &axes, (size - 1) * inner)
    }

    fn embed(&self, table: &Tensor<Self>, tokens: &[u32], batch: usize) -> Result<Tensor<Self>> {
        let shape @ [_, d_model, length] = shape::embedding("embed", table.shape(), tokens, batch)?;
        let (out, tokens) = (self.alloc("embed", &shape)?, self.upload_words("embed", tokens)?);
        let (cubes, units) = self.units(out.numel());
        let (d_model, length) = (d_model as u32, length as u32);
        embed_kernel::launch::<E, R>(self.client(), cubes, units, arg(table), tokens.arg(), arg(&out), d_model, length);
        Ok(out)
    }

    fn embed_grad(&self, rows: usize, tokens: &[u32], g: &Tensor<Self>) -> Result<Tensor<Self>> {
        const METHOD: &str = "embed_grad";
        let [_, d_model, length] = shape::embedding_grad(METHOD, rows, tokens, g.shape())?;
        let segments = Segments::of(rows, tokens, d_model, length);
        let upload = |words: &[u32]| self.upload_words(METHOD, words);
        let [places, bounds, first] = [upload(&segments.places)?, upload(&segments.bounds)?, upload(&segments.first)?];
        let count = segments.bounds.len() - 1;
        let (sums, out) = (self.alloc(METHOD, &[count, d_model])?, self.alloc(METHOD, &[rows, d_model])?);
        let units = self.limits().units_up_to(UNITS / 2);
        segments_kernel::launch::<E, R>(
            self.client(),
            self.cubes(sums.numel()),
            CubeDim::new_1d(units as u32),
            arg(g),
            places.arg(),
            bounds.arg(),
            arg(&sums),
            d_model as u32,
            length as u32,
            units,
        );
        let (cubes, units) = self.units(out.numel());
        tokens_kernel::launch::<E, R>(self.client(), cubes, units, arg(&sums), first.arg(), arg(&out), d_model as u32);
        Ok(out)
    }

    fn index_select(&self, x: &Tensor<Self>, axis: usize, index: &[u32]) -> Result<Tensor<Self>> {
        let shape = shape::index_select("index_select", x.shape(), axis, index)?;
        let out = self.alloc("index_select", &shape)?;
        if out.numel() > 0 {
            let ((size, inner), entries) = (around(x.shape(), axis), self.upload_words("index_select", index)?);
            let ((cubes, units), [size, count, inner]) = (self.units(out.numel()), [size, index.len(), inner].map(|n| n as u32));
            index_select_kernel::launch::<E, R>(self.client(), cubes, units, arg(x), entries.arg(), arg(&out), size, count, inner);
        }
        Ok(out)
    }

    fn index_add(&self, g: &Tensor<Self>, axis: usize, index: &[u32], len: usize) -> Result<Tensor<Self>> {
        let shape = shape::index_add("index_add", g.shape(), axis, index, len)?;
        let out = self.alloc("index_add", &shape)?;
        if out.numel() > 0 {
            let (places, bounds) = by_entry(index, len);
            let [places, bounds] = [self.upload_words("index_add", &places)?, self.upload_words("index_add", &bounds)?];
            let ((cubes, units), (_, inner)) = (self.units(out.numel()), around(&shape, axis));
            let [len, count, inner] = [len, index.len(), inner].map(|n| n as u32);
            let (g, sums) = (arg(g), arg(&out));
            index_add_kernel::launch::<E, R>(self.client(), cubes, units, g, places.arg(), bounds.arg(), sums, len, count, inner);
        }
        Ok(out)
    }
}
