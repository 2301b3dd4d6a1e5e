//! Layers against PyTorch in float64, outputs and all gradients, by the fixture that `benches/peer/layer_values.py` writes; their
//! gradients against finite differences; their first parameters.

use crate::common::{Array, assert_close, fixture, gradient, host, says};
use pspikessm::Result;
use pspikessm::autodiff::{Conv, Tape, Var, gradcheck};
use pspikessm::backend::*;
use pspikessm::nn::{Context, Conv1d, Gru, Lstm, LstmState, Module, MultiHeadAttention, ParamOptions, RmsNorm};
use serde_json::Value;

type B = Cpu<f64>;

/// A layer, and its outputs by their names for the inputs by theirs.
type Layer = (Box<dyn Module<B>>, Box<dyn Fn(&Context<'_, B>, &Inputs) -> Result<Vec<(&'static str, Var<B>)>>>);

struct Inputs(Vec<(String, Var<B>)>);

impl Inputs {
    fn get(&self, name: &str) -> Option<&Var<B>> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, var)| var)
    }

    fn x(&self) -> &Var<B> {
        self.get("x").unwrap()
    }
}

/// A shared layer for the closure and for the caller.
fn shared<M: Module<B> + 'static>(
    module: M,
    run: impl Fn(&M, &Context<'_, B>, &Inputs) -> Result<Vec<(&'static str, Var<B>)>> + 'static,
) -> Layer {
    struct Shared<M>(std::rc::Rc<M>);
    impl<M: Module<B>> Module<B> for Shared<M> {
        fn names(&self, names: &mut pspikessm::nn::Names<'_, B>) {
            self.0.names(names);
        }
    }
    let module = std::rc::Rc::new(module);
    (Box::new(Shared(module.clone())), Box::new(move |cx, inputs| run(&module, cx, inputs)))
}

/// The layer of a case, with any parameters.
fn layer(case: &Value) -> Layer {
    let (cpu, key) = (B::new(), Key::new(1));
    let args = &case["args"];
    let number = |name: &str| args[name].as_u64().unwrap() as usize;
    match case["layer"].as_str().unwrap() {
        "gru" => shared(Gru::new(&cpu, key, 3, 4).unwrap(), |gru, cx, inputs| {
            let (states, last) = gru.forward(cx, inputs.x(), inputs.get("initial"))?;
            Ok(vec![("states", states), ("last", last)])
        }),
        "lstm" => shared(Lstm::new(&cpu, key, 2, 3).unwrap(), |lstm, cx, inputs| {
            let given = inputs.get("hidden").zip(inputs.get("cell"));
            let given = given.map(|(hidden, cell)| LstmState { hidden: hidden.clone(), cell: cell.clone() });
            let (states, LstmState { hidden, cell }) = lstm.forward(cx, inputs.x(), given.as_ref())?;
            Ok(vec![("states", states), ("hidden", hidden), ("cell", cell)])
        }),
        "rms_norm" => shared(RmsNorm::new(&cpu, 4).unwrap(), |norm, cx, inputs| Ok(vec![("y", norm.forward(cx, inputs.x())?)])),
        "attention" => {
            let attention = MultiHeadAttention::new(&cpu, key, 6, number("heads")).unwrap().causal(args["causal"].as_bool().unwrap());
            let lengths = crate::common::whole_numbers(&args["lengths"]);
            shared(attention, move |attention, cx, inputs| Ok(vec![("y", attention.forward(cx, inputs.x(), lengths.as_deref())?)]))
        }
        "conv1d" => {
            let conv = Conv::new().stride(number("stride")).padding(number("padding"));
            let conv = conv.dilation(number("dilation")).groups(number("groups"));
            shared(Conv1d::new(&cpu, key, [4, 8], 3, conv).unwrap(), |conv, cx, inputs| Ok(vec![("y", conv.forward(cx, inputs.x())?)]))
        }
        other => panic!("no layer {other}"),
    }
}

fn arrays(entry: &Value) -> Vec<(String, Array)> {
    entry.as_object().unwrap().iter().map(|(name, array)| (name.clone(), Array::read(array))).collect()
}

