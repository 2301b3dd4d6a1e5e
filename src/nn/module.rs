//! Parameters, buffers, and the modules that name them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::autodiff::{AsLeaf, LeafId};
use crate::backend::{Backend, Real, Tensor, shape};
use crate::error::{Error, Result};

/// How the optimiser treats a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
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

/// A named tensor of a module: a trained parameter or a buffer. Clones are the same parameter: put in two places, it is tied. It then has
/// one gradient, the sum of both places', is moved once, and stands in a file once, under the first of its names.
///
/// ```
/// use pspikessm::{backend::*, nn::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f32>::new();
/// let weight = Param::full(&cpu, &[2, 3], 0.5, ParamOptions::DECAYED)?;
/// // A rate of its own and no weight decay, whatever the optimiser's are.
/// let slow = Param::full(&cpu, &[3], 0.0, ParamOptions::Trained { lr: Some(1e-4), decay: false })?;
/// let tied = weight.clone();
/// weight.set(cpu.full(&[2, 3], 1.0)?)?;
/// assert_eq!(cpu.to_vec(&tied.value())?, [1.0; 6]);
/// assert_eq!(tied.identity(), weight.identity());
/// assert!(weight.set(slow.value()).is_err()); // another shape
/// # Ok(()) }
/// ```
pub struct Param<B: Backend> {
    inner: Arc<Inner<B>>,
}

struct Inner<B: Backend> {
    identity: u64,
    value: RwLock<Tensor<B>>,
    /// How often the value was replaced.
    version: AtomicU64,
    options: ParamOptions,
    frozen: AtomicBool,
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
        let (value, version, frozen) = (RwLock::new(value), AtomicU64::new(0), AtomicBool::new(false));
        Param { inner: Arc::new(Inner { identity, value, version, options, frozen }) }
    }

    /// A parameter from host values, row-major.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where there are not as many values as `shape` holds; what the device answers.
    pub fn from_values(backend: &B, values: impl IntoIterator<Item = f64>, shape: &[usize], options: ParamOptions) -> Result<Self> {
        Ok(Param::new(backend.from_vec(values.into_iter().map(B::Elem::of).collect(), shape)?, options))
    }

    /// A parameter of one repeated value.
    ///
    /// # Errors
    /// What the device answers.
    pub fn full(backend: &B, shape: &[usize], value: f64, options: ParamOptions) -> Result<Self> {
        Ok(Param::new(backend.full(shape, value)?, options))
    }

    /// A number that no other parameter of the process has.
    pub fn identity(&self) -> u64 {
        self.inner.identity
    }

    /// How often the value was replaced. What was derived from the value is out of date once this has changed.
    pub fn version(&self) -> u64 {
        self.inner.version.load(Ordering::Acquire)
    }

    /// How the optimiser treats it.
    pub fn options(&self) -> ParamOptions {
        self.inner.options
    }

    /// Whether it is trained: no buffer, and not frozen.
    #[doc(alias = "requires_grad")]
    pub fn is_trained(&self) -> bool {
        self.inner.options != ParamOptions::Buffer && !self.is_frozen()
    }

    /// Takes it out of the training: it is a constant for the passes that come, and an optimiser leaves it alone. Its options stay.
    pub fn freeze(&self) {
        self.inner.frozen.store(true, Ordering::Release);
    }

    /// Puts it back.
    pub fn unfreeze(&self) {
        self.inner.frozen.store(false, Ordering::Release);
    }

    /// Whether it was frozen.
    pub fn is_frozen(&self) -> bool {
        self.inner.frozen.load(Ordering::Acquire)
    }

    /// The present value and its version, read together even where another thread replaces the value.
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
        // Under the lock, so that a value is never read with an older version.
        self.inner.version.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

