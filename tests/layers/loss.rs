//! Losses against their plain definitions, PyTorch's among them, and their gradients against differences.

use crate::common::says;
use pspikessm::Result;
use pspikessm::autodiff::{Array, Generate, Tape, Var, gradcheck, gradgradcheck};
use pspikessm::backend::*;
use pspikessm::nn::{CrossEntropy, LossReduction, bce_with_logits, huber_loss, l1_loss, mse_loss};

type Host = Cpu<f64>;
type V = Var<Host>;

fn var(tape: &Tape<Host>, x: &Array) -> V {
    tape.leaf(&tape.backend().from_vec(x.values.clone(), &x.shape).unwrap())
}

/// The loss is `want`, and its gradients, and theirs, are those by differences.
fn holds(what: &str, inputs: &[Array], want: &[f64], f: impl Fn(&[V]) -> Result<V>) {
    let cpu = Host::new();
    let tape = Tape::new(&cpu);
    let out = f(&inputs.iter().map(|x| var(&tape, x)).collect::<Vec<_>>()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let got = out.to_vec().unwrap();
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(1.0f64, |largest, v| largest.max(v.abs()));
    assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() <= 1e-13 * largest), "{what}: {got:?} and not {want:?}");
    gradcheck(&cpu, |_, v| f(v), inputs).unwrap_or_else(|error| panic!("{what}: {error}"));
    gradgradcheck(&cpu, |_, v| f(v), inputs).unwrap_or_else(|error| panic!("{what}, twice: {error}"));
}

/// -ln softmax of logits (B, classes, inner), class by class: a list a sample.
fn surprises(logits: &Array, inner: usize) -> Vec<Vec<f64>> {
    let classes = logits.shape[1];
    let of = |sample: usize| {
        let logit = |class: usize| logits.values[(sample / inner * classes + class) * inner + sample % inner];
        let sum: f64 = (0..classes).map(|class| logit(class).exp()).sum();
        (0..classes).map(|class| sum.ln() - logit(class)).collect()
    };
    (0..logits.values.len() / classes).map(of).collect()
}

/// What a reduction makes of the losses, where a mean is divided by `total`.
fn reduced(losses: Vec<f64>, reduction: LossReduction, total: f64) -> Vec<f64> {
    match reduction {
        LossReduction::Mean => vec![losses.iter().sum::<f64>() / total],
        LossReduction::Sum => vec![losses.iter().sum()],
        LossReduction::None => losses,
    }
}

#[test]
fn cross_entropy_has_pytorchs_options() {
    let mut generate = Generate::new(30);
    for round in 0..36 {
        let (batch, classes) = (generate.size(1..=4), generate.size(1..=4));
        let further: Vec<usize> = if generate.flag() { vec![] } else { vec![generate.size(1..=3)] };
        let inner = further.iter().product::<usize>();
        let shape = [&[batch, classes], &further[..]].concat();
        let logits = generate.normal(&shape);
        let reduction = LossReduction::ALL[round % 3];
        let smoothing = if generate.flag() { 0.0 } else { generate.value(0.0, 1.0) };
        let weights: Option<Vec<f64>> = generate.flag().then(|| generate.values(&[classes], 0.2, 2.0).values);
        // A class that is ignored, a label that is none, or nothing.
        let ignored = [None, Some(classes - 1), Some(77)][generate.size(0..=2)];
        let mut labels: Vec<usize> = (0..batch * inner).map(|_| generate.size(0..=classes - 1)).collect();
        labels.iter_mut().skip(1).step_by(2).for_each(|label| *label = ignored.unwrap_or(*label));
        if Some(labels[0]) == ignored {
            continue;
        }
        let weight = |class: usize| weights.as_ref().map_or(1.0, |weights| weights[class]);
        let counts = |i: &usize| Some(labels[*i]) != ignored;
        let loss = |i: usize, surprise: &Vec<f64>| {
            let spread: f64 = surprise.iter().enumerate().map(|(class, s)| weight(class) * s).sum();
            if counts(&i) { (1.0 - smoothing) * weight(labels[i]) * surprise[labels[i]] + smoothing / classes as f64 * spread } else { 0.0 }
        };
        let losses = surprises(&logits, inner).iter().enumerate().map(|(i, surprise)| loss(i, surprise)).collect();
        let total = (0..labels.len()).filter(counts).map(|i| weight(labels[i])).sum();
        let config = CrossEntropy::new().smoothing(smoothing).weights(weights.clone()).ignored(ignored).reduction(reduction);
        let want = reduced(losses, reduction, total);
        holds(&format!("{round}: {config:?}"), std::slice::from_ref(&logits), &want, |v| config.forward(&v[0], &labels));

        let targets = generate.values(&shape, 0.0, 1.0);
        let of = |sample: usize, class: usize| targets.values[(sample / inner * classes + class) * inner + sample % inner];
        let loss = |(i, surprise): (usize, &Vec<f64>)| {
            let share = |class: usize| (1.0 - smoothing) * of(i, class) + smoothing / classes as f64;
            surprise.iter().enumerate().map(|(class, s)| weight(class) * share(class) * s).sum::<f64>()
        };
        let losses = surprises(&logits, inner).iter().enumerate().map(loss).collect();
        let want = reduced(losses, reduction, labels.len() as f64);
        let config = config.ignored(None);
        holds(&format!("soft, {round}: {config:?}"), &[logits, targets], &want, |v| config.forward_soft(&v[0], &v[1]));
    }
}

