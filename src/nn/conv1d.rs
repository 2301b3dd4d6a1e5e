//! Conv1d: a convolution over time with trained weights.

use super::linear::fan_in_uniform;
use super::{Context, Module, Names, Param, ParamOptions};
use crate::autodiff::{Conv, Var};
use crate::backend::{Backend, Key};
use crate::error::{Error, Result};

/// A convolution over the time axis, as [`Conv`] says: stride, padding (causal, too), dilation and groups.
///
/// ```
/// use pspikessm::{autodiff::{Conv, Tape}, backend::*, nn::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f32>::new();
/// let conv = Conv1d::new(&cpu, Key::new(0), [4, 8], 3, Conv::new().causal())?;
/// let tape = Tape::off(&cpu);
/// let x = tape.constant(&cpu.normal(Key::new(1), &[2, 4, 10])?);
/// assert_eq!(conv.forward(&Context::evaluation(&tape, Key::new(2)), &x)?.shape(), [2, 8, 10]);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Conv1d<B: Backend> {
    /// (d_output, d_input / groups, kernel).
    pub weight: Param<B>,
    /// (d_output); no weight decay.
    pub bias: Param<B>,
    conv: Conv<1>,
}

impl<B: Backend> Conv1d<B> {
    /// From the first number of channels to the second, by kernels of so many steps; weights and biases uniform in
    /// +-1/sqrt(d_input / groups x kernel), as PyTorch.
    ///
    /// # Errors
    /// [`Error::Config`] where a size is 0, or the groups do not divide both numbers of channels.
    pub fn new(backend: &B, key: Key, [d_input, d_output]: [usize; 2], kernel: usize, conv: Conv<1>) -> Result<Self> {
        if d_input == 0 || d_output == 0 || kernel == 0 {
            let sizes = format!("{d_input} -> {d_output} by {kernel} steps");
            return Err(Error::config("Conv1d", sizes, "all sizes must be at least 1"));
        }
        if conv.groups == 0 || !d_input.is_multiple_of(conv.groups) || !d_output.is_multiple_of(conv.groups) {
            return Err(Error::config("groups", conv.groups, format!("must divide {d_input} and {d_output} channels")));
        }
        let channels = d_input / conv.groups;
        let uniform = |at, shape: &[usize], options| fan_in_uniform(backend, key.fold(at), shape, channels * kernel, options);
        Ok(Conv1d {
            weight: uniform(0, &[d_output, channels, kernel], ParamOptions::DECAYED)?,
            bias: uniform(1, &[d_output], ParamOptions::PLAIN)?,
            conv,
        })
    }

    /// (B, d_input, L) to (B, d_output, L').
    ///
    /// # Errors
    /// As [`Var::conv1d`].
    pub fn forward(&self, cx: &Context<'_, B>, x: &Var<B>) -> Result<Var<B>> {
        x.conv1d(&cx.var(&self.weight), Some(&cx.var(&self.bias)), &self.conv)
    }
}

impl<B: Backend> Module<B> for Conv1d<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        names.param("weight", &self.weight);
        names.param("bias", &self.bias);
    }
}