#[test]
fn layers_are_those_of_pytorch() {
    let (cpu, cases) = (B::new(), fixture("layers"));
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 14);
    for (number, case) in cases.iter().enumerate() {
        let what = |of: &str| format!("case {number}, {}: {of}", case["layer"]);
        let (module, run) = layer(case);
        let params = arrays(&case["params"]);
        assert_eq!(params.len(), module.parameters().len(), "{}", what("parameters"));
        for (name, param) in module.parameters() {
            let (_, value) = params.iter().find(|(own, _)| *own == name).unwrap_or_else(|| panic!("{}", what(&name)));
            param.set(value.tensor(&cpu)).unwrap();
        }
        let tape = Tape::new(&cpu);
        let inputs = Inputs(arrays(&case["inputs"]).into_iter().map(|(name, x)| (name, tape.leaf(&x.tensor(&cpu)))).collect());
        let outputs = run(&Context::training(&tape, Key::new(2)), &inputs).unwrap();
        let mut total: Option<Var<B>> = None;
        for (name, output) in &outputs {
            let want = Array::read(&case["outputs"][name]);
            assert_eq!(output.shape(), want.shape, "{}", what(name));
            assert_close(&what(name), &output.to_vec().unwrap(), &want.values, 1e-13);
            let cotangent = tape.constant(&Array::read(&case["cotangents"][name]).tensor(&cpu));
            let term = output.mul(&cotangent).unwrap().sum().unwrap();
            total = Some(total.map_or(term.clone(), |total| total.add(&term).unwrap()));
        }
        let gradients = total.unwrap().backward().unwrap();
        for (name, input) in &inputs.0 {
            let want = Array::read(&case["gradients"][name]).values;
            assert_close(&what(name), &host(&cpu, gradients.of(input).unwrap()), &want, 1e-12);
        }
        for (name, param) in module.parameters() {
            let want = Array::read(&case["gradients"][&name]).values;
            // The bias of the keys shifts all scores of a row alike, and softmax takes it out: both sides are round-off there.
            let scale = want.iter().fold(0.0f64, |largest, g| largest.max(g.abs()));
            let got = gradient(&cpu, &gradients, &param);
            let off = got.iter().zip(&want).fold(0.0f64, |worst, (a, b)| worst.max((a - b).abs()));
            assert!(off <= 1e-12 * scale, "{}: off by {off:e} of {scale:e}", what(&name));
        }
    }
}

