//! Wrong calls: every one is an `Err` of the right kind that names the method and what is wrong, on every backend.

use proptest::prelude::*;
use pspikessm::backend::*;
use pspikessm::{Error, Result};

use super::harness::{Array, Lab, cases, once};

/// The variants of [`Error`] that a wrong call can have.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Shape,
    Value,
    Config,
}
use Kind::{Config, Shape, Value};

/// The call is refused with an error of this kind, whose message has all of these parts.
#[track_caller]
fn refused<T>(outcome: Result<T>, kind: Kind, parts: &[&str]) {
    let Err(error) = outcome else { panic!("accepted, and not refused with {parts:?}") };
    let is = match &error {
        Error::Shape { .. } => Some(Shape),
        Error::Value { .. } => Some(Value),
        Error::Config { .. } => Some(Config),
        _ => None,
    };
    let message = error.to_string();
    assert!(is == Some(kind) && parts.iter().all(|part| message.contains(part)), "{message:?} is {is:?}; {kind:?} with {parts:?} is due");
}

impl<B: Backend> Lab<B> {
    /// A tensor of this shape, whose values do not matter.
    fn some(&self, shape: &[usize]) -> Tensor<B> {
        self.backend.full(shape, 0.5).expect("a shape that a device can hold")
    }
}

const HUGE: [usize; 2] = [usize::MAX, 2];
/// Beyond the root of what can be counted with: the square of it is 0 where nobody looks.
const LONG: usize = 1 << (usize::BITS / 2 + 8);
/// Nothing is in it, but no length of it can be counted with.
const EMPTY_AND_HUGE: [usize; 3] = [usize::MAX, 2, 0];

pub fn of_transfer<B: Backend>(lab: &Lab<B>) {
    let b = &lab.backend;
    let zeros = |count| vec![B::Elem::of(0.0); count];
    refused(b.from_vec(zeros(5), &[2, 3]), Shape, &["from_vec", "5 elements", "[2, 3]"]);
    refused(b.from_vec(zeros(1), &[0]), Shape, &["from_vec", "[0]"]);
    refused(b.from_vec(zeros(2), &HUGE), Shape, &["from_vec", "memory"]);
    refused(b.from_vec(zeros(0), &EMPTY_AND_HUGE), Shape, &["from_vec", "memory"]);
    for shape in [&HUGE[..], &EMPTY_AND_HUGE, &[LONG, LONG]] {
        refused(b.full(shape, 0.0), Value, &["full", &format!("{shape:?}"), "memory"]);
    }
    refused(lab.some(&[2, 3]).reshape(&[4]), Shape, &["reshape", "[2, 3]", "[4]"]);
    refused(lab.some(&[2, 3]).reshape(&HUGE), Shape, &["reshape", "memory"]);
}

const BINARY_NAMES: [&str; Binary::ALL.len()] =
    ["add", "sub", "mul", "div", "minimum", "maximum", "pow", "atan2", "eq", "ne", "lt", "le", "gt", "ge"];

pub fn of_elementwise<B: Backend>(lab: &Lab<B>) {
    let (b, x, y) = (&lab.backend, lab.some(&[2, 3]), lab.some(&[4]));
    for (low, high) in [(1.0, 0.0), (f64::NAN, 0.0), (0.0, f64::NAN)] {
        refused(b.unary(Unary::Clamp(low, high), &x), Config, &["clamp", "lower"]);
        refused(b.unary_grad(Unary::Clamp(low, high), &x, &x), Config, &["clamp", "lower"]);
    }
    for bad in [f64::NAN, f64::INFINITY] {
        for (f, name) in [(Unary::Powf(bad), "powf"), (Unary::LeakyRelu(bad), "leaky_relu"), (Unary::Elu(bad), "elu")] {
            refused(b.unary(f, &x), Config, &[name, "finite"]);
            refused(b.unary_grad(f, &x, &x), Config, &[name, "finite"]);
        }
    }
    for f in Unary::ALL {
        for g in [&y, &lab.some(&[3]), &lab.some(&[3, 2]), &lab.some(&[])] {
            refused(b.unary_grad(f, &x, g), Shape, &["unary_grad", "the gradient", "[2, 3]"]);
        }
    }
    for (f, name) in Binary::ALL.into_iter().zip(BINARY_NAMES) {
        refused(b.binary(f, &x, &y), Shape, &[name, "axis 1", "[2, 3]", "[4]"]);
        refused(b.binary(f, &lab.some(&[0]), &y), Shape, &[name, "axis 0"]);
    }
    for [mask, a, z] in [[&x, &x, &y], [&x, &y, &x], [&y, &x, &x]] {
        refused(b.select(mask, a, z), Shape, &["select", "axis 1", "[2, 3]", "[4]"]);
    }
    for shape in [&[4][..], &[2], &[2, 2], &[1, 2, 3], &[0, 3], &HUGE] {
        refused(b.sum_to(&x, shape), Shape, &["sum", "[2, 3]", &format!("{shape:?}")]);
    }
}

