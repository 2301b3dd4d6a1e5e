//! Fixtures as host arrays in this crate's layout, parameters by name, and the comparison of values.

#![allow(dead_code, reason = "every test file uses its own part")]

use std::path::{Path, PathBuf};

use proptest::test_runner::{Config, RngSeed};
use pspikessm::autodiff::Gradients;
use pspikessm::backend::{Backend, Real, Tensor};
use pspikessm::nn::{Module, Optimizer, Param, ParamState, UpdateRule};
use serde_json::Value;

/// A property's configuration: so many cases, always the same ones.
pub fn pinned(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(0x5053_534D), failure_persistence: None, ..Config::default() }
}

/// The message of an error, in which every one of `parts` must stand.
pub fn says<T>(answer: pspikessm::Result<T>, parts: &[&str]) -> String {
    let message = answer.err().unwrap_or_else(|| panic!("accepted, and not refused with {parts:?}")).to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message:?} lacks one of {parts:?}");
    message
}

/// Values with a shape, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Array {
    pub fn new(shape: &[usize], values: Vec<f64>) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{shape:?}");
        Array { shape: shape.into(), values }
    }

    /// Reads {shape, data}.
    pub fn read(entry: &Value) -> Self {
        let shape: Vec<usize> = numbers(&entry["shape"]).iter().map(|&n| n as usize).collect();
        Array::new(&shape, numbers(&entry["data"]))
    }

    /// The same values under another shape.
    pub fn reshape(self, shape: &[usize]) -> Self {
        Array::new(shape, self.values)
    }

    /// Axis i of the result is axis `axes[i]` of this.
    pub fn permute(&self, axes: &[usize]) -> Self {
        let shape: Vec<usize> = axes.iter().map(|&axis| self.shape[axis]).collect();
        let strides: Vec<usize> = (0..self.shape.len()).map(|axis| self.shape[axis + 1..].iter().product()).collect();
        let source = |mut at: usize| {
            let mut from = 0;
            for &axis in axes.iter().rev() {
                from += at % self.shape[axis] * strides[axis];
                at /= self.shape[axis];
            }
            self.values[from]
        };
        Array { values: (0..self.values.len()).map(source).collect(), shape }
    }

    /// From (batch, length, channels) to (batch, channels, length).
    pub fn sequence(&self) -> Self {
        self.permute(&[0, 2, 1])
    }

    /// An official parameter in this crate's layout: the trailing (re, im) axis of B, C and P in front, singleton axes as in `shape`.
    pub fn parameter(&self, name: &str, shape: &[usize]) -> Self {
        let complex = ["kernel.B", "kernel.C", "kernel.P"].iter().any(|end| name.ends_with(end));
        let last = self.shape.len() - 1;
        let own = if complex { self.permute(&[&[last], &(0..last).collect::<Vec<_>>()[..]].concat()) } else { self.clone() };
        let essential = |shape: &[usize]| shape.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
        assert_eq!(essential(&own.shape), essential(shape), "{name}");
        own.reshape(shape)
    }

    pub fn tensor<B: Backend>(&self, backend: &B) -> Tensor<B> {
        backend.from_vec(self.values.iter().map(|&v| B::Elem::of(v)).collect(), &self.shape).unwrap()
    }
}

/// The numbers of a JSON list.
pub fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

/// A list of whole numbers, or `None` for null.
pub fn whole_numbers(list: &Value) -> Option<Vec<usize>> {
    (!list.is_null()).then(|| numbers(list).into_iter().map(|v| v as usize).collect())
}

/// In the checkout, or below a folder that a machine without it names as cargo would.
pub fn fixture_path(file: &str) -> PathBuf {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&root).join("tests/fixtures").join(file)
}