/// Holds the gradient of a layer's input (2, 4, 6) to finite differences.
fn check(what: &str, f: impl Fn(&Context<'_, B>, &Var<B>) -> Result<Var<B>>) {
    let (cpu, shape) = (B::new(), [2, 4, 6]);
    let x = pspikessm::autodiff::Array { values: host(&cpu, &cpu.normal(Key::new(5), &shape).unwrap()), shape: shape.into() };
    let run = |tape: &Tape<B>, inputs: &[Var<B>]| f(&Context::training(tape, Key::new(0)), &inputs[0]);
    let report = gradcheck(&cpu, run, &[x]).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(report.comparisons > 0, "{what}");
}

#[test]
fn the_gradients_of_layers_are_finite_differences() {
    let cpu = B::new();
    let (gru, lstm) = (Gru::new(&cpu, Key::new(1), 4, 3).unwrap(), Lstm::new(&cpu, Key::new(2), 4, 3).unwrap());
    check("gru", |cx, x| Ok(gru.forward(cx, x, None)?.0));
    check("lstm", |cx, x| Ok(lstm.forward(cx, x, None)?.0));
    let norm = RmsNorm::new(&cpu, 4).unwrap();
    check("rms_norm", |cx, x| norm.forward(cx, x));
    for causal in [false, true] {
        let attention = MultiHeadAttention::new(&cpu, Key::new(3), 4, 2).unwrap().causal(causal);
        check("attention", |cx, x| attention.forward(cx, x, Some(&[6, 3])));
    }
    let conv = Conv1d::new(&cpu, Key::new(4), [4, 6], 3, Conv::new().causal().groups(2)).unwrap();
    check("conv1d", |cx, x| conv.forward(cx, x));
}

#[test]
fn long_recurrences_are_put_together_in_order() {
    // More time steps than an op has inputs, and more than that many times.
    let cpu = Cpu::<f32>::new();
    let gru = Gru::new(&cpu, Key::new(1), 1, 1).unwrap();
    let tape = Tape::off(&cpu);
    let cx = Context::evaluation(&tape, Key::new(0));
    let x = tape.constant(&cpu.normal(Key::new(2), &[1, 1, 4100]).unwrap());
    let (states, last) = gru.forward(&cx, &x, None).unwrap();
    let states = states.to_vec().unwrap();
    assert_eq!((states.len(), states[4099]), (4100, last.to_vec().unwrap()[0]));
    let (first, middle) = gru.forward(&cx, &x.slice(2, 0, 70).unwrap(), None).unwrap();
    assert_eq!(first.to_vec().unwrap(), states[..70]);
    let (second, _) = gru.forward(&cx, &x.slice(2, 70, 4030).unwrap(), Some(&middle)).unwrap();
    assert_eq!(second.to_vec().unwrap(), states[70..]);
}

#[test]
fn first_parameters_are_spread_like_pytorchs() {
    let cpu = Cpu::<f32>::new();
    let bounded = |module: &dyn Module<Cpu<f32>>, bounds: &[(&str, f64)]| {
        for (name, param) in module.parameters() {
            let bound = bounds.iter().find(|(own, _)| *own == name).unwrap_or_else(|| panic!("{name} was not expected")).1;
            let values = host(&cpu, &param.value());
            // But for rounding to f32.
            assert!(values.iter().all(|value| value.abs() <= bound * (1.0 + 1e-7)), "{name} beyond {bound}");
            let mean_square = values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64;
            // Of a uniform number a third of the square of the bound; of 0 nothing.
            assert!((mean_square - bound * bound / 3.0).abs() <= 0.2 * bound * bound / 3.0, "{name}: {mean_square} for {bound}");
            let is_bias = name.contains("bias");
            assert_eq!(param.options(), if is_bias { ParamOptions::PLAIN } else { ParamOptions::DECAYED }, "{name}");
        }
    };
    let rnn = [("weight_ih", 0.1), ("weight_hh", 0.1), ("bias_ih", 0.1), ("bias_hh", 0.1)];
    bounded(&Gru::new(&cpu, Key::new(0), 50, 100).unwrap(), &rnn);
    bounded(&Lstm::new(&cpu, Key::new(1), 50, 100).unwrap(), &rnn);
    let attention = MultiHeadAttention::new(&cpu, Key::new(2), 96, 4).unwrap();
    let bounds = [("in_proj_weight", 0.125), ("in_proj_bias", 0.0), ("out_proj.weight", 1.0 / 96f64.sqrt()), ("out_proj.bias", 0.0)];
    bounded(&attention, &bounds);
    bounded(&Conv1d::new(&cpu, Key::new(3), [20, 400], 5, Conv::new()).unwrap(), &[("weight", 0.1), ("bias", 0.1)]);
}

#[test]
fn what_layers_cannot_take_is_an_error_that_says_so() {
    let cpu = B::new();
    let tape = Tape::off(&cpu);
    let cx = Context::evaluation(&tape, Key::new(0));
    let x = |shape: &[usize]| tape.constant(&cpu.full(shape, 0.5).unwrap());
    says(Gru::new(&cpu, Key::new(0), 0, 2), &["Gru = 0 -> 2", "at least 1"]);
    says(Lstm::new(&cpu, Key::new(0), 2, 0), &["Lstm = 2 -> 0", "at least 1"]);
    says(RmsNorm::new(&cpu, 0), &["d_model = 0"]);
    for (d_model, heads) in [(0, 1), (4, 0), (4, 3)] {
        says(MultiHeadAttention::new(&cpu, Key::new(0), d_model, heads), &["heads", "divide"]);
    }
    says(Conv1d::new(&cpu, Key::new(0), [4, 6], 0, Conv::new()), &["by 0 steps"]);
    says(Conv1d::new(&cpu, Key::new(0), [4, 6], 3, Conv::new().groups(4)), &["groups = 4", "divide"]);
    let gru = Gru::new(&cpu, Key::new(0), 3, 2).unwrap();
    let forward = |shape: &[usize], state: Option<&[usize]>| gru.forward(&cx, &x(shape), state.map(x).as_ref()).map(drop);
    says(forward(&[2, 4, 5], None), &["Gru", "axis 1"]);
    says(forward(&[2, 3], None), &["Gru", "(batch, channels, length)"]);
    says(forward(&[2, 3, 0], None), &["Gru", "at least 1"]);
    says(forward(&[2, 3, 5], Some(&[1, 2])), &["Gru", "the state"]);
    let lstm = Lstm::new(&cpu, Key::new(0), 3, 2).unwrap();
    let state = LstmState { hidden: x(&[2, 2]), cell: x(&[2, 3]) };
    says(lstm.forward(&cx, &x(&[2, 3, 5]), Some(&state)), &["Lstm", "the state"]);
    let attention = MultiHeadAttention::new(&cpu, Key::new(0), 4, 2).unwrap();
    says(attention.forward(&cx, &x(&[2, 3, 5]), None), &["MultiHeadAttention", "axis 1"]);
    says(attention.forward(&cx, &x(&[2, 4, 0]), None), &["MultiHeadAttention", "at least 1"]);
    says(attention.forward(&cx, &x(&[2, 4, 5]), Some(&[5, 6])), &["MultiHeadAttention", "6"]);
    let mut norm = RmsNorm::new(&cpu, 4).unwrap();
    says(norm.forward(&cx, &x(&[2, 3, 5])), &["RmsNorm", "axis 1"]);
    norm.eps = f64::NAN;
    says(norm.forward(&cx, &x(&[2, 4, 5])), &["eps"]);
}
