//! Derivatives of derivatives: every op that has them, Hessians that are known, and refusals in clear words.

use std::rc::Rc;

use crate::common::says;
use pspikessm::autodiff::{
    Array, Case, Generate, Grads, Needs, Op, Oracle, Tape, Var, VarGrads, differentiate, gradcheck, gradgradcheck, gradients,
    gradients_from,
};
use pspikessm::backend::*;
use pspikessm::internal::registry;
use pspikessm::{Error, Result};

type Host = Cpu<f64>;
type V = Var<Host>;

fn tensor(values: &[f64], shape: &[usize]) -> Tensor<Host> {
    Host::new().from_vec(values.to_vec(), shape).unwrap()
}

/// Ops that are differentiable once in every case, and in some.
const ONCE: [&str; 5] = ["lif", "plif", "fire", "dplr_kernel", "diag_kernel"];
const ONCE_SAMPLED: [&str; 1] = ["spike"];

#[test]
fn every_op_has_the_second_derivative_that_it_claims() {
    for entry in registry() {
        let report = (entry.check_twice)(1).unwrap_or_else(|error| panic!("{}: {error}", entry.file));
        let (never, sometimes) = (ONCE.contains(&entry.name), ONCE_SAMPLED.contains(&entry.name));
        assert_eq!((report.cases == 0, report.once > 0), (never, never || sometimes), "{}", entry.name);
        assert!(never || report.comparisons > report.cases, "{} has compared nothing", entry.name);
    }
}

/// f(x) = sum_k exp(a_k x) + x Q x / 2, with the Hessian sum_k exp(a_k x) a_k a_k^T + (Q + Q^T) / 2.
fn bowl(rows: &V, q: &V, x: &V) -> Result<V> {
    let x = x.reshape(&[x.shape()[0], 1])?;
    rows.matmul(&x)?.exp()?.sum()?.add(&q.matmul(&x)?.mul(&x)?.sum()?.scale(0.5)?)
}

#[test]
fn hessian_vector_products_are_those_of_the_hessian() {
    let cpu = Host::new();
    for seed in 0..20 {
        let mut generate = Generate::new(seed);
        let (n, k) = (generate.size(1..=5), generate.size(1..=4));
        let [a, q, x, v] = [&[k, n][..], &[n, n], &[n], &[n]].map(|shape| generate.values(shape, -1.0, 1.0));
        let tape = Tape::higher_order(&cpu);
        let [rows, matrix, direction] = [&a, &q, &v].map(|array| tape.constant(&tensor(&array.values, &array.shape)));
        let leaf = tape.leaf(&tensor(&x.values, &[n]));
        let slope = gradients(&[&bowl(&rows, &matrix, &leaf).unwrap()], &[&leaf]).unwrap().remove(0);
        let product = gradients_from(&[(&slope, &direction)], &[&leaf]).unwrap().remove(0).to_vec().unwrap();
        for i in 0..n {
            let hessian = |j: usize| {
                let terms =
                    a.values.chunks(n).map(|row| row.iter().zip(&x.values).map(|(a, x)| a * x).sum::<f64>().exp() * row[i] * row[j]);
                terms.sum::<f64>() + 0.5 * (q.values[i * n + j] + q.values[j * n + i])
            };
            let want: f64 = (0..n).map(|j| hessian(j) * v.values[j]).sum();
            approx::assert_relative_eq!(product[i], want, max_relative = 1e-12, epsilon = 1e-12);
        }
    }
}

