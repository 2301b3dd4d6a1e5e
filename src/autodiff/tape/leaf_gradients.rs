//! `Gradients`: what a run backwards has found, leaf by leaf.

use std::collections::BTreeMap;

use super::Var;
use crate::backend::{Backend, Binary, Real, Tensor, Unary};
use crate::error::{Error, Result};

/// What a gradient is of: a parameter, on any tape, or a leaf of one tape. The order is that in which they were made, parameters first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeafId(Leaf);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Leaf {
    /// A parameter of this identity, on any tape.
    Parameter(u64),
    /// The leaf with this number of the recording of this identity.
    Node(u64, usize),
}

impl LeafId {
    /// The parameter of this identity, as given to [`Tape::parameter`](super::Tape::parameter).
    pub fn parameter(identity: u64) -> Self {
        LeafId(Leaf::Parameter(identity))
    }

    pub(super) fn numbered(recording: u64, number: usize) -> Self {
        LeafId(Leaf::Node(recording, number))
    }

    /// The parameter's identity; `None` for a leaf of one tape.
    pub fn identity(self) -> Option<u64> {
        match self.0 {
            Leaf::Parameter(identity) => Some(identity),
            Leaf::Node(..) => None,
        }
    }
}

/// What a gradient can be asked of: a variable that is a leaf, or a [`Param`](crate::nn::Param).
pub trait AsLeaf {
    /// What its gradient stands under.
    ///
    /// # Errors
    /// [`Error::NotDifferentiable`] where this is no leaf.
    fn as_leaf(&self) -> Result<LeafId>;
}

impl<B: Backend> AsLeaf for Var<B> {
    fn as_leaf(&self) -> Result<LeafId> {
        let none = |help: &str| Error::NotDifferentiable { op: "Gradients::of", help: help.into() };
        match (self.leaf, self.node) {
            (Some(leaf), _) => Ok(leaf),
            (None, Some(_)) => Err(none("an op computed this value, and only leaves keep their gradient: make it a leaf")),
            (None, None) => Err(none("this value is a constant: make it with leaf, on a tape that records")),
        }
    }
}

impl AsLeaf for LeafId {
    fn as_leaf(&self) -> Result<LeafId> {
        Ok(*self)
    }
}

/// The gradients of the leaves, parameters among them, after a run backwards.
///
/// Threads that each run a tape on their part of a batch send their gradients to one, which adds them up; in a fixed order the sums are the
/// same bits every time:
///
/// ```
/// use pspikessm::{autodiff::Tape, backend::*, nn::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let weight = Param::full(&cpu, &[2], 3.0, ParamOptions::PLAIN)?;
/// let part = |factor: f64| {
///     let tape = Tape::new(&cpu);
///     let cx = Context::training(&tape, Key::new(0));
///     cx.var(&weight).square()?.sum()?.scale(factor)?.backward()
/// };
/// let mut parts = std::thread::scope(|scope| {
///     let threads: Vec<_> = [1.0, 2.0].map(|factor| scope.spawn(move || part(factor))).into();
///     threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<pspikessm::Result<Vec<_>>>()
/// })?
/// .into_iter();
/// let mut sum = parts.next().expect("two parts");
/// parts.try_for_each(|part| sum.accumulate(part))?;
/// assert_eq!(cpu.to_vec(sum.of(&weight)?)?, [18.0, 18.0]);
/// // Down to a norm of 1; what comes back is the norm before.
/// assert!((sum.clip_norm(1.0)? - 18.0 * 2f64.sqrt()).abs() < 1e-13);
/// assert!((sum.norm()? - 1.0).abs() < 1e-15);
/// # Ok(()) }
/// ```
pub struct Gradients<B: Backend> {
    backend: B,
    by_leaf: BTreeMap<LeafId, Tensor<B>>,
}

impl<B: Backend> Clone for Gradients<B> {
    fn clone(&self) -> Self {
        Gradients { backend: self.backend.clone(), by_leaf: self.by_leaf.clone() }
    }
}

impl<B: Backend> std::fmt::Debug for Gradients<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.by_leaf.iter().map(|(leaf, grad)| (leaf, grad.shape()))).finish()
    }
}

impl<B: Backend> Gradients<B> {
    pub(super) fn new(backend: &B, by_leaf: BTreeMap<LeafId, Tensor<B>>) -> Self {
        Gradients { backend: backend.clone(), by_leaf }
    }

    /// Gradients of parameters, by their identities: such as sums of other ones.
    pub fn of_parameters(backend: &B, gradients: impl IntoIterator<Item = (u64, Tensor<B>)>) -> Self {
        Self::new(backend, gradients.into_iter().map(|(identity, grad)| (LeafId::parameter(identity), grad)).collect())
    }