pub fn of_reductions<B: Backend>(lab: &Lab<B>) {
    let (b, x, empty) = (&lab.backend, lab.some(&[2, 3]), lab.some(&[2, 0, 3]));
    for (kind, name) in Reduction::ALL.into_iter().zip(["max", "min", "prod"]) {
        refused(b.reduce(kind, &x, &[2]), Value, &[name, "axis 2", "[2, 3]"]);
        refused(b.reduce(kind, &x, &[0, 1, 0]), Value, &[name, "axis 0 is named twice"]);
        if kind != Reduction::Prod {
            refused(b.reduce(kind, &empty, &[1]), Value, &[name, "0 values", "[2, 0, 3]"]);
            refused(b.reduce(kind, &empty, &[0, 1, 2]), Value, &[name, "0 values", "[2, 0, 3]"]);
        }
    }
    refused(b.argmax(&x, 2), Value, &["argmax", "axis 2", "[2, 3]"]);
    refused(b.argmax(&empty, 1), Value, &["argmax", "0 values", "[2, 0, 3]"]);
    refused(b.argmax(&lab.some(&[]), 0), Value, &["argmax", "axis 0"]);
    refused(b.cumsum(&x, 2, false), Value, &["cumsum", "axis 2", "[2, 3]"]);
    refused(b.softmax(&x, 2), Value, &["softmax", "axis 2", "[2, 3]"]);
    refused(b.log_softmax(&lab.some(&[]), 0), Value, &["log_softmax", "axis 0"]);
    refused(b.softmax_grad(&x, &x, 2), Value, &["softmax_grad", "axis 2"]);
    refused(b.log_softmax_grad(&x, &x, 2), Value, &["log_softmax_grad", "axis 2"]);
    for g in [&lab.some(&[3]), &lab.some(&[3, 2])] {
        refused(b.softmax_grad(&x, g, 1), Shape, &["softmax_grad", "the gradient", "[2, 3]"]);
        refused(b.log_softmax_grad(&x, g, 1), Shape, &["log_softmax_grad", "the gradient", "[2, 3]"]);
    }
}

pub fn of_products<B: Backend>(lab: &Lab<B>) {
    let (b, x) = (&lab.backend, lab.some(&[2, 3]));
    refused(b.matmul(&x, false, &x, false), Shape, &["matmul", "lengths 3 and 2"]);
    refused(b.matmul(&x, true, &x, true), Shape, &["matmul", "lengths 2 and 3"]);
    refused(b.matmul(&lab.some(&[3]), false, &x, true), Shape, &["matmul", "two axes"]);
    refused(b.matmul(&lab.some(&[2, 2, 3]), false, &lab.some(&[3, 3, 2]), false), Shape, &["matmul", "axis 0"]);
    let [tall, wide] = [lab.some(&[LONG, 0]), lab.some(&[0, LONG])];
    refused(b.matmul(&tall, false, &wide, false), Value, &["matmul", "memory"]);
    for shape in [&[][..], &[0], &[3, 0]] {
        refused(b.rfft(&lab.some(shape)), Value, &["rfft", &format!("{shape:?}")]);
    }
    refused(b.irfft(&lab.some(&[2, 3, 5]), 10), Shape, &["irfft", "axis 2", "[2, 3, 6]"]);
    refused(b.irfft(&lab.some(&[2, 1]), 0), Shape, &["irfft", "at least 1"]);
    for shape in [&[][..], &[2], &[3, 5], &[1, 5]] {
        refused(b.irfft(&lab.some(shape), 8), Shape, &["irfft", &format!("{shape:?}"), "planar"]);
    }
}

pub fn of_layout<B: Backend>(lab: &Lab<B>) {
    let (b, x) = (&lab.backend, lab.some(&[2, 5]));
    for axes in [&[0, 5][..], &[0, 0], &[0], &[0, 1, 2], &[]] {
        refused(b.permute(&x, axes), Value, &["permute", &format!("{axes:?}"), "[2, 5]"]);
    }
    for (axis, start, len) in [(1, 2, 5), (2, 0, 1), (1, 0, 0), (1, 5, 1), (1, usize::MAX, 2), (0, 0, usize::MAX)] {
        refused(b.slice(&x, axis, start, len), Value, &["slice", "[2, 5]"]);
    }
    refused(b.flip(&x, 2), Value, &["flip", "axis 2", "[2, 5]"]);
    refused(b.flip(&lab.some(&[]), 0), Value, &["flip", "axis 0"]);
    refused(b.concat(&[], 0), Value, &["concat", "at least one part"]);
    refused(b.concat(&[&x], 2), Value, &["concat", "axis 2"]);
    refused(b.concat(&[&lab.some(&[2, 3]), &lab.some(&[4, 1])], 1), Shape, &["concat", "axis 0", "[2, 3]", "[4, 1]"]);
    refused(b.concat(&[&x, &lab.some(&[2])], 0), Shape, &["concat", "parts 0 and 1"]);
}

pub fn of_indices<B: Backend>(lab: &Lab<B>) {
    let (b, x) = (&lab.backend, lab.some(&[2, 5]));
    refused(b.index_select(&x, 2, &[0]), Value, &["index_select", "axis 2", "[2, 5]"]);
    refused(b.index_select(&lab.some(&[]), 0, &[0]), Value, &["index_select", "axis 0"]);
    refused(b.index_select(&x, 1, &[]), Value, &["index_select", "at least one"]);
    refused(b.index_select(&x, 1, &[4, 5, 0]), Value, &["index_select", "index 5 at position 1", "5 entries"]);
    refused(b.index_select(&lab.some(&[0, 5]), 0, &[0]), Value, &["index_select", "index 0 at position 0", "0 entries"]);
    refused(b.index_add(&x, 2, &[0], 3), Value, &["index_add", "axis 2", "[2, 5]"]);
    refused(b.index_add(&x, 0, &[0], 3), Shape, &["index_add", "axis 0", "[2, 5]", "[1]"]);
    refused(b.index_add(&x, 0, &[0, 3], 3), Value, &["index_add", "index 3 at position 1", "3 entries"]);
    refused(b.index_add(&x, 0, &[0, 0], 0), Value, &["index_add", "0 entries"]);
    refused(b.index_add(&lab.some(&[0, 5]), 0, &[], 3), Value, &["index_add", "at least one"]);
    refused(b.index_add(&x, 0, &[0, 0], usize::MAX), Value, &["index_add", "memory"]);
}

