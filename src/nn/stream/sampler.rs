//! A SpikeSampler in steps: the affine map, the norm where one stands between, and the draw or the neuron.

use super::norm::StepNorm;
use super::rows::{affine, apply, exceed, integrate, integrate_each, padded, to_bits};
use super::{Chunk, Noise};
use crate::backend::host::vectors::ROWS;
use crate::backend::{Backend, Lif, Plif, Real, Unary};
use crate::error::Result;
use crate::nn::plif::PlifNeurons;
use crate::nn::{Norm, Param, Site, SpikeSampler, SpikeSource};

/// How potentials become spikes.
#[derive(Debug)]
enum Fire<E> {
    /// With the uniform numbers of this draw of the block.
    Draw(usize),
    /// By integration.
    Lif(Lif),
    /// By integration, with a decay and a threshold a channel.
    Plif { neuron: Plif, decay: Vec<E>, threshold: Vec<E> },
}

/// Where a block draws spikes, and how.
#[derive(Debug)]
pub struct Sampler<E> {
    /// Where.
    pub site: Site,
    channels: usize,
    affine: Option<(Vec<E>, Vec<E>)>,
    /// After the affine map.
    norm: Option<StepNorm<E>>,
    fire: Fire<E>,
}

/// What a sampler makes of some rows.
pub struct Spikes<'a, E> {
    /// Zeros and ones, (rows, tiles 16).
    pub lanes: &'a mut [E],
    /// The same as bits, (rows, tiles).
    pub bits: &'a mut [u16],
}

impl<E: Real> Sampler<E> {
    /// The sampler at `site` that takes its block's draw number `draw`; `norm` normalises its potentials.
    pub fn new<B: Backend<Elem = E>>(
        backend: &B,
        site: Site,
        sampler: &SpikeSampler<B>,
        (draw, channels): (usize, usize),
        norm: Option<&Norm<B>>,
    ) -> Result<Self> {
        let fire = match sampler.source() {
            SpikeSource::Probability(_) => Fire::Draw(draw),
            SpikeSource::Lif(lif) => Fire::Lif(lif),
            SpikeSource::Plif(config) => {
                let values =
                    |pick: fn(&PlifNeurons<B>) -> &Param<B>| sampler.plif().map(|own| backend.to_vec(&pick(own).value())).transpose();
                let (mut decay, threshold) =
                    (values(|own| &own.decay)?.unwrap_or_default(), values(|own| &own.threshold)?.unwrap_or_default());
                apply(Unary::Sigmoid, &mut decay);
                Fire::Plif { neuron: config.neuron(), decay: padded(&decay), threshold: padded(&threshold) }
            }
        };
        let mut own = Sampler { site, channels, affine: None, norm: None, fire };
        if let Some((scale, shift)) = &sampler.affine {
            let (scale, shift) = (backend.to_vec(&scale.value())?, backend.to_vec(&shift.value())?);
            let folded = norm.map(|norm| StepNorm::folded(backend, norm, &scale, &shift)).transpose()?.flatten();
            own.norm = norm.filter(|_| folded.is_none()).map(|norm| StepNorm::new(backend, norm)).transpose()?;
            own.affine = Some(folded.unwrap_or_else(|| (padded(&scale), padded(&shift))));
        }
        Ok(own)
    }

    /// How many numbers a neuron remembers: none where spikes are drawn.
    pub fn remembered(&self) -> usize {
        match self.fire {
            Fire::Draw(_) => 0,
            Fire::Lif(_) => 1,
            Fire::Plif { .. } => 3,
        }
    }

    /// Bytes of parameters.
    pub fn bytes(&self) -> usize {
        let affine = self.affine.as_ref().map_or(0, |(scale, shift)| scale.len() + shift.len());
        let neurons = if let Fire::Plif { decay, threshold, .. } = &self.fire { decay.len() + threshold.len() } else { 0 };
        (affine + neurons + self.norm.as_ref().map_or(0, StepNorm::len)) * size_of::<E>()
    }

    /// The spikes of the potentials `x`, (rows, tiles 16), through `scratch`, two rows; `carries` are what the neurons of all streams
    /// remember, (streams, remembered, tiles 16).
    pub fn sample(&self, chunk: &Chunk<'_>, x: &[E], noise: &Noise<E>, carries: &mut [E], scratch: &mut [E], out: Spikes<'_, E>) {
        let width = self.channels.next_multiple_of(ROWS);
        let (first, second) = scratch.split_at_mut(width);
        for (row, (x, lanes)) in x.chunks_exact(width).zip(out.lanes.chunks_exact_mut(width)).enumerate().take(chunk.rows()) {
            let potential: &[E] = match (&self.affine, &self.norm) {
                (None, _) => x,
                (Some((scale, shift)), None) => {
                    affine(x, scale, shift, first);
                    first
                }
                (Some((scale, shift)), Some(norm)) => {
                    affine(x, scale, shift, second);
                    norm.apply(second, self.channels, first);
                    first
                }
            };
            let size = self.remembered() * width;
            let carries = &mut carries[(chunk.first + row / chunk.steps) * size..][..size];
            match &self.fire {
                Fire::Draw(draw) => exceed(potential, noise.row(*draw, row, width), lanes),
                Fire::Lif(lif) => integrate(lif, potential, carries, lanes),
                Fire::Plif { neuron, decay, threshold } => integrate_each(neuron, decay, threshold, potential, carries, lanes),
            }
            // Neurons that fill up the last tile may integrate to a threshold below zero.
            lanes[self.channels..].fill(E::zero());
        }
        let rows = chunk.rows() * width;
        to_bits(&out.lanes[..rows], out.bits);
    }
}
