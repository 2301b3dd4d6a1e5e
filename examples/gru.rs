//! A GRU that remembers the first symbol of a sequence: a model, loss and data of one's own in the trainer.

use pspikessm::backend::*;
use pspikessm::data::Splits;
use pspikessm::nn::{AdamWConfig, Context, Gru, Linear, Module, Names};
use pspikessm::train::{Better, Ending, FitOptions, Learner, Length, Metric, Plan, Scored, Trainer, fit};

/// Symbols, and how long a sequence is.
const SYMBOLS: usize = 4;
const LENGTH: usize = 20;

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
    /// The symbols of a sequence; the first is the answer.
    type Samples = Vec<[usize; LENGTH]>;

    fn module(&self) -> &dyn Module<B> {
        self
    }

    fn metric(&self) -> Metric {
        Metric { name: "accuracy", better: Better::Higher }
    }

    fn score(&self, cx: &Context<'_, B>, batch: &Vec<[usize; LENGTH]>) -> pspikessm::Result<Scored<B>> {
        let symbols: Vec<usize> = batch.iter().flatten().copied().collect();
        let x = cx.tape().one_hot(&symbols, SYMBOLS)?.reshape(&[batch.len(), LENGTH, SYMBOLS])?.permute(&[0, 2, 1])?;
        let (_, last) = self.gru.forward(cx, &x, None)?;
        let logits = self.head.forward(cx, &last)?;
        let labels: Vec<usize> = batch.iter().map(|sequence| sequence[0]).collect();
        let taken = logits.argmax(1)?.to_vec()?.into_iter().map(|class| class.f64() as usize);
        Ok(Scored::new(logits.cross_entropy(&labels)?)?.classes(labels.iter().copied().zip(taken).collect()))
    }
}

fn sequences(cpu: &Cpu<f32>, seed: u64, count: usize) -> pspikessm::Result<Vec<[usize; LENGTH]>> {
    let draws = cpu.to_vec(&cpu.uniform(Key::new(seed), &[count * LENGTH])?)?;
    let symbol = |unit: &f32| (unit * SYMBOLS as f32) as usize;
    Ok(draws.as_chunks::<LENGTH>().0.iter().map(|sequence| sequence.each_ref().map(symbol)).collect())
}

fn main() -> pspikessm::Result<()> {
    let cpu = Cpu::<f32>::new();
    let memory = Memory { gru: Gru::new(&cpu, Key::new(0), SYMBOLS, 24)?, head: Linear::new(&cpu, Key::new(1), 24, SYMBOLS)? };
    let splits = Splits { train: sequences(&cpu, 2, 640)?, val: sequences(&cpu, 3, 100)?, test: sequences(&cpu, 4, 200)? };
    let mut plan = Plan::new(32, Length::Epochs(12), AdamWConfig::new(0.02, 0.0));
    plan.run.clip = Some(1.0);
    let mut trainer = Trainer::of(&cpu, "memory", plan, memory, splits)?;
    let first = trainer.step()?;
    assert_eq!(fit(&mut trainer, None, FitOptions::default(), &false.into())?, Ending::Finished);
    let (last, test) = (trainer.recent(10), trainer.test(1, &false.into())?);
    let loss = |report: Option<pspikessm::train::StepReport>| report.map_or(f64::NAN, |report| report.loss);
    let accuracy = test.map_or(f64::NAN, |test| test.metric);
    println!(
        "loss {:.3}, then {:.3}; the first symbol is known {LENGTH} steps later in {accuracy} of the test set",
        loss(first),
        loss(last)
    );
    assert!(accuracy > 0.99, "{accuracy}");
    Ok(())
}
