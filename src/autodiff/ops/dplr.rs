//! `DplrKernel`: the convolution kernels of diagonal-plus-low-rank SSMs, from their stored parameters.

use crate::autodiff::gradcheck::Generate;
use crate::autodiff::{Array, Case, Grads, Needs, Op, Oracle, Var, operands};
use crate::backend::{Backend, DtTransform, SsmParams, Tensor};
use crate::error::{Error, Result};

/// The first `take` of the `len` entries `K[l] = C Abar^l Bbar` of every channel's kernels, bilinear, with A = diag(Lambda) - P P*;
/// inputs inv_dt, a_real, a_imag, b, c, p, shaped as in [`SsmParams`], where c is C~ = C (I - Abar^len).
///
/// S4's generating function (Gu, Goel and Re, 2022, [arXiv:2111.00396](https://arxiv.org/abs/2111.00396), section 3) at the roots of unity
/// and one inverse FFT, in the form without its singularity at w = -1; no intermediate has more than O(H len) values.
#[derive(Clone, Copy, Debug)]
pub struct DplrKernel {
    /// The length that c belongs to, at least 1.
    pub len: usize,
    /// How many entries are wanted, 1 to `len`.
    pub take: usize,
    /// How inv_dt becomes dt.
    pub dt: DtTransform,
}

impl<B: Backend> Op<B> for DplrKernel {
    const NAME: &'static str = "dplr_kernel";
    type Saved = SsmParams<Tensor<B>>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [inv_dt, a_real, a_imag, b, c, p] = operands("dplr_kernel", inputs)?.map(Tensor::clone);
        let ssm = SsmParams { inv_dt, a_real, a_imag, b, c, p: Some(p), dt: self.dt };
        Ok((backend.dplr_kernel(&ssm, self.len, self.take)?, ssm))
    }

    fn backward(&self, backend: &B, saved: Self::Saved, grad: &Tensor<B>, needs: Needs) -> Result<Grads<B>> {
        Ok(in_order(backend.dplr_kernel_grad(&saved, self.len, grad)?, needs))
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::FiniteDifferences
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let mut cases = Vec::new();
        for rank in [1, 2] {
            for len in [1, 2, 2 * generate.size(2..=8), 2 * generate.size(1..=8) + 1] {
                let dt = generate.pick(&DtTransform::ALL);
                let op = DplrKernel { len, take: generate.size(1..=len), dt };
                cases.push(Case::new(op, parameters(generate, dt, rank)));
                cases.push(Case::new(DplrKernel { take: len, ..op }, parameters(generate, dt, rank)));
            }
            let (len, dt) = (generate.size(100..=140), DtTransform::Softplus);
            cases.push(Case::new(DplrKernel { len, take: generate.size(80..=len), dt }, parameters(generate, dt, rank)));
        }
        cases
    }
}

/// The gradients that are needed, in the order of the ops' inputs.
pub(super) fn in_order<B: Backend>(grads: SsmParams<Tensor<B>>, needs: Needs) -> Grads<B> {
    grads.in_order().enumerate().map(|(i, grad)| needs.input(i).then_some(grad)).collect()
}

/// Random inputs of a kernel: one or two kernels a channel, A shared by all, some or no channels; no P for rank 0.
///
/// Steps in [0.01, 0.5], decays around 1/2, frequencies in [0.1, 10]: the ranges of a trained layer, where the kernel is smooth enough
/// in its parameters for finite differences.
pub(super) fn parameters(generate: &mut Generate, dt: DtTransform, rank: usize) -> Vec<Array> {
    let [copies, n_ssm, half_state] = [generate.size(1..=3), generate.size(1..=2), generate.size(1..=5)];
    let (d_model, channels) = (copies * n_ssm, generate.size(1..=2));
    let mut inv_dt = generate.values(&[d_model], 0.01f64.ln(), 0.5f64.ln());
    if dt == DtTransform::Softplus {
        inv_dt.values.iter_mut().for_each(|v| *v = v.exp().exp_m1().ln());
    }
    let mut inputs = vec![
        inv_dt,
        generate.values(&[n_ssm, half_state], -1.0, 0.0),
        generate.values(&[n_ssm, half_state], 0.1, 10.0),
        generate.normal(&[2, n_ssm, half_state]),
        generate.normal(&[2, channels, d_model, half_state]),
    ];
    if rank > 0 {
        inputs.push(generate.normal(&[2, rank, n_ssm, half_state]));
    }
    inputs
}

