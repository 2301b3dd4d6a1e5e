//! A stream is the forward pass in steps: the same spikes, the same logits, whatever the model is made of.

use std::collections::BTreeMap;

use crate::common::{distance, host};
use pspikessm::Error;
use pspikessm::autodiff::Tape;
use pspikessm::backend::*;
use pspikessm::nn::hippo::{DiagInit, Measure};
use pspikessm::nn::*;

/// The time steps at which each neuron spiked, for every layer and site.
type Trains = BTreeMap<(usize, Site), Vec<Vec<u32>>>;

pub const CHANNELS: usize = 5;
pub const CLASSES: usize = 3;

pub fn ssm() -> SsmConfig {
    SsmConfig::new(CHANNELS, 6).dt_min(0.005).dt_max(0.5)
}

pub fn config(block: BlockConfig) -> ModelConfig {
    ModelConfig::new(Encoder::Values(2), block, CLASSES).layers(2)
}

/// Every way in which causal models can differ, by name.
pub fn variants() -> Vec<(String, ModelConfig)> {
    let block = || BlockConfig::new(ssm()).causal();
    let mut all: Vec<(String, BlockConfig)> = Vec::new();
    for init in SsmInit::all() {
        all.push((format!("{init:?}"), BlockConfig::new(ssm().init(init)).causal()));
        all.push((format!("{init:?}, own systems"), BlockConfig::new(ssm().init(init).n_ssm(CHANNELS)).causal()));
    }
    for norm in [None, Some(NormKind::Batch), Some(NormKind::Layer)] {
        for (prenorm, residual) in [(true, true), (true, false), (false, true), (false, false)] {
            all.push((format!("{norm:?}, prenorm {prenorm}, residual {residual}"), block().norm(norm).prenorm(prenorm).residual(residual)));
        }
    }
    for activation in Activation::ALL {
        all.push((format!("mixer {activation:?}"), block().activation(activation)));
        all.push((format!("SSM {activation:?}"), BlockConfig::new(ssm().activation(activation)).causal()));
    }
    for own_noise in [false, true] {
        let two = BlockConfig::new(ssm().causal()).own_noise(own_noise);
        all.push((format!("two branches, own noise {own_noise}"), two.clone()));
        all.push((format!("two branches, prenorm, own noise {own_noise}"), two.prenorm(true).norm(NormKind::Layer)));
    }
    for (soft_reset, threshold) in [(true, 0.6), (false, 0.4), (false, -0.2)] {
        let lif = Lif { decay: 0.8, threshold, soft_reset, surrogate: Surrogate::Clamp };
        all.push((format!("{lif:?}"), block().source(SpikeSource::Lif(lif))));
    }
    for (soft_reset, adaptation) in
        [(true, None), (false, Some(Adaptation { strength: 0.3, fading: 0.7 })), (true, Some(Adaptation { strength: 0.3, fading: 0.7 }))]
    {
        let plif = PlifConfig::new(0.7).threshold(0.5).soft_reset(soft_reset).adaptation(adaptation);
        all.push((format!("{plif:?}"), block().source(SpikeSource::Plif(plif))));
    }
    all.push(("clamped residual".into(), block().clamp_residual(true)));
    all.push(("dropout".into(), BlockConfig::new(ssm().dropout(0.3)).causal().dropout(0.3)));
    all.push(("a step size by exp".into(), BlockConfig::new(ssm().dt_transform(DtTransform::Exp)).causal()));
    all.push(("a flip without a second branch".into(), block().flip_reverse(true)));
    let mut all: Vec<_> = all.into_iter().map(|(name, block)| (name, config(block))).collect();
    all.push(("tokens".into(), config(block()).encoder(Encoder::Tokens(7))));
    all.push(("the last step".into(), config(block().prenorm(true)).pooling(Pooling::Last)));
    all.push(("one channel".into(), ModelConfig::new(Encoder::Values(1), BlockConfig::new(SsmConfig::new(1, 2)).causal(), 1).layers(1)));
    all.push(("more than a tile".into(), config(BlockConfig::new(SsmConfig::new(37, 4)).causal()).layers(1)));
    all
}

/// A model whose every parameter has left its initial value.
pub fn model<E: Real>(cpu: &Cpu<E>, config: &ModelConfig) -> Model<Cpu<E>> {
    let model = Model::new(cpu, Key::new(4), config).unwrap();
    for (i, (name, param)) in (0..).zip(model.parameters()) {
        let (low, high) = match name.rsplit('.').next().unwrap() {
            "scale" | "running_var" => (0.6, 1.4),
            "shift" | "running_mean" => (-0.2, 0.3),
            "decay_logit" => (-1.0, 2.0),
            "threshold" => (0.2, 0.8),
            _ if name.contains("norm.") => (-0.4, 0.9),
            _ => continue,
        };
        let shape = param.value().shape().to_vec();
        let unit = host(cpu, &cpu.uniform(Key::new(77).fold(i), &shape).unwrap());
        let values = unit.into_iter().map(|u| E::of(low + u * (high - low))).collect();
        param.set(cpu.from_vec(values, &shape).unwrap()).unwrap();
    }
    model
}

