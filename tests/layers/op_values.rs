//! Every op against PyTorch in float64: values and gradients, by the fixture that `benches/peer/op_values.py` writes.

use std::collections::BTreeSet;

use crate::common::fixture;
use pspikessm::autodiff::{Conv, Generate, Pool, Tape, Var, gradcheck};
use pspikessm::backend::*;
use pspikessm::nn::{CrossEntropy, bce_with_logits, huber_loss, l1_loss, mse_loss};
use pspikessm::{Error, Result};
use serde_json::Value;

type V = Var<Cpu<f64>>;
type OverAxes = fn(&V, &[usize]) -> Result<V>;

/// How far a number may be from PyTorch's, as a share of the largest one beside it: both round, in other orders.
const TOLERANCE: f64 = 1e-14;

/// The numbers beside a case's inputs.
struct Args<'a>(&'a Value);

impl Args<'_> {
    fn number(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap_or_else(|| panic!("{name} of {}", self.0))
    }

    fn whole(&self, name: &str) -> usize {
        self.0[name].as_u64().unwrap_or_else(|| panic!("{name} of {}", self.0)) as usize
    }

    fn wholes(&self, name: &str) -> Vec<usize> {
        self.0[name].as_array().unwrap_or_else(|| panic!("{name} of {}", self.0)).iter().map(|v| v.as_u64().unwrap() as usize).collect()
    }

    fn indices(&self, name: &str) -> Vec<u32> {
        self.wholes(name).iter().map(|&i| i as u32).collect()
    }

    fn flag(&self, name: &str) -> bool {
        self.0[name].as_bool().unwrap_or_else(|| panic!("{name} of {}", self.0))
    }
}

/// What the op of this name makes of its inputs.
fn apply(op: &str, args: &Args, v: &[V]) -> Result<V> {
    match (op, v) {
        ("neg", [x]) => x.neg(),
        ("exp", [x]) => x.exp(),
        ("ln", [x]) => x.ln(),
        ("sqrt", [x]) => x.sqrt(),
        ("recip", [x]) => x.recip(),
        ("square", [x]) => x.square(),
        ("tanh", [x]) => x.tanh(),
        ("sigmoid", [x]) => x.sigmoid(),
        ("softplus", [x]) => x.softplus(),
        ("relu", [x]) => x.relu(),
        ("gelu", [x]) => x.gelu(),
        ("sin", [x]) => x.sin(),
        ("cos", [x]) => x.cos(),
        ("tan", [x]) => x.tan(),
        ("abs", [x]) => x.abs(),
        ("sign", [x]) => x.sign(),
        ("floor", [x]) => x.floor(),
        ("ceil", [x]) => x.ceil(),
        ("round", [x]) => x.round(),
        ("log1p", [x]) => x.log1p(),
        ("expm1", [x]) => x.expm1(),
        ("rsqrt", [x]) => x.rsqrt(),
        ("erf", [x]) => x.erf(),
        ("silu", [x]) => x.silu(),
        ("powf", [x]) => x.powf(args.number("p")),
        ("powi", [x]) => x.powi(args.number("n") as i32),
        ("leaky_relu", [x]) => x.leaky_relu(args.number("slope")),
        ("elu", [x]) => x.elu(args.number("alpha")),
        ("clamp", [x]) => x.clamp(args.number("low"), args.number("high")),
        ("add", [x, y]) => x.add(y),
        ("sub", [x, y]) => x.sub(y),
        ("mul", [x, y]) => x.mul(y),
        ("div", [x, y]) => x.div(y),
        ("minimum", [x, y]) => x.minimum(y),
        ("maximum", [x, y]) => x.maximum(y),
        ("pow", [x, y]) => x.pow(y),
        ("atan2", [x, y]) => x.atan2(y),
        ("eq", [x, y]) => x.eq(y),
        ("ne", [x, y]) => x.ne(y),
        ("lt", [x, y]) => x.lt(y),
        ("le", [x, y]) => x.le(y),
        ("gt", [x, y]) => x.gt(y),
        ("ge", [x, y]) => x.ge(y),
        ("select", [mask, a, b]) => mask.select(a, b),
        ("masked_fill", [x, mask]) => x.masked_fill(mask, args.number("value")),
        ("argmax", [x]) => x.argmax(args.whole("axis")),
        ("argmin", [x]) => x.argmin(args.whole("axis")),
        ("cumsum", [x]) => x.cumsum(args.whole("axis")),
        ("softmax", [x]) => x.softmax(args.whole("axis")),
        ("log_softmax", [x]) => x.log_softmax(args.whole("axis")),
        _ if args.0.get("reduction").is_some() => loss(op, args, v),
        _ if args.0.get("stride").is_some() => windows(op, args, v),
        ("index_select", [x]) => x.index_select(args.whole("axis"), &args.indices("index")),
        ("gather", [x]) => x.gather(args.whole("axis"), &args.indices("index"), &args.wholes("shape")),
        ("scatter_add", [x, source]) => x.scatter_add(args.whole("axis"), &args.indices("index"), source),
        ("slice_step", [x]) => x.slice_step(args.whole("axis"), args.whole("start"), args.whole("len"), args.whole("step")),
        ("roll", [x]) => x.roll(args.whole("axis"), args.number("shift") as isize),
        ("expand", [x]) => x.expand(&args.wholes("shape")),
        ("repeat", [x]) => x.repeat(&args.wholes("counts")),
        ("pad", [x]) => x.pad(args.whole("axis"), args.whole("before"), args.whole("after"), args.number("value")),
        ("tril", [x]) => x.tril(args.number("diagonal") as isize),
        ("triu", [x]) => x.triu(args.number("diagonal") as isize),
        ("scan", [a, b]) => Var::scan(a, b, None),
        ("scan", [a, b, initial]) => Var::scan(a, b, Some(initial)),
        ("complex_scan", [a, b]) => Var::complex_scan(a, b, None),
        ("complex_scan", [a, b, initial]) => Var::complex_scan(a, b, Some(initial)),
        (_, [x]) => reduce(op, args, x),
        _ => panic!("no op {op} of {} inputs", v.len()),
    }
}

