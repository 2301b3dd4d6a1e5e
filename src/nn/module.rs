//! Parameters, buffers, and the modules that name them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::backend::{Backend, Real, Tensor, shape};
use crate::error::Result;

/// How the optimiser treats a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ParamOptions {
    /// Trained with the recipe's learning rate (`lr: None`) or its own, with the recipe's weight decay or none.
    Trained {
        /// A learning rate instead of the recipe's.
        lr: Option<f64>,
        /// Whether the recipe's weight decay applies.
        decay: bool,
    },
    /// Not trained: a buffer, saved with the module.
    Buffer,
}

impl ParamOptions {
    /// Learning rate and weight decay of the recipe.
    pub const DECAYED: ParamOptions = ParamOptions::Trained { lr: None, decay: true };
    /// The recipe's learning rate, no weight decay.
    pub const PLAIN: ParamOptions = ParamOptions::Trained { lr: None, decay: false };
}

/// A named tensor of a module: a trained parameter or a buffer. Clones are the same parameter.
pub struct Param<B: Backend> {
    inner: Arc<Inner<B>>,
}

struct Inner<B: Backend> {
    identity: u64,
    value: RwLock<Tensor<B>>,
    /// How often the value was replaced.
    version: AtomicU64,
    options: ParamOptions,
}

impl<B: Backend> Clone for Param<B> {
    fn clone(&self) -> Self {
        Param { inner: self.inner.clone() }
    }
}

impl<B: Backend> std::fmt::Debug for Param<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Param{:?}", self.value().shape())
    }
}

impl<B: Backend> Param<B> {
    /// A parameter that starts at `value`.
    pub fn new(value: Tensor<B>, options: ParamOptions) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let identity = NEXT.fetch_add(1, Ordering::Relaxed);
        Param { inner: Arc::new(Inner { identity, value: RwLock::new(value), version: AtomicU64::new(0), options }) }
    }

    /// A parameter from host values.
    pub fn from_values(backend: &B, values: impl IntoIterator<Item = f64>, shape: &[usize], options: ParamOptions) -> Result<Self> {
        Ok(Param::new(backend.from_vec(values.into_iter().map(B::Elem::of).collect(), shape)?, options))
    }

    /// A parameter of one repeated value.
    pub fn full(backend: &B, shape: &[usize], value: f64, options: ParamOptions) -> Result<Self> {
        Ok(Param::new(backend.full(shape, value)?, options))
    }

    /// What tells it from every other parameter of the process.
    pub fn identity(&self) -> u64 {
        self.inner.identity
    }

    /// How often the value was replaced: what was derived from it holds as long as this does.
    pub fn version(&self) -> u64 {
        self.inner.version.load(Ordering::Acquire)
    }

    /// How the optimiser treats it.
    pub fn options(&self) -> ParamOptions {
        self.inner.options
    }

    /// Whether it is trained.
    pub fn is_trained(&self) -> bool {
        self.inner.options != ParamOptions::Buffer
    }

    /// The present value, and its version: a pair that belongs together even where other threads replace it.
    pub(crate) fn versioned(&self) -> (Tensor<B>, u64) {
        let held = self.inner.value.read().unwrap_or_else(PoisonError::into_inner);
        (held.clone(), self.version())
    }

    /// The present value.
    pub fn value(&self) -> Tensor<B> {
        self.inner.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the value.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where the shape differs.
    pub fn set(&self, value: Tensor<B>) -> Result<()> {
        let mut held = self.inner.value.write().unwrap_or_else(PoisonError::into_inner);
        shape::exactly("Param::set", "the new value", held.shape(), value.shape())?;
        *held = value;
        // While it is locked: whoever reads a value after this reads this version, or a later one.
        self.inner.version.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

/// Collects the parameters of a module under their names, joined by dots.
pub struct Names<'a, B: Backend> {
    prefix: String,
    found: &'a mut Vec<(String, Param<B>)>,
}

impl<B: Backend> Names<'_, B> {
    /// Adds a parameter or buffer.
    pub fn param(&mut self, name: &str, param: &Param<B>) {
        self.found.push((format!("{}{name}", self.prefix), param.clone()));
    }

    /// Adds everything of a module below `name`.
    pub fn module(&mut self, name: impl std::fmt::Display, module: &dyn Module<B>) {
        module.names(&mut Names { prefix: format!("{}{name}.", self.prefix), found: &mut *self.found });
    }
}

/// Something with named parameters.
pub trait Module<B: Backend> {
    /// Names every parameter and buffer, in a fixed order. A parameter may stand under several names (tied weights).
    fn names(&self, names: &mut Names<'_, B>);

    /// All parameters and buffers, in a fixed order; each once, under the first of its names.
    fn parameters(&self) -> Vec<(String, Param<B>)> {
        let mut seen = HashSet::new();
        all_names(self).into_iter().filter(|(_, param)| seen.insert(param.identity())).collect()
    }

    /// The number of trained numbers; a complex one counts as two.
    fn num_parameters(&self) -> usize {
        self.parameters().iter().filter(|(_, p)| p.is_trained()).map(|(_, p)| p.value().numel()).sum()
    }
}

/// Every name with its parameter, further names of one parameter included.
pub(super) fn all_names<B: Backend>(module: &(impl Module<B> + ?Sized)) -> Vec<(String, Param<B>)> {
    let mut found = Vec::new();
    module.names(&mut Names { prefix: String::new(), found: &mut found });
    found
}