/// What a model hears: (streams, length), of its kind.
pub enum Sound {
    Tokens(Vec<u32>),
    Values(Vec<f32>, usize),
}

impl Sound {
    pub fn new(config: &ModelConfig, streams: usize, length: usize) -> Self {
        let uniform = |count: usize| Cpu::<f32>::new().uniform(Key::new(6), &[count]).and_then(|u| Cpu::new().to_vec(&u)).unwrap();
        match config.encoder {
            Encoder::Tokens(size) => Sound::Tokens(uniform(streams * length).into_iter().map(|u| (u * size as f32) as u32).collect()),
            Encoder::Values(size) => Sound::Values(uniform(streams * length * size).into_iter().map(|u| 2.0 * u - 0.7).collect(), size),
            _ => unreachable!("there are two encoders"),
        }
    }

    pub fn input<B: Backend>(&self, streams: usize) -> Input<'_, B> {
        match self {
            Sound::Tokens(tokens) => Input::tokens(tokens, streams),
            Sound::Values(values, _) => Input::values(values, streams),
        }
    }

    pub fn signal(&self) -> Signal<'_> {
        match self {
            Sound::Tokens(tokens) => Signal::Tokens(tokens),
            Sound::Values(values, _) => Signal::Values(values),
        }
    }

    /// Time steps `from..to` of (streams, length).
    pub fn cut(&self, streams: usize, from: usize, to: usize) -> Sound {
        fn rows<T: Copy>(all: &[T], streams: usize, size: usize, from: usize, to: usize) -> Vec<T> {
            all.chunks(all.len() / streams).flat_map(|row| row[from * size..to * size].to_vec()).collect()
        }
        match self {
            Sound::Tokens(tokens) => Sound::Tokens(rows(tokens, streams, 1, from, to)),
            Sound::Values(values, size) => Sound::Values(rows(values, streams, *size, from, to), *size),
        }
    }
}

/// The parallel pass: logits, the first sequence's spikes, and the features (streams, d_model, length).
fn parallel<E: Real>(
    cpu: &Cpu<E>,
    model: &Model<Cpu<E>>,
    key: Key,
    first: u64,
    sound: &Sound,
    streams: usize,
) -> (Vec<f64>, Trains, Vec<f64>) {
    let (tape, meter) = (Tape::off(cpu), SpikeMeter::keeping());
    let cx = Context::evaluation(&tape, key).first_sample(first);
    let logits = model.forward(&cx.clone().metered(&meter), sound.input(streams)).unwrap();
    let features = model.features(&cx, sound.input(streams)).unwrap();
    (host(cpu, logits.value()), meter.kept(), host(cpu, features.value()))
}

/// The same by steps, for the first stream's spikes.
fn stepped<E: Real>(stream: &mut Stream<E>, layers: usize, sound: &Sound, length: usize, like: &Trains) -> (Vec<f64>, Trains) {
    let mut trains: Trains = like.iter().map(|(place, rows)| (*place, vec![Vec::new(); rows.len()])).collect();
    let streams = stream.streams();
    for t in 0..length {
        stream.step(sound.cut(streams, t, t + 1).signal()).unwrap();
        for (&(layer, site), rows) in &mut trains {
            assert!(layer < layers);
            stream.spikes(layer, site, 0).unwrap().for_each(|neuron| rows[neuron].push(t as u32));
        }
    }
    (stream.logits().iter().map(|x| x.f64()).collect(), trains)
}

fn agree(name: &str, config: &ModelConfig, windowed: bool, length: usize) {
    let cpu = Cpu::<f64>::new();
    let (model, key) = (model(&cpu, config), Key::new(9).fold(2));
    let sound = Sound::new(config, 1, length);
    let (logits, trains, _) = parallel(&cpu, &model, key, 3, &sound, 1);
    assert!(trains.values().flatten().map(Vec::len).sum::<usize>() > length / 4, "{name}: too few spikes to say anything");
    let mut stream = model.stream_with(&cpu, 1, StreamConfig::default().key(key).first_sample(3).windowed(windowed)).unwrap();
    let (got, spikes) = stepped(&mut stream, config.layers, &sound, length, &trains);
    for (place, rows) in &trains {
        for (neuron, train) in rows.iter().enumerate() {
            assert!(&spikes[place][neuron] == train, "{name}: neuron {neuron} at {place:?} spikes at other times");
        }
    }
    assert!(distance(&got, &logits) < 1e-9, "{name}: {got:?} is not {logits:?}");
}

