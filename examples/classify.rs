//! Trains P-SpikeSSM on data of your own: `cargo run --release --example classify -- --data FOLDER`, with `--help` for what it may hold.

use std::process::ExitCode;

use pspikessm::train::{cli, tasks::Classify};

fn main() -> ExitCode {
    cli::main(&Classify)
}
