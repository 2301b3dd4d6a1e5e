//! Trains P-SpikeSSM on Pathfinder: `cargo run --release --example pathfinder`, with `-- --help` for what can be set.

use std::process::ExitCode;

use pspikessm::train::{cli, tasks::Pathfinder};

fn main() -> ExitCode {
    cli::main(&Pathfinder)
}
