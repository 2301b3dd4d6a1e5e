//! GRU and LSTM: gated recurrences, one time step after another.

use super::linear::fan_in_uniform;
use super::time_steps::{join, split};
use super::{Context, Module, Names, Param, ParamOptions};
use crate::autodiff::Var;
use crate::backend::{Backend, Key, shape};
use crate::error::{Error, Result};

/// The weights of all gates, one below the other: of the input and of the hidden state.
#[derive(Debug)]
struct Gates<B: Backend> {
    /// (gates x d_hidden, d_input).
    input_weight: Param<B>,
    /// (gates x d_hidden, d_hidden).
    hidden_weight: Param<B>,
    /// (gates x d_hidden); no weight decay.
    input_bias: Param<B>,
    /// (gates x d_hidden); no weight decay.
    hidden_bias: Param<B>,
}

impl<B: Backend> Gates<B> {
    fn new(op: &'static str, backend: &B, key: Key, [gates, d_input, d_hidden]: [usize; 3]) -> Result<Self> {
        if d_input == 0 || d_hidden == 0 {
            return Err(Error::config(op, format!("{d_input} -> {d_hidden}"), "both sizes must be at least 1"));
        }
        let rows = gates * d_hidden;
        let uniform = |at, shape: &[usize], options| fan_in_uniform(backend, key.fold(at), shape, d_hidden, options);
        Ok(Gates {
            input_weight: uniform(0, &[rows, d_input], ParamOptions::DECAYED)?,
            hidden_weight: uniform(1, &[rows, d_hidden], ParamOptions::DECAYED)?,
            input_bias: uniform(2, &[rows], ParamOptions::PLAIN)?,
            hidden_bias: uniform(3, &[rows], ParamOptions::PLAIN)?,
        })
    }

    fn d_hidden(&self) -> usize {
        self.hidden_weight.value().shape()[1]
    }

    /// What x (B, d_input, L) gives to the gates at every time step, (B, gates x d_hidden) each: one product for all steps.
    fn of_input(&self, op: &'static str, cx: &Context<'_, B>, x: &Var<B>) -> Result<Vec<Var<B>>> {
        let [batch, _, length] = shape::sequence(op, "the input", x.shape())?;
        let d_input = self.input_weight.value().shape()[1];
        shape::exactly(op, "the input", &[batch, d_input, length], x.shape())?;
        let gates = Var::mix(&[x], &cx.var(&self.input_weight), &cx.var(&self.input_bias))?;
        split(&gates.permute(&[2, 0, 1])?)
    }

    /// What the hidden state (B, d_hidden) gives to the gates.
    fn of_hidden(&self, cx: &Context<'_, B>, hidden: &Var<B>) -> Result<Var<B>> {
        hidden.matmul_transposed(&cx.var(&self.hidden_weight), false, true)?.add(&cx.var(&self.hidden_bias))
    }

    /// The state (B, d_hidden) that was given, or zeros.
    fn state(&self, op: &'static str, cx: &Context<'_, B>, x: &Var<B>, given: Option<&Var<B>>) -> Result<Var<B>> {
        let wanted = [x.shape()[0], self.d_hidden()];
        match given {
            Some(state) => shape::exactly(op, "the state", &wanted, state.shape()).map(|()| state.clone()),
            None => Ok(cx.tape().constant(&cx.backend().full(&wanted, 0.0)?)),
        }
    }
}

impl<B: Backend> Module<B> for Gates<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        names.param("weight_ih", &self.input_weight);
        names.param("weight_hh", &self.hidden_weight);
        names.param("bias_ih", &self.input_bias);
        names.param("bias_hh", &self.hidden_bias);
    }
}

/// The hidden states of all time steps, (B, d_hidden, L).
fn sequence<B: Backend>(states: &[Var<B>]) -> Result<Var<B>> {
    join(states)?.permute(&[1, 2, 0])
}

/// A gated recurrent unit (Cho et al. 2014), with PyTorch's gates:
///
/// ```text
/// r = sigmoid(Wr x + br + Ur h + cr)
/// z = sigmoid(Wz x + bz + Uz h + cz)
/// n = tanh(Wn x + bn + r (Un h + cn))
/// h = (1 - z) n + z h
/// ```
///
/// ```
/// use pspikessm::{autodiff::Tape, backend::*, nn::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f32>::new();
/// let gru = Gru::new(&cpu, Key::new(0), 3, 8)?;
/// let tape = Tape::new(&cpu);
/// let cx = Context::training(&tape, Key::new(1));
/// let x = tape.constant(&cpu.normal(Key::new(2), &[2, 3, 10])?);
/// let (states, last) = gru.forward(&cx, &x, None)?;
/// assert_eq!((states.shape(), last.shape()), (&[2, 8, 10][..], &[2, 8][..]));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Gru<B: Backend> {
    /// r, z and n.
    gates: Gates<B>,
}

impl<B: Backend> Gru<B> {
    /// Weights and biases uniform in +-1/sqrt(d_hidden), as PyTorch.
    ///
    /// # Errors
    /// [`Error::Config`] where a size is 0.
    pub fn new(backend: &B, key: Key, d_input: usize, d_hidden: usize) -> Result<Self> {
        Ok(Gru { gates: Gates::new("Gru", backend, key, [3, d_input, d_hidden])? })
    }

