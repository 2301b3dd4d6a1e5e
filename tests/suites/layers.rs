//! The engine and the layers: tape, ops, backends, kernels, layers, whole models.
//!
//! One program for several files: above opt-level 1 each program compiles the generic code of the crate anew, which takes minutes.
#![allow(clippy::duplicate_mod, reason = "every file brings what it shares with others")]

#[path = "../autodiff.rs"]
mod autodiff;
#[path = "../block.rs"]
mod block;
#[path = "../conformance.rs"]
mod conformance;
#[path = "../gradients.rs"]
mod gradients;
#[path = "../hippo.rs"]
mod hippo;
#[path = "../nn_errors.rs"]
mod nn_errors;
#[path = "../nn_layers.rs"]
mod nn_layers;
#[path = "../official_models.rs"]
mod official_models;
#[path = "../ssm_kernel.rs"]
mod ssm_kernel;
