//! Optimisers: what moves a module's parameters, each group with its own rate and decay, by a rule that tells them apart.

mod adam;
mod choice;
mod lion;
mod sgd;

use std::collections::HashMap;

pub use self::adam::{AdamConfig, AdamWConfig};
pub use self::choice::OptimizerConfig;
pub use self::lion::LionConfig;
pub use self::sgd::SgdConfig;
use super::{Module, Param, ParamOptions};
use crate::autodiff::Gradients;
use crate::backend::{Backend, Binary, Tensor, Unary, shape};
use crate::error::{Error, Result};

/// How one parameter is moved by its gradient: what tells one optimiser from another. [`Optimizer`] does the rest.
///
/// ```
/// use pspikessm::{autodiff::Tape, backend::*, nn::*, Result};
///
/// /// Steps of the same size, in the direction of the gradient's sign.
/// struct SignDescent;
///
/// impl<B: Backend> UpdateRule<B> for SignDescent {
///     fn check(&self) -> Result<()> {
///         Ok(())
///     }
///
///     fn lr(&self) -> f64 {
///         0.1
///     }
///
///     fn slots(&self) -> &'static [&'static str] {
///         &[]
///     }
///
///     fn moved(&self, backend: &B, step: &Step, value: &Tensor<B>, _: &[Tensor<B>], grad: &Tensor<B>) -> Result<Moved<B>> {
///         let size = backend.unary(Unary::Sqrt, &backend.unary(Unary::Square, grad)?)?;
///         let change = backend.unary(Unary::Linear(step.lr, 0.0), &backend.binary(Binary::Div, grad, &size)?)?;
///         Ok((backend.binary(Binary::Sub, value, &change)?, vec![]))
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let linear = Linear::new(&cpu, Key::new(0), 1, 1)?;
/// let before = cpu.to_vec(&linear.bias.value())?[0];
/// let tape = Tape::new(&cpu);
/// let cx = Context::training(&tape, Key::new(1));
/// let loss = linear.forward(&cx, &tape.constant(&cpu.full(&[1, 1], 1.0)?))?.sum()?;
/// Optimizer::new(SignDescent)?.update(&cpu, &linear, &loss.backward()?, 1.0)?;
/// assert_eq!(cpu.to_vec(&linear.bias.value())?[0], before - 0.1);
/// # Ok(()) }
/// ```
pub trait UpdateRule<B: Backend> {
    /// Whether the rule's numbers make sense.
    ///
    /// # Errors
    /// [`Error::Config`] that names the one that does not.
    fn check(&self) -> Result<()>;

    /// The learning rate of parameters without their own.
    fn lr(&self) -> f64;

    /// The names of the tensors that are remembered of a parameter, each of its shape; in a checkpoint they stand under these.
    fn slots(&self) -> &'static [&'static str];

    /// The value and the slots of a parameter after a step. `slots` are as the step before left them, or zeros.
    ///
    /// # Errors
    /// What the device answers.
    fn moved(&self, backend: &B, step: &Step, value: &Tensor<B>, slots: &[Tensor<B>], grad: &Tensor<B>) -> Result<Moved<B>>;

    /// [`UpdateRule::moved`] of every parameter of a step, in order: for a rule that a device follows for many of them at once.
    ///
    /// # Errors
    /// As [`UpdateRule::moved`] of any of them.
    fn all_moved(&self, backend: &B, params: &[Moving<B>]) -> Result<Vec<Moved<B>>> {
        params.iter().map(|Moving { step, value, slots, grad }| self.moved(backend, step, value, slots, grad)).collect()
    }
}

impl<B: Backend, R: UpdateRule<B> + ?Sized> UpdateRule<B> for Box<R> {
    fn check(&self) -> Result<()> {
        (**self).check()
    }

    fn lr(&self) -> f64 {
        (**self).lr()
    }

    fn slots(&self) -> &'static [&'static str] {
        (**self).slots()
    }

    fn moved(&self, backend: &B, step: &Step, value: &Tensor<B>, slots: &[Tensor<B>], grad: &Tensor<B>) -> Result<Moved<B>> {
        (**self).moved(backend, step, value, slots, grad)
    }

    fn all_moved(&self, backend: &B, params: &[Moving<B>]) -> Result<Vec<Moved<B>>> {
        (**self).all_moved(backend, params)
    }
}

