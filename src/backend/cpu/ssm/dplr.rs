//! The kernel of a diagonal-plus-low-rank (DPLR) SSM and its gradient, from the stored parameters and back to them.
//!
//! The state matrix is A = diag(Lambda) - sum_k P_k P_k*, discretized by the bilinear rule: `K[l] = C Abar^l Bbar`. Following "Efficiently
//! Modeling Long Sequences with Structured State Spaces" (Gu, Goel, Re, 2022, section 3 and appendix C), the kernel of length Lk is the
//! inverse FFT of its generating function with C~ = C (I - Abar^Lk) in the place of C. That function and its adjoint are in
//! `dplr_spectra`; here are its coefficients, the FFT around it and the choice of the precision (`WELL_DAMPED`). The same system as a
//! recurrence is in `backend::ssm::recurrence`.
//!
//! A thread needs O(Lk) memory and the arithmetic is O(M Lk) a channel.

use realfft::num_complex::Complex;

use super::dplr_spectra::{Grid, Modes, fill_spectra, spectra_grad};
use crate::backend::cpu::products::fft::{Plan, Plans};
use crate::backend::cpu::rows_by_channel;
use crate::backend::host::threads;
use crate::backend::ssm::recurrence::inverse_small;
use crate::backend::ssm::system::{C64, Reader, System, SystemGrad};
use crate::backend::{Real, SsmParams, shape::Ssm};

/// Which kernel is asked for.
#[derive(Clone, Copy, Debug)]
pub struct DplrDims {
    /// The sizes of the parameters.
    pub sizes: Ssm,
    /// The length Lk that C~ belongs to.
    pub len: usize,
    /// How many entries of the kernel are wanted, at most `len`.
    pub take: usize,
}

impl DplrDims {
    /// The frequencies of a spectrum.
    fn bins(&self) -> usize {
        self.len / 2 + 1
    }

    /// The bins of a spectrum that are real: the first, and the last if the length is even.
    fn real_ends<'s, E>(&self, spectrum: &'s mut [Complex<E>]) -> impl Iterator<Item = &'s mut Complex<E>> + use<'s, E> {
        let even = self.len.is_multiple_of(2);
        let (first, rest) = spectrum.split_first_mut().expect("a spectrum has at least one bin");
        std::iter::once(first).chain(rest.last_mut().filter(|_| even))
    }
}

/// The kernels (c, H, take); `params.c` is C~.
pub(super) fn kernel<E: Real>(plans: &Plans<E>, dims: &DplrDims, params: SsmParams<&[E]>, out: &mut [E]) {
    let reader = Reader::new(dims.sizes, params);
    let grids = Grids::new(dims.sizes, dims.len, &reader);
    let plan = plans.get(dims.len);
    let rows = rows_by_channel(out, dims.sizes.d_model, dims.take);
    let init = || Buffers::new(dims, &plan);
    threads::for_each_with(rows, init, |Buffers { spectra, wide, time, fft: scratch }, h, rows| {
        grids.fill(h, &reader.system(h), spectra, wide);
        for (spectrum, row) in spectra.chunks_exact_mut(dims.bins()).zip(rows) {
            plan.inverse(spectrum, time, scratch);
            row.copy_from_slice(&time[..dims.take]);
        }
    });
}

/// The gradients of the parameters for the gradient `grad` (c, H, take) of the kernels.
pub(super) fn kernel_grad<E: Real>(plans: &Plans<E>, dims: &DplrDims, params: SsmParams<&[E]>, grad: &[E]) -> SsmParams<Vec<E>> {
    assert_eq!(grad.len(), dims.sizes.channels * dims.sizes.d_model * dims.take);
    let reader = Reader::new(dims.sizes, params);
    let grids = Grids::new(dims.sizes, dims.len, &reader);
    let plan = plans.get(dims.len);
    let init = || Buffers::new(dims, &plan);
    let channels = threads::map_with(dims.sizes.d_model, init, |Buffers { spectra, wide, time, fft: scratch }, h| {
        for (c, spectrum) in spectra.chunks_exact_mut(dims.bins()).enumerate() {
            let row = &grad[(c * dims.sizes.d_model + h) * dims.take..][..dims.take];
            time[..dims.take].copy_from_slice(row);
            time[dims.take..].fill(E::zero());
            plan.forward(time, spectrum, scratch);
            // Every other frequency stands for itself and its conjugate; that factor of two is in `dplr_spectra`.
            dims.real_ends(spectrum).for_each(|end| *end = Complex::new(end.re * E::of(0.5), E::zero()));
        }
        grids.grad(h, &reader.system(h), spectra, wide)
    });
    reader.gather(&channels)
}

