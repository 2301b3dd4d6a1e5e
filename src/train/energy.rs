//! An estimate of the energy of inference: accumulates where a spike meets a weight, multiply-accumulates where two real numbers meet.

use std::fmt;

use super::evaluate::LayerRate;
use crate::nn::{BlockConfig, Encoder, ModelConfig, Site};

/// pJ of a multiply-accumulate of two f32 in 45 nm CMOS: 3.7 for the product, 0.9 for the sum (Horowitz, ISSCC 2014).
pub const MULTIPLY_ACCUMULATE: f64 = 4.6;
/// pJ of an addition of two f32 in 45 nm CMOS (Horowitz, ISSCC 2014).
pub const ACCUMULATE: f64 = 0.9;

/// Operations of one time step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Operations {
    /// Additions of a weight where a spike came.
    pub accumulates: f64,
    /// Products of two real numbers, each with its addition.
    pub multiply_accumulates: f64,
}

impl Operations {
    /// pJ.
    pub fn energy(&self) -> f64 {
        self.accumulates * ACCUMULATE + self.multiply_accumulates * MULTIPLY_ACCUMULATE
    }

    fn plus(self, other: Operations) -> Operations {
        Operations {
            accumulates: self.accumulates + other.accumulates,
            multiply_accumulates: self.multiply_accumulates + other.multiply_accumulates,
        }
    }
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The part of the model.
    pub part: String,
    /// The share of spikes among what enters it; `None` where real numbers do.
    pub rate: Option<f64>,
    /// As the model is.
    pub spiking: Operations,
    /// The same with real numbers instead of spikes: every accumulate becomes a multiply-accumulate, at full rate.
    pub dense: Operations,
}

/// The operations of a model for each time step of a sequence.
///
/// The recurrent form is counted: every state is updated once a time step. A state matrix is taken as diagonalised (S4's own way of
/// inference): N/2 complex states a channel and direction, each with one complex product (4 multiply-accumulates) and a read-out of its
/// real part (2). What spikes enter, B u and D u and the SpikeMixer, accumulates at the measured rate. The affine maps of SpikeSamplers
/// are one multiply-accumulate a neuron. Not counted: GELU, norms, random numbers, memory traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The parts of the model.
    pub rows: Vec<Row>,
}

impl Table {
    /// The table of a model whose neurons spike at these rates.
    pub fn new(config: &ModelConfig, rates: &[LayerRate]) -> Self {
        let width = config.block.ssm.d_model as f64;
        let dense = |count: f64| Operations { multiply_accumulates: count, ..Operations::default() };
        let fixed = |part: &str, count: f64| Row { part: part.into(), rate: None, spiking: dense(count), dense: dense(count) };
        let mut rows = match config.encoder {
            Encoder::Tokens(_) => Vec::new(),
            Encoder::Values(d_input) => vec![fixed("encoder", width * d_input as f64)],
        };
        for layer in 0..config.layers {
            let rate = |site| rates.iter().find(|r| r.layer == layer && r.site == site).map_or(f64::NAN, |r| r.rate);
            rows.extend(block(&config.block, layer, rate));
        }
        Table { rows }
    }

    /// All rows together.
    pub fn total(&self) -> (Operations, Operations) {
        let sum = |part: fn(&Row) -> Operations| self.rows.iter().map(part).fold(Operations::default(), Operations::plus);
        (sum(|row| row.spiking), sum(|row| row.dense))
    }
}

fn block(config: &BlockConfig, layer: usize, rate: impl Fn(Site) -> f64) -> Vec<Row> {
    let (width, states) = (config.ssm.d_model as f64, config.ssm.d_state as f64);
    let directions = if config.ssm.bidirectional { 2.0 } else { 1.0 };
    let mut rows = Vec::new();
    let mut branch = |name: &str, site| {
        // B u a direction, and D u once.
        rows.push(fed(format!("layer {layer}: {name} input"), rate(site), width * (directions * states + 1.0)));
        let updates = width * directions * states * 3.0;
        // The second branch has the affine map of its input sampler only.
        let affines = if site == Site::Input { 2.0 * width } else { width };
        let states = Operations { multiply_accumulates: updates + affines, accumulates: 0.0 };
        rows.push(Row { part: format!("layer {layer}: {name} states"), rate: None, spiking: states, dense: states });
    };
    branch("SSM", Site::Input);
    if config.bidirectional {
        branch("reverse SSM", Site::ReverseInput);
    }
    let mut mix = |what: &str, site| rows.push(fed(format!("layer {layer}: SpikeMixer{what}"), rate(site), width * width));
    mix("", Site::Output);
    if config.bidirectional {
        mix(", reverse", Site::ReverseOutput);
    }
    rows
}

/// A part that spikes enter, with so many weights for each time step.
fn fed(part: String, rate: f64, weights: f64) -> Row {
    let spiking = Operations { accumulates: rate * weights, multiply_accumulates: 0.0 };
    let dense = Operations { accumulates: 0.0, multiply_accumulates: weights };
    Row { part, rate: Some(rate), spiking, dense }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "energy a time step, 45 nm: accumulate {ACCUMULATE} pJ, multiply-accumulate {MULTIPLY_ACCUMULATE} pJ")?;
        writeln!(f, "{:<28}{:>8}{:>13}{:>13}{:>12}{:>12}", "", "rate", "accumulates", "multiply-acc", "nJ", "nJ dense")?;
        let line = |f: &mut fmt::Formatter<'_>, part: &str, rate: Option<f64>, spiking: &Operations, dense: &Operations| {
            let rate = rate.map_or(String::new(), |rate| format!("{rate:.4}"));
            let [energy, dense] = [spiking, dense].map(|operations| operations.energy() / 1e3);
            let Operations { accumulates, multiply_accumulates } = spiking;
            writeln!(f, "{part:<28}{rate:>8}{accumulates:>13.0}{multiply_accumulates:>13.0}{energy:>12.3}{dense:>12.3}")
        };
        for Row { part, rate, spiking, dense } in &self.rows {
            line(f, part, *rate, spiking, dense)?;
        }
        let (spiking, dense) = self.total();
        line(f, "all", None, &spiking, &dense)?;
        write!(f, "not counted: GELU, norms, random numbers, memory traffic, the decoder (once a sequence); padding counts in the rates")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Pooling, SsmConfig};

    #[test]
    fn a_small_model_is_counted_by_hand() {
        let mut block = BlockConfig::new(SsmConfig::new(10, 4));
        block.bidirectional = false;
        let config = ModelConfig { encoder: Encoder::Values(1), block, layers: 1, pooling: Pooling::Mean, classes: 2, retrieval: false };
        let rates = [(Site::Input, 0.1), (Site::Output, 0.2)].map(|(site, rate)| LayerRate { layer: 0, site, rate });
        let (spiking, dense) = Table::new(&config, &rates).total();
        // B u: 2 directions of 4, D u: 1, for 10 channels at rate 0.1; the mixer: 10 x 10 at rate 0.2.
        assert!((spiking.accumulates - (9.0 + 20.0)).abs() < 1e-9);
        // Encoder 10, states 10 x 2 x 4 x 3, affines 20.
        assert_eq!(spiking.multiply_accumulates, 10.0 + 240.0 + 20.0);
        assert_eq!(dense.multiply_accumulates, 270.0 + 90.0 + 100.0);
        assert!((spiking.energy() - (29.0 * 0.9 + 270.0 * 4.6)).abs() < 1e-9);
    }
}