/// A convolution or a pooling.
fn windows(op: &str, args: &Args, v: &[V]) -> Result<V> {
    fn conv<const N: usize>(args: &Args) -> Conv<N> {
        let conv = Conv::new().stride(args.whole("stride")).padding(args.whole("padding"));
        conv.dilation(args.whole("dilation")).groups(args.whole("groups"))
    }
    fn pool<const N: usize>(args: &Args) -> Pool<N> {
        Pool::new(args.whole("kernel")).stride(args.whole("stride")).padding(args.whole("padding"))
    }
    match (op, v) {
        ("conv1d", [x, weight, bias @ ..]) => x.conv1d(weight, bias.first(), &conv(args)),
        ("conv2d", [x, weight, bias @ ..]) => x.conv2d(weight, bias.first(), &conv(args)),
        ("avg_pool1d", [x]) => x.avg_pool1d(&pool(args).count_padding(args.flag("count"))),
        ("avg_pool2d", [x]) => x.avg_pool2d(&pool(args).count_padding(args.flag("count"))),
        ("max_pool1d", [x]) => x.max_pool1d(&pool(args).dilation(args.whole("dilation"))),
        ("max_pool2d", [x]) => x.max_pool2d(&pool(args).dilation(args.whole("dilation"))),
        _ => panic!("no op {op} of {} inputs", v.len()),
    }
}