impl<B: Backend> AsLeaf for Param<B> {
    fn as_leaf(&self) -> Result<LeafId> {
        Ok(LeafId::parameter(self.identity()))
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

/// Something with named parameters: a layer, a model.
///
/// ```
/// use pspikessm::{backend::*, nn::*};
///
/// struct TwoLayers<B: Backend> {
///     first: Linear<B>,
///     second: Linear<B>,
/// }
///
/// impl<B: Backend> Module<B> for TwoLayers<B> {
///     fn names(&self, names: &mut Names<'_, B>) {
///         names.module("first", &self.first);
///         names.module("second", &self.second);
///     }
/// }
///
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f32>::new();
/// let layers = TwoLayers { first: Linear::new(&cpu, Key::new(0), 4, 8)?, second: Linear::new(&cpu, Key::new(1), 8, 2)? };
/// let names: Vec<String> = layers.parameters().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["first.weight", "first.bias", "second.weight", "second.bias"]);
/// assert_eq!(layers.num_parameters(), 4 * 8 + 8 + 8 * 2 + 2);
/// # Ok(()) }
/// ```
pub trait Module<B: Backend> {
    /// Names every parameter and buffer, in a fixed order. A parameter may stand under several names (tied weights).
    fn names(&self, names: &mut Names<'_, B>);

    /// All parameters and buffers, in a fixed order; each once, under the first of its names.
    fn parameters(&self) -> Vec<(String, Param<B>)> {
        let mut seen = HashSet::new();
        all_names(self).into_iter().filter(|(_, param)| seen.insert(param.identity())).collect()
    }

    /// Freezes everything below `part`, as in "encoder" or "blocks.0.mixer.weight"; a `*` stands for any one name between dots, as in
    /// "blocks.*.output", and "" for all of the module. How many parameters that are.
    ///
    /// ```
    /// use pspikessm::{autodiff::Tape, backend::*, nn::*};
    /// # fn main() -> pspikessm::Result<()> {
    /// let cpu = Cpu::<f32>::new();
    /// let linear = Linear::new(&cpu, Key::new(0), 2, 3)?;
    /// assert_eq!(linear.freeze("weight")?, 1);
    /// let tape = Tape::new(&cpu);
    /// let cx = Context::training(&tape, Key::new(1));
    /// let gradients = linear.forward(&cx, &tape.constant(&cpu.full(&[4, 2], 1.0)?))?.sum()?.backward()?;
    /// assert!(gradients.of(&linear.weight).is_err() && gradients.of(&linear.bias).is_ok());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] where nothing has such a name.
    fn freeze(&self, part: &str) -> Result<usize> {
        let below = below(self, part)?;
        below.iter().for_each(Param::freeze);
        Ok(below.len())
    }

    /// Undoes [`freeze`](Module::freeze) of everything below `part`.
    ///
    /// # Errors
    /// As [`freeze`](Module::freeze).
    fn unfreeze(&self, part: &str) -> Result<usize> {
        let below = below(self, part)?;
        below.iter().for_each(Param::unfreeze);
        Ok(below.len())
    }

    /// The number of trained numbers; a complex one counts as two.
    fn num_parameters(&self) -> usize {
        self.parameters().iter().filter(|(_, p)| p.is_trained()).map(|(_, p)| p.value().numel()).sum()
    }
}

/// Every parameter whose name is `part` or begins with it and a dot, once; `*` is any name between dots.
fn below<B: Backend>(module: &(impl Module<B> + ?Sized), part: &str) -> Result<Vec<Param<B>>> {
    let is_below = |name: &str| {
        let mut names = name.split('.');
        part.is_empty() || part.split('.').all(|wanted| names.next().is_some_and(|name| wanted == "*" || wanted == name))
    };
    let mut seen = HashSet::new();
    let named = all_names(module).into_iter().filter(|(name, param)| is_below(name) && seen.insert(param.identity()));
    let found: Vec<Param<B>> = named.map(|(_, param)| param).collect();
    match found.is_empty() {
        true => Err(Error::value("freeze", format!("nothing here is called {part:?}, or begins so: Module::parameters has the names"))),
        false => Ok(found),
    }
}

/// Every name with its parameter, further names of one parameter included.
pub(super) fn all_names<B: Backend>(module: &(impl Module<B> + ?Sized)) -> Vec<(String, Param<B>)> {
    let mut found = Vec::new();
    module.names(&mut Names { prefix: String::new(), found: &mut found });
    found
}
