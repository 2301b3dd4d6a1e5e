//! A GRU that remembers the one symbol of a sequence that is marked: a model, loss and data of one's own in the trainer.

use pspikessm::autodiff::Var;
use pspikessm::backend::*;
use pspikessm::data::Splits;
use pspikessm::nn::{AdamWConfig, Context, Gru, Linear, Module, Names};
use pspikessm::train::{Better, Ending, Event, FitOptions, Learner, Length, Metric, Plan, Scored, Trainer, fit_with};
use std::ops::ControlFlow;

mod picture;

/// Symbols, and how long a sequence is.
const SYMBOLS: usize = 4;
const LENGTH: usize = 12;

/// The symbols of a sequence, and where the marked one stands.
type Sample = ([usize; LENGTH], usize);

struct Memory<B: Backend> {
    gru: Gru<B>,
    head: Linear<B>,
}

impl<B: Backend> Module<B> for Memory<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        names.module("gru", &self.gru);
        names.module("head", &self.head);
    }
}

impl<B: Backend> Learner<B> for Memory<B> {
    type Samples = Vec<Sample>;

    fn module(&self) -> &dyn Module<B> {
        self
    }

    fn metric(&self) -> Metric {
        Metric { name: "accuracy", better: Better::Higher }
    }

    fn score(&self, cx: &Context<'_, B>, batch: &Vec<Sample>) -> pspikessm::Result<Scored<B>> {
        let symbols: Vec<usize> = batch.iter().flat_map(|(symbols, _)| *symbols).collect();
        let symbols = cx.tape().one_hot(&symbols, SYMBOLS)?.reshape(&[batch.len(), LENGTH, SYMBOLS])?;
        let marks: Vec<usize> = batch.iter().map(|(_, mark)| *mark).collect();
        let marks = cx.tape().one_hot(&marks, LENGTH)?.reshape(&[batch.len(), LENGTH, 1])?;
        let (_, last) = self.gru.forward(cx, &Var::concat(&[&symbols, &marks], 2)?.permute(&[0, 2, 1])?, None)?;
        let logits = self.head.forward(cx, &last)?;
        let labels: Vec<usize> = batch.iter().map(|(symbols, mark)| symbols[*mark]).collect();
        let taken = logits.argmax(1)?.to_vec()?.into_iter().map(|class| class.f64() as usize);
        Ok(Scored::new(logits.cross_entropy(&labels)?)?.classes(labels.iter().copied().zip(taken).collect()))
    }
}

fn sequences(cpu: &Cpu<f32>, seed: u64, count: usize) -> pspikessm::Result<Vec<Sample>> {
    let draws = cpu.to_vec(&cpu.uniform(Key::new(seed), &[count * (LENGTH + 1)])?)?;
    let below = |unit: f32, end: usize| (unit * end as f32) as usize;
    let sample = |draws: &[f32]| (std::array::from_fn(|t| below(draws[t], SYMBOLS)), below(draws[LENGTH], LENGTH));
    Ok(draws.chunks(LENGTH + 1).map(sample).collect())
}

fn main() -> pspikessm::Result<()> {
    let cpu = Cpu::<f32>::new();
    let memory = Memory { gru: Gru::new(&cpu, Key::new(0), SYMBOLS + 1, 24)?, head: Linear::new(&cpu, Key::new(1), 24, SYMBOLS)? };
    let splits = Splits { train: sequences(&cpu, 2, 640)?, val: sequences(&cpu, 3, 100)?, test: sequences(&cpu, 4, 200)? };
    let mut plan = Plan::new(32, Length::Epochs(8), AdamWConfig::new(0.02, 0.0));
    plan.run.clip = Some(1.0);
    let mut trainer = Trainer::of(&cpu, "memory", plan, memory, splits)?;
    let mut losses = Vec::new();
    let ending = fit_with(&mut trainer, None, FitOptions::default(), &false.into(), &mut |_, event| {
        losses.extend(if let Event::Step(Some(step)) = event { Some(step.loss) } else { None });
        Ok(ControlFlow::Continue(()))
    });
    assert_eq!(ending?, Ending::Finished);
    let test = trainer.test(1, &false.into())?.expect("nobody stops it");
    println!("{:.3} of the marked symbols of the test set are known, with a loss of {:.4}", test.metric, test.loss);
    assert!(test.metric > 0.98, "{}", test.metric);
    picture::lines("A GRU learns which symbol was marked", [0.0, 160.0], &[("loss (nats)", 2.0, &losses)])
}
