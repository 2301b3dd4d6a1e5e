//! Derivatives of derivatives: gradients that are recorded on the tape that they are of.
//!
//! A tape of higher order keeps, with every node, its inputs and its output, and the op. From these the op's derivative is computed by ops
//! on the same tape, so that it can be differentiated in turn.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Phase, Recording, Tape, Var, no_gradient};
use crate::autodiff::{Needs, VarGrads};
use crate::backend::{Backend, Tensor, shape};
use crate::error::{Error, Result};

const OP: &str = "gradients";

type Derivative<B> = dyn Fn(&[Var<B>], &Var<B>, &Var<B>, Needs) -> Result<VarGrads<B>>;

/// What the derivative of a node is recorded from. It holds values and not variables, which would hold the tape that holds them.
pub(super) struct Source<B: Backend> {
    inputs: Vec<(Tensor<B>, Option<usize>)>,
    output: Tensor<B>,
    derivative: Box<Derivative<B>>,
}

impl<B: Backend> Source<B> {
    pub fn new(
        inputs: &[&Var<B>],
        output: &Tensor<B>,
        derivative: impl Fn(&[Var<B>], &Var<B>, &Var<B>, Needs) -> Result<VarGrads<B>> + 'static,
    ) -> Rc<Self> {
        let inputs = inputs.iter().map(|v| (v.value.clone(), v.node)).collect();
        Rc::new(Source { inputs, output: output.clone(), derivative: Box::new(derivative) })
    }

    /// The gradients of the inputs that `needs` wants, of the node at `index` of `tape`.
    fn derive(&self, tape: &Tape<B>, index: usize, grad: &Var<B>, needs: Needs) -> Result<VarGrads<B>> {
        let var = |value: &Tensor<B>, node| Var { tape: tape.clone(), value: value.clone(), node, leaf: None };
        let inputs: Vec<Var<B>> = self.inputs.iter().map(|(value, node)| var(value, *node)).collect();
        (self.derivative)(&inputs, &var(&self.output, Some(index)), grad, needs)
    }
}

/// The gradients of the sum of `outputs`, one number each, with respect to `inputs`: variables on the same tape, which
/// [`Tape::higher_order`] made, to be differentiated again. The tape is not spent. An input may be any variable, a leaf or what an op
/// computed; one that no output depends on has a gradient of zero, a constant.
///
/// A Hessian-vector product is the gradient of a gradient's product with a vector:
///
/// ```
/// use pspikessm::autodiff::{Tape, gradients};
/// use pspikessm::backend::*;
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let tape = Tape::higher_order(&cpu);
/// let x = tape.leaf(&cpu.from_vec(vec![1.0, 2.0], &[2])?);
/// // f = x0^2 x1, with the gradient (2 x0 x1, x0^2) and the Hessian ((2 x1, 2 x0), (2 x0, 0)).
/// let f = x.slice(0, 0, 1)?.square()?.mul(&x.slice(0, 1, 1)?)?.sum()?;
/// let slope = gradients(&[&f], &[&x])?.remove(0);
/// assert_eq!(slope.to_vec()?, [4.0, 1.0]);
/// let v = tape.constant(&cpu.from_vec(vec![1.0, 10.0], &[2])?);
/// let product = gradients(&[&slope.mul(&v)?.sum()?], &[&x])?.remove(0);
/// assert_eq!(product.to_vec()?, [24.0, 2.0]);
/// # Ok(()) }
/// ```
///
/// Where a derivative stands in a loss, as in a network that solves a differential equation, the loss is run backwards as any other:
///
/// ```
/// use pspikessm::autodiff::{Tape, gradients};
/// use pspikessm::backend::*;
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let tape = Tape::higher_order(&cpu);
/// let (x, w) = (tape.constant(&cpu.from_vec(vec![0.5], &[1])?), tape.leaf(&cpu.full(&[1], 3.0)?));
/// let x = tape.leaf(x.value());
/// // u = x^w with u' = w x^(w-1) at x = 1/2, w = 3: u' = 3/4, du'/dw = (1 + w ln x) x^(w-1).
/// let u = x.ln()?.mul(&w)?.exp()?;
/// let slope = gradients(&[&u], &[&x])?.remove(0);
/// let found = cpu.to_vec(slope.backward()?.of(&w)?)?[0];
/// assert!((found - (1.0 + 3.0 * 0.5f64.ln()) * 0.25).abs() < 1e-14);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Error::NotDifferentiable`] where the tape was not made by [`Tape::higher_order`], is spent, an output is not one number, an input is a
/// constant or there is none, or an op on the way is differentiable once, which it says by its name; [`Error::Value`] where inputs or
/// outputs are of different tapes; what the ops answer.
#[doc(alias = "grad")]
#[doc(alias = "hessian")]
#[doc(alias = "hvp")]
pub fn gradients<B: Backend>(outputs: &[&Var<B>], inputs: &[&Var<B>]) -> Result<Vec<Var<B>>> {
    let mut seeds = Vec::with_capacity(outputs.len());
    for output in outputs {
        if output.value.numel() != 1 {
            let help = format!("shape {:?} is not one number: reduce it, or call gradients_from", output.shape());
            return Err(Error::NotDifferentiable { op: OP, help });
        }
        seeds.push(output.tape.constant(&output.tape.backend.full(output.shape(), 1.0)?));
    }
    let pairs: Vec<(&Var<B>, &Var<B>)> = outputs.iter().copied().zip(&seeds).collect();
    gradients_from(&pairs, inputs)
}

