//! `Normalize`: BatchNorm and LayerNorm with their affine, and the statistics handed out.

use std::cell::RefCell;
use std::rc::Rc;

use crate::autodiff::gradcheck::Generate;
use crate::autodiff::{Array, Case, Grads, Needs, Op, Oracle, Var, operands};
use crate::backend::{Backend, NormAxes, Normalized, Tensor, shape};
use crate::error::{Error, Result};

/// gamma (x - mean) / sqrt(var + eps) + beta; inputs x (B, H, L), gamma (H), beta (H).
///
/// Batch normalisation (Ioffe and Szegedy, 2015) or layer normalisation (Ba, Kiros and Hinton, 2016), with the biased variance, as
/// the official code and PyTorch do. Gradients go through the statistics.
#[derive(Clone, Debug)]
pub struct Normalize<B: Backend> {
    /// What the statistics are taken over.
    pub axes: NormAxes,
    /// Added to the variance, above 0.
    pub eps: f64,
    /// Where forward leaves the statistics. Clones share the slot.
    pub statistics: Statistics<B>,
}

/// Mean and biased variance of the latest forward; no gradient flows through them.
pub type Statistics<B> = Rc<RefCell<Option<(Tensor<B>, Tensor<B>)>>>;

impl<B: Backend> Normalize<B> {
    /// With an empty slot of its own.
    pub fn new(axes: NormAxes, eps: f64) -> Self {
        Normalize { axes, eps, statistics: Rc::default() }
    }
}

/// What backward remembers.
#[derive(Debug)]
pub struct Saved<B: Backend> {
    x: Tensor<B>,
    gamma: Tensor<B>,
    mean: Tensor<B>,
    var: Tensor<B>,
}

impl<B: Backend> Op<B> for Normalize<B> {
    const NAME: &'static str = "normalize";
    type Saved = Saved<B>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x, gamma, beta] = operands(self.axes.name(), inputs)?;
        if self.axes == NormAxes::Batch {
            // A backend gives beta for the one value of a channel; in training that is never what was meant.
            shape::has_variance(self.axes.name(), x.shape())?;
        }
        let Normalized { output, mean, var } = backend.normalize(self.axes, x, gamma, beta, self.eps)?;
        self.statistics.replace(Some((mean.clone(), var.clone())));
        Ok((output, Saved { x: x.clone(), gamma: gamma.clone(), mean, var }))
    }

    fn backward(&self, backend: &B, saved: Self::Saved, grad: &Tensor<B>, needs: Needs) -> Result<Grads<B>> {
        let Saved { x, gamma, mean, var } = saved;
        let grads = backend.normalize_grad(self.axes, &x, &gamma, (&mean, &var), self.eps, grad)?;
        Ok(grads.into_iter().enumerate().map(|(i, grad)| needs.input(i).then_some(grad)).collect())
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Composition(by_means)
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let [batch, channels, length] = [generate.size(1..=3), generate.size(1..=5), generate.size(2..=20)];
        let long = generate.size(600..=700);
        let mut cases = Vec::new();
        for axes in NormAxes::ALL {
            // Two values normalise to +-1 but for eps: a small one leaves a gradient that is all cancellation.
            let small = generate.pick(&[1e-2, 0.1]);
            for (shape, eps) in [([batch, channels, length], small), ([1, channels, 2], small), ([2, 1, 1], small), ([2, 4, long], 1e-5)] {
                let [x, gamma, beta] = [&shape[..], &shape[1..2], &shape[1..2]].map(|shape| generate.normal(shape));
                cases.push(Case::new(Normalize::new(axes, eps), [x, gamma, beta]));
            }
            // All values equal: the variance is 0, and eps alone keeps the gradient finite.
            let constant = Array { values: vec![0.75; 2 * 3 * 4], shape: vec![2, 3, 4] };
            cases.push(Case::new(Normalize::new(axes, 1e-2), [constant, generate.normal(&[3]), generate.normal(&[3])]));
            // A mean that is large beside the deviation: a variance by E[x^2] - E[x]^2 would be far off.
            let offset = generate.values(&[2, 3, 5], 100.0, 101.0);
            cases.push(Case::new(Normalize::new(axes, 1e-5), [offset, generate.normal(&[3]), generate.normal(&[3])]));
        }
        cases
    }
}