fn loss(op: &str, args: &Args, v: &[V]) -> Result<V> {
    let reduction = serde_json::from_value(args.0["reduction"].clone()).expect("a reduction");
    let entropy = || {
        let weights = args.0["weights"].as_array().map(|weights| weights.iter().map(|weight| weight.as_f64().unwrap()).collect::<Vec<_>>());
        CrossEntropy::new().smoothing(args.number("smoothing")).weights(weights).reduction(reduction)
    };
    match (op, v) {
        ("cross_entropy", [logits]) => {
            let ignored = args.0["ignored"].as_u64().map(|label| label as usize);
            entropy().ignored(ignored).forward(logits, &args.wholes("labels"))
        }
        ("cross_entropy_soft", [logits, targets]) => entropy().forward_soft(logits, targets),
        ("mse_loss", [x, y]) => mse_loss(x, y, reduction),
        ("l1_loss", [x, y]) => l1_loss(x, y, reduction),
        ("huber_loss", [x, y]) => huber_loss(x, y, args.number("delta"), reduction),
        ("bce_with_logits", [x, y, weight @ ..]) => bce_with_logits(x, y, weight.first(), reduction),
        _ => panic!("no loss {op} of {} inputs", v.len()),
    }
}

/// A reduction over axes, by each of the methods that have it.
fn reduce(op: &str, args: &Args, x: &V) -> Result<V> {
    let (axes, keep) = (args.wholes("axes"), args.flag("keep"));
    let all = !keep && axes.len() == x.shape().len();
    match (op, all, keep) {
        ("sum", true, _) => x.sum(),
        ("sum", _, true) => x.sum_keep(&axes),
        ("sum", ..) => x.sum_axes(&axes),
        ("mean", true, _) => x.mean(),
        ("mean", _, true) => x.mean_keep(&axes),
        ("mean", ..) => x.mean_axes(&axes),
        ("max", true, _) => x.max(),
        ("max", _, true) => x.max_keep(&axes),
        ("max", ..) => x.max_axes(&axes),
        ("min", true, _) => x.min(),
        ("min", _, true) => x.min_keep(&axes),
        ("min", ..) => x.min_axes(&axes),
        ("prod", true, _) => x.prod(),
        ("prod", _, true) => x.prod_keep(&axes),
        ("prod", ..) => x.prod_axes(&axes),
        ("logsumexp", true, _) => x.logsumexp(),
        ("logsumexp", _, true) => x.logsumexp_keep(&axes),
        ("logsumexp", ..) => x.logsumexp_axes(&axes),
        ("norm", true, _) => x.norm(),
        ("norm", _, true) => x.norm_keep(&axes),
        ("norm", ..) => x.norm_axes(&axes),
        ("var", true, _) => x.var(args.whole("correction")),
        ("var", _, true) => x.var_keep(&axes, args.whole("correction")),
        ("var", ..) => x.var_axes(&axes, args.whole("correction")),
        ("std", true, _) => x.std(args.whole("correction")),
        ("std", _, true) => x.std_keep(&axes, args.whole("correction")),
        ("std", ..) => x.std_axes(&axes, args.whole("correction")),
        _ => panic!("no op {op}"),
    }
}

/// {shape, data}, where a number may be a string: "nan", "inf", "-inf".
fn tensor(entry: &Value) -> Tensor<Cpu<f64>> {
    let list = |name: &str| entry[name].as_array().unwrap_or_else(|| panic!("{name} of {entry}"));
    let number = |v: &Value| v.as_f64().unwrap_or_else(|| v.as_str().and_then(|text| text.parse().ok()).expect("a number"));
    let shape: Vec<usize> = list("shape").iter().map(|v| v.as_u64().expect("a length") as usize).collect();
    Cpu::new().from_vec(list("data").iter().map(number).collect(), &shape).unwrap()
}

/// What differs between two tensors.
fn difference(got: &Tensor<Cpu<f64>>, want: &Tensor<Cpu<f64>>) -> Option<String> {
    if got.shape() != want.shape() {
        return Some(format!("the shape is {:?} and not {:?}", got.shape(), want.shape()));
    }
    let [got, want] = [got, want].map(|x| Cpu::new().to_vec(x).unwrap());
    let largest = want.iter().filter(|w| w.is_finite()).fold(0.0f64, |largest, w| largest.max(w.abs()));
    let is_right = |g: f64, w: f64| if w.is_finite() { (g - w).abs() <= TOLERANCE * largest } else { g == w || g.is_nan() && w.is_nan() };
    got.iter().zip(&want).any(|(&g, &w)| !is_right(g, w)).then(|| format!("{got:?} and not {want:?}"))
}

