//! Writes the batches of a training run to a file, for a peer that is to be fed the same ones (`benches/peer/follow.py`).
//!
//! `cargo bench --bench batches -- FILE TASK ..`, where `..` is the command line of that task's example. All numbers are 32-bit,
//! little-endian. The file begins with the number of steps; a step is its learning rate's factor (f32), the number of samples, of time
//! steps, and of values a time step (0: tokens); then lengths, labels, and inputs (tokens as u32, values as f32), row-major.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use pspikessm::data::{self, Batch, Inputs};
use pspikessm::train::{Command, Flags, Recipe, Schedule, Task, tasks};
use pspikessm::{Error, Result};

fn main() -> ExitCode {
    match run() {
        Ok(steps) => {
            println!("{steps} batches");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<u64> {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench"); // cargo adds it
    let (Some(path), Some(name)) = (args.next(), args.next()) else {
        return Err(Error::value("batches", "give a file to write and the name of a task"));
    };
    let task = tasks::ALL.iter().copied().find(|task| task.name() == name);
    let task = task.ok_or_else(|| Error::config("the task", &name, "there is no such task"))?;
    let Command::Run(flags) = Flags::parse(args)? else { return Err(Error::value("batches", "give the flags of a training run")) };
    let io = |error| Error::io("write", &path, error);
    let mut out = BufWriter::new(File::create(&path).map_err(io)?);
    let steps = each(task, &flags, |bytes| out.write_all(bytes).map_err(io))?;
    out.flush().map_err(io)?;
    Ok(steps)
}

/// Hands the bytes of every step to `write`.
fn each(task: &dyn Task, flags: &Flags, mut write: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
    let recipe = flags.recipe(task)?;
    let set = task.load(&recipe, flags.data.as_deref(), &flags.faults())?.train;
    let (steps, per_epoch) = (recipe.steps(set.len()), recipe.steps_per_epoch(set.len()));
    write(&(steps as u32).to_le_bytes())?;
    for step in 0..steps {
        let order = data::order(set.len(), recipe.run.seed, step / per_epoch);
        let start = (step % per_epoch) as usize * recipe.run.batch;
        let batch = set.batch(&order[start..order.len().min(start + recipe.run.batch)])?;
        write(&bytes(factor(&recipe, step), &batch))?;
    }
    Ok(steps)
}

/// What the learning rates are multiplied by. A plateau schedule has not moved in a comparison's few epochs.
fn factor(recipe: &Recipe, step: u64) -> f32 {
    match recipe.schedule {
        Schedule::Cosine(cosine) => cosine.factor(step) as f32,
        Schedule::Constant | Schedule::Plateau { .. } => 1.0,
        other => panic!("a comparison with {other:?} is not written yet"),
    }
}

fn bytes(factor: f32, batch: &Batch) -> Vec<u8> {
    let (d_input, inputs): (usize, Vec<u32>) = match &batch.inputs {
        Inputs::Values { values, d_input } => (*d_input, values.iter().map(|value| value.to_bits()).collect()),
        inputs => (0, if let Inputs::Tokens(tokens) = inputs { tokens.clone() } else { Vec::new() }),
    };
    let head = [factor.to_bits(), batch.batch as u32, batch.length as u32, d_input as u32];
    let counts = batch.lengths.iter().chain(&batch.labels).map(|&count| count as u32);
    head.into_iter().chain(counts).chain(inputs).flat_map(u32::to_le_bytes).collect()
}
