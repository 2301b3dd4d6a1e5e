//! Segments that are run again: the same bits, less that is held, every parameter's gradient, and nothing done twice.

use std::cell::Cell;
use std::rc::Rc;

use crate::common::host;
use pspikessm::autodiff::{Case, Generate, Gradients, Grads, Needs, Op, Oracle, Tape, Var, gradcheck, gradients};
use pspikessm::backend::*;
use pspikessm::nn::hippo::DiagInit;
use pspikessm::nn::{BlockConfig, Context, Encoder, Input, Model, ModelConfig, Module, Norm, NormKind, SsmConfig, SsmInit};
use pspikessm::{Error, Result};

type Host = Cpu<f64>;
type V = Var<Host>;

fn leaf(tape: &Tape<Host>, values: &[f64]) -> V {
    tape.leaf(&Host::new().from_vec(values.to_vec(), &[values.len()]).unwrap())
}

/// A segment, or the same without one.
fn maybe(saves: bool, tape: &Tape<Host>, inputs: &[&V], segment: impl Fn(&Tape<Host>, &[V]) -> Result<V> + 'static) -> Result<V> {
    if saves { tape.checkpoint(inputs, segment) } else { segment(tape, &inputs.iter().map(|&v| v.clone()).collect::<Vec<_>>()) }
}

/// A computation drawn from a seed, in which segments share parameters with each other and with what is around them, use their inputs
/// several times, hold a variable of the tape, drop at random and hold segments themselves.
fn computation(seed: u64, saves: bool) -> (Vec<u64>, Gradients<Host>, V) {
    let cpu = Host::new();
    let tape = Tape::new(&cpu);
    let mut generate = Generate::new(seed);
    let weights: Vec<Tensor<Host>> = (0..4).map(|key| cpu.normal(Key::new(seed).fold(key), &[3]).unwrap()).collect();
    let x = leaf(&tape, &generate.normal(&[3]).values);
    let mut y = if generate.flag() { x.mul(&tape.parameter(2, &weights[2])).unwrap() } else { x.clone() };
    for part in 0..generate.size(2..=5) {
        let (w, own) = (weights.clone(), generate.pick(&[0, 1, 2, 3]));
        let (held, nests) = (generate.flag().then(|| x.clone()), generate.flag());
        let key = Key::new(seed).fold(100 + part as u64);
        y = maybe(saves, &tape, &[&y, &x], move |tape, v| {
            let weight = |i: usize| tape.parameter(i as u64, &w[i]);
            let mut z = v[0].mul(&weight(own))?.tanh()?.add(&v[0])?.dropout(key, 0.3)?.mul(&v[1])?;
            if nests {
                let inner = weight(3);
                z = maybe(saves, tape, &[&z], move |_, v| v[0].mul(&inner)?.sigmoid()?.add(&v[0]))?;
            }
            let z = z.add(&weight(1).mul(&weight(own))?)?;
            held.as_ref().map_or_else(|| Ok(z.clone()), |held| z.mul(held))
        })
        .unwrap();
        if generate.flag() {
            y = y.add(&tape.parameter(0, &weights[0])).unwrap();
        }
    }
    let bits = y.to_vec().unwrap().into_iter().map(f64::to_bits).collect();
    (bits, y.backward_from(&cpu.from_vec(vec![1.0, -0.7, 0.3], &[3]).unwrap()).unwrap(), x)
}

#[test]
fn values_and_gradients_are_the_same_bits() {
    let cpu = Host::new();
    for seed in 0..200 {
        let ((y, plain, x), (again, saved, same)) = (computation(seed, false), computation(seed, true));
        assert_eq!(y, again, "seed {seed}");
        let bits = |tensor: &Tensor<Host>| host(&cpu, tensor).into_iter().map(f64::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(plain.of(&x).unwrap()), bits(saved.of(&same).unwrap()), "seed {seed}");
        for parameter in 0..4 {
            let [a, b] = [&plain, &saved].map(|gradients| gradients.of_parameter(parameter).map(bits));
            assert_eq!(a, b, "seed {seed}, parameter {parameter}");
        }
    }
}

#[test]
fn a_segment_has_the_gradient_of_what_it_computes() {
    let inputs = [Generate::new(1).normal(&[2, 3]), Generate::new(2).normal(&[3])];
    let f = |tape: &Tape<Host>, v: &[V]| {
        let held = v[1].clone();
        tape.checkpoint(&[&v[0]], move |_, x| x[0].mul(&held)?.tanh()?.mul(&x[0]))?.exp()
    };
    assert!(gradcheck(&Host::new(), f, &inputs).unwrap().comparisons >= 9);
}

