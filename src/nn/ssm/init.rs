//! How an SSM layer is configured, and the values its parameters start from.

use serde::{Deserialize, Serialize};

use crate::backend::{Discretization, DtTransform, Key, Real, normal_f64};
use crate::error::{Error, Result};
use crate::nn::Activation;
use crate::nn::hippo::{self, CLIP_B, Complex64, DiagInit, Measure};

/// The longest kernel. Doubling may store up to twice this in a buffer, whose f32 still holds it exactly.
pub(super) const LONGEST: usize = 1 << 23;

listed! {
    /// The family of the state matrix and where it starts.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[non_exhaustive]
    pub enum SsmInit {
        /// Diagonal plus low rank (S4): the normal-plus-low-rank form of a HiPPO matrix, bilinear discretization.
        Dplr(Measure) = (Measure::LegS),
        /// Diagonal (S4D).
        Diag(DiagInit, Discretization) = (DiagInit::Lin, Discretization::Zoh),
    }
}

impl SsmInit {
    /// Every initialisation: DPLR of every measure, then diagonal of every kind under every rule. The match has no arm for all others:
    /// a new family does not compile before it stands here.
    pub fn all() -> Vec<Self> {
        let members = |family| -> Vec<SsmInit> {
            match family {
                SsmInit::Dplr(_) => Measure::ALL.map(SsmInit::Dplr).into(),
                SsmInit::Diag(..) => {
                    DiagInit::ALL.into_iter().flat_map(|init| Discretization::ALL.map(|disc| SsmInit::Diag(init, disc))).collect()
                }
            }
        };
        SsmInit::ALL.into_iter().flat_map(members).collect()
    }
}

impl Default for SsmInit {
    fn default() -> Self {
        SsmInit::Dplr(Measure::LegS)
    }
}

/// The configuration of an SSM layer, in a recipe the section `[model.block.ssm]`. [`SsmConfig::new`] gives the recipes' common values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SsmConfig {
    /// Channels, H.
    pub d_model: usize,
    /// State size, N: even, half of it is stored.
    pub d_state: usize,
    /// Independent copies of A, B and P, S, each for d_model / S channels: a divisor of d_model, which itself is one a channel.
    #[serde(default = "default::n_ssm")]
    pub n_ssm: usize,
    /// The state matrix.
    #[serde(default)]
    pub init: SsmInit,
    /// The smallest initial step size.
    #[serde(default = "default::dt_min")]
    pub dt_min: f64,
    /// The largest initial step size.
    #[serde(default = "default::dt_max")]
    pub dt_max: f64,
    /// How the stored inv_dt becomes dt.
    #[serde(default)]
    pub dt_transform: DtTransform,
    /// The length that C~ is made for; kernels are cut to it. `None`: the first one that is prepared, doubled when a longer one comes.
    pub l_max: Option<usize>,
    /// A causal and an anticausal kernel instead of a causal one.
    #[serde(default = "default::yes")]
    pub bidirectional: bool,
    /// Dropout before (elementwise) and after (tied) the activation.
    #[serde(default)]
    pub dropout: f64,
    /// The non-linearity after the convolution.
    #[serde(default)]
    pub activation: Activation,
    /// The learning rate of A, B and P (`None`: the optimiser's).
    pub lr: Option<f64>,
    /// Whether dt and C learn at `lr` too.
    #[serde(default)]
    pub lr_for_all: bool,
}

setters! {
    SsmConfig {
        d_model: usize,
        d_state: usize,
        n_ssm: usize,
        init: SsmInit,
        dt_min: f64,
        dt_max: f64,
        dt_transform: DtTransform,
        l_max: impl Into<Option<usize>>,
        bidirectional: bool,
        dropout: f64,
        activation: Activation,
        lr: impl Into<Option<f64>>,
        lr_for_all: bool,
    }
}

/// What a file that leaves a field out gets. An optional one is then `None`.
mod default {
    pub(super) fn n_ssm() -> usize {
        1
    }
    pub(super) fn dt_min() -> f64 {
        1e-3
    }
    pub(super) fn dt_max() -> f64 {
        1e-1
    }
    pub(super) fn yes() -> bool {
        true
    }
}

/// One copy's continuous system, half of its conjugate pairs.
pub(super) struct System {
    /// (M).
    pub lambda: Vec<Complex64>,
    /// (M).
    pub b: Vec<Complex64>,
    /// (R, M); `None` for a diagonal system.
    pub p: Option<Vec<Complex64>>,
}