/// The JSON fixture of this name.
pub fn fixture(name: &str) -> Value {
    let path = fixture_path(&format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The values of a tensor, in f64.
pub fn host<B: Backend>(backend: &B, x: &Tensor<B>) -> Vec<f64> {
    backend.to_vec(x).unwrap().into_iter().map(Real::f64).collect()
}

/// The gradient of a parameter, in f64.
pub fn gradient<B: Backend>(backend: &B, gradients: &Gradients<B>, param: &Param<B>) -> Vec<f64> {
    host(backend, gradients.of_parameter(param.identity()).expect("every parameter has a gradient"))
}

/// What the optimiser remembers of every parameter that had a gradient, under its name.
pub fn remembered<B: Backend, R: UpdateRule<B>>(module: &dyn Module<B>, optimizer: &Optimizer<B, R>) -> Vec<(String, ParamState<B>)> {
    module.parameters().into_iter().filter_map(|(name, param)| Some((name, optimizer.state(&param)?.clone()))).collect()
}

/// The parameter of this name.
pub fn parameter<B: Backend>(module: &dyn Module<B>, name: &str) -> Param<B> {
    let found = module.parameters().into_iter().find(|(own, _)| own == name);
    found.unwrap_or_else(|| panic!("no parameter {name}")).1
}

/// Sets the parameter of this name.
pub fn assign<B: Backend>(backend: &B, module: &dyn Module<B>, name: &str, values: &[f64]) {
    let param = parameter(module, name);
    let shape = param.value().shape().to_vec();
    param.set(Array::new(&shape, values.to_vec()).tensor(backend)).unwrap();
}

/// The values of the parameter of this name.
pub fn fetch<B: Backend>(backend: &B, module: &dyn Module<B>, name: &str) -> Vec<f64> {
    host(backend, &parameter(module, name).value())
}

pub fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest: f64, v| largest.max(v.abs()))
}

/// The largest difference as a share of the largest entry of `want`; infinite where a value is NaN, or only zeros are wanted and something
/// else is there.
pub fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len(), "lengths");
    let differences: Vec<f64> = got.iter().zip(want).map(|(g, w)| (g - w).abs()).collect();
    if differences.iter().any(|d| d.is_nan()) {
        return f64::INFINITY;
    }
    if largest(&differences) == 0.0 { 0.0 } else { largest(&differences) / largest(want) }
}

/// Panics unless `got` agrees with `want` to `tolerance` times the largest entry of `want`; the distance.
pub fn assert_close(what: &str, got: &[f64], want: &[f64], tolerance: f64) -> f64 {
    let distance = distance(got, want);
    println!("{what}: {distance:.1e}");
    assert!(distance <= tolerance, "{what}: off by {distance:e} of the largest entry {:e}, more than {tolerance:e}", largest(want));
    distance
}

/// The official name of one of this crate's names within a block.
pub fn official_in_block(name: &str, bidirectional: bool) -> String {
    let renamed = match name {
        "forward.sampler.scale" => "inp_a",
        "forward.sampler.shift" => "inp_b",
        "reverse.sampler.scale" => "inp2_a",
        "reverse.sampler.shift" => "inp2_b",
        "output.scale" => "out_a",
        "output.shift" => "out_b",
        _ => "",
    };
    if !renamed.is_empty() {
        return renamed.into();
    }
    let (part, rest) = name.split_once('.').expect("a name of a block has a part");
    match part {
        "forward" => format!("layer.layer.{}", rest.strip_prefix("ssm.").unwrap()),
        "reverse" => format!("reverse_layer.layer.{}", rest.strip_prefix("ssm.").unwrap()),
        "mixer" if bidirectional => format!("bidirectional_linear.{rest}"),
        "mixer" => format!("bidirectional_linear1.{rest}"),
        "norm" => format!("norm.norm.{rest}"),
        _ => panic!("no official name for {name}"),
    }
}

/// The official name of one of a model's names.
pub fn official(name: &str, bidirectional: bool) -> String {
    let (part, rest) = name.split_once('.').expect("a name of a model has a part");
    match part {
        "encoder" => format!("encoder.0.{rest}"),
        "norm" => format!("model.norm.norm.{rest}"),
        "decoder" => match rest.split_once('.') {
            Some(("0", rest)) => format!("decoder.0.retrieval.classifier.0.{rest}"),
            Some(("1", rest)) => format!("decoder.0.retrieval.classifier.2.{rest}"),
            _ => format!("decoder.0.output_transform.{rest}"),
        },
        "blocks" => {
            let (layer, rest) = rest.split_once('.').unwrap();
            format!("model.layers.{layer}.{}", official_in_block(rest, bidirectional))
        }
        _ => panic!("no official name for {name}"),
    }
}
