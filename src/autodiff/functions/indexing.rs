//! Entries by their numbers: gather and scatter, slices with a step, axes rolled round.

use crate::autodiff::Var;
use crate::backend::{Backend, shape};
use crate::error::{Error, Result};

/// Where in a tensor of shape `x` the entries of an index of shape `shape` stand: at their own place, but along `axis` where the index
/// says.
fn positions(op: &'static str, x: &[usize], axis: usize, index: &[u32], shape: &[usize]) -> Result<Vec<u32>> {
    shape::axis(op, axis, x)?;
    shape::same_numel(op, &[index.len()], shape)?;
    if shape.len() != x.len() {
        return Err(Error::shape(op, None, x, shape, "the index must have as many axes as the tensor"));
    }
    if let Some(other) = (0..x.len()).find(|&other| other != axis && shape[other] > x[other]) {
        return Err(Error::shape(op, other, x, shape, format!("only along axis {axis} may the index be longer than the tensor")));
    }
    if u32::try_from(x.iter().product::<usize>()).is_err() {
        return Err(Error::value(op, format!("shape {x:?} has more than 2^32 entries: take a part of it first")));
    }
    if let Some(at) = index.iter().position(|&i| i as usize >= x[axis]) {
        let help = format!("index {} at position {at} is not one of {} entries: indices count from 0", index[at], x[axis]);
        return Err(Error::value(op, help));
    }
    let mut strides = vec![1; x.len()];
    (1..x.len()).rev().for_each(|i| strides[i - 1] = strides[i] * x[i]);
    let mut own = vec![0; shape.len()];
    let mut flat = Vec::with_capacity(index.len());
    for &i in index {
        let place = |(a, (&own, &stride)): (usize, (&usize, &usize))| stride * if a == axis { i as usize } else { own };
        flat.push(own.iter().zip(&strides).enumerate().map(place).sum::<usize>() as u32);
        for (own, &len) in own.iter_mut().zip(shape).rev() {
            *own += 1;
            if *own < len {
                break;
            }
            *own = 0;
        }
    }
    Ok(flat)
}

/// Entries by their numbers.
///
/// ```
/// # use pspikessm::{autodiff::Tape, backend::*};
/// # fn main() -> pspikessm::Result<()> {
/// let tape = Tape::new(&Cpu::<f64>::new());
/// let x = tape.arange(0.0, 6.0, 1.0)?.reshape(&[2, 3])?;
/// assert_eq!(x.gather(1, &[2, 0], &[2, 1])?.to_vec()?, [2.0, 3.0]);
/// let source = tape.arange(10.0, 50.0, 10.0)?.reshape(&[2, 2])?;
/// assert_eq!(x.scatter_add(1, &[0, 0, 2, 1], &source)?.to_vec()?, [30.0, 1.0, 2.0, 3.0, 44.0, 35.0]);
/// assert_eq!(x.slice_step(1, 0, 2, 2)?.to_vec()?, [0.0, 2.0, 3.0, 5.0]);
/// assert_eq!(x.roll(1, -1)?.to_vec()?, [1.0, 2.0, 0.0, 4.0, 5.0, 3.0]);
/// # Ok(()) }
/// ```
impl<B: Backend> Var<B> {
    /// For every entry of `index`, of shape `shape`, row-major: the entry at the same place, but along `axis` at the index. As PyTorch's
    /// `gather`: `out[i][j] = self[i][index[i][j]]` along axis 1.
    ///
    /// # Errors
    /// [`Error::Shape`] where `index` does not fill `shape`, or `shape` has another number of axes than this, or is longer along another
    /// axis than `axis`; [`Error::Value`] where the axis does not exist, `index` is empty, or an index is not below the axis's length.
    #[doc(alias = "take_along_axis")]
    #[doc(alias = "take_along_dim")]
    pub fn gather(&self, axis: usize, index: &[u32], shape: &[usize]) -> Result<Var<B>> {
        let flat = positions("gather", self.shape(), axis, index, shape)?;
        self.reshape(&[self.value().numel()])?.index_select(0, &flat)?.reshape(shape)
    }

    /// This, with every entry of `source` added at the same place, but along `axis` at its index: the adjoint of [`Var::gather`]. As
    /// PyTorch's `scatter_add`: `out[i][index[i][j]] += source[i][j]` along axis 1. `index` has a number for every entry of `source`.
    ///
    /// # Errors
    /// [`Error::Shape`] where `index` has not as many entries as `source`, or `source` has another number of axes than this, or is longer
    /// along another axis than `axis`; [`Error::Value`] where the axis does not exist, `index` is empty, or an index is not below the
    /// axis's length.
    pub fn scatter_add(&self, axis: usize, index: &[u32], source: &Var<B>) -> Result<Var<B>> {
        let flat = positions("scatter_add", self.shape(), axis, index, source.shape())?;
        let sums = source.reshape(&[index.len()])?.index_add(0, &flat, self.value().numel())?;
        self.add(&sums.reshape(self.shape())?)
    }

    /// `len` entries along `axis`: number `start`, and every `step`-th from there.
    ///
    /// # Errors
    /// [`Error::Value`] where the axis does not exist, `len` or `step` is 0, or the last one lies beyond the axis.
    #[doc(alias = "stride")]
    pub fn slice_step(&self, axis: usize, start: usize, len: usize, step: usize) -> Result<Var<B>> {
        const OP: &str = "slice_step";
        let end = self.shape()[shape::axis(OP, axis, self.shape())?];
        let last = len.checked_sub(1).and_then(|rest| rest.checked_mul(step)).and_then(|rest| rest.checked_add(start));
        if step == 0 || last.is_none_or(|last| last >= end) || u32::try_from(end).is_err() {
            let help = format!("{len} entries from {start} on, every {step}, do not lie in axis {axis} of shape {:?}", self.shape());
            return Err(Error::value(OP, help));
        }
        if step == 1 {
            return self.slice(axis, start, len);
        }
        let index: Vec<u32> = (0..len).map(|i| (start + i * step) as u32).collect();
        self.index_select(axis, &index)
    }

    /// The entries along `axis` moved on by `shift`; those that leave at one end come in at the other.
    ///
    /// # Errors
    /// [`Error::Value`] where the axis does not exist, is empty, or has more than 2^32 entries.
    pub fn roll(&self, axis: usize, shift: isize) -> Result<Var<B>> {
        const OP: &str = "roll";
        let len = self.shape()[shape::axis(OP, axis, self.shape())?];
        let (Ok(end), true) = (u32::try_from(len), len > 0) else {
            return Err(Error::value(OP, format!("axis {axis} of shape {:?} must have 1 to 2^32 entries", self.shape())));
        };
        let start = (-(shift as i128)).rem_euclid(i128::from(end)) as u32;
        let index: Vec<u32> = (start..end).chain(0..start).collect();
        self.index_select(axis, &index)
    }
}
