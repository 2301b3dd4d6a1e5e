//! The engine and the layers: tape, ops, backends, kernels, layers, whole models.
//!
//! One program for several files: above opt-level 1 each program compiles the generic code of the crate anew, which takes minutes.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/elementary.rs"]
mod elementary;
#[macro_use]
#[path = "../conformance/mod.rs"]
mod suite;

mod arrows;
mod autodiff;
mod block;
mod carry;
mod checkpoints;
mod conformance;
mod errors;
mod functions;
mod gradients;
mod hippo;
mod layer_values;
mod layers;
mod loss;
mod model;
mod official_models;
mod op_values;
mod optimizer;
mod recomputation;
mod rules;
mod second_derivatives;
mod sharing;
mod spikes;
mod ssm_kernel;
mod stream;
mod stream_int8;
mod stream_platforms;
mod stream_state;
mod trajectory;
