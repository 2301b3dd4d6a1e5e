//! Probabilistic spiking state space models.
pub mod error;
mod file;
pub mod backend;
pub mod autodiff;
pub mod nn;
pub mod data;
pub use error::{Error, Result};
