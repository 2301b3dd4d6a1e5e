//! Streams with SpikeMixers in 8 bits: the streams of a model whose weights are rounded so.

use super::stream::{CHANNELS, Sound, config, model, ssm};
use crate::common::{distance, host};
use pspikessm::backend::*;
use pspikessm::nn::*;

/// Rounds every SpikeMixer's weights to 255 whole numbers times a scale for each row.
fn round<E: Real>(cpu: &Cpu<E>, model: &Model<Cpu<E>>) {
    for (name, param) in model.parameters().into_iter().filter(|(name, _)| name.ends_with("mixer.weight")) {
        let shape = param.value().shape().to_vec();
        let rows = host(cpu, &param.value());
        let rounded = rows.chunks(shape[1]).flat_map(|row| {
            let scale = row.iter().fold(0.0f64, |top, w| top.max(w.abs())) / 127.0;
            row.iter().map(move |w| E::of(if scale == 0.0 { 0.0 } else { (w / scale).round() * scale }))
        });
        let rounded: Vec<E> = rounded.collect();
        assert!(rounded.iter().zip(&rows).any(|(a, b)| a.f64() != *b), "{name} has something to round");
        param.set(cpu.from_vec(rounded, &shape).unwrap()).unwrap();
    }
}

fn blocks() -> [(&'static str, ModelConfig); 4] {
    let own = |d_model, d_state| BlockConfig::new(SsmConfig::new(d_model, d_state).dt_min(0.005).dt_max(0.5)).causal();
    [
        ("one branch", config(BlockConfig::new(ssm()).causal().prenorm(true))),
        ("two branches", config(BlockConfig::new(ssm().causal()))),
        ("more than a tile", config(own(37, 4)).layers(3)),
        ("whole tiles", config(own(32, 2)).pooling(Pooling::Last)),
    ]
}

#[test]
fn streams_in_8_bits_are_those_of_the_rounded_model() {
    let (cpu, streams, length) = (Cpu::<f64>::new(), 3, 200);
    for (name, config) in blocks() {
        let (original, sound) = (model(&cpu, &config), Sound::new(&config, streams, length));
        let settings = StreamConfig::default().key(Key::new(5));
        let mut full = original.stream_with(&cpu, streams, settings).unwrap();
        let mut int8 = original.stream_with(&cpu, streams, settings.int8(true)).unwrap();
        round(&cpu, &original);
        let mut rounded = original.stream_with(&cpu, streams, settings).unwrap();
        for t in 0..length {
            for stream in [&mut full, &mut int8, &mut rounded] {
                stream.step(sound.cut(streams, t, t + 1).signal()).unwrap();
            }
            for (layer, site) in (0..config.layers).flat_map(|layer| [(layer, Site::Input), (layer, Site::Output)]) {
                let spikes = |stream: &Stream<f64>| stream.spikes(layer, site, 1).unwrap().collect::<Vec<_>>();
                assert_eq!(spikes(&int8), spikes(&rounded), "{name}: step {t}, layer {layer}, {site}");
            }
        }
        assert!(distance(int8.logits(), rounded.logits()) < 1e-12, "{name}");
        assert!(distance(int8.logits(), full.logits()) > 1e-9, "{name}: that weights are rounded");
        let mut fed = int8.anew(streams, 0).unwrap();
        assert_eq!(fed.feed(sound.signal()).unwrap(), int8.logits(), "{name}: chunks");
    }
}

#[test]
fn streams_in_8_bits_hold_fewer_bytes_and_no_row_of_zeros_troubles_them() {
    let (cpu, d_model) = (Cpu::<f32>::new(), 64);
    let config = config(BlockConfig::new(SsmConfig::new(d_model, 4)).causal());
    let model = model(&cpu, &config);
    for (_, param) in model.parameters().into_iter().filter(|(name, _)| name.ends_with("mixer.weight")) {
        param.set(cpu.full(param.value().shape(), 0.0).unwrap()).unwrap();
    }
    let (full, int8) = (model.stream(&cpu, 1).unwrap(), model.stream_with(&cpu, 1, StreamConfig::default().int8(true)).unwrap());
    // A byte a weight instead of four, and a scale for each row.
    assert_eq!(full.weight_bytes() - int8.weight_bytes(), config.layers * (3 * d_model * d_model - 4 * d_model));
    let heard = |mut stream: Stream<f32>| stream.feed(&[0.5f32; 40]).unwrap().to_vec();
    assert_eq!(heard(int8), heard(full));
}

#[test]
fn streams_in_8_bits_are_handed_over_to_their_like() {
    let cpu = Cpu::<f64>::new();
    let config = config(BlockConfig::new(ssm()).causal());
    let (model, sound) = (model(&cpu, &config), Sound::new(&config, 1, 90));
    let settings = StreamConfig::default().int8(true);
    let mut stream = model.stream_with(&cpu, 1, settings).unwrap();
    let mut prefilled = stream.clone();
    stream.feed(sound.cut(1, 0, 60).signal()).unwrap();
    assert_eq!(prefilled.prefill(&cpu, &model, sound.cut(1, 0, 60).signal()).unwrap(), stream.logits());
    let state = stream.state().unwrap();
    let refused = model.stream(&cpu, 1).unwrap().restore(&state).unwrap_err().to_string();
    assert!(refused.contains("StreamConfig::int8"), "{refused}");
    let mut restored = model.stream_with(&cpu, 1, settings).unwrap();
    let refused = restored.restore(&model.stream(&cpu, 1).unwrap().state().unwrap()).unwrap_err().to_string();
    assert!(refused.contains("StreamConfig::int8"), "{refused}");
    restored.restore(&state).unwrap();
    let rest = sound.cut(1, 60, 90);
    assert_eq!(restored.feed(rest.signal()).unwrap(), stream.feed(rest.signal()).unwrap());
    assert_eq!(restored.features(1).unwrap().next().unwrap().len(), CHANNELS);
}
