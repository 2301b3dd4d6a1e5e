//! What the tape does: accumulates, runs backwards once, records only what must be, frees what it saved, and refuses in clear words.

use std::cell::Cell;
use std::rc::Rc;

use crate::common::says;
use pspikessm::autodiff::{
    Array, AsLeaf, Case, Generate, Gradients, Grads, LeafId, Mix, Needs, Op, Oracle, Tape, Var, VarGrads, gradcheck, gradgradcheck,
};
use pspikessm::backend::*;
use pspikessm::{Error, Result};

type Host = Cpu<f64>;

fn tensor(values: &[f64], shape: &[usize]) -> Tensor<Host> {
    Host::new().from_vec(values.to_vec(), shape).unwrap()
}

fn leaf(tape: &Tape<Host>, values: &[f64]) -> Var<Host> {
    tape.leaf(&tensor(values, &[values.len()]))
}

fn values(tensor: Result<&Tensor<Host>>) -> Vec<f64> {
    Host::new().to_vec(tensor.unwrap()).unwrap()
}

#[test]
fn a_variable_used_twice_gets_the_sum() {
    let tape = Tape::new(&Host::new());
    let x = leaf(&tape, &[3.0, -2.0]);
    let y = x.mul(&x).unwrap().add(&x.scale(5.0).unwrap()).unwrap();
    assert_eq!(values(y.sum().unwrap().backward().unwrap().of(&x)), [11.0, 1.0]);
}

#[test]
fn a_diamond_is_walked_once_a_node() {
    let tape = Tape::new(&Host::new());
    let x = leaf(&tape, &[2.0]);
    let stem = x.square().unwrap();
    let (left, right) = (stem.scale(3.0).unwrap(), stem.square().unwrap());
    let joint = left.mul(&right).unwrap();
    // 3 x^6.
    assert_eq!(values(joint.backward().unwrap().of(&x)), [576.0]);
}

#[test]
fn a_long_chain_does_not_exhaust_the_stack() {
    let tape = Tape::new(&Host::new());
    let x = leaf(&tape, &[1.0]);
    let mut y = x.clone();
    for _ in 0..50_000 {
        y = y.linear_map(1.0, 1.0).unwrap();
    }
    assert_eq!(y.item().unwrap(), 50_001.0);
    assert_eq!(values(y.backward().unwrap().of(&x)), [1.0]);
}

#[test]
fn the_gradient_of_a_leaf_by_itself_is_one() {
    let tape = Tape::new(&Host::new());
    let x = leaf(&tape, &[4.0]);
    assert_eq!(values(x.backward().unwrap().of(&x)), [1.0]);
}

#[test]
fn backward_from_takes_a_gradient_of_the_roots_shape() {
    let tape = Tape::new(&Host::new());
    let x = leaf(&tape, &[1.0, 2.0]);
    let y = x.square().unwrap();
    let message = y.backward_from(&tensor(&[1.0, 1.0], &[2, 1])).err().unwrap().to_string();
    assert!(message.contains("backward") && message.contains("[2]") && message.contains("[2, 1]"), "{message}");
    assert_eq!(values(y.backward_from(&tensor(&[1.0, 10.0], &[2])).unwrap().of(&x)), [2.0, 40.0]);
}

#[test]
fn backward_of_many_numbers_is_refused_and_leaves_the_tape_whole() {
    let tape = Tape::new(&Host::new());
    let x = leaf(&tape, &[1.0, 2.0]);
    let y = x.square().unwrap();
    let error = y.backward().err().unwrap();
    assert!(matches!(error, Error::NotDifferentiable { op: "backward", .. }) && error.to_string().contains("[2]"), "{error}");
    assert!(y.sum().unwrap().backward().is_ok());
}

#[test]
fn a_tape_runs_backwards_once() {
    let tape = Tape::new(&Host::new());
    let x = leaf(&tape, &[1.0]);
    let y = x.square().unwrap();
    let gradients = y.backward().unwrap();
    assert!(y.backward().err().unwrap().to_string().contains("run backwards before"));
    // What is computed on the spent tape has values, but no gradients, its own or others'.
    let later = leaf(&tape, &[7.0]);
    let product = later.mul(&y).unwrap();
    assert_eq!((product.item().unwrap(), tape.len()), (7.0, 0));
    assert!(gradients.of(&later).is_err() && gradients.of(&product).is_err());
    assert!(product.backward().err().unwrap().to_string().contains("run backwards before"));
}

