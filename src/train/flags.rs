//! Flags: what the command line of a task can say.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

use super::checkpoint::Origin;
use super::{BackendChoice, Loss, Recipe, Reduce, Task, Transport};
use crate::backend::devices;
use crate::data::{Faults, Splits};
use crate::error::{Error, Result};

const USAGE: &str = "
recipe
  --preset NAME         one of the task's recipes; the first is the default
  --recipe FILE         a recipe in TOML instead
  --set KEY=VALUE       change a value of the recipe, as in model.layers=3 (may come several times)
  --steps N             training steps; a cosine schedule gets this length too
  --batch-size N        samples a step
  --accumulate N        parts in which a batch is computed, to save memory or by several processes; they make the results, and the number of
                        processes does not. Default: the recipe's, or, started by mpirun, one for each process
  --seed N              of all random numbers of the run
  --regression          the labels of the data are numbers to find, not classes (classify); as --set loss=squared_error
  --print-recipe        print the whole recipe that follows from all this, and leave
data
  --data DIR            folder of the data
  --download            fetch the official archive into that folder, if it is not there (cargo feature download)
  --data-url URL        fetch it from there instead: the address of the folder that holds its files, or of the archive itself
  --skip-bad            leave out samples that cannot be read, and count them, instead of stopping at the first
running
  --backend B           where to compute: auto (default), cpu, wgpu or cuda; with an index for another than the first, as in wgpu:1.
                        auto: CUDA, else a GPU through wgpu, else the processor. wgpu and cuda are cargo features
  --threads N           threads of the processor; the results are the same bits for any number. Default: all, or a process's share of them
  --reduce HOW          how several processes sum gradients: fixed (default), with the bits of one process, or fast, by MPI's own all-reduce
  --transport HOW       what carries the gradients of several processes: mpi (default) or nccl, from GPU to GPU (cargo feature nccl); the
                        results are the same bits
  --out DIR             folder for metrics.jsonl, report.html, pictures, checkpoint.safetensors and best.safetensors; without it nothing
                        is written
  --checkpoint-every N  steps between checkpoints (default 100)
  --resume              go on from the checkpoint in --out, with its recipe
  --start-from FILE     begin with the weights of this checkpoint or model in the place of drawn ones, and with its recipe, as --set changes it
  --overwrite           begin anew in an --out that holds a run; its checkpoints stay beside the new ones, with .previous in their names
  --seeds N             train from N seeds, --seed and those after it, one after the other, each in a folder seed-.. of --out; the last
                        line has mean and standard deviation. --resume goes on with the seed that was stopped
watching
  --report              write report.html and curves.svg anew from the metrics in --out, and leave
  --report-every N      write them every N steps, too
  --rates-every N       steps between lines of spike rates in metrics.jsonl (default 50; 0: none)
  --tensorboard         write the numbers of metrics.jsonl for TensorBoard as well, into --out
  --compare DIR DIR ..  write compare.html over the runs in these folders, into --out or else the present folder, and leave
evaluation
  --eval-passes N       how often the test set is gone through, with new spikes each time (default 5)
  --expected            evaluate with the expected spike in the place of every spike, once
  --votes               with --eval-only: print too the accuracy of 1, 2, .. K passes that vote by the sums of their probabilities
  --eval-only           evaluate the model of --checkpoint on the test set, and leave; prints the confusion matrix too
  --checkpoint FILE     for --eval-only and --predict, whose recipe is the one of the checkpoint
  --predict FILE        print the classes of the sample in this file, the most probable first; needs no data. -: a text on the standard
                        input; listops takes an expression, too
  --predict-text TEXT   the same of this text
  --energy              print an estimate of the energy of inference
other
  --quiet               no progress bars and no header
  --help                this text

Results go to stdout, everything else to stderr. Ctrl-C, SIGTERM and SIGHUP let a run save to --out and leave; a second one leaves at
once. Exit codes: 0 done; 1 failed; 2 wrong usage, or a value that cannot be; 128 + n stopped by signal n (130 by Ctrl-C, 143 by SIGTERM).
";

