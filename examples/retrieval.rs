//! Trains P-SpikeSSM on Retrieval (AAN): `cargo run --release --example retrieval -- --data FOLDER`, with `--help` for what can be set.

use std::process::ExitCode;

use pspikessm::train::{cli, tasks::Retrieval};

fn main() -> ExitCode {
    cli::main(&Retrieval)
}
