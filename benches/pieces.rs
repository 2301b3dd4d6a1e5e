//! Criterion benches of the pieces: kernel generation, long convolution, SpikeSampler, SpikeMixer; forward, and forward with backward.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use pspikessm::Result;
use pspikessm::autodiff::{Tape, Var};
use pspikessm::backend::{Backend, Cpu, Key, Noise, Spike, SpikeMode, Surrogate};
use pspikessm::nn::{Context, SsmConfig, ssm::SsmKernel};

type Device = Cpu<f32>;

/// Benches `f` without and with a recording that is run backwards.
fn both_ways(c: &mut Criterion, name: &str, cpu: &Device, f: impl Fn(&Tape<Device>) -> Result<Var<Device>>) {
    let gradient = f(&Tape::off(cpu)).and_then(|y| cpu.normal(Key::new(9), y.shape())).expect("the piece runs");
    c.bench_function(&format!("{name} forward"), |b| b.iter(|| black_box(f(&Tape::off(cpu)).expect("the piece runs"))));
    c.bench_function(&format!("{name} forward + backward"), |b| {
        b.iter(|| black_box(f(&Tape::new(cpu)).and_then(|y| y.backward_from(&gradient)).is_ok()));
    });
}

fn kernels(c: &mut Criterion) {
    let cpu = Device::new();
    for (h, n, l) in [(128, 16, 2048), (400, 64, 784), (256, 64, 16384)] {
        let kernel = SsmKernel::new(&cpu, Key::new(0), &SsmConfig::new(h, n)).expect("the configuration is valid");
        kernel.prepare(&cpu, l).expect("C~ is computed");
        both_ways(c, &format!("DPLR kernel H={h} N={n} L={l}"), &cpu, |tape| kernel.forward(&Context::training(tape, Key::new(1)), l));
    }
}

fn convolutions(c: &mut Criterion) {
    let cpu = Device::new();
    for (b, h, l) in [(32, 128, 2048), (8, 64, 1009), (1, 64, 16384)] {
        let [u, k, d] = [[b, h, l].as_slice(), &[2, h, l], &[h]].map(|shape| cpu.normal(Key::new(2), shape).expect("it is drawn"));
        both_ways(c, &format!("long convolution B={b} H={h} L={l}"), &cpu, |tape| {
            tape.leaf(&u).long_conv(&tape.leaf(&k), Some(&tape.leaf(&d)), None)
        });
    }
}

fn sampler_and_mixer(c: &mut Criterion) {
    let cpu = Device::new();
    let (b, h, l) = (32, 128, 2048);
    let x = cpu.uniform(Key::new(3), &[b, h, l]).expect("it is drawn");
    let [scale, shift] = [1.0, -0.8].map(|v| cpu.full(&[h], v).expect("it is filled"));
    let spike = || Spike { noise: Noise::Stream(Key::new(4)), mode: SpikeMode::Sampled, surrogate: Surrogate::Clamp };
    both_ways(c, "SpikeSampler 32x128x2048", &cpu, |tape| tape.leaf(&x).spike_affine(&tape.leaf(&scale), &tape.leaf(&shift), spike()));
    let weight = cpu.normal(Key::new(5), &[h, 2 * h]).expect("it is drawn");
    both_ways(c, "SpikeMixer 2x32x128x2048", &cpu, |tape| {
        let spikes = tape.leaf(&x).spike(spike())?;
        Var::mix(&[&spikes, &spikes], &tape.leaf(&weight), &tape.leaf(&shift))?.gelu()
    });
}

criterion_group! {
    name = pieces;
    config = Criterion::default().sample_size(10);
    targets = kernels, convolutions, sampler_and_mixer
}
criterion_main!(pieces);
