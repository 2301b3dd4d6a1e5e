//! The tape: records what was computed, and runs it backwards.
//!
//! A node remembers where its inputs came from and one closure, its backward. Going backwards, the tape hands every closure the
//! gradient of its output, and adds what it returns to the gradients of the inputs. Nothing else in the crate accumulates.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::op::{Grads, Needs, Op};
use crate::backend::{Backend, Binary, Tensor};
use crate::error::{Error, Result};

type Backward<B> = Box<dyn FnOnce(&B, &Tensor<B>) -> Result<Grads<B>>>;

struct Node<B: Backend> {
    name: &'static str,
    /// Of the value, and so of its gradient.
    shape: Vec<usize>,
    inputs: Vec<Option<usize>>,
    /// `None` for a leaf.
    backward: Option<Backward<B>>,
}

/// The node of what is computed on a spent tape: it is not stored.
const SPENT: usize = usize::MAX;

/// How the gradient of a leaf is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Leaf {
    /// A parameter of this identity, on any tape.
    Parameter(u64),
    /// The node of a recording of this identity.
    Node(u64, usize),
}

struct Recording<B: Backend> {
    /// What tells it from every other recording of the process.
    identity: u64,
    nodes: Vec<Node<B>>,
    /// The leaf of every parameter that was used, so that using it twice gives one gradient.
    parameters: HashMap<u64, Var<B>>,
    /// The versions of those parameters whose value must not change before the tape runs backwards.
    versions: HashMap<u64, u64>,
    spent: bool,
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
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let identity = NEXT.fetch_add(1, Ordering::Relaxed);
        let recording = Recording { identity, nodes: Vec::new(), parameters: HashMap::new(), versions: HashMap::new(), spent: false };
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
    pub fn leaf(&self, value: &Tensor<B>) -> Var<B> {
        let node = self.push(Node { name: "leaf", shape: value.shape().into(), inputs: Vec::new(), backward: None });
        let leaf = node.zip(self.identity()).map(|(node, recording)| Leaf::Node(recording, node));
        Var { tape: self.clone(), value: value.clone(), node, leaf }
    }

    /// The leaf of the parameter with this identity; the same variable every time it is asked for.
    pub fn parameter(&self, identity: u64, value: &Tensor<B>) -> Var<B> {
        let Some(recording) = &self.recording else { return self.constant(value) };
        if let Some(var) = recording.borrow().parameters.get(&identity) {
            return Var { tape: self.clone(), ..var.clone() };
        }
        let var = Var { leaf: Some(Leaf::Parameter(identity)), ..self.leaf(value) };
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
        if inputs.len() > Needs::MAX {
            return Err(Error::value(
                O::NAME,
                format!("an op takes at most {} inputs, not {}: apply it in groups", Needs::MAX, inputs.len()),
            ));
        }
        let mut recorded = inputs.iter().filter(|v| v.node.is_some()).map(|v| &v.tape);
        let tape = recorded.next().unwrap_or(self);
        if recorded.any(|other| !tape.shares(other)) {
            return Err(Error::value(O::NAME, "an input was recorded on another tape: use one tape for a computation"));
        }
        let values: Vec<&Tensor<B>> = inputs.iter().map(|v| &v.value).collect();
        let needs = Needs::of(inputs.iter().map(|v| v.node.is_some()));
        let (value, saved) = op.forward(&tape.backend, &values, needs)?;
        let node = if needs.any() {
            let backward: Backward<B> = Box::new(move |backend, grad| op.backward(backend, saved, grad, needs));
            let inputs = inputs.iter().map(|v| v.node).collect();
            tape.push(Node { name: O::NAME, shape: value.shape().into(), inputs, backward: Some(backward) })
        } else {
            None
        };
        Ok(Var { tape: tape.clone(), value, node, leaf: None })
    }

    fn push(&self, node: Node<B>) -> Option<usize> {
        let mut recording = self.recording.as_ref()?.borrow_mut();
        if recording.spent {
            return Some(SPENT);
        }
        recording.nodes.push(node);
        Some(recording.nodes.len() - 1)
    }

    fn identity(&self) -> Option<u64> {
        Some(self.recording.as_ref()?.borrow().identity)
    }

    fn shares(&self, other: &Tape<B>) -> bool {
        matches!((&self.recording, &other.recording), (Some(a), Some(b)) if Rc::ptr_eq(a, b))
    }

