//! Storage on a device, and transfer between it and the host: what every other family stands on.

use super::{Real, Tensor};
use crate::error::Result;

/// Where values live, and the way there and back.
pub trait Transfer: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// The scalar.
    type Elem: Real;
    /// Where the values live; a clone shares them.
    type Storage: Clone + Send + Sync + 'static;

    /// A short name for people, as in "cpu-f32".
    fn name(&self) -> String;
    /// Moves host values, row-major, to the device.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where `shape` does not hold as many values.
    #[allow(clippy::wrong_self_convention, reason = "from_vec and to_vec are a pair, and the device is the receiver of both")]
    fn from_vec(&self, values: Vec<Self::Elem>, shape: &[usize]) -> Result<Tensor<Self>>;
    /// Copies the values to the host, row-major.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) where the device failed in this or an earlier call.
    fn to_vec(&self, x: &Tensor<Self>) -> Result<Vec<Self::Elem>>;
    /// The values of several tensors, by one wait for the device.
    ///
    /// # Errors
    /// As [`Transfer::to_vec`].
    fn to_vecs(&self, tensors: &[&Tensor<Self>]) -> Result<Vec<Vec<Self::Elem>>> {
        tensors.iter().map(|x| self.to_vec(x)).collect()
    }
    /// The same values for an op to remember until its gradient is asked for: where the device can make them again from a tensor that somebody
    /// else holds anyway, without their numbers.
    fn lean(&self, x: &Tensor<Self>) -> Tensor<Self> {
        x.clone()
    }
    /// Whether calls return before their work is done, so that a transfer to the host waits for all of it. Then the loop of a trainer reads
    /// the numbers of many steps at once.
    fn is_asynchronous(&self) -> bool {
        false
    }
    /// How many bytes a tensor had better have at most, so that what one op leaves is still in the caches for the next: a pass over a batch
    /// that keeps nothing for gradients goes slice by slice then. `None` where larger is better.
    fn cached_bytes(&self) -> Option<usize> {
        None
    }
    /// A tensor of one repeated value.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) where no memory holds such a shape.
    fn full(&self, shape: &[usize], value: f64) -> Result<Tensor<Self>>;
}
