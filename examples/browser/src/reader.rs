//! A causal model that reads a square picture pixel by pixel, and what its spikes cost.

use pspikessm::backend::{Cpu, Key};
use pspikessm::nn::{Encoder, Model, ModelConfig, Site, Stream, StreamConfig};
use pspikessm::{Error, Result};

/// pJ of an addition, and of a product with its addition, of two f32 in 45 nm CMOS (Horowitz, ISSCC 2014), as in `train::energy`.
const ACCUMULATE: f64 = 0.9;
const MULTIPLY_ACCUMULATE: f64 = 4.6;

/// One stream of a model, and the spikes of the picture that it sees.
pub struct Reader {
    stream: Stream<f32>,
    config: ModelConfig,
    side: usize,
    order: Vec<usize>,
    entered: u64,
    left: u64,
}

impl Reader {
    /// The reader of a model's file. The side of its pictures is the root of the length that its kernels were trained for.
    ///
    /// # Errors
    /// What [`Model::from_bytes`] and [`Model::stream`] refuse; [`Error::Config`] where a picture does not fit the model.
    pub fn open(bytes: &[u8]) -> Result<Self> {
        let cpu = Cpu::new();
        let model = Model::from_bytes(&cpu, bytes)?;
        let config = model.config().clone();
        let pixels = config.block.ssm.l_max.unwrap_or(0);
        let side = pixels.isqrt();
        if side * side != pixels || side == 0 {
            return Err(Error::config("l_max", pixels, "a reader wants a model of square pictures: as many time steps as pixels"));
        }
        if config.encoder != Encoder::Values(1) || config.block.bidirectional {
            return Err(Error::config("encoder", format!("{:?}", config.encoder), "a reader wants one value a time step and one branch"));
        }
        let stream = model.stream_with(&cpu, 1, StreamConfig::default().key(Key::new(0)))?;
        Ok(Reader { stream, config, side, order: bit_reversed(pixels), entered: 0, left: 0 })
    }

    /// Pixels along each side.
    pub fn side(&self) -> usize {
        self.side
    }

    /// The pixel that this time step shows; the first one behind the last step.
    pub fn pixel(&self, step: usize) -> usize {
        self.order.get(step).copied().unwrap_or_default()
    }

    /// Blocks.
    pub fn layers(&self) -> usize {
        self.config.layers
    }

    /// Neurons of a block at each site.
    pub fn neurons(&self) -> usize {
        self.config.block.ssm.d_model
    }

    /// Classes.
    pub fn classes(&self) -> usize {
        self.config.classes
    }

    /// Begins a picture with the random numbers of this sample.
    ///
    /// # Errors
    /// None: the stream is there.
    pub fn begin(&mut self, sample: u64) -> Result<()> {
        (self.entered, self.left) = (0, 0);
        self.stream.begin(0, sample)
    }

    /// Shows the next pixel.
    ///
    /// # Errors
    /// [`Error::Value`] where it is not finite.
    pub fn see(&mut self, value: f32) -> Result<()> {
        self.stream.step(&[value])?;
        for layer in 0..self.layers() {
            self.entered += self.spikes(layer, false).count() as u64;
            self.left += self.spikes(layer, true).count() as u64;
        }
        Ok(())
    }

    /// The neurons of a layer that spiked in the last step: what entered its SSM, or what left it for the mixer.
    pub fn spikes(&self, layer: usize, output: bool) -> impl Iterator<Item = u32> {
        let site = if output { Site::Output } else { Site::Input };
        self.stream.spikes(layer, site, 0).into_iter().flatten().map(|neuron| neuron as u32)
    }

    /// The probability of every class so far; nothing is known before the first pixel.
    pub fn probabilities(&self) -> Vec<f32> {
        let logits = self.stream.logits();
        if self.stream.heard() == [0] {
            return vec![1.0 / logits.len() as f32; logits.len()];
        }
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f32> = logits.iter().map(|logit| (logit - top).exp()).collect();
        let all: f32 = weights.iter().sum();
        weights.iter().map(|weight| weight / all).collect()
    }

    /// Spikes since the picture began.
    pub fn spike_count(&self) -> u64 {
        self.entered + self.left
    }

    /// Products of two real numbers in a step: the encoder, and of every channel N/2 complex states, 6 each, and two affine maps.
    fn products(&self) -> f64 {
        let (width, states) = (self.neurons() as f64, self.config.block.ssm.d_state as f64);
        width + self.layers() as f64 * width * (3.0 * states + 2.0)
    }

    /// pJ since the picture began: a spike that enters adds B and D of its channel, one that leaves adds a row of the mixer's weights.
    pub fn energy(&self) -> f64 {
        let additions = self.entered as f64 * (self.config.block.ssm.d_state as f64 + 1.0) + self.left as f64 * self.neurons() as f64;
        additions * ACCUMULATE + self.steps() * self.products() * MULTIPLY_ACCUMULATE
    }

    /// pJ of the same picture with real numbers in the place of spikes.
    pub fn dense_energy(&self) -> f64 {
        let (width, states) = (self.neurons() as f64, self.config.block.ssm.d_state as f64);
        let fed = self.layers() as f64 * width * (states + 1.0 + width);
        self.steps() * (self.products() + fed) * MULTIPLY_ACCUMULATE
    }

    fn steps(&self) -> f64 {
        self.stream.heard()[0] as f64
    }
}

/// The pixels in bit-reversed order, as psMNIST shows them: the numbers below the next power of two, each with its bits in reverse,
/// without those that are no pixel.
fn bit_reversed(pixels: usize) -> Vec<usize> {
    let size = pixels.next_power_of_two();
    // One pixel has no bits, and a shift by all of them would overflow.
    let reversed = |number: usize| number.reverse_bits().checked_shr(usize::BITS - size.trailing_zeros()).unwrap_or(0);
    (0..size).map(reversed).filter(|&pixel| pixel < pixels).collect()
}
