//! What the DPLR and the diagonal kernel share: stored numbers to a channel's system in f64, and its gradients back to what is stored.
//!
//! dt = softplus(inv_dt) or exp(inv_dt), A = -exp(a_real) - i a_imag. Scalars of a channel are worked out in f64 whatever the kernel's
//! type: they are few, and a kernel of length L raises them to powers up to L. A complex gradient g stands for dL/dRe + i dL/dIm, so
//! that dL = Re(conj(g) dz): the two planes of a gradient are the plain real gradients of the two planes of the value.

use realfft::num_complex::Complex;

use crate::backend::{DtTransform, Real, shape::Ssm};

/// The working type of a channel's scalars.
pub type C64 = Complex<f64>;

/// The stored parameters of an SSM as slices, row-major; complex ones planar.
#[derive(Clone, Copy, Debug)]
pub struct SystemParams<'a, E> {
    /// (H).
    pub inv_dt: &'a [E],
    /// (S, M).
    pub a_real: &'a [E],
    /// (S, M).
    pub a_imag: &'a [E],
    /// (2, S, M).
    pub b: &'a [E],
    /// (2, c, H, M).
    pub c: &'a [E],
    /// (2, R, S, M); empty for a diagonal system.
    pub p: &'a [E],
}

/// The gradients of [`SystemParams`], of the same shapes.
#[derive(Clone, Debug)]
pub struct SystemGrads<E> {
    /// (H).
    pub inv_dt: Vec<E>,
    /// (S, M).
    pub a_real: Vec<E>,
    /// (S, M).
    pub a_imag: Vec<E>,
    /// (2, S, M).
    pub b: Vec<E>,
    /// (2, c, H, M).
    pub c: Vec<E>,
    /// (2, R, S, M); empty for a diagonal system.
    pub p: Vec<E>,
}

/// One channel's continuous system: half of its conjugate pairs.
#[derive(Clone, Debug)]
pub struct System {
    /// The step size.
    pub dt: f64,
    /// The diagonal of the state matrix, (M).
    pub a: Vec<C64>,
    /// (M).
    pub b: Vec<C64>,
    /// (c, M).
    pub c: Vec<C64>,
    /// (R, M).
    pub p: Vec<C64>,
}

/// The gradient of one channel's [`System`].
#[derive(Clone, Debug)]
pub struct SystemGrad {
    /// By the step size.
    pub dt: f64,
    /// (M).
    pub a: Vec<C64>,
    /// (M).
    pub b: Vec<C64>,
    /// (c, M).
    pub c: Vec<C64>,
    /// (R, M).
    pub p: Vec<C64>,
}

impl SystemGrad {
    /// All zero, of `system`'s sizes.
    pub fn zeros(system: &System) -> Self {
        let zeros = |x: &[C64]| vec![C64::ZERO; x.len()];
        SystemGrad { dt: 0.0, a: zeros(&system.a), b: zeros(&system.b), c: zeros(&system.c), p: zeros(&system.p) }
    }
}

/// Reads channel systems out of the stored parameters.
pub struct Reader<'a, E> {
    sizes: Ssm,
    dt: DtTransform,
    params: SystemParams<'a, E>,
    // exp is the one dear function here: it is taken once for each stored A, not once for each channel that shares it.
    a: Vec<C64>,
}

impl<'a, E: Real> Reader<'a, E> {
    /// Panics if the slices are not of these sizes.
    pub fn new(sizes: Ssm, dt: DtTransform, params: SystemParams<'a, E>) -> Self {
        let Ssm { d_model, n_ssm, half_state, rank, channels } = sizes;
        let lengths = [params.inv_dt.len(), params.a_real.len(), params.a_imag.len(), params.b.len(), params.c.len(), params.p.len()];
        let stored = n_ssm * half_state;
        assert_eq!(lengths, [d_model, stored, stored, 2 * stored, 2 * channels * d_model * half_state, 2 * rank * stored], "{sizes:?}");
        let a = params.a_real.iter().zip(params.a_imag).map(|(re, im)| C64::new(-re.f64().exp(), -im.f64())).collect();
        Reader { sizes, dt, params, a }
    }

