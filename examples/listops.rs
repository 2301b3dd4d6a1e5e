//! Trains P-SpikeSSM on ListOps: `cargo run --release --example listops`, with `-- --help` for what can be set.

use std::process::ExitCode;

use pspikessm::train::{cli, tasks::ListOps};

fn main() -> ExitCode {
    cli::main(&ListOps)
}