#[test]
fn an_ignored_sample_leaks_nothing() {
    let cpu = Host::new();
    let tape = Tape::new(&cpu);
    let logits = tape.leaf(&cpu.from_vec(vec![0.0, 0.0, f64::NAN, f64::INFINITY], &[2, 2]).unwrap());
    for reduction in LossReduction::ALL {
        let loss = CrossEntropy::new().ignored(5).reduction(reduction).forward(&logits, &[1, 5]).unwrap();
        assert!(loss.to_vec().unwrap().iter().all(|v| v.is_finite()), "{reduction:?}");
    }
    let single = tape.leaf(&cpu.full(&[3, 2], 0.5).unwrap());
    let (plain, fused) = (CrossEntropy::new().ignored(5), CrossEntropy::new());
    let of = |config: CrossEntropy| config.forward(&single, &[0, 1, 1]).unwrap().item().unwrap();
    assert!((of(plain) - of(fused)).abs() < 1e-15);
}

#[test]
fn losses_of_numbers_are_what_they_say() {
    let mut generate = Generate::new(31);
    for reduction in LossReduction::ALL {
        let shape = generate.shape(0..=3, 1..=4);
        // Away from the kinks of |d| at 0 and of Huber's at delta.
        let output = generate.normal(&shape);
        let gap = generate.values_off(&shape, -2.0, 2.0, &[0.0, 0.7, -0.7], 0.05);
        let target = Array { values: output.values.iter().zip(&gap.values).map(|(x, d)| x - d).collect(), shape: shape.clone() };
        let want = |f: fn(f64) -> f64| reduced(gap.values.iter().map(|&d| f(d)).collect(), reduction, gap.values.len() as f64);
        let inputs = [output, target];
        holds("mse", &inputs, &want(|d| d * d), |v| mse_loss(&v[0], &v[1], reduction));
        holds("l1", &inputs, &want(f64::abs), |v| l1_loss(&v[0], &v[1], reduction));
        let huber = |d: f64| if d.abs() <= 0.7 { d * d / 2.0 } else { 0.7 * (d.abs() - 0.35) };
        holds("huber", &inputs, &want(huber), |v| huber_loss(&v[0], &v[1], 0.7, reduction));

        let (logits, targets) = (generate.values(&shape, -6.0, 6.0), generate.values(&shape, 0.0, 1.0));
        let weight = generate.values(&[], 0.5, 3.0);
        let p = |x: f64| 1.0 / (1.0 + (-x).exp());
        let of = |weight: f64| {
            let loss = |(&x, &y): (&f64, &f64)| -weight * y * p(x).ln() - (1.0 - y) * (1.0 - p(x)).ln();
            reduced(logits.values.iter().zip(&targets.values).map(loss).collect(), reduction, logits.values.len() as f64)
        };
        let (plain, weighted) = (of(1.0), of(weight.values[0]));
        let inputs = [logits, targets, weight];
        holds("bce", &inputs[..2], &plain, |v| bce_with_logits(&v[0], &v[1], None, reduction));
        holds("weighted bce", &inputs, &weighted, |v| bce_with_logits(&v[0], &v[1], Some(&v[2]), reduction));
    }
}

#[test]
fn what_makes_no_loss_is_named() {
    let cpu = Host::new();
    let tape = Tape::new(&cpu);
    let zeros = |shape: &[usize]| tape.leaf(&cpu.full(shape, 0.0).unwrap());
    let (logits, config) = (zeros(&[2, 3]), CrossEntropy::new().reduction(LossReduction::Sum));
    says(config.forward(&zeros(&[3]), &[0]), &["cross_entropy", "[3]", "batch, classes"]);
    says(config.forward(&zeros(&[0, 3]), &[]), &["cross_entropy", "[0, 3]"]);
    says(config.forward(&zeros(&[2, 0]), &[0, 0]), &["cross_entropy", "[2, 0]"]);
    says(config.forward(&logits, &[0]), &["cross_entropy", "the labels"]);
    says(config.forward(&logits, &[0, 3]), &["cross_entropy", "label 3 of sample 1"]);
    says(config.clone().ignored(1).forward(&logits, &[1, 1]), &["every label is ignored"]);
    says(config.clone().weights(vec![1.0; 2]).forward(&logits, &[0, 1]), &["the weights", "[3]"]);
    says(CrossEntropy::new().weights(vec![0.0, 1.0, 1.0]).forward(&logits, &[0, 0]), &["has a weight"]);
    for weight in [-1.0, f64::NAN, f64::INFINITY] {
        says(config.clone().weights(vec![1.0, weight, 1.0]).forward(&logits, &[0, 1]), &["weights = "]);
    }
    for smoothing in [-0.1, 1.1, f64::NAN] {
        says(config.clone().smoothing(smoothing).forward(&logits, &[0, 1]), &["smoothing = ", "[0, 1]"]);
        says(config.clone().smoothing(smoothing).forward_soft(&logits, &logits), &["smoothing = ", "[0, 1]"]);
    }
    says(config.forward_soft(&logits, &zeros(&[3, 2])), &["cross_entropy", "the targets"]);
    says(config.ignored(1).forward_soft(&logits, &logits), &["ignored = 1"]);
    let column = zeros(&[2, 1]);
    says(mse_loss(&logits, &column, LossReduction::Sum), &["mse_loss", "the target"]);
    says(mse_loss(&zeros(&[0]), &zeros(&[0]), LossReduction::Mean), &["mean"]);
    says(l1_loss(&logits, &column, LossReduction::Sum), &["l1_loss", "the target"]);
    says(huber_loss(&logits, &column, 1.0, LossReduction::Sum), &["huber_loss", "the target"]);
    for delta in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        says(huber_loss(&logits, &logits, delta, LossReduction::Sum), &["delta = ", "positive"]);
    }
    says(bce_with_logits(&logits, &column, None, LossReduction::Sum), &["bce_with_logits", "the targets"]);
    says(bce_with_logits(&logits, &logits, Some(&zeros(&[2])), LossReduction::Sum), &["bce_with_logits", "[2]"]);
}
