//! Constants that are counted out on the host: ranges and one-hot rows.

use crate::autodiff::{Tape, Var};
use crate::backend::{Backend, Real, shape};
use crate::error::{Error, Result};

/// Constants.
///
/// ```
/// # use pspikessm::{autodiff::Tape, backend::*};
/// # fn main() -> pspikessm::Result<()> {
/// let tape = Tape::new(&Cpu::<f64>::new());
/// assert_eq!(tape.arange(0.0, 1.0, 0.25)?.to_vec()?, [0.0, 0.25, 0.5, 0.75]);
/// assert_eq!(tape.one_hot(&[2, 0], 3)?.to_vec()?, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
/// # Ok(()) }
/// ```
impl<B: Backend> Tape<B> {
    /// `start`, `start + step`, .. up to `end`, which is left out: (n), where n may be 0. Entry i is `start + i * step`, rounded once.
    ///
    /// # Errors
    /// [`Error::Config`] where a number is not finite, `step` is 0 or leads away from `end`; [`Error::Value`] where no memory holds them.
    #[doc(alias = "linspace")]
    pub fn arange(&self, start: f64, end: f64, step: f64) -> Result<Var<B>> {
        let steps = (end - start) / step;
        if !steps.is_finite() || steps < 0.0 {
            return Err(Error::config("step", step, format!("must be finite, not 0, and lead from {start} to {end}")));
        }
        let count = steps.ceil() as usize;
        shape::countable("arange", &[count])?;
        let values = (0..count).map(|i| B::Elem::of(start + i as f64 * step)).collect();
        Ok(self.constant(&self.backend().from_vec(values, &[count])?))
    }

    /// A row for every label, 1 at the label and 0 elsewhere: (labels, classes).
    ///
    /// # Errors
    /// [`Error::Value`] where a label is not a class or no memory holds the rows.
    pub fn one_hot(&self, labels: &[usize], classes: usize) -> Result<Var<B>> {
        const OP: &str = "one_hot";
        if let Some(at) = labels.iter().position(|&label| label >= classes) {
            let help = format!("label {} at position {at} is not one of {classes} classes: labels count from 0", labels[at]);
            return Err(Error::value(OP, help));
        }
        shape::countable(OP, &[labels.len(), classes])?;
        let mut values = vec![B::Elem::of(0.0); labels.len() * classes];
        labels.iter().enumerate().for_each(|(row, &label)| values[row * classes + label] = B::Elem::of(1.0));
        Ok(self.constant(&self.backend().from_vec(values, &[labels.len(), classes])?))
    }
}
