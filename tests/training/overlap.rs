//! Gradients that leave while the tape still runs backwards: when they do, what they sum up to, and how all end where one process fails then.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::host;
use crate::processes::together;
use crate::runs::{changed, mentions, recipe, splits};
use pspikessm::autodiff::Var;
use pspikessm::backend::*;
use pspikessm::data::Splits;
use pspikessm::nn::{AdamWConfig, Context, Linear, Module, Names, Param};
use pspikessm::train::{Alone, Communicator, Exchange, Learner, Length, Plan, Reduce, Scored, Trainer};
use pspikessm::{Error, Result};

/// A communicator that counts the exchanges that were begun.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn Communicator>,
    begun: Arc<AtomicU64>,
}

impl Communicator for Counting {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn all_gather(&self, message: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        self.inner.all_gather(message)
    }

    fn begin_exchange(&self, messages: Vec<Vec<u8>>, lengths: &[usize]) -> Result<Box<dyn Exchange>> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.inner.begin_exchange(messages, lengths)
    }

    fn sum_f32(&self, values: &mut [f32]) -> Result<()> {
        self.inner.sum_f32(values)
    }

    fn sum_f64(&self, values: &mut [f64]) -> Result<()> {
        self.inner.sum_f64(values)
    }
}

/// Two layers, and between them something that looks about when the tape runs backwards past it.
struct Pair {
    early: Linear<Cpu<f64>>,
    late: Linear<Cpu<f64>>,
    between: Arc<Between>,
}

#[derive(Default)]
struct Between {
    begun: Arc<AtomicU64>,
    /// How many exchanges had been begun, each time.
    seen: Mutex<Vec<u64>>,
    fails: AtomicBool,
    is_unfaithful: AtomicBool,
}

/// A segment that, run again, uses a parameter that it has not used before: what is behind it has had its gradient by then.
fn unfaithful(cx: &Context<'_, Cpu<f64>>, weight: &Param<Cpu<f64>>, input: &Var<Cpu<f64>>) -> Result<Var<Cpu<f64>>> {
    let (identity, value) = (weight.identity(), weight.value().clone());
    cx.tape().checkpoint(&[input], move |tape, inputs| match tape.is_recomputing() {
        true => inputs[0].add(&tape.parameter(identity, &value).sum()?),
        false => inputs[0].scale(1.0),
    })
}

impl Module<Cpu<f64>> for Pair {
    fn names(&self, names: &mut Names<'_, Cpu<f64>>) {
        names.module("early", &self.early);
        names.module("late", &self.late);
    }
}

impl Learner<Cpu<f64>> for Pair {
    type Samples = Vec<f64>;

    fn module(&self) -> &dyn Module<Cpu<f64>> {
        self
    }

    fn score(&self, cx: &Context<'_, Cpu<f64>>, batch: &Vec<f64>) -> Result<Scored<Cpu<f64>>> {
        let x = cx.tape().constant(&cx.backend().from_vec(batch.clone(), &[batch.len(), 1])?);
        let between = self.between.clone();
        let hidden = cx.tape().custom(
            "between",
            &[&self.early.forward(cx, &x)?],
            |input| Ok(input[0].clone()),
            move |_, _, gradient| {
                between.seen.lock().unwrap().push(between.begun.load(Ordering::SeqCst));
                match between.fails.load(Ordering::SeqCst) {
                    true => Err(Error::value("between", "a cosmic ray")),
                    false => Ok(vec![Some(gradient.clone())]),
                }
            },
        )?;
        let hidden = if self.between.is_unfaithful.load(Ordering::SeqCst) { unfaithful(cx, &self.late.weight, &hidden)? } else { hidden };
        Scored::new(self.late.forward(cx, &hidden.tanh()?)?.sub(&x.square()?)?.square()?.mean()?)
    }
}

/// The learner on one process, with messages of one number; two micro-batches a process, of four.
fn pair(own: Arc<dyn Communicator>, between: &Arc<Between>) -> Trainer<Cpu<f64>, Pair> {
    let cpu = Cpu::<f64>::new();
    let mut plan = Plan::new(8, Length::Steps(30), AdamWConfig::new(0.05, 0.0));
    plan.run.accumulate = 8;
    let points: Vec<f64> = (0..24).map(|i| f64::from(i) / 24.0).collect();
    let splits = Splits { train: points.clone(), val: points.clone(), test: points };
    let layer = |seed: u64, from: usize, to: usize| Linear::new(&cpu, Key::new(seed), from, to).unwrap();
    let learner = Pair { early: layer(1, 1, 5), late: layer(2, 5, 1), between: between.clone() };
    let counting = Counting { inner: own, begun: between.begun.clone() };
    let trainer = Trainer::of(&cpu, "pair", plan, learner, splits).unwrap();
    trainer.in_messages_of(1).across(Arc::new(counting), Reduce::Fixed).unwrap()
}

fn weights(trainer: &Trainer<Cpu<f64>, Pair>) -> Vec<u64> {
    let all = trainer.learner().module().parameters().into_iter();
    all.flat_map(|(_, param)| host(&Cpu::<f64>::new(), &param.value())).map(f64::to_bits).collect()
}

