//! Training processes that are killed, told to stop, or left without a disk or a reader: nothing that was saved is lost.
//!
//! The long campaigns are not run by themselves: `cargo test --test kill -- --ignored --nocapture campaign`, with the number of kills in
//! `PSPIKESSM_KILLS` (1,000).
#![cfg(unix)]

#[path = "../common/runs.rs"]
mod runs;

mod full_disk;
mod kills;
mod launchers;
mod process;
mod signals;
