//! Losses: cross-entropy with all its options, and losses of numbers and of yes and no. Means are PyTorch's.

use serde::{Deserialize, Serialize};

use crate::autodiff::Var;
use crate::backend::{Backend, Real, shape};
use crate::error::{Error, Result};

listed! {
    /// What becomes of the losses of single samples.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum LossReduction {
        /// Their mean, of shape (): weighted where they have weights, over those that count.
        #[default]
        Mean,
        /// Their sum, of shape ().
        Sum,
        /// They stay as they are.
        None,
    }
}

/// Cross-entropy of logits (B, classes) or (B, classes, ..), as PyTorch's `cross_entropy`.
///
/// ```
/// use pspikessm::{autodiff::Tape, backend::*, nn::CrossEntropy};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let logits = Tape::new(&cpu).leaf(&cpu.full(&[3, 4], 0.0)?);
/// // Label 9 stands for padding; class 2 counts twice.
/// let loss = CrossEntropy::new().smoothing(0.1).weights(vec![1.0, 1.0, 2.0, 1.0]).ignored(9);
/// let loss = loss.forward(&logits, &[2, 9, 0])?.item()?;
/// // All classes are as probable: -ln(1/4) of a label's weight; of the tenth that is spread, of all weights in the mean.
/// let expected = 4f64.ln() * (0.9 * 3.0 + 0.1 / 4.0 * 10.0) / 3.0;
/// assert!((loss - expected).abs() < 1e-14);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CrossEntropy {
    /// The share of a target that is spread evenly over all classes, from 0 to 1.
    pub smoothing: f64,
    /// A factor for every class, at least 0.
    pub weights: Option<Vec<f64>>,
    /// A label, of a class or not, that does not count.
    pub ignored: Option<usize>,
    /// What becomes of the losses of single samples.
    pub reduction: LossReduction,
}

setters! {
    CrossEntropy {
        smoothing: f64,
        weights: impl Into<Option<Vec<f64>>>,
        ignored: impl Into<Option<usize>>,
        reduction: LossReduction,
    }
}

/// The sizes around the axis of classes.
struct Sizes {
    classes: usize,
    inner: usize,
    /// Labels: a sample's times what is behind the classes.
    samples: usize,
    /// The shape without the classes.
    shape: Vec<usize>,
}

const OP: &str = "cross_entropy";

impl CrossEntropy {
    /// No smoothing, no weights, every label counts, the mean.
    pub fn new() -> Self {
        CrossEntropy::default()
    }

    /// The loss for the true classes, one for every sample, row-major (B, ..): of shape (), or (B, ..) where nothing is reduced.
    ///
    /// A mean is divided by the weights of the labels that count. Without options this is [`Var::cross_entropy`], in one kernel.
    ///
    /// # Errors
    /// [`Error::Shape`] where there is not one label for every sample or one weight for every class; [`Error::Value`] where the logits are
    /// empty or have fewer than two axes, a label that counts is no class, or none counts (or has a weight, for a mean);
    /// [`Error::Config`] where an option is out of its range.
    #[doc(alias = "nll_loss")]
    pub fn forward<B: Backend>(&self, logits: &Var<B>, labels: &[usize]) -> Result<Var<B>> {
        if *self == CrossEntropy::new() && logits.shape().len() == 2 {
            return logits.cross_entropy(labels);
        }
        let Sizes { classes, inner, samples, shape } = self.sizes(logits.shape())?;
        shape::exactly(OP, "the labels", &[samples], &[labels.len()])?;
        let (kept, places) = self.kept(labels, classes, inner)?;
        let weights: Vec<f64> = kept.iter().map(|&i| self.weight(labels[i as usize])).collect();
        let logs = logits.log_softmax(1)?;
        let picked = logs.reshape(&[samples * classes])?.index_select(0, &places)?;
        let hard = weights.iter().map(|weight| (self.smoothing - 1.0) * weight);
        let mut losses = picked.mul(&constant(logits, hard, &[kept.len()])?)?;
        if self.smoothing > 0.0 {
            let spread = self.weighted(&logs)?.sum_axes(&[1])?.reshape(&[samples])?.index_select(0, &kept)?;
            losses = losses.add(&spread.scale(-self.smoothing / classes as f64)?)?;
        }
        let total: f64 = weights.iter().sum();
        match self.reduction {
            LossReduction::Mean if total > 0.0 => losses.sum()?.scale(1.0 / total),
            LossReduction::Mean => Err(Error::value(OP, "no label that counts has a weight: their mean loss means nothing")),
            LossReduction::Sum => losses.sum(),
            LossReduction::None => losses.index_add(0, &kept, samples)?.reshape(&shape),
        }
    }

