//! Layers, models, their files and their optimiser, against direct computation and the recipes' numbers.

use std::path::Path;

use crate::common::{Array, assert_close, assign, fetch, host, largest, parameter};
use pspikessm::autodiff::{Tape, Var};
use pspikessm::backend::*;
use pspikessm::nn::hippo::{Measure, nplr};
use pspikessm::nn::store::{load, save};
use pspikessm::nn::{
    Activation, AdamWConfig, BlockConfig, Context, Encoder, Input, Linear, Model, ModelConfig, Module, Names, Norm, NormKind, Optimizer,
    Param, ParamOptions, Pooling, SpikeMeter, SpikeSampler, SpikeSource, Ssm, SsmConfig, SsmInit, dropout, dropout_tied,
};

type B = Cpu<f64>;

/// The smallest model that has every part.
fn small(bidirectional: bool) -> ModelConfig {
    let block = BlockConfig::new(SsmConfig::new(4, 6)).prenorm(true).bidirectional(bidirectional);
    ModelConfig::new(Encoder::Tokens(7), block, 3).layers(1).retrieval(bidirectional)
}

/// Names and shapes, "name shape" each.
fn listing(config: &ModelConfig) -> Vec<String> {
    let model = Model::new(&B::new(), Key::new(0), config).unwrap();
    model.parameters().iter().map(|(name, param)| format!("{name} {:?}", param.value().shape())).collect()
}

#[test]
fn names_and_shapes_are_those_of_old_checkpoints() {
    let forward = [
        "blocks.0.forward.sampler.scale [4]",
        "blocks.0.forward.sampler.shift [4]",
        "blocks.0.forward.ssm.D [4]",
        "blocks.0.forward.ssm.kernel.inv_dt [4]",
        "blocks.0.forward.ssm.kernel.A_real [1, 3]",
        "blocks.0.forward.ssm.kernel.A_imag [1, 3]",
        "blocks.0.forward.ssm.kernel.B [2, 1, 3]",
        "blocks.0.forward.ssm.kernel.C [2, 2, 4, 3]",
        "blocks.0.forward.ssm.kernel.P [2, 1, 1, 3]",
        "blocks.0.forward.ssm.kernel.l_kernel [1]",
    ]
    .map(String::from);
    let reverse = forward.clone().map(|name| name.replace("forward", "reverse"));
    let output = ["blocks.0.output.scale [4]", "blocks.0.output.shift [4]"].map(String::from);
    let mixer = |inputs| [format!("blocks.0.mixer.weight [4, {inputs}]"), "blocks.0.mixer.bias [4]".into()];
    let norm = |of: &str| ["weight", "bias", "running_mean", "running_var"].map(|name| format!("{of}norm.{name} [4]"));
    let table = ["encoder.weight [7, 4]".to_owned()];
    let pairs = ["decoder.0.weight [4, 16]", "decoder.0.bias [4]", "decoder.1.weight [3, 4]", "decoder.1.bias [3]"].map(String::from);
    let classes = ["decoder.weight [3, 4]", "decoder.bias [3]"].map(String::from);
    let whole = [&table[..], &forward, &output, &reverse, &mixer(8), &norm("blocks.0."), &norm(""), &pairs].concat();
    assert_eq!(listing(&small(true)), whole);
    assert_eq!(listing(&small(false)), [&table[..], &forward, &output, &mixer(4), &norm("blocks.0."), &norm(""), &classes].concat());
}

// ---------------------------------------------------------------- initial values