pub fn of_scans<B: Backend>(lab: &Lab<B>) {
    let (backend, b, planar) = (&lab.backend, lab.some(&[3, 5]), lab.some(&[2, 3, 5]));
    let some = |shape: &[usize]| lab.some(shape);
    // a, b, an initial state, whether complex; what is wrong.
    let wrong = [
        (some(&[4]), b.clone(), None, false, Shape, "[4]"),
        (some(&[2, 1]), b.clone(), None, false, Shape, "[2, 1]"),
        (some(&[1, 3, 5]), b.clone(), None, false, Shape, "[1, 3, 5]"),
        (some(&[]), some(&[]), None, false, Value, "axis of time"),
        (some(&[]), some(&[3, 0]), None, false, Value, "[3, 0]"),
        (some(&[0]), b.clone(), None, false, Shape, "[0]"),
        (some(&[]), b.clone(), Some(some(&[3, 1])), false, Shape, "the initial state"),
        (some(&[]), b.clone(), Some(some(&[])), false, Shape, "the initial state"),
        (some(&[2, 5]), b.clone(), None, true, Value, "b has shape [3, 5]"),
        (some(&[5]), planar.clone(), None, true, Value, "a has shape [5]"),
        (some(&[2, 2, 5]), planar.clone(), None, true, Shape, "[2, 5]"),
        (some(&[2]), some(&[2]), None, true, Value, "axis of time"),
        (some(&[2]), planar.clone(), Some(some(&[3])), true, Shape, "the initial state"),
    ];
    for (a, b, initial, complex, kind, part) in &wrong {
        for reverse in [false, true] {
            let scan = LinearScan { a, b, initial: initial.as_ref(), complex: *complex, reverse };
            refused(backend.scan(scan), *kind, &["scan", *part]);
            refused(backend.scan_grad(scan, b, b, [true; 3]), *kind, &["scan_grad", *part]);
        }
    }
    let a = some(&[]);
    let scan = LinearScan { a: &a, b: &b, initial: None, complex: false, reverse: false };
    refused(backend.scan_grad(scan, &a, &b, [true; 3]), Shape, &["scan_grad", "the states"]);
    refused(backend.scan_grad(scan, &b, &planar, [true; 3]), Shape, &["scan_grad", "the gradient"]);
}

pub fn of_embeddings<B: Backend>(lab: &Lab<B>) {
    let (b, table) = (&lab.backend, lab.some(&[2, 4]));
    refused(b.embed(&table, &[0, 1, 1, 0, 7, 0], 2), Value, &["embed", "token 7 at position 1 of sequence 1", "vocabulary of 2"]);
    for (tokens, batch) in [(&[0u32, 1, 1][..], 2), (&[0], 0), (&[], 1), (&[], 0)] {
        refused(b.embed(&table, tokens, batch), Value, &["embed", "sequences of one length"]);
    }
    refused(b.embed(&lab.some(&[5]), &[0], 1), Value, &["embed", "vocabulary, features"]);
    refused(b.embed(&lab.some(&[5, 0]), &[0], 1), Value, &["embed", "[5, 0]"]);
    let g = lab.some(&[1, 4, 3]);
    refused(b.embed_grad(2, &[0, 1, 2], &g), Value, &["embed_grad", "token 2 at position 2"]);
    refused(b.embed_grad(0, &[0, 0, 0], &g), Value, &["embed_grad", "vocabulary of 0"]);
    refused(b.embed_grad(2, &[0, 1], &g), Shape, &["embed_grad", "one token"]);
    refused(b.embed_grad(2, &[], &lab.some(&[0, 4, 3])), Value, &["embed_grad", "[0, 4, 3]"]);
    refused(b.embed_grad(2, &[0, 1, 1], &lab.some(&[4, 3])), Value, &["embed_grad", "[4, 3]"]);
}

pub fn of_random<B: Backend>(lab: &Lab<B>) {
    let (b, key) = (&lab.backend, Key::new(1));
    for shape in [&HUGE[..], &EMPTY_AND_HUGE] {
        refused(b.uniform(key, shape), Value, &["uniform", "memory"]);
        refused(b.normal(key, shape), Value, &["normal", "memory"]);
        refused(b.draw_uniform(key.into(), shape), Value, &["draw_uniform", "memory"]);
    }
    for sides in [0, 2] {
        refused(b.draw_uniform(sided(sides), &[3, 1, 4]), Value, &["draw_uniform", "batch of 3", "sides"]);
    }
}

/// A draw for samples of so many sides.
fn sided(sides: usize) -> Draw {
    Draw::new(Key::new(1)).with_samples(Samples { first: 0, sides })
}

