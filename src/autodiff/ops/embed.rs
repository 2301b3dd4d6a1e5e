//! `Embed`: rows of a table for tokens.

use std::rc::Rc;

use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads, operands, variables};
use crate::backend::{Backend, Tensor};
use crate::error::Result;

/// Rows of a table (V, H) for tokens (batch, length), as (batch, H, length); one input, the table.
#[derive(Clone, Debug)]
pub struct Embed {
    /// The tokens, sequence after sequence.
    pub tokens: Rc<[u32]>,
    /// The number of sequences.
    pub batch: usize,
}

impl<B: Backend> Op<B> for Embed {
    const NAME: &'static str = "embed";
    /// The table's number of rows.
    type Saved = usize;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [table] = operands("embed", inputs)?;
        Ok((backend.embed(table, &self.tokens, self.batch)?, table.shape()[0]))
    }

    fn backward(&self, backend: &B, rows: usize, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        Ok(vec![Some(backend.embed_grad(rows, &self.tokens, grad)?)])
    }

    fn derivative(&self, inputs: &[Var<B>], _: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        let [table] = variables("embed", inputs)?;
        let adjoint = EmbedAdjoint { tokens: self.tokens.clone(), rows: table.shape()[0] };
        Ok(vec![Some(grad.tape().apply(adjoint, &[grad])?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Linear
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        // Short vocabularies repeat tokens, long ones leave rows unused.
        let mut cases = Vec::new();
        for (vocabulary, batches) in [(1, 1..=3), (3, 1..=3), (50, 2..=3)] {
            let [batch, length, features] = [generate.size(batches), generate.size(1..=9), generate.size(1..=5)];
            let tokens = (0..batch * length).map(|_| generate.size(0..=vocabulary - 1) as u32).collect();
            cases.push(Case::new(Embed { tokens, batch }, [generate.normal(&[vocabulary, features])]));
        }
        cases
    }
}

/// Sums of the columns of (batch, H, length) into the rows of a table (V, H) that their tokens pick: the adjoint of [`Embed`]; one input.
#[derive(Clone, Debug)]
pub struct EmbedAdjoint {
    /// The tokens, sequence after sequence.
    pub tokens: Rc<[u32]>,
    /// The table's number of rows.
    pub rows: usize,
}

impl<B: Backend> Op<B> for EmbedAdjoint {
    const NAME: &'static str = "embed_adjoint";
    /// The number of sequences.
    type Saved = usize;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("embed_adjoint", inputs)?;
        Ok((backend.embed_grad(self.rows, &self.tokens, x)?, x.shape()[0]))
    }

    fn backward(&self, backend: &B, batch: usize, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        Ok(vec![Some(backend.embed(grad, &self.tokens, batch)?)])
    }

    fn derivative(&self, inputs: &[Var<B>], _: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        let [x] = variables("embed_adjoint", inputs)?;
        Ok(vec![Some(grad.embed(&self.tokens, x.shape()[0])?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Linear
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let mut cases = Vec::new();
        for rows in [1, 3, 50] {
            let [batch, length, features] = [generate.size(1..=3), generate.size(1..=9), generate.size(1..=5)];
            let tokens = (0..batch * length).map(|_| generate.size(0..=rows - 1) as u32).collect();
            cases.push(Case::new(EmbedAdjoint { tokens, rows }, [generate.normal(&[batch, features, length])]));
        }
        cases
    }
}

impl<B: Backend> Var<B> {
    /// The rows of this table (V, H) for `batch` sequences of tokens, one after another in `tokens`: (batch, H, length).
    ///
    /// ```
    /// # use pspikessm::{autodiff::Tape, backend::*};
    /// # fn main() -> pspikessm::Result<()> {
    /// let cpu = Cpu::<f64>::new();
    /// let table = Tape::new(&cpu).leaf(&cpu.from_vec(vec![0.0, 0.5, 1.0, 1.5, 2.0, 2.5], &[3, 2])?);
    /// let sequences = table.embed(&[2, 0, 1, 1], 2)?;
    /// assert_eq!(sequences.shape(), [2, 2, 2]);
    /// assert_eq!(sequences.to_vec()?, [2.0, 0.0, 2.5, 0.5, 1.0, 1.0, 1.5, 1.5]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where this is not a table (V, H); [`Error::Value`](crate::Error::Value) where a token is not
    /// in the vocabulary, or the tokens do not make `batch` sequences of one length, which is at least 1.
    #[doc(alias = "embedding")]
    pub fn embed(&self, tokens: &[u32], batch: usize) -> Result<Var<B>> {
        self.tape().apply(Embed { tokens: tokens.into(), batch }, &[self])
    }
}
