//! `LifOp`: leaky integrate-and-fire neurons along time, with a surrogate gradient.

use crate::autodiff::gradcheck::Generate;
use crate::autodiff::{Array, Case, Grads, Needs, Op, Oracle, Var, VarGrads, differentiable_once, operands};
use crate::backend::{Backend, Lif, Noise, Spike, SpikeMode, Surrogate, Tensor};
use crate::error::{Error, Result};

/// Spikes `s[t] = v[t] > threshold` of `v[t] = decay v[t-1] (1 - s[t-1]) + x[t]` (hard reset) or
/// `v[t] = decay v[t-1] - threshold s[t-1] + x[t]` (soft reset), from v = 0 on; input x (.., L).
///
/// The deterministic sampler that the P-SpikeSSM paper compares with. Its gradient is the usual one of surrogate gradient learning
/// (Neftci, Mostafa and Zenke, 2019): the surrogate of v - threshold stands for ds/dv, and the reset carries no gradient, so that
/// `dv[t] / dv[t-1]` is `decay (1 - s[t-1])`, or decay.
#[derive(Clone, Copy, Debug)]
pub struct LifOp {
    /// The neuron.
    pub lif: Lif,
}

impl<B: Backend> Op<B> for LifOp {
    const NAME: &'static str = "lif";
    /// x.
    type Saved = Tensor<B>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("lif", inputs)?;
        Ok((backend.lif(&self.lif, x)?, backend.lean(x)))
    }

    fn backward(&self, backend: &B, x: Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        Ok(vec![Some(backend.lif_grad(&self.lif, &x, grad)?)])
    }

    /// A surrogate has no derivative that means anything.
    fn derivative(&self, _: &[Var<B>], _: &Var<B>, _: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        Err(differentiable_once(<Self as Op<B>>::NAME))
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Composition(step_by_step)
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let alpha = generate.pick(&[0.5, 2.0, 5.0]);
        let mut cases = Vec::new();
        for surrogate in Surrogate::ALL.map(|surrogate| surrogate.with_alpha(alpha)) {
            for soft_reset in [false, true] {
                let decay = generate.pick(&[0.0, 0.5, 0.9, 1.0]);
                let threshold = generate.pick(&[-0.25, 0.5, 1.0]);
                let op = LifOp { lif: Lif { decay, threshold, soft_reset, surrogate } };
                let shape = [generate.size(1..=3), generate.size(1..=4), generate.size(1..=20)];
                let rows = generate.size(90..=100);
                // Drive around the threshold, so that neurons spike now and then.
                cases.push(Case::new(op, [generate.values(&shape, -0.5, 1.5)]));
                cases.push(Case::new(op, [generate.values(&[rows, 50], -0.5, 1.5)]));
                cases.push(Case::new(op, [generate.values(&[1], -0.5, 1.5)]));
                cases.push(Case::new(LifOp { lif: Lif { decay: 0.5, threshold: 1.0, ..op.lif } }, [ties()]));
            }
        }
        cases
    }
}

/// Binary fractions that put v exactly on the threshold 1 and on the ends 1/2 and 3/2 of its window, with decay 1/2.
fn ties() -> Array {
    Array { values: vec![1.0, 0.5, 1.0, 0.5, 0.75, 1.25, 1.5, 0.5], shape: vec![1, 8] }
}

/// The same recurrence, one step at a time, from spikes with given noise.
fn step_by_step<B: Backend>(op: &LifOp, inputs: &[Var<B>]) -> Result<Var<B>> {
    let [x] = inputs else { return Err(Error::value("lif", "takes one input")) };
    let Lif { decay, threshold, soft_reset, surrogate } = op.lif;
    let time = x.shape().len() - 1;
    let mut state: Option<(Var<B>, Var<B>)> = None;
    let mut spikes = Vec::new();
    for t in 0..x.shape()[time] {
        let drive = x.slice(time, t, 1)?;
        let v = match state {
            None => drive,
            Some((v, s)) if soft_reset => v.scale(decay)?.sub(&s.scale(threshold)?)?.add(&drive)?,
            Some((v, s)) => v.scale(decay)?.mul(&s.linear_map(-1.0, 1.0)?)?.add(&drive)?,
        };
        // y > u is v > threshold, y - u is v - threshold, and the window 0 <= y <= 1 is |v - threshold| <= 1/2.
        let y = v.linear_map(1.0, 0.5 - threshold)?;
        let noise = Noise::Given(x.tape().backend().full(y.shape(), 0.5)?);
        let s = y.spike(Spike { noise, mode: SpikeMode::Sampled, surrogate })?;
        state = Some((v, s.detach()));
        spikes.push(s);
    }
    Var::concat(&spikes.iter().collect::<Vec<_>>(), time)
}

