//! What a model takes and gives besides logits: variables, features, logits of every step, and its own file.

use crate::common::{Array, assert_close, distance, fetch, host};
use pspikessm::Error;
use pspikessm::autodiff::Tape;
use pspikessm::backend::*;
use pspikessm::nn::hippo::{DiagInit, Measure};
use pspikessm::nn::store::{load, save};
use pspikessm::nn::{
    Activation, Block, BlockConfig, Context, Encoder, Input, Model, ModelConfig, Module, NormKind, Pooling, SpikeMeter, SpikeSource,
    SsmConfig, SsmInit,
};

type B = Cpu<f64>;

const BATCH: usize = 3;
const LENGTH: usize = 7;
const LENGTHS: [usize; BATCH] = [7, 2, 5];

fn config() -> ModelConfig {
    let ssm = SsmConfig::new(4, 6).dt_min(0.05).dt_max(0.5).l_max(LENGTH);
    ModelConfig::new(Encoder::Values(2), BlockConfig::new(ssm).norm(NormKind::Layer), 3).layers(2)
}

fn model(config: &ModelConfig) -> Model<B> {
    Model::new(&B::new(), Key::new(4), config).unwrap()
}

/// (B, d_input, L).
fn sequence(cpu: &B, channels: usize) -> Array {
    let shape = [BATCH, channels, LENGTH];
    Array::new(&shape, host(cpu, &cpu.normal(Key::new(5), &shape).unwrap()))
}

// ---------------------------------------------------------------- input and output

#[test]
fn values_a_sequence_and_what_is_encoded_are_one_input() {
    let (cpu, model) = (B::new(), model(&config()));
    let tape = Tape::off(&cpu);
    let cx = Context::evaluation(&tape, Key::new(1));
    // Numbers that f32 holds.
    let x = Array { values: sequence(&cpu, 2).values.iter().map(|&v| f64::from(v as f32)).collect(), ..sequence(&cpu, 2) };
    let rows: Vec<f32> = x.permute(&[0, 2, 1]).values.into_iter().map(|v| v as f32).collect();
    let values = model.forward(&cx, Input::values(&rows, BATCH).lengths(&LENGTHS)).unwrap().to_vec().unwrap();
    let x = tape.constant(&x.tensor(&cpu));
    assert_eq!(model.forward(&cx, Input::sequence(&x).lengths(&LENGTHS)).unwrap().to_vec().unwrap(), values);
    let (weight, bias) = (fetch(&cpu, &model, "encoder.weight"), fetch(&cpu, &model, "encoder.bias"));
    let weight = tape.constant(&Array::new(&[4, 2], weight).tensor(&cpu));
    let encoded = weight.matmul(&x).unwrap().add(&tape.constant(&Array::new(&[4, 1], bias).tensor(&cpu))).unwrap();
    let logits = model.forward(&cx, Input::encoded(&encoded).lengths(&LENGTHS)).unwrap().to_vec().unwrap();
    assert_close("encoded", &logits, &values, 1e-13);
    assert!(matches!(model.forward(&cx, Input::encoded(&x)), Err(Error::Shape { op: "Model", .. })));
    assert!(model.forward(&cx, Input::sequence(&tape.constant(&cpu.full(&[2, 2], 0.0).unwrap()))).is_err());
    let reader = self::model(&config().encoder(Encoder::Tokens(5)));
    assert!(reader.forward(&cx, Input::sequence(&x)).unwrap_err().to_string().contains("reads tokens"));
    assert_eq!(reader.forward(&cx, Input::encoded(&encoded)).unwrap().shape(), [BATCH, 3]);
}

