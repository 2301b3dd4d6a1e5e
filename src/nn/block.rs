//! The P-SpikeSSM block: SpikeSampler, SSM, SpikeSampler, SpikeMixer, ClampFuse, in one or two branches.

use serde::{Deserialize, Serialize};

use super::{
    Activation, ClampFuse, Context, CustomSurrogate, Module, Names, Norm, NormKind, Site, SpikeMixer, SpikeSampler, SpikeSource, Ssm,
    SsmConfig,
};
use crate::autodiff::Var;
use crate::backend::{Backend, Key, Noise, Real, Tensor, shape};
use crate::error::{Error, Result};

/// The configuration of a block, in a recipe the section `[model.block]`. [`BlockConfig::new`] gives the official bidirectional one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct BlockConfig {
    /// A second branch with its own SSM; the SpikeMixer then mixes both.
    #[serde(default = "yes")]
    pub bidirectional: bool,
    /// Add the block's input to its output through ClampFuse.
    #[serde(default = "yes")]
    pub residual: bool,
    /// The normalisation, if any.
    pub norm: Option<NormKind>,
    /// Normalise before the first SpikeSampler instead of after the block.
    #[serde(default)]
    pub prenorm: bool,
    /// Dropout of the residual branch, tied over the length.
    #[serde(default)]
    pub dropout: f64,
    /// The SpikeMixer's non-linearity.
    #[serde(default)]
    pub activation: Activation,
    /// How potentials become spikes.
    #[serde(default)]
    pub source: SpikeSource,
    /// Own uniform numbers for every draw; the official code uses the first ones again for the spikes that are mixed.
    #[serde(default)]
    pub own_noise: bool,
    /// Run the second branch backwards in time; the official code runs both in the same order.
    #[serde(default)]
    pub flip_reverse: bool,
    /// Clamp the residual itself to [0, 1].
    #[serde(default)]
    pub clamp_residual: bool,
    /// The SSM of every branch; its d_model is the block's.
    pub ssm: SsmConfig,
}

/// What a file gets that leaves out the second branch or the residual.
fn yes() -> bool {
    true
}

impl BlockConfig {
    /// Two branches, residual, BatchNorm after the block, no dropout: the ListOps block.
    pub fn new(ssm: SsmConfig) -> Self {
        BlockConfig {
            ssm,
            bidirectional: true,
            residual: true,
            norm: Some(NormKind::Batch),
            prenorm: false,
            dropout: 0.0,
            activation: Activation::Gelu,
            source: SpikeSource::default(),
            own_noise: false,
            flip_reverse: false,
            clamp_residual: false,
        }
    }

