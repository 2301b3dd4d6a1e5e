//! Recomputation: a segment of a computation that keeps its inputs alone, and is run again where its gradients are wanted.
//!
//! Going backwards, the tape records the segment in the place of its node, between the same neighbours, and goes on. So every sum is made
//! in the order in which it would have been made without, and the gradients are the same bits.

use std::cell::RefCell;

use super::{Kind, Phase, Recording, Tape, Var};
use crate::backend::{Backend, Tensor, shape};
use crate::error::{Error, Result};

const OP: &str = "checkpoint";

type Run<B> = dyn Fn(&Tape<B>, &[Var<B>]) -> Result<Var<B>>;

/// What is kept of a segment. Inputs are values and places, not variables, which would hold the tape that holds them.
pub(super) struct Segment<B: Backend> {
    inputs: Vec<(Tensor<B>, Option<usize>)>,
    run: Box<Run<B>>,
}

impl<B: Backend> Tape<B> {
    /// What `segment` makes of `inputs`. Nothing that it computes is kept: it is run again when the tape runs backwards, and freed again.
    /// So a chain of segments needs the memory of its inputs and of one segment, for the time of a second forward pass.
    ///
    /// The gradients are the bits that they would be without, of everything that the segment uses: its inputs, parameters
    /// ([`Tape::parameter`], [`Context::var`](crate::nn::Context::var)), and variables of this tape that it holds. It must compute the
    /// same both times. Random numbers do, since they are drawn by key; [`Tape::is_recomputing`] tells the second time, for what is to
    /// happen once, as the move of a BatchNorm's running statistics. Where nothing is recorded, and on a tape of
    /// [higher order](Tape::higher_order), which keeps everything, the segment is simply run.
    ///
    /// ```
    /// use pspikessm::{autodiff::Tape, backend::*};
    /// # fn main() -> pspikessm::Result<()> {
    /// let cpu = Cpu::<f64>::new();
    /// let tape = Tape::new(&cpu);
    /// let x = tape.leaf(&cpu.from_vec(vec![0.5, -1.0], &[2])?);
    /// let y = tape.checkpoint(&[&x], |_, inputs| inputs[0].tanh()?.square()?.exp())?;
    /// assert_eq!(tape.len(), 2); // x, and the segment
    /// let gradients = y.sum()?.backward()?;
    ///
    /// let tape = Tape::new(&cpu);
    /// let plain = tape.leaf(x.value());
    /// let kept = plain.tanh()?.square()?.exp()?.sum()?.backward()?;
    /// assert_eq!(cpu.to_vec(gradients.of(&x)?)?, cpu.to_vec(kept.of(&plain)?)?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What `segment` answers, the second time as an error of the run backwards; there [`Error::Shape`] where it then gives another shape.
    #[doc(alias = "gradient checkpointing")]
    #[doc(alias = "remat")]
    pub fn checkpoint(&self, inputs: &[&Var<B>], segment: impl Fn(&Tape<B>, &[Var<B>]) -> Result<Var<B>> + 'static) -> Result<Var<B>> {
        let (tape, _) = self.place(OP, inputs)?;
        let vars: Vec<Var<B>> = inputs.iter().map(|&input| input.clone()).collect();
        let Some(recording) = tape.saving() else { return segment(tape, &vars) };
        let phase = recording.replace_phase(Phase::Surveying { met: false });
        let made = segment(tape, &vars);
        let surveyed = recording.replace_phase(phase);
        let made = made?;
        if surveyed == (Phase::Surveying { met: false }) && !made.needs_gradient() {
            return Ok(tape.constant(&made.value));
        }
        let kept = inputs.iter().map(|v| (v.value.clone(), v.node)).collect();
        let kind = Kind::Segment(Segment { inputs: kept, run: Box::new(segment) });
        Ok(tape.record(OP, inputs, made.value, kind, None))
    }

    /// Whether a segment of [`Tape::checkpoint`] is being run for the second time.
    pub fn is_recomputing(&self) -> bool {
        self.recording.as_ref().is_some_and(|recording| recording.borrow().phase == Phase::Recomputing)
    }

    /// The recording, where a segment would otherwise be kept.
    fn saving(&self) -> Option<&RefCell<Recording<B>>> {
        let recording = self.recording.as_deref()?;
        let Recording { phase, higher_order, .. } = *recording.borrow();
        (!higher_order && matches!(phase, Phase::Recording | Phase::Recomputing)).then_some(recording)
    }

    /// Whether a segment is run for its value alone. Where something in it `needs` a gradient, so will the segment.
    pub(super) fn surveys(&self, needs: bool) -> bool {
        let Some(recording) = &self.recording else { return false };
        match &mut recording.borrow_mut().phase {
            Phase::Surveying { met } => {
                *met |= needs;
                true
            }
            _ => false,
        }
    }

    /// Records a segment whose output had this shape: the node of its output.
    pub(super) fn record_again(&self, recording: &RefCell<Recording<B>>, segment: Segment<B>, shape: &[usize]) -> Result<Option<usize>> {
        let var = |(value, node)| Var { tape: self.clone(), value, node, leaf: None };
        let inputs: Vec<Var<B>> = segment.inputs.into_iter().map(var).collect();
        let phase = recording.replace_phase(Phase::Recomputing);
        let made = (segment.run)(self, &inputs);
        recording.replace_phase(phase);
        let made = made?;
        shape::exactly(OP, "the output of a segment's second run", shape, made.shape())?;
        match made.node {
            Some(_) if !self.shares(&made.tape) => {
                Err(Error::value(OP, "the segment was recorded on another tape: use the one it is given"))
            }
            node => Ok(node),
        }
    }
}

trait ReplacePhase {
    /// Sets the phase; the one before.
    fn replace_phase(&self, phase: Phase) -> Phase;
}

impl<B: Backend> ReplacePhase for RefCell<Recording<B>> {
    fn replace_phase(&self, phase: Phase) -> Phase {
        std::mem::replace(&mut self.borrow_mut().phase, phase)
    }
}
