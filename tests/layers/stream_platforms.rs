//! The spikes of streams are the same on every platform: those that x86-64 with AVX2 drew.

use super::stream::{Sound, config, model, ssm};
use pspikessm::backend::*;
use pspikessm::nn::hippo::{DiagInit, Measure};
use pspikessm::nn::*;

const STEPS: usize = 1000;

/// The kinds of recurrence and of neuron; for each the digest of its spikes, in f64 and in f32.
fn kinds() -> Vec<(&'static str, ModelConfig, u64)> {
    let causal = |ssm: SsmConfig| BlockConfig::new(ssm).causal();
    let lif = Lif { decay: 0.8, threshold: 0.6, soft_reset: true, surrogate: Surrogate::Clamp };
    vec![
        ("LegS", config(causal(ssm()).prenorm(true)), 0x5858_fbb0_7c31_f540),
        ("LegT", config(causal(ssm().init(SsmInit::Dplr(Measure::LegT)))), 0x7174_7e26_b5f0_a759),
        (
            "diagonal",
            config(causal(ssm().init(SsmInit::Diag(DiagInit::Lin, Discretization::Zoh))).norm(NormKind::Layer)),
            0x8e0d_8d91_4172_7fee,
        ),
        ("LIF", config(causal(ssm()).source(SpikeSource::Lif(lif))), 0x08e7_4ec2_d9d8_41ad),
        ("two branches", config(BlockConfig::new(ssm().causal())), 0x8e57_4510_a8ed_74d2),
        ("more than a tile", config(causal(SsmConfig::new(37, 4))), 0x0349_5956_9c73_334b),
    ]
}

/// FNV-1a of every spike: its step, layer, site and neuron.
fn digest<E: Real>(config: &ModelConfig) -> (u64, usize) {
    let cpu = Cpu::<E>::new();
    let mut stream = model(&cpu, config).stream_with(&cpu, 1, StreamConfig::default().key(Key::new(21))).unwrap();
    let sound = Sound::new(config, 1, STEPS);
    let (mut hash, mut count) = (0xcbf2_9ce4_8422_2325u64, 0);
    for t in 0..STEPS {
        stream.step(sound.cut(1, t, t + 1).signal()).unwrap();
        for (layer, (number, site)) in (0..config.layers).flat_map(|layer| (0..).zip(Site::ALL).map(move |site| (layer, site))) {
            for neuron in stream.spikes(layer, site, 0).into_iter().flatten() {
                for part in [t, layer, number, neuron] {
                    hash = (hash ^ part as u64).wrapping_mul(0x0100_0000_01b3);
                }
                count += 1;
            }
        }
    }
    (hash, count)
}

#[test]
fn streams_have_the_same_spikes_on_every_platform() {
    let mut others = Vec::new();
    for (name, config, pinned) in kinds() {
        let ((wide, count), (narrow, _)) = (digest::<f64>(&config), digest::<f32>(&config));
        println!("{name}: {count} spikes, {wide:#018x}, {narrow:#018x}");
        assert!(count > STEPS, "{name}: too few spikes to say anything");
        if [wide, narrow] != [pinned; 2] {
            others.push(name);
        }
    }
    assert!(others.is_empty(), "other spikes than on x86-64: {others:?}");
}