pub fn of_normalization<B: Backend>(lab: &Lab<B>) {
    let (b, x, h) = (&lab.backend, lab.some(&[2, 3, 4]), lab.some(&[3]));
    let wrong = lab.some(&[2]);
    refused(b.affine(&x, &wrong, &h), Shape, &["affine", "axis 1", "[2, 3, 4]", "[2]"]);
    refused(b.affine(&x, &h, &wrong), Shape, &["affine", "[3]"]);
    refused(b.affine(&x, &lab.some(&[3, 1]), &h), Shape, &["affine", "[3, 1]"]);
    refused(b.affine(&h, &h, &h), Shape, &["affine", "(batch, channels)"]);
    refused(b.affine(&lab.some(&[2, 3, 0]), &h, &h), Value, &["affine", "[2, 3, 0]"]);
    refused(b.affine_grad(&x, &wrong, &x, [true; 3]), Shape, &["affine_grad", "[2]"]);
    refused(b.affine_grad(&x, &h, &h, [true; 3]), Shape, &["affine_grad", "the gradient"]);
    let (moments, off) = (lab.some(&[2, 3]), lab.some(&[3, 2]));
    for shape in [&[2, 3][..], &[2, 0, 4], &[0, 3, 4]] {
        refused(b.moments(&lab.some(shape)), Value, &["moments", &format!("{shape:?}")]);
    }
    refused(b.moments_grad(&h, &moments, &moments), Value, &["moments_grad", "[3]"]);
    refused(b.moments_grad(&x, &off, &moments), Shape, &["moments_grad", "the moments"]);
    refused(b.moments_grad(&x, &moments, &off), Shape, &["moments_grad", "the gradient"]);
    refused(b.add_moments_grad(&x, &moments, &moments, off.clone()), Shape, &["add_moments_grad", "the gradient so far"]);
    for (axes, name) in NormAxes::ALL.into_iter().zip(["batch_norm", "layer_norm"]) {
        let mean = if axes == NormAxes::Batch { lab.some(&[3]) } else { lab.some(&[2, 4]) };
        refused(b.normalize(axes, &x, &wrong, &h, 1e-5), Shape, &[name, "gamma"]);
        refused(b.normalize(axes, &x, &h, &wrong, 1e-5), Shape, &[name, "beta"]);
        refused(b.normalize(axes, &moments, &h, &h, 1e-5), Value, &[name, "[2, 3]"]);
        refused(b.normalize(axes, &lab.some(&[2, 3, 0]), &h, &h, 1e-5), Value, &[name, "[2, 3, 0]"]);
        for eps in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            refused(b.normalize(axes, &x, &h, &h, eps), Config, &["eps", "positive"]);
            refused(b.normalize_grad(axes, &x, &h, (&mean, &mean), eps, &x), Config, &["eps", "positive"]);
        }
        refused(b.normalize_grad(axes, &x, &wrong, (&mean, &mean), 1e-5, &x), Shape, &[name, "gamma"]);
        refused(b.normalize_grad(axes, &x, &h, (&wrong, &mean), 1e-5, &x), Shape, &[name, "the mean"]);
        refused(b.normalize_grad(axes, &x, &h, (&mean, &wrong), 1e-5, &x), Shape, &[name, "the variance"]);
        refused(b.normalize_grad(axes, &x, &h, (&mean, &mean), 1e-5, &h), Shape, &[name, "the gradient"]);
    }
}

/// Spikes by a draw.
fn streamed<B: Backend>(draw: Draw) -> Spike<Tensor<B>> {
    Spike { noise: Noise::Stream(draw), mode: SpikeMode::Sampled, surrogate: Surrogate::Clamp }
}

pub fn of_spiking<B: Backend>(lab: &Lab<B>) {
    let (b, x, h, g) = (&lab.backend, lab.some(&[3, 2, 4]), lab.some(&[2]), lab.some(&[4]));
    // A wrong draw or potential, what is wrong with it, and of what kind the error is.
    let given = Spike { noise: Noise::Given(g.clone()), ..streamed(sided(1)) };
    let mut wrong = vec![(given, x.clone(), Shape, "given noise")];
    wrong.extend([0, 2].map(|sides| (streamed(sided(sides)), x.clone(), Value, "sides")));
    wrong.extend([&[3, 2, 0][..], &[0, 2, 4], &[0]].map(|shape| (streamed(sided(1)), lab.some(shape), Value, "at least 1")));
    for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        for surrogate in Surrogate::ALL.map(|surrogate| surrogate.with_alpha(alpha)) {
            if surrogate != Surrogate::Clamp {
                wrong.push((Spike { surrogate, ..streamed(sided(1)) }, x.clone(), Config, "alpha"));
            }
        }
    }
    for (spike, x, kind, part) in &wrong {
        let named = |name: &'static str| if *kind == Config { [*part, "positive"] } else { [name, *part] };
        refused(b.sample(spike, x), *kind, &named("sample"));
        refused(b.sample_grad(spike, x, x), *kind, &named("sample_grad"));
        refused(b.spike(spike, x, None), *kind, &named("spike"));
        refused(b.spike_grad(spike, x, None, x, [true; 3]), *kind, &named("spike_grad"));
    }
    let good = streamed(sided(1));
    refused(b.spike(&good, &lab.some(&[3, 2, 0]), Some((&h, &h))), Value, &["spike", "[3, 2, 0]"]);
    for (scale, shift) in [(&g, &h), (&h, &g)] {
        refused(b.spike(&good, &x, Some((scale, shift))), Shape, &["spike", "one number a channel"]);
        refused(b.spike_grad(&good, &x, Some((scale, shift)), &x, [true; 3]), Shape, &["spike_grad", "one number a channel"]);
    }
    refused(b.spike(&good, &h, Some((&h, &h))), Shape, &["spike", "(batch, channels)"]);
    refused(b.sample_grad(&good, &x, &h), Shape, &["sample_grad", "the gradient"]);
    refused(b.spike_grad(&good, &x, None, &h, [true; 3]), Shape, &["spike_grad", "the gradient"]);
    refused(b.spike_grad(&good, &x, Some((&h, &h)), &h, [true; 3]), Shape, &["spike_grad", "the gradient"]);
    let onto = |earlier: &Tensor<B>, wanted| b.spike_grad_onto(&good, &x, None, (x.clone(), Some(earlier.clone())), [wanted; 3]);
    for wanted in [true, false] {
        refused(onto(&h, wanted), Shape, &["spike_grad", "the gradient so far"]);
    }
}

