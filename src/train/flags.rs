//! Flags: what the command line of a task can say.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

use super::device::Choice;
use super::{Preset, Recipe, Task};
use crate::backend::devices;
use crate::error::{Error, Result};

const USAGE: &str = "
  --preset quick|paper  a small model and data set that train in minutes (default), or the paper's
  --steps N             training steps; the learning-rate schedule gets this length too
  --batch-size N        samples a step
  --seed N              of all random numbers of the run
  --backend B           where to compute: auto (default), cpu, wgpu or cuda; with an index for another than the first, as in wgpu:1.
                        auto: CUDA, else a GPU through wgpu, else the processor. wgpu and cuda are cargo features
  --threads N           threads of the processor; the results are the same bits for any number
  --data DIR            folder of the data
  --out DIR             folder for metrics.jsonl and checkpoint.safetensors; without it nothing is written
  --resume              go on from the checkpoint in --out
  --eval-passes N       how often the test set is gone through, with new spikes each time (default 5)
  --quiet               print the result line only
  --help                this text

Ctrl-C saves to --out and leaves with exit code 130; a second one leaves at once. Exit code 1: the run failed, 2: wrong usage.
";

/// What is asked for on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Show the help text.
    Help,
    /// Train.
    Train(Flags),
}

/// The flags of a training run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flags {
    /// `--preset`
    pub preset: Preset,
    /// `--steps`
    pub steps: Option<u64>,
    /// `--batch-size`
    pub batch_size: Option<usize>,
    /// `--seed`
    pub seed: Option<u64>,
    /// `--backend`
    pub backend: Choice,
    /// `--threads`
    pub threads: Option<usize>,
    /// `--data`
    pub data: Option<PathBuf>,
    /// `--out`
    pub out: Option<PathBuf>,
    /// `--resume`
    pub resume: bool,
    /// `--eval-passes`
    pub eval_passes: u64,
    /// `--quiet`
    pub quiet: bool,
}

impl Default for Flags {
    fn default() -> Self {
        Flags {
            preset: Preset::default(),
            steps: None,
            batch_size: None,
            seed: None,
            backend: Choice::default(),
            threads: None,
            data: None,
            out: None,
            resume: false,
            eval_passes: 5,
            quiet: false,
        }
    }
}

impl Flags {
    /// Reads arguments, the program's name not among them.
    ///
    /// # Errors
    /// [`Error::Config`] with the flag, where its value makes no sense; [`Error::Value`] for what is no flag.
    pub fn parse<T: Into<OsString>>(arguments: impl IntoIterator<Item = T>) -> Result<Command> {
        let mut flags = Flags::default();
        let mut parser = lexopt::Parser::from_args(arguments.into_iter().map(Into::into));
        while let Some(argument) = parser.next().map_err(usage)? {
            match argument {
                Long("preset") => flags.preset = Preset::named(&text(&mut parser)?)?,
                Long("steps") => flags.steps = Some(positive(&mut parser, "--steps")?),
                Long("batch-size") => flags.batch_size = Some(positive(&mut parser, "--batch-size")? as usize),
                Long("seed") => flags.seed = Some(number(&mut parser, "--seed")?),
                Long("backend") => flags.backend = Choice::named(&text(&mut parser)?)?,
                Long("threads") => flags.threads = Some(positive(&mut parser, "--threads")? as usize),
                Long("data") => flags.data = Some(parser.value().map_err(usage)?.into()),
                Long("out") => flags.out = Some(parser.value().map_err(usage)?.into()),
                Long("resume") => flags.resume = true,
                Long("eval-passes") => flags.eval_passes = positive(&mut parser, "--eval-passes")?,
                Long("quiet") => flags.quiet = true,
                Long("help") | Short('h') => return Ok(Command::Help),
                other => return Err(usage(other.unexpected())),
            }
        }
        if flags.resume && flags.out.is_none() {
            return Err(Error::config("--resume", "without --out", "say with --out DIR in which folder the checkpoint is"));
        }
        Ok(Command::Train(flags))
    }

    /// The help text of a task; at its end the devices that are found.
    pub fn help(task: &dyn Task) -> String {
        let devices: String = devices().iter().map(|device| format!("  {device}\n")).collect();
        format!("{}\n{USAGE}\nDevices:\n{devices}", task.about())
    }

    /// The recipe of a task with what the flags change in it.
    pub fn recipe(&self, task: &dyn Task) -> Recipe {
        let mut recipe = task.recipe(self.preset);
        if let Some(steps) = self.steps {
            recipe = recipe.with_steps(steps);
        }
        recipe.batch = self.batch_size.unwrap_or(recipe.batch);
        recipe.seed = self.seed.unwrap_or(recipe.seed);
        recipe
    }
}

fn usage(error: lexopt::Error) -> Error {
    Error::value("command line", format!("{error}; --help shows what there is"))
}

fn text(parser: &mut lexopt::Parser) -> Result<String> {
    Ok(parser.value().map_err(usage)?.to_string_lossy().into_owned())
}

fn number(parser: &mut lexopt::Parser, flag: &'static str) -> Result<u64> {
    let text = text(parser)?;
    text.parse().map_err(|_| Error::config(flag, text, "must be a whole number, 0 or above"))
}

fn positive(parser: &mut lexopt::Parser, flag: &'static str) -> Result<u64> {
    match number(parser, flag)? {
        0 => Err(Error::config(flag, 0, "must be at least 1")),
        number => Ok(number),
    }
}
