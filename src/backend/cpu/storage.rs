//! The storage of a tensor's values: a buffer; or what they are made of, while nobody asks for numbers: bits of spikes, a normalisation.

use std::sync::{Arc, OnceLock, Weak};

use super::buffer::{Buffer, Pool};
use super::derived::Kept;
use super::normalized::Normal;
use super::spike_bits::Packed;
use crate::backend::{NormAxes, Real};

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

/// A [`Normal`] with storages; `X` is how x is held: by itself, or only as long as somebody else does.
pub struct Recipe<E: Real, X = Storage<E>> {
    /// As of [`Normal`].
    pub axes: NormAxes,
    /// As of [`Normal`].
    pub eps: E,
    /// As of [`Normal`].
    pub shape: [usize; 3],
    /// x.
    pub x: X,
    /// gamma, beta, mean, variance.
    pub parts: [Storage<E>; 4],
}

impl<E: Real, X> Recipe<E, X> {
    /// The same where x is held in another way.
    pub fn holding<Y>(&self, x: Y) -> Recipe<E, Y> {
        Recipe { axes: self.axes, eps: self.eps, shape: self.shape, x, parts: self.parts.clone() }
    }
}

impl<E: Real> Recipe<E> {
    /// What it says.
    pub fn normal(&self) -> Normal<'_, E> {
        let Recipe { axes, eps, shape, x, parts } = self;
        Normal { axes: *axes, eps: *eps, shape: *shape, x: x.values(), parts: parts.each_ref().map(Storage::values) }
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

#[cfg(test)]
mod tests {
    use crate::backend::cpu::{Cpu, values};
    use crate::backend::{Key, NormAxes, Normalization, Random, Tensor, Transfer};

    /// Numbers, and what BatchNorm makes of them.
    fn normalized(cpu: &Cpu<f32>) -> (Tensor<Cpu<f32>>, Tensor<Cpu<f32>>) {
        let x = cpu.normal(Key::new(4), &[2, 3, 5]).unwrap();
        let [gamma, beta] = [1.5, 0.25].map(|value| cpu.full(&[3], value).unwrap());
        let made = cpu.normalize(NormAxes::Batch, &x, &gamma, &beta, 1e-5).unwrap().output;
        (x, made)
    }

    #[test]
    fn a_lean_tensor_has_no_numbers_until_somebody_asks() {
        let cpu = Cpu::<f32>::new();
        let (x, made) = normalized(&cpu);
        let lean = cpu.lean(&made);
        assert!(made.storage().normal().is_none() && lean.storage().normal().is_some());
        let numbers = values(&made).to_vec();
        drop((x, made));
        assert_eq!(values(&lean), numbers);
        assert!(lean.storage().normal().is_none());
    }

    #[test]
    fn what_nobody_else_holds_is_not_made_again() {
        let cpu = Cpu::<f32>::new();
        let (x, made) = normalized(&cpu);
        drop(x);
        assert_eq!(values(&cpu.lean(&made)).as_ptr(), values(&made).as_ptr());
    }

    #[test]
    fn numbers_that_were_written_over_are_not_those_of_the_recipe() {
        let cpu = Cpu::<f32>::new();
        let (_x, mut made) = normalized(&cpu);
        made.storage_mut().own_values().unwrap().fill(7.0);
        assert_eq!(values(&cpu.lean(&made)), [7.0; 30]);
    }

    #[test]
    fn a_buffer_goes_only_where_it_is_nobody_elses() {
        let cpu = Cpu::<f32>::new();
        let (_x, made) = normalized(&cpu);
        let lean = cpu.lean(&made);
        let held = made.clone();
        let shared = made.into_storage().into_buffer().unwrap_err();
        drop(held);
        assert_eq!(shared.into_buffer().ok().unwrap().len(), 30);
        assert!(lean.into_storage().into_buffer().is_err());
    }
}
