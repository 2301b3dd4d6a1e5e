//! Trains P-SpikeSSM on Speech Commands: `cargo run --release --example speech_commands -- --data FOLDER`, with `-- --help` for what can
//! be set.

use std::process::ExitCode;

use pspikessm::train::{cli, tasks::SpeechCommands};

fn main() -> ExitCode {
    cli::main(&SpeechCommands)
}
