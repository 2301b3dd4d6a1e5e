//! Trains P-SpikeSSM on grey CIFAR-10 pictures: `cargo run --release --example image`, with `-- --help` for what can be set.

use std::process::ExitCode;

use pspikessm::train::{cli, tasks::Image};

fn main() -> ExitCode {
    cli::main(&Image)
}