    /// Runs the recording backwards from `root`, whose gradient is `seed`, and spends it.
    fn backward(&self, root: &Var<B>, seed: Tensor<B>) -> Result<Gradients<B>> {
        const OP: &str = "backward";
        crate::backend::shape::exactly(OP, "the gradient of the root", root.shape(), seed.shape())?;
        let (Some(recording), Some(start)) = (&self.recording, root.node) else {
            return Err(Error::NotDifferentiable {
                op: OP,
                help: "nothing was recorded: make the tape with Tape::new and the inputs with leaf".into(),
            });
        };
        if std::mem::replace(&mut recording.borrow_mut().spent, true) {
            return Err(Error::NotDifferentiable {
                op: OP,
                help: "this tape was run backwards before: record the computation again".into(),
            });
        }
        // Nothing stays borrowed while ops run: they are free to use the tape.
        let mut nodes = std::mem::take(&mut recording.borrow_mut().nodes);
        let parameters = std::mem::take(&mut recording.borrow_mut().parameters);
        recording.borrow_mut().versions.clear();
        let mut by_node = HashMap::from([(start, seed)]);
        for index in (0..=start).rev() {
            // Popping drops what a node saved as soon as it is used.
            nodes.truncate(index + 1);
            let Some(Node { name, inputs, backward: Some(backward), .. }) = nodes.pop() else { continue };
            let Some(grad) = by_node.remove(&index) else { continue };
            let mut grads = backward(&self.backend, &grad)?.into_iter();
            for (i, input) in inputs.iter().enumerate() {
                let (grad, Some(input)) = (grads.next().flatten(), input) else { continue };
                let Some(grad) = grad else {
                    return Err(Error::Gradient { op: name.into(), help: format!("input {i} needs a gradient, but the op gave none") });
                };
                crate::backend::shape::exactly(name, &format!("the gradient of input {i}"), &nodes[*input].shape, grad.shape())?;
                add(&self.backend, &mut by_node, *input, grad)?;
            }
        }
        let identity = recording.borrow().identity;
        let parameters: HashMap<usize, u64> = parameters.into_iter().filter_map(|(id, var)| Some((var.node?, id))).collect();
        let leaf = |node: usize| parameters.get(&node).map_or(Leaf::Node(identity, node), |&id| Leaf::Parameter(id));
        let by_leaf = by_node.into_iter().map(|(node, grad)| (leaf(node), grad)).collect();
        Ok(Gradients { backend: self.backend.clone(), by_leaf })
    }
}

/// The gradients of the leaves, parameters among them, after a run backwards.
pub struct Gradients<B: Backend> {
    backend: B,
    by_leaf: HashMap<Leaf, Tensor<B>>,
}

impl<B: Backend> Gradients<B> {
    /// The gradient of a leaf.
    ///
    /// # Errors
    /// [`Error::NotDifferentiable`] where there is none: for a constant, for what an op computed (only leaves keep their gradient), and for
    /// a leaf on which the root of this run does not depend, such as one of another tape.
    pub fn of(&self, leaf: &Var<B>) -> Result<&Tensor<B>> {
        let none = |help: &str| Error::NotDifferentiable { op: "Gradients::of", help: help.into() };
        match (leaf.leaf, leaf.node) {
            (Some(place), _) => self.by_leaf.get(&place).ok_or_else(|| none("what was run backwards does not depend on this leaf")),
            (None, Some(_)) => Err(none("an op computed this value, and only leaves keep their gradient: make it a leaf")),
            (None, None) => Err(none("this value is a constant: make it with leaf, on a tape that records")),
        }
    }

    /// The gradient of the parameter with this identity; `None` where what was run backwards does not depend on it.
    pub fn of_parameter(&self, identity: u64) -> Option<&Tensor<B>> {
        self.by_leaf.get(&Leaf::Parameter(identity))
    }

    /// Adds the gradients of another run backwards, such as that of another part of a batch. Gradients of one parameter are summed; those
    /// of the other run's leaves are kept beside these.
    ///
    /// # Errors
    /// What the backend's sum answers.
    pub fn accumulate(&mut self, other: Gradients<B>) -> Result<()> {
        other.by_leaf.into_iter().try_for_each(|(leaf, grad)| add(&self.backend, &mut self.by_leaf, leaf, grad))
    }