/// More than any machine has processors.
const MOST_THREADS: u64 = 4096;

/// What is asked for on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Show the help text.
    Help,
    /// Show the recipe.
    PrintRecipe(Flags),
    /// Write the report of a folder.
    Report(PathBuf),
    /// Write a report over the runs in several folders into another one.
    Compare(Vec<PathBuf>, PathBuf),
    /// Train, evaluate or predict.
    Run(Flags),
}

/// The flags of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flags {
    /// `--preset`
    pub preset: Option<String>,
    /// `--recipe`
    pub recipe: Option<PathBuf>,
    /// `--set`, in their order
    pub set: Vec<(String, String)>,
    /// `--steps`
    pub steps: Option<u64>,
    /// `--batch-size`
    pub batch_size: Option<usize>,
    /// `--accumulate`
    pub accumulate: Option<usize>,
    /// `--seed`
    pub seed: Option<u64>,
    /// `--regression`
    pub regression: bool,
    /// `--data`
    pub data: Option<PathBuf>,
    /// `--download`
    pub download: bool,
    /// `--data-url`
    pub data_url: Option<String>,
    /// `--skip-bad`
    pub skip_bad: bool,
    /// `--backend`
    pub backend: BackendChoice,
    /// `--threads`
    pub threads: Option<usize>,
    /// `--reduce`
    pub reduce: Reduce,
    /// `--transport`
    pub transport: Transport,
    /// `--out`
    pub out: Option<PathBuf>,
    /// `--checkpoint-every`
    pub checkpoint_every: u64,
    /// `--resume`
    pub resume: bool,
    /// `--start-from`
    pub start_from: Option<PathBuf>,
    /// `--overwrite`
    pub overwrite: bool,
    /// `--seeds`
    pub seeds: Option<u64>,
    /// `--report-every`; 0 means never
    pub report_every: u64,
    /// `--rates-every`; 0 means never
    pub rates_every: u64,
    /// `--tensorboard`
    pub tensorboard: bool,
    /// `--eval-passes`
    pub eval_passes: u64,
    /// `--expected`
    pub expected: bool,
    /// `--votes`
    pub votes: bool,
    /// `--eval-only`
    pub eval_only: bool,
    /// `--checkpoint`
    pub checkpoint: Option<PathBuf>,
    /// `--predict`
    pub predict: Option<PathBuf>,
    /// `--predict-text`
    pub predict_text: Option<String>,
    /// `--energy`
    pub energy: bool,
    /// `--quiet`
    pub quiet: bool,
}

