//! Real FFTs by rustfft: planar rows in and out, plans kept, any length.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use crate::backend::Real;
use crate::backend::host::threads::for_each_with;

/// Plans for both directions of one length.
#[derive(Clone)]
pub struct Plan<E> {
    forward: Arc<dyn RealToComplex<E>>,
    inverse: Arc<dyn ComplexToReal<E>>,
}

/// The plans of a device.
pub struct Plans<E>(Mutex<HashMap<usize, Plan<E>>>);

impl<E> Default for Plans<E> {
    fn default() -> Self {
        Plans(Mutex::new(HashMap::new()))
    }
}

impl<E: Real> Plans<E> {
    /// The plan of length `n`.
    pub fn get(&self, n: usize) -> Plan<E> {
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let mut planner = RealFftPlanner::new();
            Plan { forward: planner.plan_fft_forward(n), inverse: planner.plan_fft_inverse(n) }
        };
        plans.entry(n).or_insert_with(make).clone()
    }
}

impl<E: Real> Plan<E> {
    /// The length of the real rows.
    pub fn len(&self) -> usize {
        self.forward.len()
    }

    /// The number of complex bins, n/2 + 1.
    pub fn bins(&self) -> usize {
        self.forward.complex_len()
    }

    /// Scratch that serves both directions.
    pub fn scratch(&self) -> Vec<Complex<E>> {
        vec![Complex::default(); self.forward.get_scratch_len().max(self.inverse.get_scratch_len())]
    }

    /// Real row to bins; the row is overwritten.
    pub fn forward(&self, row: &mut [E], bins: &mut [Complex<E>], scratch: &mut [Complex<E>]) {
        let result = self.forward.process_with_scratch(row, bins, &mut scratch[..self.forward.get_scratch_len()]);
        debug_assert!(result.is_ok(), "{result:?}");
    }

    /// Bins to real row, not divided by n; the bins are overwritten. Imaginary parts that a real signal cannot have are ignored.
    pub fn inverse(&self, bins: &mut [Complex<E>], row: &mut [E], scratch: &mut [Complex<E>]) {
        bins[0].im = E::zero();
        if self.len().is_multiple_of(2) {
            bins[self.len() / 2].im = E::zero();
        }
        let result = self.inverse.process_with_scratch(bins, row, &mut scratch[..self.inverse.get_scratch_len()]);
        debug_assert!(result.is_ok(), "{result:?}");
    }
}

/// Rows of length n to planar bins: `out` holds all real parts, then all imaginary parts.
pub fn rfft<E: Real>(plan: &Plan<E>, x: &[E], out: &mut [E]) {
    let (real, imaginary) = out.split_at_mut(out.len() / 2);
    let rows: Vec<_> =
        x.chunks_exact(plan.len()).zip(real.chunks_exact_mut(plan.bins())).zip(imaginary.chunks_exact_mut(plan.bins())).collect();
    let init = || (vec![E::zero(); plan.len()], vec![Complex::default(); plan.bins()], plan.scratch());
    for_each_with(rows, init, |(row, bins, scratch), _, ((x, real), imaginary)| {
        row.copy_from_slice(x);
        plan.forward(row, bins, scratch);
        for ((bin, real), imaginary) in bins.iter().zip(real).zip(imaginary) {
            (*real, *imaginary) = (bin.re, bin.im);
        }
    });
}

/// Planar bins to rows of length n, divided by n.
pub fn irfft<E: Real>(plan: &Plan<E>, x: &[E], out: &mut [E]) {
    let (real, imaginary) = x.split_at(x.len() / 2);
    let rows: Vec<_> =
        real.chunks_exact(plan.bins()).zip(imaginary.chunks_exact(plan.bins())).zip(out.chunks_exact_mut(plan.len())).collect();
    let scale = E::one() / E::of(plan.len() as f64);
    let init = || (vec![Complex::default(); plan.bins()], plan.scratch());
    for_each_with(rows, init, |(bins, scratch), _, ((real, imaginary), out)| {
        for ((bin, &re), &im) in bins.iter_mut().zip(real).zip(imaginary) {
            *bin = Complex { re, im };
        }
        plan.inverse(bins, out, scratch);
        out.iter_mut().for_each(|v| *v *= scale);
    });
}