/// The first `take` of the `len` entries `K[l] = C Abar^l Bbar` of DPLR SSMs: (c, H, take), through the bilinear discretization.
///
/// `inputs.c` is C~ = C (I - Abar^len); [`dplr_advance`](crate::backend::ssm::dplr_advance) gives the C Abar^len to subtract.
///
/// # Errors
/// [`Error::Shape`], [`Error::Config`] or [`Error::Value`] where the parameters' shapes do not fit each other, P is missing, `len` or
/// `take` is 0, or `take` exceeds `len`.
pub fn dplr_kernel<B: Backend>(inputs: SsmParams<&Var<B>>, len: usize, take: usize) -> Result<Var<B>> {
    let SsmParams { inv_dt, a_real, a_imag, b, c, p, dt } = inputs;
    let Some(p) = p else {
        return Err(Error::value("dplr_kernel", "P is missing: give it, or call diag_kernel for a diagonal system"));
    };
    inv_dt.tape().apply(DplrKernel { len, take, dt }, &[inv_dt, a_real, a_imag, b, c, p])
}

#[cfg(test)]
mod tests {
    use realfft::num_complex::Complex64;

    use super::*;
    use crate::autodiff::Tape;
    use crate::backend::{Cpu, Transfer};

    type Vars = Vec<Var<Cpu<f64>>>;

    fn vars(generate: &mut Generate) -> Vars {
        let cpu = Cpu::<f64>::new();
        let tape = Tape::new(&cpu);
        let inputs = parameters(generate, DtTransform::Softplus, 1);
        inputs.into_iter().map(|a| tape.leaf(&cpu.from_vec(a.values, &a.shape).unwrap())).collect()
    }

    fn ssm(v: &Vars, with_p: bool) -> SsmParams<&Var<Cpu<f64>>> {
        let p = with_p.then_some(&v[5]);
        SsmParams { inv_dt: &v[0], a_real: &v[1], a_imag: &v[2], b: &v[3], c: &v[4], p, dt: DtTransform::Softplus }
    }

    /// Row `row` of an array of planar complex rows, followed by its conjugate.
    fn both_halves(array: &Array, row: usize) -> Vec<Complex64> {
        let (re, im) = array.values.split_at(array.values.len() / 2);
        let half_state = array.shape[array.shape.len() - 1];
        let half = (row * half_state..(row + 1) * half_state).map(|i| Complex64::new(re[i], im[i]));
        half.clone().chain(half.map(|v| v.conj())).collect()
    }

    /// X with left X = right, by elimination (the matrices here are diagonally dominant enough to need no pivots).
    fn solve(mut left: Vec<Vec<Complex64>>, mut right: Vec<Vec<Complex64>>) -> Vec<Vec<Complex64>> {
        let n = left.len();
        for pivot in 0..n {
            for row in (0..n).filter(|&row| row != pivot) {
                let factor = left[row][pivot] / left[pivot][pivot];
                let (l, r) = (left[pivot].clone(), right[pivot].clone());
                left[row].iter_mut().zip(l).for_each(|(x, y)| *x -= factor * y);
                right[row].iter_mut().zip(r).for_each(|(x, y)| *x -= factor * y);
            }
        }
        (0..n).map(|i| right[i].iter().map(|x| x / left[i][i]).collect()).collect()
    }

    /// Abar and Bbar of channel h over the full state, as the rows of [Abar | Bbar].
    fn dense(inputs: &[Array], h: usize) -> Vec<Vec<Complex64>> {
        let [inv_dt, a_real, a_imag, b, _, p] = inputs else { panic!("six inputs") };
        let (n_ssm, half_state, rank) = (a_real.shape[0], a_real.shape[1], p.shape[1]);
        let (s, half_dt) = (h % n_ssm, 0.5 * inv_dt.values[h].exp());
        let b = both_halves(b, s);
        let p: Vec<_> = (0..rank).map(|k| both_halves(p, k * n_ssm + s)).collect();
        let a = |i: usize, j: usize| {
            let at = s * half_state + i % half_state;
            let lambda = Complex64::new(-a_real.values[at].exp(), if i < half_state { -a_imag.values[at] } else { a_imag.values[at] });
            let diagonal = if i == j { lambda } else { Complex64::ZERO };
            diagonal - p.iter().map(|p| p[i] * p[j].conj()).sum::<Complex64>()
        };
        let one = |i, j| if i == j { Complex64::ONE } else { Complex64::ZERO };
        let state = 0..2 * half_state;
        let left = state.clone().map(|i| state.clone().map(|j| one(i, j) - a(i, j) * half_dt).collect()).collect();
        let right = state.clone().map(|i| {
            let row = state.clone().map(|j| one(i, j) + a(i, j) * half_dt);
            row.chain([b[i] * 2.0 * half_dt]).collect()
        });
        solve(left, right.collect())
    }