    /// The loss for targets that give every class a probability: of the logits' shape. A mean is divided by the number of samples, whatever
    /// the weights.
    ///
    /// # Errors
    /// [`Error::Shape`] where the targets have another shape than the logits, or there is not one weight for every class; [`Error::Value`]
    /// where the logits are empty or have fewer than two axes; [`Error::Config`] where an option is out of its range, or a label is
    /// ignored, of which there are none.
    pub fn forward_soft<B: Backend>(&self, logits: &Var<B>, targets: &Var<B>) -> Result<Var<B>> {
        let sizes = self.sizes(logits.shape())?;
        shape::exactly(OP, "the targets", logits.shape(), targets.shape())?;
        if let Some(label) = self.ignored {
            return Err(Error::config("ignored", label, "goes with labels: give a target of zeros what is not to count"));
        }
        let targets = if self.smoothing > 0.0 {
            targets.linear_map(1.0 - self.smoothing, self.smoothing / sizes.classes as f64)?
        } else {
            targets.clone()
        };
        let losses = self.weighted(&logits.log_softmax(1)?.mul(&targets)?)?.sum_axes(&[1])?.neg()?;
        match self.reduction {
            LossReduction::Mean => losses.sum()?.scale(1.0 / sizes.samples as f64),
            other => reduced(&losses, other),
        }
    }

    fn sizes(&self, logits: &[usize]) -> Result<Sizes> {
        let &[batch, classes, ref further @ ..] = logits else {
            return Err(Error::value(OP, format!("the logits have shape {logits:?}, but they must be (batch, classes, ..)")));
        };
        shape::filled(OP, "the logits", logits)?;
        if !(0.0..=1.0).contains(&self.smoothing) {
            return Err(Error::config("smoothing", self.smoothing, "must lie in [0, 1]"));
        }
        if let Some(weights) = &self.weights {
            shape::exactly(OP, "the weights", &[classes], &[weights.len()])?;
            if let Some(weight) = weights.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
                return Err(Error::config("weights", weight, "must be finite and at least 0"));
            }
        }
        let inner = further.iter().product::<usize>();
        Ok(Sizes { classes, inner, samples: batch * inner, shape: [&[batch], further].concat() })
    }

    /// The samples whose label counts, and where their labels' logits stand.
    fn kept(&self, labels: &[usize], classes: usize, inner: usize) -> Result<(Vec<u32>, Vec<u32>)> {
        if u32::try_from(labels.len() * classes).is_err() {
            return Err(Error::value(OP, format!("{} samples of {classes} classes are more than 2^32 logits", labels.len())));
        }
        let (mut kept, mut places) = (Vec::with_capacity(labels.len()), Vec::with_capacity(labels.len()));
        for (i, &label) in labels.iter().enumerate().filter(|&(_, &label)| self.ignored != Some(label)) {
            if label >= classes {
                let help = format!("label {label} of sample {i} is not one of {classes} classes: labels count from 0");
                return Err(Error::value(OP, help));
            }
            kept.push(i as u32);
            places.push(((i / inner * classes + label) * inner + i % inner) as u32);
        }
        if kept.is_empty() {
            return Err(Error::value(OP, "every label is ignored: there is nothing to learn from"));
        }
        Ok((kept, places))
    }

    fn weight(&self, class: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |weights| weights[class])
    }

    /// x (B, classes, ..) times the classes' weights.
    fn weighted<B: Backend>(&self, x: &Var<B>) -> Result<Var<B>> {
        let Some(weights) = &self.weights else { return Ok(x.clone()) };
        let shape = [&[weights.len()][..], &vec![1; x.shape().len() - 2]].concat();
        x.mul(&constant(x, weights.iter().copied(), &shape)?)
    }
}

