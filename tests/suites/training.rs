//! Training: recipes, the loop, interruptions, evaluation, the command line, reports, every task from its files.
//!
//! One program for several files: above opt-level 1 each program compiles the generic code of the crate anew, which takes minutes.
#![allow(clippy::duplicate_mod, reason = "every file brings what it shares with others")]

#[path = "../report.rs"]
mod report;
#[path = "../smoke.rs"]
mod smoke;
#[path = "../train.rs"]
mod train;
#[path = "../train_evaluation.rs"]
mod train_evaluation;
#[path = "../train_faults.rs"]
mod train_faults;
#[path = "../train_flags.rs"]
mod train_flags;
#[path = "../train_recipes.rs"]
mod train_recipes;
#[path = "../train_resume.rs"]
mod train_resume;