/// A parameter before its step.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Moving<B: Backend> {
    /// Its numbers.
    pub step: Step,
    /// What it is.
    pub value: Tensor<B>,
    /// What is remembered of it, as the step before left it, or zeros.
    pub slots: Vec<Tensor<B>>,
    /// Its gradient.
    pub grad: Tensor<B>,
}

/// A parameter's new value and slots.
pub type Moved<B> = (Tensor<B>, Vec<Tensor<B>>);

/// A step of one parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// The learning rate, the parameter's own and the schedule's factor worked in.
    pub lr: f64,
    /// Whether weight decay applies to it.
    pub decay: bool,
    /// How often it was moved, this time included: from 1.
    pub number: u64,
}

/// What an optimiser remembers of one parameter.
#[derive(Clone, Debug)]
pub struct ParamState<B: Backend> {
    /// How often the parameter was moved: its own count, by which its moments are corrected.
    pub step: u64,
    /// One tensor of its shape for each of the rule's [`slots`](UpdateRule::slots).
    pub slots: Vec<Tensor<B>>,
}

/// An optimiser: the rule `R`, by default [AdamW](AdamWConfig), over a module's parameters. [`AdamConfig`], [`SgdConfig`] and
/// [`LionConfig`] are others, and [`OptimizerConfig`] is one of them by name.
///
/// What is remembered belongs to a parameter, whatever it is called: one that joins the training late starts afresh, and one that stands
/// under two names is moved once.
///
/// ```
/// use pspikessm::{autodiff::Tape, backend::*, nn::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f32>::new();
/// let linear = Linear::new(&cpu, Key::new(0), 2, 1)?;
/// let mut optimizer = Optimizer::new(AdamWConfig::new(0.05, 0.0))?;
/// let schedule = Cosine::new(5, 100)?;
/// let mut loss = f64::INFINITY;
/// for step in 0..100 {
///     let tape = Tape::new(&cpu);
///     let cx = Context::training(&tape, Key::new(1));
///     let x = tape.constant(&cpu.from_vec(vec![1.0, 0.0, 0.0, 1.0], &[2, 2])?);
///     let error = linear.forward(&cx, &x)?.linear_map(1.0, -1.0)?.square()?.mean()?;
///     loss = error.item()?;
///     optimizer.update(&cpu, &linear, &error.backward()?, schedule.factor(step))?;
/// }
/// assert!(loss < 1e-2 && optimizer.steps() == 100, "{loss}");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Optimizer<B: Backend, R = AdamWConfig> {
    /// The rule and its numbers.
    pub config: R,
    steps: u64,
    /// By the parameter's identity.
    states: HashMap<u64, ParamState<B>>,
}

impl<B: Backend, R: UpdateRule<B>> Optimizer<B, R> {
    /// An optimiser before its first step.
    ///
    /// # Errors
    /// [`Error::Config`] for what the rule's [`check`](UpdateRule::check) refuses: a rate, decay or eps that is negative or not finite, a
    /// beta or momentum outside [0, 1).
    pub fn new(config: R) -> Result<Self> {
        config.check()?;
        Ok(Optimizer { config, steps: 0, states: HashMap::new() })
    }

    /// Steps done so far, those that were passed over among them.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What is remembered of a parameter; `None` where it never had a gradient.
    pub fn state(&self, param: &Param<B>) -> Option<&ParamState<B>> {
        self.states.get(&param.identity())
    }

    /// Takes over the state of another optimiser: the number of its updates, and what it remembers of each parameter. What this one
    /// remembered is dropped.
    ///
    /// # Errors
    /// [`Error::Shape`] where a tensor is not of its parameter's shape, [`Error::Value`] where there are others than the rule's slots; the
    /// optimiser then stays as it was.
    pub fn restore(&mut self, steps: u64, states: impl IntoIterator<Item = (Param<B>, ParamState<B>)>) -> Result<()> {
        const OP: &str = "Optimizer::restore";
        let names = self.config.slots();
        let mut restored = HashMap::new();
        for (param, state) in states {
            if state.slots.len() != names.len() {
                let help = format!("{} tensors are remembered of a parameter, this optimiser has {names:?}", state.slots.len());
                return Err(Error::value(OP, help));
            }
            for (name, slot) in names.iter().zip(&state.slots) {
                shape::exactly(OP, name, param.value().shape(), slot.shape())?;
            }
            restored.insert(param.identity(), state);
        }
        (self.steps, self.states) = (steps, restored);
        Ok(())
    }