#[test]
fn a_batch_beyond_the_caches_has_the_bits_of_one_that_is_run_whole() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let ssm = |length| SsmConfig::new(32, 4).dt_min(0.05).dt_max(0.5).l_max(length);
    for (encoder, norm, pooling, length) in [
        (Encoder::Tokens(9), NormKind::Batch, Pooling::Mean, 2048),
        (Encoder::Values(2), NormKind::Batch, Pooling::Mean, 2000),
        (Encoder::Values(1), NormKind::Layer, Pooling::Last, 1777),
    ] {
        let (cpu, batch) = (B::new(), 11);
        assert!(pool.install(|| cpu.cached_bytes()).unwrap() < batch * 32 * length * size_of::<f64>(), "a slice holds all");
        let block = BlockConfig::new(ssm(length)).norm(norm).prenorm(true).residual(false);
        let model = model(&ModelConfig::new(encoder, block, 3).layers(1).pooling(pooling));
        let width = if let Encoder::Values(width) = encoder { width } else { 0 };
        let numbers = host(&cpu, &cpu.draw_uniform(Draw::new(Key::new(3)), &[batch * length * width.max(1)]).unwrap());
        let tokens: Vec<u32> = numbers.iter().map(|u| (u * 9.0) as u32).collect();
        let values: Vec<f32> = numbers.iter().map(|&u| u as f32).collect();
        let lengths: Vec<usize> = (0..batch).map(|b| length - 100 * b).collect();
        // Whoever counts spikes sees the whole batch.
        let run = |whole: bool, tokens: &[u32], values: &[f32], lengths: &[usize]| {
            let (tape, meter) = (Tape::off(&cpu), SpikeMeter::default());
            let cx = Context::evaluation(&tape, Key::new(1)).first_sample(5);
            let cx = if whole { cx.metered(&meter) } else { cx };
            let input = if width == 0 { Input::tokens(tokens, batch) } else { Input::values(values, batch) };
            model.forward(&cx, input.lengths(lengths))?.to_vec()
        };
        let same = |tokens: &[u32], values: &[f32], lengths: &[usize]| {
            let [whole, slices] = [true, false].map(|whole| pool.install(|| run(whole, tokens, values, lengths)));
            assert_eq!(slices.as_ref().map_err(ToString::to_string), whole.as_ref().map_err(ToString::to_string), "{encoder:?}");
            slices
        };
        assert_eq!(same(&tokens, &values, &lengths).unwrap().len(), batch * 3);
        // What does not fit is told by its place in the batch.
        let (mut odd_tokens, mut odd_values) = (tokens.clone(), values.clone());
        *odd_tokens.last_mut().unwrap() = 9;
        *odd_values.last_mut().unwrap() = f32::NAN;
        same(&odd_tokens, &odd_values, &lengths).unwrap_err();
        same(&[&tokens[..], &[1]].concat(), &[&values[..], &[0.5]].concat(), &lengths).unwrap_err();
        same(&tokens, &values, &lengths[1..]).unwrap_err();
    }
}

#[test]
fn saliency_is_the_slope_of_the_expected_loss() {
    let (cpu, model) = (B::new(), model(&config()));
    let x = sequence(&cpu, 2);
    let loss = |tape: &Tape<B>, x: &pspikessm::autodiff::Var<B>| {
        let cx = Context::evaluation(tape, Key::new(1)).expected();
        model.forward(&cx, Input::sequence(x).lengths(&LENGTHS)).unwrap().cross_entropy(&[0, 2, 1]).unwrap()
    };
    let tape = Tape::new(&cpu);
    let leaf = tape.leaf(&x.tensor(&cpu));
    let saliency = host(&cpu, loss(&tape, &leaf).backward().unwrap().of(&leaf).unwrap());
    let at = |i: usize, by: f64| {
        let mut moved = x.clone();
        moved.values[i] += by;
        let off = Tape::off(&cpu);
        loss(&off, &off.constant(&moved.tensor(&cpu))).item().unwrap()
    };
    let step = 1e-5;
    let slopes: Vec<f64> = (0..x.values.len()).map(|i| (at(i, step) - at(i, -step)) / (2.0 * step)).collect();
    assert_close("saliency", &saliency, &slopes, 1e-7);
    // Padding is silent, but for where a layer before the mask would see it: none does.
    let behind = |i: usize| i % LENGTH >= LENGTHS[i / (2 * LENGTH)];
    assert!(saliency.iter().enumerate().filter(|(i, _)| behind(*i)).all(|(_, slope)| *slope == 0.0));
}

