//! The tape: records what was computed, and runs it backwards.
//!
//! A node remembers where its inputs came from and one closure, its backward. Going backwards, the tape hands every closure the
//! gradient of its output, and adds what it returns to the gradients of the inputs. Nothing else in the crate accumulates.

mod custom;
mod higher_order;
mod leaf_gradients;
mod recompute;
mod var;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use self::higher_order::differentiable_once;
pub use self::higher_order::{differentiate, gradients, gradients_from};
use self::leaf_gradients::add;
pub use self::leaf_gradients::{AsLeaf, Gradients, LeafId};
pub use self::var::Var;
use self::{higher_order::Source, recompute::Segment};
use super::op::{Grads, Needs, Op};
use crate::backend::{Backend, Tensor, shape};
use crate::error::{Error, Result};

/// See [`Op::backward_onto`].
type Backward<B> = Box<dyn FnOnce(&B, Tensor<B>, &mut Option<Tensor<B>>) -> Result<Grads<B>>>;

/// Who follows a run backwards: told of every leaf whose gradient is summed up, and of nothing after every other node.
type Watch<'a, B> = dyn FnMut(Option<(LeafId, &Tensor<B>)>) -> Result<()> + 'a;

struct Node<B: Backend> {
    name: &'static str,
    /// Of the value, and so of its gradient.
    shape: Vec<usize>,
    inputs: Vec<Option<usize>>,
    kind: Kind<B>,
    /// What its derivative is recorded from: kept on a tape of higher order alone.
    source: Option<Rc<Source<B>>>,
}

/// What happens where the gradient of a node has been summed up.
enum Kind<B: Backend> {
    /// It is kept.
    Leaf(LeafId),
    /// The op makes the gradients of its inputs of it.
    Op(Backward<B>),
    /// The segment is recorded, in the place of this node.
    Segment(Segment<B>),
}

/// The node of what is computed on a spent tape: it is not stored.
const SPENT: usize = usize::MAX;

/// What a recording is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It stores what is computed.
    Recording,
    /// It runs a segment for its value alone; whether anything that needs a gradient was met in it.
    Surveying { met: bool },
    /// It runs backwards, and records a segment again.
    Recomputing,
    /// It was run backwards.
    Spent,
}

struct Recording<B: Backend> {
    /// What tells it from every other recording of the process.
    identity: u64,
    nodes: Vec<Node<B>>,
    /// How many leaves were made, those that are gone among them.
    leaves: usize,
    /// The leaf of every parameter that was used, so that using it twice gives one gradient.
    parameters: HashMap<u64, Var<B>>,
    /// The versions of those parameters whose value must not change before the tape runs backwards.
    versions: HashMap<u64, u64>,
    phase: Phase,
    higher_order: bool,
}

/// A recording of operations on one backend. Clones share the recording; each thread has tapes of its own.
///
/// ```
/// use pspikessm::autodiff::Tape;
/// use pspikessm::backend::*;
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let tape = Tape::new(&cpu);
/// let x = tape.leaf(&cpu.from_vec(vec![1.0, 2.0, 3.0], &[3])?);
/// let loss = x.mul(&x)?.sum()?;
/// let gradients = loss.backward()?;
/// assert_eq!(cpu.to_vec(gradients.of(&x).unwrap())?, [2.0, 4.0, 6.0]);
/// # Ok(()) }
/// ```
pub struct Tape<B: Backend> {
    backend: B,
    /// `None` where recording is off.
    recording: Option<Rc<RefCell<Recording<B>>>>,
}

impl<B: Backend> Clone for Tape<B> {
    fn clone(&self) -> Self {
        Tape { backend: self.backend.clone(), recording: self.recording.clone() }
    }
}

impl<B: Backend> Tape<B> {
    /// A tape that records.
    pub fn new(backend: &B) -> Self {
        Self::recording(backend, false)
    }

    /// A tape that records, and keeps enough for derivatives of derivatives: [`gradients()`] puts gradients on the tape, where they are
    /// differentiated again. It holds the inputs and the output of every op until it is dropped or run backwards.
    #[doc(alias = "create_graph")]
    #[doc(alias = "double backward")]
    pub fn higher_order(backend: &B) -> Self {
        Self::recording(backend, true)
    }

