//! Unread steps: the loop does not wait for a device at every step, but reads the numbers of many steps at once.
//!
//! A step computes the same with its numbers read or not. What is late is its report, and the error where something in it is not finite: the
//! run, which is lost anyway, has then gone on for some steps.

use super::learner::Learner;
use super::trainer::{StepReport, Trainer};
use super::unread_queue::UnreadStep;
use crate::backend::{Backend, Real, Tensor};
use crate::error::{Error, Result};

/// Steps between reads, at most.
const MOST: usize = 32;

impl<B: Backend, L: Learner<B>> Trainer<B, L> {
    /// Whether the next step can be left unread, and is worth it. Processes that train together tell each other their numbers at every step,
    /// and to limit the gradients' norm it must be known.
    pub(super) fn may_leave_unread(&self) -> bool {
        self.backend.is_asynchronous() && self.unread.may_begin && self.group.is_alone() && self.plan.run.clip.is_none()
    }

    /// Takes a step and reads nothing.
    ///
    /// # Errors
    /// As [`step`](Self::step), but for what the step's own numbers would tell: that is an error of [`settle`](Self::settle).
    pub(super) fn step_unread(&mut self) -> Result<()> {
        let tried = self.try_unread();
        if tried.is_err() {
            self.rewind_data();
            self.unread.may_begin = false;
        }
        tried?;
        if self.unread.steps.len() < MOST { Ok(()) } else { self.settle() }
    }

    fn try_unread(&mut self) -> Result<()> {
        let Some((passes, gradients)) = self.gradients_unread()? else { return self.leave_out() };
        let (number, factor, parameters) = (self.steps_done() + 1, self.rate_factor(), self.learner.module().parameters());
        let given = parameters.iter().filter_map(|(_, param)| Some((param.identity(), gradients.of_parameter(param.identity())?)));
        let (identities, tensors): (Vec<u64>, Vec<&Tensor<B>>) = given.unzip();
        let found = self.backend.place_not_finite(&tensors)?;
        self.optimizer.update(&self.backend, self.learner.module(), &gradients, factor)?;
        let values: Vec<Tensor<B>> = parameters.iter().map(|(_, param)| param.value()).collect();
        let parameters = self.backend.place_not_finite(&values.iter().collect::<Vec<_>>())?;
        self.average()?;
        self.unread.steps.push(UnreadStep { number, passes, gradients: (found, identities), parameters });
        Ok(())
    }

    /// Reads what is unread, by one wait, and remembers its reports.
    ///
    /// # Errors
    /// [`Error::NonFinite`] of the first step in which something is not finite; what the device answers.
    pub(super) fn settle(&mut self) -> Result<()> {
        let steps = std::mem::take(&mut self.unread.steps);
        if steps.is_empty() {
            return Ok(());
        }
        // An error on the way is one of these steps.
        self.unread.may_begin = false;
        let tensors: Vec<&Tensor<B>> = steps.iter().flat_map(UnreadStep::tensors).collect();
        let mut values = self.backend.to_vecs(&tensors)?.into_iter();
        for step in steps {
            let report = self.read(step, &mut values)?;
            self.remember(report);
        }
        self.unread.may_begin = true;
        Ok(())
    }

    /// The report of a step, out of what was read.
    fn read(&self, step: UnreadStep<B>, values: &mut impl Iterator<Item = Vec<B::Elem>>) -> Result<StepReport> {
        let not_finite = |what: String| Err(Error::NonFinite { what, step: step.number });
        let mut reports = Vec::new();
        for (count, pass) in step.passes {
            let value = pass.value(values);
            if !value.is_finite() {
                // The parameters were finite: the step before has said so.
                return not_finite("the loss".into());
            }
            reports.push((count, StepReport::of(&pass.rest(value, values)?)));
        }
        let mut place = || Some(values.next()?.first()?.f64() as usize).and_then(|found| found.checked_sub(1));
        let (gradient, parameter, named) = (place(), place(), self.learner.module().parameters());
        if let Some(place) = gradient {
            let own = |(_, param): &&(String, _)| crate::nn::Param::<B>::identity(param) == step.gradients.1[place];
            return not_finite(format!("the gradient of {}", named.iter().find(own).map_or("a parameter", |(name, _)| name)));
        }
        match parameter {
            Some(place) => not_finite(named[place].0.clone()),
            None => Ok(StepReport::of_batch(&reports)),
        }
    }
}