#[test]
fn features_come_before_the_head_which_also_speaks_at_every_step() {
    let (cpu, model) = (B::new(), model(&config().pooling(Pooling::Last)));
    let tape = Tape::off(&cpu);
    let cx = Context::evaluation(&tape, Key::new(1));
    let x = tape.constant(&sequence(&cpu, 2).tensor(&cpu));
    let input = || Input::sequence(&x).lengths(&LENGTHS);
    let features = model.features(&cx, input()).unwrap();
    assert_eq!(features.shape(), [BATCH, 4, LENGTH]);
    let steps = model.forward_each_step(&cx, input()).unwrap();
    assert_eq!(steps.shape(), [BATCH, 3, LENGTH]);
    let (weight, bias) = (fetch(&cpu, &model, "decoder.weight"), fetch(&cpu, &model, "decoder.bias"));
    let weight = tape.constant(&Array::new(&[3, 4], weight).tensor(&cpu));
    let want = weight.matmul(&features).unwrap().add(&tape.constant(&Array::new(&[3, 1], bias).tensor(&cpu))).unwrap();
    assert_close("every step", &steps.to_vec().unwrap(), &want.to_vec().unwrap(), 1e-13);
    // The pooled logits are those of the last step.
    let (steps, logits) = (steps.to_vec().unwrap(), model.forward(&cx, input()).unwrap().to_vec().unwrap());
    let last: Vec<f64> = (0..BATCH * 3).map(|row| steps[row * LENGTH + LENGTHS[row / 3] - 1]).collect();
    assert_close("the last step", &logits, &last, 1e-13);
    let pairs = self::model(&config().retrieval(true));
    assert!(matches!(pairs.forward_each_step(&cx, input()), Err(Error::Config { name: "retrieval", .. })));
}

#[test]
fn a_causal_block_does_not_look_ahead() {
    let cpu = B::new();
    let ssm = SsmConfig::new(4, 6).dt_min(0.05).dt_max(0.5).l_max(LENGTH);
    let outputs = |config: BlockConfig, moved: f64| {
        let block = Block::new(&cpu, Key::new(2), &config.norm(None)).unwrap();
        let tape = Tape::off(&cpu);
        let mut x = sequence(&cpu, 4);
        x.values.iter_mut().skip(LENGTH - 1).step_by(LENGTH).for_each(|last| *last += moved);
        let cx = Context::evaluation(&tape, Key::new(1)).expected();
        let y = block.forward(&cx, &tape.constant(&x.tensor(&cpu)), None).unwrap().to_vec().unwrap();
        y.chunks(LENGTH).flat_map(|row| row[..LENGTH - 1].to_vec()).collect::<Vec<_>>()
    };
    let causal = BlockConfig::new(ssm.clone()).causal();
    assert!(!causal.bidirectional && !causal.ssm.bidirectional && !ssm.clone().causal().bidirectional);
    // Round-off of the convolution's transforms is all that comes from the future.
    assert!(distance(&outputs(causal.clone(), 0.5), &outputs(causal, 0.0)) < 1e-14);
    let half = BlockConfig::new(ssm).bidirectional(false);
    assert!(distance(&outputs(half.clone(), 0.5), &outputs(half, 0.0)) > 1e-3);
}

// ---------------------------------------------------------------- files

