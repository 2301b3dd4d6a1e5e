//! Pieces of a recording, one after the other, are the whole: outputs, spikes, gradients, on every causal model.

use super::stream::{CHANNELS, Sound, config, model, ssm, variants};
use crate::common::{distance, gradient, host};
use pspikessm::Error;
use pspikessm::autodiff::{Tape, Var};
use pspikessm::backend::*;
use pspikessm::nn::hippo::{DiagInit, Measure};
use pspikessm::nn::*;

type B = Cpu<f64>;

const BATCH: usize = 2;

/// A state of random numbers, as a leaf.
fn leaf(cpu: &B, tape: &Tape<B>, seed: u64) -> Var<B> {
    tape.leaf(&cpu.normal(Key::new(seed), &[BATCH, CHANNELS, 6]).unwrap())
}

#[test]
fn an_ssm_goes_on_from_a_state_as_its_stepper_does() {
    let cpu = B::new();
    for (init, l_max) in
        [(SsmInit::default(), Some(40)), (SsmInit::Dplr(Measure::LegT), None), (SsmInit::Diag(DiagInit::Lin, Discretization::Zoh), None)]
    {
        let layer =
            Ssm::new(&cpu, Key::new(1), &ssm().init(init).n_ssm(CHANNELS).l_max(l_max).activation(Activation::Identity).causal()).unwrap();
        layer.prepare(&cpu, 40).unwrap();
        let tape = Tape::off(&cpu);
        let cx = Context::evaluation(&tape, Key::new(0));
        let u = host(&cpu, &cpu.normal(Key::new(2), &[1, CHANNELS, 77]).unwrap());
        let (mut got, mut state, mut at) = (vec![Vec::new(); CHANNELS], None, 0);
        for length in [1, 2, 7, 40, 27] {
            let piece = (0..CHANNELS).flat_map(|h| u[h * 77 + at..][..length].to_vec()).collect();
            let piece = tape.constant(&cpu.from_vec(piece, &[1, CHANNELS, length]).unwrap());
            let (y, after) = layer.forward_from(&cx, &piece, state.as_ref()).unwrap();
            got.iter_mut().zip(y.to_vec().unwrap().chunks(length)).for_each(|(all, row)| all.extend(row));
            (state, at) = (Some(after), at + length);
        }
        let mut stepper = layer.stepper(&cpu).unwrap();
        let steps: Vec<Vec<f64>> =
            (0..77).map(|t| stepper.step(&(0..CHANNELS).map(|h| u[h * 77 + t]).collect::<Vec<_>>()).unwrap()).collect();
        let want: Vec<f64> = (0..CHANNELS * 77).map(|i| steps[i % 77][i / 77]).collect();
        assert!(distance(&got.concat(), &want) < 1e-11, "{init:?}: {:e}", distance(&got.concat(), &want));
    }
}

