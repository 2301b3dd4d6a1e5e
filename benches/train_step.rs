//! The time of one training step and of one inference pass, and the peak memory, on random data.
//!
//! `cargo bench --bench train_step -- --task listops --threads 2 --batch 32 --steps 5` prints one line of medians;
//! `--only train` or `--only infer` leaves the other out, for its own peak of memory; `--backend wgpu` or `cuda`, in a build with that
//! feature, takes a GPU: its times end when the loss, or the logits, have been read back.

mod common;

use common::{Flags, median_time, on_backend, peak_rss_mb};
use pspikessm::autodiff::Tape;
use pspikessm::backend::{Backend, Key};
use pspikessm::nn::{AdamWConfig, BlockConfig, Context, Encoder, Input, Model, ModelConfig, NormKind, Optimizer, SsmConfig};
use pspikessm::{Error, Result};

/// A task's model and data sizes, from the recipes.
struct Task {
    config: ModelConfig,
    length: usize,
    batch: usize,
    lr: f64,
    weight_decay: f64,
    with_lengths: bool,
}

fn task(name: &str) -> Result<Task> {
    let block = |d_model, d_state, l_max: Option<usize>, dropout| {
        BlockConfig::new(SsmConfig::new(d_model, d_state).l_max(l_max).dropout(dropout)).dropout(dropout)
    };
    let model = |encoder, block, layers| ModelConfig::new(encoder, block, 10).layers(layers);
    match name {
        "listops" => Ok(Task {
            config: model(Encoder::Tokens(18), block(128, 16, Some(2048), 0.0), 4),
            length: 2048,
            batch: 32,
            lr: 8e-4,
            weight_decay: 0.01,
            with_lengths: true,
        }),
        "psmnist" => {
            let block = block(400, 64, Some(784), 0.1).bidirectional(false).residual(false).prenorm(true);
            let config = model(Encoder::Values(1), block, 2);
            Ok(Task { config, length: 784, batch: 64, lr: 5e-4, weight_decay: 0.01, with_lengths: false })
        }
        "image" | "cifar" => {
            let mut block = block(512, 64, None, 0.1);
            block.ssm.lr_for_all = true;
            let config = model(Encoder::Values(1), block.norm(NormKind::Layer), 6);
            Ok(Task { config, length: 1024, batch: 50, lr: 5e-3, weight_decay: 0.01, with_lengths: false })
        }
        _ => Err(Error::config("--task", name, "is one of listops, psmnist, image")),
    }
}

/// One batch of random data.
struct Data {
    tokens: Vec<u32>,
    values: Vec<f32>,
    labels: Vec<usize>,
    lengths: Option<Vec<usize>>,
}

impl Data {
    fn new(task: &Task, batch: usize, length: usize) -> Self {
        let words = |key: Key, count: usize| {
            let mut words = key.words(0);
            let words = std::iter::from_fn(move || Some(words.next_lanes())).flatten();
            words.take(count).collect::<Vec<u32>>()
        };
        let count = batch * length;
        let values = words(Key::new(2), count).into_iter().map(|w| w as f32 / u32::MAX as f32).collect();
        Data {
            tokens: words(Key::new(1), count).into_iter().map(|w| 2 + w % 16).collect(),
            values,
            labels: words(Key::new(3), batch).into_iter().map(|w| w as usize % task.config.classes).collect(),
            lengths: task.with_lengths.then(|| vec![length; batch]),
        }
    }

    fn input<B: Backend>(&self, config: &ModelConfig) -> Input<'_, B> {
        let batch = self.labels.len();
        let input = match config.encoder {
            Encoder::Tokens(_) => Input::tokens(&self.tokens, batch),
            _ => Input::values(&self.values, batch),
        };
        match &self.lengths {
            Some(lengths) => input.lengths(lengths),
            None => input,
        }
    }
}

fn run<B: Backend>(backend: &B, flags: &Flags, threads: usize) -> Result<()> {
    let task = task(flags.text("task", "listops"))?;
    let (batch, length) = (flags.number("batch", task.batch)?, flags.number("length", task.length)?);
    let steps = flags.number("steps", 5)?;
    let mut config = task.config.clone();
    config.block.ssm.l_max = config.block.ssm.l_max.map(|_| length);
    let model = Model::new(backend, Key::new(0), &config)?;
    let mut optimizer = Optimizer::new(AdamWConfig::new(task.lr, task.weight_decay))?;
    let data = Data::new(&task, batch, length);
    model.prepare(backend, length)?;
    let only = flags.text("only", "both");
    let mut infer_s = f64::NAN;
    if only != "train" {
        infer_s = median_time(steps, |i| {
            let tape = Tape::off(backend);
            let logits = model.forward(&Context::evaluation(&tape, Key::new(i)), data.input(&config))?;
            backend.to_vec(logits.value()).map(drop)
        })?;
    }
    let mut train_s = f64::NAN;
    if only != "infer" {
        train_s = median_time(steps, |i| {
            let tape = Tape::new(backend);
            let logits = model.forward(&Context::training(&tape, Key::new(i)), data.input(&config))?;
            let loss = logits.cross_entropy(&data.labels)?;
            let gradients = loss.backward()?;
            optimizer.update(backend, &model, &gradients, 1.0)?;
            backend.to_vec(loss.value()).map(drop)
        })?;
    }
    let (task, peak) = (flags.text("task", "listops"), peak_rss_mb());
    println!("bench=train_step task={task} threads={threads} train_s={train_s:.4} infer_s={infer_s:.4} peak_rss_mb={peak:.0}");
    Ok(())
}

fn main() -> Result<()> {
    let flags = Flags::read(&["task", "threads", "batch", "length", "steps", "only", "backend"])?;
    flags.on_threads(|threads| on_backend!(flags, backend => run(&backend, &flags, threads)))
}