/// [`gradients()`] of outputs of any shape, each with the gradient of it to start from, which may itself be differentiated.
///
/// # Errors
/// As [`gradients()`]; [`Error::Shape`] where a gradient has not its output's shape.
#[doc(alias = "vjp")]
pub fn gradients_from<B: Backend>(outputs: &[(&Var<B>, &Var<B>)], inputs: &[&Var<B>]) -> Result<Vec<Var<B>>> {
    let none = |help: String| Err(Error::NotDifferentiable { op: OP, help });
    let Some(tape) = inputs.first().map(|input| &input.tape) else { return none("give at least one input".into()) };
    let Some(recording) = tape.ready()? else { return none("recording is off: make the tape with Tape::higher_order".into()) };
    let mut wanted = Vec::with_capacity(inputs.len());
    for (i, input) in inputs.iter().enumerate() {
        let Some(node) = input.node else { return none(format!("input {i} is a constant: make it with leaf")) };
        tape.check_shared("an input", input)?;
        wanted.push(node);
    }
    let mut sums = BTreeMap::new();
    for (output, seed) in outputs {
        shape::exactly(OP, "the gradient of an output", output.shape(), seed.shape())?;
        if let Some(node) = output.node {
            tape.check_shared("an output", output)?;
            add(&mut sums, node, (*seed).clone())?;
        }
    }
    let found = tape.derive(recording, sums, &wanted)?;
    let zero = |input: &Var<B>| Ok(tape.constant(&tape.backend.full(input.shape(), 0.0)?));
    inputs.iter().zip(&wanted).map(|(input, node)| found.get(node).map_or_else(|| zero(input), |grad| Ok(grad.clone()))).collect()
}

/// The gradients that an op's inputs get from `grad`, that of its output, where `f` computes the op by others: what a fused op may answer
/// from [`Op::derivative`](crate::autodiff::Op::derivative).
///
/// # Errors
/// What `f` answers; as [`gradients_from`].
pub fn differentiate<B: Backend>(
    f: impl FnOnce(&[Var<B>]) -> Result<Var<B>>,
    inputs: &[Var<B>],
    grad: &Var<B>,
    needs: Needs,
) -> Result<VarGrads<B>> {
    // Nodes of their own, so that what one input owes to another is left out: that is the business of the ops before.
    let own = |(i, input): (usize, &Var<B>)| if needs.input(i) { input.reshape(input.shape()) } else { Ok(input.clone()) };
    let own: Vec<Var<B>> = inputs.iter().enumerate().map(own).collect::<Result<_>>()?;
    let output = f(&own)?;
    let wanted: Vec<&Var<B>> = own.iter().enumerate().filter(|(i, _)| needs.input(*i)).map(|(_, input)| input).collect();
    let mut found = gradients_from(&[(&output, grad)], &wanted)?.into_iter();
    Ok((0..inputs.len()).map(|i| if needs.input(i) { found.next() } else { None }).collect())
}

