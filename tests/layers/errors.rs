//! What users of the layers can get wrong is an `Err` that says where, what, and what to do: never a panic.

use crate::common::{Array, host, says};
use pspikessm::autodiff::{Tape, Var};
use pspikessm::backend::*;
use pspikessm::nn::store::{Archive, load, save};
use pspikessm::nn::{
    Activation, AdamWConfig, Block, BlockConfig, Context, Embedding, Encoder, Input, Linear, Model, ModelConfig, Module, Norm, NormKind,
    Optimizer, Param, ParamOptions, PlifConfig, SpikeMixer, SpikeSampler, SpikeSource, Ssm, SsmConfig,
};
use pspikessm::{Error, Result};

type B = Cpu<f64>;

fn tokens(block: BlockConfig) -> ModelConfig {
    ModelConfig::new(Encoder::Tokens(7), block, 3).layers(1)
}

fn small() -> BlockConfig {
    BlockConfig::new(SsmConfig::new(4, 6))
}

fn full(cpu: &B, shape: &[usize], value: f64) -> Tensor<B> {
    cpu.full(shape, value).unwrap()
}

// ---------------------------------------------------------------- configurations

/// Every way to make a layer or a model from this SSM configuration refuses it.
fn refuses(config: &SsmConfig, name: &str, parts: &[&str]) {
    let cpu = B::new();
    let block = BlockConfig::new(config.clone());
    let attempts = [
        config.check(),
        Ssm::new(&cpu, Key::new(0), config).map(drop),
        pspikessm::nn::ssm::SsmKernel::new(&cpu, Key::new(0), config).map(drop),
        Block::new(&cpu, Key::new(0), &block).map(drop),
        Model::new(&cpu, Key::new(0), &tokens(block.clone())).map(drop),
        // A model without blocks checks its configuration all the same.
        Model::new(&cpu, Key::new(0), &tokens(block).layers(0)).map(drop),
    ];
    for attempt in attempts {
        assert!(matches!(&attempt, Err(Error::Config { name: own, .. }) if *own == name), "{name}: {attempt:?}");
        says(attempt, parts);
    }
}

#[test]
fn a_configuration_that_makes_no_sense_is_named() {
    let good = SsmConfig::new(12, 8);
    good.check().unwrap();
    for d_state in [0, 1, 7, 63] {
        refuses(&good.clone().d_state(d_state), "d_state", &[&format!("d_state = {d_state}"), "even", "conjugate pairs"]);
    }
    for n_ssm in [0, 5, 24] {
        refuses(&good.clone().n_ssm(n_ssm), "n_ssm", &[&format!("n_ssm = {n_ssm}"), "divide d_model = 12"]);
    }
    for (dt_min, dt_max) in [(0.2, 0.1), (0.0, 0.1), (-0.1, 0.1), (f64::NAN, 0.1), (0.1, f64::NAN), (0.1, f64::INFINITY)] {
        let given = format!("[{dt_min}, {dt_max}]");
        refuses(&good.clone().dt_min(dt_min).dt_max(dt_max), "[dt_min, dt_max]", &[&given, "0 < dt_min <= dt_max"]);
    }
    for dropout in [1.0, 1.5, -0.1, f64::NAN] {
        refuses(&good.clone().dropout(dropout), "dropout", &[&format!("dropout = {dropout}"), "[0, 1)"]);
        let block = BlockConfig::new(good.clone()).dropout(dropout);
        says(Block::new(&B::new(), Key::new(0), &block), &["dropout", "[0, 1)"]);
    }
    refuses(&good.clone().l_max(0), "l_max", &["l_max = 0", "at least 1"]);
    refuses(&good.d_model(0), "d_model", &["d_model = 0", "at least 1"]);
}

#[test]
fn layers_without_size_are_refused() {
    let cpu = B::new();
    says(Model::new(&cpu, Key::new(0), &tokens(small()).classes(0)), &["classes = 0", "at least 1"]);
    for encoder in [Encoder::Tokens(0), Encoder::Values(0)] {
        says(Model::new(&cpu, Key::new(0), &tokens(small()).encoder(encoder)), &["at least 1", "0"]);
    }
    says(Linear::new(&cpu, Key::new(0), 3, 0), &["Linear", "3 -> 0"]);
    says(Embedding::new(&cpu, Key::new(0), 0, 3), &["Embedding", "(0, 3)"]);
    says(SpikeMixer::new(&cpu, Key::new(0), 3, 0, Activation::Gelu), &["SpikeMixer", "0 branches of 3"]);
    says(Norm::new(&cpu, NormKind::Layer, 0), &["d_model = 0"]);
}

