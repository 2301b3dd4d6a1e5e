//! The time of a step of streams on one thread, beside the least that it could be.
//!
//! `cargo bench --bench stream` prints a line for each size and number of streams; `-- --task psmnist --streams 16 --type f64` one of them.
//! The floor is the longer of two times: to touch every byte of parameters and state that a step must, once, in buffers of that size, and
//! to do the step's multiply-adds, without any memory. Both are measured here, with the vectors that the crate uses.

#[allow(dead_code, unused_imports, unused_macros, reason = "a step takes too short for the others' ways")]
mod common;

use std::hint::black_box;
use std::time::Instant;

use common::Flags;
use pspikessm::backend::{Cpu, Key, Real};
use pspikessm::internal::at_level;
use pspikessm::nn::{BlockConfig, Encoder, Model, ModelConfig, Site, SsmConfig, Stream};
use pspikessm::{Error, Result};
use pulp::{Simd, WithSimd};

/// The model of a task with the recipe's sizes, causal. How long its kernel is makes no difference to a step.
fn config(task: &str) -> Result<ModelConfig> {
    let model = |d_model, d_state, layers, residual: bool, prenorm: bool| {
        let block = BlockConfig::new(SsmConfig::new(d_model, d_state)).residual(residual).prenorm(prenorm);
        ModelConfig::new(Encoder::Values(1), block, 10).layers(layers).causal()
    };
    match task {
        "psmnist" => Ok(model(400, 64, 2, false, true)),
        "speech_commands" => Ok(model(400, 64, 2, true, true)),
        "listops" => Ok(model(128, 16, 4, true, false)),
        _ => Err(Error::config("--task", task, "is one of psmnist, speech_commands, listops")),
    }
}

/// The median time of `run`, in seconds: of rounds of so many runs that a round takes some milliseconds.
fn median(mut run: impl FnMut()) -> f64 {
    let mut round = |count: usize| {
        let start = Instant::now();
        (0..count).for_each(|_| run());
        start.elapsed().as_secs_f64() / count as f64
    };
    let once = round(3).max(1e-8);
    let count = (5e-3 / once).ceil() as usize;
    let mut times: Vec<f64> = (0..31).map(|_| round(count)).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Reads some numbers, and reads and writes others.
struct Touch<'a> {
    read: &'a [f32],
    changed: &'a mut [f32],
}

impl WithSimd for Touch<'_> {
    type Output = f32;
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) -> f32 {
        let mut sums = [s.splat_f32s(0.0); 8];
        for block in S::as_simd_f32s(self.read).0.as_chunks::<8>().0 {
            sums.iter_mut().zip(block).for_each(|(sum, &x)| *sum = s.add_f32s(*sum, x));
        }
        let factor = s.splat_f32s(0.999);
        S::as_mut_simd_f32s(self.changed).0.iter_mut().for_each(|x| *x = s.mul_f32s(*x, factor));
        sums.into_iter().map(|sum| s.reduce_sum_f32s(sum)).sum()
    }
}

/// Multiply-adds of numbers in registers: `rounds` times twelve vectors. How many numbers that is.
struct MultiplyAdd {
    rounds: usize,
}

impl WithSimd for MultiplyAdd {
    type Output = (f32, usize);
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) -> (f32, usize) {
        let (mut sums, factor) = ([s.splat_f32s(0.5); 12], s.splat_f32s(black_box(0.999)));
        for _ in 0..self.rounds {
            sums.iter_mut().for_each(|sum| *sum = s.mul_add_e_f32s(*sum, factor, factor));
        }
        (sums.into_iter().map(|sum| s.reduce_sum_f32s(sum)).sum(), self.rounds * 12 * S::F32_LANES)
    }
}

/// What a step must touch and compute, of numbers of `size` bytes.
struct Work {
    read: f64,
    changed: f64,
    multiply_adds: f64,
}