#[test]
fn derivatives_are_taken_any_number_of_times() {
    let tape = Tape::higher_order(&Host::new());
    let x = tape.leaf(&tensor(&[0.7, -1.3], &[2]));
    // x^6, by products whose derivatives are products again.
    let mut f = x.square().unwrap().mul(&x.square().unwrap().square().unwrap()).unwrap();
    for (order, factor) in [(1, 6.0), (2, 30.0), (3, 120.0), (4, 360.0), (5, 720.0), (6, 720.0)] {
        f = gradients(&[&f.sum().unwrap()], &[&x]).unwrap().remove(0);
        for (found, x) in f.to_vec().unwrap().iter().zip([0.7f64, -1.3]) {
            approx::assert_relative_eq!(*found, factor * x.powi(6 - order), max_relative = 1e-12);
        }
    }
    let seventh = gradients(&[&f.sum().unwrap()], &[&x]).unwrap().remove(0);
    assert_eq!(seventh.to_vec().unwrap(), [0.0, 0.0]);
}

#[test]
fn a_recorded_gradient_stands_in_a_loss_that_runs_backwards() {
    // The loss (du/dx)^2 of u = tanh(w x) has the gradient 2 u' du'/dw, u' = w s, s = 1 - u^2, du'/dw = s - 2 w x u s.
    let cpu = Host::new();
    let (x0, w0) = (0.4f64, 1.7f64);
    let tape = Tape::higher_order(&cpu);
    let (x, w) = (tape.leaf(&tensor(&[x0], &[1])), tape.parameter(3, &tensor(&[w0], &[1])));
    let u = x.mul(&w).unwrap().tanh().unwrap();
    let slope = gradients(&[&u], &[&x]).unwrap().remove(0);
    let found = slope.square().unwrap().sum().unwrap().backward().unwrap();
    let (u, s) = ((w0 * x0).tanh(), 1.0 - (w0 * x0).tanh().powi(2));
    let want = 2.0 * w0 * s * (s - 2.0 * w0 * x0 * u * s);
    approx::assert_relative_eq!(cpu.to_vec(found.of_parameter(3).unwrap()).unwrap()[0], want, max_relative = 1e-12);
    // The tape is spent by that, and by nothing before.
    says(gradients(&[&slope], &[&x]), &["gradients cannot be differentiated", "run backwards before"]);
}

#[test]
fn what_does_not_depend_on_an_input_has_a_constant_zero_for_a_gradient() {
    let tape = Tape::higher_order(&Host::new());
    let (x, y) = (tape.leaf(&tensor(&[2.0, 3.0], &[2])), tape.leaf(&tensor(&[5.0], &[1])));
    let sum = x.scale(4.0).unwrap().sum().unwrap();
    let found = gradients(&[&sum], &[&x, &y]).unwrap();
    assert_eq!((found[0].to_vec().unwrap(), found[1].to_vec().unwrap()), (vec![4.0, 4.0], vec![0.0]));
    assert!(!found[0].needs_gradient() && !found[1].needs_gradient());
    // The second derivative of what is linear is zero, though its first one left the tape.
    assert_eq!(gradients(&[&found[0].sum().unwrap()], &[&x]).unwrap()[0].to_vec().unwrap(), [0.0, 0.0]);
}

#[test]
fn gradients_of_what_ops_computed_go_through_everything_that_came_of_it() {
    let tape = Tape::higher_order(&Host::new());
    let x = tape.leaf(&tensor(&[3.0], &[1]));
    let square = x.square().unwrap();
    let product = square.mul(&x).unwrap();
    // Towards x there are two ways, and one of them leads through the square.
    let found = gradients(&[&product], &[&square, &x, &product]).unwrap();
    assert_eq!(found.iter().map(|grad| grad.item().unwrap()).collect::<Vec<_>>(), [3.0, 27.0, 1.0]);
    // Several outputs are summed.
    assert_eq!(gradients(&[&product, &square], &[&x]).unwrap()[0].item().unwrap(), 33.0);
}

#[test]
fn what_one_input_of_a_fused_op_owes_to_another_is_counted_once() {
    let inputs = [Generate::new(1).normal(&[2, 3, 4])];
    let fused = |_: &Tape<Host>, v: &[V]| {
        let scale = v[0].sum_axes(&[0, 2])?;
        v[0].affine(&scale, &scale.tanh()?)?.layer_norm(&scale, &scale, 1e-2)
    };
    gradgradcheck(&Host::new(), fused, &inputs).unwrap();
}