#[test]
fn a_model_that_no_memory_holds_is_refused_before_anything_is_allocated() {
    // 2^40 on 64 bits, 2^20 on 32.
    for d_model in [1 << (usize::BITS / 8 * 5), usize::MAX / 2] {
        let block = BlockConfig::new(SsmConfig::new(d_model, 4).n_ssm(1));
        says(Model::new(&B::new(), Key::new(0), &tokens(block)), &[&format!("d_model = {d_model}"), "layers", "choose less"]);
    }
}

#[test]
fn an_optimiser_refuses_numbers_that_cannot_train() {
    let good = AdamWConfig::new(1e-3, 0.01);
    for bad in [-1e-3, f64::NAN, f64::INFINITY] {
        says(Optimizer::<B>::new(good.lr(bad)), &["lr", "at least 0"]);
        says(Optimizer::<B>::new(good.weight_decay(bad)), &["weight_decay", "at least 0"]);
        says(Optimizer::<B>::new(good.eps(bad)), &["eps", "at least 0"]);
        says(Optimizer::<B>::new(good.beta1(bad)), &["beta1", "[0, 1)"]);
        says(Optimizer::<B>::new(good.beta2(bad)), &["beta2", "[0, 1)"]);
    }
    says(Optimizer::<B>::new(good.beta1(1.0)), &["beta1 = 1", "[0, 1)"]);
}

#[test]
fn surrogates_and_neurons_are_checked_when_they_are_used() {
    let cpu = B::new();
    let lif = |decay, alpha| SpikeSource::Lif(Lif { decay, threshold: 1.0, soft_reset: false, surrogate: Surrogate::Atan { alpha } });
    for (source, parts) in [
        (SpikeSource::Probability(Surrogate::Sigmoid { alpha: 0.0 }), ["alpha = 0", "positive"]),
        (lif(1.5, 2.0), ["decay = 1.5", "[0, 1]"]),
        (lif(0.5, -1.0), ["alpha = -1", "positive"]),
    ] {
        let block = Block::new(&cpu, Key::new(0), &small().source(source)).unwrap();
        let tape = Tape::off(&cpu);
        let x = tape.constant(&full(&cpu, &[1, 4, 5], 0.5));
        says(block.forward(&Context::training(&tape, Key::new(0)), &x, None), &parts);
    }
}

#[test]
fn neurons_that_are_trained_are_checked_when_they_are_made() {
    let cpu = B::new();
    let plif = PlifConfig::new;
    for (config, parts) in [
        (plif(1.0), ["decay = 1", "(0, 1)"]),
        (plif(f64::NAN), ["decay = NaN", "(0, 1)"]),
        (plif(0.5).threshold(f64::INFINITY), ["threshold = inf", "finite"]),
        (plif(0.5).adaptation(Adaptation { strength: 0.1, fading: 2.0 }), ["fading = 2", "[0, 1]"]),
        (plif(0.5).surrogate(Surrogate::Sigmoid { alpha: 0.0 }), ["alpha = 0", "positive"]),
    ] {
        says(Block::new(&cpu, Key::new(0), &small().source(SpikeSource::Plif(config))), &parts);
        says(SpikeSampler::new(&cpu, 3, SpikeSource::Plif(config)), &parts);
    }
}

// ---------------------------------------------------------------- shapes