    /// The same with one branch and a causal kernel in it: no output depends on later inputs.
    pub fn causal(self) -> Self {
        let ssm = self.ssm.clone().causal();
        self.bidirectional(false).ssm(ssm)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`]: what [`SsmConfig::check`] and [`PlifConfig::check`](super::PlifConfig::check) refuse, dropout outside [0, 1).
    pub fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::config("dropout", self.dropout, "must lie in [0, 1)"));
        }
        if let SpikeSource::Plif(neurons) = self.source {
            neurons.check()?;
        }
        self.ssm.check()
    }

    /// The number of uniform draws in a forward pass, each of the input's shape.
    pub fn draws(&self) -> usize {
        if self.bidirectional && self.own_noise { 4 } else { 2 }
    }
}

impl BlockConfig {
    /// Which draw makes the output spikes of the first branch, and which those of the second. Input spikes are of draw 0 and of draw 1.
    pub(super) fn output_draws(&self) -> (usize, usize) {
        match (self.bidirectional, self.own_noise) {
            (true, false) => (0, 0),
            (true, true) => (2, 3),
            (false, _) => (1, 1),
        }
    }
}

setters! {
    BlockConfig {
        ssm: SsmConfig,
        bidirectional: bool,
        residual: bool,
        norm: impl Into<Option<NormKind>>,
        prenorm: bool,
        dropout: f64,
        activation: Activation,
        source: SpikeSource,
        own_noise: bool,
        flip_reverse: bool,
        clamp_residual: bool,
    }
}

/// One branch from the block's input to a potential: a SpikeSampler and an SSM.
#[derive(Clone, Debug)]
pub(super) struct Branch<B: Backend> {
    pub(super) sampler: SpikeSampler<B>,
    pub(super) ssm: Ssm<B>,
}

impl<B: Backend> Branch<B> {
    fn new(backend: &B, key: Key, config: &BlockConfig) -> Result<Self> {
        let sampler = SpikeSampler::new(backend, config.ssm.d_model, config.source)?;
        Ok(Branch { sampler, ssm: Ssm::new(backend, key, &config.ssm)? })
    }
}

impl<B: Backend> Module<B> for Branch<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        names.module("sampler", &self.sampler);
        names.module("ssm", &self.ssm);
    }
}

/// A block, (B, H, L) to (B, H, L):
///
/// ```text
/// a = inp x + inp_b          normalised if prenorm
/// f = out SSM(a > u1) + out_b
/// r = SSM_r(inp2 x + inp2_b > u2)        the second branch, if any: no norm, no out affine
/// m = GELU(W [f > u1; r > u1] + b)       one branch: f > u2
/// o = x + dropout(m), or m               normalised if not prenorm
/// ```
///
/// Clones are the same block: their parameters are. Source: the paper's equations. That uniform numbers are used twice follows the official code ([`BlockConfig::own_noise`]).
#[derive(Clone, Debug)]
pub struct Block<B: Backend> {
    pub(super) forward: Branch<B>,
    pub(super) output: SpikeSampler<B>,
    pub(super) reverse: Option<Branch<B>>,
    pub(super) reverse_output: SpikeSampler<B>,
    pub(super) mixer: SpikeMixer<B>,
    pub(super) norm: Option<Norm<B>>,
    config: BlockConfig,
}

/// What a block's parts fold into its key for their own random numbers; the block's draws use 0 to 3.
const FORWARD: u64 = 16;
const REVERSE: u64 = 17;
const FUSE: u64 = 18;

impl<B: Backend> Block<B> {
    /// A block as configured.
    ///
    /// # Errors
    /// [`Error::Config`] for what [`BlockConfig::check`] refuses.
    pub fn new(backend: &B, key: Key, config: &BlockConfig) -> Result<Self> {
        config.check()?;
        let d_model = config.ssm.d_model;
        let branches = if config.bidirectional { 2 } else { 1 };
        Ok(Block {
            forward: Branch::new(backend, key.fold(0), config)?,
            output: SpikeSampler::new(backend, d_model, config.source)?,
            reverse: config.bidirectional.then(|| Branch::new(backend, key.fold(1), config)).transpose()?,
            reverse_output: SpikeSampler::without_affine(backend, d_model, config.source)?,
            mixer: SpikeMixer::new(backend, key.fold(2), d_model, branches, config.activation)?,
            norm: config.norm.map(|kind| Norm::new(backend, kind, d_model)).transpose()?,
            config: config.clone(),
        })
    }

    /// The same with this surrogate for all its spikes.
    ///
    /// # Errors
    /// As [`SpikeSampler::with_surrogate`].
    pub fn with_surrogate(self, surrogate: &CustomSurrogate<B>) -> Result<Self> {
        let of_branch = |Branch { sampler, ssm }| Ok(Branch { sampler: sampler.with_surrogate(surrogate.clone())?, ssm });
        Ok(Block {
            forward: of_branch(self.forward)?,
            output: self.output.with_surrogate(surrogate.clone())?,
            reverse: self.reverse.map(of_branch).transpose()?,
            reverse_output: self.reverse_output.with_surrogate(surrogate.clone())?,
            ..self
        })
    }

    /// Whether it has a surrogate that no configuration describes.
    pub(super) fn has_custom_surrogate(&self) -> bool {
        self.output.has_custom_surrogate()
    }

    /// The configuration.
    pub fn config(&self) -> &BlockConfig {
        &self.config
    }

    /// The SSM of every branch, with the branch's name.
    pub fn ssms(&self) -> impl Iterator<Item = (&'static str, &Ssm<B>)> {
        [("forward", &self.forward)]
            .into_iter()
            .chain(self.reverse.as_ref().map(|branch| ("reverse", branch)))
            .map(|(name, branch)| (name, &branch.ssm))
    }

    /// Makes C~ for sequences up to `length`: see [`SsmKernel::prepare`](super::ssm::SsmKernel::prepare).
    ///
    /// # Errors
    /// As `SsmKernel::prepare`.
    pub fn prepare(&self, backend: &B, length: usize) -> Result<()> {
        self.ssms().try_for_each(|(_, ssm)| ssm.prepare(backend, length))
    }

    /// The block's output for x (B, H, L) with true lengths.
    ///
    /// # Errors
    /// [`Error::Shape`] where x has another number of channels; [`Error::Value`] where given noise has too few draws;
    /// [`Error::NotDifferentiable`] on a tape that records, where C~ is not [prepared](Block::prepare) for the length.
    pub fn forward(&self, cx: &Context<'_, B>, x: &Var<B>, lengths: Option<&[usize]>) -> Result<Var<B>> {
        self.check_input(cx, x, lengths)?;
        let (output_draw, reverse_draw) = self.config.output_draws();
        let spikes = self.input_spikes(&cx.at(Site::Input), x, cx.noise(0)?)?;
        let inner = cx.part(FORWARD).at(Site::Output);
        let f = self.forward.ssm.fire(&inner, &spikes, lengths, &self.output, cx.noise(output_draw)?)?;
        let reverse = match &self.reverse {
            None => None,
            Some(branch) => {
                let spikes = branch.sampler.forward(&cx.at(Site::ReverseInput), x, cx.noise(1)?)?;
                let inner = cx.part(REVERSE).at(Site::ReverseOutput);
                Some(self.run_reverse(&inner, branch, spikes, lengths, cx.noise(reverse_draw)?)?)
            }
        };
        let branches: Vec<&Var<B>> = [&f].into_iter().chain(&reverse).collect();
        self.close(cx, x, &branches)
    }

    /// [`Block::forward`] of a piece of a longer sequence: `states` are what the piece before left, one for each branch, `None` for the first
    /// piece. Also the states behind this one. See [`Ssm::forward_from`].
    ///
    /// # Errors
    /// As [`Block::forward`] and [`Ssm::forward_from`]; [`Error::Config`] for neurons that integrate and for a flipped branch.
    pub fn forward_from(&self, cx: &Context<'_, B>, x: &Var<B>, states: Option<&[Var<B>]>) -> Result<(Var<B>, Vec<Var<B>>)> {
        self.check_input(cx, x, None)?;
        let SpikeSource::Probability(_) = self.config.source else {
            let help = "neurons that integrate do not carry their potential over: configure a probability";
            return Err(Error::config("source", format!("{:?}", self.config.source), help));
        };
        if self.config.bidirectional && self.config.flip_reverse {
            return Err(Error::config("flip_reverse", true, "the second branch reads the piece that follows: leave the flip out"));
        }
        let (output_draw, reverse_draw) = self.config.output_draws();
        let state = |branch: usize| states.and_then(|states| states.get(branch));
        let spikes = self.input_spikes(&cx.at(Site::Input), x, cx.noise(0)?)?;
        let inner = cx.part(FORWARD).at(Site::Output);
        let (f, after) = self.forward.ssm.forward_from(&inner, &spikes, state(0))?;
        let (mut branches, mut after) = (vec![self.output.forward(&inner, &f, cx.noise(output_draw)?)?], vec![after]);
        if let Some(branch) = &self.reverse {
            let spikes = branch.sampler.forward(&cx.at(Site::ReverseInput), x, cx.noise(1)?)?;
            let inner = cx.part(REVERSE).at(Site::ReverseOutput);
            let (r, own) = branch.ssm.forward_from(&inner, &spikes, state(1))?;
            branches.push(self.reverse_output.forward(&inner, &r, cx.noise(reverse_draw)?)?);
            after.push(own);
        }
        Ok((self.close(cx, x, &branches.iter().collect::<Vec<_>>())?, after))
    }

    fn check_input(&self, cx: &Context<'_, B>, x: &Var<B>, lengths: Option<&[usize]>) -> Result<()> {
        const OP: &str = "Block";
        let [batch, channels, length] = shape::sequence(OP, "the input", x.shape())?;
        shape::exactly(OP, "the input", &[batch, self.config.ssm.d_model, length], &[batch, channels, length])?;
        shape::lengths(OP, lengths, batch, length)?;
        cx.check_given(OP, self.config.draws())
    }

    /// The spikes that enter the forward SSM: of the affine, or of its normalisation.
    fn input_spikes(&self, cx: &Context<'_, B>, x: &Var<B>, noise: Noise<Tensor<B>>) -> Result<Var<B>> {
        match &self.norm {
            Some(norm) if self.config.prenorm => self.forward.sampler.normalized(cx, norm, x, noise),
            _ => self.forward.sampler.forward(cx, x, noise),
        }
    }

    /// The spikes of the second branch.
    fn run_reverse(
        &self,
        cx: &Context<'_, B>,
        branch: &Branch<B>,
        spikes: Var<B>,
        lengths: Option<&[usize]>,
        noise: Noise<Tensor<B>>,
    ) -> Result<Var<B>> {
        if !self.config.flip_reverse {
            return branch.ssm.fire(cx, &spikes, lengths, &self.reverse_output, noise);
        }
        // Padding is silenced before the flip moves it to the front, where lengths could not mask it.
        let spikes = match lengths {
            Some(lengths) => spikes.mul(&cx.tape().constant(&mask(cx.backend(), lengths, spikes.shape()[2])?))?,
            None => spikes,
        };
        self.reverse_output.forward(cx, &branch.ssm.forward(cx, &spikes.flip(2)?, None)?.flip(2)?, noise)
    }

    /// SpikeMixer, ClampFuse, and the norm where it stands last.
    fn close(&self, cx: &Context<'_, B>, x: &Var<B>, branches: &[&Var<B>]) -> Result<Var<B>> {
        let fuse = ClampFuse { dropout: self.config.dropout, clamp: self.config.clamp_residual };
        let o = match self.config.residual {
            true => fuse.forward(&cx.part(FUSE), x, &self.mixer, branches)?,
            false => self.mixer.forward(cx, branches)?,
        };
        match &self.norm {
            Some(norm) if !self.config.prenorm => norm.forward(cx, &o),
            _ => Ok(o),
        }
    }
}

/// (B, 1, L): 1 below the true length, else 0.
fn mask<B: Backend>(backend: &B, lengths: &[usize], length: usize) -> Result<Tensor<B>> {
    let values = lengths.iter().flat_map(|&true_length| (0..length).map(move |t| B::Elem::of(f64::from(u8::from(t < true_length)))));
    backend.from_vec(values.collect(), &[lengths.len(), 1, length])
}

impl<B: Backend> Module<B> for Block<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        names.module("forward", &self.forward);
        names.module("output", &self.output);
        if let Some(reverse) = &self.reverse {
            names.module("reverse", reverse);
            names.module("reverse_output", &self.reverse_output);
        }
        names.module("mixer", &self.mixer);
        if let Some(norm) = &self.norm {
            names.module("norm", norm);
        }
    }
}