/// The same from means on the tape.
fn by_means<B: Backend>(op: &Normalize<B>, inputs: &[Var<B>]) -> Result<Var<B>> {
    let [x, gamma, beta] = inputs else {
        return Err(Error::value(op.axes.name(), "takes three inputs: x, gamma, beta"));
    };
    let &[batch, channels, length] = x.shape() else {
        return Err(Error::value(op.axes.name(), "x must have three axes"));
    };
    let (statistics, count) = match op.axes {
        NormAxes::Batch => ([1, channels, 1], batch * length),
        NormAxes::Layer => ([batch, 1, length], channels),
    };
    let mean = |v: &Var<B>| v.sum_to(&statistics)?.scale(1.0 / count as f64);
    let centred = x.sub(&mean(x)?)?;
    let deviation = mean(&centred.square()?)?.linear_map(1.0, op.eps)?.sqrt()?;
    let per_channel = [1, channels, 1];
    centred.div(&deviation)?.mul(&gamma.reshape(&per_channel)?)?.add(&beta.reshape(&per_channel)?)
}

impl<B: Backend> Var<B> {
    /// Batch normalisation of x (B, H, L) over batch and length, then gamma x + beta with gamma (H) and beta (H).
    ///
    /// Also gives mean and biased variance (H), for running averages; they carry no gradient. Padding counts, as in the official code.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit; [`Error::Value`] where x is empty or holds one value a channel, which has no
    /// variance; [`Error::Config`] where eps is not positive.
    pub fn batch_norm(&self, gamma: &Var<B>, beta: &Var<B>, eps: f64) -> Result<(Var<B>, Tensor<B>, Tensor<B>)> {
        let op = Normalize::new(NormAxes::Batch, eps);
        let statistics = Rc::clone(&op.statistics);
        let output = self.tape().apply(op, &[self, gamma, beta])?;
        // Taken, not cloned: the op on the tape needs no second hold on them.
        let (mean, var) = statistics.take().ok_or_else(|| Error::value("batch_norm", "forward left no statistics"))?;
        Ok((output, mean, var))
    }

    /// Layer normalisation of x (B, H, L) over channels, for every position, then gamma x + beta with gamma (H) and beta (H).
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit; [`Error::Value`] where x is empty; [`Error::Config`] where eps is not positive.
    pub fn layer_norm(&self, gamma: &Var<B>, beta: &Var<B>, eps: f64) -> Result<Var<B>> {
        self.tape().apply(Normalize::new(NormAxes::Layer, eps), &[self, gamma, beta])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::Tape;
    use crate::backend::*;

    /// x, and gamma and beta that change nothing.
    fn vars(values: Vec<f64>, shape: &[usize]) -> [Var<Cpu<f64>>; 3] {
        let cpu = Cpu::<f64>::new();
        let tape = Tape::new(&cpu);
        let x = tape.leaf(&cpu.from_vec(values, shape).unwrap());
        let all = |v| tape.leaf(&cpu.full(&[shape[1]], v).unwrap());
        [x, all(1.0), all(0.0)]
    }

    #[test]
    fn batch_norm_hands_out_mean_and_biased_variance() {
        let [x, gamma, beta] = vars(vec![1.0, 3.0, 0.0, 0.0, 5.0, 7.0, 4.0, 4.0], &[2, 2, 2]);
        let (y, mean, var) = x.batch_norm(&gamma, &beta, 1e-5).unwrap();
        let cpu = x.tape().backend();
        assert_eq!((mean.shape(), var.shape()), (&[2][..], &[2][..]));
        assert_eq!((cpu.to_vec(&mean).unwrap(), cpu.to_vec(&var).unwrap()), (vec![4.0, 2.0], vec![5.0, 4.0]));
        approx::assert_relative_eq!(y.to_vec().unwrap()[0], -3.0 / (5.0f64 + 1e-5).sqrt(), max_relative = 1e-12);
    }

    #[test]
    fn what_has_no_variance_or_no_eps_is_refused() {
        let [x, gamma, beta] = vars(vec![1.0, 2.0], &[1, 2, 1]);
        let message = x.batch_norm(&gamma, &beta, 1e-5).unwrap_err().to_string();
        assert!(message.contains("batch_norm") && message.contains("no variance") && message.contains("running"), "{message}");
        assert!(x.layer_norm(&gamma, &beta, 1e-5).is_ok());
        for eps in [0.0, -1e-5, f64::NAN, f64::INFINITY] {
            assert!(matches!(x.layer_norm(&gamma, &beta, eps), Err(Error::Config { name: "eps", .. })));
        }
        assert!(matches!(x.layer_norm(&gamma, &x, 1e-5), Err(Error::Shape { op: "layer_norm", .. })));
    }
}