pub fn of_lif<B: Backend>(lab: &Lab<B>) {
    let (b, x) = (&lab.backend, lab.some(&[3, 4]));
    let good = Lif { decay: 0.5, threshold: 1.0, soft_reset: false, surrogate: Surrogate::Clamp };
    let wrong = [
        (Lif { decay: 1.5, ..good }, "decay"),
        (Lif { decay: -0.1, ..good }, "decay"),
        (Lif { decay: f64::NAN, ..good }, "decay"),
        (Lif { threshold: f64::INFINITY, ..good }, "threshold"),
        (Lif { surrogate: Surrogate::Atan { alpha: 0.0 }, ..good }, "alpha"),
    ];
    for (lif, name) in &wrong {
        refused(b.lif(lif, &x), Config, &[*name]);
        refused(b.lif_grad(lif, &x, &x), Config, &[*name]);
    }
    for shape in [&[][..], &[3, 0]] {
        refused(b.lif(&good, &lab.some(shape)), Value, &["lif", "at least one step"]);
    }
    refused(b.lif_grad(&good, &x, &lab.some(&[4, 3])), Shape, &["lif_grad", "the gradient"]);
}

pub fn of_plif<B: Backend>(lab: &Lab<B>) {
    let (b, x, h) = (&lab.backend, lab.some(&[2, 3, 4]), lab.some(&[3]));
    let good = Plif { soft_reset: true, adaptation: None, surrogate: Surrogate::Clamp };
    let adapting = |strength, fading| Plif { adaptation: Some(Adaptation { strength, fading }), ..good };
    let wrong = [
        (adapting(0.5, 1.5), "fading"),
        (adapting(0.5, f64::NAN), "fading"),
        (adapting(f64::INFINITY, 0.5), "strength"),
        (Plif { surrogate: Surrogate::Atan { alpha: 0.0 }, ..good }, "alpha"),
    ];
    for (plif, name) in &wrong {
        refused(b.plif(plif, &x, &h, &h), Config, &[*name]);
        refused(b.plif_grad(plif, &x, &h, &h, &x, [true; 3]), Config, &[*name]);
    }
    for shape in [&[][..], &[3], &[2, 3]] {
        refused(b.plif(&good, &lab.some(shape), &h, &h), Value, &["plif", "(batch, channels, length)"]);
    }
    refused(b.plif(&good, &lab.some(&[2, 3, 0]), &h, &h), Value, &["plif", "at least 1"]);
    for (decay, threshold, what) in [(&x, &h, "the decays"), (&h, &lab.some(&[4]), "the thresholds")] {
        refused(b.plif(&good, &x, decay, threshold), Shape, &["plif", what]);
        refused(b.plif_grad(&good, &x, decay, threshold, &x, [true; 3]), Shape, &["plif_grad", what]);
    }
    refused(b.plif_grad(&good, &x, &h, &h, &h, [true; 3]), Shape, &["plif_grad", "the gradient"]);
}

pub fn of_long_convolutions<B: Backend>(lab: &Lab<B>) {
    let (b, u, k, d) = (&lab.backend, lab.some(&[2, 3, 5]), lab.some(&[2, 3, 4]), lab.some(&[3]));
    let good = LongConv { input: &u, kernel: &k, skip: Some(&d), lengths: None };
    let [flat, empty, three, other, none] = [&[3, 5][..], &[2, 3, 0], &[3, 3, 4], &[2, 4, 4], &[2, 3, 0]].map(|shape| lab.some(shape));
    let short = lab.some(&[2]);
    let wrong = [
        (LongConv { input: &flat, ..good }, Value, "3 axes"),
        (LongConv { input: &empty, ..good }, Value, "at least 1"),
        (LongConv { kernel: &flat, ..good }, Value, "the kernel"),
        (LongConv { kernel: &three, ..good }, Shape, "one kernel"),
        (LongConv { kernel: &other, ..good }, Shape, "as many channels"),
        (LongConv { kernel: &none, ..good }, Value, "empty"),
        (LongConv { skip: Some(&short), ..good }, Shape, "D"),
        (LongConv { lengths: Some(&[5]), ..good }, Shape, "true length"),
        (LongConv { lengths: Some(&[5, 0]), ..good }, Value, "length 0 of sequence 1"),
        (LongConv { lengths: Some(&[6, 1]), ..good }, Value, "length 6 of sequence 0"),
    ];
    let (draw, g) = (streamed(sided(1)), lab.some(&[2, 3, 4]));
    let firing = Firing { activation: Some(Unary::Gelu), dropout: None, affine: None, spike: draw.as_ref() };
    for (conv, kind, part) in wrong {
        refused(b.long_conv(conv), kind, &["long_conv", part]);
        refused(b.long_conv_grad(conv, &u, [true; 3]), kind, &["long_conv", part]);
        refused(b.fire(conv, firing), kind, &["long_conv", part]);
        refused(b.fire_grad(conv, firing, &u, [true; 5]), kind, &["long_conv", part]);
    }
    refused(b.long_conv_grad(good, &g, [true; 3]), Shape, &["long_conv_grad", "the gradient"]);
    refused(b.fire_grad(good, firing, &g, [true; 5]), Shape, &["fire_grad", "the gradient"]);
}

