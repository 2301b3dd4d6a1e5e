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
use crate::backend::cpu::buffer::Buffer;
use crate::backend::cpu::products::fft::{Plan, Plans};
use crate::backend::cpu::rows_by_channel;
use crate::backend::host::threads;
use crate::backend::ssm::recurrence::inverse_small;
use crate::backend::ssm::system::{C64, Reader, System, SystemGrad, refill};
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
    threads::for_each_with(rows, init, |Buffers { spectra, time, fft: scratch, channel }, h, rows| {
        channel.fill(&grids, &reader, h, spectra);
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
    let channels = threads::map_with(dims.sizes.d_model, init, |Buffers { spectra, time, fft: scratch, channel }, h| {
        for (c, spectrum) in spectra.chunks_exact_mut(dims.bins()).enumerate() {
            let row = &grad[(c * dims.sizes.d_model + h) * dims.take..][..dims.take];
            time[..dims.take].copy_from_slice(row);
            time[dims.take..].fill(E::zero());
            plan.forward(time, spectrum, scratch);
            // Every other frequency stands for itself and its conjugate; that factor of two is in `dplr_spectra`.
            dims.real_ends(spectrum).for_each(|end| *end = Complex::new(end.re * E::of(0.5), E::zero()));
        }
        channel.grad(&grids, &reader, h, spectra)
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

    /// The shares of channel `h`.
    fn share(&self, h: usize) -> &[f64] {
        &self.shares[h % self.sizes.n_ssm]
    }
}

/// A thread's buffers.
struct Buffers<E: Real> {
    /// (c, bins).
    spectra: Vec<Complex<E>>,
    /// One kernel or gradient, (Lk).
    time: Vec<E>,
    /// The FFT's own.
    fft: Vec<Complex<E>>,
    channel: Channel<E>,
}

impl<E: Real> Buffers<E> {
    fn new(dims: &DplrDims, plan: &Plan<E>) -> Self {
        let spectra = vec![Complex::default(); dims.sizes.channels * dims.bins()];
        Buffers { spectra, time: vec![E::zero(); dims.len], fft: plan.scratch(), channel: Channel::default() }
    }
}

/// What is worked out for one channel after another, in the same memory: there are hundreds of them, and many small lists for each.
#[derive(Default)]
struct Channel<E: Real> {
    system: System,
    factors: Factors,
    native: InPrecision<E>,
    wide: InPrecision<f64>,
    /// The spectra in f64, where the channel needs that.
    spectra: Vec<Complex<f64>>,
    /// The gradients of the modes' coefficients.
    sums: Vec<f64>,
    /// Those of the factors' rows and columns.
    slopes: [Vec<C64>; 2],
}

/// The part that is in the kernel's type, or in f64.
struct InPrecision<E: Real> {
    modes: Modes<E>,
    /// Scratch of the gradient.
    room: Buffer<E>,
}

impl<E: Real> Default for InPrecision<E> {
    fn default() -> Self {
        InPrecision { modes: Modes::default(), room: Buffer::zeros(0) }
    }
}

impl<E: Real> Channel<E> {
    /// Takes up channel `h`; the f64 tables, if it needs them.
    fn read<'g>(&mut self, grids: &'g Grids<E>, reader: &Reader<'_, E>, h: usize) -> Option<&'g Grid<f64>> {
        reader.read(h, &mut self.system);
        self.factors.set(&self.system, grids.share(h), grids.native.len);
        let wide = grids.wide_for(&self.system);
        match wide {
            Some(_) => self.factors.modes(grids.share(h), &mut self.wide.modes),
            None => self.factors.modes(grids.share(h), &mut self.native.modes),
        }
        wide
    }

    /// The spectra (c, bins) of channel `h`'s kernels.
    fn fill(&mut self, grids: &Grids<E>, reader: &Reader<'_, E>, h: usize, spectra: &mut [Complex<E>]) {
        let Some(grid) = self.read(grids, reader, h) else {
            return fill_spectra(grids.sizes, &grids.native, &self.native.modes, spectra);
        };
        self.spectra.resize(spectra.len(), Complex::default());
        fill_spectra(grids.sizes, grid, &self.wide.modes, &mut self.spectra);
        spectra.iter_mut().zip(&self.spectra).for_each(|(z, wide)| *z = Complex::new(E::of(wide.re), E::of(wide.im)));
    }

    /// Channel `h`'s gradient from the spectra (c, bins) of the gradients of its kernels.
    fn grad(&mut self, grids: &Grids<E>, reader: &Reader<'_, E>, h: usize, spectra: &[Complex<E>]) -> SystemGrad {
        let wide = self.read(grids, reader, h);
        let Channel { system, factors, native, wide: in_f64, sums, .. } = self;
        sums.resize(factors.a.len() * (2 * factors.products() + 2), 0.0);
        if let Some(grid) = wide {
            refill(&mut self.spectra, spectra.iter().map(|z| Complex::new(z.re.f64(), z.im.f64())));
            spectra_grad(grids.sizes, grid, &in_f64.modes, &self.spectra, &mut in_f64.room, sums);
        } else {
            spectra_grad(grids.sizes, &grids.native, &native.modes, spectra, &mut native.room, sums);
        }
        factors.coefficients_grad(system, grids.share(h), sums, grids.native.len, &mut self.slopes)
    }
}

/// What the products of a channel are made of, in f64.
#[derive(Default)]
struct Factors {
    a: Vec<C64>,
    /// B' = B - sum_k share_k P_k, and P_k: (1 + R, M).
    unscaled: Vec<C64>,
    /// dt B', dt P_k: (1 + R, M).
    rows: Vec<C64>,
    /// C_c / Lk (the factor of the inverse FFT goes with C), conj P_k: (c + R, M).
    cols: Vec<C64>,
}

impl Factors {
    /// Those of a system, of whose B so much of each P_k is taken away, (R).
    fn set(&mut self, system: &System, share: &[f64], len: usize) {
        let m = system.a.len();
        refill(&mut self.unscaled, system.b.iter().chain(&system.p).copied());
        let (b, p) = self.unscaled.split_at_mut(m);
        for (p, share) in p.chunks_exact(m).zip(share) {
            b.iter_mut().zip(p).for_each(|(b, p)| *b -= p * share);
        }
        refill(&mut self.a, system.a.iter().map(|a| a * system.dt));
        refill(&mut self.rows, self.unscaled.iter().map(|x| x * system.dt));
        refill(&mut self.cols, system.c.iter().map(|c| c / len as f64).chain(system.p.iter().map(|p| p.conj())));
    }

    fn products(&self) -> usize {
        (self.rows.len() / self.a.len()) * (self.cols.len() / self.a.len())
    }

    /// The positions in `rows` and `cols` of the factors of mode `n`'s products, in order.
    fn pairs(&self, n: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let m = self.a.len();
        let (rows, cols) = (self.rows.len() / m, self.cols.len() / m);
        (0..rows).flat_map(move |r| (0..cols).map(move |c| (r * m + n, c * m + n)))
    }

    /// The coefficients of the modes.
    fn modes<E: Real>(&self, share: &[f64], modes: &mut Modes<E>) {
        refill(&mut modes.share, share.iter().map(|x| E::of(*x)));
        refill(&mut modes.pole, self.a.iter().map(|a| [E::of(a.norm_sqr().sqrt()), E::of(-2.0 * a.re)]));
        let products = self.products();
        modes.alpha.resize(products * self.a.len(), E::zero());
        modes.beta.resize(products * self.a.len(), E::zero());
        let rows = modes.alpha.chunks_exact_mut(products).zip(modes.beta.chunks_exact_mut(products));
        for (n, (a, (alpha, beta))) in self.a.iter().zip(rows).enumerate() {
            for (v, (r, c)) in self.pairs(n).enumerate() {
                let product = self.rows[r] * self.cols[c];
                alpha[v] = E::of(2.0 * product.re);
                beta[v] = E::of(-2.0 * (product.re * a.re + product.im * a.im));
            }
        }
    }

    /// From the gradients of the coefficients, a row [dalpha (V), dbeta (V), d|a|^2, dRe a] for each mode, to the system's; `slopes` is scratch.
    fn coefficients_grad(&self, system: &System, share: &[f64], sums: &[f64], len: usize, slopes: &mut [Vec<C64>; 2]) -> SystemGrad {
        let products = self.products();
        let [rows, cols] = slopes;
        refill(rows, self.rows.iter().map(|_| C64::ZERO));
        refill(cols, self.cols.iter().map(|_| C64::ZERO));
        let (mut dt, mut a_grad) = (0.0, Vec::with_capacity(self.a.len()));
        for (n, (a, sums)) in self.a.iter().zip(sums.chunks_exact(2 * products + 2)).enumerate() {
            let mut da = a * (2.0 * sums[2 * products]) + sums[2 * products + 1];
            for (v, (r, c)) in self.pairs(n).enumerate() {
                let (dalpha, dbeta) = (2.0 * sums[v], 2.0 * sums[products + v]);
                let dv = C64::new(dalpha - a.re * dbeta, -a.im * dbeta);
                da -= self.rows[r] * self.cols[c] * dbeta;
                rows[r] += dv * self.cols[c].conj();
                cols[c] += dv * self.rows[r].conj();
            }
            a_grad.push(da * system.dt);
            dt += dot(da, system.a[n]);
        }
        dt += rows.iter().zip(&self.unscaled).map(|(g, x)| dot(*g, *x)).sum::<f64>();
        let (b, p) = rows.split_at(system.b.len());
        let (c, q) = cols.split_at(system.c.len());
        let b: Vec<C64> = b.iter().map(|g| g * system.dt).collect();
        let mut p: Vec<C64> = p.iter().zip(q).map(|(p, q)| p * system.dt + q.conj()).collect();
        // P is in B' as well. The shares may stand for constants: whatever they are, the kernels are the same.
        for (p, share) in p.chunks_exact_mut(b.len()).zip(share) {
            p.iter_mut().zip(&b).for_each(|(p, b)| *p -= b * share);
        }
        SystemGrad { dt, a: a_grad, b, c: c.iter().map(|g| g / len as f64).collect(), p }
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