/// Configurations in which every field has, at least once, another value than by default.
fn configs() -> Vec<ModelConfig> {
    let lif = Lif { decay: 0.8, threshold: 0.6, soft_reset: true, surrogate: Surrogate::Atan { alpha: 2.0 } };
    let diagonal = SsmInit::Diag(DiagInit::Inv, Discretization::Bilinear);
    let ssm = SsmConfig::new(4, 2).n_ssm(4).init(diagonal).dt_min(0.01).dt_max(0.3).dt_transform(DtTransform::Exp);
    let ssm = ssm.l_max(9).bidirectional(false).dropout(0.1).activation(Activation::Identity).lr(None).lr_for_all(true);
    let block = BlockConfig::new(ssm).bidirectional(false).residual(false).norm(None).prenorm(true).dropout(0.2);
    let block = block.activation(Activation::Relu).source(SpikeSource::Lif(lif)).own_noise(true).flip_reverse(true).clamp_residual(true);
    let other = ModelConfig::new(Encoder::Values(2), block, 5).layers(1).pooling(Pooling::Last).retrieval(true);
    let legt = SsmConfig::new(4, 2).init(SsmInit::Dplr(Measure::LegT));
    vec![config(), other, ModelConfig::new(Encoder::Values(2), BlockConfig::new(legt), 2).layers(1)]
}

#[test]
fn a_model_is_opened_with_its_configuration_and_every_bit() {
    let (cpu, folder) = (B::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("model.safetensors");
    for config in configs() {
        let saved = model(&config);
        saved.prepare(&cpu, 11).unwrap();
        saved.save(&cpu, &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let opened = Model::open(&cpu, &path).unwrap();
        assert_eq!(opened.config(), saved.config());
        for ((name, param), (_, want)) in opened.parameters().into_iter().zip(saved.parameters()) {
            assert_eq!(host(&cpu, &param.value()), host(&cpu, &want.value()), "{name}");
        }
        let logits = |model: &Model<B>| {
            let tape = Tape::off(&cpu);
            let x = tape.constant(&cpu.normal(Key::new(5), &[2, 2, LENGTH]).unwrap());
            model.forward(&Context::evaluation(&tape, Key::new(1)), Input::sequence(&x)).unwrap().to_vec().unwrap()
        };
        assert_eq!(logits(&opened), logits(&saved));
        opened.save(&cpu, &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        // It also goes into a model that is there.
        let other = Model::new(&cpu, Key::new(9), &config).unwrap();
        load(&cpu, &other, &path).unwrap();
        assert_eq!(logits(&other), logits(&saved));
    }
}

#[test]
fn a_file_that_is_no_whole_model_says_what_it_lacks() {
    let (cpu, folder) = (B::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("model.safetensors");
    let refused = || Model::open(&cpu, &path).unwrap_err().to_string();
    assert!(refused().contains("could not read"));
    save(&cpu, &model(&config()), &path).unwrap();
    let message = refused();
    assert!(message.contains("holds no configuration") && message.contains("nn::store::load"), "{message}");
    let official = Model::open(&cpu, crate::common::fixture_path("model_listops.safetensors")).unwrap_err().to_string();
    assert!(official.contains("nn::official::import"), "{official}");

    let damaged = |from: &str, to: &str| {
        model(&config()).save(&cpu, &path).unwrap();
        let mut archive = pspikessm::nn::store::Archive::read(&path).unwrap();
        let note = archive.notes.values_mut().next().unwrap();
        assert!(note.contains(from), "{note}");
        *note = note.replace(from, to);
        archive.write(&path).unwrap();
        refused()
    };
    for (from, to, part) in [
        ("\"layers\":2", "\"layers\":3", "larger model than the file holds"),
        ("\"layers\":2", "\"layers\":2,\"wings\":2", "wings"),
        ("\"d_state\":6", "\"d_state\":7", "d_state = 7"),
        ("{", "[", "note"),
    ] {
        let message = damaged(from, to);
        assert!(message.contains(part) && message.contains("model.safetensors"), "{message}");
    }
    let poisoned = model(&config());
    let (name, param) = poisoned.parameters().swap_remove(5);
    param.set(cpu.full(param.value().shape(), f64::NAN).unwrap()).unwrap();
    poisoned.save(&cpu, &path).unwrap();
    let message = refused();
    assert!(message.contains(&name) && message.contains("NaN"), "{message}");
}
