//! Embedding: a row of a table for every token.

use super::{Context, Module, Names, Param, ParamOptions};
use crate::autodiff::Var;
use crate::backend::{Backend, Key};
use crate::error::{Error, Result};

/// A table (vocabulary, d_model) of which every token picks a row.
#[derive(Clone, Debug)]
pub struct Embedding<B: Backend> {
    /// The table.
    pub weight: Param<B>,
}

impl<B: Backend> Embedding<B> {
    /// Standard normal entries.
    ///
    /// # Errors
    /// [`Error::Config`] where a size is 0.
    pub fn new(backend: &B, key: Key, vocabulary: usize, d_model: usize) -> Result<Self> {
        if vocabulary == 0 || d_model == 0 {
            return Err(Error::config("Embedding", format!("({vocabulary}, {d_model})"), "both sizes must be at least 1"));
        }
        Ok(Embedding { weight: Param::new(backend.normal(key, &[vocabulary, d_model])?, ParamOptions::DECAYED) })
    }

    /// Tokens (batch, length), row-major, to (batch, d_model, length).
    ///
    /// # Errors
    /// [`Error::Value`] for a token outside the vocabulary or an empty batch.
    pub fn forward(&self, cx: &Context<'_, B>, tokens: &[u32], batch: usize) -> Result<Var<B>> {
        cx.var(&self.weight).embed(tokens, batch)
    }
}

impl<B: Backend> Module<B> for Embedding<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        names.param("weight", &self.weight);
    }
}
