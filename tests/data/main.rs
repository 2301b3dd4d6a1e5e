//! Data sets: every format, whole and broken, and the generators.
//!
//! One program for several files: above opt-level 1 each program compiles the generic code of the crate anew, which takes minutes.

#[path = "../common/files.rs"]
mod files;

mod cifar;
mod digits;
mod listops;
mod own;
mod pathfinder;
mod png;
mod psmnist;
mod speech;
mod subjects;
mod text;
