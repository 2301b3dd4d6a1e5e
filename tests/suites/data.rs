//! Data sets: every format, whole and broken, and the generators.
//!
//! One program for several files: above opt-level 1 each program compiles the generic code of the crate anew, which takes minutes.
#![allow(clippy::duplicate_mod, reason = "every file brings what it shares with others")]

#[path = "../data_cifar.rs"]
mod data_cifar;
#[path = "../data_digits.rs"]
mod data_digits;
#[path = "../data_listops.rs"]
mod data_listops;
#[path = "../data_pathfinder.rs"]
mod data_pathfinder;
#[path = "../data_png.rs"]
mod data_png;
#[path = "../data_psmnist.rs"]
mod data_psmnist;
#[path = "../data_speech.rs"]
mod data_speech;
#[path = "../data_text.rs"]
mod data_text;