#[test]
fn variables_of_two_tapes_do_not_mix() {
    let cpu = Host::new();
    let (one, two) = (Tape::new(&cpu), Tape::new(&cpu));
    let (x, y) = (leaf(&one, &[1.0]), leaf(&two, &[2.0]));
    assert!(x.add(&y).unwrap_err().to_string().contains("another tape"));
    assert!(Var::concat(&[&x, &y], 0).unwrap_err().to_string().contains("another tape"));
    // Constants belong to nobody.
    assert_eq!(x.add(&y.detach()).unwrap().item().unwrap(), 3.0);
    // The same place on another tape is another variable.
    let gradients = x.square().unwrap().backward().unwrap();
    assert!(gradients.of(&x).is_ok() && gradients.of(&y).is_err());
}

#[test]
fn a_constant_of_any_tape_is_welcome_in_any_place() {
    let cpu = Host::new();
    let (tape, other) = (Tape::new(&cpu), Tape::new(&cpu));
    for constant in [other.constant(&tensor(&[3.0], &[1])), Tape::off(&cpu).constant(&tensor(&[3.0], &[1]))] {
        let x = leaf(&tape, &[2.0]);
        for y in [x.mul(&constant).unwrap(), constant.mul(&x).unwrap(), Var::concat(&[&constant, &x], 0).unwrap()] {
            assert!(y.needs_gradient() && other.is_empty());
        }
        let two = Tape::new(&cpu);
        let y = leaf(&two, &[5.0]);
        assert_eq!(values(constant.mul(&y).unwrap().backward().unwrap().of(&y)), [3.0]);
        says(Var::concat(&[&constant, &x, &y], 0), &["another tape"]);
    }
}

#[test]
fn gradients_of_runs_are_joined_and_scaled_leaf_by_leaf() {
    let cpu = Host::new();
    let weight = tensor(&[2.0, 3.0], &[2]);
    let run = |factor: f64| {
        let tape = Tape::new(&cpu);
        let (x, w) = (leaf(&tape, &[factor, 1.0]), tape.parameter(7, &weight));
        (x.mul(&w).unwrap().sum().unwrap().backward().unwrap(), x, w)
    };
    let ((mut sum, x1, w1), (other, x2, w2)) = (run(10.0), run(20.0));
    sum.accumulate(other).unwrap();
    sum.scale(0.5).unwrap();
    assert_eq!(values(sum.of(&w1)), [15.0, 1.0]);
    assert_eq!(values(sum.of(&w2)), values(sum.of(&w1)));
    assert_eq!((values(sum.of(&x1)), values(sum.of(&x2))), (vec![1.0, 1.5], vec![1.0, 1.5]));
}

#[test]
fn only_leaves_have_a_gradient_to_ask_for() {
    let tape = Tape::new(&Host::new());
    let x = leaf(&tape, &[3.0]);
    let (y, constant) = (x.square().unwrap(), tape.constant(&tensor(&[1.0], &[1])));
    let gradients = y.exp().unwrap().mul(&constant).unwrap().backward().unwrap();
    says(gradients.of(&y), &["only leaves keep their gradient"]);
    says(gradients.of(&constant), &["is a constant"]);
    assert!(gradients.of(&x).is_ok());
}

#[test]
fn a_leaf_that_the_root_does_not_depend_on_has_no_gradient() {
    let tape = Tape::new(&Host::new());
    let (x, y) = (leaf(&tape, &[1.0]), leaf(&tape, &[2.0]));
    let cut = x.mul(&y.detach()).unwrap();
    let gradients = cut.backward().unwrap();
    assert_eq!(values(gradients.of(&x)), [2.0]);
    says(gradients.of(&y), &["does not depend on this leaf"]);
    let constant = Tape::new(&Host::new()).constant(&tensor(&[1.0], &[1]));
    assert!(matches!(constant.square().unwrap().backward(), Err(Error::NotDifferentiable { .. })));
}

