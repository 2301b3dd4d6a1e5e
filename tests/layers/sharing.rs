//! One model, many threads: each gets the bits that it would get alone, and nothing in the model changes.

use std::sync::Barrier;
use std::thread;

use crate::common::host;
use pspikessm::autodiff::Tape;
use pspikessm::backend::*;
use pspikessm::nn::{BlockConfig, Context, Encoder, Input, Model, ModelConfig, Module, NormKind, SsmConfig};

type B = Cpu<f32>;

const THREADS: usize = 8;
const MODELS: u64 = 200;
/// Shorter and longer than what models are prepared for, and more of them than a layer remembers.
const LENGTHS: [usize; 12] = [3, 20, 7, 1, 33, 12, 5, 18, 26, 9, 41, 8];

fn is_shared<T: Send + Sync>() {}

/// Small models of all kinds: with l_max and without, never prepared, prepared too short, one branch and two.
fn model(cpu: &B, number: u64) -> Model<B> {
    let l_max = [None, Some(8), None, Some(64)][number as usize % 4];
    let norm = if number.is_multiple_of(3) { NormKind::Layer } else { NormKind::Batch };
    let block = BlockConfig::new(SsmConfig::new(3, 4).l_max(l_max)).norm(norm).bidirectional(!number.is_multiple_of(5));
    let model = Model::new(cpu, Key::new(number), &ModelConfig::new(Encoder::Tokens(7), block, 3).layers(1)).unwrap();
    if number % 8 == 2 {
        model.prepare(cpu, 6).unwrap();
    }
    model
}

fn bits(values: Vec<f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

/// The logits for two sequences of this length.
fn logits(cpu: &B, model: &Model<B>, length: usize) -> Vec<u32> {
    let tokens: Vec<u32> = (0..2 * length).map(|t| (t * t % 7) as u32).collect();
    let tape = Tape::off(cpu);
    let cx = Context::evaluation(&tape, Key::new(length as u64));
    bits(model.forward(&cx, Input::tokens(&tokens, 2).lengths(&[length, length.div_ceil(2)])).unwrap().to_vec().unwrap())
}

/// The lengths of thread number `thread`, one after the other.
fn lengths(thread: usize) -> impl Iterator<Item = usize> {
    (0..3).map(move |i| LENGTHS[(5 * thread + i) % LENGTHS.len()])
}

fn state(cpu: &B, model: &Model<B>) -> Vec<(String, Vec<u32>, u64)> {
    let of = |(name, param): (String, pspikessm::nn::Param<B>)| (name, bits(cpu.to_vec(&param.value()).unwrap()), param.version());
    model.parameters().into_iter().map(of).collect()
}

#[test]
fn threads_that_share_a_new_model_get_what_one_thread_gets_alone() {
    is_shared::<Model<B>>();
    let cpu = B::new();
    for number in 0..MODELS {
        let shared = model(&cpu, number);
        let before = state(&cpu, &shared);
        let barrier = Barrier::new(THREADS);
        let got: Vec<_> = thread::scope(|scope| {
            let run = |thread| {
                let (cpu, shared, barrier) = (&cpu, &shared, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    lengths(thread).map(|length| logits(cpu, shared, length)).collect::<Vec<_>>()
                })
            };
            let threads: Vec<_> = (0..THREADS).map(run).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(state(&cpu, &shared) == before, "model {number} was changed");
        let alone = model(&cpu, number);
        let want = LENGTHS.map(|length| logits(&cpu, &alone, length));
        let want = |length| &want[LENGTHS.iter().position(|own| *own == length).unwrap()];
        for (thread, got) in got.iter().enumerate() {
            assert!(got.iter().eq(lengths(thread).map(want)), "model {number}, thread {thread}");
        }
    }
}

#[test]
fn threads_may_prepare_a_model_that_others_use() {
    let cpu = B::new();
    for number in 0..20 {
        let (shared, alone) = (model(&cpu, 4 * number), model(&cpu, 4 * number));
        // One length for all: the C~ that is derived for it is the one that is prepared.
        let logits = |model: &Model<B>| {
            let tape = Tape::off(&cpu);
            model.forward(&Context::evaluation(&tape, Key::new(1)), Input::tokens(&[3; 40], 2)).unwrap().to_vec().unwrap()
        };
        let want = logits(&alone);
        let barrier = Barrier::new(THREADS);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    barrier.wait();
                    shared.prepare(&cpu, 20).unwrap();
                    let tape = Tape::off(&cpu);
                    let cx = Context::evaluation(&tape, Key::new(1));
                    assert_eq!(shared.forward(&cx, Input::tokens(&[3; 40], 2)).unwrap().to_vec().unwrap(), want);
                });
            }
        });
        alone.prepare(&cpu, 20).unwrap();
        assert!(state(&cpu, &shared).iter().zip(state(&cpu, &alone)).all(|(a, b)| *a == b), "model {number} was prepared more than once");
    }
}

#[test]
fn an_evaluation_between_a_training_pass_and_its_update_changes_neither() {
    let cpu = Cpu::<f64>::new();
    let gradients = |evaluate: bool| {
        let block = BlockConfig::new(SsmConfig::new(3, 4)).norm(None);
        let model = Model::new(&cpu, Key::new(3), &ModelConfig::new(Encoder::Tokens(7), block, 3).layers(1)).unwrap();
        model.prepare(&cpu, 4).unwrap();
        let tape = Tape::new(&cpu);
        let logits = model.forward(&Context::training(&tape, Key::new(1)), Input::tokens(&[1, 2, 3, 4, 5, 6, 0, 1], 2)).unwrap();
        let gradients = logits.cross_entropy(&[0, 1]).unwrap().backward().unwrap();
        if evaluate {
            let off = Tape::off(&cpu);
            model.forward(&Context::evaluation(&off, Key::new(2)), Input::tokens(&[1; 60], 2)).unwrap();
        }
        let mut optimizer = pspikessm::nn::Optimizer::new(pspikessm::nn::AdamWConfig::new(1e-2, 0.01)).unwrap();
        optimizer.update(&cpu, &model, &gradients, 1.0).unwrap();
        model.parameters().into_iter().map(|(name, param)| (name, host(&cpu, &param.value()))).collect::<Vec<_>>()
    };
    assert_eq!(gradients(true), gradients(false));
}