/// A constant beside `x`.
fn constant<B: Backend>(x: &Var<B>, values: impl Iterator<Item = f64>, shape: &[usize]) -> Result<Var<B>> {
    Ok(x.tape().constant(&x.tape().backend().from_vec(values.map(B::Elem::of).collect(), shape)?))
}

fn reduced<B: Backend>(losses: &Var<B>, reduction: LossReduction) -> Result<Var<B>> {
    match reduction {
        LossReduction::Mean => losses.mean(),
        LossReduction::Sum => losses.sum(),
        LossReduction::None => Ok(losses.clone()),
    }
}

/// output - target, of one shape.
fn difference<B: Backend>(op: &'static str, output: &Var<B>, target: &Var<B>) -> Result<Var<B>> {
    shape::exactly(op, "the target", output.shape(), target.shape())?;
    output.sub(target)
}

/// Squares of the differences.
///
/// # Errors
/// [`Error::Shape`] where the shapes differ; [`Error::Value`] for a mean of nothing.
pub fn mse_loss<B: Backend>(output: &Var<B>, target: &Var<B>, reduction: LossReduction) -> Result<Var<B>> {
    reduced(&difference("mse_loss", output, target)?.square()?, reduction)
}

/// Magnitudes of the differences; the gradient of a difference of 0 is 0.
///
/// # Errors
/// As [`mse_loss`].
#[doc(alias = "mae_loss")]
pub fn l1_loss<B: Backend>(output: &Var<B>, target: &Var<B>, reduction: LossReduction) -> Result<Var<B>> {
    reduced(&difference("l1_loss", output, target)?.abs()?, reduction)
}

/// Half the squares of the differences up to `delta`, and `delta` (|difference| - delta / 2) beyond (Huber 1964). PyTorch's smooth L1 loss
/// with `beta` is this with `delta = beta`, divided by it.
///
/// # Errors
/// As [`mse_loss`]; [`Error::Config`] where `delta` is not positive and finite.
#[doc(alias = "smooth_l1_loss")]
pub fn huber_loss<B: Backend>(output: &Var<B>, target: &Var<B>, delta: f64, reduction: LossReduction) -> Result<Var<B>> {
    if !(delta > 0.0 && delta.is_finite()) {
        return Err(Error::config("delta", delta, "must be positive and finite"));
    }
    let difference = difference("huber_loss", output, target)?;
    // c (d - c / 2), with c = d within delta.
    let within = difference.clamp(-delta, delta)?;
    reduced(&within.mul(&difference.sub(&within.scale(0.5)?)?)?, reduction)
}

/// Cross-entropy of yes and no: -y ln p - (1 - y) ln(1 - p) with p = sigmoid(logits) and targets y from 0 to 1, without overflow.
/// `pos_weight`, which broadcasts to the logits, is a factor for the first term.
///
/// ```
/// use pspikessm::{autodiff::Tape, backend::*, nn::{LossReduction, bce_with_logits}};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let tape = Tape::new(&cpu);
/// let logits = tape.leaf(&cpu.from_vec(vec![0.0, 800.0, -800.0], &[3])?);
/// let targets = tape.constant(&cpu.from_vec(vec![1.0, 1.0, 1.0], &[3])?);
/// let losses = bce_with_logits(&logits, &targets, None, LossReduction::None)?;
/// assert_eq!(losses.to_vec()?, [2f64.ln(), 0.0, 800.0]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`mse_loss`]; [`Error::Shape`] where `pos_weight` does not broadcast to the logits.
#[doc(alias = "binary_cross_entropy_with_logits")]
pub fn bce_with_logits<B: Backend>(
    logits: &Var<B>,
    targets: &Var<B>,
    pos_weight: Option<&Var<B>>,
    reduction: LossReduction,
) -> Result<Var<B>> {
    const OP: &str = "bce_with_logits";
    shape::exactly(OP, "the targets", logits.shape(), targets.shape())?;
    let mut yes = targets.mul(&logits.neg()?.softplus()?)?;
    if let Some(weight) = pos_weight {
        shape::broadcasts_to(OP, weight.shape(), logits.shape())?;
        yes = yes.mul(weight)?;
    }
    let no = targets.linear_map(-1.0, 1.0)?.mul(&logits.softplus()?)?;
    reduced(&yes.add(&no)?, reduction)
}