#[test]
fn recorded_gradients_leave_the_tape_as_it_was() {
    let cpu = Host::new();
    let run = |records: bool| {
        let tape = Tape::higher_order(&cpu);
        let x = tape.leaf(&tensor(&[0.3, -0.8], &[2]));
        let f = x.tanh().unwrap().mul(&x).unwrap().sum().unwrap();
        if records {
            gradients(&[&f], &[&x]).unwrap();
        }
        cpu.to_vec(f.backward().unwrap().of(&x).unwrap()).unwrap()
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn the_checker_notices_a_second_derivative_that_is_cut_or_wrong() {
    let cpu = Host::new();
    let inputs = [Array { values: vec![0.4, -1.1], shape: vec![2] }];
    let square = |cut: bool, factor: f64| {
        move |tape: &Tape<Host>, v: &[V]| {
            tape.custom(
                "square",
                &[&v[0]],
                |x| x[0].square(),
                move |x, _, grad| {
                    let x = if cut { x[0].detach() } else { x[0].clone() };
                    Ok(vec![Some(x.scale(factor)?.mul(grad)?)])
                },
            )
        }
    };
    gradgradcheck(&cpu, square(false, 2.0), &inputs).unwrap();
    gradcheck(&cpu, square(true, 2.0), &inputs).unwrap();
    says(gradgradcheck(&cpu, square(true, 2.0), &inputs), &["of input 0", "central differences"]);
    assert!(gradgradcheck(&cpu, square(false, 2.1), &inputs).is_ok_and(|report| report.comparisons > 0));
    says(gradcheck(&cpu, square(false, 2.1), &inputs), &["central differences"]);
    says(gradgradcheck(&cpu, |_, v| v[0].lif(LIF), &inputs), &["lif", "differentiable once"]);
}

const LIF: Lif = Lif { decay: 0.5, threshold: 1.0, soft_reset: false, surrogate: Surrogate::Clamp };

#[test]
fn what_cannot_be_differentiated_again_says_why() {
    let cpu = Host::new();
    let value = tensor(&[0.5, 1.5], &[2]);
    let (plain, higher, other) = (Tape::new(&cpu), Tape::higher_order(&cpu), Tape::higher_order(&cpu));
    let [p, x, y] = [&plain, &higher, &other].map(|tape| tape.leaf(&value));
    says(gradients(&[&p.sum().unwrap()], &[&p]), &["Tape::higher_order"]);
    says(gradients(&[&x.sum().unwrap()], &[&x.detach()]), &["input 0 is a constant"]);
    says(gradients(&[&x.sum().unwrap()], &[]), &["at least one input"]);
    says(gradients(&[&x], &[&x]), &["[2]", "not one number", "gradients_from"]);
    says(gradients(&[&y.sum().unwrap()], &[&x]), &["an output was recorded on another tape"]);
    says(gradients(&[&x.sum().unwrap()], &[&x, &y]), &["an input was recorded on another tape"]);
    let off = Tape::off(&cpu).leaf(&value);
    says(gradients(&[&off.sum().unwrap()], &[&off]), &["recording is off"]);
    let wrong = gradients_from(&[(&x, &higher.constant(&tensor(&[1.0], &[1])))], &[&x]);
    assert!(matches!(wrong, Err(Error::Shape { op: "gradients", .. })));
    // By name, but only where a derivative would go through the op.
    let spike = Spike { noise: Noise::Stream(Key::new(1).into()), mode: SpikeMode::Sampled, surrogate: Surrogate::Clamp };
    let spikes = x.spike(spike).unwrap();
    says(gradients(&[&spikes.sum().unwrap()], &[&x]), &["spike cannot be differentiated", "differentiable once"]);
    let beside = x.square().unwrap().sum().unwrap();
    assert_eq!(gradients(&[&beside], &[&x]).unwrap()[0].to_vec().unwrap(), [1.0, 3.0]);
    assert_eq!(gradients(&[&spikes.mul(&x).unwrap().sum().unwrap()], &[&spikes]).unwrap()[0].to_vec().unwrap(), [0.5, 1.5]);
    assert!(spikes.sum().unwrap().backward().is_ok());
}

#[test]
fn a_composition_gives_an_op_its_derivative() {
    let tape = Tape::higher_order(&Host::new());
    let x = tape.leaf(&tensor(&[0.5, 2.0], &[2]));
    let (one, needs) = (tape.constant(&tensor(&[1.0, 10.0], &[2])), Needs::of([true, false]));
    let found = differentiate(|v| v[0].square()?.mul(&v[1]), &[x.clone(), x.clone()], &one, needs).unwrap();
    // 2 x y g, with the second input, the same variable, left out.
    assert_eq!(found[0].as_ref().unwrap().to_vec().unwrap(), [0.5, 80.0]);
    assert!(found[1].is_none());
    // It depends on both all the same: d (2 x y g) / dx + d (2 x y g) / dy = 2 y g + 2 x g.
    let sum = found[0].as_ref().unwrap().sum().unwrap();
    assert_eq!(gradients(&[&sum], &[&x]).unwrap()[0].to_vec().unwrap(), [2.0, 80.0]);
}

/// x, with a token that counts who holds it.
#[derive(Clone)]
struct Held(#[expect(dead_code, reason = "it is held, not read")] Rc<()>);

impl Op<Host> for Held {
    const NAME: &'static str = "held";
    type Saved = ();

    fn forward(&self, _: &Host, inputs: &[&Tensor<Host>], _: Needs) -> Result<(Tensor<Host>, ())> {
        Ok((inputs[0].clone(), ()))
    }

    fn backward(&self, _: &Host, (): (), grad: &Tensor<Host>, _: Needs) -> Result<Grads<Host>> {
        Ok(vec![Some(grad.clone())])
    }

    fn derivative(&self, _: &[V], _: &V, grad: &V, _: Needs) -> Result<VarGrads<Host>> {
        Ok(vec![Some(grad.tape().apply(self.clone(), &[grad])?)])
    }

    fn oracle(&self) -> Oracle<Host, Self> {
        Oracle::Linear
    }

    fn cases(_: &mut Generate) -> Vec<Case<Self>> {
        Vec::new()
    }
}

#[test]
fn what_is_kept_for_higher_orders_is_freed_with_the_tape() {
    let token = Rc::new(());
    let run = |tape: Tape<Host>| {
        let x = tape.leaf(&tensor(&[2.0], &[1]));
        let y = tape.apply(Held(token.clone()), &[&x.square().unwrap()]).unwrap();
        (tape, x, y)
    };
    // A plain tape holds the op for its backward alone, until it has run.
    let (tape, x, y) = run(Tape::new(&Host::new()));
    assert_eq!(Rc::strong_count(&token), 2);
    y.backward().unwrap();
    assert_eq!(Rc::strong_count(&token), 1);
    drop((tape, x, y));
    // One of higher order holds it for its derivative, too.
    let (tape, x, y) = run(Tape::higher_order(&Host::new()));
    let slope = gradients(&[&y], &[&x]).unwrap().remove(0);
    let second = gradients(&[&slope], &[&x]).unwrap().remove(0);
    assert!(Rc::strong_count(&token) == 3 && second.item().unwrap() == 2.0);
    drop((x, y, slope, second));
    assert_eq!(Rc::strong_count(&token), 3, "the tape itself holds what it recorded");
    drop(tape);
    assert_eq!(Rc::strong_count(&token), 1);
    let (tape, x, y) = run(Tape::higher_order(&Host::new()));
    gradients(&[&y], &[&x]).unwrap();
    y.backward().unwrap();
    assert!(tape.is_empty() && Rc::strong_count(&token) == 1);
}
