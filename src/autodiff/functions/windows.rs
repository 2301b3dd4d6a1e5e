//! Sliding windows: where they lie, and the tensor of what is in each.

use crate::autodiff::Var;
use crate::backend::{Backend, shape};
use crate::error::{Error, Result};

/// A number for every axis of a window; one number goes for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerAxis<const N: usize>(pub [usize; N]);

impl<const N: usize> From<usize> for PerAxis<N> {
    fn from(number: usize) -> Self {
        PerAxis([number; N])
    }
}

impl<const N: usize> From<[usize; N]> for PerAxis<N> {
    fn from(numbers: [usize; N]) -> Self {
        PerAxis(numbers)
    }
}

/// What stands around an input before windows slide over it. A number goes for both ends of all axes, `[a, b]` for both ends of each,
/// `[[before, behind], ..]` for every end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Padding<const N: usize> {
    /// Entries before and behind every axis.
    Sides([[usize; 2]; N]),
    /// As many outputs as inputs, with the window in the middle: of an odd number of entries the larger part stands behind. For stride 1.
    Same,
    /// All of them before, so that no output depends on what comes later; as many outputs as inputs at stride 1.
    Causal,
}

impl<const N: usize> From<usize> for Padding<N> {
    fn from(number: usize) -> Self {
        Padding::Sides([[number; 2]; N])
    }
}

impl<const N: usize> From<[usize; N]> for Padding<N> {
    fn from(numbers: [usize; N]) -> Self {
        Padding::Sides(numbers.map(|number| [number; 2]))
    }
}

impl<const N: usize> From<[[usize; 2]; N]> for Padding<N> {
    fn from(sides: [[usize; 2]; N]) -> Self {
        Padding::Sides(sides)
    }
}

/// Windows over the last N axes of (batch, channels, ..).
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows<const N: usize> {
    pub op: &'static str,
    pub kernel: [usize; N],
    pub stride: [usize; N],
    pub dilation: [usize; N],
    pub padding: Padding<N>,
    /// What stands around the input.
    pub fill: f64,
}

/// Where windows lie over one input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed<const N: usize> {
    /// Entries before and behind every axis.
    pub sides: [[usize; 2]; N],
    /// Lengths with what stands around.
    padded: [usize; N],
    /// The number of windows along every axis.
    pub count: [usize; N],
}

impl<const N: usize> Windows<N> {
    /// The places of the windows over an input (batch, channels, ..).
    ///
    /// # Errors
    /// [`Error::Value`] where the input has another number of axes or is empty; [`Error::Config`] where a number is 0 or the padding does
    /// not go with the stride; [`Error::Shape`] where the input is shorter than a window.
    pub fn place(&self, input: &[usize]) -> Result<Placed<N>> {
        let names = ["batch", "channels", "length"];
        shape::rank(self.op, "the input", if N == 1 { &names } else { &["batch", "channels", "height", "width"] }, input)?;
        shape::filled(self.op, "the input", input)?;
        for (name, numbers) in [("kernel", self.kernel), ("stride", self.stride), ("dilation", self.dilation)] {
            if numbers.contains(&0) {
                return Err(Error::config(name, format!("{numbers:?}"), "must be at least 1"));
            }
        }
        let extent: [usize; N] = std::array::from_fn(|i| (self.kernel[i] - 1).saturating_mul(self.dilation[i]).saturating_add(1));
        let sides = match self.padding {
            Padding::Sides(sides) => sides,
            Padding::Causal => extent.map(|extent| [extent - 1, 0]),
            Padding::Same if self.stride.iter().all(|&stride| stride == 1) => {
                extent.map(|extent| [(extent - 1) / 2, (extent - 1) - (extent - 1) / 2])
            }
            Padding::Same => return Err(Error::config("padding", "Same", format!("goes with stride 1, not {:?}", self.stride))),
        };
        let padded: [usize; N] = std::array::from_fn(|i| sides[i].iter().fold(input[2 + i], |len, &side| len.saturating_add(side)));
        shape::countable(self.op, &[&input[..2], &padded[..]].concat())?;
        if let Some(i) = (0..N).find(|&i| padded[i] < extent[i]) {
            let help = format!("the input has {} entries with its padding, and a window spans {}: pad it", padded[i], extent[i]);
            return Err(Error::shape(self.op, 2 + i, input, &self.kernel, help));
        }
        Ok(Placed { sides, padded, count: std::array::from_fn(|i| (padded[i] - extent[i]) / self.stride[i] + 1) })
    }

    /// The window's entries in order, and for each the windows in order: where they stand in the padded input.
    fn positions(&self, placed: &Placed<N>) -> Result<Vec<u32>> {
        let (within, windows) = (self.kernel.iter().product::<usize>(), placed.count.iter().product::<usize>());
        shape::countable(self.op, &[within, windows])?;
        if u32::try_from(placed.padded.iter().product::<usize>()).is_err() {
            return Err(Error::value(self.op, format!("an input of {:?} has more than 2^32 entries a channel", placed.padded)));
        }
        let offsets = |shape: [usize; N], step: [usize; N]| {
            (0..shape.iter().product::<usize>()).map(move |mut at| {
                let (mut offset, mut stride) = (0, 1);
                for i in (0..N).rev() {
                    offset += at % shape[i] * step[i] * stride;
                    at /= shape[i];
                    stride *= placed.padded[i];
                }
                offset as u32
            })
        };
        let starts: Vec<u32> = offsets(placed.count, self.stride).collect();
        Ok(offsets(self.kernel, self.dilation).flat_map(|entry| starts.iter().map(move |start| start + entry)).collect())
    }

    /// The number of the window's entries.
    pub fn entries(&self) -> usize {
        self.kernel.iter().product()
    }
}

impl<B: Backend> Var<B> {
    /// What is in the windows over this, (batch, channels, ..): (batch, channels, entries of a window, windows). Each channel's windows are
    /// the columns that a matrix of weights multiplies.
    pub(super) fn windows<const N: usize>(&self, windows: &Windows<N>) -> Result<(Var<B>, Placed<N>)> {
        let placed = windows.place(self.shape())?;
        let [batch, channels] = [self.shape()[0], self.shape()[1]];
        let mut padded = self.clone();
        for (i, &[before, after]) in placed.sides.iter().enumerate() {
            padded = padded.pad(2 + i, before, after, windows.fill)?;
        }
        let (entries, count) = (windows.entries(), placed.count.iter().product::<usize>());
        let columns = if placed.count == placed.padded && entries == 1 {
            padded
        } else {
            padded.reshape(&[batch, channels, placed.padded.iter().product()])?.index_select(2, &windows.positions(&placed)?)?
        };
        Ok((columns.reshape(&[batch, channels, entries, count])?, placed))
    }
}