    /// The stored diagonals A, (S, M).
    pub fn poles(&self) -> &[C64] {
        &self.a
    }

    /// The system of channel `h`.
    pub fn system(&self, h: usize) -> System {
        let Ssm { d_model, n_ssm, half_state, rank, channels } = self.sizes;
        let s = h % n_ssm;
        System {
            dt: step_size(self.dt, self.params.inv_dt[h].f64()).0,
            a: self.a[s * half_state..][..half_state].to_vec(),
            b: planar_rows(self.params.b, 1, n_ssm, s, half_state),
            c: planar_rows(self.params.c, channels, d_model, h, half_state),
            p: planar_rows(self.params.p, rank, n_ssm, s, half_state),
        }
    }

    /// The gradients of what is stored from those of the channels: tied copies are summed in the order of the channels.
    pub fn gather(&self, channels: &[SystemGrad]) -> SystemGrads<E> {
        let Ssm { d_model, n_ssm, half_state, rank, channels: kernels } = self.sizes;
        let stored = n_ssm * half_state;
        let (mut a, mut b, mut p) = (vec![C64::ZERO; stored], vec![C64::ZERO; stored], vec![C64::ZERO; rank * stored]);
        let mut c = vec![C64::ZERO; kernels * d_model * half_state];
        for (h, grad) in channels.iter().enumerate() {
            let s = h % n_ssm;
            add_rows(&mut a, 1, n_ssm, s, &grad.a);
            add_rows(&mut b, 1, n_ssm, s, &grad.b);
            add_rows(&mut p, rank, n_ssm, s, &grad.p);
            add_rows(&mut c, kernels, d_model, h, &grad.c);
        }
        let inv_dt = channels.iter().zip(self.params.inv_dt).map(|(g, x)| E::of(g.dt * step_size(self.dt, x.f64()).1)).collect();
        SystemGrads {
            inv_dt,
            // A = -exp(a_real) - i a_imag: dRe A / da_real = Re A.
            a_real: a.iter().zip(&self.a).map(|(g, a)| E::of(g.re * a.re)).collect(),
            a_imag: a.iter().map(|g| E::of(-g.im)).collect(),
            b: to_planar(&b),
            c: to_planar(&c),
            p: to_planar(&p),
        }
    }
}

/// dt and its derivative by inv_dt.
fn step_size(transform: DtTransform, x: f64) -> (f64, f64) {
    match transform {
        DtTransform::Softplus => (x.max(0.0) + (-x.abs()).exp().ln_1p(), 1.0 / (1.0 + (-x).exp())),
        DtTransform::Exp => (x.exp(), x.exp()),
    }
}

/// Row `row` of every group of planar (2, groups, rows, M), one after another.
fn planar_rows<E: Real>(values: &[E], groups: usize, rows: usize, row: usize, half_state: usize) -> Vec<C64> {
    let (re, im) = values.split_at(values.len() / 2);
    (0..groups)
        .flat_map(|g| (g * rows + row) * half_state..(g * rows + row + 1) * half_state)
        .map(|i| C64::new(re[i].f64(), im[i].f64()))
        .collect()
}

/// Adds `values` (groups, M) to row `row` of every group of `sum` (groups, rows, M).
fn add_rows(sum: &mut [C64], groups: usize, rows: usize, row: usize, values: &[C64]) {
    let half_state = sum.len().checked_div(groups * rows).unwrap_or(0);
    for (g, values) in values.chunks(half_state.max(1)).enumerate() {
        for (sum, value) in sum[(g * rows + row) * half_state..].iter_mut().zip(values) {
            *sum += value;
        }
    }
}

/// The real parts, then the imaginary parts.
pub fn to_planar<E: Real>(values: &[C64]) -> Vec<E> {
    values.iter().map(|v| E::of(v.re)).chain(values.iter().map(|v| E::of(v.im))).collect()
}