#[test]
fn they_leave_before_the_tape_has_come_to_its_beginning() {
    together(4, |own| {
        let between = Arc::<Between>::default();
        let mut trainer = pair(own, &between);
        for step in 0..4 {
            let before = between.begun.load(Ordering::SeqCst);
            trainer.step().unwrap();
            let seen = std::mem::take(&mut *between.seen.lock().unwrap());
            // Of two micro-batches a process only the last one's are summed up; and in the first step nobody knows what there will be.
            assert!(seen.len() == 2 && seen[0] == before, "step {step}: {seen:?} after {before}");
            assert_eq!(seen[1] > before, step > 0, "step {step}: {seen:?} after {before}");
        }
    });
}

#[test]
fn who_fails_in_the_middle_of_them_ends_the_step_for_all_and_all_can_try_it_again() {
    let want = {
        let mut one = pair(Arc::new(Alone), &Arc::default());
        (0..6).for_each(|_| assert!(one.step().unwrap().is_some()));
        weights(&one)
    };
    for (processes, unlucky) in [(2, 1), (3, 0), (4, 3)] {
        let ends = together(processes, |own| {
            let (rank, between) = (own.rank(), Arc::<Between>::default());
            let mut trainer = pair(own, &between);
            let mut errors = Vec::new();
            while trainer.steps_done() < 6 {
                // Before anything is known of the buckets, and with them.
                let tried = trainer.steps_done() as usize / 3 + 1;
                between.fails.store(rank == unlucky && errors.len() < tried, Ordering::SeqCst);
                errors.extend(trainer.step().err().map(|error| error.to_string()));
            }
            (errors, weights(&trainer))
        });
        for (rank, (errors, found)) in ends.into_iter().enumerate() {
            assert_eq!(errors.len(), 2, "process {rank} of {processes}: {errors:?}");
            let by_whom = if rank == unlucky { String::new() } else { format!("process {unlucky}") };
            errors.iter().for_each(|error| mentions(error, &["between", "a cosmic ray", &by_whom]));
            assert_eq!(found, want, "process {rank} of {processes}");
        }
    }
}

#[test]
fn a_gradient_that_comes_after_its_sum_was_sent_is_refused() {
    together(2, |own| {
        let between = Arc::<Between>::default();
        let mut trainer = pair(own, &between);
        trainer.step().unwrap();
        between.is_unfaithful.store(true, Ordering::SeqCst);
        mentions(&trainer.step().unwrap_err().to_string(), &["second gradient", "Tape::checkpoint"]);
        assert_eq!(trainer.steps_done(), 1);
    });
}

#[test]
fn a_loss_that_is_not_finite_on_one_process_is_an_error_on_all() {
    let errors = together(3, |own| {
        let rank = own.rank();
        let six = changed(recipe(9), |r| (r.run.batch, r.run.accumulate) = (6, 6));
        let trainer = Trainer::new(&Cpu::<f32>::new(), "tiny", six, splits()).unwrap();
        let mut trainer = trainer.in_messages_of(16).across(own, Reduce::Fixed).unwrap();
        trainer.step().unwrap();
        if rank == 2 {
            let (_, bias) = trainer.model().parameters().into_iter().find(|(name, _)| name == "decoder.bias").unwrap();
            bias.set(Cpu::<f32>::new().full(bias.value().shape(), f64::NAN).unwrap()).unwrap();
        }
        let error = trainer.step().unwrap_err();
        assert!(matches!(error, Error::NonFinite { step: 2, .. }), "{error}");
        error.to_string()
    });
    errors.iter().for_each(|error| mentions(error, &["step 2", "decoder.bias, and with it the loss,"]));
}

#[test]
fn twice_the_gradients_go_out_of_a_process_and_little_else() {
    for (processes, message) in [(2, 16), (2, 1 << 15), (3, 100), (4, 1 << 15)] {
        let sent = together(processes, |own| {
            let wide = changed(recipe(9), |r| (r.run.batch, r.run.accumulate, r.model.block.ssm.d_model) = (processes, processes, 32));
            let trainer = Trainer::new(&Cpu::<f32>::new(), "tiny", wide, splits()).unwrap();
            let mut trainer = trainer.in_messages_of(message).across(own, Reduce::Fixed).unwrap();
            let running = trainer.model().parameters().into_iter().filter(|(name, _)| name.contains("running"));
            let values = trainer.model().num_parameters() + running.map(|(_, param)| param.value().numel()).sum::<usize>();
            let step = |trainer: &mut Trainer<Cpu<f32>>| {
                let before = trainer.bytes_sent();
                trainer.step().unwrap();
                trainer.bytes_sent() - before
            };
            ([step(&mut trainer), step(&mut trainer), step(&mut trainer)], 4 * values as u64)
        });
        for step in 0..3 {
            // (N - 1) / N of them to be summed, and the sums of one in N for each other; beside them what is said before and after.
            let all: u64 = sent.iter().map(|(steps, _)| steps[step]).sum();
            let others = processes as u64 - 1;
            let want = 2 * others * sent[0].1;
            assert!((want..want + others * processes as u64 * 2000).contains(&all), "{processes}, {message}, step {step}: {all} of {want}");
        }
    }
}
