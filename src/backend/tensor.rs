//! `Tensor`: shared storage with a shape, always contiguous and row-major.

use super::{Transfer, shape};
use crate::error::Result;

/// Values on a backend. Cloning shares the storage: no backend method ever changes a tensor that someone else can see.
pub struct Tensor<B: Transfer> {
    storage: B::Storage,
    shape: Vec<usize>,
}

/// One gradient an operand, `None` where it was not asked for.
pub(in crate::backend) type Grads<B, const N: usize> = [Option<Tensor<B>>; N];

impl<B: Transfer> Tensor<B> {
    /// A tensor of a backend's storage and a shape. For the authors of backends: nothing checks that the storage holds so many values.
    pub fn from_storage(storage: B::Storage, shape: &[usize]) -> Self {
        Tensor { storage, shape: shape.into() }
    }

    /// The backend's storage.
    pub fn storage(&self) -> &B::Storage {
        &self.storage
    }

    /// The storage, for a backend that was given the tensor.
    pub(in crate::backend) fn storage_mut(&mut self) -> &mut B::Storage {
        &mut self.storage
    }

    /// The storage of a tensor that is given away.
    pub(in crate::backend) fn into_storage(self) -> B::Storage {
        self.storage
    }

    /// The length of every axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }

    /// The same values under another shape with as many elements; no copy.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where the number of elements differs.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        shape::same_numel("reshape", &self.shape, shape)?;
        Ok(Tensor { storage: self.storage.clone(), shape: shape.into() })
    }
}

impl<B: Transfer> Clone for Tensor<B> {
    fn clone(&self) -> Self {
        Tensor { storage: self.storage.clone(), shape: self.shape.clone() }
    }
}

impl<B: Transfer> std::fmt::Debug for Tensor<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor<{}>{:?}", std::any::type_name::<B>(), self.shape)
    }
}