/// Splits (c, H, take) into one list of rows for each channel: [row of kernel 0, row of kernel 1].
pub fn rows_by_channel<E>(out: &mut [E], d_model: usize, take: usize) -> Vec<Vec<&mut [E]>> {
    let mut channels: Vec<Vec<&mut [E]>> = (0..d_model).map(|_| Vec::with_capacity(2)).collect();
    for (i, row) in out.chunks_exact_mut(take.max(1)).enumerate() {
        channels[i % d_model].push(row);
    }
    channels
}

/// The sum of the lanes, a power of two of them, halves first.
#[inline(always)]
pub fn sum_lanes<E: Real, const T: usize>(mut lanes: [E; T]) -> f64 {
    let mut width = T / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0].f64()
}

/// Systems to test with.
#[cfg(test)]
pub mod testing {
    use super::*;

    /// Stored parameters: inv_dt, a_real, a_imag, b, c, p.
    #[derive(Clone)]
    pub struct Stored<E>(pub [Vec<E>; 6]);

    impl<E: Real> Stored<E> {
        /// Fixed irregular numbers: dt about 0.1, damping about `damping`, frequencies up to 3 M.
        pub fn sample(sizes: Ssm, damping: f64) -> Self {
            let Ssm { d_model, n_ssm, half_state, rank, channels } = sizes;
            let stored = n_ssm * half_state;
            let wave = |i: usize| ((i * i) as f64 * 0.7 + i as f64 * 1.3 + 0.4).sin();
            let list = |len: usize, f: &dyn Fn(usize) -> f64| (0..len).map(|i| E::of(f(i))).collect();
            Stored([
                list(d_model, &|i| -2.3 + 0.3 * wave(i)),
                list(stored, &|i| damping.ln() + 0.2 * wave(i + 1)),
                list(stored, &|i| 3.0 * (i % half_state) as f64 + 0.5 + 0.3 * wave(i + 2)),
                list(2 * stored, &|i| wave(i + 3)),
                list(2 * channels * d_model * half_state, &|i| wave(i + 5)),
                list(2 * rank * stored, &|i| wave(i + 7)),
            ])
        }

        pub fn params(&self) -> SystemParams<'_, E> {
            let [inv_dt, a_real, a_imag, b, c, p] = &self.0;
            SystemParams { inv_dt, a_real, a_imag, b, c, p }
        }

        /// The largest relative error of `grads` against central differences of `loss`, over every stored number.
        pub fn gradient_error(&self, grads: SystemGrads<f64>, loss: impl Fn(SystemParams<'_, E>) -> f64) -> f64 {
            let SystemGrads { inv_dt, a_real, a_imag, b, c, p } = grads;
            let mut worst = 0.0f64;
            for (which, grads) in [inv_dt, a_real, a_imag, b, c, p].iter().enumerate() {
                let scale = grads.iter().fold(1e-3f64, |max, g| max.max(g.abs()));
                for (i, grad) in grads.iter().enumerate() {
                    let moved = |eps: f64| {
                        let mut stored = self.clone();
                        stored.0[which][i] += E::of(eps);
                        loss(stored.params())
                    };
                    let difference = (8.0 * (moved(2e-4) - moved(-2e-4)) - (moved(4e-4) - moved(-4e-4))) / 2.4e-3;
                    worst = worst.max((difference - grad).abs() / scale);
                }
            }
            worst
        }
    }

    /// The largest difference, relative to the largest entry of `want`.
    pub fn error<E: Real>(got: &[E], want: &[f64]) -> f64 {
        let scale = want.iter().fold(0.0f64, |max, x| max.max(x.abs()));
        got.iter().zip(want).fold(0.0f64, |max, (x, y)| max.max((x.f64() - y).abs())) / scale
    }

    /// A loss with irregular weights.
    pub fn weights(len: usize) -> Vec<f64> {
        (0..len).map(|i| ((i * i) as f64 * 0.3 + 1.0).cos()).collect()
    }
}