pub fn of_firings<B: Backend>(lab: &Lab<B>) {
    let (b, u, k, d) = (&lab.backend, lab.some(&[3, 2, 5]), lab.some(&[1, 2, 4]), lab.some(&[2]));
    let conv = LongConv { input: &u, kernel: &k, skip: Some(&d), lengths: None };
    let (draw, short) = (streamed(sided(1)), lab.some(&[3]));
    let good = Firing { activation: None, dropout: None, affine: None, spike: draw.as_ref() };
    let dropout = |p, elements, channels| Some(FiringDropout { p, elements: sided(elements), channels: sided(channels) });
    let mut wrong = vec![
        (Firing { affine: Some((&d, &short)), ..good }, Shape, "one number a channel"),
        (Firing { affine: Some((&short, &d)), ..good }, Shape, "one number a channel"),
        (Firing { dropout: dropout(0.5, 2, 1), ..good }, Value, "sides"),
        (Firing { dropout: dropout(0.5, 1, 0), ..good }, Value, "sides"),
        (Firing { spike: Spike { noise: Noise::Given(&d), ..good.spike }, ..good }, Shape, "given noise"),
        (Firing { spike: Spike { noise: Noise::Stream(sided(2)), ..good.spike }, ..good }, Value, "sides"),
        (Firing { spike: Spike { surrogate: Surrogate::Sigmoid { alpha: 0.0 }, ..good.spike }, ..good }, Config, "alpha"),
    ];
    wrong.extend([0.0, 1.0, -0.5, 1.5, f64::NAN].map(|p| (Firing { dropout: dropout(p, 1, 1), ..good }, Config, "dropout")));
    for (firing, kind, part) in wrong {
        let named = |name: &'static str| if kind == Config { [part, part] } else { [name, part] };
        refused(b.fire(conv, firing), kind, &named("fire"));
        refused(b.fire_grad(conv, firing, &u, [true; 5]), kind, &named("fire_grad"));
    }
}

pub fn of_mixing<B: Backend>(lab: &Lab<B>) {
    let (b, x, y) = (&lab.backend, lab.some(&[3, 2, 4]), lab.some(&[3, 1, 4]));
    let (weight, bias, parts) = (lab.some(&[5, 3]), lab.some(&[5]), [&x, &y]);
    let good = Mixing { parts: &parts, weight: &weight, bias: &bias, activation: None, dropout: None, residual: None };
    let [longer, flat, wide, rows, five] = [&[3, 2, 5][..], &[3, 2], &[5, 4], &[0, 3], &[3, 5, 5]].map(|shape| lab.some(shape));
    let (uneven, ranks) = ([&x, &longer], [&x, &flat]);
    let mut wrong = vec![
        (Mixing { parts: &[], ..good }, Value, "at least one part"),
        (Mixing { parts: &uneven, ..good }, Shape, "parts 0 and 1"),
        (Mixing { parts: &ranks, ..good }, Value, "part 1"),
        (Mixing { weight: &wide, ..good }, Shape, "[5, 3]"),
        (Mixing { weight: &bias, ..good }, Value, "the weight"),
        (Mixing { weight: &rows, ..good }, Value, "no rows"),
        (Mixing { bias: &x, ..good }, Shape, "the bias"),
        (Mixing { residual: Some(&five), ..good }, Shape, "the residual"),
        (Mixing { activation: Some(Unary::Clamp(1.0, 0.0)), ..good }, Config, "clamp"),
        (Mixing { dropout: Some((0.5, sided(2))), ..good }, Value, "sides"),
    ];
    wrong.extend([0.0, 1.0, f64::NAN].map(|p| (Mixing { dropout: Some((p, sided(1))), ..good }, Config, "dropout")));
    let (g, needs) = (lab.some(&[3, 5, 4]), [true; 4]);
    for (mixing, kind, part) in wrong {
        let named = if kind == Config { [part, part] } else { ["mix", part] };
        refused(b.mix(mixing), kind, &named);
        refused(b.mix_grad(mixing, &g, &needs), kind, &named);
    }
    refused(b.mix_grad(good, &x, &needs), Shape, &["mix_grad", "the gradient"]);
    refused(b.mix_grad(good, &g, &needs[..3]), Shape, &["mix_grad", "needs"]);
}

