//! A rule by name: what a recipe's `[optimizer]` says.

use serde::{Deserialize, Serialize};

use super::adam::default;
use super::{AdamConfig, AdamWConfig, LionConfig, Moved, Moving, SgdConfig, Step, UpdateRule};
use crate::backend::{Backend, Tensor};
use crate::error::{Error, Result};

/// One of the rules. In a recipe the section `[optimizer]`: the rule's numbers, and which rule it is, for another than AdamW, as in
/// `rule = "sgd"`.
///
/// ```
/// use pspikessm::nn::{OptimizerConfig, SgdConfig};
/// let sgd: OptimizerConfig = serde_json::from_str(r#"{"rule": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}"#).unwrap();
/// assert_eq!(sgd, SgdConfig::new(0.1).momentum(0.9).into());
/// // What belongs to another rule is refused.
/// assert!(serde_json::from_str::<OptimizerConfig>(r#"{"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}"#).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
#[non_exhaustive]
pub enum OptimizerConfig {
    /// AdamW.
    AdamW(AdamWConfig),
    /// Adam.
    Adam(AdamConfig),
    /// Gradient descent, with or without momentum.
    Sgd(SgdConfig),
    /// Lion.
    Lion(LionConfig),
}

/// Which rule a file means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Rule {
    #[default]
    AdamW,
    Adam,
    Sgd,
    Lion,
}

/// All that can stand in a file; a rule has some of it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, skip_serializing_if = "is_default")]
    rule: Rule,
    lr: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    beta1: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beta2: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eps: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    momentum: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dampening: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nesterov: Option<bool>,
    weight_decay: f64,
}

fn is_default(rule: &Rule) -> bool {
    *rule == Rule::default()
}

impl Fields {
    fn new(rule: Rule, lr: f64, weight_decay: f64) -> Self {
        Fields { rule, lr, beta1: None, beta2: None, eps: None, momentum: None, dampening: None, nesterov: None, weight_decay }
    }

    /// Refuses what a rule does not have.
    fn has_none_of(&self, names: &[&'static str]) -> Result<()> {
        let Fields { beta1, beta2, eps, momentum, dampening, nesterov, .. } = self;
        let given = [("beta1", beta1), ("beta2", beta2), ("eps", eps), ("momentum", momentum), ("dampening", dampening)];
        let given = given.map(|(name, value)| (name, value.map(|value| value.to_string())));
        let nesterov = ("nesterov", nesterov.map(|value| value.to_string()));
        match given.into_iter().chain([nesterov]).find(|(name, value)| value.is_some() && names.contains(name)) {
            Some((name, value)) => {
                Err(Error::config(name, value.unwrap_or_default(), format!("is no number of the rule {:?}: leave it out", self.rule)))
            }
            None => Ok(()),
        }
    }
}

impl TryFrom<Fields> for OptimizerConfig {
    type Error = Error;

