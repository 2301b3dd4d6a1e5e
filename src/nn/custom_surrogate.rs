//! A surrogate gradient of one's own, in the place of the built-in ones.

use std::fmt;
use std::sync::Arc;

use crate::autodiff::{Tape, Var};
use crate::backend::{Backend, Noise, Spike, SpikeMode, Surrogate, Tensor};
use crate::error::Result;

/// The smooth function of the potential y and the uniform number u.
type Smooth<B> = dyn Fn(&Var<B>, &Var<B>) -> Result<Var<B>> + Send + Sync;

/// A smooth function whose derivative stands for that of a spike: of the potential y and of the uniform numbers u that it is compared
/// with, both of one shape. Only its gradient is used, never its value, and u has none. It is called in every recorded draw, and may be
/// shared by threads.
///
/// [`SpikeSampler::with_surrogate`](super::SpikeSampler::with_surrogate), [`Block::with_surrogate`](super::Block::with_surrogate) and
/// [`Model::with_surrogate`](super::Model::with_surrogate) plug it in.
///
/// ```
/// use pspikessm::{autodiff::Tape, backend::*, nn::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// // The built-in `Surrogate::Sigmoid { alpha: 4.0 }`.
/// let sigmoid = CustomSurrogate::new(|y, u| y.sub(u)?.scale(4.0)?.sigmoid());
/// let sampler = SpikeSampler::new(&cpu, 1, SpikeSource::default())?.with_surrogate(sigmoid)?;
/// let tape = Tape::new(&cpu);
/// let cx = Context::training(&tape, Key::new(0));
/// let x = tape.leaf(&cpu.full(&[1, 1, 3], 0.5)?);
/// let noise = cpu.from_vec(vec![0.25, 0.5, 0.75], &[1, 1, 3])?;
/// let spikes = sampler.forward(&cx, &x, Noise::Given(noise))?;
/// assert_eq!(spikes.to_vec()?, [1.0, 0.0, 0.0]);
/// let slopes = cpu.to_vec(spikes.sum()?.backward()?.of(&x)?)?;
/// assert!((slopes[1] - 1.0).abs() < 1e-12 && slopes[0] == slopes[2]);
/// # Ok(()) }
/// ```
pub struct CustomSurrogate<B: Backend> {
    smooth: Arc<Smooth<B>>,
}

impl<B: Backend> Clone for CustomSurrogate<B> {
    fn clone(&self) -> Self {
        CustomSurrogate { smooth: self.smooth.clone() }
    }
}

impl<B: Backend> fmt::Debug for CustomSurrogate<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomSurrogate")
    }
}

impl<B: Backend> CustomSurrogate<B> {
    /// The derivative of `smooth` by its first argument.
    pub fn new(smooth: impl Fn(&Var<B>, &Var<B>) -> Result<Var<B>> + Send + Sync + 'static) -> Self {
        CustomSurrogate { smooth: Arc::new(smooth) }
    }

    /// Spikes of the potential y: 1 where y > u, else 0; backwards, the gradient of the smooth function.
    pub(super) fn spikes(&self, y: &Var<B>, noise: Noise<Tensor<B>>) -> Result<Var<B>> {
        let backend = y.tape().backend();
        let spike = Spike { noise: noise.clone(), mode: SpikeMode::Sampled, surrogate: Surrogate::Clamp };
        let spikes = Tape::off(backend).constant(y.value()).spike(spike)?;
        if !y.needs_gradient() {
            return Ok(spikes);
        }
        let noise = match noise {
            Noise::Stream(draw) => backend.draw_uniform(draw, y.shape())?,
            Noise::Given(noise) => noise,
        };
        let smooth = (self.smooth)(y, &y.tape().constant(&noise))?;
        // The value of a finite number less itself is an exact 0.
        spikes.add(&smooth.sub(&smooth.detach())?)
    }
}