    /// One step on every trained parameter of `module` that has a gradient; `factor` is the schedule's and multiplies every rate. Gradients
    /// of other parameters are ignored.
    ///
    /// # Errors
    /// [`Error::Value`] where no trained parameter has a gradient, as when they are another model's; [`Error::Shape`] where a gradient has
    /// not its parameter's shape; what the device answers. After an error, parameters and optimiser are as before the call.
    pub fn update(&mut self, backend: &B, module: &dyn Module<B>, gradients: &Gradients<B>, factor: f64) -> Result<()> {
        const OP: &str = "Optimizer::update";
        let (mut params, mut moving) = (Vec::new(), Vec::new());
        for (name, param) in module.parameters().into_iter().filter(|(_, param)| param.is_trained()) {
            if let (ParamOptions::Trained { lr, decay }, Some(grad)) = (param.options(), gradients.of_parameter(param.identity())) {
                shape::exactly(OP, &format!("the gradient of {name}"), param.value().shape(), grad.shape())?;
                let lr = factor * lr.unwrap_or(self.config.lr());
                let (number, slots) = self.before(backend, &param)?;
                moving.push(Moving { step: Step { lr, decay, number }, value: param.value(), slots, grad: grad.clone() });
                params.push(param);
            }
        }
        if params.is_empty() {
            return Err(Error::value(OP, "no trained parameter of this module has a gradient: are these another model's gradients?"));
        }
        // Everything is computed before anything is set.
        let moved = self.config.all_moved(backend, &moving)?;
        if moved.len() != moving.len() {
            return Err(Error::value(OP, format!("the rule moved {} of {} parameters", moved.len(), moving.len())));
        }
        for ((param, before), (value, slots)) in params.into_iter().zip(moving).zip(moved) {
            param.set(value)?;
            self.states.insert(param.identity(), ParamState { step: before.step.number, slots });
        }
        self.steps += 1;
        Ok(())
    }

    /// Counts a step in which nothing is moved: there was nothing to learn from.
    pub fn pass(&mut self) {
        self.steps += 1;
    }

    /// The number of a parameter's next step, and what is remembered of it until then.
    fn before(&self, backend: &B, param: &Param<B>) -> Result<(u64, Vec<Tensor<B>>)> {
        match self.state(param) {
            Some(state) => Ok((state.step + 1, state.slots.clone())),
            None => {
                let zeros = |_: &&str| backend.full(param.value().shape(), 0.0);
                Ok((1, self.config.slots().iter().map(zeros).collect::<Result<_>>()?))
            }
        }
    }
}

/// Refuses numbers that are negative or not finite.
fn check_sizes<const N: usize>(numbers: [(&'static str, f64); N]) -> Result<()> {
    match numbers.into_iter().find(|(_, value)| !(*value >= 0.0 && value.is_finite())) {
        Some((name, value)) => Err(Error::config(name, value, "must be finite and at least 0")),
        None => Ok(()),
    }
}

/// Refuses numbers that are no share of what was before.
fn check_shares<const N: usize>(numbers: [(&'static str, f64); N]) -> Result<()> {
    match numbers.into_iter().find(|(_, value)| !(0.0..1.0).contains(value)) {
        Some((name, value)) => Err(Error::config(name, value, "must lie in [0, 1)")),
        None => Ok(()),
    }
}

/// a x + b y.
fn combined<B: Backend>(backend: &B, [a, b]: [f64; 2], [x, y]: [&Tensor<B>; 2]) -> Result<Tensor<B>> {
    let scaled = |factor: f64, x: &Tensor<B>| if factor == 1.0 { Ok(x.clone()) } else { backend.unary(Unary::Linear(factor, 0.0), x) };
    backend.binary(Binary::Add, &scaled(a, x)?, &scaled(b, y)?)
}
