//! The two ends of a model in steps: the encoder, and pooling with the head.

use super::rows::{add_times, dot, padded};
use super::{Chunk, Signal};
use crate::backend::host::vectors::ROWS;
use crate::backend::{Backend, Real};
use crate::error::{Error, Result};
use crate::nn::model::{EncoderLayer, Pooling};
use crate::nn::{Encoder, Linear};

/// The encoder: rows that are picked, or added up.
#[derive(Debug)]
pub struct StepEncoder<E> {
    kind: Encoder,
    /// A row, padded to whole tiles, for every token or value.
    rows: Vec<E>,
    /// What is added to values' rows.
    bias: Vec<E>,
}

impl<E: Real> StepEncoder<E> {
    pub fn new<B: Backend<Elem = E>>(backend: &B, layer: &EncoderLayer<B>, kind: Encoder) -> Result<Self> {
        match layer {
            EncoderLayer::Tokens(embedding) => {
                let (table, width) = (backend.to_vec(&embedding.weight.value())?, embedding.weight.value().shape()[1]);
                Ok(StepEncoder { kind, rows: table.chunks_exact(width).flat_map(padded).collect(), bias: Vec::new() })
            }
            EncoderLayer::Values(linear) => {
                let (weight, d_input) = (backend.to_vec(&linear.weight.value())?, linear.weight.value().shape()[1]);
                let column = |k: usize| padded(&weight[k..].iter().step_by(d_input).copied().collect::<Vec<E>>());
                Ok(StepEncoder {
                    kind,
                    rows: (0..d_input).flat_map(column).collect(),
                    bias: padded(&backend.to_vec(&linear.bias.value())?),
                })
            }
        }
    }

    /// Bytes of parameters.
    pub fn bytes(&self) -> usize {
        (self.rows.len() + self.bias.len()) * size_of::<E>()
    }

    /// Numbers a time step.
    pub fn size(&self) -> usize {
        match self.kind {
            Encoder::Tokens(_) => 1,
            Encoder::Values(d_input) => d_input,
        }
    }

    /// How many time steps of each of `streams` streams a signal holds, where it is of the right kind and can be read.
    pub fn steps(&self, signal: Signal<'_>, streams: usize) -> Result<usize> {
        const OP: &str = "Stream";
        let count = match (self.kind, signal) {
            (Encoder::Tokens(vocabulary), Signal::Tokens(tokens)) => {
                if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
                    return Err(Error::value(OP, format!("token {token} is outside the vocabulary of {vocabulary}")));
                }
                tokens.len()
            }
            (Encoder::Values(_), Signal::Values(values)) => {
                if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                    return Err(Error::value(OP, format!("input value {} at position {at} is not finite", values[at])));
                }
                values.len()
            }
            (Encoder::Tokens(_), Signal::Values(_)) => return Err(Error::value(OP, "this model reads tokens, but values were given")),
            (Encoder::Values(_), Signal::Tokens(_)) => return Err(Error::value(OP, "this model reads values, but tokens were given")),
        };
        let each = streams * self.size();
        if count == 0 || !count.is_multiple_of(each) {
            let help = format!(
                "{count} numbers are not the same number of time steps, at least one, for {streams} streams of {} a step",
                self.size()
            );
            return Err(Error::value(OP, help));
        }
        Ok(count / each)
    }

    /// Encodes a chunk out of a signal (streams, length): its streams from number `from` of the signal on, its steps from step `begin` on.
    pub fn encode(&self, chunk: &Chunk<'_>, signal: Signal<'_>, (from, begin, length): (usize, usize, usize), width: usize, x: &mut [E]) {
        for (row, x) in x.chunks_exact_mut(width).enumerate().take(chunk.rows()) {
            let at = (from + row / chunk.steps) * length + begin + row % chunk.steps;
            match signal {
                Signal::Tokens(tokens) => x.copy_from_slice(&self.rows[tokens[at] as usize * width..][..width]),
                Signal::Values(values) => {
                    x.copy_from_slice(&self.bias);
                    let values = &values[at * self.size()..][..self.size()];
                    for (&value, column) in values.iter().zip(self.rows.chunks_exact(width)) {
                        add_times(x, E::of(f64::from(value)), column);
                    }
                }
            }
        }
    }
}

/// Pooling and the head.
#[derive(Debug)]
pub struct StepHead<E> {
    pooling: Pooling,
    /// A row, padded to whole tiles, for every class.
    weights: Vec<E>,
    bias: Vec<E>,
}

impl<E: Real> StepHead<E> {
    pub fn new<B: Backend<Elem = E>>(backend: &B, linear: &Linear<B>, pooling: Pooling) -> Result<Self> {
        let (weight, d_model) = (backend.to_vec(&linear.weight.value())?, linear.weight.value().shape()[1]);
        let weights = weight.chunks_exact(d_model).flat_map(padded).collect();
        Ok(StepHead { pooling, weights, bias: backend.to_vec(&linear.bias.value())? })
    }

    /// Bytes of parameters.
    pub fn bytes(&self) -> usize {
        (self.weights.len() + self.bias.len()) * size_of::<E>()
    }

    pub fn classes(&self) -> usize {
        self.bias.len()
    }

    /// Takes one more row into what is pooled so far: a sum, in f64 so that a million rows lose nothing, or the last row.
    pub fn pool(&self, row: &[E], pooled: &mut [f64]) {
        match self.pooling {
            Pooling::Mean => pooled.iter_mut().zip(row).for_each(|(sum, x)| *sum += x.f64()),
            Pooling::Last => pooled.iter_mut().zip(row).for_each(|(last, x)| *last = x.f64()),
        }
    }

    /// The logits after `steps` rows; `scratch` is a row.
    pub fn logits(&self, pooled: &[f64], steps: u64, scratch: &mut [E], logits: &mut [E]) {
        let count = match self.pooling {
            Pooling::Mean => steps as f64,
            Pooling::Last => 1.0,
        };
        scratch.iter_mut().zip(pooled).for_each(|(x, sum)| *x = E::of(sum / count));
        let width = pooled.len().next_multiple_of(ROWS);
        for ((logit, weights), &bias) in logits.iter_mut().zip(self.weights.chunks_exact(width)).zip(&self.bias) {
            *logit = dot(weights, &scratch[..width]) + bias;
        }
    }
}