    /// Multiplies all gradients by `factor`.
    ///
    /// # Errors
    /// What the backend's product answers.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        let factor = self.backend.full(&[], factor)?;
        self.by_leaf.values_mut().try_for_each(|grad| {
            *grad = self.backend.binary(Binary::Mul, grad, &factor)?;
            Ok(())
        })
    }
}

/// Adds `grad` to what stands at `place`.
fn add<B: Backend, K: Hash + Eq>(backend: &B, sums: &mut HashMap<K, Tensor<B>>, place: K, grad: Tensor<B>) -> Result<()> {
    let sum = match sums.remove(&place) {
        Some(earlier) => backend.binary(Binary::Add, &earlier, &grad)?,
        None => grad,
    };
    sums.insert(place, sum);
    Ok(())
}

/// A value on a tape. Cloning is free. Its methods are the ops: each returns a new value and records how it came about.
///
/// ```
/// use pspikessm::{autodiff::Tape, backend::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let tape = Tape::new(&cpu);
/// let x = tape.leaf(&cpu.from_vec(vec![0.0, 1.0], &[2])?);
/// let y = x.exp()?.mul(&tape.constant(&cpu.full(&[], 3.0)?))?;
/// assert_eq!((y.shape(), y.needs_gradient()), (&[2][..], true));
/// // A value that is no scalar needs a gradient of its shape to start from.
/// let gradients = y.backward_from(&cpu.from_vec(vec![1.0, 0.0], &[2])?)?;
/// assert_eq!(cpu.to_vec(gradients.of(&x)?)?, [3.0, 0.0]);
/// # Ok(()) }
/// ```
pub struct Var<B: Backend> {
    tape: Tape<B>,
    value: Tensor<B>,
    /// `None` for a constant.
    node: Option<usize>,
    /// `None` for a constant, and for what an op computed.
    leaf: Option<Leaf>,
}

impl<B: Backend> Clone for Var<B> {
    fn clone(&self) -> Self {
        Var { tape: self.tape.clone(), value: self.value.clone(), node: self.node, leaf: self.leaf }
    }
}

impl<B: Backend> Var<B> {
    /// The value.
    pub fn value(&self) -> &Tensor<B> {
        &self.value
    }

    /// The length of every axis.
    pub fn shape(&self) -> &[usize] {
        self.value.shape()
    }

    /// The tape.
    pub fn tape(&self) -> &Tape<B> {
        &self.tape
    }

    /// Whether a gradient flows to this value.
    pub fn needs_gradient(&self) -> bool {
        self.node.is_some()
    }

    /// The same value, cut off from its history.
    pub fn detach(&self) -> Var<B> {
        self.tape.constant(&self.value)
    }

    /// The values on the host, row-major.
    ///
    /// # Errors
    /// [`Error::Device`] where the device fails, now or in an earlier call that did not wait.
    pub fn to_vec(&self) -> Result<Vec<B::Elem>> {
        self.tape.backend.to_vec(&self.value)
    }

    /// The only value of a tensor with one element, in f64.
    ///
    /// # Errors
    /// [`Error::Value`] where there are more elements, or none; as [`Var::to_vec`].
    pub fn item(&self) -> Result<f64> {
        match self.to_vec()?.as_slice() {
            [value] => Ok(crate::backend::Real::f64(*value)),
            values => {
                Err(Error::value("item", format!("shape {:?} has {} elements, not one: reduce it first", self.shape(), values.len())))
            }
        }
    }

    /// Runs the tape backwards from this scalar, and spends it.
    ///
    /// # Errors
    /// [`Error::NotDifferentiable`] where this is not one number, nothing was recorded, or the tape is spent.
    pub fn backward(&self) -> Result<Gradients<B>> {
        if self.value.numel() != 1 {
            let help =
                format!("shape {:?} is not one number: reduce it, or call backward_from with a gradient of this shape", self.shape());
            return Err(Error::NotDifferentiable { op: "backward", help });
        }
        self.backward_from(&self.tape.backend.full(self.shape(), 1.0)?)
    }

    /// Runs the tape backwards with this gradient of the value.
    ///
    /// # Errors
    /// As [`Var::backward`]; [`Error::Shape`] where `grad` has another shape.
    pub fn backward_from(&self, grad: &Tensor<B>) -> Result<Gradients<B>> {
        self.tape.backward(self, grad.clone())
    }
}

impl<B: Backend> std::fmt::Debug for Var<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Var{:?}", self.shape())
    }
}