/// The refusal of an op that has first derivatives only.
pub(crate) fn differentiable_once(op: &'static str) -> Error {
    Error::NotDifferentiable { op, help: "it is differentiable once: for a second derivative compose it of elementary ops".into() }
}

impl<B: Backend> Tape<B> {
    pub(super) fn is_higher_order(&self) -> bool {
        self.recording.as_ref().is_some_and(|recording| recording.borrow().higher_order)
    }

    /// The recording, where derivatives can be recorded on it; `None` where recording is off.
    fn ready(&self) -> Result<Option<&RefCell<Recording<B>>>> {
        let Some(recording) = &self.recording else { return Ok(None) };
        let help = match recording.borrow().phase {
            Phase::Spent => "this tape was run backwards before: call gradients first, or record the computation again",
            _ if !recording.borrow().higher_order => "this tape keeps what first derivatives need: make it with Tape::higher_order",
            _ => return Ok(Some(recording)),
        };
        Err(Error::NotDifferentiable { op: OP, help: help.into() })
    }

    fn check_shared(&self, what: &str, var: &Var<B>) -> Result<()> {
        match self.shares(&var.tape) {
            true => Ok(()),
            false => Err(Error::value(OP, format!("{what} was recorded on another tape: use one tape for a computation"))),
        }
    }

    /// The gradients of the nodes in `wanted`, of what has the gradients `sums`.
    fn derive(
        &self,
        recording: &RefCell<Recording<B>>,
        mut sums: BTreeMap<usize, Var<B>>,
        wanted: &[usize],
    ) -> Result<BTreeMap<usize, Var<B>>> {
        let mut found = BTreeMap::new();
        let Some(&top) = sums.keys().next_back() else { return Ok(found) };
        let reaches = reaching(&recording.borrow(), wanted, top);
        while let Some((index, grad)) = sums.pop_last() {
            if wanted.contains(&index) {
                found.insert(index, grad.clone());
            }
            // Nothing stays borrowed while ops run.
            let (name, inputs, source) = {
                let node = &recording.borrow().nodes[index];
                (node.name, node.inputs.clone(), node.source.clone())
            };
            let needs = Needs::of(inputs.iter().map(|input| input.is_some_and(|input| reaches[input])));
            let Some(source) = source.filter(|_| needs.any()) else { continue };
            let mut grads = source.derive(self, index, &grad, needs)?.into_iter();
            for (i, input) in inputs.into_iter().enumerate() {
                let (grad, Some(input)) = (grads.next().flatten(), input.filter(|_| needs.input(i))) else { continue };
                let grad = grad.ok_or_else(|| no_gradient(name, i))?;
                shape::exactly(name, &format!("the gradient of input {i}"), &recording.borrow().nodes[input].shape, grad.shape())?;
                add(&mut sums, input, grad)?;
            }
        }
        Ok(found)
    }
}

/// Which of the nodes up to `top` are wanted or made of such: derivatives are recorded for these alone.
fn reaching<B: Backend>(recording: &Recording<B>, wanted: &[usize], top: usize) -> Vec<bool> {
    let mut reaches = vec![false; top + 1];
    wanted.iter().filter(|&&node| node <= top).for_each(|&node| reaches[node] = true);
    for (index, node) in recording.nodes.iter().enumerate().take(top + 1) {
        reaches[index] |= node.inputs.iter().flatten().any(|&input| reaches[input]);
    }
    reaches
}

/// Adds `grad` to what stands at `node`.
fn add<B: Backend>(sums: &mut BTreeMap<usize, Var<B>>, node: usize, grad: Var<B>) -> Result<()> {
    let sum = match sums.remove(&node) {
        Some(earlier) => earlier.add(&grad)?,
        None => grad,
    };
    sums.insert(node, sum);
    Ok(())
}
