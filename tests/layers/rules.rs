//! The update rules against plain loops over the formulas as published and against PyTorch, in f64; frozen parameters, and averages of them.

use crate::common::{Array, assert_close, fixture, host};
use pspikessm::autodiff::{Generate, Gradients, Tape};
use pspikessm::backend::{Cpu, Key, Tensor};
use pspikessm::nn::store::{load, save};
use pspikessm::nn::{
    AdamConfig, AdamWConfig, Context, Ema, LionConfig, Module, Moved, Names, Norm, NormKind, Optimizer, OptimizerConfig, Param,
    ParamOptions, SgdConfig, Step, UpdateRule,
};
use pspikessm::{Error, Result};
use serde_json::Value;

type B = Cpu<f64>;

/// Parameters under names.
struct Named(Vec<(&'static str, Param<B>)>);

impl Module<B> for Named {
    fn names(&self, names: &mut Names<'_, B>) {
        self.0.iter().for_each(|(name, param)| names.param(name, param));
    }
}

fn tensor(values: &[f64]) -> Tensor<B> {
    Array::new(&[values.len()], values.to_vec()).tensor(&B::new())
}

/// The gradients `values`, of each of `params`.
fn gradients(params: &[&Param<B>], values: &[Vec<f64>]) -> Gradients<B> {
    let tape = Tape::new(&B::new());
    let terms = params.iter().zip(values).map(|(param, values)| {
        tape.parameter(param.identity(), &param.value()).mul(&tape.constant(&tensor(values))).unwrap().sum().unwrap()
    });
    terms.reduce(|sum, term| sum.add(&term).unwrap()).unwrap().backward().unwrap()
}

/// A rule for one number, as a loop would have it: (value, memory, gradient, rate, weight decay, step) to the new value.
type Formula = Box<dyn Fn(f64, &mut [f64; 2], f64, f64, f64, i32) -> f64>;

/// A rule that is asked for one parameter at a time.
#[derive(Clone, Copy)]
struct OneByOne<R>(R);

impl<R: UpdateRule<B>> UpdateRule<B> for OneByOne<R> {
    fn check(&self) -> Result<()> {
        self.0.check()
    }

    fn lr(&self) -> f64 {
        self.0.lr()
    }

    fn slots(&self) -> &'static [&'static str] {
        self.0.slots()
    }

    fn moved(&self, cpu: &B, step: &Step, value: &Tensor<B>, slots: &[Tensor<B>], grad: &Tensor<B>) -> Result<Moved<B>> {
        self.0.moved(cpu, step, value, slots, grad)
    }
}

/// Whether `rule` does what the formula says, of all parameters together and of one at a time.
fn follows(name: &str, rule: impl UpdateRule<B> + Copy, decay: f64, formula: Formula) {
    side_by_side(name, rule, decay, &formula);
    side_by_side(&format!("{name}, one by one"), OneByOne(rule), decay, &formula);
}

/// Runs `rule` and the formula side by side, on random gradients and rates, with and without weight decay.
fn side_by_side(name: &str, rule: impl UpdateRule<B> + Copy, decay: f64, formula: &Formula) {
    let cpu = B::new();
    for seed in 0..5 {
        let mut generate = Generate::new(seed);
        let size = generate.size(1..=9);
        let start = generate.normal(&[size]).values;
        let params = [ParamOptions::DECAYED, ParamOptions::PLAIN, ParamOptions::Trained { lr: Some(0.02), decay: true }]
            .map(|options| Param::new(tensor(&start), options));
        let module = Named(vec![("decayed", params[0].clone()), ("plain", params[1].clone()), ("own", params[2].clone())]);
        let mut expected = [0, 1, 2].map(|_| start.iter().map(|&x| (x, [0.0; 2])).collect::<Vec<_>>());
        let mut optimizer = Optimizer::new(rule).unwrap();
        for step in 1..=12 {
            let factor = generate.value(0.1, 1.0);
            let grads: Vec<Vec<f64>> = (0..3).map(|_| generate.normal(&[size]).values).collect();
            optimizer.update(&cpu, &module, &gradients(&params.each_ref(), &grads), factor).unwrap();
            for (i, numbers) in expected.iter_mut().enumerate() {
                let (lr, decay) = (factor * if i == 2 { 0.02 } else { rule.lr() }, if i == 1 { 0.0 } else { decay });
                for ((x, memory), g) in numbers.iter_mut().zip(&grads[i]) {
                    *x = formula(*x, memory, *g, lr, decay, step);
                }
                let want: Vec<f64> = numbers.iter().map(|(x, _)| *x).collect();
                assert_close(&format!("{name}, seed {seed}, step {step}"), &host(&cpu, &params[i].value()), &want, 1e-12);
            }
        }
        let state = optimizer.state(&params[0]).unwrap();
        assert_eq!((state.slots.len(), state.step), (rule.slots().len(), 12));
    }
}

/// Adam as published: moments, their corrections, and the step.
fn adam(x: f64, memory: &mut [f64; 2], g: f64, lr: f64, [beta1, beta2, eps]: [f64; 3], step: i32) -> f64 {
    memory[0] = beta1 * memory[0] + (1.0 - beta1) * g;
    memory[1] = beta2 * memory[1] + (1.0 - beta2) * g * g;
    let [m, v] = [memory[0] / (1.0 - beta1.powi(step)), memory[1] / (1.0 - beta2.powi(step))];
    x - lr * m / (v.sqrt() + eps)
}

#[test]
fn adam_and_adamw_follow_their_formulas() {
    let numbers = [0.8, 0.95, 1e-3];
    let rule = AdamConfig::new(0.05).beta1(0.8).beta2(0.95).eps(1e-3);
    follows("adam", rule, 0.0, Box::new(move |x, memory, g, lr, _, step| adam(x, memory, g, lr, numbers, step)));
    let coupled = move |x, memory: &mut [f64; 2], g: f64, lr, decay, step| adam(x, memory, g + decay * x, lr, numbers, step);
    follows("adam with decay", rule.weight_decay(0.3), 0.3, Box::new(coupled));
    let decoupled =
        move |x: f64, memory: &mut [f64; 2], g, lr: f64, decay: f64, step| adam(x * (1.0 - lr * decay), memory, g, lr, numbers, step);
    follows("adamw", AdamWConfig::new(0.05, 0.3).beta1(0.8).beta2(0.95).eps(1e-3), 0.3, Box::new(decoupled));
}

#[test]
fn rules_move_parameters_where_pytorch_does() {
    let cpu = B::new();
    let Value::Array(cases) = fixture("optimizers") else { panic!("an array of cases") };
    assert_eq!(cases.len(), 8);
    for case in &cases {
        let numbers = |value: &Value| -> Vec<f64> { value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect() };
        let option = |name: &str| case["options"][name].as_f64().unwrap();
        let adam = || numbers(&case["options"]["betas"]);
        let rule: OptimizerConfig = match case["rule"].as_str().unwrap() {
            "adamw" => AdamWConfig::new(option("lr"), option("weight_decay")).beta1(adam()[0]).beta2(adam()[1]).eps(option("eps")).into(),
            "adam" => {
                let rule = AdamConfig::new(option("lr")).weight_decay(option("weight_decay"));
                rule.beta1(adam()[0]).beta2(adam()[1]).eps(option("eps")).into()
            }
            "sgd" => {
                let rule = SgdConfig::new(option("lr")).momentum(option("momentum")).dampening(option("dampening"));
                let nesterov = case["options"]["nesterov"].as_bool().unwrap();
                rule.nesterov(nesterov).weight_decay(option("weight_decay")).into()
            }
            other => panic!("no rule is called {other}"),
        };
        let param = Param::new(tensor(&numbers(&case["start"])), ParamOptions::DECAYED);
        let module = Named(vec![("x", param.clone())]);
        let mut optimizer = Optimizer::new(rule).unwrap();
        let [gradient, value] = ["gradients", "values"].map(|name| case[name].as_array().unwrap().iter().map(numbers).collect::<Vec<_>>());
        for (step, (gradient, want)) in gradient.into_iter().zip(value).enumerate() {
            optimizer.update(&cpu, &module, &gradients(&[&param], &[gradient]), 1.0).unwrap();
            assert_close(&format!("{rule:?}, step {step}"), &host(&cpu, &param.value()), &want, 1e-13);
        }
    }
}

#[test]
fn gradient_descent_follows_its_formula() {
    for (momentum, dampening, nesterov, decay) in
        [(0.0, 0.0, false, 0.0), (0.0, 0.0, false, 0.2), (0.9, 0.0, false, 0.2), (0.7, 0.4, false, 0.0), (0.9, 0.0, true, 0.2)]
    {
        let rule = SgdConfig::new(0.1).momentum(momentum).dampening(dampening).nesterov(nesterov).weight_decay(decay);
        let formula = move |x: f64, memory: &mut [f64; 2], g: f64, lr: f64, decay: f64, step: i32| {
            let g = g + decay * x;
            memory[0] = if step == 1 { g } else { momentum * memory[0] + (1.0 - dampening) * g };
            x - lr
                * if momentum == 0.0 {
                    g
                } else if nesterov {
                    g + momentum * memory[0]
                } else {
                    memory[0]
                }
        };
        follows(&format!("{rule:?}"), rule, decay, Box::new(formula));
    }
    for (wrong, name) in [
        (SgdConfig::new(-0.1), "lr = -0.1"),
        (SgdConfig::new(0.1).momentum(1.0), "momentum = 1"),
        (SgdConfig::new(0.1).nesterov(true), "nesterov = true"),
        (SgdConfig::new(0.1).momentum(0.9).dampening(0.1).nesterov(true), "nesterov = true"),
        (SgdConfig::new(0.1).weight_decay(f64::NAN), "weight_decay = NaN"),
    ] {
        assert!(Optimizer::<B, _>::new(wrong).unwrap_err().to_string().contains(name), "{wrong:?}");
    }
}

#[test]
fn lion_follows_its_formula() {
    let sign = |x: f64| if x == 0.0 { 0.0 } else { x.signum() };
    let formula = move |x: f64, memory: &mut [f64; 2], g: f64, lr: f64, decay: f64, _| {
        let direction = sign(0.8 * memory[0] + 0.2 * g);
        memory[0] = 0.95 * memory[0] + 0.05 * g;
        x * (1.0 - lr * decay) - lr * direction
    };
    follows("lion", LionConfig::new(0.01, 0.4).beta1(0.8).beta2(0.95), 0.4, Box::new(formula));
    assert!(Optimizer::<B, _>::new(LionConfig::new(0.1, 0.0).beta2(1.0)).is_err());
    // A gradient of zero moves nothing.
    let x = Param::new(tensor(&[1.0]), ParamOptions::PLAIN);
    let mut optimizer = Optimizer::new(LionConfig::new(0.5, 0.0)).unwrap();
    optimizer.update(&B::new(), &Named(vec![("x", x.clone())]), &gradients(&[&x], &[vec![0.0]]), 1.0).unwrap();
    assert_eq!(host(&B::new(), &x.value()), [1.0]);
}

#[test]
fn a_rule_by_name_is_the_rule() {
    let cpu = B::new();
    let rules: [OptimizerConfig; 4] = [
        AdamWConfig::new(0.1, 0.2).into(),
        AdamConfig::new(0.1).weight_decay(0.2).into(),
        SgdConfig::new(0.1).momentum(0.9).nesterov(true).into(),
        LionConfig::new(0.1, 0.2).into(),
    ];
    for mut rule in rules {
        let text = serde_json::to_string(&rule).unwrap();
        assert_eq!(serde_json::from_str::<OptimizerConfig>(&text).unwrap(), rule, "{text}");
        let (x, module) = {
            let x = Param::new(tensor(&[1.0, -2.0]), ParamOptions::DECAYED);
            (x.clone(), Named(vec![("x", x)]))
        };
        let found = gradients(&[&x], &[vec![0.5, 0.25]]);
        let moved = |run: &mut dyn FnMut(&Named) -> Result<()>| {
            x.set(tensor(&[1.0, -2.0])).unwrap();
            (0..3).for_each(|_| run(&module).unwrap());
            host(&cpu, &x.value())
        };
        let mut by_name = Optimizer::new(rule).unwrap();
        let named = moved(&mut |module| by_name.update(&cpu, module, &found, 1.0));
        let own = match rule {
            OptimizerConfig::AdamW(rule) => {
                let mut own = Optimizer::new(rule).unwrap();
                moved(&mut |module| own.update(&cpu, module, &found, 1.0))
            }
            OptimizerConfig::Adam(rule) => {
                let mut own = Optimizer::new(rule).unwrap();
                moved(&mut |module| own.update(&cpu, module, &found, 1.0))
            }
            OptimizerConfig::Sgd(rule) => {
                let mut own = Optimizer::new(rule).unwrap();
                moved(&mut |module| own.update(&cpu, module, &found, 1.0))
            }
            OptimizerConfig::Lion(rule) => {
                let mut own = Optimizer::new(rule).unwrap();
                moved(&mut |module| own.update(&cpu, module, &found, 1.0))
            }
            _ => panic!("a rule without a test"),
        };
        assert_eq!(named, own);
        rule.set_lr(-1.0);
        assert!(rule.lr() == -1.0 && Optimizer::<B, _>::new(rule).is_err());
    }
    // As files had it before there were others.
    let plain: OptimizerConfig = serde_json::from_str(r#"{"lr": 0.1, "weight_decay": 0.2}"#).unwrap();
    assert_eq!(plain, AdamWConfig::new(0.1, 0.2).into());
    assert!(!serde_json::to_string(&plain).unwrap().contains("rule"));
    for (wrong, says) in [
        (r#"{"lr": 0.1, "weight_decay": 0, "nesterov": true}"#, "nesterov = true: is no number of the rule AdamW"),
        (r#"{"rule": "sgd", "lr": 0.1, "weight_decay": 0, "beta1": 0.9}"#, "beta1 = 0.9"),
        (r#"{"rule": "lion", "lr": 0.1, "weight_decay": 0, "eps": 0.1}"#, "eps = 0.1"),
        (r#"{"rule": "sgdd", "lr": 0.1, "weight_decay": 0}"#, "sgdd"),
        (r#"{"lr": 0.1, "weight_decay": 0, "beta3": 1}"#, "beta3"),
        (r#"{"weight_decay": 0}"#, "lr"),
    ] {
        let error = serde_json::from_str::<OptimizerConfig>(wrong).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn what_is_frozen_is_a_constant_and_stays_where_it_is() {
    let cpu = B::new();
    let [x, y, z] = [1.0, 2.0, 3.0].map(|value| Param::new(tensor(&[value]), ParamOptions::PLAIN));
    let module = Named(vec![("encoder.x", x.clone()), ("encoder.y", y.clone()), ("encoders", z.clone()), ("tied", x.clone())]);
    let mut optimizer = Optimizer::new(SgdConfig::new(0.1)).unwrap();
    let run = || {
        let tape = Tape::new(&cpu);
        let cx = Context::training(&tape, Key::new(0));
        cx.var(&x).mul(&cx.var(&y)).unwrap().mul(&cx.var(&z)).unwrap().backward().unwrap()
    };
    let before = run();
    assert_eq!((module.freeze("encoder").unwrap(), module.num_parameters()), (2, 1));
    assert!(x.is_frozen() && !y.is_trained() && !z.is_frozen());
    let found = run();
    assert!(found.of(&x).is_err() && found.of(&y).is_err());
    assert_eq!(host(&cpu, found.of(&z).unwrap()), [2.0]);
    // Gradients from before, too, move nothing that is frozen.
    optimizer.update(&cpu, &module, &before, 1.0).unwrap();
    assert_eq!([&x, &y].map(|param| host(&cpu, &param.value())[0]), [1.0, 2.0]);
    assert_close("moved", &host(&cpu, &z.value()), &[2.8], 1e-12);
    assert_eq!(module.unfreeze("tied").unwrap(), 1);
    assert!(x.is_trained() && run().of(&x).is_ok() && run().of(&y).is_err());
    assert_eq!((module.unfreeze("").unwrap(), module.num_parameters()), (3, 3));
    for missing in ["decoder", "enc", "encoder."] {
        assert!(module.freeze(missing).unwrap_err().to_string().contains(missing));
    }
    // A buffer stays one.
    let norm = Norm::<B>::new(&cpu, NormKind::Batch, 2).unwrap();
    norm.freeze("running_mean").unwrap();
    norm.unfreeze("").unwrap();
    assert!(!norm.running.unwrap().0.is_trained());
}

#[test]
fn averages_are_those_of_a_plain_loop_and_go_in_and_out() {
    let cpu = B::new();
    let decay = 0.9;
    let (x, buffer) = (Param::new(tensor(&[1.0, -1.0]), ParamOptions::PLAIN), Param::new(tensor(&[7.0]), ParamOptions::Buffer));
    let module = Named(vec![("x", x.clone()), ("buffer", buffer.clone()), ("tied", x.clone())]);
    let mut ema = Ema::new(&module, decay).unwrap();
    let mut want = [0.0; 2];
    for step in 0..20 {
        let new = [f64::from(step).sin(), f64::from(step * step)];
        x.set(tensor(&new)).unwrap();
        buffer.set(tensor(&[f64::from(step)])).unwrap();
        ema.update(&cpu).unwrap();
        want = [0, 1].map(|i| if step == 0 { new[i] } else { decay * want[i] + (1.0 - decay) * new[i] });
    }
    assert_eq!(ema.updates(), 20);
    let live = host(&cpu, &x.value());
    ema.swap().unwrap();
    assert_close("the average", &host(&cpu, &x.value()), &want, 1e-13);
    assert_eq!(host(&cpu, &buffer.value()), [19.0]);
    let refused = ema.update(&cpu).unwrap_err();
    assert!(matches!(refused, Error::Value { op: "Ema", .. }) && ema.is_swapped());
    ema.swap().unwrap();
    assert_eq!((host(&cpu, &x.value()), ema.updates()), (live, 20));

    // Saved under the module's names, and read by it.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ema.safetensors");
    save(&cpu, &ema, &path).unwrap();
    load(&cpu, &module, &path).unwrap();
    assert_close("the average from a file", &host(&cpu, &x.value()), &want, 1e-13);
    for wrong in [1.0, -0.1, f64::NAN] {
        assert!(matches!(Ema::new(&module, wrong), Err(Error::Config { name: "decay", .. })));
    }
}