/// -Re A below which f32 is not enough.
///
/// The T (see `dplr_spectra`) of a mode with little damping peak where its frequency falls on the grid, and the peaks cancel in the
/// low-rank correction. With the damping of 1/2 that LegS starts from, kernels in f32 are good to 1e-6; below 0.1 the error grows as
/// 1 / damping, to 1e-2 in the kernels and to nothing left in the gradients of A for the undamped LegT, LagT and Fourier systems.
const WELL_DAMPED: f64 = 0.1;

fn well_damped(a: &C64) -> bool {
    -a.re >= WELL_DAMPED
}

/// What channels have in common: the tables in the kernel's type, and in f64 if a channel needs that.
struct Grids<E> {
    sizes: Ssm,
    native: Grid<E>,
    wide: Option<Grid<f64>>,
    /// [`share_of_p`] of each stored system, (S).
    shares: Vec<Vec<f64>>,
}

impl<E: Real> Grids<E> {
    fn new(sizes: Ssm, len: usize, reader: &Reader<'_, E>) -> Self {
        let narrow = size_of::<E>() < size_of::<f64>();
        let wide = (narrow && !reader.poles().iter().all(well_damped)).then(|| Grid::new(len));
        let shares = (0..sizes.n_ssm).map(|s| share_of_p(&reader.system(s))).collect();
        Grids { sizes, native: Grid::new(len), wide, shares }
    }

    /// The f64 tables, if `system` needs them.
    fn wide_for(&self, system: &System) -> Option<&Grid<f64>> {
        self.wide.as_ref().filter(|_| !system.a.iter().all(well_damped))
    }

    fn factors(&self, h: usize, system: &System) -> Factors<'_> {
        Factors::new(system, &self.shares[h % self.sizes.n_ssm], self.native.len)
    }

    /// The spectra (c, bins) of channel `h`'s kernels; `wide` is scratch.
    fn fill(&self, h: usize, system: &System, spectra: &mut [Complex<E>], wide: &mut Vec<Complex<f64>>) {
        let (sizes, factors) = (self.sizes, self.factors(h, system));
        let Some(grid) = self.wide_for(system) else {
            return fill_spectra(sizes, &self.native, &factors.modes(), spectra);
        };
        wide.resize(spectra.len(), Complex::default());
        fill_spectra(sizes, grid, &factors.modes(), wide);
        spectra.iter_mut().zip(wide).for_each(|(z, wide)| *z = Complex::new(E::of(wide.re), E::of(wide.im)));
    }

    /// Channel `h`'s gradient from the spectra (c, bins) of the gradients of its kernels.
    fn grad(&self, h: usize, system: &System, spectra: &[Complex<E>], wide: &mut Vec<Complex<f64>>) -> SystemGrad {
        let (sizes, factors) = (self.sizes, self.factors(h, system));
        let mut sums = vec![0.0; factors.a.len() * (2 * factors.products() + 2)];
        if let Some(grid) = self.wide_for(system) {
            wide.clear();
            wide.extend(spectra.iter().map(|z| Complex::new(z.re.f64(), z.im.f64())));
            spectra_grad(sizes, grid, &factors.modes(), wide, &mut sums);
        } else {
            spectra_grad(sizes, &self.native, &factors.modes(), spectra, &mut sums);
        }
        factors.coefficients_grad(system, self.native.len, &sums)
    }
}

/// A thread's buffers.
struct Buffers<E> {
    /// (c, bins).
    spectra: Vec<Complex<E>>,
    /// The same in f64, where needed.
    wide: Vec<Complex<f64>>,
    /// One kernel or gradient, (Lk).
    time: Vec<E>,
    /// The FFT's own.
    fft: Vec<Complex<E>>,
}

impl<E: Real> Buffers<E> {
    fn new(dims: &DplrDims, plan: &Plan<E>) -> Self {
        let spectra = vec![Complex::default(); dims.sizes.channels * dims.bins()];
        Buffers { spectra, wide: Vec::new(), time: vec![E::zero(); dims.len], fft: plan.scratch() }
    }
}

/// What the products of a channel are made of, in f64.
struct Factors<'s> {
    a: Vec<C64>,
    /// How much of each P_k is in B, (R).
    share: &'s [f64],
    /// B' = B - sum_k share_k P_k, and P_k: (1 + R, M).
    unscaled: Vec<C64>,
    /// dt B', dt P_k: (1 + R, M).
    rows: Vec<C64>,
    /// C_c / Lk (the factor of the inverse FFT goes with C), conj P_k: (c + R, M).
    cols: Vec<C64>,
}

