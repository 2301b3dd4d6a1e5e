//! Trains P-SpikeSSM on psMNIST: `cargo run --release --example psmnist`, with `-- --help` for what can be set.

use std::process::ExitCode;

use pspikessm::train::{cli, tasks::PsMnist};

fn main() -> ExitCode {
    cli::main(&PsMnist)
}
