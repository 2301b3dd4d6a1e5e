//! Trains P-SpikeSSM on Text (IMDB): `cargo run --release --example text -- --data FOLDER`, with `--help` for what can be set.

use std::process::ExitCode;

use pspikessm::train::{cli, tasks::Text};

fn main() -> ExitCode {
    cli::main(&Text)
}
