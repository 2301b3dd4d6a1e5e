//! `DiagKernel`: the convolution kernels of diagonal SSMs (S4D), from their stored parameters.

use super::dplr::{SsmVars, in_order, parameters};
use crate::autodiff::gradcheck::Generate;
use crate::autodiff::{Case, Grads, Needs, Op, Oracle, Var, operands};
use crate::backend::{Backend, Discretisation, DtTransform, SsmParams, Tensor};
use crate::error::{Error, Result};

/// K[l] = 2 Re sum_n C_n B_n b_n abar_n^l, l = 0..len, for every channel; inputs inv_dt, a_real, a_imag, b, c, shaped as in [`SsmParams`].
///
/// Zero-order hold: abar = exp(dt A), b = (exp(dt A) - 1) / A; bilinear: abar = (1 + dt A / 2) / (1 - dt A / 2),
/// b = dt / (1 - dt A / 2). S4D (Gu, Gupta, Goel and Re, 2022, [arXiv:2206.11893](https://arxiv.org/abs/2206.11893)).
#[derive(Clone, Copy, Debug)]
pub struct DiagKernel {
    /// How the continuous system becomes a discrete one.
    pub disc: Discretisation,
    /// How inv_dt becomes dt.
    pub dt: DtTransform,
    /// The kernels' length, at least 1.
    pub len: usize,
}

impl<B: Backend> Op<B> for DiagKernel {
    const NAME: &'static str = "diag_kernel";
    type Saved = SsmParams<B>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [inv_dt, a_real, a_imag, b, c] = operands("diag_kernel", inputs)?.map(Tensor::clone);
        let ssm = SsmParams { inv_dt, a_real, a_imag, b, c, p: None, dt: self.dt };
        ssm.sizes("diag_kernel")?;
        if self.len == 0 {
            return Err(Error::value("diag_kernel", "a kernel has at least one entry: give a len of 1 or more"));
        }
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
        for disc in [Discretisation::Zoh, Discretisation::Bilinear] {
            for len in [1, 2, generate.size(3..=20), generate.size(60..=90)] {
                let dt = generate.pick(&[DtTransform::Softplus, DtTransform::Exp]);
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
pub fn diag_kernel<B: Backend>(inputs: SsmVars<'_, B>, disc: Discretisation, len: usize) -> Result<Var<B>> {
    let SsmVars { inv_dt, a_real, a_imag, b, c, p, dt } = inputs;
    if p.is_some() {
        // Ignoring it would cut its gradient.
        return Err(Error::value("diag_kernel", "a diagonal system has no P: leave it out, or call dplr_kernel"));
    }
    inv_dt.tape().apply(DiagKernel { disc, dt, len }, &[inv_dt, a_real, a_imag, b, c])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::Tape;
    use crate::backend::Cpu;

    #[test]
    fn zero_order_hold_and_bilinear_agree_with_the_formula_by_hand() {
        // One state with A = -1: K[l] = 2 c b abar^l.
        let cpu = Cpu::<f64>::new();
        let tape = Tape::off(&cpu);
        let of = |values: &[f64], shape: &[usize]| tape.constant(&cpu.from_vec(values.to_vec(), shape).unwrap());
        let (inv_dt, zero) = (of(&[0.25f64.ln()], &[1]), of(&[0.0], &[1, 1]));
        let (b, c) = (of(&[1.0, 0.0], &[2, 1, 1]), of(&[0.5, 0.0], &[2, 1, 1, 1]));
        let kernel = |disc| {
            let ssm = SsmVars { inv_dt: &inv_dt, a_real: &zero, a_imag: &zero, b: &b, c: &c, p: None, dt: DtTransform::Exp };
            diag_kernel(ssm, disc, 4).unwrap().to_vec().unwrap()
        };
        let zoh = (-0.25f64).exp();
        let bilinear = 0.875 / 1.125;
        for (disc, abar, bbar) in [(Discretisation::Zoh, zoh, 1.0 - zoh), (Discretisation::Bilinear, bilinear, 0.25 / 1.125)] {
            for (l, k) in kernel(disc).into_iter().enumerate() {
                approx::assert_relative_eq!(k, bbar * abar.powi(l as i32), max_relative = 1e-13);
            }
        }
    }

    #[test]
    fn an_empty_kernel_and_a_low_rank_term_are_refused() {
        let cpu = Cpu::<f64>::new();
        let tape = Tape::new(&cpu);
        let inputs = parameters(&mut Generate::new(3), DtTransform::Exp, 1);
        let v: Vec<_> = inputs.into_iter().map(|a| tape.leaf(&cpu.from_vec(a.values, &a.shape).unwrap())).collect();
        let ssm = |p| SsmVars { inv_dt: &v[0], a_real: &v[1], a_imag: &v[2], b: &v[3], c: &v[4], p, dt: DtTransform::Exp };
        assert!(matches!(diag_kernel(ssm(None), Discretisation::Zoh, 0), Err(Error::Value { op: "diag_kernel", .. })));
        assert!(diag_kernel(ssm(Some(&v[5])), Discretisation::Zoh, 4).unwrap_err().to_string().contains("dplr_kernel"));
    }
}