    /// The hidden states of x (B, d_input, L) at every time step, (B, d_hidden, L), and the last one, (B, d_hidden), from which another call
    /// goes on; it begins at `initial` (B, d_hidden), or at 0.
    ///
    /// # Errors
    /// [`Error::Shape`] where x has another number of axes or channels, or the initial state another shape; [`Error::Value`] where x is
    /// empty.
    pub fn forward(&self, cx: &Context<'_, B>, x: &Var<B>, initial: Option<&Var<B>>) -> Result<(Var<B>, Var<B>)> {
        let inputs = self.gates.of_input("Gru", cx, x)?;
        let mut hidden = self.gates.state("Gru", cx, x, initial)?;
        let mut states = Vec::with_capacity(inputs.len());
        for input in &inputs {
            hidden = self.step(cx, input, &hidden)?;
            states.push(hidden.clone());
        }
        Ok((sequence(&states)?, hidden))
    }

    fn step(&self, cx: &Context<'_, B>, input: &Var<B>, hidden: &Var<B>) -> Result<Var<B>> {
        let (size, recurrent) = (self.gates.d_hidden(), self.gates.of_hidden(cx, hidden)?);
        let both = input.slice(1, 0, 2 * size)?.add(&recurrent.slice(1, 0, 2 * size)?)?.sigmoid()?;
        let (reset, update) = (both.slice(1, 0, size)?, both.slice(1, size, size)?);
        let new = input.slice(1, 2 * size, size)?.add(&reset.mul(&recurrent.slice(1, 2 * size, size)?)?)?.tanh()?;
        new.add(&update.mul(&hidden.sub(&new)?)?)
    }
}

impl<B: Backend> Module<B> for Gru<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        self.gates.names(names);
    }
}

/// The state of an [`Lstm`], (B, d_hidden) each.
#[derive(Clone, Debug)]
pub struct LstmState<B: Backend> {
    /// h.
    pub hidden: Var<B>,
    /// c.
    pub cell: Var<B>,
}

/// Long short-term memory (Hochreiter and Schmidhuber 1997), with PyTorch's gates:
///
/// ```text
/// i = sigmoid(Wi x + bi + Ui h + ci)        f and o likewise
/// g = tanh(Wg x + bg + Ug h + cg)
/// c = f c + i g
/// h = o tanh(c)
/// ```
///
/// ```
/// use pspikessm::{autodiff::Tape, backend::*, nn::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let lstm = Lstm::new(&cpu, Key::new(0), 3, 8)?;
/// let tape = Tape::off(&cpu);
/// let cx = Context::evaluation(&tape, Key::new(1));
/// let x = tape.constant(&cpu.normal(Key::new(2), &[2, 3, 10])?);
/// let (whole, _) = lstm.forward(&cx, &x, None)?;
/// // In two calls, the second from the state that the first one left.
/// let (_, state) = lstm.forward(&cx, &x.slice(2, 0, 4)?, None)?;
/// let (rest, _) = lstm.forward(&cx, &x.slice(2, 4, 6)?, Some(&state))?;
/// assert_eq!(rest.to_vec()?, whole.slice(2, 4, 6)?.to_vec()?);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Lstm<B: Backend> {
    /// i, f, g and o.
    gates: Gates<B>,
}

impl<B: Backend> Lstm<B> {
    /// Weights and biases uniform in +-1/sqrt(d_hidden), as PyTorch.
    ///
    /// # Errors
    /// [`Error::Config`] where a size is 0.
    pub fn new(backend: &B, key: Key, d_input: usize, d_hidden: usize) -> Result<Self> {
        Ok(Lstm { gates: Gates::new("Lstm", backend, key, [4, d_input, d_hidden])? })
    }

    /// The hidden states of x (B, d_input, L) at every time step, (B, d_hidden, L), and the state behind the last one, from which another
    /// call goes on; it begins at `initial`, or at 0.
    ///
    /// # Errors
    /// As [`Gru::forward`].
    pub fn forward(&self, cx: &Context<'_, B>, x: &Var<B>, initial: Option<&LstmState<B>>) -> Result<(Var<B>, LstmState<B>)> {
        let inputs = self.gates.of_input("Lstm", cx, x)?;
        let given = |part: fn(&LstmState<B>) -> &Var<B>| self.gates.state("Lstm", cx, x, initial.map(part));
        let mut state = LstmState { hidden: given(|state| &state.hidden)?, cell: given(|state| &state.cell)? };
        let mut states = Vec::with_capacity(inputs.len());
        for input in &inputs {
            state = self.step(cx, input, &state)?;
            states.push(state.hidden.clone());
        }
        Ok((sequence(&states)?, state))
    }

    fn step(&self, cx: &Context<'_, B>, input: &Var<B>, state: &LstmState<B>) -> Result<LstmState<B>> {
        let size = self.gates.d_hidden();
        let gates = input.add(&self.gates.of_hidden(cx, &state.hidden)?)?;
        let both = gates.slice(1, 0, 2 * size)?.sigmoid()?;
        let (write, keep) = (both.slice(1, 0, size)?, both.slice(1, size, size)?);
        let (new, read) = (gates.slice(1, 2 * size, size)?.tanh()?, gates.slice(1, 3 * size, size)?.sigmoid()?);
        let cell = keep.mul(&state.cell)?.add(&write.mul(&new)?)?;
        Ok(LstmState { hidden: read.mul(&cell.tanh()?)?, cell })
    }
}

impl<B: Backend> Module<B> for Lstm<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        self.gates.names(names);
    }
}