/// Saves a token that counts itself, and the most that there ever were.
#[derive(Clone, Default)]
struct Counted {
    alive: Rc<Cell<usize>>,
    most: Rc<Cell<usize>>,
}

struct Token(Counted);

impl Drop for Token {
    fn drop(&mut self) {
        self.0.alive.set(self.0.alive.get() - 1);
    }
}

impl Op<Host> for Counted {
    const NAME: &'static str = "counted";
    type Saved = Token;

    fn forward(&self, _: &Host, inputs: &[&Tensor<Host>], _: Needs) -> Result<(Tensor<Host>, Token)> {
        self.alive.set(self.alive.get() + 1);
        self.most.set(self.most.get().max(self.alive.get()));
        Ok((inputs[0].clone(), Token(self.clone())))
    }

    fn backward(&self, _: &Host, _: Token, grad: &Tensor<Host>, _: Needs) -> Result<Grads<Host>> {
        Ok(vec![Some(grad.clone())])
    }

    fn oracle(&self) -> Oracle<Host, Self> {
        Oracle::Linear
    }

    fn cases(_: &mut Generate) -> Vec<Case<Self>> {
        Vec::new()
    }
}

/// The most that a chain of 8 segments of 16 ops holds at a time: when it has run forwards, and until it has run backwards.
fn held(saves: bool) -> [usize; 2] {
    let (tape, counted) = (Tape::new(&Host::new()), Counted::default());
    let x = leaf(&tape, &[1.0]);
    let mut y = x.clone();
    for _ in 0..8 {
        let counted = counted.clone();
        let run = move |tape: &Tape<Host>, v: &[V]| (0..16).try_fold(v[0].clone(), |y, _| tape.apply(counted.clone(), &[&y]));
        y = maybe(saves, &tape, &[&y], run).unwrap();
    }
    let forwards = counted.alive.get();
    assert_eq!(host(&Host::new(), y.backward().unwrap().of(&x).unwrap()), [1.0]);
    assert_eq!(counted.alive.get(), 0);
    [forwards, counted.most.get()]
}

#[test]
fn one_segment_is_held_at_a_time() {
    assert_eq!(held(false), [128, 128]);
    assert_eq!(held(true), [0, 16]);
}