#[test]
fn what_comes_after_the_root_plays_no_part() {
    let tape = Tape::new(&Host::new());
    let x = leaf(&tape, &[3.0]);
    let root = x.square().unwrap();
    root.exp().unwrap().mul(&x).unwrap();
    assert_eq!(values(root.backward().unwrap().of(&x)), [6.0]);
}

#[test]
fn detach_keeps_the_value_and_cuts_the_history() {
    let tape = Tape::new(&Host::new());
    let x = leaf(&tape, &[3.0]);
    let frozen = x.square().unwrap().detach();
    assert!(!frozen.needs_gradient());
    assert_eq!(frozen.item().unwrap(), 9.0);
    assert_eq!(values(x.mul(&frozen).unwrap().backward().unwrap().of(&x)), [9.0]);
}

#[test]
fn a_parameter_is_one_leaf_however_often_it_is_asked_for() {
    let tape = Tape::new(&Host::new());
    let weight = tensor(&[2.0, 3.0], &[2]);
    let (first, second, other) = (tape.parameter(7, &weight), tape.parameter(7, &weight), tape.parameter(8, &weight));
    assert_eq!(tape.len(), 2);
    let gradients = first.mul(&second).unwrap().add(&other).unwrap().sum().unwrap().backward().unwrap();
    assert_eq!(values(gradients.of(&first)), [4.0, 6.0]);
    assert_eq!(values(gradients.of(&second)), [4.0, 6.0]);
    assert_eq!(values(gradients.of_parameter(8).ok_or_else(|| Error::value("test", "none"))), [1.0, 1.0]);
    assert!(gradients.of_parameter(9).is_none());

    let off = Tape::off(&Host::new());
    assert!(!off.parameter(7, &weight).needs_gradient() && off.is_empty());
}

/// Saves a token that counts itself.
#[derive(Clone)]
struct Counted {
    alive: Rc<Cell<i32>>,
}

struct Token(Rc<Cell<i32>>);

impl Drop for Token {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Op<Host> for Counted {
    const NAME: &'static str = "counted";
    type Saved = Token;

