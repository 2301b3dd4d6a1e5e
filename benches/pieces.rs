//! The time of one piece of a block, forward and with its gradient: kernel generation, convolution, SpikeSampler, SpikeMixer.
//!
//! `cargo bench --bench pieces -- --what kernel --H 128 --N 16 --L 2048 --threads 2` prints one line of medians; `conv` and `sampler`
//! take `--B --H --L`, `mixer` also `--rate`, the share of its inputs that spike.

mod common;

use common::{Flags, median_time, peak_rss_mb};
use pspikessm::autodiff::{Tape, Var};
use pspikessm::backend::{Backend, Cpu, Key, Noise, Spike, SpikeMode, Surrogate, Tensor};
use pspikessm::nn::{Context, SsmConfig, ssm::SsmKernel};
use pspikessm::{Error, Result};

type Device = Cpu<f32>;

/// Times `f` without a recording, and with one that is run backwards.
fn both_ways(steps: usize, cpu: &Device, f: impl Fn(&Tape<Device>) -> Result<Var<Device>>) -> Result<[f64; 2]> {
    let gradient = f(&Tape::off(cpu)).and_then(|y| cpu.normal(Key::new(9), y.shape()))?;
    let forward = median_time(steps, |_| f(&Tape::off(cpu)).map(drop))?;
    Ok([forward, median_time(steps, |_| f(&Tape::new(cpu))?.backward_from(&gradient).map(drop))?])
}

fn draw() -> Spike<Device> {
    Spike { noise: Noise::Stream(Key::new(4)), mode: SpikeMode::Sampled, surrogate: Surrogate::Clamp }
}

fn run(flags: &Flags, threads: usize) -> Result<()> {
    let cpu = Device::new();
    let (b, h) = (flags.number("B", 32)?, flags.number("H", 128)?);
    let (n, l) = (flags.number("N", 16)?, flags.number("L", 2048)?);
    let (steps, rate) = (flags.number("steps", 5)?, flags.number("rate", 0.15)?);
    let normal = |seed, shape: &[usize]| -> Result<Tensor<Device>> { cpu.normal(Key::new(seed), shape) };
    let what = flags.text("what", "kernel");
    let [forward, both] = match what {
        "kernel" => {
            let kernel = SsmKernel::new(&cpu, Key::new(0), &SsmConfig::new(h, n))?;
            kernel.prepare(&cpu, l)?;
            both_ways(steps, &cpu, |tape| kernel.forward(&Context::training(tape, Key::new(1)), l))?
        }
        "conv" => {
            let (u, k, d) = (normal(1, &[b, h, l])?, normal(2, &[2, h, l])?, normal(3, &[h])?);
            both_ways(steps, &cpu, |tape| tape.leaf(&u).long_conv(&tape.leaf(&k), Some(&tape.leaf(&d)), None))?
        }
        "sampler" => {
            let (x, scale, shift) = (cpu.uniform(Key::new(3), &[b, h, l])?, cpu.full(&[h], 1.0)?, cpu.full(&[h], -0.8)?);
            both_ways(steps, &cpu, |tape| tape.leaf(&x).spike_affine(&tape.leaf(&scale), &tape.leaf(&shift), draw()))?
        }
        "mixer" => {
            let potential = Tape::off(&cpu).leaf(&cpu.full(&[b, h, l], rate)?);
            let spikes = potential.spike(draw())?.value().clone();
            let (weight, bias) = (normal(5, &[h, 2 * h])?, normal(6, &[h])?);
            both_ways(steps, &cpu, |tape| {
                let spikes = tape.leaf(&spikes);
                Var::mix(&[&spikes, &spikes], &tape.leaf(&weight), &tape.leaf(&bias))
            })?
        }
        _ => return Err(Error::config("what", what, "is one of kernel, conv, sampler, mixer")),
    };
    let peak = peak_rss_mb();
    println!("bench=pieces what={what} threads={threads} forward_s={forward:.5} both_s={both:.5} peak_rss_mb={peak:.0}");
    Ok(())
}

fn main() -> Result<()> {
    let flags = Flags::read(&["what", "threads", "B", "H", "N", "L", "rate", "steps"])?;
    flags.on_threads(|threads| run(&flags, threads))
}
