//! What a step of the paper's recipes should take on N processes: the time of one sample, measured here, and terms for the network.
//!
//! `cargo bench --bench cluster -- --threads 1 --samples 2` prints a line for each task and, behind it, the tables of docs/CLUSTER.md. With
//! `--task listops --accumulate 2` it times whole steps instead; under `mpirun`, with feature `mpi`, on all its processes, which send gradients
//! in messages of `--message` bytes: of very many, none before the tape has run backwards.
//! T(N) = samples a process x seconds a sample + (2 (N - 1) + 6 log2 N) latency + 2 (N - 1) / N x bytes / bandwidth: every process sends a
//! share of its sums to each other one and gets a share of the whole from each; six short meetings a step are trees.

use pspikessm::backend::Backend;
use pspikessm::data::{Dataset, Splits, Vocabulary};
use pspikessm::nn::Module;
use pspikessm::train::{Launched, Learner, Reduce, Trainer, tasks};
use pspikessm::{Error, Result};

mod common;
use common::{Flags, median_time, on_backend, peak_rss_mb};

/// A task, the time steps of its sample, and what a step is: one of so many symbols, or a value; whether pairs of sequences; classes.
type Shape = (&'static str, usize, Option<usize>, bool, usize);
const SHAPES: [Shape; 7] = [
    ("listops", 2048, Some(15), false, 10),
    ("text", 4096, Some(132), false, 2),
    ("retrieval", 4000, Some(94), true, 2),
    ("image", 1024, None, false, 10),
    ("pathfinder", 1024, None, false, 2),
    ("psmnist", 784, None, false, 10),
    ("speech_commands", 16_000, None, false, 35),
];

/// Bits a second, and seconds until a message arrives: TCP on Ethernet, RDMA on InfiniBand.
const NETWORKS: [(&str, f64, f64); 2] = [("10 Gbit/s, 25 us", 10e9, 25e-6), ("400 Gbit/s, 2 us", 400e9, 2e-6)];
const PROCESSES: [usize; 8] = [1, 2, 4, 8, 16, 64, 256, 1024];

/// What is measured of a task.
struct Measured {
    name: &'static str,
    batch: usize,
    seconds_a_sample: f64,
    bytes: f64,
}

fn main() -> Result<()> {
    let flags = Flags::read(&["threads", "samples", "steps", "task", "accumulate", "message", "backend"])?;
    on_backend!(flags, backend => match flags.text("task", "") {
        "" => tables(&backend, &flags),
        name => steps(&backend, name, &flags),
    })
}

/// Times steps of a task's recipe on the processes that were started together.
fn steps<B: Backend>(backend: &B, name: &str, flags: &Flags) -> Result<()> {
    let shape = SHAPES.into_iter().find(|shape| shape.0 == name);
    let shape = shape.ok_or_else(|| Error::config("--task", name, "is one of the tasks"))?;
    let (steps, accumulate, message) = (flags.number("steps", 5)?, flags.number("accumulate", 1)?, flags.number("message", 1 << 15)?);
    let launched = Launched::join()?;
    let communicator = launched.communicator();
    let (first, processes) = (communicator.rank() == 0, communicator.size());
    let timed = flags.on_threads(|threads| {
        let mut trainer = trainer(backend, shape, None, accumulate)?.1.in_messages_of(message).across(communicator, Reduce::Fixed)?;
        let seconds = median_step(&mut trainer, steps)?;
        Ok((threads, seconds, trainer.bytes_sent() as f64 / 1e3 / (steps as f64 + 1.0)))
    });
    if let (Ok((threads, seconds, kilobytes)), true) = (&timed, first) {
        let peak = peak_rss_mb();
        println!(
            "bench=cluster task={name} processes={processes} threads={threads} step_s={seconds:.4} kb_sent={kilobytes:.1} peak_rss_mb={peak:.0}"
        );
    }
    launched.leave(timed.is_err());
    timed.map(drop)
}

fn tables<B: Backend>(backend: &B, flags: &Flags) -> Result<()> {
    let (samples, steps) = (flags.number("samples", 2)?, flags.number("steps", 3)?);
    let measured =
        flags.on_threads(|_| SHAPES.into_iter().map(|shape| measure(backend, shape, samples, steps)).collect::<Result<Vec<_>>>())?;
    for Measured { name, batch, seconds_a_sample, bytes } in &measured {
        let (milliseconds, megabytes) = (1e3 * seconds_a_sample, bytes / 1e6);
        println!("{name}: batch {batch}, {milliseconds:.1} ms a sample, {megabytes:.2} MB of gradients and statistics");
    }
    for (name, bandwidth, latency) in NETWORKS {
        println!("\n{name}: milliseconds a step of the recipe's batch, and the speed-up");
        table(&measured, bandwidth, latency, |task, processes| task.batch.div_ceil(processes));
        println!("\n{name}: the same with four samples a process, and the efficiency");
        table(&measured, bandwidth, latency, |_, _| 4);
    }
    Ok(())
}

/// The seconds of a sample in a step of a task's recipe.
fn measure<B: Backend>(backend: &B, shape: Shape, samples: usize, steps: usize) -> Result<Measured> {
    let (batch, mut trainer) = trainer(backend, shape, Some(samples), 1)?;
    let seconds_a_sample = median_step(&mut trainer, steps)? / samples as f64;
    let running = trainer.learner().module().parameters().into_iter().filter(|(name, _)| name.contains("running_"));
    let values = trainer.model().num_parameters() + running.map(|(_, param)| param.value().numel()).sum::<usize>();
    Ok(Measured { name: shape.0, batch, seconds_a_sample, bytes: 4.0 * values as f64 })
}

/// The median time of so many steps, after one that is not counted.
fn median_step<B: Backend>(trainer: &mut Trainer<B>, steps: usize) -> Result<f64> {
    median_time(steps, |_| trainer.step().map(drop))
}

/// The batch of a task's recipe, and a trainer of it with a batch of so many made-up samples.
fn trainer<B: Backend>(backend: &B, shape: Shape, samples: Option<usize>, accumulate: usize) -> Result<(usize, Trainer<B>)> {
    let (name, length, symbols, pairs, classes) = shape;
    let task = tasks::ALL.iter().find(|task| task.name() == name).expect("a task of this name");
    let mut recipe = task.recipe(Some("paper"))?;
    let batch = recipe.run.batch;
    let samples = samples.unwrap_or(batch);
    (recipe.run.batch, recipe.run.accumulate) = (samples, accumulate);
    let mut set = match symbols {
        Some(count) => {
            let vocabulary = Vocabulary::new((0..count).map(|symbol| symbol.to_string()))?;
            if pairs { Dataset::pairs(vocabulary, classes) } else { Dataset::tokens(vocabulary, classes) }
        }
        None => Dataset::values(1, classes)?,
    };
    for sample in 0..samples {
        let step = |t: usize| (t * 7 + t * t * (sample + 3)) % 97;
        let tokens: Vec<u8> = (0..length).map(|t| 3 + (step(t) % symbols.unwrap_or(1)) as u8).collect();
        let values: Vec<f32> = (0..length).map(|t| step(t) as f32 / 97.0).collect();
        match (symbols, pairs) {
            (Some(_), true) => set.push_pair(&tokens, &tokens, sample % classes)?,
            (Some(_), false) => set.push_tokens(&tokens, sample % classes)?,
            (None, _) => set.push_values(&values, sample % classes)?,
        }
    }
    Ok((batch, Trainer::new(backend, name, recipe, Splits { train: set.clone(), val: set.clone(), test: set })?))
}

/// Milliseconds for every number of processes, of which each computes so many samples, and in brackets the gain.
fn table(measured: &[Measured], bandwidth: f64, latency: f64, samples: impl Fn(&Measured, usize) -> usize) {
    // Of a fixed batch, more processes than samples have nothing to do: the time no longer falls.
    println!("| task | {} |", PROCESSES.map(|processes| processes.to_string()).join(" | "));
    println!("|---|{}", "---|".repeat(PROCESSES.len()));
    for task in measured {
        let one = samples(task, 1) as f64 * task.seconds_a_sample;
        let cells = PROCESSES.map(|processes| {
            let (n, own) = (processes as f64, samples(task, processes));
            let traffic = 2.0 * (n - 1.0) / n * 8.0 * task.bytes / bandwidth;
            let seconds = own as f64 * task.seconds_a_sample + (2.0 * (n - 1.0) + 6.0 * n.log2()) * latency + traffic;
            format!("{:.0} ({:.2})", 1e3 * seconds, one / seconds)
        });
        println!("| {} | {} |", task.name, cells.join(" | "));
    }
}