#[test]
fn an_ssm_starts_from_hippo_and_its_step_sizes_from_their_range() {
    let cpu = B::new();
    for (dt_transform, n_ssm) in [(DtTransform::Softplus, 1), (DtTransform::Exp, 40), (DtTransform::Exp, 400)] {
        let config = SsmConfig::new(400, 16).dt_transform(dt_transform).n_ssm(n_ssm);
        let layer = Ssm::new(&cpu, Key::new(3), &config).unwrap();
        let legs = nplr(Measure::LegS, 16, Some(2.0)).unwrap();
        let tied = |one: &[f64]| one.repeat(n_ssm);
        let values = |name: &str| fetch(&cpu, &layer, name);
        let split =
            |values: &[_]| (values.iter().map(|z: &pspikessm::nn::hippo::Complex64| z.re).collect(), values.iter().map(|z| z.im).collect());
        let [(b_re, b_im), (p_re, p_im)]: [(Vec<f64>, Vec<f64>); 2] = [split(&legs.b), split(&legs.p)];
        assert_close("B", &values("kernel.B"), &[tied(&b_re), tied(&b_im)].concat(), 1e-15);
        assert_close("P", &values("kernel.P"), &[tied(&p_re), tied(&p_im)].concat(), 1e-15);
        assert_close("A_real", &values("kernel.A_real"), &tied(&[0.5f64.ln(); 8]), 1e-15);
        assert_close("A_imag", &values("kernel.A_imag"), &tied(&legs.lambda.iter().map(|z| -z.im).collect::<Vec<_>>()), 1e-15);
        let logs: Vec<f64> =
            values("kernel.inv_dt").into_iter().map(|x| if dt_transform == DtTransform::Exp { x } else { x.exp().ln_1p().ln() }).collect();
        let (low, high) = (1e-3f64.ln(), 1e-1f64.ln());
        assert!(logs.iter().all(|x| (low - 1e-9..high + 1e-9).contains(x)));
        // Uniform in the logarithm: the mean within five standard deviations.
        let mean = logs.iter().sum::<f64>() / 400.0;
        assert!((mean - 0.5 * (low + high)).abs() < 5.0 * (high - low) / (12.0f64 * 400.0).sqrt(), "{mean}");
    }
}

fn moments(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64)
}

