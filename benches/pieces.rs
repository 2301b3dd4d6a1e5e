//! The time of one piece of a block, forward and with its gradient: kernel generation, convolution, SpikeSampler, SpikeMixer.
//!
//! `cargo bench --bench pieces -- --what kernel --H 128 --N 16 --L 2048 --threads 2` prints one line of medians; `conv` and `sampler`
//! take `--B --H --L`, `mixer` also `--rate`, the share of its inputs that spike.
//!
//! `--backend wgpu` or `cuda`, in a build with that feature, takes a GPU, where a time is that of `--repeat` runs (20) in a row. Of `conv`
//! and `sampler` the bandwidth is told: the bytes that must move, every tensor (f32) read or written once in either direction, over the
//! time; with `--peak-gbs 4800` also its share of what the device's memory can do. `copy` takes `--B --H --L` and copies so many numbers: what
//! the memory does, measured.

mod common;

use common::{Flags, median_time, on_backend, peak_rss_mb};
use pspikessm::autodiff::{Tape, Var};
use pspikessm::backend::{Backend, Key, Noise, Spike, SpikeMode, Surrogate, Tensor, Unary};
use pspikessm::nn::{Context, SsmConfig, ssm::SsmKernel};
use pspikessm::{Error, Result};

/// Waits until the device has done all that it was given: it does one thing after another.
fn wait<B: Backend>(backend: &B) -> Result<()> {
    backend.to_vec(&backend.full(&[1], 0.0)?).map(drop)
}

/// A backend, and how it is timed: the median of `steps` times of `repeat` runs.
struct Timer<'a, B> {
    backend: &'a B,
    steps: usize,
    repeat: usize,
}

impl<B: Backend> Timer<'_, B> {
    fn time(&self, run: impl Fn() -> Result<()>) -> Result<f64> {
        let runs = |_| (0..self.repeat).try_for_each(|_| run()).and_then(|()| wait(self.backend));
        Ok(median_time(self.steps, runs)? / self.repeat as f64)
    }

    /// Times `f` without a recording, and with one that is run backwards.
    fn both_ways(&self, f: impl Fn(&Tape<B>) -> Result<Var<B>>) -> Result<[f64; 2]> {
        let backend = self.backend;
        let gradient = f(&Tape::off(backend)).and_then(|y| backend.normal(Key::new(9), y.shape()))?;
        let forward = self.time(|| f(&Tape::off(backend)).map(drop))?;
        Ok([forward, self.time(|| f(&Tape::new(backend))?.backward_from(&gradient).map(drop))?])
    }
}

/// The numbers that must move forwards, and forwards and back; none where it is not told.
fn numbers(what: &str, [b, h, l]: [usize; 3]) -> Option<[usize; 2]> {
    let (sequence, kernels) = (b * h * l, 2 * h * l);
    match what {
        // Input, kernels, skip in, output out; then its gradient and the same in, theirs out.
        "conv" => Some([2 * sequence + kernels + h, 5 * sequence + 3 * kernels + 3 * h]),
        // Input, scale, shift in, spikes out; then their gradient and the same in, theirs out.
        "sampler" => Some([2 * sequence + 2 * h, 5 * sequence + 6 * h]),
        // The same thing twice: a copy has no gradient that would be more.
        "copy" => Some([2 * sequence; 2]),
        _ => None,
    }
}

/// The bandwidth that moving so many numbers in such a time takes, and its share of the peak.
fn bandwidth(numbers: [usize; 2], seconds: [f64; 2], peak_gbs: f64) -> String {
    let [forward, both] = [0, 1].map(|i| 4.0 * numbers[i] as f64 / seconds[i] / 1e9);
    let mut text = format!(" forward_gbs={forward:.1} both_gbs={both:.1}");
    if peak_gbs > 0.0 {
        text += &format!(" forward_of_peak={:.3} both_of_peak={:.3}", forward / peak_gbs, both / peak_gbs);
    }
    text
}

fn draw<B: Backend>() -> Spike<Tensor<B>> {
    Spike { noise: Noise::Stream(Key::new(4).into()), mode: SpikeMode::Sampled, surrogate: Surrogate::Clamp }
}

fn run<B: Backend>(backend: &B, flags: &Flags, threads: usize) -> Result<()> {
    let (b, h) = (flags.number("B", 32)?, flags.number("H", 128)?);
    let (n, l) = (flags.number("N", 16)?, flags.number("L", 2048)?);
    let (steps, rate) = (flags.number("steps", 5)?, flags.number("rate", 0.15)?);
    let normal = |seed, shape: &[usize]| -> Result<Tensor<B>> { backend.normal(Key::new(seed), shape) };
    let repeat = if flags.text("backend", "cpu") == "cpu" { 1 } else { 20 };
    let timer = Timer { backend, steps, repeat: flags.number("repeat", repeat)?.max(1) };
    let what = flags.text("what", "kernel");
    let [forward, both] = match what {
        "kernel" => {
            let kernel = SsmKernel::new(backend, Key::new(0), &SsmConfig::new(h, n))?;
            kernel.prepare(backend, l)?;
            timer.both_ways(|tape| kernel.forward(&Context::training(tape, Key::new(1)), l))?
        }
        "conv" => {
            let (u, k, d) = (normal(1, &[b, h, l])?, normal(2, &[2, h, l])?, normal(3, &[h])?);
            timer.both_ways(|tape| tape.leaf(&u).long_conv(&tape.leaf(&k), Some(&tape.leaf(&d)), None))?
        }
        "sampler" => {
            let (x, scale, shift) = (backend.uniform(Key::new(3), &[b, h, l])?, backend.full(&[h], 1.0)?, backend.full(&[h], -0.8)?);
            timer.both_ways(|tape| tape.leaf(&x).spike_affine(&tape.leaf(&scale), &tape.leaf(&shift), draw()))?
        }
        "mixer" => {
            let potential = Tape::off(backend).leaf(&backend.full(&[b, h, l], rate)?);
            let spikes = potential.spike(draw())?.value().clone();
            let (weight, bias) = (normal(5, &[h, 2 * h])?, normal(6, &[h])?);
            timer.both_ways(|tape| {
                let spikes = tape.leaf(&spikes);
                Var::mix(&[&spikes, &spikes], &tape.leaf(&weight), &tape.leaf(&bias))
            })?
        }
        "copy" => {
            let x = backend.full(&[b, h, l], 1.0)?;
            let copy = || timer.time(|| backend.unary(Unary::Linear(1.0, 0.0), &x).map(drop));
            [copy()?, copy()?]
        }
        _ => return Err(Error::config("what", what, "is one of kernel, conv, sampler, mixer, copy")),
    };
    let peak_gbs = flags.number("peak-gbs", 0.0)?;
    let bandwidth = numbers(what, [b, h, l]).map(|numbers| bandwidth(numbers, [forward, both], peak_gbs)).unwrap_or_default();
    let peak = peak_rss_mb();
    println!("bench=pieces what={what} threads={threads} forward_s={forward:.5} both_s={both:.5} peak_rss_mb={peak:.0}{bandwidth}");
    Ok(())
}

fn main() -> Result<()> {
    let flags = Flags::read(&["what", "threads", "B", "H", "N", "L", "rate", "steps", "backend", "repeat", "peak-gbs"])?;
    flags.on_threads(|threads| on_backend!(flags, backend => run(&backend, &flags, threads)))
}