#[test]
fn the_gradient_goes_through_the_state() {
    let cpu = B::new();
    // Where a mode is all but undamped, C~ makes a jump of C within any step of a difference quotient: those are held to the whole below.
    let damped = |init: &SsmInit| matches!(init, SsmInit::Diag(..) | SsmInit::Dplr(Measure::LegS | Measure::LegT));
    for init in SsmInit::all().into_iter().filter(damped) {
        // So long that C~ determines C to all digits: difference quotients have few to spare.
        let layer = Ssm::new(&cpu, Key::new(1), &ssm().dt_min(0.05).init(init).l_max(400).causal()).unwrap();
        let u = cpu.normal(Key::new(2), &[BATCH, CHANNELS, 9]).unwrap();
        let weights = cpu.normal(Key::new(3), &[BATCH, CHANNELS, 9]).unwrap();
        let loss = |tape: &Tape<B>, state: &Var<B>| {
            let cx = Context::evaluation(tape, Key::new(0));
            let (y, after) = layer.forward_from(&cx, &tape.constant(&u), Some(state)).unwrap();
            y.mul(&tape.constant(&weights)).unwrap().sum().unwrap().add(&after.square().unwrap().sum().unwrap()).unwrap()
        };
        let tape = Tape::new(&cpu);
        let state = leaf(&cpu, &tape, 4);
        let gradients = loss(&tape, &state).backward().unwrap();
        let value = |tape: &Tape<B>, state: Vec<f64>| {
            loss(tape, &tape.constant(&cpu.from_vec(state, &[BATCH, CHANNELS, 6]).unwrap())).item().unwrap()
        };
        let slope = |moved: &dyn Fn(f64) -> f64| (8.0 * (moved(1e-3) - moved(-1e-3)) - (moved(2e-3) - moved(-2e-3))) / 1.2e-2;
        let (start, got) = (host(&cpu, state.value()), host(&cpu, gradients.of(&state).unwrap()));
        let want: Vec<f64> = (0..start.len())
            .map(|i| {
                slope(&|by| {
                    let mut moved = start.clone();
                    moved[i] += by;
                    value(&Tape::off(&cpu), moved)
                })
            })
            .collect();
        assert!(distance(&got, &want) < 1e-7, "{init:?}: the state, {:e}", distance(&got, &want));
        for (name, param) in layer.parameters().into_iter().filter(|(_, param)| param.is_trained()) {
            let (kept, got) = (param.value(), gradient(&cpu, &gradients, &param));
            let values = host(&cpu, &kept);
            let want: Vec<f64> = (0..values.len())
                .map(|i| {
                    slope(&|by| {
                        let mut moved = values.clone();
                        moved[i] += by;
                        param.set(cpu.from_vec(moved, kept.shape()).unwrap()).unwrap();
                        let value = value(&Tape::off(&cpu), start.clone());
                        param.set(kept.clone()).unwrap();
                        value
                    })
                })
                .collect();
            assert!(distance(&got, &want) < 1e-6, "{init:?}: {name}, {:e}", distance(&got, &want));
        }
    }
}

/// Logits and all gradients, of a sound in pieces of these lengths, or whole without any.
fn trained(model: &Model<B>, sound: &Sound, pieces: &[usize]) -> (Vec<f64>, Vec<(String, Vec<f64>)>) {
    let cpu = B::new();
    let tape = Tape::new(&cpu);
    let cx = Context::training(&tape, Key::new(5)).first_sample(3);
    let logits = if pieces.is_empty() {
        model.forward(&cx, sound.input(BATCH)).unwrap()
    } else {
        let (mut carry, mut logits, mut at) = (None, None, 0);
        for length in pieces {
            let piece = sound.cut(BATCH, at, at + length);
            let (now, next) = model.forward_from(&cx, piece.input(BATCH), carry.as_ref()).unwrap();
            (carry, logits, at) = (Some(next), Some(now), at + length);
        }
        assert_eq!(carry.unwrap().heard(), at as u64);
        logits.unwrap()
    };
    let gradients = logits.cross_entropy(&[0; BATCH]).unwrap().backward().unwrap();
    let of = |(name, param): (String, Param<B>)| (name, gradients.of_parameter(param.identity()).map_or(vec![0.0], |g| host(&cpu, g)));
    (logits.to_vec().unwrap(), model.parameters().into_iter().filter(|(_, param)| param.is_trained()).map(of).collect())
}

#[test]
fn pieces_of_a_recording_train_as_the_whole() {
    let cpu = B::new();
    for (name, config) in variants() {
        let mut block = config.block.clone();
        // Before a channel's first spike the whole convolution is round-off, the piece's 0: no derivative may jump there.
        if !matches!(block.source, SpikeSource::Probability(_)) || block.ssm.activation == Activation::Relu {
            continue;
        }
        if block.bidirectional {
            block = block.source(SpikeSource::Probability(Surrogate::Atan { alpha: 2.0 }));
        }
        // A BatchNorm would see each piece by itself.
        if block.norm == Some(NormKind::Batch) {
            block = block.norm(NormKind::Layer);
        }
        let config = config.block(block);
        let (model, sound) = (model(&cpu, &config), Sound::new(&config, BATCH, 30));
        model.prepare(&cpu, 30).unwrap();
        let (logits, gradients) = trained(&model, &sound, &[]);
        for pieces in [&[30][..], &[1, 16, 13], &[10, 10, 10]] {
            let (got, parts) = trained(&model, &sound, pieces);
            assert!(distance(&got, &logits) < 1e-10, "{name}, {pieces:?}: {:e}", distance(&got, &logits));
            for ((param, got), (_, want)) in parts.iter().zip(&gradients) {
                let largest = want.iter().fold(1e-6f64, |max, g| max.max(g.abs()));
                let worst = got.iter().zip(want).fold(0.0f64, |max, (g, w)| max.max((g - w).abs()));
                assert!(worst < 1e-7 * largest, "{name}, {pieces:?}: {param} is off by {worst:e} of {largest:e}");
            }
        }
    }
}