#[test]
fn shapes_that_do_not_fit_are_named_with_their_axis() {
    let cpu = B::new();
    let tape = Tape::off(&cpu);
    let cx = Context::training(&tape, Key::new(0));
    let x = |shape: &[usize]| tape.constant(&full(&cpu, shape, 0.5));
    let block = Block::new(&cpu, Key::new(0), &small()).unwrap();
    let forward = |shape: &[usize]| block.forward(&cx, &x(shape), None);
    says(forward(&[2, 5, 9]), &["Block", "axis 1", "[2, 4, 9]", "[2, 5, 9]"]);
    says(forward(&[2, 4]), &["Block", "[2, 4]", "batch, channels, length"]);
    for empty in [[0, 4, 9], [2, 0, 9], [2, 4, 0]] {
        says(forward(&empty), &["Block", &format!("{empty:?}"), "at least 1"]);
    }
    let ssm = Ssm::new(&cpu, Key::new(0), &SsmConfig::new(4, 6)).unwrap();
    says(ssm.forward(&cx, &x(&[2, 3, 9]), None), &["long_conv", "axis 1", "[2, 3, 9]", "[2, 4, 9]"]);
    says(ssm.forward(&cx, &x(&[2, 4, 0]), None), &["Ssm", "[2, 4, 0]"]);
    let linear = Linear::new(&cpu, Key::new(0), 3, 2).unwrap();
    says(linear.forward(&cx, &x(&[2, 4])), &["mix", "[2, 3]"]);
    says(linear.forward(&cx, &x(&[2, 4, 5])), &["mix", "[2, 3]"]);
    let sampler = SpikeSampler::new(&cpu, 4, SpikeSource::default()).unwrap();
    says(sampler.forward(&cx, &x(&[2, 3, 9]), Noise::Stream(Key::new(0).into())), &["spike", "axis 1", "[2, 3, 9]", "[4]"]);
    for kind in NormKind::ALL {
        says(Norm::new(&cpu, kind, 4).unwrap().forward(&cx, &x(&[2, 3, 9])), &["norm", "axis 0", "[3]", "[4]"]);
    }
    let mixer = SpikeMixer::new(&cpu, Key::new(0), 4, 2, Activation::Gelu).unwrap();
    says(mixer.forward(&cx, &[&x(&[2, 4, 9])]), &["mix", "[4, 8]"]);
    says(mixer.forward(&cx, &[&x(&[2, 4, 9]), &x(&[2, 4, 8])]), &["mix", "axis 2", "[2, 4, 9]", "[2, 4, 8]"]);
}

#[test]
fn a_parameter_keeps_its_shape() {
    let cpu = B::new();
    let param = Param::full(&cpu, &[3, 2], 1.0, ParamOptions::PLAIN).unwrap();
    says(param.set(full(&cpu, &[2, 3], 0.0)), &["Param::set", "axis 0", "[3, 2]", "[2, 3]"]);
    says(Param::from_values(&cpu, [1.0; 5], &[3, 2], ParamOptions::PLAIN), &["[5]", "[3, 2]"]);
    assert_eq!(host(&cpu, &param.value()), [1.0; 6]);
}

#[test]
fn one_value_a_channel_has_no_statistics() {
    let cpu = B::new();
    let tape = Tape::off(&cpu);
    let norm = Norm::new(&cpu, NormKind::Batch, 4).unwrap();
    let x = tape.constant(&full(&cpu, &[1, 4, 1], 0.5));
    says(norm.forward(&Context::training(&tape, Key::new(0)), &x), &["batch_norm", "no variance", "[1, 4, 1]"]);
    norm.forward(&Context::evaluation(&tape, Key::new(0)), &x).unwrap();
}

// ---------------------------------------------------------------- inputs of a model

fn run(model: &Model<B>, input: Input<'_, B>) -> Result<Var<B>> {
    let cpu = B::new();
    let tape = Tape::off(&cpu);
    model.forward(&Context::evaluation(&tape, Key::new(0)), input)
}

#[test]
fn tokens_that_do_not_fit_are_named() {
    let model = Model::new(&B::new(), Key::new(0), &tokens(small())).unwrap();
    let forward = |tokens: &[u32], batch| run(&model, Input::tokens(tokens, batch));
    forward(&[0, 6, 1, 2], 2).unwrap();
    says(forward(&[0, 6, 1, 7], 2), &["token 7", "position 1 of sequence 1", "vocabulary of 7"]);
    says(forward(&[0, u32::MAX], 1), &["token 4294967295", "vocabulary of 7"]);
    says(forward(&[], 0), &["Model", "batch is empty"]);
    says(forward(&[1, 2], 0), &["Model", "batch is empty"]);
    says(forward(&[], 2), &["0 tokens", "2 sequences"]);
    says(forward(&[1, 2, 3], 2), &["3 tokens", "2 sequences", "pad"]);
    says(run(&model, Input::values(&[0.5], 1)), &["reads tokens", "values were given"]);
}

