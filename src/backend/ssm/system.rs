//! The part that the DPLR and the diagonal kernel share: from the stored numbers to a channel's system in f64, and from the gradients of
//! systems back to those of the stored numbers.
//!
//! dt = softplus(inv_dt) or exp(inv_dt), A = -exp(a_real) - i a_imag. Scalars of a channel are worked out in f64 whatever the kernel's
//! type: they are few, and a kernel of length L raises them to powers up to L. A complex gradient g stands for dL/dRe + i dL/dIm, so
//! that dL = Re(conj(g) dz): the two planes of a gradient are the plain real gradients of the two planes of the value.

use realfft::num_complex::Complex;

use super::{DtTransform, SsmParams};
use crate::backend::{Real, shape::Ssm};

/// The working type of a channel's scalars.
pub type C64 = Complex<f64>;

/// One channel's continuous system: half of its conjugate pairs.
#[derive(Clone, Debug, Default)]
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
    params: SsmParams<&'a [E]>,
    // exp is the one dear function here: it is taken once for each stored A, not once for each channel that shares it.
    a: Vec<C64>,
}

impl<'a, E: Real> Reader<'a, E> {
    /// Panics if the slices are not of these sizes.
    pub fn new(sizes: Ssm, params: SsmParams<&'a [E]>) -> Self {
        let Ssm { d_model, n_ssm, half_state, rank, channels } = sizes;
        let SsmParams { inv_dt, a_real, a_imag, b, c, p, .. } = params.map(|values| values.len());
        let lengths = [inv_dt, a_real, a_imag, b, c, p.unwrap_or(0)];
        let stored = n_ssm * half_state;
        assert_eq!(lengths, [d_model, stored, stored, 2 * stored, 2 * channels * d_model * half_state, 2 * rank * stored], "{sizes:?}");
        let a = params.a_real.iter().zip(params.a_imag).map(|(re, im)| C64::new(-re.f64().exp(), -im.f64())).collect();
        Reader { sizes, params, a }
    }

    /// The stored diagonals A, (S, M).
    pub fn poles(&self) -> &[C64] {
        &self.a
    }

    /// The system of channel `h`.
    pub fn system(&self, h: usize) -> System {
        let mut system = System::default();
        self.read(h, &mut system);
        system
    }

    /// The system of channel `h`, in the place of another one.
    pub fn read(&self, h: usize, system: &mut System) {
        let Ssm { d_model, n_ssm, half_state, rank, channels } = self.sizes;
        let s = h % n_ssm;
        system.dt = step_size(self.params.dt, self.params.inv_dt[h].f64()).0;
        refill(&mut system.a, self.a[s * half_state..][..half_state].iter().copied());
        refill(&mut system.b, planar_rows(self.params.b, 1, n_ssm, s, half_state));
        refill(&mut system.c, planar_rows(self.params.c, channels, d_model, h, half_state));
        refill(&mut system.p, planar_rows(self.params.p.unwrap_or(&[]), rank, n_ssm, s, half_state));
    }

    /// The gradients of the stored numbers from those of the channels: tied copies are summed in the order of the channels.
    pub fn gather(&self, channels: &[SystemGrad]) -> SsmParams<Vec<E>> {
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
        let inv_dt = channels.iter().zip(self.params.inv_dt).map(|(g, x)| E::of(g.dt * step_size(self.params.dt, x.f64()).1)).collect();
        SsmParams {
            inv_dt,
            // A = -exp(a_real) - i a_imag: dRe A / da_real = Re A.
            a_real: a.iter().zip(&self.a).map(|(g, a)| E::of(g.re * a.re)).collect(),
            a_imag: a.iter().map(|g| E::of(-g.im)).collect(),
            b: to_planar(&b),
            c: to_planar(&c),
            p: self.params.p.map(|_| to_planar(&p)),
            dt: self.params.dt,
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
fn planar_rows<E: Real>(values: &[E], groups: usize, rows: usize, row: usize, half_state: usize) -> impl Iterator<Item = C64> {
    let (re, im) = values.split_at(values.len() / 2);
    (0..groups)
        .flat_map(move |g| (g * rows + row) * half_state..(g * rows + row + 1) * half_state)
        .map(|i| C64::new(re[i].f64(), im[i].f64()))
}

/// Other values in the place of a list's: its memory is used again.
pub fn refill<T>(list: &mut Vec<T>, values: impl IntoIterator<Item = T>) {
    list.clear();
    list.extend(values);
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

/// Systems to test with.
#[cfg(test)]
pub mod testing {
    use super::*;

    /// Fixed irregular numbers: dt about 0.1, damping about `damping`, frequencies up to 3 M.
    pub fn sample<E: Real>(sizes: Ssm, dt: DtTransform, damping: f64) -> SsmParams<Vec<E>> {
        let Ssm { d_model, n_ssm, half_state, rank, channels } = sizes;
        let stored = n_ssm * half_state;
        let wave = |i: usize| ((i * i) as f64 * 0.7 + i as f64 * 1.3 + 0.4).sin();
        let list = |len: usize, f: &dyn Fn(usize) -> f64| (0..len).map(|i| E::of(f(i))).collect();
        SsmParams {
            inv_dt: list(d_model, &|i| -2.3 + 0.3 * wave(i)),
            a_real: list(stored, &|i| damping.ln() + 0.2 * wave(i + 1)),
            a_imag: list(stored, &|i| 3.0 * (i % half_state) as f64 + 0.5 + 0.3 * wave(i + 2)),
            b: list(2 * stored, &|i| wave(i + 3)),
            c: list(2 * channels * d_model * half_state, &|i| wave(i + 5)),
            p: (rank > 0).then(|| list(2 * rank * stored, &|i| wave(i + 7))),
            dt,
        }
    }

    /// The largest relative error of `grads` against central differences of `loss`, over every stored number.
    pub fn gradient_error(stored: &SsmParams<Vec<f64>>, grads: SsmParams<Vec<f64>>, loss: impl Fn(SsmParams<&[f64]>) -> f64) -> f64 {
        let mut worst = 0.0f64;
        for (which, grads) in grads.in_order().enumerate() {
            let scale = grads.iter().fold(1e-3f64, |max, g| max.max(g.abs()));
            for (i, grad) in grads.iter().enumerate() {
                let moved = |eps: f64| {
                    let mut at = 0..;
                    let moved = stored.clone().map(|mut values| {
                        if at.next() == Some(which) {
                            values[i] += eps;
                        }
                        values
                    });
                    loss(moved.slices())
                };
                let difference = (8.0 * (moved(2e-4) - moved(-2e-4)) - (moved(4e-4) - moved(-4e-4))) / 2.4e-3;
                worst = worst.max((difference - grad).abs() / scale);
            }
        }
        worst
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