    fn forward(&self, _: &Host, inputs: &[&Tensor<Host>], _: Needs) -> Result<(Tensor<Host>, Token)> {
        self.alive.set(self.alive.get() + 1);
        Ok((inputs[0].clone(), Token(self.alive.clone())))
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

#[test]
fn saved_values_live_from_forward_to_backward_and_only_where_they_are_needed() {
    let cpu = Host::new();
    let alive = Rc::new(Cell::new(0));
    let run = |tape: &Tape<Host>, mut x: Var<Host>| {
        for _ in 0..3 {
            x = tape.apply(Counted { alive: alive.clone() }, &[&x]).unwrap();
        }
        x
    };

    let off = Tape::off(&cpu);
    let y = run(&off, leaf(&off, &[1.0]));
    assert_eq!((alive.get(), off.len(), off.is_recording(), y.needs_gradient()), (0, 0, false, false));

    let tape = Tape::new(&cpu);
    run(&tape, tape.constant(&tensor(&[1.0], &[1])));
    assert_eq!((alive.get(), tape.len()), (0, 0));

    let y = run(&tape, leaf(&tape, &[1.0]));
    assert_eq!((alive.get(), tape.len()), (3, 4));
    let gradients = y.backward().unwrap();
    assert_eq!((alive.get(), tape.len()), (0, 0));
    drop(gradients);

    let tape = Tape::new(&cpu);
    let y = run(&tape, leaf(&tape, &[1.0]));
    drop(tape);
    assert_eq!(alive.get(), 3);
    drop(y);
    assert_eq!(alive.get(), 0, "a tape that nobody holds must free what it saved");
}

/// Runs ops on a tape while the tape runs backwards.
#[derive(Clone)]
struct Meddler(Tape<Host>);

impl Op<Host> for Meddler {
    const NAME: &'static str = "meddler";
    type Saved = ();

    fn forward(&self, _: &Host, inputs: &[&Tensor<Host>], _: Needs) -> Result<(Tensor<Host>, ())> {
        Ok((inputs[0].clone(), ()))
    }

    fn backward(&self, _: &Host, (): (), grad: &Tensor<Host>, _: Needs) -> Result<Grads<Host>> {
        Ok(vec![Some(self.0.leaf(grad).scale(2.0)?.value().clone())])
    }

    fn oracle(&self) -> Oracle<Host, Self> {
        Oracle::Unverified("it is wrong on purpose")
    }

    fn cases(_: &mut Generate) -> Vec<Case<Self>> {
        Vec::new()
    }
}

#[test]
fn an_op_may_use_the_tape_that_runs_it() {
    let tape = Tape::new(&Host::new());
    let x = leaf(&tape, &[1.0]);
    let y = tape.apply(Meddler(tape.clone()), &[&x]).unwrap();
    assert_eq!(values(y.backward().unwrap().of(&x)), [2.0]);
}

#[test]
fn too_many_inputs_or_too_few_are_refused() {
    let tape = Tape::new(&Host::new());
    let x = leaf(&tape, &[1.0]);
    let many = vec![&x; Needs::MAX + 1];
    assert!(tape.apply(Counted { alive: Rc::default() }, &many).unwrap_err().to_string().contains("at most 64 inputs, not 65"));
    let op = pspikessm::internal::UnaryOp(Unary::Exp);
    assert!(tape.apply(op, &[]).unwrap_err().to_string().contains("unary: takes 1 inputs, not 0"));
    assert!(tape.apply(op, &[&x, &x]).is_err());
}

#[test]
fn item_wants_one_element() {
    let tape = Tape::off(&Host::new());
    assert_eq!(tape.constant(&tensor(&[2.5], &[1, 1])).item().unwrap(), 2.5);
    assert!(tape.constant(&tensor(&[1.0, 2.0], &[2])).item().unwrap_err().to_string().contains("[2]"));
}

#[test]
fn reductions_drop_the_axes_that_are_named() {
    let tape = Tape::new(&Host::new());
    let x = tape.leaf(&tensor(&(0..24).map(f64::from).collect::<Vec<_>>(), &[2, 3, 4]));
    let by_axes = x.sum_axes(&[2, 0]).unwrap();
    assert_eq!((by_axes.shape(), by_axes.to_vec().unwrap()), (&[3][..], vec![60.0, 92.0, 124.0]));
    assert_eq!(x.sum_axes(&[]).unwrap().shape(), [2, 3, 4]);
    assert_eq!((x.sum_axes(&[0, 1, 2]).unwrap().item().unwrap(), x.mean().unwrap().item().unwrap()), (276.0, 11.5));
    assert!(x.sum_axes(&[1, 1]).unwrap_err().to_string().contains("sum_axes: axis 1 is named twice"));
}

#[test]
fn a_mix_refuses_a_clamp_whose_ends_are_out_of_order() {
    let tape = Tape::new(&Host::new());
    let (x, weight, bias) = (tape.leaf(&tensor(&[1.0], &[1, 1, 1])), leaf(&tape, &[1.0]), leaf(&tape, &[0.0]));
    let mixed = |low, high| {
        let mix = Mix { activation: Some(Unary::Clamp(low, high)), ..Mix::default() };
        Var::mix_with(&[&x], &weight.reshape(&[1, 1])?, &bias, None, mix)
    };
    says(mixed(1.0, 0.0), &["clamp = [1, 0]", "must not lie above"]);
    assert_eq!(mixed(0.0, 0.5).unwrap().item().unwrap(), 0.5);
}

#[test]
fn shape_errors_name_op_axis_and_shapes() {
    let tape = Tape::new(&Host::new());
    let zeros = |shape: &[usize]| tape.leaf(&Host::new().full(shape, 0.0).unwrap());
    let (x, y) = (zeros(&[2, 3]), zeros(&[4, 3]));
    says(x.add(&y), &["add", "axis 0", "[2, 3]", "[4, 3]"]);
    says(x.sub(&y), &["sub", "axis 0", "[2, 3]", "[4, 3]"]);
    says(x.mul(&zeros(&[2])), &["mul", "axis 1", "[2, 3]", "[2]"]);
    says(x.div(&zeros(&[5, 2, 2])), &["div", "axis 2", "[2, 3]", "[5, 2, 2]"]);
    says(x.sum_to(&[2, 2]), &["sum", "[2, 2]", "[2, 3]"]);
    says(x.sum_axes(&[2]), &["sum_axes", "axis 2", "[2, 3]"]);
    says(x.reshape(&[4]), &["reshape", "[2, 3]", "[4]"]);
    says(x.reshape(&[usize::MAX, 6]), &["reshape", "[2, 3]"]);
    says(x.permute(&[0, 0]), &["permute", "[0, 0]", "[2, 3]"]);
    says(x.slice(2, 0, 1), &["slice", "axis 2", "[2, 3]"]);
    says(x.slice(1, 2, 2), &["slice", "axis 1", "[2, 3]", "2 entries from 2"]);
    says(x.slice(1, 0, 0), &["slice", "axis 1", "[2, 3]"]);
    says(x.flip(2), &["flip", "axis 2", "[2, 3]"]);
    says(Var::concat(&[&x, &y], 1), &["concat", "axis 0", "[2, 3]", "[4, 3]", "parts 0 and 1"]);
    says(Var::concat(&[&x, &zeros(&[3])], 0), &["concat", "[2, 3]", "[3]"]);
    says(Var::concat(&[&x], 2), &["concat", "axis 2", "[2, 3]"]);
    says(Var::<Host>::concat(&[], 0), &["concat", "at least one"]);
    says(x.matmul(&y), &["matmul", "axis 1", "[2, 3]", "[4, 3]", "3 and 4"]);
    says(x.matmul_transposed(&y, true, true), &["matmul", "[2, 3]", "[4, 3]", "2 and 3"]);
    says(x.matmul(&zeros(&[3])), &["matmul", "[2, 3]", "[3]"]);
    says(zeros(&[2, 2, 3]).matmul(&zeros(&[3, 3, 2])), &["matmul", "axis 0"]);
    says(zeros(&[]).rfft(), &["rfft", "[]"]);
    says(zeros(&[2, 5]).irfft(10), &["irfft", "axis 1", "[2, 6]", "[2, 5]"]);
    says(x.irfft(0), &["irfft", "axis 1"]);
    says(zeros(&[3, 2]).irfft(2), &["irfft", "[3, 2]"]);
    says(zeros(&[3]).embed(&[0], 1), &["embed", "[3]", "vocabulary, features"]);
    says(x.embed(&[0, 1, 2], 1), &["embed", "token 2", "position 2", "vocabulary of 2"]);
    says(x.embed(&[], 1), &["embed", "0 tokens"]);
    says(x.cross_entropy(&[0]), &["cross_entropy", "axis 0", "[2]", "[1]", "labels"]);
    says(x.cross_entropy(&[0, 3]), &["cross_entropy", "label 3", "sample 1", "3 classes"]);
    says(zeros(&[2, 3, 4]).cross_entropy(&[0, 1]), &["cross_entropy", "[2, 3, 4]", "batch, classes"]);
    says(x.dropout(Key::new(0), 1.0), &["dropout", "1", "below 1"]);
    says(x.dropout_tied(Key::new(0), 0.5), &["dropout", "[2, 3]", "batch, channels, length"]);
}

#[test]
fn operators_are_the_methods_and_pass_errors_on() {
    let tape = Tape::new(&Host::new());
    let (x, y) = (leaf(&tape, &[6.0, -1.5]), leaf(&tape, &[3.0, 0.7]));
    let is = |found: Result<Var<Host>>, f: fn(f64, f64) -> f64| {
        assert_eq!(found.unwrap().to_vec().unwrap(), [f(6.0, 3.0), f(-1.5, 0.7)]);
    };
    is(&x + &y, |x, y| x + y);
    is(x.clone() - y.clone(), |x, y| x - y);
    is(&x * y.clone(), |x, y| x * y);
    is(x.clone() / &y, |x, y| x / y);
    is(-&x, |x, _| -x);
    is(-x.clone(), |x, _| -x);
    is(&x + 0.1, |x, _| x + 0.1);
    is(0.1 + x.clone(), |x, _| 0.1 + x);
    is(x.clone() - 0.1, |x, _| x - 0.1);
    is(0.1 - &x, |x, _| 0.1 - x);
    is(&x * 0.1, |x, _| x * 0.1);
    is(0.1 * x.clone(), |x, _| 0.1 * x);
    is(&x / 0.1, |x, _| x / 0.1);
    is(0.1 / &x, |x, _| 0.1 / x);
    // Results on either side.
    is(&x * &y + &x, |x, y| x * y + x);
    is(&x - (&x * &y), |x, y| x - x * y);
    is((&x + &y) / y.clone(), |x, y| (x + y) / y);
    let wrong = || leaf(&tape, &[1.0, 2.0, 3.0]);
    says(&x + wrong() * &y, &["mul: shapes"]);
    says((&x / wrong()) - &y, &["div: shapes"]);
    let gradients = ((&x * &y).unwrap() / 2.0).unwrap().sum().unwrap().backward().unwrap();
    assert_eq!((values(gradients.of(&x)), values(gradients.of(&y))), (vec![1.5, 0.35], vec![3.0, -0.75]));
}

#[test]
fn a_custom_op_is_a_pair_of_closures() {
    let cpu = Host::new();
    // |x| y, whose value leaves the tape.
    let op = |tape: &Tape<Host>, v: &[Var<Host>]| {
        let forward = |v: &[Var<Host>]| {
            let absolute = v[0].to_vec()?.into_iter().map(f64::abs).collect();
            v[0].tape().constant(&Host::new().from_vec(absolute, v[0].shape())?).mul(&v[1])
        };
        tape.custom("weighed", &[&v[0], &v[1]], forward, |v, output, grad| {
            Ok(vec![Some(output.div(&v[0])?.mul(grad)?), Some(output.div(&v[1])?.mul(grad)?)])
        })
    };
    let inputs = [-0.7, 1.3].map(|value| Array { values: vec![value, 0.5], shape: vec![2] });
    assert!(gradcheck(&cpu, op, &inputs).unwrap().comparisons == 4 && gradgradcheck(&cpu, op, &inputs).is_ok());
    // Constants record nothing, and one input may be a constant.
    let tape = Tape::new(&cpu);
    let (x, c) = (leaf(&tape, &[-2.0]), tape.constant(&tensor(&[3.0], &[1])));
    assert!(!op(&tape, &[c.clone(), c.clone()]).unwrap().needs_gradient() && tape.len() == 1);
    assert_eq!(values(op(&tape, &[x.clone(), c]).unwrap().backward().unwrap().of(&x)), [-3.0]);
    // What the closures answer is looked at.
    let run = |grads: fn(&Var<Host>) -> Result<VarGrads<Host>>| {
        let tape = Tape::new(&cpu);
        let x = leaf(&tape, &[1.0, 2.0]);
        tape.custom("odd", &[&x], |v| Ok(v[0].clone()), move |_, _, grad| grads(grad)).unwrap().sum().unwrap().backward()
    };
    says(run(|_| Ok(vec![])), &["the gradient of odd is wrong", "input 0 needs a gradient"]);
    says(run(|_| Ok(vec![None])), &["input 0 needs a gradient"]);
    says(run(|grad| Ok(vec![Some(grad.sum()?)])), &["odd", "the gradient of input 0", "[2]"]);
    says(run(|grad| grad.reshape(&[3]).map(|grad| vec![Some(grad)])), &["reshape"]);
    let other = leaf(&Tape::new(&cpu), &[1.0]);
    says(tape.custom("odd", &[&x, &other], |v| Ok(v[0].clone()), |_, _, _| Ok(vec![])), &["odd", "another tape"]);
}

/// The gradients of three leaves and a parameter, drawn from a seed.
fn some_gradients(seed: u64) -> (Gradients<Host>, Vec<Var<Host>>) {
    let tape = Tape::new(&Host::new());
    let mut generate = Generate::new(seed);
    let mut vars: Vec<Var<Host>> = (0..3).map(|i| leaf(&tape, &generate.normal(&[i + 1]).values)).collect();
    vars.push(tape.parameter(11, &tensor(&generate.normal(&[4]).values, &[4])));
    let terms = vars.iter().map(|v| v.square().unwrap().sum().unwrap());
    let gradients = terms.reduce(|sum, term| sum.add(&term).unwrap()).unwrap().backward().unwrap();
    (gradients, vars)
}

#[test]
fn gradients_are_walked_through_in_a_fixed_order() {
    let (gradients, vars) = some_gradients(1);
    let order: Vec<LeafId> = gradients.iter().map(|(leaf, _)| leaf).collect();
    assert_eq!(order, [3, 0, 1, 2].map(|i| vars[i].as_leaf().unwrap()));
    assert_eq!(order.iter().map(|leaf| leaf.identity()).collect::<Vec<_>>(), [Some(11), None, None, None]);
    assert_eq!((gradients.len(), gradients.is_empty()), (4, false));
    for (leaf, grad) in gradients.iter() {
        assert_eq!(values(gradients.of(&leaf)), values(Ok(grad)));
    }
    assert_eq!(values(gradients.of(&LeafId::parameter(11))), values(gradients.of(&vars[3])));
}

#[test]
fn gradients_are_clipped_by_norm_and_by_value() {
    for seed in 0..20 {
        let (mut gradients, vars) = some_gradients(seed);
        let all = |gradients: &Gradients<Host>| vars.iter().flat_map(|v| values(gradients.of(v))).collect::<Vec<_>>();
        let before = all(&gradients);
        let norm = before.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert!((gradients.norm().unwrap() - norm).abs() < 1e-12 * norm);
        assert_eq!(gradients.clip_norm(norm * 1.001).unwrap(), gradients.norm().unwrap());
        assert_eq!(all(&gradients), before);
        let limit = 0.3 * norm;
        gradients.clip_norm(limit).unwrap();
        for (now, before) in all(&gradients).iter().zip(&before) {
            assert!((now - 0.3 * before).abs() < 1e-12 * norm);
        }
        let scaled = all(&gradients);
        gradients.clip_value(0.1).unwrap();
        assert_eq!(all(&gradients), scaled.iter().map(|g| g.clamp(-0.1, 0.1)).collect::<Vec<_>>());
    }
    let (mut gradients, vars) = some_gradients(0);
    for wrong in [0.0, -1.0, f64::NAN] {
        assert!(matches!(gradients.clip_norm(wrong), Err(Error::Config { name: "limit", .. })));
        assert!(matches!(gradients.clip_value(wrong), Err(Error::Config { name: "limit", .. })));
    }
    gradients.scale(f64::INFINITY).unwrap();
    says(gradients.clip_norm(1.0), &["the norm of the gradients is inf"]);
    assert!(matches!(gradients.map(|_, _| Ok(tensor(&[1.0], &[1, 1]))), Err(Error::Shape { .. })));
    assert!(gradients.of(&vars[0]).is_ok());
}

fn is_sent<T: Send>() {}

#[test]
fn threads_that_run_a_tape_each_sum_to_the_bits_of_one() {
    is_sent::<Gradients<Host>>();
    let cpu = Host::new();
    let weight = cpu.normal(Key::new(1), &[5, 7]).unwrap();
    let part = |number: u64| {
        let tape = Tape::new(&cpu);
        let x = tape.constant(&cpu.normal(Key::new(2).fold(number), &[3, 5]).unwrap());
        x.matmul(&tape.parameter(1, &weight)).unwrap().tanh().unwrap().square().unwrap().sum().unwrap().backward().unwrap()
    };
    let sum = |parts: Vec<Gradients<Host>>| {
        let total = parts.into_iter().reduce(|mut sum, part| {
            sum.accumulate(part).unwrap();
            sum
        });
        values(total.unwrap().of(&LeafId::parameter(1))).into_iter().map(f64::to_bits).collect::<Vec<_>>()
    };
    let alone = sum((0..6).map(part).collect());
    for _ in 0..3 {
        let threads = std::thread::scope(|scope| {
            let part = &part;
            let threads: Vec<_> = (0..6).map(|number| scope.spawn(move || part(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(sum(threads), alone);
    }
}