#[test]
fn values_that_do_not_fit_are_named() {
    let config = tokens(small()).encoder(Encoder::Values(2));
    let model = Model::new(&B::new(), Key::new(0), &config).unwrap();
    let forward = |values: &[f32], batch| run(&model, Input::values(values, batch));
    let good: Vec<f32> = (0..12).map(|i| i as f32 / 12.0).collect();
    assert_eq!(forward(&good, 2).unwrap().shape(), [2, 3]);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = good.clone();
        values[9] = bad;
        says(forward(&values, 2), &[&format!("{bad}"), "sequence 1", "position 1", "not finite"]);
    }
    says(forward(&good[..11], 2), &["11 values", "2 sequences", "2 values a position"]);
    says(forward(&good[..2], 2), &["2 values", "2 sequences"]);
    says(forward(&[], 2), &["0 values"]);
    says(forward(&[], 0), &["batch is empty"]);
    says(run(&model, Input::tokens(&[1], 1)), &["reads values", "tokens were given"]);
}

#[test]
fn lengths_that_do_not_fit_are_named() {
    let cpu = B::new();
    let model = Model::new(&cpu, Key::new(0), &tokens(small())).unwrap();
    let bare = Model::new(&cpu, Key::new(0), &tokens(small()).layers(0)).unwrap();
    let block = Block::new(&cpu, Key::new(0), &small().flip_reverse(true)).unwrap();
    let ssm = Ssm::new(&cpu, Key::new(0), &SsmConfig::new(4, 6)).unwrap();
    let tape = Tape::off(&cpu);
    let cx = Context::training(&tape, Key::new(0));
    let x = tape.constant(&full(&cpu, &[2, 4, 3], 0.5));
    for (lengths, parts) in [
        (&[3, 0][..], &["length 0 of sequence 1", "between 1", "3"][..]),
        (&[4, 1], &["length 4 of sequence 0", "padded length 3"]),
        (&[3], &["[2]", "[1]", "one true length for every sequence"]),
        (&[3, 3, 3], &["[2]", "[3]", "one true length for every sequence"]),
        (&[], &["[2]", "[0]", "one true length for every sequence"]),
    ] {
        says(run(&model, Input::tokens(&[1, 2, 3, 4, 5, 6], 2).lengths(lengths)), parts);
        says(run(&bare, Input::tokens(&[1, 2, 3, 4, 5, 6], 2).lengths(lengths)), parts);
        says(block.forward(&cx, &x, Some(lengths)), parts);
        says(ssm.forward(&cx, &x, Some(lengths)), parts);
    }
}

#[test]
fn documents_come_in_pairs() {
    let model = Model::new(&B::new(), Key::new(0), &tokens(small()).retrieval(true)).unwrap();
    assert_eq!(run(&model, Input::tokens(&[1, 2, 3, 4], 2)).unwrap().shape(), [1, 3]);
    says(run(&model, Input::tokens(&[1, 2, 3, 4, 5, 6], 3)), &["3 documents", "pairs", "first ones"]);
}

#[test]
fn noise_must_suffice_and_fit() {
    let cpu = B::new();
    let model = Model::new(&cpu, Key::new(0), &tokens(small()).layers(2)).unwrap();
    let tape = Tape::off(&cpu);
    let cx = Context::training(&tape, Key::new(0));
    let given = |count, shape: &[usize]| {
        let draws = vec![full(&cpu, shape, 0.5); count];
        model.forward(&cx.clone().given(&draws), Input::tokens(&[1, 2, 3, 4, 5, 6], 2))
    };
    given(4, &[2, 4, 3]).unwrap();
    for count in [0, 1, 3] {
        says(given(count, &[2, 4, 3]), &[&format!("{count} draws"), "4 are needed"]);
    }
    says(given(4, &[2, 3, 4]), &["noise", "axis 1", "[2, 4, 3]", "[2, 3, 4]"]);
    for (config, needed) in [(small(), 2), (small().own_noise(true), 4)] {
        let block = Block::new(&cpu, Key::new(0), &config).unwrap();
        let x = tape.constant(&full(&cpu, &[2, 4, 3], 0.5));
        let draws = vec![full(&cpu, &[2, 4, 3], 0.5); needed - 1];
        let help = [format!("{} draws", needed - 1), format!("{needed} are needed")];
        says(block.forward(&cx.clone().given(&draws), &x, None), &[&help[0], &help[1]]);
    }
}

#[test]
fn labels_must_be_classes() {
    let model = Model::new(&B::new(), Key::new(0), &tokens(small())).unwrap();
    let logits = run(&model, Input::tokens(&[1, 2, 3, 4], 2)).unwrap();
    says(logits.cross_entropy(&[0, 3]), &["label 3 of sample 1", "3 classes"]);
    says(logits.cross_entropy(&[0]), &["labels", "[2]", "[1]"]);
}