#[test]
fn random_parameters_start_with_their_variance() {
    let cpu = B::new();
    let config = SsmConfig::new(3000, 4);
    let layer = Ssm::new(&cpu, Key::new(5), &config).unwrap();
    let linear = Linear::new(&cpu, Key::new(6), 25, 400).unwrap();
    let mixed = Model::new(&cpu, Key::new(7), &small(false).encoder(Encoder::Tokens(5000))).unwrap();
    // E|C|^2 = 1 over both planes; uniform in +-1/5 has a variance of 1/75.
    let samples = [
        (fetch(&cpu, &layer, "kernel.C"), 0.5),
        (fetch(&cpu, &layer, "D"), 1.0),
        (fetch(&cpu, &mixed, "encoder.weight"), 1.0),
        (fetch(&cpu, &linear, "weight"), 1.0 / 75.0),
    ];
    for (values, want) in samples {
        let ((mean, var), n) = (moments(&values), values.len() as f64);
        assert!(mean.abs() < 5.0 * (want / n).sqrt() && (var / want - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{mean}, {var} of {want}");
    }
    assert!(largest(&fetch(&cpu, &linear, "weight")) <= 0.2 && largest(&fetch(&cpu, &linear, "bias")) <= 0.2);
    // The two planes of C are not the same numbers.
    let c = fetch(&cpu, &layer, "kernel.C");
    assert!(c[..c.len() / 2] != c[c.len() / 2..]);
}

#[test]
fn another_key_starts_elsewhere_and_layers_differ() {
    let cpu = B::new();
    let model = |seed| Model::new(&cpu, Key::new(seed), &small(true).layers(2)).unwrap();
    let c = |model: &Model<B>, name: &str| fetch(&cpu, model, name);
    let [one, same, other] = [1, 1, 2].map(model);
    for name in ["encoder.weight", "blocks.0.forward.ssm.kernel.C", "blocks.1.mixer.weight", "decoder.0.bias"] {
        assert_eq!(c(&one, name), c(&same, name));
        assert_ne!(c(&one, name), c(&other, name));
    }
    assert_ne!(c(&one, "blocks.0.forward.ssm.kernel.C"), c(&one, "blocks.1.forward.ssm.kernel.C"));
    assert_ne!(c(&one, "blocks.0.forward.ssm.kernel.C"), c(&one, "blocks.0.reverse.ssm.kernel.C"));
    assert_ne!(c(&one, "blocks.0.forward.ssm.D"), c(&one, "blocks.0.reverse.ssm.D"));
}

// ---------------------------------------------------------------- files

fn tokens_logits<C: Backend>(backend: &C, model: &Model<C>, seed: u64) -> Vec<C::Elem> {
    let tape = Tape::off(backend);
    let cx = Context::evaluation(&tape, Key::new(seed));
    model.forward(&cx, Input::tokens(&[1, 2, 3, 4, 5, 6, 0, 1], 2).lengths(&[4, 2])).unwrap().to_vec().unwrap()
}

fn round_trip<C: Backend>(backend: &C, folder: &Path) {
    let [saved, loaded] = [1, 2].map(|seed| Model::new(backend, Key::new(seed), &small(true)).unwrap());
    // A step of life first: C~ is made and running statistics move.
    let tape = Tape::off(backend);
    let cx = Context::training(&tape, Key::new(0));
    saved.prepare(backend, 3).unwrap();
    saved.forward(&cx, Input::tokens(&[1, 2, 3, 4, 5, 6], 2)).unwrap();
    let bits = |model: &Model<C>| -> Vec<(String, Vec<u8>)> {
        let bytes = |param: &Param<C>| C::Elem::bytes_of(&backend.to_vec(&param.value()).unwrap());
        model.parameters().iter().map(|(name, param)| (name.clone(), bytes(param))).collect()
    };
    assert!(bits(&saved) != bits(&loaded));
    let path = folder.join(format!("{}.safetensors", backend.name()));
    save(backend, &saved, &path).unwrap();
    load(backend, &loaded, &path).unwrap();
    assert!(bits(&saved) == bits(&loaded));
    assert_eq!(tokens_logits(backend, &saved, 9), tokens_logits(backend, &loaded, 9));
    // The same model makes the same file, over the old one, and nothing else is left in the folder.
    let bytes = std::fs::read(&path).unwrap();
    save(backend, &Model::new(backend, Key::new(3), &small(true)).unwrap(), &path).unwrap();
    load(backend, &loaded, &path).unwrap();
    load(backend, &saved, &path).unwrap();
    assert!(std::fs::read(&path).unwrap() != bytes && bits(&saved) == bits(&loaded));
}

#[test]
fn a_model_is_saved_and_loaded_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    round_trip(&Cpu::<f32>::new(), folder.path());
    round_trip(&Cpu::<f64>::new(), folder.path());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn another_architecture_is_named_by_its_first_parameter() {
    let cpu = B::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.safetensors");
    save(&cpu, &Model::new(&cpu, Key::new(0), &small(true)).unwrap(), &path).unwrap();
    let refusal = |config: ModelConfig| {
        let model = Model::new(&cpu, Key::new(1), &config).unwrap();
        let before: Vec<_> = model.parameters().iter().map(|(_, param)| host(&cpu, &param.value())).collect();
        let message = load(&cpu, &model, &path).unwrap_err().to_string();
        let after: Vec<_> = model.parameters().iter().map(|(_, param)| host(&cpu, &param.value())).collect();
        assert!(message.contains("small.safetensors") && message.contains("does not belong to this architecture"), "{message}");
        assert!(before == after, "a refused file changed the model");
        message
    };
    let block = |ssm: SsmConfig| small(true).block.ssm(ssm);
    let message = refusal(small(true).encoder(Encoder::Tokens(8)));
    assert!(message.contains("encoder.weight has shape [7, 4], the model's has [8, 4]"), "{message}");
    let message = refusal(small(true).block(block(SsmConfig::new(4, 8))));
    assert!(message.contains("blocks.0.forward.ssm.kernel.A_real has shape [1, 3]") && message.contains("[1, 4]"), "{message}");
    let message = refusal(small(true).layers(2));
    assert!(message.contains("blocks.1.forward.sampler.scale is missing"), "{message}");
    let message = refusal(small(true).layers(0));
    assert!(
        message.contains("the model has no blocks.0.forward.sampler.scale") || message.contains("the model has no blocks.0."),
        "{message}"
    );
    let diagonal = SsmInit::Diag(Default::default(), pspikessm::backend::Discretization::Zoh);
    let message = refusal(small(true).block(block(SsmConfig::new(4, 6).init(diagonal))));
    assert!(message.contains("the model has no blocks.0.forward.ssm.kernel.P"), "{message}");
}

// ---------------------------------------------------------------- norms and dropout

const SHAPE: [usize; 3] = [3, 2, 5];

fn normal(cpu: &B, seed: u64, shape: &[usize]) -> Array {
    Array::new(shape, host(cpu, &cpu.normal(Key::new(seed), shape).unwrap()))
}

/// Values of the layer in training, or in evaluation.
fn normed(cpu: &B, norm: &Norm<B>, x: &Array, training: bool) -> Vec<f64> {
    let tape = Tape::off(cpu);
    let cx = if training { Context::training(&tape, Key::new(0)) } else { Context::evaluation(&tape, Key::new(0)) };
    norm.forward(&cx, &tape.constant(&x.tensor(cpu))).unwrap().to_vec().unwrap()
}

#[test]
fn batch_norm_tracks_unbiased_statistics_and_evaluates_with_them() {
    let cpu = B::new();
    let norm = Norm::new(&cpu, NormKind::Batch, 2).unwrap();
    assign(&cpu, &norm, "weight", &[2.0, -0.5]);
    assign(&cpu, &norm, "bias", &[0.25, 3.0]);
    let (mut mean, mut var) = ([0.0; 2], [1.0; 2]);
    for step in 0..3 {
        let x = normal(&cpu, step, &SHAPE);
        let by_channel = x.permute(&[1, 0, 2]).values;
        for (h, values) in by_channel.chunks(15).enumerate() {
            let (m, v) = moments(values);
            mean[h] = 0.9 * mean[h] + 0.1 * m;
            var[h] = 0.9 * var[h] + 0.1 * v * 15.0 / 14.0;
        }
        let y = normed(&cpu, &norm, &x, true);
        assert_close("running mean", &fetch(&cpu, &norm, "running_mean"), &mean, 1e-14);
        assert_close("running variance", &fetch(&cpu, &norm, "running_var"), &var, 1e-14);
        // What comes out has the batch's own statistics taken out: mean beta, deviation gamma.
        let (m, v) = moments(&Array::new(&SHAPE, y).permute(&[1, 0, 2]).values[15..]);
        assert!((m - 3.0).abs() < 1e-12 && (v.sqrt() - 0.5).abs() < 1e-4, "{m}, {v}");
    }
    let x = normal(&cpu, 9, &SHAPE);
    let scale = |h: usize| [2.0, -0.5][h] / (var[h] + 1e-5).sqrt();
    let want: Vec<f64> =
        x.values.iter().enumerate().map(|(i, x)| (i / 5 % 2, x)).map(|(h, x)| scale(h) * (x - mean[h]) + [0.25, 3.0][h]).collect();
    assert_close("evaluation", &normed(&cpu, &norm, &x, false), &want, 1e-13);
    assert_close("running mean after evaluation", &fetch(&cpu, &norm, "running_mean"), &mean, 1e-14);
}

#[test]
fn batch_norm_in_evaluation_takes_its_statistics_as_constants() {
    let cpu = B::new();
    let norm = Norm::new(&cpu, NormKind::Batch, 2).unwrap();
    assign(&cpu, &norm, "running_var", &[4.0 - 1e-5, 0.25 - 1e-5]);
    let tape = Tape::new(&cpu);
    let x = tape.leaf(&normal(&cpu, 1, &SHAPE).tensor(&cpu));
    let y = norm.forward(&Context::evaluation(&tape, Key::new(0)), &x).unwrap();
    let gradients = y.sum().unwrap().backward().unwrap();
    let want: Vec<f64> = (0..30).map(|i| [0.5, 2.0][i / 5 % 2]).collect();
    assert_close("dx", &host(&cpu, gradients.of(&x).unwrap()), &want, 1e-14);
    assert!(gradients.of_parameter(norm.bias.identity()).is_some());
    assert!(gradients.of_parameter(parameter(&norm, "running_var").identity()).is_none(), "a buffer is not trained");
}

#[test]
fn layer_norm_is_over_channels_in_training_and_evaluation() {
    let cpu = B::new();
    let norm = Norm::new(&cpu, NormKind::Layer, 4).unwrap();
    assign(&cpu, &norm, "weight", &[1.0, 2.0, -1.0, 0.5]);
    assign(&cpu, &norm, "bias", &[0.0, 1.0, 2.0, 3.0]);
    let x = normal(&cpu, 1, &[2, 4, 3]);
    let rows = x.permute(&[0, 2, 1]);
    let want = rows.values.chunks(4).flat_map(|row| {
        let (mean, var) = moments(row);
        let unit = row.iter().map(move |v| (v - mean) / (var + 1e-5).sqrt());
        unit.zip([(1.0, 0.0), (2.0, 1.0), (-1.0, 2.0), (0.5, 3.0)]).map(|(z, (gamma, beta))| gamma * z + beta)
    });
    let want = Array::new(&rows.shape, want.collect()).permute(&[0, 2, 1]).values;
    assert_close("training", &normed(&cpu, &norm, &x, true), &want, 1e-13);
    assert_eq!(normed(&cpu, &norm, &x, false), normed(&cpu, &norm, &x, true));
    assert_eq!(norm.parameters().len(), 2);
}

type Dropout = fn(&Context<'_, B>, Var<B>, f64) -> pspikessm::Result<Var<B>>;

#[test]
fn dropout_keeps_its_share_in_training_and_everything_in_evaluation() {
    let cpu = B::new();
    let (p, shape) = (0.3, [40, 50, 10]);
    let tape = Tape::off(&cpu);
    let x = tape.constant(&cpu.full(&shape, 2.0).unwrap());
    let run = |drop: Dropout, cx: &Context<'_, B>| drop(cx, x.clone(), p).unwrap().to_vec().unwrap();
    let (training, evaluation) = (Context::training(&tape, Key::new(4)), Context::evaluation(&tape, Key::new(4)));
    for drop in [dropout, dropout_tied] {
        let y = run(drop, &training);
        assert!(y.iter().all(|&v| v == 0.0 || (v - 2.0 / (1.0 - p)).abs() < 1e-12));
        assert!(run(drop, &evaluation).iter().all(|&v| v == 2.0));
        assert_ne!(y, run(drop, &Context::training(&tape, Key::new(5))));
    }
    let kept = |y: &[f64], step: usize| y.iter().step_by(step).filter(|v| **v != 0.0).count() as f64;
    let within = |kept: f64, n: f64| (kept - 0.7 * n).abs() < 5.0 * (0.21 * n).sqrt();
    let (free, tied) = (run(dropout, &training), run(dropout_tied, &training));
    assert!(within(kept(&free, 1), 20_000.0) && within(kept(&tied, 10), 2000.0));
    // Tied: one draw a (batch, channel); elementwise: within a channel some of both.
    assert!(tied.chunks(10).all(|channel| channel.iter().all(|v| *v == channel[0])));
    assert!(free.chunks(10).filter(|channel| channel.iter().any(|v| *v != channel[0])).count() > 1500);
}

#[test]
fn an_ssm_drops_before_and_after_its_gelu() {
    let cpu = B::new();
    let with = |dropout, activation| Ssm::new(&cpu, Key::new(1), &SsmConfig::new(6, 8).dropout(dropout).activation(activation)).unwrap();
    let tape = Tape::off(&cpu);
    let (training, evaluation) = (Context::training(&tape, Key::new(2)), Context::evaluation(&tape, Key::new(2)));
    let u = tape.constant(&normal(&cpu, 3, &[4, 6, 50]).tensor(&cpu));
    let values = |y: Var<B>| y.to_vec().unwrap();
    let conv = with(0.0, Activation::Gelu).convolve(&training, &u, None).unwrap();
    assert_eq!(values(with(0.0, Activation::Gelu).forward(&training, &u, None).unwrap()), values(conv.gelu().unwrap()));
    assert_eq!(values(with(0.0, Activation::Identity).forward(&training, &u, None).unwrap()), values(conv.clone()));
    assert_eq!(values(with(0.5, Activation::Gelu).forward(&evaluation, &u, None).unwrap()), values(conv.gelu().unwrap()));
    // Without GELU, both droppings scale by 2: a value is 0 or 4 times the convolution's; whole channels are 0 at the second.
    let dropped = values(with(0.5, Activation::Identity).forward(&training, &u, None).unwrap());
    assert!(dropped.iter().zip(values(conv)).all(|(y, c)| *y == 0.0 || (y - 4.0 * c).abs() <= 1e-12));
    let silent = dropped.chunks(50).filter(|channel| largest(channel) == 0.0).count();
    let partly = dropped.chunks(50).filter(|channel| largest(channel) > 0.0 && channel.contains(&0.0)).count();
    assert!(silent > 2 && partly > 2 && silent + partly == 24, "{silent} silent, {partly} partly");
}

// ---------------------------------------------------------------- decoders

/// A model without blocks: encoder, pooling, decoder.
fn bare(pooling: Pooling, retrieval: bool) -> Model<B> {
    let config = small(false).pooling(pooling).retrieval(retrieval).layers(0).block(small(false).block.norm(None));
    Model::new(&B::new(), Key::new(1), &config).unwrap()
}

const TOKENS: [u32; 12] = [0, 1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1];

fn bare_logits(model: &Model<B>, lengths: Option<&[usize]>) -> Vec<f64> {
    let cpu = B::new();
    let tape = Tape::off(&cpu);
    let cx = Context::evaluation(&tape, Key::new(0));
    let input = Input::tokens(&TOKENS, 4);
    let input = if let Some(lengths) = lengths { input.lengths(lengths) } else { input };
    model.forward(&cx, input).unwrap().to_vec().unwrap()
}

/// W x + b.
fn apply(model: &Model<B>, name: &str, x: &[f64]) -> Vec<f64> {
    let cpu = B::new();
    let (weight, bias) = (fetch(&cpu, model, &format!("{name}.weight")), fetch(&cpu, model, &format!("{name}.bias")));
    weight.chunks(x.len()).zip(bias).map(|(row, b)| b + row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>()).collect()
}

/// What the decoder should see of each of the four sequences of three tokens.
fn pooled(model: &Model<B>, pooling: Pooling, lengths: &[usize]) -> Vec<Vec<f64>> {
    let table = fetch(&B::new(), model, "encoder.weight");
    let row = |token: u32| &table[4 * token as usize..][..4];
    let sequence = |(tokens, &length): (&[u32], &usize)| -> Vec<f64> {
        match pooling {
            Pooling::Mean => (0..4).map(|h| tokens[..length].iter().map(|&t| row(t)[h]).sum::<f64>() / length as f64).collect(),
            Pooling::Last => row(tokens[length - 1]).to_vec(),
            _ => panic!("no truth for {pooling:?}"),
        }
    };
    TOKENS.chunks(3).zip(lengths).map(sequence).collect()
}

#[test]
fn pooling_reads_the_true_length() {
    for pooling in Pooling::ALL {
        let model = bare(pooling, false);
        for lengths in [[3, 1, 2, 3], [3; 4]] {
            let want: Vec<f64> = pooled(&model, pooling, &lengths).iter().flat_map(|x| apply(&model, "decoder", x)).collect();
            assert_close("logits", &bare_logits(&model, Some(&lengths)), &want, 1e-14);
        }
        assert_eq!(bare_logits(&model, None), bare_logits(&model, Some(&[3; 4])));
    }
}

#[test]
fn the_retrieval_head_compares_the_first_half_with_the_second() {
    let model = bare(Pooling::Mean, true);
    let lengths = [3, 1, 2, 3];
    let pooled = pooled(&model, Pooling::Mean, &lengths);
    let want = [(0, 2), (1, 3)].into_iter().flat_map(|(i, j)| {
        let (a, b) = (&pooled[i], &pooled[j]);
        let both = |f: fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| f(*a, *b)).collect::<Vec<_>>();
        let features = [a.clone(), b.clone(), both(|a, b| a - b), both(|a, b| a * b)].concat();
        let hidden: Vec<f64> = apply(&model, "decoder.0", &features).into_iter().map(|x| x * x.normal_cdf_pdf().0).collect();
        apply(&model, "decoder.1", &hidden)
    });
    let got = bare_logits(&model, Some(&lengths));
    assert_close("logits", &got, &want.collect::<Vec<_>>(), 1e-13);
    assert_eq!(got.len(), 2 * 3);
}

#[test]
fn inference_records_nothing_and_gives_the_same() {
    let cpu = B::new();
    let model = Model::new(&cpu, Key::new(1), &small(true)).unwrap();
    model.prepare(&cpu, 3).unwrap();
    let run = |tape: &Tape<B>| {
        let cx = Context::evaluation(tape, Key::new(5));
        model.forward(&cx, Input::tokens(&TOKENS, 4).lengths(&[3, 1, 2, 3])).unwrap()
    };
    let (off, on) = (Tape::off(&cpu), Tape::new(&cpu));
    let y = run(&off);
    assert!(off.is_empty() && !y.needs_gradient());
    assert_eq!(y.to_vec().unwrap(), run(&on).to_vec().unwrap());
    assert!(on.len() > 40);
}

#[test]
fn a_linear_layer_takes_vectors_and_sequences() {
    let cpu = B::new();
    let linear = Linear::new(&cpu, Key::new(1), 3, 2).unwrap();
    let tape = Tape::off(&cpu);
    let cx = Context::training(&tape, Key::new(0));
    let x = normal(&cpu, 2, &[4, 3]);
    let (weight, bias) = (fetch(&cpu, &linear, "weight"), fetch(&cpu, &linear, "bias"));
    let want: Vec<f64> = x
        .values
        .chunks(3)
        .flat_map(|x| (0..2).map(|o| bias[o] + (0..3).map(|i| weight[3 * o + i] * x[i]).sum::<f64>()).collect::<Vec<_>>())
        .collect();
    let y = linear.forward(&cx, &tape.constant(&x.tensor(&cpu))).unwrap();
    assert_eq!(y.shape(), [4, 2]);
    assert_close("vectors", &y.to_vec().unwrap(), &want, 1e-14);
    // Two sequences of two steps.
    let sequences = x.clone().reshape(&[2, 2, 3]).sequence();
    let y = linear.forward(&cx, &tape.constant(&sequences.tensor(&cpu))).unwrap();
    assert_close("sequences", &Array::new(&[2, 2, 2], y.to_vec().unwrap()).sequence().values, &want, 1e-14);
}

#[test]
fn a_meter_counts_sampled_spikes() {
    let cpu = B::new();
    let sampler = SpikeSampler::new(&cpu, 2, SpikeSource::default()).unwrap();
    let (tape, meter) = (Tape::off(&cpu), SpikeMeter::default());
    assert!(meter.rate().is_nan());
    let cx = Context::training(&tape, Key::new(0)).metered(&meter);
    let run = |cx: &Context<'_, B>, x: f64| {
        sampler.forward(cx, &tape.constant(&cpu.full(&[1, 2, 30], x).unwrap()), Noise::Stream(Key::new(1).into())).unwrap();
    };
    run(&cx, 2.0);
    assert_eq!(meter.rate(), 1.0);
    run(&cx.part(3), -1.0);
    assert_eq!(meter.rate(), 0.5);
    run(&cx.clone().expected(), 1.0);
    assert_eq!(meter.rate(), 0.5, "an expectation is no spike");
}

// ---------------------------------------------------------------- the optimiser

/// One parameter of every group.
struct Groups {
    params: Vec<(&'static str, Param<B>)>,
}

impl Module<B> for Groups {
    fn names(&self, names: &mut Names<'_, B>) {
        self.params.iter().for_each(|(name, param)| names.param(name, param));
    }
}

impl Groups {
    fn new(cpu: &B) -> Self {
        let trained = |lr, decay| ParamOptions::Trained { lr, decay };
        let options = [
            ("decayed", ParamOptions::DECAYED),
            ("plain", ParamOptions::PLAIN),
            ("own rate", trained(Some(0.2), false)),
            ("own rate, decayed", trained(Some(0.2), true)),
            ("buffer", ParamOptions::Buffer),
            ("unused", ParamOptions::DECAYED),
        ];
        let param = |(i, (name, options))| (name, Param::new(cpu.normal(Key::new(i), &[3]).unwrap(), options));
        Groups { params: (0..).zip(options).map(param).collect() }
    }

    /// Backwards from sum (x^2 + c x) over all parameters but the unused one: a gradient of 2 x + c.
    fn gradients(&self, cpu: &B, c: f64) -> pspikessm::autodiff::Gradients<B> {
        let tape = Tape::new(cpu);
        let cx = Context::training(&tape, Key::new(0));
        let terms = self.params.iter().filter(|(name, _)| *name != "unused").map(|(_, param)| {
            let x = cx.var(param);
            x.square().unwrap().add(&x.scale(c).unwrap()).unwrap()
        });
        let total = terms.reduce(|sum, term| sum.add(&term).unwrap()).unwrap();
        total.sum().unwrap().backward().unwrap()
    }
}

/// A parameter by AdamW as it is written down: decay, moments, bias correction.
struct Reference {
    x: Vec<f64>,
    moments: Vec<[f64; 2]>,
    lr: f64,
    decay: f64,
}

impl Reference {
    fn step(&mut self, step: i32, factor: f64, c: f64) {
        for (x, [m, v]) in self.x.iter_mut().zip(&mut self.moments) {
            let (g, lr) = (2.0 * *x + c, factor * self.lr);
            *m = 0.8 * *m + 0.2 * g;
            *v = 0.95 * *v + 0.05 * g * g;
            let (m_hat, v_hat) = (*m / (1.0 - 0.8f64.powi(step)), *v / (1.0 - 0.95f64.powi(step)));
            *x = *x - lr * self.decay * *x - lr * m_hat / (v_hat.sqrt() + 1e-3);
        }
    }
}

#[test]
fn adamw_steps_every_group_as_written_down() {
    let cpu = B::new();
    let groups = Groups::new(&cpu);
    let start: Vec<Vec<f64>> = groups.params.iter().map(|(name, _)| fetch(&cpu, &groups, name)).collect();
    let rates = [(0.05, 0.1), (0.05, 0.0), (0.2, 0.0), (0.2, 0.1)];
    let mut references: Vec<Reference> =
        rates.iter().zip(&start).map(|(&(lr, decay), x)| Reference { x: x.clone(), moments: vec![[0.0; 2]; 3], lr, decay }).collect();
    let config = AdamWConfig::new(0.05, 0.1).beta1(0.8).beta2(0.95).eps(1e-3);
    let mut optimizer = Optimizer::new(config).unwrap();
    for (step, factor) in (1..).zip([0.0, 0.5, 1.0, 0.7, 0.1]) {
        let c = f64::from(step) - 2.5;
        optimizer.update(&cpu, &groups, &groups.gradients(&cpu, c), factor).unwrap();
        for ((name, _), reference) in groups.params.iter().zip(&mut references) {
            reference.step(step, factor, c);
            assert_close(name, &fetch(&cpu, &groups, name), &reference.x, 1e-13);
            let state = optimizer.state(&parameter(&groups, name)).unwrap();
            let [m, v] = [0, 1].map(|slot| host(&cpu, &state.slots[slot]));
            assert_close("first moment", &m, &reference.moments.iter().map(|m| m[0]).collect::<Vec<_>>(), 1e-13);
            assert_close("second moment", &v, &reference.moments.iter().map(|m| m[1]).collect::<Vec<_>>(), 1e-13);
        }
    }
    assert_eq!(optimizer.steps(), 5);
    for untouched in [4, 5] {
        assert_eq!(fetch(&cpu, &groups, groups.params[untouched].0), start[untouched]);
    }
    assert_eq!(crate::common::remembered(&groups, &optimizer).len(), 4);
}

#[test]
fn adamw_defaults_are_the_recipes() {
    let AdamWConfig { lr, beta1, beta2, eps, weight_decay, .. } = AdamWConfig::new(8e-4, 0.01);
    assert_eq!([lr, beta1, beta2, eps, weight_decay], [8e-4, 0.9, 0.999, 1e-8, 0.01]);
}
