//! `DiagKernel`: the convolution kernels of diagonal SSMs (S4D), from their stored parameters.

use super::dplr::{in_order, parameters};
use crate::autodiff::gradcheck::Generate;
use crate::autodiff::{Case, Grads, Needs, Op, Oracle, Var, operands};
use crate::backend::{Backend, Discretization, DtTransform, SsmParams, Tensor};
use crate::error::{Error, Result};

/// `K[l] = 2 Re sum_n C_n B_n b_n abar_n^l`, l = 0..len, for every channel; inputs inv_dt, a_real, a_imag, b, c, shaped as in
/// [`SsmParams`].
///
/// Zero-order hold: abar = exp(dt A), b = (exp(dt A) - 1) / A; bilinear: abar = (1 + dt A / 2) / (1 - dt A / 2),
/// b = dt / (1 - dt A / 2). S4D (Gu, Gupta, Goel and Re, 2022, [arXiv:2206.11893](https://arxiv.org/abs/2206.11893)).
#[derive(Clone, Copy, Debug)]
pub struct DiagKernel {
    /// How the continuous system becomes a discrete one.
    pub disc: Discretization,
    /// How inv_dt becomes dt.
    pub dt: DtTransform,
    /// The kernels' length, at least 1.
    pub len: usize,
}

impl<B: Backend> Op<B> for DiagKernel {
    const NAME: &'static str = "diag_kernel";
    type Saved = SsmParams<Tensor<B>>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [inv_dt, a_real, a_imag, b, c] = operands("diag_kernel", inputs)?.map(Tensor::clone);
        let ssm = SsmParams { inv_dt, a_real, a_imag, b, c, p: None, dt: self.dt };
        Ok((backend.diag_kernel(&ssm, self.disc, self.len)?, ssm))
    }

    fn backward(&self, backend: &B, saved: Self::Saved, grad: &Tensor<B>, needs: Needs) -> Result<Grads<B>> {
        Ok(in_order(backend.diag_kernel_grad(&saved, self.disc, grad)?, needs))
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::FiniteDifferences
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let mut cases = Vec::new();
        for disc in Discretization::ALL {
            for len in [1, 2, generate.size(3..=20), generate.size(60..=90)] {
                let dt = generate.pick(&DtTransform::ALL);
                cases.push(Case::new(DiagKernel { disc, dt, len }, parameters(generate, dt, 0)));
            }
        }
        cases
    }
}

/// The kernels of diagonal SSMs: (c, H, len).
///
/// # Errors
/// [`Error::Shape`], [`Error::Config`] or [`Error::Value`] where the parameters' shapes do not fit each other, `len` is 0, or P is given,
/// which a diagonal system does not have.
pub fn diag_kernel<B: Backend>(inputs: SsmParams<&Var<B>>, disc: Discretization, len: usize) -> Result<Var<B>> {
    let SsmParams { inv_dt, a_real, a_imag, b, c, p, dt } = inputs;
    if p.is_some() {
        // Ignoring it would cut its gradient.
        return Err(Error::value("diag_kernel", "a diagonal system has no P: leave it out, or call dplr_kernel"));
    }
    inv_dt.tape().apply(DiagKernel { disc, dt, len }, &[inv_dt, a_real, a_imag, b, c])
}

#[cfg(test)]
mod tests {
    use realfft::num_complex::Complex;

    use super::*;
    use crate::autodiff::{Array, Tape};
    use crate::backend::{Cpu, Transfer};

    /// K[l] of channel h and kernel k, by the formula.
    fn entry(inputs: &[Array], disc: Discretization, [k, h, l]: [usize; 3]) -> f64 {
        let [inv_dt, a_real, a_imag, b, c] = inputs else { panic!("five inputs") };
        let (n_ssm, half_state) = (a_real.shape[0], a_real.shape[1]);
        let (b_plane, c_plane) = (b.values.len() / 2, c.values.len() / 2);
        let dt = inv_dt.values[h].exp();
        let modes = (0..half_state).map(|n| {
            let (i, j) = (h % n_ssm * half_state + n, (k * inv_dt.values.len() + h) * half_state + n);
            let a = Complex::new(-a_real.values[i].exp(), -a_imag.values[i]);
            let (abar, bbar) = match disc {
                Discretization::Zoh => ((a * dt).exp(), ((a * dt).exp() - 1.0) / a),
                Discretization::Bilinear => ((a * dt / 2.0 + 1.0) / (-a * dt / 2.0 + 1.0), (-a * dt / 2.0 + 1.0).inv() * dt),
            };
            let (b, c) = (Complex::new(b.values[i], b.values[b_plane + i]), Complex::new(c.values[j], c.values[c_plane + j]));
            2.0 * (c * b * bbar * abar.powu(l as u32)).re
        });
        modes.sum()
    }

    #[test]
    fn kernels_agree_with_the_formula() {
        let cpu = Cpu::<f64>::new();
        let tape = Tape::off(&cpu);
        for (seed, len) in [1, 2, 7, 16, 33, 200].into_iter().enumerate() {
            let inputs = parameters(&mut Generate::new(seed as u64), DtTransform::Exp, 0);
            let v: Vec<_> = inputs.iter().map(|a| tape.constant(&cpu.from_vec(a.values.clone(), &a.shape).unwrap())).collect();
            for disc in Discretization::ALL {
                let ssm = SsmParams { inv_dt: &v[0], a_real: &v[1], a_imag: &v[2], b: &v[3], c: &v[4], p: None, dt: DtTransform::Exp };
                let kernel = diag_kernel(ssm, disc, len).unwrap();
                let d_model = inputs[0].values.len();
                assert_eq!(kernel.shape(), [inputs[4].shape[1], d_model, len]);
                for (i, k) in kernel.to_vec().unwrap().into_iter().enumerate() {
                    let at = [i / (d_model * len), i / len % d_model, i % len];
                    approx::assert_relative_eq!(k, entry(&inputs, disc, at), epsilon = 1e-12, max_relative = 1e-12);
                }
            }
        }
    }

    #[test]
    fn an_empty_kernel_and_a_low_rank_term_are_refused() {
        let cpu = Cpu::<f64>::new();
        let tape = Tape::new(&cpu);
        let inputs = parameters(&mut Generate::new(3), DtTransform::Exp, 1);
        let v: Vec<_> = inputs.into_iter().map(|a| tape.leaf(&cpu.from_vec(a.values, &a.shape).unwrap())).collect();
        let ssm = |p| SsmParams { inv_dt: &v[0], a_real: &v[1], a_imag: &v[2], b: &v[3], c: &v[4], p, dt: DtTransform::Exp };
        assert!(matches!(diag_kernel(ssm(None), Discretization::Zoh, 0), Err(Error::Value { op: "diag_kernel", .. })));
        assert!(diag_kernel(ssm(Some(&v[5])), Discretization::Zoh, 4).unwrap_err().to_string().contains("dplr_kernel"));
    }
}