impl Default for Flags {
    fn default() -> Self {
        Flags {
            preset: None,
            recipe: None,
            set: Vec::new(),
            steps: None,
            batch_size: None,
            accumulate: None,
            seed: None,
            regression: false,
            data: None,
            download: false,
            data_url: None,
            skip_bad: false,
            backend: BackendChoice::default(),
            threads: None,
            reduce: Reduce::default(),
            transport: Transport::default(),
            out: None,
            checkpoint_every: 100,
            resume: false,
            start_from: None,
            overwrite: false,
            seeds: None,
            report_every: 0,
            rates_every: 50,
            tensorboard: false,
            eval_passes: 5,
            expected: false,
            votes: false,
            eval_only: false,
            checkpoint: None,
            predict: None,
            predict_text: None,
            energy: false,
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
        let (mut flags, mut print, mut report, mut compared) = (Flags::default(), false, false, Vec::new());
        let mut parser = lexopt::Parser::from_args(arguments.into_iter().map(Into::into));
        while let Some(argument) = parser.next().map_err(usage)? {
            match argument {
                Long("preset") => flags.preset = Some(text(&mut parser)?),
                Long("recipe") => flags.recipe = Some(path(&mut parser, "--recipe")?),
                Long("set") => flags.set.push(assignment(&text(&mut parser)?)?),
                Long("steps") => flags.steps = Some(positive(&mut parser, "--steps")?),
                Long("batch-size") => flags.batch_size = Some(positive(&mut parser, "--batch-size")? as usize),
                Long("accumulate") => flags.accumulate = Some(positive(&mut parser, "--accumulate")? as usize),
                Long("reduce") => flags.reduce = reduce(&text(&mut parser)?)?,
                Long("transport") => flags.transport = transport(&text(&mut parser)?)?,
                Long("seed") => flags.seed = Some(number(&mut parser, "--seed")?),
                Long("regression") => flags.regression = true,
                Long("print-recipe") => print = true,
                Long("data") => flags.data = Some(path(&mut parser, "--data")?),
                Long("download") => flags.download = true,
                Long("data-url") => flags.data_url = Some(text(&mut parser)?),
                Long("skip-bad") => flags.skip_bad = true,
                Long("backend") => flags.backend = BackendChoice::named(&text(&mut parser)?)?,
                Long("threads") => flags.threads = Some(threads(&mut parser)?),
                Long("out") => flags.out = Some(path(&mut parser, "--out")?),
                Long("checkpoint-every") => flags.checkpoint_every = positive(&mut parser, "--checkpoint-every")?,
                Long("resume") => flags.resume = true,
                Long("start-from") => flags.start_from = Some(path(&mut parser, "--start-from")?),
                Long("overwrite") => flags.overwrite = true,
                Long("seeds") => flags.seeds = Some(positive(&mut parser, "--seeds")?),
                Long("report") => report = true,
                Long("report-every") => flags.report_every = positive(&mut parser, "--report-every")?,
                Long("rates-every") => flags.rates_every = number(&mut parser, "--rates-every")?,
                Long("tensorboard") => flags.tensorboard = true,
                Long("compare") => compared.extend(parser.values().map_err(usage)?.map(PathBuf::from)),
                Long("eval-passes") => flags.eval_passes = positive(&mut parser, "--eval-passes")?,
                Long("expected") => flags.expected = true,
                Long("votes") => flags.votes = true,
                Long("eval-only") => flags.eval_only = true,
                Long("checkpoint") => flags.checkpoint = Some(path(&mut parser, "--checkpoint")?),
                Long("predict") => flags.predict = Some(path(&mut parser, "--predict")?),
                Long("predict-text") => flags.predict_text = Some(parser.value().and_then(|text| text.string()).map_err(usage)?),
                Long("energy") => flags.energy = true,
                Long("quiet") => flags.quiet = true,
                Long("help") | Short('h') => return Ok(Command::Help),
                other => return Err(usage(other.unexpected())),
            }
        }
        flags.check()?;
        match (report, flags.out.clone()) {
            (true, Some(dir)) => Ok(Command::Report(dir)),
            (true, None) => Err(Error::config("--report", "without --out", "say with --out DIR in which folder the metrics are")),
            (_, out) if !compared.is_empty() => Ok(Command::Compare(compared, out.unwrap_or_else(|| ".".into()))),
            _ if print => Ok(Command::PrintRecipe(flags)),
            _ => Ok(Command::Run(flags)),
        }
    }

    /// Whether a sample is to be predicted.
    pub(super) fn predicts(&self) -> bool {
        self.predict.is_some() || self.predict_text.is_some()
    }

    /// Refuses flags that do not go together.
    fn check(&self) -> Result<()> {
        let refuse = |flag, why: &str, help: &str| Err(Error::config(flag, why, help));
        let reads_checkpoint = self.eval_only || self.predicts();
        if self.predict.is_some() && self.predict_text.is_some() {
            return refuse("--predict-text", "with --predict", "one sample is predicted: leave one of them out");
        }
        if self.resume && self.out.is_none() {
            return refuse("--resume", "without --out", "say with --out DIR in which folder the checkpoint is");
        }
        if self.start_from.is_some() && (self.resume || self.checkpoint.is_some()) {
            let flag = if self.resume { "with --resume" } else { "with --checkpoint" };
            return refuse("--start-from", flag, "it begins a training: leave one of them out");
        }
        if self.overwrite && (self.resume || self.out.is_none()) {
            let flag = if self.resume { "with --resume" } else { "without --out" };
            return refuse("--overwrite", flag, "it begins a run anew in the folder of --out: correct the one or the other");
        }
        for (flag, given) in [("--tensorboard", self.tensorboard), ("--report-every", self.report_every > 0)] {
            if given && self.out.is_none() {
                return refuse(flag, "without --out", "say with --out DIR in which folder it is to be written");
            }
        }
        if self.seeds.is_some() && (reads_checkpoint || self.checkpoint.is_some()) {
            return refuse("--seeds", "with --checkpoint", "it trains: leave one of them out");
        }
        if reads_checkpoint && self.checkpoint.is_none() {
            let flag = if self.eval_only { "--eval-only" } else { "--predict" };
            return refuse(flag, "without --checkpoint", "say with --checkpoint FILE which model");
        }
        if self.resume && reads_checkpoint {
            return refuse("--resume", "with --checkpoint", "ask for one of them: to go on with a run, or to use its model");
        }
        if self.energy && (self.expected || self.predicts()) {
            let flag = if self.expected { "with --expected" } else { "with --predict" };
            return refuse("--energy", flag, "it is counted from the spikes of the test set: leave one of them out");
        }
        if self.votes && (self.expected || !self.eval_only) {
            let flag = if self.expected { "with --expected" } else { "without --eval-only" };
            return refuse("--votes", flag, "it is the accuracy of a trained model's passes with drawn spikes, as they are added up");
        }
        if self.checkpoint.is_some() && !reads_checkpoint {
            return refuse("--checkpoint", "alone", "it goes with --eval-only or --predict; a run goes on with --resume");
        }
        if self.eval_only && self.predicts() {
            return refuse("--predict", "with --eval-only", "ask for one of them");
        }
        if self.preset.is_some() && self.recipe.is_some() {
            return refuse("--recipe", "with --preset", "a run has one recipe: leave one of them out");
        }
        if self.download && self.data.is_none() {
            return refuse("--download", "without --data", "say with --data DIR into which folder");
        }
        if self.download && cfg!(not(feature = "download")) {
            return refuse("--download", "in this build", "build with --features download");
        }
        if self.data_url.is_some() && !self.download {
            return refuse("--data-url", "without --download", "add --download");
        }
        Ok(())
    }

    /// The help text of a task; at its end the devices that are found.
    pub fn help(task: &dyn Task) -> String {
        let devices: String = devices().iter().map(|device| format!("  {device}\n")).collect();
        let presets: Vec<&str> = task.presets().iter().map(|preset| preset.name).collect();
        format!("{}\nPresets: {}.\n{USAGE}\nDevices:\n{devices}", task.about(), presets.join(", "))
    }

    /// The file whose recipe the run has, unless it is given another.
    fn origin_file(&self) -> Option<PathBuf> {
        let resumed = self.out.as_ref().filter(|_| self.resume).map(|out| super::Output::checkpoint_in(out));
        self.checkpoint.clone().or(self.start_from.clone()).or(resumed)
    }

    /// Whether the recipe is that of such a file.
    fn recipe_is_stored(&self) -> bool {
        self.recipe.is_none() && self.preset.is_none() && self.origin_file().is_some()
    }

    /// What that file says.
    fn origin(&self, task: &dyn Task) -> Result<Option<Origin>> {
        let file = self.origin_file().filter(|_| self.recipe_is_stored());
        file.map(|path| Origin::of_task(&path, task.name())).transpose()
    }

    /// The recipe of a task with what the flags change in it, before any data are read.
    ///
    /// # Errors
    /// [`Error::Config`] for a preset or a value that there is not; what [`Recipe::read`] and [`Origin::read`] answer.
    pub fn recipe(&self, task: &dyn Task) -> Result<Recipe> {
        let recipe = match (&self.recipe, self.origin(task)?) {
            (Some(path), _) => Recipe::read(path)?,
            (None, Some(origin)) => origin.recipe,
            (None, None) => task.recipe(self.preset.as_deref())?,
        };
        self.change(recipe)
    }

    /// The [`recipe`](Self::recipe) for these data: that of a preset is [sized](Task::sized) for them, and what the flags change is changed in
    /// that. In how many parts a batch is computed stays.
    ///
    /// # Errors
    /// As [`recipe`](Self::recipe).
    pub fn sized(&self, task: &dyn Task, recipe: Recipe, splits: &Splits) -> Result<Recipe> {
        if self.recipe.is_some() || self.recipe_is_stored() {
            return Ok(recipe);
        }
        let preset = task.recipe(self.preset.as_deref())?;
        let mut sized = task.sized(preset.clone(), splits);
        if sized == preset {
            return Ok(recipe);
        }
        sized.run.accumulate = recipe.run.accumulate.min(sized.run.batch);
        self.change(sized)
    }

    /// The recipe with what the flags change in it.
    fn change(&self, mut recipe: Recipe) -> Result<Recipe> {
        if !self.set.is_empty() {
            recipe = recipe.set_all(self.set.iter().map(|(key, value)| (key.as_str(), value.as_str())))?;
        }
        if let Some(steps) = self.steps {
            recipe = recipe.with_steps(steps);
        }
        recipe.run.batch = self.batch_size.unwrap_or(recipe.run.batch);
        recipe.run.accumulate = self.accumulate.unwrap_or(recipe.run.accumulate);
        recipe.run.seed = self.seed.unwrap_or(recipe.run.seed);
        if self.regression {
            recipe.loss = Loss::SquaredError;
        }
        recipe.check()?;
        Ok(recipe)
    }

    /// What becomes of bad samples.
    pub fn faults(&self) -> Faults {
        if self.skip_bad { Faults::skipped() } else { Faults::refused() }
    }
}

fn usage(error: lexopt::Error) -> Error {
    Error::value("command line", format!("{error}; --help shows what there is"))
}

fn text(parser: &mut lexopt::Parser) -> Result<String> {
    Ok(parser.value().map_err(usage)?.to_string_lossy().into_owned())
}

fn path(parser: &mut lexopt::Parser, flag: &'static str) -> Result<PathBuf> {
    let path = parser.value().map_err(usage)?;
    if path.is_empty() { Err(Error::config(flag, "''", "is empty: give a name, as ./ for this folder")) } else { Ok(path.into()) }
}

fn assignment(text: &str) -> Result<(String, String)> {
    let (key, value) = text.split_once('=').ok_or_else(|| Error::config("--set", text, "write key=value, as in model.layers=3"))?;
    Ok((key.trim().into(), value.trim().into()))
}

fn number(parser: &mut lexopt::Parser, flag: &'static str) -> Result<u64> {
    let text = text(parser)?;
    text.parse().map_err(|_| Error::config(flag, text, "must be a whole number, 0 or above"))
}

fn reduce(name: &str) -> Result<Reduce> {
    match name {
        "fixed" => Ok(Reduce::Fixed),
        "fast" => Ok(Reduce::Fast),
        _ => Err(Error::config("--reduce", name, "there are fixed and fast")),
    }
}

fn transport(name: &str) -> Result<Transport> {
    match name {
        "mpi" => Ok(Transport::Mpi),
        "nccl" => Ok(Transport::Nccl),
        _ => Err(Error::config("--transport", name, "there are mpi and nccl")),
    }
}

fn threads(parser: &mut lexopt::Parser) -> Result<usize> {
    match positive(parser, "--threads")? {
        number if number > MOST_THREADS => Err(Error::config("--threads", number, format!("must be at most {MOST_THREADS}"))),
        number => Ok(number as usize),
    }
}

fn positive(parser: &mut lexopt::Parser, flag: &'static str) -> Result<u64> {
    match number(parser, flag)? {
        0 => Err(Error::config(flag, 0, "must be at least 1")),
        number => Ok(number),
    }
}
