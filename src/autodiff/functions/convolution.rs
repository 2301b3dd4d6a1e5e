//! Convolutions over one and two axes, as a matrix product with the columns of all windows.

use super::windows::{Padding, PerAxis, Windows};
use crate::autodiff::Var;
use crate::backend::{Backend, shape};
use crate::error::{Error, Result};

/// How a convolution over N axes moves: by single steps, without padding, over neighbours, every output from all channels, unless told
/// otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conv<const N: usize> {
    /// Steps between windows.
    pub stride: [usize; N],
    /// Zeros around the input.
    pub padding: Padding<N>,
    /// Steps between the entries of a window.
    pub dilation: [usize; N],
    /// Groups of channels, each with outputs of its own.
    pub groups: usize,
}

impl<const N: usize> Conv<N> {
    /// Stride 1, no padding, dilation 1, one group.
    pub fn new() -> Self {
        Conv { stride: [1; N], padding: 0.into(), dilation: [1; N], groups: 1 }
    }

    /// The same with another stride: a number, or one for every axis.
    pub fn stride(mut self, stride: impl Into<PerAxis<N>>) -> Self {
        self.stride = stride.into().0;
        self
    }

    /// The same with other padding: a number, one for every axis, or `[before, behind]` for every axis.
    pub fn padding(mut self, padding: impl Into<Padding<N>>) -> Self {
        self.padding = padding.into();
        self
    }

    /// The same with [`Padding::Causal`].
    pub fn causal(self) -> Self {
        self.padding(Padding::Causal)
    }

    /// The same with another dilation: a number, or one for every axis.
    pub fn dilation(mut self, dilation: impl Into<PerAxis<N>>) -> Self {
        self.dilation = dilation.into().0;
        self
    }

    /// The same with another number of groups; as many as channels make a depthwise convolution.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }
}

impl<const N: usize> Default for Conv<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether the channels of input and weight go with the groups, and bias with the outputs.
fn check(op: &'static str, groups: usize, input: &[usize], weight: &[usize], bias: Option<&[usize]>) -> Result<()> {
    if weight.len() != input.len() {
        return Err(Error::shape(op, None, input, weight, "the weight must be (outputs, channels / groups, ..), with the input's axes"));
    }
    shape::filled(op, "the weight", weight)?;
    if groups == 0 || !input[1].is_multiple_of(groups) || !weight[0].is_multiple_of(groups) {
        let help = format!("must divide {} channels and {} outputs", input[1], weight[0]);
        return Err(Error::config("groups", groups, help));
    }
    if weight[1] != input[1] / groups {
        let help = format!("the weight must have {} channels, those of one of {groups} groups", input[1] / groups);
        return Err(Error::shape(op, 1, input, weight, help));
    }
    bias.map_or(Ok(()), |bias| shape::exactly(op, "the bias", &weight[..1], bias))
}

impl<B: Backend> Var<B> {
    /// The convolution over time (a cross-correlation, as everywhere) of this, (B, C, L), with `weight` (O, C / groups, K): (B, O, L'), plus
    /// `bias` (O). Source: PyTorch's `conv1d`.
    ///
    /// The work grows with K: a kernel about as long as the sequence is better convolved by transforms, as an SSM's is.
    ///
    /// ```
    /// # use pspikessm::{autodiff::{Conv, Tape}, backend::*};
    /// # fn main() -> pspikessm::Result<()> {
    /// let tape = Tape::new(&Cpu::<f64>::new());
    /// let x = tape.arange(1.0, 5.0, 1.0)?.reshape(&[1, 1, 4])?;
    /// let weight = tape.arange(1.0, 3.0, 1.0)?.reshape(&[1, 1, 2])?;
    /// assert_eq!(x.conv1d(&weight, None, &Conv::new())?.to_vec()?, [5.0, 8.0, 11.0]);
    /// assert_eq!(x.conv1d(&weight, None, &Conv::new().causal())?.to_vec()?, [2.0, 5.0, 8.0, 11.0]);
    /// assert_eq!(x.conv1d(&weight, None, &Conv::new().padding(1).stride(2))?.to_vec()?, [2.0, 8.0, 4.0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit or the input is shorter than a window; [`Error::Value`] where the input is not (B, C, L)
    /// or something is empty; [`Error::Config`] where a number of `conv` is 0 or the groups do not divide the channels.
    #[doc(alias = "convolution")]
    pub fn conv1d(&self, weight: &Var<B>, bias: Option<&Var<B>>, conv: &Conv<1>) -> Result<Var<B>> {
        self.conv("conv1d", weight, bias, conv)
    }

    /// The convolution of this, (B, C, height, width), with `weight` (O, C / groups, kernel height, kernel width), plus `bias` (O).
    ///
    /// # Errors
    /// As [`Var::conv1d`], with two axes.
    #[doc(alias = "im2col")]
    pub fn conv2d(&self, weight: &Var<B>, bias: Option<&Var<B>>, conv: &Conv<2>) -> Result<Var<B>> {
        self.conv("conv2d", weight, bias, conv)
    }

    fn conv<const N: usize>(&self, op: &'static str, weight: &Var<B>, bias: Option<&Var<B>>, conv: &Conv<N>) -> Result<Var<B>> {
        let &Conv { stride, padding, dilation, groups } = conv;
        // The input's axes first: what is said of the weight counts on them.
        let windows = |kernel: [usize; N]| Windows { op, kernel, stride, dilation, padding, fill: 0.0 };
        windows([1; N]).place(self.shape())?;
        check(op, groups, self.shape(), weight.shape(), bias.map(Var::shape))?;
        let [outputs, channels] = [weight.shape()[0], self.shape()[1]];
        let windows = windows(std::array::from_fn(|i| weight.shape()[2 + i]));
        let (columns, placed) = self.windows(&windows)?;
        let (batch, entries, count) = (self.shape()[0], windows.entries(), placed.count.iter().product::<usize>());
        let out = if outputs == groups && channels == groups {
            // A product and a sum a channel: matrices of one row would be slower.
            columns.mul(&weight.reshape(&[channels, entries, 1])?)?.sum_axes(&[2])?
        } else if groups == 1 {
            weight.reshape(&[outputs, channels * entries])?.matmul(&columns.reshape(&[batch, channels * entries, count])?)?
        } else {
            let rows = channels / groups * entries;
            weight.reshape(&[groups, outputs / groups, rows])?.matmul(&columns.reshape(&[batch, groups, rows, count])?)?
        };
        let out = out.reshape(&[&[batch, outputs], &placed.count[..]].concat())?;
        match bias {
            Some(bias) => out.add(&bias.reshape(&[&[outputs], &[1; N][..]].concat())?),
            None => Ok(out),
        }
    }
}
