//! The storage of a tensor's values: a buffer; or what they are made of, while nobody asks for numbers: bits of spikes, a normalisation.

use std::sync::{Arc, OnceLock, Weak};

use super::buffer::{Buffer, Pool};
use super::derived::Kept;
use super::normalized::{Normal, Recipe};
use super::spike_bits::Packed;
use crate::backend::Real;

/// Values of a tensor; a clone shares them.
#[derive(Clone)]
pub struct Storage<E: Real>(Arc<Values<E>>);

enum Values<E: Real> {
    /// Numbers, and how a normalisation made them, if one did.
    Dense { buffer: Buffer<E>, kept: Kept<E>, recipe: Option<Recipe<E, Weak<Values<E>>>> },
    /// Numbers that are made when they are asked for, in a buffer from the pool.
    Lazy { source: Source<E>, dense: OnceLock<Buffer<E>>, pool: Arc<Pool<E>> },
}

enum Source<E: Real> {
    Spikes(Packed),
    Normalized(Recipe<E>),
}

impl<E: Real> Source<E> {
    fn numbers(&self, pool: &Arc<Pool<E>>) -> Buffer<E> {
        match self {
            Source::Spikes(packed) => {
                let mut buffer = pool.dirty(packed.shape().iter().product());
                packed.expand(&mut buffer);
                buffer
            }
            Source::Normalized(recipe) => {
                let mut buffer = pool.dirty(recipe.shape.iter().product());
                recipe.normal().fill(&mut buffer);
                buffer
            }
        }
    }
}

impl<E: Real> Storage<E> {
    /// Numbers.
    pub fn dense(buffer: Buffer<E>) -> Self {
        Storage(Arc::new(Values::Dense { buffer, kept: Kept::default(), recipe: None }))
    }

    /// Numbers that this recipe has made.
    pub fn normalized(buffer: Buffer<E>, recipe: &Recipe<E>) -> Self {
        let recipe = Some(recipe.holding(Arc::downgrade(&recipe.x.0)));
        Storage(Arc::new(Values::Dense { buffer, kept: Kept::default(), recipe }))
    }

    /// Spikes, and where the buffer comes from if they are ever asked for as numbers.
    pub fn spikes(packed: Packed, pool: &Arc<Pool<E>>) -> Self {
        Self::lazy(Source::Spikes(packed), pool)
    }

    fn lazy(source: Source<E>, pool: &Arc<Pool<E>>) -> Self {
        Storage(Arc::new(Values::Lazy { source, dense: OnceLock::new(), pool: pool.clone() }))
    }

    /// The same values, as what they are made of where that is held by somebody else anyway; in a buffer from `pool` if they are asked for again.
    pub fn lean(&self, pool: &Arc<Pool<E>>) -> Self {
        let Values::Dense { recipe: Some(recipe), .. } = &*self.0 else { return self.clone() };
        match recipe.x.upgrade() {
            Some(x) => Self::lazy(Source::Normalized(recipe.holding(Storage(x))), pool),
            None => self.clone(),
        }
    }

    /// The values, row-major.
    pub fn values(&self) -> &[E] {
        match &*self.0 {
            Values::Dense { buffer, .. } => buffer,
            Values::Lazy { source, dense, pool } => {
                if dense.get().is_none() {
                    // Outside of the lock: a thread that waits for its part of the work may take up somebody else's, which asks for the same.
                    // Whoever was first has the same numbers.
                    drop(dense.set(source.numbers(pool)));
                }
                dense.get().map_or(&[], |buffer| buffer)
            }
        }
    }

    /// The values, where nobody else shares them and they are numbers.
    pub fn own_values(&mut self) -> Option<&mut [E]> {
        match Arc::get_mut(&mut self.0)? {
            Values::Dense { buffer, kept, recipe } => {
                kept.clear();
                *recipe = None;
                Some(buffer)
            }
            Values::Lazy { .. } => None,
        }
    }

    /// The buffer, where nobody else shares it.
    pub fn into_buffer(self) -> Result<Buffer<E>, Self> {
        match Arc::try_unwrap(self.0) {
            Ok(Values::Dense { buffer, .. }) => Ok(buffer),
            Ok(lazy) => Err(Storage(Arc::new(lazy))),
            Err(shared) => Err(Storage(shared)),
        }
    }

    /// Where something that is made of the values is kept with them, if they are numbers.
    pub fn kept(&self) -> Option<&Kept<E>> {
        match &*self.0 {
            Values::Dense { kept, .. } => Some(kept),
            Values::Lazy { .. } => None,
        }
    }

    /// The bits, where the values are spikes.
    pub fn packed(&self) -> Option<&Packed> {
        match &*self.0 {
            Values::Lazy { source: Source::Spikes(packed), .. } => Some(packed),
            _ => None,
        }
    }

    /// How to make the values, where they are normalised and there are no numbers.
    pub fn normal(&self) -> Option<Normal<'_, E>> {
        match &*self.0 {
            Values::Lazy { source: Source::Normalized(recipe), dense, .. } if dense.get().is_none() => Some(recipe.normal()),
            _ => None,
        }
    }
}