    /// The gradient of a leaf or a parameter.
    ///
    /// # Errors
    /// [`Error::NotDifferentiable`] where there is none: for a constant, for what an op computed (only leaves keep their gradient), and for
    /// a leaf on which the root of this run does not depend, such as one of another tape.
    pub fn of(&self, leaf: &impl AsLeaf) -> Result<&Tensor<B>> {
        let help = "what was run backwards does not depend on this leaf";
        let none = || Error::NotDifferentiable { op: "Gradients::of", help: help.into() };
        self.by_leaf.get(&leaf.as_leaf()?).ok_or_else(none)
    }

    /// The gradient of the parameter with this identity; `None` where what was run backwards does not depend on it.
    pub fn of_parameter(&self, identity: u64) -> Option<&Tensor<B>> {
        self.by_leaf.get(&LeafId::parameter(identity))
    }

    /// Every gradient with what it is of: parameters first, in the order in which they were made, then other leaves in theirs.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (LeafId, &Tensor<B>)> {
        self.by_leaf.iter().map(|(leaf, grad)| (*leaf, grad))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_leaf.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_leaf.is_empty()
    }

    /// Adds the gradients of another run backwards, such as that of another part of a batch. Gradients of one parameter are summed; those
    /// of the other run's leaves are kept beside these.
    ///
    /// # Errors
    /// What the backend's sum answers.
    pub fn accumulate(&mut self, other: Gradients<B>) -> Result<()> {
        other.by_leaf.into_iter().try_for_each(|(leaf, grad)| add(&self.backend, &mut self.by_leaf, leaf, grad))
    }

    /// Replaces every gradient by what `f` makes of it; on an error those that had their turn are replaced.
    ///
    /// # Errors
    /// What `f` answers; [`Error::Shape`] where it gives another shape.
    pub fn map(&mut self, mut f: impl FnMut(LeafId, &Tensor<B>) -> Result<Tensor<B>>) -> Result<()> {
        self.by_leaf.iter_mut().try_for_each(|(leaf, grad)| {
            let new = f(*leaf, grad)?;
            crate::backend::shape::exactly("Gradients::map", "the new gradient", grad.shape(), new.shape())?;
            *grad = new;
            Ok(())
        })
    }

    /// Multiplies all gradients by `factor`.
    ///
    /// # Errors
    /// What the backend's product answers.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        let backend = self.backend.clone();
        let factor = backend.full(&[], factor)?;
        self.map(|_, grad| backend.binary(Binary::Mul, grad, &factor))
    }

    /// The L2 norm of all gradients together, by one transfer from the device.
    ///
    /// # Errors
    /// What the device answers.
    #[doc(alias = "grad_norm")]
    pub fn norm(&self) -> Result<f64> {
        let mut sum = self.backend.full(&[], 0.0)?;
        for grad in self.by_leaf.values() {
            let square = self.backend.sum_to(&self.backend.binary(Binary::Mul, grad, grad)?, &[])?;
            sum = self.backend.binary(Binary::Add, &sum, &square)?;
        }
        Ok(self.backend.to_vec(&sum)?.first().map_or(0.0, |sum| sum.f64().sqrt()))
    }

    /// Scales all gradients down so that their [`norm`](Self::norm) is `limit`, where it is larger; the norm before.
    ///
    /// # Errors
    /// [`Error::Config`] where the limit is not above 0; [`Error::Value`] where the norm is not finite: nothing is changed then.
    #[doc(alias = "clip_grad_norm")]
    pub fn clip_norm(&mut self, limit: f64) -> Result<f64> {
        check_limit(limit)?;
        let norm = self.norm()?;
        if !norm.is_finite() {
            return Err(Error::value("clip_norm", format!("the norm of the gradients is {norm}: look for what is not finite")));
        }
        if norm > limit {
            self.scale(limit / norm)?;
        }
        Ok(norm)
    }

    /// Limits every number to [-limit, limit].
    ///
    /// # Errors
    /// [`Error::Config`] where the limit is not above 0; what the device answers.
    #[doc(alias = "clip_grad_value")]
    pub fn clip_value(&mut self, limit: f64) -> Result<()> {
        check_limit(limit)?;
        let backend = self.backend.clone();
        self.map(|_, grad| backend.unary(Unary::Clamp(-limit, limit), grad))
    }
}

fn check_limit(limit: f64) -> Result<()> {
    if limit > 0.0 { Ok(()) } else { Err(Error::config("limit", limit, "must be above 0")) }
}

/// Adds `grad` to what stands at `place`.
pub(super) fn add<B: Backend, K: Ord>(backend: &B, sums: &mut BTreeMap<K, Tensor<B>>, place: K, grad: Tensor<B>) -> Result<()> {
    let sum = match sums.remove(&place) {
        Some(earlier) => backend.accumulate(earlier, grad)?,
        None => grad,
    };
    sums.insert(place, sum);
    Ok(())
}