pub fn of_kernels<B: Backend>(lab: &Lab<B>) {
    let b = &lab.backend;
    // H = 4, S = 2, M = 3, c = 2, R = 1.
    let some = |shape: &[usize]| lab.some(shape);
    let [inv_dt, a_real, a_imag] = [some(&[4]), some(&[2, 3]), some(&[2, 3])];
    let [of_b, of_c, of_p] = [some(&[2, 2, 3]), some(&[2, 2, 4, 3]), some(&[2, 1, 2, 3])];
    let diag = SsmParams { inv_dt, a_real, a_imag, b: of_b, c: of_c, p: None, dt: DtTransform::Exp };
    let dplr = SsmParams { p: Some(of_p), ..diag.clone() };
    let wrong = |good: &SsmParams<Tensor<B>>| {
        [
            (SsmParams { inv_dt: some(&[2, 2]), ..good.clone() }, Value, "inv_dt"),
            (SsmParams { inv_dt: some(&[3]), ..good.clone() }, Config, "n_ssm"),
            (SsmParams { a_real: some(&[2]), ..good.clone() }, Value, "A_real"),
            (SsmParams { a_imag: some(&[3, 2]), ..good.clone() }, Shape, "A_imag"),
            (SsmParams { b: some(&[2, 2, 4]), ..good.clone() }, Shape, "B"),
            (SsmParams { c: some(&[2, 3, 4, 3]), ..good.clone() }, Shape, "one kernel"),
            (SsmParams { c: some(&[2, 2, 2, 3]), ..good.clone() }, Shape, "C"),
        ]
    };
    let g = some(&[2, 4, 5]);
    let named = |name: &'static str, kind, part: &'static str| if kind == Config { [part, part] } else { [name, part] };
    for disc in Discretization::ALL {
        for (ssm, kind, part) in wrong(&diag) {
            refused(b.diag_kernel(&ssm, disc, 5), kind, &named("diag_kernel", kind, part));
            refused(b.diag_kernel_grad(&ssm, disc, &g), kind, &named("diag_kernel_grad", kind, part));
        }
        refused(b.diag_kernel(&dplr, disc, 5), Value, &["diag_kernel", "no P"]);
        refused(b.diag_kernel_grad(&dplr, disc, &g), Value, &["diag_kernel_grad", "no P"]);
        refused(b.diag_kernel(&diag, disc, 0), Value, &["diag_kernel", "at least one entry"]);
        refused(b.diag_kernel(&diag, disc, usize::MAX), Value, &["diag_kernel", "memory"]);
        refused(b.diag_kernel_grad(&diag, disc, &some(&[1, 4, 5])), Shape, &["diag_kernel_grad", "the gradient"]);
        refused(b.diag_kernel_grad(&diag, disc, &some(&[2, 4])), Value, &["diag_kernel_grad", "the gradient"]);
    }
    for (ssm, kind, part) in wrong(&dplr) {
        refused(b.dplr_kernel(&ssm, 8, 5), kind, &named("dplr_kernel", kind, part));
        refused(b.dplr_kernel_grad(&ssm, 8, &g), kind, &named("dplr_kernel_grad", kind, part));
    }
    let rank = |rank| SsmParams { p: Some(some(&[2, rank, 2, 3])), ..diag.clone() };
    refused(b.dplr_kernel(&rank(3), 8, 5), Shape, &["dplr_kernel", "rank 1 or 2"]);
    refused(b.dplr_kernel(&diag, 8, 5), Value, &["dplr_kernel", "P is missing"]);
    refused(b.dplr_kernel_grad(&diag, 8, &g), Value, &["dplr_kernel_grad", "P is missing"]);
    for (len, take) in [(0, 0), (0, 1), (8, 0)] {
        refused(b.dplr_kernel(&dplr, len, take), Value, &["dplr_kernel", "at least one entry"]);
    }
    refused(b.dplr_kernel(&dplr, 8, 9), Config, &["take", "9", "length 8"]);
    refused(b.dplr_kernel(&dplr, usize::MAX, 1), Value, &["dplr_kernel", "memory"]);
    refused(b.dplr_kernel_grad(&dplr, 4, &g), Config, &["take", "5", "length 4"]);
    refused(b.dplr_kernel_grad(&dplr, 8, &some(&[2, 3, 5])), Shape, &["dplr_kernel_grad", "the gradient"]);
}

pub fn of_learning<B: Backend>(lab: &Lab<B>) {
    let (b, logits, g) = (&lab.backend, lab.some(&[2, 3]), lab.some(&[]));
    let wrong = [
        (logits.clone(), &[0, 3][..], Value, "label 3 of sample 1 is not one of 3 classes"),
        (logits.clone(), &[0], Shape, "the labels"),
        (lab.some(&[0, 3]), &[], Value, "empty"),
        (lab.some(&[1, 0]), &[0], Value, "0 classes"),
        (lab.some(&[3]), &[0], Value, "batch, classes"),
    ];
    for (logits, labels, kind, part) in &wrong {
        refused(b.cross_entropy(logits, labels), *kind, &["cross_entropy", *part]);
        refused(b.cross_entropy_grad(logits, labels, &g), *kind, &["cross_entropy_grad", *part]);
    }
    refused(b.cross_entropy_grad(&logits, &[0, 1], &logits), Shape, &["cross_entropy_grad", "the gradient"]);
    let good = AdamW { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.0, step: 1 };
    let wrong = [
        (AdamW { lr: f64::NAN, ..good }, "lr"),
        (AdamW { lr: -0.1, ..good }, "lr"),
        (AdamW { beta1: 1.0, ..good }, "beta1"),
        (AdamW { beta2: -0.1, ..good }, "beta2"),
        (AdamW { eps: -1.0, ..good }, "eps"),
        (AdamW { weight_decay: f64::INFINITY, ..good }, "weight_decay"),
        (AdamW { step: 0, ..good }, "step"),
    ];
    let (x, y) = (lab.some(&[2, 3]), lab.some(&[3]));
    for (step, name) in &wrong {
        refused(b.adamw(step, [&x; 3], &x), Config, &[*name]);
    }
    refused(b.adamw(&good, [&x; 3], &y), Shape, &["adamw", "the gradient"]);
    refused(b.adamw(&good, [&x, &y, &x], &x), Shape, &["adamw", "the first moment"]);
    refused(b.adamw(&good, [&x, &x, &y], &x), Shape, &["adamw", "the second moment"]);
    refused(b.adamw_together(&[(good, [&x; 3], &x), (good, [&x; 3], &y)]), Shape, &["adamw", "the gradient"]);
    refused(b.adamw_together(&[(good, [&x; 3], &x), (wrong[0].0, [&x; 3], &x)]), Config, &["lr"]);
}