#[test]
fn running_statistics_move_once() {
    let cpu = Host::new();
    let x = cpu.normal(Key::new(1), &[4, 3, 5]).unwrap();
    let run = |saves: bool| {
        let norm = Rc::new(Norm::new(&cpu, NormKind::Batch, 3).unwrap());
        let tape = Tape::new(&cpu);
        let (x, own) = (tape.leaf(&x), norm.clone());
        let y = maybe(saves, &tape, &[&x], move |tape, v| own.forward(&Context::training(tape, Key::new(0)), &v[0])).unwrap();
        let found = y.square().unwrap().sum().unwrap().backward().unwrap();
        let (mean, var) = norm.running.as_ref().unwrap();
        let mut all = vec![host(&cpu, &mean.value()), host(&cpu, &var.value()), host(&cpu, found.of(&x).unwrap())];
        all.extend([&norm.weight, &norm.bias].map(|param| host(&cpu, found.of(param).unwrap())));
        assert_eq!(mean.version(), 1);
        all
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn the_second_run_can_tell_and_must_give_the_same_shape() {
    let cpu = Host::new();
    let runs = Rc::new(Cell::new([0; 2]));
    let tape = Tape::new(&cpu);
    let (x, count) = (leaf(&tape, &[1.0, 2.0]), runs.clone());
    let y = tape.checkpoint(&[&x], move |tape, v| {
        let [first, second] = count.get();
        count.set(if tape.is_recomputing() { [first, second + 1] } else { [first + 1, second] });
        v[0].square()
    });
    assert_eq!(runs.get(), [1, 0]);
    y.unwrap().sum().unwrap().backward().unwrap();
    assert_eq!(runs.get(), [1, 1]);
    assert!(!tape.is_recomputing());

    let tape = Tape::new(&cpu);
    let x = leaf(&tape, &[1.0, 2.0]);
    let fickle = tape.checkpoint(&[&x], |tape, v| if tape.is_recomputing() { v[0].slice(0, 0, 1) } else { v[0].square() }).unwrap();
    let refused = fickle.sum().unwrap().backward();
    assert!(matches!(refused, Err(Error::Shape { op: "checkpoint", .. })));
    // Spent all the same, and nothing is held any more.
    assert!(tape.is_empty() && x.square().unwrap().sum().unwrap().backward().is_err());
}

#[test]
fn errors_of_a_segment_leave_the_tape_as_it_was() {
    let tape = Tape::new(&Host::new());
    let x = leaf(&tape, &[1.0, 2.0]);
    assert!(matches!(tape.checkpoint(&[&x], |_, v| v[0].reshape(&[3])), Err(Error::Shape { op: "reshape", .. })));
    let y = x.square().unwrap().sum().unwrap();
    // In a segment the tape does not run backwards.
    let root = y.clone();
    let inside = tape.checkpoint(&[&x], move |_, v| root.backward().map(|_| v[0].clone()));
    assert!(inside.unwrap_err().to_string().contains("run the tape backwards outside of it"));
    assert_eq!(host(&Host::new(), y.backward().unwrap().of(&x).unwrap()), [2.0, 4.0]);
}

#[test]
fn a_segment_is_kept_only_where_something_needs_a_gradient() {
    let cpu = Host::new();
    let (tape, off) = (Tape::new(&cpu), Tape::off(&cpu));
    let x = tape.constant(&cpu.full(&[2], 3.0).unwrap());
    let y = tape.checkpoint(&[&x], |_, v| v[0].square()).unwrap();
    assert!(tape.is_empty() && !y.needs_gradient());
    // A parameter inside does, and so does a variable that is handed through.
    let weight = cpu.full(&[2], 5.0).unwrap();
    let y = tape.checkpoint(&[&x], move |tape, v| v[0].mul(&tape.parameter(1, &weight))).unwrap();
    let z = leaf(&tape, &[1.0, 1.0]);
    let w = tape.checkpoint(&[&z], |_, v| Ok(v[0].clone())).unwrap();
    let found = y.add(&w).unwrap().sum().unwrap().backward().unwrap();
    assert_eq!(host(&cpu, found.of_parameter(1).unwrap()), [3.0, 3.0]);
    assert_eq!(host(&cpu, found.of(&z).unwrap()), [1.0, 1.0]);
    let y = off.checkpoint(&[&off.leaf(x.value())], |_, v| v[0].square()).unwrap();
    assert_eq!(y.to_vec().unwrap(), [9.0, 9.0]);
}

#[test]
fn a_tape_of_higher_order_keeps_its_segments() {
    let tape = Tape::higher_order(&Host::new());
    let x = leaf(&tape, &[2.0]);
    let y = tape.checkpoint(&[&x], |_, v| v[0].square()?.mul(&v[0])).unwrap();
    let slope = gradients(&[&y], &[&x]).unwrap().remove(0);
    assert_eq!(gradients(&[&slope], &[&x]).unwrap()[0].item().unwrap(), 12.0);
}

#[test]
fn a_model_whose_blocks_are_run_again_learns_the_same_bits() {
    let cpu = Cpu::<f32>::new();
    for seed in 0..6u64 {
        let run = |recomputes: bool| {
            let init = if seed.is_multiple_of(2) {
                SsmConfig::new(6, 4)
            } else {
                SsmConfig::new(6, 4).init(SsmInit::Diag(DiagInit::Lin, Discretization::Zoh))
            };
            let norm = if seed < 3 { NormKind::Batch } else { NormKind::Layer };
            let block = BlockConfig::new(init.l_max(9).dropout(0.2))
                .norm(norm)
                .prenorm(seed == 1 || seed == 4)
                .dropout(0.1)
                .bidirectional(seed != 5);
            let model = Model::new(&cpu, Key::new(seed), &ModelConfig::new(Encoder::Tokens(7), block, 3).layers(3)).unwrap();
            let tape = Tape::new(&cpu);
            let cx = Context::training(&tape, Key::new(1).fold(seed));
            let cx = if recomputes { cx.recompute() } else { cx };
            let tokens: Vec<u32> = (0..18).map(|t| (t * t + seed as u32) % 7).collect();
            let loss = model.forward(&cx, Input::tokens(&tokens, 2).lengths(&[9, 6])).unwrap().cross_entropy(&[0, 2]).unwrap();
            let nodes = tape.len();
            let gradients = loss.backward().unwrap();
            let bits = |tensor: &Tensor<_>| cpu.to_vec(tensor).unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
            let found = |param| gradients.of(param).ok().map(bits);
            let state: Vec<_> = model.parameters().iter().map(|(name, param)| (name.clone(), bits(&param.value()), found(param))).collect();
            assert!(state.iter().filter(|(.., grad)| grad.is_some()).count() > 20);
            (state, nodes)
        };
        let ((kept, all), (again, few)) = (run(false), run(true));
        assert_eq!(kept, again, "seed {seed}");
        assert!(few < all, "{few} nodes and {all}");
    }
}
