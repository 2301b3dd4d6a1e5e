//! A batch: some samples of a data set, padded to the longest of them.

/// The inputs of a [`Batch`], row-major.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Inputs {
    /// Token ids of shape (batch, length), [`Vocabulary::PAD`](crate::data::Vocabulary::PAD) behind the end of a sequence.
    Tokens(Vec<u32>),
    /// Real values of shape (batch, length, d_input), 0 behind the end of a sequence.
    Values {
        /// The values.
        values: Vec<f32>,
        /// The number of values at one time step.
        d_input: usize,
    },
}

/// Samples padded to the longest of them, as [`Dataset::batch`](crate::data::Dataset::batch) makes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// What the model reads.
    pub inputs: Inputs,
    /// The number of time steps of each sample before the padding, each from 1 to `length`: `batch` of them.
    pub lengths: Vec<usize>,
    /// The class of each sample: `batch` of them, of pairs half as many.
    pub labels: Vec<usize>,
    /// Where numbers are to be found instead of classes, that of each sample on the scale it is learnt on; otherwise empty.
    pub targets: Vec<f32>,
    /// The number of sequences: of pairs all first ones come first, then all second ones.
    pub batch: usize,
    /// The number of time steps, padding included: that of the longest sample.
    pub length: usize,
}

impl Batch {
    /// The shape of the inputs: (batch, length) for tokens, (batch, length, d_input) for values.
    pub fn shape(&self) -> Vec<usize> {
        match &self.inputs {
            Inputs::Tokens(_) => vec![self.batch, self.length],
            Inputs::Values { d_input, .. } => vec![self.batch, self.length, *d_input],
        }
    }

    /// The token ids, or `None` where the inputs are values.
    pub fn tokens(&self) -> Option<&[u32]> {
        match &self.inputs {
            Inputs::Tokens(tokens) => Some(tokens),
            Inputs::Values { .. } => None,
        }
    }

    /// The values, or `None` where the inputs are tokens.
    pub fn values(&self) -> Option<&[f32]> {
        match &self.inputs {
            Inputs::Values { values, .. } => Some(values),
            Inputs::Tokens(_) => None,
        }
    }
}