    fn try_from(fields: Fields) -> Result<Self> {
        let Fields { rule, lr, weight_decay, .. } = fields;
        let [beta1, beta2, eps] = [(fields.beta1, default::beta1()), (fields.beta2, default::beta2()), (fields.eps, default::eps())]
            .map(|(given, default)| given.unwrap_or(default));
        Ok(match rule {
            Rule::AdamW | Rule::Adam => {
                fields.has_none_of(&["momentum", "dampening", "nesterov"])?;
                match rule {
                    Rule::AdamW => OptimizerConfig::AdamW(AdamWConfig { lr, beta1, beta2, eps, weight_decay }),
                    _ => OptimizerConfig::Adam(AdamConfig { lr, beta1, beta2, eps, weight_decay }),
                }
            }
            Rule::Sgd => {
                fields.has_none_of(&["beta1", "beta2", "eps"])?;
                let (momentum, dampening) = (fields.momentum.unwrap_or_default(), fields.dampening.unwrap_or_default());
                OptimizerConfig::Sgd(SgdConfig { lr, momentum, dampening, nesterov: fields.nesterov.unwrap_or_default(), weight_decay })
            }
            Rule::Lion => {
                fields.has_none_of(&["eps", "momentum", "dampening", "nesterov"])?;
                let own = LionConfig::new(lr, weight_decay);
                OptimizerConfig::Lion(LionConfig {
                    beta1: fields.beta1.unwrap_or(own.beta1),
                    beta2: fields.beta2.unwrap_or(own.beta2),
                    ..own
                })
            }
        })
    }
}

impl From<OptimizerConfig> for Fields {
    fn from(config: OptimizerConfig) -> Self {
        let adam = |rule, lr, betas: [f64; 2], eps, weight_decay| {
            let [beta1, beta2] = betas.map(Some);
            Fields { beta1, beta2, eps: Some(eps), ..Fields::new(rule, lr, weight_decay) }
        };
        match config {
            OptimizerConfig::AdamW(AdamWConfig { lr, beta1, beta2, eps, weight_decay }) => {
                adam(Rule::AdamW, lr, [beta1, beta2], eps, weight_decay)
            }
            OptimizerConfig::Adam(AdamConfig { lr, beta1, beta2, eps, weight_decay }) => {
                adam(Rule::Adam, lr, [beta1, beta2], eps, weight_decay)
            }
            OptimizerConfig::Sgd(SgdConfig { lr, momentum, dampening, nesterov, weight_decay }) => {
                let (momentum, dampening, nesterov) = (Some(momentum), Some(dampening), Some(nesterov));
                Fields { momentum, dampening, nesterov, ..Fields::new(Rule::Sgd, lr, weight_decay) }
            }
            OptimizerConfig::Lion(LionConfig { lr, beta1, beta2, weight_decay }) => {
                Fields { beta1: Some(beta1), beta2: Some(beta2), ..Fields::new(Rule::Lion, lr, weight_decay) }
            }
        }
    }
}

/// `f` of the rule that it is.
macro_rules! each_rule {
    ($config:expr, $rule:ident => $f:expr) => {
        match $config {
            OptimizerConfig::AdamW($rule) => $f,
            OptimizerConfig::Adam($rule) => $f,
            OptimizerConfig::Sgd($rule) => $f,
            OptimizerConfig::Lion($rule) => $f,
        }
    };
}

impl OptimizerConfig {
    /// Learning rate of parameters without their own.
    pub fn lr(&self) -> f64 {
        each_rule!(self, rule => rule.lr)
    }

    /// Sets it.
    pub fn set_lr(&mut self, lr: f64) {
        each_rule!(self, rule => rule.lr = lr);
    }
}

impl<B: Backend> UpdateRule<B> for OptimizerConfig {
    fn check(&self) -> Result<()> {
        each_rule!(self, rule => UpdateRule::<B>::check(rule))
    }

    fn lr(&self) -> f64 {
        self.lr()
    }

    fn slots(&self) -> &'static [&'static str] {
        each_rule!(self, rule => UpdateRule::<B>::slots(rule))
    }

    fn moved(&self, backend: &B, step: &Step, value: &Tensor<B>, slots: &[Tensor<B>], grad: &Tensor<B>) -> Result<Moved<B>> {
        each_rule!(self, rule => rule.moved(backend, step, value, slots, grad))
    }

    fn all_moved(&self, backend: &B, params: &[Moving<B>]) -> Result<Vec<Moved<B>>> {
        each_rule!(self, rule => rule.all_moved(backend, params))
    }
}

impl From<AdamWConfig> for OptimizerConfig {
    fn from(rule: AdamWConfig) -> Self {
        OptimizerConfig::AdamW(rule)
    }
}

impl From<AdamConfig> for OptimizerConfig {
    fn from(rule: AdamConfig) -> Self {
        OptimizerConfig::Adam(rule)
    }
}

impl From<SgdConfig> for OptimizerConfig {
    fn from(rule: SgdConfig) -> Self {
        OptimizerConfig::Sgd(rule)
    }
}

impl From<LionConfig> for OptimizerConfig {
    fn from(rule: LionConfig) -> Self {
        OptimizerConfig::Lion(rule)
    }
}