#[test]
fn every_causal_model_has_the_spikes_of_its_forward_pass() {
    for (name, config) in variants() {
        agree(&name, &config, false, 300);
    }
}

#[test]
fn ten_thousand_steps_have_the_spikes_of_the_forward_pass() {
    let block = BlockConfig::new(ssm()).causal();
    let rank_two = BlockConfig::new(ssm().init(SsmInit::Dplr(Measure::LegT)).n_ssm(CHANNELS)).causal().prenorm(true);
    let diagonal = BlockConfig::new(ssm().init(SsmInit::Diag(DiagInit::Inv, Discretization::Zoh))).causal().norm(NormKind::Layer);
    let two = BlockConfig::new(ssm().causal());
    let lif = Lif { decay: 0.8, threshold: 0.6, soft_reset: true, surrogate: Surrogate::Clamp };
    let neurons = block.clone().source(SpikeSource::Lif(lif));
    for (name, block) in [("LegS", block), ("LegT", rank_two), ("diagonal", diagonal), ("two branches", two), ("LIF", neurons)] {
        agree(name, &config(block), false, 10_000);
    }
}

#[test]
fn with_a_window_a_stream_outlives_l_max_as_the_forward_pass_does() {
    for init in [SsmInit::default(), SsmInit::Dplr(Measure::LegT), SsmInit::Diag(DiagInit::Lin, Discretization::Bilinear)] {
        // Damping that has not forgotten at the end of the window.
        let block = |l_max| BlockConfig::new(ssm().dt_max(0.02).init(init).l_max(l_max)).causal();
        for l_max in [1, 40, 64] {
            agree(&format!("{init:?}, {l_max}"), &config(block(l_max)), true, 1000);
            // As long as l_max reaches, there is nothing to cut.
            agree(&format!("{init:?}, {l_max}, no window"), &config(block(l_max)), false, l_max);
        }
        let (cpu, length) = (Cpu::<f64>::new(), 400);
        let (config, sound) = (config(block(40)), Sound::new(&config(block(40)), 1, length));
        let model = model(&cpu, &config);
        let logits = |windowed| {
            let mut stream = model.stream_with(&cpu, 1, StreamConfig::default().windowed(windowed)).unwrap();
            stream.feed(sound.signal()).unwrap().to_vec()
        };
        assert!(distance(&logits(true), &logits(false)) > 1e-6, "{init:?}: the window matters");
    }
}

#[test]
fn many_streams_are_the_samples_of_a_batch() {
    let (cpu, streams, length) = (Cpu::<f64>::new(), 6, 90);
    for config in [config(BlockConfig::new(ssm()).causal().prenorm(true)), config(BlockConfig::new(ssm().causal())).pooling(Pooling::Last)]
    {
        let (model, key, sound) = (model(&cpu, &config), Key::new(3), Sound::new(&config, streams, length));
        let (logits, _, features) = parallel(&cpu, &model, key, u64::MAX - 2, &sound, streams);
        let mut stream = model.stream_with(&cpu, streams, StreamConfig::default().key(key).first_sample(u64::MAX - 2)).unwrap();
        for t in 0..length {
            stream.step(sound.cut(streams, t, t + 1).signal()).unwrap();
            if config.block.prenorm {
                continue;
            }
            let want: Vec<f64> = (0..streams * CHANNELS).map(|row| features[row * length + t]).collect();
            let got = stream.features(1).unwrap().collect::<Vec<_>>().concat();
            assert!(distance(&got, &want) < 1e-11, "step {t}");
        }
        assert_eq!(stream.heard(), [length as u64; 6]);
        assert!(distance(stream.logits(), &logits) < 1e-11);
        assert!(stream.features(2).is_none() && stream.spikes(0, Site::Input, streams).is_none());
    }
}

