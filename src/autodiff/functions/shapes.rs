//! Shapes: axes swapped, added and taken away, tensors stacked, cut and repeated.

use crate::autodiff::Var;
use crate::backend::{Backend, Real, shape};
use crate::error::{Error, Result};

/// Shapes.
///
/// ```
/// # use pspikessm::{autodiff::{Tape, Var}, backend::*};
/// # fn main() -> pspikessm::Result<()> {
/// let tape = Tape::new(&Cpu::<f64>::new());
/// let x = tape.arange(0.0, 6.0, 1.0)?.reshape(&[2, 3])?;
/// assert_eq!(x.transpose(0, 1)?.to_vec()?, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
/// assert_eq!(x.unsqueeze(1)?.shape(), [2, 1, 3]);
/// assert_eq!(Var::stack(&[&x, &x], 2)?.shape(), [2, 3, 2]);
/// let parts = x.split(1, &[1, 2])?;
/// assert_eq!((parts[0].to_vec()?, parts[1].to_vec()?), (vec![0.0, 3.0], vec![1.0, 2.0, 4.0, 5.0]));
/// assert_eq!(x.repeat(&[1, 2])?.to_vec()?, [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 3.0, 4.0, 5.0]);
/// assert_eq!(x.tril(0)?.to_vec()?, [0.0, 0.0, 0.0, 3.0, 4.0, 0.0]);
/// assert_eq!(x.pad(1, 1, 0, -1.0)?.to_vec()?, [-1.0, 0.0, 1.0, 2.0, -1.0, 3.0, 4.0, 5.0]);
/// # Ok(()) }
/// ```
impl<B: Backend> Var<B> {
    /// Two axes swapped.
    ///
    /// # Errors
    /// [`Error::Value`] where one of them does not exist.
    #[doc(alias = "t")]
    #[doc(alias = "swapaxes")]
    pub fn transpose(&self, first: usize, second: usize) -> Result<Var<B>> {
        for axis in [first, second] {
            shape::axis("transpose", axis, self.shape())?;
        }
        let mut axes: Vec<usize> = (0..self.shape().len()).collect();
        axes.swap(first, second);
        self.permute(&axes)
    }

    /// A new axis of length 1, which is axis `axis` of the result.
    ///
    /// # Errors
    /// [`Error::Value`] where `axis` is larger than the number of axes.
    #[doc(alias = "expand_dims")]
    pub fn unsqueeze(&self, axis: usize) -> Result<Var<B>> {
        let mut shape = self.shape().to_vec();
        if axis > shape.len() {
            let help = format!("a new axis of shape {shape:?} stands at 0 to {}, not at {axis}", shape.len());
            return Err(Error::value("unsqueeze", help));
        }
        shape.insert(axis, 1);
        self.reshape(&shape)
    }

    /// Without an axis, whose length is 1.
    ///
    /// # Errors
    /// [`Error::Value`] where the axis does not exist or is longer.
    pub fn squeeze(&self, axis: usize) -> Result<Var<B>> {
        const OP: &str = "squeeze";
        let mut shape = self.shape().to_vec();
        match shape.remove(shape::axis(OP, axis, self.shape())?) {
            1 => self.reshape(&shape),
            len => Err(Error::value(OP, format!("axis {axis} of shape {:?} has length {len}: only an axis of 1 can go", self.shape()))),
        }
    }

    /// Tensors of one shape along a new axis, which is axis `axis` of the result.
    ///
    /// # Errors
    /// [`Error::Value`] where there are none or `axis` is larger than their number of axes; [`Error::Shape`] where their shapes differ.
    pub fn stack(parts: &[&Var<B>], axis: usize) -> Result<Var<B>> {
        const OP: &str = "stack";
        let Some(first) = parts.first() else {
            return Err(Error::value(OP, "there is nothing to stack: give at least one part"));
        };
        parts.iter().try_for_each(|part| shape::exactly(OP, "a part", first.shape(), part.shape()))?;
        let parts: Vec<Var<B>> = parts.iter().map(|part| part.unsqueeze(axis)).collect::<Result<_>>()?;
        Var::concat(&parts.iter().collect::<Vec<_>>(), axis)
    }