impl<B: Backend> Var<B> {
    /// Spikes of leaky integrate-and-fire neurons driven by x (.., L) along the last axis; of x's shape, 0 or 1.
    ///
    /// ```
    /// use pspikessm::autodiff::Tape;
    /// use pspikessm::backend::*;
    /// # fn main() -> pspikessm::Result<()> {
    /// let cpu = Cpu::<f64>::new();
    /// let x = Tape::new(&cpu).leaf(&cpu.full(&[6], 0.75)?);
    /// let lif = Lif { decay: 0.5, threshold: 1.0, soft_reset: false, surrogate: Surrogate::Clamp };
    /// assert_eq!(x.lif(lif)?.to_vec()?, [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] where decay is outside [0, 1], the threshold is not finite, or a surrogate's alpha is not positive;
    /// [`Error::Value`] where x has no time step.
    pub fn lif(&self, lif: Lif) -> Result<Var<B>> {
        self.tape().apply(LifOp { lif }, &[self])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::Tape;
    use crate::backend::*;

    const LIF: Lif = Lif { decay: 0.5, threshold: 1.0, soft_reset: false, surrogate: Surrogate::Clamp };

    fn run(lif: Lif, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let cpu = Cpu::<f64>::new();
        let x = Tape::new(&cpu).leaf(&cpu.from_vec(x.to_vec(), &[x.len()]).unwrap());
        let s = x.lif(lif).unwrap();
        let gradients = s.sum().unwrap().backward().unwrap();
        (s.to_vec().unwrap(), cpu.to_vec(gradients.of(&x).unwrap()).unwrap())
    }

    #[test]
    fn a_potential_on_the_threshold_does_not_spike() {
        // v = 1, 1, 1.5 (spike, reset), 0.5, 1.
        let (s, g) = run(LIF, &[1.0, 0.5, 1.0, 0.5, 0.75]);
        assert_eq!(s, [0.0, 0.0, 1.0, 0.0, 0.0]);
        // Every v is in the window; the sums run back through time and stop at the spike.
        assert_eq!(g, [1.75, 1.5, 1.0, 1.5, 1.0]);
    }

    #[test]
    fn a_soft_reset_keeps_what_exceeds_the_threshold() {
        // v = 3, 0.5 * 3 - 1 + 0 = 0.5, 0.25 + 1 = 1.25.
        let (s, g) = run(Lif { soft_reset: true, ..LIF }, &[3.0, 0.0, 1.0]);
        assert_eq!(s, [1.0, 0.0, 1.0]);
        assert_eq!(g, [0.75, 1.5, 1.0]);
    }

    #[test]
    fn impossible_neurons_are_refused() {
        let cpu = Cpu::<f64>::new();
        let x = Tape::new(&cpu).leaf(&cpu.full(&[2, 3], 0.5).unwrap());
        for decay in [-0.1, 1.1, f64::NAN] {
            assert!(matches!(x.lif(Lif { decay, ..LIF }), Err(Error::Config { name: "decay", .. })));
        }
        assert!(matches!(x.lif(Lif { threshold: f64::INFINITY, ..LIF }), Err(Error::Config { name: "threshold", .. })));
        let surrogate = Surrogate::Atan { alpha: 0.0 };
        assert!(matches!(x.lif(Lif { surrogate, ..LIF }), Err(Error::Config { name: "alpha", .. })));
        let number = Tape::new(&cpu).leaf(&cpu.full(&[], 0.5).unwrap());
        assert!(matches!(number.lif(LIF), Err(Error::Value { op: "lif", .. })));
    }
}
