//! The CPU backend: rustfft, a GEMM crate, rayon, and the domain kernels written for wide vectors.
//!
//! A family of methods is implemented in the file, or the folder, of its name: it maps tensors onto the plain slices that the loops take.

mod buffer;
mod convolution;
mod derived;
mod elementwise;
mod layout;
mod learning;
mod mixing;
mod normalization;
mod normalized;
mod products;
mod random;
mod reductions;
mod scan;
mod spike_bits;
mod spiking;
mod ssm;
mod storage;
mod transfer;
mod transposed_rows;

use std::sync::Arc;

use self::buffer::{Buffer, Pool};
use self::convolution::long_conv::NegacyclicFfts;
use self::products::fft::Plans;
use self::spike_bits::Packed;
use self::storage::Storage;
use super::host::threads::{PIECE, for_each_piece};
use super::{Real, Tensor, Transfer};

/// The CPU, computing in `E` (f32 or f64), on the threads of the current rayon pool with feature `parallel`.
///
/// A thread of that pool (within `rayon::scope` or `ThreadPool::install`) works along with the others; any other thread hands its work over and
/// sleeps until it is done, which is slower where tensors are small. Where the pool has one thread, the caller does the work itself.
///
/// Clones share a pool of buffers and the tables of transforms.
#[derive(Clone)]
pub struct Cpu<E: Real> {
    pool: Arc<Pool<E>>,
    /// Buffers that are used within one method only: in the tensors' pool they would push out larger buffers that are worth keeping.
    scratch: Arc<Pool<E>>,
    plans: Arc<Plans<E>>,
    rings: Arc<NegacyclicFfts<E>>,
}

impl<E: Real> Cpu<E> {
    /// A CPU device.
    pub fn new() -> Self {
        let scratch = Arc::new(Pool::for_scratch());
        Cpu { rings: Arc::new(NegacyclicFfts::new(&scratch)), scratch, pool: Arc::new(Pool::for_tensors()), plans: Arc::default() }
    }

    /// A tensor of `shape` that `fill` writes; it must write every element.
    fn make(&self, shape: &[usize], fill: impl FnOnce(&mut [E])) -> Tensor<Self> {
        let mut buffer = self.pool.dirty(shape.iter().product());
        fill(&mut buffer);
        self.wrap(buffer, shape)
    }

    fn wrap(&self, buffer: Buffer<E>, shape: &[usize]) -> Tensor<Self> {
        Tensor::from_storage(Storage::dense(buffer), shape)
    }

    fn own(&self, values: Vec<E>, shape: &[usize]) -> Tensor<Self> {
        self.wrap(Buffer::owned(values), shape)
    }

    /// A buffer where one is wanted.
    fn buffer_if(&self, wanted: bool, len: usize) -> Option<Buffer<E>> {
        wanted.then(|| self.pool.zeros(len))
    }

    /// Where the gradient of an input goes, if it is wanted, that has the shape of the output's gradient `g`, which is given away: over its values,
    /// where nobody else shares them. Else these stay apart.
    fn over(&self, g: Tensor<Self>, wanted: bool) -> (Option<Tensor<Self>>, Option<Buffer<E>>) {
        if !wanted {
            return (Some(g), None);
        }
        let shape = g.shape().to_vec();
        match g.into_storage().into_buffer() {
            Ok(buffer) => (None, Some(buffer)),
            Err(shared) => {
                let room = self.pool.dirty(shape.iter().product());
                (Some(Tensor::from_storage(shared, &shape)), Some(room))
            }
        }
    }

    /// The values of `x` to write in: its own where nobody else shares them.
    fn given(&self, x: Tensor<Self>) -> Buffer<E> {
        x.into_storage().into_buffer().unwrap_or_else(|shared| {
            let values = shared.values();
            let mut copy = self.pool.dirty(values.len());
            for_each_piece(&mut copy, PIECE, |i, out| out.copy_from_slice(&values[i * PIECE..][..out.len()]));
            copy
        })
    }

    fn wrap_if(&self, buffer: Option<Buffer<E>>, shape: &[usize]) -> Option<Tensor<Self>> {
        buffer.map(|buffer| self.wrap(buffer, shape))
    }
}

impl<E: Real> Default for Cpu<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Real> std::fmt::Debug for Cpu<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

/// The values of a tensor.
fn values<E: Real>(x: &Tensor<Cpu<E>>) -> &[E] {
    x.storage().values()
}

/// Where something that is made of a tensor's values is kept with them, if it can be.
fn kept<E: Real>(x: &Tensor<Cpu<E>>) -> Option<&derived::Kept<E>> {
    x.storage().kept()
}

/// The bits of a tensor of spikes, unless it was given another shape since.
fn packed<E: Real>(x: &Tensor<Cpu<E>>) -> Option<&Packed> {
    x.storage().packed().filter(|packed| packed.shape() == x.shape())
}

/// (B, H, L) of a tensor of two or three axes; L = 1 for two.
fn sequence<E: Real>(x: &Tensor<Cpu<E>>) -> [usize; 3] {
    let shape = x.shape();
    [shape[0], shape[1], shape[2..].iter().product()]
}

/// The rows of (.., channels, length), mutable, by channel: those of channel h in the order in which they stand.
fn rows_by_channel<E>(values: &mut [E], channels: usize, length: usize) -> Vec<Vec<&mut [E]>> {
    let mut rows: Vec<Vec<&mut [E]>> = (0..channels).map(|_| Vec::new()).collect();
    values.chunks_exact_mut(length.max(1)).enumerate().for_each(|(i, row)| rows[i % channels].push(row));
    rows
}