// ---------------------------------------------------------------- recordings

#[test]
fn a_recording_wants_a_prepared_kernel() {
    let cpu = B::new();
    let ssm = Ssm::new(&cpu, Key::new(0), &SsmConfig::new(4, 6)).unwrap();
    let forward = |tape: &Tape<B>, length: usize| {
        let u = tape.leaf(&full(&cpu, &[1, 4, length], 0.5));
        ssm.forward(&Context::training(tape, Key::new(0)), &u, None)
    };
    let tape = Tape::new(&cpu);
    says(forward(&tape, 5), &["C~ is not made yet", "prepare(&backend, 5)"]);
    assert_eq!(ssm.kernel.l_kernel(&cpu).unwrap(), 0, "the refused request changed C~");
    ssm.prepare(&cpu, 5).unwrap();
    let first = forward(&tape, 5).unwrap();
    let refused = forward(&tape, 9);
    assert!(matches!(refused, Err(Error::NotDifferentiable { op: "SsmKernel", .. })));
    says(refused, &["C~ is made for kernels up to 5", "prepare(&backend, 9)"]);
    assert_eq!(ssm.kernel.l_kernel(&cpu).unwrap(), 5, "the refused request changed C~");
    // What was recorded is still sound, and shorter sequences are welcome.
    let second = forward(&tape, 3).unwrap();
    let sum = first.sum().unwrap().add(&second.sum().unwrap()).unwrap();
    // The way out that the message names.
    ssm.prepare(&cpu, 9).unwrap();
    says(forward(&tape, 5), &["changed in the middle of a recording", "new tape"]);
    sum.backward().unwrap();
    let tape = Tape::new(&cpu);
    forward(&tape, 5).unwrap();
    forward(&tape, 9).unwrap();
    // Without a recording a C~ is derived, and the stored one stays.
    forward(&Tape::off(&cpu), 30).unwrap();
    assert_eq!(ssm.kernel.l_kernel(&cpu).unwrap(), 10);
}

#[test]
fn a_value_of_another_recording_is_refused() {
    let cpu = B::new();
    let ssm = Ssm::new(&cpu, Key::new(0), &SsmConfig::new(4, 6)).unwrap();
    let (one, other) = (Tape::new(&cpu), Tape::new(&cpu));
    ssm.prepare(&cpu, 5).unwrap();
    let u = one.leaf(&full(&cpu, &[1, 4, 5], 0.5));
    says(ssm.forward(&Context::training(&other, Key::new(0)), &u, None), &["another tape", "one tape"]);
}

// ---------------------------------------------------------------- files

#[test]
fn files_that_are_no_checkpoints_are_refused() {
    let cpu = B::new();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let model = Model::new(&cpu, Key::new(0), &tokens(small())).unwrap();
    save(&cpu, &model, at("whole.safetensors")).unwrap();
    let bytes = std::fs::read(at("whole.safetensors")).unwrap();
    for length in [0, 4, 8, 50, bytes.len() - 1] {
        std::fs::write(at("cut.safetensors"), &bytes[..length]).unwrap();
        says(load(&cpu, &model, at("cut.safetensors")), &["cut.safetensors", "truncated"]);
    }
    std::fs::write(at("text"), "Source\tTarget\n").unwrap();
    says(load(&cpu, &model, at("text")), &["text", "not a safetensors file"]);
    assert!(matches!(load(&cpu, &model, at("none")), Err(Error::Io { .. })));
    says(load(&cpu, &model, at("none")), &["could not read", "none"]);
    says(save(&cpu, &model, at("no/folder/here")), &["could not create", "no/folder"]);
    assert!(matches!(Archive::read(folder.path()), Err(Error::Io { .. })));
    load(&cpu, &model, at("whole.safetensors")).unwrap();
}

#[test]
fn a_checkpoint_with_a_name_too_many_is_refused() {
    let cpu = B::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("more.safetensors");
    let model = Model::new(&cpu, Key::new(0), &tokens(small())).unwrap();
    let mut archive = Archive::default();
    archive.insert_module(&cpu, "", &model).unwrap();
    archive.insert(&cpu, "surprise", &Array::new(&[2], vec![1.0, 2.0]).tensor(&cpu)).unwrap();
    archive.write(&path).unwrap();
    says(load(&cpu, &model, &path), &["more.safetensors", "the model has no surprise"]);
    assert_eq!(model.parameters().len() + 1, Archive::read(&path).unwrap().tensors.len());
}