/// The share of spikes in f32 that are others than in the forward pass, over 10,000 steps of psMNIST's kind of block.
#[test]
fn in_f32_few_spikes_in_a_million_are_others() {
    let (cpu, length) = (Cpu::<f32>::new(), 10_000);
    let ssm = SsmConfig::new(16, 64);
    let blocks = [
        ("LegS", BlockConfig::new(ssm.clone()).causal().prenorm(true)),
        ("LegS, l_max", BlockConfig::new(ssm.clone().l_max(length)).causal().residual(false).prenorm(true)),
        ("diagonal", BlockConfig::new(ssm.init(SsmInit::Diag(DiagInit::Lin, Discretization::Zoh))).causal()),
    ];
    for (name, block) in blocks {
        let config = config(block);
        let (model, key, sound) = (model(&cpu, &config), Key::new(9), Sound::new(&config, 1, length));
        let (logits, trains, _) = parallel(&cpu, &model, key, 0, &sound, 1);
        let mut stream = model.stream_with(&cpu, 1, StreamConfig::default().key(key)).unwrap();
        let (got, spikes) = stepped(&mut stream, config.layers, &sound, length, &trains);
        let mut flips = 0;
        for (place, rows) in &trains {
            for (want, got) in rows.iter().zip(&spikes[place]) {
                flips += want.iter().filter(|t| got.binary_search(t).is_err()).count()
                    + got.iter().filter(|t| want.binary_search(t).is_err()).count();
            }
        }
        let draws = trains.values().map(Vec::len).sum::<usize>() * length;
        println!("{name}: {flips} of {draws} spikes are others, logits differ by {:.1e}", distance(&got, &logits));
        assert!((flips as f64) < 2e-5 * draws as f64, "{name}: {flips} of {draws}");
        assert!(distance(&got, &logits) < 1e-3, "{name}");
    }
}

#[test]
fn what_cannot_be_streamed_is_refused_by_name() {
    let cpu = Cpu::<f64>::new();
    let refusal = |config: ModelConfig| Model::new(&cpu, Key::new(0), &config).unwrap().stream(&cpu, 1).unwrap_err();
    let causal = BlockConfig::new(ssm()).causal();
    let refused = [
        (config(BlockConfig::new(ssm())), "block.ssm.bidirectional"),
        (config(causal.clone().ssm(ssm())), "block.ssm.bidirectional"),
        (config(BlockConfig::new(ssm().causal()).flip_reverse(true)), "block.flip_reverse"),
        (config(causal.clone()).retrieval(true), "retrieval"),
    ];
    for (config, field) in refused {
        let error = refusal(config.clone());
        assert!(matches!(error, Error::Config { name, .. } if name == field), "{error}");
        if field != "retrieval" {
            assert!(error.to_string().contains("causal"), "{error}");
            assert!(model(&cpu, &config.causal()).stream(&cpu, 2).is_ok());
        }
    }
    let model = model(&cpu, &config(causal));
    assert!(matches!(model.stream(&cpu, 0), Err(Error::Config { name: "streams", .. })));
}

#[test]
fn a_signal_that_does_not_fit_changes_nothing() {
    let cpu = Cpu::<f64>::new();
    let mut stream = model(&cpu, &config(BlockConfig::new(ssm()).causal())).stream(&cpu, 2).unwrap();
    let before = stream.feed(&[0.5f32; 12]).unwrap().to_vec();
    let refused = |error: Result<&[f64], Error>, what: &str| {
        let message = error.unwrap_err().to_string();
        assert!(message.contains(what), "{message}");
    };
    refused(stream.step(&[0.5f32; 3]), "2 streams");
    refused(stream.step(&[0f32; 0]), "at least one");
    refused(stream.step(&[0.5f32; 8]), "feed");
    refused(stream.step(&[0.5, f32::NAN, 0.5, 0.5]), "position 1");
    refused(stream.feed(&[0.5, 0.5, 0.5, f32::INFINITY]), "position 3");
    refused(stream.step(&[1u32, 2]), "reads values");
    refused(stream.feed_one(2, &[0.5f32; 2]), "no stream 2");
    assert!(stream.reset(2).is_err() && stream.begin(2, 0).is_err() && stream.anew(0, 0).is_err());
    assert_eq!((stream.logits(), stream.heard()), (&before[..], &[3, 3][..]));
    let tokens = config(BlockConfig::new(ssm()).causal()).encoder(Encoder::Tokens(7));
    let mut stream = model(&cpu, &tokens).stream(&cpu, 1).unwrap();
    refused(stream.step(&[7u32]), "vocabulary of 7");
    refused(stream.step(&[0.5f32]), "reads tokens");
    assert!(stream.logits().iter().all(|logit| logit.is_nan()), "nothing was heard");
}

#[test]
fn numbers_of_any_container_are_a_signal() {
    let list = vec![1f32, 2.0];
    let kinds: [Signal<'_>; 3] = [(&list).into(), (&[1f32, 2.0]).into(), list[..].into()];
    assert!(kinds.iter().all(|kind| *kind == Signal::Values(&[1.0, 2.0])));
    assert_eq!(Signal::from(&vec![1u32]), Signal::Tokens(&[1]));
}