fn check(case: &Value) -> Option<String> {
    let tape = Tape::new(&Cpu::<f64>::new());
    let gradients = case["gradients"].as_array().expect("gradients");
    let inputs = case["inputs"].as_array().expect("inputs").iter().zip(gradients);
    let inputs: Vec<V> = inputs.map(|(x, g)| if g.is_null() { tape.constant(&tensor(x)) } else { tape.leaf(&tensor(x)) }).collect();
    let output = apply(case["op"].as_str().expect("a name"), &Args(&case["args"]), &inputs).unwrap();
    if let Some(off) = difference(output.value(), &tensor(&case["output"])) {
        return Some(format!("the output is {off}"));
    }
    if gradients.iter().all(Value::is_null) {
        return None;
    }
    let found = output.backward_from(&tensor(&case["cotangent"])).unwrap();
    let wanted = inputs.iter().zip(gradients).enumerate().filter(|(_, (_, want))| !want.is_null());
    for (i, (x, want)) in wanted {
        if let Some(off) = difference(found.of(x).unwrap(), &tensor(want)) {
            return Some(format!("the gradient of input {i} is {off}"));
        }
    }
    None
}

/// What is made of other ops has their gradients; that these are put together as they must be, differences say.
#[test]
fn reductions_made_of_others_have_the_gradients_of_differences() {
    let (cpu, mut generate) = (Cpu::<f64>::new(), Generate::new(5));
    let methods: [OverAxes; 6] = [
        |x, axes| x.mean_axes(axes),
        |x, axes| x.var_axes(axes, 1),
        |x, axes| x.std_keep(axes, 0),
        |x, axes| x.norm_axes(axes),
        |x, axes| x.logsumexp_keep(axes),
        |x, axes| x.logsumexp_axes(axes),
    ];
    for axes in [&[0][..], &[1], &[2, 0], &[0, 1, 2]] {
        for method in methods {
            gradcheck(&cpu, |_, v| method(&v[0], axes), &[generate.normal(&[2, 3, 4])]).unwrap();
        }
    }
}

#[test]
fn reductions_of_too_little_are_refused() {
    let cpu = Cpu::<f64>::new();
    let var = |shape: &[usize]| Tape::off(&cpu).leaf(&cpu.full(shape, 1.0).unwrap());
    let (empty, one) = (var(&[2, 0]), var(&[2, 1]));
    let refused: [Result<V>; 14] = [
        empty.mean(),
        empty.mean_axes(&[1]),
        empty.max(),
        empty.min_axes(&[1]),
        empty.max_keep(&[1]),
        empty.logsumexp(),
        empty.argmax(1),
        empty.argmin(1),
        empty.var(0),
        one.var_axes(&[1], 1),
        one.std_keep(&[1], 1),
        one.std(usize::MAX),
        one.sum_keep(&[1, 1]),
        one.prod_axes(&[2]),
    ];
    for (i, outcome) in refused.into_iter().enumerate() {
        assert!(matches!(outcome, Err(Error::Value { .. })), "call {i} was answered with {outcome:?}");
    }
    assert_eq!(
        (empty.sum().unwrap().item().unwrap(), empty.prod().unwrap().item().unwrap(), empty.norm().unwrap().item().unwrap()),
        (0.0, 1.0, 0.0)
    );
    assert_eq!(one.var_axes(&[1], 0).unwrap().to_vec().unwrap(), [0.0, 0.0]);
}

#[test]
fn values_and_gradients_are_those_of_pytorch() {
    let fixture = fixture("ops");
    let cases = fixture["cases"].as_array().expect("cases");
    let failures: Vec<String> =
        cases.iter().filter_map(|case| check(case).map(|off| format!("{} {}: {off}", case["op"], case["args"]))).collect();
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
    let ops: BTreeSet<&str> = cases.iter().map(|case| case["op"].as_str().expect("a name")).collect();
    assert!(ops.len() >= 83, "only {} ops: {ops:?}", ops.len());
}
