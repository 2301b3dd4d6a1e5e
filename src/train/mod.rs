//! Training: recipes, the loop with checkpoints that resume bit for bit, evaluation, and the command line of the examples.
//!
//! A [`Trainer`] is one run: a model, its optimiser and a position in the data. Its [`step`](Trainer::step) is one step;
//! [`fit`] is the loop around it, with progress bar, validation, metrics and checkpoints. Nothing random is kept between steps:
//! every draw comes from the recipe's seed and the number of the step, and so a run that is saved and resumed computes the same
//! bits as one that was never interrupted.
//!
//! [`Trainer::new`] trains the classifier of a [`Recipe`]. Any other model, loss, metric and data is a [`Learner`] of some [`Samples`], trained
//! by [`Trainer::of`] with a [`Plan`]; [`fit_with`] takes a callback.
//!
//! ```
//! use pspikessm::backend::Cpu;
//! use pspikessm::data::listops::{self, Rules};
//! use pspikessm::train::tasks::{ListOps, Task};
//! use pspikessm::train::Trainer;
//! use std::sync::atomic::AtomicBool;
//!
//! let rules = Rules { max_depth: 2, min_tokens: 4, max_tokens: 7, train: 40, val: 10, test: 10, ..Rules::small() };
//! let mut recipe = ListOps.recipe(Some("quick"))?.with_steps(2);
//! (recipe.run.batch, recipe.model.block.ssm.d_model) = (4, 8);
//! let mut trainer = Trainer::new(&Cpu::<f32>::new(), "listops", recipe, listops::generate(&rules, 0)?)?;
//! while !trainer.is_finished() {
//!     assert!(trainer.step()?.is_some_and(|report| report.loss.is_finite()));
//! }
//! let never = AtomicBool::new(false);
//! let test = trainer.test(2, &never)?.unwrap();
//! assert!((0.0..=1.0).contains(&test.metric));
//! # Ok::<(), pspikessm::Error>(())
//! ```

mod backend_choice;
mod checkpoint;
pub(crate) mod classify;
pub mod cli;
mod communicator;
mod console;
mod cutter;
#[cfg(feature = "nccl")]
mod device_link;
#[cfg(test)]
mod disk_faults;
mod energy;
mod evaluate;
mod feeder;
mod fit;
mod flags;
mod inputs;
pub mod interrupt;
mod launch;
mod learner;
mod lock;
mod loss;
mod memory;
mod messages;
mod metrics;
mod micro_batches;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;
mod outcome;
mod output;
mod pictures;
mod plan;
mod process_group;
mod progress;
mod recipe;
mod reduction;
pub mod report;
mod samples;
mod seeds;
mod spread;
mod stored_set;
mod synchronised;
pub mod tasks;
mod tensorboard;
mod trainer;
mod tree_sum;
mod unread_queue;
mod unread_steps;

pub use backend_choice::{BackendChoice, OnBackend};
pub use checkpoint::{Origin, load_weights};
pub use classify::Classifier;
pub use communicator::{Alone, Communicator, Exchange, Threads};
pub use evaluate::{Evaluation, Evaluator, LayerRate};
pub use fit::{Callback, Ending, Event, FitOptions, fit, fit_with};
pub use flags::{Command, Flags};
pub use launch::{Launched, Transport};
pub use learner::{Better, Learner, Metric, Score, Scored};
pub use loss::{ClassWeights, Loss};
pub use output::Output;
pub use plan::{BatchNorms, Length, Plan, RunConfig, Schedule, SpikePenalty, TrainingSpikes};
pub use process_group::Reduce;
pub use recipe::{ModelRecipe, Recipe};
pub use samples::Samples;
pub use tasks::{Preset, Sample, Task};
pub use trainer::{Rule, StepReport, Trainer};
