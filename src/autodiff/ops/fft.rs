//! `Rfft` and `Irfft`: the Fourier transform of real signals, and back.
//!
//! Spectra are planar, so both are plain real linear maps, and the adjoint of each is the other with weighted bins: a bin between the
//! first and (for an even length) the last stands for itself and its conjugate, and so counts twice on the way back.

use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads, operands, variables};
use crate::backend::{Backend, Binary, Real, Tensor};
use crate::error::Result;

/// Real (.., n) to planar complex (2, .., n / 2 + 1), unnormalised; one input.
#[derive(Clone, Copy, Debug)]
pub struct Rfft;

/// Planar complex (2, .., n / 2 + 1) to real (.., n), divided by n; one input.
///
/// The imaginary parts of the first bin, and of the last for even n, are ignored: their gradient is zero.
#[derive(Clone, Copy, Debug)]
pub struct Irfft {
    /// The signal's length.
    pub n: usize,
}

impl<B: Backend> Op<B> for Rfft {
    const NAME: &'static str = "rfft";
    /// n.
    type Saved = usize;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("rfft", inputs)?;
        Ok((backend.rfft(x)?, x.shape()[x.rank() - 1]))
    }

    /// `gx[j] = sum_k Gr[k] cos(2 pi jk / n) - Gi[k] sin(2 pi jk / n)`: n times the inverse of G with every bin counted once.
    fn backward(&self, backend: &B, n: usize, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        let weights = bins(backend, n, grad.rank(), n as f64, n as f64 / 2.0)?;
        Ok(vec![Some(backend.irfft(&backend.binary(Binary::Mul, grad, &weights)?, n)?)])
    }

    fn derivative(&self, inputs: &[Var<B>], _: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        let [x] = variables("rfft", inputs)?;
        let n = x.shape()[x.shape().len() - 1];
        let weights = bins(x.tape().backend(), n, grad.shape().len(), n as f64, n as f64 / 2.0)?;
        Ok(vec![Some(grad.mul(&x.tape().constant(&weights))?.irfft(n)?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Linear
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let lengths = lengths(generate);
        lengths.map(|(leading, n)| Case::new(Rfft, [generate.normal(&[leading, vec![n]].concat())])).into()
    }
}

impl<B: Backend> Op<B> for Irfft {
    const NAME: &'static str = "irfft";
    type Saved = ();

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("irfft", inputs)?;
        Ok((backend.irfft(x, self.n)?, ()))
    }

    /// `gX[k]` is (1 or 2) / n times the transform of g.
    fn backward(&self, backend: &B, (): Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        let (spectrum, n) = (backend.rfft(grad)?, self.n as f64);
        let weights = bins(backend, self.n, spectrum.rank(), 1.0 / n, 2.0 / n)?;
        Ok(vec![Some(backend.binary(Binary::Mul, &spectrum, &weights)?)])
    }

    fn derivative(&self, _: &[Var<B>], _: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        let (spectrum, n) = (grad.rfft()?, self.n as f64);
        let weights = bins(grad.tape().backend(), self.n, spectrum.shape().len(), 1.0 / n, 2.0 / n)?;
        Ok(vec![Some(spectrum.mul(&grad.tape().constant(&weights))?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Linear
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let lengths = lengths(generate);
        lengths.map(|(leading, n)| Case::new(Irfft { n }, [generate.normal(&[vec![2], leading, vec![n / 2 + 1]].concat())])).into()
    }
}

/// Weights (2, 1, .., n / 2 + 1) of a spectrum's bins: those with a conjugate have weight `paired`, the first and (n even) the last
/// have weight `single`, and none in the imaginary plane, where they are zero or ignored.
fn bins<B: Backend>(backend: &B, n: usize, rank: usize, single: f64, paired: f64) -> Result<Tensor<B>> {
    let bins = n / 2 + 1;
    let alone = |k: usize| k == 0 || 2 * k == n;
    let real = (0..bins).map(|k| if alone(k) { single } else { paired });
    let imaginary = (0..bins).map(|k| if alone(k) { 0.0 } else { paired });
    let mut shape = vec![1; rank];
    (shape[0], shape[rank - 1]) = (2, bins);
    backend.from_vec(real.chain(imaginary).map(B::Elem::of).collect(), &shape)
}

/// Leading axes and lengths: the smallest, odd and even ones, primes, and a random one.
fn lengths(generate: &mut Generate) -> [(Vec<usize>, usize); 9] {
    [1, 2, 3, 4, 5, 8, 17, 30, generate.size(31..=90)].map(|n| (generate.shape(0..=2, 1..=3), n))
}

impl<B: Backend> Var<B> {
    /// The discrete Fourier transform of the last axis, `X[k] = sum_j x[j] e^(-2 pi i jk / n)`: real (.., n) to planar complex
    /// (2, .., n / 2 + 1), for any n.
    ///
    /// ```
    /// # use pspikessm::{autodiff::Tape, backend::*};
    /// # fn main() -> pspikessm::Result<()> {
    /// let cpu = Cpu::<f64>::new();
    /// let x = Tape::new(&cpu).leaf(&cpu.from_vec(vec![1.0, 0.0, 0.0, 0.0], &[4])?);
    /// assert_eq!(x.rfft()?.shape(), [2, 3]);
    /// assert_eq!(x.rfft()?.irfft(4)?.to_vec()?, [1.0, 0.0, 0.0, 0.0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Value`] where there is no last axis, or it is empty.
    pub fn rfft(&self) -> Result<Var<B>> {
        self.tape().apply(Rfft, &[self])
    }

    /// The inverse of [`Var::rfft`] for signals of length `n`: planar complex (2, .., n / 2 + 1) to real (.., n).
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where this is not the spectrum of such signals.
    pub fn irfft(&self, n: usize) -> Result<Var<B>> {
        self.tape().apply(Irfft { n }, &[self])
    }
}

#[cfg(test)]
mod tests {
    use crate::autodiff::Tape;
    use crate::backend::*;

    #[test]
    fn ignored_imaginary_parts_have_a_gradient_of_zero() {
        let cpu = Cpu::<f64>::new();
        for n in [1, 2, 6, 7] {
            let x = Tape::new(&cpu).leaf(&cpu.full(&[2, n / 2 + 1], 1.0).unwrap());
            let y = x.irfft(n).unwrap();
            let cotangent = cpu.from_vec((0..n).map(|j| 1.5 + (j * j) as f64).collect(), &[n]).unwrap();
            let gradient = cpu.to_vec(y.backward_from(&cotangent).unwrap().of(&x).unwrap()).unwrap();
            let imaginary = &gradient[n / 2 + 1..];
            let ignored = |k: usize| k == 0 || 2 * k == n;
            assert!((0..imaginary.len()).all(|k| (imaginary[k] == 0.0) == ignored(k)), "n = {n}: {imaginary:?}");
        }
    }
}
