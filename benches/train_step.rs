//! The time of one training step and of one inference pass, and the peak memory, on random data.
//!
//! `cargo bench --bench train_step -- --task listops --threads 2 --batch 32 --steps 5` prints one line of medians;
//! `--only train` or `--only infer` leaves the other out, for its own peak of memory.

use std::time::Instant;

use pspikessm::autodiff::Tape;
use pspikessm::backend::{Backend, Cpu, Key};
use pspikessm::nn::{
    AdamWConfig, BlockConfig, Context, Encoder, Input, Model, ModelConfig, Noises, NormKind, Optimizer, Pooling, SsmConfig,
};
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
    let block = |d_model, d_state, l_max, dropout| {
        let ssm = SsmConfig { l_max, dropout, ..SsmConfig::new(d_model, d_state) };
        BlockConfig { dropout, ..BlockConfig::new(ssm) }
    };
    let model = |encoder, block, layers| ModelConfig { encoder, block, layers, pooling: Pooling::Mean, classes: 10, retrieval: false };
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
            let block = BlockConfig { bidirectional: false, residual: false, prenorm: true, ..block(400, 64, Some(784), 0.1) };
            let config = model(Encoder::Values(1), block, 2);
            Ok(Task { config, length: 784, batch: 64, lr: 5e-4, weight_decay: 0.01, with_lengths: false })
        }
        "image" | "cifar" => {
            let mut block = block(512, 64, None, 0.1);
            block.ssm.lr_for_all = true;
            let config = model(Encoder::Values(1), BlockConfig { norm: Some(NormKind::Layer), ..block }, 6);
            Ok(Task { config, length: 1024, batch: 50, lr: 5e-3, weight_decay: 0.01, with_lengths: false })
        }
        _ => Err(Error::config("--task", name, "is one of listops, psmnist, image")),
    }
}

/// The command line.
struct Options {
    task: String,
    threads: usize,
    batch: Option<usize>,
    length: Option<usize>,
    steps: usize,
    only: Option<String>,
}

fn options() -> Result<Options> {
    let mut options = Options { task: "listops".into(), threads: 1, batch: None, length: None, steps: 5, only: None };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        if flag == "--bench" {
            continue; // cargo adds it
        }
        let value = args.next().unwrap_or_default();
        let number = || value.parse().map_err(|_| Error::config("a flag", format!("{flag} {value}"), "wants a whole number"));
        match flag.as_str() {
            "--task" => options.task = value,
            "--threads" => options.threads = number()?,
            "--batch" => options.batch = Some(number()?),
            "--length" => options.length = Some(number()?),
            "--steps" => options.steps = number()?,
            "--only" if ["train", "infer"].contains(&value.as_str()) => options.only = Some(value),
            _ => return Err(Error::config("a flag", &flag, "is one of --task --threads --batch --length --steps --only train|infer")),
        }
    }
    Ok(options)
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

    fn input(&self, config: &ModelConfig) -> Input<'_> {
        match config.encoder {
            Encoder::Tokens(_) => Input::Tokens(&self.tokens),
            Encoder::Values(_) => Input::Values(&self.values),
        }
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The most memory that the process ever held, in MB.
fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<f64>().ok()).map_or(f64::NAN, |kb| kb / 1024.0)
}

fn run(options: &Options) -> Result<()> {
    let task = task(&options.task)?;
    let batch = options.batch.unwrap_or(task.batch);
    let mut config = task.config.clone();
    let length = options.length.unwrap_or(task.length);
    config.block.ssm.l_max = config.block.ssm.l_max.map(|_| length);
    let cpu = Cpu::<f32>::new();
    let model = Model::new(&cpu, Key::new(0), &config)?;
    let mut optimizer = Optimizer::new(AdamWConfig::new(task.lr, task.weight_decay))?;
    let data = Data::new(&task, batch, length);
    let lengths = data.lengths.as_deref();
    let mut step = |i: u64| -> Result<f64> {
        let start = Instant::now();
        let tape = Tape::new(&cpu);
        let logits = model.forward(&Context::training(&tape, Key::new(i)), data.input(&config), batch, lengths, &Noises::Stream)?;
        let gradients = logits.cross_entropy(&data.labels)?.backward()?;
        optimizer.update(&cpu, &model, &gradients, 1.0)?;
        Ok(start.elapsed().as_secs_f64())
    };
    let mut infer = |i: u64| -> Result<f64> {
        let start = Instant::now();
        let tape = Tape::off(&cpu);
        let logits = model.forward(&Context::evaluation(&tape, Key::new(i)), data.input(&config), batch, lengths, &Noises::Stream)?;
        cpu.to_vec(logits.value())?;
        Ok(start.elapsed().as_secs_f64())
    };
    let wanted = |what| options.only.as_deref().is_none_or(|only| only == what);
    // The first run of each is left out: it makes tables and buffers.
    let times = |run: &mut dyn FnMut(u64) -> Result<f64>| (0..=options.steps as u64).map(run).skip(1).collect::<Result<Vec<f64>>>();
    let infer_s = if wanted("infer") { median(times(&mut infer)?) } else { f64::NAN };
    let train_s = if wanted("train") { median(times(&mut step)?) } else { f64::NAN };
    println!(
        "bench=train_step task={} threads={} train_s={train_s:.3} infer_s={infer_s:.3} peak_rss_mb={:.0}",
        options.task,
        options.threads,
        peak_rss_mb()
    );
    Ok(())
}

fn main() -> Result<()> {
    let options = options()?;
    if options.steps == 0 || options.threads == 0 {
        return Err(Error::config("--steps, --threads", 0, "must be at least 1"));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build();
    let pool = pool.map_err(|e| Error::config("--threads", options.threads, e.to_string()))?;
    pool.install(|| run(&options))
}