impl SsmConfig {
    /// DPLR from HiPPO-LegS, one copy, dt log-uniform in [1e-3, 1e-1] through softplus, both directions, A, B and P at 1e-3.
    pub fn new(d_model: usize, d_state: usize) -> Self {
        SsmConfig {
            d_model,
            d_state,
            n_ssm: default::n_ssm(),
            init: SsmInit::default(),
            dt_min: default::dt_min(),
            dt_max: default::dt_max(),
            dt_transform: DtTransform::default(),
            l_max: None,
            bidirectional: true,
            dropout: 0.0,
            activation: Activation::default(),
            lr: Some(1e-3),
            lr_for_all: false,
        }
    }

    /// The same with the causal kernel alone: no output depends on later inputs, and the layer has a step form.
    pub fn causal(self) -> Self {
        self.bidirectional(false)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`] with the name of the value: sizes of 0, a d_state that is odd or above 1,024, n_ssm that does not divide d_model,
    /// step sizes that are not 0 < dt_min <= dt_max, l_max of 0 or above 2^23, dropout outside [0, 1).
    pub fn check(&self) -> Result<()> {
        let bad = |name, value: &dyn std::fmt::Display, help: &str| Err(Error::config(name, value, help));
        if self.d_model == 0 {
            return bad("d_model", &0, "must be at least 1");
        }
        if self.d_state == 0 || !self.d_state.is_multiple_of(2) {
            return bad("d_state", &self.d_state, "must be even and at least 2: states come in conjugate pairs");
        }
        if self.d_state > hippo::MAX_D_STATE {
            return bad("d_state", &self.d_state, &format!("must be at most {}", hippo::MAX_D_STATE));
        }
        if self.n_ssm == 0 || !self.d_model.is_multiple_of(self.n_ssm) {
            return Err(Error::config("n_ssm", self.n_ssm, format!("must divide d_model = {}", self.d_model)));
        }
        let steps = format!("[{}, {}]", self.dt_min, self.dt_max);
        if !(self.dt_min > 0.0 && self.dt_min <= self.dt_max && self.dt_max.is_finite()) {
            return bad("[dt_min, dt_max]", &steps, "must satisfy 0 < dt_min <= dt_max: exchange them?");
        }
        if self.l_max == Some(0) {
            return bad("l_max", &0, "must be at least 1, or None");
        }
        if let Some(l_max) = self.l_max.filter(|&l_max| l_max > LONGEST) {
            return bad("l_max", &l_max, &format!("must be at most {LONGEST}, the longest kernel that is served"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return bad("dropout", &self.dropout, "must lie in [0, 1)");
        }
        Ok(())
    }

    /// The continuous system that every copy starts from.
    pub(super) fn system(&self) -> Result<System> {
        Ok(match self.init {
            SsmInit::Dplr(measure) => {
                let nplr = hippo::nplr(measure, self.d_state, Some(CLIP_B))?;
                System { lambda: nplr.lambda, b: nplr.b, p: Some(nplr.p) }
            }
            SsmInit::Diag(init, _) => {
                let (lambda, b) = hippo::s4d(init, self.d_state)?;
                System { lambda, b, p: None }
            }
        })
    }

    /// inv_dt of every channel: dt log-uniform in [dt_min, dt_max], through the inverse of its transform.
    pub(super) fn inverse_steps(&self, key: Key) -> Vec<f64> {
        let (low, high) = (self.dt_min.ln(), self.dt_max.ln());
        uniforms(key, self.d_model)
            .map(|u| {
                let dt = (low + u * (high - low)).exp();
                match self.dt_transform {
                    // The official code clamps the argument of the inverse softplus.
                    DtTransform::Softplus => dt.max(1e-4).exp_m1().ln(),
                    DtTransform::Exp => dt.ln(),
                }
            })
            .collect()
    }
}

fn uniforms(key: Key, count: usize) -> impl Iterator<Item = f64> {
    words(key).map(f64::unit).take(count)
}

/// Standard normal numbers.
pub(super) fn normals(key: Key) -> impl Iterator<Item = f64> {
    let mut words = words(key);
    std::iter::from_fn(move || Some(normal_f64(words.next()?, words.next()?)))
}

fn words(key: Key) -> impl Iterator<Item = u32> {
    let mut words = key.words(0);
    std::iter::from_fn(move || Some(words.next_lanes())).flatten()
}
