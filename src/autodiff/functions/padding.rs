//! Constants around a tensor.

use crate::autodiff::Var;
use crate::backend::{Backend, shape};
use crate::error::{Error, Result};

impl<B: Backend> Var<B> {
    /// `before` entries of `value` before and `after` behind what is there along `axis`: the adjoint of [`Var::slice`] where `value` is 0.
    ///
    /// # Errors
    /// [`Error::Value`] where the axis does not exist or no memory holds the result.
    #[doc(alias = "pad_with_zeros")]
    pub fn pad(&self, axis: usize, before: usize, after: usize, value: f64) -> Result<Var<B>> {
        const OP: &str = "pad";
        let mut shape = self.shape().to_vec();
        let len = shape[shape::axis(OP, axis, self.shape())?];
        let Some(padded) = len.checked_add(before).and_then(|len| len.checked_add(after)) else {
            return Err(Error::value(OP, format!("{before} and {after} entries are more than can be counted")));
        };
        shape[axis] = padded;
        shape::countable(OP, &shape)?;
        let mut constant = |len: usize| {
            shape[axis] = len;
            (len > 0).then(|| Ok(self.tape().constant(&self.tape().backend().full(&shape, value)?))).transpose()
        };
        let (before, after) = (constant(before)?, constant(after)?);
        let parts: Vec<&Var<B>> = before.iter().chain([self]).chain(&after).collect();
        if parts.len() == 1 { Ok(self.clone()) } else { Var::concat(&parts, axis) }
    }
}