impl Work {
    fn new<E: Real>(stream: &Stream<E>, config: &ModelConfig, active: f64) -> Self {
        let (streams, size) = (stream.streams() as f64, size_of::<E>() as f64);
        let (channels, modes, layers) = (config.block.ssm.d_model as f64, config.block.ssm.d_state as f64 / 2.0, config.layers as f64);
        // Of the SpikeMixer only the rows that spike in any of the streams.
        let silent = layers * channels * channels * size * (1.0 - active).powf(streams);
        // A mode: 2 for the input, 2 for the low-rank term, 8 for the two complex products, 4 for the outputs of both.
        let multiply_adds = streams * layers * (channels * modes * 16.0 + active * channels * channels);
        Work { read: stream.weight_bytes() as f64 - silent, changed: streams * stream.state_bytes() as f64, multiply_adds }
    }

    /// Microseconds to touch it, and to compute it.
    fn floor(&self, size: usize) -> (f64, f64) {
        let numbers = |bytes: f64| vec![0.5f32; (bytes / 4.0) as usize];
        let (read, mut changed) = (numbers(self.read), numbers(self.changed));
        let touch = median(|| _ = black_box(at_level(Touch { read: black_box(&read), changed: black_box(&mut changed) })));
        let rounds = 10_000;
        let each =
            median(|| _ = black_box(at_level(MultiplyAdd { rounds: black_box(rounds) }))) / at_level(MultiplyAdd { rounds: 1 }).1 as f64;
        // Vectors hold half as many f64.
        (touch * 1e6, self.multiply_adds * each / rounds as f64 * (size as f64 / 4.0) * 1e6)
    }
}

fn run<E: Real>(task: &str, streams: usize) -> Result<()> {
    let (cpu, config) = (Cpu::<E>::new(), config(task)?);
    let model = Model::new(&cpu, Key::new(0), &config)?;
    let mut stream = model.stream(&cpu, streams)?;
    let sound: Vec<Vec<f32>> = (0..64).map(|t| (0..streams).map(|s| 0.5 + 0.5 * ((t * (s + 3)) as f32).sin()).collect()).collect();
    let (mut spikes, mut steps) = (0, 0);
    for values in &sound {
        stream.step(values)?;
        spikes += (0..config.layers).map(|layer| stream.spikes(layer, Site::Output, 0).map_or(0, Iterator::count)).sum::<usize>();
        steps += 1;
    }
    let active = spikes as f64 / (steps * config.layers * config.block.ssm.d_model) as f64;
    let mut at = 0;
    let seconds = median(|| {
        at = (at + 1) % sound.len();
        black_box(stream.step(&sound[at]).is_ok());
    });
    let long: Vec<f32> = sound.concat();
    let fed = median(|| _ = black_box(stream.feed(&long).is_ok())) / sound.len() as f64;
    let (memory, operations) = Work::new(&stream, &config, active).floor(size_of::<E>());
    let (us, floor) = (seconds * 1e6, memory.max(operations));
    println!(
        "bench=stream task={task} size={}/{}x{} type={} streams={streams} step_us={us:.2} us_a_stream={:.3} fed_us={:.2} floor_us={floor:.2} \
         over_floor={:.2} memory_us={memory:.2} operations_us={operations:.2} active={active:.3} state_bytes={} weight_bytes={} \
         realtime_16khz={:.2}",
        config.block.ssm.d_model,
        config.block.ssm.d_state,
        config.layers,
        E::NAME,
        us / streams as f64,
        fed * 1e6,
        us / floor,
        stream.state_bytes(),
        stream.weight_bytes(),
        62.5 / (us / streams as f64),
    );
    Ok(())
}

fn main() -> Result<()> {
    let flags = Flags::read(&["task", "streams", "type", "threads"])?;
    let (tasks, streams) = (flags.text("task", "psmnist speech_commands listops"), flags.text("streams", "1 16 256"));
    flags.on_threads(|_| {
        for task in tasks.split_whitespace() {
            for count in streams.split_whitespace() {
                let count = count.parse().map_err(|_| Error::config("--streams", count, "wants a number"))?;
                match flags.text("type", "f32") {
                    "f32" => run::<f32>(task, count)?,
                    "f64" => run::<f64>(task, count)?,
                    other => return Err(Error::config("--type", other, "is f32 or f64")),
                }
            }
        }
        Ok(())
    })
}
