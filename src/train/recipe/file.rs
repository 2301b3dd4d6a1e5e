//! The fields of a recipe's file, and how they become a [`Recipe`] and come from one.

use serde::{Deserialize, Serialize};

use super::{Length, Recipe, Schedule};
use crate::backend::{Discretisation, DtTransform, Lif, Surrogate};
use crate::error::{Error, Result};
use crate::nn::hippo::{DiagInit, Measure};
use crate::nn::{Activation, AdamWConfig, BlockConfig, Cosine, NormKind, Pooling, SpikeSource, SsmConfig, SsmInit};

/// A whole file. Its fields are documented in `src/train/recipes/listops-quick.toml`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default = "unnamed")]
    name: String,
    data: Data,
    run: Run,
    optimizer: Optimizer,
    schedule: ScheduleTable,
    model: Model,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    variant: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    seed: u64,
    batch: usize,
    #[serde(default = "one")]
    accumulate: usize,
    steps: Option<u64>,
    epochs: Option<u64>,
    early_stop: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Optimizer {
    lr: f64,
    weight_decay: f64,
    #[serde(default = "beta1")]
    beta1: f64,
    #[serde(default = "beta2")]
    beta2: f64,
    #[serde(default = "eps")]
    eps: f64,
    ssm_lr: Option<f64>,
    #[serde(default)]
    ssm_lr_for_all: bool,
    clip: Option<f64>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum ScheduleTable {
    Constant,
    Cosine { warmup: u64, total: u64 },
    Plateau { decay: f64, patience: u64 },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    d_model: usize,
    layers: usize,
    d_state: usize,
    #[serde(default = "one")]
    n_ssm: usize,
    l_max: Option<usize>,
    #[serde(default)]
    init: Init,
    #[serde(default = "zoh", with = "DiscretisationName")]
    discretisation: Discretisation,
    #[serde(default = "dt_min")]
    dt_min: f64,
    #[serde(default = "dt_max")]
    dt_max: f64,
    #[serde(default = "softplus", with = "DtTransformName")]
    dt_transform: DtTransform,
    #[serde(default = "yes")]
    bidirectional: bool,
    #[serde(default = "yes")]
    bidirectional_kernel: bool,
    residual: bool,
    norm: Norm,
    prenorm: bool,
    #[serde(default)]
    dropout: f64,
    /// As `dropout` where it is not said.
    ssm_dropout: Option<f64>,
    #[serde(default = "yes")]
    ssm_gelu: bool,
    #[serde(default, with = "ActivationName")]
    activation: Activation,
    #[serde(default = "mean", with = "PoolingName")]
    pooling: Pooling,
    #[serde(default)]
    retrieval: bool,
    #[serde(default)]
    neuron: Neuron,
    #[serde(default)]
    surrogate: SurrogateName,
    surrogate_alpha: Option<f64>,
    lif_decay: Option<f64>,
    lif_threshold: Option<f64>,
    lif_soft_reset: Option<bool>,
    #[serde(default)]
    own_noise: bool,
    #[serde(default)]
    flip_reverse: bool,
    #[serde(default)]
    clamp_residual: bool,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Init {
    #[default]
    Legs,
    Legt,
    Lagt,
    Fourier,
    FourierDecay,
    DiagLin,
    DiagInv,
    DiagReal,
    DiagLegs,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Norm {
    None,
    Batch,
    Layer,
}

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Neuron {
    #[default]
    Probability,
    Lif,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SurrogateName {
    #[default]
    Clamp,
    Sigmoid,
    Atan,
    FastSigmoid,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Discretisation", rename_all = "lowercase")]
enum DiscretisationName {
    Zoh,
    Bilinear,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "DtTransform", rename_all = "lowercase")]
enum DtTransformName {
    Softplus,
    Exp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Activation", rename_all = "lowercase")]
enum ActivationName {
    Gelu,
    Relu,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Pooling", rename_all = "lowercase")]
enum PoolingName {
    Mean,
    Last,
}

fn unnamed() -> String {
    "unnamed".into()
}
fn one() -> usize {
    1
}
fn yes() -> bool {
    true
}
fn beta1() -> f64 {
    0.9
}
fn beta2() -> f64 {
    0.999
}
fn eps() -> f64 {
    1e-8
}
fn dt_min() -> f64 {
    1e-3
}
fn dt_max() -> f64 {
    1e-1
}
fn zoh() -> Discretisation {
    Discretisation::Zoh
}
fn softplus() -> DtTransform {
    DtTransform::Softplus
}
fn mean() -> Pooling {
    Pooling::Mean
}

impl File {
    pub fn recipe(self) -> Result<Recipe> {
        let File { name, data, run, optimizer, schedule, model } = self;
        let length = match (run.steps, run.epochs) {
            (Some(steps), None) => Length::Steps(steps),
            (None, Some(epochs)) => Length::Epochs(epochs),
            (Some(_), Some(_)) => return Err(Error::config("run.epochs", "beside run.steps", "a run has one length: leave one out")),
            (None, None) => return Err(Error::config("run.steps", "missing", "say how long the run is: run.steps or run.epochs")),
        };
        let (layers, pooling, retrieval) = (model.layers, model.pooling, model.retrieval);
        let recipe = Recipe {
            name,
            data: data.variant,
            block: model.block(&optimizer)?,
            layers,
            pooling,
            retrieval,
            batch: run.batch,
            accumulate: run.accumulate,
            optimizer: AdamWConfig {
                lr: optimizer.lr,
                beta1: optimizer.beta1,
                beta2: optimizer.beta2,
                eps: optimizer.eps,
                weight_decay: optimizer.weight_decay,
            },
            clip: optimizer.clip,
            schedule: match schedule {
                ScheduleTable::Constant => Schedule::Constant,
                ScheduleTable::Cosine { warmup, total } => Schedule::Cosine(Cosine { warmup, total }),
                ScheduleTable::Plateau { decay, patience } => Schedule::Plateau { decay, patience },
            },
            length,
            early_stop: run.early_stop,
            seed: run.seed,
        };
        recipe.check()?;
        Ok(recipe)
    }

    pub fn of(recipe: &Recipe) -> Self {
        let (steps, epochs) = match recipe.length {
            Length::Steps(steps) => (Some(steps), None),
            Length::Epochs(epochs) => (None, Some(epochs)),
        };
        let AdamWConfig { lr, beta1, beta2, eps, weight_decay } = recipe.optimizer;
        let SsmConfig { lr: ssm_lr, lr_for_all: ssm_lr_for_all, .. } = recipe.block.ssm;
        File {
            name: recipe.name.clone(),
            data: Data { variant: recipe.data.clone() },
            run: Run {
                seed: recipe.seed,
                batch: recipe.batch,
                accumulate: recipe.accumulate,
                steps,
                epochs,
                early_stop: recipe.early_stop,
            },
            optimizer: Optimizer { lr, weight_decay, beta1, beta2, eps, ssm_lr, ssm_lr_for_all, clip: recipe.clip },
            schedule: match recipe.schedule {
                Schedule::Constant => ScheduleTable::Constant,
                Schedule::Cosine(Cosine { warmup, total }) => ScheduleTable::Cosine { warmup, total },
                Schedule::Plateau { decay, patience } => ScheduleTable::Plateau { decay, patience },
            },
            model: Model::of(recipe),
        }
    }
}

impl Model {
    fn block(self, optimizer: &Optimizer) -> Result<BlockConfig> {
        let ssm = SsmConfig {
            d_model: self.d_model,
            d_state: self.d_state,
            n_ssm: (self.n_ssm > 0).then_some(self.n_ssm),
            init: self.init.of(self.discretisation),
            dt_min: self.dt_min,
            dt_max: self.dt_max,
            dt_transform: self.dt_transform,
            l_max: self.l_max,
            bidirectional: self.bidirectional_kernel,
            dropout: self.ssm_dropout.unwrap_or(self.dropout),
            gelu: self.ssm_gelu,
            lr: optimizer.ssm_lr,
            lr_for_all: optimizer.ssm_lr_for_all,
        };
        Ok(BlockConfig {
            source: self.source()?,
            ssm,
            bidirectional: self.bidirectional,
            residual: self.residual,
            norm: match self.norm {
                Norm::None => None,
                Norm::Batch => Some(NormKind::Batch),
                Norm::Layer => Some(NormKind::Layer),
            },
            prenorm: self.prenorm,
            dropout: self.dropout,
            activation: self.activation,
            own_noise: self.own_noise,
            flip_reverse: self.flip_reverse,
            clamp_residual: self.clamp_residual,
        })
    }

    fn source(&self) -> Result<SpikeSource> {
        self.refuse_idle()?;
        let missing = |name: &'static str, why: &str| Error::config(name, "missing", why);
        let alpha = || self.surrogate_alpha.ok_or_else(|| missing("model.surrogate_alpha", "this surrogate wants its steepness"));
        let surrogate = match self.surrogate {
            SurrogateName::Clamp => Surrogate::Clamp,
            SurrogateName::Sigmoid => Surrogate::Sigmoid { alpha: alpha()? },
            SurrogateName::Atan => Surrogate::Atan { alpha: alpha()? },
            SurrogateName::FastSigmoid => Surrogate::FastSigmoid { alpha: alpha()? },
        };
        if self.neuron == Neuron::Probability {
            return Ok(SpikeSource::Probability(surrogate));
        }
        Ok(SpikeSource::Lif(Lif {
            decay: self.lif_decay.ok_or_else(|| missing("model.lif_decay", "a LIF neuron wants one, in [0, 1]"))?,
            threshold: self.lif_threshold.unwrap_or(1.0),
            soft_reset: self.lif_soft_reset.unwrap_or(false),
            surrogate,
        }))
    }

    /// Refuses values that would be ignored.
    fn refuse_idle(&self) -> Result<()> {
        let lif = [
            ("model.lif_decay", self.lif_decay.map(|decay| decay.to_string())),
            ("model.lif_threshold", self.lif_threshold.map(|threshold| threshold.to_string())),
            ("model.lif_soft_reset", self.lif_soft_reset.map(|soft| soft.to_string())),
        ];
        if let Some((name, Some(value))) = lif.into_iter().find(|(_, value)| self.neuron != Neuron::Lif && value.is_some()) {
            return Err(Error::config(name, value, "goes with model.neuron = \"lif\": say so, or leave it out"));
        }
        match (self.surrogate, self.surrogate_alpha) {
            (SurrogateName::Clamp, Some(alpha)) => {
                Err(Error::config("model.surrogate_alpha", alpha, "the surrogate clamp has none: choose another, or leave it out"))
            }
            _ => Ok(()),
        }
    }

    fn of(recipe: &Recipe) -> Self {
        let BlockConfig { ssm, .. } = &recipe.block;
        let block = &recipe.block;
        let (surrogate, lif) = match block.source {
            SpikeSource::Probability(surrogate) => (surrogate, None),
            SpikeSource::Lif(lif) => (lif.surrogate, Some(lif)),
        };
        let (surrogate, surrogate_alpha) = match surrogate {
            Surrogate::Clamp => (SurrogateName::Clamp, None),
            Surrogate::Sigmoid { alpha } => (SurrogateName::Sigmoid, Some(alpha)),
            Surrogate::Atan { alpha } => (SurrogateName::Atan, Some(alpha)),
            Surrogate::FastSigmoid { alpha } => (SurrogateName::FastSigmoid, Some(alpha)),
        };
        let (init, discretisation) = Init::from(ssm.init);
        Model {
            d_model: ssm.d_model,
            layers: recipe.layers,
            d_state: ssm.d_state,
            n_ssm: ssm.n_ssm.unwrap_or(0),
            l_max: ssm.l_max,
            init,
            discretisation,
            dt_min: ssm.dt_min,
            dt_max: ssm.dt_max,
            dt_transform: ssm.dt_transform,
            bidirectional: block.bidirectional,
            bidirectional_kernel: ssm.bidirectional,
            residual: block.residual,
            norm: block.norm.map_or(Norm::None, |kind| if kind == NormKind::Batch { Norm::Batch } else { Norm::Layer }),
            prenorm: block.prenorm,
            dropout: block.dropout,
            ssm_dropout: Some(ssm.dropout).filter(|&dropout| dropout != block.dropout),
            ssm_gelu: ssm.gelu,
            activation: block.activation,
            pooling: recipe.pooling,
            retrieval: recipe.retrieval,
            neuron: if lif.is_some() { Neuron::Lif } else { Neuron::Probability },
            surrogate,
            surrogate_alpha,
            lif_decay: lif.map(|lif| lif.decay),
            lif_threshold: lif.map(|lif| lif.threshold),
            lif_soft_reset: lif.map(|lif| lif.soft_reset),
            own_noise: block.own_noise,
            flip_reverse: block.flip_reverse,
            clamp_residual: block.clamp_residual,
        }
    }
}

impl Init {
    fn of(self, discretisation: Discretisation) -> SsmInit {
        match self {
            Init::Legs => SsmInit::Dplr(Measure::LegS),
            Init::Legt => SsmInit::Dplr(Measure::LegT),
            Init::Lagt => SsmInit::Dplr(Measure::LagT),
            Init::Fourier => SsmInit::Dplr(Measure::Fourier),
            Init::FourierDecay => SsmInit::Dplr(Measure::FourierDecay),
            Init::DiagLin => SsmInit::Diag(DiagInit::Lin, discretisation),
            Init::DiagInv => SsmInit::Diag(DiagInit::Inv, discretisation),
            Init::DiagReal => SsmInit::Diag(DiagInit::Real, discretisation),
            Init::DiagLegs => SsmInit::Diag(DiagInit::LegS, discretisation),
        }
    }

    fn from(init: SsmInit) -> (Self, Discretisation) {
        match init {
            SsmInit::Dplr(measure) => {
                let init = match measure {
                    Measure::LegS => Init::Legs,
                    Measure::LegT => Init::Legt,
                    Measure::LagT => Init::Lagt,
                    Measure::Fourier => Init::Fourier,
                    Measure::FourierDecay => Init::FourierDecay,
                };
                // DPLR systems are bilinear; the field says nothing about them.
                (init, zoh())
            }
            SsmInit::Diag(diag, discretisation) => {
                let init = match diag {
                    DiagInit::Lin => Init::DiagLin,
                    DiagInit::Inv => Init::DiagInv,
                    DiagInit::Real => Init::DiagReal,
                    DiagInit::LegS => Init::DiagLegs,
                };
                (init, discretisation)
            }
        }
    }
}