#[test]
fn a_detached_carry_has_the_values_and_no_gradient() {
    let cpu = B::new();
    let config = config(BlockConfig::new(ssm()).causal().norm(None));
    let (model, sound) = (model(&cpu, &config), Sound::new(&config, BATCH, 30));
    let run = |detach: bool| {
        let (first, second) = (Tape::new(&cpu), Tape::new(&cpu));
        model.prepare(&cpu, 30).unwrap();
        let (_, carry) = model.forward_from(&Context::training(&first, Key::new(5)), sound.cut(BATCH, 0, 20).input(BATCH), None).unwrap();
        assert_eq!((carry.states(0).len(), carry.states(1)[0].shape(), carry.states(2).len()), (1, &[BATCH, CHANNELS, 6][..], 0));
        let (carry, tape) = if detach { (carry.onto(&second), &second) } else { (carry, &first) };
        assert_eq!(carry.states(0)[0].needs_gradient(), !detach);
        let cx = Context::training(tape, Key::new(5));
        let (logits, _) = model.forward_from(&cx, sound.cut(BATCH, 20, 30).input(BATCH), Some(&carry)).unwrap();
        let gradients = logits.cross_entropy(&[0; BATCH]).unwrap().backward().unwrap();
        let weight = model.parameters().into_iter().find(|(name, _)| name == "encoder.weight").unwrap().1;
        (logits.to_vec().unwrap(), gradient(&cpu, &gradients, &weight))
    };
    let (whole, truncated) = (run(false), run(true));
    assert_eq!(whole.0, truncated.0);
    assert!(distance(&truncated.1, &whole.1) > 1e-3, "the earlier piece has its share of the gradient");
}

#[test]
fn what_cannot_be_carried_is_refused_by_name() {
    let cpu = B::new();
    let refusal = |config: ModelConfig, lengths: Option<&[usize]>, carry: bool| {
        let (model, tape) = (model(&cpu, &config), Tape::off(&cpu));
        let cx = Context::evaluation(&tape, Key::new(0));
        let (sound, other) = (Sound::new(&config, BATCH, 4), Sound::new(&config, 3, 4));
        let carried = carry.then(|| model.forward_from(&cx, other.input(3), None).unwrap().1);
        let input = lengths.map_or_else(|| sound.input(BATCH), |lengths| sound.input(BATCH).lengths(lengths));
        model.forward_from(&cx, input, carried.as_ref()).map(drop).unwrap_err()
    };
    let causal = || BlockConfig::new(ssm()).causal();
    let lif = Lif { decay: 0.8, threshold: 0.6, soft_reset: true, surrogate: Surrogate::Clamp };
    for (config, field) in [
        (config(BlockConfig::new(ssm())), "bidirectional"),
        (config(BlockConfig::new(ssm().causal()).flip_reverse(true)), "flip_reverse"),
        (config(causal().source(SpikeSource::Lif(lif))), "source"),
        (config(causal().source(SpikeSource::Plif(PlifConfig::new(0.5)))), "source"),
        (config(causal()).retrieval(true), "retrieval"),
    ] {
        let error = refusal(config, None, false);
        assert!(matches!(error, Error::Config { name, .. } if name == field), "{error}");
    }
    assert!(refusal(config(causal()), Some(&[4, 3]), false).to_string().contains("lengths"));
    assert!(matches!(refusal(config(causal()), None, true), Error::Shape { .. }));
    assert!(refusal(config(BlockConfig::new(ssm().l_max(3)).causal()), None, false).to_string().contains("l_max = 3"));
}
