//! An operation of one's own by two closures.

use std::rc::Rc;

use super::higher_order::Source;
use super::{Backward, Kind, Tape, Var};
use crate::autodiff::{Needs, VarGrads};
use crate::backend::{Backend, Tensor};
use crate::error::Result;

impl<B: Backend> Tape<B> {
    /// An op made of a closure for its value and one for its gradients: of the inputs, the output, and the output's gradient, the gradient
    /// of every input, `None` where an input has none.
    ///
    /// Nothing in `forward` is differentiated, so it may leave the tape: [`Var::value`] and [`Tape::backend`] have the tensors. `backward`
    /// answers in variables, and so the op has derivatives of all orders on a tape of [higher order](Tape::higher_order).
    /// [`gradcheck()`](crate::autodiff::gradcheck()) and [`gradgradcheck`](crate::autodiff::gradgradcheck) check it. An op that is to run
    /// with fewer saved values, or belongs to a library, implements [`Op`](crate::autodiff::Op).
    ///
    /// ```
    /// use pspikessm::autodiff::{Array, Tape, Var, gradcheck};
    /// use pspikessm::backend::*;
    /// use pspikessm::Result;
    ///
    /// /// x^3.
    /// fn cube<B: Backend>(tape: &Tape<B>, x: &Var<B>) -> Result<Var<B>> {
    ///     tape.custom("cube", &[x], |x| x[0].square()?.mul(&x[0]), |x, _, grad| Ok(vec![Some(x[0].square()?.scale(3.0)?.mul(grad)?)]))
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let inputs = [Array { values: vec![0.5, -2.0], shape: vec![2] }];
    /// gradcheck(&Cpu::<f64>::new(), |tape, v| cube(tape, &v[0]), &inputs)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What `forward` answers; as [`Tape::apply`]. Running backwards: what `backward` answers, [`Error::Shape`](crate::Error::Shape) where
    /// a gradient has not its input's shape, [`Error::Gradient`](crate::Error::Gradient) where one is missing that is needed.
    pub fn custom(
        &self,
        name: &'static str,
        inputs: &[&Var<B>],
        forward: impl FnOnce(&[Var<B>]) -> Result<Var<B>>,
        backward: impl Fn(&[Var<B>], &Var<B>, &Var<B>) -> Result<VarGrads<B>> + 'static,
    ) -> Result<Var<B>> {
        let (tape, needs) = self.place(name, inputs)?;
        let off = Tape::off(&tape.backend);
        let value = forward(&inputs.iter().map(|v| off.constant(&v.value)).collect::<Vec<_>>())?.value;
        if !needs.any() {
            return Ok(tape.constant(&value));
        }
        let backward = Rc::new(backward);
        let recorded = backward.clone();
        let higher = move |inputs: &[Var<B>], output: &Var<B>, grad: &Var<B>, _: Needs| recorded(inputs, output, grad);
        let source = tape.is_higher_order().then(|| Source::new(inputs, &value, higher));
        let saved: Vec<Tensor<B>> = inputs.iter().map(|v| v.value.clone()).collect();
        let output = value.clone();
        let first: Backward<B> = Box::new(move |_, grad, _| {
            let inputs: Vec<Var<B>> = saved.iter().map(|value| off.constant(value)).collect();
            let grads = backward(&inputs, &off.constant(&output), &off.constant(&grad))?;
            Ok(grads.into_iter().map(|grad| grad.map(|grad| grad.value)).collect())
        });
        Ok(tape.record(name, inputs, value, Kind::Op(first), source))
    }
}
