//! The six stored parameters of an SSM layer, generic over what holds them: tensors, variables of a tape, slices, gradients.

use serde::{Deserialize, Serialize};

use crate::backend::{Real, Tensor, Transfer, shape};
use crate::error::{Error, Result};

listed! {
    /// The step size's transform.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum DtTransform {
        /// dt = ln(1 + e^inv_dt).
        #[default]
        Softplus,
        /// dt = e^inv_dt.
        Exp,
    }
}

/// The stored parameters of an SSM layer, or their gradients; complex values are planar, with a leading axis of 2.
///
/// S systems are shared by H channels, channel h has the system h mod S; M is half of the state, R the rank, c the number of kernels.
#[derive(Clone, Copy, Debug)]
pub struct SsmParams<T> {
    /// (H), through [`DtTransform`].
    pub inv_dt: T,
    /// (S, M), Re A = -exp(a_real).
    pub a_real: T,
    /// (S, M), Im A = -a_imag.
    pub a_imag: T,
    /// (2, S, M).
    pub b: T,
    /// (2, c, H, M): C~ of the kernel's length for DPLR, C for diagonal systems.
    pub c: T,
    /// (2, R, S, M), the low-rank correction; `None` for diagonal systems.
    pub p: Option<T>,
    /// How inv_dt becomes dt.
    pub dt: DtTransform,
}

impl<T> SsmParams<T> {
    /// The same parameters, borrowed.
    pub fn as_ref(&self) -> SsmParams<&T> {
        let SsmParams { inv_dt, a_real, a_imag, b, c, p, dt } = self;
        SsmParams { inv_dt, a_real, a_imag, b, c, p: p.as_ref(), dt: *dt }
    }

    /// Each parameter turned into what `f` makes of it.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> SsmParams<U> {
        let SsmParams { inv_dt, a_real, a_imag, b, c, p, dt } = self;
        SsmParams { inv_dt: f(inv_dt), a_real: f(a_real), a_imag: f(a_imag), b: f(b), c: f(c), p: p.map(f), dt }
    }

    /// The same, for an `f` that can fail.
    ///
    /// # Errors
    /// The first error of `f`.
    pub fn try_map<U>(self, mut f: impl FnMut(T) -> Result<U>) -> Result<SsmParams<U>> {
        let SsmParams { inv_dt, a_real, a_imag, b, c, p, dt } = self;
        let [inv_dt, a_real, a_imag, b, c] = [f(inv_dt)?, f(a_real)?, f(a_imag)?, f(b)?, f(c)?];
        Ok(SsmParams { inv_dt, a_real, a_imag, b, c, p: p.map(f).transpose()?, dt })
    }

    /// Each parameter beside another's; P where both have one.
    pub fn zip<U>(self, other: SsmParams<U>) -> SsmParams<(T, U)> {
        let SsmParams { inv_dt, a_real, a_imag, b, c, p, dt } = self;
        SsmParams {
            inv_dt: (inv_dt, other.inv_dt),
            a_real: (a_real, other.a_real),
            a_imag: (a_imag, other.a_imag),
            b: (b, other.b),
            c: (c, other.c),
            p: p.zip(other.p),
            dt,
        }
    }

    /// The parameters in the order of their names here; P, where there is one, comes last.
    pub fn in_order(self) -> impl Iterator<Item = T> {
        [self.inv_dt, self.a_real, self.a_imag, self.b, self.c].into_iter().chain(self.p)
    }
}

impl<B: Transfer> SsmParams<Tensor<B>> {
    /// Checks the shapes against each other and names the sizes.
    ///
    /// # Errors
    /// [`crate::Error::Shape`], [`crate::Error::Config`] or [`crate::Error::Value`] where the shapes do not fit each other.
    pub(crate) fn sizes(&self, op: &'static str) -> Result<shape::Ssm> {
        let p = self.p.as_ref().map(|p| p.shape());
        shape::ssm(op, self.inv_dt.shape(), self.a_real.shape(), self.a_imag.shape(), self.b.shape(), self.c.shape(), p)
    }

    /// The sizes of a DPLR system, where the first `take` entries of its kernels of length `len` can be computed.
    pub(in crate::backend) fn dplr(&self, op: &'static str, len: usize, take: usize) -> Result<shape::Ssm> {
        let sizes = self.sizes(op)?;
        if self.p.is_none() {
            return Err(Error::value(op, "P is missing: give it, or call diag_kernel for a diagonal system"));
        }
        if len == 0 || take == 0 {
            return Err(Error::value(op, "a kernel has at least one entry: give len and take of 1 or more"));
        }
        if take > len {
            let help = format!("a kernel of length {len} has no more entries: double its length first");
            return Err(Error::config("take", take, help));
        }
        shape::countable(op, &[2, sizes.channels, sizes.d_model, len])?;
        Ok(sizes)
    }

    /// The same, for the gradient `g` of those entries.
    pub(in crate::backend) fn dplr_grad(&self, op: &'static str, len: usize, g: &Tensor<B>) -> Result<shape::Ssm> {
        let [channels, d_model, take] = shape::sequence(op, "the gradient", g.shape())?;
        let sizes = self.dplr(op, len, take)?;
        shape::gradient(op, &[sizes.channels, sizes.d_model, take], &[channels, d_model, take])?;
        Ok(sizes)
    }

    /// The sizes of a diagonal system, where its kernels of length `len` can be computed.
    pub(in crate::backend) fn diag(&self, op: &'static str, len: usize) -> Result<shape::Ssm> {
        let sizes = self.sizes(op)?;
        if self.p.is_some() {
            // Ignored, P would silently get no gradient.
            return Err(Error::value(op, "a diagonal system has no P: leave it out, or call dplr_kernel"));
        }
        if len == 0 {
            return Err(Error::value(op, "a kernel has at least one entry: give a len of 1 or more"));
        }
        shape::countable(op, &[sizes.channels, sizes.d_model, len])?;
        Ok(sizes)
    }

    /// The same, for the gradient `g` of the kernels.
    pub(in crate::backend) fn diag_grad(&self, op: &'static str, g: &Tensor<B>) -> Result<shape::Ssm> {
        let [channels, d_model, len] = shape::sequence(op, "the gradient", g.shape())?;
        let sizes = self.diag(op, len)?;
        shape::gradient(op, &[sizes.channels, sizes.d_model, len], &[channels, d_model, len])?;
        Ok(sizes)
    }

    /// The values on the host, in f64.
    ///
    /// # Errors
    /// Where the device fails.
    pub(crate) fn on_host(&self, backend: &B) -> Result<SsmParams<Vec<f64>>> {
        self.as_ref().try_map(|x| Ok(backend.to_vec(x)?.into_iter().map(Real::f64).collect()))
    }
}

impl<E> SsmParams<Vec<E>> {
    /// The same values, borrowed.
    pub(crate) fn slices(&self) -> SsmParams<&[E]> {
        self.as_ref().map(|values| values.as_slice())
    }
}