    /// Parts of these lengths along `axis`, one after another: what [`Var::concat`] joins.
    ///
    /// # Errors
    /// [`Error::Value`] where the axis does not exist, a length is 0, or they do not add up to the axis.
    pub fn split(&self, axis: usize, lengths: &[usize]) -> Result<Vec<Var<B>>> {
        const OP: &str = "split";
        let len = self.shape()[shape::axis(OP, axis, self.shape())?];
        if lengths.iter().try_fold(0usize, |sum, &part| sum.checked_add(part)) != Some(len) {
            return Err(Error::value(OP, format!("{lengths:?} do not add up to the length {len} of axis {axis}")));
        }
        let starts = lengths.iter().scan(0, |end, &part| {
            *end += part;
            Some(*end - part)
        });
        starts.zip(lengths).map(|(start, &part)| self.slice(axis, start, part)).collect()
    }

    /// At most `count` parts along `axis` of one length, but for the last, which may be shorter.
    ///
    /// # Errors
    /// [`Error::Value`] where the axis does not exist or has length 0, or `count` is 0.
    pub fn chunk(&self, axis: usize, count: usize) -> Result<Vec<Var<B>>> {
        const OP: &str = "chunk";
        let len = self.shape()[shape::axis(OP, axis, self.shape())?];
        if count == 0 || len == 0 {
            return Err(Error::value(OP, format!("{len} entries cannot be cut into {count} parts: both must be at least 1")));
        }
        let part = len.div_ceil(count);
        (0..len).step_by(part).map(|start| self.slice(axis, start, part.min(len - start))).collect()
    }

    /// The whole tensor, as often as `counts` say along every axis; more counts than axes make new leading axes.
    ///
    /// # Errors
    /// [`Error::Value`] where there are fewer counts than axes, a count is 0, or no memory holds the result.
    #[doc(alias = "tile")]
    pub fn repeat(&self, counts: &[usize]) -> Result<Var<B>> {
        const OP: &str = "repeat";
        let own = self.shape();
        let Some(new) = counts.len().checked_sub(own.len()) else {
            return Err(Error::value(OP, format!("{counts:?} must have a number for every axis of shape {own:?}")));
        };
        if counts.contains(&0) {
            return Err(Error::value(OP, format!("{counts:?} must all be at least 1")));
        }
        let own: Vec<usize> = std::iter::repeat_n(1, new).chain(own.iter().copied()).collect();
        let pairs = |count: bool| own.iter().zip(counts).flat_map(move |(&len, &n)| [if count { n } else { 1 }, len]).collect::<Vec<_>>();
        shape::countable(OP, &pairs(true))?;
        let whole: Vec<usize> = own.iter().zip(counts).map(|(len, n)| len * n).collect();
        self.reshape(&pairs(false))?.expand(&pairs(true))?.reshape(&whole)
    }

    /// This, (.., rows, columns), with zeros where a column lies more than `diagonal` behind its row: on and below the main diagonal for 0.
    ///
    /// # Errors
    /// [`Error::Value`] where there are fewer than two axes.
    pub fn tril(&self, diagonal: isize) -> Result<Var<B>> {
        self.triangle("tril", |row, column| column <= row + diagonal as i128)
    }

    /// This, (.., rows, columns), with zeros where a column lies less than `diagonal` behind its row: on and above the main diagonal for 0.
    ///
    /// # Errors
    /// [`Error::Value`] where there are fewer than two axes.
    pub fn triu(&self, diagonal: isize) -> Result<Var<B>> {
        self.triangle("triu", |row, column| column >= row + diagonal as i128)
    }

    fn triangle(&self, op: &'static str, keep: impl Fn(i128, i128) -> bool) -> Result<Var<B>> {
        let &[.., rows, columns] = self.shape() else {
            return Err(Error::value(op, format!("shape {:?} must have two axes at least: (.., rows, columns)", self.shape())));
        };
        let (backend, places) = (self.tape().backend(), (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))));
        let mask = places.map(|(row, column)| B::Elem::of(f64::from(keep(row as i128, column as i128)))).collect();
        let mask = self.tape().constant(&backend.from_vec(mask, &[rows, columns])?);
        mask.select(self, &self.tape().constant(&backend.full(&[], 0.0)?))
    }
}