    fn recording(backend: &B, higher_order: bool) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let recording = Recording {
            identity: NEXT.fetch_add(1, Ordering::Relaxed),
            nodes: Vec::new(),
            leaves: 0,
            parameters: HashMap::new(),
            versions: HashMap::new(),
            phase: Phase::Recording,
            higher_order,
        };
        Tape { backend: backend.clone(), recording: Some(Rc::new(RefCell::new(recording))) }
    }

    /// A tape that records nothing, for inference: no node is stored and nothing is saved.
    ///
    /// ```
    /// use pspikessm::{autodiff::Tape, backend::*};
    /// # fn main() -> pspikessm::Result<()> {
    /// let cpu = Cpu::<f32>::new();
    /// let tape = Tape::off(&cpu);
    /// let y = tape.leaf(&cpu.full(&[3], 2.0)?).square()?;
    /// assert_eq!(y.to_vec()?, [4.0; 3]);
    /// assert!(tape.is_empty() && y.sum()?.backward().is_err());
    /// # Ok(()) }
    /// ```
    #[doc(alias = "no_grad")]
    #[doc(alias = "inference_mode")]
    pub fn off(backend: &B) -> Self {
        Tape { backend: backend.clone(), recording: None }
    }

    /// The backend that the ops run on.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Whether operations are recorded.
    pub fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    /// The number of recorded nodes, leaves included.
    pub fn len(&self) -> usize {
        self.recording.as_ref().map_or(0, |r| r.borrow().nodes.len())
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A value that gets no gradient.
    pub fn constant(&self, value: &Tensor<B>) -> Var<B> {
        Var { tape: self.clone(), value: value.clone(), node: None, leaf: None }
    }

    /// A value that gets a gradient.
    #[doc(alias = "requires_grad")]
    pub fn leaf(&self, value: &Tensor<B>) -> Var<B> {
        let Some(recording) = &self.recording else { return self.constant(value) };
        let leaf = {
            let mut recording = recording.borrow_mut();
            recording.leaves += 1;
            LeafId::numbered(recording.identity, recording.leaves)
        };
        self.leaf_called(leaf, value)
    }

    fn leaf_called(&self, leaf: LeafId, value: &Tensor<B>) -> Var<B> {
        let shape = value.shape().into();
        let node = self.push(Node { name: "leaf", shape, inputs: Vec::new(), kind: Kind::Leaf(leaf), source: None });
        Var { tape: self.clone(), value: value.clone(), node, leaf: Some(leaf) }
    }

    /// The leaf of the parameter with this identity; the same variable every time it is asked for.
    pub fn parameter(&self, identity: u64, value: &Tensor<B>) -> Var<B> {
        let Some(recording) = &self.recording else { return self.constant(value) };
        if let Some(var) = recording.borrow().parameters.get(&identity) {
            return Var { tape: self.clone(), ..var.clone() };
        }
        let var = self.leaf_called(LeafId::parameter(identity), value);
        // The stored variable must not hold the tape that holds it.
        let stored = Var { tape: Tape::off(&self.backend), ..var.clone() };
        recording.borrow_mut().parameters.insert(identity, stored);
        var
    }

    /// [`Tape::parameter`] of a value that has this version.
    ///
    /// # Errors
    /// [`Error::Value`] where this recording already holds the parameter in another version.
    pub(crate) fn parameter_as_of(&self, identity: u64, version: u64, value: &Tensor<B>) -> Result<Var<B>> {
        if let Some(recording) = &self.recording
            && *recording.borrow_mut().versions.entry(identity).or_insert(version) != version
        {
            return Err(Error::value("Tape", "a parameter was changed in the middle of a recording that uses it: begin a new tape"));
        }
        Ok(self.parameter(identity, value))
    }

    /// Runs `op`. Where an input needs a gradient, the op is recorded on the tape of that input; constants may come from any tape.
    ///
    /// # Errors
    /// What the op's forward answers; [`Error::Value`] where inputs that need gradients were recorded on different tapes, or there are
    /// more than [`Needs::MAX`] inputs.
    pub fn apply<O: Op<B>>(&self, op: O, inputs: &[&Var<B>]) -> Result<Var<B>> {
        let (tape, needs) = self.place(O::NAME, inputs)?;
        let values: Vec<&Tensor<B>> = inputs.iter().map(|v| &v.value).collect();
        let (value, saved) = op.forward(&tape.backend, &values, needs)?;
        if !needs.any() {
            return Ok(tape.constant(&value));
        }
        let source = tape.is_higher_order().then(|| {
            let op = op.clone();
            Source::new(inputs, &value, move |inputs, output, grad, needs| op.derivative(inputs, output, grad, needs))
        });
        let backward: Backward<B> = Box::new(move |backend, grad, earlier| op.backward_onto(backend, saved, grad, needs, earlier));
        Ok(tape.record(O::NAME, inputs, value, Kind::Op(backward), source))
    }

    /// The tape on which something made of `inputs` is recorded, and which of them need a gradient: none where nothing is recorded now.
    fn place<'a>(&'a self, name: &'static str, inputs: &[&'a Var<B>]) -> Result<(&'a Tape<B>, Needs)> {
        if inputs.len() > Needs::MAX {
            let help = format!("an op takes at most {} inputs, not {}: apply it in groups", Needs::MAX, inputs.len());
            return Err(Error::value(name, help));
        }
        let mut recorded = inputs.iter().filter(|v| v.node.is_some()).map(|v| &v.tape);
        let tape = recorded.next().unwrap_or(self);
        if recorded.any(|other| !tape.shares(other)) {
            return Err(Error::value(name, "an input was recorded on another tape: use one tape for a computation"));
        }
        let needs = Needs::of(inputs.iter().map(|v| v.node.is_some()));
        Ok((tape, if tape.surveys(needs.any()) { Needs::NONE } else { needs }))
    }

    /// A node that has come of `inputs`.
    fn record(&self, name: &'static str, inputs: &[&Var<B>], value: Tensor<B>, kind: Kind<B>, source: Option<Rc<Source<B>>>) -> Var<B> {
        let inputs = inputs.iter().map(|v| v.node).collect();
        let node = self.push(Node { name, shape: value.shape().into(), inputs, kind, source });
        Var { tape: self.clone(), value, node, leaf: None }
    }

    fn push(&self, node: Node<B>) -> Option<usize> {
        let mut recording = self.recording.as_ref()?.borrow_mut();
        if recording.phase == Phase::Spent {
            return Some(SPENT);
        }
        recording.nodes.push(node);
        Some(recording.nodes.len() - 1)
    }

    fn shares(&self, other: &Tape<B>) -> bool {
        matches!((&self.recording, &other.recording), (Some(a), Some(b)) if Rc::ptr_eq(a, b))
    }

    /// Runs the recording backwards from `root`, whose gradient is `seed`, and spends it.
    fn backward(&self, root: &Var<B>, seed: Tensor<B>, watch: &mut Watch<'_, B>) -> Result<Gradients<B>> {
        const OP: &str = "backward";
        shape::exactly(OP, "the gradient of the root", root.shape(), seed.shape())?;
        let none = |help: &str| Err(Error::NotDifferentiable { op: OP, help: help.into() });
        let (Some(recording), Some(start)) = (&self.recording, root.node) else {
            return none("nothing was recorded: make the tape with Tape::new and the inputs with leaf");
        };
        let later = {
            let mut recording = recording.borrow_mut();
            match recording.phase {
                Phase::Recording => recording.phase = Phase::Spent,
                Phase::Spent => return none("this tape was run backwards before: record the computation again"),
                _ => return none("this is a segment that is run again: run the tape backwards outside of it"),
            }
            recording.nodes.split_off(start + 1)
        };
        drop(later);
        let found = self.walk(recording, start, seed, watch);
        // Nothing stays borrowed while values are dropped, or while ops run: both are free to use the tape.
        let (nodes, parameters) = {
            let mut recording = recording.borrow_mut();
            recording.versions.clear();
            (std::mem::take(&mut recording.nodes), std::mem::take(&mut recording.parameters))
        };
        drop((nodes, parameters));
        Ok(Gradients::new(&self.backend, found?))
    }

    /// Takes node after node off the recording, the last of which is `start`: the gradients of the leaves.
    fn walk(
        &self,
        recording: &RefCell<Recording<B>>,
        start: usize,
        seed: Tensor<B>,
        watch: &mut Watch<'_, B>,
    ) -> Result<BTreeMap<LeafId, Tensor<B>>> {
        let (mut sums, mut leaves) = (BTreeMap::from([(start, seed)]), BTreeMap::new());
        loop {
            // Popping drops what a node saved as soon as it is used.
            let popped = recording.borrow_mut().nodes.pop();
            let Some(Node { name, inputs, kind, .. }) = popped else { return Ok(leaves) };
            let index = recording.borrow().nodes.len();
            if let Kind::Leaf(leaf) = kind {
                leaf.identity().map(|identity| recording.borrow_mut().parameters.remove(&identity));
            }
            let Some(grad) = sums.remove(&index) else { continue };
            match kind {
                Kind::Leaf(leaf) => {
                    watch(Some((leaf, &grad)))?;
                    add(&self.backend, &mut leaves, leaf, grad)?;
                    continue;
                }
                Kind::Op(backward) => {
                    let first = inputs.first().copied().flatten();
                    let mut earlier = first.and_then(|input| sums.remove(&input));
                    let grads = backward(&self.backend, grad, &mut earlier)?;
                    sums.extend(first.zip(earlier));
                    self.hand_down(recording, name, &inputs, grads, &mut sums)?;
                }
                Kind::Segment(segment) => {
                    if let Some(node) = self.record_again(recording, segment, grad.shape())? {
                        add(&self.backend, &mut sums, node, grad)?;
                    }
                }
            }
            watch(None)?;
        }
    }

    /// Adds the gradients that an op gave to those of its inputs.
    fn hand_down(
        &self,
        recording: &RefCell<Recording<B>>,
        name: &'static str,
        inputs: &[Option<usize>],
        grads: Grads<B>,
        sums: &mut BTreeMap<usize, Tensor<B>>,
    ) -> Result<()> {
        let mut grads = grads.into_iter();
        for (i, input) in inputs.iter().enumerate() {
            let (grad, Some(input)) = (grads.next().flatten(), input) else { continue };
            let grad = grad.ok_or_else(|| no_gradient(name, i))?;
            {
                let recording = recording.borrow();
                let late = || Error::value(name, format!("input {i} was computed after this, and is not of this segment"));
                let below = recording.nodes.get(*input).ok_or_else(late)?;
                if below.shape != grad.shape() {
                    return shape::exactly(name, &format!("the gradient of input {i}"), &below.shape, grad.shape());
                }
            }
            add(&self.backend, sums, *input, grad)?;
        }
        Ok(())
    }
}

/// What is said of an op that keeps a gradient back.
fn no_gradient(name: &'static str, input: usize) -> Error {
    Error::Gradient { op: name.into(), help: format!("input {input} needs a gradient, but the op gave none") }
}
