//! Pooling over one and two axes: the mean and the largest of every window.

use super::windows::{Padding, PerAxis, Windows};
use crate::autodiff::Var;
use crate::backend::{Backend, Real};
use crate::error::{Error, Result};

/// The windows of a pooling over N axes: one behind the other, without padding, unless told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pool<const N: usize> {
    /// Entries of a window.
    pub kernel: [usize; N],
    /// Steps between windows.
    pub stride: [usize; N],
    /// Entries around both ends of the input, half a window at most: they are never the largest, and 0 in a mean.
    pub padding: [usize; N],
    /// Steps between the entries of a window.
    pub dilation: [usize; N],
    /// Whether a mean counts the padding as entries, too.
    pub count_padding: bool,
}

impl<const N: usize> Pool<N> {
    /// Windows of `kernel` entries, a number or one for every axis, one behind the other; PyTorch's defaults.
    pub fn new(kernel: impl Into<PerAxis<N>>) -> Self {
        let kernel = kernel.into().0;
        Pool { kernel, stride: kernel, padding: [0; N], dilation: [1; N], count_padding: true }
    }

    /// The same with another stride: a number, or one for every axis.
    pub fn stride(mut self, stride: impl Into<PerAxis<N>>) -> Self {
        self.stride = stride.into().0;
        self
    }

    /// The same with other padding: a number, or one for every axis.
    pub fn padding(mut self, padding: impl Into<PerAxis<N>>) -> Self {
        self.padding = padding.into().0;
        self
    }

    /// The same with another dilation: a number, or one for every axis.
    pub fn dilation(mut self, dilation: impl Into<PerAxis<N>>) -> Self {
        self.dilation = dilation.into().0;
        self
    }

    /// The same with another [`count_padding`](Pool::count_padding).
    pub fn count_padding(mut self, count_padding: bool) -> Self {
        self.count_padding = count_padding;
        self
    }

    /// The windows, with `fill` around the input.
    fn windows(&self, op: &'static str, fill: f64) -> Result<Windows<N>> {
        let &Pool { kernel, stride, padding, dilation, .. } = self;
        if let Some(i) = (0..N).find(|&i| padding[i] > kernel[i] / 2) {
            let help = format!("must be at most half of the window of {}: a window of padding alone has nothing to pool", kernel[i]);
            return Err(Error::config("padding", padding[i], help));
        }
        Ok(Windows { op, kernel, stride, dilation, padding: Padding::from(padding), fill })
    }

    /// For every window, how many of its entries are the input's.
    fn filled(&self, input: &[usize], count: [usize; N]) -> Vec<usize> {
        let along = |i: usize, window: usize| {
            let place = |entry: usize| window * self.stride[i] + entry * self.dilation[i];
            (0..self.kernel[i]).filter(|&entry| (self.padding[i]..self.padding[i] + input[2 + i]).contains(&place(entry))).count()
        };
        let mut filled = vec![1];
        for (i, &windows) in count.iter().enumerate() {
            let along: Vec<usize> = (0..windows).map(|window| along(i, window)).collect();
            filled = filled.iter().flat_map(|outer| along.iter().map(move |inner| outer * inner)).collect();
        }
        filled
    }
}

impl<B: Backend> Var<B> {
    /// The mean of every window over time, (B, C, L) to (B, C, L'). Source: PyTorch's `avg_pool1d`.
    ///
    /// ```
    /// # use pspikessm::{autodiff::{Pool, Tape}, backend::*};
    /// # fn main() -> pspikessm::Result<()> {
    /// let tape = Tape::new(&Cpu::<f64>::new());
    /// let x = tape.arange(1.0, 7.0, 1.0)?.reshape(&[1, 1, 6])?;
    /// assert_eq!(x.avg_pool1d(&Pool::new(2))?.to_vec()?, [1.5, 3.5, 5.5]);
    /// assert_eq!(x.avg_pool1d(&Pool::new(3).padding(1))?.to_vec()?, [1.0, 4.0]);
    /// assert_eq!(x.avg_pool1d(&Pool::new(3).padding(1).count_padding(false))?.to_vec()?, [1.5, 4.0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] where this is not (B, C, L) or is empty; [`Error::Config`] where a number of `pool` is 0 or the padding is more than
    /// half a window; [`Error::Shape`] where this is shorter than a window.
    pub fn avg_pool1d(&self, pool: &Pool<1>) -> Result<Var<B>> {
        self.avg_pool("avg_pool1d", pool)
    }

    /// The mean of every window over (B, C, height, width).
    ///
    /// # Errors
    /// As [`Var::avg_pool1d`], with two axes.
    pub fn avg_pool2d(&self, pool: &Pool<2>) -> Result<Var<B>> {
        self.avg_pool("avg_pool2d", pool)
    }

    /// The largest entry of every window over time, (B, C, L) to (B, C, L'); NaN where one is NaN, and equal ones share the gradient.
    ///
    /// # Errors
    /// As [`Var::avg_pool1d`].
    pub fn max_pool1d(&self, pool: &Pool<1>) -> Result<Var<B>> {
        self.max_pool("max_pool1d", pool)
    }

    /// The largest entry of every window over (B, C, height, width), as [`Var::max_pool1d`].
    ///
    /// # Errors
    /// As [`Var::avg_pool1d`], with two axes.
    pub fn max_pool2d(&self, pool: &Pool<2>) -> Result<Var<B>> {
        self.max_pool("max_pool2d", pool)
    }

    fn max_pool<const N: usize>(&self, op: &'static str, pool: &Pool<N>) -> Result<Var<B>> {
        let (columns, placed) = self.windows(&pool.windows(op, f64::NEG_INFINITY)?)?;
        columns.max_axes(&[2])?.reshape(&[&self.shape()[..2], &placed.count[..]].concat())
    }

    fn avg_pool<const N: usize>(&self, op: &'static str, pool: &Pool<N>) -> Result<Var<B>> {
        let windows = pool.windows(op, 0.0)?;
        let (columns, placed) = self.windows(&windows)?;
        let sums = columns.sum_axes(&[2])?;
        let means = if pool.count_padding || pool.padding == [0; N] {
            sums.scale(1.0 / windows.entries() as f64)?
        } else {
            let shares: Vec<B::Elem> =
                pool.filled(self.shape(), placed.count).iter().map(|&n| B::Elem::of(1.0 / n.max(1) as f64)).collect();
            let count = shares.len();
            sums.mul(&self.tape().constant(&self.tape().backend().from_vec(shares, &[count])?))?
        };
        means.reshape(&[&self.shape()[..2], &placed.count[..]].concat())
    }
}
