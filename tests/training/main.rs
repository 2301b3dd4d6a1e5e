//! Training: recipes, the loop, interruptions, evaluation, the command line, reports, every task from its files.
//!
//! One program for several files: above opt-level 1 each program compiles the generic code of the crate anew, which takes minutes.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/files.rs"]
mod files;
#[path = "../common/runs.rs"]
mod runs;
#[path = "../common/sets.rs"]
mod sets;

mod average;
mod damage;
mod evaluation;
mod events;
mod faults;
mod flags;
mod learners;
mod overlap;
mod own;
mod processes;
mod recipes;
mod report;
mod resume;
mod smoke;
mod trainer;
mod watching;
