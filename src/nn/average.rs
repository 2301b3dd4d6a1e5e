//! The exponential moving average of a module's parameters.

use super::{Module, Names, Param, ParamOptions};
use crate::backend::{Backend, Binary, Tensor, Unary};
use crate::error::{Error, Result};

/// Averages of a module's parameters over the steps of a training, which often classify better than the last values.
///
/// The average starts at the values of the first [`update`](Ema::update); from then on it is `decay` of itself and 1 - `decay` of the new
/// ones. Buffers, as the running statistics of a BatchNorm, are copied. (A model is [prepared](super::Model::prepare) for its longest sequence
/// before: that changes what a parameter stands for.) It is a [`Module`] itself, with the names of the module's
/// parameters: saved by [`store::save`](super::store::save), it is read by the module as its own.
///
/// ```
/// use pspikessm::{backend::*, nn::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let linear = Linear::new(&cpu, Key::new(0), 1, 1)?;
/// let mut ema = Ema::new(&linear, 0.75)?;
/// for value in [1.0, 2.0, 4.0] {
///     linear.bias.set(cpu.full(&[1], value)?)?;
///     ema.update(&cpu)?;
/// }
/// // 3/4 (3/4 1 + 1/4 2) + 1/4 4, and back.
/// ema.swap()?;
/// assert_eq!(cpu.to_vec(&linear.bias.value())?, [1.9375]);
/// ema.swap()?;
/// assert_eq!(cpu.to_vec(&linear.bias.value())?, [4.0]);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Ema<B: Backend> {
    decay: f64,
    pairs: Vec<Pair<B>>,
    updates: u64,
    swapped: bool,
}

/// A parameter and its average.
#[derive(Debug)]
struct Pair<B: Backend> {
    name: String,
    live: Param<B>,
    average: Param<B>,
}

impl<B: Backend> Ema<B> {
    /// Averages of what `module` holds now; 0.999 is a usual `decay`.
    ///
    /// # Errors
    /// [`Error::Config`] where `decay` is not in [0, 1).
    pub fn new(module: &dyn Module<B>, decay: f64) -> Result<Self> {
        if !(0.0..1.0).contains(&decay) {
            return Err(Error::config("decay", decay, "must lie in [0, 1)"));
        }
        let pair = |(name, live): (String, Param<B>)| Pair { name, average: Param::new(live.value(), ParamOptions::Buffer), live };
        Ok(Ema { decay, pairs: module.parameters().into_iter().map(pair).collect(), updates: 0, swapped: false })
    }

    /// The same after so many updates: an average whose values were loaded goes on as if it had never stopped.
    pub fn with_updates(self, updates: u64) -> Self {
        Ema { updates, ..self }
    }

    /// How often it was updated.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Takes in the present values: call it after every step of the optimiser.
    ///
    /// # Errors
    /// [`Error::Value`] while the averages stand in the module; what the device answers. Nothing is changed then.
    pub fn update(&mut self, backend: &B) -> Result<()> {
        if self.swapped {
            return Err(Error::value("Ema", "the averages stand in the module: swap them out before a training goes on"));
        }
        let copies = |pair: &Pair<B>| self.updates == 0 || pair.live.options() == ParamOptions::Buffer;
        let new = |pair| if copies(pair) { Ok(pair.live.value()) } else { self.mixed(backend, pair) };
        let values: Vec<Tensor<B>> = self.pairs.iter().map(new).collect::<Result<_>>()?;
        self.pairs.iter().zip(values).try_for_each(|(pair, value)| pair.average.set(value))?;
        self.updates += 1;
        Ok(())
    }

    fn mixed(&self, backend: &B, pair: &Pair<B>) -> Result<Tensor<B>> {
        let kept = backend.unary(Unary::Linear(self.decay, 0.0), &pair.average.value())?;
        let added = backend.unary(Unary::Linear(1.0 - self.decay, 0.0), &pair.live.value())?;
        backend.binary(Binary::Add, &kept, &added)
    }

    /// Exchanges the averages with the values in the module: in for an evaluation, and out again.
    ///
    /// # Errors
    /// None but [`Error::Shape`], which a parameter that keeps its shape does not meet.
    pub fn swap(&mut self) -> Result<()> {
        for Pair { live, average, .. } in &self.pairs {
            let value = live.value();
            live.set(average.value())?;
            average.set(value)?;
        }
        self.swapped = !self.swapped;
        Ok(())
    }

    /// Whether the averages stand in the module now.
    pub fn is_swapped(&self) -> bool {
        self.swapped
    }
}

impl<B: Backend> Module<B> for Ema<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        self.pairs.iter().for_each(|pair| names.param(&pair.name, &pair.average));
    }
}
