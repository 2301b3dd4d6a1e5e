//! The non-linearities of the layers.

use serde::{Deserialize, Serialize};

use crate::backend::Unary;

listed! {
    /// What a layer does to every element of its output.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[non_exhaustive]
    pub enum Activation {
        /// x Phi(x).
        #[default]
        Gelu,
        /// max(x, 0).
        Relu,
        /// x: no non-linearity.
        Identity,
    }
}

impl Activation {
    /// The function applied to every element; `None` for the identity.
    pub fn function(self) -> Option<Unary> {
        match self {
            Activation::Gelu => Some(Unary::Gelu),
            Activation::Relu => Some(Unary::Relu),
            Activation::Identity => None,
        }
    }
}