    /// K[l] = C Abar^l Bbar, and C (I - Abar^len).
    fn unrolled(system: &[Vec<Complex64>], c: &[Complex64], len: usize) -> (Vec<f64>, Vec<Complex64>) {
        let n = c.len();
        let times = |row: &[Complex64], j: usize| (0..n).map(|i| row[i] * system[i][j]).sum::<Complex64>();
        let mut row = c.to_vec();
        let mut kernel = Vec::new();
        for _ in 0..len {
            kernel.push(times(&row, n).re);
            row = (0..n).map(|j| times(&row, j)).collect();
        }
        (kernel, c.iter().zip(row).map(|(c, r)| c - r).collect())
    }

    #[test]
    fn the_kernel_is_that_of_the_recurrence() {
        let cpu = Cpu::<f64>::new();
        let tape = Tape::off(&cpu);
        for (seed, len) in [1, 2, 3, 4, 7, 8, 15, 16, 33, 64, 101, 128].into_iter().enumerate() {
            for rank in [1, 2] {
                let mut inputs = parameters(&mut Generate::new(seed as u64), DtTransform::Exp, rank);
                let (plain, d_model) = (inputs[4].clone(), inputs[0].values.len());
                let (plane, half_state) = (plain.values.len() / 2, plain.shape[3]);
                let mut want = Vec::new();
                for row in 0..plane / half_state {
                    let (kernel, tilde) = unrolled(&dense(&inputs, row % d_model), &both_halves(&plain, row), len);
                    want.extend(kernel);
                    for (n, c) in tilde.iter().take(half_state).enumerate() {
                        (inputs[4].values[row * half_state + n], inputs[4].values[plane + row * half_state + n]) = (c.re, c.im);
                    }
                }
                let v: Vars = inputs.into_iter().map(|a| tape.constant(&cpu.from_vec(a.values, &a.shape).unwrap())).collect();
                let kernel = dplr_kernel(SsmParams { dt: DtTransform::Exp, ..ssm(&v, true) }, len, len).unwrap();
                assert_eq!(kernel.shape(), [plain.shape[1], d_model, len]);
                let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                for (k, want) in kernel.to_vec().unwrap().iter().zip(want) {
                    approx::assert_abs_diff_eq!(*k, want, epsilon = 1e-11 * largest);
                }
            }
        }
    }

    #[test]
    fn taking_fewer_entries_truncates() {
        let v = vars(&mut Generate::new(1));
        let whole = dplr_kernel(ssm(&v, true), 12, 12).unwrap();
        let part = dplr_kernel(ssm(&v, true), 12, 5).unwrap();
        assert_eq!(part.shape()[2], 5);
        for (whole, part) in whole.to_vec().unwrap().chunks(12).zip(part.to_vec().unwrap().chunks(5)) {
            assert_eq!(&whole[..5], part);
        }
    }

    #[test]
    fn impossible_requests_are_refused() {
        let v = vars(&mut Generate::new(2));
        assert!(matches!(dplr_kernel(ssm(&v, true), 4, 5), Err(Error::Config { name: "take", .. })));
        assert!(matches!(dplr_kernel(ssm(&v, true), 0, 0), Err(Error::Value { op: "dplr_kernel", .. })));
        assert!(dplr_kernel(ssm(&v, false), 4, 4).unwrap_err().to_string().contains("diag_kernel"));
        let wrong = SsmParams { b: &v[1], ..ssm(&v, true) };
        assert!(matches!(dplr_kernel(wrong, 4, 4), Err(Error::Shape { op: "dplr_kernel", .. })));
    }
}