/// Accepted exactly where it is allowed, and then of this shape.
fn accepted<B: Backend>(outcome: Result<Tensor<B>>, allowed: bool, shape: impl FnOnce() -> Vec<usize>) -> Result<(), TestCaseError> {
    match outcome {
        Ok(out) => {
            prop_assert!(allowed, "accepted, with the shape {:?}", out.shape());
            prop_assert_eq!(out.shape(), shape());
        }
        Err(error) => prop_assert!(!allowed, "refused: {}", error),
    }
    Ok(())
}

fn small_shape() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..4usize, 0..4)
}

pub fn moves_are_accepted_exactly_where_allowed<B: Backend>(lab: &Lab<B>) {
    let b = &lab.backend;
    let numbers = (prop::collection::vec(0..4usize, 0..4), 0..4usize, 0..5usize, 0..5usize);
    cases(256, 90, (small_shape(), numbers), |(shape, (axes, axis, start, len))| {
        let x = lab.put(&Array::zeros(&shape))?;
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        let order = sorted.iter().copied().eq(0..shape.len());
        accepted(b.permute(&x, &axes), order, || axes.iter().map(|&axis| shape[axis]).collect())?;
        let exists = axis < shape.len();
        accepted(b.flip(&x, axis), exists, || shape.clone())?;
        let within = exists && len > 0 && start + len <= shape[axis];
        accepted(b.slice(&x, axis, start, len), within, || {
            shape.iter().enumerate().map(|(i, &own)| if i == axis { len } else { own }).collect()
        })
    });
}

pub fn parts_are_joined_exactly_where_allowed<B: Backend>(lab: &Lab<B>) {
    // Parts of one rank that differ in few axes, and now and then in rank.
    let part = || prop::collection::vec(prop_oneof![4 => Just(2usize), 1 => 0..3usize], 2..4);
    let parts = prop::collection::vec(part(), 0..4);
    cases(256, 91, (parts, 0..4usize), |(shapes, axis)| {
        let parts: Vec<Tensor<B>> = shapes.iter().map(|shape| lab.put(&Array::zeros(shape))).collect::<Result<_, _>>()?;
        let without = |shape: &[usize]| shape.iter().enumerate().filter(|&(i, _)| i != axis).map(|(_, &len)| len).collect::<Vec<_>>();
        let fit = |shape: &Vec<usize>| axis < shape.len() && without(shape) == without(&shapes[0]);
        let allowed = !shapes.is_empty() && shapes.iter().all(fit);
        accepted(lab.backend.concat(&parts.iter().collect::<Vec<_>>(), axis), allowed, || {
            let mut joint = shapes[0].clone();
            joint[axis] = shapes.iter().map(|shape| shape[axis]).sum();
            joint
        })
    });
}

pub fn shapes_broadcast_exactly_where_allowed<B: Backend>(lab: &Lab<B>) {
    let shape = || prop::collection::vec(prop_oneof![2 => Just(1usize), 2 => Just(3usize), 1 => 0..4usize], 0..4);
    cases(256, 92, (shape(), shape()), |(left, right)| {
        let (x, y) = (lab.put(&Array::zeros(&left))?, lab.put(&Array::zeros(&right))?);
        // The length of the axis that stands `back` from the end; one that is not there is 1.
        let length = |shape: &[usize], back: usize| shape.len().checked_sub(back + 1).map_or(1, |i| shape[i]);
        let rank = left.len().max(right.len());
        let pairs: Vec<[usize; 2]> = (0..rank).rev().map(|back| [length(&left, back), length(&right, back)]).collect();
        let allowed = pairs.iter().all(|&[l, r]| l == r || l == 1 || r == 1);
        let joint = || pairs.iter().map(|&[l, r]| if l == 1 { r } else { l }).collect::<Vec<usize>>();
        for f in Binary::ALL {
            accepted(lab.backend.binary(f, &x, &y), allowed, joint)?;
        }
        let summed = right.len() <= left.len() && pairs.iter().all(|&[l, r]| l == r || r == 1);
        accepted(lab.backend.sum_to(&x, &right), summed, || right.clone())
    });
}

/// What is good next to all these is accepted: none of them was refused for another reason.
pub fn good_calls_are_accepted<B: Backend>(lab: &Lab<B>) {
    once(|| {
        let (b, u, k, d) = (&lab.backend, lab.some(&[3, 2, 5]), lab.some(&[1, 2, 4]), lab.some(&[2]));
        let conv = LongConv { input: &u, kernel: &k, skip: Some(&d), lengths: Some(&[5, 1, 3]) };
        let draw = streamed(sided(3));
        let dropout = Some(FiringDropout { p: 0.5, elements: sided(3), channels: sided(1) });
        let firing = Firing { activation: Some(Unary::Gelu), dropout, affine: Some((&d, &d)), spike: draw.as_ref() };
        b.fire_grad(conv, firing, &b.fire(conv, firing)?, [true; 5])?;
        let (weight, bias) = (lab.some(&[5, 4]), lab.some(&[5]));
        let (residual, parts, activation) = (lab.some(&[3, 5, 5]), [&u, &u], Some(Unary::Clamp(0.5, 0.5)));
        let dropout = Some((0.5, sided(3)));
        let mixing = Mixing { parts: &parts, weight: &weight, bias: &bias, activation, dropout, residual: Some(&residual) };
        b.mix_grad(mixing, &b.mix(mixing)?, &[true; 4])?;
        Ok(())
    });
}