impl<'s> Factors<'s> {
    fn new(system: &System, share: &'s [f64], len: usize) -> Self {
        let m = system.a.len();
        let mut unscaled = [&system.b[..], &system.p].concat();
        let (b, p) = unscaled.split_at_mut(m);
        for (p, share) in p.chunks_exact(m).zip(share) {
            b.iter_mut().zip(p).for_each(|(b, p)| *b -= p * share);
        }
        Factors {
            a: system.a.iter().map(|a| a * system.dt).collect(),
            rows: unscaled.iter().map(|x| x * system.dt).collect(),
            share,
            unscaled,
            cols: system.c.iter().map(|c| c / len as f64).chain(system.p.iter().map(|p| p.conj())).collect(),
        }
    }

    fn products(&self) -> usize {
        (self.rows.len() / self.a.len()) * (self.cols.len() / self.a.len())
    }

    /// The positions in `rows` and `cols` of the factors of mode `n`'s products, in order.
    fn pairs(&self, n: usize) -> impl Iterator<Item = (usize, usize)> {
        let m = self.a.len();
        let (rows, cols) = (self.rows.len() / m, self.cols.len() / m);
        (0..rows).flat_map(move |r| (0..cols).map(move |c| (r * m + n, c * m + n)))
    }

    fn modes<E: Real>(&self) -> Modes<E> {
        let products = self.products() * self.a.len();
        let mut modes = Modes {
            share: self.share.iter().map(|x| E::of(*x)).collect(),
            pole: Vec::with_capacity(self.a.len()),
            alpha: Vec::with_capacity(products),
            beta: Vec::with_capacity(products),
        };
        for (n, a) in self.a.iter().enumerate() {
            modes.pole.push([E::of(a.norm_sqr().sqrt()), E::of(-2.0 * a.re)]);
            for (r, c) in self.pairs(n) {
                let v = self.rows[r] * self.cols[c];
                modes.alpha.push(E::of(2.0 * v.re));
                modes.beta.push(E::of(-2.0 * (v.re * a.re + v.im * a.im)));
            }
        }
        modes
    }

    /// From the gradients of the coefficients, a row [dalpha (V), dbeta (V), d|a|^2, dRe a] for each mode, to the system's.
    fn coefficients_grad(&self, system: &System, len: usize, sums: &[f64]) -> SystemGrad {
        let products = self.products();
        let mut grad = SystemGrad::zeros(system);
        let mut rows = vec![C64::ZERO; self.rows.len()];
        let mut cols = vec![C64::ZERO; self.cols.len()];
        for (n, (a, sums)) in self.a.iter().zip(sums.chunks_exact(2 * products + 2)).enumerate() {
            let mut da = a * (2.0 * sums[2 * products]) + sums[2 * products + 1];
            for (v, (r, c)) in self.pairs(n).enumerate() {
                let (dalpha, dbeta) = (2.0 * sums[v], 2.0 * sums[products + v]);
                let dv = C64::new(dalpha - a.re * dbeta, -a.im * dbeta);
                da -= self.rows[r] * self.cols[c] * dbeta;
                rows[r] += dv * self.cols[c].conj();
                cols[c] += dv * self.rows[r].conj();
            }
            grad.a[n] = da * system.dt;
            grad.dt += dot(da, system.a[n]);
        }
        grad.dt += rows.iter().zip(&self.unscaled).map(|(g, x)| dot(*g, *x)).sum::<f64>();
        let (b, p) = rows.split_at(grad.b.len());
        let (c, q) = cols.split_at(grad.c.len());
        grad.b = b.iter().map(|g| g * system.dt).collect();
        grad.c = c.iter().map(|g| g / len as f64).collect();
        grad.p = p.iter().zip(q).map(|(p, q)| p * system.dt + q.conj()).collect();
        // P is in B' as well. The shares may stand for constants: whatever they are, the kernels are the same.
        for (p, share) in grad.p.chunks_exact_mut(grad.b.len()).zip(self.share) {
            p.iter_mut().zip(&grad.b).for_each(|(p, b)| *p -= b * share);
        }
        grad
    }
}

/// The real numbers s_k for which B - sum_k s_k P_k is smallest, (R).
///
/// In LegS, B is a multiple of P: at low frequencies the low-rank correction would take away most of T[B, C], and what is left, and the
/// gradients even more so, would keep few of f32's digits. Without that part of B nothing cancels.
fn share_of_p(system: &System) -> Vec<f64> {
    let p: Vec<&[C64]> = system.p.chunks_exact(system.a.len()).collect();
    let rank = p.len();
    let along = |x: &[C64], y: &[C64]| x.iter().zip(y).map(|(x, y)| dot(*x, *y)).sum::<f64>();
    let mut squares: Vec<f64> = (0..rank * rank).map(|i| along(p[i / rank], p[i % rank])).collect();
    // A P of nothing, or two that are the same, shall not make a share infinite.
    let least = 1e-6 * (along(&system.b, &system.b) + along(&system.p, &system.p)) + f64::MIN_POSITIVE;
    squares.iter_mut().step_by(rank + 1).for_each(|square| *square += least);
    let inverse = inverse_small(&squares, rank);
    let share = |row: &[f64]| row.iter().zip(&p).map(|(x, p)| x * along(p, &system.b)).sum::<f64>();
    // The same number in every precision, for it is taken from B and put back into the correction.
    inverse.chunks_exact(rank).map(|row| f64::from(share(row) as f32)).collect()
}

/// Re(conj(g) z): the part of dL that comes from z growing along itself.
fn dot(g: C64, z: C64) -> f64 {
    g.re * z.re + g.im * z.im
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::DtTransform::Softplus;
    use crate::backend::ssm::recurrence::Recurrence;
    use crate::backend::ssm::system::testing::{error, gradient_error, sample, weights};

    /// (channels, rank, M, Lk, take): even, odd, shorter than wanted for a tile, and the least of everything.
    const CASES: [[usize; 5]; 7] =
        [[1, 1, 4, 24, 24], [2, 1, 5, 37, 20], [1, 2, 8, 300, 300], [2, 2, 3, 33, 33], [2, 1, 1, 2, 2], [1, 2, 1, 1, 1], [1, 1, 3, 3, 2]];

    fn dims([channels, rank, half_state, len, take]: [usize; 5]) -> DplrDims {
        let sizes = Ssm { d_model: 4, n_ssm: 2, half_state, rank, channels };
        DplrDims { sizes, len, take }
    }

    fn kernel<E: Real>(plans: &Plans<E>, dims: &DplrDims, params: SsmParams<&[E]>) -> Vec<E> {
        let mut out = vec![E::nan(); dims.sizes.channels * dims.sizes.d_model * dims.take];
        super::kernel(plans, dims, params, &mut out);
        out
    }

    #[test]
    fn kernel_is_the_recurrence() {
        for dims in CASES.map(dims) {
            let Ssm { d_model, half_state: m, channels, .. } = dims.sizes;
            let stored = sample::<f64>(dims.sizes, Softplus, 0.5);
            let mut want = vec![0.0; channels * d_model * dims.take];
            for h in 0..d_model {
                let system = Reader::new(dims.sizes, stored.slices()).system(h);
                let recurrence = Recurrence::new(&system);
                let c = recurrence.solve_plain_c(&system.c, dims.len).unwrap();
                let mut state = vec![C64::ZERO; m];
                for l in 0..dims.take {
                    recurrence.step(&mut state, f64::from(l == 0));
                    for (k, c) in c.chunks(m).enumerate() {
                        want[(k * d_model + h) * dims.take + l] = c.iter().zip(&state).map(|(c, x)| 2.0 * (c * x).re).sum();
                    }
                }
            }
            assert!(error(&kernel(&Plans::default(), &dims, stored.slices()), &want) < 1e-11, "{dims:?}");
        }
    }

    #[test]
    fn gradient_agrees_with_differences() {
        let plans = Plans::default();
        for dims in CASES.map(dims) {
            let stored = sample::<f64>(dims.sizes, Softplus, 0.5);
            let weights = weights(dims.sizes.channels * dims.sizes.d_model * dims.take);
            let loss = |params: SsmParams<&[f64]>| kernel(&plans, &dims, params).iter().zip(&weights).map(|(k, w)| k * w).sum();
            let error = gradient_error(&stored, kernel_grad(&plans, &dims, stored.slices(), &weights), loss);
            assert!(error < 1e-7, "{dims:?}: {error:e}");
        }
    }

    #[test]
    fn single_precision_holds_without_damping() {
        for damping in [0.5, 1e-4] {
            let dims = dims([1, 2, 16, 784, 784]);
            let stored = sample::<f32>(dims.sizes, Softplus, damping);
            let exact = stored.clone().map(|list| list.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
            let weights = weights(4 * dims.take);
            assert!(error(&kernel(&Plans::default(), &dims, stored.slices()), &kernel(&Plans::default(), &dims, exact.slices())) < 5e-6);
            let narrow = kernel_grad(&Plans::default(), &dims, stored.slices(), &weights.iter().map(|w| *w as f32).collect::<Vec<_>>());
            let wide = kernel_grad(&Plans::default(), &dims, exact.slices(), &weights);
            assert!(error(&narrow.a_imag, &wide.a_imag) < 1e-4 && error(&narrow.c, &wide.c) < 1e-4);
        }
    }
}
